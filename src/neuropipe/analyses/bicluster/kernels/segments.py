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
Moments = tuple[Floats, Floats, Floats, Floats]


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
def _segment_moments(x: Floats, low: int, high: int) -> Moments:
    """Return what `state_moments` sums, of the bins ``low..high`` alone."""
    size, steps = x.shape[1], high - low + 1
    before = np.ones((steps, size + 1))
    before[:, :size] = x[low - 1 : high]
    now = np.ascontiguousarray(x[low : high + 1].T)
    turned = np.ascontiguousarray(before.T)
    return np.full(1, float(steps)), turned @ before, now @ before, now @ now.T.copy()


@njit(cache=True, nogil=True)
def _weigh(
    moments: list[Moments], segment: list[Moments], own: int, counts: Ints, edges: Ints,
    beta: Floats, alpha: float, kappa: float, nu_extra: float, q0: float, weights: Floats,
    failures: Ints,
) -> None:  # fmt: skip
    """Write the log weight of each state of the segment; `moments`, `counts` are without it."""
    for k in range(weights.shape[0]):
        tried = counts.copy()
        tried[k, k] += edges[2]
        if edges[0] >= 0:
            tried[edges[0], k] += 1
        if edges[1] >= 0:
            tried[k, edges[1]] += 1
        weights[k] = log_counts_evidence(tried, beta, alpha, kappa)
        for c in range(len(moments)):
            steps, inputs, cross, outputs = moments[c]
            more = segment[c]
            weights[k] += log_steps_evidence(
                steps[k] + more[0][0], inputs[k] + more[1], cross[k] + more[2],
                outputs[k] + more[3], nu_extra, q0, failures,
            )  # fmt: skip
            weights[k] -= log_steps_evidence(
                steps[k], inputs[k], cross[k], outputs[k], nu_extra, q0, failures
            )


@njit(cache=True, nogil=True)
def _edges(states: Ints, start: Bools, low: int, high: int) -> Ints:
    """Return the states before and after the segment, -1 if none, and the steps inside it."""
    found = np.array([-1, -1, high - low])
    if not start[low - 1]:
        found[0] = states[low - 1]
    if high + 1 < states.shape[0] and not start[high + 1]:
        found[1] = states[high + 1]
    return found


@njit(cache=True, nogil=True)
def _shift(
    moments: list[Moments], segment: list[Moments], counts: Ints, edges: Ints, k: int, sign: int
) -> None:
    """Add a segment of state k to moments and transition counts, or take it away."""
    for c in range(len(moments)):
        steps, inputs, cross, outputs = moments[c]
        more = segment[c]
        steps[k] += sign * more[0][0]
        inputs[k] += sign * more[1]
        cross[k] += sign * more[2]
        outputs[k] += sign * more[3]
    counts[k, k] += sign * edges[2]
    if edges[0] >= 0:
        counts[edges[0], k] += sign
    if edges[1] >= 0:
        counts[k, edges[1]] += sign


@njit(cache=True, nogil=True)
def move_segments(
    rng: Generator, proposals: int, x: Floats, active: Ints, start: Bools, beta: Floats,
    alpha: float, kappa: float, nu_extra: float, q0: float, states: Ints, failures: Ints,
) -> int:  # fmt: skip
    """Give segments of one state another; return how many changed.

    A segment, the bout of a random bin or a part of it, gets each state with the probability that
    it has given the other bins. What the choice of the segment owes to the states is corrected by
    the ratio of its probabilities after and before.

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
    n_states, changed = beta.shape[0], 0
    moments = [_moments(x[slot], states, start, n_states) for slot in active]
    counts, weights = count_transitions(states, start, n_states), np.empty(n_states)
    for _ in range(proposals):
        t = int(rng.random() * states.shape[0])
        if start[t]:
            continue
        low, high = _choose(rng, states, start, t)
        own, edges = states[low], _edges(states, start, low, high)
        chance = _log_chance(states, start, low, high)
        segment = [_segment_moments(x[slot], low, high) for slot in active]
        _shift(moments, segment, counts, edges, own, -1)
        _weigh(
            moments, segment, own, counts, edges, beta, alpha, kappa, nu_extra, q0, weights,
            failures,
        )  # fmt: skip
        there = draw_index(rng, weights)
        states[low : high + 1] = there
        if there != own:
            ratio = _log_chance(states, start, low, high) - chance
            if np.log(1.0 - rng.random()) < ratio:
                changed += 1
            else:
                there = own
                states[low : high + 1] = own
        _shift(moments, segment, counts, edges, there, 1)
    report_first_bins(states, start)
    return changed


@njit(cache=True, nogil=True)
def _moments(x: Floats, states: Ints, start: Bools, n_states: int) -> Moments:
    steps, inputs, cross, outputs = state_moments(x, states, start, n_states)
    return steps.astype(np.float64), inputs, cross, outputs
