"""One sweep of the sampler: every conditional of the model in turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.bicluster.chain_state import ChainState, Priors, Problem, Scheme
from neuropipe.analyses.bicluster.kernels.collapsed_dynamics import scale_noise
from neuropipe.analyses.bicluster.kernels.collapsed_labels import Chain, Working, move_labels
from neuropipe.analyses.bicluster.kernels.concentrations import sample_concentrations
from neuropipe.analyses.bicluster.kernels.dispersion import sample_dispersion
from neuropipe.analyses.bicluster.kernels.dynamics import sample_dynamics
from neuropipe.analyses.bicluster.kernels.frames import move_frame
from neuropipe.analyses.bicluster.kernels.labels import Readouts, Slots, scan_labels
from neuropipe.analyses.bicluster.kernels.likelihood import linear_predictor, polya_gamma
from neuropipe.analyses.bicluster.kernels.segments import move_segments
from neuropipe.analyses.bicluster.kernels.states import (
    log_transition_densities,
    sample_states_blocked,
    scan_states,
)
from neuropipe.analyses.bicluster.kernels.trajectory import (
    DRAW,
    accumulate_information,
    sample_backward,
    sample_trajectory,
)
from neuropipe.analyses.bicluster.kernels.transitions import count_transitions, sample_transitions
from neuropipe.analyses.bicluster.kernels.windows import update_windows
from neuropipe.analyses.bicluster.split_merge import SplitMerge
from neuropipe.errors import ComputationError

__all__ = ["MOVED", "TRAJECTORIES", "Sweep", "Tally", "predictor"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
MOST_FAILURES = 10
FRAME_PROPOSALS, SEGMENTS = 30, 15
MOVED, SCALES = 10, 2


def predictor(problem: Problem, state: ChainState) -> Floats:
    """Return eta, (n_units, n_bins)."""
    return linear_predictor(
        problem.offset, state.coefficients[:, 0].copy(), state.readout(), state.group(), state.x
    )


@dataclass
class Tally:
    """Accepted and proposed moves since the last reading, by move.

    Attributes
    ----------
    label, collapsed, trajectory, split, merge : ndarray of int, shape (2,)
        Accepted, proposed.
    failures : ndarray of int, shape (2,)
        Matrices that needed jitter; matrices that jitter did not save.
    """

    label: Ints = field(default_factory=lambda: np.zeros(2, np.int64))
    collapsed: Ints = field(default_factory=lambda: np.zeros(2, np.int64))
    trajectory: Ints = field(default_factory=lambda: np.zeros(2, np.int64))
    split: Ints = field(default_factory=lambda: np.zeros(2, np.int64))
    merge: Ints = field(default_factory=lambda: np.zeros(2, np.int64))
    failures: Ints = field(default_factory=lambda: np.zeros(2, np.int64))

    def read(self) -> dict[str, float]:
        """Return acceptance shares and failures since the last reading, and begin again."""
        shares = {}
        for name in ("label", "collapsed", "trajectory", "split", "merge"):
            accepted, proposed = getattr(self, name)
            shares[f"accept_{name}"] = float(accepted / proposed) if proposed else np.nan
            getattr(self, name)[:] = 0
        shares["jitter"] = float(self.failures[0])
        self.failures[:] = 0
        return shares


class Sweep:
    """The sampler of one problem.

    Parameters
    ----------
    problem : Problem
        Data.
    priors : Priors
        Hyper-parameters.
    scheme : Scheme
        Model and moves.

    Attributes
    ----------
    pilot, holding, settling : bool
        Dynamics, labels, bouts of states stay as they are (in the warm-up).
    moved : int
        Neurons per sweep whose label moves with trajectories integrated out.
    """

    def __init__(self, problem: Problem, priors: Priors, scheme: Scheme) -> None:
        self.problem, self.priors, self.scheme = problem, priors, scheme
        self.tally = Tally()
        n_units, size = problem.counts.shape[0], scheme.p + 1
        self.prior_mean = np.zeros((n_units, size))
        self.prior_mean[:, 0] = priors.baseline_means(problem.counts)
        self.prior_precision = np.full(size, 1.0 / priors.v_c)
        self.prior_precision[0] = 1.0 / priors.v_d
        self._log_v = scheme.log_v(n_units, priors, 1.0)
        self.split_merge = SplitMerge(
            problem, priors, scheme, self.prior_mean, self.prior_precision, self.tally.failures
        )
        self.count = 0
        self.pilot, self.holding, self.settling, self.moved = False, False, False, MOVED

    def __call__(self, state: ChainState, rng: np.random.Generator) -> None:
        """Advance the state by one sweep, in place.

        Raises
        ------
        ComputationError
            If more than ten matrices of the sweep were not positive definite despite jitter.
        """
        self.dispersions(state, rng)
        TRAJECTORIES[self.scheme.family](self, state, rng)
        if not (state.coupled or self.pilot):
            self.frames(state, rng)
        if not self.settling:
            self.segments(state, rng)
        for _ in range(self.scheme.n_inner):
            self.dynamics(state, rng)
        self.labels(state, rng)
        if not (self.scheme.frozen or self.holding):
            if self.scheme.partition == "dp":
                self.concentration(state, rng)
            self._split_or_merge(state, rng)
        if self.tally.failures[1] > MOST_FAILURES:
            raise ComputationError(
                f"{self.tally.failures[1]} covariance matrices of one sweep were not positive "
                "definite, also with jitter; check the counts for extreme values, or widen q0"
            )
        self.tally.failures[1] = 0

    def dispersions(self, state: ChainState, rng: np.random.Generator) -> None:
        """Draw the dispersion of every neuron (negative binomial only)."""
        if not self.scheme.poisson:
            sample_dispersion(
                rng, self.problem.counts, predictor(self.problem, state), self.priors.a_r,
                self.priors.h_r, state.dispersion,
            )  # fmt: skip

    def _split_or_merge(self, state: ChainState, rng: np.random.Generator) -> None:
        self.count += 1
        if self.scheme.sm_every and self.count % self.scheme.sm_every == 0:
            kind, accepted = self.split_merge(state, rng)
            getattr(self.tally, kind)[:] += (int(accepted), 1)

    def _information(
        self, state: ChainState, rng: np.random.Generator, eta: Floats, sizes: Floats
    ) -> tuple[Floats, Floats, Floats]:
        """Return fresh Polya-Gamma variables and what they say of each active trajectory."""
        counts = self.problem.counts
        omega = polya_gamma(rng, counts, eta, sizes)
        own = self.problem.offset + state.coefficients[:, :1] - np.log(sizes)[:, None]
        weighted = np.where(counts >= 0.0, 0.5 * (counts - sizes[:, None]), 0.0) - omega * own
        active, readout, group = state.active(), state.readout(), state.group()
        n_bins, size = state.x.shape[1:]
        information = np.empty((active.size, n_bins, size, size))
        shift = np.empty((active.size, n_bins, size))
        for a, slot in enumerate(active):
            members = np.flatnonzero(group == slot)
            accumulate_information(omega, weighted, readout, members, information[a], shift[a])
        return omega, information, shift

    def negbin_trajectories(self, state: ChainState, rng: np.random.Generator) -> None:
        """Draw states with the trajectories integrated out, then the trajectories."""
        eta = predictor(self.problem, state)
        omega, information, shift = self._information(state, rng, eta, state.dispersion)
        if self.moved and not (self.scheme.frozen or self.holding):
            information, shift = self.collapsed_labels(state, rng, omega, information, shift)
        active, start, failures = state.active(), self.problem.start, self.tally.failures
        for a, slot in enumerate(() if self.pilot else active):
            scale_noise(
                rng, SCALES, state.A[slot], state.b[slot], state.Q[slot], state.states, start,
                information[a], shift[a], self.priors.nu_extra, self.priors.q0, failures,
            )  # fmt: skip
        if not self.scheme.collapsed:
            for a, slot in enumerate(active):
                sample_trajectory(
                    rng, state.A[slot], state.b[slot], state.Q[slot], state.states, start,
                    information[a], shift[a], state.x[slot], failures,
                )  # fmt: skip
            return
        precision, linear = np.empty_like(information), np.empty_like(shift)
        scan_states(
            rng, active, state.A, state.b, state.Q, state.transition, start, information, shift,
            state.states, precision, linear, failures,
        )  # fmt: skip
        for a, slot in enumerate(active):
            sample_backward(
                rng, state.A[slot], state.b[slot], state.Q[slot], state.states, start,
                precision[a], linear[a], state.x[slot], 0, start.size, DRAW, failures,
            )  # fmt: skip

    def collapsed_labels(
        self, state: ChainState, rng: np.random.Generator, omega: Floats, information: Floats,
        shift: Floats,
    ) -> tuple[Floats, Floats]:  # fmt: skip
        """Move labels of some neurons with trajectories integrated out; those must be redrawn.

        Returns information and shift of the clusters that are active then.
        """
        counts, sizes = self.problem.counts, state.dispersion[:, None]
        data = Working(
            omega, np.where(counts >= 0.0, 0.5 * (counts - sizes), 0.0),
            self.problem.offset - np.log(sizes), self.prior_mean, self.prior_precision,
        )  # fmt: skip
        order = rng.permutation(counts.shape[0])[: self.moved]
        state.grow(order.size)
        occupied = state.active()
        free = np.setdiff1d(np.arange(len(state.x)), occupied)[: order.size]
        slots = np.concatenate([occupied, free])
        chain = Chain(
            state.A[slots], state.b[slots], state.Q[slots], state.states, self.problem.start
        )
        extra = [(0, order.size), *[(0, 0)] * 3]
        information, shift = np.pad(information, extra), np.pad(shift, extra[:3])
        cluster = np.searchsorted(occupied, state.label)
        move_labels(
            rng, order, data, chain, self.scheme.size_weight(self.priors), self.log_birth(state),
            self.priors.nu_extra, self.priors.q0, cluster, state.coefficients, information, shift,
            self.tally.collapsed, self.tally.failures,
        )  # fmt: skip
        state.label[:] = slots[cluster]
        for name in ("A", "b", "Q"):
            getattr(state, name)[slots] = getattr(chain, name)
        kept = np.searchsorted(slots, state.active(), sorter=np.argsort(slots))
        kept = np.argsort(slots)[kept]
        return information[kept], shift[kept]

    def log_birth(self, state: ChainState) -> Floats:
        """Return ``log [gamma V_N(t + 1) / V_N(t)]`` by the number t of other clusters."""
        if self.scheme.partition == "dp":
            self._log_v = self.scheme.log_v(state.label.size, self.priors, state.concentration)
        gamma = self.scheme.size_weight(self.priors)
        found: Floats = np.diff(self._log_v) + (np.log(gamma) if gamma > 0.0 else 0.0)
        return found

    def poisson_trajectories(self, state: ChainState, rng: np.random.Generator) -> None:
        """Draw trajectories in windows by the negative binomial of size ``proposal_size``."""
        eta, counts = predictor(self.problem, state), self.problem.counts
        sizes = np.full(counts.shape[0], state.proposal_size)
        _, information, shift = self._information(state, rng, eta, sizes)
        n_bins, window = counts.shape[1], min(state.window, counts.shape[1])
        edges = np.arange(int(rng.integers(1, window + 1)), n_bins, window)
        edges = np.concatenate([[0], edges, [n_bins]])
        readout, group = state.readout(), state.group()
        for a, slot in enumerate(state.active()):
            update_windows(
                rng, counts, eta, readout, np.flatnonzero(group == slot), state.proposal_size,
                state.A[slot], state.b[slot], state.Q[slot], state.states, self.problem.start,
                information[a], shift[a], edges, state.x[slot], self.tally.trajectory,
                self.tally.failures,
            )  # fmt: skip

    def frames(self, state: ChainState, rng: np.random.Generator) -> None:
        """Change the frame of every cluster; `dynamics` must follow at once."""
        for slot in state.active():
            move_frame(
                rng, FRAME_PROPOSALS, np.flatnonzero(state.label == slot), self.prior_mean,
                self.prior_precision, state.states, self.problem.start, state.beta.size,
                self.priors.nu_extra, self.priors.q0, state.coefficients, state.x[slot],
                self.tally.failures,
            )  # fmt: skip

    def segments(self, state: ChainState, rng: np.random.Generator) -> None:
        """Move states of segments, then transitions; `dynamics` must follow at once."""
        alpha, gamma, kappa = self.priors.strength(state)
        move_segments(
            rng, SEGMENTS, state.x, state.active(), self.problem.start, state.beta, alpha, kappa,
            self.priors.nu_extra, self.priors.q0, state.states, self.tally.failures,
        )  # fmt: skip
        sample_transitions(
            rng, state.states, self.problem.start, alpha, gamma, kappa, state.beta,
            state.transition,
        )  # fmt: skip

    def dynamics(self, state: ChainState, rng: np.random.Generator) -> None:
        """Draw dynamics given trajectories and states, states given those, transitions."""
        active, start = state.active(), self.problem.start
        for slot in () if self.pilot else active:
            sample_dynamics(
                rng, state.x[slot], state.states, start, self.priors.nu_extra, self.priors.q0,
                state.A[slot], state.b[slot], state.Q[slot], self.tally.failures,
            )  # fmt: skip
        density = log_transition_densities(
            state.x, active, state.A, state.b, state.Q, start, self.tally.failures
        )
        sample_states_blocked(rng, density, state.transition, start, state.states)
        strength = self.priors.strength(state)
        if self.priors.hyper is not None:
            counts = count_transitions(state.states, start, state.beta.size)
            sample_concentrations(rng, counts, state.beta, np.array(self.priors.hyper), strength)
            state.strength = strength
        alpha, gamma, kappa = strength
        sample_transitions(
            rng, state.states, start, alpha, gamma, kappa, state.beta, state.transition
        )

    def labels(self, state: ChainState, rng: np.random.Generator) -> None:
        """Draw label, baseline and loadings of every neuron, in random order."""
        n_units, frozen = state.label.size, self.scheme.frozen or self.holding
        gamma, log_birth = self.scheme.size_weight(self.priors), self.log_birth(state)
        order, done = rng.permutation(n_units), 0
        while done < n_units:
            if not frozen:
                state.grow(self.scheme.n_aux + 1)
            paths = state.cluster_paths()
            slots = Slots(
                paths, state.A, state.b, state.Q, np.bincount(state.label, minlength=len(paths))
            )
            units = Readouts(
                self.problem.counts, self.problem.offset, state.dispersion, self.prior_mean,
                self.prior_precision, state.label, state.coefficients,
            )  # fmt: skip
            done = scan_labels(
                rng, order, done, slots, units, state.states, self.problem.start,
                self.scheme.poisson, log_birth, gamma, self.scheme.n_aux, self.priors.nu_extra,
                self.priors.q0, frozen, self.tally.label, self.tally.failures,
            )  # fmt: skip

    def concentration(self, state: ChainState, rng: np.random.Generator) -> None:
        """Draw the concentration of the Dirichlet process, prior Exp(1) (Escobar & West 1995)."""
        n_units, clusters = state.label.size, np.unique(state.label).size
        mixed = rng.beta(state.concentration + 1.0, n_units)
        rate = 1.0 - np.log(mixed)
        odds = clusters / (n_units * rate)
        shape = clusters + (1.0 if rng.random() * (1.0 + odds) < odds else 0.0)
        state.concentration = float(rng.gamma(shape, 1.0 / rate))


TRAJECTORIES: dict[str, Callable[[Sweep, ChainState, np.random.Generator], None]] = {
    "negbin": Sweep.negbin_trajectories,
    "poisson": Sweep.poisson_trajectories,
}
