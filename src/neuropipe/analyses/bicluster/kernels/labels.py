"""Cluster labels: one neuron at a time, auxiliary empty clusters, Laplace proposals with MH."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from neuropipe.analyses.bicluster.kernels.dynamics import draw_path, draw_prior_dynamics
from neuropipe.analyses.bicluster.kernels.readout import (
    draw_gaussian,
    laplace,
    log_gaussian,
    log_target,
)
from neuropipe.analyses.bicluster.kernels.states import draw_index

__all__ = ["Readouts", "Slots", "scan_labels"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Generator = np.random.Generator


class Slots(NamedTuple):
    """Clusters in numbered slots; a slot without members is free.

    Attributes
    ----------
    x : ndarray, shape (n_slots, n_bins, n)
        Trajectories.
    A, b, Q : ndarray, shapes (n_slots, n_states, n[, n])
        Dynamics.
    members : ndarray of int, shape (n_slots,)
        Neurons per slot.
    """

    x: Floats
    A: Floats
    b: Floats
    Q: Floats
    members: Ints


class Readouts(NamedTuple):
    """Data and coefficients of the neurons.

    Attributes
    ----------
    counts, offset : ndarray, shape (n_units, n_bins)
        Counts, negative where unobserved, and log exposure.
    dispersion : ndarray, shape (n_units,)
        Sizes r.
    prior_mean : ndarray, shape (n_units, n)
        Prior mean of (baseline, loadings).
    prior_precision : ndarray, shape (n,)
        Their prior precisions.
    label : ndarray of int, shape (n_units,)
        Slot of each neuron.
    coefficients : ndarray, shape (n_units, n)
        Baseline and loadings.
    """

    counts: Floats
    offset: Floats
    dispersion: Floats
    prior_mean: Floats
    prior_precision: Floats
    label: Ints
    coefficients: Floats


@njit(cache=True, nogil=True)
def _fill_auxiliary(
    rng: Generator, slots: Slots, own: int, states: Ints, start: Bools, nu_extra: float, q0: float,
    chosen: Ints, failures: Ints,
) -> None:  # fmt: skip
    """Fill `chosen` with auxiliary slots: `own` if not -1, then free ones drawn from the prior."""
    found, n_aux = 0, chosen.shape[0]
    if own >= 0 and n_aux > 0:
        chosen[0] = own
        found = 1
    for slot in range(slots.members.shape[0]):
        if found == n_aux:
            break
        if slots.members[slot] == 0 and slot != own:
            draw_prior_dynamics(rng, nu_extra, q0, slots.A[slot], slots.b[slot], slots.Q[slot],
                                failures)  # fmt: skip
            draw_path(rng, slots.A[slot], slots.b[slot], slots.Q[slot], states, start,
                      slots.x[slot], failures)  # fmt: skip
            chosen[found] = slot
            found += 1


@njit(cache=True, nogil=True)
def _prior_weights(
    slots: Slots, own: int, auxiliary: Ints, log_birth: Floats, gamma: float, weights: Floats
) -> None:
    """Write the log prior weight of each slot for a neuron of slot `own`, -inf where none."""
    occupied = 0
    weights[:] = -np.inf
    for slot in range(weights.shape[0]):
        others = slots.members[slot] - (1 if slot == own else 0)
        if others > 0:
            occupied += 1
            weights[slot] = np.log(others + gamma)
    for slot in auxiliary:
        weights[slot] = log_birth[occupied] - np.log(auxiliary.shape[0])


@njit(cache=True, nogil=True)
def _accept(
    rng: Generator, units: Readouts, i: int, x: Floats, x_new: Floats, poisson: bool,
    old: tuple[Floats, Floats, float], new: tuple[Floats, Floats, float], proposal: Floats,
) -> bool:  # fmt: skip
    """Accept the proposed label and coefficients: corrects the error of both approximations."""
    size = proposal.shape[0]
    gradient, hessian = np.empty(size), np.empty((size, size))
    r, b = units.dispersion[i], units.coefficients[i]
    forward = log_target(
        units.counts[i], units.offset[i], x_new, r, poisson, units.prior_mean[i],
        units.prior_precision, proposal, gradient, hessian,
    )  # fmt: skip
    backward = log_target(
        units.counts[i], units.offset[i], x, r, poisson, units.prior_mean[i],
        units.prior_precision, b, gradient, hessian,
    )  # fmt: skip
    log_ratio = forward - new[2] - log_gaussian(new[0], new[1], proposal)
    log_ratio -= backward - old[2] - log_gaussian(old[0], old[1], b)
    return np.log(1.0 - rng.random()) < log_ratio


@njit(cache=True, nogil=True)
def _redraw(
    rng: Generator, slots: Slots, units: Readouts, i: int, poisson: bool, weights: Floats,
    tally: Ints, failures: Ints,
) -> None:  # fmt: skip
    """Propose slot and coefficients of neuron i from prior `weights` times Laplace marginals."""
    n_slots, size = weights.shape[0], units.coefficients.shape[1]
    modes, lowers = np.empty((n_slots, size)), np.empty((n_slots, size, size))
    marginal, proposal = np.empty(n_slots), np.empty(size)
    for slot in range(n_slots):
        if weights[slot] > -np.inf:
            marginal[slot] = laplace(
                units.counts[i], units.offset[i], slots.x[slot], units.dispersion[i], poisson,
                units.prior_mean[i], units.prior_precision, modes[slot], lowers[slot], failures,
            )  # fmt: skip
            weights[slot] += marginal[slot]
    own, there = units.label[i], draw_index(rng, weights)
    draw_gaussian(rng, modes[there], lowers[there], proposal)
    tally[1] += 1
    if _accept(
        rng, units, i, slots.x[own], slots.x[there], poisson,
        (modes[own], lowers[own], marginal[own]), (modes[there], lowers[there], marginal[there]),
        proposal,
    ):  # fmt: skip
        tally[0] += 1
        units.coefficients[i] = proposal
        slots.members[own] -= 1
        slots.members[there] += 1
        units.label[i] = there


@njit(cache=True, nogil=True)
def scan_labels(
    rng: Generator, order: Ints, first: int, slots: Slots, units: Readouts, states: Ints,
    start: Bools, poisson: bool, log_birth: Floats, gamma: float, n_aux: int, nu_extra: float,
    q0: float, frozen: bool, tally: Ints, failures: Ints,
) -> int:  # fmt: skip
    """Redraw label and coefficients of the neurons in `order`, from position `first` on.

    Neal's (2000) algorithm 8 with proposals by Laplace marginals: cluster c has weight
    ``|c| + gamma``, each of `n_aux` empty candidates ``exp(log_birth[t]) / n_aux`` with t the
    clusters occupied without the neuron. The proposed label and coefficients are accepted with the
    ratio of exact to approximate density, so that the approximation leaves no error.

    Parameters
    ----------
    rng, order, first
        Random numbers; neurons in the order of the scan; position in it to begin at.
    slots : Slots
        Clusters; changed in place.
    units : Readouts
        Neurons; labels and coefficients are changed in place.
    states, start : ndarray, shape (n_bins,)
        State of each bin; first bins of trials.
    poisson : bool
        Family.
    log_birth : ndarray, shape (n_units + 1,)
        ``log [gamma V_N(t + 1) / V_N(t)]``.
    gamma : float
        Added to the size of an occupied cluster.
    n_aux : int
        Empty candidates; 0 keeps the clusters to those there are.
    nu_extra, q0, frozen
        Prior of the dynamics; whether labels stay and coefficients only are redrawn.
    tally : ndarray, shape (2,)
        Counts of accepted proposals and of all.
    failures : ndarray, shape (2,)
        See `linalg.cholesky`.

    Returns
    -------
    int
        Position at which too few slots were free; ``len(order)`` when all are done.
    """
    weights, auxiliary = np.empty(slots.members.shape[0]), np.empty(n_aux, np.int64)
    for position in range(first, order.shape[0]):
        i = order[position]
        own = units.label[i]
        if frozen:
            weights[:] = -np.inf
            weights[own] = 0.0
        else:
            if (slots.members == 0).sum() < n_aux:
                return position
            single = slots.members[own] == 1
            _fill_auxiliary(
                rng, slots, own if single else -1, states, start, nu_extra, q0, auxiliary, failures
            )
            _prior_weights(slots, own, auxiliary, log_birth, gamma, weights)
        _redraw(rng, slots, units, i, poisson, weights, tally, failures)
    return order.shape[0]
