"""Observation families: log probability, score and Fisher information for a linear predictor."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.special import gammaln

__all__ = [
    "FAMILIES",
    "NEGBIN_CODES",
    "constant",
    "log_density",
    "mean",
    "rows_log_density",
    "weighted_terms",
]

Floats = NDArray[np.float64]

POISSON_SOFTPLUS, POISSON_EXP, POISSON_SIGMOID, BERNOULLI, GAUSSIAN = range(5)
NEGBIN_SOFTPLUS, NEGBIN_EXP = 5, 6
POISSON_CODES = (POISSON_SOFTPLUS, POISSON_EXP, POISSON_SIGMOID)
NEGBIN_CODES = (NEGBIN_SOFTPLUS, NEGBIN_EXP)
EXP_CODES = (POISSON_EXP, NEGBIN_EXP)

# (family, link) -> code that the compiled loops branch on.
FAMILIES = {
    ("poisson", "softplus"): POISSON_SOFTPLUS,
    ("poisson", "exp"): POISSON_EXP,
    ("poisson", "sigmoid"): POISSON_SIGMOID,
    ("bernoulli", "logistic"): BERNOULLI,
    ("gaussian", "identity"): GAUSSIAN,
    ("negbin", "softplus"): NEGBIN_SOFTPLUS,
    ("negbin", "exp"): NEGBIN_EXP,
}
EXP_LIMIT = 20.0  # the largest linear predictor of the exponential link
DEEP = -30.0  # below, log(1 + exp(eta)) is exp(eta) in double precision
LOG_TWO_PI = math.log(2.0 * math.pi)


@njit(cache=True, nogil=True, inline="always")
def _softplus(eta: float) -> tuple[float, float, float]:
    """Return log(1 + exp(eta)), its logarithm and its derivative."""
    small = math.exp(-abs(eta))
    if eta > 0:
        rate = eta + math.log1p(small)
        return rate, math.log(rate), 1.0 / (1.0 + small)
    rate = math.log1p(small)
    return rate, (eta if eta < DEEP else math.log(rate)), small / (1.0 + small)


@njit(cache=True, nogil=True, inline="always")
def _logistic(eta: float) -> tuple[float, float, float]:
    """Return 1 / (1 + exp(-eta)), and the logarithms of it and of one minus it."""
    small = math.exp(-abs(eta))
    tail = math.log1p(small)
    if eta > 0:
        return 1.0 / (1.0 + small), -tail, -eta - tail
    return small / (1.0 + small), eta - tail, -tail


@njit(cache=True, nogil=True)
def _negbin(code: int, eta: float, x: float, size: float) -> tuple[float, float, float]:
    """Return the terms of a negative binomial count of dispersion ``size``."""
    if code == NEGBIN_EXP:
        if eta > EXP_LIMIT:
            top = math.exp(EXP_LIMIT)
            return x * EXP_LIMIT - (x + size) * math.log(top + size), 0.0, 0.0
        rate = math.exp(eta)
        log_rate, ratio = eta, 1.0
    else:
        rate, log_rate, slope = _softplus(eta)
        ratio = slope / rate if eta > DEEP else 1.0
    # ratio is the derivative of log rate.
    share = size / (rate + size)
    return (
        x * log_rate - (x + size) * math.log(rate + size),
        share * (x - rate) * ratio,
        share * rate * ratio * ratio,
    )


@njit(cache=True, nogil=True)
def _terms(code: int, eta: float, x: float, dispersion: float) -> tuple[float, float, float]:
    """Return log probability (without `constant`), score and Fisher information at one value."""
    if code == POISSON_SOFTPLUS:
        rate, log_rate, slope = _softplus(eta)
        ratio = slope / rate if eta > DEEP else 1.0
        return x * log_rate - rate, x * ratio - slope, slope * ratio
    if code == POISSON_EXP:
        if eta > EXP_LIMIT:
            # The mean is constant beyond the limit, so nothing is learned there.
            return x * EXP_LIMIT - math.exp(EXP_LIMIT), 0.0, 0.0
        rate = math.exp(eta)
        return x * eta - rate, x - rate, rate
    if code == POISSON_SIGMOID:
        rate, log_rate, log_rest = _logistic(eta)
        rest = math.exp(log_rest)
        return x * log_rate - rate, (x - rate) * rest, rate * rest * rest
    if code == BERNOULLI:
        rate, log_rate, log_rest = _logistic(eta)
        return x * log_rate + (1.0 - x) * log_rest, x - rate, rate * (1.0 - rate)
    if code != GAUSSIAN:
        return _negbin(code, eta, x, dispersion)
    error = x - eta
    return (
        -0.5 * (error * error / dispersion + math.log(dispersion) + LOG_TWO_PI),
        error / dispersion,
        1.0 / dispersion,
    )


@njit(cache=True, nogil=True)
def log_density(code: int, eta: Floats, observed: Floats, dispersion: Floats) -> Floats:
    """Return the log probability of every value, without the constant of `constant`.

    Parameters
    ----------
    code : int
        Value of `FAMILIES`.
    eta, observed : ndarray, shape (n_bins, n_units)
        Linear predictor and observation.
    dispersion : ndarray, shape (n_units,)
        Variance of the Gaussian family, size of the negative binomial; not used by others.

    Returns
    -------
    ndarray, shape (n_bins, n_units)
    """
    out = np.empty(eta.shape)
    for t in range(eta.shape[0]):
        for n in range(eta.shape[1]):
            out[t, n] = _terms(code, eta[t, n], observed[t, n], dispersion[n])[0]
    return out


@njit(cache=True, nogil=True)
def rows_log_density(code: int, eta: Floats, observed: Floats, dispersion: Floats) -> Floats:
    """Return `log_density` summed over units, shape (n_bins,)."""
    out = np.zeros(eta.shape[0])
    for t in range(eta.shape[0]):
        for n in range(eta.shape[1]):
            if code == POISSON_SOFTPLUS and observed[t, n] == 0.0:
                # Most bins are empty: no logarithm of the rate.
                out[t] -= max(eta[t, n], 0.0) + math.log1p(math.exp(-abs(eta[t, n])))
            else:
                out[t] += _terms(code, eta[t, n], observed[t, n], dispersion[n])[0]
    return out


@njit(cache=True, nogil=True)
def weighted_terms(
    code: int, eta: Floats, observed: Floats, dispersion: Floats, weight: Floats
) -> tuple[Floats, Floats, Floats]:
    """Return what a Newton step needs, each bin counted with its weight.

    Parameters
    ----------
    code, eta, observed, dispersion
        As in `log_density`.
    weight : ndarray, shape (n_bins,)
        Probability of the state.

    Returns
    -------
    objective : ndarray, shape (n_units,)
        Weighted log probability, without the constant.
    score, information : ndarray, shape (n_bins, n_units)
        First derivative by the linear predictor, and the Fisher information.
    """
    objective = np.zeros(eta.shape[1])
    score = np.empty(eta.shape)
    information = np.empty(eta.shape)
    for t in range(eta.shape[0]):
        for n in range(eta.shape[1]):
            value, first, second = _terms(code, eta[t, n], observed[t, n], dispersion[n])
            objective[n] += weight[t] * value
            score[t, n] = weight[t] * first
            information[t, n] = weight[t] * second
    return objective, score, information


def constant(code: int, observed: Floats, dispersion: Floats) -> Floats:
    """Return the part of the log probability that does not depend on the mean, per bin.

    Parameters
    ----------
    code : int
        Value of `FAMILIES`.
    observed : ndarray, shape (n_bins, n_units)
    dispersion : ndarray, shape (n_units,)
        As in `log_density`.

    Returns
    -------
    ndarray, shape (n_bins,)
        ``-sum log x!`` for counts; for the negative binomial also what its size contributes.
    """
    if code in POISSON_CODES:
        total: Floats = -gammaln(observed + 1.0).sum(axis=1)
        return total
    if code in NEGBIN_CODES:
        whole = gammaln(observed + dispersion) - gammaln(observed + 1.0)
        fixed = (dispersion * np.log(dispersion) - gammaln(dispersion)).sum()
        return np.asarray(whole.sum(axis=1) + fixed)
    return np.zeros(observed.shape[0])


def mean(code: int, eta: Floats) -> Floats:
    """Return the mean of the observation for a linear predictor of any shape."""
    if code in (POISSON_SOFTPLUS, NEGBIN_SOFTPLUS):
        return np.logaddexp(0.0, eta)
    if code in EXP_CODES:
        return np.exp(np.minimum(eta, EXP_LIMIT))
    if code == GAUSSIAN:
        return eta
    return 0.5 * (1.0 + np.tanh(0.5 * eta))
