"""Contents of the sections on the study as a whole, as plain values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from neuropipe.report.anonymise import Names
from neuropipe.report.charts import Dot, Panel
from neuropipe.report.markup import anchor, format_duration, format_number, href
from neuropipe.report.parameters import Row, differing_settings
from neuropipe.report.sections import duration_s
from neuropipe.report.sources import Link, Table, read_json, read_table
from neuropipe.store.layout import connectome_marker, report_marker, table_file

if TYPE_CHECKING:
    from neuropipe.status import Cell
    from neuropipe.study import Run, Study

__all__ = [
    "MISSING",
    "AnalysisView",
    "Matrix",
    "MatrixRow",
    "State",
    "analysis_views",
    "matrix",
    "states",
    "study_card",
]

# Worst first: what a column of several stages shows when its result is not there.
_ORDER = ("failed", "running", "stale", "missing", "done")
_NO_LIMIT = 10**9


@dataclass(frozen=True)
class State:
    """Where one job stands, and why."""

    state: str
    stage: str = ""
    reasons: tuple[str, ...] = ()
    error: str = ""
    log: Link | None = None

    @property
    def own_reasons(self) -> tuple[str, ...]:
        """Reasons of a stale job that lie in itself, not in what it follows from."""
        if self.state != "stale":
            return ()
        return tuple(r for r in self.reasons if not r.startswith("follows from"))


MISSING = State("missing")


@dataclass(frozen=True)
class MatrixRow:
    """One collection; a cell is None where there is no such job."""

    name: str
    scope: str
    cells: tuple[tuple[State, str] | None, ...]


@dataclass(frozen=True)
class Matrix:
    """What ran: collections by columns (ingest, preprocess, labels)."""

    columns: tuple[str, ...]
    rows: tuple[MatrixRow, ...]

    @property
    def counts(self) -> tuple[tuple[str, int], ...]:
        """Number of cells by state, without states that do not occur."""
        found = [cell[0].state for row in self.rows for cell in row.cells if cell]
        order = ("done", "running", "stale", "failed", "missing")
        return tuple((state, found.count(state)) for state in order if state in found)

    @property
    def attention(self) -> tuple[tuple[str, str, State, str], ...]:
        """Failed and stale cells: collection, column, state, anchor; failed first.

        What is stale only because something before it is would repeat that reason.
        """
        found = [
            (row.name, column, cell[0], cell[1])
            for row in self.rows
            for column, cell in zip(self.columns, row.cells, strict=True)
            if cell and (cell[0].state == "failed" or cell[0].own_reasons)
        ]
        return tuple(sorted(found, key=lambda entry: entry[2].state))


@dataclass(frozen=True)
class AnalysisView:
    """Metrics of one analysis over collections, its labels side by side."""

    name: str
    title: str
    anchor: str
    labels: tuple[str, ...]
    coloured_by: str
    groups: tuple[str, ...]
    panels: tuple[Panel, ...]
    failed: tuple[tuple[str, str], ...]
    comparison: Table | None
    settings: tuple[Row, ...]
    links: tuple[Link, ...]


def _column(cell: Cell) -> str:
    return cell.stage if cell.stage in ("ingest", "preprocess") else cell.label


def _merge(cells: Sequence[Cell], root: Path) -> State:
    """Return the state of one column: parts of a finished result may be gone."""
    whole = next((cell for cell in cells if cell.stage == "result"), None)
    if whole and whole.state in ("done", "stale"):
        state = whole.state
    else:
        state = min((cell.state for cell in cells), key=_ORDER.index)
    own = [cell for cell in cells if cell.state == state]
    # The single job tells its stage and its log, the result as a whole does not.
    chosen = next((cell for cell in own if cell.stage != "result"), own[0])
    reasons = chosen.reasons or next((cell.reasons for cell in own if cell.reasons), ())
    return State(chosen.state, chosen.stage, tuple(reasons), chosen.error, _log(chosen, root))


def _log(cell: Cell, root: Path) -> Link | None:
    if not cell.log:
        return None
    return Link(cell.log, href(cell.log) if (root / cell.log).is_file() else "")


def states(study: Study, cells: Iterable[Cell]) -> dict[tuple[str, str], State]:
    """Return the state by collection and column (``ingest``, ``preprocess``, label)."""
    grouped: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        grouped.setdefault((cell.collection, _column(cell)), []).append(cell)
    return {key: _merge(group, study.root) for key, group in grouped.items()}


def matrix(study: Study, known: Mapping[tuple[str, str], State], names: Names) -> Matrix:
    """Return what ran: recordings in the order of the table, then the other collections."""
    stages = [s for s in ("ingest", "preprocess") if any(column == s for _, column in known)]
    labels = [run.label for run in study.runs]
    members = {run.label: [c.name for c in run.collections] for run in study.runs}
    scopes = {r.name: "excluded" if r.exclude else "recording" for r in study.recordings}
    for run in study.runs:
        scopes |= {c.name: c.scope for c in run.collections if c.name not in scopes}
    rows = []
    for name, scope in scopes.items():
        cells: list[tuple[State, str] | None] = []
        for stage in stages:
            state = known.get((name, stage))
            cells.append((state, anchor("rec", names.text(name))) if state else None)
        for label in labels:
            has = name in members[label]
            target = anchor("run", label, names.text(name))
            cells.append((known.get((name, label), MISSING), target) if has else None)
        rows.append(MatrixRow(name, scope, tuple(cells)))
    return Matrix((*stages, *labels), tuple(rows))


def _connectome(study: Study, name: str) -> str:
    """Return what the store of a connectome holds."""
    tables = read_json(study.root / connectome_marker(name)).get("tables")
    if not tables:
        return f"{name}: not ingested"
    if len(tables) > 1:
        return f"{name}: consensus of {len(tables)} tables"
    listed = ", ".join(f"{count} {kind}" for kind, count in tables[0]["connections"].items())
    return f"{name}: {tables[0]['neurons']} neurons, {listed} connections"


def study_card(study: Study) -> tuple[tuple[str, str], ...]:
    """Return the facts of the title card."""
    recordings = [recording for recording in study.recordings if not recording.exclude]
    excluded = len(study.recordings) - len(recordings)
    sessions = {(r.subject, r.session) for r in recordings}
    lengths = [duration_s(read_json(study.root / report_marker(r))) for r in recordings]
    known = [length for length in lengths if length is not None]
    cohorts = dict.fromkeys(r.cohort for r in recordings if r.cohort)
    connectomes = study.config.ingest.connectomes
    total = format_duration(float(sum(known))) if known else ""
    if known and len(known) < len(recordings):
        total += f" ({len(known)} of {len(recordings)} recordings)"
    pairs = [
        ("Subjects", len({r.subject for r in recordings})),
        ("Sessions", len(sessions)),
        ("Recordings", f"{len(recordings)} ({excluded} excluded)" if excluded else len(recordings)),
        ("Modalities", ", ".join(dict.fromkeys(r.modality for r in recordings))),
        ("Cohorts", ", ".join(cohorts)),
        ("Recorded", total),
        ("Analyses", len(study.runs)),
        ("Connectomes", "; ".join(map(partial(_connectome, study), connectomes))),
    ]
    return tuple((key, str(value)) for key, value in pairs if value not in ("", 0))


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _records(study: Study, runs: Sequence[Run], names: Names) -> list[dict[str, str]]:
    records = []
    for run in runs:
        table = read_table(study.root, table_file(run.label), names, limit=_NO_LIMIT)
        for row in table.rows if table else ():
            record = dict(zip(table.columns, row, strict=True)) if table else {}
            records.append(record | {"label": run.label})
    return records


def _panels(
    records: Sequence[dict[str, str]], key: str, groups: Sequence[str], labels: Sequence[str]
) -> tuple[Panel, ...]:
    order = list(dict.fromkeys(r.get("collection", "") for r in records))
    metrics = dict.fromkeys((r["metric"], r.get("unit", "")) for r in records if r.get("metric"))
    panels = []
    for metric, unit in metrics:
        rows = [r for r in records if (r.get("metric"), r.get("unit", "")) == (metric, unit)]
        rows.sort(key=lambda r: (order.index(r.get("collection", "")), labels.index(r["label"])))
        dots = tuple(
            Dot(
                collection=r.get("collection", ""),
                label=r["label"],
                group=groups.index(r.get(key, "")),
                variant=labels.index(r["label"]),
                value=_float(r.get("value", "")),
                low=_float(r.get("low", "")),
                high=_float(r.get("high", "")),
                n=r.get("n", ""),
            )
            for r in rows
        )
        if any(math.isfinite(dot.value) for dot in dots):
            panels.append(Panel(metric, unit, dots))
    return tuple(panels)


def _comparison(panels: Sequence[Panel], labels: Sequence[str]) -> Table | None:
    """Return the metrics of several labels beside each other."""
    if len(labels) < 2:
        return None
    rows = []
    for panel in panels:
        found: dict[str, dict[str, float]] = {}
        for dot in panel.dots:
            found.setdefault(dot.collection, {})[dot.label] = dot.value
        for collection, values in found.items():
            cells = [format_number(values[label]) if label in values else "" for label in labels]
            rows.append((panel.title, collection, *cells))
    shown = tuple(rows) if len(rows) <= 200 else ()
    return Table(("metric", "collection", *labels), shown, len(rows))


def analysis_views(study: Study, names: Names) -> tuple[AnalysisView, ...]:
    """Return the metrics of every analysis that has a table, in the order of the configuration."""
    by_analysis: dict[str, list[Run]] = {}
    for run in study.runs:
        by_analysis.setdefault(run.analysis.name, []).append(run)
    views = []
    for name, runs in by_analysis.items():
        records = _records(study, runs, names)
        labels = tuple(run.label for run in runs)
        if not records and len(runs) < 2:
            continue
        modalities = dict.fromkeys(r.get("modality", "") for r in records)
        cohorts = dict.fromkeys(r.get("cohort", "") for r in records)
        key, groups = ("cohort", cohorts) if len(modalities) < 2 < 1 + len(cohorts) else (
            "modality", modalities)  # fmt: skip
        panels = _panels(records, key, tuple(groups), labels)
        views.append(
            AnalysisView(
                name=name,
                title=runs[0].analysis.title,
                anchor=anchor("metrics", name),
                labels=labels,
                coloured_by=key,
                groups=tuple(groups),
                panels=panels,
                failed=_without_value(records),
                comparison=_comparison(panels, labels),
                settings=differing_settings(runs) if len(runs) > 1 else (),
                links=_table_links(study, runs, names),
            )
        )
    return tuple(views)


def _without_value(records: Sequence[dict[str, str]]) -> tuple[tuple[str, str], ...]:
    """Return collections without any value, with the text that stands in its place."""
    found: dict[tuple[str, str], list[dict[str, str]]] = {}
    for record in records:
        found.setdefault((record.get("collection", ""), record["label"]), []).append(record)
    failed = []
    for (collection, label), rows in found.items():
        if not any(math.isfinite(_float(row.get("value", ""))) for row in rows):
            codes = dict.fromkeys(t for row in rows if (t := row.get("error") or row.get("metric")))
            failed.append((f"{collection}, {label}", ", ".join(codes)))
    return tuple(failed)


def _table_links(study: Study, runs: Sequence[Run], names: Names) -> tuple[Link, ...]:
    links = []
    for run in runs:
        table = read_table(study.root, table_file(run.label), names, limit=0)
        if table:
            links.append(Link(f"{run.label}/table.tsv", table.links[0].href))
    return tuple(links)
