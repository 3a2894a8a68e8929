"""Splits and merges of the warm-up: proposals fitted to the data, judged by estimated evidence.

These moves are no part of the Markov chain whose draws are kept: they end before the warm-up does,
and serve to bring chains from any start near the posterior. A cluster is split in two by k-means
of its members' smoothed counts, or two are merged; the outcome is refined by some rounds of
trajectories, dynamics, coefficients and (of a split) labels. It is then accepted by the ratio of
the partitions' prior times the evidence of each cluster involved, estimated from one state as
likelihood times prior over conditional density (Chib 1995). Conditional densities given the path
are higher than marginal ones, which alone would favour few clusters; an allowance per cluster for
its ``(p + 1)^2`` directions along which path and coefficients trade off, and per state for its
dynamics, makes up for it. It was set on simulated data and decides only where chains begin.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.bicluster.chain_state import ChainState, Problem
from neuropipe.analyses.bicluster.kernels.dynamics import (
    log_dynamics_conditional,
    sample_dynamics,
)
from neuropipe.analyses.bicluster.kernels.partition import log_partition_prior
from neuropipe.analyses.bicluster.kernels.trajectory import DRAW, EVALUATE
from neuropipe.analyses.bicluster.starts import kmeans_labels, smooth_paths
from neuropipe.analyses.bicluster.sweep import Sweep

__all__ = ["rearrange"]

Ints = NDArray[np.int64]

ROUNDS, LEAST_SPLIT = 12, 4
TRADE_OFF, PER_STATE, LEAST_SHARE = 5.0, 18.0, 0.05


def _local(
    sweep: Sweep, state: ChainState, members: Ints, labels: Ints
) -> tuple[Sweep, ChainState]:
    """Return sampler and state of some neurons alone, in the clusters given, not yet fitted."""
    whole = sweep.problem
    problem = Problem(whole.counts[members], whole.offset[members], whole.start)
    scheme = replace(sweep.scheme, n_aux=0, sm_every=0, partition="mfm")
    part = Sweep(problem, sweep.priors, scheme)
    part.prior_mean[:] = sweep.prior_mean[members]
    clusters = int(labels.max()) + 1
    source = [int(np.bincount(state.label[members[labels == j]]).argmax()) for j in range(clusters)]
    local = replace(
        state,
        label=labels.copy(),
        coefficients=state.coefficients[members].copy(),
        dispersion=state.dispersion[members].copy(),
        x=state.x[source].copy(),
        A=state.A[source].copy(),
        b=state.b[source].copy(),
        Q=state.Q[source].copy(),
    )
    return part, local


def _refine(part: Sweep, local: ChainState, rng: np.random.Generator) -> None:
    priors, failures = part.priors, part.tally.failures
    for _ in range(ROUNDS):
        for slot in np.unique(local.label):
            members = np.flatnonzero(local.label == slot)
            part.split_merge.path(
                local, rng, members, local.coefficients, slot, local.x[slot], DRAW
            )
            sample_dynamics(
                rng, local.x[slot], local.states, part.problem.start, priors.nu_extra, priors.q0,
                local.A[slot], local.b[slot], local.Q[slot], failures,
            )  # fmt: skip
        part.labels(local, rng)


def _log_evidence(part: Sweep, local: ChainState, rng: np.random.Generator) -> float:
    """Return the estimated log evidence of all clusters of a local state."""
    total, priors = 0.0, part.priors
    shares = np.bincount(local.states) / local.states.size
    allowance = TRADE_OFF * (part.scheme.p + 1) ** 2 + PER_STATE * (shares > LEAST_SHARE).sum()
    for slot in np.unique(local.label):
        members, x = np.flatnonzero(local.label == slot), local.x[slot]
        total += allowance
        total += part.split_merge.path(local, rng, members, local.coefficients, slot, x, EVALUATE)
        total += part.split_merge.coefficients(
            local, rng, members, x, local.coefficients.copy(), False
        )
        total -= log_dynamics_conditional(
            x, local.states, part.problem.start, priors.nu_extra, priors.q0,
            local.A[slot], local.b[slot], local.Q[slot],
        )  # fmt: skip
    return total


def _proposal(
    sweep: Sweep, state: ChainState, rng: np.random.Generator
) -> tuple[Ints, Ints] | None:
    """Return the neurons concerned and their new labels 0, 1; None if nothing can be done."""
    slots, sizes = np.unique(state.label, return_counts=True)
    if rng.random() < 0.5:
        if slots.size < 2:
            return None
        members = np.flatnonzero(np.isin(state.label, rng.choice(slots, 2, replace=False)))
        return members, np.zeros(members.size, np.int64)
    if sizes.max() < LEAST_SPLIT:
        return None
    slot = int(rng.choice(slots[sizes >= LEAST_SPLIT]))
    members = np.flatnonzero(state.label == slot)
    labels = kmeans_labels(rng, sweep.problem.counts[members], 2)
    return (members, labels) if labels.max() == 1 else None


def rearrange(sweep: Sweep, state: ChainState, rng: np.random.Generator) -> bool:
    """Propose one split or merge of the warm-up; return whether it was accepted.

    Parameters
    ----------
    sweep : Sweep
        The sampler.
    state : ChainState
        Changed in place if the proposal is accepted.
    rng : Generator
        Random numbers of the chain.
    """
    proposed = _proposal(sweep, state, rng)
    if proposed is None:
        return False
    members, labels = proposed
    old_labels = np.unique(state.label[members], return_inverse=True)[1].astype(np.int64)
    before, old = _local(sweep, state, members, old_labels)
    after, new = _local(sweep, state, members, labels)
    if labels.max() > 0:
        new.x[:] = smooth_paths(rng, 2, new.x.shape[1], new.x.shape[2])
    _refine(after, new, rng)
    used = np.unique(new.label)
    slots = np.unique(state.label[members])
    state.grow(1)
    free = np.flatnonzero(np.bincount(state.label, minlength=len(state.x)) == 0)
    targets = np.concatenate([slots, free])[: used.size]
    merged = state.label.copy()
    merged[members] = targets[np.searchsorted(used, new.label)]
    log_v = sweep.scheme.log_v(merged.size, sweep.priors, state.concentration)
    gamma = sweep.scheme.size_weight(sweep.priors)
    ratio = log_partition_prior(merged, log_v, gamma)
    ratio -= log_partition_prior(state.label, log_v, gamma)
    ratio += _log_evidence(after, new, rng) - _log_evidence(before, old, rng)
    if not np.log(1.0 - rng.random()) < ratio:
        return False
    state.label[:] = merged
    state.coefficients[members] = new.coefficients
    for name in ("x", "A", "b", "Q"):
        getattr(state, name)[targets] = getattr(new, name)[used]
    return True
