"""States of time, of the point partition."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuropipe.plotting.courses import joined

if TYPE_CHECKING:
    import xarray as xr

    from neuropipe.plotting.courses import Course

__all__ = ["courses"]


def courses(result: xr.Dataset, subject: str) -> list[Course]:
    """Return the point partition of the bins on the clock of the session.

    Parameters
    ----------
    result : xarray.Dataset or xarray.DataTree
        Result of the analysis.
    subject : str
        Not used: a result is of one subject.
    """
    states = result["time_state"].values.astype(np.int64)[None]
    found = joined("States", result["time"].values, states, ("state",), discrete=True)
    return [] if found is None else [found]
