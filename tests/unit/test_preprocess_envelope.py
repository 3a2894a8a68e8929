"""High gamma and band power against plain SciPy, and on planted bursts."""

from __future__ import annotations

import json
from itertools import pairwise

import mne
import numpy as np
import pytest
import xarray as xr
from scipy.signal import hilbert, oaconvolve

from neuropipe.errors import DataError
from neuropipe.preprocess import blocks
from neuropipe.preprocess.envelope import (
    band_edges,
    band_fir,
    band_power,
    high_gamma,
    hilbert_amplitude,
)

RATE = 500.0


def dataset(values: np.ndarray) -> xr.Dataset:
    names = np.array([f"A{i}" for i in range(values.shape[1])], dtype=object)
    dims = ("time", "channel")
    ds = xr.Dataset(
        {"activity": (dims, values, {"units": "V"}), "valid": (dims, np.isfinite(values))},
        {"time": np.arange(len(values)) / RATE, "channel": names,
         "x": ("channel", np.arange(len(names)) * 0.01)},
        {"recording": "sub-p01_ieeg", "grid_rate": RATE, "issues": "[]"},
    )  # fmt: skip
    ds["channel_ok"] = ("channel", np.ones(len(names), dtype=bool))
    return ds


def brute_amplitude(trace: np.ndarray, low: float, high: float) -> tuple[np.ndarray, int]:
    """Filter by plain convolution, then the analytic signal; return it and the taps."""
    width = (high - low) / 4
    taps = mne.filter.create_filter(
        None, RATE, low, high, l_trans_bandwidth=width, h_trans_bandwidth=width, verbose="error"
    )
    return np.abs(hilbert(oaconvolve(trace, taps, mode="same"))), len(taps)


def cell_mean(values: np.ndarray, grid: np.ndarray, dt: float) -> np.ndarray:
    """Mean over cells centred on the grid; each sample stands for one step around it."""
    result = np.full(len(grid), np.nan)
    for k, centre in enumerate(grid):
        low, high = (centre - dt / 2) * RATE, (centre + dt / 2) * RATE
        index = np.arange(max(int(low) - 1, 0), min(int(high) + 3, len(values)))
        weight = np.clip(np.minimum(index + 0.5, high) - np.maximum(index - 0.5, low), 0, None)
        use = weight > 1e-9
        result[k] = np.sum(weight[use] * values[index[use]]) / weight[use].sum()
    return result


def test_high_gamma_equals_plain_scipy_away_from_the_edges():
    values = np.random.default_rng(0).normal(size=(8000, 2))
    found = high_gamma(dataset(values))
    edges = 70 * (150 / 70) ** (np.arange(9) / 8)
    np.testing.assert_allclose(band_edges(70, 150, 8), edges)
    grid = found["time"].values
    for row in range(2):
        total, longest = np.zeros(8000), 0
        for low, high in pairwise(edges):
            amplitude, taps = brute_amplitude(values[:, row], low, high)
            edge = (taps - 1) // 2
            inner = amplitude[edge:-edge]
            total += (amplitude - inner.mean()) / inner.std()
            longest = max(longest, edge)
        expected = cell_mean(total / 8, grid, 0.01)
        valid = found["valid"].values[:, row]
        # The analytic signal of a cut stretch differs a little from that of a padded one.
        inside = valid & (grid > longest / RATE + 1) & (grid < 16 - longest / RATE - 1)
        np.testing.assert_allclose(
            found["activity"].values[inside, row], expected[inside], atol=0.01
        )
        assert valid.sum() == pytest.approx(100 * (16 - 2 * longest / RATE), abs=3)


def test_bursts_of_high_gamma_stand_out():
    rng = np.random.default_rng(1)
    time = np.arange(15_000) / RATE
    burst = (time % 4) < 1
    values = rng.normal(size=(15_000, 2))
    values[:, 0] *= 1 + 2 * burst
    found = high_gamma(dataset(values))
    on = np.interp(found["time"].values, time, burst) > 0.5
    valid = found["valid"].values[:, 0]
    trace = found["activity"].values[:, 0]
    assert trace[on & valid].mean() - trace[~on & valid].mean() > 0.5
    other = found["activity"].values[:, 1]
    assert abs(other[on & valid].mean() - other[~on & valid].mean()) < 0.1
    assert found.attrs["rate"] == 100 and found["activity"].attrs["units"] == "1"


def test_bands_do_not_leak_into_their_neighbours():
    time = np.arange(10_000) / RATE
    fir = band_fir(70, 77)
    inside = hilbert_amplitude(fir.run(np.sin(2 * np.pi * 73.5 * time)[None], RATE))
    outside = hilbert_amplitude(fir.run(np.sin(2 * np.pi * 84 * time)[None], RATE))
    middle = slice(3000, 7000)
    np.testing.assert_allclose(inside[0, middle], 1.0, atol=0.01)
    assert 20 * np.log10(outside[0, middle].max()) < -40


