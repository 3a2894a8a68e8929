"""NWB files with roi responses: those of other converters, and our own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from neuropipe.config.models import StrictModel
from neuropipe.errors import ConfigError, IngestError, Issue
from neuropipe.io.calcium.handle import (
    UNITS,
    ArraySource,
    CalciumHandle,
    behavior_dataset,
    object_array,
)
from neuropipe.io.checks import HDF5_MAGIC, common_length, decode_texts, has_magic
from neuropipe.io.entities import entities_of
from neuropipe.io.nwb_file import check_nwb_header, header_entities, read_nwb
from neuropipe.io.nwb_tables import (
    behavior_of,
    events_of,
    file_attributes,
    times_of,
    trials_of,
)
from neuropipe.io.registry import Reader, ReaderMatch

if TYPE_CHECKING:
    from neuropipe.config.models import IngestOverride

__all__ = ["READER", "NwbSettings", "open_recording", "probe"]

LABEL_COLUMNS = ("label", "neuron", "neuron_name", "roi_name", "cell_name", "ID_labels", "name")
CONFIDENCE_COLUMNS = ("label_confidence", "confidence", "id_confidence")
KINDS = tuple(UNITS)


class NwbSettings(StrictModel):
    """Reading of NWB files."""

    kind: Literal["fluorescence", "dff", "deconvolved"] | None = Field(
        None, description="What the series is, when its name and container mislead."
    )
    label_column: str | None = Field(
        None, description="Column of the roi table with the names; null: found by usual names."
    )


def probe(path: Path) -> ReaderMatch | None:
    """Return a match for an HDF5 file that says it is NWB and holds roi responses."""
    if not has_magic(path, HDF5_MAGIC):
        return None
    import h5py

    try:
        with h5py.File(path, "r") as file:
            if "nwb_version" not in file.attrs:
                return None
            found = _has_roi_responses(file)
            entities = header_entities(file)
    except OSError as error:
        if path.suffix.lower() != ".nwb":
            return None
        issue = Issue("TRUNCATED", str(path), str(error), "copy the file again", "error")
        return ReaderMatch("nwb", "calcium", path, entities_of(path), (issue,))
    if not found:
        return None
    return ReaderMatch("nwb", "calcium", path, {**entities, **entities_of(path)})


def _has_roi_responses(file: Any) -> bool:
    found = []

    def look(_: str, item: Any) -> bool | None:
        kind = item.attrs.get("neurodata_type")  # anything, in a damaged file
        if isinstance(kind, str | bytes) and kind in ("RoiResponseSeries", b"RoiResponseSeries"):
            found.append(item.name)
            return True
        return None

    for group in ("processing", "acquisition"):
        if group in file and not found:
            file[group].visititems(look)
    return bool(found)


@dataclass(frozen=True)
class _Candidate:
    """A series of roi responses in a foreign file."""

    name: str
    kind: str
    series: Any


def _kind_of(container: str, name: str) -> str:
    words = f"{container}/{name}".lower()
    if "neuropil" in words:
        return "neuropil"
    if "deconv" in words or "spks" in words:
        return "deconvolved"
    if "dfoverf" in words or "dff" in words or "df_over_f" in words:
        return "dff"
    return "fluorescence"


def _candidates(nwb: Any) -> list[_Candidate]:
    from pynwb.ophys import RoiResponseSeries

    found = []
    for item in nwb.objects.values():
        if isinstance(item, RoiResponseSeries):
            parent = item.parent
            container = f"{type(parent).__name__}/{parent.name}"
            found.append(
                _Candidate(f"{parent.name}/{item.name}", _kind_of(container, item.name), item)
            )
    return sorted(found, key=lambda c: c.name)


def _choose(found: Sequence[_Candidate], wanted: str | None, path: Path) -> list[_Candidate]:
    """Return the series to read: the one that is named, or one of each kind."""
    names = ", ".join(c.name for c in found)
    if not found:
        raise IngestError(
            "EMPTY", path, "no RoiResponseSeries in the file", "is this a calcium recording?"
        )
    if wanted is not None:
        chosen = [c for c in found if wanted in (c.name, c.series.name, c.name.split("/")[0])]
        if len(chosen) != 1:
            what = "no series" if not chosen else "more than one series"
            raise ConfigError(f"{path}: {what} {wanted!r}; the file holds {names}")
        return chosen
    kinds = [c.kind for c in found]
    twice = next((kind for kind in KINDS if kinds.count(kind) > 1), None)
    if twice is not None:
        several = ", ".join(c.name for c in found if c.kind == twice)
        raise IngestError(
            "SEVERAL_SERIES",
            path,
            f"several series of kind {twice}: {several}",
            "name one with `series` in ingest.overrides",
        )
    return sorted(found, key=lambda c: KINDS.index(c.kind))


def _column(table: Any, name: str, rows: np.ndarray) -> np.ndarray:
    return np.asarray(table[name].data[:])[rows]


def _label_coordinates(
    table: Any, rows: np.ndarray, wanted: str | None, path: Path
) -> dict[str, Any]:
    if wanted is not None and wanted not in table.colnames:
        raise ConfigError(
            f"{path}: the roi table has no column {wanted!r}; it has {', '.join(table.colnames)}"
        )
    names = (wanted,) if wanted is not None else LABEL_COLUMNS
    found = [name for name in names if name in table.colnames]
    coords: dict[str, Any] = {}
    if found:
        values = _column(table, found[0], rows)
        if values.dtype.kind in "OUST":
            texts = decode_texts(values, f"{path}: {table.name}.{found[0]}")
            coords["label_source"] = ("roi", object_array(texts))
    trusted = [name for name in CONFIDENCE_COLUMNS if name in table.colnames]
    if trusted and found:
        values = _column(table, trusted[0], rows)
        if values.dtype.kind in "iuf":
            coords["label_confidence"] = ("roi", values.astype(np.float64))
    return coords


def _roi_coordinates(series: Any, wanted: str | None, path: Path) -> dict[str, Any]:
    region = series.rois
    table, rows = region.table, np.asarray(region.data[:], dtype=np.int64)
    ids = np.asarray(table.id.data[:], dtype=np.int64)[rows]
    if len(np.unique(ids)) < len(ids):
        twice = int(next(i for i in ids if (ids == i).sum() > 1))
        raise IngestError(
            "DUPLICATE_ROI", path, f"roi {twice} stands twice in the series", "correct the file"
        )
    coords: dict[str, Any] = {"roi": ("roi", ids)}
    coords |= _label_coordinates(table, rows, wanted, path)
    for name in ("x", "y", "z"):
        if name in table.colnames:
            values = _column(table, name, rows)
            if values.dtype.kind in "iuf" and values.ndim == 1:
                coords[name] = ("roi", values.astype(np.float64))
    for name in ("is_cell", "iscell", "accepted", "Accepted"):
        if name in table.colnames and "is_cell" not in coords:
            values = _column(table, name, rows)
            first = values if values.ndim == 1 else values[:, 0]
            coords["is_cell"] = ("roi", first.astype(bool))
            if values.ndim == 2 and values.shape[1] > 1:
                coords["iscell_prob"] = ("roi", values[:, 1].astype(np.float64))
    return coords


def _scale(candidate: _Candidate) -> dict[str, float]:
    """Return what turns the stored values into the stated unit, where that is not the identity."""
    stated = {
        "conversion": float(candidate.series.conversion or 1.0),
        "offset": float(candidate.series.offset or 0.0),
    }
    return {key: value for key, value in stated.items() if value != (key == "conversion")}


def _series_issues(chosen: Sequence[_Candidate], path: Path) -> list[Issue]:
    issues = []
    for candidate in chosen:
        scale = _scale(candidate)
        if scale:
            stated = " and ".join(f"{key} {value}" for key, value in scale.items())
            message = f"{candidate.name} states {stated}; source values are kept"
            issues.append(Issue("CONVERSION", str(path), message, "kept as an attribute", "info"))
    return issues


def _sources(chosen: Sequence[_Candidate], kind: str | None) -> list[ArraySource]:
    sources = []
    for candidate in chosen:
        unit = str(candidate.series.unit or "")
        attrs: dict[str, Any] = {"source_name": candidate.name, "source_units": unit}
        attrs |= _scale(candidate)
        name = kind if kind and len(chosen) == 1 else candidate.kind
        sources.append(ArraySource(name, candidate.series.data, False, attrs))
    return sources


def _same_rows(chosen: Sequence[_Candidate], path: Path) -> None:
    first = chosen[0]
    for other in chosen[1:]:
        same = other.series.rois.table is first.series.rois.table
        if not same or not np.array_equal(other.series.rois.data[:], first.series.rois.data[:]):
            raise IngestError(
                "LENGTH_MISMATCH",
                path,
                f"{first.name} and {other.name} do not hold the same rois",
                "name one with `series` in ingest.overrides",
            )


def _open_foreign(
    nwb: Any, path: Path, settings: NwbSettings, override: IngestOverride
) -> CalciumHandle:
    import xarray as xr

    chosen = _choose(_candidates(nwb), override.series, path)
    _same_rows(chosen, path)
    for candidate in chosen:
        if candidate.series.data.ndim != 2:
            shape = candidate.series.data.shape
            raise IngestError(
                "LENGTH_MISMATCH",
                path,
                f"{candidate.name} has shape {shape}, two dims expected",
                "name another series with `series` in ingest.overrides",
            )
    time, rate = times_of(chosen[0].series, override.rate_hz, path)
    lengths = {c.name: c.series.data.shape[0] for c in chosen}
    n_times, issues = common_length({**lengths, "timestamps": len(time)}, override.trim, path)
    coords = _roi_coordinates(chosen[0].series, settings.label_column, path)
    rois = {c.name: c.series.data.shape[1] for c in chosen}
    common_length({**rois, "rois": len(coords["roi"][1])}, 0, f"{path}: roi")
    attrs, found = file_attributes(nwb, path)
    if rate is not None:
        attrs["imaging_rate"] = rate
    streams, variables = behavior_of(nwb, path)
    return CalciumHandle(
        raw=xr.Dataset(coords={"time": ("time", time[:n_times]), **coords}),
        sources=_sources(chosen, settings.kind),
        attrs=attrs,
        source_files=[str(path)],
        issues=issues + found + _series_issues(chosen, path),
        behavior=behavior_dataset(streams, variables),
        trials=trials_of(nwb, path),
        event_table=events_of(nwb, path),
    )


def open_recording(path: Path, settings: NwbSettings, override: IngestOverride) -> Any:
    """Open an NWB file; the samples stay on disk.

    Raises
    ------
    IngestError
        ``EMPTY`` without roi responses, ``SEVERAL_SERIES`` when one has to be named,
        ``LENGTH_MISMATCH``, ``TRUNCATED``, ``NOT_THIS_FORMAT``.
    ConfigError
        The named series or column does not exist.
    """
    if check_nwb_header(path, "use the reader `hdf5` with a field map"):
        from neuropipe.io.own_nwb import OwnNwbHandle

        return OwnNwbHandle(path, "calcium")
    from pynwb import NWBHDF5IO

    stream = NWBHDF5IO(path, "r", load_namespaces=True)
    try:
        handle = _open_foreign(read_nwb(stream, path), path, settings, override)
    except BaseException:
        stream.close()
        raise
    handle.close = stream.close
    return handle


READER = Reader(
    name="nwb",
    modalities=("calcium",),
    extensions=(".nwb",),
    settings=NwbSettings,
    probe="neuropipe.io.calcium.nwb:probe",
    open="neuropipe.io.calcium.nwb:open_recording",
)
