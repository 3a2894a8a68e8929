"""States of whole bouts given the trajectories, with dynamics and transitions integrated out.

Bins drawn one by one, or all of them given the dynamics, prefer the state whose dynamics were
drawn for them: two states of like dynamics stay two. Here a segment of one state gets a state by
the evidence of all trajectories and of the sequence, so that a state may vanish or appear at once.
Dynamics and transitions must be redrawn directly after.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from neuropipe.analyses.bicluster.kernels.dynamics import state_moments
from neuropipe.analyses.bicluster.kernels.evidence import log_counts_evidence, log_steps_evidence
from neuropipe.analyses.bicluster.kernels.states import draw_index, report_first_bins
from neuropipe.analyses.bicluster.kernels.transitions import count_transitions

__all__ = ["move_segments"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Generator = np.random.Generator


@njit(cache=True, nogil=True)
def _run(states: Ints, start: Bools, t: int) -> tuple[int, int]:
    """Return first and last bin of the bout of bin t, within its trial."""
    first, last = t, t
    while not start[first - 1] and states[first - 1] == states[t]:
        first -= 1
    while last + 1 < states.shape[0] and not start[last + 1] and states[last + 1] == states[t]:
        last += 1
    return first, last


@njit(cache=True, nogil=True)
def _choose(rng: Generator, states: Ints, start: Bools, t: int) -> tuple[int, int]:
    """Return the bout of bin t, or with probability one half any segment of it."""
    first, last = _run(states, start, t)
    if rng.random() < 0.5:
        return first, last
    length, segments = last - first + 1, 0
    chosen = int(rng.random() * (length * (length + 1) // 2))
    for low in range(length):
        if chosen < segments + length - low:
            return first + low, first + low + chosen - segments
        segments += length - low
    return first, last


@njit(cache=True, nogil=True)
def _log_chance(states: Ints, start: Bools, low: int, high: int) -> float:
    """Return the log probability that `_choose` yields ``low..high``, up to a constant."""
    first, last = _run(states, start, low)
    length = last - first + 1.0
    whole = 0.5 if first == low and last == high else 0.0
    return math.log(length * (whole + 1.0 / (length * (length + 1.0))))


@njit(cache=True, nogil=True)
def _weigh_dynamics(
    x: Floats, states: Ints, start: Bools, nu_extra: float, q0: float, weights: Floats,
    failures: Ints,
) -> None:  # fmt: skip
    """Add what one trajectory says of the segment, the bins of state ``len(weights)``."""
    n_states = weights.shape[0]
    steps, inputs, cross, outputs = state_moments(x, states, start, n_states + 1)
    for k in range(n_states):
        weights[k] += log_steps_evidence(
            float(steps[k] + steps[n_states]), inputs[k] + inputs[n_states],
            cross[k] + cross[n_states], outputs[k] + outputs[n_states], nu_extra, q0, failures,
        )  # fmt: skip
        weights[k] -= log_steps_evidence(
            float(steps[k]), inputs[k], cross[k], outputs[k], nu_extra, q0, failures
        )


@njit(cache=True, nogil=True)
def _weigh_transitions(
    states: Ints, start: Bools, beta: Floats, alpha: float, kappa: float, weights: Floats
) -> None:
    """Write what the sequence says of the segment, the bins of state ``len(weights)``."""
    n_states = weights.shape[0]
    counts = count_transitions(states, start, n_states + 1)
    for k in range(n_states):
        joined = counts[:n_states, :n_states].copy()
        joined[k] += counts[n_states, :n_states]
        joined[:, k] += counts[:n_states, n_states]
        joined[k, k] += counts[n_states, n_states]
        weights[k] = log_counts_evidence(joined, beta, alpha, kappa)


@njit(cache=True, nogil=True)
def move_segments(
    rng: Generator, proposals: int, x: Floats, active: Ints, start: Bools, beta: Floats,
    alpha: float, kappa: float, nu_extra: float, q0: float, states: Ints, failures: Ints,
) -> int:  # fmt: skip
    """Give segments of one state another; return how many changed.

    A segment, the bout of a random bin or a part of it, gets each state with the probability that
    it has given the other bins. What the choice of the segment owes to the states is corrected by
    the ratio of its probabilities after and before. A segment stays as it is where trajectories
    are larger than covariances can hold.

    Parameters
    ----------
    rng : Generator
        Random numbers.
    proposals : int
        How many segments.
    x : ndarray, shape (n_slots, n_bins, n)
        Trajectories.
    active : ndarray of int
        Slots in use.
    start : ndarray of bool, shape (n_bins,)
        First bins of trials.
    beta : ndarray, shape (n_states,)
        Shared weights of the states.
    alpha, kappa : float
        Concentration of the rows; extra weight on staying.
    nu_extra, q0 : float
        Prior of the dynamics.
    states : ndarray of int, shape (n_bins,)
        Changed in place.
    failures : ndarray, shape (2,)
        See `linalg.cholesky`.
    """
    n_states, changed, broken = beta.shape[0], 0, np.zeros(2, np.int64)
    weights = np.empty(n_states)
    for _ in range(proposals):
        t = int(rng.random() * states.shape[0])
        if start[t]:
            continue
        low, high = _choose(rng, states, start, t)
        own, chance = states[low], _log_chance(states, start, low, high)
        states[low : high + 1] = n_states
        broken[1] = 0
        _weigh_transitions(states, start, beta, alpha, kappa, weights)
        for slot in active:
            _weigh_dynamics(x[slot], states, start, nu_extra, q0, weights, broken)
        there = draw_index(rng, weights) if broken[1] == 0 else own
        states[low : high + 1] = there
        if there != own:
            ratio = _log_chance(states, start, low, high) - chance
            if np.log(1.0 - rng.random()) < ratio:
                changed += 1
            else:
                states[low : high + 1] = own
    report_first_bins(states, start)
    failures[0] += broken[0]
    return changed
