"""Smoothing along time with widths in seconds: gaussian, moving mean, exponential."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from neuropipe.preprocess.sampling import median_step, n_samples, odd_samples, segments
from neuropipe.preprocess.steps import recorded_step, with_activity

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["exponential_smooth", "gaussian_smooth", "moving_mean", "smooth"]

GAUSSIAN_REACH = 4.0
EDGE_WEIGHT = 0.99
Smoothed = tuple[np.ndarray, np.ndarray]


def _ratio(weighted: np.ndarray, weight: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Divide where a sample was measured; NaN elsewhere, so that gaps are not filled in."""
    result = np.full(weighted.shape, np.nan)
    np.divide(weighted, weight, out=result, where=mask & (weight > 0))
    return result


def _anchored(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mask, first finite value per row, and values minus it with 0 where missing.

    Sums then stay small, which keeps rounding errors small, and a constant trace stays constant
    to the last bit. The first value lies in every sample's past, so that causality holds.
    """
    mask = np.isfinite(values)
    first = np.argmax(mask, axis=0)
    start = np.where(mask.any(axis=0), values[first, np.arange(values.shape[1])], 0.0)
    return mask, start, np.where(mask, values - start, 0.0)


def moving_mean(values: np.ndarray, width: int, causal: bool = False) -> Smoothed:
    """Return the mean over a window of `width` samples, by cumulative sums.

    Parameters
    ----------
    values : numpy.ndarray
        Shape ``(n_times, n_rows)``; NaN = missing, left out of the means and NaN in the result.
    width : int
        Samples; odd unless `causal`.
    causal : bool
        Window of the last `width` samples (fewer at the start) instead of a centred one.

    Returns
    -------
    smoothed : numpy.ndarray
        Shape ``(n_times, n_rows)``.
    whole : numpy.ndarray
        Bool, shape ``(n_times,)``: the window lies inside the segment.
    """
    n = len(values)
    before = width - 1 if causal else width // 2
    after = 0 if causal else width // 2
    mask, start, filled = _anchored(values)
    low = np.maximum(np.arange(n) - before, 0)
    high = np.minimum(np.arange(n) + after + 1, n)
    zero = np.zeros((1, values.shape[1]))
    total = np.concatenate([zero, np.cumsum(filled, axis=0)])
    count = np.concatenate([zero, np.cumsum(mask, axis=0)])
    mean = _ratio(total[high] - total[low], count[high] - count[low], mask) + start
    return mean, (high - low) == width


def gaussian_smooth(values: np.ndarray, sigma: float, causal: bool = False) -> Smoothed:
    """Return the gaussian-weighted mean, by direct convolution (exactly causal if asked).

    Parameters
    ----------
    values : numpy.ndarray
        Shape ``(n_times, n_rows)``; NaN = missing.
    sigma : float
        SD in samples; the kernel reaches 4 SD.
    causal : bool
        Weights on the past half only.

    Returns
    -------
    smoothed : numpy.ndarray
        Shape ``(n_times, n_rows)``.
    whole : numpy.ndarray
        Bool, shape ``(n_times,)``: at least 99 % of the kernel lies inside the segment.
    """
    from scipy.ndimage import correlate1d

    reach = max(1, int(np.ceil(GAUSSIAN_REACH * sigma)))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    if causal:
        kernel[reach + 1 :] = 0.0
    kernel /= kernel.sum()
    mask, start, filled = _anchored(values)

    def both_sides(array: np.ndarray) -> np.ndarray:
        return np.asarray(correlate1d(array, kernel, axis=0, mode="constant", cval=0.0))

    weigh = _past_only(kernel[: reach + 1]) if causal else both_sides
    mean = _ratio(weigh(filled), weigh(mask.astype(np.float64)), mask) + start
    inside = weigh(np.ones((len(values), 1)))[:, 0]
    return mean, inside >= EDGE_WEIGHT


def _past_only(kernel: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return the sum over the present and past samples; weights in `kernel` are oldest first.

    The future is not touched at all: a weight of 0 would still turn an infinity into NaN.
    """

    def weigh(array: np.ndarray) -> np.ndarray:
        total = np.zeros(array.shape)
        for lag, weight in enumerate(kernel[::-1]):
            if lag >= len(array):
                break
            total[lag:] += weight * array[: len(array) - lag]
        return total

    return weigh


def exponential_smooth(
    values: np.ndarray, time: np.ndarray, tau_s: float, causal: bool = False
) -> Smoothed:
    """Return the mean weighted by ``exp(-|distance| / tau)``, by recursion on real timestamps.

    Parameters
    ----------
    values : numpy.ndarray
        Shape ``(n_times, n_rows)``; NaN = missing.
    time : numpy.ndarray
        Shape ``(n_times,)``, seconds.
    tau_s : float
        Time constant, seconds.
    causal : bool
        Weights on the past only.

    Returns
    -------
    smoothed : numpy.ndarray
        Shape ``(n_times, n_rows)``.
    whole : numpy.ndarray
        Bool, shape ``(n_times,)``: at least 99 % of the kernel lies inside the segment.
    """
    mask, start, filled = _anchored(values)
    keep = np.exp(-np.diff(time) / tau_s)
    pair = np.stack([filled, mask.astype(np.float64)])
    total = _decaying_sum(pair, keep)
    if not causal:
        total += _decaying_sum(pair[:, ::-1], keep[::-1])[:, ::-1] - pair
    mean = _ratio(total[0], total[1], mask) + start
    past = 1.0 - np.exp(-(time - time[0]) / tau_s)
    future = 1.0 - np.exp(-(time[-1] - time) / tau_s)
    inside = past if causal else 0.5 * (past + future)
    return mean, inside >= EDGE_WEIGHT


def _decaying_sum(pair: np.ndarray, keep: np.ndarray) -> np.ndarray:
    total = np.array(pair)
    for i, share in enumerate(keep, start=1):
        total[:, i] += share * total[:, i - 1]
    return total


def _kernel(kind: str, seconds: float, rate: float, causal: bool) -> tuple[Callable, int]:
    """Return ``(values, time) -> (smoothed, whole)`` and the filter's length in samples."""
    if kind == "moving":
        width = odd_samples(seconds, rate)
        return (lambda values, time: moving_mean(values, width, causal)), width
    if kind == "gaussian":
        sigma = seconds * rate
        reach = max(1, int(np.ceil(GAUSSIAN_REACH * sigma)))
        length = reach + 1 if causal else 2 * reach + 1
        return (lambda values, time: gaussian_smooth(values, sigma, causal)), length
    length = max(1, n_samples(seconds, rate))
    return (lambda values, time: exponential_smooth(values, time, seconds, causal)), length


@recorded_step("smooth")
def smooth(
    ds: xr.Dataset,
    *,
    kind: str,
    sigma_s: float | None = None,
    window_s: float | None = None,
    tau_s: float | None = None,
    causal: bool = False,
) -> xr.Dataset:
    """Smooth ``activity`` along time within each observed segment.

    Parameters
    ----------
    ds : xarray.Dataset
        With ``activity (time, <row>)`` and ``valid``.
    kind : {"gaussian", "moving", "exponential"}
        Kernel; exactly one width goes with it.
    sigma_s, window_s, tau_s : float
        SD of the gaussian, width of the moving mean (rounded to an odd number of samples), time
        constant of the exponential; seconds.
    causal : bool
        Sample t is made of samples at or before t only.

    Returns
    -------
    xarray.Dataset
        Missing samples stay missing. Samples whose kernel reaches over an edge of their segment
        keep a value (mean over what there is) with ``valid`` False; a segment shorter than the
        filter is NaN.

    Raises
    ------
    ValueError
        If the width that belongs to `kind` is missing.

    Notes
    -----
    The gaussian and the moving mean count samples of the median step; the exponential uses the
    real timestamps.
    """
    widths = {"gaussian": sigma_s, "moving": window_s, "exponential": tau_s}
    seconds = widths.get(kind)
    if seconds is None:
        raise ValueError(f"smooth: kind {kind!r} needs its width in seconds, found none")
    time = np.asarray(ds["time"].values, dtype=np.float64)
    run, length = _kernel(kind, seconds, 1.0 / median_step(time), causal)
    usable = ds["valid"].values
    source = np.where(usable, ds["activity"].values, np.nan)
    values = np.full(source.shape, np.nan)
    valid = np.zeros(source.shape, dtype=bool)
    for part in segments(ds):
        if part.stop - part.start < length:
            continue
        values[part], whole = run(source[part], time[part])
        valid[part] = usable[part] & whole[:, None]
    return with_activity(ds, values, valid)
