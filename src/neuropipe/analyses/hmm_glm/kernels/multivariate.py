"""Gaussian noise with a covariance: density, weights given it, and its estimate."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular

__all__ = ["covariance_step", "log_prior", "rows_log_normal"]

Floats = NDArray[np.float64]

PSEUDO_BINS = 2.0  # per unit: weight of the prior that keeps the covariance of few bins regular


def rows_log_normal(error: Floats, covariance: Floats) -> Floats:
    """Return the log density of every row of errors of mean 0.

    Parameters
    ----------
    error : ndarray, shape (n_bins, n_units)
    covariance : ndarray, shape (n_units, n_units)

    Returns
    -------
    ndarray, shape (n_bins,)
    """
    factor = np.linalg.cholesky(covariance)
    white = solve_triangular(factor, error.T, lower=True, check_finite=False)
    log_determinant = 2.0 * np.log(np.diagonal(factor)).sum()
    size = error.shape[1] * np.log(2.0 * np.pi) + log_determinant
    return np.asarray(-0.5 * ((white**2).sum(axis=0) + size))


def covariance_step(squares: Floats, mass: float, scale: Floats) -> Floats:
    """Return the covariance that maximises the likelihood of residuals times `log_prior`.

    Parameters
    ----------
    squares : ndarray, shape (n_units, n_units)
        Weighted sum of the outer products of the residuals.
    mass : float
        Sum of the weights.
    scale : ndarray, shape (n_units,)
        Variances to which few bins are drawn.
    """
    pseudo = PSEUDO_BINS * len(scale)
    return np.asarray((squares + pseudo * np.diag(scale)) / (mass + pseudo))


def log_prior(covariance: Floats, scale: Floats) -> float:
    """Return the log prior density of a covariance, but for a constant.

    That of `PSEUDO_BINS` observations per unit whose covariance is diagonal with ``scale``: an
    inverse Wishart density.

    Parameters
    ----------
    covariance : ndarray, shape (n_units, n_units)
    scale : ndarray, shape (n_units,)
    """
    log_determinant = float(np.linalg.slogdet(covariance)[1])
    trace = float((np.diagonal(np.linalg.inv(covariance)) * scale).sum())
    return -0.5 * PSEUDO_BINS * len(scale) * (log_determinant + trace)
