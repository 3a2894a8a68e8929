"""Stores as objects of pynapple."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.errors import DataError, MissingDependency
from neuropipe.export.recording import (
    behavior_streams,
    main_group,
    observed_of,
    series_names,
    table_of,
)

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["to_pynapple"]


def to_pynapple(store: xr.DataTree) -> dict[str, Any]:
    """Return a recording as objects of pynapple, their ``time_support`` the observed time.

    Parameters
    ----------
    store : xarray.DataTree
        As `neuropipe.open` returns it, ingested or preprocessed.

    Returns
    -------
    dict
        ``spikes``: a ``TsGroup`` with the columns of the units; or each series (``dff``,
        ``signal``, ``activity`` ...): a ``TsdFrame``, samples in their units, NaN where not
        valid. ``events``: a ``TsGroup``, one element per label. ``trials``: an ``IntervalSet``
        with its columns. Behaviour by name: ``Tsd``, ``TsdFrame`` or ``TsdTensor``.

    Raises
    ------
    MissingDependency
        If pynapple is not installed.
    DataError
        If the store is no recording.

    Notes
    -----
    pynapple keeps times to 1e-9 s and joins intervals that overlap; text variables of the
    behaviour have no form in it and are left out.
    """
    try:
        import pynapple as nap
    except ImportError as error:
        text = "pynapple is not installed; `pip install pynapple`"
        raise MissingDependency(text) from error
    if not hasattr(store, "children"):
        raise DataError("to_pynapple takes a store, as `neuropipe.open` returns it")
    ds = main_group(store)
    support = _intervals(nap, observed_of(ds))
    found: dict[str, Any] = {}
    names = series_names(store)
    for name in names:
        found[name] = _series(nap, ds, name, support)
    if not names:
        found["spikes"] = _spikes(nap, ds, support)
    trials, events = table_of(store, "trials"), table_of(store, "events")
    if trials is not None and trials.sizes.get("trial", 0):
        found["trials"] = _trials(nap, trials)
    if events is not None and events.sizes.get("event", 0):
        found["events"] = _events(nap, events, support)
    for stream, variables in behavior_streams(store).items():
        found |= _behavior(nap, variables, stream)
    return found


def _intervals(nap: Any, edges: np.ndarray) -> Any:
    """Return intervals; one sample alone has no length, which pynapple does not keep."""
    stops = np.where(edges[:, 1] > edges[:, 0], edges[:, 1], edges[:, 0] + 1e-6)
    return nap.IntervalSet(start=edges[:, 0], end=stops)


def _metadata(ds: xr.Dataset, row: str, apart: tuple[str, ...]) -> dict[str, np.ndarray]:
    return {
        str(name): np.asarray(ds[name].values)
        for name in ds.variables
        if ds[name].dims == (row,) and str(name) not in (row, *apart)
    }


def _spikes(nap: Any, ds: xr.Dataset, support: Any) -> Any:
    starts = ds["unit_start"].values
    stops = starts + ds["n_spikes"].values
    times = ds["spike_time"].values
    parts = [times[a:b] for a, b in zip(starts, stops, strict=True)]
    units = {k: nap.Ts(part, time_support=support) for k, part in enumerate(parts)}
    columns = _metadata(ds, "unit", ("unit_start", "n_spikes"))
    columns["unit"] = np.asarray(ds["unit"].values)
    return nap.TsGroup(units, time_support=support, metadata=columns)


def _series(nap: Any, ds: xr.Dataset, name: str, support: Any) -> Any:
    from neuropipe.store.scaling import physical_blocks

    row = str(ds[name].dims[-1])
    blocks = [values for _, values in physical_blocks(ds, name, 1 << 30)]
    names = [str(value) for value in ds[row].values]
    frame = nap.TsdFrame(
        t=ds["time"].values, d=np.concatenate(blocks), columns=names, time_support=support
    )
    columns = {
        key: values
        for key, values in _metadata(ds, row, ()).items()
        if not hasattr(nap.TsdFrame, key)
    }
    frame.set_info(columns)
    return frame


def _trials(nap: Any, table: xr.Dataset) -> Any:
    columns = {
        str(name): np.asarray(table[name].values)
        for name in table.variables
        if str(name) not in ("start", "stop", "end", "trial")
    }
    start, stop = table["start"].values, table["stop"].values
    whole = nap.IntervalSet(start=start, end=stop)
    if len(whole) == len(start) and columns:
        whole.set_info({n: v for n, v in columns.items() if not hasattr(nap.IntervalSet, n)})
    return whole


def _events(nap: Any, table: xr.Dataset, support: Any) -> Any:
    labels = np.array([str(label) for label in table["label"].values], dtype=object)
    onset = np.asarray(table["onset"].values, dtype=np.float64)
    kinds = sorted(set(labels))
    last = max(float(support.end[-1]), float(np.nanmax(onset)))
    whole = nap.IntervalSet(min(float(support.start[0]), float(np.nanmin(onset))), last + 1e-6)
    groups = {
        k: nap.Ts(np.sort(onset[labels == kind]), time_support=whole)
        for k, kind in enumerate(kinds)
    }
    return nap.TsGroup(groups, time_support=whole, metadata={"label": np.array(kinds)})


def _behavior(nap: Any, variables: xr.Dataset, stream: str) -> dict[str, Any]:
    kinds = {1: nap.Tsd, 2: nap.TsdFrame}
    times = variables[f"time_{stream}"].values
    support = _intervals(nap, np.array([[times[0], times[-1]]])) if len(times) else None
    return {
        str(name): kinds.get(variables[name].ndim, nap.TsdTensor)(
            t=times, d=variables[name].values, time_support=support
        )
        for name in variables.data_vars
        if variables[name].dtype.kind in "biuf"
    }
