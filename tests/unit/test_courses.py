"""States and trajectories of several analyses on one axis."""

from __future__ import annotations

import numpy as np
import pytest

from neuropipe.plotting.courses import Course, absolute_times, joined, on_grid, share_explained


def test_trials_lie_where_they_began():
    times = absolute_times(np.array([10.0, 20.0]), np.array([0.5, 1.5]))
    assert times.tolist() == [10.5, 11.5, 20.5, 21.5]


def test_a_course_is_in_the_order_of_time_without_what_is_unknown():
    course = joined("x", np.array([2.0, 1.0, 3.0]), np.array([[2.0, 1.0, np.nan]]), ("a",))
    assert course is not None
    assert course.time.tolist() == [1.0, 2.0]
    assert course.values.tolist() == [[1.0, 2.0]]


def test_nothing_known_is_no_course():
    assert joined("x", np.arange(3.0), np.full((1, 3), -1), ("s",), discrete=True) is None


def test_the_nearest_sample_counts_and_gaps_stay_unknown():
    course = Course("s", np.array([0.0, 1.0, 2.0, 10.0]), np.array([[0, 1, 2, 3]]), ("s",), True)
    found = on_grid(course, np.array([0.4, 0.6, 2.0, 6.0, 9.9]))
    assert found.tolist() == [[0, 1, 2, -1, 3]]


def test_a_trajectory_that_follows_the_states_is_explained():
    states = np.repeat([0, 1, 2], 10)
    assert share_explained(states, states.astype(float)) == pytest.approx(1.0)


def test_a_trajectory_without_relation_is_not_explained():
    rng = np.random.default_rng(0)
    states = rng.integers(0, 3, 3000)
    # By chance (k - 1) / (n - 1) = 0.0007 is expected.
    assert share_explained(states, rng.normal(size=3000)) < 0.005


def test_unknown_samples_are_left_out():
    states = np.array([0, 0, 1, 1, -1, 1])
    values = np.array([1.0, 1.0, 3.0, 3.0, 99.0, np.nan])
    assert share_explained(states, values) == pytest.approx(1.0)
