"""Spikes of a store: sorted by unit and then time, with a second order by time for windows.

In ``/raw`` the spikes of one unit lie side by side, so a window of time would touch every chunk.
The group ``/by_time`` therefore holds the same spikes once more in the order of time, and where
each second begins. It is derived from ``/raw``: it enters no hash and no NWB file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING

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
# Spikes of one stretch of time: 12 bytes each, and as much again to sort them.
STRETCH_SPIKES, MAX_FILES = 1 << 20, 256
SPIKE = np.dtype([("time", np.float64), ("unit", np.int32)])


class SpikeLedger:
    """Check spikes while they stream into a store, and write their order by time.

    The spikes are set aside in temporary files, one per stretch of time, so that only one stretch
    at a time is held and sorted.

    Parameters
    ----------
    raw : xarray.Dataset
        ``/raw`` without the spikes; ``unit_start`` and ``n_spikes`` tell where units lie.
    n_spikes : int
        Number of spikes that will come.
    where : str
        Name of the recording, for messages.
    folder : Path
        Folder for the temporary files; they vanish with the ledger.
    """

    def __init__(self, raw: xr.Dataset, n_spikes: int, where: str, folder: Path) -> None:
        self._raw, self._where, self._n = raw, where, n_spikes
        self._seen = {"spike_time": 0, "spike_unit": 0}
        layout = [fault for fault in _layout_faults(raw) if fault[1] not in self._seen]
        self._faults = layout or _small_faults(raw, n_spikes)
        self._first, self._last = np.inf, -np.inf
        self._before: tuple[float, int] = (-np.inf, -1)
        n_files = min(MAX_FILES, max(1, -(-n_spikes // STRETCH_SPIKES)))
        observed = raw["observed"].values if "observed" in raw else np.zeros((1, 2))
        self._edges = np.linspace(observed.min(), observed.max(), n_files + 1)[1:-1]
        self._folder, self._stack = folder, ExitStack()
        self._files: list[IO[bytes]] = []

    def __enter__(self) -> SpikeLedger:
        for _ in range(len(self._edges) + 1):
            file = tempfile.TemporaryFile(dir=self._folder)
            self._files.append(self._stack.enter_context(file))
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def watch(self, blocks: Iterator[Block]) -> Iterator[Block]:
        """Yield the blocks unchanged."""
        for block in blocks:
            if block.name in self._seen and not self._faults:
                self._look(block)
            yield block

    def _look(self, block: Block) -> None:
        values = np.asarray(block.values)
        self._seen[block.name] += len(values)
        here = np.arange(block.start, block.start + len(values))
        owner = np.searchsorted(self._raw["unit_start"].values, here, side="right") - 1
        if block.name == "spike_unit":
            if not np.array_equal(values, owner):
                text = "spikes are not sorted by unit"
                self._faults.append(("LENGTH_MISMATCH", "spike_unit", text))
            return
        self._faults += _time_faults(values, owner, self._raw, self._before)
        if self._faults or not len(values):
            return
        self._before = (float(values[-1]), int(owner[-1]))
        self._first = min(self._first, float(values.min()))
        self._last = max(self._last, float(values.max()))
        spikes = np.empty(len(values), dtype=SPIKE)
        spikes["time"], spikes["unit"] = values, owner
        place = np.searchsorted(self._edges, values, side="right")
        for k in np.unique(place).tolist():
            self._files[k].write(spikes[place == k].tobytes())

    def check(self) -> None:
        """Raise when the spikes that came are not those that the units announce.

        Raises
        ------
        IngestError
            ``BAD_TIME`` or ``LENGTH_MISMATCH``.
        """
        for name, count in self._seen.items():
            if count != self._n and not self._faults:
                text = f"{count} spikes came, {self._n} were announced"
                self._faults.append(("LENGTH_MISMATCH", name, text))
        if self._faults:
            code, name, message = self._faults[0]
            raise IngestError(code, f"{self._where}: /raw/{name}", message, "the reader is wrong")

    def write_by_time(self, group: zarr.Group) -> None:
        """Write the spikes in the order of time, ties in the order of units."""
        first = float(np.floor(self._first))
        span = self._last - first
        step = max(1.0, float(np.ceil(span / MAX_SECONDS)))
        edges = first + step * np.arange(int(span // step) + 2)
        starts = np.zeros(len(edges), dtype=np.int64)
        chunks, shape = (min(WINDOW_CHUNK, self._n),), (self._n,)
        writers = {
            "time": ArrayWriter(
                group, "spike_time", ("spike",), shape, np.dtype(np.float64),
                attrs={"units": "s"}, chunks=chunks,
            ),
            "unit": ArrayWriter(
                group, "spike_unit", ("spike",), shape, np.dtype(np.int32), chunks=chunks
            ),
        }  # fmt: skip
        for file in self._files:
            file.seek(0)
            spikes = np.frombuffer(file.read(), dtype=SPIKE)
            order = np.argsort(spikes["time"], kind="stable")
            for name, writer in writers.items():
                writer.add(np.ascontiguousarray(spikes[name][order]))
            if len(spikes):
                _count_before(starts, edges, spikes["time"][order])
        for writer in writers.values():
            writer.close()
        write_variable(group, "second_start", xr.Variable(("second",), starts))
        write_group_attrs(group, {"first_s": first, "step_s": step}, ())


def _count_before(starts: np.ndarray, edges: np.ndarray, times: np.ndarray) -> None:
    """Add to each edge how many of the rising times lie before it."""
    low, high = np.searchsorted(edges, times[[0, -1]], side="right")
    starts[low:high] += np.searchsorted(times, edges[low:high], side="left")
    starts[high:] += len(times)


def _small_faults(raw: xr.Dataset, n_spikes: int) -> list[tuple[str, str, str]]:
    """Return what is wrong with where units lie."""
    starts, counts = raw["unit_start"].values, raw["n_spikes"].values
    if np.array_equal(starts, np.cumsum(counts) - counts) and counts.sum() == n_spikes:
        return []
    text = f"unit_start and n_spikes do not follow each other over {n_spikes} spikes"
    return [("LENGTH_MISMATCH", "unit_start", text)]


def _time_faults(
    times: np.ndarray, owner: np.ndarray, raw: xr.Dataset, before: tuple[float, int] = (-np.inf, -1)
) -> list[tuple[str, str, str]]:
    """Return what is wrong with times, the last of them before these included."""
    if not np.isfinite(times).all():
        return [("BAD_TIME", "spike_time", "some spike times are NaN or infinite")]
    times = np.concatenate([[before[0]], times])
    owner = np.concatenate([[before[1]], owner])
    back = np.flatnonzero((times[1:] < times[:-1]) & (owner[1:] == owner[:-1]))
    if not back.size:
        return []
    k = int(back[0])
    text = f"unit {raw['unit'].values[owner[k]]}: {times[k]!r} s, then {times[k + 1]!r} s"
    return [("BAD_TIME", "spike_time", text)]


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
    if faults := _small_faults(ds, len(times)):
        return faults
    counts = ds["n_spikes"].values
    if not np.array_equal(units, np.repeat(np.arange(len(counts), dtype=np.int32), counts)):
        return [("LENGTH_MISMATCH", "spike_unit", "spikes are not sorted by unit")]
    return _time_faults(times, units, ds)


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
