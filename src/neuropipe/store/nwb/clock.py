"""Sample times in NWB: rate and start where the clock is regular, timestamps where it is not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr
from xarray.core import indexing

from neuropipe.store.clock import describe_clock, tidy_rate
from neuropipe.store.hashing import iter_blocks
from neuropipe.store.lazy_time import computed_values

__all__ = ["expand_clock", "rate_form"]


# The times of samples k of n: functions of k alone, so that they can be found block by block.
def _divide(k: np.ndarray, form: Mapping[str, Any], n: int) -> np.ndarray:
    return np.asarray(form["start"] + k / form["rate"])


def _multiply(k: np.ndarray, form: Mapping[str, Any], n: int) -> np.ndarray:
    return np.asarray(form["start"] + k * (1.0 / form["rate"]))


def _shifted(k: np.ndarray, form: Mapping[str, Any], n: int) -> np.ndarray:
    return np.asarray((k + np.round(form["start"] * form["rate"])) / form["rate"])


def _linspace(k: np.ndarray, form: Mapping[str, Any], n: int) -> np.ndarray:
    """As `numpy.linspace` computes it."""
    step = (form["stop"] - form["start"]) / (n - 1)
    return np.where(k == n - 1, form["stop"], k * step + form["start"])


FORMULAS: dict[str, Callable[[np.ndarray, Mapping[str, Any], int], np.ndarray]] = {
    "divide": _divide,
    "multiply": _multiply,
    "shifted": _shifted,
    "linspace": _linspace,
}


def rate_form(time: xr.Variable, t0: float = 0.0) -> dict[str, Any] | None:
    """Return start and rate of a regular clock, and the formula that gives its exact values.

    Times that a formula reproduces are read in blocks; all of them are held only where none does.

    Parameters
    ----------
    time : xarray.Variable
        Increasing sample times, shape ``(n_times,)``, seconds; may be lazy.
    t0 : float
        Time on the source's clock that was subtracted, seconds.

    Returns
    -------
    dict or None
        Keys ``start`` (s), ``rate`` (Hz), ``stop`` (s) and ``formula``; the formula is "" when
        none reproduces every bit of `time`. None when the clock is not regular.
    """
    n = time.size
    if n < 2:
        return None
    start, stop = float(time[0].values), float(time[-1].values)
    if not stop > start:
        return None
    form = {"start": start, "rate": tidy_rate((n - 1) / (stop - start)), "stop": stop}
    for name in FORMULAS:
        exact = {**form, "formula": name}
        if all(
            np.array_equal(_values(np.arange(at, at + len(block)), exact, n), block)
            for at, block in iter_blocks(time)
        ):
            return exact
    clock = describe_clock(time.values, t0)
    return {**form, "rate": clock.rate, "formula": ""} if clock.sampling == "regular" else None


def _values(k: np.ndarray, form: Mapping[str, Any], n: int) -> np.ndarray:
    return FORMULAS[form["formula"]](k, form, n)


def expand_clock(form: Mapping[str, Any], n: int) -> indexing.LazilyIndexedArray:
    """Return the sample times of a form found by `rate_form`, shape ``(n,)``, seconds, lazy."""
    return computed_values(n, lambda k: _values(k, form, n))
