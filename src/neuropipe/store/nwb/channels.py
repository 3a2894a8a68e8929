"""EEG, MEG and intracranial EEG in NWB: one series per kind of channel, one table of channels.

A series of NWB holds one unit and one offset, so ``signal(time, channel)`` is split: electrodes
go into `ElectricalSeries`, whose ``channel_conversion`` keeps integers as they are, everything else
into one `TimeSeries` per channel type and scale.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from hdmf.common import DynamicTable, DynamicTableRegion, ElementIdentifiers
from hdmf.data_utils import AbstractDataChunkIterator, DataChunk
from pynwb import TimeSeries
from pynwb.device import Device
from pynwb.ecephys import ElectricalSeries, ElectrodeGroup

from neuropipe.store.chunks import CHUNK_ROWS, SMALL_BYTES, chunk_shape
from neuropipe.store.hashing import read_chunkwise
from neuropipe.store.variables import is_text

if TYPE_CHECKING:
    import xarray as xr

    from neuropipe.store.nwb.builder import NwbBuilder

__all__ = ["ELECTRODE_TYPES", "add_raw"]

GROUP, PLACE, MAIN = "/raw", "/acquisition", "signal"
ELECTRODE_TYPES = ("eeg", "seeg", "ecog", "dbs")
UNKNOWN = "unknown"
# NWB states positions of electrodes in micrometres, the store in metres.
MICROMETRES = 1e6


@dataclass(frozen=True)
class _Part:
    """Channels that one series of NWB can hold.

    Attributes
    ----------
    name : str
        Name of the series.
    kind, units : str
        Type and unit of the channels.
    columns : numpy.ndarray
        Positions along ``channel``, ``(n_channels,)``.
    scales : numpy.ndarray
        Factor to SI per channel, ``(n_channels,)``.
    offset : float
        Added after the factor, in SI units.
    """

    name: str
    kind: str
    units: str
    columns: np.ndarray
    scales: np.ndarray
    offset: float

    @property
    def is_electrical(self) -> bool:
        return self.kind in ELECTRODE_TYPES and self.units == "V"


class _Rows:
    """Samples of all channels, read once for all series that share them.

    The series are written in turn, the same stretch of time of each; what was read for the first
    serves the others.
    """

    def __init__(self, variable: xr.Variable) -> None:
        self.variable = variable
        self.step = chunk_shape(variable.shape, variable.dtype.itemsize)[0]
        self._start, self._held = -1, np.empty(0)

    def at(self, start: int) -> np.ndarray:
        if start != self._start:
            self._held = np.empty(0)  # or two stretches would be in memory
            stop = min(start + self.step, self.variable.shape[0])
            self._held, self._start = read_chunkwise(self.variable, slice(start, stop)), start
        return self._held


def _as_slice(columns: np.ndarray) -> slice | np.ndarray:
    """Return neighbouring columns as a slice, which copies nothing."""
    first, last = int(columns[0]), int(columns[-1])
    return slice(first, last + 1) if last - first + 1 == len(columns) else columns


class _PartBlocks(AbstractDataChunkIterator):  # type: ignore[misc]  # hdmf has no types
    """Hand the channels of one series to hdmf, one stretch of time after the other."""

    def __init__(self, rows: _Rows, columns: np.ndarray) -> None:
        self._rows, self._columns = rows, _as_slice(columns)
        self._shape = (rows.variable.shape[0], len(columns))
        self._starts = iter(range(0, self._shape[0], rows.step))

    def __iter__(self) -> Iterator[DataChunk]:
        return self

    def __next__(self) -> DataChunk:
        start = next(self._starts)
        values = self._rows.at(start)
        values = values[:, self._columns]
        return DataChunk(data=values, selection=np.s_[start : start + len(values), :])

    def recommended_chunk_shape(self) -> tuple[int, ...]:
        return min(self._rows.step, self._shape[0]), min(CHUNK_ROWS, self._shape[1])

    def recommended_data_shape(self) -> tuple[int, ...]:
        return self._shape

    @property
    def dtype(self) -> np.dtype:
        return self._rows.variable.dtype

    @property
    def maxshape(self) -> tuple[int, ...]:
        return self._shape


def add_raw(builder: NwbBuilder, ds: xr.Dataset) -> None:
    """Add the series, the electrodes, the table of channels and the mask of a recording.

    Parameters
    ----------
    builder : NwbBuilder
        File in the making.
    ds : xarray.Dataset
        ``/raw`` of the store.
    """
    parts = _parts(ds)
    electrodes = _add_electrodes(builder, ds, parts)
    rows, places = _Rows(ds[MAIN].variable), []
    for part in parts:
        _add_series(builder, ds, part, rows, electrodes)
        places.append({"path": f"{PLACE}/{part.name}/data", "columns": part.columns.tolist()})
    builder.manifest.place(GROUP, MAIN, {"parts": places})
    _add_columns(builder, ds)
    for key, variable in ds.data_vars.items():
        name = str(key)
        if name != MAIN and variable.dims[:1] == ("time",) and not is_text(variable.dtype):
            title = f"{MAIN}_valid" if name == "valid" else name
            add = builder.nwbfile.add_acquisition
            builder.series(add, GROUP, name, ds, PLACE, title)


def _column(ds: xr.Dataset, name: str, default: Any) -> np.ndarray:
    """Return a coordinate along ``channel``, the default for each where there is none."""
    if name in ds.variables and ds[name].dims == ("channel",):
        return np.asarray(ds[name].values)
    return np.full(ds.sizes["channel"], default, dtype=object if default == "" else None)


def _parts(ds: xr.Dataset) -> list[_Part]:
    """Return the series that the channels need, in the order of their first channels.

    `ElectricalSeries` has a factor per channel, `TimeSeries` only one; neither has offsets.
    """
    kinds, units = _column(ds, "ch_type", ""), _column(ds, "units", "")
    scales = np.asarray(_column(ds, "scale_factor", 1.0), dtype=np.float64)
    offsets = np.asarray(_column(ds, "add_offset", 0.0), dtype=np.float64)
    found: dict[tuple[Any, ...], list[int]] = {}
    for k in range(ds.sizes["channel"]):
        kind, unit = str(kinds[k]), str(units[k])
        shared = kind in ELECTRODE_TYPES and unit == "V"
        key = (kind, unit, float(offsets[k]), 1.0 if shared else float(scales[k]))
        found.setdefault(key, []).append(k)
    names: list[str] = []
    parts = []
    for (kind, unit, offset, _), positions in found.items():
        columns = np.array(positions)
        name = _unique(kind or MAIN, [*names, *map(str, ds.data_vars), f"{MAIN}_columns"])
        names.append(name)
        parts.append(_Part(name, kind, unit, columns, scales[columns], offset))
    return parts


def _unique(title: str, taken: Sequence[str]) -> str:
    """Return a name that HDF5 takes and no other object has."""
    title = re.sub(r"[/:\s]+", "_", title)
    if title not in taken:
        return title
    number = next(k for k in range(2, len(taken) + 3) if f"{title}_{k}" not in taken)
    return f"{title}_{number}"


def _add_series(
    builder: NwbBuilder,
    ds: xr.Dataset,
    part: _Part,
    rows: _Rows,
    electrodes: dict[int, int],
) -> None:
    variable = ds[MAIN].variable
    path = f"{PLACE}/{part.name}"
    same = bool((part.scales == part.scales[0]).all())
    known: dict[str, Any] = {
        "name": part.name,
        "data": _samples(builder, variable, rows, part.columns),
        "conversion": float(part.scales[0]) if same else 1.0,
        "offset": part.offset,
        "description": f"Channels of type {part.kind or UNKNOWN}",
        **builder.time(GROUP, "time", ds["time"].variable, path),
    }
    series: TimeSeries
    if part.is_electrical:
        region = DynamicTableRegion(
            name="electrodes",
            data=[electrodes[k] for k in part.columns.tolist()],
            description=f"Electrodes of {part.name}",
            table=builder.nwbfile.electrodes,
        )
        if not same:
            known["channel_conversion"] = part.scales
        series = ElectricalSeries(electrodes=region, **known)
    else:
        series = TimeSeries(unit=part.units or "n.a.", **known)
    builder.nwbfile.add_acquisition(series)
    builder.clocked_by(GROUP, "time", series)


def _samples(builder: NwbBuilder, variable: xr.Variable, rows: _Rows, columns: np.ndarray) -> Any:
    shape = (variable.shape[0], len(columns))
    if variable.size * variable.dtype.itemsize <= SMALL_BYTES:
        return builder.filtered(np.asarray(variable.values)[:, columns], shape)
    blocks = _PartBlocks(rows, columns)
    return builder.filtered(blocks, shape, blocks.recommended_chunk_shape())


def _add_columns(builder: NwbBuilder, ds: xr.Dataset) -> None:
    """Add the table of all channels: exactly one row per column of ``signal``, in its order."""
    title = f"{MAIN}_columns"
    names = [
        str(name)
        for name, variable in ds.variables.items()
        if variable.dims[:1] == ("channel",) and variable.size
    ]
    table = DynamicTable(
        name=title,
        description=f"One row per column of {MAIN}, whose channels lie in several series",
        id=ElementIdentifiers(name="id", data=np.arange(ds.sizes["channel"])),
        columns=builder.columns(GROUP, ds, names, f"{PLACE}/{title}"),
    )
    builder.nwbfile.add_acquisition(table)


def _add_electrodes(builder: NwbBuilder, ds: xr.Dataset, parts: Sequence[_Part]) -> dict[int, int]:
    """Fill the table of electrodes; return its row for each position along ``channel``."""
    channels = sorted(int(k) for part in parts if part.is_electrical for k in part.columns)
    if not channels:
        return {}
    device = Device(name="amplifier")
    builder.nwbfile.add_device(device)
    kinds, groups = _column(ds, "ch_type", ""), _column(ds, "electrode_group", "")
    shanks = {k: str(groups[k]) or str(kinds[k]) for k in channels}
    titles: dict[str, ElectrodeGroup] = {}
    for shank in dict.fromkeys(shanks.values()):
        name = _unique(shank, [group.name for group in titles.values()])
        text = f"Electrodes of {shank}"
        group = ElectrodeGroup(name=name, description=text, location=UNKNOWN, device=device)
        builder.nwbfile.add_electrode_group(group)
        titles[shank] = group
    texts = {"location": "anat_label", "reference": "reference"}
    known = {name: _column(ds, source, "") for name, source in texts.items()}
    if not any(str(known["reference"][k]) for k in channels):
        del known["reference"]
    numbers = {axis: _column(ds, axis, np.nan) for axis in "xyz"}
    if "impedance" in ds.variables and ds["impedance"].dims == ("channel",):
        numbers["imp"] = np.asarray(ds["impedance"].values)
    builder.nwbfile.add_electrode_column("channel_name", "Name of the channel")
    for k in channels:
        row: dict[str, Any] = {
            name: float(values[k]) * (MICROMETRES if name in "xyz" else 1.0)
            for name, values in numbers.items()
        }
        row |= {name: str(values[k]) or UNKNOWN for name, values in known.items()}
        builder.nwbfile.add_electrode(
            group=titles[shanks[k]], channel_name=str(ds["channel"].values[k]), **row
        )
    return {k: row for row, k in enumerate(channels)}
