"""Figure of searchlight maps: three slices through the best centre, or views of the surfaces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.spatial import cKDTree

from neuropipe.analyses.trsa.map_files import grid_of_centres
from neuropipe.analyses.trsa.summary import ALPHA, count_text, names_of
from neuropipe.plotting.figure import ReportFigure
from neuropipe.plotting.palette import CATEGORICAL, INK, SIGNED

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.collections import PolyCollection

__all__ = ["draw_searchlight"]

MOST, AXES = 3, ("x", "y", "z")
SLICES = ((1, 2), (0, 2), (0, 1))  # sagittal, coronal, axial
INSIDE = {"CORTEX_LEFT": 1.0, "CORTEX_RIGHT": -1.0}  # where x grows towards the middle
RASTERED = 2000  # squares that are drawn as pixels


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


def _slice_numbers(position: np.ndarray, attrs: Mapping[str, Any]) -> np.ndarray:
    """Return the number of the slice of each centre along the axis nearest to x, y and z."""
    place = grid_of_centres(position, attrs)
    if place is None:
        return np.round(position, 3)
    index, affine = place
    return index[:, _nearest_axes(affine)]


def _slices(position: np.ndarray, best: int, attrs: Mapping[str, Any]) -> list[_View]:
    number = _slice_numbers(position, attrs)
    return [
        _View(
            f"{AXES[normal]} = {position[best, normal]:.0f} mm",
            number[:, normal] == number[best, normal],
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
    axes: Axes,
    view: _View,
    position: np.ndarray,
    spacing: np.ndarray,
    score: np.ndarray,
    passed: np.ndarray,
) -> PolyCollection:
    """Draw the centres of a view, those that passed the test with an outline."""
    from matplotlib.collections import PolyCollection

    top = float(np.nanmax(np.abs(score))) or 1.0
    order = np.flatnonzero(view.shown)[np.argsort(view.depth[view.shown], kind="stable")]
    a, b = view.axes
    side = spacing[[a, b]] / 2 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    square = position[order][:, None, [a, b]] + side
    many = len(order) > RASTERED
    image = PolyCollection(list(square), array=score[order], cmap=SIGNED, lw=0, rasterized=many)
    image.set_clim(-top, top)
    axes.add_collection(image)
    marked = PolyCollection(list(square[passed[order]]), fc="none", ec=INK, lw=0.4, rasterized=many)
    axes.add_collection(marked)
    axes.autoscale_view()
    axes.set(xlabel=f"{AXES[a]} (mm)", ylabel=f"{AXES[b]} (mm)")
    axes.set_title(view.title)
    axes.set_aspect("equal", adjustable="datalim")
    return image


def _spacing(position: np.ndarray, attrs: Mapping[str, Any]) -> np.ndarray:
    """Return the size of a voxel along x, y and z; else the usual distance to the nearest."""
    place = grid_of_centres(position, attrs)
    if place is not None:
        sizes = np.linalg.norm(place[1][:3, :3], axis=0)
        return sizes[_nearest_axes(place[1])]
    if len(position) < 2:
        return np.ones(3)
    near = float(np.median(cKDTree(position).query(position, k=2)[0][:, 1]))
    return np.full(3, near or 1.0)


def _nearest_axes(affine: np.ndarray) -> np.ndarray:
    """Return the axis of the volume that lies nearest to x, y and z."""
    columns = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return np.abs(columns).argmax(axis=1)


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
    attrs = result["searchlight_score"].attrs
    spacing = _spacing(position, attrs)
    figure = ReportFigure(
        title="Searchlight", caption=_caption(result, on_surface), table=_table(result),
        width="wide", height_mm=55 * max(len(order), 1),
    )  # fmt: skip
    grid = figure.subplots(max(len(order), 1), 3, squeeze=False)
    for axes, k in zip(grid[: len(order)], order, strict=True):
        best = int(np.nanargmax(scores[k]))
        p = result["searchlight_pvalue"].values[k] if tested else np.ones(len(position))
        views = _surfaces(position, structure) if on_surface else _slices(position, best, attrs)
        for panel, view in zip(axes, views, strict=True):
            image = _panel(panel, view, position, spacing, scores[k], p < ALPHA)
            if not on_surface:
                panel.plot(*position[best, list(view.axes)], "+", color=INK, ms=6)
        share = f", {100 * np.mean(p < ALPHA):.0f} %" if tested else ""
        axes[0].annotate(
            f"{names[k]}{share}", (0, 1.2), xycoords="axes fraction", color=CATEGORICAL[0]
        )
        score = f"Score ({result['searchlight_score'].attrs.get('comparator', 'spearman')})"
        figure.colorbar(image, ax=list(axes), label=score, shrink=0.8)
    return figure
