"""Sample times in NWB: rate and start where the clock is regular, timestamps where it is not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from neuropipe.store.clock import describe_clock

__all__ = ["expand_clock", "rate_form"]


def _divide(start: float, number: float, n: int, stop: float) -> np.ndarray:
    return start + np.arange(n) / number


def _multiply(start: float, number: float, n: int, stop: float) -> np.ndarray:
    return start + np.arange(n) * (1.0 / number)


def _shifted(start: float, number: float, n: int, stop: float) -> np.ndarray:
    times: np.ndarray = (np.arange(n) + np.round(start * number)) / number
    return times


def _linspace(start: float, number: float, n: int, stop: float) -> np.ndarray:
    return np.linspace(start, stop, n)


FORMULAS: dict[str, Callable[[float, float, int, float], np.ndarray]] = {
    "divide": _divide,
    "multiply": _multiply,
    "shifted": _shifted,
    "linspace": _linspace,
}


def rate_form(time: np.ndarray, t0: float = 0.0) -> dict[str, Any] | None:
    """Return start and rate of a regular clock, and the formula that gives its exact values.

    Parameters
    ----------
    time : numpy.ndarray
        Increasing sample times, shape ``(n_times,)``, seconds.
    t0 : float
        Time on the source's clock that was subtracted, seconds.

    Returns
    -------
    dict or None
        Keys ``start`` (s), ``rate`` (Hz), ``stop`` (s) and ``formula``; the formula is "" when
        none reproduces every bit of `time`. None when the clock is not regular.
    """
    if len(time) < 2:
        return None
    clock = describe_clock(time, t0)
    if clock.sampling != "regular":
        return None
    form = {"start": float(time[0]), "rate": clock.rate, "stop": float(time[-1]), "formula": ""}
    for name in FORMULAS:
        if np.array_equal(expand_clock({**form, "formula": name}, len(time)), time):
            return {**form, "formula": name}
    return form


def expand_clock(form: Mapping[str, Any], n: int) -> np.ndarray:
    """Return the sample times of a form found by `rate_form`, shape ``(n,)``, seconds."""
    return FORMULAS[form["formula"]](form["start"], form["rate"], n, form["stop"])
