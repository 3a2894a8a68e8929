"""What the figures of channels draw: a few windows of both stores, never a whole recording."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from neuropipe.errors import DataError
from neuropipe.store.scaling import physical

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "Channels",
    "Side",
    "display_unit",
    "min_max",
    "power_spectra",
    "read_channels",
    "spread_over_time",
    "window_starts",
]

# Units that a specialist reads: factor from SI, and the name.
DISPLAY = {"V": (1e6, "µV"), "T": (1e15, "fT"), "T/m": (1e13, "fT/cm")}
SPECTRUM_WINDOWS, SPECTRUM_WINDOW_S, SPECTRUM_SEGMENT_S = 12, 8.0, 4.0
SPECTRUM_BINS = 240
SPREAD_WINDOWS, SPREAD_WINDOW_S = 240, 1.0


@dataclass(frozen=True)
class Side:
    """One series, read window by window.

    Attributes
    ----------
    ds : xarray.Dataset
        ``/raw`` or the root of the preprocessed store, lazily loaded.
    rows : numpy.ndarray
        Positions of the data channels.
    names, kinds, units : tuple of str
        Of these channels.
    time : numpy.ndarray
        All sample times, seconds.
    series : str
        ``signal`` or ``activity``.
    """

    ds: xr.Dataset
    rows: np.ndarray
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    units: tuple[str, ...]
    time: np.ndarray
    series: str

    @property
    def rate(self) -> float:
        """One over the median step, Hz."""
        return float(1.0 / np.median(np.diff(self.time)))

    def window(self, start: float, stop: float) -> tuple[np.ndarray, np.ndarray]:
        """Return times and SI values ``(n_times, n_channels)`` of a window, NaN where missing."""
        low, high = np.searchsorted(self.time, [start, stop])
        here = slice(int(low), int(high))
        if self.series == "signal":
            values = physical(self.ds, self.rows, here)
        else:
            values = self.ds["activity"].variable[here].values.astype(np.float64)[:, self.rows]
        if "valid" in self.ds:
            values[~self.ds["valid"].variable[here].values[:, self.rows]] = np.nan
        return self.time[here], values


@dataclass(frozen=True)
class Channels:
    """One recording before and after the chain.

    Attributes
    ----------
    before, after : Side
        Data channels of the ingested store; rows of the preprocessed one.
    reason : dict
        Why a channel is not used: ``source``, ``noisy``, ``flat`` joined by ``+``, "" for good.
    spread : dict
        Name -> (log10 variance, robust z) after the filters.
    limit : float
        Robust z above which a channel is noisy, NaN when not searched.
    line_hz : float
        Mains frequency of the source, else that of the notch; NaN unknown.
    observed : numpy.ndarray
        ``(n, 2)``, seconds.
    columns : dict
        Metadata of the channels before, by name of the coordinate.
    """

    before: Side
    after: Side
    reason: dict[str, str]
    spread: dict[str, tuple[float, float]]
    limit: float
    line_hz: float
    observed: np.ndarray
    columns: dict[str, np.ndarray]

    @property
    def same_quantity(self) -> bool:
        """Whether ``activity`` still is the signal, not its power or envelope."""
        return all(unit in DISPLAY for unit in self.after.units)


def display_unit(unit: str) -> tuple[float, str]:
    """Return the factor from an SI unit to the one that is read, and its name.

    Examples
    --------
    >>> display_unit("V"), display_unit("")
    ((1000000.0, 'µV'), (1.0, ''))
    """
    return DISPLAY.get(unit, (1.0, unit if unit != "1" else ""))


def _column(ds: xr.Dataset, name: str, rows: np.ndarray) -> np.ndarray:
    if name not in ds.variables:
        return np.full(len(rows), "", dtype=object)
    values = ds[name].values[rows]
    if values.dtype.kind in "OUTS":
        return np.array([str(value) for value in values], dtype=object)
    return np.asarray(values)


def _side(ds: xr.Dataset, rows: np.ndarray, series: str) -> Side:
    units = _column(ds, "units", rows)
    if series == "activity" and (shared := str(ds["activity"].attrs.get("units", ""))):
        units = np.full(len(rows), shared, dtype=object)
    columns = [_column(ds, name, rows) for name in ("channel", "ch_type")]
    names, kinds, words = (tuple(str(v) for v in column) for column in (*columns, units))
    time = np.asarray(ds["time"].values, dtype=np.float64)
    return Side(ds, rows, names, kinds, words, time, series)


def _parameter(pipeline: object, step: str, key: str) -> float:
    """Return a number that a step of the chain was given, NaN where it did not run."""
    for entry in json.loads(str(pipeline or "[]")):
        if isinstance(entry, dict) and entry.get("step") == step:
            value = entry["parameters"].get(key)
            return np.nan if value is None else float(value)
    return np.nan


def read_channels(raw: xr.DataTree, processed: xr.DataTree) -> Channels:
    """Return both sides of one recording; samples are read when asked for.

    Raises
    ------
    DataError
        If either store lacks the series that it should hold.
    """
    name = raw.attrs.get("recording", "store")
    if "raw" not in raw.children or "signal" not in raw["raw"]:
        raise DataError(f"{name}: has no /raw/signal; ingest this recording again")
    source = raw.children["raw"].to_dataset(inherit=False)
    result = processed.to_dataset(inherit=False)
    if "activity" not in result or "bad_reason" not in result:
        raise DataError(f"{name}: the preprocessed store has no `activity` of channels; run its "
                        "preprocessing again")  # fmt: skip
    data = [str(value) for value in result["source_channel"].values]
    place = {str(value): i for i, value in enumerate(source["channel"].values)}
    rows = np.array([place[value] for value in data], dtype=np.int64)
    reason = dict(zip(data, (str(v) for v in result["bad_reason"].values), strict=True))
    pairs = zip(result["log_variance"].values, result["variance_z"].values, strict=True)
    spread = {key: (float(a), float(b)) for key, (a, b) in zip(data, pairs, strict=True)}
    observed = np.array([[source["time"].values[0], source["time"].values[-1]]])
    if "observed" in source:
        observed = np.asarray(source["observed"].values, dtype=np.float64)
    stated = float(source.attrs.get("line_freq", np.nan))
    pipeline = result.attrs.get("pipeline")
    wanted = ("x", "y", "z", "electrode_group", "contact", "anat_label", "is_white_matter")
    columns = {key: _column(source, key, rows) for key in wanted if key in source.variables}
    return Channels(
        before=_side(source, rows, "signal"),
        after=_side(result, np.arange(result.sizes["channel"]), "activity"),
        reason=reason,
        spread=spread,
        limit=_parameter(pipeline, "bad_channels", "z"),
        line_hz=stated if np.isfinite(stated) else _parameter(pipeline, "notch", "line_hz"),
        observed=observed,
        columns=columns,
    )


def window_starts(observed: np.ndarray, length_s: float, most: int) -> np.ndarray:
    """Return the starts of windows, evenly spread over observed time, none over a gap.

    Parameters
    ----------
    observed : numpy.ndarray
        ``(n, 2)``, seconds.
    length_s : float
        Length of a window, seconds.
    most : int
        Number of windows at most.

    Examples
    --------
    >>> window_starts(np.array([[0.0, 10.0]]), 2.0, 3).tolist()
    [0.0, 4.0, 8.0]
    """
    room = observed[:, 1] - observed[:, 0] - length_s
    usable, room = observed[room >= 0], room[room >= 0]
    if len(usable) == 0:
        return np.array([])
    capacity = np.floor((usable[:, 1] - usable[:, 0]) / length_s).astype(int)
    count = int(min(most, capacity.sum()))
    # Positions along the allowed starts of all intervals, laid end to end.
    total = np.concatenate([[0.0], np.cumsum(room)])
    place = np.linspace(0.0, total[-1], count) if count > 1 else np.array([total[-1] / 2])
    which = np.clip(np.searchsorted(total, place, side="right") - 1, 0, len(room) - 1)
    return np.asarray(usable[which, 0] + place - total[which])


def _longest_whole(values: np.ndarray) -> np.ndarray:
    """Return the longest stretch in which no channel that has samples misses one."""
    present = np.isfinite(values).any(axis=0)
    whole = np.isfinite(values[:, present]).all(axis=1) if present.any() else np.zeros(0, bool)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], whole.astype(np.int8), [0]])))
    if edges.size == 0:
        return values[:0]
    lengths = edges[1::2] - edges[::2]
    first = int(edges[2 * int(np.argmax(lengths))])
    return values[first : first + int(lengths.max())]


def power_spectra(side: Side, observed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return frequencies and the mean power spectrum of each channel, unit squared per Hz.

    The frequencies are evenly spaced on a log axis where that is coarser than the resolution. At
    most 12 windows of 8 s are read, and the longest stretch of each without a missing sample
    counts; a channel without any is NaN.
    """
    from scipy.signal import welch

    span = float((observed[:, 1] - observed[:, 0]).max())
    length = min(SPECTRUM_WINDOW_S, 0.999 * span)
    segment = round(min(SPECTRUM_SEGMENT_S, span / 4) * side.rate)
    if segment < 8:
        return np.empty(0), np.empty((0, len(side.rows)))
    frequency = np.fft.rfftfreq(segment, 1 / side.rate)
    total = np.zeros((len(frequency), len(side.rows)))
    count = np.zeros(len(side.rows))
    for start in window_starts(observed, length, SPECTRUM_WINDOWS):
        values = _longest_whole(side.window(start, start + length)[1])
        if len(values) < segment:
            continue
        known = np.isfinite(values).all(axis=0)
        power = welch(values[:, known], fs=side.rate, nperseg=segment, axis=0)[1]
        total[:, known] += power
        count[known] += 1
    # Neither the mean nor the Nyquist frequency has the density of what lies between.
    mean = total[1:-1] / np.where(count > 0, count, np.nan)
    return _log_bins(frequency[1:-1], mean)


