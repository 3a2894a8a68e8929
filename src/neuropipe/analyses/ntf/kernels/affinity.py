"""Time-resolved affinity between neurons: stage 1 of the NTF connectomes.

Everything here works on one animal's traces, an array ``(n_neurons, n_times)`` in float64.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import savgol_filter

__all__ = [
    "AFFINITY_MODES",
    "Traces",
    "derivatives",
    "fill_short_gaps",
    "odd_frames",
    "pair_affinity",
    "pair_index",
    "scaled_derivatives",
]

Float = NDArray[np.float64]
Segments = tuple[tuple[int, int], ...]
PairFunction = Callable[[NDArray[np.intp], NDArray[np.intp]], Float]

# Variance floor of the moving statistics; derivatives are scaled to [0, 1], baselines to SD 1.
VARIANCE_FLOOR = 1e-6
# Of one array of pairs at the full frame rate: the few of them held at a time fit a core's cache.
BLOCK_BYTES = 1 << 19
# A trace whose scale per frame is below this share of its size is constant up to rounding.
CONSTANT = 1e-10


@dataclass(frozen=True)
class Traces:
    """Traces of one animal without gaps.

    Attributes
    ----------
    values : ndarray, shape (n_neurons, n_times)
        Traces; finite wherever ``present`` and ``recorded``, 0 elsewhere.
    present : ndarray of bool, shape (n_neurons,)
        The neuron has a complete trace.
    recorded : ndarray of bool, shape (n_times,)
        The animal was recorded at that frame.
    segments : tuple of (start, stop)
        Runs of recorded frames that follow each other in time.
    """

    values: Float
    present: NDArray[np.bool_]
    recorded: NDArray[np.bool_]
    segments: Segments


def odd_frames(seconds: float, rate_hz: float, least: int = 1) -> int:
    """Return the odd number of frames nearest to a duration, at least ``least`` (odd).

    Examples
    --------
    >>> odd_frames(2.5, 4.0, least=5), odd_frames(2.5, 1.0, least=5)
    (11, 5)
    """
    return max(2 * int(np.floor(seconds * rate_hz / 2 + 1e-9)) + 1, least)


def pair_index(n_neurons: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return first and second neuron of all pairs ``i < j`` in row-major order."""
    return np.triu_indices(n_neurons, 1)


def _runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate(([0], flags.astype(np.int8), [0]))))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _fill_row(row: Float, missing: NDArray[np.bool_], longest: int) -> bool:
    """Interpolate the gaps of one segment in place; return whether it is complete now."""
    if missing.all() or any(stop - start > longest for start, stop in _runs(missing)):
        return False
    frames = np.arange(row.size)
    row[missing] = np.interp(frames[missing], frames[~missing], row[~missing])
    return True


def _recorded_stretches(
    measured: NDArray[np.bool_], joins: Sequence[int], longest: int
) -> list[tuple[int, int]]:
    """Return the runs of measured frames, pauses up to `longest` closed, cut at the joins."""
    stretches: list[tuple[int, int]] = []
    for begin, end in itertools.pairwise((0, *joins, measured.size)):
        runs = [(begin + start, begin + stop) for start, stop in _runs(measured[begin:end])]
        for start, stop in runs:
            if start > runs[0][0] and start - stretches[-1][1] <= longest:
                start = stretches.pop()[0]
            stretches.append((start, stop))
    return stretches


def fill_short_gaps(
    traces: Float, *, max_gap: int, min_segment: int, joins: Sequence[int] = ()
) -> Traces:
    """Find the recorded stretches of one animal and close short gaps in its traces.

    Frames at which no neuron has a value are a pause of the recording when there are more than
    ``max_gap`` of them in a row, or when they begin or end the recording or a piece of it; a
    neuron with a longer gap inside a recorded stretch counts as missing in this animal.

    Parameters
    ----------
    traces : ndarray, shape (n_neurons, n_times)
        Traces with NaN where nothing was measured.
    max_gap : int
        Longest gap that is interpolated, frames.
    min_segment : int
        Recorded stretches shorter than this many frames are not used.
    joins : sequence of int
        Increasing frames at which another piece of the recording begins: the frame before is
        not its neighbour in time.

    Returns
    -------
    Traces
    """
    values = np.array(traces, dtype=np.float64)
    finite = np.isfinite(values)
    stretches = _recorded_stretches(np.any(finite, axis=0), joins, max_gap)
    segments = tuple(run for run in stretches if run[1] - run[0] >= min_segment)
    recorded = np.zeros(values.shape[1], dtype=bool)
    for start, stop in segments:
        recorded[start:stop] = True
    present: NDArray[np.bool_] = np.any(finite[:, recorded], axis=1)
    for neuron in np.flatnonzero(present & ~finite[:, recorded].all(axis=1)):
        for start, stop in segments:
            missing = ~finite[neuron, start:stop]
            if not _fill_row(values[neuron, start:stop], missing, max_gap):
                present[neuron] = False
    values[~present] = 0.0
    values[:, ~recorded] = 0.0
    return Traces(values, present, recorded, segments)


