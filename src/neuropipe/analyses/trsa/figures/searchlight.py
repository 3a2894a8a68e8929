"""Figure of searchlight maps: three slices through the best centre, or views of the surfaces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from neuropipe.analyses.trsa.summary import ALPHA, count_text, names_of
from neuropipe.plotting.figure import ReportFigure
from neuropipe.plotting.palette import CATEGORICAL, INK, SIGNED

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection

__all__ = ["draw_searchlight"]

MOST, AXES = 3, ("x", "y", "z")
SLICES = ((1, 2), (0, 2), (0, 1))  # sagittal, coronal, axial
INSIDE = {"CORTEX_LEFT": 1.0, "CORTEX_RIGHT": -1.0}  # where x grows towards the middle
PANEL_POINTS = 120.0  # width of a panel, about, in points


@dataclass(frozen=True)
class _View:
    """What one panel shows.

    Attributes
    ----------
    title : str
    shown : ndarray of bool, shape (n_centres,)
    axes : tuple of int
        Those drawn to the right and upwards.
    depth : ndarray, shape (n_centres,)
        Larger is nearer to the viewer; those are drawn last.
    """

    title: str
    shown: np.ndarray
    axes: tuple[int, int]
    depth: np.ndarray


def _slices(position: np.ndarray, best: np.ndarray) -> list[_View]:
    return [
        _View(
            f"{AXES[normal]} = {best[normal]:.0f} mm",
            np.isclose(position[:, normal], best[normal]),
            axes,
            np.zeros(len(position)),
        )
        for normal, axes in enumerate(SLICES)
    ]


def _surfaces(position: np.ndarray, structure: np.ndarray) -> list[_View]:
    """Return outer views of both hemispheres, or both sides of the only one, and one from above."""
    sides = [name for name in INSIDE if (structure == name).any()]
    views = []
    for name in sides:
        outward = -INSIDE[name] * position[:, 0]
        word = name.removeprefix("CORTEX_").lower()
        views.append(_View(f"{word}, from outside", structure == name, (1, 2), outward))
        if len(sides) == 1:
            views.append(_View(f"{word}, from inside", structure == name, (1, 2), -outward))
    views.append(_View("from above", np.isin(structure, sides), (0, 1), position[:, 2]))
    return views


def _panel(
    axes: Axes, view: _View, position: np.ndarray, score: np.ndarray, passed: np.ndarray
) -> PathCollection:
    """Draw the centres of a view, those that passed the test with an outline."""
    top = float(np.nanmax(np.abs(score))) or 1.0
    order = np.flatnonzero(view.shown)[np.argsort(view.depth[view.shown], kind="stable")]
    a, b = view.axes
    own = position[order]
    sides = [np.ptp(own[:, k]) if len(own) else 0.0 for k in (a, b)]
    size = max(1.5, (0.8 * PANEL_POINTS) ** 2 / max(len(order), 40))
    image = axes.scatter(own[:, a], own[:, b], c=score[order], s=size, marker="s", cmap=SIGNED,
                         vmin=-top, vmax=top, lw=0, rasterized=len(order) > 2000)  # fmt: skip
    marked = position[order[passed[order]]]
    axes.scatter(marked[:, a], marked[:, b], s=size, marker="s", fc="none", ec=INK, lw=0.4,
                 rasterized=len(order) > 2000)  # fmt: skip
    axes.set(xlabel=f"{AXES[a]} (mm)", ylabel=f"{AXES[b]} (mm)")
    axes.set_title(view.title)
    if min(sides) > 0:
        axes.set_aspect("equal", adjustable="datalim")
    return image


def _table(result: xr.Dataset) -> pd.DataFrame:
    import pandas as pd

    kept = [name for name in ("structure", "vertex") if name in result]
    frame = pd.DataFrame({name: result[name].values for name in (*kept, *AXES)})
    for k, name in enumerate(names_of(result["model"])):
        if np.isfinite(result["searchlight_score"].values[k]).any():
            frame[name] = result["searchlight_score"].values[k]
            if "searchlight_pvalue" in result:
                frame[f"{name} p"] = result["searchlight_pvalue"].values[k]
    return frame


TESTED = {
    "signs of subjects": "random signs of subjects, so for other subjects",
    "permuted conditions": "permuted conditions, so for other conditions in these subjects alone",
}


def _caption(result: xr.Dataset, on_surface: bool) -> str:
    if "searchlight_pvalue" in result:
        how = str(result["searchlight_pvalue"].attrs.get("test", ""))
        test = (
            f"Outlined, and as a share of centres before the row: p < {ALPHA}, corrected over all "
            f"centres, by {TESTED.get(how, how)}. "
        )
    else:
        test = "Not tested (no permutations were asked for). "
    where = (
        "over the surface of the cortex; distances within neighbourhoods run along it"
        if on_surface
        else "in three slices through the best centre (+)"
    )
    return (
        "Comparison of the RDM of every neighbourhood with a model, mean of "
        f"{count_text(result.sizes['subject'], 'subject')}, {where}, one row per model (at most "
        f"the best three). {test}Good: compact patches at the size of the neighbourhood or larger, "
        "where anatomy expects them. Bad: the rim of the brain or single "
        f"{'vertices' if on_surface else 'voxels'} (motion, vessels). The files searchlight_* hold "
        "the maps as images."
    )


def draw_searchlight(result: xr.Dataset) -> ReportFigure:
    """Draw three views of the maps of up to three models.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis, with a searchlight.
    """
    position = np.stack([result[axis].values for axis in AXES], axis=1)
    scores = result["searchlight_score"].transpose("model", "centre").values
    names = names_of(result["model"])
    known = np.flatnonzero(np.isfinite(scores).any(axis=1))
    order = known[np.argsort(-np.nanmax(scores[known], axis=1))][:MOST]
    structure = np.full(len(position), "")
    if "structure" in result:
        structure = result["structure"].values.astype(str)
    on_surface = bool(np.isin(structure, list(INSIDE)).any())
    tested = "searchlight_pvalue" in result
    figure = ReportFigure(
        title="Searchlight", caption=_caption(result, on_surface), table=_table(result),
        width="wide", height_mm=55 * max(len(order), 1),
    )  # fmt: skip
    grid = figure.subplots(max(len(order), 1), 3, squeeze=False)
    for axes, k in zip(grid[: len(order)], order, strict=True):
        best = position[int(np.nanargmax(scores[k]))]
        p = result["searchlight_pvalue"].values[k] if tested else np.ones(len(position))
        views = _surfaces(position, structure) if on_surface else _slices(position, best)
        for panel, view in zip(axes, views, strict=True):
            image = _panel(panel, view, position, scores[k], p < ALPHA)
            if not on_surface:
                panel.plot(*best[list(view.axes)], "+", color=INK, ms=6)
        share = f", {100 * np.mean(p < ALPHA):.0f} %" if tested else ""
        axes[0].annotate(
            f"{names[k]}{share}", (0, 1.2), xycoords="axes fraction", color=CATEGORICAL[0]
        )
        score = f"Score ({result['searchlight_score'].attrs.get('comparator', 'spearman')})"
        figure.colorbar(image, ax=list(axes), label=score, shrink=0.8)
    return figure
