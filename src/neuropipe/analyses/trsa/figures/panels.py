"""Pieces that several figures of RDMs share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuropipe.analyses.trsa.kernels.pairs import to_square
from neuropipe.analyses.trsa.summary import names_of
from neuropipe.plotting.palette import MISSING, SEQUENTIAL, category_styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

__all__ = [
    "MOST_REGIONS",
    "after_zero",
    "category_legend",
    "condition_categories",
    "condition_names",
    "mean_over_subjects",
    "rdm_panel",
    "short",
]

Floats = NDArray[np.float64]
MOST_REGIONS, NAMED_CONDITIONS = 6, 24
BAR_SHARE = 0.05  # of the width of a matrix


def short(name: str, most: int = 14) -> str:
    """Return a name cut to fit a tick."""
    return name if len(name) <= most else name[: most - 1] + "…"


def after_zero(values: xr.DataArray) -> xr.DataArray:
    """Return movies as their mean after time 0."""
    if "time" not in values.dims:
        return values
    after = values["time"].values >= 0
    return values.isel(time=np.flatnonzero(after if after.any() else ~after)).mean("time")


def mean_over_subjects(values: xr.DataArray) -> Floats:
    """Return the mean over subjects that have the region, subjects taken away."""
    return np.asarray(values.mean("subject", skipna=True).values)


def rdm_panel(
    axes: Axes,
    pairs: Floats,
    labels: list[str],
    limits: tuple[float, float],
    *,
    names: bool = True,
    categories: list[str] | None = None,
) -> AxesImage:
    """Draw one RDM as a matrix; NaN and the diagonal are pale grey.

    With categories, conditions are ordered by them, and bars beside the matrix show them.
    """
    import matplotlib as mpl

    square = to_square(pairs, np.nan)
    if categories is not None:
        order = sorted(range(len(labels)), key=lambda k: (categories[k], labels[k]))
        square, labels = square[np.ix_(order, order)], [labels[k] for k in order]
        _category_bars(axes, [categories[k] for k in order])
    colormap = mpl.colormaps[SEQUENTIAL].with_extremes(bad=MISSING)
    image = axes.imshow(
        np.ma.masked_invalid(square), cmap=colormap, vmin=limits[0], vmax=limits[1], aspect="equal"
    )
    axes.set_xticks([])
    axes.set_yticks([])
    if names and len(labels) <= NAMED_CONDITIONS:
        axes.set_yticks(range(len(labels)), [short(label, 10) for label in labels], fontsize=5)
        axes.tick_params(axis="y", length=0, pad=2 if categories is None else 11)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return image


def _category_bars(axes: Axes, categories: list[str]) -> None:
    """Draw the category of every row to the left of the matrix, of every column above it."""
    from matplotlib.patches import Rectangle

    styles, n = category_styles(sorted(set(categories))), len(categories)
    width = BAR_SHARE * n
    for k, name in enumerate(categories):
        color = styles[name]["color"] if name else MISSING
        for corner, size in (
            ((-0.5 - 1.5 * width, k - 0.5), (width, 1.0)),
            ((k - 0.5, -0.5 - 1.5 * width), (1.0, width)),
        ):
            axes.add_patch(Rectangle(corner, *size, fc=color, lw=0, clip_on=False))


def category_legend(figure: Figure, categories: list[str] | None) -> None:
    """Draw the names of the categories below a figure."""
    if categories is None:
        return
    from matplotlib.patches import Patch

    styles = category_styles(sorted(set(categories)))
    handles = [
        Patch(fc=style["color"] if name else MISSING, label=short(name or "none", 24))
        for name, style in styles.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 6),
                  fontsize=6)  # fmt: skip


def condition_categories(result: xr.Dataset) -> list[str] | None:
    """Return the category of every condition; None if none is known."""
    return names_of(result["category"]) if "category" in result else None


def condition_names(result: xr.Dataset) -> list[str]:
    """Return the labels of the conditions."""
    return names_of(result["condition"])
