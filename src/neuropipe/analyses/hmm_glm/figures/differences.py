"""Figure 9: connections that differ from the common network, as one graph per state."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from neuropipe.analyses.hmm_glm.figures.annotations import count_text, row_order, state_names
from neuropipe.analyses.hmm_glm.figures.weights import no_coupling
from neuropipe.plotting.figure import ReportFigure
from neuropipe.plotting.palette import INK, category_styles
from neuropipe.plotting.panels import note

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["differences", "draw_differences"]

POSITIVE, NEGATIVE = "#B2182B", "#2166AC"  # the ends of the signed colour map
MOST_EDGES, ARROWS, NAMED_ROWS, COLUMNS = 120, 40, 24, 3
MOST_ROWS, SURE = 5000, 2.0
CURVE = 0.35  # how far edges bend to the centre


class Differences(NamedTuple):
    """Weights of every state minus the common ones, and their standard errors.

    Attributes
    ----------
    value, error : ndarray, shape (n_states, n_receivers, n_senders)
    """

    value: np.ndarray
    error: np.ndarray

    @property
    def score(self) -> np.ndarray:
        """Difference in standard errors; 0 where there is no error."""
        known = self.error > 0
        return np.where(known, self.value / np.where(known, self.error, 1.0), 0.0)


def differences(result: xr.Dataset) -> Differences:
    """Return W_s - W0, summed over basis functions, with the error of the difference.

    W0 is the mean of the states, whose errors count as independent.
    """
    weight = result["weight"].sum("basis").values
    square = (result["weight_se"] ** 2).sum("basis").values
    count = len(weight)
    own = (1.0 - 1.0 / count) ** 2 * square
    others = (square.sum(axis=0) - square) / count**2
    return Differences(weight - weight.mean(axis=0), np.sqrt(own + others))


def _places(result: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return where every row stands on the circle, with gaps between regions."""
    order, regions = row_order(result)
    count = order.size
    gap = 0.03 * 2 * np.pi if len(regions) > 1 else 0.0
    region_of = np.zeros(count, dtype=int)
    for index, (_, first, last) in enumerate(regions):
        region_of[first : last + 1] = index
    share = (2 * np.pi - gap * max(len(regions), 0)) / count
    angle = np.pi / 2 - (np.arange(count) + 0.5) * share - region_of * gap
    found = np.empty(count)
    found[order] = angle
    return np.stack([np.cos(found), np.sin(found)], axis=1), found


def _draw_rows(axes: Axes, result: xr.Dataset, points: np.ndarray, angle: np.ndarray) -> None:
    order, regions = row_order(result)
    styles = list(category_styles([name for name, *_ in regions]).values()) or [{"color": INK}]
    colors = np.full(len(points), styles[0]["color"], dtype=object)
    for (_, first, last), style in zip(regions, styles, strict=False):
        colors[order[first : last + 1]] = style["color"]
    axes.scatter(*points.T, s=10 if len(points) <= 40 else 4, c=list(colors), lw=0, zorder=3)
    if len(points) <= NAMED_ROWS:
        for (x, y), turn, name in zip(points, angle, result["unit"].values, strict=True):
            _write(axes, x, y, turn, str(name), 5 if len(points) > 12 else 6.5)
    for (name, first, last), style in zip(regions, styles, strict=False):
        if len(points) > NAMED_ROWS:
            middle = float(angle[order[first : last + 1]].mean())
            _write(axes, np.cos(middle), np.sin(middle), middle, name, 6, style["color"])


def _write(
    axes: Axes, x: float, y: float, turn: float, text: str, size: float, color: str = INK
) -> None:
    """Write outside the circle, along its radius, never upside down."""
    degrees = np.degrees(turn) % 360
    flipped = 90 < degrees < 270
    axes.text(
        1.07 * x, 1.07 * y, text, fontsize=size, color=color, rotation_mode="anchor",
        rotation=degrees - 180 if flipped else degrees,
        ha="right" if flipped else "left", va="center",
    )  # fmt: skip


