"""Persistent homology of RDMs: bars of the Vietoris-Rips filtration, curves and distances.

H0 merges at the edges of the minimum spanning tree. H1 comes from the reduction of the boundary
matrix over the integers modulo 2 (Edelsbrunner, Letscher and Zomorodian 2002), a column being one
Python integer; the reduction ends as soon as every loop is filled.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from neuropipe.analyses.trsa.kernels.pairs import n_conditions, pair_index, to_square

__all__ = [
    "betti_curve",
    "bottleneck",
    "persistence_entropy",
    "rips_bars",
    "sliced_wasserstein",
    "total_persistence",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
N_DIRECTIONS = 50


def _spanning_edges(order: Ints, first: Ints, second: Ints, n: int) -> list[int]:
    """Return the edges, in filtration order, that join two components (Kruskal)."""
    root = list(range(n))

    def find(node: int) -> int:
        while root[node] != node:
            root[node] = root[root[node]]
            node = root[node]
        return node

    joining = []
    for edge in order.tolist():
        a, b = find(int(first[edge])), find(int(second[edge]))
        if a != b:
            root[a] = b
            joining.append(edge)
    return joining


def _triangles(rank: Ints, n: int) -> tuple[Ints, Ints]:
    """Return triangles as three edge positions, in filtration order, and their last edge."""
    position = to_square(rank.astype(np.float64)).astype(np.int64)
    i, j, k = np.array(np.meshgrid(*[np.arange(n)] * 3, indexing="ij")).reshape(3, -1)
    kept = (i < j) & (j < k)
    i, j, k = i[kept], j[kept], k[kept]
    edges = np.stack([position[i, j], position[i, k], position[j, k]], axis=1)
    last = edges.max(axis=1)
    order = np.argsort(last, kind="stable")
    return edges[order], last[order]


def _loop_bars(rank: Ints, joining: set[int], n: int) -> list[tuple[int, int]]:
    """Return (birth, death) of loops as positions in the filtration of edges."""
    edges, last = _triangles(rank, n)
    open_loops = rank.size - len(joining)
    pivots: dict[int, int] = {}
    bars = []
    for triangle, death in zip(edges.tolist(), last.tolist(), strict=True):
        if open_loops == 0:
            break
        column = (1 << triangle[0]) ^ (1 << triangle[1]) ^ (1 << triangle[2])
        while column:
            low = column.bit_length() - 1
            if low not in pivots:
                pivots[low] = column
                bars.append((low, death))
                open_loops -= 1
                break
            column ^= pivots[low]
    return bars


def rips_bars(scaled: Floats) -> tuple[Floats, Floats]:
    """Return the bars of connected components and of loops.

    Parameters
    ----------
    scaled : ndarray, shape (n_pairs,)
        Non-negative dissimilarities, no NaN.

    Returns
    -------
    h0 : ndarray, shape (n - 1, 2)
        Birth 0 and merge height; the component that never dies is left out.
    h1 : ndarray, shape (n_loops, 2)
        Birth and death of loops of positive length.
    """
    scaled = np.asarray(scaled, dtype=np.float64)
    if not np.isfinite(scaled).all() or scaled.min() < 0:
        raise ValueError("persistent homology needs finite dissimilarities of at least 0")
    n = n_conditions(scaled.size)
    first, second = pair_index(n)
    order = np.argsort(scaled, kind="stable")
    rank = np.empty(scaled.size, dtype=np.int64)
    rank[order] = np.arange(scaled.size)
    joining = _spanning_edges(order, first, second, n)
    h0 = np.stack([np.zeros(n - 1), scaled[joining]], axis=1)
    height = scaled[order]
    bars = [(height[b], height[d]) for b, d in _loop_bars(rank, set(joining), n)]
    h1 = np.array([bar for bar in bars if bar[1] > bar[0]]).reshape(-1, 2)
    return h0, h1[np.lexsort((h1[:, 1], h1[:, 0]))]


def betti_curve(bars: Floats, grid: Floats, *, forever: int = 0) -> Ints:
    """Return how many bars hold each value of ``grid``, plus ``forever`` that never die."""
    alive = (bars[:, :1] <= grid) & (grid < bars[:, 1:])
    return np.asarray(alive.sum(axis=0) + forever, dtype=np.int64)


def total_persistence(bars: Floats) -> float:
    """Return the sum of the lengths of bars."""
    return float((bars[:, 1] - bars[:, 0]).sum())


def persistence_entropy(bars: Floats) -> float:
    """Return the entropy of the shares of the bars in the total length, in nats."""
    length = bars[:, 1] - bars[:, 0]
    length = length[length > 0]
    if not length.size:
        return 0.0
    share = length / length.sum()
    return float(-(share * np.log(share)).sum())


def _to_diagonal(bars: Floats) -> Floats:
    return np.repeat(bars.mean(axis=1, keepdims=True), 2, axis=1)


def bottleneck(first: Floats, second: Floats) -> float:
    """Return the bottleneck distance of two diagrams (maximum norm, diagonal included)."""
    a, b = len(first), len(second)
    if a + b == 0:
        return 0.0
    cost = np.zeros((a + b, a + b))
    if a and b:
        cost[:a, :b] = np.abs(first[:, None] - second[None]).max(axis=2)
    cost[:a, b:] = ((first[:, 1] - first[:, 0]) / 2)[:, None] if a else 0.0
    cost[a:, :b] = ((second[:, 1] - second[:, 0]) / 2)[None] if b else 0.0
    levels = np.unique(cost)
    low, high = 0, levels.size - 1
    while low < high:
        middle = (low + high) // 2
        graph = csr_array((cost <= levels[middle]).astype(np.int8))
        matched = (maximum_bipartite_matching(graph) >= 0).all()
        low, high = (low, middle) if matched else (middle + 1, high)
    return float(levels[low])


def sliced_wasserstein(first: Floats, second: Floats, directions: int = N_DIRECTIONS) -> float:
    """Return the sliced Wasserstein distance of two diagrams (Carrière et al. 2017)."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, directions, endpoint=False)
    axes = np.stack([np.cos(angle), np.sin(angle)])
    one = np.vstack([first.reshape(-1, 2), _to_diagonal(second.reshape(-1, 2))]) @ axes
    two = np.vstack([second.reshape(-1, 2), _to_diagonal(first.reshape(-1, 2))]) @ axes
    return float(np.abs(np.sort(one, axis=0) - np.sort(two, axis=0)).sum(axis=0).mean())
