"""Filters keep their band, take out the rest, and never reach over a gap."""

from __future__ import annotations

import json

import mne
import numpy as np
import pytest
import xarray as xr
from scipy.signal import oaconvolve, resample_poly

from neuropipe.errors import DataError
from neuropipe.preprocess import blocks
from neuropipe.preprocess.blocks import row_blocks, time_blocks, usable_runs
from neuropipe.preprocess.filtering import Fir, bandpass, notch, notch_filter, resolve_line
from neuropipe.preprocess.rates import lower_rate
from neuropipe.preprocess.sampling import sampling_rate

RATE = 250.0


def dataset(values: np.ndarray, rate: float = RATE, time: np.ndarray | None = None) -> xr.Dataset:
    time = np.arange(len(values)) / rate if time is None else time
    names = np.array([f"E{i}" for i in range(values.shape[1])], dtype=object)
    dims = ("time", "channel")
    return xr.Dataset(
        {"activity": (dims, values, {"units": "V"}), "valid": (dims, np.isfinite(values))},
        {"time": time, "channel": names},
        {"recording": "sub-e01_eeg", "grid_rate": rate},
    )


def sines(*hz: float, seconds: float = 60.0, rate: float = RATE) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return np.stack([np.sin(2 * np.pi * f * time + f) for f in hz], axis=1)


def amplitude(ds: xr.Dataset) -> np.ndarray:
    """Return the amplitude of a sine per row, over what is valid."""
    values = np.where(ds["valid"].values, ds["activity"].values, np.nan)
    return np.sqrt(2 * np.nanmean(values**2, axis=0))


def issues(ds: xr.Dataset) -> list[str]:
    return [entry["code"] for entry in json.loads(ds.attrs.get("issues", "[]"))]


def test_the_pass_band_stays_and_the_stop_bands_go():
    kept = bandpass(dataset(sines(2.0, 10.0, 38.0)), low_hz=1.0, high_hz=40.0)
    np.testing.assert_allclose(amplitude(kept), 1.0, atol=0.01)
    gone = bandpass(
        dataset(sines(0.02, 55.0, 90.0) + np.array([1.0, 0, 0])), low_hz=1.0, high_hz=40.0
    )
    assert (20 * np.log10(amplitude(gone)) < -40).all()


def test_an_open_end_passes_everything_on_its_side():
    low = bandpass(dataset(sines(0.05, 90.0)), low_hz=None, high_hz=40.0)
    assert amplitude(low)[0] == pytest.approx(1.0, abs=0.01)
    assert amplitude(low)[1] < 0.01
    high = bandpass(dataset(sines(90.0) + 3.0), low_hz=1.0, high_hz=None)
    assert amplitude(high)[0] == pytest.approx(1.0, abs=0.01)
    ds = dataset(sines(90.0))
    assert bandpass(ds, low_hz=None, high_hz=None)["activity"].identical(ds["activity"])


def test_values_are_those_of_mne_and_of_a_plain_convolution():
    values = np.random.default_rng(0).normal(size=(5000, 3))
    ds = bandpass(dataset(values), low_hz=1.0, high_hz=40.0)
    direct = mne.filter.filter_data(values.T, RATE, 1.0, 40.0, verbose="error").T
    np.testing.assert_array_equal(ds["activity"].values, direct)
    taps = mne.filter.create_filter(None, RATE, 1.0, 40.0, verbose="error")
    whole = oaconvolve(values, taps[:, None], mode="same", axes=0)
    valid = ds["valid"].values
    np.testing.assert_allclose(ds["activity"].values[valid], whole[valid], atol=1e-12)
    edge = (len(taps) - 1) // 2
    assert valid[edge:-edge].all() and not valid[:edge].any() and not valid[-edge:].any()


def test_the_notch_takes_out_mains_and_harmonics_only():
    ds = notch(dataset(sines(50.0, 100.0, 46.0, 54.0, 75.0, 10.0)), line_hz=50.0)
    found = amplitude(ds)
    assert (20 * np.log10(found[:2]) < -40).all()
    np.testing.assert_allclose(found[2:], 1.0, atol=0.01)
    direct = mne.filter.notch_filter(sines(50.0, 10.0).T, RATE, [50.0, 100.0], verbose="error").T
    np.testing.assert_array_equal(
        notch(dataset(sines(50.0, 10.0)), line_hz=50.0)["activity"].values, direct
    )