def _log_bins(frequency: np.ndarray, power: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return means over bins of equal width on a log axis: nothing finer can be seen."""
    edges = np.geomspace(frequency[0], frequency[-1], SPECTRUM_BINS)
    first = np.unique(np.searchsorted(frequency, edges * (1 - 1e-9)))
    count = np.diff([*first, len(frequency)])
    return (
        np.add.reduceat(frequency, first) / count,
        np.add.reduceat(power, first, axis=0) / count[:, None],
    )


def spread_over_time(side: Side, observed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the starts of windows and the SD of each channel in them, ``(n_windows, n_rows)``.

    At most 240 windows of 1 s are read, evenly spread over the recording.
    """
    starts = window_starts(observed, SPREAD_WINDOW_S, SPREAD_WINDOWS)
    found = np.full((len(starts), len(side.rows)), np.nan)
    for k, start in enumerate(starts):
        _, values = side.window(start, start + SPREAD_WINDOW_S)
        known = np.isfinite(values).all(axis=0) if len(values) > 1 else np.zeros(0, dtype=int)
        if len(values) > 1:
            found[k, known] = values[:, known].std(axis=0)
    return starts, found


def min_max(
    time: np.ndarray, values: np.ndarray, n_bins: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the minimum and the maximum of traces in bins.

    Parameters
    ----------
    time, values : numpy.ndarray
        ``(n_times,)`` and ``(n_times, n_rows)``; NaN stays NaN.
    n_bins : int
        Of nearly equal numbers of samples; no more than there are samples.

    Returns
    -------
    tuple of numpy.ndarray
        Mean times ``(n_bins,)``, minima and maxima ``(n_bins, n_rows)``.
    """
    first = np.linspace(0, len(values), min(n_bins, len(values)) + 1)[:-1].astype(int)
    centres = np.add.reduceat(time, first) / np.diff([*first, len(values)])
    return centres, np.minimum.reduceat(values, first), np.maximum.reduceat(values, first)
