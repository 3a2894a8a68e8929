"""Results along time: what analyses of one session give to be drawn on one axis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Course", "absolute_times", "joined", "on_grid", "share_explained"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Course:
    """States or trajectories of one result on the clock of the session.

    Attributes
    ----------
    title : str
        What it is, such as ``States``.
    time : ndarray, shape (n_times,)
        Seconds, increasing.
    values : ndarray, shape (n_rows, n_times)
        Trajectories, NaN where unknown; or one row of states from 0, -1 where unknown.
    rows : tuple of str
        Names of the rows.
    discrete : bool
        Whether the values are states.
    """

    title: str
    time: Floats
    values: NDArray[np.float64] | Ints
    rows: tuple[str, ...]
    discrete: bool = False

    @property
    def step(self) -> float:
        """Median distance of two samples, seconds."""
        return float(np.median(np.diff(self.time))) if self.time.size > 1 else 1.0


def absolute_times(onset: Floats, time: Floats) -> Floats:
    """Return the times of all trials one after the other, ``(n_trials * n_times,)``."""
    return (np.asarray(onset, dtype=float)[:, None] + np.asarray(time, dtype=float)).ravel()


def joined(title: str, time: Floats, values: Floats | Ints, rows: tuple[str, ...],
           *, discrete: bool = False) -> Course | None:  # fmt: skip
    """Return a course in the order of time, without samples that nothing is known of.

    Parameters
    ----------
    title, rows, discrete
        As of `Course`.
    time : ndarray, shape (n_times,)
        In any order; of equal times the first counts.
    values : ndarray, shape (n_rows, n_times)
    """
    known = (values >= 0).all(axis=0) if discrete else np.isfinite(values).any(axis=0)
    kept, first = np.unique(time[known], return_index=True)
    if kept.size < 2:
        return None
    return Course(title, kept, values[:, known][:, first], rows, discrete)


def on_grid(course: Course, grid: Floats) -> Floats | Ints:
    """Return the values at the times of a grid: the nearest sample, none beyond 1.5 steps.

    Parameters
    ----------
    course : Course
    grid : ndarray, shape (n_grid,)
        Seconds.
    """
    place = np.clip(np.searchsorted(course.time, grid), 1, course.time.size - 1)
    place -= grid - course.time[place - 1] < course.time[place] - grid
    far = np.abs(course.time[place] - grid) > 1.5 * max(course.step, float(np.diff(grid).min()))
    values = course.values[:, place].copy()
    values[:, far] = -1 if course.discrete else np.nan
    return values


def share_explained(states: Ints, values: Floats) -> float:
    """Return the share of the variance of a trajectory that lies between states.

    Parameters
    ----------
    states : ndarray of int, shape (n_times,)
        -1 where unknown.
    values : ndarray, shape (n_times,)
        NaN where unknown.

    Examples
    --------
    >>> share_explained(np.array([0, 0, 1, 1]), np.array([1.0, 1.0, 3.0, 3.0]))
    1.0
    """
    known = (states >= 0) & np.isfinite(values)
    label, value = states[known], values[known]
    if value.size < 2 or value.var() == 0:
        return float("nan")
    count = np.bincount(label)
    mean = np.bincount(label, weights=value) / np.maximum(count, 1)
    between = (count * (mean - value.mean()) ** 2).sum() / value.size
    return float(between / value.var())
