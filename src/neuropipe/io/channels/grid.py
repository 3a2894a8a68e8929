"""Where segments of a recording lie on the grid of its samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neuropipe.errors import IngestError, Issue

__all__ = ["segment_times"]

OFF_GRID = 0.01


def segment_times(
    starts_s: Sequence[float] | np.ndarray,
    lengths: Sequence[int] | np.ndarray,
    rate: float,
    path: object,
) -> tuple[np.ndarray, list[Issue]]:
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
    tuple of numpy.ndarray and list of Issue
        ``(sum of lengths,)`` float64 seconds, strictly increasing. ``GAPS`` tells how many
        samples are missing.

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
    places = np.repeat(first - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths)
    places += np.arange(len(places))
    return places / rate, issues
