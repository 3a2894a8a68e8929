"""Figure 1: latent time courses of some trials, averages per condition, state space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.plotting.figure import ReportFigure
from neuropipe.plotting.palette import BACKGROUND, CATEGORICAL, INK, category_styles

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["draw_latents"]

MOST_LATENTS, TRIALS_DRAWN, MOST_CONDITIONS = 6, 3, 8

CAPTION = (
    "Left: posterior mean ± 2 posterior SD of {drawn} test trials per latent (first, middle and "
    "last). Middle: average over trials{by}, n = {trials}. Right: the first two latents against "
    "each other, one line per trial, dot at the start{more}. Latents have unit variance under the "
    "prior, their sign is chosen so that the largest loading is positive. Good: bands much "
    "narrower than the excursions, and paths that repeat within a condition. Bad: bands of width "
    "2 around 0, which say that the data do not determine the latent."
)


def _conditions(result: xr.Dataset) -> np.ndarray:
    count = result.sizes["trial"]
    if "trial_label" not in result.coords:
        return np.full(count, "all trials")
    labels = result["trial_label"].values.astype(str)
    kinds = np.unique(labels)
    return labels if kinds.size <= MOST_CONDITIONS else np.full(count, "all trials")


def _picked(result: xr.Dataset) -> np.ndarray:
    """Return first, middle and last trial of those for the test (of all if there is none)."""
    test = np.flatnonzero(result["trial_split"].values == "test")
    test = test if test.size else np.arange(result.sizes["trial"])
    return np.unique(test[np.linspace(0, test.size - 1, TRIALS_DRAWN).round().astype(int)])


def _traces(axes: Axes, time: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> None:
    for row, (one, spread) in enumerate(zip(mean, sd, strict=True)):
        color = CATEGORICAL[row]
        axes.fill_between(time, one - 2 * spread, one + 2 * spread, color=color, alpha=0.25, lw=0)
        axes.plot(time, one, color=color, lw=0.9)
    axes.axhline(0, color=BACKGROUND, lw=0.5, zorder=0)


def _averages(axes: Axes, time: np.ndarray, values: np.ndarray, labels: np.ndarray) -> None:
    for name, style in category_styles(sorted(set(labels))).items():
        rows = values[labels == name]
        seen = np.maximum(np.isfinite(rows).sum(axis=0), 1)
        mean = np.where(np.isfinite(rows), rows, 0).sum(axis=0) / seen
        error = np.sqrt(np.where(np.isfinite(rows), (rows - mean) ** 2, 0).sum(axis=0)) / seen
        color = style["color"]
        axes.fill_between(time, mean - 2 * error, mean + 2 * error, color=color, alpha=0.25, lw=0)
        axes.plot(time, mean, color=color, ls=style["linestyle"], lw=0.9, label=name)
    axes.axhline(0, color=BACKGROUND, lw=0.5, zorder=0)


def _state_space(axes: Axes, values: np.ndarray, labels: np.ndarray, time: np.ndarray) -> None:
    styles = category_styles(sorted(set(labels)))
    if values.shape[2] < 2:
        for row, label in zip(values, labels, strict=True):
            axes.plot(time, row[:, 0], color=styles[label]["color"], lw=0.4, alpha=0.6)
        axes.set(xlabel="Time (s)", ylabel="Latent 1")
        return
    for row, label in zip(values, labels, strict=True):
        color = styles[label]["color"]
        axes.plot(row[:, 0], row[:, 1], color=color, lw=0.4, alpha=0.6, rasterized=True)
        start = np.flatnonzero(np.isfinite(row[:, 0]))
        if start.size:
            axes.plot(*row[start[0], :2], marker="o", ms=1.8, color=color, ls="")
    axes.set(xlabel="Latent 1", ylabel="Latent 2")
    axes.set_aspect("equal", adjustable="datalim")


def _table(result: xr.Dataset, labels: np.ndarray) -> pd.DataFrame:
    import pandas as pd

    rows: list[dict[str, Any]] = []
    groups = result["latent_group"].values.astype(str)
    mean = result["latent_mean"].transpose("trial", "time", "latent").values
    for name in sorted(set(labels)):
        with np.errstate(invalid="ignore"):
            part = mean[labels == name]
            count = np.maximum(np.isfinite(part).sum(axis=0), 1)
            average = np.where(np.isfinite(part), part, 0).sum(axis=0) / count
        for k, group in enumerate(groups):
            rows += [
                {"condition": name, "latent": k + 1, "group": group, "time_s": t, "mean": v}
                for t, v in zip(result["time"].values, average[:, k], strict=True)
            ]
    return pd.DataFrame(rows)


def draw_latents(result: xr.Dataset) -> ReportFigure:
    """Draw latents of single trials, their averages and the state space.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis.
    """
    time, groups = result["time"].values, result["latent_group"].values.astype(str)
    mean = result["latent_mean"].transpose("trial", "time", "latent").values
    sd = np.sqrt(result["latent_var"].transpose("trial", "time", "latent").values)
    labels, picked = _conditions(result), _picked(result)
    shown = min(mean.shape[2], MOST_LATENTS)
    several = len(set(labels)) > 1
    more = (
        f"; {mean.shape[2] - shown} further latents are in the table"
        if shown < mean.shape[2]
        else ""
    )
    figure = ReportFigure(
        title="Latent trajectories",
        caption=CAPTION.format(
            drawn=picked.size, trials=mean.shape[0], more=more,
            by=" per condition, ± 2 standard errors" if several else ", ± 2 standard errors",
        ),
        table=_table(result, labels),
        height_mm=max(60, 16 + 24 * shown),
    )  # fmt: skip
    grid = figure.add_gridspec(shown, 3, width_ratios=[1.25, 1, 1.1])
    for k in range(shown):
        left, middle = (figure.add_subplot(grid[k, column]) for column in (0, 1))
        _traces(left, time, mean[picked, :, k], sd[picked, :, k])
        _averages(middle, time, mean[..., k], labels)
        title = f"{k + 1}: {groups[k]}, {1000 * float(result['length_scale_s'][k]):.0f} ms"
        left.set_title(title, fontsize=7, color=INK, loc="left")
        left.set_ylabel("Latent (SD)")
        for axes in (left, middle):
            axes.set_xlabel("Time (s)" if k == shown - 1 else "")
            axes.tick_params(labelbottom=k == shown - 1)
    if several:
        figure.axes[1].legend(fontsize=6)
    _state_space(figure.add_subplot(grid[:, 2]), mean, labels, time)
    return figure
