"""Courses over time in the results of other analyses: latents, probabilities of states."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.errors import DataError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Result", "Segment", "segments_of"]

SAME_MOMENT = 1e-6


@dataclass(frozen=True)
class Result:
    """A result whose rows take the place of those of recordings.

    Attributes
    ----------
    label : str
        Of the analysis in the study.
    analysis : str
        Its name.
    series : str
        Variable with a row per latent, or the number of a state, along ``time``.
    result, data : xarray.Dataset
        The result, and the input dataset that it came from.
    """

    label: str
    analysis: str
    series: str
    result: xr.Dataset
    data: xr.Dataset

    @property
    def subject(self) -> str:
        """Subject of the recordings."""
        return str(self.data.attrs.get("subject", ""))


@dataclass(frozen=True)
class Segment:
    """A stretch of time without a break.

    Attributes
    ----------
    run, session : str or None
        Of the recording; None where the result does not tell.
    recordings : tuple of str
        Names of the recordings; () where the result does not tell.
    onset : float
        The moment that is 0 in its trial, seconds on the session's clock.
    time : numpy.ndarray
        Seconds on the session's clock, ``(n_times,)``.
    values : numpy.ndarray
        ``(n_times, n_rows)``, NaN where missing.
    """

    run: str | None
    session: str | None
    recordings: tuple[str, ...]
    onset: float
    time: np.ndarray
    values: np.ndarray


def _as_rows(values: np.ndarray) -> np.ndarray:
    """Return one column per state of whole numbers of states; other values as they are."""
    if values.dtype.kind not in "iu":
        return values.astype(np.float64)
    states = np.unique(values[values >= 0])
    found = (values[..., None] == states).astype(np.float64)
    found[values < 0] = np.nan
    return found


def _text(data: xr.Dataset, name: str, place: int) -> str | None:
    return str(data[name].values[place]) if name in data and data[name].ndim else None


def _of_trials(one: Result) -> Iterator[Segment]:
    """Yield the trials of ``series (trial, time[, row])``."""
    values = one.result[one.series].transpose("trial", "time", ...)
    trials = one.result["trial"].values.tolist()
    place = {trial: k for k, trial in enumerate(one.data["trial"].values.tolist())}
    rows, time = _as_rows(values.values), one.result["time"].values.astype(np.float64)
    for own, trial in zip(rows, trials, strict=True):
        k = place[trial]
        onset, offset = (
            float(one.data[name].values[k]) if name in one.data else 0.0
            for name in ("trial_onset", "sample_offset")
        )
        yield Segment(
            _text(one.data, "run", k), _text(one.data, "session", k), (), onset,
            onset + offset + time, own,
        )  # fmt: skip


def _of_bins(one: Result) -> Iterator[Segment]:
    """Yield the runs of ``series (time[, row])``, which follow each other without a pause."""
    values = _as_rows(one.result[one.series].transpose("time", ...).values)
    time = one.result["time"].values.astype(np.float64)
    step = float(one.data.attrs.get("bin_width_s", np.median(np.diff(time))))
    runs = json.loads(str(one.data.attrs.get("runs", "[]")))
    if not runs:
        yield Segment(None, None, (), float(time[0]), time, values)
    for run in runs:
        first, count = int(run["first_bin"]), int(run["bins"])
        own = float(run["start_s"]) + (np.arange(count) + 0.5) * step
        rows = values[first : first + count]
        yield Segment(None, None, tuple(run["recordings"]), float(own[0]), own, rows)


def segments_of(one: Result) -> list[Segment]:
    """Return the stretches of time of a result on the session's clock.

    Raises
    ------
    DataError
        If the result has no such courses.
    """
    if one.series not in one.result:
        raise DataError(
            f"input.result: the result of {one.label} ({one.analysis}) has no {one.series}; run "
            "that analysis again"
        )
    trials = "trial" in one.result[one.series].dims
    return list(_of_trials(one) if trials else _of_bins(one))


def cut(segments: Sequence[Segment], onset: float, start: float, count: int, step: float
        ) -> np.ndarray | None:  # fmt: skip
    """Return the samples of a window around an event; None if no segment holds all of it.

    Parameters
    ----------
    segments : sequence of Segment
        Of the run of the event.
    onset : float
        Of the event, seconds.
    start : float
        Of the window, seconds after the event; the first sample lies less than a step behind it.
    count : int
        Samples.
    step : float
        Seconds between samples.

    Returns
    -------
    numpy.ndarray or None
        ``(count, n_rows)``, of the trial that was cut around this event where there is one.
    """
    slack = SAME_MOMENT * step
    for segment in sorted(segments, key=lambda s: abs(s.onset - onset)):
        first = int(np.searchsorted(segment.time, onset + start - slack))
        if first + count > len(segment.time) or segment.time[first] >= onset + start + step:
            continue
        values = segment.values[first : first + count]
        if np.isfinite(values).all():
            return values
    return None


def step_of(segments: Sequence[Segment]) -> float:
    """Return the usual time between samples, seconds."""
    gaps: list[Any] = [np.diff(segment.time) for segment in segments if len(segment.time) > 1]
    return float(np.median(np.concatenate(gaps))) if gaps else 0.0
