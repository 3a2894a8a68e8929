"""Resampling to a uniform grid: interpolation, overlap mean, band-limited filter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuropipe.errors import DataError
from neuropipe.preprocess.sampling import is_uniform, median_step
from neuropipe.preprocess.steps import recorded_step, row_dim

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "band_limited",
    "interpolate",
    "overlap_mean",
    "previous",
    "resample",
    "resample_stream",
    "resample_values",
    "target_grid",
]

SINC_REACH = 16
KAISER_BETA = 5.0
GRID_ROUNDING = 1e-9


def target_grid(first: float, last: float, dt: float) -> np.ndarray:
    """Return the multiples of `dt` in ``[first, last)``: no sample lies outside the recording.

    For a recording that starts at 0 this is ``arange(first, last, dt)``. Counting from 0 and not
    from `first` gives recordings that start at different times of one clock a common grid.

    Parameters
    ----------
    first, last, dt : float
        Time of the first and the last sample, step of the grid; seconds.
    """
    low = int(np.ceil(first / dt - GRID_ROUNDING))
    high = int(np.ceil(last / dt - GRID_ROUNDING))
    return np.clip(np.arange(low, high) * dt, first, last)


def _neighbour_gap(time: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Return the distance between the samples on both sides of each grid point, inf outside.

    A grid point on a sample (1e-9 of a step allowed) has distance 0.
    """
    if len(time) == 0:
        return np.full(len(grid), np.inf)
    right = np.searchsorted(time, grid, side="left")
    inside = (right < len(time)) & ((right > 0) | (grid >= time[0]))
    high = time[np.minimum(right, len(time) - 1)]
    low = time[np.maximum(right - 1, 0)]
    touch = GRID_ROUNDING * (np.median(np.diff(time)) if len(time) > 1 else 1.0)
    on_sample = (np.abs(high - grid) <= touch) | (np.abs(low - grid) <= touch)
    return np.where(on_sample, 0.0, np.where(inside & (right > 0), high - low, np.inf))


def interpolate(
    values: np.ndarray, time: np.ndarray, grid: np.ndarray, max_gap_s: float
) -> np.ndarray:
    """Interpolate linearly between the finite samples of each trace.

    Parameters
    ----------
    values : numpy.ndarray
        Shape ``(n_times, n_rows)``; NaN = missing.
    time, grid : numpy.ndarray
        Shapes ``(n_times,)`` and ``(n_grid,)``, seconds, increasing.
    max_gap_s : float
        A grid point whose neighbours are further apart is NaN; so is one outside the samples.

    Returns
    -------
    numpy.ndarray
        Shape ``(n_grid, n_rows)``.
    """
    result = np.empty((len(grid), values.shape[1]))
    for j, trace in enumerate(values.T):
        known = np.isfinite(trace)
        if not known.any():
            result[:, j] = np.nan
            continue
        gap = _neighbour_gap(time[known], grid)
        result[:, j] = np.interp(grid, time[known], trace[known])
        result[gap > max_gap_s * (1 + GRID_ROUNDING), j] = np.nan
    return result


def _cells(time: np.ndarray, longest: float) -> tuple[np.ndarray, np.ndarray]:
    """Return start and stop of the stretch that each sample stands for.

    Half way to its neighbours, but never further than half of `longest` from the sample; the
    first and the last sample reach as far outwards as inwards.
    """
    steps = np.minimum(np.diff(time), longest)
    before = np.concatenate([steps[:1], steps]) / 2
    after = np.concatenate([steps, steps[-1:]]) / 2
    return time - before, time + after


def overlap_mean(
    values: np.ndarray, time: np.ndarray, grid: np.ndarray, dt: float, max_gap_s: float
) -> np.ndarray:
    """Average each trace over cells of width `dt` centred on the grid, weighted by overlap.

    Each sample stands for the stretch half way to its neighbours; the integral over the grid's
    cells is kept, also for irregular input. One cumulative integral serves all cells.

    Parameters
    ----------
    values : numpy.ndarray
        Shape ``(n_times, n_rows)``; NaN = missing, its stretch counts for nothing.
    time, grid : numpy.ndarray
        Shapes ``(n_times,)`` and ``(n_grid,)``, seconds, increasing.
    dt, max_gap_s : float
        Width of a cell; a grid point whose neighbouring finite samples are further apart than
        `max_gap_s`, or which lies outside them, is NaN. Seconds.

    Returns
    -------
    numpy.ndarray
        Shape ``(n_grid, n_rows)``.
    """
    start, stop = _cells(time, max_gap_s)
    edges = np.stack([start, stop], axis=1).ravel()
    low, high = grid - dt / 2, grid + dt / 2
    result = np.full((len(grid), values.shape[1]), np.nan)
    for j, trace in enumerate(values.T):
        known = np.isfinite(trace)
        if not known.any():
            continue
        anchor = trace[known][0]
        width = np.where(known, stop - start, 0.0)
        area = np.where(known, trace - anchor, 0.0) * width
        total = _cumulative(area, edges, low, high)
        covered = _cumulative(width, edges, low, high)
        usable = (covered > 0) & (_neighbour_gap(time[known], grid) <= max_gap_s * (1 + 1e-9))
        result[usable, j] = total[usable] / covered[usable] + anchor
    return result


