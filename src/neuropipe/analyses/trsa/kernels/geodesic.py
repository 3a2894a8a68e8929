"""Geodesic descriptors (RGDM): shortest paths over the graph of near conditions.

An edge is told by a mask and not by a number, so that a length of 0 is an edge of length 0.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit
from numpy.typing import NDArray

from neuropipe.analyses.trsa.kernels.pairs import to_pairs, to_square
from neuropipe.analyses.trsa.kernels.transform import rgtm

__all__ = ["EDGE_RULES", "fill_unconnected", "rgdm", "shortest_paths"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
SLACK = 1e-12


@njit(cache=True, nogil=True)
def shortest_paths(length: Floats) -> Floats:  # pragma: no cover - compiled
    """Return the lengths of shortest paths (Floyd and Warshall).

    Parameters
    ----------
    length : ndarray, shape (n, n)
        Symmetric, 0 on the diagonal, infinite where there is no edge.
    """
    n = length.shape[0]
    path = length.copy()
    for k in range(n):
        for i in range(n):
            via = path[i, k]
            if np.isinf(via):
                continue
            for j in range(n):
                if via + path[k, j] < path[i, j]:
                    path[i, j] = via + path[k, j]
    return path


def _gt(scaled: Floats, lower: float, upper: float, mode: str = "quantile") -> tuple[Floats, Bools]:
    transformed = rgtm(scaled, lower, upper, mode=mode)
    return transformed, transformed < 1.0


def _p_shortest(scaled: Floats, p: float) -> tuple[Floats, Bools]:
    known = np.sort(scaled[np.isfinite(scaled)])
    count = round(p * known.size)
    if count < 1:
        return scaled, np.zeros(scaled.shape, dtype=bool)
    return scaled, scaled <= known[count - 1]


def _k_nearest(scaled: Floats, k: int) -> tuple[Floats, Bools]:
    """Join i and j if either is among the k nearest of the other; ties are kept."""
    square = to_square(scaled, np.inf)
    square[np.isnan(square)] = np.inf
    k = min(max(int(k), 1), len(square) - 1)
    limit = np.sort(square, axis=1)[:, k - 1]
    near = (square <= limit[:, None]) & np.isfinite(square)
    return scaled, to_pairs((near | near.T).astype(np.float64)) > 0


def _p_nearest(scaled: Floats, p: float) -> tuple[Floats, Bools]:
    n = to_square(scaled).shape[-1]
    return _k_nearest(scaled, round(p * n))


EDGE_RULES: dict[str, Callable[..., tuple[Floats, Bools]]] = {
    "gt": _gt,
    "p_shortest": _p_shortest,
    "k_nearest": _k_nearest,
    "p_nearest": _p_nearest,
}


def rgdm(scaled: Floats, rule: str = "gt", **parameters: float) -> tuple[Floats, int]:
    """Return the geodesic dissimilarities of one scaled RDM.

    Parameters
    ----------
    scaled : ndarray, shape (n_pairs,)
        From `transform.prescale`; NaN pairs are no edges.
    rule : {"gt", "p_shortest", "k_nearest", "p_nearest"}
        Which pairs are edges; edges have the length of the scaled (``gt``: transformed)
        dissimilarity.
    **parameters : float
        ``lower``, ``upper`` and ``mode`` for ``gt``; ``p``; ``k``.

    Returns
    -------
    geodesic : ndarray, shape (n_pairs,)
        Infinite between unconnected conditions.
    n_components : int
        Connected components of the graph.
    """
    length, edge = EDGE_RULES[rule](np.asarray(scaled, dtype=np.float64), **parameters)
    square = to_square(np.where(edge & np.isfinite(length), length, np.inf))
    if (square < 0).any():
        raise ValueError("edges must not be negative; scale the RDM first")
    paths = shortest_paths(square)
    # Two conditions are in one component if they have the same first reachable condition.
    return to_pairs(paths), int(np.unique(np.isfinite(paths).argmax(axis=1)).size)


def fill_unconnected(geodesic: Floats, how: str = "max") -> Floats:
    """Replace infinite values before comparing.

    Parameters
    ----------
    geodesic : ndarray, shape (n_pairs,)
        From `rgdm`.
    how : {"max", "nan"}
        ``max``: the largest finite one times ``1 + 1 / n``; ``nan``: missing.
    """
    lost = np.isinf(geodesic)
    if how == "nan":
        return np.where(lost, np.nan, geodesic)
    n = to_square(geodesic).shape[-1]
    known = geodesic[np.isfinite(geodesic)]
    largest = float(known.max()) if known.size else 0.0
    return np.where(lost, largest * (1 + 1 / n) if largest > 0 else 1.0, geodesic)
