"""Results of several analyses of one session on one time axis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from neuropipe.report.anonymise import Names
from neuropipe.report.markup import anchor
from neuropipe.report.sources import Figure, Table, read_figures
from neuropipe.store.layout import across_folder, result_file

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from neuropipe.plotting.courses import Course
    from neuropipe.plotting.figure import ReportFigure
    from neuropipe.study import Collection, Run, Study

__all__ = ["SessionView", "session_views"]

LONGEST_S, MOST_ROWS, MOST_POINTS = 120.0, 8, 2000


@dataclass(frozen=True)
class SessionView:
    """What analyses say of one session, beside each other."""

    name: str
    anchor: str
    analyses: tuple[tuple[str, str], ...]
    figures: tuple[Figure, ...]
    table: Table | None


class _Result(NamedTuple):
    """A result that lies along time."""

    label: str
    collection: str
    course: Course


def session_views(study: Study, names: Names) -> tuple[SessionView, ...]:
    """Return a view of each session of which two results or more lie along time.

    The figure and its numbers are written to ``report/across/<session>/``.

    Parameters
    ----------
    study : Study
        The study.
    names : Names
        How subjects are called.
    """
    views = []
    for name, subject, found in _sessions(study):
        results = [
            one for run, collection in found for one in _courses(study, run, collection, subject)
        ]
        if len({one.label for one in results}) < 2:
            continue
        folder = across_folder(name)
        _write(study.root / folder, name, results)
        views.append(
            SessionView(
                name=name,
                anchor=anchor("across", names.text(name)),
                analyses=tuple((one.label, one.collection) for one in results),
                figures=read_figures(study.root, folder, names)[1],
                table=_associations(results),
            )
        )
    return tuple(views)


def _sessions(study: Study) -> Iterator[tuple[str, str, list[tuple[Run, Collection]]]]:
    """Return sessions with the results that concern them: name, subject, results."""
    keys = dict.fromkeys((r.subject, r.session) for r in study.recordings if not r.exclude)
    for subject, session in keys:
        found = [
            (run, collection)
            for run in study.runs
            for collection in run.collections
            if run.analysis.courses
            and any((r.subject, r.session) == (subject, session) for r in collection.recordings)
            and (study.root / result_file(collection.name, run.label)).exists()
        ]
        if len({run.label for run, _ in found}) > 1:
            yield f"sub-{subject}" + (f"_ses-{session}" if session else ""), subject, found


def _courses(study: Study, run: Run, collection: Collection, subject: str) -> list[_Result]:
    """Return what a result has along time; nothing if its file cannot be read."""
    from neuropipe.analyses.registry import load_object
    from neuropipe.store.provenance import read_dataset

    try:
        result = read_dataset(study.root / result_file(collection.name, run.label))
        courses = load_object(run.analysis.courses)(result, subject)
    except (OSError, ValueError, KeyError):
        return []
    return [_Result(run.label, collection.name, course) for course in courses]


def _write(folder: Path, name: str, results: Sequence[_Result]) -> None:
    """Draw the figure and list it as figures of analyses are."""
    from neuropipe.plotting.save import save_figure
    from neuropipe.plotting.style import apply_style
    from neuropipe.store.atomic import write_json

    with apply_style():
        figure = _draw(name, results)
    save_figure(figure, folder, "courses")
    card = {"slug": "courses", "title": figure.title, "caption": figure.caption}
    write_json(folder / "figures.json", {"figures": [card]})


def _draw(name: str, results: Sequence[_Result]) -> ReportFigure:
    import numpy as np

    from neuropipe.plotting.figure import ReportFigure
    from neuropipe.plotting.palette import CATEGORICAL
    from neuropipe.plotting.panels import stacked_traces
    from neuropipe.plotting.truth import state_strips

    start = max(float(one.course.time[0]) for one in results)
    stop = min(float(one.course.time[-1]) for one in results)
    shown = min(stop, start + LONGEST_S)
    heights = [
        8.0 if r.course.discrete else 6.0 * min(len(r.course.rows), MOST_ROWS) + 4 for r in results
    ]
    figure = ReportFigure(
        title="Results of one session on one time axis",
        table=_numbers(results),
        width="wide",
        height_mm=25 + 8 * len(results) + sum(heights),
        caption=(
            f"Results of {name} that lie along time, on the clock of the session, "
            f"{start:.0f} to {shown:.0f} s of the {stop - start:.0f} s that they share. Strips: "
            "states, one colour each (colours of different analyses are not matched). Lines: "
            "trajectories, each in units of its own SD. Where the same events drive several "
            "results, strips change colour together and lines step where they do; results of "
            "unrelated processes show no such steps."
        ),
    )  # fmt: skip
    rows = figure.subplots(len(results), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
    for axes, one in zip(rows, results, strict=True):
        inside = (one.course.time >= start) & (one.course.time <= shown)
        time, values = one.course.time[inside], one.course.values[:, inside]
        if one.course.discrete:
            grid = np.arange(time[0], time[-1] + one.course.step / 2, one.course.step)
            strips = values[:, np.clip(np.searchsorted(time, grid), 0, time.size - 1)]
            state_strips(axes, grid, strips, one.course.rows)
        else:
            names = [f"{row}" for row in one.course.rows[:MOST_ROWS]]
            colors = [CATEGORICAL[k % len(CATEGORICAL)] for k in range(len(names))]
            stacked_traces(axes, time, values[:MOST_ROWS], names, colors=colors)
        axes.set_title(f"{one.label}: {one.course.title.lower()}", loc="left")
        axes.set_xlabel("")
        axes.set_xlim(start, shown)
    rows[-1].set_xlabel("Time of the session (s)")
    return figure


def _grid(results: Sequence[_Result]) -> np.ndarray:
    """Return times that all results share, at the step of the coarsest."""
    import numpy as np

    start = max(float(one.course.time[0]) for one in results)
    stop = min(float(one.course.time[-1]) for one in results)
    step = max(one.course.step for one in results)
    return np.arange(start, stop, step)


def _numbers(results: Sequence[_Result]) -> pd.DataFrame:
    """Return all results on the common times, thinned, one column per row of a result."""
    import pandas as pd

    from neuropipe.plotting.courses import on_grid

    grid = _grid(results)
    grid = grid[:: -(-grid.size // MOST_POINTS)]
    columns = {"time_s": grid}
    for one in results:
        values = on_grid(one.course, grid)
        for row, course in zip(one.course.rows, values, strict=True):
            shift = 1 if one.course.discrete else 0
            columns[f"{one.label} {row}"] = course + shift
    return pd.DataFrame(columns)


def _associations(results: Sequence[_Result]) -> Table | None:
    """Return how much each result says of the others, on the common times."""
    from neuropipe.plotting.courses import on_grid, share_explained
    from neuropipe.stats.clustering_scores import adjusted_rand_score

    grid = _grid(results)
    rows: list[tuple[str, ...]] = []
    states = [one for one in results if one.course.discrete]
    for k, one in enumerate(states):
        path = on_grid(one.course, grid)[0]
        for other in states[k + 1 :]:
            second = on_grid(other.course, grid)[0]
            known = (path >= 0) & (second >= 0)
            value = adjusted_rand_score(path[known], second[known])
            rows.append((one.label, other.label, "adjusted Rand index of states", f"{value:.3f}"))
        for other in (r for r in results if not r.course.discrete):
            values = on_grid(other.course, grid)
            for name, course in zip(other.course.rows, values, strict=True):
                value = share_explained(path, course)
                what = "share of variance between states"
                rows.append((one.label, f"{other.label} {name}", what, f"{value:.3f}"))
    columns = ("states of", "against", "measure", "value")
    return Table(columns, tuple(rows), len(rows)) if rows else None
