"""Normalising: references, causality, constant traces."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from neuropipe.preprocess.normalise import causal_zscore, normalise, robust, zscore

RNG = np.random.default_rng(6)


def dataset(values: np.ndarray) -> xr.Dataset:
    return xr.Dataset(
        {
            "activity": (("time", "roi"), values, {"units": "a.u."}),
            "valid": (("time", "roi"), np.isfinite(values)),
        },
        coords={"time": np.arange(len(values)) * 0.5, "roi": np.arange(values.shape[1])},
        attrs={"recording": "sub-1_calcium"},
    )


def holed(shape=(200, 4)) -> np.ndarray:
    values = 1000 + RNG.normal(size=shape)
    values[RNG.random(shape) < 0.1] = np.nan
    return values


def test_zscore_has_mean_0_and_sd_1_with_ddof_0_over_the_measured_samples():
    values = holed()
    scaled, center, scale = zscore(values)
    np.testing.assert_allclose(center, np.nanmean(values, axis=0), rtol=1e-14)
    np.testing.assert_allclose(scale, np.nanstd(values, axis=0), rtol=1e-10)
    np.testing.assert_allclose(np.nanstd(scaled, axis=0), 1, rtol=1e-10)
    np.testing.assert_array_equal(np.isnan(scaled), np.isnan(values))


def test_robust_is_median_and_plain_mad():
    values = holed()
    scaled, center, scale = robust(values)
    median = np.nanmedian(values, axis=0)
    mad = np.nanmedian(np.abs(values - median), axis=0)
    np.testing.assert_array_equal(center, median)
    np.testing.assert_array_equal(scale, mad)
    np.testing.assert_allclose(scaled, (values - median) / mad)


def test_causal_zscore_equals_mean_and_sd_of_all_samples_so_far():
    values = holed((80, 3))
    scaled, center, scale = causal_zscore(values, burn_in=10)
    expected = np.full(values.shape, np.nan)
    for t in range(len(values)):
        for j in range(3):
            past = values[: t + 1, j]
            past = past[np.isfinite(past)]
            if np.isfinite(values[t, j]) and len(past) > 10:
                expected[t, j] = (values[t, j] - past.mean()) / past.std()
    # 1000 +- 1 leaves 1e-16 * 1e3 / 1 = 1e-13 of rounding.
    np.testing.assert_allclose(scaled, expected, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(center, np.nanmean(values, axis=0), rtol=1e-12)
    np.testing.assert_allclose(scale, np.nanstd(values, axis=0), rtol=1e-9)


def test_causal_zscore_is_stable_on_a_large_offset():
    values = 1e8 + RNG.normal(size=(2000, 1))
    scaled, _, _ = causal_zscore(values, burn_in=30)
    reference = (values[-1] - values.mean()) / values.std()
    np.testing.assert_allclose(scaled[-1], reference, rtol=1e-5)


@given(seed=st.integers(0, 10_000), cut=st.integers(0, 58))
@settings(max_examples=30, deadline=None)
def test_causal_zscore_does_not_see_the_future(seed, cut):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(60, 2))
    changed = values.copy()
    changed[cut + 1 :] = 1e6 * rng.normal(size=changed[cut + 1 :].shape)
    before = normalise(dataset(values), method="causal_zscore", burn_in=5)
    after = normalise(dataset(changed), method="causal_zscore", burn_in=5)
    np.testing.assert_array_equal(
        before["activity"].values[: cut + 1], after["activity"].values[: cut + 1]
    )


def test_the_first_burn_in_samples_are_missing():
    ds = normalise(dataset(RNG.normal(size=(50, 1))), method="causal_zscore")
    np.testing.assert_array_equal(np.isnan(ds["activity"].values[:, 0]), np.arange(50) < 30)


@pytest.mark.parametrize("method", ["zscore", "causal_zscore", "robust"])
@pytest.mark.parametrize("constant", [0.0, 0.1, 1e-12, 12345.6789])
def test_a_constant_trace_is_nan_with_an_issue_and_never_inf(method, constant):
    values = RNG.normal(size=(100, 2))
    values[:, 1] = constant
    ds = normalise(dataset(values), method=method)
    assert np.isnan(ds["activity"].values[:, 1]).all()
    assert not ds["valid"].values[:, 1].any()
    assert np.isfinite(ds["activity"].values[40:, 0]).all()
    (issue,) = json.loads(ds.attrs["issues"])
    assert issue["code"] == "CONSTANT_TRACE"
    assert issue["message"].endswith(": 1")


def test_a_small_but_real_variation_is_kept():
    values = 1e-9 * RNG.normal(size=(100, 1))
    ds = normalise(dataset(values))
    np.testing.assert_allclose(ds["activity"].values.std(), 1, rtol=1e-10)


@given(shift=st.floats(-100, 100), scale=st.floats(0.01, 100))
@settings(max_examples=25, deadline=None)
def test_zscore_ignores_shift_and_scale(shift, scale):
    values = np.random.default_rng(1).normal(size=(50, 2))
    np.testing.assert_allclose(zscore(values)[0], zscore(values * scale + shift)[0], atol=1e-8)


def test_statistics_are_stored_in_the_unit_before():
    values = holed()
    ds = normalise(dataset(values))
    np.testing.assert_allclose(ds["normalise_center"], np.nanmean(values, axis=0))
    assert ds["normalise_scale"].attrs["units"] == "a.u."
    assert ds["activity"].attrs["units"] == "1"
