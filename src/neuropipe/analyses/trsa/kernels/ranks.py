"""Ranks and rank statistics of vectors whose entries count several times."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["signed_concordance", "weighted_ranks"]

Floats = NDArray[np.float64]
Index = NDArray[np.intp]


@njit(cache=True, nogil=True)
def _ranks_of(
    values: Floats, order: Index, weights: Floats, out: Floats
) -> None:  # pragma: no cover
    start, before = 0, 0.0
    while start < order.size:
        stop, inside = start, 0.0
        while stop < order.size and values[order[stop]] == values[order[start]]:
            inside += weights[order[stop]]
            stop += 1
        for place in range(start, stop):
            out[order[place]] = before + (inside + 1.0) / 2.0
        before += inside
        start = stop


@njit(cache=True, nogil=True)
def _all_ranks(rows: Floats, orders: Index, weights: Floats) -> Floats:  # pragma: no cover
    out = np.empty_like(rows)
    for row in range(len(rows)):
        _ranks_of(rows[row], orders[row], weights, out[row])
    return out


def weighted_ranks(rows: Floats, weights: Floats, orders: Index | None = None) -> Floats:
    """Return the average ranks that entries would have if each stood there ``weights`` times.

    Parameters
    ----------
    rows : ndarray, shape (n_rows, n_entries)
        No NaN.
    weights : ndarray, shape (n_entries,)
        Counts; entries that count 0 times get a rank that nobody uses.
    orders : ndarray of int, shape (n_rows, n_entries), optional
        ``argsort`` of the rows, when many weights meet the same rows.

    Returns
    -------
    ndarray, shape (n_rows, n_entries)
    """
    rows = np.ascontiguousarray(rows, dtype=np.float64)
    orders = np.argsort(rows, axis=1) if orders is None else orders
    return np.asarray(_all_ranks(rows, orders, np.ascontiguousarray(weights, dtype=np.float64)))


@njit(cache=True, nogil=True)
def _concordance(
    x: Floats, order: Index, y_rank: Index, weights: Floats
) -> float:  # pragma: no cover
    size = x.size
    tree = np.zeros(size + 2)
    total, seen, start = 0.0, 0.0, 0
    while start < size:
        stop = start
        while stop < size and x[order[stop]] == x[order[start]]:
            stop += 1
        for place in range(start, stop):
            entry = order[place]
            less, upto = 0.0, 0.0
            at = y_rank[entry]
            while at > 0:
                less += tree[at]
                at -= at & -at
            at = y_rank[entry] + 1
            while at > 0:
                upto += tree[at]
                at -= at & -at
            total += weights[entry] * (less - (seen - upto))
        for place in range(start, stop):
            entry = order[place]
            at = y_rank[entry] + 1
            while at < size + 2:
                tree[at] += weights[entry]
                at += at & -at
            seen += weights[entry]
        start = stop
    return total


def signed_concordance(x: Floats, y: Floats, weights: Floats) -> float:
    """Return the sum over pairs of entries of ``sign(x_p - x_q) sign(y_p - y_q)``.

    Every entry counts ``weights`` times. Takes ``n log n`` steps.
    """
    dense = np.unique(y, return_inverse=True)[1].astype(np.intp)
    return float(_concordance(x, np.argsort(x), dense, np.asarray(weights, dtype=np.float64)))
