"""Figure of simulated recordings: planted states and couplings beside those found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuropipe.analyses.hmm_glm.figures.annotations import ordered_dims
from neuropipe.analyses.hmm_glm.kernels.alignment import match_sequences
from neuropipe.analyses.hmm_glm.scoring import score
from neuropipe.plotting.figure import ReportFigure
from neuropipe.plotting.palette import CATEGORICAL, MARKERS
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

SHOWN_BINS, TABLE_BINS = 2000, 4000
SCALES = {
    "state_accuracy": Scale(
        "bins in the right state", 1.0, 0.9, "share of bins whose most probable state is planted"
    ),
    "weight_error": Scale(
        "couplings, relative error", 0.0, 0.3, "norm of the difference over norm of the planted"
    ),
    "connection_accuracy": Scale(
        "kind of connection per state (balanced accuracy)", 1.0, 0.8,
        "inhibitory, absent or excitatory, each kind weighing the same; chance is 1/3",
    ),
    "global_accuracy": Scale(
        "kind of connection over states (balanced accuracy)", 1.0, 0.7,
        "most probable kind against the most probable planted kind; chance is 1/3",
    ),
}  # fmt: skip


def compare(result: xr.Dataset, truth: xr.Dataset) -> Comparison:
    """Set states and couplings of a simulated recording beside the planted ones.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis, with as many states as were planted.
    truth : xarray.Dataset
        Second return value of ``simulate``.
    """
    result = ordered_dims(result)
    table = measures(score(result, truth), SCALES)
    with apply_style():
        return Comparison(table, _draw(result, truth, table))


def _draw(result: xr.Dataset, truth: xr.Dataset, table: pd.DataFrame) -> ReportFigure:
    planted = truth["state_sequence"].sel(trial=result["trial"]).values
    found = result["state_probability"].values.argmax(axis=-1)
    order = match_sequences(planted.ravel(), found.ravel(), result.sizes["state"])
    # Planted states take the numbers of the found ones, which the other figures use.
    planted = order[planted]
    found = np.where(result["state_viterbi"].values >= 0, found, -1)
    figure = ReportFigure(
        title="Planted states and couplings, and those found",
        table=_numbers(result, planted, found), width="wide", height_mm=85,
        caption=(
            f"Top: planted and found states of the first {_shown(result)} bins of a trial, planted "
            "states in the colours and numbers of the found ones they match; good is two equal "
            "strips. "
            "Bottom left: share of the bins of each planted state that were given each state; "
            "good is a bright diagonal. Bottom right: couplings between rows in each state, "
            "planted against found; good is points along the dashed line of equal values. "
            f"{compared(table)}"
        ),
    )  # fmt: skip
    top, bottom = figure.subfigures(2, 1, height_ratios=[1, 2])
    shown = slice(0, _shown(result))
    strip = top.subplots()
    state_strips(
        strip, result["time"].values[shown], (planted[0, shown], found[0, shown]),
        ("planted", "found"),
    )  # fmt: skip
    left, right = bottom.subplots(1, 2)
    _draw_confusion(left, planted, found, result.sizes["state"])
    _draw_weights(right, result, truth, order)
    return figure


def _shown(result: xr.Dataset) -> int:
    return min(SHOWN_BINS, result.sizes["time"])


def _draw_confusion(
    axes: Axes, planted: NDArray[np.int64], found: NDArray[np.int64], n_states: int
) -> None:
    table = np.zeros((n_states, n_states))
    seen = found >= 0
    np.add.at(table, (planted[seen], found[seen]), 1.0)
    table /= np.maximum(table.sum(axis=1, keepdims=True), 1.0)
    axes.imshow(table, cmap="viridis", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(table):
        color = "black" if share > 0.5 else "white"
        axes.text(column, row, f"{share:.2f}", ha="center", va="center", color=color)
    names = [str(k + 1) for k in range(n_states)]
    axes.set_xticks(range(n_states), names)
    axes.set_yticks(range(n_states), names)
    axes.set_xlabel("Found state")
    axes.set_ylabel("Planted state")


def _draw_weights(
    axes: Axes, result: xr.Dataset, truth: xr.Dataset, order: NDArray[np.int64]
) -> None:
    from neuropipe.plotting.panels import note

    if "weight" not in truth:
        note(axes, "No couplings were planted.")
        return
    lagged = "lag" in truth["weight"].dims
    found = result["weight_kernel"] if lagged else result["weight"].sum("basis")
    planted = truth["weight"].values[np.argsort(order)]
    for state, (one, other) in enumerate(zip(planted, found.values, strict=True)):
        axes.plot(
            one.ravel(), other.ravel(), MARKERS[state % len(MARKERS)], ms=2.5, ls="", alpha=0.8,
            color=CATEGORICAL[state % len(CATEGORICAL)], label=f"State {state + 1}",
        )  # fmt: skip
    identity_line(axes, planted)
    axes.set_xlabel("Planted coupling")
    axes.set_ylabel("Found coupling")
    axes.legend(fontsize=6, frameon=False)


def _numbers(
    result: xr.Dataset, planted: NDArray[np.int64], found: NDArray[np.int64]
) -> pd.DataFrame:
    """Return planted and found states of the first bins."""
    import pandas as pd

    n_times = result.sizes["time"]
    bins = np.arange(min(TABLE_BINS, planted.size))
    rows = {
        "trial": bins // n_times + 1,
        "time_s": result["time"].values[bins % n_times],
        "planted_state": planted.ravel()[bins] + 1,
        "found_state": found.ravel()[bins] + 1,
    }
    return pd.DataFrame(rows)
