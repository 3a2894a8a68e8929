"""A lower sampling rate behind an anti-alias filter, within each observed segment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuropipe.errors import DataError
from neuropipe.preprocess.resample import SINC_REACH, band_limited, target_grid
from neuropipe.preprocess.sampling import sampling_rate, segments
from neuropipe.preprocess.steps import recorded_step

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["lower_rate", "on_grid"]

GRID_BLOCK = 1 << 13


def on_grid(
    ds: xr.Dataset, grid: np.ndarray, values: np.ndarray, valid: np.ndarray, rate: float,
    rows: xr.Dataset | None = None,
) -> xr.Dataset:  # fmt: skip
    """Return `ds` with ``activity`` and ``valid`` on a new, regular clock.

    Parameters
    ----------
    ds : xarray.Dataset
        Its rows, small variables and attributes are kept.
    grid : numpy.ndarray
        ``(n_times,)``, seconds.
    values, valid : numpy.ndarray
        ``(n_times, n_channels)``.
    rate : float
        Hz.
    rows : xarray.Dataset, optional
        Metadata of the rows when they are others than those of `ds`.
    """
    import xarray as xr

    dims = ("time", "channel")
    kept = ds if rows is None else rows
    kept = kept.drop_vars(["activity", "valid"], errors="ignore")
    kept = kept.drop_dims(["time", "segment"], errors="ignore")
    new = xr.Dataset(
        {"activity": (dims, values, ds["activity"].attrs), "valid": (dims, valid)},
        coords={"time": ("time", grid, ds["time"].attrs)},
    )
    clock = {"sampling": "regular", "rate": rate, "grid_rate": rate}
    return new.merge(kept).assign_attrs({**ds.attrs, **clock})


@recorded_step("resample")
def lower_rate(ds: xr.Dataset, *, rate_hz: float) -> xr.Dataset:
    """Bring ``activity`` to a lower rate.

    The filter is that of `resample.band_limited`; it does not reach over the end of a segment or
    a missing sample, and what it would need from there is not valid.

    Parameters
    ----------
    ds : xarray.Dataset
        With ``activity (time, channel)`` and ``valid``; regular within segments.
    rate_hz : float
        New rate, Hz; samples lie at multiples of ``1 / rate_hz`` of the recording's clock.

    Returns
    -------
    xarray.Dataset
        NaN between segments.

    Raises
    ------
    DataError
        If the recording has a lower rate, or lasts less than a step.
    """
    rate, name = sampling_rate(ds), ds.attrs.get("recording", "recording")
    if rate_hz > rate * (1 + 1e-9):
        raise DataError(
            f"{name}: resample_hz is {rate_hz:g} Hz, above the sampling rate of {rate:g} Hz; "
            "nothing above it was recorded, use a lower one"
        )
    time, dt = np.asarray(ds["time"].values, dtype=np.float64), 1.0 / rate_hz
    grid = target_grid(float(time[0]), float(time[-1]), dt)
    if len(grid) == 0:
        raise DataError(f"{name}: resample_hz is {rate_hz:g} Hz, but the recording lasts "
                        f"{time[-1] - time[0]:g} s; use a higher rate")  # fmt: skip
    old, usable = ds["activity"].values, ds["valid"].values
    values = np.full((len(grid), old.shape[1]), np.nan, dtype=old.dtype)
    valid = np.zeros(values.shape, dtype=bool)
    slack = 1e-6 * dt
    # One step more than the filter reaches, so that a block's own end cuts nothing off.
    reach = SINC_REACH * dt + 2.0 / rate
    for part in segments(ds):
        if part.stop - part.start < 2:
            continue
        first, last = np.searchsorted(grid, [time[part.start] - slack, time[part.stop - 1] + slack])
        for start in range(first, last, GRID_BLOCK):
            here = slice(start, min(start + GRID_BLOCK, int(last)))
            low, high = np.searchsorted(time, [grid[here][0] - reach, grid[here][-1] + reach])
            near = slice(max(low, part.start), min(high, part.stop))
            given = np.where(usable[near], old[near], np.nan).astype(np.float64)
            done, whole = band_limited(given, time[near], grid[here], dt, 1.5 / rate)
            values[here], valid[here] = done, whole & np.isfinite(done)
    return on_grid(ds, grid, values, valid, rate_hz)
