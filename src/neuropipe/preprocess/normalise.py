"""Scale of each trace: z-score, causal z-score, median and MAD."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuropipe.preprocess.steps import add_issue, recorded_step, row_dim, with_activity

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["causal_zscore", "normalise", "robust", "zscore"]

Scaled = tuple[np.ndarray, np.ndarray, np.ndarray]


def _usable(scale: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return scales with NaN where a trace does not vary beyond the rounding of its values."""
    size = np.max(np.abs(values), axis=0, where=np.isfinite(values), initial=0.0)
    rounding = 16 * np.finfo(np.float64).eps * size
    return np.where(scale > rounding, scale, np.nan)


def zscore(values: np.ndarray) -> Scaled:
    """Return ``(x - mean) / sd`` with ddof 0, over the finite samples of each trace.

    Parameters
    ----------
    values : numpy.ndarray
        Shape ``(n_times, n_rows)``; NaN = missing.

    Returns
    -------
    scaled : numpy.ndarray
        Shape ``(n_times, n_rows)``; a constant trace is NaN.
    center, scale : numpy.ndarray
        Mean and SD, shape ``(n_rows,)``; SD is NaN for a constant trace.
    """
    mask = np.isfinite(values)
    count = mask.sum(axis=0)
    known = np.where(count > 0, count, np.nan)
    center = np.where(mask, values, 0.0).sum(axis=0) / known
    offset = np.where(mask, values - center, 0.0)
    scale = _usable(np.sqrt((offset**2).sum(axis=0) / known), values)
    return (values - center) / scale, center, scale


def robust(values: np.ndarray) -> Scaled:
    """Return ``(x - median) / MAD`` over the finite samples of each trace.

    MAD is the plain median of ``|x - median|``, without the factor 1.4826 that makes it the SD
    of a normal variable. Arguments and results are those of `zscore`.
    """
    center = np.full(values.shape[1], np.nan)
    scale = np.full(values.shape[1], np.nan)
    for j, trace in enumerate(values.T):
        known = trace[np.isfinite(trace)]
        if len(known):
            center[j] = np.median(known)
            scale[j] = np.median(np.abs(known - center[j]))
    scale = _usable(scale, values)
    return (values - center) / scale, center, scale


def causal_zscore(values: np.ndarray, burn_in: int = 30) -> Scaled:
    """Return z-scores by the mean and SD (ddof 0) of the samples so far, the present included.

    Welford's recursion: ``mean += (x - mean) / n``, ``m2 += (x - old mean) * (x - new mean)``.

    Parameters
    ----------
    values : numpy.ndarray
        Shape ``(n_times, n_rows)``; NaN = missing, and does not count.
    burn_in : int
        The first so many finite samples of each trace are NaN.

    Returns
    -------
    scaled : numpy.ndarray
        Shape ``(n_times, n_rows)``; NaN also as long as a trace has not varied.
    center, scale : numpy.ndarray
        Mean and SD at the end, shape ``(n_rows,)``.
    """
    n_rows = values.shape[1]
    mean, m2, size = np.zeros(n_rows), np.zeros(n_rows), np.zeros(n_rows)
    count = np.zeros(n_rows, dtype=np.int64)
    scaled = np.full(values.shape, np.nan)
    smallest = 16 * np.finfo(np.float64).eps
    for t, sample in enumerate(values):
        seen = np.isfinite(sample)
        count += seen
        step = np.where(seen, sample - mean, 0.0)
        mean = mean + step / np.maximum(count, 1)
        m2 = m2 + step * np.where(seen, sample - mean, 0.0)
        size = np.maximum(size, np.where(seen, np.abs(sample), 0.0))
        sd = np.sqrt(m2 / np.maximum(count, 1))
        ready = seen & (count > burn_in) & (sd > smallest * size)
        np.divide(sample - mean, sd, out=scaled[t], where=ready)
    scale = np.where(sd > smallest * size, sd, np.nan) if len(values) else np.full(n_rows, np.nan)
    return scaled, np.where(count > 0, mean, np.nan), scale


METHODS = {"zscore": zscore, "causal_zscore": causal_zscore, "robust": robust}


@recorded_step("normalise")
def normalise(ds: xr.Dataset, *, method: str = "zscore", burn_in: int = 30) -> xr.Dataset:
    """Scale each trace of ``activity`` over its valid samples.

    Parameters
    ----------
    ds : xarray.Dataset
        With ``activity (time, <row>)`` and ``valid``.
    method : {"zscore", "causal_zscore", "robust"}
        See the functions of these names.
    burn_in : int
        Valid samples that ``causal_zscore`` leaves NaN at the start.

    Returns
    -------
    xarray.Dataset
        With ``normalise_center`` and ``normalise_scale`` per row, in the unit before; for
        ``causal_zscore`` their values at the end. A constant trace is NaN, with an issue.
    """
    row = row_dim(ds)
    source = np.where(ds["valid"].values, ds["activity"].values, np.nan).astype(np.float64)
    extra = {"burn_in": burn_in} if method == "causal_zscore" else {}
    values, center, scale = METHODS[method](source, **extra)
    units = {"units": str(ds["activity"].attrs.get("units", ""))}
    ds = with_activity(ds, values, np.isfinite(values), units="1").assign(
        normalise_center=(row, center, units), normalise_scale=(row, scale, units)
    )
    constant = np.isfinite(source).any(axis=0) & np.isnan(scale)
    if constant.any():
        what = "median absolute deviation is 0" if method == "robust" else "trace is constant"
        ds = add_issue(
            ds,
            "CONSTANT_TRACE",
            f"{what}, normalised to NaN",
            "a trace that does not vary carries no information; leave it out with `units.where`",
            rows=ds[row].values[constant],
        )
    return ds
