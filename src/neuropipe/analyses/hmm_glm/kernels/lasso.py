"""Proximal steps: the quadratic model of a Newton step with a penalty on absolute values."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["lasso_steps"]

Floats = NDArray[np.float64]

SWEEPS = 200
TOLERANCE = 1e-9  # of the largest move of a sweep, relative to the largest parameter


@njit(cache=True, nogil=True)
def lasso_steps(theta: Floats, gradient: Floats, information: Floats, l1: Floats) -> Floats:
    """Return the steps that maximise the quadratic model minus the absolute values.

    The model of a unit is ``gradient d - d information d / 2 - l1 |theta + d|``; one coordinate
    after the other is set to its maximum until none moves [1]_.

    Parameters
    ----------
    theta, gradient : ndarray, shape (n_units, n_features)
    information : ndarray, shape (n_units, n_features, n_features)
        Positive definite.
    l1 : ndarray, shape (n_features,)

    Returns
    -------
    ndarray, shape (n_units, n_features)

    References
    ----------
    .. [1] Lee, Sun, Saunders (2014), Proximal Newton-type methods. SIAM J Optim 24, 1420-1443.
    """
    n_units, n_features = theta.shape
    steps = np.zeros(theta.shape)
    for n in range(n_units):
        step, slope = steps[n], gradient[n].copy()
        for _ in range(SWEEPS):
            largest = 0.0
            for p in range(n_features):
                curvature = information[n, p, p]
                aim = theta[n, p] + step[p] + slope[p] / curvature
                pull = l1[p] / curvature
                aim = np.sign(aim) * max(abs(aim) - pull, 0.0)
                move = aim - theta[n, p] - step[p]
                if move != 0.0:
                    step[p] += move
                    for q in range(n_features):
                        slope[q] -= information[n, q, p] * move
                    largest = max(largest, abs(move))
            if largest <= TOLERANCE * max(1.0, np.abs(theta[n]).max()):
                break
    return steps
