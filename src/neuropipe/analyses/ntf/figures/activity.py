"""Figure 6: activity of every motif over time in every subject."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuropipe.analyses.ntf.figures.annotations import count_text, shared_epochs
from neuropipe.analyses.ntf.motifs import text_values
from neuropipe.plotting.figure import ReportFigure
from neuropipe.plotting.palette import category_styles
from neuropipe.plotting.panels import Epoch, thinned_ticks, time_raster

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["draw_activity"]

ROW_MM, GAP_MM, MARGIN_MM = 2.4, 4.0, 20.0
FULL_SCALE = 0.995


def _mark_epochs(axes: Axes, epochs: list[Epoch]) -> None:
    """Draw epochs as coloured bars above the raster, with their names."""
    styles = category_styles([epoch.name for epoch in epochs])
    for epoch in epochs:
        axes.plot(
            [epoch.start, epoch.stop],
            [1.04, 1.04],
            transform=axes.get_xaxis_transform(),
            color=styles[epoch.name]["color"],
            lw=2,
            solid_capstyle="butt",
            clip_on=False,
        )
    for name, style in styles.items():
        first = next(epoch for epoch in epochs if epoch.name == name)
        axes.annotate(
            name,
            ((first.start + first.stop) / 2, 1.04),
            xycoords=axes.get_xaxis_transform(),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=6,
            color=style["color"],
        )


def _strength(result: xr.Dataset) -> np.ndarray:
    """Return the activity (component, subject, time bin), NaN where not recorded."""
    dims = ("component", "subject", "time_bin")
    strength = result["dynamic_strength"].transpose(*dims)
    if "time_observed" in result:
        strength = strength.where(result["time_observed"])
    return strength.transpose(*dims).values.astype(float)


def _table(strength: np.ndarray, time: np.ndarray, subjects: list[str]) -> pd.DataFrame:
    """Return one column per motif and subject."""
    import pandas as pd

    columns = {"time_s": time}
    for component, rows in enumerate(strength):
        for subject, row in zip(subjects, rows, strict=True):
            columns[f"motif-{component + 1}_{subject}"] = row
    return pd.DataFrame(columns)


CAPTION = (
    "Activity of each motif (rows of a block: subjects) over time: weight of the motif "
    "times its time course times its weight in the subject, arbitrary unit, one colour "
    "scale for all; n = {subjects}, {motifs}. Pale grey: not recorded. {epochs}No "
    "error bars: point estimates; within a block rows differ by a factor only, as the "
    "model shares the time course. Good: bright stretches that line up with the protocol, in "
    "several subjects. Bad: a block that is bright in one subject only, or evenly bright at "
    "all times."
)


def draw_activity(result: xr.Dataset) -> ReportFigure:
    """Draw the activity of every motif in every subject as one raster per motif.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis.
    """
    subjects, time = text_values(result["subject"]), result["time_bin"].values
    strength = _strength(result)
    epochs, _ = shared_epochs(result)
    finite = strength[np.isfinite(strength)]
    vmax = float(np.quantile(finite, FULL_SCALE)) if finite.size else 1.0
    block_mm = max(5.0, ROW_MM * len(subjects)) + GAP_MM
    figure = ReportFigure(
        title="Activity of the motifs in each subject",
        caption=CAPTION.format(
            subjects=count_text(len(subjects), "subject"),
            motifs=count_text(len(strength), "motif"),
            epochs="Bars on top: epochs. " if epochs else "",
        ),
        table=_table(strength, time, subjects),
        height_mm=MARGIN_MM + block_mm * len(strength),
    )
    axes = figure.subplots(len(strength), 1, squeeze=False, sharex=True)[:, 0]
    for component, one in enumerate(axes):
        image = time_raster(one, strength[component], time, vmax=vmax)
        one.set_ylabel(
            f"Motif {component + 1}", rotation=0, ha="right", va="center", fontweight="bold"
        )
        thinned_ticks(one, subjects, most=max(1, min(12, round(block_mm / 2.6))))
        one.tick_params(axis="y", labelsize=5.5, length=0)
        for spine in one.spines.values():
            spine.set_visible(False)
    _mark_epochs(axes[0], epochs)
    axes[-1].set_xlabel("Time (s)")
    bar = figure.colorbar(
        image, ax=list(axes), fraction=0.03, pad=0.01, aspect=max(20, 6 * len(axes))
    )
    bar.set_label("Motif activity (a.u.)")
    bar.outline.set_visible(False)
    return figure
