"""Bins of spikes against integer arithmetic, bin by bin."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from neuropipe.errors import DataError
from neuropipe.preprocess.binning import (
    bin_edges,
    bin_spikes,
    bin_width,
    count_spikes,
    observed_bins,
)

RATE, DURATION_S = 30_000, 10_000
WIDTHS = (1, 5, 20, 33.3, Fraction(100, 3))


@pytest.fixture(scope="module")
def samples():
    """10^6 spikes on a 30 kHz grid, one in ten on a multiple of all widths' common grid."""
    rng = np.random.default_rng(0)
    anywhere = rng.integers(0, RATE * DURATION_S, 900_000)
    on_edges = rng.integers(0, DURATION_S * 1000, 100_000) * 30
    return np.concatenate([anywhere, on_edges])


@pytest.mark.parametrize("bin_ms", WIDTHS, ids=str)
def test_counts_equal_integer_arithmetic(samples, bin_ms):
    width = bin_width(bin_ms)
    n_bins = DURATION_S * width.denominator // width.numerator
    edges = bin_edges(0, n_bins, width)
    counts = count_spikes(samples / RATE, np.zeros(len(samples), int), 1, edges)[:, 0]
    # Sample n lies at n / RATE: bin n * denominator // (RATE * numerator), without a float.
    exact = samples * width.denominator // (RATE * width.numerator)
    expected = np.bincount(exact[exact < n_bins], minlength=n_bins)
    np.testing.assert_array_equal(counts, expected)
    assert counts.sum() == np.count_nonzero(exact < n_bins)


@settings(deadline=None, max_examples=200)
@given(
    numerator=st.integers(1, 2000),
    denominator=st.integers(1, 3000),
    first=st.integers(-(10**6), 10**6),
)
def test_every_edge_is_the_nearest_float(numerator, denominator, first):
    width = Fraction(numerator, denominator) / 1000
    edges = bin_edges(first, first + 20, width)
    assert edges.tolist() == [float(width * k) for k in range(first, first + 21)]


@given(st.decimals(min_value="0.001", max_value="5000", places=3, allow_nan=False))
def test_decimal_widths_mean_their_digits(number):
    assert bin_width(str(number)) == bin_width(float(number)) == Fraction(number) / 1000


@pytest.mark.parametrize("bad", [0, -1, "x", "1/0", float("nan"), None])
def test_widths_that_are_none(bad):
    with pytest.raises(DataError, match="bin_ms"):
        bin_width(bad)


def test_bins_are_half_open():
    counts = count_spikes(np.array([0.0, 1.0, 2.0, -0.1]), np.zeros(4, int), 1, np.arange(3.0))
    assert counts[:, 0].tolist() == [1, 1]


def test_full_bins_widen_the_counts():
    counts = count_spikes(np.zeros(70_000), np.zeros(70_000, int), 1, np.array([0.0, 1.0]))
    assert counts.dtype == np.int32
    assert counts[0, 0] == 70_000


def test_only_bins_that_were_observed_as_a_whole_are_valid():
    starts, stops = np.array([[0.0, 0.5], [3.0, np.nan]]), np.array([[2.0, 2.5], [5.0, np.nan]])
    valid = observed_bins(np.arange(6.0), starts, stops)
    assert valid[:, 0].tolist() == [True, True, False, True, True]
    assert valid[:, 1].tolist() == [False, True, False, False, False]


def recording(obs_stop=10.0):
    times = np.array([0.25, 0.5, 9.75, 0.75])
    data = {
        "spike_time": ("spike", times),
        "spike_unit": ("spike", np.array([0, 0, 0, 1], np.int32)),
        "observed": (("interval", "edge"), np.array([[0.0, 10.0]])),
        "obs_start": (("unit_interval", "unit"), np.zeros((1, 2))),
        "obs_stop": (("unit_interval", "unit"), np.array([[10.0, obs_stop]])),
    }
    coords = {"unit": [4, 7], "n_spikes": ("unit", [3, 1]), "region": ("unit", ["a", "b"])}
    return xr.Dataset(data, coords)


def test_recording_becomes_counts():
    binned = bin_spikes(recording(), 500)
    assert dict(binned.sizes) == {"time": 20, "unit": 2}
    assert binned["counts"].values[:2].tolist() == [[1, 0], [1, 1]]
    assert binned["counts"].values.sum() == 4
    assert binned["time"].values[0] == 0.25
    assert binned.attrs == {"bin_width_s": 0.5, "all_valid": True}
    assert list(binned["region"].values) == ["a", "b"]


def test_unobserved_bins_are_zero_and_not_valid():
    binned = bin_spikes(recording(obs_stop=0.6), 500, start=-1.0, stop=11.0)
    assert binned.sizes["time"] == 24
    valid = binned["valid"].values
    assert valid[:, 0].tolist() == [False] * 2 + [True] * 20 + [False] * 2
    assert np.flatnonzero(valid[:, 1]).tolist() == [2]
    assert not binned["counts"].values[~valid].any()


def test_no_bin_fits():
    with pytest.raises(DataError, match="no bin"):
        bin_spikes(recording(), 20_000)
