"""Spike times in the order of the store, and the faults that an order can show."""

from __future__ import annotations

from typing import Literal

import numpy as np

from neuropipe.errors import IngestError, Issue

__all__ = ["check_units", "order_spikes"]

MAX_OVERSHOOT = 50.0
MILLI = 1000.0
# Shuffled times rise twice in a row on average; a restarted clock leaves long rising runs.
MIN_RUN, RESET_SHARE = 3.0, 0.5


def order_spikes(
    times: np.ndarray, owner: np.ndarray, names: np.ndarray, repair: Literal["sort"] | None,
    path: object,
) -> tuple[np.ndarray, np.ndarray, list[Issue]]:  # fmt: skip
    """Return spike times sorted by unit and then time, and the number of each unit.

    Parameters
    ----------
    times : numpy.ndarray
        Seconds, ``(n_spikes,)``.
    owner : numpy.ndarray
        Position of the unit of each spike, ``(n_spikes,)``.
    names : numpy.ndarray
        Units, ``(n_units,)``.
    repair : {"sort"} or None
        Sort within units where the order is the sole fault.
    path : object
        File, for messages.

    Raises
    ------
    IngestError
        ``BAD_TIME``: not finite, negative, out of order or reset.
    """
    _check_values(times, owner, names, path)
    order = np.argsort(owner, kind="stable")
    times, owner = times[order], owner[order]
    counts = np.bincount(owner, minlength=len(names)).astype(np.int64)
    same = np.diff(owner) == 0
    back = np.flatnonzero((np.diff(times) < 0) & same)
    issues = []
    if back.size:
        units = np.unique(owner[back])
        for unit in units:
            _refuse_reset(times[owner == unit], f"{path}: unit {names[unit]}")
        k = int(back[0])
        text = (
            f"spike times go back in {len(units)} of {len(names)} units, first in unit "
            f"{names[owner[k]]}: {times[k]!r} s, then {times[k + 1]!r} s"
        )
        if repair != "sort":
            hint = "`repair: sort` in ingest.overrides sorts them, if only the order is wrong"
            raise IngestError("BAD_TIME", path, text, hint)
        times = times[np.lexsort([times, owner])]
        issues.append(Issue("BAD_TIME", str(path), f"{text}; sorted", "set by `repair`"))
    repeated = int(np.count_nonzero((np.diff(times) == 0) & same))
    if repeated:
        text = f"{repeated} spikes have the time of the spike before them in their unit; kept"
        issues.append(Issue("DUPLICATE_SPIKE", str(path), text, "sorters count some spikes twice"))
    return times, counts, issues


def _check_values(times: np.ndarray, owner: np.ndarray, names: np.ndarray, path: object) -> None:
    for bad, what in ((~np.isfinite(times), "not finite"), (times < 0, "negative")):
        if bad.any():
            k = int(np.flatnonzero(bad)[0])
            text = (
                f"{int(bad.sum())} of {times.size} spike times are {what}, the first "
                f"{times[k]!r} s in unit {names[owner[k]]}"
            )
            raise IngestError("BAD_TIME", path, text, "correct the source; a spike needs a time")


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
