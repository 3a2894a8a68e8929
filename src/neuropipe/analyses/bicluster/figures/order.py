"""Order and colours that all figures share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from neuropipe.plotting.palette import CATEGORICAL

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["boundaries", "colour", "state_strip", "unit_order"]


def colour(index: int) -> str:
    """Return the colour of a cluster or state, by number."""
    return CATEGORICAL[index % len(CATEGORICAL)]


def unit_order(result: xr.DataTree) -> NDArray[np.int64]:
    """Return units by cluster, within it the surest first."""
    certain = result["unit_cluster_probability"].values
    order: NDArray[np.int64] = np.lexsort((-certain, result["unit_cluster"].values))
    return order


def boundaries(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where sorted labels change."""
    found: NDArray[np.int64] = np.flatnonzero(np.diff(labels)) + 1
    return found


def state_strip(axes: Axes, result: xr.DataTree) -> None:
    """Draw the states of time as a strip of colours, paler where they are less certain."""
    from matplotlib.colors import to_rgb

    states = result["time_state"].values
    certain = result["time_state_probability"].values[:, None]
    colours = np.array([to_rgb(colour(k)) for k in range(int(states.max()) + 1)])[states]
    image = (certain * colours + (1.0 - certain))[None]
    time, half = result["time"].values, 0.5 * result.attrs["bin_width_s"]
    axes.imshow(
        np.clip(image, 0, 1), aspect="auto", interpolation="nearest",
        extent=(time[0] - half, time[-1] + half, 0, 1),
    )  # fmt: skip
    axes.set(yticks=[])
    axes.set_ylabel("State", rotation=0, ha="right", va="center")
