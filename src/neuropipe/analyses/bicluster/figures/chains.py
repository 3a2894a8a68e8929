"""Figures 3 and 8: numbers of clusters and states over draws, and whether the chains agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from neuropipe.analyses.bicluster.figures.order import colour
from neuropipe.plotting.figure import ReportFigure
from neuropipe.plotting.palette import LINE_STYLES

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

__all__ = ["draw_diagnostics", "draw_numbers"]

NUMBERS = (
    "Number of clusters (top) and of states in use (bottom): left, over the kept draws of each of "
    "{chains} chains; right, share of all {draws} draws. Good: chains from different starts lie on "
    "one level and move within it. Bad: chains on levels of their own, or a slow drift. Small "
    "states come and go: those with few bins should not be read as states of the animal."
)
AGREE = (
    "{verdict} Left: log joint density over kept draws. Middle: ranks of each chain's draws among "
    "all, for the log joint density{dispersion} and the norm of the log rates (flat at the dotted "
    "line if chains agree). Right: R-hat (dashed: {limit}, the largest accepted; blue below it, "
    "orange above) with bulk effective sample sizes (ESS); the "
    "first three decide, norms with a number are of single clusters. The smallest agreement of "
    "point partitions of two chains is an adjusted Rand index of {agreement:.2f}. Good: "
    "overlapping traces, flat ranks, R-hat below the line, sizes over 100. Bad: anything else, "
    "and then no number of this section should be used."
)
LIMIT = 1.05


def draw_numbers(result: xr.DataTree) -> ReportFigure:
    """Draw traces and histograms of the numbers of clusters and states.

    Parameters
    ----------
    result : xarray.DataTree
        Result of the analysis.
    """
    rows = {"clusters": "posterior/n_clusters", "states": "posterior/n_states"}
    values = {name: result[path].values for name, path in rows.items()}
    chains, draws = values["clusters"].shape
    table = pd.DataFrame(
        [
            {"quantity": name, "number": number, "share": (drawn == number).mean()}
            for name, drawn in values.items()
            for number in np.unique(drawn)
        ]
    )
    figure = ReportFigure(
        title="How many clusters and states",
        caption=NUMBERS.format(chains=chains, draws=chains * draws),
        table=table,
        height_mm=80,
    )
    grid = figure.subplots(2, 2, gridspec_kw={"width_ratios": [3, 1]})
    for (trace, histogram), (name, drawn) in zip(grid, values.items(), strict=True):
        for chain, line in enumerate(drawn):
            shift = 0.06 * (chain - (chains - 1) / 2)
            style = LINE_STYLES[chain // 8 % 4]
            trace.step(
                np.arange(line.size), line + shift, color=colour(chain), ls=style, lw=0.7,
                label=f"chain {chain}",
            )  # fmt: skip
        low, high = int(drawn.min()), int(drawn.max())
        bins = np.arange(low, high + 2) - 0.5
        histogram.hist(
            drawn.ravel(), bins=bins, weights=np.full(drawn.size, 1 / drawn.size),
            color=colour(0), rwidth=0.8,
        )  # fmt: skip
        trace.set(ylabel=f"Number of {name}", ylim=(low - 0.7, high + 0.7))
        histogram.set(ylabel="Share of draws", ylim=(0, 1), xlim=(low - 0.7, high + 0.7))
        histogram.set_xlabel(f"Number of {name}")
        for axis in (trace.yaxis, histogram.xaxis):
            _whole_ticks(axis)
    grid[1, 0].set_xlabel("Kept draw")
    grid[0, 0].legend(ncols=min(chains, 4), loc="best")
    return figure


def _whole_ticks(axis) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def draw_diagnostics(result: xr.DataTree) -> ReportFigure:
    """Draw traces, ranks and R-hat of the quantities that decide on convergence.

    Parameters
    ----------
    result : xarray.DataTree
        Result of the analysis.
    """
    poisson = result.attrs["family"] == "poisson"
    told = result["quantity"].values != ("dispersion_mean" if poisson else "")
    names = [str(name) for name in result["quantity"].values[told]]
    rhat, bulk, tail = (result[key].values[told] for key in ("rhat", "ess_bulk", "ess_tail"))
    joint, agreement = result["posterior/log_joint"].values, result["chain_agreement"].values
    verdict = "The chains converged." if result.attrs["converged"] else "NOT CONVERGED."
    figure = ReportFigure(
        title="Do the chains agree" + ("" if result.attrs["converged"] else " (NOT CONVERGED)"),
        caption=AGREE.format(
            verdict=verdict,
            limit=LIMIT,
            agreement=float(agreement.min()),
            dispersion="" if poisson else ", the log dispersion (mean over units)",
        ),
        table=pd.DataFrame({"quantity": names, "rhat": rhat, "ess_bulk": bulk, "ess_tail": tail}),
        height_mm=92,
    )
    left, middle, right = figure.subfigures(1, 3, width_ratios=[3, 2.2, 3])
    trace = left.subplots()
    for chain, line in enumerate(joint):
        trace.plot(line, color=colour(chain), lw=0.6, label=f"chain {chain}")
    trace.set(xlabel="Kept draw", ylabel="Log joint density (nat)")
    trace.legend(ncols=2, loc="best")
    _draw_ranks(middle, result)
    _draw_rhat(right.subplots(), names, rhat, bulk)
    return figure


def _draw_ranks(figure: SubFigure, result: xr.DataTree) -> None:
    """Draw, per quantity, the share of each chain's draws in ten classes of rank."""
    spread = result["posterior/log_rate_spread"].values.astype(np.float64)
    quantities = {
        "Log joint": result["posterior/log_joint"].values,
        "Log dispersion": np.log(result["posterior/dispersion"].values).mean(axis=-1),
        "Log-rate norm": np.sqrt((spread**2).mean(axis=-1)),
    }
    quantities = {name: values for name, values in quantities.items() if np.ptp(values) > 0}
    panels = figure.subplots(max(len(quantities), 1), 1, sharex=True, squeeze=False)[:, 0]
    for panel, (name, values) in zip(panels, quantities.items(), strict=False):
        order = rankdata(values).reshape(values.shape) / values.size
        bins = np.linspace(0, 1, 11)
        for chain, ranks in enumerate(order):
            share = np.histogram(ranks, bins)[0] / values.shape[1]
            panel.stairs(share, bins, color=colour(chain), ls=LINE_STYLES[chain // 8 % 4])
        panel.axhline(0.1, color="k", lw=0.6, ls=":")
        panel.set(ylim=(0, None))
        panel.set_title(name, fontsize=7, loc="left")
    panels[len(panels) // 2].set_ylabel("Share of the chain's draws")
    panels[-1].set_xlabel("Rank among all draws (share)")


def _draw_rhat(axes: Axes, names: list[str], rhat: np.ndarray, bulk: np.ndarray) -> None:
    """Draw R-hat as bars that begin at one, with effective sample sizes."""
    shown = np.clip(np.nan_to_num(rhat, nan=3.0), 1.0, 3.0)
    place = np.arange(len(names))[::-1]
    axes.barh(place, shown - 1.0, left=1.0, color=[colour(0 if v < LIMIT else 3) for v in shown])
    for y, value, size in zip(place, rhat, bulk, strict=True):
        end = min(max(np.nan_to_num(value, nan=3.0), LIMIT), 3.0)
        axes.annotate(
            f"{value:.2f}, ESS {size:.0f}", (end, y), xytext=(4, 0), textcoords="offset points",
            va="center", fontsize=6,
        )  # fmt: skip
    axes.axvline(LIMIT, color="k", lw=0.7, ls="--")
    labels = [_short(name) for name in names]
    axes.set(yticks=place, yticklabels=labels, xlabel="R-hat (cut at 3)")
    axes.set_xlim(1.0, 1.0 + 2.2 * max(0.1, shown.max() - 1.0))


def _short(name: str) -> str:
    """Return the name of a quantity as a label: ``log_rate_norm_2`` is the norm of cluster 2."""
    cluster = name.rpartition("_")[2]
    if cluster.isdigit():
        return f"norm, cluster {cluster}"
    return name.replace("_", " ")
