"""Figure 5: co-smoothing per unit, cross-modal prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuropipe.plotting.figure import ReportFigure
from neuropipe.plotting.palette import CATEGORICAL, INK, MISSING
from neuropipe.plotting.panels import note

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["draw_scores"]

CAPTION = (
    "Left: co-smoothing of each held-out unit in test trials, predicted from the other units "
    "(bits per spike over the unit's mean rate, or R2); 0 is the null of a constant. Right: "
    "{right}. Good: nearly all units above 0 and far from the dotted null, in which each trial "
    "was predicted from the latents of another (drawn at -0.5 if it lies below). Bad: a mean near "
    "the null, or many units below 0."
)
CROSS = (
    "score of each modality (row) predicted in test trials from one other alone (column), bits "
    "per spike for counts and R2 for signals"
)
ONE = "scores per split; few-shot: a readout refitted on ten training trials"
NULLS = ("null_bits_per_spike", "null_r2")  # of co-smoothing
UNITS = {"bits_per_spike": "bits/spike", "r2": "R²"}


def _kind(metric: str) -> str:
    return next((text for key, text in UNITS.items() if metric.endswith(key)), "")


def _units(axes: Axes, result: xr.Dataset, names: list[str]) -> None:
    drawn = False
    for row, name in enumerate(names):
        values = result[f"co_smoothing_{name}"].values
        values = np.clip(values[np.isfinite(values)], -0.5, None)
        if not values.size:
            continue
        bins = np.linspace(min(values.min(), 0), max(values.max(), 0.1), 16)
        style = {"color": CATEGORICAL[row % 8], "histtype": "stepfilled", "alpha": 0.55}
        axes.hist(values, bins=bins, label=f"{name} (n = {values.size})", **style)
        drawn = True
        null = [
            float(result["score"].sel(metric=m, modality=name, split="test"))
            for m in map(str, result["metric"].values) if m in NULLS
        ]  # fmt: skip
        for value in np.array(null)[np.isfinite(null)]:
            axes.axvline(max(value, -0.5), color=CATEGORICAL[row % 8], ls=":", lw=1.2)
    if not drawn:
        note(axes, "No unit was held out.")
        return
    axes.axvline(0, color=INK, lw=0.7)
    axes.set(xlabel="Co-smoothing (bits/spike or R²)", ylabel="Units")
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.legend()


def _cross(axes: Axes, result: xr.Dataset, names: list[str]) -> None:
    import matplotlib as mpl

    table = np.full((len(names), len(names)), np.nan)
    metrics = [str(m) for m in result["metric"].values]
    for row, name in enumerate(names):
        for column, source in enumerate(names):
            found = [m for m in metrics if m.startswith(f"from_{source}_")]
            values = [
                float(result["score"].sel(metric=m, modality=name, split="test")) for m in found
            ]
            values = [v for v in values if np.isfinite(v)]
            table[row, column] = values[0] if values else np.nan
    limit = max(float(np.nanmax(np.abs(table), initial=0.05)), 0.05)
    colormap = mpl.colormaps["viridis"].with_extremes(bad=MISSING)
    axes.imshow(np.ma.masked_invalid(table), cmap=colormap, vmin=0, vmax=limit)
    for (row, column), value in np.ndenumerate(table):
        if np.isfinite(value):
            color = "white" if value < 0.6 * limit else "black"
            axes.text(
                column,
                row,
                f"{value + 0.0:.2f}".replace("-0.00", "0.00"),
                ha="center",
                va="center",
                color=color,
            )
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="Predicted from", ylabel="Modality")


def _splits(axes: Axes, result: xr.Dataset, name: str) -> None:
    labels, values = [], []
    for metric in map(str, result["metric"].values):
        if metric.startswith(("from_", "coverage")):
            continue
        for split in map(str, result["split"].values):
            value = float(result["score"].sel(metric=metric, modality=name, split=split))
            if np.isfinite(value):
                plain = metric.removesuffix("_bits_per_spike").removesuffix("_r2")
                plain = "co-smoothing" if plain in UNITS else plain.replace("_", "-")
                labels.append(f"{plain}, {split}")
                values.append(value)
    if not values:
        note(axes, "No score: nothing was held out.")
        return
    axes.barh(range(len(values)), values, color=CATEGORICAL[0], height=0.7)
    axes.set_yticks(range(len(values)), labels)
    axes.invert_yaxis()
    axes.axvline(0, color=INK, lw=0.7)
    axes.set(xlabel="Score (bits/spike or R²)")


def draw_scores(result: xr.Dataset) -> ReportFigure:
    """Draw co-smoothing per held-out unit and cross-modal prediction.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis.
    """
    names = [str(m) for m in result["modality"].values]
    frame = result["score"].to_dataframe(name="value").reset_index().dropna(subset=["value"])
    figure = ReportFigure(
        title="Held-out prediction",
        caption=CAPTION.format(right=CROSS if len(names) > 1 else ONE),
        table=frame if len(frame) else result["score"].to_dataframe(name="value").reset_index(),
        height_mm=65,
    )
    left, right = figure.subplots(1, 2)
    _units(left, result, names)
    if len(names) > 1:
        _cross(right, result, names)
    else:
        _splits(right, result, names[0])
    return figure
