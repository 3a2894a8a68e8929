"""Figure 6: the objective of all restarts, and how the number of latents was chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuropipe.plotting.figure import ReportFigure
from neuropipe.plotting.palette import CATEGORICAL
from neuropipe.plotting.panels import note

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["draw_training"]

CAPTION = (
    "Left: evidence lower bound per trial of {restarts} restart{s} over iterations (training "
    "trials); thick: the one kept, by its value for validation trials. {right} Good: curves that "
    "end flat and at one level. Bad: curves that still rise, or restarts that end far apart."
)
SELECTED = (
    "Right: log-likelihood of held-out units per validation trial against the number of latents "
    "(best restart, bars: one standard error); dotted: the number chosen, the smallest within one "
    "standard error of the best, compared trial by trial."
)
LEAST_SPAN = 0.005  # of the bound: a smaller rise is no rise to the eye
GIVEN = "Right: the same bound for validation trials, one dot per restart."


def _history(axes: Axes, result: xr.Dataset) -> None:
    total = result["elbo"].sel(term="total").transpose("restart", "epoch").values
    kept = int(result.attrs["restart_selected"])
    for restart, row in enumerate(total):
        seen = np.flatnonzero(np.isfinite(row))
        style = {"color": CATEGORICAL[0], "lw": 1.5, "zorder": 3} if restart == kept else {
            "color": "#9A9A9A", "lw": 0.8}  # fmt: skip
        axes.plot(seen + 1, row[seen], **style)
    finite = total[np.isfinite(total)]
    if finite.size > 6:
        high = finite.max()
        low = min(np.quantile(finite, 0.08), high - LEAST_SPAN * abs(high))
        axes.set_ylim(low, high + 0.05 * (high - low) + 1e-9)
    axes.set(xlabel="Iteration", ylabel="ELBO (nats per trial)")


def _selection(axes: Axes, result: xr.Dataset) -> None:
    from matplotlib.ticker import MaxNLocator

    score = result["selection_score"].transpose("candidate", "candidate_restart").values
    error = result["selection_error"].transpose("candidate", "candidate_restart").values
    best = np.nanargmax(score, axis=1)
    rows = np.arange(len(score))
    sizes = result["candidate"].values
    axes.errorbar(
        sizes, score[rows, best], error[rows, best], color=CATEGORICAL[0], marker="o", capsize=2
    )
    axes.axvline(int(result.attrs["latents_selected"]), color=CATEGORICAL[3], ls=":")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set(xlabel="Number of latents", ylabel="Held-out log-likelihood (nats)")


def _restarts(axes: Axes, result: xr.Dataset) -> None:
    values = result["restart_elbo"].values
    if not np.isfinite(values).any():
        note(axes, "No validation trial.")
        return
    kept = int(result.attrs["restart_selected"])
    colors = [CATEGORICAL[0] if k == kept else "#9A9A9A" for k in range(values.size)]
    axes.scatter(range(values.size), values, c=colors, s=22)
    axes.set_xticks(range(values.size))
    axes.set_xlim(-0.6, values.size - 0.4)
    axes.set(xlabel="Restart", ylabel="Validation ELBO (nats per trial)")


def draw_training(result: xr.Dataset) -> ReportFigure:
    """Draw the objective of the restarts and the choice of the number of latents.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis.
    """
    several = result.sizes["candidate"] > 1
    restarts = result.sizes["restart"]
    table = result["elbo"].to_dataframe(name="value").reset_index().dropna(subset=["value"])
    figure = ReportFigure(
        title="Training and selection",
        caption=CAPTION.format(
            restarts=restarts, s="" if restarts == 1 else "s", right=SELECTED if several else GIVEN
        ),
        table=table,
        height_mm=62,
    )
    left, right = figure.subplots(1, 2)
    _history(left, result)
    (_selection if several else _restarts)(right, result)
    return figure
