"""One recording as trials are cut from it: spikes that are binned, or samples on a grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from neuropipe.assemble.exclusion import Unusable
from neuropipe.assemble.rows import modality_of, region_names, row_tests, too_short
from neuropipe.assemble.windows import ROUNDING, Windows, grid_numbers, samples_in
from neuropipe.errors import DataError
from neuropipe.preprocess.binning import bin_edges, bin_width, count_spikes, observed_bins
from neuropipe.preprocess.sampling import median_step, n_samples
from neuropipe.preprocess.steps import row_dim

if TYPE_CHECKING:
    import xarray as xr

    from neuropipe.config.models import InputConfig

__all__ = ["Cut", "Source", "Span", "common_span", "read_source"]

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
        place = np.full(self.starts.shape[1], -1)
        place[rows] = np.arange(len(rows))
        shape = (len(windows), n_times, len(rows))
        counts, valid = np.zeros(shape, dtype=np.uint16), np.zeros(shape, dtype=bool)
        for trial, (onset, last) in enumerate(zip(windows.onset.tolist(), lasts, strict=True)):
            own = edges[: last - int(first) + 1]
            found, seen = self._window(onset, own, place, rows)
            if found.dtype != counts.dtype:
                counts = counts.astype(np.int32)
            counts[trial, : len(found)], valid[trial, : len(found)] = found, seen
        time = (edges[:-1] + edges[1:]) / 2
        offset = np.zeros(len(windows))
        length = np.maximum(np.array(lasts) - int(first), 0)
        return Cut(counts, valid, time, float(edges[0]), float(self.width), offset, length)

    def _window(
        self, onset: float, edges: np.ndarray, place: np.ndarray, rows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        width = float(self.width)
        # A bin more on both sides: the relative times decide, not the rounding of onset + edge.
        reach = [onset + edges[0] - width, onset + edges[-1] + width]
        low, high = np.searchsorted(self.times, reach)
        owner = place[self.owner[low:high]]
        times = self.times[low:high][owner >= 0] - onset + (EDGE_S if onset else 0.0)
        counts = count_spikes(times, owner[owner >= 0], len(rows), edges)
        # Which bins are observed depends on the intervals alone, which units mostly share.
        slack = ROUNDING * width
        both = np.concatenate([self.starts[:, rows] - onset, self.stops[:, rows] - onset])
        kinds, which = np.unique(both, axis=1, return_inverse=True)
        starts, stops = np.split(kinds, 2)
        valid = observed_bins(edges, starts - slack, stops + slack)[:, which.ravel()]
        return np.where(valid, counts, 0).astype(counts.dtype), valid


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


def grid_of(ds: xr.Dataset, time: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the number of each sample on the recording's grid, and its rate, Hz.

    Steps may be whole multiples of one: samples that are missing are counted.
    """
    step = median_step(time)
    steps, grid = np.diff(time), grid_numbers(time, step)
    off = np.abs(steps - np.diff(grid) * step) / step
    if off.max() > TOLERANCE:
        worst = int(np.argmax(off))
        raise DataError(
            f"{ds.attrs.get('recording', 'recording')}: steps of `time` must be equal within 1 %, "
            f"but the step after {time[worst]:g} s is {steps[worst]:g} s and the median {step:g} "
            "s; set `preprocess.calcium.resample: {dt_s: ...}`, or "
            "`preprocess.<modality>.resample_hz`"
        )
    stated = float(ds.attrs.get("grid_rate", np.nan))
    if np.isfinite(stated) and stated > 0:
        return grid, stated
    return grid, float(grid[-1]) / float(time[-1] - time[0])


@dataclass(frozen=True)
class Source:
    """One recording, and which of its rows may enter.

    Attributes
    ----------
    recording, subject, session, task, acq, run, modality, row : str
        Of the store; `row` is its row dim.
    ids, region : numpy.ndarray
        Text per row.
    enters : numpy.ndarray
        Bool per row: what ``units.where`` and the quality of the row say.
    dropped : tuple of dict
        Rows that do not enter, with the reason.
    samples : Samples
        Spikes or samples.
    units : str
        Of the values.
    tree : xarray.DataTree
        The store.
    spike_count, observed_s : numpy.ndarray or None
        Per row; None for what has no spikes.
    """

    recording: str
    subject: str
    session: str
    task: str
    acq: str
    run: str
    modality: str
    row: str
    ids: np.ndarray
    region: np.ndarray
    enters: np.ndarray
    dropped: tuple[dict[str, Any], ...]
    samples: Samples
    units: str
    tree: xr.DataTree = field(repr=False)
    spike_count: np.ndarray | None = None
    observed_s: np.ndarray | None = None


