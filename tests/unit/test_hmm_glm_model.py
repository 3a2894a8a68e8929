"""The fit as users call it: order, padding, leaks, odd input."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import xarray as xr

from neuropipe.analyses import hmm_glm
from neuropipe.analyses.hmm_glm.kernels.alignment import match_sequences, match_weights
from neuropipe.errors import DataError, issues_from_json

SETTINGS = hmm_glm.Settings(states=2, restarts=2, prior="gaussian", max_iter=20)


@functools.cache
def simulated():
    return hmm_glm.simulate(0, n_units=6, n_states=2, n_bins=600, n_trials=4)


@functools.cache
def fitted(prior="gaussian"):
    return hmm_glm.fit(simulated()[0], SETTINGS.model_copy(update={"prior": prior}), seed=1)


@pytest.mark.parametrize("prior", ["none", "gaussian", "onehot"])
def test_result_holds_finite_normalised_variables(prior):
    result = fitted(prior)
    for name in ("weight", "weight_se", "bias", "prediction", "occupancy"):
        assert np.isfinite(result[name]).all(), name
    np.testing.assert_allclose(result["state_probability"].sum("state"), 1.0)
    np.testing.assert_allclose(result["transition_matrix"].sum("state_to"), 1.0)
    np.testing.assert_allclose(result["connection_probability"].sum("connection_type"), 1.0)
    assert (np.diff(result["occupancy"]) <= 0).all()
    assert result["weight_kernel"].sum("lag").equals(result["weight"].sum("basis")) or np.allclose(
        result["weight_kernel"].sum("lag"), result["weight"].sum("basis")
    )


def test_same_seed_same_result_and_input_untouched():
    data = simulated()[0]
    before = data.copy(deep=True)
    assert hmm_glm.fit(data, SETTINGS, seed=1).identical(fitted())
    assert data.identical(before)


def test_padding_and_the_order_of_dims_change_nothing():
    data = simulated()[0]
    padded = data.pad(time=(3, 5), constant_values={"counts": 99, "valid": False})
    padded = padded.assign_coords(time=np.arange(padded.sizes["time"]) * 0.02)
    padded["valid"] = padded["valid"].astype(bool)
    found = hmm_glm.fit(padded.transpose("unit", "time", "trial"), SETTINGS, seed=1)
    inner = found.isel(time=slice(3, -5))
    for name in ("weight", "transition_matrix", "occupancy", "bias"):
        np.testing.assert_array_equal(found[name], fitted()[name])
    for name in ("state_probability", "state_viterbi", "prediction"):
        np.testing.assert_array_equal(inner[name], fitted()[name])
    assert (found["state_viterbi"].isel(time=[0, 1, 2, -1]) == -1).all()
    assert found["prediction"].isel(time=[0, 1, 2, -1]).isnull().all()


def test_permuting_units_and_trials_permutes_the_result():
    units, trials = [3, 1, 5, 0, 2, 4], [2, 0, 3, 1]
    moved = hmm_glm.fit(simulated()[0].isel(unit=units, trial=trials), SETTINGS, seed=1)
    expected = fitted().isel(unit=units, receiver=units, sender=units, trial=trials)
    assert moved.identical(expected)


def test_the_future_does_not_enter_predictions():
    data, result = simulated()[0], fitted()
    changed = data.copy(deep=True)
    changed["counts"][0, 300:] += 3
    before, after = hmm_glm.decode(result, data), hmm_glm.decode(result, changed)
    upto = {"trial": 0, "time": slice(0, 301)}
    np.testing.assert_array_equal(before["prediction"][upto], after["prediction"][upto])
    filtered = "state_probability_filtered"
    past = {"trial": 0, "time": slice(0, 300)}
    np.testing.assert_array_equal(before[filtered][past], after[filtered][past])
    assert not np.allclose(before["prediction"][0, 301:], after["prediction"][0, 301:])


def test_decoding_the_data_of_the_fit_repeats_the_result():
    found = hmm_glm.decode(fitted(), simulated()[0])
    for name in found.data_vars:
        np.testing.assert_allclose(found[name], fitted()[name], atol=1e-12)


def test_held_out_bits_are_those_of_the_definition():
    """One state without coupling is a Poisson process at the mean rate: no bits at all."""
    data = simulated()[0]
    settings = hmm_glm.Settings(states=1, prior="none", history={"bins": 0})
    result = hmm_glm.fit(data, settings)
    assert hmm_glm.held_out_score(result, data)["bits_per_spike"] == pytest.approx(0, abs=1e-6)
    coupled = hmm_glm.fit(data, settings.model_copy(update={"history": SETTINGS.history}))
    score = hmm_glm.held_out_score(coupled, data)
    assert score["bits_per_spike"] > 0
    base = hmm_glm.held_out_score(result, data)["log_likelihood_per_bin"]
    n_bins, spikes = 2400, float(data["counts"].sum())
    gain = (score["log_likelihood_per_bin"] - base) * n_bins / (np.log(2) * spikes)
    assert score["bits_per_spike"] == pytest.approx(gain, abs=1e-6)


def test_one_state_equals_an_ordinary_regression():
    from sklearn.linear_model import PoissonRegressor

    data = simulated()[0].isel(trial=[0])
    settings = hmm_glm.Settings(
        states=1, prior="none", link="exp", regularisation={"ridge": 1e-9}, tol=1e-14
    )
    result = hmm_glm.fit(data, settings)
    counts = data["counts"].values[0].astype(float)
    kernel = np.exp(-np.arange(1.0, 6.0))
    past = np.zeros_like(counts)
    for lag, weight in enumerate(kernel / kernel.sum(), start=1):
        past[lag:] += weight * counts[:-lag]
    for n in range(3):
        model = PoissonRegressor(alpha=0, tol=1e-12, solver="newton-cholesky").fit(
            past, counts[:, n]
        )
        np.testing.assert_allclose(result["weight"][0, n, :, 0], model.coef_, atol=1e-6)
        assert float(result["bias"][0, n]) == pytest.approx(model.intercept_, abs=1e-6)


@pytest.mark.parametrize("prior", ["gaussian", "onehot"])
def test_a_silent_unit_stays_with_no_influence(prior):
    data = simulated()[0].copy(deep=True)
    data["counts"][:, :, 2] = 0
    result = hmm_glm.fit(data, SETTINGS.model_copy(update={"prior": prior}), seed=1)
    np.testing.assert_array_equal(result["bias"][:, 2], -12.0)
    np.testing.assert_array_equal(result["weight"].isel(sender=2), 0.0)
    assert "SILENT_UNITS" in {i.code for i in issues_from_json(result.attrs["issues"])}


def test_gaussian_states_without_history_are_a_plain_hidden_markov_model():
    rng = np.random.default_rng(0)
    states = np.repeat(rng.integers(0, 2, 60), 25)
    activity = np.where(states[:, None] == 1, [1.0, -1.0, 0.5], 0.0) + rng.normal(0, 1, (1500, 3))
    data = xr.Dataset(
        {"activity": (("trial", "time", "unit"), activity[None])},
        coords={"trial": [0], "time": np.arange(1500.0), "unit": ["a", "b", "c"]},
    )
    settings = hmm_glm.Settings(states=2, history={"bins": 0}, restarts=1)
    found = hmm_glm.fit(data, settings)["state_viterbi"].values[0]
    order = match_sequences(states, found, 2)
    assert (order[states] == found).mean() > 0.97


@pytest.mark.parametrize(
    ("value", "message"),
    [(-1, "-1 in trial 0, unit u001"), (0.5, "0.5 in trial 0"), (np.nan, "nan")],
)
def test_values_that_are_no_counts_are_named(value, message):
    data = simulated()[0].copy(deep=True)
    data["counts"] = data["counts"].astype(float)
    data["counts"][0, 7, 1] = value
    with pytest.raises(DataError, match=message):
        hmm_glm.fit(data, SETTINGS)
    data["valid"][0, 7] = False
    assert np.isfinite(hmm_glm.fit(data, SETTINGS)["weight"]).all()


def test_short_trials_and_constant_channels_are_refused():
    data = simulated()[0]
    with pytest.raises(DataError, match="4 bins; the history of 5"):
        hmm_glm.fit(data.isel(time=slice(0, 4)), SETTINGS)
    flat = data.rename(counts="activity").astype(float)
    flat["valid"] = data["valid"]
    flat["activity"][:, :, 3] = 2.0
    with pytest.raises(DataError, match="constant channels: u003"):
        hmm_glm.fit(flat, SETTINGS)


def test_states_are_matched_by_sequence_and_by_weight():
    rng = np.random.default_rng(4)
    order = rng.permutation(8)
    states = rng.integers(0, 8, 500)
    noisy = np.where(rng.random(500) < 0.2, rng.integers(0, 8, 500), order[states])
    np.testing.assert_array_equal(match_sequences(states, noisy, 8), order)
    weight = rng.normal(size=(8, 5, 5))
    other = np.empty_like(weight)
    other[order] = 2 * weight + 0.3 * rng.normal(size=weight.shape)
    np.testing.assert_array_equal(match_weights(weight, other), order)


def test_aligned_states_carry_all_their_variables():
    result = fitted()
    flipped = (
        result.isel(state=[1, 0], state_to=[1, 0])
        .assign(state_viterbi=1 - result["state_viterbi"])
        .assign_coords(state=[0, 1], state_to=[0, 1])
    )
    for by in ("sequence", "weight"):
        assert hmm_glm.align_states(result, flipped, by=by).equals(result)
