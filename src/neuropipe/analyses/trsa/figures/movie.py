"""Figure of RDM movies: frames, models over time, generalisation from time to time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuropipe.analyses.trsa.figures.panels import (
    condition_categories,
    condition_names,
    mean_over_subjects,
    rdm_panel,
    short,
)
from neuropipe.analyses.trsa.summary import ALPHA, count_text, names_of
from neuropipe.plotting.figure import ReportFigure
from neuropipe.plotting.palette import BACKGROUND, INK, SIGNED, category_styles
from neuropipe.plotting.panels import note

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_movie"]

FRAMES, MOST_MODELS = 6, 6


def _courses(axes: Axes, result: xr.Dataset) -> None:
    """Draw scores over time with their ceiling; bars below mark significant clusters."""
    time = result["time"].values
    if "model_score" not in result:
        mean = result["rdm"].isel(region=0).mean(["subject", "pair"]).values
        axes.plot(time, mean, color=INK)
        axes.set(ylabel=f"Mean dissimilarity ({result['rdm'].attrs.get('units', '')})")
    else:
        scores = (
            result["model_score"].isel(region=0).mean("subject").transpose("model", "time").values
        )
        ceiling = result["noise_ceiling"].isel(region=0).transpose("bound", "time").values
        if np.isfinite(ceiling).all():
            axes.fill_between(
                time, *ceiling, color=BACKGROUND, alpha=0.5, lw=0, label="noise ceiling"
            )
        names = names_of(result["model"])[:MOST_MODELS]
        styles = category_styles(names)
        low = float(np.nanmin(scores))
        span = float(np.nanmax(scores)) - low or 1.0
        for k, name in enumerate(names):
            color = styles[name]["color"]
            axes.plot(time, scores[k], color=color, ls=styles[name]["linestyle"], label=short(name))
            if "p_cluster" in result:
                hit = result["p_cluster"].isel(region=0, model=k).values < ALPHA
                height = np.where(hit, low - span * 0.06 * (k + 1), np.nan)
                axes.plot(time, height, color=color, lw=2)
        axes.set(ylabel=f"Score ({result.attrs['comparator']})")
        axes.legend(loc="upper left", fontsize=5)
    axes.axvline(0, color=INK, lw=0.6, ls=":")
    axes.axhline(0, color=INK, lw=0.4)
    axes.set(xlabel="Time (s)")
    axes.locator_params(axis="x", nbins=6)


def _time_time(figure: Figure, axes: Axes, result: xr.Dataset) -> None:
    if "time_time" not in result:
        note(axes, "Too few runs to compare\ntimes of disjoint trials.")
        return
    values = result["time_time"].isel(region=0).mean("subject").values
    time = result["time"].values
    top = float(np.nanmax(np.abs(values))) or 1.0
    extent = (time[0], time[-1], time[0], time[-1])
    image = axes.imshow(values, origin="lower", extent=extent, cmap=SIGNED, vmin=-top, vmax=top)
    axes.axvline(0, color=INK, lw=0.4)
    axes.axhline(0, color=INK, lw=0.4)
    axes.set(xlabel="Time (s)", ylabel="Time of other trials (s)")
    axes.locator_params(nbins=6)
    figure.colorbar(
        image, ax=axes, label=f"RDM similarity ({result.attrs['comparator']})", shrink=0.8
    )


def _table(result: xr.Dataset) -> pd.DataFrame:
    import pandas as pd

    frame = pd.DataFrame({"time_s": result["time"].values})
    frame["mean_dissimilarity"] = result["rdm"].isel(region=0).mean(["subject", "pair"]).values
    if "model_score" in result:
        mean = result["model_score"].isel(region=0).mean("subject").transpose("model", "time")
        for name, row in zip(names_of(result["model"]), mean.values, strict=True):
            frame[name] = row
    return frame


def draw_movie(result: xr.Dataset) -> ReportFigure:
    """Draw frames, courses and generalisation of the first region.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis, with time.
    """
    movie = mean_over_subjects(result["rdm"].isel(region=0))
    time, labels = result["time"].values, condition_names(result)
    categories = condition_categories(result)
    chosen = np.unique(np.linspace(0, len(time) - 1, FRAMES).round().astype(int))
    limits = (float(np.nanmin(movie)), float(np.nanmax(movie)))
    caption = (
        f"First region, mean of {count_text(result.sizes['subject'], 'subject')}. Top: frames at "
        "equal steps on one colour scale. Bottom left: model scores over time; bars below mark "
        f"clusters at p < {ALPHA} over time (five subjects or more); without models the mean "
        "dissimilarity. Bottom right: similarity of RDMs of two times from disjoint trials, so "
        "that shared noise does not raise the diagonal. Good: nothing before time 0, a rise after "
        "it; a square off the diagonal means a geometry that lasts, a diagonal one that changes. "
        "Bad: structure before time 0 (baseline or filter)."
    )
    figure = ReportFigure(
        title="RDM movie", caption=caption, table=_table(result), width="wide", height_mm=115
    )
    top, bottom = figure.subfigures(2, 1, height_ratios=(1, 1.7))
    frames = top.subplots(1, len(chosen), squeeze=False)[0]
    for axes, k in zip(frames, chosen, strict=True):
        image = rdm_panel(axes, movie[k], labels, limits, names=False, categories=categories)
        axes.set_title(f"{time[k]:.3g} s", pad=None if categories is None else 7)
    unit = str(result["rdm"].attrs.get("units", ""))
    top.colorbar(image, ax=list(frames), label=f"{result.attrs['measure']}\n({unit})", shrink=0.8)
    left, right = bottom.subplots(1, 2)
    _courses(left, result)
    _time_time(figure, right, result)
    return figure
