"""Stores to trials of units: exact bins, gaps, stacked recordings, regressors, what is left out."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr
from memory_stores import series_store, spike_store, stream

from neuropipe.assemble.streams import align
from neuropipe.assemble.trials import Input, trials
from neuropipe.assemble.windows import n_blocks
from neuropipe.config.load import check_model
from neuropipe.config.models import IngestConfig, PreprocessConfig
from neuropipe.config.recordings import Recording
from neuropipe.errors import ConfigError, DataError, Issue, issues_to_json
from neuropipe.io.ingest import ingest_recording
from neuropipe.preprocess.binning import bin_spikes
from neuropipe.preprocess.chain import preprocess
from neuropipe.simulate.channel_files import simulate_channels, write_edf
from neuropipe.simulate.spike_files import simulate_spikes, write_spike_nwb
from neuropipe.store.provenance import read_dataset, write_dataset
from neuropipe.store.zarr import open_store

SPIKES = simulate_spikes()


def given(**block) -> Input:
    """Return the block `input:` as a YAML file gives it, and as a rule hands it on."""
    model, problems = check_model(Input, block, "input")
    assert not problems, problems
    again, problems = check_model(Input, model.model_dump(mode="json"), "input")
    assert not problems, problems
    assert again == model
    return again


def codes(ds: xr.Dataset) -> list[str]:
    return [issue["code"] for issue in json.loads(ds.attrs["issues"])]


def reasons(ds: xr.Dataset) -> dict[str, list[str]]:
    return {entry["reason"]: entry["names"] for entry in json.loads(ds.attrs["excluded"])}


def ingested(folder, name, modality, source, **entities) -> xr.DataTree:
    row = Recording(name=name, subject="d1", modality=modality, path="x", **entities)
    ingest_recording(row, source, IngestConfig(), folder / f"{name}.zarr")
    return open_store(folder / f"{name}.zarr")


@pytest.fixture(scope="module")
def spikes(tmp_path_factory) -> xr.DataTree:
    folder = tmp_path_factory.mktemp("spikes")
    write_spike_nwb(SPIKES, folder / "a.nwb", subject="d1")
    return ingested(folder, "sub-d1_spikes", "spikes", folder / "a.nwb")


@pytest.fixture(scope="module")
def eeg(tmp_path_factory) -> xr.DataTree:
    folder = tmp_path_factory.mktemp("eeg")
    path = folder / "a.edf"
    write_edf(simulate_channels(4, 12.0, bad=()), path)
    tree = ingested(folder, "sub-d1_eeg", "eeg", path)
    return preprocess(tree, PreprocessConfig(eeg={"bandpass_hz": (1.0, 40.0)}))


# --- spikes ----------------------------------------------------------------------------------


def test_one_recording_is_one_trial_of_exact_bins(spikes):
    ds = trials([spikes], given(bin_ms=33.3))
    binned = bin_spikes(spikes["raw"].to_dataset(), 33.3)
    np.testing.assert_array_equal(ds["counts"].values[0], binned["counts"].values)
    np.testing.assert_array_equal(ds["time"].values, binned["time"].values)
    assert ds["counts"].dims == ("trial", "time", "unit")
    assert ds["counts"].dtype == np.uint16
    assert ds["unit"].values.tolist() == ["10", "11", "12", "13"]
    assert ds["region"].values.tolist() == SPIKES.region
    assert ds.attrs["bin_width_s"] == 0.0333
    assert ds.attrs["time_reference"] == "session"
    assert ds.attrs["all_valid"] == 1


def test_trials_of_the_table_hold_the_spikes_of_integer_arithmetic(spikes):
    ds = trials([spikes], given(bin_ms=20, trials={"by": "trials"}))
    start = np.rint(SPIKES.trials[:, 0] * SPIKES.rate_hz).astype(int)
    expected = np.zeros(ds["counts"].shape, dtype=int)
    for trial, first in enumerate(start):
        for unit, samples in enumerate(SPIKES.samples):
            place = (samples - first) // 600
            inside = (place >= 0) & (place < expected.shape[1])
            np.add.at(expected[trial, :, unit], place[inside], 1)
    np.testing.assert_array_equal(ds["counts"].values, expected)
    np.testing.assert_allclose(ds["trial_start"].values, SPIKES.trials[:, 0])
    assert ds["trial_choice"].values.tolist() == ["left", "right"] * 3
    assert ds.attrs["time_reference"] == "onset"


def test_bins_around_events_are_counted_from_the_event():
    rng = np.random.default_rng(0)
    samples = np.unique(rng.integers(0, 300_000, 4000))
    onsets = np.array([0.31, 2.77, 5.123, 7.9001])
    tree = spike_store([samples / 30_000], events=[(t, "go") for t in onsets] + [(9.0, "stop")])
    block = {"by": "events", "labels": ["go"], "window_s": [-0.2, 0.5]}
    ds = trials([tree], given(bin_ms=20, trials=block))
    assert ds.sizes["time"] == 35
    np.testing.assert_allclose(ds["time"].values, -0.19 + 0.02 * np.arange(35), atol=1e-12)
    onset = np.rint(onsets * 30_000).astype(int)
    for trial, at in enumerate(onset):
        place = (samples - at + 6000) // 600
        expected = np.bincount(place[(place >= 0) & (place < 35)], minlength=35)
        np.testing.assert_array_equal(ds["counts"].values[trial, :, 0], expected)
    np.testing.assert_array_equal(ds["trial_onset"].values, onsets)
    np.testing.assert_allclose(ds["trial_start"].values, onsets - 0.2)
    assert ds["trial_label"].values.tolist() == ["go"] * 4
    assert ds["trial_side"].values.tolist() == ["left", "right"] * 2


def test_what_was_not_observed_is_no_silence():
    own = np.array([[[0.0, 0.0], [4.0, 10.0]], [[6.0, np.nan], [10.0, np.nan]]])
    tree = spike_store([np.arange(0.5, 10, 1.0)] * 2, own=own)
    ds = trials([tree], given(bin_ms=1000))
    expected = np.ones(10, dtype=bool)
    expected[4:6] = False
    np.testing.assert_array_equal(ds["valid"].values[0], expected)
    np.testing.assert_array_equal(ds["counts"].values[0, :, 0], expected)
    assert ds["counts"].values[0, :, 1].all()


def test_a_trial_out_of_the_recording_is_told_and_a_partial_one_is_masked():
    tree = spike_store([[1.0, 9.9]], events=[(0.05, "go"), (9.8, "go"), (12.0, "go")])
    block = {"by": "events", "labels": ["go"], "window_s": [-0.2, 0.3]}
    ds = trials([tree], given(bin_ms=100, trials=block))
    assert ds.sizes["trial"] == 2
    np.testing.assert_array_equal(
        ds["valid"].values, [[False, False, True, True, True], [True, True, True, True, False]]
    )
    assert reasons(ds) == {"no valid sample in the trial": ["go at 12 s"]}


def test_units_are_chosen_by_rate_within_the_span():
    times = [np.arange(0, 10, 0.1), np.arange(0, 2, 0.1), [5.0]]
    tree = spike_store(times)
    ds = trials([tree], given(span_s=[4.0, 8.0], bin_ms=500, units={"min_rate_hz": 0.2}))
    assert ds["unit"].values.tolist() == ["0", "6"]
    assert reasons(ds)["units.min_rate_hz: 0.2"] == ["3"]
    np.testing.assert_allclose(ds["time"].values, 4.25 + 0.5 * np.arange(8))
    few = trials([tree], given(units={"min_spikes": 2, "where": "quality == 'good'"}, bin_ms=500,
                               span_s=[0.0, 3.0]))  # fmt: skip
    assert few["unit"].values.tolist() == ["0"]
    assert reasons(few)["units.where: quality == 'good'"] == ["3"]
    assert reasons(few)["units.min_spikes: 2"] == ["6"]


def test_units_left_out_by_where_are_units_left_out_of_the_input(spikes):
    ds = trials([spikes], given(units={"where": "quality == 'good'"}, trials={"by": "trials"}))
    whole = trials([spikes], given(trials={"by": "trials"}))
    xr.testing.assert_equal(ds["counts"], whole["counts"].isel(unit=[0, 2]))


# --- trials ----------------------------------------------------------------------------------


def test_unequal_trials_are_padded_and_the_padding_is_not_valid():
    table = {"start": [1.0, 5.05], "stop": [3.0, 5.55], "choice": ["l", "r"]}
    time = np.arange(0, 10, 0.01)
    for tree in (spike_store([np.arange(0, 10, 0.05)], trials=table),
                 series_store(time, np.stack([time, -time], 1), trials=table)):  # fmt: skip
        ds = trials([tree], given(bin_ms=10, trials={"by": "trials"}))
        assert ds.sizes["time"] == 200
        np.testing.assert_array_equal(ds["valid"].values.sum(axis=1), [200, 50])
        name = "counts" if "counts" in ds else "activity"
        padding = ds[name].values[1, 50:]
        assert (padding == 0).all() if name == "counts" else np.isnan(padding).all()


def test_blocks_lie_side_by_side_and_may_overlap():
    tree = spike_store([np.arange(0.05, 10, 0.1)])
    block = {"by": "blocks", "block_s": 3.0, "overlap_s": 1.0}
    ds = trials([tree], given(bin_ms=100, trials=block))
    np.testing.assert_allclose(ds["trial_start"].values, [0.0, 2.0, 4.0, 6.0])
    assert ds.sizes["time"] == 30
    assert (ds["counts"].values == 1).all()
    assert n_blocks(9.9999999, 3.0, 1.0) == 4
    with pytest.raises(DataError, match="shorter than a block of 30 s"):
        trials([tree], given(trials={"by": "blocks", "block_s": 30.0}))


def test_runs_follow_each_other_along_trial_and_probes_lie_along_unit():
    stores = [
        spike_store([[0.5 + probe], [1.5]], ((0.0, 4.0 + run),), acq=f"p{probe}", run=str(run),
                    session_id="s")
        for run in (1, 2, 10) for probe in (0, 1)
    ]  # fmt: skip
    ds = trials(stores[::-1], given(scope="session", bin_ms=1000))
    assert ds["unit"].values.tolist() == ["p0.0", "p0.3", "p1.0", "p1.3"]
    assert ds["run"].values.tolist() == ["run 1", "run 2", "run 10"]
    assert ds["session"].values.tolist() == ["s"] * 3
    assert ds["recording"].values.tolist()[1:3] == [
        "sub-a_ses-s_acq-p0_run-1_spikes", "sub-a_ses-s_acq-p1_run-1_spikes",
    ]  # fmt: skip
    np.testing.assert_array_equal(ds["valid"].values.sum(axis=1), [5, 6, 14])
    np.testing.assert_array_equal(
        ds["counts"].values[:, :2].sum(axis=0), [[3, 0, 0, 0], [0, 3, 3, 3]]
    )
    assert ds.attrs["time_reference"] == "trial"
    with pytest.raises(ConfigError, match="scope: session"):
        trials(stores[:2], given())


def test_runs_with_other_units_are_refused_by_name():
    stores = [spike_store([[1.0]] * 2, ids=[1, k], run=str(k)) for k in (2, 3)]
    with pytest.raises(DataError, match="2, 3 are in only one of"):
        trials(stores, given(scope="session"))
    same = [spike_store([[1.0]], ids=[1]), spike_store([[1.0]], ids=[1], task="x")]
    assert trials(same, given(scope="session")).sizes["trial"] == 2


def test_rates_hold_for_all_runs_together():
    stores = [spike_store([np.arange(0, 10, 0.5), [1.0][:k]], run=str(k)) for k in (0, 1)]
    ds = trials(stores, given(scope="session", units={"min_spikes": 1}))
    assert ds["unit"].values.tolist() == ["0", "3"]


# --- events ----------------------------------------------------------------------------------


def test_events_within_trials_are_carried_in_both_times(eeg):
    ds = trials([eeg], given(trials={"by": "blocks", "block_s": 4.0}))
    table = eeg["events"].to_dataset()
    onset = table["onset"].values
    start = ds["trial_start"].values[ds["event_trial"].values]
    np.testing.assert_allclose(ds["event_time"].values, ds["event_onset"].values - start)
    last = ds["trial_start"].values[-1] + 4.0
    np.testing.assert_array_equal(ds["event_onset"].values, onset[onset < last])
    assert set(ds["event_label"].values) == set(table["label"].values)


def test_events_may_come_from_another_recording_of_the_session():
    time = np.arange(0, 10, 0.02)
    eeg = series_store(time, np.sin(time), events=[(2.0, "go"), (4.0, "go")], session_id="s")
    spikes = spike_store([np.arange(0.01, 10, 0.1)], session_id="s")
    block = {"by": "events", "labels": ["go"], "window_s": [0.0, 1.0], "events_from": "eeg"}
    ds = trials([eeg, spikes], given(scope="session", bin_ms=100, trials=block))
    assert "counts" in ds
    np.testing.assert_array_equal(ds["trial_onset"].values, [2.0, 4.0])
    with pytest.raises(ConfigError, match="one modality is analysed, found eeg, spikes"):
        trials([eeg, spikes], given(scope="session"))
    with pytest.raises(ConfigError, match="events_from: meg, but the recordings are"):
        trials([spikes], given(trials=block | {"events_from": "meg"}))


def test_events_that_differ_between_recordings_need_a_choice():
    block = {"by": "events", "labels": ["go"], "window_s": [0.0, 1.0]}
    stores = [spike_store([[1.0]], events=[(t, "go")], acq=f"p{k}") for k, t in enumerate((2.0, 3))]
    with pytest.raises(ConfigError, match="the events of .* differ"):
        trials(stores, given(scope="session", trials=block))
    stores = [spike_store([[1.0]], events=[(2.0, "go")], acq=f"p{k}") for k in (0, 1)]
    assert trials(stores, given(scope="session", trials=block)).sizes["trial"] == 1


def test_labels_may_stand_in_another_column():
    table = {"start": [0.0, 5], "stop": [1.0, 6], "choice": ["l", "r"]}
    tree = spike_store([[1.0]], events=[(2.0, "a"), (4.0, "a"), (6.0, "a")], trials=table)
    block = {"by": "events", "labels": ["left"], "window_s": [0.0, 1.0], "column": "side"}
    ds = trials([tree], given(trials=block))
    np.testing.assert_array_equal(ds["trial_onset"].values, [2.0, 6.0])
    chosen = trials([tree], given(trials={"by": "trials", "labels": ["r"], "column": "choice"}))
    assert chosen["trial_label"].values.tolist() == ["r"]
    with pytest.raises(ConfigError, match="have no column 'colour'; they have"):
        trials([tree], given(trials={"by": "trials", "column": "colour"}))


def test_a_run_without_the_events_is_left_out_and_all_is_an_error():
    block = {"by": "events", "labels": ["go"], "window_s": [0.0, 1.0]}
    stores = [spike_store([[1.0]], events=[(2.0, word)], run=word) for word in ("go", "stop")]
    ds = trials(stores, given(scope="session", trials=block))
    assert ds["run"].values.tolist() == ["run go"]
    assert codes(ds) == ["RECORDING_LEFT_OUT"]
    assert reasons(ds)["no event labelled go with samples around it"] == ["sub-a_run-stop_spikes"]
    with pytest.raises(DataError, match="is left .*no event labelled go.*found: stop"):
        trials(stores[1:], given(trials=block))
    assert "labels found: stop" in json.loads(ds.attrs["issues"])[0]["hint"]
    with pytest.raises(ConfigError, match="have no column 'kind'; they have .*x_side"):
        trials(stores, given(scope="session", trials=block | {"column": "kind"}))


def test_trials_out_of_the_span_are_left_out():
    tree = spike_store([[1.0, 6.0]], events=[(2.0, "go"), (6.0, "go")])
    block = {"by": "events", "labels": ["go"], "window_s": [-0.5, 0.5]}
    ds = trials([tree], given(span_s=[5.8, 9.0], bin_ms=100, trials=block))
    assert reasons(ds) == {"outside input.span_s": ["go at 2 s"]}
    np.testing.assert_array_equal(ds["valid"].values[0], [False] * 3 + [True] * 7)


# --- samples ---------------------------------------------------------------------------------


def test_samples_keep_their_rate_and_their_values(eeg):
    ds = trials([eeg], given())
    np.testing.assert_array_equal(ds["activity"].values[0], eeg["activity"].values)
    np.testing.assert_allclose(ds["time"].values, eeg["time"].values, atol=1e-12)
    assert ds["unit"].values.tolist() == eeg["channel"].values.tolist()
    assert set(ds["unit_kind"].values) == {"channel"}
    assert ds.attrs["bin_width_s"] == 0.004
    assert ds["activity"].attrs["units"] == "V"
    with pytest.raises(ConfigError, match="min_rate_hz: counts spikes"):
        trials([eeg], given(units={"min_rate_hz": 1.0}))


def test_a_gap_is_time_that_passes_and_is_not_valid():
    time = np.delete(np.arange(0, 4, 0.1), slice(10, 15))
    values = np.stack([time, 2 * time], axis=1)
    values[2, 1] = np.nan
    ds = trials([series_store(time, values)], given())
    assert ds.sizes["time"] == 40
    np.testing.assert_allclose(ds["time"].values, np.arange(0, 4, 0.1), atol=1e-9)
    expected = np.ones(40, dtype=bool)
    expected[10:15] = expected[2] = False
    np.testing.assert_array_equal(ds["valid"].values[0], expected)
    np.testing.assert_allclose(ds["activity"].values[0, expected, 0], ds["time"].values[expected])
    ragged = np.array([0, 0.1, 0.2, 0.37, 0.5, 0.6])
    with pytest.raises(DataError, match="equal within 1 %"):
        trials([series_store(ragged, ragged)], given())


def test_windows_of_samples_begin_at_or_after_the_start_and_tell_by_how_much():
    time = np.arange(0, 20, 2.0)
    tree = series_store(time, time, modality="fmri", row="parcel", events=[(3.0, "a"), (8.0, "a")])
    block = {"by": "events", "labels": ["a"], "window_s": [0.0, 6.0]}
    ds = trials([tree], given(trials=block))
    np.testing.assert_array_equal(ds["activity"].values[..., 0], [[4, 6, 8], [8, 10, 12]])
    np.testing.assert_array_equal(ds["trial_start"].values, [4.0, 8.0])
    np.testing.assert_array_equal(ds["sample_offset"].values, [1.0, 0.0])
    np.testing.assert_array_equal(ds["time"].values, [0, 2, 4])


def test_rows_that_are_missing_throughout_are_left_out():
    time = np.arange(0, 4, 0.1)
    tree = series_store(time, np.stack([time, np.full(40, np.nan)], axis=1))
    ds = trials([tree], given())
    assert ds["unit"].values.tolist() == ["E0"]
    assert reasons(ds) == {"no valid sample in the trials": ["E1"]}


def test_bins_that_few_units_share_are_told():
    time = np.arange(0, 4, 0.1)
    values = np.stack([time, np.where(time < 3, np.nan, time)], axis=1)
    assert codes(trials([series_store(time, values)], given())) == ["FEW_VALID_BINS"]


# --- regressors ------------------------------------------------------------------------------


def test_regressors_are_those_of_a_common_grid():
    rng = np.random.default_rng(3)
    time = np.sort(rng.uniform(0, 10, 900))
    behavior = stream(time, speed=rng.normal(size=900), lick=rng.integers(0, 2, 900),
                      pose=rng.normal(size=(900, 2)))  # fmt: skip
    tree = spike_store([np.arange(0, 10, 0.1)], behavior=behavior)
    ds = trials([tree], given(bin_ms=50, regressors=["speed", "lick", "pose"]))
    assert ds["feature"].values.tolist() == ["speed", "lick", "pose.0", "pose.1"]
    grid = align("1/20", {"speed": behavior["speed"], "lick": behavior["lick"]}, span_s=(0, 10))
    valid = ds["valid"].values[0]
    for k, name in enumerate(("speed", "lick")):
        np.testing.assert_allclose(
            ds["regressor"].values[0, valid, k], grid[f"{name}/{name}"].values[valid], atol=1e-9
        )
    assert np.isnan(ds["regressor"].values[0, ~valid]).all()


def test_a_regressor_that_ends_early_ends_the_valid_bins():
    behavior = stream(np.arange(0, 6, 0.01), speed=np.ones(600))
    tree = spike_store([np.arange(0, 10, 0.1)], behavior=behavior)
    ds = trials([tree], given(bin_ms=100, regressors=["speed"]))
    assert codes(ds) == ["REGRESSOR_MISSING"]
    assert ds["valid"].values.sum() in (59, 60)
    late = spike_store([[1.0]], behavior=stream(np.arange(50, 60, 0.1), speed=np.ones(100)))
    with pytest.raises(DataError, match="'speed' has no value in any trial"):
        trials([late], given(regressors=["speed"]))
    with pytest.raises(ConfigError, match="Did you mean 'speed'"):
        trials([tree], given(regressors=["sped"]))


# --- configuration, files --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"trials": {"by": "events", "labels": ["go"]}}, "needs `labels"),
        ({"trials": {"by": "events", "labels": ["go"], "window_s": [1.0, 0.0]}}, "must end after"),
        ({"trials": {"by": "blocks"}}, "block_s: <seconds>"),
        ({"trials": {"by": "blocks", "block_s": 1.0, "overlap_s": 1.0}}, "must be less than"),
        ({"trials": {"by": "trials", "window_s": [0.0, 1.0]}}, "is for `by: events`"),
        ({"trials": {"by": "event"}}, "trials.by"),
        ({"regressors": ["a", "a"]}, "lists a name twice"),
        ({"bin_ms": "1/0"}, "bin_ms"),
        ({"bins_ms": 20}, "Did you mean 'bin_ms'"),
    ],
)
def test_settings_that_contradict_each_other_are_named(block, message):
    assert message in "\n".join(check_model(Input, block, "input")[1])


def test_every_field_is_described():
    schema = Input.model_json_schema()
    for model in (schema, *schema["$defs"].values()):
        assert not [k for k, v in model["properties"].items() if not v.get("description")]


def test_the_order_of_stores_changes_nothing_and_files_keep_it(tmp_path):
    stores = [spike_store([np.arange(0, 5, 0.3)], acq=f"p{k}", events=[(1.0, "ö")]) for k in (0, 1)]
    settings = given(scope="session", trials={"by": "blocks", "block_s": 2.0})
    ds = trials(stores, settings)
    xr.testing.assert_identical(ds, trials(stores[::-1], settings))
    write_dataset(ds, tmp_path / "hmm_glm.nc", {})
    again = read_dataset(tmp_path / "hmm_glm.nc")
    for name in ds.variables:
        np.testing.assert_array_equal(again[name].values, ds[name].values)


def test_a_recording_without_a_row_left_says_what_kept_them_out():
    bad = Issue("BAD_BASELINE", "sub-a_calcium/roi", "F0 is not positive", "is it dF/F already?")
    store = series_store(
        np.arange(20) / 2, np.ones((20, 3)), modality="calcium", row="roi",
        issues=issues_to_json([bad, Issue("CLOCK", "time", "a matter of time")]),
    )  # fmt: skip
    store["roi_ok"].values[:] = False
    with pytest.raises(DataError) as caught:
        trials([store], Input(units={"where": "roi != 'E0'"}))
    told = str(caught.value)
    assert "no row is left of 3 (1: units.where: roi != 'E0', 2: roi_ok is False)" in told
    assert "BAD_BASELINE: F0 is not positive (is it dF/F already?)" in told
    assert "a matter of time" not in told
