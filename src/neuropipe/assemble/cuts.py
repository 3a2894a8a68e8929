"""Trials cut from spikes, which are binned, and from samples, which keep their grid."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol

import numpy as np

from neuropipe.assemble.windows import ROUNDING, Windows, grid_numbers, samples_in
from neuropipe.errors import DataError
from neuropipe.preprocess.binning import bin_edges, count_spikes, observed_bins
from neuropipe.preprocess.sampling import median_step, n_samples
from neuropipe.preprocess.steps import row_dim

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Cut", "Samples", "Series", "Span", "Spikes", "on_grid"]

TOLERANCE = 0.01
# A difference of times on the clock of a sampler may lie a rounding error before an edge that it
# is on; no sampler has steps this short.
EDGE_S = 1e-9
PER_TRIAL = ("values", "valid", "offset", "length")
Span = tuple[float, float]


@dataclass(frozen=True)
class Cut:
    """Trials of one recording, or of several stacked along rows.

    Attributes
    ----------
    values : numpy.ndarray
        ``(n_trials, n_times, n_rows)``; NaN where missing, 0 in counts.
    valid : numpy.ndarray
        Bool, the same shape: the place was observed.
    time : numpy.ndarray
        Seconds after the onset, ``(n_times,)``: centres of bins, or sample times.
    first : float
        Where the first bin begins, or the first sample lies, seconds after the onset.
    step : float
        Width of a bin, or the step of the samples, seconds.
    offset : numpy.ndarray
        By how much the samples of each trial lie behind `time`, less than a step; seconds.
    length : numpy.ndarray
        Bins or samples of each trial, padding apart.
    """

    values: np.ndarray
    valid: np.ndarray
    time: np.ndarray
    first: float
    step: float
    offset: np.ndarray
    length: np.ndarray

    @property
    def seen(self) -> np.ndarray:
        """Which trials hold a sample, bool ``(n_trials,)``."""
        return np.asarray(self.valid.any(axis=(1, 2)))

    def take(self, trials: np.ndarray) -> Cut:
        """Return some of the trials, by a mask."""
        if trials.all():
            return self
        kept = {name: getattr(self, name)[trials] for name in PER_TRIAL}
        return replace(self, **kept)

    def take_rows(self, rows: np.ndarray) -> Cut:
        """Return some of the rows, by a mask."""
        return replace(self, values=self.values[:, :, rows], valid=self.valid[:, :, rows])


class Samples(Protocol):
    """What a recording holds: spikes or samples."""

    span: Span

    def cut(self, windows: Windows, rows: np.ndarray) -> Cut:
        """Return the trials of some rows."""


def _clip(start: float, stop: float, span_s: Span | None) -> Span:
    if span_s is None:
        return start, stop
    return max(start, span_s[0]), min(stop, span_s[1])


class Spikes:
    """Spikes of a recording in the order of time, counted in bins relative to each onset.

    Parameters
    ----------
    raw : xarray.Dataset
        ``/raw`` of an ingested spike recording.
    width : Fraction
        Width of a bin, seconds.
    span_s : tuple of float, optional
        What lies outside was not observed.
    """

    def __init__(self, raw: xr.Dataset, width: Fraction, span_s: Span | None) -> None:
        times = np.asarray(raw["spike_time"].values, dtype=np.float64)
        order = np.argsort(times, kind="stable")
        self.times, self.owner = times[order], np.asarray(raw["spike_unit"].values)[order]
        self.starts, self.stops = raw["obs_start"].values, raw["obs_stop"].values
        observed = raw["observed"].values
        self.span = _clip(float(observed.min()), float(observed.max()), span_s)
        if span_s is not None:
            self.starts = np.maximum(self.starts, span_s[0])
            self.stops = np.minimum(self.stops, span_s[1])
        self.width = width

    def totals(self) -> tuple[np.ndarray, np.ndarray]:
        """Return spikes and observed seconds of each unit, ``(n_units,)``."""
        n_units = self.starts.shape[1]
        length = np.nan_to_num(np.maximum(self.stops - self.starts, 0.0)).sum(axis=0)
        inside = slice(*np.searchsorted(self.times, self.span))
        return np.bincount(self.owner[inside], minlength=n_units), length

    def cut(self, windows: Windows, rows: np.ndarray) -> Cut:
        """Return counts of the units `rows` in whole bins of each window."""
        slack = Fraction(1, round(1 / ROUNDING))
        first = -(-(_exact(windows.start) / self.width - slack) // 1)
        lasts = [
            int((_exact(windows.start + length) / self.width + slack) // 1)
            for length in windows.length.tolist()
        ]
        n_times = max((last - int(first) for last in lasts), default=0)
        if n_times < 1:
            raise DataError(
                f"input.bin_ms: no bin of {float(self.width) * 1000:g} ms fits into the trials; "
                "take smaller bins or longer trials"
            )
        edges = bin_edges(int(first), int(first) + n_times, self.width)
        # Which bins are observed depends on the intervals alone, which units mostly share.
        both = np.concatenate([self.starts[:, rows], self.stops[:, rows]])
        kinds, which = np.unique(both, axis=1, return_inverse=True)
        place = np.full(self.starts.shape[1], -1)
        place[rows] = np.arange(len(rows))
        shape = (len(windows), n_times, len(rows))
        counts, valid = np.zeros(shape, dtype=np.uint16), np.zeros(shape, dtype=bool)
        for trial, (onset, last) in enumerate(zip(windows.onset.tolist(), lasts, strict=True)):
            own = edges[: last - int(first) + 1]
            seen = self._observed(onset, own, kinds)[:, which.ravel()]
            found = np.where(seen, self._counts(onset, own, place, len(rows)), 0)
            if found.dtype != counts.dtype:
                counts = counts.astype(np.result_type(counts, found))
            counts[trial, : len(found)], valid[trial, : len(found)] = found, seen
        time = (edges[:-1] + edges[1:]) / 2
        offset = np.zeros(len(windows))
        length = np.maximum(np.array(lasts) - int(first), 0)
        return Cut(counts, valid, time, float(edges[0]), float(self.width), offset, length)

    def _counts(
        self, onset: float, edges: np.ndarray, place: np.ndarray, n_rows: int
    ) -> np.ndarray:
        """Return the spikes in bins relative to an onset, ``(n_bins, n_rows)``."""
        width = float(self.width)
        # A bin more on both sides: the relative times decide, not the rounding of onset + edge.
        reach = [onset + edges[0] - width, onset + edges[-1] + width]
        low, high = np.searchsorted(self.times, reach)
        owner = place[self.owner[low:high]]
        times = self.times[low:high][owner >= 0] - onset + (EDGE_S if onset else 0.0)
        return count_spikes(times, owner[owner >= 0], n_rows, edges)

    def _observed(self, onset: float, edges: np.ndarray, kinds: np.ndarray) -> np.ndarray:
        """Return which bins lie in observed time, for each kind of unit, ``(n_bins, n_kinds)``."""
        starts, stops = np.split(kinds - onset, 2)
        near = ((stops >= edges[0]) & (starts <= edges[-1])).any(axis=1)
        slack = ROUNDING * float(self.width)
        return observed_bins(edges, starts[near] - slack, stops[near] + slack)


def _exact(seconds: float) -> Fraction:
    """Return a time as its decimal digits say it: 0.1 is a tenth."""
    return Fraction(repr(float(seconds)))


class Series:
    """Samples of a preprocessed recording on their own grid.

    Parameters
    ----------
    ds : xarray.Dataset
        ``activity (time, <row>)``, ``valid`` where samples are missing.
    span_s : tuple of float, optional
        What lies outside is missing.

    Raises
    ------
    DataError
        If steps are neither equal within 1 % nor whole multiples of one.
    """

    def __init__(self, ds: xr.Dataset, span_s: Span | None) -> None:
        time = np.asarray(ds["time"].values, dtype=np.float64)
        if span_s is not None:
            kept = slice(*np.searchsorted(time, span_s))
            ds, time = ds.isel(time=kept), time[kept]
        self.ds, self.time, self.row = ds, time, row_dim(ds)
        self.grid, self.rate = grid_of(ds, time)
        self.span = (float(time[0]), float(time[-1]) + 1 / self.rate)

    def values(self, rows: np.ndarray) -> np.ndarray:
        """Return all samples of some rows, NaN where missing, ``(n_times, n_rows)``."""
        part = self.ds.isel({self.row: rows})
        values = part["activity"].transpose("time", self.row).values
        if "valid" not in part:
            return np.asarray(values)
        mask = part["valid"].transpose("time", self.row).values
        return np.where(mask, values, np.asarray(np.nan, dtype=values.dtype))

    def cut(self, windows: Windows, rows: np.ndarray) -> Cut:
        """Return the samples of each window, NaN where there are none."""
        values = self.values(rows)
        counts = [self._count(windows, length) for length in windows.length.tolist()]
        n_times = max(counts, default=0)
        if n_times < 1:
            raise DataError(
                f"{self.ds.attrs.get('recording', 'recording')}: no sample fits into the trials at "
                f"{self.rate:g} Hz; take longer trials"
            )
        block = np.full((len(windows), n_times, len(rows)), np.nan, dtype=values.dtype)
        offset = np.zeros(len(windows))
        for trial, (onset, count) in enumerate(zip(windows.onset.tolist(), counts, strict=True)):
            start = onset + windows.start
            here, place = samples_in(self.time, self.grid, start, count, self.rate)
            block[trial, place] = values[here]
            if len(place):
                offset[trial] = self.time[here.start] - start - place[0] / self.rate
        time = windows.start + np.arange(n_times) / self.rate
        if windows.on_clock:
            low = int(np.searchsorted(self.time, windows.start - ROUNDING / self.rate))
            numbers = self.grid[low] + np.arange(n_times)
            time, offset = np.interp(numbers, self.grid, self.time), np.zeros(1)
        step, length = 1 / self.rate, np.array(counts, dtype=np.int64)
        return Cut(block, np.isfinite(block), time, float(time[0]), step, offset, length)

    def _count(self, windows: Windows, length: float) -> int:
        if not windows.on_clock:
            return n_samples(length, self.rate)
        edges = [windows.start, windows.start + length]
        low, high = np.searchsorted(self.time, np.array(edges) - ROUNDING / self.rate)
        return int(self.grid[high - 1] - self.grid[low]) + 1 if high > low else 0


def on_grid(time: np.ndarray) -> bool:
    """Say whether steps are whole multiples of their median within 1 %."""
    return _off_grid(time)[0] <= TOLERANCE


def _off_grid(time: np.ndarray) -> tuple[float, int]:
    """Return by how much of the median step a step is off at most, and which."""
    step, steps = median_step(time), np.diff(time)
    off = np.abs(steps - np.diff(grid_numbers(time, step)) * step) / step
    return float(off.max()), int(np.argmax(off))


def grid_of(ds: xr.Dataset, time: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the number of each sample on the recording's grid, and its rate, Hz.

    Steps may be whole multiples of one: samples that are missing are counted.
    """
    step = median_step(time)
    off, worst = _off_grid(time)
    if off > TOLERANCE:
        raise DataError(
            f"{ds.attrs.get('recording', 'recording')}: steps of `time` must be equal within 1 %, "
            f"but the step after {time[worst]:g} s is {time[worst + 1] - time[worst]:g} s and the "
            f"median {step:g} s; set `preprocess.calcium.resample: {{dt_s: ...}}`, or "
            "`preprocess.<modality>.resample_hz`"
        )
    grid = grid_numbers(time, step)
    stated = float(ds.attrs.get("grid_rate", np.nan))
    if np.isfinite(stated) and stated > 0:
        return grid, stated
    return grid, float(grid[-1]) / float(time[-1] - time[0])
