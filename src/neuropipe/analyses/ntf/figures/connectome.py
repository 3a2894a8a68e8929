"""Communities beside the connectome: weight inside them against matched random sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuropipe.analyses.ntf.figures.annotations import community_colors, count_text
from neuropipe.analyses.ntf.motifs import list_motifs, text_values
from neuropipe.analyses.ntf.summary import wiring_table
from neuropipe.plotting.figure import ReportFigure
from neuropipe.plotting.palette import BACKGROUND, INK
from neuropipe.plotting.panels import note

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["draw_connectome"]

ROW_MM, MARGIN_MM = 4.2, 26.0
TITLES = {
    "chemical": "Chemical synapses",
    "gap": "Gap junctions",
    "functional": "Functional connections",
}

CAPTION = (
    "Mean weight between the members of each community in the configured connectome, minus what "
    "the strengths of these neurons let expect, per ordered pair ({kinds}). Dots: communities, "
    "filled where the family-wise p is below 0.05; bars: 5 to 95 % of {draws} random "
    "sets of the same size and with the same profile of strengths, line: their median; p: "
    "one-sided, family-wise over the {communities} of all motifs, Bonferroni over kinds. Only "
    "measured pairs count (numbers in the table). Good: dots to the right of their bars for "
    "one kind of connection, in several motifs. Bad: a dot beside the bar that one heavy pair "
    "makes (few members), or communities of left-right pairs only, which share their wiring as "
    "well as their inputs. Wiring is neither needed nor enough for co-fluctuation."
)


def _draw(axes: Axes, rows: pd.DataFrame, colors: dict[str, str]) -> None:
    """Draw one kind: a row per community."""
    from matplotlib.transforms import blended_transform_factory

    beside = blended_transform_factory(axes.transAxes, axes.transData)
    for place, row in enumerate(rows.itertuples()):
        if not np.isfinite(row.pvalue):
            axes.text(0.5, place, "not measured", fontsize=6, va="center", transform=beside)
            continue
        axes.barh(
            place,
            row.matched_high - row.matched_low,
            left=row.matched_low,
            height=0.62,
            color=BACKGROUND,
            lw=0,
        )
        axes.plot([row.matched_median] * 2, [place - 0.31, place + 0.31], color=INK, lw=0.8)
        color = colors[row.community]
        face = color if row.pvalue_family < 0.05 else "white"
        axes.plot(row.excess, place, marker="o", ms=4.5, mfc=face, mec=color, mew=1.1)
        axes.text(
            1.02, place, f"{row.pvalue_family:.2g}", fontsize=6, va="center", transform=beside
        )
    axes.text(1.02, -0.95, "p", fontsize=6, va="center", transform=beside)
    axes.axvline(0, color=INK, lw=0.5)
    axes.use_sticky_edges = False  # bars would end at the frame
    axes.margins(x=0.06)
    axes.set_ylim(len(rows) - 0.4, -1.3)
    axes.set_xlabel("Excess weight per pair")
    axes.tick_params(axis="y", length=0)


def draw_connectome(result: xr.Dataset) -> ReportFigure:
    """Draw the weight inside every community against matched random sets, one panel per kind.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis, with the variables of the connectome comparison.
    """
    table = wiring_table(result)
    motifs = list_motifs(result)
    kinds = text_values(result["kind"])
    count = sum(len(motif.communities) for motif in motifs)
    figure = ReportFigure(
        title="Communities in the connectome",
        caption=CAPTION.format(
            kinds=", ".join(kinds),
            draws=int(result.attrs["wiring_draws"]),
            communities=count_text(count, "community", "communities"),
        ),
        table=table,
        height_mm=MARGIN_MM + ROW_MM * max(count, 2),
    )
    if not count:
        note(figure.subplots(), "No community to look up in the connectome.")
        return figure
    colors = community_colors(motifs)
    axes = figure.subplots(1, len(kinds), squeeze=False, sharey=True)[0]
    for one, kind in zip(axes, kinds, strict=True):
        rows = table[table["kind"] == kind]
        _draw(one, rows, colors)
        one.set_title(TITLES.get(kind, kind))
        one.set_yticks(range(len(rows)), list(rows["community"]))
    axes[0].set_ylabel("Community")
    return figure
