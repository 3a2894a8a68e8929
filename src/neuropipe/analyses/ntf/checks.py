"""What the input of the NTF connectomes must be, and how it is put in order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuropipe.analyses.ntf.kernels.affinity import Traces, fill_short_gaps, odd_frames
from neuropipe.analyses.ntf.spec import AffinitySettings
from neuropipe.errors import DataError, Issue, issues_from_json

__all__ = ["Prepared", "check_input", "ordered", "prepare"]

MIN_NEURONS, MIN_BINS, JITTER = 4, 10, 0.01


@dataclass(frozen=True)
class Prepared:
    """Traces of the animals that can be used, neurons and subjects in the order of their names.

    Attributes
    ----------
    neuron, subject : ndarray of str
        Names; animals that were dropped are not in ``subject``.
    traces : tuple of Traces
        One per subject.
    time_bin : ndarray, shape (n_bins,)
        Centres of the time bins, seconds.
    rate_hz : float
        Frames per second.
    deriv_window, window, bin_frames : int
        Settings in frames.
    dropped : tuple of str
        Animals with too few neurons.
    issues : tuple of Issue
        What a reader of the result should know.
    """

    neuron: NDArray[np.object_]
    subject: NDArray[np.object_]
    traces: tuple[Traces, ...]
    time_bin: NDArray[np.float64]
    rate_hz: float
    deriv_window: int
    window: int
    bin_frames: int
    dropped: tuple[str, ...]
    issues: tuple[Issue, ...]


def _check_names(data: xr.Dataset, dim: str) -> None:
    if dim not in data.coords:
        raise DataError(f"input: coordinate {dim!r} is missing; it names the rows of `activity`")
    names, count = np.unique(data[dim].values.astype(str), return_counts=True)
    if (count > 1).any():
        twice = ", ".join(names[count > 1][:5])
        raise DataError(f"input: {dim} names must be unique; found more than once: {twice}")


def check_input(data: xr.Dataset) -> float:
    """Check names, dims and time of the input dataset; return the frames per second.

    Raises
    ------
    DataError
        If a variable, dim or name is missing or repeated, or time is not uniform.
    """
    if "activity" not in data or set(data["activity"].dims) != {"subject", "neuron", "time"}:
        found = data["activity"].dims if "activity" in data else tuple(data.data_vars)
        raise DataError(f"input: need activity(subject, neuron, time); found {found}")
    for dim in ("neuron", "subject"):
        _check_names(data, dim)
    if data.sizes["neuron"] < MIN_NEURONS:
        raise DataError(f"input: {data.sizes['neuron']} neurons; need {MIN_NEURONS} or more")
    time = data["time"].values.astype(np.float64)
    steps = np.diff(time)
    step = float(np.median(steps)) if steps.size else 0.0
    if step <= 0 or not np.isfinite(time).all():
        raise DataError(f"input: time must increase; {time.size} samples, median step {step} s")
    worst = float(np.abs(steps - step).max())
    if worst > JITTER * step:
        raise DataError(
            f"input: time is not uniform; a step differs by {worst:.4g} s from the median "
            f"{step:.4g} s (allowed 1 %). Resample first: preprocess.calcium.resample"
        )
    return (time.size - 1) / float(time[-1] - time[0])


def ordered(data: xr.Dataset) -> xr.Dataset:
    """Return the input with neurons and subjects in plain string order of their names.

    The order of the rows in the input then changes no number: the random starts, the folds and
    the rounding of sums belong to the names.
    """
    order = {dim: np.argsort(data[dim].values.astype(str)) for dim in ("neuron", "subject")}
    if "neuron_2" in data.dims:
        order["neuron_2"] = np.argsort(data["neuron_2"].values.astype(str))
    return data.isel(order)


def _joins(data: xr.Dataset) -> list[int]:
    """Return the frames at which pieces that were cut out of the recordings meet.

    Only `align: epochs` puts pieces side by side; its epoch table holds their starts.
    """
    if data.attrs.get("align") != "epochs" or "epoch_start" not in data:
        return []
    time = data["time"].values.astype(np.float64)
    # Half a frame earlier: the start is the time of a frame, up to rounding.
    half = float(np.median(np.diff(time))) / 2
    found = np.searchsorted(time, np.unique(data["epoch_start"].values) - half)
    return [int(frame) for frame in np.unique(found) if 0 < frame < time.size]


def prepare(data: xr.Dataset, settings: AffinitySettings) -> Prepared:
    """Check the input dataset, close short gaps and drop animals that cannot be used.

    Parameters
    ----------
    data : xarray.Dataset
        ``activity(subject, neuron, time)``, in any order of dims and names.
    settings : AffinitySettings
        Windows in seconds.

    Returns
    -------
    Prepared

    Raises
    ------
    DataError
        If there are too few neurons, bins or pairs; counts are in the message.
    """
    rate = check_input(data)
    data = ordered(data)
    frames = max(round(settings.bin_s * rate), 1)
    n_bins = data.sizes["time"] // frames
    if n_bins < MIN_BINS:
        raise DataError(
            f"input: {data.sizes['time']} samples at {rate:.4g} Hz give {n_bins} bins of "
            f"{frames / rate:.4g} s; need {MIN_BINS} or more. Lower affinity.bin_s"
        )
    deriv_window = odd_frames(settings.deriv_window_s, rate, least=5)
    activity = data["activity"].transpose("subject", "neuron", "time").values
    gap = int(np.floor(settings.max_gap_s * rate + 1e-9))
    joins = _joins(data)
    traces = [
        fill_short_gaps(x, max_gap=gap, min_segment=deriv_window, joins=joins) for x in activity
    ]
    used = np.array([int(one.present.sum()) >= MIN_NEURONS for one in traces])
    names = data["subject"].values.astype(str).astype(object)
    if not used.any():
        counts = ", ".join(f"{n}: {t.present.sum()}" for n, t in zip(names, traces, strict=True))
        raise DataError(
            f"input: no pair of neurons can be used; complete traces per animal: {counts} "
            f"(need {MIN_NEURONS} or more in one animal)"
        )
    start = data["time"].values.astype(np.float64)[: n_bins * frames].reshape(n_bins, frames)
    kept = tuple(one for one, good in zip(traces, used, strict=True) if good)
    return Prepared(
        neuron=data["neuron"].values.astype(str).astype(object),
        subject=names[used],
        traces=kept,
        time_bin=start.mean(axis=1),
        rate_hz=rate,
        deriv_window=deriv_window,
        window=odd_frames(settings.window_s, rate, least=3),
        bin_frames=frames,
        dropped=tuple(names[~used]),
        issues=_with_input(data, _issues(data, settings, rate, names, traces, used)),
    )


def _short_stretches(
    settings: AffinitySettings, rate: float, names: NDArray[np.object_], traces: list[Traces]
) -> list[Issue]:
    """Return an issue if recorded stretches are too short for the moving window."""
    if settings.mode == "differential":  # has no moving window
        return []
    window = odd_frames(settings.window_s, rate, least=3)
    short = {
        str(name): sum(stop - start < window for start, stop in one.segments)
        for name, one in zip(names, traces, strict=True)
    }
    count = sum(short.values())
    if not count:
        return []
    return [
        Issue(
            "SHORT_STRETCHES",
            ", ".join(name for name, found in short.items() if found),
            f"{count} recorded stretches are shorter than affinity.window_s = "
            f"{settings.window_s:g} s; fewer samples make the affinity of unrelated neurons "
            "larger there than in long stretches",
            "lower affinity.window_s, or use affinity.mode: differential",
        )
    ]


def _with_input(data: xr.Dataset, own: list[Issue]) -> tuple[Issue, ...]:
    """Return the issues of the input, then those found here that it does not tell already."""
    told = dict.fromkeys(issues_from_json(str(data.attrs.get("issues", ""))))
    known = {(issue.code, issue.path) for issue in told}
    return (*told, *(issue for issue in own if (issue.code, issue.path) not in known))


def _issues(
    data: xr.Dataset,
    settings: AffinitySettings,
    rate: float,
    names: NDArray[np.object_],
    traces: list[Traces],
    used: NDArray[np.bool_],
) -> list[Issue]:
    issues = [
        Issue(
            "SUBJECT_DROPPED",
            str(name),
            f"{one.present.sum()} neurons with a complete trace; need {MIN_NEURONS}",
            "identify more neurons, or raise affinity.max_gap_s",
        )
        for name, one, good in zip(names, traces, used, strict=True)
        if not good
    ]
    if int(used.sum()) > 1 and not int(data.attrs.get("time_aligned", 1)):
        issues.append(
            Issue(
                "TIME_NOT_ALIGNED",
                "input.align",
                "time is not aligned across animals; shared time factors have no common meaning",
                "use input.align: epochs, or scope: recording with align: single",
            )
        )
    issues += _short_stretches(settings, rate, names, traces)
    if settings.deriv_window_s * rate < 5:
        issues.append(
            Issue(
                "SHORT_DERIVATIVE_WINDOW",
                "affinity.deriv_window_s",
                f"{settings.deriv_window_s} s are fewer than 5 frames at {rate:.3g} Hz; 5 are used",
                "record faster, or give a longer window",
                "info",
            )
        )
    return issues
