"""Traces of one recording before and after preprocessing, and the numbers drawn from them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from neuropipe.errors import DataError

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "Traces",
    "bin_means",
    "choose_rows",
    "correlation_order",
    "median_rate",
    "read_traces",
    "signal_to_noise",
    "spectra",
    "stretch",
]

SLOW_HZ = 5.0
STRETCH_S = {"fast": 10.0, "slow": 120.0}
MAX_COLUMNS, MIN_COLUMNS, MAX_CELLS = 800, 300, 48_000
MAX_SEGMENT = 512
MAD_TO_SD = 1.4826
SERIES_NAMES = {"fluorescence": "fluorescence", "dff": "dF/F", "deconvolved": "deconvolved"}


@dataclass(frozen=True)
class Traces:
    """One recording before and after the chain, time by row.

    ``before`` and ``after`` are ``(n_times, n_rows)`` with NaN where missing, each on its clock.
    """

    time_before: np.ndarray
    before: np.ndarray
    time_after: np.ndarray
    after: np.ndarray
    names: tuple[str, ...]
    labelled: np.ndarray
    series: str
    unit_before: str
    unit_after: str
    word: str


def _masked(ds: xr.Dataset, name: str) -> np.ndarray:
    """Return a series as float64 ``(n_times, n_rows)``, NaN where it is not valid."""
    values = ds[name].transpose("time", ...).values.astype(np.float64)
    if "valid" in ds and ds["valid"].ndim == 2:
        values = np.where(ds["valid"].transpose("time", ...).values, values, np.nan)
    return values


def _unit(variable: xr.DataArray, pipeline: object = "[]") -> str:
    """Return the unit of a series; standard deviations once the chain has normalised it."""
    try:
        steps = [entry.get("step") for entry in json.loads(str(pipeline))]
    except (ValueError, AttributeError):
        steps = []
    if "normalise" in steps:
        return "s.d."
    unit = str(variable.attrs.get("units", ""))
    return "" if unit in ("1", "") else unit


def _row_names(ds: xr.Dataset, row: str) -> tuple[tuple[str, ...], np.ndarray]:
    n_rows = ds.sizes[row]
    ids = ds[row].values if row in ds.coords else np.arange(n_rows)
    labels = [""] * n_rows
    if "label" in ds.coords:
        labels = [str(label) for label in ds["label"].values]
    names = tuple(
        label or f"{row} {identifier}" for label, identifier in zip(labels, ids, strict=True)
    )
    return names, np.array([bool(label) for label in labels])


def read_traces(raw: xr.DataTree, processed: xr.DataTree) -> Traces:
    """Return the traces of one recording.

    Parameters
    ----------
    raw, processed : xarray.DataTree
        Ingested and preprocessed store.

    Raises
    ------
    DataError
        If either lacks the series that it should hold.
    """
    if "raw" not in raw.children:
        raise DataError(
            f"{raw.attrs.get('recording', 'store')}: has no group /raw; ingest this recording again"
        )
    source = raw.children["raw"].to_dataset(inherit=False)
    result = processed.to_dataset(inherit=False)
    if "activity" not in result:
        raise DataError(
            f"{processed.attrs.get('recording', 'preprocessed store')}: has no variable "
            "`activity`; run the preprocessing of this recording again"
        )
    activity = result["activity"].transpose("time", ...)
    row = str(activity.dims[1])
    wanted = str(activity.attrs.get("source_series", ""))
    order = [wanted, "fluorescence", "dff", "deconvolved"]
    series = next((name for name in order if name in source), None)
    if series is None:
        raise DataError(f"{raw.attrs.get('recording', 'store')}: /raw holds none of {order[1:]}")
    names, labelled = _row_names(result, row)
    return Traces(
        time_before=source["time"].values,
        before=_masked(source, series),
        time_after=result["time"].values,
        after=_masked(result, "activity"),
        names=names,
        labelled=labelled,
        series=SERIES_NAMES.get(series, series),
        unit_before=_unit(source[series]),
        unit_after=_unit(activity, result.attrs.get("pipeline", "[]")),
        word=row,
    )


def signal_to_noise(values: np.ndarray) -> np.ndarray:
    """Return the signal to noise ratio of each trace.

    Parameters
    ----------
    values : numpy.ndarray
        Traces ``(n_times, n_rows)``, NaN where missing.

    Returns
    -------
    numpy.ndarray
        ``(n_rows,)``: 99th percentile minus median, over the robust standard deviation of the
        noise, estimated from successive differences (their plain standard deviation where most
        of them are 0, as in quantised traces); -inf without two neighbouring samples.
    """
    ratio = np.full(values.shape[1], -np.inf)
    for n, trace in enumerate(values.T):
        steps = np.diff(trace)
        steps = steps[np.isfinite(steps)]
        finite = trace[np.isfinite(trace)]
        if steps.size == 0:
            continue
        spread = MAD_TO_SD * np.median(np.abs(steps - np.median(steps))) or np.std(steps)
        noise = spread / np.sqrt(2)
        signal = np.percentile(finite, 99) - np.median(finite)
        # A constant trace has neither signal nor noise.
        ratio[n] = signal / noise if noise > 0 else 0.0
    return ratio


def choose_rows(values: np.ndarray) -> dict[str, int]:
    """Return the best, median and worst row by signal to noise; ties by position."""
    ratio = signal_to_noise(values)
    order = np.argsort(-ratio, kind="stable")
    picks = {"best": order[0], "median": order[(order.size - 1) // 2], "worst": order[-1]}
    found: dict[str, int] = {}
    for rule, n in picks.items():
        if int(n) not in found.values():
            found[rule] = int(n)
    return found


def median_rate(time: np.ndarray) -> float:
    """Return the sampling rate in Hz: one over the median step; NaN for a single sample."""
    steps = np.diff(time)
    steps = steps[np.isfinite(steps) & (steps > 0)]
    return float(1.0 / np.median(steps)) if steps.size else np.nan


def stretch(time: np.ndarray, rate: float) -> tuple[float, float]:
    """Return the middle 10 s, or 120 s of slow imaging, or all of a shorter recording."""
    first, last = float(time[0]), float(time[-1])
    length = STRETCH_S["slow" if rate < SLOW_HZ else "fast"]
    if last - first <= length:
        return first, last
    middle = (first + last) / 2
    return middle - length / 2, middle + length / 2


def correlation_order(values: np.ndarray) -> np.ndarray:
    """Return rows sorted by their correlation with the main common course, highest first.

    The course is the first right singular vector of the standardised traces, missing samples at
    their mean; its sign makes most rows positive. Rows without any sample come last.
    """
    if values.shape[1] < 3:
        return np.arange(values.shape[1])
    centred = values - np.nanmean(np.where(np.isfinite(values).any(0), values, 0.0), axis=0)
    filled = np.nan_to_num(centred)
    scale = np.sqrt((filled**2).sum(axis=0))
    filled = filled / np.where(scale > 0, scale, 1.0)
    _, vectors = np.linalg.eigh(filled.T @ filled)
    weights = vectors[:, -1]
    sign = 1.0 if weights.sum() >= 0 else -1.0
    # Rounding keeps the order of equal rows the same on every machine.
    common = np.where(np.isfinite(values).any(axis=0), np.round(sign * weights, 9), -np.inf)
    return np.argsort(-common, kind="stable")


def bin_means(time: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return bin edges and bin means on a uniform grid, for drawing; NaN where all is missing."""
    # Noise hardly compresses: a bound on the cells keeps the picture small.
    n_bins = MAX_CELLS // max(values.shape[1], 1)
    n_bins = min(max(n_bins, MIN_COLUMNS), MAX_COLUMNS, time.size)
    step = (time[-1] - time[0]) / max(time.size - 1, 1) or 1.0
    edges = np.linspace(time[0] - step / 2, time[-1] + step / 2, n_bins + 1)
    index = np.clip(np.searchsorted(edges, time, side="right") - 1, 0, n_bins - 1)
    total, count = (np.zeros((n_bins, values.shape[1])) for _ in range(2))
    finite = np.isfinite(values)
    np.add.at(total, index, np.where(finite, values, 0.0))
    np.add.at(count, index, finite)
    with np.errstate(invalid="ignore"):
        return edges, total / np.where(count > 0, count, np.nan)


def _longest_run(trace: np.ndarray) -> np.ndarray:
    """Return the longest run of finite samples."""
    finite = np.concatenate(([False], np.isfinite(trace), [False]))
    edges = np.diff(finite.astype(int))
    starts, stops = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    if starts.size == 0:
        return trace[:0]
    longest = int(np.argmax(stops - starts))
    return trace[starts[longest] : stops[longest]]


def spectra(time: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return frequencies and the spectrum of each row (share of its variance per Hz)."""
    from scipy.signal import welch

    rate = median_rate(time)
    runs = [_longest_run(trace) for trace in values.T]
    segment = min(MAX_SEGMENT, max((run.size for run in runs), default=0) // 2)
    if segment < 8 or not np.isfinite(rate):
        return np.empty(0), np.empty((0, 0))
    found = []
    for run in runs:
        if run.size >= segment and np.ptp(run) > 0:
            frequency, power = welch(run, fs=rate, nperseg=segment)
            found.append(power[1:] / (power[1:].sum() * (frequency[1] - frequency[0])))
    if not found:
        return np.empty(0), np.empty((0, 0))
    return np.fft.rfftfreq(segment, 1 / rate)[1:], np.array(found)
