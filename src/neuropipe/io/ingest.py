"""From a source file to the stores of one recording: all three files, or none."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.errors import IngestError, Issue
from neuropipe.io.behavior.sidecars import Sidecars, on_session_clock
from neuropipe.io.checks import (
    check_behavior_clocks,
    check_not_empty,
    check_session_start,
    check_times,
    unusual_step,
)
from neuropipe.io.dataset import dataset_of
from neuropipe.io.delimited import open_tables
from neuropipe.io.faults import readable, streamed
from neuropipe.io.publish import (
    portable,
    publish,
    refuse_other_content,
    refuse_warnings,
    source_attrs,
    source_entries,
    staging,
    stored_issues,
    versions,
    write_nwb,
)
from neuropipe.io.recording_clock import (
    clock_attrs,
    moved_blocks,
    on_clock,
    recording_clock,
    session_grid,
)
from neuropipe.io.registry import match, reader_settings
from neuropipe.io.session_clock import SessionClock

if TYPE_CHECKING:
    import xarray as xr

    from neuropipe.config.models import IngestConfig, IngestOverride
    from neuropipe.config.recordings import Recording
    from neuropipe.store.clock import RegularClock
    from neuropipe.store.file_facts import FileFacts
    from neuropipe.store.series import Block, RecordingHandle, RecordingSchema, SeriesSpec

__all__ = ["ingest_recording"]

logger = logging.getLogger(__name__)

BLOCK_BYTES = 8 << 20
ENTITIES = {
    "subject_id": "subject",
    "session_id": "session",
    "task": "task",
    "acq": "acq",
    "run": "run",
}
TIME_COLUMN = re.compile(r"(^|_)(times?|onsets?|offsets?|start|stop)$")
METADATA = ("species", "sex", "age", "session_start")


@dataclass(frozen=True)
class _Prepared:
    """A recording on the session clock, ready to be written."""

    attrs: dict[str, Any]
    raw: xr.Dataset
    schema: RecordingSchema
    clock: RegularClock | None
    groups: dict[str, xr.Dataset | None]
    issues: list[Issue]
    sources: list[dict[str, Any]]
    session: SessionClock


def ingest_recording(
    recording: Recording,
    source: Path,
    settings: IngestConfig,
    output: Path,
    *,
    code: Mapping[str, str] | None = None,
    record_settings: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    others: Sequence[Path | str] = (),
    files: FileFacts | None = None,
) -> dict[str, Any]:
    """Read one source and write its Zarr store, its NWB file and its report.

    Parameters
    ----------
    recording : Recording
        Row of the recordings table.
    source : Path
        File or folder to read.
    settings : IngestConfig
        The block ``ingest`` of the configuration.
    output : Path
        The final ``.zarr`` path; ``.nwb`` and ``.report.json`` are its siblings, and the report,
        written last, marks completion.
    code : mapping of str to str, optional
        Module -> hash, kept in the report.
    record_settings : mapping, optional
        Settings of the job as the report keeps them; default: `settings`.
    overwrite : bool
        Replace an existing store of other content.
    others : sequence of Path
        Stores of other recordings of the session whose events the settings name as reference.
    files : mapping, optional
        Facts of the files that the recording may be made from, kept in the report.

    Returns
    -------
    dict
        The report.

    Raises
    ------
    IngestError
        A fault of the source; nothing is left under the final names that was not there before.
    ConfigError
        Unknown keys or wrong values in the settings.
    MissingInput
        The source does not exist.
    """
    started = perf_counter()
    source, output = Path(source), Path(output)
    reader, _ = match(source, recording.modality, recording.reader or None)
    reader_keys, override = reader_settings(reader, settings, recording.name)
    handle = reader.open_recording(source, reader_keys, override, recording.modality)
    try:
        used = {"reader": reader.name, "settings": reader_keys.model_dump(mode="json")}
        used |= {"override": override.model_dump(mode="json")}
        stores = {Path(path).stem: Path(path) for path in others}
        prepared = _prepare(recording, source, settings, handle, used, override, stores)
        with staging(output, source) as folder:
            content = _write(folder / output.name, handle, prepared, recording.modality, source)
            refuse_other_content(output, content, overwrite)
            write_nwb(folder / output.name, settings)
            report = _report(recording, prepared, content)
            report["settings"] = dict(record_settings or settings.model_dump(mode="json"))
            report["files"] = dict(files or {})
            report["reader"], report["code"] = used, dict(code or {})
            report["issues"] = stored_issues(folder / output.name, settings, source)
            report["wall_s"] = round(perf_counter() - started, 3)
            publish(folder, output, report)
    finally:
        close = getattr(handle, "close", None)
        if close is not None:
            close()
    logger.info("%s: %s", recording.name, _summary(report))
    return report


def _report(recording: Recording, prepared: _Prepared, content: str) -> dict[str, Any]:
    main = prepared.schema.series[0]
    return {
        "recording": recording.name,
        "modality": recording.modality,
        "source": prepared.sources,
        "content_sha256": content,
        "sizes": {**_rows(prepared.raw, main), **dict(zip(main.dims, main.shape, strict=True))},
        "duration_s": round(float(np.ptp(_span(prepared.raw, prepared.clock)[[0, -1]])), 6),
        "versions": versions(),
    }


def _rows(raw: xr.Dataset, main: SeriesSpec) -> dict[str, int]:
    """Return the number of units where the samples do not lie along them."""
    return {"unit": raw.sizes["unit"]} if main.dims == ("spike",) else {}


def _span(raw: xr.Dataset, clock: RegularClock | None) -> np.ndarray:
    """Return the sample times, or where they need not be held the first and the last."""
    if clock is not None:
        return np.array([clock.start, clock.last])
    if "time" in raw:
        return np.asarray(raw["time"].values, dtype=np.float64)
    observed = raw["observed"].values
    return np.array([observed.min(), observed.max()])


def _checked_span(schema: RecordingSchema, source: Path) -> np.ndarray:
    """Return `_span` of a recording that is not empty and whose times run forwards."""
    raw, clock = schema.raw, schema.clock
    time = _span(raw, clock)
    rows = [dim for dim in raw.sizes if dim != "time"]
    sizes = {dim: raw.sizes[dim] for dim in ("time", *rows) if dim in raw.sizes}
    check_not_empty(sizes | ({"time": clock.count} if clock else {}), source)
    if "time" in raw:
        check_times(time, f"{source}: time")
    return time


def _summary(report: Mapping[str, Any]) -> str:
    sizes = ", ".join(f"{dim} {n}" for dim, n in report["sizes"].items())
    return f"{sizes}; {len(report['issues'])} issues; {report['content_sha256'][:12]}"


def _prepare(
    recording: Recording,
    source: Path,
    settings: IngestConfig,
    handle: RecordingHandle,
    used: Mapping[str, Any],
    override: IngestOverride,
    others: Mapping[str, Path],
) -> _Prepared:
    with readable(source):
        schema, events = handle.schema(), handle.events()
    raw, time = schema.raw, _checked_span(schema, source)
    sampled = "time" in raw or schema.clock is not None
    # Spikes have no clock of samples: their source states all times on one clock.
    check_behavior_clocks(schema.behavior, time if sampled else None, source)
    issues = list(handle.issues)
    issues += unusual_step(time, source) if "roi" in raw.dims else []
    raw, label_issues = _label(raw, settings)
    issues += label_issues
    attrs = _attributes(recording, source, schema, issues)
    side = Sidecars(source, override, (schema.clock or time) if sampled else None, others)
    groups = {
        "events": _whole_events(events, source),
        "trials": schema.trials,
        "behavior": schema.behavior,
    }
    clock = recording_clock(side, schema, groups["events"], attrs, time)
    session = on_session_clock(side, clock, groups, clock.to_session(time))
    issues += [*clock.issues, *session.issues]
    if not any(issue.code == "OBSERVED_INFERRED" for issue in issues):
        issues += _events_outside(session.events, clock.to_session(time), source)
    issues += _unmoved(schema.trials, clock, source)
    attrs |= clock_attrs(clock, schema, float(time[0]) if sampled else 0.0)
    steps = [clock.step()] if override.clock is not None else []
    attrs["pipeline"] = _pipeline(settings, used, [*steps, *session.steps])
    files = dict.fromkeys([*schema.source_files, *map(str, side.files)])
    issues += open_tables(files)
    sources = source_entries(list(files), source)
    attrs |= source_attrs(sources, raw, recording.modality)
    issues = [portable(issue, source) for issue in issues]
    if settings.strict:
        refuse_warnings(issues, source)
    moved = {
        "events": session.events,
        "trials": session.trials,
        "behavior": session.behavior,
    }
    regular = session_grid(schema.clock, clock)
    return _Prepared(attrs, on_clock(raw, clock), schema, regular, moved, issues, sources, clock)


def _label(raw: xr.Dataset, settings: IngestConfig) -> tuple[xr.Dataset, list[Issue]]:
    """Add canonical names along ``roi``; a source without names gets empty labels."""
    from neuropipe.io.arrays import object_array
    from neuropipe.store.atlas import load_atlas
    from neuropipe.store.labels import resolve_labels

    if "roi" not in raw.dims:
        return raw, []
    n_rois = raw.sizes["roi"]
    if "label_source" not in raw or not any(str(text) for text in raw["label_source"].values):
        empty = object_array([""] * n_rois)
        return raw.assign_coords(label_source=("roi", empty), label=("roi", empty.copy())), []
    atlas = load_atlas(settings.labels.atlas, settings.labels.include_can)
    trust = raw["label_confidence"].values if "label_confidence" in raw else None
    table = resolve_labels(
        list(raw["label_source"].values), atlas, trust, settings.labels.ambiguous
    )
    columns: dict[str, Any] = {
        "label_source": object_array(table.label_source),
        "label": object_array(table.label),
        "label_inferred": np.array(table.label_inferred, dtype=bool),
        "label_candidates": object_array(table.label_candidates),
        "neuron_class": object_array(table.neuron_class),
    }
    if trust is not None:
        columns["label_confidence"] = np.array(table.label_confidence, np.float64)
    return raw.assign_coords({n: ("roi", v) for n, v in columns.items()}), list(table.issues)


def _whole_events(events: xr.Dataset | None, source: Path) -> xr.Dataset | None:
    """Return events with the columns that every store has; what a reader leaves out is unknown."""
    from neuropipe.io.arrays import object_array

    if events is None:
        return None
    if "onset" not in events:
        text = f"events without onsets; the reader gives {', '.join(map(str, events)) or 'nothing'}"
        hint = "correct the reader, or name the column of onsets"
        raise IngestError("NOT_THIS_FORMAT", f"{source}: events", text, hint)
    count = events.sizes["event"]
    unknown: dict[str, Any] = {"duration": np.full(count, np.nan)}
    unknown |= {"label": object_array([""] * count), "code": np.full(count, -1, np.int64)}
    unknown |= {"source": object_array([""] * count)}
    return events.assign({n: ("event", v) for n, v in unknown.items() if n not in events})


def _events_outside(events: xr.Dataset | None, time: np.ndarray, source: Path) -> list[Issue]:
    if events is None or "onset" not in events:
        return []
    onset = np.asarray(events["onset"].values)
    outside = int(((onset < time[0]) | (onset > time[-1])).sum())
    if not outside:
        return []
    message = f"{outside} of {onset.size} events lie outside the recording; kept"
    where = f"{source}: events"
    if outside < onset.size:
        return [Issue("EVENTS_OUTSIDE", where, message, "", "info")]
    hint = "are they of another recording, on another clock, or is the recording cut short?"
    return [Issue("EVENTS_OUTSIDE", where, message, hint)]


def _unmoved(trials: xr.Dataset | None, clock: SessionClock, source: Path) -> list[Issue]:
    """Tell of trial columns that may be times, and so may be on another clock than `start`.

    A column `reaction_time` is a duration, `go_time` a moment: only the user knows.
    """
    if trials is None or (clock.scale == 1.0 and clock.offset == 0.0):
        return []
    names = [str(name) for name, column in trials.items() if column.dtype.kind == "f"]
    found = sorted(n for n in names if n not in ("start", "stop") and TIME_COLUMN.search(n))
    if not found:
        return []
    message = (
        f"trial columns {', '.join(found)} stay on the source's clock: on that of `start`, `stop` "
        f"and the samples, moments among them are {clock.scale!r} t + {clock.offset!r} s"
    )
    hint = "the pair is stored as clock_scale and clock_offset"
    return [Issue("SOURCE_CLOCK", f"{source}: trials", message, hint, "info")]


def _attributes(
    recording: Recording, source: Path, schema: RecordingSchema, issues: list[Issue]
) -> dict[str, Any]:
    """Return root attributes: entities from the table, metadata from the source, then the table."""
    from neuropipe.store.schema import MODALITIES

    own = MODALITIES[recording.modality].raw_attrs
    attrs: dict[str, Any] = {k: v for k, v in schema.attrs.items() if k in own}
    attrs["recording"] = recording.name
    attrs |= {key: getattr(recording, column) for key, column in ENTITIES.items()}
    known, found = dataset_of(source, schema.attrs, recording.extra)
    attrs |= known
    issues += found
    for key in METADATA:
        stated, given = str(schema.attrs.get(key, "")), getattr(recording, key)
        if key == "session_start":
            stated = check_session_start(stated, f"{source}: session_start")
            given = check_session_start(given, "recordings table: session_start")
        if stated and given and stated != given:
            message = f"the source states {key} {stated!r}, the recordings table {given!r}"
            hint = "the source is kept; correct the table"
            issues.append(Issue("TABLE_DISAGREES", f"{source}: {key}", message, hint))
        attrs[key] = stated or given
    if not attrs["session_start"]:
        message = "neither the source nor the recordings table states when the session began"
        hint = "fill the column `session_start`"
        issues.append(Issue("NO_SESSION_START", str(source), message, hint, "info"))
    return attrs


def _pipeline(
    settings: IngestConfig, used: Mapping[str, Any], clocks: Sequence[Mapping[str, Any]]
) -> str:
    from neuropipe.store.atlas import load_atlas

    labels = settings.labels
    atlas = load_atlas(labels.atlas, labels.include_can)
    step = {
        "step": "ingest",
        **used,
        "labels": labels.model_dump(mode="json"),
        "atlas_version": atlas.version,
        "neuropipe": version("neuropipe"),
    }
    return json.dumps([step, *clocks], sort_keys=True, ensure_ascii=False)


def _streamed(handle: RecordingHandle, issues: list[Issue], source: Path) -> Iterator[Block]:
    """Yield the blocks; what the handle found in the samples joins the issues at the end."""
    known = len(handle.issues)
    yield from streamed(handle.blocks(BLOCK_BYTES), source)
    issues += [portable(issue, source) for issue in handle.issues[known:]]


def _write(
    path: Path, handle: RecordingHandle, prepared: _Prepared, modality: str, source: Path
) -> str:
    from neuropipe.store.zarr import write_recording

    return write_recording(
        path,
        modality=modality,
        attrs=prepared.attrs,
        raw=prepared.raw,
        series=prepared.schema.series,
        blocks=moved_blocks(_streamed(handle, prepared.issues, source), prepared.session),
        groups={name: group for name, group in prepared.groups.items() if group is not None},
        issues=prepared.issues,
        clock=prepared.clock,
    )
