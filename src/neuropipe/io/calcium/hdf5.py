"""Generic HDF5 files of a laboratory, read through a field map in the settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from neuropipe.config.models import Positive, StrictModel
from neuropipe.errors import ConfigError, IngestError, Issue
from neuropipe.io.calcium.handle import ArraySource, CalciumHandle, behavior_dataset, object_array
from neuropipe.io.calcium.laboratory import (
    TIME_UNITS,
    LaboratorySettings,
    side_names,
    stated_kind,
)
from neuropipe.io.calcium.names import TraceNames
from neuropipe.io.checks import HDF5_MAGIC, common_length, decode_texts, has_magic
from neuropipe.io.entities import entities_of
from neuropipe.io.field_map import FieldSource, roi_positions
from neuropipe.io.hdf5_fields import Fields
from neuropipe.io.registry import Reader, ReaderMatch
from neuropipe.io.sample_times import positions

if TYPE_CHECKING:
    import xarray as xr

    from neuropipe.config.models import IngestOverride

__all__ = [
    "READER",
    "Datasets",
    "Hdf5Settings",
    "Interval",
    "Variable",
    "open_fields",
    "open_recording",
    "probe",
]

MAIN_STREAM = "behavior"


class Variable(StrictModel):
    """A behaviour variable on a clock of its own."""

    path: str = Field(description="Data set of the values, (time,) or (time, column).")
    time: str | None = Field(None, description="Data set of its times; null: those of the traces.")
    stream: str | None = Field(
        None, description="Name of the clock (`time_<stream>`); null: the variable's name."
    )


class Interval(StrictModel):
    """Events given as start and stop indices into a clock."""

    path: str = Field(description="Data set of shape (2, n) or (n, 2).")
    index_base: Literal[0, 1] = Field(description="Index of the first sample.")
    time: str | None = Field(None, description="Data set of the times; null: those of the traces.")


class Datasets(StrictModel):
    """Paths inside the file, below `group` unless they begin with a slash."""

    traces: str | None = Field(None, description="Samples, two-dimensional.")
    neuropil: str | None = Field(None, description="Neuropil, shaped as the traces.")
    deconvolved: str | None = Field(None, description="Deconvolved traces, shaped as the traces.")
    time: str | None = Field(None, description="Sample times.")
    names: str | None = Field(None, description="Name per trace.")
    confidence: str | None = Field(None, description="Confidence per name.")
    position: str | None = Field(None, description="Positions, (roi, 2) or (roi, 3).")
    behavior: dict[str, str | Variable] = Field(
        default_factory=dict, description="Behaviour: name -> data set, or {path, time, stream}."
    )
    intervals: dict[str, Interval] = Field(
        default_factory=dict, description="Events: label -> {path, index_base, time}."
    )


class Hdf5Settings(LaboratorySettings):
    """Field map of the files of one laboratory."""

    group: str = Field("", description="Group of the recording, when a file holds several.")
    datasets: Datasets = Field(default_factory=Datasets, description="Where the fields lie.")
    orientation: Literal["auto", "time_roi", "roi_time"] = Field(
        "auto", description="Order of the dims; `auto`: time is the one as long as the times."
    )
    rate_hz: Positive | None = Field(None, description="Sampling rate, when there are no times.")
    session_start: str | None = Field(
        None, description="Attribute with the start of the session, ISO 8601 with UTC offset."
    )


def probe(path: Path) -> ReaderMatch | None:
    """Return a match for any HDF5 file that has no reader of its own; the header only is read."""
    if not has_magic(path, HDF5_MAGIC):
        return None
    import h5py

    try:
        with h5py.File(path, "r") as file:
            if "nwb_version" in file.attrs or "estimates/C" in file:  # NWB, CaImAn
                return None
            if "absolute_start" in file.attrs:  # temporaldata
                return None
    except OSError as error:
        issue = Issue("TRUNCATED", str(path), str(error), "copy the file again", "error")
        return ReaderMatch("hdf5", "calcium", path, entities_of(path), (issue,))
    return ReaderMatch("hdf5", "calcium", path, entities_of(path))


def _is_rows_first(
    settings: Hdf5Settings, shape: tuple[int, int], n_times: int | None, where: str, trim: int
) -> bool:
    """Tell whether the traces are ``(roi, time)``."""
    if settings.orientation != "auto":
        return settings.orientation == "roi_time"
    if n_times is None:
        raise ConfigError(
            f"{where}: without times the order of the dims {shape} cannot be found; set "
            "`orientation` to time_roi or roi_time"
        )
    fits = [abs(length - n_times) <= trim for length in shape]
    if fits == [True, True]:
        raise ConfigError(
            f"{where}: shape {shape} fits {n_times} times both ways; set `orientation` to "
            "time_roi or roi_time"
        )
    if not any(fits):
        off_by_one = 1 in [abs(length - n_times) for length in shape]
        raise IngestError(
            "LENGTH_MISMATCH",
            where,
            f"traces have shape {shape}, there are {n_times} times",
            "`trim: 1` in ingest.overrides allows for one sample at the end"
            if off_by_one
            else "check that the fields belong to one recording",
        )
    return fits[1]


class _Opening:
    """Collect the parts of one recording from an open file."""

    def __init__(
        self, path: Path, settings: Hdf5Settings, override: IngestOverride, fields: FieldSource
    ) -> None:
        self.path, self.settings, self.fields = path, settings, fields
        self.trim = override.trim
        self.rate = override.rate_hz or settings.rate_hz
        self.issues: list[Issue] = []
        self.files = [str(path)]

    def times(self, name: str | None) -> np.ndarray | None:
        """Return sample times in seconds, float64, source clock."""
        if name is None:
            return None
        scale = TIME_UNITS[self.settings.time_unit]
        values = np.asarray(self.fields.numbers(name)[...], np.float64).ravel()
        return values if scale == 1.0 else values * scale

    def sources(self, time: np.ndarray | None) -> tuple[list[ArraySource], tuple[int, int]]:
        """Return the series and their common ``(n_times, n_rois)``."""
        names = self.settings.datasets
        kind = stated_kind(self.settings, self.path, self.issues)
        n_times = None if time is None else len(time)
        wanted = {"neuropil": names.neuropil, "deconvolved": names.deconvolved}
        if wanted.get(kind) is not None:
            raise ConfigError(
                f"{self.path}: `kind: {kind}` and `datasets: {{{kind}: ...}}` name one series twice"
            )
        wanted = {kind: names.traces, **{key: wanted[key] for key in wanted if key != kind}}
        sources, shapes = [], {}
        for series, name in wanted.items():
            if name is None:
                continue
            array = self.fields.traces(name)
            where = self.fields.where(name)
            first = _is_rows_first(self.settings, array.shape, n_times, where, self.trim)
            attrs = {"units": self.settings.unit} if self.settings.unit and series == kind else {}
            sources.append(ArraySource(series, array, first, attrs))
            shapes[name] = array.shape[::-1] if first else array.shape
        rows = {name: shape[1] for name, shape in shapes.items()}
        n_rois, _ = common_length(rows, 0, f"{self.path}: roi")
        lengths = {name: shape[0] for name, shape in shapes.items()}
        if n_times is not None:
            lengths[names.time or "time"] = n_times
        length, issues = common_length(lengths, self.trim, self.path)
        self.issues += issues
        return sources, (length, n_rois)

    def trace_names(self, n_rois: int) -> TraceNames | None:
        """Return names from the file or from the side table."""
        names = self.settings.datasets
        if names.names is None:
            known = side_names(self.settings, self.path, n_rois, self.files)
            self.issues += known.issues if known is not None else ()
            return known
        if self.settings.names_table is not None:
            raise ConfigError("ingest.readers.hdf5: give `names_table` or `names`, not both")
        labels = decode_texts(self.fields.array(names.names)[...], self.fields.where(names.names))
        lengths = {"traces": n_rois, names.names: len(labels)}
        trust = None
        if names.confidence is not None:
            trust = np.asarray(self.fields.numbers(names.confidence)[...], np.float64).ravel()
            lengths[names.confidence] = len(trust)
        common_length(lengths, 0, f"{self.path}: roi")
        return TraceNames(tuple(labels), None if trust is None else tuple(trust.tolist()))

    def behavior(self, time: np.ndarray) -> xr.Dataset | None:
        """Return every behaviour variable on the clock of its stream."""
        streams, variables = {MAIN_STREAM: time}, {}
        clocks: dict[str | None, str] = {None: MAIN_STREAM}
        for name, given in sorted(self.settings.datasets.behavior.items()):
            item = Variable(path=given) if isinstance(given, str) else given
            values = np.asarray(self.fields.numbers(item.path)[...])
            if values.ndim not in (1, 2):
                raise IngestError(
                    "LENGTH_MISMATCH",
                    self.fields.where(item.path),
                    f"shape {values.shape}, (time,) or (time, column) expected",
                    "correct the field map",
                )
            if item.time not in clocks:
                clocks[item.time] = self._new_stream(item.stream or name, clocks, item.stream)
                streams[clocks[item.time]] = self.times(item.time)
            stream = clocks[item.time]
            lengths = {name: len(values), f"time_{stream}": len(streams[stream])}
            length, issues = common_length(lengths, self.trim, f"{self.path}: behavior")
            self.issues += issues
            if length < len(streams[stream]):
                shorter = f"{stream}_{name}"
                streams[shorter] = streams[stream][:length]
                stream = shorter
            variables[name] = (stream, values[:length])
        return behavior_dataset(streams, variables)

    def _new_stream(self, name: str, clocks: Mapping[str | None, str], given: str | None) -> str:
        """Return the name of one more clock: two clocks under one name would mix their times."""
        if name not in clocks.values():
            return name
        if given is None:
            return f"{name}_own"
        raise ConfigError(
            f"{self.path}: ingest.readers.hdf5.datasets.behavior: two clocks are named "
            f"{name!r}; give each data set of times a `stream` of its own"
        )

    def events(self, time: np.ndarray) -> xr.Dataset | None:
        """Return the intervals as events, seconds on the source clock."""
        import xarray as xr

        found: list[tuple[float, float, str, str]] = []
        for label, item in sorted(self.settings.datasets.intervals.items()):
            clock = time if item.time is None else self.times(item.time)
            for start, stop in self._pairs(item, len(clock)):
                found.append((clock[start], clock[stop] - clock[start], label, item.path))
        if not self.settings.datasets.intervals:
            return None
        found.sort()
        columns = list(zip(*found, strict=True)) or [(), (), (), ()]
        return xr.Dataset(
            {
                "onset": ("event", np.array(columns[0], np.float64)),
                "duration": ("event", np.array(columns[1], np.float64)),
                "label": ("event", object_array(columns[2])),
                "code": ("event", np.full(len(found), -1, np.int64)),
                "source": ("event", object_array(columns[3])),
            }
        )

    def _pairs(self, item: Interval, n_times: int) -> np.ndarray:
        where = self.fields.where(item.path)
        pairs = np.asarray(self.fields.numbers(item.path)[...])
        if pairs.ndim != 2 or 2 not in pairs.shape:
            raise IngestError(
                "LENGTH_MISMATCH",
                where,
                f"shape {pairs.shape}, (2, n) or (n, 2) expected",
                "correct the field map, or the data set",
            )
        pairs = pairs.T if _is_starts_first(pairs, where) else pairs
        hint = "check `index_base` and `time` of the intervals"
        pairs = positions(pairs, item.index_base, n_times, where, hint)
        back = np.flatnonzero(pairs[:, 1] < pairs[:, 0])
        if back.size:
            k = int(back[0])
            start, stop = (pairs[k] + item.index_base).tolist()
            text = f"interval {k} runs from sample {start} back to {stop}"
            raise IngestError("LENGTH_MISMATCH", where, text, hint)
        return pairs


def _is_starts_first(pairs: np.ndarray, where: str) -> bool:
    """Tell whether the first row holds all starts and the second all stops.

    Two intervals fit both ways: those that do not overlap are meant.
    """
    if pairs.shape != (2, 2):
        return pairs.shape[0] == 2
    (a, b), (c, d) = pairs.tolist()
    # b == c leaves both ways with the same intervals.
    if a <= c <= b <= d:
        return True
    if a <= b <= c <= d:
        return False
    raise IngestError(
        "LENGTH_MISMATCH",
        where,
        f"{[[a, b], [c, d]]} may be (2, n) or (n, 2), and overlaps or goes back both ways",
        "sort the intervals in the source",
    )


def _coordinates(
    time: np.ndarray, n_rois: int, names: TraceNames | None, position: np.ndarray | None
) -> xr.Dataset:
    import xarray as xr

    coords: dict[str, Any] = {
        "time": ("time", time),
        "roi": ("roi", np.arange(n_rois, dtype=np.int64)),
    }
    if names is not None:
        coords["label_source"] = ("roi", object_array(names.labels))
        if names.confidence is not None:
            coords["label_confidence"] = ("roi", np.array(names.confidence, np.float64))
    if position is not None:
        for axis, column in zip("xyz", position.T, strict=False):
            coords[axis] = ("roi", np.asarray(column, np.float64))
    return xr.Dataset(coords=coords)


def _session_start(fields: FieldSource, settings: Hdf5Settings) -> Mapping[str, str]:
    if settings.session_start is None:
        return {}
    return {"session_start": fields.attribute(settings.session_start)}


def open_recording(path: Path, settings: Hdf5Settings, override: IngestOverride) -> CalciumHandle:
    """Open one recording of a generic HDF5 file; the samples stay on disk.

    Raises
    ------
    IngestError
        A field is absent, lengths do not agree, or the file is damaged.
    ConfigError
        The field map does not say where the traces lie, or cannot tell rows from samples.
    """
    return open_fields(path, settings, override, Fields(path, settings.group))


def open_fields(
    path: Path, settings: Hdf5Settings, override: IngestOverride, fields: FieldSource
) -> CalciumHandle:
    """Open a recording whose fields were found: HDF5, or another format with named arrays."""
    try:
        opening = _Opening(path, settings, override, fields)
        if settings.datasets.traces is None:
            raise ConfigError(
                f"{path}: the settings do not say where the traces lie; set `datasets: {{traces: "
                f"...}}` in ingest.readers.<reader> or ingest.overrides.<recording>. "
                f"Two-dimensional data sets: {', '.join(fields.matrices()) or 'none'}"
            )
        time = opening.times(settings.datasets.time)
        sources, (n_times, n_rois) = opening.sources(time)
        if time is None:
            time = _times_from_rate(opening.rate, n_times, path)
            declared: dict[str, Any] = {"imaging_rate": opening.rate}
        else:
            time, declared = time[:n_times], {}
        names = opening.trace_names(n_rois)
        position = roi_positions(fields, settings.datasets.position, n_rois)
        return CalciumHandle(
            raw=_coordinates(time, n_rois, names, position),
            sources=sources,
            attrs={**declared, **_session_start(fields, settings)},
            source_files=opening.files,
            issues=opening.issues,
            behavior=opening.behavior(time),
            event_table=opening.events(time),
            close=fields.close,
        )
    except BaseException:
        fields.close()
        raise


def _times_from_rate(rate: float | None, n_times: int, path: Path) -> np.ndarray:
    if rate is None:
        raise IngestError(
            "MISSING_SIDECAR",
            path,
            "neither sample times nor a sampling rate",
            "name the times in `datasets: {time: ...}`, or set `rate_hz`",
        )
    return np.arange(n_times, dtype=np.float64) / rate


READER = Reader(
    name="hdf5",
    modalities=("calcium",),
    extensions=(".h5", ".hdf5", ".hdf", ".he5"),
    settings=Hdf5Settings,
    probe="neuropipe.io.calcium.hdf5:probe",
    open="neuropipe.io.calcium.hdf5:open_recording",
)
