"""What several figures of a result need: colours of states, order of rows, counts, events."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from neuropipe.plotting.palette import INK, category_styles

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = [
    "count_text",
    "mark_regions",
    "ordered_dims",
    "row_order",
    "state_names",
    "state_styles",
]

DIMS = (
    "trial", "time", "n_states", "fold", "restart", "restart_2", "iteration", "state", "state_to",
    "receiver", "sender", "basis", "lag", "connection_type", "unit", "feature", "level", "quantile",
)  # fmt: skip


def ordered_dims(result: xr.Dataset) -> xr.Dataset:
    """Return the result with its dims in the order that the figures expect."""
    return result.transpose(*(dim for dim in DIMS if dim in result.dims), ...)


def state_names(result: xr.Dataset) -> list[str]:
    """Return the names of the states, from 1 by decreasing occupancy."""
    return [f"State {index + 1}" for index in range(result.sizes["state"])]


def state_styles(result: xr.Dataset) -> list[dict[str, str]]:
    """Return colour, marker and line style of every state."""
    return list(category_styles(state_names(result)).values())


def count_text(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun, such as ``1 state`` or ``3 states``."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def row_order(result: xr.Dataset) -> tuple[np.ndarray, list[tuple[str, int, int]]]:
    """Return the rows sorted by region, and name, first and last place of every region.

    Without regions the order of the result stays and the list is empty.
    """
    count = result.sizes["unit"]
    if "region" not in result.coords or not any(str(r) for r in result["region"].values):
        return np.arange(count), []
    region = np.array([str(name) for name in result["region"].values])
    order = np.argsort(region, kind="stable")
    edges = np.flatnonzero(region[order][1:] != region[order][:-1]) + 1
    borders = [0, *edges.tolist(), count]
    return order, [(str(region[order][a]) or "?", a, b - 1) for a, b in pairwise(borders)]


def mark_regions(
    axes: Axes, regions: list[tuple[str, int, int]], *, names: str = "y", lines: str = "both"
) -> None:
    """Draw a line between regions and write their names instead of ticks.

    Parameters
    ----------
    axes : Axes
        Rows and columns are the places of `row_order`.
    regions : list
        Of `row_order`.
    names : str
        ``y``, ``x`` or ``both``: axes that get names; the others get no ticks.
    lines : str
        ``y`` or ``both``.
    """
    for _, _, last in regions[:-1]:
        axes.axhline(last + 0.5, color=INK, lw=0.4)
        if lines == "both":
            axes.axvline(last + 0.5, color=INK, lw=0.4)
    places = [(first + last) / 2 for _, first, last in regions]
    labels = [name for name, _, _ in regions]
    axes.set_yticks(*((places, labels) if names in ("y", "both") else ([], [])), fontsize=6)
    if lines == "both":
        wanted = (places, labels) if names in ("x", "both") else ([], [])
        axes.set_xticks(*wanted, fontsize=6, rotation=90)
    axes.tick_params(length=0)
