"""Figure 8: whether every row behaves as the model predicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuropipe.analyses.hmm_glm.figures.annotations import count_text
from neuropipe.analyses.hmm_glm.summary import deviation
from neuropipe.plotting.figure import ReportFigure
from neuropipe.plotting.palette import BACKGROUND, CATEGORICAL, INK, LINE_STYLES

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["draw_goodness"]

NAMED = 3  # worst units drawn in colour
KOLMOGOROV = 1.36  # 95 % quantile of the largest distance times the root of n


def _draw_curves(axes: Axes, result: xr.Dataset, worst: np.ndarray, band: float) -> None:
    levels = result["level"].values
    difference = result["transform"].values - levels
    axes.fill_between(levels, -band, band, color=BACKGROUND, alpha=0.4, lw=0)
    axes.axhline(0, color=INK, lw=0.6)
    axes.plot(levels, difference.T, color="#8A8A8A", lw=0.5, alpha=0.6)
    units = result["unit"].values.astype(str)
    for place, unit in enumerate(worst):
        style = {"color": CATEGORICAL[place], "ls": LINE_STYLES[place % len(LINE_STYLES)]}
        axes.plot(levels, difference[unit], lw=1.2, label=units[unit], **style)
    limit = 1.15 * max(float(np.abs(difference).max()), band)
    axes.set(xlim=(0, 1), ylim=(-limit, limit))
    axes.set(xlabel="Level", ylabel="Share below the level minus level", title="Transform")
    axes.legend(title="Worst", title_fontsize=7, loc="best")


def _draw_deviations(axes: Axes, sizes: np.ndarray, worst: np.ndarray, band: float) -> None:
    order = np.argsort(-sizes, kind="stable")
    rank = np.empty(order.size, dtype=int)
    rank[order] = np.arange(1, order.size + 1)
    axes.scatter(rank, sizes, s=8, color="#8A8A8A", lw=0)
    for place, unit in enumerate(worst):
        axes.scatter(rank[unit], sizes[unit], s=16, color=CATEGORICAL[place], lw=0, zorder=3)
    axes.axhline(band, color=INK, lw=0.8, ls="--", label="95 % band")
    axes.set_ylim(0, 1.15 * max(float(sizes.max()), band))
    axes.set_xlim(0, order.size + 1)
    axes.set(xlabel="Row (worst first)", ylabel="Largest deviation", title="All rows")
    axes.legend()


def draw_goodness(result: xr.Dataset) -> ReportFigure:
    """Draw the probability integral transform of every unit against the uniform distribution.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis.
    """
    import pandas as pd

    sizes, n_bins = deviation(result), int(result["transform_bins"])
    band = KOLMOGOROV / np.sqrt(n_bins)
    worst = np.argsort(-sizes, kind="stable")[:NAMED]
    outside = int((sizes > band).sum())
    figure = ReportFigure(
        title="Goodness of fit",
        caption=(
            "Probability integral transform of every row: where the observed value falls within "
            "the distribution that the model predicts for the bin from the bins before it "
            "(mixture of the states; counts averaged over randomisation). Left: share of bins "
            "below each level minus the level, one line per row, the three worst in colour; grey: "
            f"95 % band of a Kolmogorov-Smirnov test with n = {n_bins} bins (too wide for counts "
            f"that are mostly 0). Right: largest deviation; {outside} of "
            f"{count_text(sizes.size, 'row')} beyond the band. Good: flat lines within or near "
            "the band. Bad: an S shape (the model is too wide or too narrow: try `negbin` for "
            "counts that vary more than Poisson), a line that stays on one side (a wrong mean, "
            "such as a drifting unit). With long recordings small deviations leave the band; "
            "their size matters, below 0.02 is little."
        ),
        table=pd.DataFrame(
            {"unit": result["unit"].values.astype(str), "deviation": sizes, "band": band}
        ),
        height_mm=66,
    )
    left, right = figure.subplots(1, 2, width_ratios=[1.3, 1])
    _draw_curves(left, result, worst, band)
    _draw_deviations(right, sizes, worst, band)
    return figure
