"""The graph that the block model sees, and the parts of its objective that counts alone give."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

__all__ = ["EXPONENTIAL", "NORMAL", "WeightedGraph", "term_tables"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

EXPONENTIAL, NORMAL = 0, 1


class WeightedGraph(NamedTuple):
    """A graph and the block model of its weights.

    Attributes
    ----------
    weight : ndarray (n_nodes, n_nodes)
        Symmetric weights in the units of the model, 0 where unobserved and on the diagonal.
    observed : ndarray of int64 (n_nodes, n_nodes)
        1 where the pair was observed, 0 elsewhere and on the diagonal.
    model : int
        `EXPONENTIAL` or `NORMAL`.
    pair_table, block_table : ndarray
        From `term_tables`.
    """

    weight: Floats
    observed: Ints
    model: int
    pair_table: Floats
    block_table: Floats


def term_tables(n_nodes: int, model: int) -> tuple[Floats, Floats]:
    """Return the parts of the objective that depend on counts only.

    Parameters
    ----------
    n_nodes : int
        Number of nodes N.
    model : int
        `EXPONENTIAL` or `NORMAL`.

    Returns
    -------
    pair_table : ndarray (N (N - 1) / 2 + 1,)
        Count part of ``log m`` by the number of pairs.
    block_table : ndarray (N + 1,)
        Prior of the number of blocks K (index 0 unused), with the constant of N in it.
    """
    n_pairs = np.arange(n_nodes * (n_nodes - 1) // 2 + 1, dtype=np.float64)
    if model == EXPONENTIAL:
        pair_table = gammaln(1 + n_pairs)
    else:
        pair_table = (
            gammaln(1 + n_pairs / 2) - 0.5 * np.log1p(n_pairs) - n_pairs / 2 * np.log(2 * np.pi)
        )
    blocks = np.arange(1, n_nodes + 1)
    log_choose = gammaln(n_nodes) - gammaln(blocks) - gammaln(n_nodes - blocks + 1)
    block_table = np.zeros(n_nodes + 1)
    block_table[1:] = -log_choose - gammaln(n_nodes + 1) - np.log(n_nodes)
    return pair_table, block_table
