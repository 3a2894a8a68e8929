"""NWB files with a table of units: those of other converters, and our own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from neuropipe.config.models import Positive, StrictModel
from neuropipe.errors import IngestError, Issue
from neuropipe.io.arrays import behavior_dataset
from neuropipe.io.checks import decode_texts
from neuropipe.io.entities import entities_of
from neuropipe.io.nwb_file import check_nwb_header, header_entities, look_into, read_nwb
from neuropipe.io.nwb_tables import behavior_of, events_of, file_attributes, trials_of
from neuropipe.io.registry import Reader, ReaderMatch
from neuropipe.io.spikes.handle import Sorting, SpikeHandle, open_sorting
from neuropipe.io.spikes.parts import Hdf5Parts

if TYPE_CHECKING:
    from neuropipe.config.models import IngestOverride

__all__ = ["READER", "NwbUnitsSettings", "open_recording", "probe"]

# Coordinate of the store -> columns that laboratories use for it, the usual one first.
TEXT_NAMES = {
    "quality": ("quality", "cluster_quality", "KSLabel", "label"),
    "region": ("region", "location", "brain_area", "brain_region"),
    "group": ("electrode_group", "group", "group_name", "shank"),
}
NUMBER_NAMES = {"x": ("x",), "y": ("y",), "z": ("z",), "depth": ("depth",)}


class NwbUnitsSettings(StrictModel):
    """Reading of the units of NWB files."""

    duration_s: Positive | None = Field(
        None, description="Duration of the recording, where the file does not state it."
    )


def probe(path: Path) -> ReaderMatch | None:
    """Return a match for an HDF5 file that says it is NWB and holds spike times of units."""
    entities = look_into(
        path, lambda file: header_entities(file) if "units/spike_times" in file else None
    )
    if entities is None:
        return None
    return ReaderMatch("nwb_units", "spikes", path, {**entities, **entities_of(path)})


def _text(value: Any) -> Any:
    """Return the name of a linked object, or the value itself."""
    return getattr(value, "name", value)


def _columns(units: Any, path: Path) -> dict[str, Any]:
    """Return the columns that the store has a place for."""
    found: dict[str, Any] = {}
    for name, usual in TEXT_NAMES.items():
        column = next((c for c in usual if c in units.colnames), None)
        if column is not None:
            values = [_text(value) for value in units[column][:]]
            found[name] = decode_texts(values, f"{path}: units.{column}")
    for name, usual in NUMBER_NAMES.items():
        column = next((c for c in usual if c in units.colnames), None)
        if column is not None:
            values = np.asarray(units[column].data[:])
            if values.dtype.kind in "iuf" and values.shape == (len(units),):
                found[name] = values.astype(np.float64)
    return found


def _ragged(units: Any, name: str, path: Path) -> tuple[Any, np.ndarray]:
    """Return the data set of a ragged column, unread, and the number of its entries per unit."""
    index = units[name]
    stops = np.asarray(index.data[:], dtype=np.int64)
    counts = np.diff(stops, prepend=0)
    values = index.target.data
    if (counts < 0).any() or len(stops) != len(units) or (stops[-1:] != len(values)).any():
        text = f"units.{name}_index ends at {stops[-1:]}, but there are {len(values)} entries"
        raise IngestError("LENGTH_MISMATCH", path, text, "correct the file")
    return values, counts


def _known_duration(nwb: Any) -> float | None:
    """Return until when intervals and series of the file run, s; None without any."""
    from pynwb import TimeSeries
    from pynwb.epoch import TimeIntervals

    ends = []
    for item in nwb.objects.values():
        if isinstance(item, TimeIntervals) and len(item):
            ends.append(float(np.nanmax(np.asarray(item["stop_time"].data[:]))))
        elif isinstance(item, TimeSeries) and len(getattr(item.data, "shape", ())):
            if item.timestamps is not None and len(item.timestamps):
                ends.append(float(item.timestamps[-1]))
            elif item.rate:
                ends.append(float(item.starting_time or 0.0) + item.data.shape[0] / item.rate)
    known = [end for end in ends if np.isfinite(end) and end > 0]
    return max(known) if known else None


def _sorting(nwb: Any, path: Path, settings: NwbUnitsSettings) -> tuple[Sorting, list[Issue]]:
    units = nwb.units
    if units is None or not len(units) or "spike_times" not in units.colnames:
        text = "the file has no units with spike times"
        raise IngestError("EMPTY", path, text, "is this a spike recording?")
    times, counts = _ragged(units, "spike_times", path)
    spikes = Hdf5Parts(Path(times.file.filename), times.name, counts)
    intervals = None
    if "obs_intervals" in units.colnames:
        column, numbers = _ragged(units, "obs_intervals", path)
        edges = np.asarray(column[:])
        if edges.ndim != 2 or edges.shape[1] != 2 or edges.dtype.kind not in "iuf":
            text = f"units.obs_intervals: {edges.dtype} {edges.shape}, expected start and stop"
            raise IngestError("LENGTH_MISMATCH", path, text, "correct or copy the file again")
        edges = edges.astype(np.float64)
        intervals = np.split(edges, np.cumsum(numbers)[:-1])
        if (edges[:, 1] < edges[:, 0]).any():
            text = "units.obs_intervals: an interval stops before it starts"
            raise IngestError("BAD_TIME", path, text, "correct the file")
    left_out = sorted(
        set(units.colnames)
        - {"spike_times", "obs_intervals", *NUMBER_NAMES}
        - {name for usual in TEXT_NAMES.values() for name in usual}
    )
    issues = []
    if left_out:
        text = f"columns of units without a place in the store: {', '.join(left_out)}; left out"
        issues.append(Issue("COLUMNS_LEFT_OUT", str(path), text, "", "info"))
    sorting = Sorting(
        units=np.asarray(units.id.data[:], dtype=np.int64),
        spikes=spikes,
        columns=_columns(units, path),
        intervals=intervals,
        observed=None if settings.duration_s is None else (0.0, settings.duration_s),
        duration=_known_duration(nwb),
    )
    return sorting, issues


def open_recording(path: Path, settings: NwbUnitsSettings, override: IngestOverride) -> Any:
    """Open the units of an NWB file.

    Raises
    ------
    IngestError
        ``EMPTY`` without units or spikes, ``BAD_TIME``, ``UNITS``, ``LENGTH_MISMATCH``,
        ``TRUNCATED``, ``NOT_THIS_FORMAT``.
    """
    if check_nwb_header(path, "correct the column `reader`"):
        from neuropipe.io.own_nwb import OwnNwbHandle

        return OwnNwbHandle(path, "spikes")
    from pynwb import NWBHDF5IO

    with NWBHDF5IO(path, "r", load_namespaces=True) as stream:
        return _open_foreign(read_nwb(stream, path), path, settings, override)


def _open_foreign(
    nwb: Any, path: Path, settings: NwbUnitsSettings, override: IngestOverride
) -> SpikeHandle:
    sorting, issues = _sorting(nwb, path, settings)
    attrs, found = file_attributes(nwb, path)
    return open_sorting(
        sorting,
        path=path,
        repair=override.repair,
        attrs=attrs,
        source_files=[str(path)],
        issues=[*issues, *found],
        behavior=behavior_dataset(*behavior_of(nwb, path)),
        trials=trials_of(nwb, path),
        event_table=events_of(nwb, path),
    )


READER = Reader(
    name="nwb_units",
    modalities=("spikes",),
    extensions=(".nwb",),
    settings=NwbUnitsSettings,
    probe="neuropipe.io.spikes.nwb:probe",
    open="neuropipe.io.spikes.nwb:open_recording",
)
