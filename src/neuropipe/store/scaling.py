"""Stored samples of channels in SI units."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["physical"]


def physical(
    raw: xr.Dataset,
    rows: slice | np.ndarray = slice(None),
    times: slice = slice(None),
    series: str = "signal",
) -> np.ndarray:
    """Return stored samples in SI units, the unit of each channel in ``units(channel)``.

    Integers are stored as the source has them, with ``scale_factor`` and ``add_offset`` beside
    them; floats are in SI units already.

    Parameters
    ----------
    raw : xarray.Dataset
        ``/raw`` of a store, or any part of it.
    rows : slice or array of int or of bool
        Channels, by position.
    times : slice
        Samples, by position; only they are read.
    series : str
        The series.

    Returns
    -------
    numpy.ndarray
        ``(n_times, n_channels)`` float64.

    Examples
    --------
    >>> import xarray as xr
    >>> coords = {"scale_factor": ("channel", [0.5]), "add_offset": ("channel", [1.0])}
    >>> signal = (("time", "channel"), np.array([[2], [4]], dtype=np.int16))
    >>> physical(xr.Dataset({"signal": signal}, coords)).ravel()
    array([2., 3.])
    """
    variable = raw[series].variable
    picked = variable.isel({variable.dims[0]: times, variable.dims[1]: rows})
    values = np.asarray(picked.values, dtype=np.float64)
    if "scale_factor" in raw.variables:
        values = values * np.asarray(raw["scale_factor"].values, dtype=np.float64)[rows]
    if "add_offset" in raw.variables:
        values = values + np.asarray(raw["add_offset"].values, dtype=np.float64)[rows]
    return values
