"""Every setting has its effect; odd input and degenerate fits are told."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import xarray as xr
from pydantic import ValidationError

from neuropipe.analyses import hmm_glm
from neuropipe.analyses.hmm_glm.figures.events import around_events
from neuropipe.analyses.hmm_glm.kernels.alignment import match_sequences
from neuropipe.analyses.hmm_glm.methods import text
from neuropipe.errors import DataError, issues_from_json

BASE = {"states": 2, "restarts": 1, "prior": "gaussian", "max_iter": 15}


def settings(**changes):
    return hmm_glm.Settings(**{**BASE, **changes})


@functools.cache
def simulated(family="poisson"):
    return hmm_glm.simulate(
        0, n_units=5, n_states=2, n_bins=500, n_trials=3, family=family,
        gain=3.0 if family == "bernoulli" else 1.0,
    )  # fmt: skip


@functools.cache
def plain():
    return hmm_glm.fit(simulated()[0], settings())


def codes(result):
    return {issue.code for issue in issues_from_json(result.attrs["issues"])}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dale": True, "connection_types": "unsigned"}, "dale gives connections a sign"),
        ({"regularisation": {"l1": 1}}, "regularisation.l1 is 1, but the prior is gaussian"),
        ({"family": "negbin", "link": "sigmoid"}, "negbin needs softplus or exp"),
        ({"covariance": "full", "prior": "none", "regularisation": {"l1": 1}}, "diagonal"),
        ({"covariance": "full", "prior": "onehot-gumbel"}, "or use onehot"),
        ({"dale": True, "prior": "onehot-gumbel"}, "without dale"),
        ({"drop_first": -1}, "greater than or equal to 0"),
        ({"surprise": 1}, "Extra inputs"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        settings(**changes)


def test_a_shared_bias_is_one_number_per_unit():
    result = hmm_glm.fit(simulated()[0], settings(bias="shared", prior="onehot"))
    np.testing.assert_array_equal(result["bias"][0], result["bias"][1])
    assert not np.allclose(plain()["bias"][0], plain()["bias"][1])
    assert np.isfinite(result["weight"]).all()


def test_absolute_penalties_leave_few_weights():
    result = hmm_glm.fit(simulated()[0], settings(prior="none", regularisation={"l1": 20}))
    assert (result["weight"] == 0).mean() > 0.3
    assert (hmm_glm.fit(simulated()[0], settings(prior="none"))["weight"] == 0).mean() == 0


def test_stickiness_makes_states_last():
    sticky = hmm_glm.fit(simulated()[0], settings(sticky={"alpha": 1, "kappa": 2000}))
    stay, usual = (np.diagonal(r["transition_matrix"]) for r in (sticky, plain()))
    assert stay.min() > usual.min()
    assert sticky["n_visits"].sum() < plain()["n_visits"].sum()


def test_first_bins_of_a_trial_are_history_only():
    data = simulated()[0]
    result = hmm_glm.fit(data, settings(drop_first=7))
    assert (result["state_viterbi"][:, :7] == -1).all()
    assert (result["state_viterbi"][:, 7:] >= 0).all()
    changed = data.copy(deep=True)
    changed["counts"][:, 0] += 5  # beyond the history of 5 bins of the first bin that counts
    again = hmm_glm.fit(changed, settings(drop_first=7))
    np.testing.assert_array_equal(again["weight"], result["weight"])
    with pytest.raises(DataError, match="longest trial has 500 bins, but `drop_first` is 500"):
        hmm_glm.fit(data, settings(drop_first=500))


@pytest.mark.parametrize("init", ["kmeans", "perturb"])
def test_other_starts_end_in_states_too(init):
    activity = states_with_levels()
    result = hmm_glm.fit(
        activity[0], settings(init=init, history={"bins": 0}, max_iter=100, restarts=3)
    )
    found = result["state_viterbi"].values[0]
    order = match_sequences(activity[1], found, 2)
    assert (order[activity[1]] == found).mean() > 0.95


@functools.cache
def states_with_levels():
    rng = np.random.default_rng(0)
    states = np.repeat(rng.integers(0, 2, 60), 25)
    level = np.where(states[:, None] == 1, [1.5, -1.0, 0.5], 0.0)
    activity = level + rng.normal(0, 1, (1500, 3))
    data = xr.Dataset(
        {"activity": (("trial", "time", "unit"), activity[None])},
        coords={"unit": ["a", "b", "c"]},
    )
    return data, states


def test_regressors_enter_the_predictor():
    rng = np.random.default_rng(1)
    speed = rng.normal(size=(2, 800, 1))
    rate = np.exp(-0.5 + speed * np.array([0.8, -0.5, 0.0]))
    data = xr.Dataset(
        {
            "counts": (("trial", "time", "unit"), rng.poisson(rate)),
            "regressor": (("trial", "time", "feature"), speed),
        },
        coords={"unit": ["a", "b", "c"]},
    )
    result = hmm_glm.fit(data, settings(states=1, prior="none", link="exp"))
    # Standard errors are about 0.03: three of them.
    np.testing.assert_allclose(result["regressor_weight"][0, :, 0], [0.8, -0.5, 0.0], atol=0.1)
    again = hmm_glm.decode(result, data)
    np.testing.assert_allclose(again["prediction"], result["prediction"])
    data["regressor"][1, 3, 0] = np.nan
    with pytest.raises(DataError, match="regressor 0 is nan in bin 3 of trial 1"):
        hmm_glm.fit(data, settings(states=1))


@pytest.mark.parametrize(
    ("family", "variables"),
    [("negbin", {"dispersion"}), ("bernoulli", set())],
)
def test_families_of_events_keep_their_noise(family, variables):
    data = simulated(family)[0]
    result = hmm_glm.fit(data, settings(family=family))
    assert variables == {"dispersion", "variance", "covariance"} & set(result)
    again = hmm_glm.decode(result, data)
    np.testing.assert_allclose(again["state_probability"], result["state_probability"], atol=1e-9)
    if variables:
        assert (result["dispersion"] > 0).all()


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_covariances_are_kept_and_used(covariance):
    data, truth = hmm_glm.simulate_gaussian(
        0, n_units=4, n_states=2, n_bins=400, n_trials=3, n_lags=1, spread=0.0, covariance="full"
    )
    given = settings(covariance=covariance, history={"bins": 1, "basis": "lags"}, max_iter=40)
    result = hmm_glm.fit(data, given)
    again = hmm_glm.decode(result, data)
    np.testing.assert_allclose(again["state_probability"], result["state_probability"], atol=1e-9)
    accuracy = hmm_glm.score(result, truth, data)["state_accuracy"]
    assert (accuracy > 0.95) == (covariance == "full")
    if covariance == "full":
        assert np.linalg.eigvalsh(result["covariance"].values).min() > 0


def test_binary_events_are_checked():
    with pytest.raises(DataError, match="bernoulli family needs 0 or 1"):
        hmm_glm.fit(simulated()[0], settings(family="bernoulli"))


def test_a_unit_active_in_one_state_only_keeps_finite_weights():
    data, truth = simulated()
    quiet = data.copy(deep=True)
    silent = truth["state_sequence"].values == 1
    quiet["counts"] = quiet["counts"].where(
        ~(silent[:, :, None] & (quiet["unit"] == "u002").values), 0
    )
    result = hmm_glm.fit(quiet, settings(prior="none", max_iter=60))
    assert np.isfinite(result["weight"]).all()
    assert np.isfinite(result["weight_se"]).all()
    where = int(result["bias"].sel(unit="u002").argmin("state"))
    error = result["weight_se"].sel(receiver="u002").mean(("sender", "basis"))
    assert float(error[where]) > 2 * float(error[1 - where])
    assert abs(float(result["bias"].sel(unit="u002")[where])) < 100


def test_units_with_collinear_features_are_named():
    data = simulated()[0].copy(deep=True)
    data["counts"][:, :, 4] = data["counts"][:, :, 3]
    result = hmm_glm.fit(data, settings(prior="none"))
    assert "ILL_CONDITIONED" in codes(result)
    assert "ILL_CONDITIONED" not in codes(plain())
    assert np.isfinite(result["weight"]).all()


def test_rates_beyond_the_exponential_link_are_told():
    """Photon counts of 1e9 per bin: beyond exp(20)."""
    rng = np.random.default_rng(2)
    counts = np.stack([rng.poisson(0.2, 600), rng.poisson(1e9, 600)], axis=-1)
    data = xr.Dataset(
        {"counts": (("trial", "time", "unit"), counts[None])}, coords={"unit": ["a", "b"]}
    )
    given = settings(states=1, prior="none", link="exp", history={"bins": 0})
    result = hmm_glm.fit(data, given)
    assert "RATE_CLIPPED" in codes(result)
    assert np.isfinite(result["prediction"]).all()
    assert "RATE_CLIPPED" not in codes(
        hmm_glm.fit(data, given.model_copy(update={"link": "softplus"}))
    )


def test_states_without_bins_are_seeded_anew_and_else_told():
    data = simulated()[0].isel(trial=[0])
    result = hmm_glm.fit(data, settings(states=12, restarts=2, max_iter=60, prior="none"))
    np.testing.assert_allclose(result["state_probability"].sum("state"), 1.0)
    assert np.isfinite(result["weight"]).all()
    assert "FEW_BINS" in codes(result)
    few = float(result["occupancy"].min()) * 500
    assert ("EMPTY_STATE" in codes(result)) == (few < 0.05 * 500 / 12)


def test_times_that_few_events_reach_are_not_averaged():
    trial, time = np.arange(4), 0.1 * np.arange(30)
    probability = np.full((4, 30, 2), 0.5)
    variables = {
        "state_probability": (("trial", "time", "state"), probability),
        "event_label": ("event", ["go"] * 4),
        "event_trial": ("event", trial),
        "event_time": ("event", np.array([0.0, 1.0, 1.0, 2.0])),
    }
    attrs = {"bin_width_s": 0.1, "trials_by": "blocks"}
    around = around_events(xr.Dataset(variables, {"time": time}, attrs))[0]
    shown = around.time[np.isfinite(around.mean[:, 0])]
    # Three of the events have 10 bins before them, three have 19 behind them.
    assert (shown[0], shown[-1]) == pytest.approx((-1.0, 1.9))
    assert around.count == 4


@pytest.mark.parametrize(
    ("restarts", "said"), [(1, "from 1 start (clusters"), (3, "the two best after ten iterations")]
)
def test_methods_tell_of_the_best_starts_only_if_there_are_others(restarts, said):
    data, _ = hmm_glm.simulate(seed=0, n_units=3, n_states=2, n_bins=100, n_trials=2)
    settings = hmm_glm.Settings(states=2, restarts=restarts, max_iter=2, history={"bins": 1})
    paragraph = text(settings, hmm_glm.fit(data, settings, seed=0))
    assert said in paragraph
    assert ("two best" in paragraph) == (restarts > 2)
    assert "the last 1 bin (decay" in paragraph
