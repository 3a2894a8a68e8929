"""Figures 2 and 6: co-clustering of units and bins, clusters against regions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from neuropipe.analyses.bicluster.figures.order import boundaries, unit_order
from neuropipe.plotting.figure import ReportFigure
from neuropipe.plotting.panels import note

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["draw_coclustering", "draw_regions"]

PAIRS = (
    "Posterior probability that two units (left, sorted by cluster, lines between clusters) or two "
    "bins (right, in order of time) belong together, over {draws} draws of {chains} chains. "
    "Posterior expected adjusted Rand index of the partition shown: {units:.2f} for units, "
    "{bins:.2f} for bins. Good: sharp blocks near 0 and 1. Bad: a grey haze, which means that the "
    "number or the members of the groups are not settled."
)
REGIONS = (
    "Units per region and cluster (numbers in the cells; colour: share of the region's units). "
    "n = {units} units. Regions were not used to find the clusters. Good: nothing is expected; a "
    "cluster that lies in one region, or spreads over all, is a finding."
)


def draw_coclustering(result: xr.DataTree) -> ReportFigure:
    """Draw the co-clustering matrices of units and bins.

    Parameters
    ----------
    result : xarray.DataTree
        Result of the analysis.
    """
    order, labels = unit_order(result), result["unit_cluster"].values
    draws = result["posterior/n_clusters"].values
    figure = ReportFigure(
        title="How surely units and bins belong together",
        caption=PAIRS.format(
            draws=draws.size,
            chains=len(draws),
            units=float(result["pear_unit"]),
            bins=float(result["pear_time"]),
        ),
        table=pd.DataFrame(
            result["coclustering_unit"].values[np.ix_(order, order)],
            index=result["unit"].values[order],
            columns=result["unit"].values[order],
        ).reset_index(names="unit"),
        height_mm=80,
    )
    left, right = figure.subplots(1, 2)
    image = left.imshow(
        result["coclustering_unit"].values[np.ix_(order, order)], vmin=0, vmax=1, cmap="cividis",
        interpolation="nearest",
    )  # fmt: skip
    for edge in boundaries(labels[order]):
        left.axhline(edge - 0.5, color="w", lw=0.6)
        left.axvline(edge - 0.5, color="w", lw=0.6)
    left.set(xlabel="Unit (sorted)", ylabel="Unit (sorted)", title="Units")
    for axis in (left.xaxis, left.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if "coclustering_time" in result:
        time = result["time"].values
        right.imshow(
            result["coclustering_time"].values, vmin=0, vmax=1, cmap="cividis",
            interpolation="nearest", extent=(time[0], time[-1], time[-1], time[0]),
            rasterized=True,
        )  # fmt: skip
        right.set(xlabel="Time (s)", ylabel="Time (s)", title="Bins")
    else:
        note(right, "More than 2,000 bins:\nno matrix of pairs was built.")
    figure.colorbar(image, ax=[left, right], label="Probability of belonging together", shrink=0.8)
    return figure


def draw_regions(result: xr.DataTree) -> ReportFigure:
    """Draw the table of regions and clusters.

    Parameters
    ----------
    result : xarray.DataTree
        Result of the analysis.
    """
    table = result["region_by_cluster"].values
    names = [str(name) or "(no region)" for name in result["region_name"].values]
    frame = pd.DataFrame(table, columns=[f"cluster {k}" for k in range(table.shape[1])])
    frame.insert(0, "region", names)
    figure = ReportFigure(
        title="Clusters and brain regions",
        caption=REGIONS.format(units=int(table.sum())),
        table=frame,
        width="medium",
        height_mm=30 + 7 * min(len(names), 12),
    )
    axes = figure.subplots()
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(share, vmin=0, vmax=1, cmap="cividis", aspect="auto")
    for i, row in enumerate(table):
        for k, value in enumerate(row):
            axes.text(
                k, i, str(value), ha="center", va="center",
                color="w" if share[i, k] < 0.5 else "k", fontsize=7,
            )  # fmt: skip
    axes.set(
        yticks=range(len(names)), yticklabels=names, xticks=range(table.shape[1]),
        xlabel="Cluster (largest first)",
    )  # fmt: skip
    figure.colorbar(image, ax=axes, label="Share of the region")
    return figure
