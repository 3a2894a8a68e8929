"""Recordings of a session cut into the same trials, each on its own clock."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr
from memory_stores import series_store, spike_store, stream

from neuropipe.assemble.multimodal import Input, multimodal
from neuropipe.assemble.trials import Input as TrialInput
from neuropipe.assemble.trials import trials
from neuropipe.config.load import check_model
from neuropipe.config.models import IngestConfig, PreprocessConfig
from neuropipe.config.recordings import Recording
from neuropipe.errors import ConfigError, DataError
from neuropipe.io.ingest import ingest_recording
from neuropipe.preprocess.chain import preprocess
from neuropipe.store.provenance import read_dataset, write_dataset
from neuropipe.store.zarr import open_store

ONSETS = (2.013, 4.5, 7.21)
GO = {"by": "events", "labels": ["go"], "window_s": [-0.2, 1.0], "events_from": "spikes"}


def given(model=Input, **block):
    found, problems = check_model(model, block, "input")
    assert not problems, problems
    again, problems = check_model(model, found.model_dump(mode="json"), "input")
    assert not problems and again == found
    return found


def spikes_of(run="", onsets=ONSETS, **more):
    times = [np.arange(0.003, 10, 0.1), np.arange(0.05, 10, 0.33)]
    return spike_store(times, events=[(t, "go") for t in onsets], run=run, **more)


def ieeg_of(run="", **more):
    time = np.arange(0, 10, 0.01)
    values = np.stack([np.sin(time), np.cos(time), time], axis=1)
    return series_store(time, values, modality="ieeg", run=run, **more)


def fmri_of(**more):
    time = np.arange(0.5, 10, 2.0)
    return series_store(time, np.stack([time, -time], 1), modality="fmri", row="parcel", **more)


def test_each_modality_keeps_its_own_samples():
    ds = multimodal([fmri_of(), ieeg_of(), spikes_of()], given(trials=GO))
    assert json.loads(ds.attrs["modalities"]) == ["fmri", "ieeg", "spikes"]
    assert dict(ds.sizes) | {"event": 0} == {
        "trial": 3, "time_fmri": 1, "unit_fmri": 2, "time_ieeg": 120, "unit_ieeg": 3,
        "time_spikes": 60, "unit_spikes": 2, "event": 0,
    }  # fmt: skip
    for trial, onset in enumerate(ONSETS):
        for name in ("ieeg", "fmri"):
            at = onset + ds[f"time_{name}"].values + ds[f"sample_offset_{name}"].values[trial]
            expected = {"ieeg": np.sin(at), "fmri": at}[name]
            found = ds[name].values[trial, :, 0]
            seen = np.isfinite(found)
            np.testing.assert_allclose(found[seen], expected[seen], atol=1e-9)
        assert 0 <= ds["sample_offset_ieeg"].values[trial] < 0.01
    assert ds["spikes"].attrs["likelihood"] == "poisson"
    assert ds["spikes"].attrs["bin_width_s"] == 0.02
    assert ds["ieeg"].attrs["likelihood"] == "gaussian"
    assert ds["ieeg"].attrs["step_s"] == 0.01
    assert ds["spikes"].attrs["all_valid"] == 1
    assert "valid_spikes" not in ds


def test_a_modality_alone_is_what_the_trials_of_one_modality_are():
    ds = multimodal([ieeg_of(), spikes_of()], given(trials=GO, modalities=["spikes"]))
    alone = trials([spikes_of()], given(TrialInput, trials=GO))
    np.testing.assert_array_equal(ds["spikes"].values, alone["counts"].values)
    np.testing.assert_array_equal(ds["time_spikes"].values, alone["time"].values)
    assert ds["unit_spikes"].values.tolist() == alone["unit"].values.tolist()
    for name in ("event_trial", "event_time", "trial_onset", "trial_label"):
        np.testing.assert_array_equal(ds[name].values, alone[name].values)
    assert "ieeg" not in ds


def test_the_order_asked_for_is_the_order_of_the_report():
    block = {"modalities": ["spikes", "ieeg"], "trials": GO}
    ds = multimodal([ieeg_of(), spikes_of()], given(**block))
    assert json.loads(ds.attrs["modalities"]) == ["spikes", "ieeg"]
    with pytest.raises(ConfigError, match="no recording of meg among sub-a_spikes"):
        multimodal([spikes_of()], given(modalities=["meg"], trials=GO))


def test_a_modality_that_a_run_lacks_is_missing_in_its_trials():
    stores = [spikes_of("1"), spikes_of("2", (3.0,)), ieeg_of("1")]
    ds = multimodal(stores, given(trials=GO))
    assert ds["run"].values.tolist() == ["run 1"] * 3 + ["run 2"]
    assert np.isnan(ds["ieeg"].values[3]).all()
    assert not ds["valid_ieeg"].values[3].any()
    assert ds["valid_ieeg"].values[:3].all()
    assert np.isnan(ds["sample_offset_ieeg"].values[3])
    assert ds["spikes"].values[3].any()


def test_recordings_of_one_time_need_one_run_and_may_leave_the_task_out():
    ds = multimodal([spikes_of("1"), ieeg_of("1", task="rest")], given(trials=GO))
    assert ds["run"].values.tolist() == ["rest run 1"] * 3
    assert "valid_ieeg" not in ds
    with pytest.raises(ConfigError, match="no two modalities are of one run"):
        multimodal([spikes_of("1"), ieeg_of("2")], given(trials=GO))


def test_runs_without_events_are_trials_that_begin_with_their_recordings():
    stores = [m(run, session_id="s") for run in ("1", "2") for m in (spikes_of, ieeg_of)]
    ds = multimodal(stores, given())
    assert ds.sizes["trial"] == 2
    assert ds.attrs["time_reference"] == "trial"
    np.testing.assert_allclose(ds["time_ieeg"].values, np.arange(0, 10, 0.01), atol=1e-9)
    one = multimodal(stores[:2], given())
    assert one.attrs["time_reference"] == "session"
    np.testing.assert_allclose(one["ieeg"].values[0, :, 0], np.sin(one["time_ieeg"].values))


def test_blocks_lie_in_the_time_that_all_recordings_cover():
    late = series_store(np.arange(3.0, 9, 0.5), np.arange(12.0), modality="calcium", row="roi")
    ds = multimodal([spikes_of(), late], given(trials={"by": "blocks", "block_s": 2.0}))
    np.testing.assert_allclose(ds["trial_start"].values, [3.0, 5.0, 7.0])
    np.testing.assert_array_equal(ds["calcium"].values[..., 0], np.arange(12.0).reshape(3, 4))
    assert ds.sizes["time_spikes"] == 100


def test_behaviour_is_a_modality_on_the_clock_of_its_stream():
    time = np.arange(0, 10, 1 / 30)
    behavior = stream(time, pose=np.stack([time, 2 * time], 1), lick=time > 5)
    block = {"modalities": ["spikes", "behavior"], "behavior": ["pose", "lick"], "trials": GO}
    ds = multimodal([spikes_of(behavior=behavior)], given(**block))
    assert ds["unit_behavior"].values.tolist() == ["pose.0", "pose.1", "lick"]
    assert set(ds["unit_kind_behavior"].values) == {"variable"}
    at = (
        ds["time_behavior"].values
        + (np.array(ONSETS) + ds["sample_offset_behavior"].values)[:, None]
    )
    np.testing.assert_allclose(ds["behavior"].values[..., 0], at, atol=1e-9)
    np.testing.assert_array_equal(ds["behavior"].values[..., 2], at > 5)
    assert ds.sizes["time_behavior"] == 36
    assert json.loads(ds.attrs["issues"]) == []


def test_behaviour_of_a_jittering_camera_is_brought_to_its_own_step_and_told():
    rng = np.random.default_rng(2)
    time = np.cumsum(rng.uniform(0.02, 0.04, 330))
    block = {"modalities": ["spikes", "behavior"], "behavior": ["speed"], "trials": GO}
    stores = [spikes_of(behavior=stream(time, speed=3 * time))]
    ds = multimodal(stores, given(**block))
    assert [i["code"] for i in json.loads(ds.attrs["issues"])] == ["BEHAVIOR_RESAMPLED"]
    at = (
        ds["time_behavior"].values
        + (np.array(ONSETS) + ds["sample_offset_behavior"].values)[:, None]
    )
    np.testing.assert_allclose(ds["behavior"].values[..., 0], 3 * at, atol=1e-9)


def test_regressors_stand_on_the_samples_of_every_modality():
    time = np.arange(0, 8, 0.005)
    stores = [spikes_of(behavior=stream(time, speed=time)), ieeg_of()]
    ds = multimodal(stores, given(regressors=["speed"], trials=GO | {"window_s": [-0.2, 1.5]}))
    assert ds["feature"].values.tolist() == ["speed"]
    for name in ("spikes", "ieeg"):
        at = ds[f"time_{name}"].values + (
            ds["trial_onset"].values + ds[f"sample_offset_{name}"].values
        )[:, None]  # fmt: skip
        found = ds[f"regressor_{name}"].values[..., 0]
        seen = np.isfinite(found)
        np.testing.assert_allclose(found[seen], at[seen], atol=5e-3)
        np.testing.assert_array_equal(ds[f"valid_{name}"].values.all(axis=2), seen)
        assert (at[~seen] > 7.9).all()
    codes = [issue["code"] for issue in json.loads(ds.attrs["issues"])]
    assert codes == ["REGRESSOR_MISSING"] * 2


def test_a_comparison_holds_where_rows_have_what_it_compares():
    block = {"units": {"where": "quality == 'good'", "min_rate_hz": 0.1}, "trials": GO}
    ds = multimodal([ieeg_of(), spikes_of()], given(**block))
    assert ds["unit_spikes"].values.tolist() == ["0"]
    assert ds.sizes["unit_ieeg"] == 3
    with pytest.raises(ConfigError, match="no recording has all of colour per row"):
        multimodal([ieeg_of(), spikes_of()], given(units={"where": "colour == 'red'"}))
    with pytest.raises(ConfigError, match="count spikes, and there are none"):
        multimodal([ieeg_of()], given(units={"min_rate_hz": 1.0}))


def test_trials_that_hold_nothing_and_stores_that_cannot_be_used_are_told():
    ds = multimodal([spikes_of(onsets=(2.0, 20.0)), ieeg_of()], given(trials=GO))
    (entry,) = json.loads(ds.attrs["excluded"])
    assert entry["reason"] == "no valid sample in the trial"
    assert entry["names"] == ["go at 20 s"]
    short = series_store([0.0], [1.0], modality="eeg")
    ds = multimodal([spikes_of(), short], given(trials=GO))
    assert json.loads(ds.attrs["modalities"]) == ["spikes"]
    assert [i["code"] for i in json.loads(ds.attrs["issues"])] == ["RECORDING_LEFT_OUT"]
    with pytest.raises(DataError, match="no trial"):
        multimodal([spikes_of()], given(trials=GO | {"labels": ["stop"]}))
    with pytest.raises(DataError, match="one session is expected"):
        multimodal([spikes_of(), ieeg_of(session_id="x")], given(trials=GO))


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"modalities": ["behavior"], "behavior": ["a"]}, "needs a recorded modality"),
        ({"modalities": ["spikes", "behavior"]}, "go together"),
        ({"behavior": ["speed"]}, "go together"),
        ({"modalities": ["spikes", "spikes"]}, "lists a name twice"),
        ({"modalities": ["video"]}, "modalities"),
    ],
)
def test_settings_that_contradict_each_other_are_named(block, message):
    assert message in "\n".join(check_model(Input, block, "input")[1])


def test_fields_are_described_and_a_file_keeps_the_dataset(tmp_path):
    schema = Input.model_json_schema()
    for model in (schema, *schema["$defs"].values()):
        assert not [k for k, v in model["properties"].items() if not v.get("description")]
    ds = multimodal([fmri_of(), ieeg_of(), spikes_of()], given(trials=GO))
    xr.testing.assert_identical(
        ds, multimodal([spikes_of(), ieeg_of(), fmri_of()], given(trials=GO))
    )
    write_dataset(ds, tmp_path / "a.nc", {})
    again = read_dataset(tmp_path / "a.nc")
    for name in ds.variables:
        np.testing.assert_array_equal(again[name].values, ds[name].values)


# -- two devices, one flash -------------------------------------------------------------------

FLASH = 41.3
EVENTS = {"path": "e.csv", "time_unit": "s"}
DEVICES = {"calcium": (1.0004, -3.7), "spikes": (0.9997, 12.25)}


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """A flash seen by two devices with clocks of their own, events from the one with spikes."""
    folder = tmp_path_factory.mktemp("session")
    stores = []
    for modality, (a, b) in DEVICES.items():
        flash = (FLASH - b) / a
        if modality == "calcium":
            time = np.arange(5.0, 85.0, 0.02)
            light = np.exp(-0.5 * ((time - flash) * a / 0.1) ** 2)
            table = ["time_s,r1", *(f"{t:.17g},{v:.17g}" for t, v in zip(time, light, strict=True))]
        else:
            times = np.sort(np.append(flash + np.linspace(0, 0.05, 51), np.arange(0.0, 60, 0.5)))
            table = ["unit,time_s", *(f"1,{float(t)!r}" for t in times)]
            (folder / "e.csv").write_text(f"onset,duration,trial_type\n{flash!r},0.1,flash\n")
        (folder / f"{modality}.csv").write_text("\n".join(table) + "\n")
        name = f"sub-a_{modality}"
        clock = {"a": a, "b": b}
        override = {"clock": clock} | ({"events": EVENTS} if modality == "spikes" else {})
        config = IngestConfig(
            overrides={name: override},
            readers={"table": {"kind": "dff"}, "spike_table": {"duration_s": 60.0}},
        )
        row = Recording(name=name, subject="a", modality=modality, path="x")
        ingest_recording(row, folder / f"{modality}.csv", config, folder / f"{name}.zarr")
        tree = open_store(folder / f"{name}.zarr")
        stores.append(tree if modality == "spikes" else preprocess(tree, PreprocessConfig()))
    return stores


def test_an_event_of_one_device_lies_at_zero_of_the_other(session):
    block = {"by": "events", "labels": ["flash"], "window_s": [-1.0, 1.0], "events_from": "spikes"}
    ds = multimodal(session, given(trials=block))
    assert ds["trial_onset"].values[0] == pytest.approx(FLASH, abs=1e-6)
    light = ds["calcium"].values[0, :, 0]
    time = ds["time_calcium"].values + ds["sample_offset_calcium"].values[0]
    assert float((light * time).sum() / light.sum()) == pytest.approx(0.0, abs=1e-3)
    counts = ds["spikes"].values[0, :, 0]
    assert counts[ds["time_spikes"].values < -0.01].max() <= 1
    assert counts[50:53].sum() >= 51
    assert json.loads(ds.attrs["issues"]) == []
