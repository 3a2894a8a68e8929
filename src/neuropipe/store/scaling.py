"""Stored samples in their units: integers of a source with their scale, per row or for all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["physical", "physical_blocks"]


def physical(
    raw: xr.Dataset,
    rows: slice | np.ndarray = slice(None),
    times: slice = slice(None),
    series: str = "signal",
) -> np.ndarray:
    """Return stored samples in their units, those of channels in ``units(channel)``.

    Integers are stored as the source has them, with ``scale_factor`` and ``add_offset`` beside
    them: per row as coordinates, or of the whole series as its attributes. Floats are in their
    units already.

    Parameters
    ----------
    raw : xarray.Dataset
        ``/raw`` of a store, or any part of it.
    rows : slice or array of int or of bool
        Rows, by position.
    times : slice
        Samples, by position; only they are read.
    series : str
        The series.

    Returns
    -------
    numpy.ndarray
        ``(n_times, n_rows)`` float64.

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
    return _scaled(values, raw, series, rows)


def _scaled(
    values: np.ndarray, raw: xr.Dataset, series: str, rows: slice | np.ndarray
) -> np.ndarray:
    """Apply scale and offset, per row or of the whole series."""
    attrs = raw[series].attrs
    for name, apply in (("scale_factor", np.multiply), ("add_offset", np.add)):
        if name in raw.variables:
            values = apply(values, np.asarray(raw[name].values, dtype=np.float64)[rows])
        elif name in attrs:
            values = apply(values, float(attrs[name]))
    return values


def physical_blocks(
    raw: xr.Dataset, series: str, max_bytes: int
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield times and samples in their units, block by block, NaN where not valid.

    Parameters
    ----------
    raw : xarray.Dataset
        The series ``(time, <row>)``, ``valid`` where samples are missing.
    series : str
        The series.
    max_bytes : int
        Stored bytes of a block.
    """
    from neuropipe.store.hashing import iter_blocks

    valid = raw["valid"].variable if "valid" in raw else None
    for start, stored in iter_blocks(raw[series].variable, max_bytes):
        here = slice(start, start + len(stored))
        values = _scaled(stored.astype(np.float64), raw, series, slice(None))
        usable = np.isfinite(values)
        if valid is not None:
            usable &= np.asarray(valid[here].values)
        yield here, np.where(usable, values, np.nan)
