"""Time of several recordings on one axis: a common grid, a shared protocol, blocks of epochs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neuropipe.assemble.rows import Member
from neuropipe.errors import DataError
from neuropipe.preprocess.sampling import median_step, n_samples

__all__ = ["Aligned", "Epoch", "align_absolute", "align_epochs", "shares_protocol"]

TOLERANCE = 0.01
REMEDY = (
    "set `preprocess.calcium.resample: {dt_s: ...}`, or `preprocess.<modality>.resample_hz`, the "
    "same for all recordings"
)


@dataclass(frozen=True)
class Epoch:
    """One row of the epoch table; `subject` is ``*`` when it holds for all. Seconds."""

    name: str
    start: float
    stop: float
    subject: str


@dataclass(frozen=True)
class Aligned:
    """A common time axis, and where each recording's samples go.

    Attributes
    ----------
    time : numpy.ndarray
        Shape ``(n_times,)``, seconds, uniform.
    source, target : tuple of numpy.ndarray
        Per recording: sample numbers in it, and their places on the axis.
    epochs : tuple of Epoch
        On the common axis.
    """

    time: np.ndarray
    source: tuple[np.ndarray, ...]
    target: tuple[np.ndarray, ...]
    epochs: tuple[Epoch, ...]


def _own_step(member: Member) -> float:
    """Return the step of a recording, or say that it is not uniform.

    Missing samples are allowed: a step may be a whole number of steps.
    """
    time = member.time
    steps = np.diff(time)
    middle = median_step(time)
    counts = np.maximum(np.rint(steps / middle), 1)
    off = np.abs(steps - counts * middle) / middle
    if off.max() > TOLERANCE:
        worst = int(np.argmax(off))
        raise DataError(
            f"{member.recording}: steps of `time` must be uniform within 1 %, but the step after "
            f"{time[worst]:g} s is {steps[worst]:g} s and the median {middle:g} s; {REMEDY}"
        )
    step = float(time[-1] - time[0]) / float(counts.sum())
    # The 13th digit is rounding; without it equal grids get equal steps.
    return float(f"{step:.12g}")


def common_step(members: Sequence[Member]) -> float:
    """Return the step that all recordings share, seconds.

    Raises
    ------
    DataError
        If a recording is not uniform, or steps differ by more than 1 % of a step at the end of
        the longest recording.
    """
    steps = [_own_step(member) for member in members]
    longest = max(member.time[-1] - member.time[0] for member in members)
    low, high = int(np.argmin(steps)), int(np.argmax(steps))
    drift = (steps[high] - steps[low]) / steps[low] * longest
    if drift > TOLERANCE * steps[low]:
        raise DataError(
            f"time grids differ: {members[low].recording} has a step of {steps[low]:.9g} s, "
            f"{members[high].recording} one of {steps[high]:.9g} s; {REMEDY}"
        )
    return float(np.median(steps))


def align_absolute(members: Sequence[Member], labels: Sequence[str]) -> Aligned:
    """Put recordings on one axis by their own clocks, seconds from each session's start.

    Parameters
    ----------
    members : sequence of Member
        At least one; each with two samples or more.
    labels : sequence of str
        Event labels for the epoch table.

    Raises
    ------
    DataError
        If the recordings have no common uniform grid.
    """
    dt = common_step(members)
    origin = min(float(member.time[0]) for member in members)
    places = []
    for member in members:
        place = np.rint((member.time - origin) / dt).astype(np.int64)
        off = np.abs(member.time - origin - place * dt) / dt
        if off.max() > TOLERANCE:
            raise DataError(
                f"time grids differ: {member.recording} lies {off.max():.2g} of a step "
                f"({dt:g} s) off the grid that starts at {origin:g} s; {REMEDY}"
            )
        places.append(place)
    size = max(int(place[-1]) for place in places) + 1
    source = tuple(np.arange(len(place)) for place in places)
    time = origin + np.arange(size) * dt
    return Aligned(time, source, tuple(places), _epoch_table(members, labels, dt))


def _epoch_table(members: Sequence[Member], labels: Sequence[str], dt: float) -> tuple[Epoch, ...]:
    if not labels:
        return ()
    shared = shares_protocol(members, labels, dt)
    found = []
    listed = [max(members, key=lambda member: len(member.events))] if shared else members
    for member in listed:
        for label, onset, duration in member.events:
            if label in labels:
                who = "*" if shared else member.subject
                found.append(Epoch(label, onset, onset + duration, who))
    return tuple(found)


def shares_protocol(members: Sequence[Member], labels: Sequence[str], tolerance_s: float) -> bool:
    """Say whether all recordings saw the same events at the same times.

    Parameters
    ----------
    members : sequence of Member
        Recordings.
    labels : sequence of str
        Event labels to compare; none = all.
    tolerance_s : float
        By how much onsets may differ, seconds.

    Returns
    -------
    bool
        True for one recording. Only events within the time that all recordings cover count; no
        such event at all is no protocol.
    """
    if len(members) < 2:
        return True
    start = max(member.time[0] for member in members) - tolerance_s
    stop = min(member.time[-1] for member in members)
    lists = []
    for member in members:
        chosen = [(x, t) for x, t, _ in member.events if not labels or x in labels]
        lists.append(sorted((x, t) for x, t in chosen if start <= t < stop))
    first = lists[0]
    if not first or any([x for x, _ in found] != [x for x, _ in first] for found in lists):
        return False
    onsets = np.array([[t for _, t in found] for found in lists])
    return bool(np.ptp(onsets, axis=0).max() <= tolerance_s)


def _presentations(member: Member, labels: Sequence[str]) -> dict[tuple[str, int], tuple]:
    """Return (label, repeat) -> (onset, duration); without a duration up to the next onset."""
    events = [event for event in member.events if event[0] in labels]
    dt = median_step(member.time)
    ends = [onset for _, onset, _ in events[1:]] + [float(member.time[-1]) + dt]
    found: dict[tuple[str, int], tuple] = {}
    for (label, onset, duration), end in zip(events, ends, strict=True):
        repeat = sum(1 for known, _ in found if known == label)
        length = duration if duration > 0 else end - onset
        found[label, repeat] = (onset, length)
    return found


def align_epochs(members: Sequence[Member], labels: Sequence[str]) -> Aligned:
    """Cut recordings at their epochs and put the blocks in the order of `labels`.

    The presentations of one label follow each other. A block is as long as the longest
    presentation in any recording; what a recording lacks of it stays empty.

    Parameters
    ----------
    members : sequence of Member
        Recordings that saw at least one of the epochs.
    labels : sequence of str
        Event labels, in canonical order.

    Raises
    ------
    DataError
        If the recordings have no common step, or saw none of the epochs.
    """
    dt = common_step(members)
    seen = [_presentations(member, labels) for member in members]
    keys = sorted(
        {key for found in seen for key in found}, key=lambda k: (labels.index(k[0]), k[1])
    )
    if not keys:
        raise DataError(
            f"input.epochs: no recording has an event labelled {', '.join(labels)}; correct the "
            "labels, or use `align: absolute`"
        )
    sizes = [
        max(n_samples(found[key][1], 1 / dt) for found in seen if key in found) for key in keys
    ]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    source, target = [], []
    for member, found in zip(members, seen, strict=True):
        taken, put = _cut(member, found, dict(zip(keys, starts[:-1], strict=True)), dt)
        source.append(taken)
        target.append(put)
    epochs = [
        Epoch(key[0], a * dt, b * dt, "*")
        for key, a, b in zip(keys, starts[:-1].tolist(), starts[1:].tolist(), strict=True)
    ]
    time = np.arange(int(starts[-1])) * dt
    return Aligned(time, tuple(source), tuple(target), tuple(epochs))


def _cut(
    member: Member, found: dict[tuple[str, int], tuple], starts: dict, dt: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return sample numbers of one recording and their places on the axis of blocks."""
    grid = np.rint((member.time - member.time[0]) / dt).astype(np.int64)
    taken, put = [np.array([], dtype=np.int64)], [np.array([], dtype=np.int64)]
    for key, (onset, length) in found.items():
        # Counted on the grid, so that missing samples leave a hole and jitter none.
        first = int(np.ceil((onset - member.time[0]) / dt - 1e-6))
        place = grid - first
        index = np.flatnonzero((place >= 0) & (place < n_samples(length, 1 / dt)))
        taken.append(index)
        put.append(place[index] + starts[key])
    return np.concatenate(taken), np.concatenate(put)
