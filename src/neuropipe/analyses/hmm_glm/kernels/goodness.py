"""Goodness of fit: the probability integral transform of every unit given the past."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, ndtr, pdtr

from neuropipe.analyses.hmm_glm.kernels.families import (
    BERNOULLI,
    GAUSSIAN,
    NEGBIN_EXP,
    NEGBIN_SOFTPLUS,
    POISSON_EXP,
    POISSON_SIGMOID,
    POISSON_SOFTPLUS,
    mean,
)

__all__ = ["cumulative", "transform_curve"]

Floats = NDArray[np.float64]


def _poisson(code: int, observed: Floats, eta: Floats, dispersion: Floats) -> Floats:
    below = observed < 0
    return np.where(below, 0.0, pdtr(np.where(below, 0.0, observed), mean(code, eta)))


def _negbin(code: int, observed: Floats, eta: Floats, dispersion: Floats) -> Floats:
    below = observed < 0
    share = dispersion / (dispersion + mean(code, eta))
    return np.where(below, 0.0, betainc(dispersion, np.where(below, 0.0, observed) + 1.0, share))


def _bernoulli(code: int, observed: Floats, eta: Floats, dispersion: Floats) -> Floats:
    absent = 1.0 - mean(code, eta)
    return np.where(observed < 0, 0.0, np.where(observed < 1, absent, 1.0))


def _gaussian(code: int, observed: Floats, eta: Floats, dispersion: Floats) -> Floats:
    return np.asarray(ndtr((observed - eta) / np.sqrt(dispersion)))


CUMULATIVE: dict[int, Callable[[int, Floats, Floats, Floats], Floats]] = {
    POISSON_SOFTPLUS: _poisson,
    POISSON_EXP: _poisson,
    POISSON_SIGMOID: _poisson,
    BERNOULLI: _bernoulli,
    GAUSSIAN: _gaussian,
    NEGBIN_SOFTPLUS: _negbin,
    NEGBIN_EXP: _negbin,
}


def cumulative(code: int, observed: Floats, eta: Floats, dispersion: Floats) -> Floats:
    """Return the probability of a value not above the observed one.

    Parameters
    ----------
    code : int
        Value of `families.FAMILIES`.
    observed, eta : ndarray, shape (n_bins, n_units)
        Observation and linear predictor; counts below 0 have probability 0.
    dispersion : ndarray, shape (n_units,)
        As in `families.log_density`.

    Examples
    --------
    >>> cumulative(POISSON_EXP, np.array([[0.0]]), np.array([[0.0]]), np.ones(1)).round(4)
    array([[0.3679]])
    """
    return CUMULATIVE[code](code, observed, eta, dispersion)


def transform_curve(lower: Floats, upper: Floats, levels: Floats) -> Floats:
    """Return the distribution of the randomised transform, averaged over its randomisation.

    Parameters
    ----------
    lower, upper : ndarray, shape (n_bins, n_units)
        Cumulative probability just below the observed value, and at it; equal for a continuous
        distribution.
    levels : ndarray, shape (n_levels,)

    Returns
    -------
    ndarray, shape (n_units, n_levels)
        Equal to ``levels`` for a model that is right.

    Notes
    -----
    A count is spread evenly over the probabilities that it covers; the mean over bins of the
    share below each level is the non-randomised transform [1]_.

    References
    ----------
    .. [1] Czado, Gneiting, Held (2009), Predictive model assessment for count data. Biometrics 65,
       1254-1261.

    Examples
    --------
    >>> transform_curve(np.array([[0.0], [0.5]]), np.array([[0.5], [1.0]]), np.array([0.25, 0.5]))
    array([[0.25, 0.5 ]])
    """
    width = np.maximum(upper - lower, 1e-12)
    share = [np.clip((level - lower) / width, 0.0, 1.0).mean(axis=0) for level in levels]
    return np.stack(share, axis=-1)
