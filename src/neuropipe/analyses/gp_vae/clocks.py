"""Steps and offsets of the samples of each modality."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuropipe.analyses.gp_vae.kernels.linear_model import Modality
from neuropipe.errors import DataError

__all__ = ["bin_width", "rounded_shifts", "shift_of", "step_of"]

Float = NDArray[np.float64]
ROUNDING = 0.01  # of the shortest length scale: latents move by less than 0.5 % of their SD


def bin_width(data: xr.Dataset, name: str, times: Float, likelihood: str) -> float:
    """Return the width of the bins of counts, seconds; 1 for signals."""
    if likelihood not in ("poisson", "negbin"):
        return 1.0
    return step_of(data, name, times)


def step_of(data: xr.Dataset, name: str, times: Float) -> float:
    """Return the step of a modality: its attribute, or the median of its times, seconds."""
    attrs = data[name].attrs
    for key in ("bin_width_s", "step_s"):
        if key in attrs:
            return float(attrs[key])
    if times.size < 2:
        raise DataError(
            f"time_{name}: one sample per trial; give `{name}` the attribute `step_s`, seconds"
        )
    return float(np.median(np.diff(times)))


def shift_of(data: xr.Dataset, name: str) -> Float | None:
    """Return by how much the samples of each trial lie behind the times, or None if nowhere."""
    key = f"sample_offset_{name}"
    if key not in data.coords and key not in data:
        return None
    seconds = np.nan_to_num(data[key].values.astype(float))
    return seconds if np.any(seconds) else None


def rounded_shifts(modalities: dict[str, Modality], shortest: float) -> dict[str, Modality]:
    """Return modalities whose shifts are rounded, so that trials share factorisations.

    Parameters
    ----------
    modalities : dict
        Modality -> observations.
    shortest : float
        Shortest length scale, seconds.
    """
    step = ROUNDING * shortest
    return {
        name: one if one.shift is None else replace(one, shift=step * np.round(one.shift / step))
        for name, one in modalities.items()
    }
