"""What a column of sample times says: sampling, gaps and observed time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Clock", "RegularClock", "describe_clock", "is_regular", "tidy_rate"]

REGULAR_TOLERANCE = 1e-9
GAP_STEPS = 3.0
ROUNDING_ULP = 4.0


@dataclass(frozen=True)
class Clock:
    """Sampling of one recording.

    Attributes
    ----------
    sampling : {"regular", "gaps", "irregular"}
        ``gaps``: regular but for missing samples.
    rate : float
        Hz when regular, else NaN.
    grid_rate : float
        Hz of the grid when regular or with gaps, else NaN.
    observed : numpy.ndarray
        First and last sample time of each uninterrupted segment, shape ``(n_segments, 2)``,
        seconds.
    """

    sampling: str
    rate: float
    grid_rate: float
    observed: np.ndarray

    @property
    def segment_start(self) -> np.ndarray:
        """Time of the first sample of each segment, shape ``(n_segments,)``, seconds."""
        return self.observed[:, 0].copy()


@dataclass(frozen=True)
class RegularClock:
    """Sample times of a regular recording, without the array that would hold them.

    Attributes
    ----------
    start : float
        Time of the first sample, seconds.
    rate : float
        Hz.
    count : int
        Number of samples.
    """

    start: float
    rate: float
    count: int

    def at(self, samples: np.ndarray) -> np.ndarray:
        """Return the times of samples, counted from 0; same shape, seconds."""
        return np.asarray(self.start + np.asarray(samples) / self.rate, dtype=np.float64)

    @property
    def last(self) -> float:
        """Time of the last sample, seconds."""
        return float(self.at(np.array(self.count - 1)))

    def describe(self) -> Clock:
        """Return what `describe_clock` says of these times."""
        if self.count < 2:
            return describe_clock(self.at(np.arange(self.count)))
        observed = np.array([[self.start, self.last]])
        return Clock("regular", self.rate, self.rate, observed)


def _rounding(time: np.ndarray, t0: float) -> float:
    """Return by how much a step may differ from its true value through float64 alone."""
    largest = max(abs(float(time[0])), abs(float(time[-1]))) + abs(t0)
    return ROUNDING_ULP * float(np.spacing(largest))


def is_regular(time: np.ndarray, t0: float = 0.0) -> bool:
    """Say whether all steps are within 1e-9 relative of the mean step.

    The rounding of float64 itself is allowed for: steps of 1 ms after a day differ by 1.5e-8
    relative although nothing in the recording is irregular.

    Parameters
    ----------
    time : numpy.ndarray
        Increasing sample times, shape ``(n_times,)``, seconds.
    t0 : float
        Time on the source's clock that was subtracted, seconds; its rounding is in `time`.
    """
    if len(time) < 2:
        return False
    steps = np.diff(time)
    mean = (float(time[-1]) - float(time[0])) / (len(time) - 1)
    tolerance = REGULAR_TOLERANCE * mean + _rounding(time, t0)
    return bool(np.all(np.abs(steps - mean) <= tolerance))


def tidy_rate(rate: float) -> float:
    """Take off the rounding of a division: 9.999999999999998 Hz is 10 Hz."""
    rounded = round(rate, 6)
    return rounded if abs(rounded - rate) <= REGULAR_TOLERANCE * rate else rate


def _segments(time: np.ndarray, breaks: np.ndarray) -> np.ndarray:
    starts = np.concatenate([[0], breaks + 1])
    stops = np.concatenate([breaks, [len(time) - 1]])
    return np.stack([time[starts], time[stops]], axis=1).astype(np.float64)


def describe_clock(time: np.ndarray, t0: float = 0.0) -> Clock:
    """Classify sample times and find the observed segments.

    Samples that sit on a regular grid with some missing make ``gaps``; segments then end at the
    missing samples. On an irregular clock a step longer than three median steps ends a segment.

    Parameters
    ----------
    time : numpy.ndarray
        Strictly increasing sample times, shape ``(n_times,)``, seconds.
    t0 : float
        Time on the source's clock that was subtracted, seconds.
    """
    time = np.asarray(time, dtype=np.float64)
    if len(time) < 2:
        alone = np.repeat(time, 2).reshape(len(time), 2)
        return Clock("irregular", np.nan, np.nan, alone)
    nothing = np.array([], dtype=np.int64)
    span = float(time[-1]) - float(time[0])
    if is_regular(time, t0):
        rate = tidy_rate((len(time) - 1) / span)
        return Clock("regular", rate, rate, _segments(time, nothing))
    steps = np.diff(time)
    median = float(np.median(steps))
    counts = np.round(steps / median)
    step = span / float(counts.sum()) if counts.min() >= 1 else np.nan
    tolerance = REGULAR_TOLERANCE * step * counts + _rounding(time, t0)
    if np.all(np.abs(steps - counts * step) <= tolerance):
        return Clock(
            "gaps", np.nan, tidy_rate(1.0 / step), _segments(time, np.flatnonzero(counts > 1))
        )
    breaks = np.flatnonzero(steps > GAP_STEPS * median)
    return Clock("irregular", np.nan, np.nan, _segments(time, breaks))
