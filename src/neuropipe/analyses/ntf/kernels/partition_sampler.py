"""Samples of partitions from the posterior of the block model: Gibbs moves and merge-splits.

The posterior of a set partition with K blocks is proportional to ``K! exp(objective)``: the prior
of `sbm` belongs to partitions with numbered blocks, of which every set partition has K!.

A Gibbs move draws the block of one node given the others, a new block among them. A merge-split
takes two random nodes. In one block, they become the first members of two new ones, to which the
other members are added one by one, in random order, with probabilities in proportion to the
posterior of what is placed so far (sequential allocation, Dahl 2005). In two blocks, these are
joined, and the probability of the way back is that of the same allocation in a random order.
Both leave the posterior as it is (detailed balance; the order is an auxiliary variable with the
same distribution in either direction).
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from neuropipe.analyses.ntf.kernels.block_model import WeightedGraph
from neuropipe.analyses.ntf.kernels.block_sums import (
    block_sums,
    block_term,
    log_factorials,
    node_gains,
    node_sums,
    shift_node,
    term_matrix,
)
from neuropipe.analyses.ntf.kernels.sbm import partition_objective

__all__ = ["allocate", "coassignment", "log_posterior", "sample_partitions"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOVES = (1, 5)


@njit(cache=True)
def log_posterior(graph: WeightedGraph, labels: Ints) -> float:
    """Return the log posterior of the set partition of some labels, up to a constant.

    Parameters are those of `sbm.partition_objective`.
    """
    sizes = np.zeros(labels.max() + 1, np.int64)
    for label in labels:
        sizes[label] += 1
    blocks = 0
    for size in sizes:
        blocks += size > 0
    return partition_objective(graph, labels) + log_factorials(labels.size)[blocks]


@njit(cache=True)
def _empty_slot(sizes: Ints) -> int:
    """Return the first block without a node, -1 if there is none."""
    for slot in range(sizes.size):
        if sizes[slot] == 0:
            return slot
    return -1


@njit(cache=True)
def _choose(log_weight: Floats, draw: float) -> int:
    """Return an index with probability in proportion to ``exp(log_weight)``."""
    largest = log_weight.max()
    total = 0.0
    for value in log_weight:
        total += np.exp(value - largest)
    point = draw * total
    last = 0
    for index in range(log_weight.size):
        if log_weight[index] > -np.inf:
            last = index
            point -= np.exp(log_weight[index] - largest)
            if point < 0:
                break
    return last


@njit(cache=True)
def _gibbs_sweep(
    graph: WeightedGraph, labels: Ints, n_slots: int, factorial: Floats, draws: Floats
) -> None:
    """Draw the block of every node given the others, in place; `draws` (n_nodes,)."""
    sums = block_sums(graph, labels, n_slots)
    sizes = sums[0]
    term = term_matrix(graph, sums[1], sums[2], sums[3])
    for node in range(labels.size):
        home = labels[node]
        row = node_sums(graph, labels, node, n_slots)
        log_weight = node_gains(row, home, sums, term, graph)
        alone = sizes[home] == 1
        # Alone in its block, a node has its new block already: another one is the same partition.
        new = -1 if alone else _empty_slot(sizes)
        blocks = 0
        for size in sizes:
            blocks += size > 0
        for b in range(n_slots):
            if sizes[b] == 0 and b != new:
                log_weight[b] = -np.inf
            else:
                left = 1 if alone and b != home else 0
                log_weight[b] += factorial[blocks - left + (1 if b == new else 0)]
        target = _choose(log_weight, draws[node])
        if target != home:
            shift_node(row, home, target, sums, term, graph)
            labels[node] = target


@njit(cache=True)
def _join_gain(
    row: tuple[Ints, Floats, Floats],
    block: int,
    sums: tuple[Ints, Ints, Floats, Floats],
    graph: WeightedGraph,
) -> float:
    """Return the change of the objective when a node that was left out joins a block."""
    rn, rs, rq = row
    sizes, n, s, q = sums
    gain = np.log(sizes[block] + 1.0)
    for k in range(sizes.size):
        if sizes[k] > 0:
            gain += block_term(graph, n[block, k] + rn[k], s[block, k] + rs[k], q[block, k] + rq[k])
            gain -= block_term(graph, n[block, k], s[block, k], q[block, k])
    return gain


@njit(cache=True)
def _join(
    row: tuple[Ints, Floats, Floats], block: int, sums: tuple[Ints, Ints, Floats, Floats]
) -> None:
    """Update the block sums in place when a node that was left out joins a block."""
    rn, rs, rq = row
    sizes, n, s, q = sums
    sizes[block] += 1
    for k in range(sizes.size):
        n[block, k] += rn[k]
        s[block, k] += rs[k]
        q[block, k] += rq[k]
        n[k, block], s[k, block], q[k, block] = n[block, k], s[block, k], q[block, k]


@njit(cache=True)
def _log1pexp(value: float) -> float:
    """Return ``log(1 + exp(value))`` without overflow."""
    return max(value, 0.0) + np.log1p(np.exp(-abs(value)))


@njit(cache=True)
def allocate(
    graph: WeightedGraph,
    labels: Ints,
    order: Ints,
    blocks: tuple[int, int],
    n_slots: int,
    draws: Floats,
) -> float:
    """Place nodes one by one into one of two blocks; return the log probability of the outcome.

    Parameters
    ----------
    graph : WeightedGraph
        Weights and block model.
    labels : ndarray of int64 (n_nodes,)
        Partition; each of the two blocks has a node that is not in `order`. Changed in place when
        the outcome is drawn.
    order : ndarray of int64
        Nodes to place, in this order.
    blocks : tuple of int
        The two blocks.
    n_slots : int
        Number of slots for blocks.
    draws : ndarray
        One uniform number per node of `order`, or none: then the outcome is that of `labels`.

    Returns
    -------
    float
        Natural logarithm.
    """
    first, second = blocks
    placed = labels.copy()
    for node in order:
        placed[node] = -1
    sums = block_sums(graph, placed, n_slots)
    log_probability = 0.0
    for step in range(order.size):
        node = order[step]
        row = node_sums(graph, placed, node, n_slots)
        gain = _join_gain(row, first, sums, graph)
        other = _join_gain(row, second, sums, graph)
        log_first = -_log1pexp(other - gain)
        if draws.size:
            target = first if np.log(draws[step]) < log_first else second
        else:
            target = labels[node]
        log_probability += log_first if target == first else -_log1pexp(gain - other)
        placed[node] = target
        _join(row, target, sums)
    labels[:] = placed
    return log_probability


@njit(cache=True)
def _shuffle(values: Ints, draws: Floats) -> None:
    """Put values in random order, in place."""
    for k in range(values.size - 1, 0, -1):
        other = int(draws[k] * (k + 1))
        values[k], values[other] = values[other], values[k]


@njit(cache=True)
def _others(labels: Ints, i: int, j: int) -> Ints:
    """Return the nodes that are in the block of i or in that of j, without these two."""
    found = np.empty(labels.size, np.int64)
    count = 0
    for node in range(labels.size):
        if node not in (i, j) and labels[node] in (labels[i], labels[j]):
            found[count] = node
            count += 1
    return found[:count]


@njit(cache=True)
def _merge_split(graph: WeightedGraph, labels: Ints, n_slots: int, draws: Floats) -> None:
    """Propose to split or to join the blocks of two nodes, in place; `draws` (2 n_nodes + 3,)."""
    n = labels.size
    i, j = int(draws[0] * n), int(draws[1] * (n - 1))
    j += j >= i
    first, second = labels[i], labels[j]
    split = first == second
    if split:
        sizes = np.zeros(n_slots, np.int64)
        for label in labels:
            sizes[label] += 1
        second = _empty_slot(sizes)
        if second < 0:
            return
    order = _others(labels, i, j)
    _shuffle(order, draws[3 : n + 3])
    proposed = labels.copy()
    if split:
        proposed[j] = second
        placing = draws[n + 3 : n + 3 + order.size]
        balance = -allocate(graph, proposed, order, (first, second), n_slots, placing)
    else:
        balance = allocate(graph, proposed, order, (first, second), n_slots, draws[:0])
        for node in range(n):
            if labels[node] == second:
                proposed[node] = first
    change = log_posterior(graph, proposed) - log_posterior(graph, labels)
    if np.log(draws[2]) < change + balance:
        labels[:] = proposed


@njit(cache=True)
def _walk(
    graph: WeightedGraph,
    labels: Ints,
    n_slots: int,
    moves: tuple[int, int],
    factorial: Floats,
    draws: Floats,
) -> None:
    """Move from one sample to the next, in place."""
    n = labels.size
    at = 0
    for _ in range(moves[0]):
        _gibbs_sweep(graph, labels, n_slots, factorial, draws[at : at + n])
        at += n
    for _ in range(moves[1]):
        _merge_split(graph, labels, n_slots, draws[at : at + 2 * n + 3])
        at += 2 * n + 3


def sample_partitions(
    graph: WeightedGraph,
    start: Ints,
    n_slots: int,
    *,
    samples: int,
    discard: int = 0,
    moves: tuple[int, int] = MOVES,
    rng: np.random.Generator,
) -> Ints:
    """Return partitions drawn from the posterior of the block model.

    Parameters
    ----------
    graph : WeightedGraph
        Weights and block model.
    start : ndarray of int64 (n_nodes,)
        First partition, two nodes or more, labels below `n_slots`.
    n_slots : int
        Most blocks that a partition may have.
    samples, discard : int
        Partitions returned, and those drawn before them.
    moves : tuple of int
        Sweeps of Gibbs moves over all nodes and merge-splits between one partition and the next.
    rng : numpy.random.Generator
        Source of all random numbers.

    Returns
    -------
    ndarray of int64 (samples, n_nodes)
        Block numbers carry no meaning from one sample to the next.
    """
    labels = start.copy()
    n = labels.size
    factorial = log_factorials(n)
    out = np.empty((samples, n), np.int64)
    for sample in range(-discard, samples):
        draws = rng.random(moves[0] * n + moves[1] * (2 * n + 3))
        _walk(graph, labels, n_slots, moves, factorial, draws)
        if sample >= 0:
            out[sample] = labels
    return out


def coassignment(partitions: Ints) -> NDArray[np.float32]:
    """Return the share of partitions in which two nodes are in one block.

    Parameters
    ----------
    partitions : ndarray of int64 (n_samples, n_nodes)
        From `sample_partitions`.

    Returns
    -------
    ndarray of float32 (n_nodes, n_nodes)
        1 on the diagonal.

    Examples
    --------
    >>> coassignment(np.array([[0, 0, 1], [2, 2, 2]])).tolist()
    [[1.0, 1.0, 0.5], [1.0, 1.0, 0.5], [0.5, 0.5, 1.0]]
    """
    total = np.zeros((partitions.shape[1],) * 2, dtype=np.int64)
    for labels in partitions:
        total += labels[:, None] == labels
    return (total / len(partitions)).astype(np.float32)
