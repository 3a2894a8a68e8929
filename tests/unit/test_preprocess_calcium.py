"""Calcium steps: source, neuropil, dF/F, long gaps, derivative."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from neuropipe.errors import DataError
from neuropipe.preprocess.calcium import (
    choose_source,
    derivative,
    dff,
    longest_run,
    mark_nan_runs,
    neuropil,
    running_percentile,
)

RNG = np.random.default_rng(8)


def raw(**series: np.ndarray) -> xr.Dataset:
    values = next(iter(series.values()))
    return xr.Dataset(
        {name: (("time", "roi"), array) for name, array in series.items()},
        coords={
            "time": np.arange(len(values)) * 0.5,
            "roi": np.arange(values.shape[1]),
            "label": ("roi", np.array([""] * values.shape[1], dtype=object)),
        },
        attrs={"recording": "sub-1_calcium"},
    )


def trace(n=200, rois=3, level=100.0) -> np.ndarray:
    return level + RNG.normal(size=(n, rois))


def test_auto_prefers_dff_then_fluorescence_then_deconvolved():
    a, b, c = trace(), trace(), trace()
    assert choose_source(raw(fluorescence=a, dff=b)).attrs["source_series"] == "dff"
    assert (
        choose_source(raw(fluorescence=a, deconvolved=c)).attrs["source_series"] == "fluorescence"
    )
    assert choose_source(raw(deconvolved=c)).attrs["source_series"] == "deconvolved"


def test_dff_is_computed_when_the_source_lacks_it():
    ds = raw(fluorescence=trace())
    assert choose_source(ds, source="dff").attrs["source_series"] == "fluorescence"
    with pytest.raises(DataError, match="store holds fluorescence"):
        choose_source(ds, source="dff", dff_on=False)
    with pytest.raises(DataError, match="choose one of these"):
        choose_source(ds, source="deconvolved")


def test_source_takes_the_mask_and_keeps_what_is_known_of_each_roi():
    values = trace()
    values[3, 1] = np.inf
    valid = np.ones(values.shape, dtype=bool)
    valid[5, 0] = False
    ds = raw(fluorescence=values, neuropil=trace()).assign(valid=(("time", "roi"), valid))
    taken = choose_source(ds)
    assert np.isnan(taken["activity"].values[[3, 5], [1, 0]]).all()
    assert taken["valid"].values.sum() == values.size - 2
    assert "label" in taken.coords and "neuropil" in taken and "fluorescence" not in taken
    assert taken["roi_ok"].values.all()


def test_neuropil_is_subtracted_with_the_coefficient():
    f, n = trace(), trace()
    ds = neuropil(choose_source(raw(fluorescence=f, neuropil=n)), coefficient=0.7)
    np.testing.assert_array_equal(ds["activity"].values, f - 0.7 * n)
    assert "neuropil" not in ds


def test_fitted_neuropil_coefficient_is_the_slope_per_roi_within_0_and_1():
    n = RNG.normal(size=(5000, 4)) * 10
    f = 500 + n * [0.2, 0.7, 1.8, -0.5] + 0.1 * RNG.normal(size=n.shape)
    n[100:120, 0] = np.nan
    ds = neuropil(choose_source(raw(fluorescence=f, neuropil=n)), coefficient="fit")
    np.testing.assert_allclose(ds["neuropil_coefficient"], [0.2, 0.7, 1.0, 0.0], atol=1e-3)


@given(width=st.sampled_from([1, 3, 7, 41]), q=st.floats(1, 99), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_running_percentile_equals_the_percentile_of_each_window(width, q, seed):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(60, 2))
    values[rng.random(values.shape) < 0.1] = np.nan
    found = running_percentile(values, q, width)
    for t in range(60):
        for j in range(2):
            window = values[max(0, t - width // 2) : t + width // 2 + 1, j]
            window = window[np.isfinite(window)]
            expected = np.percentile(window, q) if len(window) else np.nan
            np.testing.assert_allclose(found[t, j], expected, rtol=1e-12, atol=1e-12)


def test_dff_by_each_baseline():
    f = trace()
    ds = choose_source(raw(fluorescence=f))
    base = running_percentile(f, 8, 41)
    found = dff(ds, window_s=20.5)
    np.testing.assert_allclose(found["activity"], (f - base) / base)
    assert found["activity"].attrs["units"] == "1"
    f20 = np.percentile(f, 20, axis=0)
    np.testing.assert_allclose(dff(ds, baseline="F20")["activity"], (f - f20) / f20)
    np.testing.assert_allclose(dff(ds, baseline="ratio")["activity"], f / f20)


def test_the_baseline_does_not_look_across_a_gap():
    f = trace(100)
    f[50:] += 1000
    ds = choose_source(raw(fluorescence=f))
    time = np.r_[np.arange(50) * 0.5, 500 + np.arange(50) * 0.5]
    ds = ds.assign_coords(time=time)
    ds["observed"] = (("interval", "edge"), [[0, 24.5], [500, 524.5]])
    found = dff(ds)["activity"].values
    alone = dff(ds.isel(time=slice(50, None)).drop_vars("observed"))["activity"].values
    np.testing.assert_array_equal(found[50:], alone)


@pytest.mark.parametrize("baseline", ["percentile", "F20", "ratio"])
@pytest.mark.parametrize("offset", [0.0, -500.0])
def test_a_baseline_that_is_not_positive_gives_nan_and_an_issue(baseline, offset):
    f = trace()
    f[:, 1] = offset - np.abs(RNG.normal(size=200))
    ds = dff(choose_source(raw(fluorescence=f)), baseline=baseline)
    assert np.isnan(ds["activity"].values[:, 1]).all()
    assert not ds["valid"].values[:, 1].any()
    assert ds["valid"].values[:, [0, 2]].all()
    (issue,) = json.loads(ds.attrs["issues"])
    assert issue["code"] == "BAD_BASELINE"
    assert issue["message"].endswith(": 1")


def test_a_baseline_below_a_thousandth_of_the_median_counts_as_none():
    f = trace()
    f[:80, 0] = 0.05
    found = dff(choose_source(raw(fluorescence=f)), window_s=10)
    bad = ~found["valid"].values[:, 0]
    assert bad[:60].all() and not bad[100:].any()


@given(st.lists(st.booleans(), min_size=1, max_size=60))
@settings(deadline=None)
def test_longest_run_of_missing_samples(flags):
    text = "".join("x" if flag else "." for flag in flags)
    expected = max(len(run) for run in text.split("."))
    assert longest_run(np.array(flags)[:, None])[0] == expected


def test_a_long_missing_stretch_makes_a_trace_not_ok_but_keeps_it():
    f = trace()
    f[20:31, 0] = np.nan
    f[::5, 1] = np.nan
    f[20:30, 2] = np.nan
    ds = mark_nan_runs(choose_source(raw(fluorescence=f)), max_nan_fraction=0.05)
    assert ds["roi_ok"].values.tolist() == [False, True, True]
    np.testing.assert_array_equal(ds["activity"].values, f)
    assert json.loads(ds.attrs["issues"])[0]["code"] == "NAN_RUN"


def test_derivative_of_a_parabola_is_exact_on_irregular_timestamps():
    time = np.cumsum(RNG.uniform(0.4, 0.8, 100))
    f = (2 * time**2 - 3 * time)[:, None]
    ds = choose_source(raw(dff=f)).assign_coords(time=time)
    found = derivative(ds)
    inner = found["valid"].values[:, 0]
    np.testing.assert_allclose(found["activity"].values[inner, 0], (4 * time - 3)[inner], rtol=1e-9)
    assert np.flatnonzero(~inner).tolist() == [0, 99]


def test_derivative_stays_within_segments_and_off_missing_samples():
    time = np.r_[np.arange(10.0), 100 + np.arange(10.0), 200.0, 201.0]
    f = np.r_[np.arange(10.0), 50 + np.arange(10.0), 0.0, 9.0][:, None]
    f[4] = np.nan
    ds = choose_source(raw(dff=f)).assign_coords(time=time)
    ds["observed"] = (("interval", "edge"), [[0, 9], [100, 109], [200, 201]])
    found = derivative(ds)
    np.testing.assert_allclose(found["activity"].values[found["valid"].values], 1.0)
    invalid = np.flatnonzero(~found["valid"].values[:, 0])
    assert invalid.tolist() == [0, 3, 4, 5, 9, 10, 19, 20, 21]


def test_every_step_is_recorded_with_parameters_and_versions():
    ds = dff(choose_source(raw(fluorescence=trace())), percentile=10)
    steps = json.loads(ds.attrs["pipeline"])
    assert [step["step"] for step in steps] == ["source", "dff"]
    assert steps[1]["parameters"] == {"baseline": "percentile", "percentile": 10, "window_s": 60}
    assert set(steps[1]["versions"]) >= {"numpy", "scipy", "pandas", "neuropipe"}


def test_steps_do_not_change_their_input():
    ds = choose_source(raw(fluorescence=trace(), neuropil=trace()))
    copy = ds.copy(deep=True)
    for step in (neuropil, dff, mark_nan_runs, derivative):
        step(ds)
    xr.testing.assert_identical(ds, copy)
