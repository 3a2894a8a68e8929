"""A start of the state sequence: segments of bins, merged by the evidence of their dynamics.

Part of the warm-up only. The bins are cut into short segments, each a state of its own; the pair
of states whose union gains most evidence, ``{A, b, Q}`` integrated out given the trajectories, is
merged until no union gains and there are no more states than allowed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.bicluster.chain_state import ChainState
from neuropipe.analyses.bicluster.kernels.dynamics import state_moments
from neuropipe.analyses.bicluster.kernels.evidence import (
    log_sequence_evidence,
    log_steps_evidence,
    log_trajectory_evidence,
)
from neuropipe.analyses.bicluster.kernels.states import report_first_bins
from neuropipe.analyses.bicluster.sweep import Sweep

__all__ = ["restate", "segment_states"]

Ints = NDArray[np.int64]
SHORTEST, LONGEST = 8, 25


def _moments(sweep: Sweep, state: ChainState, segments: Ints) -> list[tuple[np.ndarray, ...]]:
    """Return, per cluster, the moments of every segment."""
    count = int(segments.max()) + 1
    return [
        state_moments(state.x[slot], segments, sweep.problem.start, count)
        for slot in state.active()
    ]


def segment_states(sweep: Sweep, state: ChainState, width: int, first: int) -> Ints:
    """Return states from segments of `width` bins, the first of `first` bins.

    Parameters
    ----------
    sweep : Sweep
        The sampler.
    state : ChainState
        Trajectories.
    width, first : int
        Bins of a segment, and of the first one.
    """
    n_bins, most = state.states.size, state.beta.size
    priors, failures = sweep.priors, np.zeros(2, np.int64)
    segments = (np.arange(n_bins) + width - first) // width
    segments = np.unique(segments, return_inverse=True)[1].astype(np.int64)
    moments = _moments(sweep, state, segments)

    def evidence(*parts: int) -> float:
        total = 0.0
        for one in moments:
            steps, inputs, cross, outputs = (
                sum((array[k] for k in parts[1:]), array[parts[0]]) for array in one
            )
            total += log_steps_evidence(
                float(steps), inputs, cross, outputs, priors.nu_extra, priors.q0, failures
            )
        return total

    alive = list(range(int(segments.max()) + 1))
    alone = {k: evidence(k) for k in alive}
    gain = {(a, b): evidence(a, b) - alone[a] - alone[b] for a in alive for b in alive if a < b}
    while len(alive) > 1:
        (a, b), best = max(gain.items(), key=lambda one: one[1])
        if best <= 0 and len(alive) <= most:
            break
        for one in moments:
            for array in one:
                array[a] += array[b]
        segments[segments == b] = a
        alive.remove(b)
        gain = {pair: value for pair, value in gain.items() if a not in pair and b not in pair}
        alone[a] = evidence(a)
        for k in alive:
            if k != a:
                gain[min(a, k), max(a, k)] = evidence(a, k) - alone[a] - alone[k]
    return np.unique(segments, return_inverse=True)[1].astype(np.int64)


def _log_density(sweep: Sweep, state: ChainState, states: Ints) -> float:
    priors, start = sweep.priors, sweep.problem.start
    count = state.beta.size
    total = log_sequence_evidence(
        states, start, np.full(count, 1.0 / count), priors.alpha_h, priors.kappa
    )
    for slot in state.active():
        total += log_trajectory_evidence(
            state.x[slot], states, start, count, priors.nu_extra, priors.q0, np.zeros(2, np.int64)
        ).sum()
    return float(total)


def restate(sweep: Sweep, state: ChainState, rng: np.random.Generator) -> bool:
    """Take states from segments of random width if they are more probable; return whether.

    Parameters
    ----------
    sweep : Sweep
        The sampler.
    state : ChainState
        States, dynamics and transitions are changed in place.
    rng : Generator
        Random numbers of the chain.
    """
    longest = max(min(LONGEST, state.states.size // 4), SHORTEST)
    width = int(rng.integers(SHORTEST, longest + 1))
    states = segment_states(sweep, state, width, int(rng.integers(1, width + 1)))
    report_first_bins(states, sweep.problem.start)
    gain = _log_density(sweep, state, states) - _log_density(sweep, state, state.states)
    if gain <= 0:
        return False
    state.states[:] = states
    state.beta[:] = 1.0 / state.beta.size
    for _ in range(sweep.scheme.n_inner):
        sweep.dynamics(state, rng)
    return True
