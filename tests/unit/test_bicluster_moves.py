"""Moves with trajectories, dynamics or transitions integrated out, against their definitions."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import invwishart, matrix_normal

from neuropipe.analyses.bicluster.chain_state import Priors, Problem, Scheme
from neuropipe.analyses.bicluster.joint import log_joint, sample_counts, sample_prior
from neuropipe.analyses.bicluster.kernels import collapsed_dynamics, collapsed_labels
from neuropipe.analyses.bicluster.kernels.dynamics import (
    draw_prior_dynamics,
    log_dynamics_conditional,
)
from neuropipe.analyses.bicluster.kernels.evidence import (
    log_sequence_evidence,
    log_trajectory_evidence,
)
from neuropipe.analyses.bicluster.kernels.frames import move_frame
from neuropipe.analyses.bicluster.kernels.laplace_path import log_path_prior
from neuropipe.analyses.bicluster.kernels.segments import move_segments
from neuropipe.analyses.bicluster.kernels.trajectory import MEAN, filter_forward, sample_backward
from neuropipe.analyses.bicluster.rearrange import rearrange
from neuropipe.analyses.bicluster.starts import initial_state
from neuropipe.analyses.bicluster.sweep import Sweep, predictor
from neuropipe.simulate.planted_biclusters import planted_biclusters
from neuropipe.stats.clustering_scores import adjusted_rand_score

PRIORS = Priors(m_d=0.0, nu_extra=8.0, q0=0.2, a_r=4.0, h_r=1.0)
SCHEME = Scheme(p=2, n_states_max=2, n_inner=1, sm_every=0)


def failures() -> np.ndarray:
    return np.zeros(2, np.int64)


@pytest.fixture(scope="module")
def drawn():
    """Return a problem of 6 units in 2 clusters and 30 bins, and the state that made it."""
    rng = np.random.default_rng(1)
    problem = Problem.of(np.zeros((6, 30)), start=np.arange(30) == 17)
    state = sample_prior(problem, PRIORS, SCHEME, rng, np.repeat([0, 1], 3))
    counts = sample_counts(problem, state, SCHEME, rng)
    return Problem.of(counts, start=problem.start), state


def test_evidence_of_a_trajectory_is_bayes_theorem(drawn):
    problem, state = drawn
    rng, x, first = np.random.default_rng(2), state.x[0], state.x[0][problem.start]
    A, b, Q = state.A[0].copy(), state.b[0].copy(), state.Q[0].copy()
    rest = state.states, problem.start
    found = log_trajectory_evidence(x, *rest, 2, 8.0, 0.2, failures()).sum()
    for _ in range(3):
        draw_prior_dynamics(rng, 8.0, 0.2, A, b, Q, failures())
        steps = log_path_prior(x, A, b, Q, *rest, failures())
        steps += 0.5 * (first**2 + np.log(2 * np.pi)).sum()
        wanted = steps - log_dynamics_conditional(x, *rest, 8.0, 0.2, A, b, Q)
        assert found == pytest.approx(wanted, abs=1e-8)


def test_probabilities_of_all_state_sequences_sum_to_one():
    start, beta = np.array([True, False, False, False, True, False]), np.array([0.3, 0.7])
    total = 0.0
    for drawn in product(range(2), repeat=4):
        states = np.array([0, *drawn[:3], 0, drawn[3]])
        total += np.exp(log_sequence_evidence(states, start, beta, 5.0, 10.0))
    assert total == pytest.approx(1.0, abs=1e-10)


def test_a_change_of_frame_moves_the_trajectory_and_leaves_the_rates(drawn):
    problem, before = drawn
    state = before.copy()
    members = np.flatnonzero(state.label == 0)
    accepted = move_frame(
        np.random.default_rng(3), 300, members, np.zeros((6, 3)), np.ones(3), state.states,
        problem.start, 2, PRIORS.nu_extra, PRIORS.q0, state.coefficients, state.x[0], failures(),
    )  # fmt: skip
    assert accepted > 30
    assert np.abs(state.x[0] - before.x[0]).max() > 0.05
    np.testing.assert_allclose(predictor(problem, state), predictor(problem, before), atol=1e-9)
    # Accepted changes do not run away from the bulk of the density.
    moved = log_joint(problem, state, PRIORS, SCHEME) - log_joint(problem, before, PRIORS, SCHEME)
    assert abs(moved) < 60


def test_prior_ratio_of_scaled_noise_is_that_of_scipy(drawn):
    _, state = drawn
    A, b, Q, log_scale = state.A[0, 0], state.b[0, 0], state.Q[0, 0], 0.3

    def log_prior(noise: np.ndarray) -> float:
        value = invwishart.logpdf(noise, 3 + PRIORS.nu_extra, PRIORS.q0 * np.eye(3))
        return value + matrix_normal.logpdf(np.column_stack([A, b]), np.eye(3, 4), noise, np.eye(4))

    found = collapsed_dynamics._log_prior_ratio(A, b, Q, log_scale, 8.0, 0.2, failures())
    jacobian = 6 * 2 * log_scale  # six free entries of a symmetric matrix
    wanted = log_prior(np.exp(2 * log_scale) * Q) - log_prior(Q) + jacobian
    assert found == pytest.approx(wanted, abs=1e-9)


def test_states_of_segments_have_the_probability_that_other_bins_give_them():
    rng, start, beta = np.random.default_rng(7), np.arange(8) % 5 == 0, np.array([0.2, 0.8])
    x = 0.3 * rng.standard_normal((3, 8, 2))
    active, strength, prior = np.array([0, 2]), (2.0, 0.5), (3.0, 0.2)
    inner = np.flatnonzero(~start)
    tried = [np.zeros(8, np.int64) for _ in range(2**inner.size)]
    wanted = np.empty(len(tried))
    for number, states in enumerate(tried):
        states[inner] = number >> np.arange(inner.size) & 1
        wanted[number] = log_sequence_evidence(states, start, beta, *strength)
        for slot in active:
            one = log_trajectory_evidence(x[slot], states, start, 2, *prior, failures())
            wanted[number] += one.sum()
    wanted = np.exp(wanted - wanted.max()) / np.exp(wanted - wanted.max()).sum()
    states, seen, moved = tried[0].copy(), np.zeros((40, len(tried))), 0
    for draw in range(150_000):
        moved += move_segments(
            rng, 1, x, active, start, beta, *strength, *prior, states, failures()
        )
        seen[draw // 3_750, (states[inner] << np.arange(inner.size)).sum()] += 1 / 3_750
    assert (states[start] == states[np.flatnonzero(start) + 1]).all()
    assert moved > 5_000
    likely = wanted > 5e-3
    error = seen.std(axis=0, ddof=1) / np.sqrt(40)
    assert (np.abs(seen.mean(axis=0) - wanted) < 4.5 * error)[likely].all()


def test_smoothed_moments_are_those_of_backward_sampling(drawn):
    problem, state = drawn
    rng = np.random.default_rng(4)
    root = rng.standard_normal((30, 3, 3))
    information, shift = root @ root.transpose(0, 2, 1), rng.standard_normal((30, 3))
    chain = collapsed_labels.Chain(state.A, state.b, state.Q, state.states, problem.start)
    mean, second = np.empty((30, 3)), np.empty((30, 3, 3))
    found = collapsed_labels._smooth(chain, 0, information, shift, mean, second, failures())
    dynamics = state.A[0], state.b[0], state.Q[0], state.states, problem.start
    precision, linear, x = np.empty_like(information), np.empty_like(shift), np.empty_like(shift)
    whole = filter_forward(*dynamics, information, shift, x, 0, 30, precision, linear, failures())
    sample_backward(rng, *dynamics, precision, linear, x, 0, 30, MEAN, failures())
    assert found == pytest.approx(whole)
    np.testing.assert_allclose(mean, x, atol=1e-8)
    spread = second - mean[:, :, None] * mean[:, None, :]
    assert (np.linalg.eigvalsh(spread) > 0).all()


def test_halves_of_one_cluster_are_merged_in_the_warm_up():
    rng = np.random.default_rng(5)
    data, _ = planted_biclusters(0, n_per=8, n_clusters=1, p=1, T=120)
    problem, scheme = Problem.of(data["counts"].values), Scheme(p=1, n_states_max=2, sm_every=0)
    state = initial_state(problem, PRIORS, scheme, rng, 0, np.repeat([0, 1], 4))
    sweep = Sweep(problem, PRIORS, scheme)
    sweep.holding = True
    for _ in range(20):
        sweep(state, rng)
    merged = False
    for _ in range(8):
        merged = merged or (rearrange(sweep, state, rng) and np.unique(state.label).size == 1)
    assert merged


def test_two_clusters_with_strangers_are_divided_anew_in_the_warm_up():
    rng = np.random.default_rng(6)
    data, truth = planted_biclusters(0, n_per=8, n_clusters=2, p=1, T=400)
    problem, scheme = Problem.of(data["counts"].values), Scheme(p=1, n_states_max=2, sm_every=0)
    planted = truth["unit_cluster"].values
    wrong = np.where(np.arange(16) < 13, 0, 1)
    state = initial_state(problem, PRIORS, scheme, rng, 0, wrong)
    state.states[:] = truth["time_state"].values
    sweep = Sweep(problem, PRIORS, scheme)
    sweep.holding = True
    for _ in range(20):
        sweep(state, rng)
    assert adjusted_rand_score(planted, state.label) < 0.5
    accepted = [rearrange(sweep, state, rng, "divide") for _ in range(6)]
    assert any(accepted)
    assert adjusted_rand_score(planted, state.label) > 0.7
    with pytest.raises(KeyError):
        rearrange(sweep, state, rng, "swap")


def test_a_neuron_left_alone_is_taken_in_by_its_cluster_in_the_warm_up():
    rng = np.random.default_rng(8)
    data, truth = planted_biclusters(0, n_per=8, n_clusters=2, p=1, T=200)
    problem, scheme = Problem.of(data["counts"].values), Scheme(p=1, n_states_max=2, sm_every=0)
    planted = truth["unit_cluster"].values.astype(np.int64)
    state = initial_state(problem, PRIORS, scheme, rng, 0, np.append(planted[:-1], 2))
    state.states[:] = truth["time_state"].values
    sweep = Sweep(problem, PRIORS, scheme)
    sweep.holding = True
    for _ in range(20):
        sweep(state, rng)
    assert any(rearrange(sweep, state, rng, "dissolve") for _ in range(6))
    assert adjusted_rand_score(planted, state.label) == 1.0
