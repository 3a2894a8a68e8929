"""Spike times in the order of the store, and the faults that an order can show."""

from __future__ import annotations

from typing import Literal

import numpy as np

from neuropipe.errors import IngestError, Issue
from neuropipe.io.spikes.parts import SpikeParts

__all__ = ["OrderCheck", "check_units", "sort_units"]

MAX_OVERSHOOT = 50.0
MILLI = 1000.0
# Shuffled times rise twice in a row on average; a restarted clock leaves long rising runs.
MIN_RUN, RESET_SHARE = 3.0, 0.5


class OrderCheck:
    """What the times of all spikes say, found in one pass over blocks of units.

    Parameters
    ----------
    spikes : SpikeParts
        The spikes.
    names : numpy.ndarray
        Units, ``(n_units,)``.
    repair : {"sort"} or None
        Sort within units where the order is the sole fault.
    path : object
        File, for messages.

    Attributes
    ----------
    first, last : float
        Smallest and largest time, s.
    is_ordered : bool
        The times of every unit rise, or repeat.
    issues : list of Issue

    Raises
    ------
    IngestError
        ``BAD_TIME``: not finite, negative, out of order or reset.
    """

    def __init__(
        self, spikes: SpikeParts, names: np.ndarray, repair: Literal["sort"] | None, path: object
    ) -> None:
        self._names, self._path = names, path
        self.first, self.last = np.inf, -np.inf
        self.issues: list[Issue] = []
        self._bad: dict[str, tuple[int, float, int]] = {}
        self._back: list[int] = []
        self._example = ""
        self._repeated = 0
        for first, stop, times in spikes.parts():
            owner = np.repeat(np.arange(first, stop), spikes.counts[first:stop])
            self._look(times, owner, repair)
        self._refuse_values()
        self.is_ordered = not self._back
        self._tell(repair)

    def _look(self, times: np.ndarray, owner: np.ndarray, repair: str | None) -> None:
        if not len(times):
            return
        for bad, what in ((~np.isfinite(times), "not finite"), (times < 0, "negative")):
            if bad.any():
                count, value, unit = self._bad.get(what, (0, np.nan, -1))
                k = int(np.flatnonzero(bad)[0])
                found = (value, unit) if count else (float(times[k]), int(owner[k]))
                self._bad[what] = (count + int(bad.sum()), *found)
        if self._bad:
            return
        self.first = min(self.first, float(times.min()))
        self.last = max(self.last, float(times.max()))
        steps, same = np.diff(times), owner[1:] == owner[:-1]
        back = np.flatnonzero((steps < 0) & same)
        if back.size:
            k, units = int(back[0]), np.unique(owner[back])
            for unit in units:
                _refuse_reset(times[owner == unit], f"{self._path}: unit {self._names[unit]}")
            if not self._back:
                unit = self._names[owner[k]]
                self._example = f"unit {unit}: {times[k]!r} s, then {times[k + 1]!r} s"
            self._back += units.tolist()
            if repair == "sort":
                times = sort_units(times, owner)
                steps = np.diff(times)
        self._repeated += int(np.count_nonzero((steps == 0) & same))

    def _refuse_values(self) -> None:
        for what, (count, value, unit) in self._bad.items():
            text = (
                f"{count} spike times are {what}, the first {value!r} s in unit {self._names[unit]}"
            )
            raise IngestError(
                "BAD_TIME", self._path, text, "correct the source; a spike needs a time"
            )

    def _tell(self, repair: str | None) -> None:
        path = str(self._path)
        if self._back:
            text = (
                f"spike times go back in {len(self._back)} of {len(self._names)} units, first in "
                f"{self._example}"
            )
            if repair != "sort":
                hint = "`repair: sort` in ingest.overrides sorts them, if only the order is wrong"
                raise IngestError("BAD_TIME", path, text, hint)
            self.issues.append(Issue("BAD_TIME", path, f"{text}; sorted", "set by `repair`"))
        if self._repeated:
            text = (
                f"{self._repeated} spikes have the time of the spike before them in their unit; "
                "kept"
            )
            hint = "sorters count some spikes twice"
            self.issues.append(Issue("DUPLICATE_SPIKE", path, text, hint))


def sort_units(times: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Return times sorted within each unit; `owner` rises."""
    return times[np.lexsort([times, owner])]


def _refuse_reset(times: np.ndarray, where: str) -> None:
    """Raise when times of a unit look like two recordings, which sorting would interleave."""
    steps = np.diff(times)
    back = np.flatnonzero(steps < 0)
    span = float(times.max() - times.min())
    far = back[-steps[back] > RESET_SHARE * span]
    if far.size and len(times) / (len(back) + 1) >= MIN_RUN:
        k = int(far[0])
        raise IngestError(
            "BAD_TIME",
            where,
            f"time is reset at spike {k + 1}: {times[k]!r} s, then {times[k + 1]!r} s: two "
            "recordings in one file, or a restarted clock",
            "split the recording; a reset is never sorted",
        )


def check_units(last: float, duration: float | None, path: object) -> None:
    """Raise when spikes come long after the end of the recording: another unit than seconds.

    Parameters
    ----------
    last : float
        Largest spike time, s.
    duration : float or None
        Duration of the recording, s; None when nothing states it.

    Raises
    ------
    IngestError
        ``UNITS``.
    """
    if duration is None or duration <= 0 or last <= MAX_OVERSHOOT * duration:
        return
    probable = "milliseconds" if last <= 2 * MILLI * duration else "samples"
    raise IngestError(
        "UNITS",
        path,
        f"the last spike is at {last:.6g} s, but the recording lasts {duration:.6g} s; the times "
        f"are probably {probable}",
        "state the unit of the times (or correct the duration); nothing is rescaled by guess",
    )
