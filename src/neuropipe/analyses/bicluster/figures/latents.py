"""Figures 4 and 5: trajectories of the clusters, eigenvalues of the dynamics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from neuropipe.analyses.bicluster.figures.order import colour, state_strip
from neuropipe.plotting.figure import ReportFigure
from neuropipe.plotting.palette import MARKERS

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["draw_dynamics", "draw_trajectories"]

PATHS = (
    "Trajectory of each cluster (the {most} largest; common log rate black, latent factors in "
    "colour): posterior mean and 95 % band after aligning the draws (centred, rotated); in "
    "brackets the share of draws that have the cluster (overlap of one half or more). Top: states. "
    "Good: narrow bands and shares near 1. Bad: bands as wide as the course itself."
)
VALUES = (
    "Eigenvalues of the dynamics of each state (panels; the {most} largest) in the complex plane, "
    "one point per kept draw and cluster (colour and marker). Distance from 0: persistence per bin "
    "of {width:g} s; on the unit circle (line) activity neither decays nor grows; angle: speed of "
    "rotation. Good: compact clouds. Bad: clouds that fill the disc, as in states of few bins, "
    "whose dynamics are drawn from the prior."
)
MOST_CLUSTERS, MOST_STATES = 6, 4


def draw_trajectories(result: xr.DataTree) -> ReportFigure:
    """Draw the aligned trajectories of the clusters.

    Parameters
    ----------
    result : xarray.DataTree
        Result of the analysis.
    """
    mean, low, high = (result[f"trajectory_{k}"].values for k in ("mean", "low", "high"))
    share, time = result["trajectory_share"].values, result["time"].values
    shown = min(len(mean), MOST_CLUSTERS)
    rows = [
        {"cluster": j, "component": c, "share_of_draws": share[j], "sd": np.std(mean[j, c]),
         "mean_band": np.mean(high[j, c] - low[j, c])}
        for j in range(len(mean))
        for c in range(mean.shape[1])
    ]  # fmt: skip
    figure = ReportFigure(
        title="Trajectories of the clusters",
        caption=PATHS.format(most=shown),
        table=pd.DataFrame(rows),
        height_mm=24 + 28 * shown,
    )
    axes = figure.subplots(
        shown + 1, 1, sharex=True, gridspec_kw={"height_ratios": [0.25, *[1.0] * shown]}
    )
    state_strip(axes[0], result)
    for j in range(shown):
        panel = axes[j + 1]
        for c in range(mean.shape[1]):
            ink = "k" if c == 0 else colour(c - 1)
            panel.fill_between(time, low[j, c], high[j, c], color=ink, alpha=0.2, lw=0)
            name = "log rate" if c == 0 else f"factor {c}"
            panel.plot(time, mean[j, c], color=ink, lw=0.8, label=name)
        members = int((result["unit_cluster"].values == j).sum())
        panel.set_ylabel(f"Cluster {j}\n(a.u.)")
        panel.set_title(f"{members} units [{share[j]:.2f}]", loc="left", fontsize=7)
    axes[-1].set_xlabel("Time (s)")
    lines = axes[1].get_legend_handles_labels()
    figure.legend(*lines, loc="outside lower center", ncols=mean.shape[1])
    return figure


def draw_dynamics(result: xr.DataTree) -> ReportFigure:
    """Draw the eigenvalues of the dynamics of the largest states.

    Parameters
    ----------
    result : xarray.DataTree
        Result of the analysis.
    """
    real, imag = (result[f"dynamics_eigenvalue_{k}"].values for k in ("real", "imag"))
    bins = np.bincount(result["time_state"].values)
    shown = min(bins.size, MOST_STATES)
    modulus = np.hypot(real, imag)
    rows = [
        {"state": k, "cluster": j, "bins": bins[k],
         "largest_modulus_median": _median(modulus[:, j, k, 0]),
         "angle_median": _median(np.abs(np.arctan2(imag, real)[:, j, k, 0]))}
        for k in range(bins.size)
        for j in range(real.shape[1])
    ]  # fmt: skip
    figure = ReportFigure(
        title="Dynamics of the states",
        caption=VALUES.format(most=shown, width=result.attrs["bin_width_s"]),
        table=pd.DataFrame(rows),
        height_mm=62,
    )
    panels = np.atleast_1d(figure.subplots(1, shown, sharex=True, sharey=True))
    angle = np.linspace(0, 2 * np.pi, 200)
    for k, panel in enumerate(panels):
        panel.plot(np.cos(angle), np.sin(angle), color="#9A9A9A", lw=0.7)
        for j in range(min(real.shape[1], MOST_CLUSTERS)):
            panel.scatter(
                real[:, j, k], imag[:, j, k], s=4, lw=0, alpha=0.4, color=colour(j),
                marker=MARKERS[j % len(MARKERS)], rasterized=True, label=f"cluster {j}",
            )  # fmt: skip
        panel.set(xlabel="Real part", xlim=(-1.3, 1.3), ylim=(-1.3, 1.3), aspect="equal")
        panel.set_title(f"State {k} ({bins[k]} bins)", color=colour(k))
    panels[0].set_ylabel("Imaginary part")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", markerscale=2)
    return figure


def _median(values: np.ndarray) -> float:
    values = values[np.isfinite(values)]
    return float(np.median(values)) if values.size else np.nan
