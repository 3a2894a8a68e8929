"""Pieces that several figures share: each draws into one axes and returns nothing of its own.

Times are in seconds. Neuron or unit axes run from top to bottom.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from neuropipe.plotting.palette import BACKGROUND, INK, MISSING, SEQUENTIAL, category_styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

__all__ = [
    "Epoch",
    "adjacency_heatmap",
    "horizontal_bars",
    "note",
    "shade_epochs",
    "shade_intervals",
    "stacked_traces",
    "thinned_ticks",
    "time_raster",
]


class Epoch(NamedTuple):
    """A named stretch of time."""

    name: str
    start: float
    stop: float


def note(axes: Axes, text: str) -> None:
    """Empty the axes and write one sentence instead of data."""
    axes.set_axis_off()
    axes.text(
        0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=INK, wrap=True
    )


def shade_epochs(axes: Axes, epochs: Sequence[Epoch], *, names: bool = False) -> None:
    """Shade epochs over the whole height, one pale colour per name; optionally write the names.

    Parameters
    ----------
    axes : Axes
        With time along x.
    epochs : sequence of Epoch
        Drawn behind the data.
    names : bool
        Write each name once, above the first of its epochs.
    """
    styles = category_styles([epoch.name for epoch in epochs])
    written: set[str] = set()
    for epoch in epochs:
        color = styles[epoch.name]["color"]
        axes.axvspan(epoch.start, epoch.stop, color=color, alpha=0.15, lw=0, zorder=0)
        if names and epoch.name not in written:
            axes.annotate(
                epoch.name,
                ((epoch.start + epoch.stop) / 2, 1),
                xycoords=("data", "axes fraction"),
                xytext=(0, 1),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize=6,
                color=INK,
            )
            written.add(epoch.name)


def shade_intervals(axes: Axes, intervals: ArrayLike, color: str = BACKGROUND) -> None:
    """Shade intervals.

    Parameters
    ----------
    axes : Axes
        With time along x.
    intervals : array_like (n_intervals, 2)
        Start and stop; rows with NaN are left out.
    color : str
        Drawn at 35 % behind the data.
    """
    for start, stop in np.asarray(intervals, dtype=float).reshape(-1, 2):
        if np.isfinite(start) and np.isfinite(stop):
            axes.axvspan(start, stop, color=color, alpha=0.35, lw=0, zorder=0)


def thinned_ticks(axes: Axes, names: Sequence[str], *, axis: str = "y", most: int = 12) -> None:
    """Name the rows (or columns) 0..n-1, or every k-th of them when there are many."""
    step = max(1, -(-len(names) // most))
    places = list(range(0, len(names), step))
    labels = [str(names[place]) for place in places]
    if axis == "y":
        axes.set_yticks(places, labels)
    else:
        axes.set_xticks(places, labels)


def horizontal_bars(
    axes: Axes, values: ArrayLike, names: Sequence[str], *, color: str, most: int = 12
) -> None:
    """Draw one bar per row, first at the top.

    Parameters
    ----------
    axes : Axes
        Its y axis is inverted.
    values : array_like (n_rows,)
        NaN is drawn as no bar.
    names : sequence of str
        Names of the rows; every k-th is written when there are more than `most`.
    color : str
        Colour of the bars.
    most : int
        Most names written.
    """
    heights = np.nan_to_num(np.asarray(values, dtype=float))
    axes.barh(np.arange(heights.size), heights, height=0.75, color=color)
    axes.set_ylim(heights.size - 0.5, -0.5)
    thinned_ticks(axes, names, most=most)
    axes.tick_params(axis="y", length=0)


def adjacency_heatmap(
    axes: Axes,
    matrix: ArrayLike,
    order: ArrayLike,
    groups: Sequence[tuple[int, str]],
    *,
    vmax: float,
) -> AxesImage:
    """Draw a weighted graph as a matrix, rows in a given order, groups outlined.

    Parameters
    ----------
    axes : Axes
        Gets equal aspect and no ticks.
    matrix : array_like (n, n)
        Weights >= 0; NaN (unobserved, diagonal) is pale grey.
    order : array_like of int (n_rows,)
        Rows and columns to draw, groups first.
    groups : sequence of (int, str)
        Size and colour of each group, in order from the first row.
    vmax : float
        Weight at the upper end of the colour map.

    Returns
    -------
    AxesImage
        For a colour bar.
    """
    import matplotlib as mpl
    from matplotlib.patches import Rectangle

    order = np.asarray(order, dtype=int)
    colormap = mpl.colormaps[SEQUENTIAL].with_extremes(bad=MISSING)
    shown = np.ma.masked_invalid(np.asarray(matrix, dtype=float)[np.ix_(order, order)])
    image = axes.imshow(shown, cmap=colormap, vmin=0, vmax=vmax or 1, aspect="equal")
    start = -0.5
    for size, color in groups:
        box = Rectangle((start, start), size, size, fill=False, edgecolor="white", lw=1.6)
        axes.add_patch(box)
        axes.add_patch(Rectangle((start, start), size, size, fill=False, edgecolor=color, lw=1.0))
        start += size
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    return image


def stacked_traces(
    axes: Axes,
    time: ArrayLike,
    traces: ArrayLike,
    names: Sequence[str],
    *,
    colors: Sequence[str],
    spacing: float = 4.0,
) -> None:
    """Draw traces one above the other, each in units of its own SD.

    Parameters
    ----------
    axes : Axes
        Gets one named tick per trace.
    time : array_like (n_times,)
        Seconds.
    traces : array_like (n_traces, n_times)
        Any unit; NaN leaves a gap. Constant traces are drawn flat.
    names : sequence of str
        Written left of the traces, first at the top.
    colors : sequence of str
        One colour per trace.
    spacing : float
        Distance of the zero lines, in SD.
    """
    traces = np.asarray(traces, dtype=float)
    finite = np.isfinite(traces)
    count = np.maximum(finite.sum(axis=1, keepdims=True), 1)
    filled = np.where(finite, traces, 0.0)
    mean = filled.sum(axis=1, keepdims=True) / count
    spread = np.sqrt((np.where(finite, traces - mean, 0.0) ** 2).sum(axis=1, keepdims=True) / count)
    scaled = (traces - mean) / np.where(spread > 0, spread, 1.0)
    offsets = -spacing * np.arange(len(traces))
    for row, offset, color in zip(scaled, offsets, colors, strict=True):
        axes.plot(time, row + offset, color=color, lw=0.6)
    axes.set_yticks(offsets, [str(name) for name in names], fontsize=6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_ylim(offsets[-1] - spacing if len(offsets) else -1, 1.6 * spacing)


def time_raster(
    axes: Axes, matrix: ArrayLike, time: ArrayLike, *, vmax: float, vmin: float = 0.0
) -> AxesImage:
    """Draw rows of a quantity along time as colours; NaN is pale grey.

    Parameters
    ----------
    axes : Axes
        Rows run from top to bottom.
    matrix : array_like (n_rows, n_times)
        The quantity.
    time : array_like (n_times,)
        Bin centres on a uniform grid, seconds.
    vmin, vmax : float
        Ends of the colour map.
    """
    import matplotlib as mpl

    time = np.asarray(time, dtype=float)
    step = float(np.median(np.diff(time))) if time.size > 1 else 1.0
    matrix = np.asarray(matrix, dtype=float)
    colormap = mpl.colormaps[SEQUENTIAL].with_extremes(bad=MISSING)
    return axes.imshow(
        np.ma.masked_invalid(matrix),
        cmap=colormap,
        vmin=vmin,
        vmax=vmax or 1,
        aspect="auto",
        extent=(time[0] - step / 2, time[-1] + step / 2, len(matrix) - 0.5, -0.5),
    )
