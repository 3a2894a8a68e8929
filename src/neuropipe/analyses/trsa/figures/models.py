"""Figure 2: scores of models with subjects, errors, noise ceiling and comparisons."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuropipe.analyses.trsa.figures.panels import after_zero, short
from neuropipe.analyses.trsa.summary import ALPHA, count_text, model_table, names_of
from neuropipe.plotting.figure import ReportFigure
from neuropipe.plotting.palette import BACKGROUND, CATEGORICAL, INK
from neuropipe.plotting.panels import note

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["draw_models"]

MOST = 4
GAPS = ("no", "raw p", "corrected")


def _bars(axes: Axes, result: xr.Dataset, region: str) -> None:
    scores = (
        after_zero(result["model_score"]).sel(region=region).transpose("model", "subject").values
    )
    mean = np.nanmean(scores, axis=1)
    places = np.arange(len(mean))
    lower, upper = after_zero(result["noise_ceiling"]).sel(region=region).values
    if np.isfinite(lower):  # one subject alone has no ceiling
        axes.axhspan(
            lower, upper, color=BACKGROUND, alpha=0.6, lw=0, zorder=0, label="noise ceiling"
        )
    axes.bar(places, mean, width=0.7, color=CATEGORICAL[0], zorder=1)
    spread = np.linspace(-0.22, 0.22, scores.shape[1]) if scores.shape[1] > 1 else np.zeros(1)
    for place, row in zip(places, scores, strict=True):
        axes.scatter(place + spread, row, s=5, color=INK, lw=0, zorder=3)
    tops = np.nanmax(scores, axis=1)
    if "variance_components" in result:
        variance = after_zero(result["variance_components"]).sel(source="corrected", region=region)
        error = np.sqrt(variance.values)
        style = {"ecolor": CATEGORICAL[3], "elinewidth": 1.4, "capsize": 2, "zorder": 4}
        axes.errorbar(places, mean, yerr=error, fmt="none", **style)
        tops = np.fmax(tops, mean + error)
    _stars(axes, result, region, tops)
    axes.axhline(0, color=INK, lw=0.6)
    names = [short(name) for name in names_of(result["model"])]
    axes.set_xticks(places, names, rotation=40, ha="right", fontsize=6)
    axes.set_ylabel(f"Score ({result.attrs['comparator']})")
    axes.set_title(short(region, 24))


def _stars(axes: Axes, result: xr.Dataset, region: str, tops: np.ndarray) -> None:
    """Mark models above 0 and models below the lower ceiling."""
    if "p_vs_zero_adjusted" not in result or "time" in result["p_vs_zero_adjusted"].dims:
        return
    above = result["p_vs_zero_adjusted"].sel(region=region).values < ALPHA
    below = result["p_vs_ceiling_adjusted"].sel(region=region).values < ALPHA
    for place, (a, b, top) in enumerate(zip(above, below, tops, strict=True)):
        text = ("*" if a else "") + ("▾" if b else "")
        axes.annotate(text, (place, max(top, 0.0)), xytext=(0, 2), textcoords="offset points",
                      ha="center", fontsize=8, color=INK)  # fmt: skip


def _matrix(axes: Axes, result: xr.Dataset, region: str) -> None:
    """Draw which pairs of models differ: not, by the raw p, or also when corrected."""
    from matplotlib.colors import ListedColormap

    raw = result["p_pairwise"].sel(region=region).values
    corrected = result["p_pairwise_adjusted"].sel(region=region).values
    shown = np.where(np.isfinite(raw), (raw < ALPHA).astype(float) + (corrected < ALPHA), np.nan)
    colors = ListedColormap(["#F2F2F2", CATEGORICAL[5], CATEGORICAL[0]])
    axes.imshow(np.ma.masked_invalid(shown), cmap=colors, vmin=0, vmax=2)
    names = [short(name, 10) for name in names_of(result["model"])]
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", fontsize=5)
    axes.set_yticks(range(len(names)), names, fontsize=5)
    axes.set_title("models differ", fontsize=7)
    handles = [axes.scatter([], [], marker="s", s=20, color=colors(k), label=name)
               for k, name in enumerate(GAPS)]  # fmt: skip
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=5)


NOTHING = (
    "No model was given: add RDMs under analyses.trsa.models or in the input, one per hypothesis, "
    "to compare them with the subjects' RDMs."
)
CAPTION = (
    "Bars: mean score over {subjects}; dots: subjects; error bars: standard error over new {over} "
    "(variance corrected as by Schütt et al.); grey band: noise ceiling, from the mean of the "
    "other subjects (lower edge) to the mean of all. *: above 0 (one-sided, corrected p < "
    "{alpha}); ▾: below the lower ceiling. Squares: pairs of models that differ{time}. Good: a "
    "model inside the band explains what subjects have in common. Bad: a ceiling near 0 (subjects "
    "share nothing, no model can do well), or many models in the band (the data cannot tell them "
    "apart).{more}"
)


def draw_models(result: xr.Dataset) -> ReportFigure:
    """Draw the scores of all models in up to four regions.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis.
    """
    table = model_table(result)
    title = "Models"
    if not len(table):
        figure = ReportFigure(title=title, caption=NOTHING, table=_empty(), height_mm=25)
        note(figure.subplots(), "No models were given.")
        return figure
    regions = names_of(result["region"])
    best = table.groupby("region")["score"].max().sort_values(ascending=False).index[:MOST]
    shown = [region for region in regions if region in set(best)]
    paired = "p_pairwise" in result and "time" not in result["p_pairwise"].dims
    more = len(regions) - len(shown)
    figure = ReportFigure(
        title=title,
        caption=CAPTION.format(
            subjects=count_text(result.sizes["subject"], "subject"),
            over=str(result.attrs["resampled"]).replace(", ", "s and ") + "s",
            alpha=ALPHA,
            time="; means after time 0" if "time" in result["rdm"].dims else "",
            more=f" {more} further regions are in models.csv." if more else "",
        ),
        table=table,
        width="wide",
        height_mm=60 * len(shown),
    )
    grid = figure.subplots(len(shown), 2 if paired else 1, squeeze=False,
                           width_ratios=(3, 1) if paired else None)  # fmt: skip
    for axes, region in zip(grid, shown, strict=True):
        _bars(axes[0], result, region)
        if paired:
            _matrix(axes[1], result, region)
    if result.sizes["subject"] > 1:
        grid[0][0].legend(loc="best")
    return figure


def _empty() -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame([{"region": "", "model": "", "score": np.nan}])
