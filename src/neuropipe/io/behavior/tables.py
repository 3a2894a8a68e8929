"""Tables of behaviour, events and trials, each on the clock that it was written on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.errors import ConfigError, IngestError
from neuropipe.io.arrays import object_array
from neuropipe.io.checks import check_times
from neuropipe.io.frames import column_of, read_frame, units_per_second
from neuropipe.io.sample_times import seconds_of

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from neuropipe.config.sidecars import EventTable, IndexedTable, StreamTable, TrialTable

__all__ = ["Clocks", "read_events", "read_stream", "read_trials"]

TIMES = ("time", "time_s", "time_ms", "timestamp", "timestamps", "timestamp_s", "timestamp_ms", "t")
ONSETS = ("onset", "onset_s", "onset_ms", "start", "start_time", "time", "time_s", "time_ms")
DURATIONS = ("duration", "duration_s", "duration_ms")
STOPS = ("stop", "stop_time", "offset", "end", "end_time")
STARTS = ("start", "start_time", "onset", "start_s", "start_ms")
ENDS = (*STOPS, "stop_s", "stop_ms")
LABELS = ("label", "trial_type", "event_type", "type", "condition", "name")
CODES = ("code", "value")
Clocks = Callable[[str | None], np.ndarray]


def _values(column: pd.Series) -> tuple[np.ndarray, bool]:
    """Return a column as numbers or text, and whether it is text."""
    values = column.to_numpy()
    if values.dtype.kind in "biuf":
        return values, False
    if column.dtype.kind in "iufb":  # nullable numbers of parquet
        return column.to_numpy(dtype=np.float64, na_value=np.nan), False
    return object_array(
        ["" if item is None or item != item else str(item) for item in values]
    ), True


def _numbers(frame: pd.DataFrame, name: str, where: str) -> np.ndarray:
    values, is_text = _values(frame[name])
    if is_text:
        bad = next((text for text in values if text), "")
        text = f"column {name} holds text ({bad!r}), numbers expected"
        raise IngestError("NOT_THIS_FORMAT", where, text, "correct the table or the column")
    return np.asarray(values, dtype=np.float64)


def _required(
    given: str | None, usual: Sequence[str], frame: pd.DataFrame, path: Path, what: str
) -> str:
    names = [str(name) for name in frame.columns]
    found = column_of(given, usual, names, path, what)
    if found is None:
        text = f"no column of {what}; it has {', '.join(names[:30])}"
        raise IngestError("MISSING_SIDECAR", path, text, "name the column in the settings")
    return found


def read_stream(name: str, path: Path, settings: StreamTable) -> xr.Dataset:
    """Return one stream: its variables along ``time_<name>``, seconds on the table's clock.

    Raises
    ------
    IngestError
        ``MISSING_SIDECAR``, ``BAD_TIME``, ``EMPTY`` or ``NOT_THIS_FORMAT``.
    ConfigError
        A named column does not exist.
    """
    import xarray as xr

    frame = read_frame(path)
    time = _required(settings.time, TIMES, frame, path, "times")
    names = [str(column) for column in frame.columns]
    wanted = settings.columns or [column for column in names if column != time]
    for column in (*wanted, *settings.units, *settings.categorical):
        column_of(column, (), names, path, f"stream {name!r}")
    for key in (*settings.units, *settings.categorical):
        if key not in wanted:
            raise ConfigError(f"{path}: column {key!r} has settings but is not in `columns`")
    clock = _numbers(frame, time, f"{path}: {time}") / units_per_second(
        settings.time_unit, time, path
    )
    if not len(clock) or not wanted:
        what = "rows" if not len(clock) else "columns beside the times"
        raise IngestError("EMPTY", path, f"the table has no {what}", "is this the right file?")
    check_times(clock, f"{path}: {time}")
    dim, data = f"time_{name}", {}
    for column in wanted:
        values, is_text = _values(frame[column])
        attrs: dict[str, Any] = {"units": settings.units.get(column, "")}
        if is_text or column in settings.categorical:
            attrs["categorical"] = True
        data[column] = (dim, values, attrs)
    return xr.Dataset(data, {dim: (dim, clock, {"units": "s"})})


def _times_by(frame: pd.DataFrame, path: Path, settings: IndexedTable, clocks: Clocks) -> Any:
    """Return a function from a column to seconds on the table's clock."""

    def times(column: str) -> np.ndarray:
        values = _numbers(frame, column, f"{path}: {column}")
        if settings.time_unit == "samples":
            base, counted = settings.index_base or 0, clocks(settings.of)
            return seconds_of(values, base, counted, f"{path}: {column}")
        return values / units_per_second(settings.time_unit, column, path)

    return times


