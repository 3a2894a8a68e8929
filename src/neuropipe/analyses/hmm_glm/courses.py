"""The most probable states along time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuropipe.plotting.courses import absolute_times, joined

if TYPE_CHECKING:
    import xarray as xr

    from neuropipe.plotting.courses import Course

__all__ = ["courses"]


def courses(result: xr.Dataset, subject: str) -> list[Course]:
    """Return the most probable path on the clock of the session.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis.
    subject : str
        Not used: a result is of one subject.
    """
    path = result["state_viterbi"].transpose("trial", "time").values.astype(np.int64)
    onset = result["trial_onset"].values if "trial_onset" in result.coords else np.zeros(len(path))
    time = absolute_times(onset, result["time"].values)
    found = joined("States", time, path.reshape(1, -1), ("state",), discrete=True)
    return [] if found is None else [found]
