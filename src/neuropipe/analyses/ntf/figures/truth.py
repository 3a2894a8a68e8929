"""Figure of simulated animals: planted motifs beside the components found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuropipe.analyses.ntf.motifs import ordered_dims
from neuropipe.analyses.ntf.scoring import match, score
from neuropipe.plotting.figure import ReportFigure
from neuropipe.plotting.palette import CATEGORICAL, INK
from neuropipe.plotting.panels import adjacency_heatmap, shade_intervals
from neuropipe.plotting.style import apply_style
from neuropipe.plotting.truth import Comparison, Scale, compared, measures

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["compare"]

SCALES = {
    "pair_auc": Scale(
        "pairs told from others (AUC)", 1.0, 0.98,
        "chance that a planted pair has a larger weight in its component than another pair",
    ),
    "subject_cosine": Scale(
        "strength in each animal (cosine)", 1.0, 0.95, "planted against found strengths of animals"
    ),
    "interval_iou": Scale(
        "interval of the motif (overlap)", 1.0, 0.6,
        "shared part of planted and found active times; the affinity window blurs both ends",
    ),
    "community_ari": Scale(
        "groups of neurons (adjusted Rand index)", 1.0, 0.85,
        "agreement of communities with planted groups; 0 is chance",
    ),
    "rank": Scale("number of components", 3.0, 3.0, "as many as motifs were planted"),
}  # fmt: skip


def compare(result: xr.Dataset, truth: xr.Dataset) -> Comparison:
    """Set the components of simulated animals beside the planted motifs.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis.
    truth : xarray.Dataset
        Second return value of ``simulate``.
    """
    motifs = float(truth.sizes["motif"])
    scales = SCALES | {"rank": SCALES["rank"]._replace(perfect=motifs, good=motifs)}
    table = measures(score(result, truth), scales)
    with apply_style():
        return Comparison(table, _draw(ordered_dims(result), truth, table))


def _draw(result: xr.Dataset, truth: xr.Dataset, table: pd.DataFrame) -> ReportFigure:
    columns = match(result, truth)
    figure = ReportFigure(
        title="Planted motifs and the components found", table=_numbers(result, truth, columns),
        width="wide", height_mm=105,
        caption=(
            "One column per planted motif, with the component that matches it best. Top: time "
            "factor (line) over the planted interval (grey); good is a line that is high inside "
            "the grey and near 0 outside. Middle: pair weights of the component, neurons in "
            "planted groups first, outlined; good is a bright block in each outline and nothing "
            "elsewhere. Bottom: strength in each animal, planted and found, each over its "
            f"largest. {compared(table)}"
        ),
    )  # fmt: skip
    axes = figure.subplots(3, len(columns), squeeze=False, height_ratios=[0.8, 1.6, 0.8])
    for motif, column in enumerate(columns):
        _draw_time(axes[0, motif], result, truth, motif, column)
        _draw_pairs(axes[1, motif], result, truth, motif, column)
        _draw_subjects(axes[2, motif], result, truth, motif, column)
    axes[0, 0].set_ylabel("Time factor")
    axes[1, 0].set_ylabel("Neurons")
    axes[2, 0].set_ylabel("Strength")
    axes[2, 0].legend(fontsize=6, frameon=False)
    return figure


def _name(truth: xr.Dataset, motif: int) -> str:
    return str(truth["stimulus"].values[motif]) if "stimulus" in truth else f"Motif {motif + 1}"


def _draw_time(axes: Axes, result: xr.Dataset, truth: xr.Dataset, motif: int, column: int) -> None:
    one = truth.isel(motif=motif)
    shade_intervals(axes, [[float(one["motif_start"]), float(one["motif_stop"])]])
    axes.plot(
        result["time_bin"].values, result["time_factor"].values[column], color=CATEGORICAL[0], lw=1
    )
    axes.set_title(f"{_name(truth, motif)}: component {column + 1}")
    axes.set_xlabel("Time (s)")


def _draw_pairs(axes: Axes, result: xr.Dataset, truth: xr.Dataset, motif: int, column: int) -> None:
    label = truth["label"].isel(motif=motif).sel(neuron=result["neuron"].values).values
    order = np.lexsort((np.arange(label.size), np.where(label > 0, label, label.max() + 1)))
    square = np.full((label.size, label.size), np.nan)
    square[np.triu_indices(label.size, 1)] = result["pair_factor"].values[column]
    square = np.fmax(square, square.T)
    groups = [
        (int((label == k).sum()), CATEGORICAL[k % len(CATEGORICAL)])
        for k in range(1, int(label.max()) + 1)
    ]
    adjacency_heatmap(axes, square, order, groups, vmax=float(np.nanquantile(square, 0.995)))


def _draw_subjects(
    axes: Axes, result: xr.Dataset, truth: xr.Dataset, motif: int, column: int
) -> None:
    planted = truth["subject_strength"].isel(motif=motif).sel(subject=result["subject"].values)
    place = np.arange(planted.size)
    for shift, values, color, name in (
        (-0.2, planted.values, INK, "planted"),
        (0.2, result["subject_factor"].values[column], CATEGORICAL[0], "found"),
    ):
        axes.bar(place + shift, values / max(values.max(), 1e-12), 0.38, color=color, label=name)
    axes.set_xticks(place, [str(name) for name in result["subject"].values])


def _numbers(result: xr.Dataset, truth: xr.Dataset, columns: list[int]) -> pd.DataFrame:
    import pandas as pd

    parts = []
    for motif, column in enumerate(columns):
        one, name = truth.isel(motif=motif), _name(truth, motif)
        planted = one["subject_strength"].sel(subject=result["subject"].values).values
        found = result["subject_factor"].values[column]
        rows = {
            "motif": name, "component": column + 1, "quantity": "strength",
            "row": result["subject"].values.astype(str), "planted": planted, "found": found,
        }  # fmt: skip
        parts.append(pd.DataFrame(rows))
        inside = (result["time_bin"].values >= float(one["motif_start"])) & (
            result["time_bin"].values < float(one["motif_stop"])
        )
        rows = {
            "motif": name, "component": column + 1, "quantity": "time factor",
            "row": [f"{t:g} s" for t in result["time_bin"].values],
            "planted": inside.astype(int), "found": result["time_factor"].values[column],
        }  # fmt: skip
        parts.append(pd.DataFrame(rows))
    return pd.concat(parts, ignore_index=True)
