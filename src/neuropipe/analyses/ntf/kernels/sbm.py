"""Weighted stochastic block model of a dense graph: objective, node moves and merges.

Every observed pair of nodes is one weighted edge. The parameters of each block pair are
integrated out, so that the objective of a partition is closed form and partitions with different
numbers of blocks compare directly (Peixoto 2018, without the edge-existence layer).

Exponential weights, rate ~ Gamma(1, 1): ``log m(n, s) = lgamma(1 + n) - (1 + n) log(1 + s)``.

Normal weights, normal-inverse-gamma prior (mean 0, one pseudo-observation, shape 1, scale 1):
``log m(n, s, q) = lgamma(1 + n/2) - (1 + n/2) log(1 + (q - s^2 / (1 + n)) / 2)
- log(1 + n) / 2 - n/2 log(2 pi)``.

Here n is the number of observed pairs, s the sum and q the sum of squares of their weights. The
partition of N nodes into K blocks of sizes n_k has the log prior
``sum_k lgamma(n_k + 1) - lgamma(N + 1) - log N - log C(N - 1, K - 1)``.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from neuropipe.analyses.ntf.kernels.block_model import (
    EXPONENTIAL,
    NORMAL,
    WeightedGraph,
    term_tables,
)

__all__ = [
    "EXPONENTIAL",
    "NORMAL",
    "WeightedGraph",
    "merge_sequence",
    "move_gains",
    "partition_objective",
    "search_partition",
    "term_tables",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MAX_SWEEPS = 60
GAIN_FLOOR = 1e-9


@njit(cache=True)
def _term(graph: WeightedGraph, n: int, s: float, q: float) -> float:
    """Return the log marginal likelihood of one block pair."""
    if n == 0:
        return 0.0
    if graph.model == EXPONENTIAL:
        return graph.pair_table[n] - (1.0 + n) * np.log1p(s)
    return graph.pair_table[n] - (1.0 + 0.5 * n) * np.log1p(0.5 * (q - s * s / (1.0 + n)))


@njit(cache=True)
def _block_sums(
    graph: WeightedGraph, labels: Ints, n_slots: int
) -> tuple[Ints, Ints, Floats, Floats]:
    """Return block sizes and, per block pair, number, sum and sum of squares of the weights."""
    sizes = np.zeros(n_slots, np.int64)
    count = np.zeros((n_slots, n_slots), np.int64)
    total = np.zeros((n_slots, n_slots))
    square = np.zeros((n_slots, n_slots))
    for i in range(labels.size):
        a = labels[i]
        sizes[a] += 1
        for j in range(i + 1, labels.size):
            b = labels[j]
            low, high = min(a, b), max(a, b)
            count[low, high] += graph.observed[i, j]
            total[low, high] += graph.weight[i, j]
            square[low, high] += graph.weight[i, j] * graph.weight[i, j]
    for a in range(n_slots):
        for b in range(a):
            count[a, b], total[a, b], square[a, b] = count[b, a], total[b, a], square[b, a]
    return sizes, count, total, square


@njit(cache=True)
def _terms(graph: WeightedGraph, count: Ints, total: Floats, square: Floats) -> Floats:
    """Return the matrix of `_term` over block pairs."""
    n_slots = count.shape[0]
    term = np.zeros((n_slots, n_slots))
    for a in range(n_slots):
        for b in range(a, n_slots):
            term[a, b] = _term(graph, count[a, b], total[a, b], square[a, b])
            term[b, a] = term[a, b]
    return term


@njit(cache=True)
def _log_factorials(n: int) -> Floats:
    """Return log k! for k = 0..n."""
    out = np.zeros(n + 1)
    for k in range(2, n + 1):
        out[k] = out[k - 1] + np.log(k)
    return out


@njit(cache=True)
def partition_objective(graph: WeightedGraph, labels: Ints) -> float:
    """Return log marginal likelihood plus log prior of a partition.

    Parameters
    ----------
    graph : WeightedGraph
        Weights and block model.
    labels : ndarray of int64 (n_nodes,)
        Block of each node; labels need not be consecutive.
    """
    n_slots = labels.max() + 1
    sizes, count, total, square = _block_sums(graph, labels, n_slots)
    term = _terms(graph, count, total, square)
    factorial = _log_factorials(labels.size)
    value = 0.0
    blocks = 0
    for a in range(n_slots):
        value += factorial[sizes[a]]
        if sizes[a] > 0:
            blocks += 1
        for b in range(a, n_slots):
            value += term[a, b]
    return value + graph.block_table[blocks]


@njit(cache=True)
def _node_sums(
    graph: WeightedGraph, labels: Ints, node: int, n_slots: int
) -> tuple[Ints, Floats, Floats]:
    """Return number, sum and sum of squares of one node's weights, by block."""
    count = np.zeros(n_slots, np.int64)
    total = np.zeros(n_slots)
    square = np.zeros(n_slots)
    for j in range(labels.size):
        b = labels[j]
        count[b] += graph.observed[node, j]
        total[b] += graph.weight[node, j]
        square[b] += graph.weight[node, j] * graph.weight[node, j]
    return count, total, square


