"""Merge two clusters or split one, with every term of the acceptance ratio.

Split of a cluster m: each member goes to the kept or to the new cluster by a fair coin. The kept
one retains m's dynamics and its members' coefficients; the new one gets dynamics and coefficients
from the prior; both trajectories are drawn from a Gaussian approximation of their conditional
(`kernels.laplace_path`). Merge is the reverse: the dropped cluster's members get coefficients from
their Laplace approximation under the kept trajectory, then the trajectory of all is drawn. With
M(S) for ``prior x likelihood / proposal`` of a trajectory and its neurons S, the ratio of a merge
is ::

    p(C') / p(C) x choice x M(S1 + S2) / [M(S1) M(S2)] x prod_{i in S2} p(b_i') / Laplace(b_i')

since the priors of what the split draws from the prior cancel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.bicluster.chain_state import ChainState, Priors, Problem, Scheme
from neuropipe.analyses.bicluster.kernels.dynamics import draw_prior_dynamics
from neuropipe.analyses.bicluster.kernels.laplace_path import (
    approximate_path,
    expand_likelihood,
    log_path_prior,
)
from neuropipe.analyses.bicluster.kernels.partition import log_partition_prior
from neuropipe.analyses.bicluster.kernels.readout import draw_gaussian, laplace, log_gaussian
from neuropipe.analyses.bicluster.kernels.trajectory import DRAW, EVALUATE, sample_backward

__all__ = ["SplitMerge"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass
class SplitMerge:
    """The move for one problem.

    Attributes
    ----------
    problem, priors, scheme
        Data, hyper-parameters, model.
    prior_mean, prior_precision : ndarray, shapes (n_units, n) and (n,)
        Prior of the coefficients.
    failures : ndarray of int, shape (2,)
        See `kernels.linalg.cholesky`.
    """

    problem: Problem
    priors: Priors
    scheme: Scheme
    prior_mean: Floats
    prior_precision: Floats
    failures: Ints

    def __call__(self, state: ChainState, rng: np.random.Generator) -> tuple[str, bool]:
        """Propose a split or a merge, each with probability one half; return which, if accepted."""
        slots = np.unique(state.label)
        if rng.random() < 0.5:
            if slots.size < 2:
                return "merge", False
            kept, dropped = rng.choice(slots, 2, replace=False)
            return "merge", self.merge(state, rng, int(kept), int(dropped))
        sizes = np.bincount(state.label, minlength=len(state.x))
        slot = int(rng.choice(np.flatnonzero(sizes >= 2))) if (sizes >= 2).any() else -1
        return "split", slot >= 0 and self.split(state, rng, slot)

    def path(
        self, state: ChainState, rng: np.random.Generator, members: Ints, coefficients: Floats,
        slot: int, x: Floats, mode: int,
    ) -> float:  # fmt: skip
        """Draw into `x` or evaluate it; return the log of prior x likelihood / proposal."""
        problem, scheme = self.problem, self.scheme
        dynamics = state.A[slot], state.b[slot], state.Q[slot], state.states, problem.start
        data = problem.counts, problem.offset, coefficients, state.dispersion, scheme.poisson
        precision, linear = approximate_path(rng, *data, members, *dynamics, self.failures)
        proposal = sample_backward(
            rng, *dynamics, precision, linear, x, 0, len(x), mode, self.failures
        )
        size = x.shape[1]
        likelihood = expand_likelihood(
            *data, members, x, np.empty((len(x), size, size)), np.empty_like(x)
        )
        return log_path_prior(x, *dynamics, self.failures) + likelihood - proposal

    def coefficients(
        self, state: ChainState, rng: np.random.Generator, members: Ints, x: Floats,
        coefficients: Floats, draw: bool,
    ) -> float:  # fmt: skip
        """Draw or evaluate coefficients under `x`; return log prior over Laplace density."""
        size, total = coefficients.shape[1], 0.0
        mode, lower = np.empty(size), np.empty((size, size))
        for i in members:
            found = laplace(
                self.problem.counts[i], self.problem.offset[i], x, state.dispersion[i],
                self.scheme.poisson, self.prior_mean[i], self.prior_precision, mode, lower,
                self.failures,
            )  # fmt: skip
            if not np.isfinite(found):
                return -np.inf
            if draw:
                draw_gaussian(rng, mode, lower, coefficients[i])
            residual = coefficients[i] - self.prior_mean[i]
            total += 0.5 * float(np.log(self.prior_precision / (2.0 * np.pi)).sum())
            total -= 0.5 * float((self.prior_precision * residual**2).sum())
            total -= log_gaussian(mode, lower, coefficients[i])
        return total

    def _choice(self, split: Ints, merged: Ints, state: ChainState, members: int) -> float:
        """Return the log of prior and selection probabilities, merged over split."""
        log_v = self.scheme.log_v(split.size, self.priors, state.concentration)
        gamma = self.scheme.size_weight(self.priors)
        value = log_partition_prior(merged, log_v, gamma)
        value -= log_partition_prior(split, log_v, gamma)
        clusters = np.unique(split).size
        splittable = int((np.bincount(merged) >= 2).sum())
        value += np.log(clusters * (clusters - 1.0)) - np.log(splittable)
        return float(value - members * np.log(2.0))

    def merge(self, state: ChainState, rng: np.random.Generator, kept: int, dropped: int) -> bool:
        """Propose to move the members of one cluster to another."""
        first, second = (np.flatnonzero(state.label == slot) for slot in (kept, dropped))
        both = np.sort(np.concatenate([first, second]))
        labels, merged = np.where(state.label == dropped, kept, state.label), state.coefficients
        merged = merged.copy()
        ratio = self._choice(state.label, labels, state, both.size)
        ratio += self.coefficients(state, rng, second, state.x[kept], merged, True)
        x = np.empty_like(state.x[kept])
        ratio += self.path(state, rng, both, merged, kept, x, DRAW)
        for members, slot in ((first, kept), (second, dropped)):
            ratio -= self.path(
                state, rng, members, state.coefficients, slot, state.x[slot], EVALUATE
            )
        if not np.log(1.0 - rng.random()) < ratio:
            return False
        state.label[:], state.coefficients[:], state.x[kept] = labels, merged, x
        return True

    def split(self, state: ChainState, rng: np.random.Generator, slot: int) -> bool:
        """Propose to move some members of a cluster to a new one."""
        both = np.flatnonzero(state.label == slot)
        moved = rng.random(both.size) < 0.5
        first, second = both[~moved], both[moved]
        if first.size == 0 or second.size == 0:
            return False
        state.grow(1)
        new = int(np.flatnonzero(np.bincount(state.label, minlength=len(state.x)) == 0)[0])
        draw_prior_dynamics(
            rng, self.priors.nu_extra, self.priors.q0, state.A[new], state.b[new], state.Q[new],
            self.failures,
        )  # fmt: skip
        labels, divided = state.label.copy(), state.coefficients.copy()
        labels[second] = new
        divided[second] = self.prior_mean[second] + rng.standard_normal(
            divided[second].shape
        ) / np.sqrt(self.prior_precision)
        paths = np.empty_like(state.x[[slot, new]])
        ratio = self.path(state, rng, first, divided, slot, paths[0], DRAW)
        ratio += self.path(state, rng, second, divided, new, paths[1], DRAW)
        ratio -= self._choice(labels, state.label, state, both.size)
        ratio -= self.coefficients(state, rng, second, paths[0], state.coefficients, False)
        ratio -= self.path(state, rng, both, state.coefficients, slot, state.x[slot], EVALUATE)
        if not np.log(1.0 - rng.random()) < ratio:
            return False
        state.label[:], state.coefficients[:] = labels, divided
        state.x[slot], state.x[new] = paths
        return True