def test_band_power_is_the_log_of_the_squared_amplitude():
    time = np.arange(10_000) / RATE
    values = np.stack([3e-6 * np.sin(2 * np.pi * 10 * time), 2e-6 * np.sin(2 * np.pi * 20 * time)])
    bands = {"alpha": (8.0, 13.0), "beta": (15.0, 30.0)}
    noise = np.random.default_rng(0).normal(size=(10_000, 2)) * 1e-9
    found = band_power(dataset(values.T + noise), bands_hz=bands, resample_hz=50)
    assert found["channel"].values.tolist() == ["A0.alpha", "A0.beta", "A1.alpha", "A1.beta"]
    assert found["band"].values.tolist() == ["alpha", "beta"] * 2
    assert found["band_low"].values.tolist() == [8, 15, 8, 15]
    assert found["x"].values.tolist() == [0.0, 0.0, 0.01, 0.01]
    assert found["channel_ok"].values.all()
    middle = found.sel(time=slice(5, 15))["activity"]
    np.testing.assert_allclose(middle.sel(channel="A0.alpha"), np.log10(9e-12), atol=0.01)
    np.testing.assert_allclose(middle.sel(channel="A1.beta"), np.log10(4e-12), atol=0.01)
    assert float(middle.sel(channel="A0.beta").max()) < np.log10(9e-12) - 4
    amplitude, _ = brute_amplitude(values[0] + noise[:, 0], 8.0, 13.0)
    expected = cell_mean(np.log10(amplitude**2), found["time"].values, 0.02)
    inside = (found["time"].values > 5) & (found["time"].values < 15)
    np.testing.assert_allclose(
        found["activity"].sel(channel="A0.alpha").values[inside], expected[inside], atol=1e-3
    )


def test_a_silent_channel_has_no_log_power():
    values = np.random.default_rng(0).normal(size=(5000, 2))
    values[:, 1] = 0.0
    found = band_power(dataset(values), bands_hz={"alpha": (8.0, 13.0)})
    assert not found["valid"].sel(channel="A1.alpha").values.any()
    assert found["valid"].sel(channel="A0.alpha").values.any()
    assert [i["code"] for i in json.loads(found.attrs["issues"])] == ["NO_POWER"]
    gamma = high_gamma(dataset(values))
    assert not gamma["valid"].sel(channel="A1").values.any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_blocks_give_what_the_whole_gives(dtype, monkeypatch):
    values = np.random.default_rng(2).normal(size=(4000, 5)).astype(dtype)
    values[2000, 2] = np.nan
    steps = (high_gamma, lambda ds: band_power(ds, bands_hz={"alpha": (8.0, 13.0)}))
    whole = [step(dataset(values)) for step in steps]
    monkeypatch.setattr(blocks.row_blocks, "__defaults__", (4000 * 8,))
    for step, expected in zip(steps, whole, strict=True):
        found = step(dataset(values))
        xr.testing.assert_identical(found, expected)
        assert found["activity"].dtype == dtype


def test_a_gap_is_not_bridged():
    values = np.random.default_rng(3).normal(size=(10_000, 1))
    changed = values.copy()
    changed[4990:5000] += 1e6
    results = []
    for given in (values, changed):
        ds = dataset(given)
        time = ds["time"].values.copy()
        time[5000:] += 3.0
        ds = ds.assign_coords(time=time)
        ds["observed"] = (("interval", "edge"), [[time[0], time[4999]], [time[5000], time[-1]]])
        results.append(band_power(ds, bands_hz={"gamma": (70.0, 90.0)}))
    behind = results[0]["time"].values > 13.1
    np.testing.assert_array_equal(
        results[0]["activity"].values[behind], results[1]["activity"].values[behind]
    )
    assert results[0]["valid"].values[behind].any()
    inside = (results[0]["time"].values > 10.02) & (results[0]["time"].values < 12.98)
    assert np.isnan(results[0]["activity"].values[inside]).all()


def test_what_a_band_lacks_is_named():
    values = np.random.default_rng(3).normal(size=(2000, 1))
    with pytest.raises(DataError, match=r"high_gamma reaches 300 Hz.*500 Hz"):
        high_gamma(dataset(values), band_hz=(70, 300))
    with pytest.raises(DataError, match=r"above the sampling rate of 500 Hz"):
        high_gamma(dataset(values), resample_hz=1000)
    with pytest.raises(DataError, match=r"band_power needs .* longest stretch has 4 s"):
        band_power(dataset(values), bands_hz={"slow": (0.5, 1.0)})
