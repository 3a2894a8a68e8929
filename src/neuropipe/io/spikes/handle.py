"""The handle that every spike reader returns, and the checks that all of them need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from neuropipe.errors import IngestError, Issue
from neuropipe.io.arrays import object_array
from neuropipe.io.spikes.order import OrderCheck, check_units, sort_units
from neuropipe.io.spikes.parts import SpikeParts
from neuropipe.store.series import Block, RecordingSchema, SeriesSpec

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Sorting", "SpikeHandle", "open_sorting"]

QUALITIES = ("good", "mua", "noise", "unsorted")
TEXT_COLUMNS = ("quality", "region", "group")
NUMBER_COLUMNS = ("depth", "x", "y", "z")


@dataclass
class Sorting:
    """What a source says, in its own order.

    Attributes
    ----------
    units : numpy.ndarray
        Names or numbers of the units, ``(n_units,)``.
    spikes : SpikeParts
        Their spikes.
    columns : mapping of str to array
        Per unit: `TEXT_COLUMNS` and `NUMBER_COLUMNS` (metres); absent ones become "" and NaN.
    intervals : sequence of numpy.ndarray, optional
        Observed intervals per unit, each ``(n, 2)`` in seconds.
    observed : tuple of float, optional
        Start and stop of the recording where the source states them, seconds.
    duration : float, optional
        Duration for the check of units, where only that is known, seconds.
    """

    units: np.ndarray
    spikes: SpikeParts
    columns: Mapping[str, Any] = field(default_factory=dict)
    intervals: Sequence[np.ndarray] | None = None
    observed: tuple[float, float] | None = None
    duration: float | None = None


@dataclass
class SpikeHandle:
    """An opened spike recording; its spikes are read by blocks of units, sorted by time."""

    raw: xr.Dataset
    spikes: SpikeParts
    is_ordered: bool
    attrs: Mapping[str, Any]
    source_files: Sequence[str]
    issues: list[Issue]
    behavior: xr.Dataset | None = None
    trials: xr.Dataset | None = None
    event_table: xr.Dataset | None = None

    def schema(self) -> RecordingSchema:
        """Return everything but the spikes."""
        shape = (int(self.spikes.counts.sum()),)
        return RecordingSchema(
            modality="spikes",
            attrs=dict(self.attrs),
            raw=self.raw,
            series=[
                SeriesSpec("spike_time", ("spike",), shape, np.dtype(np.float64), {"units": "s"}),
                SeriesSpec("spike_unit", ("spike",), shape, np.dtype(np.int32)),
            ],
            trials=self.trials,
            behavior=self.behavior,
            source_files=tuple(self.source_files),
        )

    def blocks(self, max_bytes: int) -> Iterator[Block]:
        """Yield the spikes in the order of the store, at most `max_bytes` each."""
        step, at, counts = max(1, max_bytes // 8), 0, self.spikes.counts
        for first, stop, times in self.spikes.parts():
            if not self.is_ordered:
                times = sort_units(times, np.repeat(np.arange(first, stop), counts[first:stop]))
            for start in range(0, len(times), step):
                yield Block("spike_time", at + start, times[start : start + step])
            at += len(times)
        starts = self.raw["unit_start"].values
        for start in range(0, at, step):
            here = np.arange(start, min(start + step, at))
            # The last unit that starts at or before a spike: those without spikes come earlier.
            owner = np.searchsorted(starts, here, side="right") - 1
            yield Block("spike_unit", start, owner.astype(np.int32))

    def events(self) -> xr.Dataset | None:
        """Return the events on the source clock, or None."""
        return self.event_table


def open_sorting(
    sorting: Sorting,
    *,
    path: object,
    repair: Literal["sort"] | None,
    attrs: Mapping[str, Any],
    source_files: Sequence[str],
    issues: Sequence[Issue] = (),
    **groups: xr.Dataset | None,
) -> SpikeHandle:
    """Check a sorting and return its handle.

    Raises
    ------
    IngestError
        ``EMPTY``, ``LENGTH_MISMATCH``, ``DUPLICATE_UNIT``, ``BAD_TIME`` or ``UNITS``.
    """
    _check_counts(sorting, path)
    order = OrderCheck(sorting.spikes, sorting.units, repair, path)
    observed, more = _observed(sorting, order.first, order.last, path)
    duration = sorting.duration
    if not more:
        duration = float(observed[:, 1].max() - observed[:, 0].min())
    check_units(order.last, duration, path)
    columns, unknown = _columns(sorting, path)
    return SpikeHandle(
        raw=_raw(sorting, sorting.spikes.counts, columns, observed),
        spikes=sorting.spikes,
        is_ordered=order.is_ordered,
        attrs=attrs,
        source_files=source_files,
        issues=[*issues, *order.issues, *more, *unknown],
        **groups,
    )


def _check_counts(sorting: Sorting, path: object) -> None:
    n_units, n_spikes = len(sorting.units), int(sorting.spikes.counts.sum())
    for what, number in (("units", n_units), ("spikes", n_spikes)):
        if not number:
            raise IngestError("EMPTY", path, f"there are no {what}", "is this the right file?")
    for name, values in sorting.columns.items():
        if len(values) != n_units:
            text = f"column {name} has {len(values)} values for {n_units} units"
            raise IngestError("LENGTH_MISMATCH", path, text, "correct the table of units")
    counts = Counter(str(unit) for unit in sorting.units)
    twice = next((name for name, count in counts.items() if count > 1), None)
    if twice is not None:
        raise IngestError("DUPLICATE_UNIT", path, f"unit {twice} stands twice", "rename one")


def _union(parts: np.ndarray) -> np.ndarray:
    """Return the union of intervals ``(n, 2)``, sorted and disjoint."""
    merged: list[list[float]] = []
    for start, stop in parts[np.argsort(parts[:, 0], kind="stable")]:
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], stop)
        else:
            merged.append([start, stop])
    return np.array(merged, dtype=np.float64).reshape(-1, 2)


def _observed(
    sorting: Sorting, first: float, last: float, path: object
) -> tuple[np.ndarray, list[Issue]]:
    """Return observed time ``(n, 2)``; when nobody states it, that of the spikes, with an issue."""
    if sorting.intervals is not None and any(len(part) for part in sorting.intervals):
        return _union(np.concatenate([np.reshape(p, (-1, 2)) for p in sorting.intervals])), []
    if sorting.observed is not None:
        return np.array([sorting.observed], dtype=np.float64), []
    text = f"nothing states which time was recorded; taken from first to last spike, {last:.6g} s"
    issue = Issue("OBSERVED_INFERRED", str(path), text, "set `duration_s` of the reader")
    return np.array([[first, last]]), [issue]


def _columns(sorting: Sorting, path: object) -> tuple[dict[str, np.ndarray], list[Issue]]:
    n_units = len(sorting.units)
    found: dict[str, np.ndarray] = {}
    for name in TEXT_COLUMNS:
        texts = [str(text) for text in sorting.columns.get(name, [""] * n_units)]
        if name == "quality":
            texts = [text.strip() or "unsorted" for text in texts]
        found[name] = object_array(texts)
    for name in NUMBER_COLUMNS:
        values = sorting.columns.get(name, np.full(n_units, np.nan))
        found[name] = np.asarray(values, dtype=np.float64)
    unknown = sorted({str(text) for text in found["quality"]} - set(QUALITIES))
    if not unknown:
        return found, []
    text = f"quality {', '.join(unknown[:5])}; usual are {', '.join(QUALITIES)}; kept"
    return found, [Issue("VOCABULARY", str(path), text, "")]


def _raw(
    sorting: Sorting, counts: np.ndarray, columns: Mapping[str, np.ndarray], observed: np.ndarray
) -> xr.Dataset:
    import xarray as xr

    n_units = len(counts)
    own = sorting.intervals if sorting.intervals is not None else [observed] * n_units
    own = [np.reshape(part, (-1, 2)) for part in own]
    edges = np.full((2, max(1, *(len(part) for part in own)), n_units), np.nan)
    for unit, part in enumerate(own):
        edges[:, : len(part), unit] = part.T
    lengths = {name: {"units": "m"} for name in NUMBER_COLUMNS}
    coords = {
        "unit": ("unit", sorting.units),
        "n_spikes": ("unit", counts),
        "unit_start": ("unit", np.cumsum(counts) - counts),
        **{name: ("unit", values, lengths.get(name, {})) for name, values in columns.items()},
    }
    data = {
        "observed": (("interval", "edge"), observed, {"units": "s"}),
        "obs_start": (("unit_interval", "unit"), edges[0], {"units": "s"}),
        "obs_stop": (("unit_interval", "unit"), edges[1], {"units": "s"}),
    }
    return xr.Dataset(data, coords)
