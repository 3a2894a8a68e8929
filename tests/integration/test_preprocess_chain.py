"""The chain of one recording, from an ingested tree to a preprocessed one."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr

from neuropipe.config.models import PreprocessConfig, StrictModel
from neuropipe.errors import ConfigError, DataError
from neuropipe.preprocess import steps as steps_module
from neuropipe.preprocess.chain import preprocess
from neuropipe.preprocess.steps import Step, place_steps
from neuropipe.store.zarr import open_store, write_tree


def text(*values: str) -> np.ndarray:
    return np.array(values, dtype=object)


def ingested(n: int = 300, seed: int = 0, dtype: type = np.float32, **series) -> xr.DataTree:
    rng = np.random.default_rng(seed)
    shape = (n, 4)
    series = series or {
        "fluorescence": (500 + 20 * rng.normal(size=shape)).astype(dtype),
        "neuropil": (100 + rng.normal(size=shape)).astype(dtype),
    }
    time = np.cumsum(rng.uniform(0.55, 0.65, n))
    time -= time[0]
    raw = xr.Dataset(
        {name: (("time", "roi"), values) for name, values in series.items()},
        coords={
            "time": time,
            "roi": np.arange(4),
            "label": ("roi", text("AVAL", "", "AWBR", "RID")),
            "label_confidence": ("roi", [4.0, np.nan, 3.0, 5.0]),
        },
        attrs={"all_valid": True},
    )
    raw["roi_ok"] = ("roi", np.ones(4, dtype=bool))
    raw["observed"] = (("interval", "edge"), [[time[0], time[-1]]])
    events = xr.Dataset(
        {"onset": ("event", [10.0, 60.0]), "duration": ("event", [5.0, 5.0])},
        {"label": ("event", text("odour", "light"))},
    ).reset_coords("label")
    behavior = xr.Dataset({"speed": ("time_speed", rng.normal(size=50))})
    behavior = behavior.assign_coords(time_speed=np.linspace(0, time[-1], 50))
    attrs = {
        "schema": "neuropipe.calcium",
        "schema_version": "1.0.0",
        "recording": "sub-w01_calcium",
        "subject_id": "w01",
        "sampling": "irregular",
        "rate": float("nan"),
        "pipeline": json.dumps({"version": "0.1", "steps": []}),
        "issues": "[]",
    }
    return xr.DataTree.from_dict(
        {"/": xr.Dataset(attrs=attrs), "/raw": raw, "/events": events, "/behavior": behavior}
    )


def config(**calcium) -> PreprocessConfig:
    return PreprocessConfig.model_validate({"calcium": calcium})


def recorded(tree: xr.DataTree) -> list[str]:
    return [step["step"] for step in json.loads(tree.attrs["pipeline"])]


def test_defaults_take_neuropil_off_and_compute_dff():
    tree = preprocess(ingested(), config())
    assert recorded(tree) == ["ingest", "source", "neuropil", "dff", "nan_runs"]
    ds = tree.to_dataset()
    assert ds["activity"].dims == ("time", "roi")
    assert ds["activity"].dtype == np.float32
    assert abs(float(ds["activity"].median())) < 0.1
    assert "valid" not in ds and tree.attrs["all_valid"]
    assert ds["label"].values.tolist() == ["AVAL", "", "AWBR", "RID"]
    assert {"roi_ok", "observed", "label_confidence"} <= set(ds.variables)


def test_a_source_that_is_dff_skips_both():
    values = np.random.default_rng(0).normal(size=(300, 4))
    tree = preprocess(ingested(dff=values), config())
    assert recorded(tree) == ["ingest", "source", "nan_runs"]
    np.testing.assert_array_equal(tree["activity"].values, values)
    assert tree["activity"].dtype == np.float64


def test_missing_samples_are_nan_and_flagged_at_the_same_places():
    values = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    values[7, 2] = np.nan
    tree = preprocess(ingested(dff=values), config())
    np.testing.assert_array_equal(tree["valid"].values, np.isfinite(values))
    assert "all_valid" not in tree.attrs


def test_the_whole_chain_in_step_order():
    settings = config(
        derivative="central",
        smooth={"kind": "gaussian", "sigma_s": 1.0},
        resample={"dt_s": 0.3333},
        normalise="causal_zscore",
        burn_in=10,
    )
    tree = preprocess(ingested(), settings)
    assert recorded(tree)[-4:] == ["derivative", "smooth", "resample", "normalise"]
    ds = tree.to_dataset()
    np.testing.assert_allclose(np.diff(ds["time"]), 0.3333, rtol=1e-9)
    assert tree.attrs["sampling"] == "regular"
    assert tree.attrs["rate"] == pytest.approx(3.0003)
    assert not ds["valid"].values[0].any()
    np.testing.assert_array_equal(tree["events"]["onset"].values, [10.0, 60.0])
    assert tree["behavior"].sizes["time_speed"] == 50


def test_kept_steps_hold_every_intermediate_result():
    settings = PreprocessConfig.model_validate(
        {"keep_steps": True, "calcium": {"resample": {"dt_s": 2.0}, "normalise": "zscore"}}
    )
    tree = preprocess(ingested(), settings)
    assert list(tree["proc"].children) == [
        "source", "neuropil", "dff", "nan_runs", "resample", "normalise",
    ]  # fmt: skip
    assert tree["proc/dff"]["activity"].dims == ("time_source", "roi")
    assert tree["proc/resample"]["activity"].dims == ("time", "roi")
    np.testing.assert_allclose(
        tree["proc/normalise"]["activity"].values, tree["activity"].values, rtol=1e-6
    )


def test_nothing_is_changed_in_the_ingested_tree():
    tree = ingested()
    copy = tree.copy(deep=True)
    preprocess(tree, config(resample={"dt_s": 2.0}, normalise="robust"))
    xr.testing.assert_identical(tree, copy)


def test_the_same_input_gives_the_same_bytes():
    settings = config(smooth={"kind": "moving", "window_s": 3.0}, resample={"dt_s": 0.9})
    first, second = preprocess(ingested(), settings), preprocess(ingested(), settings)
    xr.testing.assert_identical(first, second)


def test_permuting_rois_permutes_the_result():
    settings = config(resample={"dt_s": 0.9}, normalise="zscore")
    tree = ingested()
    order = [2, 0, 3, 1]
    permuted = tree.copy(deep=True)
    permuted["raw"] = xr.DataTree(tree["raw"].to_dataset().isel(roi=order))
    first = preprocess(tree, settings).to_dataset().isel(roi=order)
    second = preprocess(permuted, settings).to_dataset()
    np.testing.assert_array_equal(first["activity"], second["activity"])


@pytest.mark.parametrize("smooth", [None, {"kind": "exponential", "tau_s": 2.0, "causal": True}])
def test_a_causal_chain_does_not_see_the_future(smooth):
    values = np.random.default_rng(1).normal(size=(300, 4))
    changed = values.copy()
    changed[151:] *= -1e4
    settings = config(smooth=smooth, normalise="causal_zscore")
    before = preprocess(ingested(dff=values), settings)["activity"].values
    after = preprocess(ingested(dff=changed), settings)["activity"].values
    np.testing.assert_array_equal(before[:151], after[:151])
    assert np.isfinite(before[150]).all()


def test_short_recordings_carry_what_the_cohort_needs_to_leave_them_out():
    tree = preprocess(ingested(), config(min_samples=600))
    assert tree["activity"].attrs["raw_samples"] == 300
    assert tree["activity"].attrs["min_samples"] == 600
    assert [i["code"] for i in json.loads(tree.attrs["issues"])] == ["SHORT_RECORDING"]


def test_a_preprocessed_store_is_written_and_read_back(tmp_path):
    tree = preprocess(
        ingested(),
        PreprocessConfig.model_validate({"keep_steps": True, "calcium": {"normalise": "zscore"}}),
    )
    write_tree(tree, tmp_path / "a.zarr")
    back = open_store(tmp_path / "a.zarr")
    xr.testing.assert_equal(back.to_dataset().load(), tree.to_dataset())
    assert recorded(back) == recorded(tree)
    again = preprocess(ingested(), config(normalise="zscore"))
    np.testing.assert_array_equal(back["activity"].values, again["activity"].values)


def test_a_preprocessed_store_keeps_the_schema():
    from neuropipe.store.schema import check_tree

    tree = preprocess(ingested(), config(resample={"dt_s": 0.9}, normalise="zscore"))
    assert [issue for issue in check_tree(tree) if issue.severity == "error"] == []


def test_other_modalities_and_other_trees_are_refused():
    tree = ingested()
    tree.attrs["schema"] = "neuropipe.spikes"
    with pytest.raises(ConfigError, match="no chain for modality 'spikes'"):
        preprocess(tree, config())
    tree.attrs["schema"] = ""
    with pytest.raises(DataError, match=r"neuropipe\.<modality>"):
        preprocess(tree, config())


def test_a_single_sample_is_no_recording():
    tree = ingested()
    tree["raw"] = xr.DataTree(tree["raw"].to_dataset().isel(time=[0]))
    with pytest.raises(DataError, match="1 samples, expected two or more"):
        preprocess(tree, config())


def test_a_roi_without_any_sample_passes_every_step():
    values = np.random.default_rng(0).normal(500, 5, size=(300, 4))
    values[:, 1] = np.nan
    for normalise in ("zscore", "robust", "causal_zscore"):
        for smooth in ({"kind": "gaussian", "sigma_s": 1.0}, {"kind": "moving", "window_s": 3.0}):
            settings = config(
                derivative="central", smooth=smooth, resample={"dt_s": 0.9}, normalise=normalise
            )
            ds = preprocess(ingested(fluorescence=values), settings).to_dataset()
            assert np.isnan(ds["activity"].values[:, 1]).all()
            assert ds["roi_ok"].values.tolist() == [True, False, True, True]
            assert np.isfinite(ds["activity"].values[50:-50, [0, 2, 3]]).all()


class ClipSettings(StrictModel):
    """Settings of the step that a lab's package offers."""

    limit: float = 3.0


