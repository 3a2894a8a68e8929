"""The simulated session of the demo: what it says it planted is in what is recorded."""

from __future__ import annotations

import numpy as np
import pytest

from neuropipe.simulate.states_and_clusters import STEP_S, states_and_clusters


@pytest.fixture(scope="module")
def made():
    return states_and_clusters(3, duration_s=60.0)


def test_the_same_seed_gives_the_same_session(made):
    again = states_and_clusters(3, duration_s=60.0)
    assert all(
        np.array_equal(a, b) for a, b in zip(made.spike_times, again.spike_times, strict=True)
    )
    assert np.array_equal(made.contacts, again.contacts)
    assert np.array_equal(made.scalp, again.scalp)


def test_spikes_come_at_the_planted_rates(made):
    expected = np.exp(made.truth["log_rate"].values).sum(axis=0) * STEP_S
    counts = np.array([times.size for times in made.spike_times])
    # Poisson counts of several hundred: five standard deviations.
    assert (np.abs(counts - expected) < 5 * np.sqrt(expected)).all()


def test_no_two_spikes_of_a_unit_are_closer_than_the_refractory_period(made):
    assert min(np.diff(times).min() for times in made.spike_times) > 0.002 - 1e-9
    assert max(times.max() for times in made.spike_times) < 60.0


def test_contacts_are_mixtures_of_the_trajectories(made):
    latent = made.truth["trajectory"].values
    fit, *_ = np.linalg.lstsq(latent, made.contacts, rcond=None)
    left = made.contacts - latent @ fit
    assert left.std(axis=0) == pytest.approx(np.full(left.shape[1], 0.5), rel=0.05)


def test_scalp_channels_follow_the_couplings_of_their_state(made):
    states = made.truth["state"].values[:: made.scalp_step]
    weight = made.truth["weight"].values[..., 0]
    for state in np.unique(states):
        at = np.flatnonzero(states[1:] == state) + 1
        past = np.column_stack([made.scalp[at - 1], np.ones(at.size)])
        fit, *_ = np.linalg.lstsq(past, made.scalp[at], rcond=None)
        # Unit noise and about a thousand samples: standard errors of 0.03.
        assert np.abs(fit[:-1].T - weight[state]).max() < 0.2


def test_states_last_at_most_one_and_a_half_of_their_mean(made):
    edges = np.flatnonzero(np.diff(made.truth["state"].values))
    longest = np.diff(edges).max() * STEP_S
    assert longest <= 1.5 * 6.0 + 0.31  # a bin of rounding
