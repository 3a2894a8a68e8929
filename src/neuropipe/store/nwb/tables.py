"""Groups that every modality has: observed time, events, trials, behaviour."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hdmf.common import DynamicTable, ElementIdentifiers
from pynwb.behavior import BehavioralTimeSeries

if TYPE_CHECKING:
    import xarray as xr

    from neuropipe.store.nwb.builder import NwbBuilder

__all__ = [
    "add_behavior",
    "add_column_table",
    "add_events",
    "add_observed",
    "add_row_series",
    "add_trials",
]

BEHAVIOR = "/processing/behavior/BehavioralTimeSeries"


def add_observed(builder: NwbBuilder, ds: xr.Dataset) -> None:
    """Add ``observed(interval, edge)`` of ``/raw`` as intervals."""
    if "observed" not in ds.variables or not ds["observed"].size:
        return
    edges = np.asarray(ds["observed"].values)
    table = builder.intervals("observed", [], edges, "Time that was recorded")
    builder.nwbfile.add_time_intervals(table)
    path = "/intervals/observed"
    columns = [f"{path}/start_time", f"{path}/stop_time"]
    builder.manifest.place("/raw", "observed", {"columns": columns})


def _columns_along(ds: xr.Dataset, dim: str, leave: tuple[str, ...]) -> list[str]:
    along = (str(name) for name, variable in ds.variables.items() if variable.dims[:1] == (dim,))
    return [name for name in along if name not in leave and ds[name].size]


def add_events(builder: NwbBuilder, ds: xr.Dataset) -> None:
    """Add events as intervals: stop = onset + duration, which is NaN where it is unknown."""
    if not ds.sizes.get("event"):
        return
    onset = np.asarray(ds["onset"].values, dtype=np.float64)
    duration = np.asarray(ds["duration"].values) if "duration" in ds.variables else np.nan
    edges = np.stack([onset, onset + duration], axis=1)
    path = "/intervals/events"
    leave = ("onset",) if ds["onset"].dtype == np.float64 else ()
    columns = builder.columns("/events", ds, _columns_along(ds, "event", leave), path)
    builder.nwbfile.add_time_intervals(builder.intervals("events", columns, edges, "Events"))
    builder.manifest.place("/events", "onset", {"path": f"{path}/start_time"})


def add_trials(builder: NwbBuilder, ds: xr.Dataset) -> None:
    """Add the table of trials."""
    if not ds.sizes.get("trial"):
        return
    edges = np.stack([np.asarray(ds[name].values, np.float64) for name in ("start", "stop")], 1)
    path = "/intervals/trials"
    columns = builder.columns("/trials", ds, _columns_along(ds, "trial", ()), path)
    builder.nwbfile.trials = builder.intervals("trials", columns, edges, "Trials")


def add_behavior(builder: NwbBuilder, ds: xr.Dataset) -> None:
    """Add each variable that has its own clock as a series; others have no home here."""
    names = [
        str(name)
        for name, variable in ds.data_vars.items()
        if variable.dims
        and variable.dims[0] in ds.coords
        and variable.size
        and str(variable.dims[0]).startswith("time")
        and variable.dtype.kind in "biuf"
    ]
    if not names:
        return
    container = BehavioralTimeSeries(name="BehavioralTimeSeries")
    builder.module("behavior").add(container)
    for name in names:
        builder.series(container.add_timeseries, "/behavior", name, ds, BEHAVIOR, name)


def add_row_series(
    builder: NwbBuilder, group: str, ds: xr.Dataset, main: str, module_name: str = ""
) -> None:
    """Add series without an NWB type of their own: `TimeSeries`, and a table of their rows.

    Parameters
    ----------
    builder : NwbBuilder
        File in the making.
    group : str
        Group of the store.
    ds : xarray.Dataset
        Its content.
    main : str
        Variable ``(time, row)`` that names the mask ``<main>_valid`` and the table
        ``<main>_columns``, which has exactly one row per column of the series.
    module_name : str
        Processing module; default: the last name of the group.
    """
    name = module_name or group.rsplit("/", 1)[-1]
    module, path = builder.module(name), f"/processing/{name}"
    series = [
        str(key)
        for key, variable in ds.data_vars.items()
        if variable.dims[:1] == ("time",) and variable.dtype.kind in "biuf" and variable.size
    ]
    for key in sorted(series, key=lambda key: key != main):
        title = f"{main}_valid" if key == "valid" else key
        builder.series(module.add, group, key, ds, path, title)
    add_column_table(builder, group, ds, main, name)


def add_column_table(
    builder: NwbBuilder, group: str, ds: xr.Dataset, main: str, module_name: str
) -> None:
    """Add the table ``<main>_columns``: what the store says of each column of a series."""
    row, title = str(ds[main].dims[1]), f"{main}_columns"
    path = f"/processing/{module_name}/{title}"
    columns = builder.columns(group, ds, _columns_along(ds, row, ()), path)
    builder.module(module_name).add(
        DynamicTable(
            name=title,
            description=f"One row per column of {main}",
            id=ElementIdentifiers(name="id", data=np.arange(ds.sizes[row])),
            columns=columns,
        )
    )
