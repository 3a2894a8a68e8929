"""Forward-backward and Viterbi of a hidden Markov chain, from log emissions.

The emissions of many units differ between states by hundreds of nats in one bin. Nothing here
exponentiates a log emission before the largest of its bin is subtracted, and no floor is put under
it: a floor makes states indistinguishable as soon as all of them fall below it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["Posterior", "forward_backward", "forward_filter", "update_chain", "viterbi"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Below this a linear product of probabilities may underflow although the path matters.
SAFE_PROBABILITY = 1e-12


class Posterior(NamedTuple):
    """What one pass forwards and backwards gives.

    Attributes
    ----------
    probability : ndarray, shape (n_bins, n_states)
        Probability of each state given all bins of its trial.
    transitions : ndarray, shape (n_states, n_states)
        Expected number of transitions, summed over bins and trials.
    log_likelihood : ndarray, shape (n_trials,)
        Log probability of the observations of each trial.
    """

    probability: Floats
    transitions: Floats
    log_likelihood: Floats


@njit(cache=True, nogil=True)
def _filter_scaled(
    log_emission: Floats, transition: Floats, initial: Floats, offsets: Ints
) -> tuple[Floats, Floats, Floats]:
    n_bins, n_states = log_emission.shape
    filtered = np.empty((n_bins, n_states))
    predicted = np.empty((n_bins, n_states))
    log_likelihood = np.zeros(offsets.size - 1)
    for trial in range(offsets.size - 1):
        for t in range(offsets[trial], offsets[trial + 1]):
            top = -np.inf
            for s in range(n_states):
                if t == offsets[trial]:
                    mass = initial[s]
                else:
                    mass = 0.0
                    for r in range(n_states):
                        mass += filtered[t - 1, r] * transition[r, s]
                predicted[t, s] = mass
                top = max(top, log_emission[t, s])
            total = 0.0
            for s in range(n_states):
                filtered[t, s] = predicted[t, s] * np.exp(log_emission[t, s] - top)
                total += filtered[t, s]
            for s in range(n_states):
                filtered[t, s] /= total
            log_likelihood[trial] += top + np.log(total)
    return filtered, predicted, log_likelihood


@njit(cache=True, nogil=True)
def _smooth_scaled(
    filtered: Floats, predicted: Floats, transition: Floats, offsets: Ints
) -> tuple[Floats, Floats]:
    n_states = filtered.shape[1]
    smoothed = filtered.copy()
    transitions = np.zeros((n_states, n_states))
    ratio = np.empty(n_states)
    for trial in range(offsets.size - 1):
        for t in range(offsets[trial + 1] - 2, offsets[trial] - 1, -1):
            for s in range(n_states):
                ratio[s] = smoothed[t + 1, s] / predicted[t + 1, s]
            total = 0.0
            for r in range(n_states):
                kept = 0.0
                for s in range(n_states):
                    both = filtered[t, r] * transition[r, s] * ratio[s]
                    transitions[r, s] += both
                    kept += both
                smoothed[t, r] = kept
                total += kept
            # The sum is 1 but for rounding, which would otherwise add up over a long trial.
            for r in range(n_states):
                smoothed[t, r] /= total
    return smoothed, transitions


@njit(cache=True, nogil=True)
def _log_sum(values: Floats) -> float:
    top = values.max()
    if top == -np.inf:
        return -np.inf
    return top + np.log(np.exp(values - top).sum())


@njit(cache=True, nogil=True)
def _filter_log(
    log_emission: Floats, log_transition: Floats, log_initial: Floats, offsets: Ints
) -> tuple[Floats, Floats, Floats]:
    n_bins, n_states = log_emission.shape
    filtered = np.empty((n_bins, n_states))
    predicted = np.empty((n_bins, n_states))
    log_likelihood = np.zeros(offsets.size - 1)
    for trial in range(offsets.size - 1):
        for t in range(offsets[trial], offsets[trial + 1]):
            for s in range(n_states):
                if t == offsets[trial]:
                    predicted[t, s] = log_initial[s]
                else:
                    predicted[t, s] = _log_sum(filtered[t - 1] + log_transition[:, s])
            joint = predicted[t] + log_emission[t]
            total = _log_sum(joint)
            filtered[t] = joint - total
            log_likelihood[trial] += total
    return filtered, predicted, log_likelihood


@njit(cache=True, nogil=True)
def _smooth_log(
    log_emission: Floats, filtered: Floats, log_transition: Floats, offsets: Ints
) -> tuple[Floats, Floats]:
    n_states = filtered.shape[1]
    smoothed = np.exp(filtered)
    transitions = np.zeros((n_states, n_states))
    ahead = np.zeros(n_states)
    joint = np.empty((n_states, n_states))
    for trial in range(offsets.size - 1):
        ahead[:] = 0.0
        for t in range(offsets[trial + 1] - 2, offsets[trial] - 1, -1):
            for r in range(n_states):
                joint[r] = log_transition[r] + log_emission[t + 1] + ahead
            for r in range(n_states):
                ahead[r] = _log_sum(joint[r])
            total = _log_sum(filtered[t] + ahead)
            for r in range(n_states):
                smoothed[t, r] = np.exp(filtered[t, r] + ahead[r] - total)
                transitions[r] += np.exp(filtered[t, r] + joint[r] - total)
            ahead -= ahead.max()
    return smoothed, transitions


def _is_safe(transition: Floats, initial: Floats) -> bool:
    return bool(min(transition.min(), initial.min()) >= SAFE_PROBABILITY)


def _logs(transition: Floats, initial: Floats) -> tuple[Floats, Floats]:
    with np.errstate(divide="ignore"):
        return np.log(transition), np.log(initial)


def forward_filter(
    log_emission: Floats, transition: Floats, initial: Floats, offsets: Ints
) -> tuple[Floats, Floats, Floats]:
    """Run the chain forwards only.

    Parameters
    ----------
    log_emission : ndarray, shape (n_bins, n_states)
        Log probability of the observations of each bin; trials one after the other. A row of
        zeros is a bin without observation.
    transition : ndarray, shape (n_states, n_states)
        Rows sum to 1; zeros are allowed and respected.
    initial : ndarray, shape (n_states,)
        Probability of the state in the first bin of a trial.
    offsets : ndarray of int, shape (n_trials + 1,)
        Trial ``i`` is ``offsets[i]:offsets[i + 1]``.

    Returns
    -------
    filtered : ndarray, shape (n_bins, n_states)
        Probability given the bins up to and with this one.
    predicted : ndarray, shape (n_bins, n_states)
        Probability given the bins before this one.
    log_likelihood : ndarray, shape (n_trials,)
        Log probability of each trial.
    """
    if _is_safe(transition, initial):
        return _filter_scaled(log_emission, transition, initial, offsets)
    filtered, predicted, total = _filter_log(log_emission, *_logs(transition, initial), offsets)
    return np.exp(filtered), np.exp(predicted), total


def forward_backward(
    log_emission: Floats, transition: Floats, initial: Floats, offsets: Ints
) -> Posterior:
    """Return the posterior of the states and the expected transitions.

    Scaled probabilities are used when no transition is (nearly) impossible, else logarithms: a
    state that is improbable by more than the range of a double can be the only way on.

    Parameters
    ----------
    log_emission, transition, initial, offsets
        As in `forward_filter`.

    Returns
    -------
    Posterior
        Nothing of size bins x states x states is ever held.

    Examples
    --------
    >>> chain = np.full((2, 2), 0.5), np.full(2, 0.5)
    >>> forward_backward(np.log([[0.9, 0.1]]), *chain, np.array([0, 1])).probability.round(1)
    array([[0.9, 0.1]])
    """
    if _is_safe(transition, initial):
        filtered, predicted, total = _filter_scaled(log_emission, transition, initial, offsets)
        return Posterior(*_smooth_scaled(filtered, predicted, transition, offsets), total)
    log_transition, log_initial = _logs(transition, initial)
    filtered, _, total = _filter_log(log_emission, log_transition, log_initial, offsets)
    return Posterior(*_smooth_log(log_emission, filtered, log_transition, offsets), total)


@njit(cache=True, nogil=True)
def _viterbi(
    log_emission: Floats, log_transition: Floats, log_initial: Floats, offsets: Ints
) -> Ints:
    n_bins, n_states = log_emission.shape
    path = np.empty(n_bins, np.int64)
    came_from = np.zeros((n_bins, n_states), np.int16)
    best = np.empty(n_states)
    for trial in range(offsets.size - 1):
        first, stop = offsets[trial], offsets[trial + 1]
        if stop == first:
            continue
        best[:] = log_initial + log_emission[first]
        for t in range(first + 1, stop):
            now = np.empty(n_states)
            for s in range(n_states):
                top, source = -np.inf, 0
                for r in range(n_states):
                    value = best[r] + log_transition[r, s]
                    if value > top:
                        top, source = value, r
                now[s] = top + log_emission[t, s]
                came_from[t, s] = source
            best[:] = now
        path[stop - 1] = np.argmax(best)
        for t in range(stop - 1, first, -1):
            path[t - 1] = came_from[t, path[t]]
    return path


def viterbi(log_emission: Floats, transition: Floats, initial: Floats, offsets: Ints) -> Ints:
    """Return the most probable path of states.

    Parameters
    ----------
    log_emission, transition, initial, offsets
        As in `forward_filter`.

    Returns
    -------
    ndarray of int, shape (n_bins,)
        Of equally probable paths the one with the lowest state numbers at the last difference.
    """
    return _viterbi(log_emission, *_logs(transition, initial), offsets)


def update_chain(
    posterior: Posterior, offsets: Ints, *, alpha: float, kappa: float, floor: float = 1e-8
) -> tuple[Floats, Floats]:
    """Return transition matrix and initial probabilities that maximise the expected objective.

    Parameters
    ----------
    posterior : Posterior
        Of all trials together.
    offsets : ndarray of int, shape (n_trials + 1,)
        Where trials begin.
    alpha, kappa : float
        Row ``s`` of the transition matrix has the prior Dirichlet(alpha + kappa e_s).
    floor : float
        Smallest transition probability.

    Returns
    -------
    transition : ndarray, shape (n_states, n_states)
    initial : ndarray, shape (n_states,)
        One visit is added to every state: the mode under Dirichlet(2).
    """
    n_states = posterior.transitions.shape[0]
    counts = posterior.transitions + (alpha - 1.0) + kappa * np.eye(n_states)
    counts = np.maximum(counts, 0.0)
    total = counts.sum(axis=1, keepdims=True)
    # A state that was never left says nothing about its row.
    rows = np.where(total > 0, counts / np.where(total > 0, total, 1.0), 1.0 / n_states)
    rows = np.maximum(rows, floor)
    starts = offsets[:-1][np.diff(offsets) > 0]
    first = posterior.probability[starts].sum(axis=0) + 1.0
    return rows / rows.sum(axis=1, keepdims=True), first / first.sum()
