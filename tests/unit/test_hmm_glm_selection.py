"""Choice of the number of states, pieces that are held out, intervals, goodness of fit."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from neuropipe.analyses import hmm_glm
from neuropipe.analyses.hmm_glm import stages
from neuropipe.analyses.hmm_glm.fitting import fit_states
from neuropipe.analyses.hmm_glm.kernels.families import FAMILIES, mean
from neuropipe.analyses.hmm_glm.kernels.goodness import cumulative, transform_curve
from neuropipe.analyses.hmm_glm.prepare import prepare
from neuropipe.analyses.hmm_glm.segments import Segment, cut, deal, join, take
from neuropipe.analyses.hmm_glm.selection import (
    choose_states,
    held_out_folds,
    held_out_scores,
    information_criterion,
)
from neuropipe.analyses.hmm_glm.spec import ANALYSIS
from neuropipe.analyses.hmm_glm.variables import chain_variables, step_s
from neuropipe.config.load import check_model
from neuropipe.errors import DataError, issues_from_json
from neuropipe.study import section_model

SETTINGS = hmm_glm.Settings(states=[1, 2], restarts=1, prior="gaussian", max_iter=6, cv_folds=2)


@functools.cache
def simulated():
    return hmm_glm.simulate(0, n_units=4, n_states=2, n_bins=300, n_trials=4)[0]


@functools.cache
def fitted(bootstrap=4):
    return hmm_glm.fit(simulated(), SETTINGS.model_copy(update={"bootstrap": bootstrap}), seed=1)


def test_the_smallest_number_within_one_error_of_the_best_is_used():
    hard = np.array([0.0, -5.0, 3.0])  # folds differ much more than numbers of states do
    scores = np.stack(
        [hard - 1.0, hard + np.array([0.3, 0.1, 0.2]), hard + np.array([0.28, 0.18, 0.2])]
    )
    assert choose_states([1, 2, 3], scores) == 2
    assert choose_states([1, 2, 3], scores[[0, 1, 1]]) == 2
    assert choose_states([1, 2, 3], -scores) == 1


@pytest.mark.parametrize(
    ("given", "states", "folds"),
    [({}, [1, 2, 3, 4, 5], 5), ({"states": 3}, [3], 0), ({"states": [3]}, [3], 0),
     ({"states": [3, 2]}, [2, 3], 5), ({"states": 3, "cv_folds": 4}, [3], 4)],
)  # fmt: skip
def test_one_number_of_states_has_folds_only_if_asked(given, states, folds):
    settings = hmm_glm.Settings(**given)
    assert settings.states == states
    assert settings.cv_folds == folds
    assert hmm_glm.Settings.model_validate_json(settings.model_dump_json()) == settings


@pytest.mark.parametrize("states", [2, [1, 2]])
def test_windows_around_events_are_read_from_a_configuration(states):
    trials = {"by": "events", "labels": ["go"], "window_s": [-1, 1]}
    given = {"states": states, "input": {"trials": trials, "span_s": [0, 60]}}
    checked, problems = check_model(section_model(ANALYSIS), given)
    assert problems == []
    assert checked.input.trials.window_s == (-1, 1)
    assert checked.cv_folds == (0 if states == 2 else 5)


@pytest.mark.parametrize(
    ("given", "text"),
    [({"states": [2, 2]}, "repeat"), ({"cv_folds": 1}, "leaves nothing to fit"),
     ({"states": 0}, "greater than or equal to 1"), ({"states": []}, "at least 1 item")],
)  # fmt: skip
def test_wrong_numbers_are_refused(given, text):
    _, problems = check_model(hmm_glm.Settings, given)
    assert text in " ".join(problems)


def test_trials_are_held_out_once_each():
    settings = SETTINGS.model_copy(update={"cv_folds": 3})
    counts = simulated()["counts"].values
    folds, used = held_out_folds(simulated(), settings, seed=5)
    assert used == settings
    held = np.concatenate([test["counts"].values for _, test in folds])
    assert sorted(map(bytes, held)) == sorted(map(bytes, counts))
    for train, test in folds:
        assert train.sizes["trial"] + test.sizes["trial"] == 4
        assert not set(map(bytes, train["counts"].values)) & set(map(bytes, test["counts"].values))


def test_held_out_bins_do_not_reach_the_training_data():
    data, changed = simulated(), simulated().copy(deep=True)
    (_, test), *_ = held_out_folds(data, SETTINGS, seed=5)[0]
    rows = [bytes(row) for row in test["counts"].values]
    own = [k for k, row in enumerate(data["counts"].values) if bytes(row) in rows]
    changed["counts"][own] = 77
    first, again = (
        held_out_folds(data, SETTINGS, 5)[0][0],
        held_out_folds(changed, SETTINGS, 5)[0][0],
    )
    assert first[0].identical(again[0])
    assert (again[1]["counts"] == 77).all()


def test_a_long_recording_is_cut_into_blocks_with_gaps():
    whole = simulated().isel(trial=[0])
    folds, used = held_out_folds(whole, SETTINGS, seed=5)
    assert used.drop_first == SETTINGS.history.bins
    marked = whole.assign(counts=whole["counts"] * 0 + np.arange(300)[:, None])
    spans = [
        {int(v) for v in part["counts"].values[part["valid"].values].ravel()}
        for pair in held_out_folds(marked, SETTINGS, seed=5)[0] for part in pair
    ]  # fmt: skip
    for train, test in zip(spans[::2], spans[1::2], strict=True):
        assert train | test == set(range(300))
        assert not train & test
    assert folds[0][1].sizes["trial"] == 5
    prepared = prepare(folds[0][1], used)
    borders = prepared.observations.offsets[:-1]
    assert not prepared.observations.valid[borders + used.history.bins - 1].any()


def test_pieces_of_a_trial_cover_it_and_join_again():
    data = simulated().isel(trial=[0, 1])
    data["valid"][1, :40] = False
    pieces, blocks = cut(data, SETTINGS, 10)
    assert blocks
    assert len(pieces) == 10
    assert join(pieces) == [Segment(0, 0, 300), Segment(1, 40, 300)]
    np.testing.assert_array_equal(np.bincount(deal(10, 3, None)), [4, 3, 3])
    taken = take(data, [Segment(1, 40, 60), Segment(0, 10, 13)])
    assert taken["valid"].sum("time").values.tolist() == [20, 3]
    np.testing.assert_array_equal(taken["counts"][1, :3], data["counts"][0, 10:13])


def test_a_recording_too_short_for_blocks_is_told():
    short = simulated().isel(trial=[0], time=slice(0, 60))
    result = hmm_glm.fit(short, SETTINGS, seed=0)
    codes = {issue.code for issue in issues_from_json(result.attrs["issues"])}
    assert {"STATES_NOT_TESTED", "SELECTED_BY_BIC"} <= codes
    assert result["held_out_log_likelihood"].isnull().all()
    with pytest.raises(DataError, match="too short to be cut"):
        hmm_glm.fit(short, SETTINGS.model_copy(update={"bootstrap": 2}), seed=0)


def test_one_state_without_coupling_gains_no_bits():
    plain = hmm_glm.Settings(states=1, prior="none", history={"bins": 0}, cv_folds=2)
    nats, bits, issues = held_out_scores(simulated(), plain, 1, seed=0)
    assert issues == []
    np.testing.assert_allclose(bits, 0.0, atol=1e-4)  # the ridge moves biases that little
    folds, _ = held_out_folds(simulated(), plain, seed=0)
    train, test = folds[0]
    rate = train["counts"].mean(("trial", "time")).values
    expected = stats.poisson.logpmf(test["counts"].values, rate).sum() / (2 * 300)
    assert nats[0] == pytest.approx(expected, rel=1e-5)


def test_information_criterion_counts_the_parameters():
    plain = hmm_glm.Settings(states=2, prior="none", history={"bins": 0}, restarts=1, max_iter=3)
    prepared = prepare(simulated(), plain)
    found = fit_states(prepared, plain, 2, 0)
    free = 2 * 4 + 2 + 1  # biases, transitions, first state
    expected = -2 * found.fit.log_likelihood + free * np.log(1200)
    assert information_criterion(prepared, found) == pytest.approx(expected)


def test_dwell_times_and_switches_of_a_known_path():
    path = np.array([[0, 0, 0, 1, 1, -1], [1, 0, 0, 0, 0, 0]])
    probability = np.where(path[..., None] < 0, np.nan, np.eye(2)[path])
    found = chain_variables(path, probability, np.array([[0.9, 0.1], [0.5, 0.5]]), 0.5)
    values = {name: value for name, (_, value) in found.items()}
    np.testing.assert_array_equal(values["n_visits"], [2, 2])
    np.testing.assert_allclose(values["dwell_time_mean_s"], [2.0, 0.75])
    np.testing.assert_allclose(values["dwell_time_expected_s"], [5.0, 1.0])
    np.testing.assert_allclose(values["switch_rate_hz"], [[0.0, 0.4], [1 / 3, 0.0]])
    np.testing.assert_allclose(values["occupancy"], [8 / 11, 3 / 11])


def test_the_step_comes_from_the_attribute_or_the_times():
    data = simulated()
    assert step_s(data) == 0.02
    assert step_s(data.drop_attrs()) == pytest.approx(0.02)
    assert np.isnan(step_s(data.drop_attrs().drop_vars("time")))


def test_intervals_hold_the_estimate_and_repeat():
    result = fitted()
    low, high = result["weight_interval"].transpose("quantile", ...).values
    assert (low <= high).all()
    assert result["quantile"].values.tolist() == [0.025, 0.975]
    assert result["weight_interval"].dims[:4] == result["weight"].dims
    again = hmm_glm.fit(simulated(), SETTINGS.model_copy(update={"bootstrap": 4}), seed=1)
    assert again["weight_interval"].identical(result["weight_interval"])
    alone = fitted(0)
    assert "weight_interval" not in alone
    np.testing.assert_array_equal(alone["weight"], result["weight"])


def test_intervals_of_states_that_are_easy_to_tell_apart_are_narrow():
    """Resampled states keep their names: rates of 0.2 and 3 counts per bin cannot be mixed up."""
    rng = np.random.default_rng(0)
    states = np.repeat(rng.integers(0, 2, (6, 10)), 30, axis=1)
    counts = rng.poisson(np.where(states[..., None] == 1, 3.0, 0.2), (6, 300, 3))
    data = simulated().isel(unit=slice(0, 3), trial=[0] * 6).drop_vars("trial")
    data = data.assign(counts=(("trial", "time", "unit"), counts))
    settings = hmm_glm.Settings(states=2, history={"bins": 0}, restarts=1, bootstrap=5)
    result = hmm_glm.fit(data, settings, seed=0)
    share = np.sort([states.mean(), 1 - states.mean()])[::-1]
    np.testing.assert_allclose(result["occupancy"], share, atol=0.01)
    low, high = result["occupancy_interval"].values.T
    assert (high - low < 0.05).all()
    assert (low - 0.01 <= share).all()
    assert (share <= high + 0.01).all()
    assert (result["dwell_time_interval_s"][:, 0] <= result["dwell_time_expected_s"]).all()


def test_a_missing_part_is_named():
    part = stages.fit(simulated(), SETTINGS, 1, {}, states=1)
    with pytest.raises(DataError, match="no fit of 2 states"):
        stages.summary(simulated(), SETTINGS, 1, {"fit": [part]})


DISTRIBUTIONS = {
    "poisson": lambda x, rate, noise: stats.poisson.cdf(x, rate),
    "negbin": lambda x, rate, noise: stats.nbinom.cdf(x, noise, noise / (noise + rate)),
    "bernoulli": lambda x, rate, noise: stats.bernoulli.cdf(x, rate),
    "gaussian": lambda x, rate, noise: stats.norm.cdf(x, rate, np.sqrt(noise)),
}


@pytest.mark.parametrize("kind", sorted(FAMILIES))
def test_cumulative_probability_is_that_of_scipy(kind):
    rng = np.random.default_rng(1)
    eta, noise = rng.normal(size=(40, 3)), rng.uniform(0.5, 2.0, 3)
    observed = rng.integers(-1, 2 if kind[0] == "bernoulli" else 6, (40, 3)).astype(float)
    expected = DISTRIBUTIONS[kind[0]](observed, mean(FAMILIES[kind], eta), noise)
    found = cumulative(FAMILIES[kind], observed, eta, noise)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_transform_is_the_mean_over_its_randomisation():
    rng = np.random.default_rng(2)
    counts = rng.poisson(1.3, (50, 2)).astype(float)
    lower, upper = stats.poisson.cdf(counts - 1, 1.3), stats.poisson.cdf(counts, 1.3)
    levels = np.linspace(0, 1, 11)
    drawn = rng.uniform(lower, upper, (20_000, 50, 2))
    expected = np.stack([(drawn <= level).mean(axis=(0, 1)) for level in levels], axis=-1)
    # The standard error of 20 000 draws of 50 bins is below 0.0005.
    np.testing.assert_allclose(transform_curve(lower, upper, levels), expected, atol=0.003)


def test_transform_of_the_right_model_is_flat_and_of_a_wrong_one_is_not():
    result = fitted(0)
    assert np.abs(result["transform"] - result["level"]).max() < 0.04  # 1.36 / sqrt(1200)
    assert int(result["transform_bins"]) == 1200
    counts = np.random.default_rng(0).negative_binomial(0.5, 0.25, (2, 800, 4))
    data = xr.Dataset(
        {"counts": (("trial", "time", "unit"), counts)},
        coords={"unit": list("abcd")}, attrs={"bin_width_s": 0.1},
    )  # fmt: skip
    settings = hmm_glm.Settings(states=1, history={"bins": 0})
    wrong = hmm_glm.fit(data, settings)
    assert np.abs(wrong["transform"] - wrong["level"]).max("level").min() > 0.1
    right = hmm_glm.fit(data, settings.model_copy(update={"family": "negbin"}))
    assert np.abs(right["transform"] - right["level"]).max() < 0.05


def test_every_variable_has_a_unit_and_a_meaning():
    for name, variable in fitted().data_vars.items():
        assert {"units", "long_name"} <= set(variable.attrs), name
    assert fitted()["state_mean"].attrs["units"] == "count/s"


def test_scores_need_the_truth_alone():
    data, truth = hmm_glm.simulate(0, n_units=4, n_states=2, n_bins=300, n_trials=4)
    result = hmm_glm.fit(data, hmm_glm.Settings(states=2, restarts=1, max_iter=6), seed=1)
    alone, full = hmm_glm.score(result, truth), hmm_glm.score(result, truth, data)
    assert alone == {name: full[name] for name in alone}
    assert set(full) - set(alone) == {"log_likelihood_per_bin", "bits_per_spike"}
    assert 0 <= alone["connection_accuracy_eq8"] <= 1


@pytest.mark.parametrize(
    ("bits", "warned"),
    [([-0.2, 0.1, -0.1], True), ([0.3, 0.4, 0.35], False), ([0.5, -0.4, np.nan], True),
     ([0.2], False), ([np.nan, np.nan], False)],
)  # fmt: skip
def test_held_out_counts_that_mean_rates_predict_as_well_are_warned_of(bits, warned):
    found = stages.no_gain(np.array(bits))
    assert [issue.code for issue in found] == ["NO_HELD_OUT_GAIN"] * warned
    assert all("bits per spike" in issue.message for issue in found)


def test_a_fit_to_noise_says_that_it_predicts_nothing():
    counts = np.random.default_rng(0).poisson(0.5, (4, 80, 3))
    data = simulated().isel(unit=slice(3), time=slice(80)).copy()
    data = data.drop_vars([n for n in ("regressor", "valid") if n in data])
    data["counts"] = (("trial", "time", "unit"), counts)
    result = hmm_glm.fit(data, SETTINGS.model_copy(update={"states": [1]}), seed=0)
    codes = {issue.code for issue in issues_from_json(result.attrs["issues"])}
    assert "NO_HELD_OUT_GAIN" in codes
