"""Seconds to samples, and the stretches of a recording that filters may run over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuropipe.errors import DataError

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "is_uniform",
    "median_step",
    "n_samples",
    "odd_samples",
    "sampling_rate",
    "segments",
    "window",
]


def n_samples(duration_s: float, rate_hz: float) -> int:
    """Return the number of samples in a duration, ``round(duration * rate)``.

    The start of a window plays no part, so that windows of equal duration have equal lengths.

    Parameters
    ----------
    duration_s : float
        Seconds.
    rate_hz : float
        Samples per second.

    Examples
    --------
    >>> n_samples(2.5, 4.0)
    10
    """
    return round(duration_s * rate_hz)


def odd_samples(duration_s: float, rate_hz: float) -> int:
    """Return the odd number of samples closest to a duration, at least 1."""
    return 2 * max(0, n_samples(duration_s / 2 - 0.5 / rate_hz, rate_hz)) + 1


def median_step(time: np.ndarray) -> float:
    """Return the median step of sample times, seconds.

    Parameters
    ----------
    time : numpy.ndarray
        Increasing sample times, shape ``(n_times,)``, seconds.

    Raises
    ------
    ValueError
        If there are fewer than two samples.
    """
    if len(time) < 2:
        raise ValueError(f"a step needs two samples or more, found {len(time)}")
    return float(np.median(np.diff(np.asarray(time, dtype=np.float64))))


def is_uniform(time: np.ndarray, tolerance: float = 0.01) -> bool:
    """Say whether every step is within `tolerance` (relative) of the median step."""
    steps = np.diff(np.asarray(time, dtype=np.float64))
    step = float(np.median(steps))
    return bool(np.all(np.abs(steps - step) <= tolerance * step))


def sampling_rate(ds: xr.Dataset) -> float:
    """Return the rate at which a recording is sampled within its observed segments, Hz.

    Parameters
    ----------
    ds : xarray.Dataset
        With ``time (time)``, and attribute ``grid_rate`` where ingest found the samples on a grid.

    Raises
    ------
    DataError
        If steps within a segment differ by more than 1 %.
    """
    stated = float(ds.attrs.get("grid_rate", np.nan))
    if np.isfinite(stated) and stated > 0:
        return stated
    time = np.asarray(ds["time"].values, dtype=np.float64)
    step = median_step(time)
    for part in segments(ds):
        steps = np.diff(time[part])
        if np.any(np.abs(steps - step) > 0.01 * step):
            raise DataError(
                f"{ds.attrs.get('recording', 'recording')}: a filter needs regular samples, but "
                f"steps of `time` differ by more than 1 % from their median {step:g} s; correct "
                "the times in the source"
            )
    return 1.0 / step


def window(time: np.ndarray, start_s: float, duration_s: float, rate_hz: float) -> slice:
    """Return the samples of a window ``[start, start + duration)``.

    Parameters
    ----------
    time : numpy.ndarray
        Increasing sample times, shape ``(n_times,)``, seconds.
    start_s, duration_s : float
        Seconds.
    rate_hz : float
        Samples per second.

    Returns
    -------
    slice
        ``n_samples(duration, rate)`` samples from the first one at or after the start (1e-6 steps
        of rounding allowed for); fewer where the recording ends.
    """
    first = int(np.searchsorted(time, start_s - 1e-6 / rate_hz, side="left"))
    return slice(first, min(first + n_samples(duration_s, rate_hz), len(time)))


def segments(ds: xr.Dataset) -> list[slice]:
    """Return the sample ranges that filters, derivatives and smoothing may run over.

    Parameters
    ----------
    ds : xarray.Dataset
        With ``time (time)`` and, where recording was interrupted, ``observed (interval, edge)``
        in seconds. Without ``observed`` the whole recording is one segment.

    Returns
    -------
    list of slice
        Not overlapping, in time order; samples in no interval are in none of them.
    """
    time = np.asarray(ds["time"].values, dtype=np.float64)
    if "observed" not in ds or ds["observed"].size == 0:
        return [slice(0, len(time))] if len(time) else []
    found = []
    for start, stop in np.asarray(ds["observed"].values, dtype=np.float64):
        first = int(np.searchsorted(time, start, side="left"))
        last = int(np.searchsorted(time, stop, side="right"))
        if last > first:
            found.append(slice(first, last))
    return found
