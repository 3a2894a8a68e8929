"""Channels: SI values, choice by type, bad ones, interpolation, components of eyes and heart."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr

from neuropipe.errors import ConfigError, DataError
from neuropipe.preprocess import blocks
from neuropipe.preprocess import ica as ica_module
from neuropipe.preprocess.channels import (
    bad_channels,
    choose_channels,
    interpolate_bad,
    robust_z,
)
from neuropipe.preprocess.ica import remove_components
from neuropipe.simulate.planted_channels import planted_channels
from neuropipe.store.scaling import physical


def raw_of(modality: str = "eeg", **given) -> xr.Dataset:
    tree, _ = planted_channels(modality, **{"seconds": 20.0, "rate": 100.0, **given})
    raw = tree["raw"].to_dataset(inherit=False)
    return raw.assign_attrs(tree.attrs)


def issues(ds: xr.Dataset) -> dict[str, str]:
    return {entry["code"]: entry["message"] for entry in json.loads(ds.attrs["issues"])}


@pytest.mark.parametrize(
    ("dtype", "work"),
    [
        ("int16", np.float32),
        ("int32", np.float64),
        ("float32", np.float32),
        ("float64", np.float64),
    ],
)
def test_activity_holds_si_values_of_data_channels(dtype, work):
    raw = raw_of(dtype=dtype)
    ds = choose_channels(raw, types=("eeg",))
    stored = raw["signal"].values[:, :19].astype(np.float64)
    if dtype.startswith("int"):
        stored = stored * raw["scale_factor"].values[:19] + raw["add_offset"].values[:19]
        assert abs(stored - raw["signal"].values[:, :19]).max() > 1
    np.testing.assert_array_equal(ds["activity"].values, stored.astype(work))
    assert ds["activity"].attrs["units"] == "V"
    assert set(ds["ch_type"].values) == {"eeg"}
    assert "scale_factor" not in ds.variables
    assert "1 ecg, 1 eog, 1 stim" in issues(ds)["CHANNELS_LEFT_OUT"]


def test_physical_reads_only_what_is_asked_for():
    raw = raw_of(dtype="int16")
    block = physical(raw, rows=np.array([4, 2]), times=slice(10, 15))
    expected = raw["signal"].values * raw["scale_factor"].values + raw["add_offset"].values
    np.testing.assert_array_equal(block, expected[10:15][:, [4, 2]])
    assert physical(raw).shape == raw["signal"].shape


def test_missing_samples_stay_missing_whether_nan_or_masked():
    raw = raw_of(dtype="float32")
    raw["signal"].values[5, 2] = np.nan
    raw["signal"].values[6, 3] = np.inf
    raw["valid"] = (("time", "channel"), np.ones(raw["signal"].shape, dtype=bool))
    raw["valid"].values[7, 4] = False
    ds = choose_channels(raw, types=("eeg",))
    lost = np.argwhere(~ds["valid"].values).tolist()
    assert lost == [[5, 2], [6, 3], [7, 4]]
    np.testing.assert_array_equal(np.isnan(ds["activity"].values), ~ds["valid"].values)


def test_units_of_meg_differ_and_are_told_per_channel():
    ds = choose_channels(raw_of("meg"), types=("mag", "grad"))
    assert ds["activity"].attrs["units"] == ""
    assert set(ds["units"].values) == {"T", "T/m"}


def test_a_recording_without_data_channels_is_refused_with_what_it_has():
    raw = raw_of("ieeg")
    raw["ch_type"] = ("channel", np.full(raw.sizes["channel"], "misc", dtype=object))
    with pytest.raises(DataError, match=r"no channel of type seeg or ecog.*found misc"):
        choose_channels(raw, types=("seeg", "ecog"))


def test_blocks_give_what_the_whole_gives(monkeypatch):
    raw = raw_of(dtype="int16")
    whole = bad_channels(choose_channels(raw, types=("eeg",)))
    monkeypatch.setattr(blocks.time_blocks, "__defaults__", (22 * 8 * 17,))
    monkeypatch.setattr(blocks.row_blocks, "__defaults__", (2000 * 8 * 2,))
    xr.testing.assert_identical(bad_channels(choose_channels(raw, types=("eeg",))), whole)


@pytest.mark.parametrize("modality", ["eeg", "meg", "ieeg"])
@pytest.mark.parametrize("dtype", ["int16", "float64"])
def test_planted_bad_channels_are_found_by_the_rule_that_fits(modality, dtype):
    tree, truth = planted_channels(modality, seconds=20.0, rate=100.0, dtype=dtype)
    raw = tree["raw"].to_dataset(inherit=False).assign_attrs(tree.attrs)
    types = {"eeg": ("eeg",), "meg": ("mag", "grad"), "ieeg": ("seeg",)}[modality]
    ds = bad_channels(choose_channels(raw, types=types))
    reason = dict(zip(ds["source_channel"].values, ds["bad_reason"].values, strict=True))
    assert {name: why for name, why in reason.items() if why} == {
        truth.noisy: "noisy", truth.flat: "flat", truth.stated: "source",
    }  # fmt: skip
    bad = {truth.noisy, truth.flat, truth.stated}
    assert {str(n) for n in ds["channel"].values[~ds["channel_ok"].values]} == bad
    said = [e["message"] for e in json.loads(ds.attrs["issues"]) if e["code"] == "BAD_CHANNEL"]
    assert len(said) == 3
    assert any(truth.flat in text and "flat" in text for text in said)


def test_without_a_search_the_word_of_the_source_still_counts():
    tree, truth = planted_channels(seconds=20.0, rate=100.0)
    raw = tree["raw"].to_dataset(inherit=False).assign_attrs(tree.attrs)
    ds = bad_channels(choose_channels(raw, types=("eeg",)), z=None)
    assert [str(n) for n in ds["channel"].values[~ds["channel_ok"].values]] == [truth.stated]


def test_the_score_is_the_median_and_mad_of_log_variance():
    ds = bad_channels(choose_channels(raw_of(dtype="float64", faults=False), types=("eeg",)))
    log = np.log10(ds["activity"].values.var(axis=0))
    mad = 1.4826 * np.median(abs(log - np.median(log)))
    np.testing.assert_allclose(ds["variance_z"].values, (log - np.median(log)) / mad, rtol=1e-9)
    np.testing.assert_allclose(ds["log_variance"].values, log, rtol=1e-9)
    assert robust_z(np.array([1.0, 1.0, 1.0, 5.0])).tolist() == [0, 0, 0, 0]
    assert np.isnan(robust_z(np.full(3, np.nan))).all()


def test_a_channel_without_any_sample_and_few_channels_pass():
    raw = raw_of(dtype="float64", faults=False).isel(channel=[0, 1, 2])
    raw["signal"].values[:, 1] = np.nan
    raw["signal"].values[:, 2] *= 1e6
    ds = bad_channels(choose_channels(raw, types=("eeg",)))
    assert ds["bad_reason"].values.tolist() == ["", "", ""]
    assert np.isnan(ds["log_variance"].values[1])


def test_a_recording_of_bad_channels_only_is_refused():
    raw = raw_of(faults=False)
    raw["bad"] = ("channel", np.ones(raw.sizes["channel"], dtype=bool))
    with pytest.raises(DataError, match="no channel is left"):
        bad_channels(choose_channels(raw, types=("eeg",)))


def smooth_field(raw: xr.Dataset) -> xr.Dataset:
    """Replace the samples by a field that is smooth over the head."""
    rng = np.random.default_rng(0)
    axes = np.stack([raw[axis].values for axis in "xyz"]) / 0.09
    values = rng.normal(size=(raw.sizes["time"], 3)) @ np.nan_to_num(axes)
    return raw.assign(signal=(("time", "channel"), values))


def test_interpolation_restores_a_smooth_field():
    ds = choose_channels(smooth_field(raw_of(dtype="float64", faults=False)), types=("eeg",))
    ds = ds.assign(channel_ok=("channel", ds["channel"].values != "C3"))
    truth = ds["activity"].values[:, ds["channel"].values == "C3"][:, 0]
    spoiled = ds.assign(activity=ds["activity"].where(ds["channel"] != "C3", 99.0))
    spoiled["valid"].values[7, 0] = False
    found = interpolate_bad(spoiled)
    here = found["channel"].values == "C3"
    values = found["activity"].values[:, here][:, 0]
    known = np.arange(len(values)) != 7
    assert np.corrcoef(values[known], truth[known])[0, 1] > 0.99
    assert not found["valid"].values[7, here][0]
    assert found["channel_ok"].values.all()
    assert found["interpolated"].values.tolist() == here.tolist()
    np.testing.assert_array_equal(
        found["activity"].values[:, ~here], spoiled["activity"].values[:, ~here]
    )


def test_interpolation_needs_positions():
    ds = bad_channels(choose_channels(raw_of(), types=("eeg",)))
    ds["x"] = ("channel", np.where(ds["channel"].values == "Pz", np.nan, ds["x"].values))
    with pytest.raises(DataError, match=r"position of every channel, unknown of Pz"):
        interpolate_bad(ds)


def eye_data(seed: int = 0) -> tuple[xr.Dataset, np.ndarray, np.ndarray]:
    """Non-gaussian sources, one of them the eyes, mixed into 19 channels."""
    rng = np.random.default_rng(seed)
    raw = raw_of(dtype="float64", faults=False, seconds=60.0)
    n_times, n_rows = raw["signal"].shape
    sources = rng.laplace(size=(n_times, 6))
    blink = np.exp(-0.5 * (((raw["time"].values + 1) % 3.7 - 1) / 0.1) ** 2) * 20
    mixing = rng.normal(size=(6, n_rows))
    clean = sources @ mixing + 0.01 * rng.normal(size=(n_times, n_rows))
    dirty = clean + blink[:, None] * np.linspace(0.2, 1.0, n_rows)
    dirty[:, raw["ch_type"].values == "eog"] = blink[:, None] + rng.normal(size=(n_times, 1)) * 0.1
    raw = raw.assign(signal=(("time", "channel"), dirty * 1e-6))
    return raw, clean[:, :19] * 1e-6, blink


def test_the_component_of_the_eyes_is_taken_out():
    raw, clean, _ = eye_data()
    raw["signal"].values[1000, 2] = np.nan
    ds = choose_channels(raw, types=("eeg",), auxiliary=True)
    ds = ds.assign(channel_ok=("channel", ds["channel"].values != "Cz"))
    found = remove_components(ds, components=7, seed=3)
    assert found["ica_excluded"].values.sum() == 1
    good = found["channel_ok"].values
    usable = found["valid"].values[:, good].all(axis=1)
    assert not usable[1000] and usable.sum() == len(usable) - 1
    before = ds["activity"].values[usable][:, good]
    after = found["activity"].values[usable][:, good]
    truth = clean[usable][:, good]
    assert np.mean((after - truth) ** 2) < 0.05 * np.mean((before - truth) ** 2)
    # The trend that the fit's high pass took off is still there.
    np.testing.assert_allclose(after.mean(axis=0), before.mean(axis=0), atol=5e-6)
    np.testing.assert_array_equal(
        found["activity"].values[:, ~good], ds["activity"].values[:, ~good]
    )
    again = remove_components(ds, components=7, seed=3)
    xr.testing.assert_identical(found, again)
    entry = json.loads(found.attrs["pipeline"])[-1]
    assert entry["parameters"]["seed"] == 3 and "mne" in entry["versions"]
    assert "auxiliary" not in found


def test_ica_applied_in_blocks_equals_the_whole(monkeypatch):
    raw, _, _ = eye_data()
    ds = choose_channels(raw, types=("eeg",), auxiliary=True)
    whole = remove_components(ds, components=7)
    monkeypatch.setattr(blocks.time_blocks, "__defaults__", (19 * 8 * 501,))
    parts = remove_components(ds, components=7)
    np.testing.assert_allclose(parts["activity"], whole["activity"], rtol=0, atol=1e-18)


def test_without_eog_and_ecg_nothing_is_taken_out():
    raw, _, _ = eye_data()
    kept = raw.isel(channel=np.flatnonzero(raw["ch_type"].values == "eeg"))
    ds = choose_channels(kept, types=("eeg",), auxiliary=True)
    found = remove_components(ds)
    xr.testing.assert_equal(found["activity"], ds["activity"])
    assert "NO_AUXILIARY" in issues(found)


def test_faults_of_ica_say_what_to_do(monkeypatch):
    raw, _, _ = eye_data()
    ds = choose_channels(raw, types=("eeg",), auxiliary=True)
    monkeypatch.setattr(ica_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="python-picard is not installed"):
        remove_components(ds, method="picard")
    with pytest.raises(DataError, match="30 components needs as many good channels, found 19"):
        remove_components(ds, components=30)
