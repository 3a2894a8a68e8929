"""Trajectories given states: filter forwards and sample backwards, in information form.

The likelihood of a group of neurons enters each bin as ``exp(-x' Lambda x / 2 + g' x)``; masked
bins have both at zero. A trial starts with ``x ~ N(0, I)``; after that
``x_t = A_k x_{t-1} + b_k + N(0, Q_k)`` with k the state of bin t.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from neuropipe.analyses.bicluster.kernels.linalg import (
    cholesky,
    invert_spd,
    log_det,
    solve_lower,
    solve_lower_transposed,
)

__all__ = [
    "DRAW",
    "EVALUATE",
    "MEAN",
    "accumulate_information",
    "filter_bin",
    "filter_forward",
    "first_bin",
    "predict_bin",
    "sample_backward",
    "sample_trajectory",
    "transition_terms",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Generator = np.random.Generator
DRAW, MEAN, EVALUATE = 0, 1, 2


@njit(cache=True, nogil=True)
def accumulate_information(
    precision: Floats,
    weighted: Floats,
    readout: Floats,
    members: Ints,
    information: Floats,
    shift: Floats,
) -> None:
    """Sum what the neurons of one group say about its trajectory.

    Parameters
    ----------
    precision : ndarray, shape (n_units, n_bins)
        Polya-Gamma variables, 0 where unobserved.
    weighted : ndarray, shape (n_units, n_bins)
        Precision times (working value - offset - baseline).
    readout : ndarray, shape (n_units, size)
        Rows h_i.
    members : ndarray of int
        Neurons of the group.
    information : ndarray, shape (n_bins, size, size)
        Overwritten with the sum of ``precision h h'``.
    shift : ndarray, shape (n_bins, size)
        Overwritten with the sum of ``weighted h``.
    """
    n_bins, size = shift.shape
    information[:] = 0.0
    shift[:] = 0.0
    for i in members:
        for t in range(n_bins):
            omega = precision[i, t]
            if omega == 0.0:
                continue
            for a in range(size):
                shift[t, a] += weighted[i, t] * readout[i, a]
                for c in range(a + 1):
                    information[t, a, c] += omega * readout[i, a] * readout[i, c]
    for t in range(n_bins):
        for a in range(size):
            for c in range(a):
                information[t, c, a] = information[t, a, c]


@njit(cache=True, nogil=True)
def transition_terms(A: Floats, Q: Floats, failures: Ints) -> tuple[Floats, Floats, Floats]:
    """Return per state ``Q^{-1}``, ``A'Q^{-1}`` and ``A'Q^{-1}A``, each (n_states, n, n)."""
    states, size = A.shape[0], A.shape[1]
    inverse = np.empty((states, size, size))
    left, both = np.empty_like(inverse), np.empty_like(inverse)
    lower, work = np.empty((size, size)), np.empty((size, size))
    for k in range(states):
        cholesky(Q[k], lower, failures)
        invert_spd(lower, inverse[k], work)
        for i in range(size):
            for j in range(size):
                value = 0.0
                for m in range(size):
                    value += A[k, m, i] * inverse[k, m, j]
                left[k, i, j] = value
        for i in range(size):
            for j in range(size):
                value = 0.0
                for m in range(size):
                    value += left[k, i, m] * A[k, m, j]
                both[k, i, j] = value
    return inverse, left, both


@njit(cache=True, nogil=True)
def predict_bin(
    A: Floats, b: Floats, Q: Floats, mean: Floats, cov: Floats, out_mean: Floats, out_cov: Floats,
    work: Floats,
) -> None:  # fmt: skip
    """Write mean and covariance one bin ahead into `out_mean` and `out_cov`."""
    size = mean.shape[0]
    for i in range(size):
        value = b[i]
        for m in range(size):
            value += A[i, m] * mean[m]
        out_mean[i] = value
        for j in range(size):
            product = 0.0
            for m in range(size):
                product += A[i, m] * cov[m, j]
            work[i, j] = product
    for i in range(size):
        for j in range(i + 1):
            value = Q[i, j]
            for m in range(size):
                value += work[i, m] * A[j, m]
            out_cov[i, j] = value
            out_cov[j, i] = value


@njit(cache=True, nogil=True)
def first_bin(mean: Floats, cov: Floats) -> None:
    """Write the prior of a trial's first bin, N(0, I)."""
    for i in range(mean.shape[0]):
        mean[i] = 0.0
        for j in range(mean.shape[0]):
            cov[i, j] = 1.0 if i == j else 0.0


@njit(cache=True, nogil=True)
def filter_bin(
    mean: Floats, cov: Floats, information: Floats, shift: Floats, precision: Floats,
    linear: Floats, lower: Floats, work: Floats, failures: Ints,
) -> float:  # fmt: skip
    """Add one bin's likelihood to its prediction, which is overwritten with the filtered moments.

    `precision` and `linear` receive the filtered natural parameters.

    Returns
    -------
    float
        Log of the integral of ``N(x; mean, cov) exp(-x' information x / 2 + shift' x)``.
    """
    size = mean.shape[0]
    cholesky(cov, lower, failures)
    invert_spd(lower, precision, work)
    prior_det = log_det(lower)
    before = 0.0
    for i in range(size):
        value = 0.0
        for m in range(size):
            value += precision[i, m] * mean[m]
        linear[i] = value
        before += value * mean[i]
    for i in range(size):
        linear[i] += shift[i]
        for j in range(size):
            precision[i, j] += information[i, j]
    cholesky(precision, lower, failures)
    invert_spd(lower, cov, work)
    after = 0.0
    for i in range(size):
        value = 0.0
        for m in range(size):
            value += cov[i, m] * linear[m]
        mean[i] = value
        after += value * linear[i]
    return 0.5 * (after - before - prior_det - log_det(lower))


