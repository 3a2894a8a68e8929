"""Linear dynamics per group and state: matrix normal inverse Wishart draws."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.special import multigammaln

from neuropipe.analyses.bicluster.kernels.linalg import (
    cholesky,
    invert_lower,
    solve_lower,
    solve_lower_transposed,
)

__all__ = [
    "draw_path",
    "draw_prior_dynamics",
    "log_dynamics_conditional",
    "sample_dynamics",
    "state_moments",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Generator = np.random.Generator


@njit(cache=True, nogil=True)
def state_moments(
    x: Floats, states: Ints, start: Bools, n_states: int
) -> tuple[Ints, Floats, Floats, Floats]:
    """Return steps per state and sums of ``u u'``, ``x u'``, ``x x'`` with ``u = (x_{t-1}, 1)``.

    Shapes (n_states,), (n_states, n + 1, n + 1), (n_states, n, n + 1), (n_states, n, n). Bin t
    counts for its own state: the state of t governs the step from t - 1 to t.
    """
    n_bins, size = x.shape
    steps = np.zeros(n_states, np.int64)
    inputs = np.zeros((n_states, size + 1, size + 1))
    cross = np.zeros((n_states, size, size + 1))
    outputs = np.zeros((n_states, size, size))
    for t in range(n_bins):
        if start[t]:
            continue
        k = states[t]
        steps[k] += 1
        inputs[k, size, size] += 1.0
        for i in range(size):
            before, now = x[t - 1, i], x[t, i]
            inputs[k, i, size] += before
            inputs[k, size, i] += before
            cross[k, i, size] += now
            for j in range(size):
                inputs[k, i, j] += before * x[t - 1, j]
                cross[k, i, j] += now * x[t - 1, j]
                outputs[k, i, j] += now * x[t, j]
    return steps, inputs, cross, outputs


@njit(cache=True, nogil=True)
def _draw_mniw(  # noqa: C901 - plain loops of one recursion
    rng: Generator, dof: float, scale: Floats, mean: Floats, column: Floats, A: Floats, b: Floats,
    Q: Floats, failures: Ints,
) -> None:  # fmt: skip
    """Draw ``Q ~ IW(dof, scale)`` and ``[A b] ~ MN(mean, Q, column^{-1})`` into A, b, Q.

    Bartlett: with scale = C C' and B lower triangular, ``Q = (C B^{-T})(C B^{-T})'``.
    """
    size = scale.shape[0]
    root, bartlett = np.empty((size, size)), np.zeros((size, size))
    inverse, spread = np.empty((size, size)), np.empty((size, size))
    cholesky(scale, root, failures)
    for i in range(size):
        bartlett[i, i] = np.sqrt(2.0 * rng.standard_gamma(0.5 * (dof - i)))
        for j in range(i):
            bartlett[i, j] = rng.standard_normal()
    invert_lower(bartlett, inverse)
    for i in range(size):
        for j in range(size):
            value = 0.0
            for m in range(i + 1):
                value += root[i, m] * inverse[j, m]
            spread[i, j] = value
    for i in range(size):
        for j in range(i + 1):
            value = 0.0
            for m in range(size):
                value += spread[i, m] * spread[j, m]
            Q[i, j] = value
            Q[j, i] = value
    lower, noise = np.empty((size + 1, size + 1)), np.empty(size + 1)
    cholesky(column, lower, failures)
    A[:] = mean[:, :size]
    b[:] = mean[:, size]
    for m in range(size):
        for c in range(size + 1):
            noise[c] = rng.standard_normal()
        solve_lower_transposed(lower, noise)
        for i in range(size):
            b[i] += spread[i, m] * noise[size]
            for c in range(size):
                A[i, c] += spread[i, m] * noise[c]


@njit(cache=True, nogil=True)
def sample_dynamics(
    rng: Generator, x: Floats, states: Ints, start: Bools, nu_extra: float, q0: float, A: Floats,
    b: Floats, Q: Floats, failures: Ints,
) -> None:  # fmt: skip
    """Overwrite the dynamics of one group with a draw given its trajectory and the states.

    Parameters
    ----------
    rng : Generator
        Random numbers.
    x : ndarray, shape (n_bins, n)
        Trajectory.
    states, start : ndarray, shape (n_bins,)
        State of each bin; first bins of trials.
    nu_extra, q0 : float
        Prior ``Q ~ IW(n + nu_extra, q0 I)``, ``[A b] | Q ~ MN([I 0], Q, I)``.
    A, b, Q : ndarray, shapes (n_states, n[, n])
        Overwritten; states without bins are drawn from the prior.
    failures : ndarray, shape (2,)
        See `linalg.cholesky`.
    """
    size, n_states = x.shape[1], A.shape[0]
    steps, inputs, cross, outputs = state_moments(x, states, start, n_states)
    lower, rows = np.empty((size + 1, size + 1)), np.empty((size, size + 1))
    mean, scale = np.empty((size, size + 1)), np.empty((size, size))
    for k in range(n_states):
        column = inputs[k]
        for i in range(size + 1):
            column[i, i] += 1.0
        cholesky(column, lower, failures)
        for i in range(size):
            for c in range(size + 1):
                rows[i, c] = cross[k, i, c] + (1.0 if c == i else 0.0)
            solve_lower(lower, rows[i])
        for i in range(size):
            for j in range(size):
                # S0 + YY' + M0 K0 M0' - Mn Kn Mn', the last as the square of the half solution.
                value = 0.5 * (outputs[k, i, j] + outputs[k, j, i])
                if i == j:
                    value += q0 + 1.0
                for c in range(size + 1):
                    value -= rows[i, c] * rows[j, c]
                scale[i, j] = value
        for i in range(size):
            mean[i] = rows[i]
            solve_lower_transposed(lower, mean[i])
        _draw_mniw(rng, size + nu_extra + steps[k], scale, mean, column, A[k], b[k], Q[k], failures)


@njit(cache=True, nogil=True)
def draw_prior_dynamics(
    rng: Generator, nu_extra: float, q0: float, A: Floats, b: Floats, Q: Floats, failures: Ints
) -> None:
    """Overwrite the dynamics of one group (all states) with a draw from the prior."""
    n_states, size = b.shape
    mean, scale = np.zeros((size, size + 1)), np.zeros((size, size))
    column = np.eye(size + 1)
    for i in range(size):
        mean[i, i] = 1.0
        scale[i, i] = q0
    for k in range(n_states):
        _draw_mniw(rng, size + nu_extra, scale, mean, column, A[k], b[k], Q[k], failures)


@njit(cache=True, nogil=True)
def draw_path(
    rng: Generator, A: Floats, b: Floats, Q: Floats, states: Ints, start: Bools, x: Floats,
    failures: Ints,
) -> None:  # fmt: skip
    """Overwrite `x` (n_bins, n) with a trajectory drawn from the dynamics."""
    n_bins, size = x.shape
    roots = np.empty_like(Q)
    noise = np.empty(size)
    for k in range(A.shape[0]):
        cholesky(Q[k], roots[k], failures)
    for t in range(n_bins):
        for i in range(size):
            noise[i] = rng.standard_normal()
        if start[t]:
            x[t] = noise
            continue
        k = states[t]
        for i in range(size):
            value = b[k, i]
            for m in range(size):
                value += A[k, i, m] * x[t - 1, m]
            for m in range(i + 1):
                value += roots[k, i, m] * noise[m]
            x[t, i] = value


def log_dynamics_conditional(
    x: Floats, states: Ints, start: Bools, nu_extra: float, q0: float, A: Floats, b: Floats,
    Q: Floats,
) -> float:  # fmt: skip
    """Return the log of conditional over prior density of one group's dynamics.

    By Bayes, per state, the density of the steps given the dynamics over their density with the
    dynamics integrated out.

    Parameters
    ----------
    x : ndarray, shape (n_bins, n)
        Trajectory.
    states, start : ndarray, shape (n_bins,)
        State of each bin; first bins of trials.
    nu_extra, q0 : float
        Prior, as in `sample_dynamics`.
    A, b, Q : ndarray, shapes (n_states, n[, n])
        Where to evaluate.
    """
    size = x.shape[1]
    steps, inputs, cross, outputs = state_moments(x, states, start, len(A))
    anchor = np.eye(size, size + 1)
    dof, value = size + nu_extra, 0.0
    for k in np.flatnonzero(steps):
        n = steps[k]
        map_ = np.column_stack([A[k], b[k]])
        residual = outputs[k] - map_ @ cross[k].T - cross[k] @ map_.T + map_ @ inputs[k] @ map_.T
        value -= 0.5 * (n * np.linalg.slogdet(Q[k])[1] + np.trace(np.linalg.solve(Q[k], residual)))
        column = inputs[k] + np.eye(size + 1)
        rows = cross[k] + anchor
        scale = q0 * np.eye(size) + outputs[k] + np.eye(size)
        scale = scale - rows @ np.linalg.solve(column, rows.T)
        # The normal constants of the steps, (2 pi)^(-n size / 2), are in both densities.
        value -= multigammaln(0.5 * (dof + n), size) - multigammaln(0.5 * dof, size)
        value -= 0.5 * n * size * np.log(2.0) + 0.5 * dof * size * np.log(q0)
        value += 0.5 * (dof + n) * np.linalg.slogdet(scale)[1]
        value += 0.5 * size * np.linalg.slogdet(column)[1]
    return float(value)
