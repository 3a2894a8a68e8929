"""From single observations to condition means of each run."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["condition_means"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def condition_means(
    observations: Floats, condition: Ints, run: Ints, n_conditions: int, n_runs: int
) -> tuple[Floats, Floats, Ints]:
    """Average observations by run and condition, and return what is left of them.

    Parameters
    ----------
    observations : ndarray, shape (n_observations, ...)
        Rows with NaN are left out.
    condition, run : ndarray of int, shape (n_observations,)
        Number of each; negative numbers leave the observation out.

    Returns
    -------
    means : ndarray, shape (n_runs, n_conditions, ...)
        NaN where a run has no such condition.
    residuals : ndarray, shape (n_observations, ...)
        Observations minus their mean; NaN for those left out.
    count : ndarray of int, shape (n_runs, n_conditions)
    """
    used = np.isfinite(observations).all(axis=tuple(range(1, observations.ndim)))
    used &= (condition >= 0) & (run >= 0)
    cell = run[used] * n_conditions + condition[used]
    count = np.bincount(cell, minlength=n_runs * n_conditions)
    total = np.zeros((n_runs * n_conditions, *observations.shape[1:]))
    np.add.at(total, cell, observations[used])
    shape = (-1, *[1] * (observations.ndim - 1))
    means = np.where(count.reshape(shape) > 0, total / np.maximum(count, 1).reshape(shape), np.nan)
    residuals = np.full(observations.shape, np.nan)
    residuals[used] = observations[used] - means[cell]
    grid = (n_runs, n_conditions)
    return means.reshape(*grid, *observations.shape[1:]), residuals, count.reshape(grid)