@njit(cache=True, nogil=True)
def filter_forward(
    A: Floats, b: Floats, Q: Floats, states: Ints, start: Bools, information: Floats,
    shift: Floats, x: Floats, low: int, high: int, precision: Floats, linear: Floats,
    failures: Ints,
) -> float:  # fmt: skip
    """Filter bins low to high; write natural parameters; return the log marginal likelihood.

    Parameters
    ----------
    A, b, Q : ndarray, shapes (n_states, n, n), (n_states, n), (n_states, n, n)
        Dynamics of the group.
    states : ndarray of int, shape (n_bins,)
        State of each bin, not read where a trial starts.
    start : ndarray of bool, shape (n_bins,)
        First bins of trials.
    information, shift : ndarray
        From `accumulate_information`.
    x : ndarray, shape (n_bins, n)
        Read at bin ``low - 1`` only, unless a trial starts at `low`.
    low, high : int
        First bin and end.
    precision, linear : ndarray, shapes (n_bins, n, n) and (n_bins, n)
        Overwritten, within the range, with the filtered natural parameters.
    failures : ndarray, shape (2,)
        See `linalg.cholesky`.
    """
    size = shift.shape[1]
    mean, cov = np.empty(size), np.zeros((size, size))
    last_mean, last_cov = np.empty(size), np.empty((size, size))
    lower, work = np.empty((size, size)), np.empty((size, size))
    total = 0.0
    if low > 0:
        mean[:] = x[low - 1]
    for t in range(low, high):
        if start[t]:
            first_bin(mean, cov)
        else:
            k = states[t]
            last_mean[:] = mean
            last_cov[:] = cov
            predict_bin(A[k], b[k], Q[k], last_mean, last_cov, mean, cov, work)
        total += filter_bin(
            mean, cov, information[t], shift[t], precision[t], linear[t], lower, work, failures
        )
    return total


@njit(cache=True, nogil=True)
def sample_backward(
    rng: Generator, A: Floats, b: Floats, Q: Floats, states: Ints, start: Bools,
    precision: Floats, linear: Floats, x: Floats, low: int, high: int, mode: int,
    failures: Ints,
) -> float:  # fmt: skip
    """Draw bins low to high given filtered natural parameters; return the log density.

    The draw is conditional on ``x[high]`` unless a trial or the data end there. `mode` is `DRAW`;
    `MEAN`, the smoothed mean is written in place of a draw; or `EVALUATE`, the log density of the
    `x` given is returned and nothing is written.
    """
    n_bins, size = linear.shape
    _, left, both = transition_terms(A, Q, failures)
    matrix, lower = np.empty((size, size)), np.empty((size, size))
    mean, noise = np.empty(size), np.empty(size)
    density = -0.5 * (high - low) * size * np.log(2.0 * np.pi)
    for back in range(high - low):
        t = high - 1 - back
        follows = t + 1 < n_bins and not start[t + 1]
        k = states[t + 1] if follows else 0
        for i in range(size):
            mean[i] = linear[t, i]
            for j in range(size):
                matrix[i, j] = precision[t, i, j]
                if follows:
                    matrix[i, j] += both[k, i, j]
                    mean[i] += left[k, i, j] * (x[t + 1, j] - b[k, j])
        cholesky(matrix, lower, failures)
        solve_lower(lower, mean)
        solve_lower_transposed(lower, mean)
        if mode != EVALUATE:
            for i in range(size):
                noise[i] = rng.standard_normal() if mode == DRAW else 0.0
                density -= 0.5 * noise[i] * noise[i]
            solve_lower_transposed(lower, noise)
            for i in range(size):
                x[t, i] = mean[i] + noise[i]
        else:
            for i in range(size):
                value = 0.0
                for m in range(i, size):
                    value += lower[m, i] * (x[t, m] - mean[m])
                density -= 0.5 * value * value
        density += 0.5 * log_det(lower)
    return density


@njit(cache=True, nogil=True)
def sample_trajectory(
    rng: Generator, A: Floats, b: Floats, Q: Floats, states: Ints, start: Bools,
    information: Floats, shift: Floats, x: Floats, failures: Ints,
) -> None:  # fmt: skip
    """Overwrite `x` (n_bins, n) with a draw from its conditional given states and likelihood."""
    n_bins, size = shift.shape
    precision, linear = np.empty((n_bins, size, size)), np.empty((n_bins, size))
    filter_forward(
        A, b, Q, states, start, information, shift, x, 0, n_bins, precision, linear, failures
    )
    sample_backward(rng, A, b, Q, states, start, precision, linear, x, 0, n_bins, DRAW, failures)
