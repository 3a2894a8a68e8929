"""What the noise of a family has beside its mean: variances, covariances, negative binomial size.

``dispersion`` has the shape (n_states, n_units): the variance of the Gaussian family, of its own
in every state; the size r of the negative binomial, one per unit and the same in every state; 1
for other families. A Gaussian family with covariances has (n_states, n_units, n_units).
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.special import digamma, gammaln, polygamma

from neuropipe.analyses.hmm_glm.kernels.families import GAUSSIAN, NEGBIN_CODES, mean
from neuropipe.analyses.hmm_glm.kernels.glm import Observations, halved_step
from neuropipe.analyses.hmm_glm.kernels.multivariate import covariance_step
from neuropipe.analyses.hmm_glm.kernels.parallel import ordered_map

__all__ = ["moment_size", "residual_squares", "size_step", "unit_covariance", "unit_variance"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DENSE_COUNTS = 1000  # up to which all counts are tabulated, not only those that occur
LEAST_SIZE, LARGEST_SIZE = 1e-3, 1e4  # beyond the largest, a count is a Poisson count


def residual_squares(
    data: Observations, weight: Floats, theta: Floats, *, full: bool
) -> tuple[Floats, float]:
    """Return the weighted sum of squared residuals, or of their outer products, and the mass.

    Parameters
    ----------
    data : Observations
    weight : ndarray, shape (n_bins,)
    theta : ndarray, shape (n_units, n_features)
    full : bool
        Outer products.
    """

    def one(block: Ints) -> Floats:
        error = data.observed[block] - data.design[block] @ theta.T
        if full:
            return np.asarray((error * weight[block, None]).T @ error)
        return np.asarray(weight[block] @ error**2)

    rows = data.used(weight, 0.0)
    total = np.zeros((len(theta), len(theta)) if full else len(theta))
    for part in ordered_map(one, data.blocks(rows)):
        total += part
    return total, float(weight[rows].sum())


def unit_variance(data: Observations, weight: Floats, theta: Floats, *, floor: Floats) -> Floats:
    """Return the residual variance of every unit in one state, at least ``floor``.

    Parameters
    ----------
    data, weight, theta
        As in `residual_squares`.
    floor : ndarray, shape (n_units,)

    Returns
    -------
    ndarray, shape (n_units,)
        Ones for families without a variance.
    """
    if data.code != GAUSSIAN:
        return np.ones(theta.shape[0])
    total, mass = residual_squares(data, weight, theta, full=False)
    return np.maximum(total / max(mass, 1e-300), floor)


def unit_covariance(data: Observations, weight: Floats, theta: Floats, *, scale: Floats) -> Floats:
    """Return the residual covariance in one state; see `multivariate.covariance_step`.

    Parameters
    ----------
    data, weight, theta
        As in `residual_squares`.
    scale : ndarray, shape (n_units,)
        Variances to which few bins are drawn.
    """
    total, mass = residual_squares(data, weight, theta, full=True)
    return covariance_step(total, mass, scale)


def moment_size(observed: Floats) -> Floats:
    """Return the size whose variance, mean + mean**2 / size, is that of the counts.

    Parameters
    ----------
    observed : ndarray, shape (n_bins, n_units)

    Returns
    -------
    ndarray, shape (n_units,)
        Between 0.1 and 100.
    """
    middle, spread = observed.mean(axis=0), observed.var(axis=0)
    return np.clip(middle**2 / np.maximum(spread - middle, 1e-12), 0.1, 100.0)


@njit(cache=True, nogil=True)
def _mean_part(rate: Floats, observed: Floats, weight: Floats, size: Floats) -> Floats:
    """Return value and two derivatives, by size, of what depends on the mean: (3, n_units)."""
    out = np.zeros((3, size.size))
    for t in range(rate.shape[0]):
        for n in range(size.size):
            both = rate[t, n] + size[n]
            ratio = (observed[t, n] + size[n]) / both
            log_share = np.log(size[n] / both)
            out[0, n] += weight[t] * (size[n] * log_share - observed[t, n] * np.log(both))
            out[1, n] += weight[t] * (log_share + 1.0 - ratio)
            out[2, n] += weight[t] * (1.0 / size[n] - (2.0 - ratio) / both)
    return out


def _count_part(values: Floats, counts: Floats, size: Floats) -> Floats:
    """Return value and derivatives of log Gamma(x + r) - log Gamma(r), summed: (3, n_units).

    ``counts[n, i]`` is how many bins of unit n have ``values[i]`` counts.
    """
    at = values + size[:, None]
    functions = (gammaln, digamma, lambda value: polygamma(1, value))
    sums = [(counts * (f(at) - f(size)[:, None])).sum(axis=1) for f in functions]
    return np.stack(sums)


def _tally(observed: Floats) -> tuple[Floats, Floats]:
    """Return the counts that occur, and in how many bins of each unit."""
    largest = int(observed.max(initial=0.0))
    values = np.arange(largest + 1.0) if largest < DENSE_COUNTS else np.unique(observed)
    rows = [np.searchsorted(values, column) for column in observed.T]
    return values, np.stack([np.bincount(row, minlength=values.size) for row in rows]).astype(float)


def size_step(data: Observations, probability: Floats, theta: Floats, size: Floats) -> Floats:
    """Take one Newton step of the logarithm of every unit's negative binomial size.

    Parameters
    ----------
    data : Observations
    probability : ndarray, shape (n_bins, n_states)
        Rows sum to 1.
    theta : ndarray, shape (n_states, n_units, n_features)
    size : ndarray, shape (n_units,)

    Returns
    -------
    ndarray, shape (n_units,)
        Sizes at which the expected log probability is not less.
    """
    if data.code not in NEGBIN_CODES:
        raise ValueError(f"family {data.code} has no size")
    rows = np.flatnonzero(data.valid)
    values, counts = _tally(data.observed[rows])

    def terms(value: Floats) -> Floats:
        def one(block: Ints) -> Floats:
            design, observed = data.design[block], data.observed[block]
            sums = np.zeros((3, value.size))
            for s in range(len(theta)):
                rate = mean(data.code, design @ theta[s].T)
                sums += _mean_part(rate, observed, probability[block, s], value)
            return sums

        total = _count_part(values, counts, value)
        for part in ordered_map(one, data.blocks(rows)):
            total += part
        return total

    value, first, second = terms(size)
    slope, curvature = size * first, size**2 * second + size * first
    step = np.where(curvature < 0, -slope / np.minimum(curvature, -1e-300), np.sign(slope))
    log = np.log(size)
    aim = np.clip(log + np.clip(step, -1, 1), np.log(LEAST_SIZE), np.log(LARGEST_SIZE))
    found = halved_step(
        lambda trial: terms(np.exp(trial[:, 0]))[0], log[:, None], (aim - log)[:, None], value
    )
    return np.exp(found[:, 0])
