"""The simulator of switching networks follows its specification."""

from __future__ import annotations

import numpy as np
import pytest

from neuropipe.simulate.switching_glm import switching_glm


def test_the_published_set_has_the_rates_and_couplings_it_should_have():
    data, truth = switching_glm(0)
    weight = truth["weight"].values
    assert data["counts"].shape == (20, 5000, 20)
    assert data["counts"].values.mean() == pytest.approx(0.39, abs=0.03)
    present = truth["connection"].values != 0
    assert 0.17 <= present.mean() <= 0.20
    np.testing.assert_array_equal(np.sign(weight), truth["connection"])
    radius = [np.abs(np.linalg.eigvals(np.maximum(w, 0))).max() for w in weight]
    assert max(radius) == pytest.approx(0.9)
    stays = (np.diff(truth["state_sequence"].values) == 0).mean()
    assert stays == pytest.approx(0.98, abs=0.002)


def test_counts_follow_the_rates_of_their_state():
    data, truth = switching_glm(3, n_units=6, n_states=2, n_bins=20_000, n_trials=1)
    counts, states = data["counts"].values[0], truth["state_sequence"].values[0]
    kernel = truth["history_kernel"].values
    past = sum(np.roll(counts, k, 0) * kernel[k - 1] for k in range(1, 6))
    eta = truth["bias"].values + np.einsum("tnj,tj->tn", truth["weight"].values[states], past)
    rate = np.logaddexp(0, eta)[5:]
    z = (counts[5:] - rate) / np.sqrt(rate)
    # 20 000 standardised residuals per unit: mean within 4 standard errors, variance near 1.
    assert np.abs(z.mean(axis=0)).max() < 4 / np.sqrt(len(z))
    np.testing.assert_allclose(z.var(axis=0), 1.0, atol=0.06)


@pytest.mark.uncompiled
def test_same_seed_same_data_and_other_seed_other_data():
    size = {"n_units": 5, "n_states": 2, "n_bins": 60, "n_trials": 2}
    first, second, other = (switching_glm(seed, **size)[0] for seed in (1, 1, 2))
    assert first.identical(second)
    assert not first["counts"].equals(other["counts"])


@pytest.mark.uncompiled
def test_a_network_that_runs_away_is_refused():
    with pytest.raises(ValueError, match="lower `bias`"):
        switching_glm(0, n_units=5, n_bins=100, n_trials=1, bias=2e4)
