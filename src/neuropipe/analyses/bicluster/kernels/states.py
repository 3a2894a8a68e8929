"""States given trajectories (blocked), and states with the trajectories integrated out (scan)."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from neuropipe.analyses.bicluster.kernels.linalg import (
    cholesky,
    invert_lower,
    log_det,
    solve_lower,
)
from neuropipe.analyses.bicluster.kernels.trajectory import (
    filter_bin,
    first_bin,
    predict_bin,
)

__all__ = [
    "backward_information",
    "draw_index",
    "log_transition_densities",
    "report_first_bins",
    "sample_states_blocked",
    "scan_states",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Generator = np.random.Generator


@njit(cache=True, nogil=True)
def draw_index(rng: Generator, log_weights: Floats) -> int:
    """Draw an index with probability proportional to ``exp(log_weights)``."""
    top = -np.inf
    for value in log_weights:
        top = max(top, value)
    total = 0.0
    for value in log_weights:
        total += np.exp(value - top)
    left = rng.random() * total
    last = 0
    for k in range(log_weights.shape[0]):
        weight = np.exp(log_weights[k] - top)
        if weight > 0.0:
            last = k
            left -= weight
            if left < 0.0:
                return k
    return last


@njit(cache=True, nogil=True)
def log_transition_densities(  # noqa: C901 - plain loops of one recursion
    x: Floats, active: Ints, A: Floats, b: Floats, Q: Floats, start: Bools, failures: Ints
) -> Floats:
    """Return ``sum_j log N(x_t; A_k x_{t-1} + b_k, Q_k)``, (n_bins, n_states), 0 at starts.

    Parameters
    ----------
    x : ndarray, shape (n_groups, n_bins, n)
        Trajectories.
    active : ndarray of int
        Groups that count.
    A, b, Q : ndarray, shapes (n_groups, n_states, n[, n])
        Dynamics.
    start : ndarray of bool, shape (n_bins,)
        First bins of trials.
    failures : ndarray, shape (2,)
        See `linalg.cholesky`.
    """
    n_bins, size = x.shape[1], x.shape[2]
    n_states = A.shape[1]
    out = np.zeros((n_bins, n_states))
    lower, white = np.empty((size, size)), np.empty((size, size))
    drift, shifted = np.empty((size, size)), np.empty(size)
    for j in active:
        for k in range(n_states):
            cholesky(Q[j, k], lower, failures)
            invert_lower(lower, white)
            constant = -0.5 * (size * np.log(2.0 * np.pi) + log_det(lower))
            for i in range(size):
                shifted[i] = 0.0
                for m in range(i + 1):
                    shifted[i] += white[i, m] * b[j, k, m]
                for c in range(size):
                    value = 0.0
                    for m in range(i + 1):
                        value += white[i, m] * A[j, k, m, c]
                    drift[i, c] = value
            for t in range(n_bins):
                if start[t]:
                    continue
                square = 0.0
                for i in range(size):
                    value = -shifted[i]
                    for m in range(i + 1):
                        value += white[i, m] * x[j, t, m]
                    for m in range(size):
                        value -= drift[i, m] * x[j, t - 1, m]
                    square += value * value
                out[t, k] += constant - 0.5 * square
    return out


@njit(cache=True, nogil=True)
def report_first_bins(states: Ints, start: Bools) -> None:
    """Give the first bin of each trial, which has no state, the state of the next bin."""
    n_bins = states.shape[0]
    for back in range(n_bins):
        t = n_bins - 1 - back
        if start[t] and t + 1 < n_bins:
            states[t] = states[t + 1]


@njit(cache=True, nogil=True)
def sample_states_blocked(  # noqa: C901 - plain loops of one recursion
    rng: Generator, log_density: Floats, transition: Floats, start: Bools, states: Ints
) -> None:
    """Overwrite `states` with a draw given trajectories: filter forwards, sample backwards.

    Parameters
    ----------
    rng : Generator
        Random numbers.
    log_density : ndarray, shape (n_bins, n_states)
        From `log_transition_densities`.
    transition : ndarray, shape (n_states, n_states)
        Rows are probabilities of the next state.
    start : ndarray of bool, shape (n_bins,)
        First bins of trials; the bin after has a uniform state.
    states : ndarray of int, shape (n_bins,)
        Overwritten.
    """
    n_bins, n_states = log_density.shape
    filtered = np.empty((n_bins, n_states))
    weights = np.empty(n_states)
    for t in range(n_bins):
        if start[t]:
            continue
        first = start[t - 1]
        top = -np.inf
        for k in range(n_states):
            mass = 1.0
            if not first:
                mass = 0.0
                for m in range(n_states):
                    mass += filtered[t - 1, m] * transition[m, k]
            weights[k] = log_density[t, k] + np.log(mass) if mass > 0.0 else -np.inf
            top = max(top, weights[k])
        total = 0.0
        for k in range(n_states):
            filtered[t, k] = np.exp(weights[k] - top)
            total += filtered[t, k]
        for k in range(n_states):
            filtered[t, k] /= total
    for back in range(n_bins):
        t = n_bins - 1 - back
        if start[t]:
            continue
        follows = t + 1 < n_bins and not start[t + 1]
        for k in range(n_states):
            mass = filtered[t, k]
            if follows:
                mass *= transition[k, states[t + 1]]
            weights[k] = np.log(mass) if mass > 0.0 else -np.inf
        states[t] = draw_index(rng, weights)
    report_first_bins(states, start)


@njit(cache=True, nogil=True)
def backward_information(  # noqa: C901 - plain loops of one recursion
    A: Floats, b: Floats, Q: Floats, states: Ints, start: Bools, information: Floats,
    shift: Floats, theta: Floats, linear: Floats, failures: Ints,
) -> None:  # fmt: skip
    """Write the messages ``p(y_t.. | x_t, states) = exp(-x' theta x / 2 + linear' x)``.

    Shapes as in `trajectory.filter_forward`; `theta` (n_bins, n, n), `linear` (n_bins, n).
    """
    n_bins, size = shift.shape
    roots = np.empty_like(Q)
    for k in range(Q.shape[0]):
        cholesky(Q[k], roots[k], failures)
    inner, factor = np.empty((size, size)), np.empty((size, size))
    half, gain = np.empty((size, size)), np.empty((size, size))
    vector, white = np.empty(size), np.empty(size)
    for back in range(n_bins):
        t = n_bins - 1 - back
        theta[t] = information[t]
        linear[t] = shift[t]
        if t + 1 == n_bins or start[t + 1]:
            continue
        k = states[t + 1]
        _half_gain(theta[t + 1], roots[k], inner, factor, half, failures)
        for i in range(size):
            vector[i] = linear[t + 1, i]
            for m in range(size):
                vector[i] -= theta[t + 1, i, m] * b[k, m]
        for i in range(size):
            white[i] = 0.0
            for m in range(i, size):
                white[i] += roots[k, m, i] * vector[m]
        solve_lower(factor, white)
        for i in range(size):
            for m in range(size):
                vector[i] -= half[m, i] * white[m]
            for j in range(size):
                value = theta[t + 1, i, j]
                for m in range(size):
                    value -= half[m, i] * half[m, j]
                gain[i, j] = value
        _pull_back(A[k], gain, vector, half, theta[t], linear[t])


@njit(cache=True, nogil=True)
def _half_gain(
    theta: Floats, root: Floats, inner: Floats, factor: Floats, half: Floats, failures: Ints
) -> None:
    """Write C, the Cholesky factor of ``I + L' theta L``, and ``half = C^{-1} L' theta``.

    With Q = L L': ``(I + theta Q)^{-1} theta = theta - half' half``.
    """
    size = theta.shape[0]
    for i in range(size):
        for j in range(size):
            value = 0.0
            for m in range(i, size):
                value += root[m, i] * theta[m, j]
            half[i, j] = value
    for i in range(size):
        for j in range(i + 1):
            value = 1.0 if i == j else 0.0
            for m in range(j, size):
                value += half[i, m] * root[m, j]
            inner[i, j] = value
    cholesky(inner, factor, failures)
    for j in range(size):
        solve_lower(factor, half[:, j])


@njit(cache=True, nogil=True)
def _pull_back(
    A: Floats, gain: Floats, vector: Floats, work: Floats, theta: Floats, linear: Floats
) -> None:
    """Add ``A' gain A`` to `theta` and ``A' vector`` to `linear`; `work` is overwritten."""
    size = linear.shape[0]
    for i in range(size):
        for j in range(size):
            value = 0.0
            for m in range(size):
                value += gain[i, m] * A[m, j]
            work[i, j] = value
    for i in range(size):
        for m in range(size):
            linear[i] += A[m, i] * vector[m]
        for j in range(size):
            value = 0.0
            for m in range(size):
                value += A[m, i] * work[m, j]
            theta[i, j] += value


@njit(cache=True, nogil=True)
def _log_evidence(  # noqa: C901 - plain loops of one recursion
    mean: Floats, cov: Floats, theta: Floats, linear: Floats, lower: Floats, inner: Floats,
    factor: Floats, vector: Floats, failures: Ints,
) -> float:  # fmt: skip
    """Return the log of the integral of ``N(x; mean, cov) exp(-x' theta x / 2 + linear' x)``."""
    size = mean.shape[0]
    cholesky(cov, lower, failures)
    value = 0.0
    for i in range(size):
        product = 0.0
        for m in range(size):
            product += theta[i, m] * mean[m]
        vector[i] = linear[i] - product
        value += mean[i] * (linear[i] - 0.5 * product)
    # With cov = L L': (cov^{-1} + theta)^{-1} = L (I + L' theta L)^{-1} L'.
    for i in range(size):
        for j in range(size):
            product = 0.0
            for m in range(j, size):
                product += theta[i, m] * lower[m, j]
            factor[i, j] = product
    for i in range(size):
        for j in range(i + 1):
            product = 1.0 if i == j else 0.0
            for m in range(i, size):
                product += lower[m, i] * factor[m, j]
            inner[i, j] = product
    for i in range(size):
        product = 0.0
        for m in range(i, size):
            product += lower[m, i] * vector[m]
        vector[i] = product
    cholesky(inner, factor, failures)
    solve_lower(factor, vector)
    for i in range(size):
        value += 0.5 * vector[i] * vector[i]
    return value - 0.5 * log_det(factor)


@njit(cache=True, nogil=True)
def _add_evidence(
    t: int, active: Ints, A: Floats, b: Floats, Q: Floats, mean: Floats, cov: Floats,
    theta: Floats, pulled: Floats, ahead: Floats, ahead_cov: Floats, lower: Floats, inner: Floats,
    factor: Floats, vector: Floats, weights: Floats, failures: Ints,
) -> None:  # fmt: skip
    """Add to the weight of each state the log evidence of bin t and all after it."""
    for k in range(weights.shape[0]):
        for a in range(active.shape[0]):
            j = active[a]
            predict_bin(A[j, k], b[j, k], Q[j, k], mean[a], cov[a], ahead, ahead_cov, factor)
            weights[k] += _log_evidence(
                ahead, ahead_cov, theta[a, t], pulled[a, t], lower, inner, factor, vector, failures
            )


@njit(cache=True, nogil=True)
def _advance(
    t: int, active: Ints, A: Floats, b: Floats, Q: Floats, states: Ints, start: Bools,
    mean: Floats, cov: Floats, ahead: Floats, ahead_cov: Floats, lower: Floats, inner: Floats,
    factor: Floats, information: Floats, shift: Floats, precision: Floats, linear: Floats,
    failures: Ints,
) -> None:  # fmt: skip
    """Filter bin t of every group under its state."""
    k = states[t]
    for a in range(active.shape[0]):
        if start[t]:
            first_bin(mean[a], cov[a])
        else:
            j = active[a]
            predict_bin(A[j, k], b[j, k], Q[j, k], mean[a], cov[a], ahead, ahead_cov, factor)
            mean[a] = ahead
            cov[a] = ahead_cov
        filter_bin(
            mean[a], cov[a], information[a, t], shift[a, t], precision[a, t], linear[a, t], lower,
            inner, failures,
        )  # fmt: skip


@njit(cache=True, nogil=True)
def scan_states(
    rng: Generator, active: Ints, A: Floats, b: Floats, Q: Floats, transition: Floats,
    start: Bools, information: Floats, shift: Floats, states: Ints, precision: Floats,
    linear: Floats, failures: Ints,
) -> None:  # fmt: skip
    """Redraw every state in turn with all trajectories integrated out.

    After Fox, Sudderth, Jordan & Willsky (2011). Ends with the filtered natural parameters of
    every group under the new states, ready for `trajectory.sample_backward`: together an exact
    draw of states and trajectories given the Gaussian likelihood.

    Parameters
    ----------
    rng, active
        Random numbers; groups that count, (n_active,).
    A, b, Q : ndarray, shapes (n_groups, n_states, n[, n])
        Dynamics.
    transition : ndarray, shape (n_states, n_states)
        Transition probabilities.
    start : ndarray of bool, shape (n_bins,)
        First bins of trials.
    information, shift : ndarray, shapes (n_active, n_bins, n[, n])
        Likelihood of each active group.
    states : ndarray of int, shape (n_bins,)
        Current states, overwritten.
    precision, linear : ndarray, shapes (n_active, n_bins, n[, n])
        Overwritten with filtered natural parameters.
    failures : ndarray, shape (2,)
        See `linalg.cholesky`.
    """
    groups, n_bins, size = shift.shape
    n_states = transition.shape[0]
    theta, pulled = np.empty_like(information), np.empty_like(shift)
    for a in range(groups):
        j = active[a]
        backward_information(
            A[j], b[j], Q[j], states, start, information[a], shift[a], theta[a], pulled[a], failures
        )
    log_transition = np.log(np.maximum(transition, 1e-300))
    mean, cov = np.empty((groups, size)), np.empty((groups, size, size))
    ahead, ahead_cov = np.empty(size), np.empty((size, size))
    lower, inner = np.empty((size, size)), np.empty((size, size))
    factor, vector = np.empty((size, size)), np.empty(size)
    weights = np.empty(n_states)
    for t in range(n_bins):
        if not start[t]:
            for k in range(n_states):
                weights[k] = 0.0 if start[t - 1] else log_transition[states[t - 1], k]
                if t + 1 < n_bins and not start[t + 1]:
                    weights[k] += log_transition[k, states[t + 1]]
            _add_evidence(
                t, active, A, b, Q, mean, cov, theta, pulled, ahead, ahead_cov, lower, inner,
                factor, vector, weights, failures,
            )  # fmt: skip
            states[t] = draw_index(rng, weights)
        _advance(
            t, active, A, b, Q, states, start, mean, cov, ahead, ahead_cov, lower, inner, factor,
            information, shift, precision, linear, failures,
        )  # fmt: skip
    report_first_bins(states, start)
