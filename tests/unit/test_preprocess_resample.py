"""Resampling: exactness, integrals, band limits, gaps."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from neuropipe.errors import DataError
from neuropipe.preprocess.resample import (
    overlap_mean,
    previous,
    resample,
    resample_stream,
    target_grid,
)

RNG = np.random.default_rng(7)


def dataset(values: np.ndarray, time: np.ndarray) -> xr.Dataset:
    return xr.Dataset(
        {
            "activity": (("time", "roi"), values, {"units": "1"}),
            "valid": (("time", "roi"), np.isfinite(values)),
            "roi_ok": ("roi", np.ones(values.shape[1], dtype=bool)),
        },
        coords={"time": time, "roi": np.arange(values.shape[1])},
        attrs={"recording": "sub-1_calcium", "sampling": "irregular", "rate": np.nan},
    )


def irregular(n: int = 400, seed: int = 0) -> np.ndarray:
    steps = np.random.default_rng(seed).uniform(0.4, 0.8, n - 1)
    return np.concatenate([[0.0], np.cumsum(steps)])


@given(seed=st.integers(0, 1000), dt=st.floats(0.05, 0.39), slope=st.floats(-50, 50))
@settings(max_examples=30, deadline=None)
def test_interpolation_reproduces_a_ramp(seed, dt, slope):
    time = irregular(100, seed)
    ds = resample(dataset((slope * time + 3)[:, None], time), dt_s=dt)
    grid = ds["time"].values
    assert ds["valid"].values.all()
    np.testing.assert_allclose(ds["activity"].values[:, 0], slope * grid + 3, atol=1e-9, rtol=1e-9)


def integral_of_cells(values, time, low, high):
    """Integral of the step function in which each sample holds half way to its neighbours."""
    edges = np.concatenate(
        [
            [1.5 * time[0] - 0.5 * time[1]],
            (time[1:] + time[:-1]) / 2,
            [1.5 * time[-1] - 0.5 * time[-2]],
        ]
    )
    overlap = np.minimum(edges[1:], high) - np.maximum(edges[:-1], low)
    return float(np.sum(np.clip(overlap, 0, None) * values))


@given(seed=st.integers(0, 1000), dt=st.floats(1.0, 20.0))
@settings(max_examples=30, deadline=None)
def test_overlap_mean_preserves_the_integral_of_irregular_samples(seed, dt):
    time = irregular(300, seed)
    values = np.random.default_rng(seed).uniform(1, 2, len(time))
    ds = resample(dataset(values[:, None], time), dt_s=dt)
    inner = ds["activity"].values[1:-1, 0]
    grid = ds["time"].values[1:-1]
    if len(inner):
        expected = integral_of_cells(values, time, grid[0] - dt / 2, grid[-1] + dt / 2)
        assert abs(inner.sum() * dt - expected) <= 1e-9 * abs(expected)


def test_overlap_mean_equals_the_weighted_mean_cell_by_cell():
    time = irregular(120)
    values = RNG.normal(size=(120, 3))
    values[40:43, 0] = np.nan
    values[0, 1] = np.nan
    dt, gap = 1.7, 10.0
    grid = target_grid(time[0], time[-1], dt)
    found = overlap_mean(values, time, grid, dt, gap)
    half = np.diff(time) / 2
    start = time - np.concatenate([half[:1], half])
    stop = time + np.concatenate([half, half[-1:]])
    for k, g in enumerate(grid):
        overlap = np.clip(np.minimum(stop, g + dt / 2) - np.maximum(start, g - dt / 2), 0, None)
        for j in range(3):
            known = np.isfinite(values[:, j])
            if time[known][0] <= g <= time[known][-1] and overlap[known].sum() > 0:
                expected = np.average(values[known, j], weights=overlap[known])
                assert found[k, j] == pytest.approx(expected, rel=1e-10, abs=1e-12)
            else:
                assert np.isnan(found[k, j])


def sine(frequency: float, rate: float = 20.0, seconds: float = 200.0):
    time = np.arange(round(rate * seconds)) / rate
    return dataset(np.sin(2 * np.pi * frequency * time + 0.3)[:, None], time)


def amplitude(ds: xr.Dataset, frequency: float) -> float:
    inside = ds["valid"].values[:, 0]
    time, values = ds["time"].values[inside], ds["activity"].values[inside, 0]
    design = np.stack([np.sin(2 * np.pi * frequency * time), np.cos(2 * np.pi * frequency * time)])
    weight, *_ = np.linalg.lstsq(design.T, values, rcond=None)
    return float(np.hypot(*weight))


@pytest.mark.parametrize("dt", [0.5, 0.3333, 0.37, 1.0])
def test_polyphase_keeps_what_lies_below_the_new_nyquist(dt):
    frequency = 0.9 * 0.5 / dt
    ds = resample(sine(frequency), dt_s=dt, method="polyphase")
    assert abs(amplitude(ds, frequency) - 1) <= 0.05


@pytest.mark.parametrize("dt", [0.5, 0.3333, 0.37, 1.0])
def test_polyphase_removes_what_lies_above_the_new_nyquist(dt):
    ds = resample(sine(1.5 * 0.5 / dt), dt_s=dt, method="polyphase")
    inside = ds["activity"].values[ds["valid"].values]
    assert 20 * np.log10(np.abs(inside).max()) <= -40


def test_polyphase_upsamples_a_band_limited_signal():
    ds = resample(sine(1.0, rate=5.0), dt_s=0.05, method="polyphase")
    expected = np.sin(2 * np.pi * ds["time"].values + 0.3)
    inside = ds["valid"].values[:, 0]
    # 55 dB of stop band: 2e-3 of the amplitude.
    np.testing.assert_allclose(ds["activity"].values[inside, 0], expected[inside], atol=4e-3)


def test_polyphase_refuses_irregular_samples_with_a_remedy():
    time = irregular()
    with pytest.raises(DataError, match="use `mean` or `linear`"):
        resample(dataset(np.ones((400, 1)), time), dt_s=2.0, method="polyphase")


@pytest.mark.parametrize("method", ["linear", "mean", "polyphase"])
def test_a_gap_longer_than_max_gap_steps_is_missing_and_not_valid(method):
    keep = np.r_[0:100, 104:200]
    time = keep * 0.1
    values = np.full((200, 1), 2.0)
    values[100:104] = np.nan
    ds = (
        dataset(values[keep], time)
        if method != "polyphase"
        else dataset(values, np.arange(200) * 0.1)
    )
    dt = 0.05 if method == "linear" else 0.2
    found = resample(ds, dt_s=dt, method=method)
    grid = found["time"].values
    gap = (grid > 9.9 + 1e-9) & (grid < 10.4 - 1e-9)
    assert gap.any()
    np.testing.assert_array_equal(np.isnan(found["activity"].values[:, 0]), gap)
    assert not found["valid"].values[gap].any()
    bridged = resample(ds, dt_s=dt, method=method, max_gap_steps=5)
    assert np.isfinite(bridged["activity"].values).all()


@given(first=st.floats(0, 100), dt=st.floats(0.01, 3), steps=st.floats(1.5, 100))
@settings(max_examples=50, deadline=None)
def test_the_grid_never_leaves_the_recording(first, dt, steps):
    last = first + dt * steps
    grid = target_grid(first, last, dt)
    assert grid.min() >= first
    assert grid.max() <= last
    np.testing.assert_allclose(np.diff(grid), dt, rtol=1e-6)


def test_the_grid_of_a_recording_that_starts_at_0_is_arange():
    np.testing.assert_array_equal(target_grid(0.0, 100.0, 0.3333), np.arange(0.0, 100.0, 0.3333))


def test_recordings_that_start_at_different_times_get_one_grid():
    late = target_grid(7.1, 50.0, 0.3333)
    assert set(late.tolist()) <= set(target_grid(0.0, 60.0, 0.3333).tolist())


def test_the_same_step_gives_the_same_values():
    time = np.arange(100) * 0.5
    values = RNG.normal(size=(100, 2))
    ds = resample(dataset(values, time), dt_s=0.5)
    np.testing.assert_allclose(ds["activity"].values, values[:-1], atol=1e-12)


def test_a_constant_stays_constant_to_the_last_bit():
    ds = resample(dataset(np.full((400, 1), 0.1), irregular()), dt_s=3.0)
    assert np.all(ds["activity"].values == 0.1)


def test_rows_stay_and_attributes_follow():
    ds = resample(dataset(RNG.normal(size=(50, 3)), np.arange(50) * 0.5), dt_s=1.0)
    assert ds.attrs["sampling"] == "regular"
    assert ds.attrs["rate"] == 1.0
    assert ds["roi_ok"].dims == ("roi",)
    assert ds["activity"].attrs["units"] == "1"


def test_a_step_longer_than_the_recording_gives_one_sample_and_nothing_is_invented():
    ds = resample(dataset(np.ones((5, 1)), np.arange(5) * 0.5), dt_s=100.0)
    assert ds.sizes["time"] == 1
    late = dataset(np.ones((5, 1)), 3 + np.arange(5) * 0.5)
    with pytest.raises(DataError, match="use a smaller step"):
        resample(late, dt_s=100.0)


def test_categories_take_the_value_at_or_before():
    time = np.array([0.0, 1.0, 2.0])
    state = np.array(["rest", "run", "rest"], dtype=object)
    assert previous(state, time, np.array([0.0, 0.9, 1.0, 5.0])).tolist() == [
        "rest", "rest", "run", "rest",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="before the first sample"):
        previous(state, time, np.array([-0.1]))


def test_behaviour_follows_the_same_rules_on_demand():
    time = np.arange(20) * 0.5
    grid = np.arange(0, 9, 0.25)
    speed = xr.DataArray(2 * time, {"time_speed": time}, ("time_speed",), "speed")
    np.testing.assert_allclose(resample_stream(speed, grid).values, 2 * grid, atol=1e-12)
    mode = xr.DataArray(np.arange(20), {"time_mode": time}, ("time_mode",), "mode")
    np.testing.assert_array_equal(resample_stream(mode, grid).values, np.floor(grid / 0.5))