def clip(ds: xr.Dataset, settings: ClipSettings) -> xr.Dataset:
    return ds.assign(activity=ds["activity"].clip(-settings.limit, settings.limit))


@pytest.fixture
def installed(monkeypatch):
    """Offer steps through a registry of our own."""

    def offer(*steps: object) -> None:
        entries = [
            SimpleNamespace(
                name=getattr(step, "name", "x"),
                value="lab:step",
                dist=SimpleNamespace(name="numpy"),
                load=lambda step=step: step,
            )
            for step in steps
        ]
        monkeypatch.setattr(steps_module, "entry_points", lambda group: entries)

    return offer


def with_steps(**steps) -> PreprocessConfig:
    return PreprocessConfig.model_validate({"calcium": {"normalise": "zscore"}, "steps": steps})


def test_an_installed_step_runs_at_its_place_and_is_recorded(installed):
    installed(Step("clip", ("calcium",), "dff", ClipSettings, clip))
    tree = preprocess(ingested(), with_steps(clip={"limit": 0.01}))
    names = recorded(tree)
    assert names[names.index("dff") + 1] == "clip"
    entry = json.loads(tree.attrs["pipeline"])[names.index("clip")]
    assert entry["parameters"] == {"limit": 0.01}
    off = preprocess(ingested(), with_steps(clip=None))
    assert "clip" not in recorded(off)
    assert not np.array_equal(off["activity"].values, tree["activity"].values)


