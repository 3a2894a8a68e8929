"""The report: one HTML file, or an index with one file per subject when that grows too large."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from neuropipe.report.across import SessionView, session_views
from neuropipe.report.anonymise import Names
from neuropipe.report.markup import asset, content_hash, environment
from neuropipe.report.overview import (
    MISSING,
    AnalysisView,
    Matrix,
    analysis_views,
    matrix,
    states,
    study_card,
)
from neuropipe.report.repeat import Provenance, provenance
from neuropipe.report.sections import RecordingView, RunView, recording_views, run_views
from neuropipe.report.sources import Figure

if TYPE_CHECKING:
    from neuropipe.status import Cell
    from neuropipe.study import Study

__all__ = ["INDEX", "MAX_PAGE_BYTES", "build_page", "build_pages"]

INDEX = "index.html"
MAX_PAGE_BYTES = 10_000_000
# Recordings and collections are unfolded from the start when there are no more than this.
OPEN_ITEMS = 4


@dataclass(frozen=True)
class Report:
    """Everything that the pages show."""

    title: str
    study: str
    card: tuple[tuple[str, str], ...]
    matrix: Matrix
    analyses: tuple[AnalysisView, ...]
    recordings: tuple[RecordingView, ...]
    runs: tuple[RunView, ...]
    sessions: tuple[SessionView, ...]
    provenance: Provenance


@dataclass(frozen=True)
class Other:
    """A page of one subject, as the index names it; `troubled` recordings should be looked at."""

    name: str
    file: str
    recordings: int
    troubled: int


@dataclass(frozen=True)
class Page:
    """One file: a part of the report, and where the rest is.

    Attributes
    ----------
    places : dict
        Anchor -> file.
    others : tuple of Other
        Pages of subjects, of the index.
    moved : mapping
        Label -> name and link of each collection whose section is on the page of its subject.
    """

    file: str
    heading: str
    is_index: bool
    recordings: tuple[RecordingView, ...]
    runs: tuple[RunView, ...]
    places: dict[str, str]
    others: tuple[Other, ...] = ()
    moved: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)

    @property
    def ordered(self) -> tuple[RecordingView, ...]:
        """Recordings, those that failed first and those without issues last."""
        return tuple(sorted(self.recordings, key=lambda view: (not view.urgent, not view.troubled)))

    @property
    def issue_kinds(self) -> tuple[tuple[str, str, tuple[RecordingView, ...]], ...]:
        """Code and severity of issues beyond information with the recordings concerned."""
        found: dict[tuple[str, str], dict[str, RecordingView]] = {}
        for view in self.recordings:
            for issue in view.issues:
                if issue.severity != "info":
                    found.setdefault((issue.severity, issue.code), {})[view.anchor] = view
        # "error" sorts before "warning"; within, what concerns most comes first.
        order = sorted(found, key=lambda key: (key[0], -len(found[key]), key[1]))
        return tuple(
            (code, severity, tuple(found[severity, code].values())) for severity, code in order
        )

    def to(self, target: str) -> str:
        """Return the link to an anchor, on this page or on another."""
        file = self.places.get(target, "")
        return f"#{target}" if file in ("", self.file) else f"{file}#{target}"


def _report(study: Study, cells: Sequence[Cell]) -> Report:
    names = Names(study.recordings, hide=study.config.report.anonymise_subjects)
    known = states(study, cells)
    report = Report(
        title=study.config.report.title or study.config.study,
        study=study.config.study,
        card=study_card(study),
        matrix=matrix(study, known, names),
        analyses=analysis_views(study, names),
        recordings=recording_views(study, known, names),
        runs=run_views(study, known, names, MISSING),
        sessions=session_views(study, names),
        provenance=provenance(study, names),
    )
    return names.view(report)


def _render(report: Report, page: Page) -> str:
    script, style = asset("report.js"), asset("report.css")
    template = environment().get_template("page.html.j2")
    return template.render(
        report=report,
        page=page,
        script=script,
        style=style,
        script_hash=content_hash(script),
        style_hash=content_hash(style),
        open_items=OPEN_ITEMS,
    )


def _single(report: Report) -> Page:
    return Page(INDEX, report.title, True, report.recordings, report.runs, {})


def build_page(study: Study, cells: Sequence[Cell]) -> str:
    """Return the whole report as one HTML page.

    Parameters
    ----------
    study : Study
        The study; its files are read below ``study.root`` and may all be absent.
    cells : sequence of Cell
        State of every job.

    Returns
    -------
    str
        HTML without any reference to the network; the same for the same files.
    """
    report = _report(study, cells)
    return _render(report, _single(report))


def build_pages(
    study: Study, cells: Sequence[Cell], max_bytes: int = MAX_PAGE_BYTES
) -> dict[str, str]:
    """Return the report as files: one, or an index and one page per subject.

    What belongs to one subject alone moves to its page; cohorts stay on the index. Pictures that
    still do not fit are linked instead of embedded, largest first.

    Parameters
    ----------
    study : Study
        The study.
    cells : sequence of Cell
        State of every job.
    max_bytes : int
        Largest size of one page.

    Returns
    -------
    dict of str to str
        File name (relative to the report folder) to HTML; ``index.html`` first.
    """
    report = _report(study, cells)
    page = _single(report)
    html = _render(report, page)
    if len(html.encode()) <= max_bytes:
        return {INDEX: html}
    return {page.file: _fitting(report, page, max_bytes) for page in _split(report)}


def _split(report: Report) -> list[Page]:
    subjects = list(dict.fromkeys(view.subject for view in report.recordings))
    files = {subject: f"sub-{subject}.html" for subject in subjects}
    places = {view.anchor: files[view.subject] for view in report.recordings}
    for run in report.runs:
        places |= {c.anchor: files.get(c.subject, INDEX) for c in run.collections}
    pages = [Page(INDEX, report.title, True, (), _runs_of(report.runs, "", files), places)]
    others = []
    for subject, file in files.items():
        recordings = tuple(view for view in report.recordings if view.subject == subject)
        runs = tuple(run for run in _runs_of(report.runs, subject, files) if run.collections)
        pages.append(Page(file, f"Subject {subject}", False, recordings, runs, places))
        troubled = sum(view.troubled for view in recordings)
        others.append(Other(f"Subject {subject}", file, len(recordings), troubled))
    moved = {
        run.label: tuple(
            (c.name, f"{places[c.anchor]}#{c.anchor}")
            for c in run.collections
            if places[c.anchor] != INDEX
        )
        for run in report.runs
    }
    pages[0] = dataclasses.replace(pages[0], others=tuple(others), moved=moved)
    return pages


def _runs_of(runs: Iterable[RunView], subject: str, files: dict[str, str]) -> tuple[RunView, ...]:
    """Return runs with the collections of one subject, or ("") those of no single one."""
    return tuple(
        dataclasses.replace(
            run,
            collections=tuple(
                c for c in run.collections if (c.subject if c.subject in files else "") == subject
            ),
        )
        for run in runs
    )


def _fitting(report: Report, page: Page, max_bytes: int) -> str:
    """Return the page with as many embedded pictures as fit."""
    html = _render(report, page)
    surplus = len(html.encode()) - max_bytes
    if surplus <= 0:
        return html
    dropped: set[str] = set()
    for figure in sorted(_figures(page), key=lambda figure: len(figure.uri), reverse=True):
        if surplus <= 0:
            break
        dropped.add(figure.uri)
        surplus -= len(figure.uri)
    return _render(report, _without(page, dropped))


def _figures(page: Page) -> list[Figure]:
    found = [figure for view in page.recordings for figure in view.figures]
    return found + [f for run in page.runs for c in run.collections for f in c.figures]


def _without(page: Page, uris: set[str]) -> Page:
    def strip(figures: tuple[Figure, ...]) -> tuple[Figure, ...]:
        return tuple(dataclasses.replace(f, uri="") if f.uri in uris else f for f in figures)

    recordings = tuple(
        dataclasses.replace(view, figures=strip(view.figures)) for view in page.recordings
    )
    runs = tuple(
        dataclasses.replace(
            run,
            collections=tuple(
                dataclasses.replace(c, figures=strip(c.figures)) for c in run.collections
            ),
        )
        for run in page.runs
    )
    return dataclasses.replace(page, recordings=recordings, runs=runs)
