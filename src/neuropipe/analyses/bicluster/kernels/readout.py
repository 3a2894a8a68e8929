"""Baseline and loading of one neuron under one trajectory: Laplace approximation of its posterior.

The coefficients are ``b = (delta, c)`` with ``eta_t = offset_t + x_t0 + delta + c' x_t,1..p``;
their likelihood is log-concave for both families.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from neuropipe.analyses.bicluster.kernels.likelihood import CLIP
from neuropipe.analyses.bicluster.kernels.linalg import (
    cholesky,
    log_det,
    solve_lower,
    solve_lower_transposed,
)

__all__ = ["draw_gaussian", "laplace", "log_gaussian", "log_target"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Generator = np.random.Generator
STEPS, HALVINGS, TOLERANCE = 25, 8, 1e-4


@njit(cache=True, nogil=True)
def _bin_terms(
    y: float, eta: float, dispersion: float, poisson: bool
) -> tuple[float, float, float]:
    """Return log likelihood of a count, its slope in eta and its negative curvature."""
    rate = np.exp(eta)
    if poisson:
        return y * eta - rate, y - rate, rate
    odds = rate / dispersion
    share = odds / (1.0 + odds)
    value = y * eta - (y + dispersion) * np.log1p(odds)
    return value, y - (y + dispersion) * share, (y + dispersion) * share * (1.0 - share)


@njit(cache=True, nogil=True)
def _prior_terms(
    prior_mean: Floats, prior_precision: Floats, b: Floats, gradient: Floats, hessian: Floats
) -> float:
    """Return the log prior of b; write its gradient and negative Hessian."""
    total = 0.0
    hessian[:] = 0.0
    for i in range(b.shape[0]):
        residual = b[i] - prior_mean[i]
        gradient[i] = -prior_precision[i] * residual
        total += 0.5 * (np.log(prior_precision[i] / (2.0 * np.pi)))
        total -= 0.5 * prior_precision[i] * residual * residual
        hessian[i, i] = prior_precision[i]
    return total


@njit(cache=True, nogil=True)
def log_target(
    counts: Floats, offset: Floats, x: Floats, dispersion: float, poisson: bool, prior_mean: Floats,
    prior_precision: Floats, b: Floats, gradient: Floats, hessian: Floats,
) -> float:  # fmt: skip
    """Return log likelihood plus log prior of b; write its gradient and negative Hessian.

    Terms of the likelihood that do not hold b are left out.

    Parameters
    ----------
    counts, offset : ndarray, shape (n_bins,)
        Counts, negative where unobserved, and log exposure.
    x : ndarray, shape (n_bins, n)
        Trajectory; its first component is the common log rate.
    dispersion : float
        Size r of the neuron, not used by the Poisson family.
    poisson : bool
        Family.
    prior_mean, prior_precision : ndarray, shape (n,)
        Independent normal priors of b.
    b : ndarray, shape (n,)
        Baseline and loadings.
    gradient, hessian : ndarray, shapes (n,) and (n, n)
        Overwritten.
    """
    n_bins, size = x.shape
    total = _prior_terms(prior_mean, prior_precision, b, gradient, hessian)
    for t in range(n_bins):
        y = counts[t]
        if y < 0.0:
            continue
        eta = offset[t] + x[t, 0] + b[0]
        for m in range(1, size):
            eta += b[m] * x[t, m]
        inside = -CLIP < eta < CLIP
        eta = min(max(eta, -CLIP), CLIP)
        value, slope, weight = _bin_terms(y, eta, dispersion, poisson)
        total += value
        if not inside:
            continue
        gradient[0] += slope
        hessian[0, 0] += weight
        for i in range(1, size):
            gradient[i] += slope * x[t, i]
            scaled = weight * x[t, i]
            hessian[i, 0] += scaled
            for j in range(1, i + 1):
                hessian[i, j] += scaled * x[t, j]
    for i in range(size):
        for j in range(i):
            hessian[j, i] = hessian[i, j]
    return total


@njit(cache=True, nogil=True)
def _first_guess(counts: Floats, offset: Floats, x: Floats, b: Floats) -> None:
    """Write the baseline that matches the total count, loadings 0: depends on no chain state."""
    total, expected = 0.5, 1e-12
    for t in range(counts.shape[0]):
        if counts[t] >= 0.0:
            total += counts[t]
            expected += np.exp(min(max(offset[t] + x[t, 0], -CLIP), CLIP))
    b[:] = 0.0
    b[0] = min(max(np.log(total / expected), -10.0), 10.0)


@njit(cache=True, nogil=True)
def laplace(
    counts: Floats, offset: Floats, x: Floats, dispersion: float, poisson: bool, prior_mean: Floats,
    prior_precision: Floats, mode: Floats, lower: Floats, failures: Ints,
) -> float:  # fmt: skip
    """Write mode and Cholesky factor of the negative Hessian; return the log marginal likelihood.

    Newton steps, halved while the target falls. The start depends on counts and trajectory only,
    so that the result is the same function of them whatever the chain's current coefficients:
    the correction of the label move needs that, convergence it does not.

    Returns
    -------
    float
        ``f(mode) - log|H| / 2 + n log(2 pi) / 2``; minus infinity if not finite.
    """
    size = mode.shape[0]
    gradient, hessian = np.empty(size), np.empty((size, size))
    step, trial = np.empty(size), np.empty(size)
    _first_guess(counts, offset, x, mode)
    here = log_target(
        counts, offset, x, dispersion, poisson, prior_mean, prior_precision, mode, gradient, hessian
    )
    if not np.isfinite(here):
        return -np.inf
    for _ in range(STEPS):
        cholesky(hessian, lower, failures)
        step[:] = gradient
        solve_lower(lower, step)
        decrement = 0.0
        for i in range(size):
            decrement += step[i] * step[i]
        if decrement < TOLERANCE:
            break
        solve_lower_transposed(lower, step)
        factor, there = 1.0, -np.inf
        for _ in range(HALVINGS):
            trial[:] = mode + factor * step
            there = log_target(
                counts, offset, x, dispersion, poisson, prior_mean, prior_precision, trial,
                gradient, hessian,
            )  # fmt: skip
            if there >= here:
                break
            factor *= 0.5
        if not there >= here:
            here = log_target(
                counts, offset, x, dispersion, poisson, prior_mean, prior_precision, mode,
                gradient, hessian,
            )  # fmt: skip
            break
        here = there
        mode[:] = trial
    cholesky(hessian, lower, failures)
    found = here - 0.5 * log_det(lower) + 0.5 * size * np.log(2.0 * np.pi)
    return found if np.isfinite(found) else -np.inf


@njit(cache=True, nogil=True)
def draw_gaussian(rng: Generator, mode: Floats, lower: Floats, out: Floats) -> None:
    """Write a draw of ``N(mode, (lower lower')^{-1})`` into `out`."""
    for i in range(mode.shape[0]):
        out[i] = rng.standard_normal()
    solve_lower_transposed(lower, out)
    for i in range(mode.shape[0]):
        out[i] += mode[i]


@njit(cache=True, nogil=True)
def log_gaussian(mode: Floats, lower: Floats, b: Floats) -> float:
    """Return the log density of ``N(mode, (lower lower')^{-1})`` at b."""
    size = mode.shape[0]
    value = 0.5 * log_det(lower) - 0.5 * size * np.log(2.0 * np.pi)
    for i in range(size):
        white = 0.0
        for m in range(i, size):
            white += lower[m, i] * (b[m] - mode[m])
        value -= 0.5 * white * white
    return value
