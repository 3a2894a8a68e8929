"""Pieces that several figures of RDMs share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuropipe.analyses.trsa.kernels.pairs import to_square
from neuropipe.analyses.trsa.summary import names_of
from neuropipe.plotting.palette import MISSING, SEQUENTIAL

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

__all__ = ["MOST_REGIONS", "after_zero", "mean_over_subjects", "rdm_panel", "short"]

Floats = NDArray[np.float64]
MOST_REGIONS, NAMED_CONDITIONS = 6, 24


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
    axes: Axes, pairs: Floats, labels: list[str], limits: tuple[float, float], *, names: bool = True
) -> AxesImage:
    """Draw one RDM as a matrix; NaN and the diagonal are pale grey."""
    import matplotlib as mpl

    square = to_square(pairs, np.nan)
    colormap = mpl.colormaps[SEQUENTIAL].with_extremes(bad=MISSING)
    image = axes.imshow(
        np.ma.masked_invalid(square), cmap=colormap, vmin=limits[0], vmax=limits[1], aspect="equal"
    )
    axes.set_xticks([])
    axes.set_yticks([])
    if names and len(labels) <= NAMED_CONDITIONS:
        axes.set_yticks(range(len(labels)), [short(label, 10) for label in labels], fontsize=5)
        axes.tick_params(axis="y", length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return image


def condition_names(result: xr.Dataset) -> list[str]:
    """Return the labels of the conditions."""
    return names_of(result["condition"])
