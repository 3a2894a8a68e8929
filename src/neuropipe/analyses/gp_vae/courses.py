"""Latents along time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuropipe.plotting.courses import absolute_times, joined

if TYPE_CHECKING:
    import xarray as xr

    from neuropipe.plotting.courses import Course

__all__ = ["courses"]


def courses(result: xr.Dataset, subject: str) -> list[Course]:
    """Return the latents on the clock of the session.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis.
    subject : str
        Not used: a result is of one subject.
    """
    if "recording_time" in result.coords:
        time = result["recording_time"].values
        values = result["recording_latent_mean"].transpose("latent", "recording_time").values
    else:
        mean = result["latent_mean"].transpose("latent", "trial", "time").values
        values = mean.reshape(len(mean), -1)
        known = "trial_onset" in result.coords
        onset = result["trial_onset"].values if known else np.zeros(result.sizes["trial"])
        time = absolute_times(onset, result["time"].values)
    rows = tuple(
        f"{k + 1} {str(group).removeprefix('private:')}"
        for k, group in enumerate(result["latent_group"].values)
    )
    found = joined("Latents", time, values, rows)
    return [] if found is None else [found]
