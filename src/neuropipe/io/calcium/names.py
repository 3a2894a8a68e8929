"""Names side tables: which trace is which neuron, in a CSV or JSON file beside the data."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field

from neuropipe.config.models import StrictModel
from neuropipe.errors import IngestError, Issue
from neuropipe.io.checks import read_text
from neuropipe.io.delimited import check_cells, last_line_open, refuse_same_names, text_rows

__all__ = ["NamesColumns", "TraceNames", "read_names"]

LABEL_COLUMNS = ("label", "name", "neuron", "neuron_name")
INDEX_COLUMNS = ("index", "trace_index", "trace_index_1based", "trace_index_0based", "trace", "roi")
CONFIDENCE_COLUMNS = ("confidence", "label_confidence", "id_confidence")
MISSING = {"", "n/a", "nan", "none", "null"}


class NamesColumns(StrictModel):
    """Columns of a names table; null: found by their usual names."""

    index: str | None = Field(None, description="Number of the trace; absent: rows in order.")
    label: str | None = Field(None, description="Name of the neuron.")
    confidence: str | None = Field(None, description="Confidence of the name.")


@dataclass(frozen=True)
class TraceNames:
    """Names and confidences of all traces, in the order of the traces."""

    labels: tuple[str, ...]
    confidence: tuple[float, ...] | None
    issues: tuple[Issue, ...] = field(default=(), compare=False)


def _csv_rows(text: str, path: Path) -> tuple[list[str], list[dict[str, str]]]:
    first = text.split("\n", 1)[0]
    delimiter = max("\t,;", key=first.count)
    rows = list(text_rows(io.StringIO(text, newline=""), delimiter, path))
    check_cells(rows, path, cut=bool(last_line_open(text, path)))
    header = rows[0] if rows else []
    return header, [dict(zip(header, row, strict=True)) for row in rows[1:]]


def _json_rows(text: str, path: Path) -> list[dict[str, Any]]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise IngestError(
            "NOT_THIS_FORMAT", path, f"not JSON: {error}", "correct the names table"
        ) from error
    if isinstance(value, Mapping):
        return [{"index": key, "label": name} for key, name in value.items()]
    if isinstance(value, list):
        return [dict(v) if isinstance(v, Mapping) else {"label": v} for v in value]
    raise IngestError(
        "NOT_THIS_FORMAT",
        path,
        f"holds a {type(value).__name__}; a list of names, {{index: name}} or a list of records "
        "expected",
        "correct the names table",
    )


def _column(
    given: str | None, usual: Sequence[str], found: Sequence[str], path: Path, needed: bool
) -> str | None:
    if given is not None:
        if given not in found:
            raise IngestError(
                "NOT_THIS_FORMAT",
                path,
                f"no column {given!r}; it has {', '.join(found)}",
                "correct `names_columns`",
            )
        return given
    lower = {name.strip().lower(): name for name in found}
    for name in usual:
        if name in lower:
            return lower[name]
    if needed:
        raise IngestError(
            "NOT_THIS_FORMAT",
            path,
            f"no column of names; it has {', '.join(found)}",
            "say which one with `names_columns: {label: ...}`",
        )
    return None


def _position(value: Any, base: int | None, n_traces: int, path: Path) -> int:
    if base is None:
        raise IngestError(
            "MISSING_SIDECAR",
            path,
            "the table numbers the traces, but the settings do not say from which number",
            "set `index_base: 0` or `index_base: 1`",
        )
    try:
        position = int(str(value).strip()) - base
    except ValueError as error:
        raise IngestError(
            "NOT_THIS_FORMAT", path, f"{value!r} is not the number of a trace", "correct the table"
        ) from error
    if not 0 <= position < n_traces:
        raise IngestError(
            "LENGTH_MISMATCH",
            path,
            f"names trace {value}, but the recording has {n_traces} (counted from {base})",
            "check the names table and `index_base`",
        )
    return position


def _number(value: Any, path: Path) -> float:
    text = str(value).strip()
    if value is None or text.lower() in MISSING:
        return math.nan
    try:
        return float(text)
    except ValueError as error:
        raise IngestError(
            "NOT_THIS_FORMAT", path, f"confidence {value!r} is not a number", "correct the table"
        ) from error


def _name(value: Any) -> str:
    text = "" if value is None else str(value)
    return "" if text.strip().lower() == "n/a" else text


def read_names(
    path: Path, n_traces: int, *, index_base: int | None, columns: NamesColumns
) -> TraceNames:
    """Read a names table.

    Parameters
    ----------
    path : Path
        CSV, TSV or JSON: a list of names, a mapping from index to name, or records.
    n_traces : int
        Number of traces of the recording.
    index_base : {0, 1} or None
        Number of the first trace; needed when the table numbers its traces.
    columns : NamesColumns
        Columns, where they have other names than the usual ones.

    Returns
    -------
    TraceNames
        Traces that the table does not list are unlabelled.

    Raises
    ------
    IngestError
        A missing file or column, a number out of range or given twice, text that is not UTF-8.
    """
    text = read_text(path)
    issues: list[Issue] = []
    if path.suffix.lower() == ".json":
        rows = _json_rows(text, path)
        found = list(dict.fromkeys(key for row in rows for key in row))
    else:
        found, rows = _csv_rows(text, path)
    needed = bool(rows) or bool(found)
    label = _column(columns.label, LABEL_COLUMNS, found, path, needed=needed)
    index = _column(columns.index, INDEX_COLUMNS, found, path, needed=False)
    trust = _column(columns.confidence, CONFIDENCE_COLUMNS, found, path, needed=False)
    refuse_same_names(found, (label, index, trust), path)
    if not rows:
        text = "lists no trace, so all traces are without names"
        issues.append(Issue("EMPTY", str(path), text, "is this the right table?"))
    elif index is None and len(rows) != n_traces:
        raise IngestError(
            "LENGTH_MISMATCH",
            path,
            f"{len(rows)} names for {n_traces} traces, and no column numbers the traces",
            "add a column `index`, or name it in `names_columns`",
        )
    labels, confidence = [""] * n_traces, [math.nan] * n_traces
    seen: set[int] = set()
    for order, row in enumerate(rows):
        at = order if index is None else _position(row.get(index), index_base, n_traces, path)
        if at in seen:
            raise IngestError(
                "DUPLICATE_INDEX", path, f"names trace {row.get(index)} twice", "keep one row"
            )
        seen.add(at)
        labels[at] = _name(row.get(label))
        if trust is not None:
            confidence[at] = _number(row.get(trust), path)
    known = tuple(confidence) if trust is not None else None
    return TraceNames(tuple(labels), known, tuple(issues))