def _cumulative(
    amount: np.ndarray, edges: np.ndarray, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    """Return the amount between `low` and `high` when each is spread evenly over its cell."""
    total = np.repeat(np.cumsum(amount), 2)
    total = np.concatenate([[0.0], total])[:-1]
    return np.interp(high, edges, total) - np.interp(low, edges, total)


def band_limited(
    values: np.ndarray, time: np.ndarray, grid: np.ndarray, dt: float, max_gap_s: float
) -> tuple[np.ndarray, np.ndarray]:
    """Low-pass below the lower of the two Nyquist rates and evaluate on the grid.

    A Kaiser-windowed sinc (16 steps of the coarser clock on each side, stop band 55 dB) as a
    polyphase filter: only the outputs on the grid are computed, at any ratio of the two rates.

    Parameters
    ----------
    values : numpy.ndarray
        Shape ``(n_times, n_rows)``; regular in time; NaN = missing.
    time, grid : numpy.ndarray
        Shapes ``(n_times,)`` and ``(n_grid,)``, seconds, increasing.
    dt, max_gap_s : float
        Step of the grid; as in `interpolate`. Seconds.

    Returns
    -------
    resampled : numpy.ndarray
        Shape ``(n_grid, n_rows)``.
    whole : numpy.ndarray
        Bool, shape ``(n_grid, n_rows)``: the filter lies inside the recording and reaches over no
        long gap. Gaps up to `max_gap_s` are interpolated before the filter.
    """
    from scipy.sparse import csr_array
    from scipy.special import i0

    coarse = max(dt, median_step(time))
    reach = SINC_REACH * coarse
    first = np.searchsorted(time, grid - reach, side="left")
    last = np.searchsorted(time, grid + reach, side="right")
    column = np.concatenate([np.arange(a, b) for a, b in zip(first, last, strict=True)])
    count = last - first
    distance = (time[column] - np.repeat(grid, count)) / coarse
    taper = i0(KAISER_BETA * np.sqrt(np.clip(1 - (distance / SINC_REACH) ** 2, 0, None)))
    pointer = np.concatenate([[0], np.cumsum(count)])
    kernel = csr_array((np.sinc(distance) * taper, column, pointer), shape=(len(grid), len(time)))
    filled = interpolate(values, time, time, max_gap_s)
    mask = np.isfinite(filled)
    weight = kernel @ mask.astype(np.float64)
    full = np.asarray(kernel.sum(axis=1))[:, None]
    result = np.full((len(grid), values.shape[1]), np.nan)
    np.divide(kernel @ np.where(mask, filled, 0.0), weight, out=result, where=weight > 0.5 * full)
    for j, known in enumerate(np.isfinite(values).T):
        result[_neighbour_gap(time[known], grid) > max_gap_s * (1 + GRID_ROUNDING), j] = np.nan
    touched = csr_array((np.ones(len(column)), column, pointer), shape=kernel.shape)
    complete = np.asarray(touched @ mask.astype(np.float64)) == count[:, None]
    slack = GRID_ROUNDING * coarse
    inside = (grid - reach >= time[0] - slack) & (grid + reach <= time[-1] + slack)
    return result, complete & inside[:, None]


def previous(values: np.ndarray, time: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Return for each grid point the sample at or before it: the rule for categories.

    Raises
    ------
    ValueError
        If a grid point lies before the first sample; there is nothing to take then.
    """
    index = np.searchsorted(time, grid, side="right") - 1
    if len(index) and index.min() < 0:
        raise ValueError(f"grid starts at {grid[0]} s, before the first sample at {time[0]} s")
    return values[index]


def _resampled(
    values: np.ndarray, time: np.ndarray, grid: np.ndarray, dt: float, gap: float, method: str
) -> tuple[np.ndarray, np.ndarray]:
    if method == "auto":
        method = "linear" if dt < median_step(time) else "mean"
    if method == "linear":
        return interpolate(values, time, grid, gap), np.ones((len(grid), 1), dtype=bool)
    if method == "mean":
        return overlap_mean(values, time, grid, dt, gap), np.ones((len(grid), 1), dtype=bool)
    return band_limited(values, time, grid, dt, gap)


def resample_values(
    values: np.ndarray, time: np.ndarray, grid: np.ndarray, dt: float, max_gap_s: float
) -> np.ndarray:
    """Bring continuous traces to a grid: overlap mean downwards, interpolation upwards.

    Parameters
    ----------
    values : numpy.ndarray
        Shape ``(n_times, n_rows)``; NaN = missing.
    time, grid : numpy.ndarray
        Shapes ``(n_times,)`` and ``(n_grid,)``, seconds, increasing.
    dt, max_gap_s : float
        Step of the grid; as in `interpolate`. Seconds.

    Returns
    -------
    numpy.ndarray
        Shape ``(n_grid, n_rows)``, NaN outside the samples and in long gaps.
    """
    return _resampled(values, time, grid, dt, max_gap_s, "auto")[0]


@recorded_step("resample")
def resample(
    ds: xr.Dataset, *, dt_s: float, max_gap_steps: float = 3, method: str = "auto"
) -> xr.Dataset:
    """Resample ``activity`` to a uniform grid on the recording's own span.

    Parameters
    ----------
    ds : xarray.Dataset
        With ``activity (time, <row>)`` and ``valid``.
    dt_s : float
        Step of the grid, seconds.
    max_gap_steps : float
        A grid point whose neighbouring samples are further apart than this many median steps of
        the source is NaN and not valid.
    method : {"auto", "linear", "mean", "polyphase"}
        ``auto``: linear interpolation when `dt_s` is below the median step, else overlap mean.

    Returns
    -------
    xarray.Dataset
        Same rows, new ``time``; attributes ``sampling`` and ``rate`` follow.

    Raises
    ------
    DataError
        If the recording is shorter than a step, or ``polyphase`` meets irregular samples.
    """
    import xarray as xr

    time = np.asarray(ds["time"].values, dtype=np.float64)
    name = ds.attrs.get("recording", "recording")
    if method == "polyphase" and not is_uniform(time):
        raise DataError(
            f"{name}: preprocess.calcium.resample.method `polyphase` needs regular samples, but "
            "steps differ by more than 1 %; use `mean` or `linear`"
        )
    grid = target_grid(float(time[0]), float(time[-1]), dt_s)
    if len(grid) == 0:
        raise DataError(
            f"{name}: preprocess.calcium.resample.dt_s = {dt_s} s, but the recording lasts "
            f"{time[-1] - time[0]:g} s; use a smaller step"
        )
    source = np.where(ds["valid"].values, ds["activity"].values, np.nan).astype(np.float64)
    gap = max_gap_steps * median_step(time)
    values, whole = _resampled(source, time, grid, dt_s, gap, method)
    row = row_dim(ds)
    kept = ds.drop_dims(["time", "segment"], errors="ignore")
    coords = {"time": ("time", grid, ds["time"].attrs)}
    activity = (("time", row), values, ds["activity"].attrs)
    valid = (("time", row), np.isfinite(values) & whole)
    result = xr.Dataset({"activity": activity, "valid": valid}, coords=coords)
    return result.merge(kept).assign_attrs(
        {**ds.attrs, "sampling": "regular", "rate": 1.0 / dt_s, "grid_rate": 1.0 / dt_s}
    )


def resample_stream(
    stream: xr.DataArray, grid: np.ndarray, *, max_gap_steps: float = 3
) -> xr.DataArray:
    """Bring one behaviour variable to a grid, on demand: nothing calls this at ingest.

    Parameters
    ----------
    stream : xarray.DataArray
        First dim is its own time, with a coordinate in seconds.
    grid : numpy.ndarray
        Shape ``(n_grid,)``, seconds, increasing.
    max_gap_steps : float
        As in `resample`.

    Returns
    -------
    xarray.DataArray
        Floats: interpolated or averaged as `resample` does, NaN outside the stream. Everything
        else (text, bool, integer codes): the value at or before each grid point.
    """
    import xarray as xr

    dim = str(stream.dims[0])
    time = np.asarray(stream[dim].values, dtype=np.float64)
    coords = {"time": grid} | {k: v for k, v in stream.coords.items() if dim not in v.dims}
    dims = ("time", *stream.dims[1:])
    if stream.dtype.kind != "f":
        return xr.DataArray(previous(stream.values, time, grid), coords, dims, stream.name)
    flat = np.asarray(stream.values, dtype=np.float64).reshape(len(time), -1)
    step = median_step(time)
    dt = median_step(grid) if len(grid) > 1 else step
    values = resample_values(flat, time, grid, dt, max_gap_steps * step)
    shaped = values.reshape(len(grid), *stream.shape[1:])
    return xr.DataArray(shaped, coords, dims, stream.name, stream.attrs)
