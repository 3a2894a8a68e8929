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
from scipy.special import gammaln

__all__ = [
    "EXPONENTIAL",
    "NORMAL",
    "merge_sequence",
    "move_gains",
    "partition_objective",
    "search_partition",
    "term_tables",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

EXPONENTIAL, NORMAL = 0, 1
MAX_SWEEPS = 60
GAIN_FLOOR = 1e-9


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


@njit(cache=True)
def _term(model: int, n: int, s: float, q: float, pair_table: Floats) -> float:
    """Return the log marginal likelihood of one block pair."""
    if n == 0:
        return 0.0
    if model == 0:
        return pair_table[n] - (1.0 + n) * np.log1p(s)
    return pair_table[n] - (1.0 + 0.5 * n) * np.log1p(0.5 * (q - s * s / (1.0 + n)))


@njit(cache=True)
def _block_sums(
    weight: Floats, observed: Ints, labels: Ints, n_slots: int
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
            count[low, high] += observed[i, j]
            total[low, high] += weight[i, j]
            square[low, high] += weight[i, j] * weight[i, j]
    for a in range(n_slots):
        for b in range(a):
            count[a, b], total[a, b], square[a, b] = count[b, a], total[b, a], square[b, a]
    return sizes, count, total, square


@njit(cache=True)
def _terms(model: int, count: Ints, total: Floats, square: Floats, table: Floats) -> Floats:
    """Return the matrix of `_term` over block pairs."""
    n_slots = count.shape[0]
    term = np.zeros((n_slots, n_slots))
    for a in range(n_slots):
        for b in range(a, n_slots):
            term[a, b] = _term(model, count[a, b], total[a, b], square[a, b], table)
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
def partition_objective(
    weight: Floats,
    observed: Ints,
    labels: Ints,
    model: int,
    pair_table: Floats,
    block_table: Floats,
) -> float:
    """Return log marginal likelihood plus log prior of a partition.

    Parameters
    ----------
    weight : ndarray (n_nodes, n_nodes)
        Symmetric weights, 0 where unobserved and on the diagonal.
    observed : ndarray of int64 (n_nodes, n_nodes)
        1 where the pair was observed, 0 elsewhere and on the diagonal.
    labels : ndarray of int64 (n_nodes,)
        Block of each node; labels need not be consecutive.
    model : int
        `EXPONENTIAL` or `NORMAL`.
    pair_table, block_table : ndarray
        From `term_tables`.
    """
    n_slots = labels.max() + 1
    sizes, count, total, square = _block_sums(weight, observed, labels, n_slots)
    term = _terms(model, count, total, square, pair_table)
    factorial = _log_factorials(labels.size)
    value = 0.0
    blocks = 0
    for a in range(n_slots):
        value += factorial[sizes[a]]
        if sizes[a] > 0:
            blocks += 1
        for b in range(a, n_slots):
            value += term[a, b]
    return value + block_table[blocks]


@njit(cache=True)
def _node_sums(
    weight: Floats, observed: Ints, labels: Ints, node: int, n_slots: int
) -> tuple[Ints, Floats, Floats]:
    """Return number, sum and sum of squares of one node's weights, by block."""
    count = np.zeros(n_slots, np.int64)
    total = np.zeros(n_slots)
    square = np.zeros(n_slots)
    for j in range(labels.size):
        b = labels[j]
        count[b] += observed[node, j]
        total[b] += weight[node, j]
        square[b] += weight[node, j] * weight[node, j]
    return count, total, square


@njit(cache=True)
def _gains(
    node_sums: tuple[Ints, Floats, Floats],
    home: int,
    sums: tuple[Ints, Ints, Floats, Floats],
    term: Floats,
    model: int,
    pair_table: Floats,
    block_table: Floats,
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
        rest = _term(model, n[a, k] - rn[k], s[a, k] - rs[k], q[a, k] - rq[k], pair_table)
        leave[k] = rest - term[a, k]
    left = leave.sum()
    gains = np.zeros(n_slots)
    for b in range(n_slots):
        if b == a:
            continue
        gain = left - leave[b]
        for k in range(n_slots):
            if k != a and (sizes[k] > 0 or k == b):
                joined = _term(model, n[b, k] + rn[k], s[b, k] + rs[k], q[b, k] + rq[k], pair_table)
                gain += joined - term[b, k]
        between = _term(
            model,
            n[a, b] - rn[b] + rn[a],
            s[a, b] - rs[b] + rs[a],
            q[a, b] - rq[b] + rq[a],
            pair_table,
        )
        gain += between - term[a, b]
        after = blocks - (sizes[a] == 1) + (sizes[b] == 0)
        gain += np.log(sizes[b] + 1.0) - np.log(sizes[a] * 1.0)
        gains[b] = gain + block_table[after] - block_table[blocks]
    return gains


@njit(cache=True)
def move_gains(
    weight: Floats,
    observed: Ints,
    labels: Ints,
    node: int,
    n_slots: int,
    model: int,
    pair_table: Floats,
    block_table: Floats,
) -> Floats:
    """Return the change of the objective when `node` moves to each of `n_slots` blocks.

    Parameters are those of `partition_objective`; slots without a node stand for a new block.
    The gain of staying is 0.
    """
    sums = _block_sums(weight, observed, labels, n_slots)
    term = _terms(model, sums[1], sums[2], sums[3], pair_table)
    node_sums = _node_sums(weight, observed, labels, node, n_slots)
    return _gains(node_sums, labels[node], sums, term, model, pair_table, block_table)


@njit(cache=True)
def _shift(
    node_sums: tuple[Ints, Floats, Floats],
    home: int,
    target: int,
    sums: tuple[Ints, Ints, Floats, Floats],
    term: Floats,
    model: int,
    pair_table: Floats,
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
            value = _term(model, n[block, k], s[block, k], q[block, k], pair_table)
            term[block, k] = value
            term[k, block] = value


@njit(cache=True)
def _settle(
    weight: Floats,
    observed: Ints,
    labels: Ints,
    n_slots: int,
    new_blocks: bool,
    orders: Ints,
    model: int,
    pair_table: Floats,
    block_table: Floats,
) -> None:
    """Move single nodes to their best block, in place, until no move helps."""
    sums = _block_sums(weight, observed, labels, n_slots)
    sizes = sums[0]
    term = _terms(model, sums[1], sums[2], sums[3], pair_table)
    for sweep in range(MAX_SWEEPS):
        moved = False
        for node in orders[sweep % orders.shape[0]]:
            home = labels[node]
            node_sums = _node_sums(weight, observed, labels, node, n_slots)
            gains = _gains(node_sums, home, sums, term, model, pair_table, block_table)
            target = home
            best = GAIN_FLOOR
            for b in range(n_slots):
                if gains[b] > best and (new_blocks or sizes[b] > 0):
                    target, best = b, gains[b]
            if target != home:
                _shift(node_sums, home, target, sums, term, model, pair_table)
                labels[node] = target
                moved = True
        if not moved:
            return


@njit(cache=True)
def _best_merge(
    sums: tuple[Ints, Ints, Floats, Floats],
    term: Floats,
    factorial: Floats,
    model: int,
    pair_table: Floats,
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
                model,
                n[a, a] + n[b, b] + n[a, b],
                s[a, a] + s[b, b] + s[a, b],
                q[a, a] + q[b, b] + q[a, b],
                pair_table,
            )
            gain -= term[a, a] + term[b, b] + term[a, b]
            for k in range(sizes.size):
                if k != a and k != b and sizes[k] > 0:
                    gain += _term(
                        model, n[a, k] + n[b, k], s[a, k] + s[b, k], q[a, k] + q[b, k], pair_table
                    )
                    gain -= term[a, k] + term[b, k]
            if gain > best:
                best, pair = gain, (a, b)
    return pair


@njit(cache=True)
def _merge(
    weight: Floats,
    observed: Ints,
    labels: Ints,
    n_slots: int,
    model: int,
    pair_table: Floats,
    factorial: Floats,
) -> int:
    """Merge the best pair of blocks in place; return the number of blocks left."""
    sums = _block_sums(weight, observed, labels, n_slots)
    blocks = 0
    for k in range(n_slots):
        blocks += sums[0][k] > 0
    if blocks < 2:
        return blocks
    term = _terms(model, sums[1], sums[2], sums[3], pair_table)
    a, b = _best_merge(sums, term, factorial, model, pair_table)
    for i in range(labels.size):
        if labels[i] == b:
            labels[i] = a
    return blocks - 1


@njit(cache=True)
def search_partition(
    weight: Floats,
    observed: Ints,
    start: Ints,
    n_slots: int,
    orders: Ints,
    model: int,
    pair_table: Floats,
    block_table: Floats,
) -> tuple[Ints, float]:
    """Return the best partition on the way from a start down to one block.

    Greedy single-node moves until stable, merge of the best pair of blocks, and so on; the best
    state met is then settled once more with new blocks allowed.

    Parameters
    ----------
    weight, observed, model, pair_table, block_table
        As in `partition_objective`.
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
        _settle(weight, observed, labels, n_slots, False, orders, model, pair_table, block_table)
        value = partition_objective(weight, observed, labels, model, pair_table, block_table)
        if value > best:
            best = value
            best_labels = labels.copy()
        before = blocks
        blocks = _merge(weight, observed, labels, n_slots, model, pair_table, factorial)
        if blocks == 1 and before == 1:
            break
    _settle(weight, observed, best_labels, n_slots, True, orders, model, pair_table, block_table)
    best = partition_objective(weight, observed, best_labels, model, pair_table, block_table)
    return best_labels, best


@njit(cache=True)
def merge_sequence(
    weight: Floats, observed: Ints, labels: Ints, model: int, pair_table: Floats
) -> Ints:
    """Return the nested partitions from `labels` down to two blocks.

    Parameters
    ----------
    weight, observed, model, pair_table
        As in `partition_objective`.
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
        _merge(weight, observed, current, n_slots, model, pair_table, factorial)
        out[level] = current
    return out