def derivatives(traces: Traces, *, window: int, dt: float) -> Float:
    """Return Savitzky-Golay first derivatives (order 2) of each recorded stretch.

    Frames less than half a window from the ends of a stretch have the value of the nearest one
    with a whole window.

    Parameters
    ----------
    traces : Traces
        Traces without gaps.
    window : int
        Window in frames, odd.
    dt : float
        Time step in seconds.

    Returns
    -------
    ndarray, shape (n_neurons, n_times)
        Per second; 0 where nothing was recorded.
    """
    result = np.zeros_like(traces.values)
    half = window // 2
    for start, stop in traces.segments:
        part = savgol_filter(traces.values[:, start:stop], window, 2, deriv=1, delta=dt, axis=1)
        # A parabola that is read off its centre is several times noisier, at the same frames in
        # all neurons, which would pass for co-fluctuation.
        part[:, :half] = part[:, half, None]
        part[:, part.shape[1] - half :] = part[:, part.shape[1] - half - 1, None]
        result[:, start:stop] = part
    return result


def scaled_derivatives(
    traces: Traces, slopes: Float, *, quantile: float, dt: float
) -> tuple[Float, NDArray[np.bool_]]:
    """Return ``u = min(|d| / q, 1)`` with q a quantile of ``|d|``, and the silent neurons.

    Parameters
    ----------
    traces : Traces
        Traces without gaps.
    slopes : ndarray, shape (n_neurons, n_times)
        Their derivatives.
    quantile : float
        Quantile of ``|d|`` over the recorded frames that becomes 1.
    dt : float
        Time step in seconds; a scale that is rounding error only counts as 0.

    Returns
    -------
    scaled : ndarray, shape (n_neurons, n_times)
        In [0, 1]; 0 for silent neurons and where nothing was recorded.
    silent : ndarray of bool, shape (n_neurons,)
        Present neurons whose trace is constant.
    """
    size = np.abs(slopes)
    scale = np.quantile(size[:, traces.recorded], quantile, axis=1)
    constant = scale * dt <= CONSTANT * np.abs(traces.values).max(axis=1)
    scaled = np.minimum(size / np.where(constant, 1.0, scale)[:, None], 1.0)
    scaled[constant] = 0.0
    return scaled, constant & traces.present


def _window_mean(values: Float, half: int, segments: Segments) -> Float:
    """Return the mean over ``2 half + 1`` frames, cut at the ends of each stretch."""
    result = np.zeros_like(values)
    for start, stop in segments:
        length = stop - start
        sums = np.zeros((values.shape[0], length + 1))
        np.cumsum(values[:, start:stop], axis=1, out=sums[:, 1:])
        inner = max(length - half, 0)
        out = result[:, start:stop]
        out[:, :inner] = sums[:, half + 1 : half + 1 + inner]
        out[:, inner:] = sums[:, -1:]
        out[:, half:] -= sums[:, :inner]
        frames = np.arange(length)
        out /= np.minimum(frames + half + 1, length) - np.maximum(frames - half, 0)
    return result


def _moments(values: Float, half: int, segments: Segments) -> tuple[Float, Float]:
    mean = _window_mean(values, half, segments)
    variance = _window_mean(values * values, half, segments) - mean * mean
    return mean, np.sqrt(np.maximum(variance, VARIANCE_FLOOR))


def _excess(u: Float, slopes: Float, traces: Traces, half: int) -> PairFunction:
    mean, sd = _moments(u, half, traces.segments)
    # max(0, c / (s_i s_j)) sqrt(s_i s_j) = max(0, c) / sqrt(s_i s_j), one factor per neuron.
    weight = 1.0 / np.sqrt(sd)

    def function(first: NDArray[np.intp], second: NDArray[np.intp]) -> Float:
        result = _window_mean(u[first] * u[second], half, traces.segments)
        result -= mean[first] * mean[second]
        np.maximum(result, 0.0, out=result)
        result *= weight[first]
        result *= weight[second]
        return result

    return function


def _correlation(values: Float, traces: Traces, half: int) -> PairFunction:
    used = values[:, traces.recorded]
    spread = used.std(axis=1)
    flat = spread <= CONSTANT * np.abs(used).max(axis=1)
    z = (values - used.mean(axis=1)[:, None]) / np.where(flat, 1.0, spread)[:, None]
    z[flat] = 0.0
    z[:, ~traces.recorded] = 0.0
    mean, sd = _moments(z, half, traces.segments)

    def function(first: NDArray[np.intp], second: NDArray[np.intp]) -> Float:
        result = _window_mean(z[first] * z[second], half, traces.segments)
        result -= mean[first] * mean[second]
        np.abs(result, out=result)
        result /= sd[first] * sd[second]
        return np.minimum(result, 1.0, out=result)

    return function


