"""Splits and merges of the warm-up, judged by how well they predict.

These moves are no part of the Markov chain whose draws are kept: they end before the warm-up does,
and serve to bring chains from any start near the posterior. Two clusters are merged, preferably
two of which one's trajectory suits the members of the other; one is split by k-means of its
members' smoothed counts; the members of two are divided anew, by k-means, after which labels move
freely among them; or the members of a small one go each to the cluster that suits it. The neurons
concerned are sampled for some rounds under the old and under the new partition, states fixed, and
the widely applicable information criterion of the two (Watanabe 2010; expected log predictive
density on the scale of the log likelihood) decides, with the prior of the partition.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.bicluster.chain_state import ChainState, Problem
from neuropipe.analyses.bicluster.kernels.dynamics import sample_dynamics
from neuropipe.analyses.bicluster.kernels.likelihood import log_likelihood_bins
from neuropipe.analyses.bicluster.kernels.partition import log_partition_prior
from neuropipe.analyses.bicluster.kernels.readout import laplace
from neuropipe.analyses.bicluster.starts import kmeans_labels
from neuropipe.analyses.bicluster.sweep import TRAJECTORIES, Sweep, predictor

__all__ = ["rearrange"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SETTLE, FREE, KEEP = 12, 25, 15  # rounds
LEAST_SPLIT = 4
LARGEST = (
    100.0  # of a trajectory, in units of log rate: prior dynamics of a new cluster may explode
)
MERGE, SPLIT, DIVIDE, DISSOLVE = 0.35, 0.2, 0.25, 0.2  # shares of the proposals


class Proposal(NamedTuple):
    """Neurons concerned, their new labels from 0, and whether these may move in the fit."""

    members: Ints
    labels: Ints
    free: bool


def _local(
    sweep: Sweep, state: ChainState, members: Ints, labels: Ints, free: bool = False
) -> tuple[Sweep, ChainState]:
    """Return sampler and state of some neurons alone, in the clusters given, not yet fitted."""
    whole = sweep.problem
    problem = Problem(whole.counts[members], whole.offset[members], whole.start)
    scheme = replace(sweep.scheme, fix_labels=not free, collapsed=False, sm_every=0)
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


def _round(part: Sweep, local: ChainState, rng: np.random.Generator) -> None:
    """Sample all but the states, and labels only where they are not fixed."""
    part.dispersions(local, rng)
    TRAJECTORIES[part.scheme.family](part, local, rng)
    part.frames(local, rng)
    for slot in local.active():
        sample_dynamics(
            rng, local.x[slot], local.states, part.problem.start, part.priors.nu_extra,
            part.priors.q0, local.A[slot], local.b[slot], local.Q[slot], part.tally.failures,
        )  # fmt: skip
    part.labels(local, rng)


def _information_criterion(
    part: Sweep, local: ChainState, rng: np.random.Generator, settle: int
) -> float:
    """Return the expected log predictive density of the neurons' counts after `settle` rounds."""
    for _ in range(settle):
        _round(part, local, rng)
    draws = []
    for _ in range(KEEP):
        _round(part, local, rng)
        eta = predictor(part.problem, local)
        draws.append(
            log_likelihood_bins(part.problem.counts, eta, local.dispersion, part.scheme.poisson)
        )
    density = np.array(draws)
    top = density.max(axis=0)
    mean = top + np.log(np.exp(density - top).mean(axis=0))
    return float((mean - density.var(axis=0, ddof=1)).sum())


def _fit(sweep: Sweep, state: ChainState) -> Floats:
    """Return the log marginal likelihood of each neuron under each cluster's trajectory."""
    active, size = state.active(), state.coefficients.shape[1]
    mode, lower = np.empty(size), np.empty((size, size))
    found = np.empty((state.label.size, active.size))
    for i in range(state.label.size):
        for a, slot in enumerate(active):
            found[i, a] = laplace(
                sweep.problem.counts[i], sweep.problem.offset[i], state.x[slot],
                state.dispersion[i], sweep.scheme.poisson, sweep.prior_mean[i],
                sweep.prior_precision, mode, lower, sweep.tally.failures,
            )  # fmt: skip
    return found


def _closest(sweep: Sweep, state: ChainState, rng: np.random.Generator) -> tuple[int, int]:
    """Return two clusters: the closest pair with probability 1/2, the next with 1/4, ..."""
    active = state.active()
    fit, own = _fit(sweep, state), np.searchsorted(active, state.label)
    loss = fit - fit[np.arange(own.size), own][:, None]
    pairs = list(combinations(range(active.size), 2))
    scores = [max(loss[own == b, a].sum(), loss[own == a, b].sum()) for a, b in pairs]
    rank = min(int(rng.geometric(0.5)) - 1, len(pairs) - 1)
    first, second = pairs[int(np.argsort(scores)[::-1][rank])]
    return int(active[first]), int(active[second])