@pytest.mark.parametrize(
    ("line", "rate", "expected"),
    [(50.0, 250.0, 2), (50.0, 200.0, 1), (60.0, 1000.0, 8), (60.0, 100.0, 0), (50.0, 201.0, 1)],
)
def test_harmonics_end_below_nyquist(line, rate, expected):
    fir = notch_filter(line, rate)
    assert (0 if fir is None else len(fir.low)) == expected


def test_mains_come_from_the_source_or_are_an_issue():
    ds = dataset(sines(50.0))
    assert resolve_line(ds, 60.0)[1] == 60.0
    assert resolve_line(ds, None) == (ds, None)
    told, line = resolve_line(ds, "auto")
    assert line is None and issues(told) == ["LINE_FREQ_UNKNOWN"]
    ds["activity"].attrs["line_freq"] = 50.0
    assert resolve_line(ds, "auto") == (ds, 50.0)


def with_gap(values: np.ndarray) -> xr.Dataset:
    time = np.arange(len(values)) / RATE
    time[len(time) // 2 :] += 7.0
    ds = dataset(values, time=time)
    half = len(time) // 2
    ds["observed"] = (("interval", "edge"), [[time[0], time[half - 1]], [time[half], time[-1]]])
    return ds


@pytest.mark.parametrize(
    "step",
    [
        lambda ds: bandpass(ds, low_hz=1.0, high_hz=40.0),
        lambda ds: notch(ds, line_hz=50.0),
        lambda ds: lower_rate(ds, rate_hz=100.0),
    ],
)
def test_an_impulse_before_a_gap_changes_nothing_behind_it(step):
    values = np.random.default_rng(1).normal(size=(10_000, 2))
    changed = values.copy()
    changed[4999] += 1e6
    before, after = step(with_gap(values)), step(with_gap(changed))
    assert not np.array_equal(before["activity"], after["activity"], equal_nan=True)
    behind = before["time"].values >= 20.0 + 7.0
    np.testing.assert_array_equal(
        before["activity"].values[behind], after["activity"].values[behind]
    )
    np.testing.assert_array_equal(before["valid"], after["valid"])
    assert before["valid"].values[behind].any()


def test_missing_samples_are_gaps_of_their_channel():
    values = np.random.default_rng(2).normal(size=(6000, 3))
    values[3000, 1] = np.nan
    ds = bandpass(dataset(values), low_hz=1.0, high_hz=40.0)
    taps = Fir(1.0, 40.0).taps(RATE)
    edge = (taps - 1) // 2
    expected = np.zeros(6000, dtype=bool)
    expected[edge:-edge] = True
    np.testing.assert_array_equal(ds["valid"].values[:, 0], expected)
    expected[3000 - edge : 3001 + edge] = False
    np.testing.assert_array_equal(ds["valid"].values[:, 1], expected)
    alone = bandpass(dataset(values[3001:, [1]]), low_hz=1.0, high_hz=40.0)
    np.testing.assert_array_equal(alone["activity"].values[:, 0], ds["activity"].values[3001:, 1])


def test_segments_shorter_than_the_filter_are_not_valid():
    values = np.random.default_rng(3).normal(size=(6000, 2))
    values[4, 0] = np.nan
    ds = bandpass(dataset(values), low_hz=1.0, high_hz=40.0)
    assert np.isnan(ds["activity"].values[:4, 0]).all()
    assert "SHORT_SEGMENT" in issues(ds)
    with pytest.raises(DataError, match=r"`bandpass_hz`\) is 33 s long.*lasts 24 s"):
        bandpass(dataset(values), low_hz=0.1, high_hz=40.0)


def test_a_band_above_nyquist_is_an_error_that_names_both():
    with pytest.raises(DataError, match=r"reaches 40 Hz.*sampled at 64 Hz"):
        bandpass(dataset(sines(5.0, rate=64.0), rate=64.0), low_hz=1.0, high_hz=40.0)


def test_irregular_samples_cannot_be_filtered():
    values = np.zeros((1000, 1))
    time = np.cumsum(np.random.default_rng(0).uniform(0.5, 1.5, 1000)) / RATE
    ds = dataset(values, time=time)
    del ds.attrs["grid_rate"]
    with pytest.raises(DataError, match="regular samples"):
        bandpass(ds, low_hz=None, high_hz=40.0)
    even = dataset(values)
    del even.attrs["grid_rate"]
    assert sampling_rate(even) == pytest.approx(RATE)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_blocks_give_what_the_whole_gives(dtype, monkeypatch):
    values = np.random.default_rng(4).normal(size=(5000, 7)).astype(dtype)
    values[100, 3] = np.nan
    steps = (
        lambda ds: bandpass(ds, low_hz=1.0, high_hz=40.0),
        lambda ds: notch(ds, line_hz=50.0),
        lambda ds: lower_rate(ds, rate_hz=99.0),
    )
    whole = [step(dataset(values)) for step in steps]
    monkeypatch.setattr(blocks.row_blocks, "__defaults__", (5000 * 8 * 2,))
    monkeypatch.setattr("neuropipe.preprocess.rates.GRID_BLOCK", 97)
    assert len(list(row_blocks(5000, 7))) == 4
    for step, expected in zip(steps, whole, strict=True):
        found = step(dataset(values))
        xr.testing.assert_identical(found, expected)
        assert found["activity"].dtype == dtype


def test_blocks_cover_everything_once():
    assert list(row_blocks(10, 5, 160)) == [slice(0, 2), slice(2, 4), slice(4, 5)]
    assert list(row_blocks(10**9, 2, 160)) == [slice(0, 1), slice(1, 2)]
    assert list(time_blocks(5, 10, 160)) == [slice(0, 2), slice(2, 4), slice(4, 5)]


def test_runs_are_whole_and_inside_segments():
    valid = np.ones((10, 2), dtype=bool)
    valid[6, 1] = False
    found = [(run, rows.tolist()) for run, rows in usable_runs(valid, [slice(0, 4), slice(4, 10)])]
    assert found == [
        (slice(0, 4), [0, 1]), (slice(4, 10), [0]), (slice(4, 6), [1]), (slice(7, 10), [1]),
    ]  # fmt: skip


def test_a_lower_rate_keeps_slow_sines_and_takes_out_fast_ones():
    ds = lower_rate(dataset(sines(5.0, 40.0, 75.0, 110.0)), rate_hz=100.0)
    found = amplitude(ds)
    np.testing.assert_allclose(found[:2], 1.0, atol=0.01)
    assert (20 * np.log10(found[2:]) < -40).all()
    assert ds.attrs["rate"] == 100.0
    np.testing.assert_allclose(np.diff(ds["time"]), 0.01)
    inside = ds["valid"].values[:, 0]
    expected = np.sin(2 * np.pi * 5.0 * ds["time"].values + 5.0)
    np.testing.assert_allclose(ds["activity"].values[inside, 0], expected[inside], atol=5e-3)
    reference = resample_poly(sines(5.0), 2, 5, axis=0)[: ds.sizes["time"], 0]
    np.testing.assert_allclose(ds["activity"].values[inside, 0], reference[inside], atol=5e-3)


def test_a_higher_rate_is_refused():
    with pytest.raises(DataError, match="above the sampling rate of 250 Hz"):
        lower_rate(dataset(sines(5.0)), rate_hz=500.0)
    with pytest.raises(DataError, match="lasts"):
        lower_rate(dataset(sines(5.0)[:10], time=3.1 + np.arange(10) / RATE), rate_hz=1.0)


def test_a_segment_of_one_sample_is_no_stretch():
    ds = with_gap(np.random.default_rng(5).normal(size=(4000, 2)))
    time = ds["time"].values
    ends = [[time[0], time[1998]], [time[1999], time[1999]], [time[2000], time[-1]]]
    ds["observed"] = (("interval", "edge"), ends)
    assert lower_rate(ds, rate_hz=100.0)["valid"].values.any()
    found = bandpass(ds, low_hz=1.0, high_hz=None)
    assert np.isnan(found["activity"].values[1999]).all()
