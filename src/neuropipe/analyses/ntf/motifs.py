"""What a result says of each motif, in the form that figures, table and text share."""

from __future__ import annotations

import string
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "Community",
    "Motif",
    "community_name",
    "list_motifs",
    "match_groups",
    "ordered_dims",
    "text_values",
]


DIMS = (
    "rank",
    "component",
    "level",
    "community_id",
    "kind",
    "wiring_quantile",
    "interval",
    "bound",
    "restart",
    "restart_2",
    "iteration",
    "fold",
    "subject",
    "neuron",
    "neuron_2",
    "time_bin",
    "time",
)


@dataclass(frozen=True)
class Community:
    """One community of one motif at the finest level.

    Attributes
    ----------
    name : str
        Number of the motif and a letter, such as ``2b``.
    label : int
        Its number in the result, along ``community_id``.
    members : ndarray of int64 (n_members,)
        Positions of its neurons.
    strength, pvalue : float
        Mean internal weight and family-wise p, NaN if not tested.
    """

    name: str
    label: int
    members: NDArray[np.int64]
    strength: float
    pvalue: float


@dataclass(frozen=True)
class Motif:
    """One component of the factorisation; numbered from 1 in everything that people read.

    Attributes
    ----------
    number : int
        Position in the result plus 1.
    communities : tuple of Community
        By falling strength.
    background : ndarray of int64 (n_neurons,)
        Positions of observed neurons in no community.
    intervals : ndarray (n_intervals, 2)
        Active intervals, start and stop in seconds.
    subjects : ndarray of int64 (n_subjects,)
        Positions of the subjects by falling weight.
    """

    number: int
    communities: tuple[Community, ...]
    background: NDArray[np.int64]
    intervals: NDArray[np.float64]
    subjects: NDArray[np.int64]

    @property
    def active_s(self) -> float:
        """Total length of the active intervals in seconds."""
        return float(np.diff(self.intervals, axis=1).sum())

    @property
    def order(self) -> NDArray[np.int64]:
        """Positions of the observed neurons, community by community, background last."""
        return np.concatenate([*(one.members for one in self.communities), self.background])


def community_name(motif: int, position: int) -> str:
    """Return the name of a community: ``1a``, ``1b``, ..., ``1z``, ``1aa``.

    Examples
    --------
    >>> community_name(3, 1)
    '3b'
    """
    letters = ""
    position += 1
    while position:
        position, rest = divmod(position - 1, 26)
        letters = string.ascii_lowercase[rest] + letters
    return f"{motif}{letters}"


def text_values(values: xr.DataArray) -> list[str]:
    """Return the values of a coordinate as plain strings."""
    return [str(value) for value in values.values]


def _by_weight(members: NDArray[np.int64], adjacency: NDArray) -> NDArray[np.int64]:
    """Return members by falling summed weight to the others."""
    inside = np.nan_to_num(adjacency[np.ix_(members, members)])
    np.fill_diagonal(inside, 0.0)
    return members[np.argsort(-inside.sum(axis=1), kind="stable")]


def _communities(result: xr.Dataset, component: int, labels: NDArray) -> Iterator[Community]:
    adjacency = result["component_adjacency"].values[component]
    strength = result["community_strength"].values[component, 0]
    pvalue = np.full(strength.shape, np.nan)
    if "community_pvalue" in result:
        pvalue = result["community_pvalue"].values[component, 0]
    for position, label in enumerate(sorted({*labels[labels >= 0].tolist()})):
        members = _by_weight(np.flatnonzero(labels == label), adjacency)
        name = community_name(component + 1, position)
        yield Community(name, int(label), members, float(strength[label]), float(pvalue[label]))


def ordered_dims(result: xr.Dataset) -> xr.Dataset:
    """Return the result with its dims in the order of the specification."""
    return result.transpose(*DIMS, ..., missing_dims="ignore")


def list_motifs(result: xr.Dataset) -> list[Motif]:
    """Return the motifs of a result in its order.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis; dims may be in any order.
    """
    result = ordered_dims(result)
    motifs = []
    for component in range(result.sizes["component"]):
        labels = result["community"].values[component, 0]
        intervals = result["active_interval"].values[component]
        weight = np.nan_to_num(result["subject_factor"].values[component], nan=-np.inf)
        motifs.append(
            Motif(
                number=component + 1,
                communities=tuple(_communities(result, component, labels)),
                background=np.flatnonzero(labels == -1),
                intervals=intervals[np.isfinite(intervals).all(axis=1)],
                subjects=np.argsort(-weight, kind="stable"),
            )
        )
    return motifs


def match_groups(motifs: list[Motif], least: float = 0.5) -> dict[str, int]:
    """Give communities of different motifs the same group where they share their neurons.

    Labels of communities are arbitrary between motifs, so that the same colour must come from the
    same neurons.

    Parameters
    ----------
    motifs : list of Motif
        In the order in which groups are given out.
    least : float
        Smallest overlap (intersection over union) with the first community of a group.

    Returns
    -------
    dict
        Community name -> group number from 0; within a motif all groups differ.
    """
    groups: list[set[int]] = []
    out: dict[str, int] = {}
    for motif in motifs:
        taken: set[int] = set()
        for community in motif.communities:
            members = set(community.members.tolist())
            overlap = [
                len(members & group) / len(members | group) if number not in taken else 0.0
                for number, group in enumerate(groups)
            ]
            best = int(np.argmax(overlap)) if overlap else 0
            if not overlap or overlap[best] < least:
                best = len(groups)
                groups.append(members)
            taken.add(best)
            out[community.name] = best
    return out