def _main(tree: xr.DataTree, modality: str, width: Fraction, span_s: Span | None
          ) -> tuple[xr.Dataset, Spikes | None]:  # fmt: skip
    """Return the dataset whose rows are chosen, with what spikes say of each unit."""
    if modality != "spikes":
        ds = tree.to_dataset()
        if "activity" not in ds:
            name = tree.attrs.get("recording", "")
            raise DataError(f"{name}: the store holds no `activity`; preprocess the recording")
        return ds, None
    raw = tree["raw"].to_dataset()
    spikes = Spikes(raw, width, span_s)
    count, seconds = spikes.totals()
    with np.errstate(invalid="ignore", divide="ignore"):
        rate = count / seconds
    return raw.assign_coords(spike_count=("unit", count), mean_rate=("unit", rate)), spikes


def read_source(tree: xr.DataTree, settings: InputConfig, bin_ms: float | str) -> Source:
    """Read the rows of one store, and its samples or spikes within the span.

    Parameters
    ----------
    tree : xarray.DataTree
        Preprocessed store; of spikes the ingested one.
    settings : InputConfig
        ``units.where`` and ``span_s`` are used.
    bin_ms : float or str
        Width of a bin of spikes, milliseconds.

    Raises
    ------
    Unusable
        If the recording is too short, or no row is left.
    ConfigError
        If ``units.where`` cannot be evaluated.
    DataError
        If a store is not preprocessed, or its samples lie on no grid.
    """
    modality, span_s = modality_of(tree), settings.span_s
    ds, spikes = _main(tree, modality, bin_width(bin_ms), span_s)
    row = "unit" if spikes is not None else row_dim(ds)
    short = _short(ds, spikes, span_s)
    if short:
        raise Unusable(short, "lower `preprocess.*.min_samples`, widen `input.span_s`")
    ids = np.array([str(value) for value in ds[row].values.tolist()], dtype=object)
    enters, dropped = np.ones(len(ids), dtype=bool), []
    for reason, out in row_tests(ds, row, settings.units.where):
        names = ids[enters & out].tolist()
        enters &= ~out
        if names:
            dropped.append({"kind": "rows", "reason": reason, "count": len(names), "names": names})
    if not enters.any():
        raise Unusable("no row is left", "loosen `input.units.where`, look at the rows' quality")
    origin = {key: str(tree.attrs.get(key, "")) for key in ("recording", "task", "acq", "run")}
    origin |= {key: str(tree.attrs.get(f"{key}_id", "")) for key in ("subject", "session")}
    stamp = {"recording": origin["recording"], "subject": origin["subject"]}
    return Source(
        **origin,
        modality=modality,
        row=row,
        ids=ids,
        region=np.array(region_names(ds, len(ids)), dtype=object),
        enters=enters,
        dropped=tuple({**stamp, **entry} for entry in dropped),
        samples=spikes if spikes is not None else Series(ds, span_s),
        units="1" if spikes is not None else str(ds["activity"].attrs.get("units", "")),
        tree=tree,
        spike_count=None if spikes is None else ds["spike_count"].values,
        observed_s=None if spikes is None else spikes.totals()[1],
    )


def _short(ds: xr.Dataset, spikes: Spikes | None, span_s: Span | None) -> str:
    if spikes is not None:
        return "" if spikes.span[1] > spikes.span[0] else "no observed time within input.span_s"
    time = ds["time"].values
    used = len(time) if span_s is None else int(np.diff(np.searchsorted(time, span_s))[0])
    return too_short(ds, used)


def common_span(sources: Sequence[Source]) -> Span:
    """Return the time that all recordings cover, seconds; it may be empty."""
    spans = [source.samples.span for source in sources]
    return max(span[0] for span in spans), min(span[1] for span in spans)
