"""Null graphs of a motif graph, and the p values that follow from them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["familywise_pvalue", "permute_weights"]

Floats = NDArray[np.float64]


def permute_weights(adjacency: Floats, rng: np.random.Generator) -> Floats:
    """Return the graph with its observed pair weights in random places.

    Parameters
    ----------
    adjacency : ndarray (n_nodes, n_nodes)
        Symmetric, NaN where unobserved; the diagonal is ignored.
    rng : numpy.random.Generator
        Source of the permutation.
    """
    rows, columns = np.triu_indices(adjacency.shape[0], 1)
    keep = np.isfinite(adjacency[rows, columns])
    rows, columns = rows[keep], columns[keep]
    out = np.full(adjacency.shape, np.nan)
    out[rows, columns] = rng.permutation(adjacency[rows, columns])
    out[columns, rows] = out[rows, columns]
    return out


def familywise_pvalue(score: Floats, null: Floats) -> Floats:
    """Return ``(1 + #{null >= score}) / (1 + draws)``, NaN where the score is NaN.

    Parameters
    ----------
    score : ndarray (..., n_levels, n_ids)
        `Communities.score`.
    null : ndarray (n_draws,)
        Largest score of each null graph.
    """
    # Sums of the same weights in another order may differ in the last bits: such ties count.
    reached = null >= score[..., None] * (1 - 1e-9)
    pvalue = (1 + reached.sum(axis=-1)) / (1 + null.size)
    return np.where(np.isfinite(score), pvalue, np.nan)
