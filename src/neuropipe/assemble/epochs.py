"""Windows of a preprocessed recording around events, or side by side at rest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.assemble.trial_settings import check_window
from neuropipe.assemble.windows import ROUNDING, grid_numbers, samples_in
from neuropipe.errors import ConfigError, DataError
from neuropipe.preprocess.sampling import n_samples, sampling_rate
from neuropipe.preprocess.steps import row_dim

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Span", "check_baseline", "epochs", "in_baseline", "rest_starts", "subtract_baseline"]

REST_S = 10.0

Span = tuple[float | None, float | None]


def rest_starts(observed: np.ndarray, length_s: float = REST_S) -> np.ndarray:
    """Return the starts of windows side by side, without overlap and without a gap inside.

    Parameters
    ----------
    observed : numpy.ndarray
        First and last sample time of each observed segment, ``(n_segments, 2)``, seconds.
    length_s : float
        Length of a window, seconds. What is left at the end of a segment is in no window.

    Examples
    --------
    >>> rest_starts(np.array([[0.0, 25.0], [30.0, 34.0]]), 10.0).tolist()
    [0.0, 10.0]
    """
    found = [np.zeros(0)]
    for start, stop in np.asarray(observed, dtype=np.float64):
        count = int((stop - start) / length_s + ROUNDING)
        found.append(start + length_s * np.arange(count))
    return np.concatenate(found)


def check_baseline(window_s: tuple[float, float], baseline_s: Span | None) -> None:
    """Raise `ConfigError` for an empty window, or a baseline that does not lie in it."""
    check_window(window_s, "input.window_s")
    if baseline_s is None:
        return
    low, high = _ends(baseline_s, window_s)
    if low > high or low < window_s[0] - ROUNDING or high > window_s[1] + ROUNDING:
        raise ConfigError(
            f"input.baseline_s: {list(baseline_s)} must lie within window_s {list(window_s)}; null "
            "at an end stands for that end of the window"
        )


def _ends(baseline_s: Span, window_s: tuple[float, float]) -> tuple[float, float]:
    low, high = baseline_s
    return (window_s[0] if low is None else low, window_s[1] if high is None else high)


def epochs(
    ds: xr.Dataset, onsets: Sequence[float] | np.ndarray, *,
    window_s: tuple[float, float] = (-0.2, 0.5), baseline_s: Span | None = (None, 0.0),
    peak_to_peak: float | None = None,
) -> xr.Dataset:  # fmt: skip
    """Cut windows around events.

    Every window has ``round(duration * rate)`` samples, wherever it starts: its first sample is
    the first one at or after ``onset + window_s[0]``.

    Parameters
    ----------
    ds : xarray.Dataset
        Preprocessed store: ``activity (time, <row>)``, regular within segments, with ``valid``
        where something is missing and ``<row>_ok``.
    onsets : array_like
        Seconds on the recording's clock, ``(n_events,)``.
    window_s : tuple of float
        Start and stop relative to the onset, half open, seconds.
    baseline_s : tuple or None
        The mean over this part of the window is taken off each row, both ends included; None at
        an end: that of the window. None: nothing is taken off.
    peak_to_peak : float or None
        A window in which a row that is ok swings by more is left out; unit of ``activity``.

    Returns
    -------
    xarray.Dataset
        ``activity (trial, time, <row>)`` with NaN where missing, ``valid`` (or attribute
        ``all_valid``); ``time`` relative to the onset; ``trial_onset`` and ``trial_start``
        (absolute, seconds), ``event (trial)``: position in `onsets`. Attribute ``excluded``
        (JSON): events without any sample, or rejected, with the reason.

    Raises
    ------
    ConfigError
        If the window or the baseline is empty.
    DataError
        If no window is left.
    """
    import xarray as xr

    check_baseline(window_s, baseline_s)
    row = row_dim(ds)
    values = ds["activity"].transpose("time", row).values
    usable = np.isfinite(values)
    if "valid" in ds:
        usable &= ds["valid"].transpose("time", row).values
    ok = ds[f"{row}_ok"].values if f"{row}_ok" in ds else np.ones(values.shape[1], dtype=bool)
    rate, time = sampling_rate(ds), np.asarray(ds["time"].values, dtype=np.float64)
    grid = grid_numbers(time, 1 / rate)
    count = n_samples(window_s[1] - window_s[0], rate)
    if count < 1:
        raise ConfigError(f"input.window_s: {list(window_s)} is shorter than a sample at {rate} Hz")
    relative = window_s[0] + np.arange(count) / rate
    kept, excluded = [], []
    for event, onset in enumerate(np.asarray(onsets, dtype=np.float64).tolist()):
        here, place = samples_in(time, grid, onset + window_s[0], count, rate)
        block = np.full((count, values.shape[1]), np.nan, dtype=values.dtype)
        block[place] = np.where(usable[here], values[here], np.nan)
        reason = _refuse(block, ok, peak_to_peak)
        if reason:
            excluded.append({"kind": "trial", "event": event, "onset": onset, "reason": reason})
            continue
        kept.append((event, onset, subtract_baseline(block, relative, baseline_s, window_s)))
    if not kept:
        reasons = sorted({entry["reason"] for entry in excluded}) or ["there are no events"]
        raise DataError(
            f"{ds.attrs.get('recording', 'recording')}: no window is left ({'; '.join(reasons)}); "
            "correct `labels`, `window_s` or the limit of the rejection"
        )
    index, starts, blocks = zip(*kept, strict=True)
    dims = ("trial", "time", row)
    data = np.stack(blocks)
    rows = {str(k): v.variable for k, v in ds.coords.items() if v.dims == (row,)}
    result = xr.Dataset(
        {"activity": (dims, data, dict(ds["activity"].attrs))},
        {
            "time": ("time", relative, {"units": "s"}),
            "trial_onset": ("trial", np.array(starts), {"units": "s"}),
            "trial_start": ("trial", np.array(starts) + window_s[0], {"units": "s"}),
            "event": ("trial", np.array(index, dtype=np.int64)),
            **rows,
        },
        {"excluded": json.dumps(excluded), "rate": rate},
    )
    valid = np.isfinite(data)
    return result.assign_attrs(all_valid=1) if valid.all() else result.assign(valid=(dims, valid))


def _refuse(block: np.ndarray, ok: np.ndarray, peak_to_peak: float | None) -> str:
    """Return why a window is left out, "" if it is not."""
    known = np.isfinite(block)
    if not known[:, ok].any():
        return "no valid sample in the window"
    if peak_to_peak is None:
        return ""
    used = ok & known.any(axis=0)
    swing: Any = np.nanmax(block[:, used], axis=0) - np.nanmin(block[:, used], axis=0)
    return "peak to peak above the limit" if swing.max() > peak_to_peak else ""


def in_baseline(
    relative: np.ndarray, baseline_s: Span, window_s: tuple[float, float]
) -> np.ndarray:
    """Say which times of a window lie in its baseline, both ends included."""
    low, high = _ends(baseline_s, window_s)
    return (relative >= low - ROUNDING) & (relative <= high + ROUNDING)


def subtract_baseline(
    block: np.ndarray, relative: np.ndarray, baseline_s: Span | None, window_s: tuple[float, float]
) -> np.ndarray:
    """Return the window minus its baseline; NaN for a row without a sample in it."""
    if baseline_s is None:
        return block
    inside = block[in_baseline(relative, baseline_s, window_s)]
    known = np.isfinite(inside)
    number = known.sum(axis=0)
    total = np.where(known, inside, 0.0).sum(axis=0, dtype=np.float64)
    mean = np.divide(total, number, out=np.full(len(number), np.nan), where=number > 0)
    return (block - mean).astype(block.dtype)
