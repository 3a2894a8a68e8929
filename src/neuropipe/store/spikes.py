"""Spikes of a store: sorted by unit and then time, with a second order by time for windows.

In ``/raw`` the spikes of one unit lie side by side, so a window of time would touch every chunk.
The group ``/by_time`` therefore holds the same spikes once more in the order of time, and where
each second begins. It is derived from ``/raw``: it enters no hash and no NWB file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from neuropipe.errors import DataError, IngestError
from neuropipe.store.series import Block
from neuropipe.store.zarr_arrays import ArrayWriter, write_group_attrs, write_variable

if TYPE_CHECKING:
    import zarr

__all__ = ["BY_TIME", "SpikeLedger", "spike_faults", "spikes_between", "spikes_of"]

BY_TIME = "by_time"
# A window decodes what it touches: short chunks, because one second holds few spikes.
WINDOW_CHUNK = 1 << 16
MAX_SECONDS = 10_000_000


class SpikeLedger:
    """Check spikes while they stream into a store, and write their order by time.

    Parameters
    ----------
    raw : xarray.Dataset
        ``/raw`` without the spikes; ``unit_start`` and ``n_spikes`` tell where units lie.
    n_spikes : int
        Number of spikes that will come.
    where : str
        Name of the recording, for messages.
    """

    def __init__(self, raw: xr.Dataset, n_spikes: int, where: str) -> None:
        self._raw, self._where = raw, where
        self._arrays = {
            "spike_time": np.full(n_spikes, np.nan),
            "spike_unit": np.full(n_spikes, -1, dtype=np.int32),
        }

    def watch(self, blocks: Iterator[Block]) -> Iterator[Block]:
        """Yield the blocks unchanged."""
        for block in blocks:
            held = self._arrays.get(block.name)
            if held is not None:
                held[block.start : block.start + len(block.values)] = block.values
            yield block

    def check(self) -> None:
        """Raise when the spikes that came are not those that the units announce.

        Raises
        ------
        IngestError
            ``BAD_TIME`` or ``LENGTH_MISMATCH``.
        """
        faults = spike_faults(self._raw.assign({k: ("spike", v) for k, v in self._arrays.items()}))
        if faults:
            code, name, message = faults[0]
            raise IngestError(code, f"{self._where}: /raw/{name}", message, "the reader is wrong")

    def write_by_time(self, group: zarr.Group) -> None:
        """Write the spikes in the order of time, ties in the order of units."""
        times, units = self._arrays["spike_time"], self._arrays["spike_unit"]
        order = np.argsort(times, kind="stable")
        first = float(np.floor(times[order[0]]))
        span = float(times[order[-1]]) - first
        step = max(1.0, float(np.ceil(span / MAX_SECONDS)))
        edges = first + step * np.arange(int(span // step) + 2)
        starts = np.searchsorted(times[order], edges, side="left").astype(np.int64)
        for name, values in (("spike_time", times), ("spike_unit", units)):
            chunks = (min(WINDOW_CHUNK, len(values)),)
            attrs = {"units": "s"} if name == "spike_time" else {}
            writer = ArrayWriter(
                group, name, ("spike",), values.shape, values.dtype, attrs=attrs, chunks=chunks
            )
            writer.add(values[order])
            writer.close()
        write_variable(group, "second_start", xr.Variable(("second",), starts))
        write_group_attrs(group, {"first_s": first, "step_s": step}, ())


def spike_faults(ds: xr.Dataset) -> list[tuple[str, str, str]]:
    """Return what is wrong with the spikes of ``/raw``: code, variable and message.

    Parameters
    ----------
    ds : xarray.Dataset
        ``/raw`` of a spike recording; all spikes are read.
    """
    layout = _layout_faults(ds)
    if layout:
        return layout
    times, units = ds["spike_time"].values, ds["spike_unit"].values
    starts, counts = ds["unit_start"].values, ds["n_spikes"].values
    if not np.array_equal(starts, np.cumsum(counts) - counts) or counts.sum() != len(times):
        text = f"unit_start and n_spikes do not follow each other over {len(times)} spikes"
        return [("LENGTH_MISMATCH", "unit_start", text)]
    if not np.array_equal(units, np.repeat(np.arange(len(counts), dtype=np.int32), counts)):
        return [("LENGTH_MISMATCH", "spike_unit", "spikes are not sorted by unit")]
    if not np.isfinite(times).all():
        return [("BAD_TIME", "spike_time", "some spike times are NaN or infinite")]
    back = np.flatnonzero((np.diff(times) < 0) & (np.diff(units) == 0))
    if back.size:
        k = int(back[0])
        text = f"unit {ds['unit'].values[units[k]]}: {times[k]!r} s, then {times[k + 1]!r} s"
        return [("BAD_TIME", "spike_time", text)]
    return []


def _layout_faults(ds: xr.Dataset) -> list[tuple[str, str, str]]:
    expected: dict[str, tuple[tuple[str, ...], type]] = {
        "spike_time": (("spike",), np.float64),
        "spike_unit": (("spike",), np.int32),
        "unit_start": (("unit",), np.int64),
        "n_spikes": (("unit",), np.int64),
        "obs_start": (("unit_interval", "unit"), np.float64),
        "obs_stop": (("unit_interval", "unit"), np.float64),
    }
    found = []
    for name, (dims, dtype) in expected.items():
        if name not in ds.variables:
            found.append(("NO_SERIES", name, f"absent, expected {np.dtype(dtype)} along {dims}"))
        elif ds[name].dims != dims or ds[name].dtype != dtype:
            text = f"{ds[name].dtype} along {ds[name].dims}, expected {np.dtype(dtype)} {dims}"
            found.append(("DIMS", name, text))
    return found


def _raw(store: xr.DataTree) -> xr.Dataset:
    raw = store.children["raw"].to_dataset() if "raw" in store.children else xr.Dataset()
    if "spike_time" not in raw:
        raise DataError("the store has no /raw/spike_time; expected an ingested spike recording")
    return raw


def spikes_of(store: xr.DataTree, position: int) -> np.ndarray:
    """Return the spike times of one unit, seconds; only they are read.

    Parameters
    ----------
    store : xarray.DataTree
        An ingested spike recording.
    position : int
        Position of the unit along ``unit``.
    """
    raw = _raw(store)
    start = int(raw["unit_start"].values[position])
    return raw["spike_time"].variable[start : start + int(raw["n_spikes"].values[position])].values


def spikes_between(store: xr.DataTree, start: float, stop: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the spikes of a window of time, in the order of time.

    Parameters
    ----------
    store : xarray.DataTree
        An ingested spike recording; one read from NWB has no second order, and is read whole.
    start, stop : float
        Window ``[start, stop)``, seconds.

    Returns
    -------
    tuple of numpy.ndarray
        Times (float64) and positions along ``unit`` (int32), each ``(n_spikes,)``.
    """
    if BY_TIME not in store.children:
        raw = _raw(store)
        times, units = raw["spike_time"].values, raw["spike_unit"].values
        order = np.argsort(times, kind="stable")
        times, units = times[order], units[order]
    else:
        node = store.children[BY_TIME].to_dataset()
        seconds = node["second_start"].values
        first, step = float(node.attrs["first_s"]), float(node.attrs["step_s"])
        low, high = np.clip(
            [np.floor((start - first) / step), np.ceil((stop - first) / step)], 0, len(seconds) - 1
        )
        here = slice(int(seconds[int(low)]), int(seconds[int(high)]))
        times, units = (node[n].variable[here].values for n in ("spike_time", "spike_unit"))
    a, b = np.searchsorted(times, [start, stop], side="left")
    return times[a:b], units[a:b]
