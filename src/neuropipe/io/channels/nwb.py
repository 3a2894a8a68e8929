"""NWB files with electrical series: those of other converters, and our own of channels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from neuropipe.config.models import StrictModel
from neuropipe.errors import IngestError, Issue
from neuropipe.io.arrays import behavior_dataset, object_array
from neuropipe.io.channels.grid import Times, n_times
from neuropipe.io.channels.names import unique_names
from neuropipe.io.channels.nwb_samples import NwbSamples
from neuropipe.io.channels.opening import open_channels
from neuropipe.io.channels.probing import modality_of_path
from neuropipe.io.channels.source import ChannelSource, ChannelTable
from neuropipe.io.channels.units import si_unit
from neuropipe.io.checks import decode_texts
from neuropipe.io.entities import entities_of
from neuropipe.io.nwb_file import OWN_MARK, check_nwb_header, header_entities, look_into, read_nwb
from neuropipe.io.nwb_tables import behavior_of, events_of, file_attributes, times_of, trials_of
from neuropipe.io.registry import Reader, ReaderMatch
from neuropipe.store.clock import RegularClock

if TYPE_CHECKING:
    from neuropipe.config.models import IngestOverride

__all__ = ["READER", "NwbElectricalSettings", "open_recording", "probe"]

MODALITIES = ("eeg", "meg", "ieeg")
# Where raw and filtered recordings lie; behaviour and images are not looked through.
PLACES = ("acquisition", "processing/ecephys")
NAMES = ("channel_name", "label", "name", "electrode_name", "electrode_label")
NO_PLACE = ("", "unknown", "n/a", "none")
MICROMETRE = 1e-6
# No head is so small: such numbers are likely millimetres.
LEAST_SPAN_M = 1e-3


class NwbElectricalSettings(StrictModel):
    """Reading of electrical series of NWB files."""

    ch_type: Literal["eeg", "seeg", "ecog", "dbs"] | None = Field(
        None, description="Type of all channels; NWB does not state it, channels.tsv of BIDS does."
    )


def probe(path: Path) -> ReaderMatch | None:
    """Return a match for NWB files with an electrical series, and for our own of channels."""

    def look(file: Any) -> tuple[bool, str, bool, dict[str, str]]:
        is_own = OWN_MARK in file
        modality = _own_modality(file) if is_own else modality_of_path(path, "")
        return is_own, modality, is_own or bool(_series_names(file)), header_entities(file)

    found = look_into(path, look)
    if found is None:
        return None
    is_own, modality, is_full, entities = found
    if modality not in MODALITIES and (is_own or not is_full):
        return None
    text = "the file has no electrical series, although its name says so"
    issues = () if is_full else (Issue("EMPTY", str(path), text, "copy the file again", "error"),)
    entities |= entities_of(path)
    return ReaderMatch("nwb_electrical", modality or "ieeg", path, entities, issues)


def _own_modality(file: Any) -> str:
    """Return the modality of a file that we wrote, "" when its record is damaged."""
    from neuropipe.store.nwb.manifest import Manifest
    from neuropipe.store.schema import modality_of

    try:
        record = Manifest.from_json(decode_texts([file[OWN_MARK][()]], str(file.filename))[0])
        return modality_of(record.attrs("/"))
    except (ValueError, KeyError, TypeError):
        return ""


def _series_names(file: Any) -> list[str]:
    """Return the places of the electrical series of a file, sorted."""
    found: list[str] = []

    def visit(place: str) -> None:
        group = file[place]
        for name in sorted(group):
            here = f"{place}/{name}"
            member = group.get(name)
            kind = "" if member is None else member.attrs.get("neurodata_type", "")
            if kind == "ElectricalSeries":
                found.append(here)
            elif kind in ("LFP", "FilteredEphys", "ProcessingModule"):
                visit(here)

    for place in PLACES:
        if place in file:
            visit(place)
    return found


def open_recording(
    path: Path,
    settings: NwbElectricalSettings,
    override: IngestOverride,
    modality: str | None = None,
) -> Any:
    """Open the electrical series of an NWB file; no samples are read.

    Raises
    ------
    IngestError
        ``EMPTY``, ``SEVERAL_SERIES``, ``LENGTH_MISMATCH``, ``MISSING_SIDECAR``, ``TRUNCATED``,
        ``NOT_THIS_FORMAT``, and those of `open_channels`.
    """
    if check_nwb_header(path, "correct the column `reader`"):
        import h5py

        from neuropipe.io.own_nwb import OwnNwbHandle

        with h5py.File(path, "r") as file:
            own = _own_modality(file)
        return OwnNwbHandle(path, modality or own)
    from pynwb import NWBHDF5IO

    with NWBHDF5IO(path, "r", load_namespaces=True) as stream:
        source = _source(read_nwb(stream, path), path, settings, override)
    return open_channels(source, modality, override)


def _chosen(nwb: Any, path: Path, name: str | None) -> Any:
    """Return the series to read: the one named, or the only electrical one."""
    from pynwb import TimeSeries
    from pynwb.ecephys import ElectricalSeries

    known = [item for item in nwb.objects.values() if isinstance(item, TimeSeries)]
    flat = {f"{getattr(s.parent, 'name', '')}/{s.name}".removeprefix("root/"): s for s in known}
    named = [s for place, s in sorted(flat.items()) if name in (s.name, place)]
    if len(named) == 1:
        return named[0]
    electrical = {p: s for p, s in sorted(flat.items()) if isinstance(s, ElectricalSeries)}
    if name is None and len(electrical) == 1:
        return next(iter(electrical.values()))
    listed = ", ".join(electrical or sorted(flat)) or "none"
    if name is not None:
        text = f"series {name!r} is not one of {listed}"
    elif not electrical:
        hint = "name another by `series` in ingest.overrides" if flat else "copy the file again"
        raise IngestError("EMPTY", path, f"no electrical series; other series: {listed}", hint)
    else:
        text = f"holds several electrical series: {listed}"
    raise IngestError("SEVERAL_SERIES", path, text, "name one: `series` in ingest.overrides")


def _source(
    nwb: Any, path: Path, settings: NwbElectricalSettings, override: IngestOverride
) -> ChannelSource:
    series = _chosen(nwb, path, override.series)
    samples = _samples(series, path)
    time = _times(series, override.rate_hz, samples.shape[0], path)
    if n_times(time) != samples.shape[0]:
        text = f"{samples.shape[0]} samples, {n_times(time)} timestamps"
        raise IngestError("LENGTH_MISMATCH", f"{path}: {series.name}", text, "correct the file")
    table, issues = _table(series, samples.shape[1], path, settings.ch_type)
    attrs, found = file_attributes(nwb, path)
    attrs.pop("indicator", None)
    return ChannelSource(
        path=path,
        channels=table,
        samples=samples,
        time=time,
        types_stated=settings.ch_type is not None,
        units_stated=False,
        events=events_of(nwb, path),
        attrs=attrs,
        source_files=(path,),
        issues=(*issues, *found),
        trials=trials_of(nwb, path),
        behavior=behavior_dataset(*behavior_of(nwb, path)),
    )


def _times(series: Any, rate_hz: float | None, count: int, path: Path) -> Times:
    """Return the clock of the file: start and rate where it states them."""
    rate = series.rate or rate_hz
    if series.timestamps is None and rate:
        return RegularClock(float(series.starting_time or 0.0), float(rate), count)
    return times_of(series, rate_hz, path)[0]


def _samples(series: Any, path: Path) -> NwbSamples:
    shape, dtype = tuple(series.data.shape), np.dtype(series.data.dtype)
    if len(shape) not in (1, 2) or dtype.kind not in "iuf":
        text = f"{len(shape)}-D {dtype}, expected numbers (time, channel)"
        raise IngestError("NOT_THIS_FORMAT", f"{path}: {series.name}", text, "choose by `series`")
    n = shape[1] if len(shape) == 2 else 1
    factor = np.full(n, float(series.conversion or 1.0))
    per_channel = getattr(series, "channel_conversion", None)
    if per_channel is not None:
        factor = factor * np.asarray(per_channel[:], dtype=np.float64)
    offset = np.full(n, float(getattr(series, "offset", 0.0) or 0.0))
    return NwbSamples(path, series.data.name, dtype, (shape[0], n), factor, offset)


def _table(
    series: Any, n: int, path: Path, ch_type: str | None
) -> tuple[ChannelTable, list[Issue]]:
    rows = getattr(series, "electrodes", None)
    frame = rows.to_dataframe() if rows is not None else None
    if frame is not None and len(frame) != n:
        text = f"{n} columns of samples, {len(frame)} electrodes"
        raise IngestError("LENGTH_MISMATCH", f"{path}: {series.name}", text, "correct the file")
    column = next((c for c in NAMES if frame is not None and c in frame.columns), None)
    if frame is None or column is None:
        ids = range(n) if frame is None else frame.index
        header = [f"E{number}" for number in ids]
    else:
        header = decode_texts(frame[column].tolist(), f"{path}: electrodes.{column}")
    names, issues = unique_names(header, path)
    position, found = _positions(frame, n, path)
    known = si_unit(str(series.unit))
    nan = np.full(n, np.nan)
    table = ChannelTable(
        name=tuple(names),
        source=tuple(header),
        ch_type=(ch_type or ("eeg" if rows is not None else "misc"),) * n,
        units=(known[0] if known else "",) * n,
        declared=(str(series.unit) if known else "",) * n,
        bad=_column(frame, "bad", n, bool, False),
        reference=tuple(_texts(frame, "reference", n)),
        position=position,
        low_cutoff=nan,
        high_cutoff=nan.copy(),
        columns={
            "electrode_group": object_array(_texts(frame, "group_name", n)),
            "anat_label": object_array(_texts(frame, "location", n)),
            "impedance": _column(frame, "imp", n, np.float64, np.nan),
        }
        if frame is not None
        else {},
    )
    return table, [*issues, *found]


def _column(frame: Any, name: str, n: int, dtype: type, default: Any) -> np.ndarray:
    if frame is None or name not in frame.columns or frame[name].dtype.kind not in "biuf":
        return np.full(n, default, dtype=dtype)
    return frame[name].to_numpy().astype(dtype)


def _texts(frame: Any, name: str, n: int) -> list[str]:
    if frame is None or name not in frame.columns:
        return [""] * n
    texts = [str(value) for value in frame[name]]
    return ["" if text.strip().lower() in NO_PLACE else text for text in texts]


def _positions(frame: Any, n: int, path: Path) -> tuple[np.ndarray, list[Issue]]:
    """Return positions in metres: NWB states micrometres."""
    columns = [_column(frame, axis, n, np.float64, np.nan) for axis in "xyz"]
    position = MICROMETRE * np.stack(columns, axis=1)
    known = position[np.isfinite(position)]
    issues = []
    if known.size and 0 < float(np.abs(known).max()) < LEAST_SPAN_M:
        text = (
            f"positions of electrodes reach only {1e3 * float(np.abs(known).max()):.3g} mm when "
            "taken as micrometres, the unit of NWB"
        )
        hint = "the file may hold another unit; electrodes.tsv of BIDS states its own"
        issues.append(Issue("POSITION_UNIT", f"{path}: electrodes", text, hint))
    return position, issues


READER = Reader(
    name="nwb_electrical",
    modalities=MODALITIES,
    extensions=(".nwb",),
    settings=NwbElectricalSettings,
    probe="neuropipe.io.channels.nwb:probe",
    open="neuropipe.io.channels.nwb:open_recording",
)
