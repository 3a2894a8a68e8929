"""Gaussian approximation of a trajectory given coefficients, states and dynamics.

Newton's method on the whole path: at each step the likelihood is replaced by its quadratic
expansion and the path by the mean of the Kalman smoother. The start is the zero path, so that the
result is a function of counts, coefficients, states and dynamics alone, as the split-merge move
needs it.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from neuropipe.analyses.bicluster.kernels.likelihood import CLIP
from neuropipe.analyses.bicluster.kernels.states import log_transition_densities
from neuropipe.analyses.bicluster.kernels.trajectory import MEAN, filter_forward, sample_backward

__all__ = ["approximate_path", "expand_likelihood", "log_path_prior"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Generator = np.random.Generator
NEWTON_STEPS = 30
LARGEST_STEP = 1.0


@njit(cache=True, nogil=True)
def expand_likelihood(
    counts: Floats, offset: Floats, coefficients: Floats, dispersion: Floats, poisson: bool,
    members: Ints, x: Floats, information: Floats, shift: Floats,
) -> float:  # fmt: skip
    """Write the quadratic expansion of the members' likelihood around `x`; return its log.

    Parameters
    ----------
    counts, offset : ndarray, shape (n_units, n_bins)
        Counts, negative where unobserved, and log exposure.
    coefficients : ndarray, shape (n_units, n)
        Baseline and loadings.
    dispersion : ndarray, shape (n_units,)
        Sizes r.
    poisson : bool
        Family.
    members : ndarray of int
        Neurons that read the trajectory.
    x : ndarray, shape (n_bins, n)
        Where to expand.
    information, shift : ndarray, shapes (n_bins, n, n) and (n_bins, n)
        Overwritten.
    """
    n_bins, size = x.shape
    information[:] = 0.0
    shift[:] = 0.0
    readout = np.ones(size)
    total = 0.0
    for i in members:
        readout[1:] = coefficients[i, 1:]
        r = dispersion[i]
        for t in range(n_bins):
            y = counts[i, t]
            if y < 0.0:
                continue
            linear = x[t, 0]
            for m in range(1, size):
                linear += readout[m] * x[t, m]
            eta = min(max(offset[i, t] + coefficients[i, 0] + linear, -CLIP), CLIP)
            rate = np.exp(eta)
            total += y * eta - math.lgamma(y + 1.0)
            if poisson:
                total -= rate
                slope, weight = y - rate, rate
            else:
                total += math.lgamma(y + r) - math.lgamma(r) - y * np.log(r)
                total -= (y + r) * np.log1p(rate / r)
                share = rate / (r + rate)
                slope, weight = y - (y + r) * share, (y + r) * share * (1.0 - share)
            for a in range(size):
                shift[t, a] += (slope + weight * linear) * readout[a]
                for c in range(size):
                    information[t, a, c] += weight * readout[a] * readout[c]
    return total


@njit(cache=True, nogil=True)
def approximate_path(
    rng: Generator, counts: Floats, offset: Floats, coefficients: Floats, dispersion: Floats,
    poisson: bool, members: Ints, A: Floats, b: Floats, Q: Floats, states: Ints, start: Bools,
    failures: Ints,
) -> tuple[Floats, Floats]:  # fmt: skip
    """Return filtered natural parameters of the approximation, for `trajectory.sample_backward`.

    Parameters as in `expand_likelihood`; `A`, `b`, `Q`, `states`, `start` as in
    `trajectory.filter_forward`. The generator is passed on and not used.
    """
    n_bins, size = counts.shape[1], coefficients.shape[1]
    x, target = np.zeros((n_bins, size)), np.zeros((n_bins, size))
    information, shift = np.empty((n_bins, size, size)), np.empty((n_bins, size))
    precision, linear = np.empty((n_bins, size, size)), np.empty((n_bins, size))
    for _ in range(NEWTON_STEPS):
        expand_likelihood(
            counts, offset, coefficients, dispersion, poisson, members, x, information, shift
        )
        filter_forward(
            A, b, Q, states, start, information, shift, x, 0, n_bins, precision, linear, failures
        )
        sample_backward(
            rng, A, b, Q, states, start, precision, linear, target, 0, n_bins, MEAN, failures
        )
        largest = np.abs(target - x).max()
        x += (target - x) * min(1.0, LARGEST_STEP / max(largest, 1e-12))
        if largest < 1e-3:
            break
    return precision, linear


@njit(cache=True, nogil=True)
def log_path_prior(
    x: Floats, A: Floats, b: Floats, Q: Floats, states: Ints, start: Bools, failures: Ints
) -> float:
    """Return the log density of one trajectory (n_bins, n) given states and dynamics."""
    n_bins, size = x.shape
    stack = np.empty((1, n_bins, size))
    stack[0] = x
    density = log_transition_densities(
        stack, np.zeros(1, np.int64), A.reshape((1, *A.shape)), b.reshape((1, *b.shape)),
        Q.reshape((1, *Q.shape)), start, failures,
    )  # fmt: skip
    total = 0.0
    for t in range(n_bins):
        if start[t]:
            for m in range(size):
                total -= 0.5 * (x[t, m] * x[t, m] + np.log(2.0 * np.pi))
        else:
            total += density[t, states[t]]
    return total
