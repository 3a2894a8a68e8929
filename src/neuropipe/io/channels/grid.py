"""Where segments of a recording lie on the grid of its samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neuropipe.errors import IngestError, Issue
from neuropipe.store.clock import RegularClock

__all__ = ["Times", "n_times", "segment_times", "times_at"]

# Seconds from the first sample: a clock where nothing is missing, else an array.
Times = RegularClock | np.ndarray

OFF_GRID = 0.01


def segment_times(
    starts_s: Sequence[float] | np.ndarray,
    lengths: Sequence[int] | np.ndarray,
    rate: float,
    path: object,
) -> tuple[Times, list[Issue]]:
    """Return sample times of segments that begin at stated times.

    A recorder states starts in microseconds or decimals, its samples lie on one grid: each start
    is placed on the nearest sample of the grid, and an issue says by how much that moved it.

    Parameters
    ----------
    starts_s : array-like
        Start of each segment, seconds on one clock; the first becomes 0.
    lengths : array-like of int
        Samples of each segment.
    rate : float
        Hz.
    path : object
        File, for messages.

    Returns
    -------
    tuple of Times and list of Issue
        From 0; an array ``(sum of lengths,)`` where samples are missing, and ``GAPS`` tells how
        many.

    Raises
    ------
    IngestError
        ``BAD_TIME``: a segment begins before the one before it ends.
    """
    starts = np.asarray(starts_s, dtype=np.float64)
    lengths = np.asarray(lengths, dtype=np.int64)
    exact = (starts - starts[0]) * rate
    first = np.rint(exact).astype(np.int64)
    ends = first + lengths
    missing = first[1:] - ends[:-1]
    back = np.flatnonzero(missing < 0)
    if back.size:
        k = int(back[0])
        text = (
            f"segment {k + 1} begins at {starts[k + 1] - starts[0]:.6f} s, but the one before "
            f"ends at {ends[k] / rate:.6f} s ({back.size} such segments)"
        )
        raise IngestError("BAD_TIME", path, text, "the clock was reset or records are damaged")
    moved = float(np.abs(exact - first).max())
    issues = []
    gaps = np.flatnonzero(missing > 0)
    if gaps.size:
        text = (
            f"{gaps.size} gaps, {int(missing.sum())} samples missing; the first after "
            f"{ends[gaps[0]] / rate:.6f} s lasts {missing[gaps[0]] / rate:.6f} s"
        )
        issues.append(Issue("GAPS", str(path), text, "times step over them"))
    if moved > OFF_GRID:
        text = f"segments begin up to {moved / rate:.3g} s off the grid of {rate:g} Hz"
        issues.append(Issue("OFF_GRID", str(path), f"{text}; placed on the nearest sample"))
    if not gaps.size:
        return RegularClock(0.0, rate, int(lengths.sum())), issues
    places = np.repeat(first - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths)
    places += np.arange(len(places))
    return places / rate, issues


def n_times(time: Times) -> int:
    """Return the number of samples."""
    return time.count if isinstance(time, RegularClock) else len(time)


def times_at(time: Times, samples: np.ndarray) -> np.ndarray:
    """Return the times of samples by position, seconds."""
    return time.at(samples) if isinstance(time, RegularClock) else time[samples]
