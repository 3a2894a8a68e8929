"""Stored samples to SI values: integers of a source with their scale and offset per channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["physical"]

EVERYTHING = slice(None)


def physical(
    raw: xr.Dataset,
    rows: slice | np.ndarray = EVERYTHING,
    times: slice = EVERYTHING,
    series: str = "signal",
) -> np.ndarray:
    """Return samples of ``/raw`` in SI units; only the block asked for is read.

    Parameters
    ----------
    raw : xarray.Dataset
        With ``signal (time, channel)`` and, for integers, ``scale_factor`` and ``add_offset``
        per channel: ``value * scale_factor + add_offset`` is in ``units``.
    rows : slice or numpy.ndarray
        Channels, as positions or as a mask.
    times : slice
        Samples.
    series : str
        Name of the series.

    Returns
    -------
    numpy.ndarray
        Float64, ``(n_times, n_channels)``.
    """
    # Through the variable, because indexing it keeps nothing of what was read in memory.
    stored = raw[series].variable[times].values
    values = stored[:, rows].astype(np.float64)
    if "scale_factor" in raw.variables:
        values *= raw["scale_factor"].values[rows]
    if "add_offset" in raw.variables:
        values += raw["add_offset"].values[rows]
    return values
