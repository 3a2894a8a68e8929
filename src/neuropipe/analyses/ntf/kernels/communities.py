"""Communities of one motif graph: search, hierarchy, background rule and significance.

The block model itself is in `sbm`. Here is what turns its best partition into communities:
which blocks stand out of the background, which coarser levels they form, and how often exchangeable
weights give a community as strong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import ClusterError, kmeans2
from scipy.linalg import eigh

from neuropipe.analyses.ntf.kernels import sbm
from neuropipe.analyses.ntf.kernels.community_nulls import familywise_pvalue, permute_weights
from neuropipe.analyses.ntf.kernels.community_result import Communities
from neuropipe.analyses.ntf.kernels.motif_graph import (
    MODELS,
    MotifGraph,
    Weights,
    checked,
    motif_graph,
)
from neuropipe.analyses.ntf.kernels.partition_sampler import coassignment, sample_partitions

__all__ = [
    "BACKGROUND",
    "UNOBSERVED",
    "Communities",
    "Partition",
    "community_sets",
    "detect_communities",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
# (adjacency, k_max, starts, rng) -> candidates (n_candidates, n_nodes), labels from 0
Partition = Callable[[Floats, int, int, np.random.Generator], Ints]

BACKGROUND, UNOBSERVED = -1, -2
MIN_NODES = 3
N_ORDERS = 8
SLOTS = 4
STANDOUT = 0.4  # share of the strongest block's excess that makes a block a community


@dataclass(frozen=True)
class _Detection:
    labels: Ints
    objective: float
    community: Ints
    strength: Floats
    score: Floats


def _spectral_start(graph: MotifGraph, n_blocks: int, rng: np.random.Generator) -> Ints:
    """Return blocks from k-means on the leading eigenvectors, random ones if that fails."""
    n = graph.nodes.size
    filled = np.where(graph.observed == 1, graph.weight, graph.weight[graph.observed == 1].mean())
    np.fill_diagonal(filled, filled.mean(axis=1))
    values, vectors = eigh(filled, subset_by_index=(n - n_blocks, n - 1), check_finite=False)
    try:
        _, labels = kmeans2(
            vectors * np.abs(values), n_blocks, minit="++", missing="raise", rng=rng
        )
    except ClusterError:
        labels = rng.integers(n_blocks, size=n)
    return labels.astype(np.int64)


@dataclass(frozen=True)
class _Rules:
    """How partitions are found and which of their blocks count."""

    weights: Weights
    k_max: int
    min_size: int
    partition: Partition | None


def _numbered(labels: Ints) -> Ints:
    """Return labels 0..K-1."""
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def _best_candidate(
    graph: MotifGraph, rules: _Rules, restarts: int, rng: np.random.Generator
) -> tuple[Ints, float]:
    """Return the partition of least description length among those of another method."""
    if rules.partition is None:
        return _search(graph, rules.k_max, restarts, rng)
    candidates = rules.partition(graph.adjacency, rules.k_max, restarts, rng)
    found = [_numbered(labels) for labels in candidates]
    values = [float(sbm.partition_objective(graph.blocks, labels)) for labels in found]
    best = int(np.argmax(values))
    return found[best], values[best]


def _search(
    graph: MotifGraph, k_max: int, restarts: int, rng: np.random.Generator
) -> tuple[Ints, float]:
    """Return the best partition of all starts, labels 0..K-1, and its objective."""
    n = graph.nodes.size
    n_slots = min(k_max, n)
    best, objective = np.zeros(n, np.int64), -np.inf
    for start in range(restarts):
        labels = (
            _spectral_start(graph, n_slots, rng)
            if start == 0
            else rng.integers(n_slots, size=n, dtype=np.int64)
        )
        orders = rng.permuted(np.tile(np.arange(n), (N_ORDERS, 1)), axis=1)
        found, value = sbm.search_partition(graph.blocks, labels, n_slots, orders)
        if value > objective:
            best, objective = found, value
    return _numbered(best), float(objective)


def _standing_out(labels: Ints, graph: MotifGraph, min_size: int) -> tuple[Ints, Floats, Floats]:
    """Apply the background rule to one partition.

    A single block is no community: nothing is left for it to stand out of. Nor is a block below
    the mean weight, such as the large rest that a few strong nodes leave behind.

    Returns
    -------
    community : ndarray of int64 (n_nodes,)
        Numbered by falling strength, -1 background.
    strength, score : ndarray (n_communities,)
        As in `Communities`.
    """
    n_blocks = labels.max() + 1
    community = np.full(labels.size, BACKGROUND)
    if n_blocks < 2:
        return community, np.zeros(0), np.zeros(0)
    values = graph.adjacency[np.triu(graph.observed, 1) == 1]
    strength, score = np.full(n_blocks, -np.inf), np.zeros(n_blocks)
    for block in range(n_blocks):
        members = np.flatnonzero(labels == block)
        inside = np.ix_(members, members)
        pairs = graph.observed[inside].sum() / 2
        if members.size >= min_size and pairs:
            strength[block] = np.nanmean(graph.adjacency[inside])
            score[block] = graph.rank_z[inside].sum() / 2 / np.sqrt(pairs)
            score[block] /= np.sqrt(1 - pairs / values.size)
    excess = strength - np.median(values)
    chosen = np.flatnonzero((excess > STANDOUT * excess.max()) & (strength > values.mean()))
    chosen = chosen[np.argsort(-strength[chosen], kind="stable")]
    for number, strong in enumerate(chosen):
        community[labels == strong] = number
    return community, strength[chosen], score[chosen]


def _levels(graph: MotifGraph, labels: Ints, min_size: int) -> tuple[Ints, Floats, Floats]:
    """Return communities, strengths and scores of the best partition and of its merges."""
    nested = sbm.merge_sequence(graph.blocks, labels)
    found = [_standing_out(_numbered(level), graph, min_size) for level in nested]
    shape = (len(found), max(1, *(mean.size for _, mean, _ in found)))
    strength, score = np.full(shape, np.nan), np.full(shape, np.nan)
    for level, (_, mean, statistic) in enumerate(found):
        strength[level, : mean.size] = mean
        score[level, : mean.size] = statistic
    return np.stack([community for community, _, _ in found]), strength, score


def _detect(
    graph: MotifGraph, rules: _Rules, restarts: int, rng: np.random.Generator
) -> _Detection:
    n = graph.nodes.size
    if n < MIN_NODES or not graph.weight.any():
        labels, community = np.zeros(n, np.int64), np.full((1, n), BACKGROUND)
        objective = sbm.partition_objective(graph.blocks, labels) if n else 0.0
        empty = np.full((1, 1), np.nan)
        return _Detection(labels, float(objective), community, empty, empty)
    labels, objective = _best_candidate(graph, rules, restarts, rng)
    return _Detection(labels, objective, *_levels(graph, labels, rules.min_size))


def _largest(score: Floats) -> float:
    return float(np.nanmax(score)) if np.isfinite(score).any() else 0.0


def community_sets(
    adjacency: Floats,
    *,
    weights: Weights = "exponential",
    k_max: int = 10,
    min_size: int = 3,
    partition: Partition | None = None,
    rng: np.random.Generator,
) -> list[Ints]:
    """Return the members of every community of every level of a null graph, from one start.

    Parameters
    ----------
    adjacency : ndarray (n_nodes, n_nodes)
        Null graph, for instance of circularly shifted traces; NaN where unobserved.
    weights, k_max, min_size, partition
        As in `detect_communities`.
    rng : numpy.random.Generator
        Source of the start.

    Returns
    -------
    list of ndarray of int64
        Positions in increasing order; a set that several levels have is listed once.
    """
    graph = motif_graph(checked(adjacency), weights)
    found = _detect(graph, _Rules(weights, k_max, min_size, partition), 1, rng).community
    sets = {
        tuple(sorted(graph.nodes[level == label].tolist()))
        for level in found
        for label in np.unique(level[level >= 0])
    }
    return [np.array(members, dtype=np.int64) for members in sorted(sets)]


def _check_settings(weights: str, significance: str, counts: dict[str, int]) -> None:
    if weights not in MODELS:
        raise ValueError(f"weights {weights!r}: expected one of {', '.join(MODELS)}")
    if significance not in ("none", "permute"):
        raise ValueError(f"significance {significance!r}: expected none or permute")
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} = {value}: expected 1 or more")


def detect_communities(
    adjacency: Floats,
    *,
    weights: Weights = "exponential",
    k_max: int = 10,
    restarts: int = 4,
    min_size: int = 3,
    null_draws: int = 200,
    significance: Literal["none", "permute"] = "permute",
    samples: int = 0,
    partition: Partition | None = None,
    rng: np.random.Generator,
) -> Communities:
    """Find the communities of a weighted graph, and the background they stand out of.

    Parameters
    ----------
    adjacency : ndarray (n_nodes, n_nodes)
        Symmetric weights >= 0; NaN = pair not observed; the diagonal is ignored.
    weights : {"exponential", "normal"}
        Distribution of the weights of a block pair; ``normal`` is of their square roots.
    k_max : int
        Largest number of blocks.
    restarts : int
        Starts of the search: k-means on the leading eigenvectors, then random ones.
    min_size : int
        Fewest nodes of a community.
    null_draws : int
        Null graphs, each searched from one start.
    significance : {"permute", "none"}
        Null graphs: observed weights in random places, or no test.
    samples : int
        Partitions drawn from the posterior of the block model for `Communities.coassignment`.
    partition : callable, optional
        Another way to partition: ``(adjacency, k_max, starts, rng) -> labels (n_candidates,
        n_nodes)``, adjacency with NaN where unobserved. The candidate of least description length
        is kept. Not given: search of the block model (module `sbm`).
    rng : numpy.random.Generator
        Source of all random numbers.

    Returns
    -------
    Communities
        Reordering the nodes of the input reorders the result and changes nothing else.

    Raises
    ------
    ValueError
        If the matrix is not square, symmetric and non-negative, or a setting is unknown.

    Notes
    -----
    A block is a community if it has `min_size` nodes and its mean internal weight exceeds the
    median weight by more than 0.4 times what the strongest block does. Its p value compares its
    score with the largest one, over all communities and levels, of each null graph: it is
    family-wise within the graph. The score, not the strength, is compared because the largest
    mean weight of a null graph belongs to its smallest blocks and hangs on the tail of the
    weights: against means, a community of ten nodes loses to the best triple of noise.

    Examples
    --------
    >>> graph = np.full((8, 8), 0.1)
    >>> graph[:4, :4] = 2.0
    >>> found = detect_communities(graph, null_draws=20, rng=np.random.default_rng(0))
    >>> found.community[0].tolist()
    [0, 0, 0, 0, -1, -1, -1, -1]
    """
    counts = {"k_max": k_max, "restarts": restarts, "min_size": min_size}
    _check_settings(weights, significance, counts)
    matrix = checked(adjacency)
    graph = motif_graph(matrix, weights)
    rules = _Rules(weights, k_max, min_size, partition)
    detection = _detect(graph, rules, restarts, rng)
    pvalue = np.full(detection.score.shape, np.nan)
    if significance == "permute" and np.isfinite(detection.score).any():
        null = np.empty(null_draws)
        for draw in range(null_draws):
            shuffled = motif_graph(permute_weights(graph.adjacency, rng), weights)
            null[draw] = _largest(_detect(shuffled, rules, 1, rng).score)
        pvalue = familywise_pvalue(detection.score, null)
    community = np.full((len(detection.community), len(matrix)), UNOBSERVED)
    community[:, graph.nodes] = detection.community
    block = np.full(len(matrix), UNOBSERVED)
    block[graph.nodes] = detection.labels
    return Communities(
        community,
        detection.strength,
        detection.score,
        pvalue,
        block,
        -detection.objective,
        _sampled(graph, detection.labels, k_max, samples, len(matrix), rng) if samples else None,
    )


def _sampled(
    graph: MotifGraph,
    labels: Ints,
    k_max: int,
    samples: int,
    n_nodes: int,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Return the co-assignment of all nodes, NaN for those without an observed pair."""
    out = np.full((n_nodes, n_nodes), np.nan, dtype=np.float32)
    if labels.size < 2:
        return out
    # Far more slots than the search uses: the bound then costs no posterior worth mentioning.
    n_slots = min(labels.size, max(SLOTS * k_max, labels.max() + 1))
    drawn = sample_partitions(
        graph.blocks, labels, n_slots, samples=samples, discard=max(samples // 4, 20), rng=rng
    )
    out[np.ix_(graph.nodes, graph.nodes)] = coassignment(drawn)
    return out
