"""Figure 1: time course, subjects and graph of every motif."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuropipe.analyses.ntf.figures.annotations import community_colors, count_text, shared_epochs
from neuropipe.analyses.ntf.motifs import Motif, list_motifs, text_values
from neuropipe.plotting.figure import ReportFigure
from neuropipe.plotting.palette import BACKGROUND, INK
from neuropipe.plotting.panels import (
    Epoch,
    adjacency_heatmap,
    horizontal_bars,
    shade_epochs,
    shade_intervals,
)

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["draw_components"]

ROW_MM = 27.0
MARGIN_MM = 16.0
FULL_SCALE = 0.99


def _graph_without_diagonal(matrix: np.ndarray) -> np.ndarray:
    matrix = np.array(matrix, dtype=float)
    np.fill_diagonal(matrix, np.nan)
    return matrix


def _upper_end(matrix: np.ndarray) -> float:
    values = matrix[np.isfinite(matrix)]
    return float(np.quantile(values, FULL_SCALE)) if values.size else 1.0


def _draw_time(axes: Axes, motif: Motif, time: np.ndarray, course: np.ndarray) -> None:
    shade_intervals(axes, motif.intervals, BACKGROUND)
    axes.plot(time, course, color=INK, lw=0.9)
    axes.set_xlim(time[0], time[-1])
    axes.set_ylim(0, 1.05 * max(float(np.nanmax(course)), 1e-12))
    axes.set_ylabel(f"Motif {motif.number}", fontweight="bold")
    axes.set_yticks([])


def _draw_row(
    row: np.ndarray, motif: Motif, result: xr.Dataset, epochs: list[Epoch], colors: dict[str, str]
) -> None:
    component = motif.number - 1
    top = component == 0
    time = result["time_bin"].values
    shade_epochs(row[0], epochs, names=top)
    _draw_time(row[0], motif, time, result["time_factor"].values[component])
    weight = (
        result["component_weight"].values[component] * result["subject_factor"].values[component]
    )
    horizontal_bars(row[1], weight, text_values(result["subject"]), color="#6E6E6E", most=8)
    row[1].tick_params(axis="y", labelsize=6)
    row[1].locator_params(axis="x", nbins=3)
    graph = _graph_without_diagonal(result["component_adjacency"].values[component])
    groups = [(one.members.size, colors[one.name]) for one in motif.communities]
    image = adjacency_heatmap(row[2], graph, motif.order, groups, vmax=_upper_end(graph))
    bar = row[2].figure.colorbar(image, ax=row[2], fraction=0.05, pad=0.03)
    bar.ax.tick_params(labelsize=6)
    bar.locator = _few_ticks()
    bar.update_ticks()
    bar.outline.set_visible(False)
    row[2].set_ylabel(f"{motif.order.size} neurons", fontsize=6)


def _few_ticks() -> object:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(3)


def _table(result: xr.Dataset) -> pd.DataFrame:
    """Return the time courses and subject weights in long form."""
    import pandas as pd

    parts = []
    weight = result["component_weight"].values
    for component in range(result.sizes["component"]):
        for quantity, dim, values in (
            ("time_factor", "time_bin", result["time_factor"].values[component]),
            (
                "subject_weight",
                "subject",
                weight[component] * result["subject_factor"].values[component],
            ),
        ):
            parts.append(
                pd.DataFrame(
                    {
                        "motif": component + 1,
                        "quantity": quantity,
                        "at": [str(value) for value in result[dim].values],
                        "value": np.asarray(values, dtype=float),
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)


def _caption(result: xr.Dataset, motifs: list[Motif], epochs: list[Epoch], apart: int) -> str:
    found = sum(len(motif.communities) for motif in motifs)
    text = (
        f"{count_text(len(motifs), 'motif')} (components of the factorisation) by falling weight; "
        f"n = {count_text(result.sizes['subject'], 'subject')}, "
        f"{count_text(result.sizes['neuron'], 'neuron')}. Left: time course (arbitrary unit), "
        "grey where the motif counts as active (above half of its 0.98 quantile)"
    )
    if epochs:
        text += "; coloured bands are epochs"
    if apart:
        text += (
            f" ({count_text(apart, 'epoch')} at different times in different subjects "
            f"{'is' if apart == 1 else 'are'} not drawn)"
        )
    return text + (
        ". Middle: weight of the motif in each subject. Right: weight of each pair of neurons; "
        "rows are sorted by community, boxes are communities "
        f"({found} in all; communities of mostly the same neurons "
        "share a colour, and colours repeat after six), the rest is background, pale "
        "grey was never observed together. No error bars: these are point estimates. Good: "
        "time courses that rise and fall with clear contrast, bright blocks on a dark "
        "ground, several subjects per motif. Bad: a motif carried by one subject (an "
        "artefact of that recording, unless only one was given), a flat time course with an "
        "even graph (diffuse background, common for one motif), stripes across "
        "the whole graph (a single noisy neuron)."
    )


def draw_components(result: xr.Dataset) -> ReportFigure:
    """Draw one row per motif: time course, weight in each subject, sorted graph.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis.
    """
    motifs = list_motifs(result)
    epochs, apart = shared_epochs(result)
    colors = community_colors(motifs)
    figure = ReportFigure(
        title="Motifs: when, in whom, between which neurons",
        caption=_caption(result, motifs, epochs, apart),
        table=_table(result),
        height_mm=MARGIN_MM + ROW_MM * len(motifs),
    )
    axes = figure.subplots(len(motifs), 3, squeeze=False, width_ratios=[2.5, 1, 1])
    for row, motif in zip(axes, motifs, strict=True):
        _draw_row(row, motif, result, epochs, colors)
    for above in axes[:-1, 0]:
        above.set_xticklabels([])
    for head, title in zip(axes[0], ("Time course", "Weight by subject", "Graph"), strict=True):
        head.set_title(title, pad=10 if epochs else 4)
    axes[-1, 0].set_xlabel("Time (s)")
    axes[-1, 1].set_xlabel("Weight (a.u.)")
    axes[-1, 2].set_xlabel("Pair weight (a.u.)")
    return figure
