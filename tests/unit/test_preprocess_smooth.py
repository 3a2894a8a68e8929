"""Smoothing: brute-force references, causality, gaps."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from neuropipe.preprocess.smooth import smooth

RNG = np.random.default_rng(5)
KINDS = [
    {"kind": "gaussian", "sigma_s": 0.7},
    {"kind": "moving", "window_s": 2.5},
    {"kind": "exponential", "tau_s": 1.1},
]


def dataset(values: np.ndarray, time: np.ndarray | None = None, observed=None) -> xr.Dataset:
    time = np.arange(len(values)) * 0.5 if time is None else time
    ds = xr.Dataset(
        {"activity": (("time", "roi"), values), "valid": (("time", "roi"), np.isfinite(values))},
        coords={"time": time, "roi": np.arange(values.shape[1])},
    )
    if observed is not None:
        ds["observed"] = (("interval", "edge"), np.asarray(observed, dtype=float))
    return ds


def weights(distance: np.ndarray, lag: np.ndarray, spec: dict, causal: bool) -> np.ndarray:
    """Kernel of each kind by its definition; `distance` in seconds, `lag` in samples."""
    if spec["kind"] == "gaussian":
        reach = int(np.ceil(4 * spec["sigma_s"] / 0.5))
        weight = np.exp(-0.5 * (lag * 0.5 / spec["sigma_s"]) ** 2) * (np.abs(lag) <= reach)
    elif spec["kind"] == "moving":
        weight = ((lag < 5) if causal else (np.abs(lag) <= 2)).astype(float)
    else:
        weight = np.exp(-np.abs(distance) / spec["tau_s"])
    return weight * (lag >= 0) if causal else weight


def brute_force(values: np.ndarray, time: np.ndarray, spec: dict, causal: bool) -> np.ndarray:
    result = np.full(values.shape, np.nan)
    index = np.arange(len(time))
    for t in index:
        weight = weights(time[t] - time, t - index, spec, causal)
        for j in range(values.shape[1]):
            known = np.isfinite(values[:, j])
            if known[t]:
                result[t, j] = np.average(values[known, j], weights=weight[known])
    return result


@pytest.mark.parametrize("spec", KINDS, ids=lambda spec: spec["kind"])
@pytest.mark.parametrize("causal", [False, True])
def test_smoothing_equals_the_weighted_mean_of_the_measured_samples(spec, causal):
    values = 100 + RNG.normal(size=(60, 3))
    values[10:14, 0] = np.nan
    values[0, 1] = np.nan
    ds = dataset(values)
    smoothed = smooth(ds, **spec, causal=causal)["activity"].values
    expected = brute_force(values, ds["time"].values, spec, causal)
    np.testing.assert_allclose(smoothed, expected, rtol=1e-12)


@pytest.mark.parametrize("spec", KINDS, ids=lambda spec: spec["kind"])
@given(seed=st.integers(0, 10_000), cut=st.integers(5, 55), size=st.sampled_from([1.0, 1e9]))
@settings(max_examples=25, deadline=None)
def test_a_causal_filter_does_not_see_the_future(spec, seed, cut, size):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(60, 2))
    changed = values.copy()
    changed[cut + 1 :] += size * rng.normal(size=changed[cut + 1 :].shape)
    changed[-1, 0] = np.nan
    before = smooth(dataset(values), **spec, causal=True)["activity"].values
    after = smooth(dataset(changed), **spec, causal=True)["activity"].values
    np.testing.assert_array_equal(before[: cut + 1], after[: cut + 1])


@pytest.mark.parametrize("spec", KINDS, ids=lambda spec: spec["kind"])
@pytest.mark.parametrize("causal", [False, True])
def test_smoothing_never_reaches_across_a_gap(spec, causal):
    time = np.concatenate([np.arange(40) * 0.5, 100 + np.arange(40) * 0.5])
    values = RNG.normal(size=(80, 2))
    observed = [[time[0], time[39]], [time[40], time[79]]]
    both = smooth(dataset(values, time, observed), **spec, causal=causal)
    for part in (slice(0, 40), slice(40, 80)):
        alone = smooth(dataset(values[part], time[part]), **spec, causal=causal)
        np.testing.assert_array_equal(both["activity"].values[part], alone["activity"].values)
        np.testing.assert_array_equal(both["valid"].values[part], alone["valid"].values)


def test_edges_are_marked_but_keep_a_value():
    ds = smooth(dataset(RNG.normal(size=(20, 1))), kind="moving", window_s=2.5)
    assert np.isfinite(ds["activity"].values).all()
    np.testing.assert_array_equal(np.flatnonzero(~ds["valid"].values[:, 0]), [0, 1, 18, 19])


def test_a_causal_moving_mean_of_w_samples_uses_exactly_w_samples_and_fewer_at_the_start():
    values = np.arange(10.0)[:, None]
    ds = smooth(dataset(values), kind="moving", window_s=1.5, causal=True)
    expected = [0, 0.5, *range(1, 9)]
    np.testing.assert_allclose(ds["activity"].values[:, 0], expected)
    np.testing.assert_array_equal(np.flatnonzero(~ds["valid"].values[:, 0]), [0, 1])


def test_a_segment_shorter_than_the_filter_is_not_valid():
    time = np.concatenate([np.arange(30) * 0.5, [50.0, 50.5, 51.0]])
    observed = [[0, 14.5], [50, 51]]
    ds = dataset(RNG.normal(size=(33, 1)), time, observed)
    result = smooth(ds, kind="gaussian", sigma_s=1.0)
    assert not result["valid"].values[30:].any()
    assert np.isnan(result["activity"].values[30:]).all()


@pytest.mark.parametrize("spec", KINDS, ids=lambda spec: spec["kind"])
def test_a_constant_stays_constant_to_the_last_bit(spec):
    result = smooth(dataset(np.full((500, 1), 0.1)), **spec)
    assert np.all(result["activity"].values == 0.1)


def test_unmeasured_samples_stay_unmeasured_and_the_input_is_not_changed():
    values = RNG.normal(size=(30, 2))
    values[5, 0] = np.nan
    ds = dataset(values)
    copy = ds.copy(deep=True)
    result = smooth(ds, kind="gaussian", sigma_s=1.0)
    assert np.isnan(result["activity"].values[5, 0]) and not result["valid"].values[5, 0]
    xr.testing.assert_identical(ds, copy)


def test_a_kind_without_its_width_is_refused():
    with pytest.raises(ValueError, match="width in seconds"):
        smooth(dataset(np.ones((5, 1))), kind="gaussian")