def _check_onsets(times: np.ndarray, where: str, what: str) -> None:
    bad = np.flatnonzero(~np.isfinite(times))
    if bad.size:
        text = f"{bad.size} of {times.size} {what} are missing, the first in row {bad[0] + 2}"
        raise IngestError("BAD_TIME", where, text, "correct the table")


def _refuse_infinite(times: np.ndarray, where: object, what: str) -> None:
    bad = np.flatnonzero(np.isinf(times))
    if bad.size:
        text = f"{bad.size} of {times.size} {what} are infinite, the first in row {bad[0] + 2}"
        raise IngestError("BAD_TIME", where, text, "write n/a where nothing is known")


def read_events(path: Path, settings: EventTable, clocks: Clocks) -> xr.Dataset:
    """Return the events of a table: ``onset``, ``duration``, ``label``, ``code``, ``source``.

    Columns without a place keep their values under ``x_<name>``. A duration of 0 is an instant,
    NaN is unknown.

    Parameters
    ----------
    path : Path
        The table.
    settings : EventTable
        Columns and unit.
    clocks : callable
        Sample times of a behaviour stream, of the recording for None; for times in samples.

    Raises
    ------
    IngestError
        ``MISSING_SIDECAR``, ``BAD_TIME``, ``NOT_THIS_FORMAT`` or ``LENGTH_MISMATCH``.
    ConfigError
        A named column does not exist.
    """
    import xarray as xr

    frame = read_frame(path)
    names = [str(column) for column in frame.columns]
    times = _times_by(frame, path, settings, clocks)
    onset = _required(settings.onset, ONSETS, frame, path, "onsets")
    duration = None
    if settings.stop is None:
        duration = column_of(settings.duration, DURATIONS, names, path, "durations")
    stop = None
    if duration is None:
        stop = column_of(settings.stop, STOPS, names, path, "ends")
    label = column_of(settings.label, LABELS, names, path, "labels")
    if label is None and settings.name is None:
        text = f"no column of labels; it has {', '.join(names[:30])}"
        raise IngestError("MISSING_SIDECAR", path, text, "set `label`, or `name` for all events")
    code = column_of(None, CODES, names, path, "codes")
    begins = times(onset)
    _check_onsets(begins, f"{path}: {onset}", "onsets")
    order = np.argsort(begins, kind="stable")
    columns: dict[str, Any] = {"onset": begins}
    columns["duration"] = _durations(frame, path, settings, times, begins, duration, stop)
    texts = [settings.name] * len(frame) if label is None else _texts(frame, label)
    columns["label"] = object_array([str(text) for text in texts])
    columns["code"] = _codes(frame, code, len(frame))
    columns["source"] = object_array([path.name] * len(frame))
    for column in names:
        whole = column == code and frame[column].dtype.kind in "iu"
        if column not in (onset, duration, stop, label) and not whole:
            columns[f"x_{column}"] = _values(frame[column])[0]
    seconds = {"onset": {"units": "s"}, "duration": {"units": "s"}}
    return xr.Dataset({n: ("event", v[order], seconds.get(n, {})) for n, v in columns.items()})


