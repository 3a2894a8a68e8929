"""Ways to partition a motif graph, by name; all end in the same background rule and test.

Libraries of graphs and of machine learning are imported here, inside the functions that need them:
the kernels stay array code, and an optional package is asked for only when its method is chosen.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from neuropipe.analyses.ntf.kernels import communities
from neuropipe.analyses.ntf.kernels.community_result import Communities
from neuropipe.analyses.ntf.kernels.motif_graph import Weights
from neuropipe.errors import MissingDependency

__all__ = ["BACKENDS", "detect_communities", "partition_function"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SEEDS = 2**31 - 1
FLOOR = 1e-6  # share of the mean weight below which a weight counts as that


class _Rules(NamedTuple):
    """What only some of the backends ask for; `detect_communities` says of which each is."""

    weights: Weights
    resolution: float


def _required(module: str, backend: str, remedy: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependency(
            f"communities.backend: {backend!r} needs the package {module!r}, which is not "
            f"installed ({error}). {remedy}, or choose `communities.backend: wsbm`, which needs "
            "nothing more"
        ) from error


def _filled(adjacency: Floats) -> Floats:
    """Return the weights in units of their mean, the mean where unobserved, 0 on the diagonal."""
    mean = np.nanmean(adjacency)
    filled = np.nan_to_num(adjacency / mean, nan=1.0)
    filled = np.maximum(filled, FLOOR)
    np.fill_diagonal(filled, 0.0)
    return filled


def _leiden(adjacency: Floats, k_max: int, starts: int, rng: Generator, rules: _Rules) -> Ints:
    """Return the partition of the highest modularity of several starts (Traag et al. 2019)."""
    igraph = _required("igraph", "leiden", "Install the extra: pip install 'neuropipe[graph]'")
    leidenalg = _required(
        "leidenalg", "leiden", "Install the extra: pip install 'neuropipe[graph]'"
    )
    first, second = np.nonzero(np.triu(np.isfinite(adjacency), 1))
    graph = igraph.Graph(n=len(adjacency), edges=np.column_stack((first, second)).tolist())
    found = [
        leidenalg.find_partition(
            graph,
            leidenalg.RBConfigurationVertexPartition,
            weights=adjacency[first, second].tolist(),
            resolution_parameter=rules.resolution,
            n_iterations=-1,
            seed=int(rng.integers(SEEDS)),
        )
        for _ in range(starts)
    ]
    best = max(found, key=lambda one: one.quality())
    return np.array(best.membership, dtype=np.int64)[None]


def _spectral(adjacency: Floats, k_max: int, starts: int, rng: Generator, rules: _Rules) -> Ints:
    """Return partitions into 1, 2, ... `k_max` clusters of the normalised-Laplacian embedding."""
    from sklearn.cluster import k_means
    from sklearn.manifold import spectral_embedding

    n = len(adjacency)
    seed = int(rng.integers(SEEDS))
    candidates = [np.zeros(n, dtype=np.int64)]
    most = min(k_max, n - 2)
    if most >= 2:
        embedding = spectral_embedding(
            _filled(adjacency), n_components=most, random_state=seed, drop_first=False
        )
        candidates += [
            k_means(embedding[:, :k], k, n_init=starts, random_state=seed)[1].astype(np.int64)
            for k in range(2, most + 1)
        ]
    return np.stack(candidates)


def _graph_tool(adjacency: Floats, k_max: int, starts: int, rng: Generator, rules: _Rules) -> Ints:
    """Return the finest level of the nested block model of least description length."""
    remedy = "It comes with conda only: conda install -c conda-forge graph-tool"
    graph_tool = _required("graph_tool", "graph_tool", remedy)
    inference = _required("graph_tool.inference", "graph_tool", remedy)
    graph_tool.seed_rng(int(rng.integers(SEEDS)))
    first, second = np.nonzero(np.triu(np.isfinite(adjacency), 1))
    values = np.maximum(adjacency[first, second] / np.nanmean(adjacency), FLOOR)
    if rules.weights == "normal":
        values = np.sqrt(values)
    graph = graph_tool.Graph(directed=False)
    graph.add_vertex(len(adjacency))
    graph.add_edge_list(np.column_stack((first, second)))
    weight = graph.new_edge_property("double", values)
    kind = f"real-{rules.weights}"
    states = [
        inference.minimize_nested_blockmodel_dl(
            graph,
            state_args={"recs": [weight], "rec_types": [kind], "deg_corr": corrected},
        )
        for corrected in (False, True)
        for _ in range(starts)
    ]
    best = min(states, key=lambda state: state.entropy())
    return np.asarray(best.get_bs()[0], dtype=np.int64)[None, : len(adjacency)]


BACKENDS: dict[str, Callable[..., Ints] | None] = {
    "wsbm": None,
    "leiden": _leiden,
    "spectral": _spectral,
    "graph_tool": _graph_tool,
}


def partition_function(
    backend: str, *, weights: Weights = "exponential", resolution: float = 1.0
) -> communities.Partition | None:
    """Return how a backend partitions a graph; None is the search of our own block model.

    Raises
    ------
    ValueError
        If there is no backend of that name.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend {backend!r} is not known; known: {', '.join(BACKENDS)}")
    function = BACKENDS[backend]
    if function is None:
        return None
    return partial(function, rules=_Rules(weights, resolution))


def detect_communities(
    adjacency: Floats,
    *,
    backend: str = "wsbm",
    weights: Weights = "exponential",
    resolution: float = 1.0,
    k_max: int = 10,
    restarts: int = 4,
    min_size: int = 3,
    null_draws: int = 200,
    significance: Literal["none", "permute"] = "permute",
    samples: int = 0,
    rng: Generator,
) -> Communities:
    """Find the communities of any weighted graph, and the background they stand out of.

    Parameters
    ----------
    adjacency : ndarray (n_nodes, n_nodes)
        Symmetric weights >= 0; NaN = pair not observed; the diagonal is ignored.
    backend : {"wsbm", "leiden", "spectral", "graph_tool"}
        Dense weighted block model (own); modularity (leidenalg); clusters of the Laplacian
        embedding, their number by the description length of the block model (scikit-learn); nested
        weighted block model, degree-corrected or not (graph-tool).
    weights : {"exponential", "normal"}
        Distribution of the weights of a block pair; ``normal`` is of their square roots.
    resolution : float
        Of ``leiden``: larger finds smaller communities.
    k_max : int
        Largest number of blocks (not of ``leiden`` and ``graph_tool``).
    restarts, min_size, null_draws, significance, samples, rng
        As in `neuropipe.analyses.ntf.kernels.communities.detect_communities`.

    Returns
    -------
    Communities
        Of the same form for every backend. Coarser levels merge blocks by the own block model,
        and `coassignment` is of its posterior.

    Raises
    ------
    MissingDependency
        If the backend's package is not installed.
    ValueError
        If the matrix is not square, symmetric and non-negative, or a setting is unknown.

    Examples
    --------
    >>> graph = np.full((8, 8), 0.1)
    >>> graph[:4, :4] = 2.0
    >>> rng = np.random.default_rng(0)
    >>> detect_communities(graph, backend="spectral", null_draws=20, rng=rng).community[0].tolist()
    [0, 0, 0, 0, -1, -1, -1, -1]
    """
    return communities.detect_communities(
        adjacency,
        weights=weights,
        k_max=k_max,
        restarts=restarts,
        min_size=min_size,
        null_draws=null_draws,
        significance=significance,
        samples=samples,
        partition=partition_function(backend, weights=weights, resolution=resolution),
        rng=rng,
    )