@njit(cache=True)
def _gains(
    node_sums: tuple[Ints, Floats, Floats],
    home: int,
    sums: tuple[Ints, Ints, Floats, Floats],
    term: Floats,
    graph: WeightedGraph,
) -> Floats:
    """Return the change of the objective when a node leaves `home` for each block."""
    rn, rs, rq = node_sums
    sizes, n, s, q = sums
    n_slots = sizes.size
    blocks = 0
    for k in range(n_slots):
        blocks += sizes[k] > 0
    a = home
    leave = np.zeros(n_slots)
    for k in range(n_slots):
        rest = _term(graph, n[a, k] - rn[k], s[a, k] - rs[k], q[a, k] - rq[k])
        leave[k] = rest - term[a, k]
    left = leave.sum()
    gains = np.zeros(n_slots)
    for b in range(n_slots):
        if b == a:
            continue
        gain = left - leave[b]
        for k in range(n_slots):
            if k != a and (sizes[k] > 0 or k == b):
                joined = _term(graph, n[b, k] + rn[k], s[b, k] + rs[k], q[b, k] + rq[k])
                gain += joined - term[b, k]
        between = _term(
            graph, n[a, b] - rn[b] + rn[a], s[a, b] - rs[b] + rs[a], q[a, b] - rq[b] + rq[a]
        )
        gain += between - term[a, b]
        after = blocks - (sizes[a] == 1) + (sizes[b] == 0)
        gain += np.log(sizes[b] + 1.0) - np.log(sizes[a] * 1.0)
        gains[b] = gain + graph.block_table[after] - graph.block_table[blocks]
    return gains


@njit(cache=True)
def move_gains(graph: WeightedGraph, labels: Ints, node: int, n_slots: int) -> Floats:
    """Return the change of the objective when `node` moves to each of `n_slots` blocks.

    Parameters are those of `partition_objective`; slots without a node stand for a new block.
    The gain of staying is 0.
    """
    sums = _block_sums(graph, labels, n_slots)
    term = _terms(graph, sums[1], sums[2], sums[3])
    node_sums = _node_sums(graph, labels, node, n_slots)
    return _gains(node_sums, labels[node], sums, term, graph)


@njit(cache=True)
def _shift(
    node_sums: tuple[Ints, Floats, Floats],
    home: int,
    target: int,
    sums: tuple[Ints, Ints, Floats, Floats],
    term: Floats,
    graph: WeightedGraph,
) -> None:
    """Update the block sums and their terms in place when a node moves."""
    rn, rs, rq = node_sums
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
            value = _term(graph, n[block, k], s[block, k], q[block, k])
            term[block, k] = value
            term[k, block] = value


@njit(cache=True)
def _settle(
    graph: WeightedGraph, labels: Ints, n_slots: int, new_blocks: bool, orders: Ints
) -> None:
    """Move single nodes to their best block, in place, until no move helps."""
    sums = _block_sums(graph, labels, n_slots)
    sizes = sums[0]
    term = _terms(graph, sums[1], sums[2], sums[3])
    for sweep in range(MAX_SWEEPS):
        moved = False
        for node in orders[sweep % orders.shape[0]]:
            home = labels[node]
            node_sums = _node_sums(graph, labels, node, n_slots)
            gains = _gains(node_sums, home, sums, term, graph)
            target = home
            best = GAIN_FLOOR
            for b in range(n_slots):
                if gains[b] > best and (new_blocks or sizes[b] > 0):
                    target, best = b, gains[b]
            if target != home:
                _shift(node_sums, home, target, sums, term, graph)
                labels[node] = target
                moved = True
        if not moved:
            return


