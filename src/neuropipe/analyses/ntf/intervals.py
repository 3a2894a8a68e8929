"""When a component is active."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["active_intervals", "is_active"]

Float = NDArray[np.floating]
ACTIVE_SHARE, ACTIVE_QUANTILE = 0.5, 0.98


def is_active(time_factor: Float) -> NDArray[np.bool_]:
    """Return where a time factor (..., n_bins) exceeds half of its 0.98 quantile; not at NaN."""
    return time_factor > ACTIVE_SHARE * np.nanquantile(
        time_factor, ACTIVE_QUANTILE, axis=-1, keepdims=True
    )


def active_intervals(
    time_factor: Float, time_bin: NDArray[np.float64], width: float
) -> NDArray[np.float64]:
    """Return start and stop of the active stretches, shape (R, n_intervals, 2), NaN padded.

    Parameters
    ----------
    time_factor : ndarray, shape (R, n_bins)
        Time factors.
    time_bin : ndarray, shape (n_bins,)
        Bin centres, seconds.
    width : float
        Bin width, seconds.

    Returns
    -------
    ndarray
        Seconds.
    """
    found = []
    for active in is_active(time_factor):
        edges = np.diff(np.concatenate(([0], active.astype(np.int8), [0])))
        start, stop = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
        found.append(
            np.stack((time_bin[start] - width / 2, time_bin[stop - 1] + width / 2), axis=1)
        )
    result = np.full((len(found), max(1, *(len(one) for one in found)), 2), np.nan)
    for row, one in zip(result, found, strict=True):
        row[: len(one)] = one
    return result
