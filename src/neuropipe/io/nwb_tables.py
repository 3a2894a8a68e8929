"""What any NWB file of another converter tells: times, behaviour, intervals, subject."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.errors import IngestError, Issue
from neuropipe.io.checks import decode_texts

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["behavior_of", "events_of", "file_attributes", "times_of", "trials_of"]

EVENT_LABELS = ("label", "tags", "event_type", "condition", "name", "type")
TIME_COLUMNS = ("start_time", "stop_time")
LINKS = ("timeseries", "timeseries_index")


def _safe(name: str) -> str:
    """Return a name without blanks, slashes and colons."""
    return re.sub(r"[^0-9A-Za-z_.-]+", "_", name).strip("_") or "unnamed"


def times_of(series: Any, given_rate: float | None, path: Path) -> tuple[np.ndarray, float | None]:
    """Return the sample times of a time series, and its rate where it states one.

    Parameters
    ----------
    series : pynwb.TimeSeries
    given_rate : float or None
        Rate from the settings, for a series that states neither times nor a rate.

    Raises
    ------
    IngestError
        ``MISSING_SIDECAR``: neither times nor rate.
    """
    if series.timestamps is not None:
        return np.asarray(series.timestamps[:], np.float64), None
    rate = series.rate or given_rate
    if not rate:
        raise IngestError(
            "MISSING_SIDECAR",
            f"{path}: {series.name}",
            "neither timestamps nor a rate",
            "set `rate_hz` in ingest.overrides",
        )
    start = float(series.starting_time or 0.0)
    return start + np.arange(series.data.shape[0], dtype=np.float64) / float(rate), float(rate)


def behavior_of(
    nwb: Any, path: Path
) -> tuple[dict[str, np.ndarray], dict[str, tuple[str, np.ndarray]]]:
    """Return the clocks and the variables of ``processing/behavior``."""
    from pynwb import TimeSeries

    streams: dict[str, np.ndarray] = {}
    variables: dict[str, tuple[str, np.ndarray]] = {}
    if "behavior" not in nwb.processing:
        return streams, variables
    module = nwb.processing["behavior"]
    found = [
        item
        for item in nwb.objects.values()
        if isinstance(item, TimeSeries) and _is_below(item, module)
    ]
    for item in sorted(found, key=lambda s: (s.name, s.object_id)):
        # Looked at before it is read: a video may lie here.
        if len(getattr(item.data, "shape", ())) > 2:
            continue
        values = np.asarray(item.data[:])
        if values.dtype.kind not in "biuf" or values.ndim not in (1, 2) or not values.size:
            continue
        name = _safe(item.name)
        if name in variables:
            name = _safe(f"{item.parent.name}_{item.name}")
        time, _ = times_of(item, None, path)
        if len(time) != len(values):
            raise IngestError(
                "LENGTH_MISMATCH",
                f"{path}: behavior/{item.name}",
                f"{len(values)} samples, {len(time)} timestamps",
                "correct the file",
            )
        streams[name] = time
        variables[name] = (name, values)
    return streams, variables


def _is_below(item: Any, module: Any) -> bool:
    while item is not None:
        if item is module:
            return True
        item = item.parent
    return False


def _columns(table: Any, path: Path) -> dict[str, Any]:
    """Return the plain columns of a table: numbers, bool and text, one value per row."""
    from neuropipe.io.arrays import object_array

    frame = table.to_dataframe()
    columns: dict[str, Any] = {}
    for name in frame.columns:
        if name in LINKS:
            continue
        values = frame[name].to_numpy()
        if values.dtype.kind in "biuf":
            columns[str(name)] = values
        else:
            texts = [_cell_text(v) for v in values]
            columns[str(name)] = object_array(decode_texts(texts, f"{path}: {table.name}.{name}"))
    return columns


def _cell_text(value: Any) -> Any:
    if isinstance(value, list | tuple | np.ndarray):
        return ",".join(str(v) for v in value)
    return value


def trials_of(nwb: Any, path: Path) -> xr.Dataset | None:
    """Return the trial table on the clock of the file, or None."""
    import xarray as xr

    if nwb.trials is None or not len(nwb.trials):
        return None
    columns = _columns(nwb.trials, path)
    named = {{"start_time": "start", "stop_time": "stop"}.get(n, _safe(n)): v
             for n, v in columns.items()}  # fmt: skip
    return xr.Dataset({name: ("trial", values) for name, values in named.items()})


def _seconds(values: np.ndarray, where: str) -> np.ndarray:
    if values.dtype.kind not in "biuf":
        text = f"times such as {str(values[0])!r}, expected numbers" if len(values) else "no times"
        raise IngestError("BAD_TIME", where, text, "correct the table, or copy the file again")
    return values.astype(np.float64)


def _event_table(table: Any, path: Path) -> dict[str, np.ndarray]:
    from neuropipe.io.arrays import object_array

    columns = _columns(table, path)
    onset = _seconds(columns["start_time"], f"{path}: {table.name}.start_time")
    label = next((columns[n] for n in EVENT_LABELS if n in columns), None)
    if label is None or label.dtype != object:
        label = object_array([table.name] * len(onset))
    return {
        "onset": onset,
        "duration": np.asarray(columns["stop_time"], np.float64) - onset,
        "label": label,
        "code": np.full(len(onset), -1, np.int64),
        "source": object_array([table.name] * len(onset)),
    }


def events_of(nwb: Any, path: Path) -> xr.Dataset | None:
    """Return epochs and every other interval table but the trials as events, or None."""
    import xarray as xr
    from pynwb.epoch import TimeIntervals

    skipped = (nwb.trials, nwb.invalid_times)
    tables = sorted(
        (
            item
            for item in nwb.objects.values()
            if isinstance(item, TimeIntervals) and not any(item is other for other in skipped)
        ),
        key=lambda table: table.name,
    )
    parts = [_event_table(table, path) for table in tables if len(table)]
    if not parts:
        return None
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.argsort(joined["onset"], kind="stable")
    return xr.Dataset({name: ("event", values[order]) for name, values in joined.items()})


def file_attributes(nwb: Any, path: Path) -> tuple[dict[str, Any], list[Issue]]:
    """Return what the header states: subject, session start, indicator; and issues.

    Raises
    ------
    IngestError
        ``NAIVE_SESSION_START``: the session start has no UTC offset.
    """
    attrs: dict[str, Any] = {}
    start = nwb.session_start_time
    if isinstance(start, datetime):
        if start.tzinfo is None:
            raise IngestError(
                "NAIVE_SESSION_START",
                f"{path}: session_start_time",
                f"{start.isoformat()} has no UTC offset",
                "write the offset into the file",
            )
        attrs["session_start"] = start.isoformat()
    subject = nwb.subject
    for name in ("species", "sex", "age"):
        value = getattr(subject, name, None) if subject is not None else None
        if value:
            attrs[name] = str(value)
    planes = sorted(nwb.imaging_planes.values(), key=lambda plane: plane.name)
    indicators = {str(plane.indicator) for plane in planes if plane.indicator}
    if len(indicators) == 1:
        attrs["indicator"] = indicators.pop()
    return attrs, []
