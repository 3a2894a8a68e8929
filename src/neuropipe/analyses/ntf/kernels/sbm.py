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
from neuropipe.analyses.ntf.kernels.block_sums import (
    block_sums,
    block_term,
    log_factorials,
    node_gains,
    node_sums,
    shift_node,
    term_matrix,
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
    sizes, count, total, square = block_sums(graph, labels, n_slots)
    term = term_matrix(graph, count, total, square)
    factorial = log_factorials(labels.size)
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
def move_gains(graph: WeightedGraph, labels: Ints, node: int, n_slots: int) -> Floats:
    """Return the change of the objective when `node` moves to each of `n_slots` blocks.

    Parameters are those of `partition_objective`; slots without a node stand for a new block.
    The gain of staying is 0.
    """
    sums = block_sums(graph, labels, n_slots)
    term = term_matrix(graph, sums[1], sums[2], sums[3])
    row = node_sums(graph, labels, node, n_slots)
    return node_gains(row, labels[node], sums, term, graph)


@njit(cache=True)
def _settle(
    graph: WeightedGraph, labels: Ints, n_slots: int, new_blocks: bool, orders: Ints
) -> None:
    """Move single nodes to their best block, in place, until no move helps."""
    sums = block_sums(graph, labels, n_slots)
    sizes = sums[0]
    term = term_matrix(graph, sums[1], sums[2], sums[3])
    for sweep in range(MAX_SWEEPS):
        moved = False
        for node in orders[sweep % orders.shape[0]]:
            home = labels[node]
            row = node_sums(graph, labels, node, n_slots)
            gains = node_gains(row, home, sums, term, graph)
            target = home
            best = GAIN_FLOOR
            for b in range(n_slots):
                if gains[b] > best and (new_blocks or sizes[b] > 0):
                    target, best = b, gains[b]
            if target != home:
                shift_node(row, home, target, sums, term, graph)
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
            gain += block_term(
                graph,
                n[a, a] + n[b, b] + n[a, b],
                s[a, a] + s[b, b] + s[a, b],
                q[a, a] + q[b, b] + q[a, b],
            )
            gain -= term[a, a] + term[b, b] + term[a, b]
            for k in range(sizes.size):
                if k != a and k != b and sizes[k] > 0:
                    gain += block_term(
                        graph, n[a, k] + n[b, k], s[a, k] + s[b, k], q[a, k] + q[b, k]
                    )
                    gain -= term[a, k] + term[b, k]
            if gain > best:
                best, pair = gain, (a, b)
    return pair


@njit(cache=True)
def _merge(graph: WeightedGraph, labels: Ints, n_slots: int, factorial: Floats) -> int:
    """Merge the best pair of blocks in place; return the number of blocks left."""
    sums = block_sums(graph, labels, n_slots)
    blocks = 0
    for k in range(n_slots):
        blocks += sums[0][k] > 0
    if blocks < 2:
        return blocks
    term = term_matrix(graph, sums[1], sums[2], sums[3])
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
    factorial = log_factorials(labels.size)
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
    factorial = log_factorials(labels.size)
    out = np.empty((max(n_slots - 1, 1), labels.size), np.int64)
    current = labels.copy()
    out[0] = current
    for level in range(1, n_slots - 1):
        _merge(graph, current, n_slots, factorial)
        out[level] = current
    return out
