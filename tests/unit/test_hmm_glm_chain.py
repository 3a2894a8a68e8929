"""The hidden Markov chain: against enumeration of every path, and far below a double's range."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.special import logsumexp

from neuropipe.analyses.hmm_glm.kernels.chain import (
    Posterior,
    forward_backward,
    forward_filter,
    update_chain,
    viterbi,
)


def random_chain(seed, n_bins, n_states, scale=3.0):
    rng = np.random.default_rng(seed)
    transition = rng.dirichlet(np.ones(n_states), n_states)
    return scale * rng.normal(size=(n_bins, n_states)), transition, rng.dirichlet(np.ones(n_states))


def every_path(log_emission, transition, initial):
    """Return paths and their log joint probability."""
    n_bins, n_states = log_emission.shape
    paths = np.array(list(itertools.product(range(n_states), repeat=n_bins)))
    with np.errstate(divide="ignore"):
        log = np.log(initial)[paths[:, 0]] + np.log(transition)[paths[:, :-1], paths[:, 1:]].sum(1)
    return paths, log + log_emission[np.arange(n_bins), paths].sum(axis=1)


CASES = [
    (seed, n_bins, n_states) for seed, n_bins in ((0, 1), (1, 2), (2, 6)) for n_states in (2, 3)
]


@pytest.mark.uncompiled
@pytest.mark.parametrize(("seed", "n_bins", "n_states"), CASES)
@pytest.mark.parametrize("zeros", [False, True])
def test_posterior_equals_the_sum_over_every_path(seed, n_bins, n_states, zeros):
    log_emission, transition, initial = random_chain(seed, n_bins, n_states)
    if zeros:
        transition[0] = np.eye(n_states)[1]
    paths, log = every_path(log_emission, transition, initial)
    weight = np.exp(log - logsumexp(log))
    states = np.eye(n_states)[paths]
    pairs = np.einsum("p,pti,ptj->ij", weight, states[:, :-1], states[:, 1:])

    found = forward_backward(log_emission, transition, initial, np.array([0, n_bins]))

    assert found.log_likelihood[0] == pytest.approx(logsumexp(log), abs=1e-12)
    np.testing.assert_allclose(
        found.probability, np.einsum("p,pts->ts", weight, states), atol=1e-12
    )
    np.testing.assert_allclose(found.transitions, pairs, atol=1e-12)
    best = viterbi(log_emission, transition, initial, np.array([0, n_bins]))
    np.testing.assert_array_equal(best, paths[log.argmax()])


@pytest.mark.uncompiled
def test_filtered_and_predicted_are_posteriors_of_shorter_trials():
    log_emission, transition, initial = random_chain(4, 5, 3)
    filtered, predicted, _ = forward_filter(log_emission, transition, initial, np.array([0, 5]))
    for stop in range(1, 6):
        found = forward_backward(log_emission[:stop], transition, initial, np.array([0, stop]))
        np.testing.assert_allclose(filtered[stop - 1], found.probability[-1], atol=1e-13)
    np.testing.assert_allclose(predicted[0], initial)
    np.testing.assert_allclose(predicted[1:], filtered[:-1] @ transition, atol=1e-13)


@pytest.mark.uncompiled
def test_trials_are_independent_chains():
    log_emission, transition, initial = random_chain(5, 12, 3)
    whole = forward_backward(log_emission, transition, initial, np.array([0, 5, 5, 12]))
    parts = [
        forward_backward(log_emission[a:b], transition, initial, np.array([0, b - a]))
        for a, b in ((0, 5), (5, 12))
    ]
    np.testing.assert_allclose(whole.probability, np.vstack([p.probability for p in parts]))
    np.testing.assert_allclose(whole.transitions, sum(p.transitions for p in parts))
    assert whole.log_likelihood[1] == 0.0
    joined = viterbi(log_emission, transition, initial, np.array([0, 5, 5, 12]))
    np.testing.assert_array_equal(
        joined[5:], viterbi(log_emission[5:], transition, initial, np.array([0, 7]))
    )


def log_space(log_emission, transition, initial):
    """Textbook recursions on logarithms, centred in every bin so that rounding stays small."""
    log_transition = np.log(transition)
    forward, backward = np.empty_like(log_emission), np.zeros_like(log_emission)
    message, total = np.log(initial), 0.0
    for t in range(len(forward)):
        joint = message + log_emission[t]
        step = np.logaddexp.reduce(joint)
        forward[t], total = joint - step, total + step
        message = np.logaddexp.reduce(forward[t][:, None] + log_transition, axis=0)
    for t in range(len(forward) - 2, -1, -1):
        ahead = log_transition + log_emission[t + 1] + backward[t + 1]
        backward[t] = np.logaddexp.reduce(ahead, axis=1)
        backward[t] -= backward[t].max()
    joint = forward + backward
    return np.exp(joint - np.logaddexp.reduce(joint, axis=1)[:, None]), total


@pytest.mark.parametrize("spread", [3.0, 800.0])
def test_a_long_trial_equals_the_recursion_on_logarithms(spread):
    """Log emissions as of hundreds of units: thousands below 0, hundreds apart."""
    log_emission, transition, initial = random_chain(6, 100_000, 3, scale=spread)
    log_emission -= 5000.0
    transition = 0.97 * np.eye(3) + 0.03 * transition
    probability, total = log_space(log_emission, transition, initial)
    found = forward_backward(log_emission, transition, initial, np.array([0, 100_000]))
    assert found.log_likelihood[0] == pytest.approx(total, rel=1e-12)
    np.testing.assert_allclose(found.probability, probability, rtol=0, atol=1e-8)
    np.testing.assert_allclose(found.probability.sum(axis=1), 1.0, atol=1e-12)


@pytest.mark.uncompiled
def test_a_state_that_underflows_still_leads_on_when_it_is_the_only_way():
    """State 1 is e^-2000 less probable at first, but state 0 cannot explain the second bin."""
    log_emission = np.array([[0.0, -2000.0], [-np.inf, 0.0]])
    chain = np.eye(2), np.full(2, 0.5)
    found = forward_backward(log_emission, *chain, np.array([0, 2]))
    np.testing.assert_allclose(found.probability, [[0, 1], [0, 1]])
    assert found.log_likelihood[0] == pytest.approx(-2000 + np.log(0.5))
    np.testing.assert_array_equal(viterbi(log_emission, *chain, np.array([0, 2])), [1, 1])


@pytest.mark.uncompiled
def test_bins_without_observation_follow_the_chain():
    log_emission, transition, initial = random_chain(7, 4, 3)
    log_emission[2:] = 0.0
    found = forward_backward(log_emission, transition, initial, np.array([0, 4]))
    expected = found.probability[1] @ transition @ transition
    np.testing.assert_allclose(found.probability[3], expected, atol=1e-12)


def test_update_of_the_chain_is_the_maximum_of_its_objective():
    rng = np.random.default_rng(8)
    counts, probability = 10 * rng.random((3, 3)), rng.dirichlet(np.ones(3), 8)
    posterior = Posterior(probability, counts, np.zeros(2))
    offsets = np.array([0, 3, 8])
    transition, initial = update_chain(posterior, offsets, alpha=1.5, kappa=2.0)

    def objective(matrix, first):
        pull = counts + 0.5 + 2.0 * np.eye(3)
        return (pull * np.log(matrix)).sum() + (
            (probability[0] + probability[3] + 1.0) * np.log(first)
        ).sum()

    best = objective(transition, initial)
    for _ in range(200):
        other = transition * np.exp(0.05 * rng.normal(size=(3, 3)))
        start = initial * np.exp(0.05 * rng.normal(size=3))
        assert objective(other / other.sum(1, keepdims=True), start / start.sum()) < best


def test_update_of_the_chain_survives_a_state_never_visited():
    posterior = Posterior(np.array([[1.0, 0.0]]), np.array([[4.0, 0.0], [0.0, 0.0]]), np.zeros(1))
    transition, initial = update_chain(posterior, np.array([0, 1]), alpha=1.0, kappa=0.0)
    np.testing.assert_allclose(transition, [[1.0, 1e-8], [0.5, 0.5]], atol=1e-12)
    np.testing.assert_allclose(initial, [2 / 3, 1 / 3])
