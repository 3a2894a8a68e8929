"""Windows around events: equal lengths, the right samples, nothing invented."""

from __future__ import annotations

import json

import mne
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from neuropipe.assemble.epochs import epochs, rest_starts
from neuropipe.errors import ConfigError, DataError
from neuropipe.preprocess.sampling import n_samples

RATE = 100.0


def recording(seconds: float = 60.0, rate: float = RATE, n_rows: int = 3) -> xr.Dataset:
    time = np.arange(round(seconds * rate)) / rate
    values = np.random.default_rng(0).normal(size=(len(time), n_rows))
    names = np.array([f"E{i}" for i in range(n_rows)], dtype=object)
    return xr.Dataset(
        {"activity": (("time", "channel"), values, {"units": "V"})},
        {"time": time, "channel": names, "channel_ok": ("channel", np.ones(n_rows, dtype=bool))},
        {"recording": "sub-e01_eeg", "grid_rate": rate},
    )


def test_windows_are_those_of_mne():
    ds = recording()
    onsets = np.array([1.0, 7.5, 33.33])
    found = epochs(ds, onsets)
    info = mne.create_info(3, RATE, "eeg", verbose="error")
    raw = mne.io.RawArray(ds["activity"].values.T, info, verbose="error")
    events = np.stack([np.round(onsets * RATE), np.zeros(3), np.ones(3)], axis=1).astype(int)
    theirs = mne.Epochs(
        raw, events, tmin=-0.2, tmax=0.49, baseline=(None, 0), preload=True, verbose="error"
    ).get_data(copy=False)
    np.testing.assert_allclose(found["activity"].values, theirs.transpose(0, 2, 1), atol=1e-14)
    np.testing.assert_allclose(found["time"].values, -0.2 + np.arange(70) / RATE)
    np.testing.assert_array_equal(found["trial_onset"].values, onsets)
    np.testing.assert_allclose(found["trial_start"].values, onsets - 0.2)
    assert found.attrs["all_valid"] == 1


@given(
    st.floats(0.05, 3.0), st.floats(20.0, 600.0),
    st.lists(st.floats(1.0, 5.0), min_size=1, max_size=8),
)  # fmt: skip
def test_the_length_does_not_depend_on_the_start(duration, rate, onsets):
    ds = recording(10.0, rate, 1)
    found = epochs(ds, onsets, window_s=(0.0, duration), baseline_s=None)
    assert found["activity"].shape == (len(onsets), n_samples(duration, rate), 1)
    assert np.isfinite(found["activity"].values).all()
    for trial, onset in enumerate(onsets):
        first = int(np.searchsorted(ds["time"].values, onset - 1e-6 / rate))
        expected = ds["activity"].values[first : first + found.sizes["time"]]
        np.testing.assert_array_equal(found["activity"].values[trial], expected)


@given(st.floats(0.5, 20.0), st.lists(st.floats(0.1, 50.0), min_size=1, max_size=4))
def test_rest_windows_do_not_overlap_and_hold_no_gap(length, spans):
    stops = np.cumsum(np.array(spans) + 2.0)
    observed = np.stack([stops - np.array(spans), stops], axis=1)
    starts = rest_starts(observed, length)
    assert (np.diff(starts) >= length - 1e-9).all()
    for start in starts:
        assert ((observed[:, 0] <= start) & (start + length <= observed[:, 1] + 1e-5)).any()
    assert len(starts) == sum(int(span / length + 1e-6) for span in observed[:, 1] - observed[:, 0])


def test_a_gap_leaves_a_hole_at_its_place():
    ds = recording().isel(time=np.r_[0:1000, 1030:6000])
    ds["observed"] = (("interval", "edge"), [[0.0, 9.99], [10.3, 59.99]])
    found = epochs(ds, [10.0], window_s=(-0.5, 0.5), baseline_s=None)
    hole = np.isnan(found["activity"].values[0, :, 0])
    assert np.flatnonzero(hole).tolist() == list(range(50, 80))
    np.testing.assert_array_equal(found["valid"].values[0], ~np.isnan(found["activity"].values[0]))
    whole = epochs(recording(), [10.0], window_s=(-0.5, 0.5), baseline_s=None)
    np.testing.assert_array_equal(
        found["activity"].values[0, ~hole], whole["activity"].values[0, ~hole]
    )


def test_the_edges_are_padded_and_events_outside_are_left_out():
    found = epochs(recording(), [0.1, 30.0, 59.9, 99.0, -5.0], baseline_s=None)
    assert found["event"].values.tolist() == [0, 1, 2]
    assert np.isnan(found["activity"].values[0, :10]).all()
    assert np.isfinite(found["activity"].values[0, 10:]).all()
    assert np.isnan(found["activity"].values[2, 30:]).all()
    left = json.loads(found.attrs["excluded"])
    assert [entry["event"] for entry in left] == [3, 4]


def test_masked_samples_count_for_nothing():
    ds = recording()
    mask = np.ones(ds["activity"].shape, dtype=bool)
    mask[995:1005, 1] = False
    ds["valid"] = (("time", "channel"), mask)
    found = epochs(ds, [10.0])
    assert np.isnan(found["activity"].values[0, 15:25, 1]).all()
    raw = ds["activity"].values[980:995, 1].mean()
    np.testing.assert_allclose(
        found["activity"].values[0, 30:, 1], ds["activity"].values[1010:1050, 1] - raw
    )


def test_large_swings_are_rejected_on_good_rows_only():
    ds = recording()
    ds["activity"].values[1500, 0] = 50.0
    ds["activity"].values[2500, 2] = 50.0
    ds["channel_ok"] = ("channel", [True, True, False])
    found = epochs(ds, [10.0, 15.0, 25.0], peak_to_peak=20.0)
    assert found["event"].values.tolist() == [0, 2]
    assert json.loads(found.attrs["excluded"])[0]["reason"] == "peak to peak above the limit"


def test_faults_are_named():
    ds = recording()
    with pytest.raises(ConfigError, match="must end after it starts"):
        epochs(ds, [1.0], window_s=(0.5, 0.5))
    with pytest.raises(ConfigError, match="must lie within window_s"):
        epochs(ds, [1.0], baseline_s=(-1.0, 0.0))
    with pytest.raises(ConfigError, match="shorter than a sample"):
        epochs(ds, [1.0], window_s=(0.0, 0.001), baseline_s=None)
    with pytest.raises(DataError, match="no window is left .there are no events"):
        epochs(ds, [])
    with pytest.raises(DataError, match="no valid sample"):
        epochs(ds, [500.0])
