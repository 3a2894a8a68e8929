"""Evidence of trajectories and state sequences, with dynamics and transitions integrated out."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from neuropipe.analyses.bicluster.kernels.dynamics import state_moments
from neuropipe.analyses.bicluster.kernels.linalg import cholesky, log_det, solve_lower
from neuropipe.analyses.bicluster.kernels.transitions import count_transitions

__all__ = [
    "log_counts_evidence",
    "log_sequence_evidence",
    "log_steps_evidence",
    "log_trajectory_evidence",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@njit(cache=True, nogil=True)
def log_steps_evidence(
    steps: float, inputs: Floats, cross: Floats, outputs: Floats, nu_extra: float, q0: float,
    failures: Ints,
) -> float:  # fmt: skip
    """Return the log density of one state's steps with ``{A, b, Q}`` integrated out.

    The normalising constants of the matrix normal inverse Wishart, posterior over prior.

    Parameters
    ----------
    steps : float
        Number of steps n.
    inputs, cross, outputs : ndarray, shapes (n + 1, n + 1), (n, n + 1), (n, n)
        Sums of ``u u'``, ``x u'``, ``x x'``, see `dynamics.state_moments`.
    nu_extra, q0 : float
        Prior, as in `dynamics.sample_dynamics`.
    failures : ndarray, shape (2,)
        See `linalg.cholesky`.
    """
    if steps == 0.0:
        return 0.0
    size = outputs.shape[0]
    column, lower = np.empty((size + 1, size + 1)), np.empty((size + 1, size + 1))
    rows = np.empty((size, size + 1))
    for i in range(size + 1):
        for j in range(size + 1):
            column[i, j] = inputs[i, j] + (1.0 if i == j else 0.0)
    cholesky(column, lower, failures)
    value = -0.5 * steps * size * np.log(np.pi) - 0.5 * size * log_det(lower)
    for i in range(size):
        for c in range(size + 1):
            rows[i, c] = cross[i, c] + (1.0 if c == i else 0.0)
        solve_lower(lower, rows[i])
    scale, root = np.empty((size, size)), np.empty((size, size))
    for i in range(size):
        for j in range(i + 1):
            total = 0.5 * (outputs[i, j] + outputs[j, i]) + (q0 + 1.0 if i == j else 0.0)
            for c in range(size + 1):
                total -= rows[i, c] * rows[j, c]
            scale[i, j] = total
    cholesky(scale, root, failures)
    dof = size + nu_extra
    value += 0.5 * dof * size * np.log(q0) - 0.5 * (dof + steps) * log_det(root)
    for i in range(size):
        value += math.lgamma(0.5 * (dof + steps - i)) - math.lgamma(0.5 * (dof - i))
    return value


@njit(cache=True, nogil=True)
def log_trajectory_evidence(
    x: Floats, states: Ints, start: Bools, n_states: int, nu_extra: float, q0: float,
    failures: Ints,
) -> Floats:  # fmt: skip
    """Return `log_steps_evidence` of each state for one trajectory (n_bins, n), (n_states,)."""
    steps, inputs, cross, outputs = state_moments(x, states, start, n_states)
    found = np.empty(n_states)
    for k in range(n_states):
        found[k] = log_steps_evidence(
            float(steps[k]), inputs[k], cross[k], outputs[k], nu_extra, q0, failures
        )
    return found


@njit(cache=True, nogil=True)
def log_counts_evidence(counts: Ints, beta: Floats, alpha: float, kappa: float) -> float:
    """Return the log probability of transitions, counted by row, with the rows integrated out."""
    n_states, value = beta.shape[0], 0.0
    for a in range(n_states):
        total, seen = 0.0, 0
        for b in range(n_states):
            weight = alpha * beta[b] + (kappa if a == b else 0.0)
            total += weight
            seen += counts[a, b]
            if counts[a, b] > 0:
                value += math.lgamma(weight + counts[a, b]) - math.lgamma(max(weight, 1e-300))
        if seen > 0:
            value += math.lgamma(total) - math.lgamma(total + seen)
    return value


@njit(cache=True, nogil=True)
def log_sequence_evidence(
    states: Ints, start: Bools, beta: Floats, alpha: float, kappa: float
) -> float:
    """Return the log probability of the states given ``beta``, transitions integrated out."""
    n_states = beta.shape[0]
    counts = count_transitions(states, start, n_states)
    value = log_counts_evidence(counts, beta, alpha, kappa)
    for t in range(1, states.shape[0]):
        if start[t - 1] and not start[t]:
            value -= np.log(n_states)
    return value
