"""Significance of communities against graphs of shifted traces.

Busy neurons have large weights with everybody, also in shifted traces. So the weights of a pair are
compared with those of the same pair: for pair (i, j) of component r let a_0 be the observed weight
(its square root: weights are skewed) and a_1 ... a_D those of the shifted traces, m and s their
mean and standard deviation over all D + 1. The score of a set S of neurons in graph d is
``sum_{i<j in S} (a_d,ij - m_ij) / s_ij / sqrt(number of pairs)``. Communities are detected in every
graph in the same way, and a community's p value compares its score with the largest score of each
shifted graph. All D + 1 graphs enter m and s alike: were the observed traces shifted ones, their
score would have any rank with the same probability.

Moments over the draws of one component lose a structure that all components of shifted traces
share, those over all components one that a single component has; the larger p counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["ShiftTest"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class _Set:
    """A set of neurons in the graph of one component, with the weights inside."""

    component: int
    members: Ints
    inside: Floats


@dataclass
class ShiftTest:
    """Gathers graphs of shifted traces one by one, and keeps what is inside their communities.

    Parameters
    ----------
    observed : ndarray (n_components, n_nodes, n_nodes)
        Graphs found, NaN where unobserved, in units that compare between draws.
    """

    observed: Floats
    draws: list[list[_Set]] = field(default_factory=list)

    def __post_init__(self) -> None:
        root = np.sqrt(self.observed)
        self._sum = np.nan_to_num(root)
        self._square = self._sum**2
        self._count = 1

    def add(self, graphs: Floats, sets: Sequence[Sequence[Ints]]) -> None:
        """Add the graphs of one draw.

        Parameters
        ----------
        graphs : ndarray (n_components, n_nodes, n_nodes)
            Graphs of shifted traces, NaN where unobserved.
        sets : sequence of sequences of ndarray
            Communities detected in each of them.
        """
        root = np.sqrt(graphs)
        known = np.nan_to_num(root)
        self._sum += known
        self._square += known**2
        self._count += 1
        self.draws.append(
            [
                _Set(component, members, root[component][np.ix_(members, members)])
                for component, found in enumerate(sets)
                for members in found
            ]
        )

    def _moments(self) -> list[tuple[Floats, Floats]]:
        """Return mean and SD per pair: of each component, and of all together."""
        mean, square = self._sum / self._count, self._square / self._count
        pooled_mean = np.broadcast_to(mean.mean(axis=0), mean.shape)
        pooled_square = np.broadcast_to(square.mean(axis=0), mean.shape)
        return [
            (center, _positive(np.sqrt(np.maximum(second - center**2, 0.0))))
            for center, second in ((mean, square), (pooled_mean, pooled_square))
        ]

    def pvalues(self, sets: Sequence[tuple[int, Ints]]) -> Floats:
        """Return the p value of communities of the observed graphs.

        Parameters
        ----------
        sets : sequence of (component, members)
            Communities of the observed graphs.

        Returns
        -------
        ndarray (n_sets,)
            ``(1 + #{largest null score >= score}) / (1 + draws)``, family-wise over components.
        """
        root = np.sqrt(self.observed)
        found = [_Set(r, one, root[r][np.ix_(one, one)]) for r, one in sets]
        pvalue = np.zeros(len(found))
        for mean, deviation in self._moments():
            largest = np.array(
                [max((_score(s, mean, deviation) for s in one), default=0.0) for one in self.draws]
            )
            score = np.array([_score(one, mean, deviation) for one in found])
            reached = largest >= score[:, None] - 1e-9 * np.abs(score[:, None])
            pvalue = np.maximum(pvalue, (1 + reached.sum(axis=1)) / (1 + largest.size))
        return pvalue


def _positive(deviation: Floats) -> Floats:
    """Replace deviations of 0 by the mean one: such a pair then weighs little."""
    used = deviation[deviation > 0]
    return np.where(deviation > 0, deviation, used.mean() if used.size else 1.0)


def _score(one: _Set, mean: Floats, deviation: Floats) -> float:
    place = np.ix_(one.members, one.members)
    z = (one.inside - mean[one.component][place]) / deviation[one.component][place]
    z = z[np.triu_indices(one.members.size, 1)]
    z = z[np.isfinite(z)]
    return float(z.sum() / np.sqrt(z.size)) if z.size else 0.0