@njit(cache=True)
def _best_merge(
    sums: tuple[Ints, Ints, Floats, Floats], term: Floats, factorial: Floats, graph: WeightedGraph
) -> tuple[int, int]:
    """Return the pair of blocks whose union costs the objective least."""
    sizes, n, s, q = sums
    best, pair = -np.inf, (0, 0)
    for a in range(sizes.size):
        for b in range(a + 1, sizes.size):
            if sizes[a] == 0 or sizes[b] == 0:
                continue
            gain = factorial[sizes[a] + sizes[b]] - factorial[sizes[a]] - factorial[sizes[b]]
            gain += _term(
                graph,
                n[a, a] + n[b, b] + n[a, b],
                s[a, a] + s[b, b] + s[a, b],
                q[a, a] + q[b, b] + q[a, b],
            )
            gain -= term[a, a] + term[b, b] + term[a, b]
            for k in range(sizes.size):
                if k != a and k != b and sizes[k] > 0:
                    gain += _term(graph, n[a, k] + n[b, k], s[a, k] + s[b, k], q[a, k] + q[b, k])
                    gain -= term[a, k] + term[b, k]
            if gain > best:
                best, pair = gain, (a, b)
    return pair


@njit(cache=True)
def _merge(graph: WeightedGraph, labels: Ints, n_slots: int, factorial: Floats) -> int:
    """Merge the best pair of blocks in place; return the number of blocks left."""
    sums = _block_sums(graph, labels, n_slots)
    blocks = 0
    for k in range(n_slots):
        blocks += sums[0][k] > 0
    if blocks < 2:
        return blocks
    term = _terms(graph, sums[1], sums[2], sums[3])
    a, b = _best_merge(sums, term, factorial, graph)
    for i in range(labels.size):
        if labels[i] == b:
            labels[i] = a
    return blocks - 1


@njit(cache=True)
def search_partition(
    graph: WeightedGraph, start: Ints, n_slots: int, orders: Ints
) -> tuple[Ints, float]:
    """Return the best partition on the way from a start down to one block.

    Greedy single-node moves until stable, merge of the best pair of blocks, and so on; the best
    state met is then settled once more with new blocks allowed.

    Parameters
    ----------
    graph : WeightedGraph
        Weights and block model.
    start : ndarray of int64 (n_nodes,)
        First partition, labels below `n_slots`.
    n_slots : int
        Largest number of blocks.
    orders : ndarray of int64 (n_orders, n_nodes)
        Orders in which the sweeps visit the nodes.

    Returns
    -------
    labels : ndarray of int64 (n_nodes,)
        Best partition.
    objective : float
        Its `partition_objective`.
    """
    labels = start.copy()
    factorial = _log_factorials(labels.size)
    best_labels = labels.copy()
    best = -np.inf
    blocks = n_slots
    while blocks > 0:
        _settle(graph, labels, n_slots, False, orders)
        value = partition_objective(graph, labels)
        if value > best:
            best = value
            best_labels = labels.copy()
        before = blocks
        blocks = _merge(graph, labels, n_slots, factorial)
        if blocks == 1 and before == 1:
            break
    _settle(graph, best_labels, n_slots, True, orders)
    best = partition_objective(graph, best_labels)
    return best_labels, best


@njit(cache=True)
def merge_sequence(graph: WeightedGraph, labels: Ints) -> Ints:
    """Return the nested partitions from `labels` down to two blocks.

    Parameters
    ----------
    graph : WeightedGraph
        Weights and block model.
    labels : ndarray of int64 (n_nodes,)
        Finest partition, labels 0..K-1, all in use.

    Returns
    -------
    ndarray of int64 (max(K - 1, 1), n_nodes)
        Row 0 is `labels`; each further row merges the pair of blocks whose union costs the
        objective least.
    """
    n_slots = labels.max() + 1
    factorial = _log_factorials(labels.size)
    out = np.empty((max(n_slots - 1, 1), labels.size), np.int64)
    current = labels.copy()
    out[0] = current
    for level in range(1, n_slots - 1):
        _merge(graph, current, n_slots, factorial)
        out[level] = current
    return out
