"""Events of the input in figures: markers in trials, and windows around them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Around", "around_events", "event_labels", "events_of_trial"]

MOST_LABELS = 4
REACH_BINS, LEAST_EVENTS, LEAST_TRIALS = 100, 3, 10


class Around(NamedTuple):
    """State probability around moments.

    Attributes
    ----------
    name : str
        What happens at 0.
    time : ndarray, shape (n_times,)
        Seconds from the moment.
    mean, error : ndarray, shape (n_times, n_states)
        Over ``count`` moments.
    count : int
    """

    name: str
    time: np.ndarray
    mean: np.ndarray
    error: np.ndarray
    count: int


def event_labels(result: xr.Dataset) -> list[str]:
    """Return the labels of the events, the most frequent first."""
    if "event_label" not in result or not result.sizes.get("event", 0):
        return []
    names, counts = np.unique(result["event_label"].values.astype(str), return_counts=True)
    return [str(name) for name in names[np.argsort(-counts, kind="stable")]]


def events_of_trial(result: xr.Dataset, trial: int) -> list[tuple[str, float]]:
    """Return label and time of every event of a trial; its own moment 0 if it was cut there."""
    if "event_label" not in result:
        return []
    own = result["event_trial"].values == trial
    labels = result["event_label"].values[own].astype(str)
    return list(zip(labels.tolist(), result["event_time"].values[own].tolist(), strict=True))


def _average(name: str, time: np.ndarray, parts: np.ndarray) -> Around:
    """Average (n_moments, n_times, n_states) where half of the moments, or more, were observed."""
    seen = np.isfinite(parts)
    observed = seen.sum(axis=0)
    count = np.maximum(observed, 1)
    mean = np.where(seen, parts, 0.0).sum(axis=0) / count
    spread = np.where(seen, (parts - mean) ** 2, 0.0).sum(axis=0) / np.maximum(count - 1, 1)
    mean[observed < np.maximum(len(parts) / 2, 1)] = np.nan
    return Around(name, time, mean, np.sqrt(spread / count), len(parts))


def _cut(result: xr.Dataset, trials: np.ndarray, moments: np.ndarray, reach: int) -> np.ndarray:
    probability, time = result["state_probability"].values, result["time"].values
    parts = np.full((len(trials), 2 * reach + 1, probability.shape[2]), np.nan)
    for part, trial, moment in zip(parts, trials, moments, strict=True):
        middle = int(np.argmin(np.abs(time - moment)))
        first, last = max(middle - reach, 0), min(middle + reach + 1, time.size)
        start = first - middle + reach
        part[start : start + last - first] = probability[trial, first:last]
    return parts


def around_events(result: xr.Dataset) -> list[Around]:
    """Return the state probability around events, or from the onset of trials.

    Trials that were cut at events are averaged by label as they are. Else windows around the
    events of the input are taken; without events, trials are averaged from their start if there
    are several.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis.

    Returns
    -------
    list of Around
        At most four, the most frequent labels first; empty if there is nothing to average over.
    """
    time = result["time"].values
    if result.attrs.get("trials_by") in ("events", "trials", None):
        values = result["state_probability"].values
        labels = np.full(len(values), "")
        if "trial_label" in result.coords:
            labels = result["trial_label"].values.astype(str)
        names, counts = np.unique(labels, return_counts=True)
        order = [k for k in np.argsort(-counts, kind="stable") if counts[k] >= LEAST_EVENTS]
        if order and len(values) >= LEAST_TRIALS:
            return [
                _average(str(names[k]) or "start of the trial", time, values[labels == names[k]])
                for k in order[:MOST_LABELS]
            ]
    found = []
    for label in event_labels(result)[:MOST_LABELS]:
        own = result["event_label"].values.astype(str) == label
        trials, moments = result["event_trial"].values[own], result["event_time"].values[own]
        if own.sum() >= LEAST_EVENTS:
            step = float(result.attrs["bin_width_s"])
            parts = _cut(result, trials, moments, REACH_BINS)
            lags = step * np.arange(-REACH_BINS, REACH_BINS + 1)
            found.append(_average(label, lags, parts))
    return found
