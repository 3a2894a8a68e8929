"""Figure 1: counts sorted by cluster, with the states of time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from neuropipe.analyses.bicluster.figures.order import (
    boundaries,
    colour,
    state_strip,
    unit_order,
)
from neuropipe.plotting.figure import ReportFigure

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["draw_counts"]

MOST_REGIONS = 16
CAPTION = (
    "Square roots of the spike counts per bin of {width:g} s (black is {black:.0f} or more), units "
    "sorted by cluster (left strip: cluster; right strip: region, {regions}); top: state of each "
    "bin, pale where draws disagree ({states} states). Good: rows of a cluster rise and fall "
    "together, and the look of the raster changes with the state. Bad: single-unit clusters, or "
    "states that follow drifts of the rate only."
)


def _strip(axes: Axes, codes: np.ndarray, title: str, side: str) -> None:
    from matplotlib.colors import ListedColormap

    most = int(codes.max()) + 1
    axes.imshow(
        codes[:, None], aspect="auto", interpolation="nearest", vmin=-0.5, vmax=most - 0.5,
        cmap=ListedColormap([colour(k) for k in range(most)]),
    )  # fmt: skip
    axes.set(xticks=[], yticks=[])
    axes.set_title(title, fontsize=6, loc=side)


def draw_counts(result: xr.DataTree) -> ReportFigure:
    """Draw the counts sorted by cluster, with states and regions.

    Parameters
    ----------
    result : xarray.DataTree
        Result of the analysis.
    """
    order, labels = unit_order(result), result["unit_cluster"].values
    region = result["region"].values.astype(str)
    names, codes = np.unique(region, return_inverse=True)
    shown = names[names != ""]
    width, time = result.attrs["bin_width_s"], result["time"].values
    table = pd.DataFrame(
        {
            "unit": result["unit"].values[order],
            "region": region[order],
            "cluster": labels[order],
            "probability": result["unit_cluster_probability"].values[order],
        }
    )
    states = int(result["time_state"].values.max()) + 1
    counts = np.sqrt(np.maximum(result["observed_data/counts"].values[order], 0))
    top = max(2.0, float(np.nanquantile(counts, 0.98)))
    named = f"{len(shown)}: {', '.join(shown[:6])}" if len(shown) else "not given"
    figure = ReportFigure(
        title="Spike counts by cluster and state",
        caption=CAPTION.format(width=width, black=top**2, regions=named, states=states),
        table=table,
        height_mm=108,
    )
    grid = figure.subplots(2, 3, gridspec_kw={"width_ratios": [1, 40, 1], "height_ratios": [1, 14]})
    for blank in (grid[0, 0], grid[0, 2]):
        blank.set_axis_off()
    state_strip(grid[0, 1], result)
    grid[0, 1].set(xticks=[])
    raster = grid[1, 1]
    raster.imshow(
        counts, aspect="auto", interpolation="nearest", cmap="Greys", vmin=0, vmax=top,
        extent=(time[0] - width / 2, time[-1] + width / 2, len(order), 0), rasterized=True,
    )  # fmt: skip
    for edge in boundaries(labels[order]):
        raster.axhline(edge, color="#D55E00", lw=0.8)
    raster.set(xlabel="Time (s)", yticks=[])
    _strip(grid[1, 0], labels[order], "cluster", "left")
    grid[1, 0].set_ylabel(f"Units (n = {len(order)})")
    _strip(grid[1, 2], codes[order], "region", "right")
    if len(shown):
        from matplotlib.patches import Patch

        patches = [Patch(color=colour(k), label=name) for k, name in enumerate(names) if name]
        figure.legend(
            handles=patches[:MOST_REGIONS], loc="outside lower right", title="Region",
            ncols=min(len(patches), 8),
        )  # fmt: skip
    return figure
