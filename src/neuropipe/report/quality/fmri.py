"""Figures of fMRI: motion, the carpet, maps of mean and signal to noise, events, confounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.plotting.figure import ReportFigure
from neuropipe.plotting.palette import BACKGROUND, CATEGORICAL, INK
from neuropipe.plotting.style import apply_style
from neuropipe.report.quality.fmri_maps import PALE, noise_figure
from neuropipe.report.quality.fmri_numbers import Run, Series, read_run
from neuropipe.report.quality.fmri_task import before_after, confounds_figure, events_figure

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["fmri_figures"]

ALARM = CATEGORICAL[3]
CARPET_LIMIT = 2.0


def _frame(columns: dict[str, Any]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(columns)


def _centred(steps: np.ndarray) -> np.ndarray:
    """Return a course divided by its median, NaN where there is none."""
    middle = np.nanmedian(steps) if np.isfinite(steps).any() else np.nan
    return steps / middle if middle else np.full(steps.shape, np.nan)


def _mark_censored(axes: Axes, run: Run) -> None:
    """Shade the volumes that are left out, each as wide as a volume."""
    step = run.step
    for k in np.flatnonzero(~run.kept):
        axes.axvspan(run.time[k] - step / 2, run.time[k] + step / 2, color=BACKGROUND, alpha=0.6,
                     lw=0, zorder=0)  # fmt: skip


def _displacement(axes: Axes, run: Run, moved: np.ndarray) -> None:
    axes.set_ylabel("displacement\n(mm)")
    axes.plot(run.time, moved, color=INK, lw=0.8)
    highest = float(np.nanmax(moved, initial=0.0))
    if np.isfinite(run.threshold):
        axes.axhline(run.threshold, color=ALARM, lw=0.8, ls=(0, (4, 2)))
        axes.annotate(f"{run.threshold:g}", (1, run.threshold), xycoords=("axes fraction", "data"),
                      xytext=(2, 0), textcoords="offset points", va="center", fontsize=6,
                      color=ALARM)  # fmt: skip
        highest = max(highest, 1.25 * run.threshold)
    axes.set_ylim(0, 1.08 * highest or 1.0)


def _motion(run: Run) -> ReportFigure:
    lost, n_times = int((~run.kept).sum()), len(run.time)
    told, drawn = "The source states no motion.", ""
    if run.moved is not None:
        told = (
            f"Displacement: mean {np.nanmean(run.moved):.2g} mm, largest "
            f"{np.nanmax(run.moved):.2g} mm."
        )
        drawn = (
            "Top: framewise displacement (Power, sphere of 50 mm), dashed: the threshold in mm. "
            "Bottom: "
        )
    columns: dict[str, Any] = {"time": run.time, "kept": run.kept, "dvars_before": run.before.dvars}
    if run.moved is not None:
        columns["framewise_displacement"] = run.moved
    if run.after is not None:
        columns["dvars_after"] = run.after.dvars
    figure = ReportFigure(
        title="Head motion and sudden changes",
        caption=(
            f"{drawn}"
            f"DVARS, the root mean square change from volume to volume over all "
            f"{run.before.word}s, divided by its median, before and after preprocessing. Grey: "
            f"{lost} of {n_times} volumes that are left out, for motion or before the steady "
            f"state. {told} Good: few grey volumes, a flat lower curve, peaks of DVARS only where "
            "the head moved and gone afterwards. Bad: more than a fifth of the volumes grey, "
            "peaks that outlast the motion, or DVARS peaks without motion (a fault of the scanner)."
        ),
        table=_frame(columns),
        height_mm=50 if run.moved is None else 82,
    )
    if run.moved is None:
        panels = [figure.subplots()]
    else:
        panels = list(figure.subplots(2, 1, sharex=True, height_ratios=[1, 1.1]))
        _displacement(panels[0], run, run.moved)
    before_after(panels[-1], run, _centred, "dvars")
    panels[-1].set(xlabel="time (s)", ylabel="DVARS\n(over median)")
    panels[-1].set_ylim(bottom=0)
    for axes in panels:
        _mark_censored(axes, run)
        axes.set_xlim(*run.span)
    figure.align_ylabels()
    return figure


def _carpet_axes(axes: Axes, series: Series, run: Run, title: str) -> Any:
    import matplotlib as mpl

    shown = np.ma.masked_invalid(series.carpet)
    colours = mpl.colormaps["gray"].with_extremes(bad=PALE)
    image = axes.imshow(
        shown,
        cmap=colours,
        vmin=-CARPET_LIMIT,
        vmax=CARPET_LIMIT,
        aspect="auto",
        interpolation="nearest",
        rasterized=True,
        extent=(*run.span, len(shown) - 0.5, -0.5),
    )
    axes.set_title(title)
    inward = series.word == "voxel"
    axes.set_ylabel(f"{series.word}s, rim to centre" if inward else f"{series.word}s")
    axes.set_yticks([])
    return image


def _carpet(run: Run) -> ReportFigure:
    import pandas as pd

    parts = [("before", run.before)] + ([("after", run.after)] if run.after is not None else [])
    first = run.before
    every = f" Every {first.step}th row is drawn." if first.step > 1 else ""
    order = (
        "Voxels run from the rim of the mask (top) to its centre, since motion shows at the rim "
        "first. "
        if first.word == "voxel"
        else f"The {first.word}s stand in the order of the source. "
    )
    figure = ReportFigure(
        title="All rows over time",
        caption=(
            "Each row is one row of the recording in standard deviations about its mean over the "
            f"kept volumes (black {-CARPET_LIMIT:g}, white {CARPET_LIMIT:g}); pale yellow is "
            f"missing or left out. {order}{every} Good: fine grain without bands, after "
            "preprocessing at the latest. Bad: vertical bands (motion, breathing), a slow change "
            "from dark to light that survives (drift), or horizontal blocks that behave alike "
            "(a fault of a coil or a slice)."
        ),
        table=pd.DataFrame(
            {"time": run.time}
            | {f"mean_{side}": _row_means(series.carpet) for side, series in parts}
        ),
        height_mm=20 + 52 * len(parts),
    )
    panels = figure.subplots(len(parts), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (side, series) in zip(panels, parts, strict=True):
        title = "before preprocessing" if side == "before" else "after preprocessing"
        image = _carpet_axes(axes, series, run, title)
    panels[-1].set_xlabel("time (s)")
    figure.colorbar(image, ax=list(panels), label="s.d.", shrink=0.5, aspect=25, pad=0.01)
    return figure


def _row_means(carpet: np.ndarray) -> np.ndarray:
    known = np.isfinite(carpet)
    total, count = np.where(known, carpet, 0.0).sum(axis=0), known.sum(axis=0)
    return np.divide(total, count, out=np.full(carpet.shape[1], np.nan), where=count > 0)


@apply_style()
def fmri_figures(raw: xr.DataTree, processed: xr.DataTree | None) -> dict[str, ReportFigure]:
    """Return the figures of fMRI, in report order."""
    run = read_run(raw, processed)
    found = {
        "motion": _motion(run),
        "carpet": _carpet(run),
        "noise": noise_figure(run),
        "events": events_figure(run),
    }
    table = confounds_figure(run)
    return found if table is None else {**found, "confounds": table}
