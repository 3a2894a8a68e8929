"""Communities of one motif graph: search, hierarchy, background rule and significance.

The block model itself is in `sbm`. Here is what turns its best partition into communities:
which blocks stand out of the background, which coarser levels they form, and how often exchangeable
weights give a community as strong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import ClusterError, kmeans2
from scipy.linalg import eigh
from scipy.stats import rankdata

from neuropipe.analyses.ntf.kernels import sbm
from neuropipe.analyses.ntf.kernels.community_nulls import familywise_pvalue, permute_weights
from neuropipe.analyses.ntf.kernels.community_result import Communities

__all__ = [
    "BACKENDS",
    "BACKGROUND",
    "UNOBSERVED",
    "Communities",
    "detect_communities",
    "largest_score",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Weights = Literal["exponential", "normal"]

BACKENDS = ("wsbm",)
BACKGROUND, UNOBSERVED = -1, -2
MODELS = {"exponential": sbm.EXPONENTIAL, "normal": sbm.NORMAL}
MIN_NODES = 3
N_ORDERS = 8
STANDOUT = 0.4  # share of the strongest block's excess that makes a block a community


@dataclass(frozen=True)
class _Graph:
    """Graph of the observed nodes, in an order that does not depend on the input's order."""

    adjacency: Floats
    rank_z: Floats
    nodes: Ints
    blocks: sbm.WeightedGraph

    @property
    def weight(self) -> Floats:
        return self.blocks.weight

    @property
    def observed(self) -> Ints:
        return self.blocks.observed


@dataclass(frozen=True)
class _Detection:
    labels: Ints
    objective: float
    community: Ints
    strength: Floats
    score: Floats


def _checked(adjacency: Floats) -> Floats:
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


def _graph(matrix: Floats, weights: Weights) -> _Graph:
    model = MODELS[weights]
    seen = np.flatnonzero(np.isfinite(matrix).any(axis=1))
    matrix = matrix[np.ix_(seen, seen)]
    order = _canonical_order(matrix)
    matrix = np.ascontiguousarray(matrix[np.ix_(order, order)])
    return _Graph(
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


def _spectral_start(graph: _Graph, n_blocks: int, rng: np.random.Generator) -> Ints:
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


def _search(
    graph: _Graph, k_max: int, restarts: int, rng: np.random.Generator
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
    return np.unique(best, return_inverse=True)[1].astype(np.int64), float(objective)


def _standing_out(labels: Ints, graph: _Graph, min_size: int) -> tuple[Ints, Floats, Floats]:
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


def _levels(graph: _Graph, labels: Ints, min_size: int) -> tuple[Ints, Floats, Floats]:
    """Return communities, strengths and scores of the best partition and of its merges."""
    nested = sbm.merge_sequence(graph.blocks, labels)
    found = [
        _standing_out(np.unique(level, return_inverse=True)[1], graph, min_size) for level in nested
    ]
    shape = (len(found), max(1, *(mean.size for _, mean, _ in found)))
    strength, score = np.full(shape, np.nan), np.full(shape, np.nan)
    for level, (_, mean, statistic) in enumerate(found):
        strength[level, : mean.size] = mean
        score[level, : mean.size] = statistic
    return np.stack([community for community, _, _ in found]), strength, score


def _detect(
    graph: _Graph, k_max: int, restarts: int, min_size: int, rng: np.random.Generator
) -> _Detection:
    n = graph.nodes.size
    if n < MIN_NODES or not graph.weight.any():
        labels, community = np.zeros(n, np.int64), np.full((1, n), BACKGROUND)
        objective = sbm.partition_objective(graph.blocks, labels) if n else 0.0
        empty = np.full((1, 1), np.nan)
        return _Detection(labels, float(objective), community, empty, empty)
    labels, objective = _search(graph, k_max, restarts, rng)
    return _Detection(labels, objective, *_levels(graph, labels, min_size))


def _largest(score: Floats) -> float:
    return float(np.nanmax(score)) if np.isfinite(score).any() else 0.0


def largest_score(
    adjacency: Floats,
    *,
    weights: Weights = "exponential",
    k_max: int = 10,
    min_size: int = 3,
    rng: np.random.Generator,
) -> float:
    """Return the statistic of one null graph: the largest score found from one start.

    Parameters
    ----------
    adjacency : ndarray (n_nodes, n_nodes)
        Null graph, for instance of circularly shifted traces; NaN where unobserved.
    weights, k_max, min_size
        As in `detect_communities`.
    rng : numpy.random.Generator
        Source of the start.

    Returns
    -------
    float
        Largest `Communities.score` over communities and levels; 0 without a community.
    """
    graph = _graph(_checked(adjacency), weights)
    return _largest(_detect(graph, k_max, 1, min_size, rng).score)


def _check_settings(backend: str, weights: str, significance: str, counts: dict[str, int]) -> None:
    if backend not in BACKENDS:
        raise ValueError(f"backend {backend!r} is not available; available: {', '.join(BACKENDS)}")
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
    backend: str = "wsbm",
    weights: Weights = "exponential",
    k_max: int = 10,
    restarts: int = 4,
    min_size: int = 3,
    null_draws: int = 200,
    significance: Literal["none", "permute"] = "permute",
    rng: np.random.Generator,
) -> Communities:
    """Find the communities of a weighted graph, and the background they stand out of.

    Parameters
    ----------
    adjacency : ndarray (n_nodes, n_nodes)
        Symmetric weights >= 0; NaN = pair not observed; the diagonal is ignored.
    backend : {"wsbm"}
        Dense weighted stochastic block model (module `sbm`).
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
    _check_settings(backend, weights, significance, counts)
    matrix = _checked(adjacency)
    graph = _graph(matrix, weights)
    detection = _detect(graph, k_max, restarts, min_size, rng)
    pvalue = np.full(detection.score.shape, np.nan)
    if significance == "permute" and np.isfinite(detection.score).any():
        null = np.empty(null_draws)
        for draw in range(null_draws):
            shuffled = _graph(permute_weights(graph.adjacency, rng), weights)
            null[draw] = _largest(_detect(shuffled, k_max, 1, min_size, rng).score)
        pvalue = familywise_pvalue(detection.score, null)
    community = np.full((len(detection.community), len(matrix)), UNOBSERVED)
    community[:, graph.nodes] = detection.community
    block = np.full(len(matrix), UNOBSERVED)
    block[graph.nodes] = detection.labels
    return Communities(
        community, detection.strength, detection.score, pvalue, block, -detection.objective
    )
