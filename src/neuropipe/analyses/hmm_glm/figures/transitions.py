"""Figures 3 and 4: how states follow each other, and how long they last."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuropipe.analyses.hmm_glm.figures.annotations import count_text, state_names, state_styles
from neuropipe.analyses.hmm_glm.summary import visits
from neuropipe.plotting.figure import ReportFigure
from neuropipe.plotting.palette import INK, MISSING, SEQUENTIAL
from neuropipe.plotting.panels import note

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["draw_dwell", "draw_transitions"]

WRITTEN_STATES = 8  # beyond, no number fits into a cell
COLUMNS = 3
BARS = 20


def _short(probability: float) -> str:
    if probability < 0.001:
        return "<.001"
    return f"{probability:.2g}" if probability < 0.995 else f"{probability:.3f}"


def _draw_matrix(axes: Axes, matrix: np.ndarray, title: str) -> None:
    import matplotlib as mpl

    count = len(matrix)
    colormap = mpl.colormaps[SEQUENTIAL].with_extremes(bad=MISSING)
    axes.imshow(np.ma.masked_invalid(matrix), cmap=colormap, vmin=0, vmax=1)
    if count <= WRITTEN_STATES:
        for (row, column), value in np.ndenumerate(matrix):
            if np.isfinite(value):
                color = "white" if value < 0.6 else INK
                size = 6 if count <= 5 else 5
                axes.text(
                    column, row, _short(value), ha="center", va="center", fontsize=size, color=color
                )
    step = 1 if count <= 12 else 5
    places = range(0, count, step)
    axes.set_xticks(places, [str(place + 1) for place in places])
    axes.set_yticks(places, [str(place + 1) for place in places])
    axes.tick_params(length=0)
    axes.set(xlabel="To state", ylabel="From state", title=title)


def _draw_occupancy(axes: Axes, result: xr.Dataset) -> None:
    values = 100 * result["occupancy"].values
    colors = [style["color"] for style in state_styles(result)]
    axes.barh(np.arange(values.size), values, color=colors, height=0.7)
    if "occupancy_interval" in result:
        low, high = 100 * result["occupancy_interval"].values.T
        axes.hlines(np.arange(values.size), low, high, color=INK, lw=1.2)
    axes.set_ylim(values.size - 0.5, -0.5)
    step = 1 if values.size <= 12 else 5
    axes.set_yticks(range(0, values.size, step), [str(k + 1) for k in range(0, values.size, step)])
    axes.set(xlabel="Share of time (%)", ylabel="State", title="Occupancy")


def draw_transitions(result: xr.Dataset) -> ReportFigure:
    """Draw the transition matrix, the next state after leaving, and the share of time.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis.
    """
    import pandas as pd

    matrix = result["transition_matrix"].values
    leaving = matrix.copy()
    np.fill_diagonal(leaving, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        leaving = leaving / np.nansum(leaving, axis=1, keepdims=True)
    count = len(matrix)
    origin, target = (index.ravel() + 1 for index in np.indices(matrix.shape))
    interval = "; lines: bootstrap interval (95 %)" if "occupancy_interval" in result else ""
    figure = ReportFigure(
        title="Transitions between states",
        caption=(
            f"Left: probability of the state of the next bin "
            f"({1000 * float(result.attrs['bin_width_s']):g} ms) for each of "
            f"{count_text(count, 'state')}. Middle: the state that follows once a state is left "
            f"(rows sum to 1). Right: share of the observed time{interval}. No other error bars. "
            "Good: diagonals well above 0.9, so that states last many bins, and every state "
            "visited from several others. Bad: a diagonal below 0.5 (the state is a single odd "
            "bin), a state below 1 % of the time, or two states that only follow each other (one "
            "state cut in two)."
        ),
        table=pd.DataFrame(
            {
                "from_state": origin, "to_state": target, "probability": matrix.ravel(),
                "after_leaving": leaving.ravel(),
            }
        ),
        height_mm=62,
    )  # fmt: skip
    left, middle, right = figure.subplots(1, 3, width_ratios=[1, 1, 0.8])
    _draw_matrix(left, matrix, "Transition matrix")
    if count > 1:
        _draw_matrix(middle, leaving, "After leaving")
    else:
        note(middle, "One state:\nnothing is left.")
    _draw_occupancy(right, result)
    return figure


def _geometric(stay: float, edges: np.ndarray, step: float) -> np.ndarray:
    """Return the share of visits in every bar under the geometric law."""
    return -np.diff(stay ** (edges / step - 0.5))  # borders lie between whole numbers of bins


def _edges(lengths: np.ndarray, step: float) -> np.ndarray:
    """Return borders of bars, whole numbers of bins, up to the longest visit."""
    longest = max(float(lengths.max()) / step if lengths.size else 1.0, 1.0)
    width = max(int(np.ceil(longest / BARS)), 1)
    return step * (0.5 + width * np.arange(int(np.ceil(longest / width)) + 1))


def _draw_visits(
    axes: Axes, lengths: np.ndarray, stay: float, step: float, style: dict[str, str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    edges = _edges(lengths, step)
    counted = np.histogram(lengths, edges)[0]
    expected = lengths.size * _geometric(stay, edges, step)
    axes.bar(
        edges[:-1], counted, np.diff(edges), align="edge", color=style["color"], alpha=0.6, lw=0
    )
    middle = (edges[1:] + edges[:-1]) / 2
    axes.plot(middle, expected, color=INK, lw=1.0, marker=".", ms=2.5)
    axes.set_xlim(0, edges[-1])
    return edges, counted, expected


def draw_dwell(result: xr.Dataset) -> ReportFigure:
    """Draw how long visits last, with the geometric law that the transition matrix implies.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis.
    """
    import pandas as pd

    lengths, step = visits(result), float(result.attrs["bin_width_s"])
    stay = np.diagonal(result["transition_matrix"].values)
    columns = min(len(lengths), COLUMNS)
    rows = -(-len(lengths) // columns)
    figure = ReportFigure(
        title="How long states last",
        caption=(
            f"Lengths of the visits of {count_text(len(lengths), 'state')} on the most probable "
            "path (bars; a visit ends with its trial) and the geometric law that the transition "
            "matrix implies for as many visits (line). n: visits; means of the bars and of the "
            "law. No error bars. Good: bars that follow the line; many visits per "
            "state. Bad: far fewer short visits than the law has (the path joins them when states "
            "are hard to tell apart), a second hump (two states in one), a handful of visits, or "
            "visits as long as the trials (the states name trials, not moments)."
        ),
        height_mm=12 + 42 * rows,
    )
    axes = figure.subplots(rows, columns, squeeze=False)
    parts = []
    for index, (place, name) in enumerate(zip(axes.ravel(), state_names(result), strict=False)):
        style = state_styles(result)[index]
        edges, counted, expected = _draw_visits(place, lengths[index], stay[index], step, style)
        law = float(result["dwell_time_expected_s"].values[index])
        mean = float(result["dwell_time_mean_s"].values[index])
        place.set_title(name)
        text = f"n = {lengths[index].size}\nmean {mean:.3g} s\nlaw {law:.3g} s"
        place.text(0.98, 0.97, text, transform=place.transAxes, ha="right", va="top", fontsize=6)
        parts.append(
            pd.DataFrame(
                {
                    "state": index + 1, "from_s": edges[:-1], "to_s": edges[1:],
                    "visits": counted, "expected": expected,
                }
            )
        )  # fmt: skip
    for place in axes.ravel()[len(lengths) :]:
        place.set_axis_off()
    for place in axes[:, 0]:
        place.set_ylabel("Visits")
    for place in axes.ravel()[: len(lengths)]:
        place.yaxis.get_major_locator().set_params(integer=True)
    for index in range(len(lengths)):
        if index + columns >= len(lengths):
            axes.ravel()[index].set_xlabel("Length of a visit (s)")
    figure.table = pd.concat(parts, ignore_index=True)
    return figure
