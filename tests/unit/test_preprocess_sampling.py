"""Seconds to samples."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from neuropipe.preprocess.sampling import (
    is_uniform,
    median_step,
    n_samples,
    odd_samples,
    segments,
    window,
)


@given(
    start=st.floats(0, 50),
    duration=st.floats(0.1, 20),
    rate=st.sampled_from([1.7, 3.0, 10.0, 29.97]),
)
@settings(deadline=None)
def test_windows_of_equal_duration_have_equal_lengths_wherever_they_start(start, duration, rate):
    time = np.arange(round(100 * rate)) / rate
    part = window(time, start, duration, rate)
    assert part.stop - part.start == n_samples(duration, rate)


def test_window_begins_at_the_first_sample_at_or_after_its_start():
    time = np.arange(10) * 0.5
    assert window(time, 1.0, 1.0, 2.0) == slice(2, 4)
    assert window(time, 1.1, 1.0, 2.0) == slice(3, 5)
    assert window(time, 4.0, 3.0, 2.0) == slice(8, 10)


@given(duration=st.floats(0.01, 100), rate=st.floats(0.5, 100))
@settings(deadline=None)
def test_odd_windows_are_odd_and_within_one_sample_of_the_duration(duration, rate):
    width = odd_samples(duration, rate)
    assert width % 2 == 1
    assert width == 1 or abs(width - duration * rate) <= 1 + 1e-6


def test_segments_follow_observed_time():
    ds = xr.Dataset(
        {"observed": (("interval", "edge"), [[0.0, 2.0], [5.0, 6.0]])},
        coords={"time": [0.0, 1.0, 2.0, 3.5, 5.0, 6.0]},
    )
    assert segments(ds) == [slice(0, 3), slice(4, 6)]
    assert segments(ds.drop_vars("observed")) == [slice(0, 6)]


def test_a_single_sample_has_no_step():
    with pytest.raises(ValueError, match="two samples"):
        median_step(np.array([1.0]))


def test_jitter_above_one_percent_is_not_uniform():
    time = np.arange(100) * 0.1
    assert is_uniform(time)
    time[50] += 0.002
    assert not is_uniform(time)
