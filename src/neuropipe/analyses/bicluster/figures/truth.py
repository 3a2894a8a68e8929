"""Figure of simulated counts: planted clusters, states and rates beside those found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuropipe.analyses.bicluster.kernels.point_partition import align_labels
from neuropipe.analyses.bicluster.scoring import score
from neuropipe.plotting.figure import ReportFigure
from neuropipe.plotting.palette import CATEGORICAL
from neuropipe.plotting.style import apply_style
from neuropipe.plotting.truth import (
    Comparison,
    Scale,
    compared,
    identity_line,
    measures,
    state_strips,
)

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

__all__ = ["compare"]

SCALES = {
    "unit_ari": Scale(
        "clusters of units (adjusted Rand index)", 1.0, 0.85,
        "agreement of the point partition with the planted one; 0 is chance",
    ),
    "state_ari": Scale(
        "states of time (adjusted Rand index)", 1.0, 0.6,
        "agreement of the point partition of bins with the planted one; 0 is chance",
    ),
    "clusters": Scale("number of clusters", 3.0, 3.0, "posterior mode against the planted number"),
    "log_rate_correlation": Scale(
        "log rates (correlation)", 1.0, 0.93, "all units and bins, posterior mean against planted"
    ),
    "log_rate_coverage": Scale(
        "log rates inside 95 % bands", 0.95, 0.9, "share of planted log rates inside their band"
    ),
}  # fmt: skip


def compare(result: xr.Dataset, truth: xr.Dataset) -> Comparison:
    """Set clusters, states and rates of simulated counts beside the planted ones.

    Parameters
    ----------
    result : xarray.Dataset or xarray.DataTree
        Result of the analysis.
    truth : xarray.Dataset
        Second return value of ``simulate``.
    """
    planted = float(np.unique(truth["unit_cluster"].values).size)
    scales = SCALES | {"clusters": SCALES["clusters"]._replace(perfect=planted, good=planted)}
    table = measures(score(result, truth), scales)
    with apply_style():
        return Comparison(table, _draw(result, truth, table))


def _aligned(planted: NDArray[np.int64], found: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return planted labels in the numbers of the found ones they match; others follow these."""
    numbers = align_labels(planted, found)
    spare = int(found.max()) + 1
    for label in np.flatnonzero(numbers < 0):
        numbers[label], spare = spare, spare + 1
    return numbers[planted]


def _draw(result: xr.Dataset, truth: xr.Dataset, table: pd.DataFrame) -> ReportFigure:
    found_states = result["time_state"].values.astype(np.int64)
    found_clusters = result["unit_cluster"].values.astype(np.int64)
    states = _aligned(truth["time_state"].values.astype(np.int64), found_states)
    clusters = _aligned(truth["unit_cluster"].values.astype(np.int64), found_clusters)
    figure = ReportFigure(
        title="Planted clusters, states and rates, and those found",
        table=_numbers(result, clusters, states, found_clusters, found_states),
        width="wide", height_mm=90,
        caption=(
            "Top: planted and found states of all bins, planted ones in the colours of the found "
            "ones they match. Bottom left: the same for the clusters of units. Bottom right: "
            "posterior means of the log rates of all units and bins against the planted ones. "
            "Good is equal strips, and points along the dashed line of equal values. "
            f"{compared(table)}"
        ),
    )  # fmt: skip
    top, bottom = figure.subfigures(2, 1, height_ratios=[1, 2])
    names = ("planted", "found")
    state_strips(top.subplots(), result["time"].values, (states, found_states), names)
    left, right = bottom.subplots(1, 2)
    state_strips(left, np.arange(clusters.size) + 1.0, (clusters, found_clusters), names)
    left.set_xlabel("Unit")
    left.xaxis.get_major_locator().set_params(integer=True)
    _draw_rates(right, result, truth)
    return figure


def _draw_rates(axes: Axes, result: xr.Dataset, truth: xr.Dataset) -> None:
    planted, found = truth["log_rate"].values.ravel(), result["log_rate_mean"].values.ravel()
    axes.plot(
        planted, found, ".", ms=1.2, alpha=0.3, color=CATEGORICAL[0], rasterized=True
    )  # fmt: skip
    identity_line(axes, planted)
    axes.set_xlabel("Planted log rate (per bin)")
    axes.set_ylabel("Found log rate")


def _numbers(
    result: xr.Dataset, clusters: NDArray[np.int64], states: NDArray[np.int64],
    found_clusters: NDArray[np.int64], found_states: NDArray[np.int64],
) -> pd.DataFrame:  # fmt: skip
    import pandas as pd

    units = pd.DataFrame(
        {
            "quantity": "cluster", "row": result["unit"].values.astype(str),
            "planted": clusters + 1, "found": found_clusters + 1,
        }
    )  # fmt: skip
    bins = pd.DataFrame(
        {
            "quantity": "state", "row": [f"{t:g} s" for t in result["time"].values],
            "planted": states + 1, "found": found_states + 1,
        }
    )  # fmt: skip
    return pd.concat([units, bins], ignore_index=True)
