"""Figure 2: the coupling network of every state, and what the states share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.analyses.hmm_glm.figures.annotations import (
    count_text,
    mark_regions,
    row_order,
    state_names,
)
from neuropipe.plotting.figure import ReportFigure
from neuropipe.plotting.palette import MISSING, SIGNED
from neuropipe.plotting.panels import note, thinned_ticks

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["draw_weights", "no_coupling"]

MARGIN_MM, WIDTH_MM, LEAST_ROW_MM = 12.0, 174.0, 28.0
FULL_SCALE = 0.99
NAMED_ROWS = 20
MOST_ROWS = 5000  # of the table


def no_coupling(title: str) -> ReportFigure:
    """Return the figure of a result without history."""
    import pandas as pd

    text = "History is off (`history.bins: 0`): the states have no coupling networks."
    figure = ReportFigure(
        title=title,
        caption=f"{text} Good and bad cannot be told here; see the other figures.",
        table=pd.DataFrame({"note": [text]}),
        height_mm=20,
    )
    note(figure.subplots(), text)
    return figure


def _panels(result: xr.Dataset) -> list[list[tuple[str, np.ndarray]]]:
    """Return title and matrix of all panels: weights, then connections."""
    names = state_names(result)
    weight = result["weight"].sum("basis").values
    found = [list(zip(names, weight, strict=True))]
    if len(names) > 1:
        found[0].append(("All states (W0)", result["weight_shared"].sum("basis").values))
    if "connection_probability" in result:
        chance = result["connection_probability"].values
        whole = result["connection_probability_global"].values
        connections = list(zip(names, chance[..., 2] - chance[..., 0], strict=True))
        connections.append(("All states (A0)", whole[..., 2] - whole[..., 0]))
        found.append(connections)
    return found


def _columns(panels: int) -> int:
    """Return the panels side by side: large ones for few states."""
    return 3 if panels <= 3 else 4 if panels <= 8 else 6


def _draw_matrix(axes: Axes, matrix: np.ndarray, limit: float, where: dict[str, Any]) -> Any:
    import matplotlib as mpl

    order, regions = where["order"], where["regions"]
    colormap = mpl.colormaps[SIGNED].with_extremes(bad=MISSING)
    image = axes.imshow(
        matrix[np.ix_(order, order)], cmap=colormap, vmin=-limit, vmax=limit, aspect="equal"
    )
    axes.set_title(where["title"])
    if regions:
        names = {(True, True): "both", (True, False): "y", (False, True): "x"}
        mark_regions(axes, regions, names=names.get((where["left"], where["bottom"]), ""))
    elif len(order) <= NAMED_ROWS:
        named = [where["units"][place] for place in order]
        thinned_ticks(axes, named if where["left"] else [], axis="y", most=NAMED_ROWS)
        thinned_ticks(axes, named if where["bottom"] else [], axis="x", most=NAMED_ROWS)
        axes.tick_params(length=0, labelsize=5)
        axes.tick_params(axis="x", rotation=90)
    else:
        axes.set_xticks([])
        axes.set_yticks([])
    if where["left"]:
        axes.set_ylabel("Receiver")
    if where["bottom"]:
        axes.set_xlabel("Sender")
    for spine in axes.spines.values():
        spine.set_visible(True)
    return image


def _draw_block(
    grid: np.ndarray, panels: list[tuple[str, np.ndarray]], limit: float, label: str,
    where: dict[str, Any],
) -> None:  # fmt: skip
    """Draw panels into rows of axes and empty the rest, which holds the colour bar."""
    flat, columns = grid.ravel(), grid.shape[1]
    image = None
    for index, (axes, (title, matrix)) in enumerate(zip(flat, panels, strict=False)):
        here = {
            **where, "title": title, "left": index % columns == 0,
            "bottom": index + columns >= len(panels),
        }  # fmt: skip
        image = _draw_matrix(axes, matrix, limit, here)
    for axes in flat[len(panels) :]:
        axes.set_axis_off()
    bar = flat[0].figure.colorbar(image, ax=list(flat), fraction=0.02, pad=0.01, aspect=30)
    bar.set_label(label)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=6)


def _table(result: xr.Dataset) -> pd.DataFrame:
    """Return the strongest weights of all states in long form."""
    import pandas as pd

    weight = result["weight"].sum("basis").values
    error = np.sqrt((result["weight_se"] ** 2).sum("basis").values)
    units = result["unit"].values.astype(str)
    order = np.argsort(-np.abs(weight).ravel(), kind="stable")[:MOST_ROWS]
    state, receiver, sender = np.unravel_index(order, weight.shape)
    columns = {
        "state": state + 1,
        "receiver": units[receiver],
        "sender": units[sender],
        "weight": weight.ravel()[order],
        "standard_error": error.ravel()[order],
    }
    if "connection_probability" in result:
        chance = result["connection_probability"].values.reshape(-1, 3)[order]
        columns |= {"inhibitory": chance[:, 0], "absent": chance[:, 1], "excitatory": chance[:, 2]}
    return pd.DataFrame(columns)


CAPTION = (
    "Directed coupling of {units} in {states}: columns send, rows receive{sorted}; sums over basis "
    "functions. Upper part: weights, one symmetric colour scale up to the 0.99 quantile of their "
    "size, and the part common to the states (W0, their mean). {lower}No error bars; the table "
    "holds the {rows} largest weights with standard errors. Good: sparse matrices of which some "
    "entries differ between states; a common part that all states repeat. Bad: whole rows or "
    "columns of one colour (a unit of drifting rate or a mixture of cells; a sender that almost "
    "never fires), matrices that look like noise (too few bins per state), two states with the "
    "same matrix (one state too many)."
)
LOWER = (
    "Lower part: probability that the connection is excitatory minus that it is inhibitory, and in "
    "any state (A0). "
)


def draw_weights(result: xr.Dataset) -> ReportFigure:
    """Draw the weights and connections of all states side by side.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis.
    """
    title = "Coupling networks of the states"
    if not result["weight"].size:
        return no_coupling(title)
    order, regions = row_order(result)
    blocks = _panels(result)
    table = _table(result)
    columns = _columns(len(blocks[-1]))
    rows = [-(-len(block) // columns) for block in blocks]
    figure = ReportFigure(
        title=title,
        caption=CAPTION.format(
            units=count_text(result.sizes["unit"], "row"),
            states=count_text(result.sizes["state"], "state"),
            sorted=", sorted by region" if regions else "",
            lower=LOWER if len(blocks) > 1 else "",
            rows=len(table),
        ),
        table=table,
        height_mm=MARGIN_MM * len(blocks) + max(WIDTH_MM / columns - 4, LEAST_ROW_MM) * sum(rows),
    )
    parts = figure.subfigures(len(blocks), 1, height_ratios=rows, squeeze=False)[:, 0]
    sizes = np.abs(result["weight"].sum("basis").values)
    limits = (float(np.quantile(sizes, FULL_SCALE)) or 1.0, 1.0)
    labels = ("Weight", "P(exc.) - P(inh.)")
    where = {"order": order, "regions": regions, "units": result["unit"].values.astype(str)}
    for part, panels, count, limit, label in zip(parts, blocks, rows, limits, labels, strict=False):
        _draw_block(part.subplots(count, columns, squeeze=False), panels, limit, label, where)
    return figure