def test_a_step_for_another_modality_does_not_run(installed):
    installed(Step("clip", ("eeg",), "filter", ClipSettings, clip))
    assert "clip" not in recorded(preprocess(ingested(), with_steps(clip={})))


def test_a_step_that_is_not_installed_is_answered_with_the_closest_name(installed):
    installed(Step("clip", ("calcium",), "dff", ClipSettings, clip))
    with pytest.raises(ConfigError, match="Did you mean 'clip'"):
        preprocess(ingested(), with_steps(clipp={}))


def test_faults_of_installed_steps_are_named(installed):
    installed(Step("clip", ("calcium",), "nowhere", ClipSettings, clip))
    with pytest.raises(ConfigError, match="follows 'nowhere'"):
        preprocess(ingested(), with_steps(clip={}))
    installed(Step("clip", ("calcium",), "dff", ClipSettings, lambda ds, s: ds[["roi_ok"]]))
    with pytest.raises(DataError, match="must return `activity`"):
        preprocess(ingested(), with_steps(clip={}))
    installed(Step("dff", ("calcium",), "source", ClipSettings, clip))
    with pytest.raises(ConfigError, match="built-in"):
        preprocess(ingested(), with_steps(dff={}))
    installed("no step")
    with pytest.raises(ConfigError, match="is no Step"):
        preprocess(ingested(), with_steps(clip={}))
    twice = Step("clip", ("calcium",), "dff", ClipSettings, clip)
    installed(twice, twice)
    with pytest.raises(ConfigError, match="two installed packages"):
        preprocess(ingested(), with_steps(clip={}))


def test_extra_steps_may_follow_each_other():
    chain = ["source", "dff", "normalise"]
    assert place_steps(chain, {"b": "a", "a": "dff", "c": "dff"}) == [
        "source", "dff", "a", "b", "c", "normalise",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="no step of this chain"):
        place_steps(chain, {"a": "b", "b": "a"})
