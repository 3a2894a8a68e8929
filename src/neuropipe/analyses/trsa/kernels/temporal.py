"""RDMs over time: windows, generalisation from time to time, latencies."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.trsa.kernels.compare import compare

__all__ = ["cross_temporal", "onset", "peak_interval", "windowed", "windows"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
SLACK = 1e-9


def windows(time: Floats, window_s: float, step_s: float) -> tuple[list[slice], Floats]:
    """Return the samples of each window and the centres of the windows.

    Parameters
    ----------
    time : ndarray, shape (n_times,)
        Seconds, increasing.
    window_s, step_s : float
        Width and step; windows lie wholly within the samples, the first begins at the first.
    """
    spacing = float(np.median(np.diff(time))) if time.size > 1 else window_s
    width = max(1, round(window_s / spacing))
    step = max(1, round(step_s / spacing))
    starts = range(0, time.size - width + 1, step)
    slices = [slice(start, start + width) for start in starts]
    return slices, np.array([time[s].mean() for s in slices])


def _mean(patterns: Floats, slices: list[slice]) -> Floats:
    return np.stack([patterns[..., s].mean(axis=-1) for s in slices])


def _joined(patterns: Floats, slices: list[slice]) -> Floats:
    return np.stack([patterns[..., s].reshape(*patterns.shape[:-2], -1) for s in slices])


POOLING: dict[str, Callable[[Floats, list[slice]], Floats]] = {
    "mean": _mean,
    "concatenate": _joined,
}


def windowed(patterns: Floats, slices: list[slice], pooling: str = "mean") -> Floats:
    """Return patterns of windows, windows first.

    Parameters
    ----------
    patterns : ndarray, shape (..., n_channels, n_times)
    slices : list of slice
        From `windows`.
    pooling : {"mean", "concatenate"}
        Mean over a window's samples, or all of them as channels.

    Returns
    -------
    ndarray, shape (n_windows, ..., n_channels)
    """
    return POOLING[pooling](patterns, slices)


def cross_temporal(first: Floats, second: Floats, method: str) -> Floats:
    """Compare the RDMs of all times with those of all times.

    Parameters
    ----------
    first, second : ndarray, shape (n_times, n_pairs)
        Movies of disjoint trials, so that shared noise does not raise the diagonal.

    Returns
    -------
    ndarray, shape (n_times, n_times)
        Symmetric: mean of both directions.
    """
    found = compare(first, second, method)
    return (found + found.T) / 2


def onset(significant: Bools, time: Floats, least: int = 3) -> float:
    """Return the first time of at least ``least`` consecutive significant ones; NaN if none."""
    count = 0
    for index, flag in enumerate(significant):
        count = count + 1 if flag else 0
        if count == least:
            return float(time[index - least + 1])
    return np.nan


def peak_interval(
    courses: Floats, time: Floats, samples: int, rng: np.random.Generator, level: float = 0.95
) -> tuple[float, float, float]:
    """Return the time of the peak of the mean course and its bootstrap interval.

    Parameters
    ----------
    courses : ndarray, shape (n_subjects, n_times)
        Subjects are resampled.
    """
    peak = float(time[courses.mean(axis=0).argmax()])
    drawn = rng.integers(len(courses), size=(samples, len(courses)))
    peaks = time[courses[drawn].mean(axis=1).argmax(axis=1)]
    low, high = np.quantile(peaks, [(1 - level) / 2, (1 + level) / 2])
    return peak, float(low), float(high)