def _abs_corr(u: Float, slopes: Float, traces: Traces, half: int) -> PairFunction:
    return _correlation(traces.values, traces, half)


def _abs_dcorr(u: Float, slopes: Float, traces: Traces, half: int) -> PairFunction:
    return _correlation(slopes, traces, half)


def _prefix(values: Float) -> Float:
    sums = np.zeros((values.shape[0], values.shape[1] + 1))
    np.cumsum(values, axis=1, out=sums[:, 1:])
    return sums


def _differential(u: Float, slopes: Float, traces: Traces, half: int) -> PairFunction:
    n_times = u.shape[1]
    sign = np.where(u > 0, np.sign(slopes), 0.0)
    # Rows start with a cut, so intervals of a block of pairs, laid end to end, never mix pairs.
    cut = np.ones(u.shape, dtype=bool)
    cut[:, 1:] = sign[:, 1:] != sign[:, :-1]
    for start, stop in traces.segments:
        cut[:, start] = True
        cut[:, stop : stop + 1] = True
    # Flat: rows of n_times + 1 sums. One index a sum is cheaper than two.
    total, square = _prefix(u).ravel(), _prefix(u * u).ravel()

    def function(first: NDArray[np.intp], second: NDArray[np.intp]) -> Float:
        starts = np.flatnonzero(cut[first] | cut[second])
        cross = np.add.reduceat((u[first] * u[second]).ravel(), starts)
        length = np.diff(starts, append=first.size * n_times)
        row, begin = np.divmod(starts, n_times)
        i = first[row] * (n_times + 1) + begin
        j = second[row] * (n_times + 1) + begin
        i_end, j_end = i + length, j + length
        energy = square[i_end] - square[i] + square[j_end] - square[j]
        level = (total[i_end] - total[i]) * (total[j_end] - total[j])
        similarity = np.divide(2 * cross, energy, out=np.zeros_like(cross), where=energy > 0)
        value = np.minimum(similarity, 1.0) * np.sqrt(np.maximum(level, 0.0)) / length
        return np.repeat(value, length).reshape(first.size, n_times)

    return function


AFFINITY_MODES: dict[str, Callable[[Float, Float, Traces, int], PairFunction]] = {
    "excess": _excess,
    "differential": _differential,
    "abs_corr": _abs_corr,
    "abs_dcorr": _abs_dcorr,
}


def pair_affinity(
    traces: Traces,
    first: NDArray[np.intp],
    second: NDArray[np.intp],
    *,
    mode: str,
    rate_hz: float,
    deriv_window: int,
    window: int,
    bin_frames: int,
    scale_quantile: float,
    out: NDArray[np.float32],
    block: int | None = None,
) -> NDArray[np.bool_]:
    """Write the binned affinity of one animal's present pairs into ``out``.

    Parameters
    ----------
    traces : Traces
        Traces of the animal, all neurons.
    first, second : ndarray of int, shape (n_pairs,)
        Neurons of each pair; rows of ``out``.
    mode : {"excess", "differential", "abs_corr", "abs_dcorr"}
        Which affinity.
    rate_hz : float
        Frames per second.
    deriv_window, window : int
        Windows of derivative and moving statistics, frames, odd.
    bin_frames : int
        Frames per time bin.
    scale_quantile : float
        Quantile of the derivative that scales each neuron.
    out : ndarray, shape (n_pairs, n_bins)
        Receives the affinity, 0 in bins that were not recorded; rows of absent pairs stay as
        they are.
    block : int, optional
        Pairs held at the full frame rate at once; by default what fits 512 KB.

    Returns
    -------
    ndarray of bool, shape (n_neurons,)
        Silent neurons.
    """
    slopes = derivatives(traces, window=deriv_window, dt=1 / rate_hz)
    u, silent = scaled_derivatives(traces, slopes, quantile=scale_quantile, dt=1 / rate_hz)
    slopes[silent] = 0.0  # rounding error of a constant trace must not correlate
    function = AFFINITY_MODES[mode](u, slopes, traces, window // 2)
    n_bins = out.shape[1]
    recorded = traces.recorded[: n_bins * bin_frames].reshape(n_bins, bin_frames).all(axis=1)
    rows = np.flatnonzero(traces.present[first] & traces.present[second])
    block = int(max(BLOCK_BYTES // u[0].nbytes, 1)) if block is None else block
    for start in range(0, rows.size, block):
        chunk = rows[start : start + block]
        full = function(first[chunk], second[chunk])[:, : n_bins * bin_frames]
        binned = full.reshape(chunk.size, n_bins, bin_frames).mean(axis=2)
        binned[:, ~recorded] = 0.0
        out[chunk] = binned
    return silent