def _draw_edges(axes: Axes, points: np.ndarray, edges: np.ndarray, scale: float) -> None:
    """Draw edges (receiver, sender, value), curved to the centre, strongest on top."""
    from matplotlib.patches import FancyArrowPatch, PathPatch
    from matplotlib.path import Path

    arrows = len(edges) <= ARROWS
    for receiver, sender, value in edges[::-1]:
        start, stop = points[int(sender)], points[int(receiver)]
        color = POSITIVE if value > 0 else NEGATIVE
        width = 0.3 + 1.3 * min(abs(value) / scale, 1.0)
        if int(receiver) == int(sender):
            axes.scatter(*start, s=26, facecolors="none", edgecolors=color, lw=width, zorder=4)
            continue
        path = Path([start, CURVE * (start + stop) / 2, stop], [1, 3, 3])
        if arrows:
            axes.add_patch(
                FancyArrowPatch(
                    path=path, color=color, lw=width, arrowstyle="-|>", mutation_scale=4,
                    alpha=0.8,
                )
            )  # fmt: skip
        else:
            axes.add_patch(PathPatch(path, fill=False, edgecolor=color, lw=width, alpha=0.6))


def _table(result: xr.Dataset, found: Differences) -> pd.DataFrame:
    import pandas as pd

    units = result["unit"].values.astype(str)
    order = np.argsort(-np.abs(found.score).ravel(), kind="stable")[:MOST_ROWS]
    state, receiver, sender = np.unravel_index(order, found.value.shape)
    return pd.DataFrame(
        {
            "state": state + 1, "receiver": units[receiver], "sender": units[sender],
            "difference": found.value.ravel()[order], "standard_error": found.error.ravel()[order],
            "standard_errors": found.score.ravel()[order],
        }
    )  # fmt: skip


CAPTION = (
    "Connections whose weight differs from the common one (W0, mean of the states) by more than 2 "
    "standard errors (Laplace; errors of states and basis functions count as independent); rows "
    "stand on a circle{sorted}, red: stronger (or less inhibitory) in this state, blue: weaker, "
    "width: size of the difference; a ring is a unit's own past. Titles: how many of {pairs} "
    "directed pairs; of more than {most} the largest are drawn, arrows to the receiver where there "
    "are few. By chance about 5 % of the pairs lie beyond 2 standard errors. Good: many more than "
    "that, between units that also differ in the coupling matrices. Bad: about 5 % (nothing beyond "
    "chance), or edges that all end at one unit (its rate changes with the state, not its input)."
)


def draw_differences(result: xr.Dataset) -> ReportFigure:
    """Draw, per state, the graph of connections that differ from the common network.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis.
    """
    title = "Connections that change with the state"
    if not result["weight"].size:
        return no_coupling(title)
    found = differences(result)
    names, count = state_names(result), result.sizes["state"]
    columns = min(count, COLUMNS)
    rows = -(-count // columns)
    figure = ReportFigure(
        title=title,
        caption=CAPTION.format(
            sorted=" by region" if row_order(result)[1] else "",
            pairs=result.sizes["unit"] ** 2,
            most=MOST_EDGES,
        ),
        table=_table(result, found),
        height_mm=6 + 60 * rows if count > 1 else 30,
    )
    if count == 1:
        note(figure.subplots(), "One state: there is nothing to differ from.")
        return figure
    points, angle = _places(result)
    sure = np.abs(found.score) > SURE
    scale = float(np.quantile(np.abs(found.value[sure]), 0.95)) if sure.any() else 1.0
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for place, name, value, mask in zip(axes, names, found.value, sure, strict=False):
        receiver, sender = np.nonzero(mask)
        edges = np.column_stack([receiver, sender, value[mask]])
        edges = edges[np.argsort(-np.abs(edges[:, 2]), kind="stable")][:MOST_EDGES]
        _draw_edges(place, points, edges, scale)
        _draw_rows(place, result, points, angle)
        place.set_title(f"{name}: {count_text(int(mask.sum()), 'pair')}")
        place.set(xlim=(-1.3, 1.3), ylim=(-1.3, 1.3), aspect="equal")
    for place in axes:
        place.set_axis_off()
    return figure
