"""One motif graph as community detection sees it: checked, in canonical order, scaled, ranked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from neuropipe.analyses.ntf.kernels import sbm
from neuropipe.analyses.ntf.kernels.affinity import pair_index

__all__ = ["MODELS", "MotifGraph", "Weights", "adjacency", "checked", "motif_graph"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Weights = Literal["exponential", "normal"]

MODELS = {"exponential": sbm.EXPONENTIAL, "normal": sbm.NORMAL}


def adjacency(pairs: NDArray[Any], n_neurons: int) -> NDArray[Any]:
    """Return symmetric matrices of pair values, shape (..., n_neurons, n_neurons).

    Parameters
    ----------
    pairs : ndarray, shape (..., n_pairs)
        Values of all pairs ``i < j`` in row-major order, NaN where unobserved.
    n_neurons : int
        Number of neurons.

    Returns
    -------
    ndarray
        Zero diagonal.
    """
    first, second = pair_index(n_neurons)
    result = np.zeros((*pairs.shape[:-1], n_neurons, n_neurons), dtype=pairs.dtype)
    result[..., first, second] = pairs
    result[..., second, first] = pairs
    return result


@dataclass(frozen=True)
class MotifGraph:
    """Graph of the observed nodes, in an order that does not depend on the input's order.

    Attributes
    ----------
    adjacency : ndarray (n_nodes, n_nodes)
        Weights as they came, NaN where unobserved and on the diagonal.
    rank_z : ndarray (n_nodes, n_nodes)
        Standardised ranks of the weights, 0 where unobserved.
    nodes : ndarray of int64 (n_nodes,)
        Positions in the input.
    blocks : WeightedGraph
        The graph of the block model.
    """

    adjacency: Floats
    rank_z: Floats
    nodes: Ints
    blocks: sbm.WeightedGraph

    @property
    def weight(self) -> Floats:
        """Weights in the units of the block model, 0 where unobserved."""
        return self.blocks.weight

    @property
    def observed(self) -> Ints:
        """1 where the pair was observed."""
        return self.blocks.observed


def checked(adjacency: Floats) -> Floats:
    """Return the adjacency as float64 with a NaN diagonal, or raise."""
    matrix = np.array(adjacency, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"adjacency: expected a square matrix, found shape {matrix.shape}")
    np.fill_diagonal(matrix, np.nan)
    if np.isinf(matrix).any():
        raise ValueError("adjacency: infinite weights; unobserved pairs are NaN")
    if (matrix < 0).any():
        raise ValueError(f"adjacency: negative weight {np.nanmin(matrix):.3g}; weights are >= 0")
    scale = np.nanmax(matrix, initial=0.0)
    if not np.allclose(matrix, matrix.T, rtol=0, atol=1e-6 * scale, equal_nan=True):
        raise ValueError("adjacency: not symmetric, or unobserved in one direction only")
    return matrix


def _canonical_order(matrix: Floats) -> Ints:
    """Return an order of the nodes that follows from their weights alone.

    Nodes are compared by their sorted rows, largest weight first; so the search, its random
    numbers and the rounding of its sums see the same graph however the input was ordered.
    """
    rows = np.sort(np.nan_to_num(matrix, nan=-1.0), axis=1)
    if not rows.size:
        return np.arange(0)
    return np.lexsort(rows.T)[::-1]


def _scaled(matrix: Floats, model: int) -> Floats:
    """Return weights in the units of the block model, 0 where unobserved."""
    values = matrix[np.isfinite(matrix)]
    if model == sbm.EXPONENTIAL:
        mean = values.mean() if values.size else 0.0
        scaled = matrix / mean if mean > 0 else matrix
    else:
        root = np.sqrt(matrix)
        center, spread = (np.sqrt(values).mean(), np.sqrt(values).std()) if values.size else (0, 0)
        scaled = (root - center) / spread if spread > 0 else root * 0
    return np.ascontiguousarray(np.nan_to_num(scaled, nan=0.0))


def _rank_z(matrix: Floats) -> Floats:
    """Return the ranks of the observed weights, standardised; 0 where unobserved."""
    out = np.zeros(matrix.shape)
    rows, columns = np.nonzero(np.triu(np.isfinite(matrix), 1))
    ranks = rankdata(matrix[rows, columns])
    spread = ranks.std() if ranks.size else 0.0
    if spread > 0:
        out[rows, columns] = out[columns, rows] = (ranks - ranks.mean()) / spread
    return out


def motif_graph(matrix: Floats, weights: Weights) -> MotifGraph:
    """Return the graph of a `checked` matrix under a model of its weights."""
    model = MODELS[weights]
    seen = np.flatnonzero(np.isfinite(matrix).any(axis=1))
    matrix = matrix[np.ix_(seen, seen)]
    order = _canonical_order(matrix)
    matrix = np.ascontiguousarray(matrix[np.ix_(order, order)])
    return MotifGraph(
        adjacency=matrix,
        rank_z=_rank_z(matrix),
        nodes=seen[order],
        blocks=sbm.WeightedGraph(
            _scaled(matrix, model),
            np.isfinite(matrix).astype(np.int64),
            model,
            *sbm.term_tables(max(seen.size, 1), model),
        ),
    )
