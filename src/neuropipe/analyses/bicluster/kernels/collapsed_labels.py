"""Labels of single neurons with the trajectories integrated out, given Polya-Gamma variables.

A neuron's own counts shape the trajectory it reads: as long as that is held fixed, a neuron in the
wrong cluster tends to stay. Here, given the Polya-Gamma variables, the likelihood is Gaussian in
the trajectories, which the Kalman filter integrates out. The proposal regresses the neuron's
working values on every cluster's smoothed trajectory without the neuron; it is accepted with the
ratio of exact to proposal density. One empty cluster with dynamics from the prior is on offer, as
in Neal's (2000) algorithm 8. Trajectories must be redrawn before anything uses them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from neuropipe.analyses.bicluster.kernels.dynamics import draw_prior_dynamics
from neuropipe.analyses.bicluster.kernels.linalg import (
    cholesky,
    invert_spd,
    log_det,
    solve_lower,
    solve_lower_transposed,
)
from neuropipe.analyses.bicluster.kernels.readout import draw_gaussian, log_gaussian
from neuropipe.analyses.bicluster.kernels.states import backward_information, draw_index
from neuropipe.analyses.bicluster.kernels.trajectory import filter_forward

__all__ = ["Chain", "Working", "move_labels"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Generator = np.random.Generator


class Working(NamedTuple):
    """Gaussian working data of the neurons.

    Attributes
    ----------
    omega, kappa, base : ndarray, shape (n_units, n_bins)
        Polya-Gamma variables and ``(y - r) / 2``, both 0 where unobserved; offset minus log r.
    prior_mean, prior_precision : ndarray, shapes (n_units, n) and (n,)
        Prior of the coefficients.
    """

    omega: Floats
    kappa: Floats
    base: Floats
    prior_mean: Floats
    prior_precision: Floats


class Chain(NamedTuple):
    """Dynamics of the occupied clusters, and states.

    Attributes
    ----------
    A, b, Q : ndarray, shapes (n_clusters, n_states, n[, n])
        Dynamics.
    states, start : ndarray, shape (n_bins,)
        State of each bin; first bins of trials.
    """

    A: Floats
    b: Floats
    Q: Floats
    states: Ints
    start: Bools


class Candidates(NamedTuple):
    """Proposal of one neuron: log weight of each cluster, mode and factor of its coefficients."""

    weight: Floats
    mode: Floats
    lower: Floats


@njit(cache=True, nogil=True)
def _add_unit(
    data: Working, i: int, b: Floats, sign: float, information: Floats, shift: Floats
) -> float:
    """Add one neuron to (or take it from) a cluster's information; return its constant."""
    size = b.shape[0]
    total = 0.0
    for t in range(shift.shape[0]):
        omega = data.omega[i, t]
        if omega == 0.0:
            continue
        level = data.base[i, t] + b[0]
        total += data.kappa[i, t] * level - 0.5 * omega * level * level
        weighted = data.kappa[i, t] - omega * level
        for m in range(size):
            read = 1.0 if m == 0 else b[m]
            shift[t, m] += sign * weighted * read
            for c in range(size):
                information[t, m, c] += sign * omega * read * (1.0 if c == 0 else b[c])
    return total


@njit(cache=True, nogil=True)
def _evidence(
    chain: Chain, j: int, information: Floats, shift: Floats, failures: Ints
) -> tuple[float, Floats, Floats]:
    """Return the log evidence of one cluster's working data and its filtered parameters."""
    precision, linear = np.empty_like(information), np.empty_like(shift)
    found = filter_forward(
        chain.A[j], chain.b[j], chain.Q[j], chain.states, chain.start, information, shift, shift, 0,
        shift.shape[0], precision, linear, failures,
    )  # fmt: skip
    return found, precision, linear


