"""The stages of the representational analysis on small simulated data."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from pydantic import ValidationError

from neuropipe.analyses import trsa
from neuropipe.analyses.trsa import stages
from neuropipe.analyses.trsa.kernels.pairs import to_pairs, to_square
from neuropipe.analyses.trsa.summary import headline, tables
from neuropipe.errors import ConfigError, DataError, MissingInput, issues_from_json

QUICK = {
    "rdm": {"permutations": 0},
    "descriptor": {"grid_step": 0.5},
    "inference": {"bootstrap": 20, "permutations": 20},
}
SIZES = {
    "n_conditions": 8, "n_categories": 4, "n_layers": 2, "n_subjects": 3, "n_channels": 10,
    "n_runs": 3, "n_models": 2,
}  # fmt: skip


def settings(**changes) -> trsa.Settings:
    return trsa.Settings(**{**QUICK, **changes})


def codes(result: xr.Dataset) -> set[str]:
    return {issue["code"] for issue in json.loads(result.attrs["issues"])}


@pytest.fixture(scope="module")
def data() -> xr.Dataset:
    return trsa.simulate(0, **SIZES)[0]


@pytest.fixture(scope="module")
def result(data) -> xr.Dataset:
    return trsa.fit(data, settings(), 1)


def test_a_subject_alone_has_the_same_rdms(data):
    together = stages.rdm(data, settings(), 1, {})
    for name in data["subject"].values:
        alone = stages.rdm(data, settings(), 1, {}, subject=str(name))
        np.testing.assert_array_equal(alone["rdm"].values[0], together["rdm"].sel(subject=name))
    absent = stages.rdm(data, settings(), 1, {}, subject="nobody")
    assert absent.attrs["absent"] == "nobody"


def test_the_order_of_rows_changes_no_number(data, result):
    order = {"subject": [2, 0, 1], "condition": np.arange(8)[::-1], "run": [1, 2, 0]}
    again = trsa.fit(data.isel(order, missing_dims="ignore"), settings(), 1)
    # A shuffled condition axis of the models is joined by label.
    for name in ("rdm", "rgtm", "rgdm", "model_score", "identification_accuracy"):
        np.testing.assert_allclose(again[name].values, result[name].values, atol=1e-9)


def test_single_observations_give_the_rdms_of_their_means(data):
    one = data["patterns"].isel(subject=0, region=0)
    rows = one.stack(observation=("run", "condition"))  # noqa: PD013 - of xarray
    rows = rows.transpose("observation", "channel")
    noise = np.random.default_rng(0).normal(size=rows.shape)
    noisy = np.concatenate([rows.values + noise, rows.values - noise])
    labels = {
        k: ("observation", np.tile(rows[k].values.astype(str), 2)) for k in ("run", "condition")
    }
    long = xr.Dataset({"patterns": (("observation", "channel"), noisy)}, coords=labels)
    found = stages.rdm(long, settings(rdm={"noise": "none", "permutations": 0}), 0, {})
    expected = trsa.calc_rdms(one.transpose("run", "condition", "channel").values, "crossnobis")
    np.testing.assert_allclose(found["rdm"].values[0, 0], expected, atol=1e-10)
    whitened = stages.rdm(long, settings(), 0, {})
    assert np.isfinite(whitened["noise_shrinkage"].values).all()


def test_ready_rdms_skip_the_estimation(data, result):
    given = result[["rdm"]].isel(pair=np.arange(28)[::-1])
    again = trsa.fit(given.assign_attrs(measure="crossnobis"), settings(), 1)
    np.testing.assert_allclose(again["rdm"].values, result["rdm"].values)
    np.testing.assert_allclose(again["rgtm"].values, result["rgtm"].values)
    with pytest.raises(DataError, match="lacks the pair"):
        trsa.fit(given.isel(pair=slice(1, None)), settings(), 1)


def test_one_subject_is_enough_and_says_what_it_generalises_to(data):
    alone = trsa.fit(data.isel(subject=[0], region=[0]), settings(), 0)
    assert {"NO_SUBJECT_BOOTSTRAP", "NO_IDENTIFICATION", "FEW_CONDITIONS"} <= codes(alone)
    hints = {issue.code: issue.hint for issue in issues_from_json(alone.attrs["issues"])}
    assert hints["NO_IDENTIFICATION"] == "name regions under input.regions"
    assert alone.attrs["resampled"] == "condition"
    assert np.isfinite(alone["p_vs_zero"].values).all()
    assert np.isnan(alone["noise_ceiling"].sel(bound="lower").values).all()
    assert set(trsa.figures(alone)) == {"rdms", "models", "identification", "arrangement"}
    assert "1 subject" in headline(alone)


def test_patterns_alone_with_nothing_else():
    rng = np.random.default_rng(0)
    bare = xr.Dataset(
        {"patterns": (("condition", "channel"), rng.normal(size=(6, 12)))},
        coords={"condition": [f"c{k}" for k in range(6)]},
    )
    found = trsa.fit(bare, settings(), 0)
    assert found.attrs["measure"] == "euclidean"
    expected = trsa.calc_rdms(bare["patterns"].values, "euclidean")
    np.testing.assert_allclose(found["rdm"].values[0, 0], expected)
    assert "model_score" not in found
    assert len(tables(found)["models.csv"]) == 0
    assert trsa.figures(found)["models"].caption.startswith("No model")


def test_padding_channels_are_left_out_and_partial_ones_are_told(data):
    padded = data.copy(deep=True)
    padded["patterns"][{"subject": 0, "channel": [8, 9]}] = np.nan
    padded["patterns"][{"subject": 1, "channel": 3, "run": 0}] = np.nan
    found = trsa.fit(padded, settings(), 0)
    np.testing.assert_array_equal(found["n_channels"].values, [[8, 8], [9, 9], [10, 10]])
    assert "PARTIAL_CHANNELS" in codes(found)
    assert np.isfinite(found["rdm"].values).all()


def test_conditions_that_a_subject_lacks_leave_all(data):
    lacking = data.copy(deep=True)
    lacking["patterns"][{"subject": 1, "condition": 2}] = np.nan
    found = trsa.fit(lacking, settings(), 0)
    assert found.sizes["condition"] == 7
    assert "c002" not in found["condition"].values
    assert "CONDITIONS_DROPPED" in codes(found)
    with pytest.raises(DataError, match=r"lack conditions \(c002\)"):
        trsa.fit(lacking, settings(rdm={"strict": True}), 0)


def test_a_condition_of_some_runs_only_uses_the_pairs_of_runs_that_have_it(data):
    holes = data.copy(deep=True)
    holes["patterns"][{"subject": 0, "condition": 2, "run": 0}] = np.nan
    found = trsa.fit(holes, settings(), 0)
    pairs = to_square(found["n_pairs_cv"].values[0, 0].astype(float))
    assert pairs[0, 1] == 6
    assert pairs[0, 2] == 2
    assert np.isfinite(found["rdm"].values).all()


def test_unusable_input_is_named(data):
    with pytest.raises(DataError, match="variable `patterns` is missing"):
        trsa.fit(data.drop_vars("patterns"), settings())
    with pytest.raises(DataError, match="3 conditions; need 4 or more"):
        trsa.fit(data.isel(condition=slice(3)), settings())
    with pytest.raises(DataError, match="need condition and channel"):
        trsa.fit(data.rename(channel="voxel"), settings())
    with pytest.raises(DataError, match="must be unique"):
        trsa.fit(data.assign_coords(condition=["a"] * 8).drop_vars("model_rdms"), settings())
    with pytest.raises(DataError, match="shrink it"):
        wide = trsa.simulate(0, **SIZES | {"n_channels": 80})[0]
        trsa.fit(wide, settings(rdm={"noise": "full"}))
    with pytest.raises(DataError, match="below 0 have no square root"):
        trsa.fit(data, settings(rdm={"stabilise": "sqrt"}))


def test_flat_and_missing_dissimilarities_are_told(data):
    one = data.drop_dims("model")
    flat = one.copy(deep=True)
    flat["patterns"][{"subject": 0, "region": 0}] = 1.0
    plain = {"measure": "euclidean", "noise": "none", "permutations": 0}
    found = trsa.fit(flat, settings(rdm=plain), 0)
    assert "CONSTANT_RDM" in codes(found)
    assert (found["rgtm"].values[0, 0] == 0).all()
    missing = one.copy(deep=True)
    missing["patterns"][{"subject": 0, "region": 0, "condition": 0}] = 1.0
    found = trsa.fit(missing, settings(rdm=plain | {"measure": "correlation"}), 0)
    told = [i for i in json.loads(found.attrs["issues"]) if i["code"] == "MISSING_PAIRS"]
    assert told[0]["message"].startswith("7 of 168 dissimilarities")


def test_resamples_of_too_few_conditions_are_counted(data):
    four = data.isel(condition=[0, 2, 4, 6], condition_2=[0, 2, 4, 6])
    found = trsa.fit(four, settings(inference={"bootstrap": 100, "permutations": 0}), 0)
    assert found["n_redrawn"].min() > 0  # a third of the draws of 4 hold fewer than 3 distinct
    assert "RESAMPLES_REDRAWN" in codes(found)


def test_settings_that_do_not_fit_are_named(data):
    with pytest.raises(ConfigError, match="crossnobis needs two runs"):
        trsa.fit(data.isel(run=[0]), settings(rdm={"measure": "crossnobis"}))
    with pytest.raises(ConfigError, match="made for squared distances"):
        trsa.fit(data, settings(rdm={"measure": "correlation"}, compare="cosine_w"))
    with pytest.raises(ValidationError, match="l is above u"):
        trsa.Settings(descriptor={"cells": [[0.5, 0.2]]})
    with pytest.raises(ValidationError, match="is above u"):
        trsa.Settings(descriptor={"geodesic": {"l": 0.5, "u": 0.2}})
    assert trsa.Settings(models=[{"name": "a", "path": "x.csv"}]).files == ("x.csv",)
    with pytest.raises(ValidationError, match="repeat"):
        trsa.Settings(models=[{"name": "a", "path": "x.csv"}] * 2)


def test_whitened_comparators_refuse_other_descriptors():
    rows = np.random.default_rng(0).uniform(size=(2, 10))
    with pytest.raises(DataError, match="not for transformed"):
        trsa.compare_descriptors(rows, rows, "cosine_w")
    found = trsa.compare_descriptors(rows, rows, "cosine_w", force=True)
    np.testing.assert_allclose(np.diagonal(found), 1)
    with pytest.raises(DataError, match="is none of"):
        trsa.calc_rdms(rows, "manhattan")


def test_models_of_files_are_joined_by_label(data, tmp_path):
    few, data = data, trsa.simulate(0, **SIZES | {"n_conditions": 16})[0]
    labels = data["condition"].values.astype(str)
    rng = np.random.default_rng(0)
    square = to_square(rng.uniform(size=120))
    order = rng.permutation(16)
    frame = pd.DataFrame(square[np.ix_(order, order)], labels[order], labels[order])
    frame.to_csv(tmp_path / "one.csv")
    several = xr.Dataset(
        {
            "model_rdms": (
                ("model", "condition", "condition_2"),
                to_square(rng.uniform(size=(2, 120))),
            )
        },
        coords={"condition": labels},
    )
    several.to_netcdf(tmp_path / "two.nc", engine="h5netcdf")
    models = [
        {"name": "one", "path": str(tmp_path / "one.csv")},
        {"name": "two", "path": str(tmp_path / "two.nc"), "kind": "weighted"},
    ]
    found = trsa.fit(data.drop_vars("model_rdms"), settings(models=models), 0)
    assert found["model"].values.tolist() == ["one", "two"]
    np.testing.assert_allclose(found["model_rdm"].sel(model="one"), to_pairs(square))
    assert np.isfinite(found["model_score"].values).all()
    assert found["p_pairwise"].dims == ("model", "model_2", "region")

    with pytest.raises(DataError, match="need 12 conditions or more, found 8"):
        short = several.isel(condition=slice(8), condition_2=slice(8))
        short.to_netcdf(tmp_path / "two.nc", engine="h5netcdf", mode="w")
        trsa.fit(few.drop_vars("model_rdms"), settings(models=models[1:]), 0)

    def fails(name, error, match):
        with pytest.raises(error, match=match):
            trsa.fit(data, settings(models=[{"name": "m", "path": str(tmp_path / name)}]), 0)

    fails("none.csv", MissingInput, "does not exist")
    frame.iloc[:5, :5].to_csv(tmp_path / "short.csv")
    fails("short.csv", DataError, "are missing")
    frame.rename(columns={labels[0]: "x"}).to_csv(tmp_path / "other.csv")
    fails("other.csv", DataError, "must be the same labels")
    frame.iloc[0, 1] += 1
    frame.to_csv(tmp_path / "bent.csv")
    fails("bent.csv", DataError, "not symmetric")
    (tmp_path / "model.txt").write_text("")
    fails("model.txt", DataError, r"expected .csv or .nc")


def test_a_precision_of_a_file_whitens_instead_of_an_estimate(data, tmp_path):
    rng = np.random.default_rng(0)
    covariance = np.cov(rng.normal(size=(40, 12)), rowvar=False)
    channels = [f"ch{k}" for k in range(10)]
    labels = rng.permutation([*channels, "other", "none"])
    one = data.isel(subject=[0], region=[0]).assign_coords(channel=channels)
    pd.DataFrame(np.linalg.inv(covariance), labels, labels).to_csv(tmp_path / "noise.csv")
    wanted = {"name": "noise", "path": str(tmp_path / "noise.csv"), "kind": "precision"}
    found = stages.rdm(one, settings(models=[wanted]), 0, {})
    order = [labels.tolist().index(name) for name in channels]
    own = covariance[np.ix_(order, order)]  # of these channels, whatever the others are
    values = one["patterns"].squeeze().transpose("run", "condition", "channel").values
    expected = trsa.calc_rdms(values, "crossnobis", covariance=own)
    np.testing.assert_allclose(found["rdm"].values[0, 0], expected, atol=1e-10)
    assert np.isnan(found["noise_shrinkage"].values).all()
    assert "noise" not in trsa.fit(one, settings(models=[wanted]), 0)["model"].values

    brought = one.assign(noise_covariance=(("channel", "channel_2"), own))
    again = stages.rdm(brought, settings(), 0, {})
    np.testing.assert_allclose(again["rdm"], found["rdm"], atol=1e-10)
    brought[["noise_covariance"]].drop_dims("condition", errors="ignore").to_netcdf(
        tmp_path / "noise.nc", engine="h5netcdf"
    )
    netcdf = wanted | {"path": str(tmp_path / "noise.nc"), "kind": "covariance"}
    again = stages.rdm(one, settings(models=[netcdf]), 0, {})
    np.testing.assert_allclose(again["rdm"], found["rdm"], atol=1e-10)

    def fails(error, match, input_data=one, **changes):
        with pytest.raises(error, match=match):
            stages.rdm(input_data, settings(models=[wanted | changes]), 0, {})

    fails(MissingInput, "does not exist", path=str(tmp_path / "no.csv"))
    renamed = one.assign_coords(channel=["Fp1", *channels[1:]])
    fails(DataError, r"channels Fp1 are missing \(1 of 10\)", renamed)
    fails(DataError, "variable noise_precision is missing", path=str(tmp_path / "noise.nc"))
    pd.DataFrame(np.ones((12, 12)), labels, labels).to_csv(tmp_path / "flat.csv")
    fails(DataError, "not positive definite", path=str(tmp_path / "flat.csv"))
    bent = np.eye(12)
    bent[0, 1] = 1.0
    pd.DataFrame(bent, labels, labels).to_csv(tmp_path / "bent.csv")
    fails(DataError, "not symmetric", path=str(tmp_path / "bent.csv"))
    with pytest.raises(ValidationError, match="more than one model is a precision"):
        settings(models=[wanted, netcdf | {"name": "second"}])


def test_true_models_win_and_stay_at_the_ceiling():
    # Recovery on few subjects; the criteria with all seeds are in benchmarks/trsa.py.
    sizes = SIZES | {"n_conditions": 16, "n_subjects": 5, "n_channels": 30}
    data, truth = trsa.simulate(3, noise=0.5, **sizes)
    found = trsa.fit(data, settings(), 0)
    score = trsa.score(found, truth)
    assert score["rdm_correlation"] > 0.8
    assert score["true_model_wins"] == 1.0
    assert score["identification_geometry"] >= 0.9
    own = found["model_score"].mean("subject").sel(model="layer-0", region="layer-0")
    assert float(own) > float(found["noise_ceiling"].sel(bound="lower", region="layer-0")) - 0.1
    assert float(found["p_vs_zero"].sel(model="layer-0", region="layer-0")) < 0.01


def test_discriminability_is_tested_by_labels_within_runs(data):
    found = trsa.fit(data, settings(rdm={"permutations": 40}), 0)
    assert (found["p_discriminability"].values == 1 / 41).all()
    assert (found["mean_dissimilarity"] > found["null_dissimilarity_95"]).all()
    null = data.copy(deep=True)
    null["patterns"][:] = np.random.default_rng(0).normal(size=null["patterns"].shape)
    assert trsa.fit(null, settings(rdm={"permutations": 40}), 0)["p_discriminability"].max() > 0.1


@pytest.fixture(scope="module")
def movie() -> xr.Dataset:
    sizes = SIZES | {"n_layers": 1, "n_subjects": 6, "n_runs": 4, "n_models": 1}
    data = trsa.simulate(0, n_times=16, **sizes)[0]
    return trsa.fit(data, settings(), 0)


def test_a_movie_rises_where_the_signal_was_planted(movie):
    before, after = movie["time"].values < 0, movie["time"].values >= 0
    mean = movie["rdm"].mean(["subject", "region", "pair"]).values
    assert np.abs(mean[before]).max() < 0.2 * mean[after].mean()
    assert movie["onset_s"].item() == pytest.approx(0.0, abs=0.011)
    assert 0 <= movie["peak_s"].item() <= 0.07
    square = movie["time_time"].mean("subject").values[0]
    assert square[np.ix_(after, after)].min() > 0.5
    assert np.abs(square[np.ix_(before, before)].mean()) < 0.2
    assert (movie["p_cluster"].values[0, 0, after] < 0.06).all()
    assert "mds" in movie
    assert list(trsa.figures(movie))[-1] == "movie"


def test_windows_and_pooled_thresholds_of_a_movie():
    data = trsa.simulate(0, n_times=12, **SIZES | {"n_layers": 1})[0]
    quiet = settings(
        time={"window_s": 0.03, "step_s": 0.03},
        descriptor={"grid_step": 0.5, "thresholds": "pooled"},
        inference={"bootstrap": 0, "permutations": 0},
    )
    found = trsa.fit(data, quiet, 0)
    assert found.sizes["time"] == 4
    pooled = found["rgtm"].isel(cell=0).mean(["subject", "region", "pair"]).values
    assert pooled[-1] > pooled[0] + 0.2  # growth over time is kept
    with pytest.raises(ConfigError, match="longer than the patterns"):
        trsa.fit(data, settings(time={"window_s": 5.0, "step_s": 1.0}), 0)


def test_noise_of_movies_comes_from_the_stated_window():
    data = trsa.simulate(0, n_times=8, **SIZES | {"n_layers": 1, "n_subjects": 1})[0]
    time = data["time"].values
    quiet = {"permutations": 0, "noise": "diag"}
    window = [float(time[5]), float(time[6])]
    found = stages.rdm(data, settings(rdm=quiet | {"noise_window_s": window}), 0, {})
    values = (
        data["patterns"].isel(subject=0, region=0).transpose("run", "condition", "channel", "time")
    )
    own = values.values[..., 5:7]
    left = own - own.mean(axis=0)
    variance = (left**2).sum(axis=(0, 1, 3)) / (2 * 2 * 8)  # two times, three runs less one
    expected = trsa.calc_rdms(values.values[..., 3], "crossnobis", covariance=variance)
    np.testing.assert_allclose(found["rdm"].values[0, 0, 3], expected, atol=1e-10)
    with pytest.raises(ConfigError, match="no sample from 50 to 60 s"):
        stages.rdm(data, settings(rdm=quiet | {"noise_window_s": [50, 60]}), 0, {})
    with pytest.raises(ValidationError, match="the end must come after the start"):
        settings(rdm={"noise_window_s": [0.1, 0.0]})


def slab(**sizes) -> xr.Dataset:
    """Return patterns of voxels in a slab, of which one corner follows the model."""
    rng = np.random.default_rng(0)
    place = np.argwhere(np.ones((8, 6, 2), dtype=bool))
    data = trsa.simulate(0, **SIZES | {"n_layers": 1, "n_subjects": 5, "n_channels": 96} | sizes)[0]
    signal = (place[:, 0] < 3) & (place[:, 1] < 3)
    values = data["patterns"].values
    values[..., ~signal] = rng.normal(size=values[..., ~signal].shape)
    axes = {name: ("channel", 3.0 * place[:, k]) for k, name in enumerate("xyz")}
    return data.assign_coords(axes)


NEAR = {"radius_mm": 4.5, "min_voxels": 5, "permutations": 99}


@pytest.fixture(scope="module")
def brain() -> xr.Dataset:
    return trsa.fit(slab(), settings(searchlight=NEAR), 0)


def test_a_searchlight_finds_the_planted_corner(brain):
    score = brain["searchlight_score"].values[0]
    corner = (brain["x"].values < 5) & (brain["y"].values < 5)
    far = (brain["x"].values > 12) | (brain["y"].values > 12)
    assert score[corner].mean() > 0.4
    assert score[corner].min() > score[far].max()
    assert np.abs(score[far]).mean() < 0.15
    assert "searchlight_pvalue" in brain
    image = trsa.searchlight_image(brain, "layer-0")
    assert image.shape == (8, 6, 2)
    np.testing.assert_allclose(image.affine[:3, :3], 3 * np.eye(3))
    assert list(trsa.figures(brain))[-1] == "searchlight"


def test_one_subject_is_tested_by_permuted_conditions():
    alone = slab(n_conditions=16, noise=0.5).isel(subject=[1])
    found = trsa.fit(alone, settings(searchlight=NEAR), 0)
    p = found["searchlight_pvalue"]
    assert p.attrs["test"] == "permuted conditions"
    corner = (found["x"].values < 5) & (found["y"].values < 5)
    far = (found["x"].values > 12) | (found["y"].values > 12)
    assert (p.values[0, corner] <= 0.05).mean() > 0.8
    assert (p.values[0, far] > 0.05).all()
    figure = trsa.figures(found)["searchlight"]
    assert "permuted conditions" in figure.caption


def test_subjects_with_other_voxels_meet_in_the_common_centres(brain):
    near = settings(searchlight=NEAR)
    data = slab().isel(subject=[0, 1])
    both = trsa.fit(data, near, 0)
    few = data.copy(deep=True)
    few["patterns"][{"subject": 1, "channel": slice(84, None)}] = np.nan
    found = trsa.fit(few, near, 0)
    assert "SEARCHLIGHT_CENTRES" in codes(found)
    assert found.sizes["centre"] == 84
    # Neighbourhoods that the missing end does not touch keep their scores.
    whole = found["x"].values < 15
    order = [np.flatnonzero((both["x"] == a) & (both["y"] == b) & (both["z"] == c))[0]
             for a, b, c in zip(*(found[k].values for k in "xyz"), strict=True)]  # fmt: skip
    np.testing.assert_allclose(
        found["searchlight_score"].values[:, whole],
        both["searchlight_score"].values[:, order][:, whole],
        atol=1e-12,
    )
    parts = [stages.rdm(few, near, 0, {}, subject=str(name)) for name in few["subject"].values]
    again = stages.summary(few, near, 0, {"rdm": parts})
    np.testing.assert_array_equal(again["searchlight_score"], found["searchlight_score"])
    assert "SEARCHLIGHT_CENTRES" in codes(again)
    moved = stages.rdm(few.assign_coords(x=few["x"] + 1), near, 0, {}, subject="s01")
    apart = stages.summary(few, near, 0, {"rdm": [parts[0], moved]})
    assert "searchlight_score" not in apart
    assert "SEARCHLIGHT_CENTRES" in codes(apart)


def test_a_searchlight_keeps_its_rdms_and_copes_with_missing_cells():
    data = slab().isel(subject=[0])
    data["patterns"][{"run": 0, "condition": 2}] = np.nan
    near = NEAR | {"keep_rdms": True, "permutations": 0}
    plain = settings(searchlight=near, rdm={"noise": "none", "permutations": 0})
    found = trsa.fit(data, plain, 0)
    assert np.isfinite(found["searchlight_score"].values).all()
    centre = [found[axis].values[40] for axis in "xyz"]
    distance = np.sqrt(sum((data[a].values - c) ** 2 for a, c in zip("xyz", centre, strict=True)))
    own = data["patterns"].isel(subject=0, region=0).values[..., distance <= 4.5]
    expected = trsa.calc_rdms(own, "crossnobis")
    np.testing.assert_allclose(found["searchlight_rdm"].values[0, 40], expected, atol=1e-10)
    without = trsa.fit(data.drop_vars("model_rdms").drop_dims("model"), plain, 0)
    np.testing.assert_array_equal(without["searchlight_rdm"], found["searchlight_rdm"])
    assert "searchlight_score" not in without


def test_a_searchlight_says_what_it_lacks(data, brain, result):
    near = {"radius_mm": 4.0, "min_voxels": 2}
    with pytest.raises(ConfigError, match="found 2 regions; it needs input.regions: null"):
        trsa.fit(data, settings(searchlight=near), 0)
    with pytest.raises(DataError, match="coordinate 'x'"):
        trsa.fit(data.isel(region=[0]), settings(searchlight=near), 0)
    with pytest.raises(ConfigError, match="measure is cosine; searchlights offer correlation"):
        trsa.fit(slab(), settings(searchlight=near, rdm={"measure": "cosine"}), 0)
    with pytest.raises(DataError, match="no neighbourhood within 4 mm has 500 channels"):
        trsa.fit(slab(), settings(searchlight=near | {"min_voxels": 500}), 0)
    movie = trsa.simulate(0, n_times=4, **SIZES | {"n_layers": 1})[0]
    with pytest.raises(ConfigError, match="set input.keep_time: false"):
        trsa.fit(movie, settings(searchlight=near), 0)
    with pytest.raises(ConfigError, match="the input brings ready RDMs"):
        trsa.fit(result[["rdm"]], settings(searchlight=near), 0)
    with pytest.raises(DataError, match="is missing"):
        trsa.searchlight_image(brain.drop_vars("searchlight_score"), "layer-0")


def test_persistent_homology_finds_the_ring(tmp_path):
    angle = 2 * np.pi * np.arange(16) / 16
    rng = np.random.default_rng(0)
    plane = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    patterns = (plane @ rng.normal(size=(2, 30)))[None] + 0.1 * rng.normal(size=(4, 16, 30))
    data = xr.Dataset(
        {"patterns": (("run", "condition", "channel"), patterns)},
        coords={"condition": [f"{k:02d}" for k in range(16)]},
    )
    wanted = {"prescale": "minmax", "homology": True, "grid_step": 0.5}
    found = trsa.fit(data, settings(descriptor=wanted, rdm={"noise": "none", "permutations": 0}), 0)
    longest = float(found["longest_bar"].sel(homology="H1").squeeze())
    total = float(found["total_persistence"].sel(homology="H1").squeeze())
    assert longest > 0.3
    assert found["n_long_bars"].sel(homology="H1").item() == 1
    assert longest > 0.8 * total
    assert found["betti"].sel(homology="H0").values.ravel()[-1] == 1
    assert list(trsa.figures(found))[-1] == "homology"


def test_the_map_is_tested_by_permuted_regions(data, result):
    p = result["accuracy_map_pvalue"]
    assert (np.isfinite(p) == np.isfinite(result["accuracy_map"])).all()
    assert p.min() >= 1 / 21
    shuffled = data.copy(deep=True)
    shuffled["patterns"][{"subject": 1}] = data["patterns"].isel(subject=1, region=[1, 0]).values
    assert trsa.fit(shuffled, settings(), 1)["accuracy_map_pvalue"].min() > p.min()


def test_identification_by_a_comparator_and_without_choice(data):
    found = trsa.fit(data, settings(identify={"classifier": "pearson", "select": "none"}), 0)
    assert np.isnan(found["accuracy_se"].values).all()
    assert "accuracy_nested" not in found
    assert (found["identification_accuracy"].values >= 0.5).all()


def test_identification_gets_worse_with_noise_added_to_the_rdms(data):
    wanted = {"noise_levels": [0.0, 0.2, 20.0]}
    found = trsa.fit(data, settings(identify=wanted), 0)
    accuracy = found["accuracy_noise"]
    assert accuracy.dims == ("descriptor", "noise_level")
    np.testing.assert_array_equal(
        accuracy.sel(noise_level=0).values, found["identification_accuracy"].values
    )
    assert (accuracy.sel(noise_level=20.0).values < 0.85).all()  # five draws of six guesses of 1/2
    assert accuracy.sel(noise_level=0.2).mean() > accuracy.sel(noise_level=20.0).mean()
    assert np.isfinite(found["accuracy_noise_se"].values).all()
    assert np.isfinite(found["accuracy_class_se"].sel(class_name="geometry").values)
    axes = trsa.figures(found)["identification"].axes
    assert sum(one.get_xlabel() == "Noise added (SD of RDM entries)" for one in axes) == 1
    without = trsa.fit(data, settings(identify={"noise_levels": []}), 0)
    assert "accuracy_noise" not in without
    assert "identification" in trsa.figures(without)


def test_counts_of_spikes_are_stabilised(data):
    counts = np.random.default_rng(0).poisson(4.0, size=data["patterns"].shape).astype(float)
    spikes = data.assign(patterns=(data["patterns"].dims, counts)).assign_attrs(modality="spikes")
    plain = settings(rdm={"noise": "none", "permutations": 0})
    found = stages.rdm(spikes, plain, 0, {})
    rooted = spikes.assign(patterns=np.sqrt(spikes["patterns"])).assign_attrs(modality="")
    np.testing.assert_allclose(found["rdm"], stages.rdm(rooted, plain, 0, {})["rdm"])
    poisson = settings(rdm={"measure": "poisson_cv", "permutations": 0})
    assert np.isfinite(stages.rdm(spikes, poisson, 0, {})["rdm"].values).all()


def test_resamples_without_the_only_condition_of_a_model_are_left_out(data):
    """A model that tells one condition from all others is constant where that one was not drawn."""
    square = np.zeros((8, 8))
    square[0, 1:] = square[1:, 0] = 1.0
    one = data["model_rdms"].isel(model=[0]).copy(data=square[None]).assign_coords(model=["first"])
    both = xr.concat([data["model_rdms"].isel(model=[0]), one], "model")
    found = trsa.fit(data.drop_dims("model").assign(model_rdms=both), settings(), 0)
    draws = found["model_score_bootstrap"].sel(model="first").values
    assert np.isnan(draws).any()
    assert np.isfinite(found["p_vs_zero"].values).all()
    assert np.isfinite(found["p_pairwise"].values[0, 1]).all()
