"""Spikes in NWB: the table `Units`, with spike times and observed intervals per unit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hdmf.common import ElementIdentifiers, VectorData, VectorIndex
from pynwb.misc import Units

from neuropipe.errors import DataError

if TYPE_CHECKING:
    import xarray as xr

    from neuropipe.store.nwb.builder import NwbBuilder

__all__ = ["add_raw"]

GROUP, TABLE = "/raw", "/units"
INDEXED = ("spike_unit", "unit_start", "n_spikes")


def add_raw(builder: NwbBuilder, ds: xr.Dataset) -> None:
    """Add the units of a spike recording.

    Parameters
    ----------
    builder : NwbBuilder
        File in the making.
    ds : xarray.Dataset
        ``/raw`` of the store.
    """
    numbers, names = np.arange(ds.sizes["unit"]), ["unit"]
    if ds["unit"].dtype.kind in "iu":
        numbers, names = np.asarray(ds["unit"].values, dtype=np.int64), []
        builder.manifest.place(GROUP, "unit", {"path": f"{TABLE}/id"})
    names += [
        str(name)
        for name, variable in ds.variables.items()
        if variable.dims == ("unit",) and name not in ("unit", *INDEXED)
    ]
    builder.nwbfile.units = Units(
        name="units",
        description="Units and their spikes",
        id=ElementIdentifiers(name="id", data=numbers),
        columns=[
            *_spike_columns(builder, ds),
            *_interval_columns(builder, ds),
            *builder.columns(GROUP, ds, names, TABLE),
        ],
    )


def _spike_columns(builder: NwbBuilder, ds: xr.Dataset) -> list[VectorData]:
    times = VectorData(
        name="spike_times",
        description="Spike times, s",
        data=builder.data(ds["spike_time"].variable),
    )
    stops = np.asarray(ds["unit_start"].values + ds["n_spikes"].values, dtype=np.int64)
    index = VectorIndex(name="spike_times_index", data=stops, target=times)
    builder.manifest.place(GROUP, "spike_time", {"path": f"{TABLE}/spike_times"})
    for name in INDEXED:
        place = {"index": f"{TABLE}/spike_times_index", "gives": name}
        builder.manifest.place(GROUP, name, place)
    return [index, times]


def _interval_columns(builder: NwbBuilder, ds: xr.Dataset) -> list[VectorData]:
    """Return the intervals of each unit; NaN behind the last of them is not written."""
    edges = np.stack([ds["obs_start"].values, ds["obs_stop"].values], axis=-1)
    known = ~np.isnan(edges).any(axis=-1)
    counts = known.sum(axis=0)
    if not np.array_equal(known, np.arange(len(known))[:, None] < counts):
        raise DataError("/raw/obs_start: a unit has a NaN before an interval; write them in order")
    column = VectorData(
        name="obs_intervals",
        description="Intervals in which the unit was observed, s",
        data=np.ascontiguousarray(edges.transpose(1, 0, 2)[known.T]).reshape(-1, 2),
    )
    index = VectorIndex(name="obs_intervals_index", data=np.cumsum(counts), target=column)
    for number, name in enumerate(("obs_start", "obs_stop")):
        place = {
            "ragged": f"{TABLE}/obs_intervals",
            "ragged_index": f"{TABLE}/obs_intervals_index",
            "column": number,
        }
        builder.manifest.place(GROUP, name, place)
    return [index, column]
