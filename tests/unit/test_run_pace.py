"""How long a run will still take."""

from __future__ import annotations

import pytest

from neuropipe.cli.run_pace import Pace, duration


def pace_of(rules: dict[str, str]) -> Pace:
    return Pace(rules)


def finish(pace: Pace, name: str, start: float, stop: float) -> None:
    pace.note({name: "running"}, start)
    pace.note({name: "done"}, stop)


def test_nothing_is_told_before_three_jobs_have_ended():
    pace = pace_of({f"fit-{k}": "fit" for k in range(5)})
    finish(pace, "fit-0", 0.0, 10.0)
    finish(pace, "fit-1", 10.0, 20.0)
    assert pace.left(20.0) is None
    assert pace.text([], 20.0) == "2 of 5, 20 s"


def test_jobs_of_one_rule_one_after_the_other_take_as_long_as_before():
    pace = pace_of({f"fit-{k}": "fit" for k in range(8)})
    for k in range(4):
        finish(pace, f"fit-{k}", 10.0 * k, 10.0 * (k + 1))
    assert pace.left(40.0) == pytest.approx(40.0)


def test_two_at_once_take_half_the_time():
    pace = pace_of({f"fit-{k}": "fit" for k in range(8)})
    for k in range(4):
        start = 10.0 * (k // 2)
        finish(pace, f"fit-{k}", start, start + 10.0)
    assert pace.left(20.0) == pytest.approx(20.0)


def test_a_rule_is_expected_to_take_as_long_as_its_own_jobs():
    rules = {"a-0": "a", "a-1": "a", "b-0": "b", "b-1": "b", "b-2": "b"}
    pace = pace_of(rules)
    finish(pace, "a-0", 0.0, 1.0)
    finish(pace, "a-1", 1.0, 2.0)
    finish(pace, "b-0", 2.0, 22.0)
    assert pace.left(22.0) == pytest.approx(40.0)


def test_what_runs_is_named_and_its_time_so_far_counts():
    rules = {"b-0": "b", "b-1": "b", "b-2": "b", "b-3": "b"}
    pace = pace_of(rules)
    for k in range(3):
        finish(pace, f"b-{k}", 20.0 * k, 20.0 * (k + 1))
    pace.note({"b-3": "running"}, 60.0)
    assert pace.left(75.0) == pytest.approx(5.0)
    assert pace.text(["b-3"], 75.0) == "3 of 4, 75 s, about 5 s left; running: b-3"


def test_a_job_outside_this_run_does_not_count():
    pace = pace_of({"a": "a"})
    finish(pace, "other", 0.0, 5.0)
    assert pace.ended == {}


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (99.0, "99 s"), (125.0, "2 min"), (7800.0, "2 h 10 min")]
)
def test_times_are_told_in_words(seconds, text):
    assert duration(seconds) == text
