"""Patterns of one subject: responses per run and condition, and the noise around them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

__all__ = ["ONE_REGION", "RegionPatterns", "SubjectPatterns", "stratified_folds"]

ONE_REGION = "all"


@dataclass(frozen=True)
class RegionPatterns:
    """Responses of the channels of one region.

    Attributes
    ----------
    values : numpy.ndarray
        ``(n_runs, n_conditions, n_channels[, n_times])``; NaN where a run has no such condition.
    residuals : tuple of numpy.ndarray
        Noise samples of each run, ``(n_samples, n_channels)``; without rows if there are none.
    dof : int
        Degrees of freedom of all noise samples.
    names : numpy.ndarray
        Text per channel.
    places : numpy.ndarray
        x, y, z of each channel, mm (fMRI) or as the store has them, NaN if unknown,
        ``(n_channels, 3)``.
    structure, vertex : numpy.ndarray or None
        Surface and number of the vertex that a channel is, "" and -1 for one that is none.
    """

    values: np.ndarray
    residuals: tuple[np.ndarray, ...]
    dof: int
    names: np.ndarray
    places: np.ndarray
    structure: np.ndarray | None = None
    vertex: np.ndarray | None = None


@dataclass(frozen=True)
class SubjectPatterns:
    """All regions of one subject.

    Attributes
    ----------
    subject : str
    runs : tuple of str
        Scanner runs, or folds of trials.
    regions : mapping
        Name -> patterns.
    counts : numpy.ndarray
        Events per run and condition, ``(n_runs, n_conditions)``.
    recordings : tuple of str
        Names of the recordings.
    units : str
        Of the patterns.
    row : str
        What a channel is: channel, voxel, unit, ...
    time : numpy.ndarray or None
        Seconds after the event, where patterns keep time.
    grid : mapping
        ``affine`` and ``volume_shape`` of the volume that voxels lie in; empty for other rows.
    """

    subject: str
    runs: tuple[str, ...]
    regions: Mapping[str, RegionPatterns]
    counts: np.ndarray
    recordings: tuple[str, ...]
    units: str
    row: str
    time: np.ndarray | None = field(default=None)
    grid: Mapping[str, list[float]] = field(default_factory=dict)


def stratified_folds(conditions: np.ndarray, folds: int, rng: np.random.Generator) -> np.ndarray:
    """Deal trials into folds so that every condition is spread evenly over them.

    Parameters
    ----------
    conditions : numpy.ndarray
        Number of the condition of each trial, ``(n_trials,)``.
    folds : int
        Number of folds.
    rng : numpy.random.Generator
        Decides which trial goes where; the sizes do not depend on it.

    Returns
    -------
    numpy.ndarray
        Fold of each trial, ``(n_trials,)``. The counts of a condition differ by at most one
        between folds, and so do those of all trials.

    Examples
    --------
    >>> folds = stratified_folds(np.repeat([0, 1], [4, 6]), 5, np.random.default_rng(0))
    >>> np.bincount(folds).tolist()
    [2, 2, 2, 2, 2]
    """
    found = np.empty(len(conditions), dtype=np.int64)
    dealt = 0
    for condition in np.unique(conditions):
        own = rng.permutation(np.flatnonzero(conditions == condition))
        # The next condition goes on where the last one stopped.
        found[own] = (dealt + np.arange(len(own))) % folds
        dealt += len(own)
    return found
