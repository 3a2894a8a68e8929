"""Changes of a cluster's frame: trajectory and coefficients move, the log rates do not.

A trajectory ``x -> H x + v`` with coefficients that undo it leaves every log rate as it is. Along
these directions the likelihood is flat, the other updates take small steps, and the scale of the
factors would need thousands of sweeps. Shifts of one component, scales of one factor and shears of
one component by a factor are proposed with their Jacobian (Liu & Sabatti 2000, generalised Gibbs
sampling), ``{A, b, Q}`` integrated out, so that a proposal costs nothing per bin. Dynamics must be
redrawn directly after. Rotations of the factors are shears and scales, and leave the density as
it is.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from neuropipe.analyses.bicluster.kernels.dynamics import state_moments
from neuropipe.analyses.bicluster.kernels.evidence import log_steps_evidence

__all__ = ["move_frame"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Generator = np.random.Generator
SMALLEST, LARGEST = np.log(3e-3), np.log(0.3)


@njit(cache=True, nogil=True)
def _log_dynamics(
    move: Floats, steps: Ints, inputs: Floats, cross: Floats, outputs: Floats, nu_extra: float,
    q0: float, failures: Ints,
) -> float:  # fmt: skip
    """Return the evidence of the steps of ``move (x, 1)``; `move` is (n + 1, n + 1)."""
    size = outputs.shape[1]
    upper = np.ascontiguousarray(move[:size])
    whole = np.empty((size + 1, size + 1))
    last = np.empty((size, size + 1))
    turned, tall = np.ascontiguousarray(move.T), np.ascontiguousarray(upper.T)
    square = np.ascontiguousarray(upper[:, :size])
    total = 0.0
    for k in range(steps.shape[0]):
        if steps[k] == 0:
            continue
        whole[:size, :size] = outputs[k]
        whole[:size, size] = cross[k, :, size]
        whole[size, :size] = cross[k, :, size]
        whole[size, size] = steps[k]
        last[:] = square @ cross[k]
        for i in range(size):
            for c in range(size + 1):
                last[i, c] += upper[i, size] * inputs[k, size, c]
        total += log_steps_evidence(
            float(steps[k]), move @ inputs[k] @ turned, last @ turned, upper @ whole @ tall,
            nu_extra, q0, failures,
        )  # fmt: skip
    return total


@njit(cache=True, nogil=True)
def _log_prior(
    move: Floats, firsts: Floats, coefficients: Floats, members: Ints, prior_mean: Floats,
    prior_precision: Floats,
) -> float:  # fmt: skip
    """Return the log prior of first bins (sum of ``u u'`` in `firsts`) and of coefficients."""
    size = prior_precision.shape[0]
    moved = move @ firsts @ np.ascontiguousarray(move.T)
    total = 0.0
    for i in range(size):
        total -= 0.5 * moved[i, i]
        for unit in members:
            residual = coefficients[unit, i] - prior_mean[unit, i]
            total -= 0.5 * prior_precision[i] * residual * residual
    return total


@njit(cache=True, nogil=True)
def _elementary(rng: Generator, size: int, move: Floats) -> tuple[int, int, float]:
    """Write a random elementary change into `move`; return its row, column and amount.

    Row and column name the entry; column `size` is a shift, row = column a scale by exp(amount).
    """
    spread = np.exp(SMALLEST + (LARGEST - SMALLEST) * rng.random())
    amount = spread * rng.standard_normal()
    row = int(rng.random() * size)
    column = 1 + int(rng.random() * size)
    if row == column:
        move[row, row] = np.exp(amount)
    else:
        move[row, column] = amount
    return row, column, amount


@njit(cache=True, nogil=True)
def _undo(
    row: int, column: int, amount: float, size: int, members: Ints, coefficients: Floats
) -> None:
    """Change coefficients so that the log rates stay when the trajectory moves."""
    for i in members:
        weight = 1.0 if row == 0 else coefficients[i, row]
        if column == size:
            coefficients[i, 0] -= weight * amount
        elif row == column:
            coefficients[i, row] *= np.exp(-amount)
        else:
            coefficients[i, column] -= weight * amount


@njit(cache=True, nogil=True)
def move_frame(
    rng: Generator, proposals: int, members: Ints, prior_mean: Floats, prior_precision: Floats,
    states: Ints, start: Bools, n_states: int, nu_extra: float, q0: float, coefficients: Floats,
    x: Floats, failures: Ints,
) -> int:  # fmt: skip
    """Propose changes of one cluster's frame; return how many were accepted.

    Parameters
    ----------
    rng : Generator
        Random numbers.
    proposals : int
        How many.
    members : ndarray of int
        Neurons of the cluster.
    prior_mean, prior_precision : ndarray, shapes (n_units, n) and (n,)
        Prior of the coefficients.
    states, start, n_states
        State of each bin; first bins of trials; most states.
    nu_extra, q0 : float
        Prior of the dynamics.
    coefficients : ndarray, shape (n_units, n)
        Baselines and loadings, changed in place.
    x : ndarray, shape (n_bins, n)
        Trajectory, changed in place.
    failures : ndarray, shape (2,)
        See `linalg.cholesky`.
    """
    n_bins, size = x.shape
    steps, inputs, cross, outputs = state_moments(x, states, start, n_states)
    firsts, one = np.zeros((size + 1, size + 1)), np.ones(size + 1)
    for t in range(n_bins):
        if start[t]:
            one[:size] = x[t]
            firsts += np.outer(one, one)
    total = np.eye(size + 1)
    kept = coefficients.copy()
    here = _log_dynamics(total, steps, inputs, cross, outputs, nu_extra, q0, failures)
    here += _log_prior(total, firsts, coefficients, members, prior_mean, prior_precision)
    accepted = 0
    for _ in range(proposals):
        change = np.eye(size + 1)
        row, column, amount = _elementary(rng, size, change)
        trial = change @ total
        _undo(row, column, amount, size, members, coefficients)
        there = _log_dynamics(trial, steps, inputs, cross, outputs, nu_extra, q0, failures)
        there += _log_prior(trial, firsts, coefficients, members, prior_mean, prior_precision)
        jacobian = amount * (n_bins - members.shape[0]) if row == column else 0.0
        if np.log(1.0 - rng.random()) < there - here + jacobian:
            here, accepted = there, accepted + 1
            total[:] = trial
            for i in members:
                kept[i] = coefficients[i]
        else:
            for i in members:
                coefficients[i] = kept[i]
    for t in range(n_bins):
        one[:size] = x[t]
        x[t] = (total @ one)[:size]
    return accepted
