"""Labels of single neurons with the trajectories integrated out, given Polya-Gamma variables.

A neuron's own counts shape the trajectory it reads: as long as that is held fixed, a neuron in the
wrong cluster tends to stay. Here, given the Polya-Gamma variables, the likelihood is Gaussian in
the trajectories, which the Kalman filter integrates out. The proposal regresses the neuron's
working values on every cluster's smoothed trajectory without the neuron; it is accepted with the
ratio of exact to proposal density. Trajectories must be redrawn before anything uses them.
"""

from __future__ import annotations

from typing import NamedTuple

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
def _log_target(
    data: Working, chain: Chain, i: int, b: Floats, j: int, information: Floats, shift: Floats,
    failures: Ints,
) -> float:  # fmt: skip
    """Add the neuron with coefficients b to cluster j; return log prior of b plus evidence."""
    value = _add_unit(data, i, b, 1.0, information, shift)
    for m in range(b.shape[0]):
        value -= 0.5 * data.prior_precision[m] * (b[m] - data.prior_mean[i, m]) ** 2
    return value + _evidence(chain, j, information, shift, failures)[0]


@njit(cache=True, nogil=True)
def move_labels(
    rng: Generator, order: Ints, data: Working, chain: Chain, gamma: float, cluster: Ints,
    coefficients: Floats, information: Floats, shift: Floats, tally: Ints, failures: Ints,
) -> None:  # fmt: skip
    """Propose cluster and coefficients of the neurons in `order`; none is emptied, none begun.

    Parameters
    ----------
    rng : Generator
        Random numbers.
    order : ndarray of int
        Neurons to move.
    data, chain
        Working data; dynamics and states.
    gamma : float
        Added to the size of a cluster in its weight.
    cluster : ndarray of int, shape (n_units,)
        Number of each neuron's cluster, changed in place.
    coefficients : ndarray, shape (n_units, n)
        Baseline and loadings, changed in place.
    information, shift : ndarray, shapes (n_clusters, n_bins, n[, n])
        Likelihood of each cluster's trajectory, changed in place.
    tally : ndarray, shape (2,)
        Counts of accepted proposals and of all.
    failures : ndarray, shape (2,)
        See `linalg.cholesky`.
    """
    count, n_bins, size = shift.shape
    mean, second = np.empty((count, n_bins, size)), np.empty((count, n_bins, size, size))
    without, modes = np.empty(count), np.empty((count, size))
    lowers, weights, proposal = np.empty((count, size, size)), np.empty(count), np.empty(size)
    known = np.zeros(count, np.bool_)
    members = np.zeros(count, np.int64)
    for i in range(cluster.shape[0]):
        members[cluster[i]] += 1
    for i in order:
        own = cluster[i]
        if members[own] == 1:
            continue
        rest, rest_shift = information[own].copy(), shift[own].copy()
        _add_unit(data, i, coefficients[i], -1.0, rest, rest_shift)
        for j in range(count):
            if j == own:
                without[j] = _smooth(chain, j, rest, rest_shift, mean[j], second[j], failures)
            elif not known[j]:
                without[j] = _smooth(
                    chain, j, information[j], shift[j], mean[j], second[j], failures
                )
                known[j] = True
            others = members[j] - (1 if j == own else 0)
            weights[j] = np.log(others + gamma)
            weights[j] += _regress(data, i, mean[j], second[j], modes[j], lowers[j], failures)
        known[own] = False
        there = draw_index(rng, weights)
        draw_gaussian(rng, modes[there], lowers[there], proposal)
        old = _log_target(data, chain, i, coefficients[i], own, rest.copy(), rest_shift.copy(),
                          failures)  # fmt: skip
        old -= without[own] + weights[own] - np.log(members[own] - 1 + gamma)
        old -= log_gaussian(modes[own], lowers[own], coefficients[i])
        if there == own:
            joined, joined_shift = rest.copy(), rest_shift.copy()
        else:
            joined, joined_shift = information[there].copy(), shift[there].copy()
        others = members[there] - (1 if there == own else 0)
        new = _log_target(data, chain, i, proposal, there, joined, joined_shift, failures)
        new -= without[there] + weights[there] - np.log(others + gamma)
        new -= log_gaussian(modes[there], lowers[there], proposal)
        tally[1] += 1
        if np.log(1.0 - rng.random()) < new - old:
            tally[0] += 1
            information[own], shift[own] = rest, rest_shift
            information[there], shift[there] = joined, joined_shift
            coefficients[i] = proposal
            cluster[i] = there
            members[own] -= 1
            members[there] += 1
            known[there] = False
