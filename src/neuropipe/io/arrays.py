"""Arrays and groups in the form that every reader hands on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["behavior_dataset", "object_array"]


def object_array(texts: Sequence[str]) -> np.ndarray:
    """Return texts as an object array; fixed-width text is never stored."""
    array = np.empty(len(texts), dtype=object)
    array[:] = list(texts)
    return array


def behavior_dataset(
    streams: Mapping[str, np.ndarray], variables: Mapping[str, tuple[str, np.ndarray]]
) -> xr.Dataset | None:
    """Return behaviour variables, each on the clock of its stream.

    Parameters
    ----------
    streams : mapping of str to numpy.ndarray
        Sample times per stream, source clock.
    variables : mapping of str to (stream, values)
        Values are ``(time,)`` or ``(time, column)``.
    """
    import xarray as xr

    if not variables:
        return None
    used = {stream for stream, _ in variables.values()}
    coords = {f"time_{s}": (f"time_{s}", np.asarray(streams[s], np.float64)) for s in sorted(used)}
    data = {}
    for name in sorted(variables):
        stream, values = variables[name]
        dims = (f"time_{stream}", f"{name}_column")[: values.ndim]
        data[name] = (dims, values)
    return xr.Dataset(data, coords)
