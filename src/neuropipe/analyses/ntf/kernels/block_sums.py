"""Sums of weights over block pairs: what every change of a partition is computed from."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from neuropipe.analyses.ntf.kernels.block_model import EXPONENTIAL, WeightedGraph

__all__ = [
    "block_sums",
    "block_term",
    "log_factorials",
    "node_gains",
    "node_sums",
    "shift_node",
    "term_matrix",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@njit(cache=True)
def block_term(graph: WeightedGraph, n: int, s: float, q: float) -> float:
    """Return the log marginal likelihood of one block pair."""
    if n == 0:
        return 0.0
    if graph.model == EXPONENTIAL:
        return graph.pair_table[n] - (1.0 + n) * np.log1p(s)
    return graph.pair_table[n] - (1.0 + 0.5 * n) * np.log1p(0.5 * (q - s * s / (1.0 + n)))


@njit(cache=True)
def block_sums(
    graph: WeightedGraph, labels: Ints, n_slots: int
) -> tuple[Ints, Ints, Floats, Floats]:
    """Return block sizes and, per block pair, number, sum and sum of squares of the weights.

    Nodes with a label below 0 are left out.
    """
    sizes = np.zeros(n_slots, np.int64)
    count = np.zeros((n_slots, n_slots), np.int64)
    total = np.zeros((n_slots, n_slots))
    square = np.zeros((n_slots, n_slots))
    for i in range(labels.size):
        a = labels[i]
        if a < 0:
            continue
        sizes[a] += 1
        for j in range(i + 1, labels.size):
            b = labels[j]
            if b < 0:
                continue
            low, high = min(a, b), max(a, b)
            count[low, high] += graph.observed[i, j]
            total[low, high] += graph.weight[i, j]
            square[low, high] += graph.weight[i, j] * graph.weight[i, j]
    for a in range(n_slots):
        for b in range(a):
            count[a, b], total[a, b], square[a, b] = count[b, a], total[b, a], square[b, a]
    return sizes, count, total, square


@njit(cache=True)
def term_matrix(graph: WeightedGraph, count: Ints, total: Floats, square: Floats) -> Floats:
    """Return the matrix of `block_term` over block pairs."""
    n_slots = count.shape[0]
    term = np.zeros((n_slots, n_slots))
    for a in range(n_slots):
        for b in range(a, n_slots):
            term[a, b] = block_term(graph, count[a, b], total[a, b], square[a, b])
            term[b, a] = term[a, b]
    return term


@njit(cache=True)
def log_factorials(n: int) -> Floats:
    """Return log k! for k = 0..n."""
    out = np.zeros(n + 1)
    for k in range(2, n + 1):
        out[k] = out[k - 1] + np.log(k)
    return out


@njit(cache=True)
def node_sums(
    graph: WeightedGraph, labels: Ints, node: int, n_slots: int
) -> tuple[Ints, Floats, Floats]:
    """Return number, sum and sum of squares of one node's weights, by block."""
    count = np.zeros(n_slots, np.int64)
    total = np.zeros(n_slots)
    square = np.zeros(n_slots)
    for j in range(labels.size):
        b = labels[j]
        if b < 0:
            continue
        count[b] += graph.observed[node, j]
        total[b] += graph.weight[node, j]
        square[b] += graph.weight[node, j] * graph.weight[node, j]
    return count, total, square


@njit(cache=True)
def node_gains(
    row: tuple[Ints, Floats, Floats],
    home: int,
    sums: tuple[Ints, Ints, Floats, Floats],
    term: Floats,
    graph: WeightedGraph,
) -> Floats:
    """Return the change of the objective when a node leaves `home` for each block."""
    rn, rs, rq = row
    sizes, n, s, q = sums
    n_slots = sizes.size
    blocks = 0
    for k in range(n_slots):
        blocks += sizes[k] > 0
    a = home
    leave = np.zeros(n_slots)
    for k in range(n_slots):
        rest = block_term(graph, n[a, k] - rn[k], s[a, k] - rs[k], q[a, k] - rq[k])
        leave[k] = rest - term[a, k]
    left = leave.sum()
    gains = np.zeros(n_slots)
    for b in range(n_slots):
        if b == a:
            continue
        gain = left - leave[b]
        for k in range(n_slots):
            if k != a and (sizes[k] > 0 or k == b):
                joined = block_term(graph, n[b, k] + rn[k], s[b, k] + rs[k], q[b, k] + rq[k])
                gain += joined - term[b, k]
        between = block_term(
            graph, n[a, b] - rn[b] + rn[a], s[a, b] - rs[b] + rs[a], q[a, b] - rq[b] + rq[a]
        )
        gain += between - term[a, b]
        after = blocks - (sizes[a] == 1) + (sizes[b] == 0)
        gain += np.log(sizes[b] + 1.0) - np.log(sizes[a] * 1.0)
        gains[b] = gain + graph.block_table[after] - graph.block_table[blocks]
    return gains


@njit(cache=True)
def shift_node(
    row: tuple[Ints, Floats, Floats],
    home: int,
    target: int,
    sums: tuple[Ints, Ints, Floats, Floats],
    term: Floats,
    graph: WeightedGraph,
) -> None:
    """Update the block sums and their terms in place when a node moves."""
    rn, rs, rq = row
    sizes, n, s, q = sums
    sizes[home] -= 1
    sizes[target] += 1
    for sign, block in ((-1, home), (1, target)):
        for k in range(sizes.size):
            n[block, k] += sign * rn[k]
            s[block, k] += sign * rs[k]
            q[block, k] += sign * rq[k]
            if k != block:
                n[k, block], s[k, block], q[k, block] = n[block, k], s[block, k], q[block, k]
    for block in (home, target):
        for k in range(sizes.size):
            value = block_term(graph, n[block, k], s[block, k], q[block, k])
            term[block, k] = value
            term[k, block] = value
