"""Events of channel recordings: annotations, markers, and the steps of trigger channels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.io.arrays import object_array
from neuropipe.io.channels.grid import Times, n_times, times_at

if TYPE_CHECKING:
    import xarray as xr

    from neuropipe.io.channels.source import Samples

__all__ = ["code_of", "event_table", "step_events", "times_of"]

NUMBER = re.compile(r"(\d+)\s*$")
BLOCK_BYTES = 8 << 20
LARGEST = 2**53


def code_of(text: str) -> int:
    """Return the number at the end of a marker such as ``S 12``, or -1.

    Examples
    --------
    >>> code_of("S 12"), code_of("boundary")
    (12, -1)
    """
    found = NUMBER.search(text)
    return int(found[1]) if found and len(found[1]) < 19 else -1


def event_table(
    onset: Sequence[float] | np.ndarray,
    duration: Sequence[float] | np.ndarray,
    label: Sequence[str],
    *,
    code: Sequence[int] | np.ndarray,
    source: Sequence[str],
    columns: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Return events in the order of their onsets; equal onsets keep the order given.

    Parameters
    ----------
    onset, duration : array-like
        Seconds from the first sample; duration 0 for an instant, NaN unknown.
    label, code, source : sequence
        Word, number (-1: none) and origin of each event.
    columns : mapping of str to sequence, optional
        Free columns, called ``x_<name>``.
    """
    import xarray as xr

    onset = np.asarray(onset, dtype=np.float64)
    order = np.argsort(onset, kind="stable")
    table: dict[str, Any] = {
        "onset": ("event", onset[order], {"units": "s"}),
        "duration": ("event", np.asarray(duration, dtype=np.float64)[order], {"units": "s"}),
        "label": ("event", object_array([str(label[k]) for k in order])),
        "code": ("event", np.asarray(code, dtype=np.int64)[order]),
        "source": ("event", object_array([str(source[k]) for k in order])),
    }
    for name, values in (columns or {}).items():
        if np.asarray(values).dtype.kind in "OUT":
            table[name] = ("event", object_array([str(values[k]) for k in order]))
        else:
            table[name] = ("event", np.asarray(values)[order])
    return xr.Dataset(table)


def times_of(positions: np.ndarray, time: Times, rate: float) -> np.ndarray:
    """Return the times of sample positions, also of fractions and of places outside.

    A position between two samples lies after the first of them, by its fraction of a step of the
    grid: across a gap nothing is interpolated.

    Parameters
    ----------
    positions : numpy.ndarray
        Zero-based, ``(n,)`` float64.
    time : Times
        Sample times, s.
    rate : float
        Hz of the grid.
    """
    whole = np.clip(np.floor(positions).astype(np.int64), 0, n_times(time) - 1)
    return times_at(time, whole) + (positions - whole) / rate


def step_events(
    samples: Samples, channels: Mapping[int, str], *, mask: int | None = None
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Return where trigger channels step to a value other than zero.

    Parameters
    ----------
    samples : Samples
        Integers or floats of whole numbers.
    channels : mapping of int to str
        Position of each trigger channel, and its name.
    mask : int, optional
        Bits that hold codes; the others tell of the amplifier.

    Returns
    -------
    tuple
        Sample positions (int64), codes (int64) and names of the channels; the value at the very
        first sample is no step.
    """
    if not channels:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), []
    picks = list(channels)
    last: np.ndarray | None = None
    places: list[list[np.ndarray]] = [[] for _ in picks]
    codes: list[list[np.ndarray]] = [[] for _ in picks]
    total, step = samples.shape[0], samples.step(BLOCK_BYTES)
    for start in range(0, total, step):
        values = samples.read(start, min(start + step, total), picks)
        if samples.scale is not None and samples.offset is not None:
            values = values * samples.scale[picks] + samples.offset[picks]
        # A damaged trigger may hold anything; codes are small numbers.
        whole = np.rint(np.clip(np.nan_to_num(values), -LARGEST, LARGEST)).astype(np.int64)
        whole = whole & mask if mask is not None else whole
        before = np.concatenate([whole[:1] if last is None else last[None], whole[:-1]])
        last = whole[-1].copy()
        for k in range(len(picks)):
            at = np.flatnonzero((whole[:, k] != before[:, k]) & (whole[:, k] != 0))
            places[k].append(at + start)
            codes[k].append(whole[at, k])
    counts = [sum(len(part) for part in parts) for parts in places]
    names = [channels[pick] for pick, n in zip(picks, counts, strict=True) for _ in range(n)]
    return (
        np.concatenate([part for parts in places for part in parts]),
        np.concatenate([part for parts in codes for part in parts]),
        names,
    )
