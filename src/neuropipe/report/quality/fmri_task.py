"""Figures of fMRI that set signals against the task: events, and confounds against conditions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from neuropipe.plotting.figure import ReportFigure
from neuropipe.plotting.palette import CATEGORICAL, INK, MISSING, SIGNED, category_styles
from neuropipe.plotting.panels import thinned_ticks
from neuropipe.report.quality.fmri_numbers import Run, event_course

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["before_after", "confounds_figure", "events_figure"]

BEFORE, AFTER = CATEGORICAL[1], CATEGORICAL[0]
SHOWN_CONFOUNDS = (
    "trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z",
    "framewise_displacement", "csf", "white_matter", "global_signal",
)  # fmt: skip
MAX_LABELS = 10


def before_after(axes: Axes, run: Run, scale: Callable[[np.ndarray], np.ndarray],
                  field: str) -> None:  # fmt: skip
    """Draw a course before and after; the wider line shows where both agree."""
    axes.plot(run.time, scale(getattr(run.before, field)), color=BEFORE, lw=1.8, label="before")
    if run.after is not None:
        axes.plot(run.time, scale(getattr(run.after, field)), color=AFTER, lw=0.8, label="after")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2)


def _scaled(course: np.ndarray) -> np.ndarray:
    spread = np.nanstd(course) if np.isfinite(course).any() else 0.0
    return (course - np.nanmean(course)) / spread if spread > 0 else course


def _labels(run: Run) -> list[str]:
    """Return the labels of events in the order in which they first occur."""
    return list(dict.fromkeys(label for label, _, _ in sorted(run.events, key=lambda e: e[1])))


def _event_rows(axes: Axes, run: Run, labels: list[str]) -> None:
    styles = category_styles(labels)
    step = run.step
    for label, onset, duration in run.events:
        if label in labels:
            length = duration if np.isfinite(duration) and duration > 0 else step / 4
            axes.barh(labels.index(label), length, left=onset, height=0.7, lw=0,
                      color=styles[label]["color"])  # fmt: skip
    axes.set_ylim(len(labels) - 0.4, -0.6)
    thinned_ticks(axes, [label or "(no label)" for label in labels], most=MAX_LABELS)
    axes.tick_params(axis="y", length=0)


def events_figure(run: Run) -> ReportFigure:
    """Return the events of a run above its mean signal."""
    import pandas as pd

    labels = _labels(run)
    shown = labels[:MAX_LABELS]
    stop = run.time[-1] + run.step
    outside = sum(not run.time[0] <= onset <= stop for _, onset, _ in run.events)
    figure = ReportFigure(
        title="Events and mean signal",
        caption=(
            f"{'Top: ' if shown else ''}{len(run.events)} events of {len(labels)} labels"
            f"{f' (the first {MAX_LABELS} shown)' if len(labels) > MAX_LABELS else ''}; {outside} "
            "lie outside the recording. Bottom: mean over all rows, each curve in its standard "
            "deviations, before and after preprocessing; gaps were left out. Good: events cover "
            "the recording as planned, and the mean follows them, if at all, some 5 s later. Bad: "
            "events that end long before the recording (a wrong repetition time or table), none "
            "of a planned condition, or steps and spikes of the mean that no event explains."
        ),
        table=pd.DataFrame(run.events, columns=["label", "onset", "duration"]),
        height_mm=42 + (6.0 + 5.0 * len(shown) if shown else 0.0),
    )
    if shown:
        ratios = [max(1.0, 0.18 * len(shown)), 1]
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=ratios)
        _event_rows(upper, run, shown)
    else:
        lower = figure.subplots()
    before_after(lower, run, _scaled, "course")
    lower.set(xlabel="time (s)", ylabel="mean signal (s.d.)")
    lower.set_xlim(*run.span)
    return figure


def _correlation(one: np.ndarray, other: np.ndarray, kept: np.ndarray) -> float:
    use = kept & np.isfinite(one) & np.isfinite(other)
    if use.sum() < 3 or np.ptp(one[use]) == 0 or np.ptp(other[use]) == 0:
        return np.nan
    return float(np.corrcoef(one[use], other[use])[0, 1])


def confounds_figure(run: Run) -> ReportFigure | None:
    """Return correlations of confounds with signal and conditions; None without confounds."""
    import matplotlib as mpl
    import pandas as pd

    rows = {name: run.confounds[name] for name in SHOWN_CONFOUNDS if name in run.confounds}
    if run.moved is not None:
        rows["framewise_displacement"] = run.moved
    rows = {name: rows[name] for name in SHOWN_CONFOUNDS if name in rows}
    if not rows:
        return None
    columns = {"mean before": run.before.course}
    if run.after is not None:
        columns["mean after"] = run.after.course
    columns["DVARS before"] = run.before.dvars
    columns |= {label or "(no label)": event_course(run, label) for label in
                _labels(run)[:MAX_LABELS]}  # fmt: skip
    matrix = np.array(
        [[_correlation(a, b, run.kept) for b in columns.values()] for a in rows.values()]
    )
    figure = ReportFigure(
        title="Confounds against signal and task",
        caption=(
            "Correlation over kept volumes of each confound with the mean signal before and after "
            "preprocessing, with DVARS, and with each condition (events shifted by 5 s, about the "
            "delay of the blood response). Good: the column after preprocessing is near zero for "
            "what was regressed out, and no condition goes with motion. Bad: a condition that "
            "correlates with motion above 0.3: regressing motion out then takes the effect with it."
        ),
        table=pd.DataFrame(matrix, columns=list(columns)).assign(confound=list(rows)),
        width="wide" if len(columns) > 7 else "medium",
        height_mm=30 + 5.5 * len(rows),
    )
    axes = figure.subplots()
    colours = mpl.colormaps[SIGNED].with_extremes(bad=MISSING)
    image = axes.imshow(np.ma.masked_invalid(matrix), cmap=colours, vmin=-1, vmax=1, aspect="auto")
    for k, values in enumerate(matrix):
        for n, value in enumerate(values):
            if np.isfinite(value):
                text = f"{round(value, 2) + 0.0:.2f}"
                colour = "white" if abs(value) > 0.6 else INK
                axes.text(n, k, text, ha="center", va="center", fontsize=5.5, color=colour)
    axes.set_yticks(range(len(rows)), [name.replace("_", " ") for name in rows])
    axes.set_xticks(range(len(columns)), list(columns), rotation=40, ha="right",
                    rotation_mode="anchor")  # fmt: skip
    axes.tick_params(length=0)
    figure.colorbar(image, ax=axes, label="correlation", aspect=18, pad=0.01)
    return figure