def _texts(frame: pd.DataFrame, column: str) -> list[str]:
    values, is_text = _values(frame[column])
    return [str(v) if is_text else f"{v:g}" for v in values]


def _codes(frame: pd.DataFrame, column: str | None, size: int) -> np.ndarray:
    if column is None or frame[column].dtype.kind not in "iu":
        return np.full(size, -1, dtype=np.int64)
    return frame[column].to_numpy(dtype=np.int64)


def _durations(
    frame: pd.DataFrame, path: Path, settings: IndexedTable, times: Any, onset: np.ndarray,
    duration: str | None, stop: str | None,
) -> np.ndarray:  # fmt: skip
    if duration is not None:
        if settings.time_unit == "samples":
            text = f"column {duration} counts samples; a clock that is not even needs their ends"
            raise IngestError("MISSING_SIDECAR", path, text, "name the column of ends in `stop`")
        values = _numbers(frame, duration, f"{path}: {duration}")
        values = values / units_per_second(settings.time_unit, duration, path)
    elif stop is not None:
        values = times(stop) - onset
    else:
        return np.full(len(onset), np.nan)
    _refuse_infinite(values, path, "durations")
    if (values < 0).any():
        k = int(np.flatnonzero(values < 0)[0])
        text = f"row {k + 2} ends {-values[k]:.6g} s before it starts"
        raise IngestError("BAD_TIME", path, text, "correct the table")
    return values


def _ends(
    frame: pd.DataFrame, path: Path, settings: TrialTable, times: Any, begins: np.ndarray
) -> tuple[np.ndarray, str]:
    """Return the ends of trials and the column that tells them: of ends, else of durations."""
    names = [str(column) for column in frame.columns]
    if settings.duration is None:
        stop = column_of(settings.stop, ENDS, names, path, "ends")
        if stop is not None:
            return times(stop), stop
    duration = column_of(settings.duration, DURATIONS, names, path, "durations")
    if duration is None:
        text = f"no column of ends or durations; it has {', '.join(names[:30])}"
        raise IngestError("MISSING_SIDECAR", path, text, "name one as `stop` or `duration`")
    lengths = _durations(frame, path, settings, times, begins, duration, None)
    return begins + lengths, duration


def read_trials(path: Path, settings: TrialTable, clocks: Clocks) -> tuple[xr.Dataset, list[str]]:
    """Return the trials of a table, and which of its columns are moments.

    Raises
    ------
    IngestError
        ``MISSING_SIDECAR``, ``BAD_TIME``, ``NOT_THIS_FORMAT``, ``EMPTY`` or ``LENGTH_MISMATCH``.
    ConfigError
        A named column does not exist.
    """
    import xarray as xr

    frame = read_frame(path)
    names = [str(column) for column in frame.columns]
    times = _times_by(frame, path, settings, clocks)
    start = _required(settings.start, STARTS, frame, path, "starts")
    for column in settings.times:
        column_of(column, (), names, path, "times")
    if not len(frame):
        raise IngestError("EMPTY", path, "the table has no rows", "is this the right file?")
    begins = times(start)
    ends, stop = _ends(frame, path, settings, times, begins)
    _check_onsets(begins, f"{path}: {start}", "starts")
    _refuse_infinite(ends, f"{path}: {stop}", "ends")
    if (ends < begins).any():
        k = int(np.flatnonzero(ends < begins)[0])
        text = f"trial {k} (row {k + 2}) stops before it starts"
        raise IngestError("BAD_TIME", path, text, "correct the table")
    columns: dict[str, Any] = {"start": begins, "stop": ends}
    for column in names:
        if column in (start, stop):
            continue
        if column in columns:
            raise ConfigError(f"{path}: column {column!r} is neither start nor stop; rename it")
        moment = column in settings.times
        columns[column] = times(column) if moment else _values(frame[column])[0]
    moments = ["start", "stop", *settings.times]
    table = {n: ("trial", v, {"units": "s"} if n in moments else {}) for n, v in columns.items()}
    return xr.Dataset(table), moments
