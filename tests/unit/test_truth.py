"""Estimate against truth: a perfect estimate is good in every measure, a wrong one is not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

from neuropipe.analyses.registry import get_analysis, load_object
from neuropipe.plotting.truth import Comparison, Scale, compared, measures

Pair = tuple[xr.Dataset | xr.DataTree, xr.Dataset]


def ntf_pair(wrong: bool) -> Pair:
    from neuropipe.analyses import ntf

    _, truth = ntf.simulate(seed=0, n_neurons=30, n_subjects=3, n_motifs=2, duration=120.0)
    planted = truth["pair_indicator"].values.astype(float)
    rng = np.random.default_rng(0)
    pairs = rng.random(planted.shape) if wrong else planted
    time = truth["time_indicator"].values.astype(float)
    label = truth["label"].values * (0 if wrong else 1)
    result = xr.Dataset(
        {
            "pair_factor": (("component", "pair"), pairs),
            "time_factor": (("component", "time_bin"), time),
            "subject_factor": (("component", "subject"), truth["subject_strength"].values),
            "community": (("component", "level", "neuron"), label[:, None]),
        },
        coords={name: truth[name].values for name in ("neuron", "subject", "time_bin")},
    )
    return result, truth


def hmm_pair(wrong: bool) -> Pair:
    from neuropipe.simulate.switching_gaussian import switching_gaussian

    _, truth = switching_gaussian(0, n_units=5, n_states=2, n_bins=400, n_trials=2, n_lags=1)
    states = truth["state_sequence"].values
    swapped = 1 - states  # states of a result have names of their own
    if wrong:
        swapped = np.random.default_rng(0).permutation(swapped.ravel()).reshape(states.shape)
    weight = truth["weight"].values[::-1] * (-1.0 if wrong else 1.0)
    pair = ("receiver", "sender")
    overall = truth["connection_probability_global"].values.argmax(axis=-1) - 1
    result = xr.Dataset(
        {
            "state_probability": (("trial", "time", "state"), np.eye(2)[swapped]),
            "state_viterbi": (("trial", "time"), swapped),
            "weight_kernel": (("state", *pair, "lag"), weight),
            "connection": (("state", *pair), np.sign(weight[..., 0]).astype(int)),
            "connection_global": (pair, overall),
        },
        coords={"trial": [0, 1], "time": 0.02 * np.arange(400)},
        attrs={"bin_width_s": 0.02},
    )
    truth["connection"] = (("state", *pair), np.sign(truth["weight"].values[..., 0]).astype(int))
    return result, truth.assign_coords(trial=[0, 1])


def gp_pair(wrong: bool) -> Pair:
    from neuropipe.analyses import gp_vae

    _, truth = gp_vae.simulate(seed=0, n_trials=20, n_units=5, video=False)
    planted = truth["latent_value"].sel(latent=["shared", "spikes"])
    rng = np.random.default_rng(0)
    noise = rng.normal(size=planted.shape)
    mean = noise if wrong else planted.values + 0.02 * noise
    rate = truth["rate"].values
    result = xr.Dataset(
        {
            # Any scale, sign and order: only an affine map of all latents is known.
            "latent_mean": (("trial", "time", "latent"), np.moveaxis(-3.0 * mean[::-1], 0, -1)),
            "latent_var": (("trial", "time", "latent"), np.full((*rate.shape[:2], 2), 0.06**2)),
            "latent_group": ("latent", ["shared", "shared"]),
            "trial_split": truth["trial_split"],
            "prediction_spikes": (
                ("trial", "time", "unit"), rng.permutation(rate.ravel()).reshape(rate.shape)
                if wrong else rate,
            ),
            "score": (("metric", "modality", "split"), np.zeros((1, 1, 1))),
        },
        coords={"time": truth["time"].values, "metric": ["r2"], "modality": ["spikes"],
                "split": ["test"]},
    )  # fmt: skip
    return result, truth


def bicluster_pair(wrong: bool) -> Pair:
    from neuropipe.analyses import bicluster

    data, truth = bicluster.simulate(0, n_per=5, T=80)
    rng = np.random.default_rng(0)
    states = 1 - truth["time_state"].values
    clusters = (truth["unit_cluster"].values + 1) % 3
    log_rate = truth["log_rate"].values
    if wrong:
        states, clusters = rng.permutation(states), np.zeros_like(clusters)
        log_rate = rng.permutation(log_rate.ravel()).reshape(log_rate.shape)
    # 95 of 100 bands hold the truth.
    miss = np.where(rng.random(log_rate.shape) < 0.05, 2.0, 0.0)
    shifted = log_rate + 0.01 * miss
    root = xr.Dataset(
        {
            "unit_cluster": ("unit", clusters),
            "time_state": ("time", states),
            "log_rate_mean": (("unit", "time"), log_rate),
            "log_rate_low": (("unit", "time"), shifted - 0.01),
            "log_rate_high": (("unit", "time"), shifted + 0.01),
        },
        coords={"unit": data["unit"].values, "time": data["time"].values},
    )
    found = len(np.unique(clusters))
    posterior = xr.Dataset(
        {
            "state_label": (("chain", "draw", "time"), states[None, None]),
            "n_clusters": (("chain", "draw"), [[found]]),
            "dispersion": (("chain", "draw", "unit"), truth["dispersion"].values[None, None]),
        }
    )
    return xr.DataTree.from_dict({"/": root, "/posterior": posterior}), truth


def trsa_pair(wrong: bool) -> Pair:
    from neuropipe.analyses import trsa

    _, truth = trsa.simulate(0, n_conditions=8, n_categories=2, n_layers=2, n_subjects=2)
    first, second = np.triu_indices(8, 1)
    planted = truth["true_rdm"].values[:, first, second]
    rng = np.random.default_rng(0)
    found = rng.random(planted.shape) if wrong else 2.0 * planted + 1.0
    own = np.eye(2)[::-1] if wrong else np.eye(2)
    names = truth["region"].values
    result = xr.Dataset(
        {
            "rdm": (("subject", "region", "pair"), np.stack([found, found])),
            "model_score": (("subject", "model", "region"), np.stack([own, own])),
        },
        coords={"region": names, "model": names, "condition": truth["condition"].values},
    )
    return result, truth


MAKE: dict[str, Callable[[bool], Pair]] = {
    "ntf": ntf_pair,
    "hmm_glm": hmm_pair,
    "gp_vae": gp_pair,
    "bicluster": bicluster_pair,
    "trsa": trsa_pair,
}


def comparison(name: str, wrong: bool) -> Comparison:
    result, truth = MAKE[name](wrong)
    return load_object(get_analysis(name).truth)(result, truth)


@pytest.mark.parametrize("name", MAKE)
def test_a_perfect_estimate_is_good_in_every_measure(name):
    table = comparison(name, wrong=False).table
    assert len(table) >= 2
    assert (table["verdict"] == "good").all(), table.to_string()


@pytest.mark.parametrize("name", MAKE)
def test_a_wrong_estimate_is_told(name):
    table = comparison(name, wrong=True).table
    assert (table["verdict"] == "not good").sum() >= 2, table.to_string()


@pytest.mark.parametrize("name", MAKE)
def test_the_figure_carries_its_numbers_and_says_what_is_good(name):
    figure = comparison(name, wrong=False).figure
    assert {"planted", "found"} <= {word for column in figure.table for word in column.split("_")}
    assert "good is" in figure.caption.lower()
    figure.draw_without_rendering()


def test_a_measure_may_have_its_best_value_at_zero():
    scales = {"error": Scale("error", 0.0, 0.3, "m"), "absent": Scale("absent", 1.0, 0.9, "m")}
    assert measures({"error": 0.3}, scales)["verdict"].tolist() == ["good"]
    assert measures({"error": 0.31}, scales)["verdict"].tolist() == ["not good"]


def test_a_measure_that_is_not_finite_is_left_out():
    scales = {"share": Scale("share", 1.0, 0.9, "m")}
    table = measures({"share": float("nan"), "unknown": 1.0}, scales)
    assert table.empty
    assert compared(table) == "0 of 0 measures reach their mark."