@njit(cache=True, nogil=True)
def _smooth(
    chain: Chain, j: int, information: Floats, shift: Floats, mean: Floats, second: Floats,
    failures: Ints,
) -> float:  # fmt: skip
    """Write smoothed means and second moments of one trajectory; return the log evidence."""
    found, precision, linear = _evidence(chain, j, information, shift, failures)
    theta, pulled = np.empty_like(information), np.empty_like(shift)
    backward_information(
        chain.A[j], chain.b[j], chain.Q[j], chain.states, chain.start, information, shift, theta,
        pulled, failures,
    )  # fmt: skip
    n_bins, size = shift.shape
    whole, lower, work = np.empty((size, size)), np.empty((size, size)), np.empty((size, size))
    for t in range(n_bins):
        for i in range(size):
            mean[t, i] = linear[t, i] + pulled[t, i] - shift[t, i]
            for c in range(size):
                whole[i, c] = precision[t, i, c] + theta[t, i, c] - information[t, i, c]
        cholesky(whole, lower, failures)
        solve_lower(lower, mean[t])
        solve_lower_transposed(lower, mean[t])
        invert_spd(lower, second[t], work)
        for i in range(size):
            for c in range(size):
                second[t, i, c] += mean[t, i] * mean[t, c]
    return found


@njit(cache=True, nogil=True)
def _regress(
    data: Working, i: int, mean: Floats, second: Floats, mode: Floats, lower: Floats,
    failures: Ints,
) -> float:  # fmt: skip
    """Write mode and factor of the proposal of the coefficients; return its log weight.

    The expected log of the working likelihood over the smoothed trajectory is quadratic in the
    coefficients; the weight is the integral of its exponential.
    """
    n_bins, size = mean.shape
    hessian, constant = np.zeros((size, size)), 0.0
    for m in range(size):
        hessian[m, m] = data.prior_precision[m]
        mode[m] = data.prior_precision[m] * data.prior_mean[i, m]
        constant -= 0.5 * data.prior_precision[m] * data.prior_mean[i, m] ** 2
    for t in range(n_bins):
        omega, kappa = data.omega[i, t], data.kappa[i, t]
        if omega == 0.0:
            continue
        base = data.base[i, t]
        level = base + mean[t, 0]
        constant += kappa * level
        constant -= 0.5 * omega * (base * base + 2.0 * base * mean[t, 0] + second[t, 0, 0])
        hessian[0, 0] += omega
        mode[0] += kappa - omega * level
        for m in range(1, size):
            mode[m] += kappa * mean[t, m] - omega * (base * mean[t, m] + second[t, 0, m])
            hessian[m, 0] += omega * mean[t, m]
            for c in range(1, m + 1):
                hessian[m, c] += omega * second[t, m, c]
    cholesky(hessian, lower, failures)
    solve_lower(lower, mode)
    for m in range(size):
        constant += 0.5 * mode[m] * mode[m]
    solve_lower_transposed(lower, mode)
    return constant - 0.5 * log_det(lower)


@njit(cache=True, nogil=True)
def _log_ratio(
    data: Working, chain: Chain, i: int, b: Floats, j: int, own: int, members: Ints, gamma: float,
    log_birth: Floats, found: Candidates, information: Floats, shift: Floats, without: Floats,
    failures: Ints,
) -> float:  # fmt: skip
    """Return the log of target over proposal of neuron i in cluster j with coefficients b."""
    joined, joined_shift = information[j].copy(), shift[j].copy()
    value = _add_unit(data, i, b, 1.0, joined, joined_shift)
    for m in range(b.shape[0]):
        value -= 0.5 * data.prior_precision[m] * (b[m] - data.prior_mean[i, m]) ** 2
    value += _evidence(chain, j, joined, joined_shift, failures)[0] - without[j]
    others = members[j] - (1 if j == own else 0)
    if others > 0:
        value += np.log(others + gamma)
    else:
        occupied = (members > 0).sum() - (1 if members[own] == 1 else 0)
        value += log_birth[occupied]
    return value - found.weight[j] - log_gaussian(found.mode[j], found.lower[j], b)


@njit(cache=True, nogil=True)
def _weigh(
    data: Working, i: int, own: int, members: Ints, gamma: float, mean: Floats, second: Floats,
    found: Candidates, failures: Ints,
) -> None:  # fmt: skip
    """Write the proposal of neuron i: occupied clusters by regression, the empty one by its prior.

    The empty candidate, `own` if the neuron is alone, gets a quarter of all weight: a single
    neuron says too little of a new trajectory for better.
    """
    top = -np.inf
    for j in range(members.shape[0]):
        others = members[j] - (1 if j == own else 0)
        found.weight[j] = -np.inf
        if others > 0:
            found.weight[j] = np.log(others + gamma) + _regress(
                data, i, mean[j], second[j], found.mode[j], found.lower[j], failures
            )
            top = max(top, found.weight[j])
    total = 0.0
    for j in range(members.shape[0]):
        total += np.exp(found.weight[j] - top)
    empty = _empty(own, members)
    found.weight[empty] = top + np.log(total / 3.0)
    found.lower[empty] = np.diag(np.sqrt(data.prior_precision))
    found.mode[empty] = data.prior_mean[i]


