"""The objects of temporaldata as groups of an HDF5 file.

Layout of temporaldata 0.1.6 and torch_brain 0.2.1: a group names its class in the attribute
``object``; arrays are datasets; texts are fixed-width ASCII, their names listed in
``_unicode_keys``; a time series carries its ``domain``, an ``Interval``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np
import xarray as xr

from neuropipe.store.hashing import iter_blocks
from neuropipe.store.variables import is_text

__all__ = [
    "ascii_text",
    "write_array",
    "write_data",
    "write_intervals",
    "write_irregular",
    "write_regular",
    "write_table",
]

INDEX_STEP_S = 1.0


def ascii_text(values: np.ndarray) -> np.ndarray:
    r"""Return texts as fixed-width ASCII; other characters are escaped, as ``\xe9`` for é."""
    texts = [str(value).encode("ascii", "backslashreplace") for value in values.ravel()]
    width = max(1, *(len(text) for text in texts)) if texts else 1
    return np.array(texts, dtype=f"S{width}").reshape(values.shape)


def write_array(group: h5py.Group, name: str, variable: xr.Variable) -> bool:
    """Write one variable in blocks; return whether it is text that lost its characters."""
    if is_text(variable.dtype):
        values = np.asarray(variable.values, dtype=object)
        group.create_dataset(name, data=ascii_text(values))
        return not all(str(value).isascii() for value in values.flat)
    dataset = group.create_dataset(name, shape=variable.shape, dtype=variable.dtype)
    if variable.size:
        for start, block in iter_blocks(variable):
            if variable.dims:
                dataset[start : start + len(block)] = block
            else:
                dataset[...] = block
    return False


def write_data(group: h5py.Group, attributes: Mapping[str, Any]) -> None:
    """Make a group a ``Data`` with these attributes; empty ones are left out."""
    for name, value in attributes.items():
        if value not in ("", None):
            group.attrs[name] = value
    group.attrs["object"] = "Data"
    group.attrs["absolute_start"] = 0.0


def _finish(group: h5py.Group, kind: str, texts: list[str], timekeys: list[str] | None) -> None:
    group.attrs["_unicode_keys"] = np.array(texts, dtype="S")
    if timekeys is not None:
        group.attrs["timekeys"] = np.array(timekeys, dtype="S")
    group.attrs["object"] = kind


def _write_columns(
    group: h5py.Group, columns: Mapping[str, xr.Variable]
) -> tuple[list[str], set[str]]:
    """Write columns; return which are text, and which of these lost characters."""
    lossy = {name for name, variable in columns.items() if write_array(group, name, variable)}
    return [name for name, variable in columns.items() if is_text(variable.dtype)], lossy


def write_table(group: h5py.Group, columns: Mapping[str, xr.Variable]) -> set[str]:
    """Write an ``ArrayDict``: columns of one length; return those whose text lost characters."""
    texts, lossy = _write_columns(group, columns)
    _finish(group, "ArrayDict", texts, None)
    return lossy


def write_intervals(
    group: h5py.Group,
    start: np.ndarray,
    end: np.ndarray,
    columns: Mapping[str, xr.Variable] | None = None,
) -> set[str]:
    """Write an ``Interval``: start and end, seconds, and columns of the same length."""
    group.create_dataset("start", data=np.asarray(start, dtype=np.float64))
    group.create_dataset("end", data=np.asarray(end, dtype=np.float64))
    texts, lossy = _write_columns(group, columns or {})
    _finish(group, "Interval", texts, ["start", "end"])
    return lossy


def write_irregular(
    group: h5py.Group,
    times: xr.Variable,
    columns: Mapping[str, xr.Variable],
    domain: np.ndarray,
) -> set[str]:
    """Write an ``IrregularTimeSeries``: rising times and columns, and where each second begins.

    Parameters
    ----------
    group : h5py.Group
        Empty.
    times : xarray.Variable
        Rising, ``(n_times,)``, seconds.
    columns : mapping of str to xarray.Variable
        First dim as the times.
    domain : numpy.ndarray
        Observed intervals, ``(n, 2)`` s.
    """
    write_array(group, "timestamps", times)
    texts, lossy = _write_columns(group, columns)
    grid = np.arange(domain[0, 0], domain[-1, 1] + INDEX_STEP_S, INDEX_STEP_S, dtype=np.float64)
    group.create_dataset("timestamp_indices_1s", data=np.searchsorted(times.values, grid))
    write_intervals(group.create_group("domain"), domain[:, 0], domain[:, 1])
    _finish(group, "IrregularTimeSeries", texts, ["timestamps"])
    return lossy


def write_regular(
    group: h5py.Group, start: float, rate: float, columns: Mapping[str, xr.Variable]
) -> None:
    """Write a ``RegularTimeSeries``: columns of numbers at ``start + k / rate`` seconds."""
    count = 0
    for name, variable in columns.items():
        write_array(group, name, variable)
        count = variable.shape[0]
    end = np.array([start + count / rate])
    write_intervals(group.create_group("domain"), np.array([start]), end)
    group.attrs["object"] = "RegularTimeSeries"
    group.attrs["sampling_rate"] = rate
