"""What community detection returns, and how the results of several graphs are put together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Communities", "stack_communities"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Communities:
    """Communities of one weighted graph.

    Attributes
    ----------
    community : ndarray of int64 (n_levels, n_nodes)
        Community of each node; -1 background, -2 no observed pair. Level 0 is the best partition,
        each further level merges two blocks of the one before. Communities are numbered by
        falling strength, level by level.
    strength : ndarray (n_levels, n_ids)
        Mean weight of the observed pairs inside; NaN where a level has no community of that
        number. There is always one column.
    score : ndarray (n_levels, n_ids)
        Statistic of the test: mean rank of the weights inside, in standard deviations of the mean
        of as many ranks of the graph drawn without replacement (Mann-Whitney z).
    pvalue : ndarray (n_levels, n_ids)
        Family-wise p of the score; NaN when not asked for.
    block : ndarray of int64 (n_nodes,)
        Best partition before the background rule; -2 no observed pair.
    description_length : float
        Minus the objective of `block`, in nats, for weights scaled to mean 1 (exponential) or
        standardised square roots (normal).
    coassignment : ndarray of float32 (n_nodes, n_nodes), optional
        Posterior probability of the block model that two nodes are in one block; NaN for nodes
        without an observed pair. None if no partitions were drawn.
    """

    community: Ints
    strength: Floats
    score: Floats
    pvalue: Floats
    block: Ints
    description_length: float
    coassignment: NDArray[np.float32] | None = None


def stack_communities(found: list[Communities]) -> dict[str, NDArray[Any]]:
    """Return the communities of several graphs over the same nodes as rectangular arrays.

    Parameters
    ----------
    found : list of Communities
        One per graph.

    Returns
    -------
    dict
        ``community`` int64 (graph, level, node), ``strength``, ``score`` and ``pvalue``
        (graph, level, id),
        ``block`` (graph, node), ``description_length`` (graph,) and, if partitions were drawn,
        ``coassignment`` (graph, node, node). A graph with fewer levels repeats its coarsest one.
    """
    levels = max(len(one.community) for one in found)
    ids = max(one.strength.shape[1] for one in found)

    def padded(values: NDArray[Any], width: int) -> NDArray[Any]:
        rows = np.concatenate([values, np.repeat(values[-1:], levels - len(values), axis=0)])
        gap = ((0, 0), (0, width - rows.shape[1]))
        return np.pad(rows, gap, constant_values=np.nan) if gap[1][1] else rows

    drawn = [one.coassignment for one in found if one.coassignment is not None]
    stacked: dict[str, NDArray[Any]] = {
        "community": np.stack([padded(one.community, one.community.shape[1]) for one in found]),
        "strength": np.stack([padded(one.strength, ids) for one in found]),
        "score": np.stack([padded(one.score, ids) for one in found]),
        "pvalue": np.stack([padded(one.pvalue, ids) for one in found]),
        "block": np.stack([one.block for one in found]),
        "description_length": np.array([one.description_length for one in found]),
    }
    return {**stacked, "coassignment": np.stack(drawn)} if drawn else stacked
