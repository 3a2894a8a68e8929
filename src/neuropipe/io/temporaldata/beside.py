"""What lies beside the samples of a temporaldata file: behaviour, events, trials, metadata."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.errors import IngestError, Issue
from neuropipe.io.arrays import behavior_dataset, object_array
from neuropipe.io.temporaldata.objects import RECORDED
from neuropipe.store.clock import RegularClock

if TYPE_CHECKING:
    import xarray as xr

    from neuropipe.io.temporaldata.objects import Objects, Series

__all__ = ["attributes_of", "behavior_of", "events_of", "trials_of"]

SPLITS = ("train_domain", "valid_domain", "test_domain")
SUBJECT = ("species", "sex", "age")


def behavior_of(objects: Objects, apart: Collection[str]) -> tuple[xr.Dataset | None, list[Issue]]:
    """Return every numeric array of the time series that are not `apart`, on its own clock.

    Samples of a modality are no behaviour. Arrays of text or of more than two dims have no place
    in the behaviour; issues name them.
    """
    streams: dict[str, np.ndarray] = {}
    issues: list[Issue] = []
    variables: dict[str, tuple[str, np.ndarray]] = {}
    for place, series in objects.series.items():
        is_recorded = any(series.words & words for words in RECORDED.values())
        if place in apart or is_recorded or "unit_index" in series.arrays:
            continue
        held, left_out = _held(objects, series)
        issues += left_out
        if not held:
            continue
        clock = objects.clock(series, next(iter(held.values())))
        streams[series.name] = _times(clock)
        for name in held:
            values = np.asarray(objects.fields.numbers(f"{place}/{name}")[...])
            title = name if len(held) == 1 and name not in variables else f"{series.name}_{name}"
            variables[title] = (series.name, values)
    return behavior_dataset(streams, variables), issues


def _held(objects: Objects, series: Series) -> tuple[dict[str, int], list[Issue]]:
    """Return the arrays that are behaviour with their lengths, and issues of the others."""
    where = objects.fields.where(series.place)
    held, issues = {}, []
    for name, (shape, dtype) in series.arrays.items():
        if dtype.kind in "biuf" and len(shape) in (1, 2):
            held[name] = shape[0]
        else:
            text = f"{len(shape)}-D {dtype} is no behaviour that is kept; left out"
            issues.append(Issue("NOT_KEPT", f"{where}/{name}", text))
    if not series.arrays:
        issues.append(Issue("NOT_KEPT", where, "a time series without samples; left out"))
    if len(set(held.values())) > 1:
        text = ", ".join(f"{name} {length}" for name, length in held.items())
        hint = "arrays of one time series have one length; export the file again"
        raise IngestError("LENGTH_MISMATCH", where, text, hint)
    return held, issues


def _times(clock: np.ndarray | RegularClock) -> np.ndarray:
    return clock.at(np.arange(clock.count)) if isinstance(clock, RegularClock) else clock


def _edges(objects: Objects, place: str) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    columns = objects.columns(place)
    where = objects.fields.where(place)
    if "start" not in columns or "end" not in columns:
        text = f"intervals without start or end; columns: {', '.join(columns) or 'none'}"
        raise IngestError("MISSING_SIDECAR", where, text, "export the file again")
    start, end = (np.asarray(columns.pop(key), np.float64) for key in ("start", "end"))
    if (end < start).any():
        k = int(np.flatnonzero(end < start)[0])
        text = f"interval {k} runs from {start[k]:.9g} s back to {end[k]:.9g} s"
        raise IngestError("BAD_TIME", where, text, "export the file again")
    return start, end, columns


def trials_of(objects: Objects) -> xr.Dataset | None:
    """Return the intervals ``trials`` with their columns."""
    import xarray as xr

    if "trials" not in objects.intervals:
        return None
    start, stop, columns = _edges(objects, "trials")
    kept = {name: values for name, values in columns.items() if name != "stop"}
    whole = {"start": start, "stop": stop, **kept}
    return xr.Dataset({name: ("trial", values) for name, values in whole.items()})


def events_of(objects: Objects) -> xr.Dataset | None:
    """Return all other intervals as events; the label is the column ``label``, else the name."""
    import xarray as xr

    found: list[tuple[float, float, str, int, str]] = []
    for place in objects.intervals:
        if place == "trials" or place.rpartition("/")[2] in SPLITS:
            continue
        start, end, columns = _edges(objects, place)
        label = columns.get("label", columns.get("id", np.array([place] * len(start), object)))
        code = columns.get("code", np.full(len(start), -1))
        code = code if code.dtype.kind in "iu" else np.full(len(start), -1)
        duration = columns.get("duration", end - start)
        found += zip(start, duration, map(str, label), code, [place] * len(start), strict=True)
    if not found:
        return None
    found.sort(key=lambda row: row[0])
    onset, duration, label, code, source = zip(*found, strict=True)
    return xr.Dataset(
        {
            "onset": ("event", np.array(onset, np.float64)),
            "duration": ("event", np.array(duration, np.float64)),
            "label": ("event", object_array(label)),
            "code": ("event", np.array(code, np.int64)),
            "source": ("event", object_array(source)),
        }
    )


def attributes_of(objects: Objects) -> tuple[dict[str, Any], list[Issue]]:
    """Return what the file says of subject, session and data set; a naive date is only told."""
    attrs: dict[str, Any] = {key: objects.attribute("subject", key) for key in SUBJECT}
    attrs["dataset"] = objects.attribute("brainset", "id")
    attrs["dataset_version"] = objects.attribute("brainset", "origin_version")
    attrs = {key: value for key, value in attrs.items() if value not in ("", "unknown")}
    started = objects.attribute("session", "recording_date")
    if not started:
        return attrs, []
    try:
        is_whole = datetime.fromisoformat(started).tzinfo is not None
    except ValueError:
        is_whole = False
    if is_whole:
        return {**attrs, "session_start": started}, []
    text = f"session.recording_date is {started!r}, without UTC offset; not used"
    hint = "fill the column `session_start` of the recordings table"
    return attrs, [Issue("NAIVE_SESSION_START", str(objects.path), text, hint, "info")]