@njit(cache=True, nogil=True)
def _empty(own: int, members: Ints) -> int:
    """Return the empty cluster on offer: `own` if that has one member, else the first empty."""
    if members[own] == 1:
        return own
    for j in range(members.shape[0]):
        if members[j] == 0:
            return j
    return -1


@njit(cache=True, nogil=True)
def _prepare(
    rng: Generator, data: Working, chain: Chain, i: int, own: int, members: Ints, nu_extra: float,
    q0: float, known: Bools, information: Floats, shift: Floats, coefficients: Floats,
    mean: Floats, second: Floats, without: Floats, failures: Ints,
) -> None:  # fmt: skip
    """Take neuron i out; smooth each cluster's trajectory without it."""
    _add_unit(data, i, coefficients[i], -1.0, information[own], shift[own])
    known[own] = False
    empty = _empty(own, members)
    if empty != own:
        draw_prior_dynamics(
            rng, nu_extra, q0, chain.A[empty], chain.b[empty], chain.Q[empty], failures
        )
    information[empty], shift[empty], without[empty] = 0.0, 0.0, 0.0
    for j in range(members.shape[0]):
        if not known[j] and j != empty and members[j] > 0:
            without[j] = _smooth(chain, j, information[j], shift[j], mean[j], second[j], failures)
            known[j] = True


@njit(cache=True, nogil=True)
def move_labels(
    rng: Generator, order: Ints, data: Working, chain: Chain, gamma: float, log_birth: Floats,
    nu_extra: float, q0: float, cluster: Ints, coefficients: Floats, information: Floats,
    shift: Floats, tally: Ints, failures: Ints,
) -> None:  # fmt: skip
    """Propose cluster and coefficients of the neurons in `order`, one after the other.

    A proposal whose dynamics explode beyond what covariances can hold is rejected.

    Parameters
    ----------
    rng, order
        Random numbers; neurons to move.
    data, chain
        Working data; dynamics and states, with empty clusters at the end, one per neuron to move,
        whose dynamics are overwritten.
    gamma, log_birth, nu_extra, q0
        As in `labels.scan_labels`.
    cluster, coefficients : ndarray, shapes (n_units,) and (n_units, n)
        Number of each neuron's cluster, baseline and loadings, changed in place.
    information, shift : ndarray, shapes (n_clusters, n_bins, n[, n])
        Likelihood of each cluster's trajectory, changed in place.
    tally : ndarray, shape (2,)
        Counts of accepted proposals and of all.
    failures : ndarray, shape (2,)
        See `linalg.cholesky`.
    """
    count, n_bins, size = shift.shape
    mean, second = np.empty((count, n_bins, size)), np.empty((count, n_bins, size, size))
    without, known, proposal = np.empty(count), np.zeros(count, np.bool_), np.empty(size)
    found = Candidates(np.empty(count), np.empty((count, size)), np.empty((count, size, size)))
    members = np.zeros(count, np.int64)
    for j in cluster:
        members[j] += 1
    broken = np.zeros(2, np.int64)
    for i in order:
        own = cluster[i]
        broken[1] = 0
        _prepare(
            rng, data, chain, i, own, members, nu_extra, q0, known, information, shift,
            coefficients, mean, second, without, broken,
        )  # fmt: skip
        _weigh(data, i, own, members, gamma, mean, second, found, broken)
        there = draw_index(rng, found.weight)
        draw_gaussian(rng, found.mode[there], found.lower[there], proposal)
        ratio = 0.0
        for sign, b, j in ((-1.0, coefficients[i], own), (1.0, proposal, there)):
            ratio += sign * _log_ratio(
                data, chain, i, b, j, own, members, gamma, log_birth, found, information, shift,
                without, broken,
            )  # fmt: skip
        tally[1] += 1
        members[own] -= 1
        if np.log(1.0 - rng.random()) < ratio and broken[1] == 0:
            tally[0] += 1
            coefficients[i] = proposal
            cluster[i] = there
        members[cluster[i]] += 1
        known[cluster[i]] = False
        _add_unit(data, i, coefficients[i], 1.0, information[cluster[i]], shift[cluster[i]])
    failures[0] += broken[0]