def _merge(sweep: Sweep, state: ChainState, rng: np.random.Generator) -> Proposal | None:
    if np.unique(state.label).size < 2:
        return None
    members = np.flatnonzero(np.isin(state.label, _closest(sweep, state, rng)))
    return Proposal(members, np.zeros(members.size, np.int64), False)


def _split(sweep: Sweep, state: ChainState, rng: np.random.Generator) -> Proposal | None:
    slots, sizes = np.unique(state.label, return_counts=True)
    slot = int(rng.choice(slots, p=sizes / sizes.sum()))
    return _halved(sweep, np.flatnonzero(state.label == slot), rng, False)


def _divide(sweep: Sweep, state: ChainState, rng: np.random.Generator) -> Proposal | None:
    if np.unique(state.label).size < 2:
        return None
    members = np.flatnonzero(np.isin(state.label, _closest(sweep, state, rng)))
    return _halved(sweep, members, rng, True)


def _dissolve(sweep: Sweep, state: ChainState, rng: np.random.Generator) -> Proposal | None:
    """Return a small cluster's units each in the cluster that suits it, with those of there."""
    active, sizes = np.unique(state.label, return_counts=True)
    if active.size < 2:
        return None
    slot = active[np.argsort(sizes, kind="stable")[min(int(rng.geometric(0.7)), active.size) - 1]]
    leaving = np.flatnonzero(state.label == slot)
    fit = _fit(sweep, state)[leaving]
    fit[:, active == slot] = -np.inf
    moved = state.label.copy()
    moved[leaving] = active[fit.argmax(axis=1)]
    members = np.flatnonzero(np.isin(moved, moved[leaving]))
    return Proposal(members, np.unique(moved[members], return_inverse=True)[1], False)


def _halved(sweep: Sweep, members: Ints, rng: np.random.Generator, free: bool) -> Proposal | None:
    if members.size < LEAST_SPLIT:
        return None
    labels = kmeans_labels(rng, sweep.problem.counts[members], 2)
    return Proposal(members, labels, free) if labels.max() == 1 else None


KINDS = {
    "merge": (_merge, MERGE),
    "split": (_split, SPLIT),
    "divide": (_divide, DIVIDE),
    "dissolve": (_dissolve, DISSOLVE),
}


def rearrange(
    sweep: Sweep, state: ChainState, rng: np.random.Generator, kind: str | None = None
) -> bool:
    """Propose one rearrangement of the warm-up; return whether it was accepted.

    Parameters
    ----------
    sweep : Sweep
        The sampler.
    state : ChainState
        Changed in place if the proposal is accepted.
    rng : Generator
        Random numbers of the chain.
    kind : {"merge", "split", "divide", "dissolve"}, optional
        What to propose; drawn if not given.
    """
    if kind is None:
        kind = str(rng.choice(list(KINDS), p=[share for _, share in KINDS.values()]))
    proposal = KINDS[kind][0](sweep, state, rng)
    if proposal is None:
        return False
    members = proposal.members
    slots, old_labels = np.unique(state.label[members], return_inverse=True)
    before, old = _local(sweep, state, members, old_labels.astype(np.int64))
    after, new = _local(sweep, state, *proposal)
    predicted = _information_criterion(after, new, rng, FREE if proposal.free else SETTLE)
    predicted -= _information_criterion(before, old, rng, 0)
    sources, labels = np.unique(new.label, return_inverse=True)
    state.grow(sources.size)
    empty = np.flatnonzero(np.bincount(state.label, minlength=len(state.x)) == 0)
    targets = np.concatenate([slots, empty])[: sources.size]
    arranged = state.label.copy()
    arranged[members] = targets[labels]
    held = after.tally.failures[1] == 0 and np.abs(new.x[sources]).max() < LARGEST
    if not (held and predicted + _log_prior_ratio(sweep, state, arranged) > 0):
        return False
    state.label[:] = arranged
    state.coefficients[members] = new.coefficients
    state.dispersion[members] = new.dispersion
    for name in ("x", "A", "b", "Q"):
        getattr(state, name)[targets] = getattr(new, name)[sources]
    return True


def _log_prior_ratio(sweep: Sweep, state: ChainState, arranged: Ints) -> float:
    log_v = sweep.scheme.log_v(arranged.size, sweep.priors, state.concentration)
    gamma = sweep.scheme.size_weight(sweep.priors)
    ratio = log_partition_prior(arranged, log_v, gamma)
    return float(ratio - log_partition_prior(state.label, log_v, gamma))
