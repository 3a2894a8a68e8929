"""What the warm-up does beside sweeping: it ends before the first draw that is kept."""

from __future__ import annotations

import numpy as np

from neuropipe.analyses.bicluster.chain_state import ChainState
from neuropipe.analyses.bicluster.rearrange import rearrange
from neuropipe.analyses.bicluster.sweep import Sweep

__all__ = ["after_sweep", "before_sweep"]

# Shares of the warm-up until which dynamics stay as they began; labels stay; clusters are
# rearranged in all ways; they are only merged, which takes away what a split left by chance.
PILOT, HELD, DIVIDED, REARRANGED = 0.1, 0.15, 0.6, 0.8
MERGING = ("merge", "dissolve")
REARRANGE_EVERY, REARRANGEMENTS = 4, 80
ADAPT_EVERY, LOW, HIGH, LARGEST_SIZE = 25, 0.3, 0.8, 2000.0


def before_sweep(sweep: Sweep, index: int, warmup: int) -> None:
    """Set what sweep `index` leaves alone.

    First the states find their bins under the varied dynamics of the start, then the dynamics are
    free, then the labels; at last whole bouts, which would all fall to one state while the
    trajectories fit badly.
    """
    sweep.pilot = index < PILOT * warmup and not sweep.scheme.frozen
    sweep.holding = index < HELD * warmup
    sweep.settling = index < DIVIDED * warmup


def after_sweep(
    sweep: Sweep, state: ChainState, rng: np.random.Generator, index: int, warmup: int
) -> None:
    """Rearrange clusters, adapt proposals, and forget the tally when the warm-up ends."""
    if index >= warmup:
        return
    moving = HELD <= index / warmup < REARRANGED and not sweep.scheme.frozen
    every = max(REARRANGE_EVERY, int((REARRANGED - HELD) * warmup) // REARRANGEMENTS)
    if moving and sweep.scheme.sm_every and index % every == 0:
        merging = index >= DIVIDED * warmup
        rearrange(sweep, state, rng, str(rng.choice(MERGING)) if merging else None)
    if sweep.scheme.poisson and index % ADAPT_EVERY == ADAPT_EVERY - 1:
        _adapt(state, sweep, sweep.problem.counts.shape[1])
    if index == warmup - 1:
        sweep.tally.read()


def _adapt(state: ChainState, sweep: Sweep, n_bins: int) -> None:
    """Move window and proposal size of the Poisson update towards the wanted acceptance."""
    accepted, proposed = sweep.tally.trajectory
    sweep.tally.trajectory[:] = 0
    share = accepted / max(proposed, 1)
    if share > HIGH:
        state.window = min(2 * state.window, n_bins)
    elif share < LOW and state.window > 10:
        state.window = max(state.window // 2, 10)
    elif share < LOW:
        state.proposal_size = min(1.5 * state.proposal_size, LARGEST_SIZE)
