"""Contents of the sections on recordings and on analyses, as plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from neuropipe.report.anonymise import Names
from neuropipe.report.markup import anchor, format_duration, format_number
from neuropipe.report.parameters import Parameter, run_parameters
from neuropipe.report.sources import (
    Figure,
    Link,
    Table,
    read_figures,
    read_issues,
    read_json,
    read_links,
    read_maps,
    read_table,
    read_text,
)
from neuropipe.store.layout import (
    figures_folder,
    preprocessed_marker,
    report_marker,
    result_folder,
    store_file,
)

if TYPE_CHECKING:
    from neuropipe.config.recordings import Recording
    from neuropipe.errors import Issue
    from neuropipe.report.overview import State
    from neuropipe.study import Collection, Run, Study


__all__ = [
    "CollectionView",
    "RecordingView",
    "RunView",
    "duration_s",
    "recording_views",
    "run_views",
    "subject_of",
]


TRUTH = "truth"


@dataclass(frozen=True)
class RecordingView:
    """Data quality of one recording."""

    name: str
    anchor: str
    subject: str
    modality: str
    cohort: str
    excluded: bool
    states: tuple[State, ...]
    issues: tuple[Issue, ...]
    facts: tuple[tuple[str, str], ...]
    figures: tuple[Figure, ...]
    links: tuple[Link, ...]

    @property
    def urgent(self) -> bool:
        """Whether a job failed or is out of date."""
        return any(state.state in ("failed", "stale") for state in self.states)

    @property
    def troubled(self) -> bool:
        """Whether somebody should look: urgent, or an issue beyond information."""
        return self.urgent or any(issue.severity != "info" for issue in self.issues)


@dataclass(frozen=True)
class CollectionView:
    """Result of one label for one collection."""

    name: str
    anchor: str
    members: tuple[str, ...]
    subject: str
    state: State
    headline: str
    issues: tuple[Issue, ...]
    facts: tuple[tuple[str, str], ...]
    figures: tuple[Figure, ...]
    table: Table | None
    truth: Table | None
    methods: str
    links: tuple[Link, ...]

    @property
    def truth_figures(self) -> tuple[Figure, ...]:
        """What was planted beside what was found, where recordings are simulated."""
        return tuple(figure for figure in self.figures if figure.slug == TRUTH)

    @property
    def own_figures(self) -> tuple[Figure, ...]:
        """All other figures."""
        return tuple(figure for figure in self.figures if figure.slug != TRUTH)


@dataclass(frozen=True)
class RunView:
    """One label under ``analyses``."""

    label: str
    anchor: str
    name: str
    title: str
    about: str
    scope: str
    collections: tuple[CollectionView, ...]
    parameters: tuple[Parameter, ...]
    methods: str

    @property
    def changed(self) -> tuple[Parameter, ...]:
        """Parameters that differ from their defaults."""
        return tuple(parameter for parameter in self.parameters if parameter.changed)


def subject_of(recordings: Sequence[Recording]) -> str:
    """Return the subject when all recordings are of one, else ""."""
    subjects = {recording.subject for recording in recordings}
    return subjects.pop() if len(subjects) == 1 else ""


def duration_s(report: Mapping[str, Any]) -> float | None:
    """Return the length of a recording in seconds, from its ingest report, if it tells."""
    attrs = report.get("attrs") or {}
    for source in (report, attrs):
        if isinstance(source.get("duration_s"), int | float):
            return float(source["duration_s"])
    rate, samples = attrs.get("rate"), (report.get("sizes") or {}).get("time")
    if not isinstance(rate, int | float) or not isinstance(samples, int):
        return None
    return samples / rate if math.isfinite(rate) and rate > 0 else None


def _facts(pairs: Sequence[tuple[str, Any]]) -> tuple[tuple[str, str], ...]:
    return tuple((key, str(value)) for key, value in pairs if value not in ("", None))


def _recording_facts(
    recording: Recording,
    report: Mapping[str, Any],
    processed: Mapping[str, Any],
    names: Names,
) -> tuple[tuple[str, str], ...]:
    attrs = report.get("attrs") or {}
    sizes = report.get("sizes") or {}
    length, rate = duration_s(report), attrs.get("rate")
    known = isinstance(rate, int | float) and math.isfinite(rate)
    pairs = [
        ("subject", names.subject(recording.subject)),
        ("session", recording.session),
        ("cohort", recording.cohort),
        ("length", format_duration(length) if length is not None else ""),
        ("sampling", attrs.get("sampling", "")),
        ("rate", f"{format_number(float(rate or 0))} Hz" if known else ""),
        *((f"n {dim}", size) for dim, size in sizes.items()),
        ("species", attrs.get("species", "")),
        ("session start", attrs.get("session_start", "")),
        ("source sha256", str(attrs.get("source_sha256", ""))[:12]),
        ("ingest", format_duration(report["wall_s"]) if "wall_s" in report else ""),
        ("preprocessing", format_duration(processed["wall_s"]) if "wall_s" in processed else ""),
    ]
    return _facts(pairs)


def _recording_view(
    study: Study, recording: Recording, states: Sequence[State], names: Names
) -> RecordingView:
    root = study.root
    report = read_json(root / report_marker(recording))
    processed = read_json(root / preprocessed_marker(recording))
    folder = figures_folder(recording)
    store = store_file(recording, ".report.json")
    marker = preprocessed_marker(recording)
    links = [
        *read_links(root, *_split(store)),
        *read_links(root, *_split(store_file(recording, ".nwb"))),
    ]
    named = [Link({"JSON": "ingest report"}.get(link.text, link.text), link.href) for link in links]
    named += [Link("preprocessing", link.href) for link in read_links(root, *_split(marker))]
    return RecordingView(
        name=recording.name,
        anchor=anchor("rec", names.text(recording.name)),
        subject=names.subject(recording.subject),
        modality=recording.modality,
        cohort=recording.cohort,
        excluded=recording.exclude,
        states=tuple(states),
        issues=read_issues(report.get("issues"), processed.get("issues")),
        facts=_recording_facts(recording, report, processed, names),
        figures=read_figures(root, folder, names)[1],
        links=tuple(named),
    )


def _split(path: str) -> tuple[str, tuple[str]]:
    folder, _, name = path.rpartition("/")
    return folder, (name,)


def recording_views(
    study: Study, states: Mapping[tuple[str, str], State], names: Names
) -> tuple[RecordingView, ...]:
    """Return the data quality of every recording, in the order of the table.

    Parameters
    ----------
    study : Study
        The study.
    states : mapping
        State by collection (a recording's name) and column (``ingest``, ``preprocess``).
    names : Names
        How subjects are called.
    """
    views = []
    for recording in study.recordings:
        own = [states.get((recording.name, column)) for column in ("ingest", "preprocess")]
        known = [state for state in own if state is not None]
        views.append(_recording_view(study, recording, known, names))
    return tuple(views)


def _seconds(value: Any) -> str:
    return format_duration(value) if isinstance(value, int | float) else ""


def _result_issues(provenance: Mapping[str, Any]) -> tuple[Issue, ...]:
    converged = provenance.get("converged")
    extra = []
    if converged is not None and not converged:
        message = "The fit did not converge; read its numbers with that in mind."
        extra.append({"code": "NOT_CONVERGED", "message": message})
    issues = read_issues(provenance.get("issues"))
    known = {issue.code for issue in issues}
    return issues if not extra or "NOT_CONVERGED" in known else read_issues(extra) + issues


def _collection_view(
    study: Study, run: Run, collection: Collection, state: State, names: Names
) -> CollectionView:
    root, folder = study.root, result_folder(collection.name, run.label)
    provenance = read_json(root / folder / "provenance.json")
    headline, figures = read_figures(root, folder, names)
    facts = [
        ("members", len(collection.recordings)),
        ("seed", provenance.get("seed", "")),
        ("time of all jobs", _seconds(provenance.get("total_wall_s", provenance.get("wall_s")))),
        ("CPU time", _seconds(provenance.get("total_cpu_s", provenance.get("cpu_s")))),
        ("result sha256", str(provenance.get("content_sha256") or "")[:12]),
    ]
    tables = ("summary.tsv", *run.analysis.table_files)
    files = ("result.nc", *tables, *read_maps(root, folder), "provenance.json", "methods.md")
    links = [Link(name, link.href) for name in files for link in read_links(root, folder, (name,))]
    return CollectionView(
        name=collection.name,
        anchor=anchor("run", run.label, names.text(collection.name)),
        members=tuple(recording.name for recording in collection.recordings),
        subject=names.subject(subject_of(collection.recordings)),
        state=state,
        headline=headline,
        issues=_result_issues(provenance),
        facts=_facts(facts),
        figures=figures,
        table=read_table(root, f"{folder}/summary.tsv", names),
        truth=read_table(root, f"{folder}/truth.tsv", names),
        methods=read_text(root / folder / "methods.md").strip(),
        links=tuple(links),
    )


def run_views(
    study: Study, states: Mapping[tuple[str, str], State], names: Names, missing: State
) -> tuple[RunView, ...]:
    """Return every label with its collections, in the order of the configuration.

    Parameters
    ----------
    study : Study
        The study.
    states : mapping
        State by collection and label.
    names : Names
        How subjects are called.
    missing : State
        Stands where `states` has no entry.
    """
    views = []
    for run in study.runs:
        collections = tuple(
            _collection_view(
                study, run, collection, states.get((collection.name, run.label), missing), names
            )
            for collection in run.collections
        )
        texts = {view.methods for view in collections if view.methods}
        views.append(
            RunView(
                label=run.label,
                anchor=anchor("run", run.label),
                name=run.analysis.name,
                title=run.analysis.title,
                about=run.analysis.about,
                scope=str(getattr(run.input, "scope", None) or ""),
                collections=collections,
                parameters=run_parameters(run),
                methods=texts.pop() if len(texts) == 1 else "",
            )
        )
    return tuple(views)
