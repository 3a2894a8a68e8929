"""Calcium traces: choice of the series, neuropil, dF/F, long gaps, derivative."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.errors import DataError
from neuropipe.preprocess.sampling import median_step, odd_samples, segments
from neuropipe.preprocess.steps import add_issue, recorded_step, with_activity

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "choose_source",
    "derivative",
    "dff",
    "longest_run",
    "mark_nan_runs",
    "neuropil",
    "running_percentile",
]

SERIES = ("fluorescence", "neuropil", "dff", "deconvolved")
UNITS = {"fluorescence": "a.u.", "dff": "1", "deconvolved": "a.u."}
LEAST_BASELINE = 1e-3


def _pick(present: list[str], source: str, dff_on: bool) -> str:
    if source == "auto":
        wanted = next(
            (name for name in ("dff", "fluorescence", "deconvolved") if name in present), ""
        )
    elif source == "dff" and "dff" not in present and dff_on:
        wanted = "fluorescence"
    else:
        wanted = source
    return wanted if wanted in present else ""


@recorded_step("source")
def choose_source(raw: xr.Dataset, *, source: str = "auto", dff_on: bool = True) -> xr.Dataset:
    """Take the series to work on from ``/raw`` and call it ``activity``.

    Parameters
    ----------
    raw : xarray.Dataset
        With some of ``fluorescence``, ``neuropil``, ``dff``, ``deconvolved`` ``(time, roi)``.
    source : {"auto", "fluorescence", "dff", "deconvolved"}
        ``auto``: ``dff`` if present, else fluorescence (from which dF/F is computed), else the
        deconvolved series. ``dff`` falls back to fluorescence if `dff_on`.
    dff_on : bool
        dF/F will be computed from fluorescence.

    Returns
    -------
    xarray.Dataset
        ``activity (time, roi)`` float64 with NaN where not valid, ``valid``, ``roi_ok``, every
        coordinate; ``neuropil`` stays beside fluorescence. Attribute ``source_series``.

    Raises
    ------
    DataError
        If the series is not in the recording.
    """
    present = [name for name in SERIES if name in raw]
    name = _pick(present, source, dff_on)
    if not name:
        raise DataError(
            f"{raw.attrs.get('recording', 'recording')}: preprocess.calcium.source = {source!r}, "
            f"but the store holds {', '.join(present) or 'no series'}; choose one of these"
        )
    values = raw[name].transpose("time", "roi").values.astype(np.float64)
    usable = np.ones(values.shape, dtype=bool)
    if "valid" in raw:
        usable = raw["valid"].transpose("time", "roi").values
    drop = [s for s in SERIES if s in raw and not (s == "neuropil" and name == "fluorescence")]
    ds = raw.drop_vars([*drop, "valid"], errors="ignore")
    if "roi_ok" not in ds:
        ds = ds.assign(roi_ok=("roi", np.ones(raw.sizes["roi"], dtype=bool)))
    units = str(raw[name].attrs.get("units", UNITS[name]))
    usable = usable & np.isfinite(values)
    return ds.assign(
        activity=(("time", "roi"), np.where(usable, values, np.nan), {"units": units}),
        valid=(("time", "roi"), usable),
    ).assign_attrs(source_series=name)


def _fit_coefficients(trace: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Return the least-squares slope of each trace on its background, kept within 0 and 1."""
    both = np.isfinite(trace) & np.isfinite(background)
    count = np.maximum(both.sum(axis=0), 1)

    def centred(values: np.ndarray) -> np.ndarray:
        mean = np.where(both, values, 0.0).sum(axis=0) / count
        return np.where(both, values - mean, 0.0)

    y, x = centred(trace), centred(background)
    power = (x * x).sum(axis=0)
    slope = np.divide((x * y).sum(axis=0), power, out=np.zeros(len(power)), where=power > 0)
    return np.clip(slope, 0.0, 1.0)


@recorded_step("neuropil")
def neuropil(ds: xr.Dataset, *, coefficient: float | str = 0.7) -> xr.Dataset:
    """Subtract the neuropil, ``F - coefficient * Fneu``.

    Parameters
    ----------
    ds : xarray.Dataset
        With ``activity`` and ``neuropil`` ``(time, roi)``.
    coefficient : float or "fit"
        Share of the neuropil taken off; ``fit``: the slope of F on Fneu per roi, in 0..1.

    Returns
    -------
    xarray.Dataset
        With ``neuropil_coefficient(roi)``, without ``neuropil``.
    """
    background = ds["neuropil"].transpose("time", "roi").values.astype(np.float64)
    trace = ds["activity"].values
    share = np.full(trace.shape[1], np.nan)
    share[:] = _fit_coefficients(trace, background) if coefficient == "fit" else coefficient
    values = trace - share * background
    result = with_activity(ds.drop_vars("neuropil"), values, ds["valid"].values)
    return result.assign(neuropil_coefficient=("roi", share))


def running_percentile(values: np.ndarray, percentile: float, width: int) -> np.ndarray:
    """Return the percentile (linear interpolation) over a centred window of each trace.

    Parameters
    ----------
    values : numpy.ndarray
        Shape ``(n_times, n_rows)``; NaN = missing, left out of every window.
    percentile : float
        Between 0 and 100.
    width : int
        Samples, odd; windows end at the edges of `values`.

    Returns
    -------
    numpy.ndarray
        Shape ``(n_times, n_rows)``; NaN where a window holds no sample.

    Notes
    -----
    pandas' rolling quantile and not `scipy.ndimage.percentile_filter`, because the latter knows
    no missing samples, reflects the trace at its edges and returns a rank without interpolation.
    """
    import pandas as pd

    rolling = pd.DataFrame(values).rolling(width, center=True, min_periods=1)
    return rolling.quantile(percentile / 100, interpolation="linear").to_numpy()


def _baseline(ds: xr.Dataset, method: str, percentile: float, window_s: float) -> np.ndarray:
    values = ds["activity"].values
    base = np.full(values.shape, np.nan)
    if method != "percentile":
        known = np.isfinite(values).any(axis=0)
        base[:, known] = np.nanpercentile(values[:, known], 20, axis=0)
        return base
    width = odd_samples(window_s, 1.0 / median_step(ds["time"].values))
    for part in segments(ds):
        base[part] = running_percentile(values[part], percentile, width)
    return base


@recorded_step("dff")
def dff(
    ds: xr.Dataset, *, baseline: str = "percentile", percentile: float = 8, window_s: float = 60
) -> xr.Dataset:
    """Return the relative change of fluorescence.

    Parameters
    ----------
    ds : xarray.Dataset
        With ``activity (time, roi)``, fluorescence.
    baseline : {"percentile", "F20", "ratio"}
        ``percentile``: ``(F - F0) / F0``, F0 a running percentile within each observed segment.
        ``F20``: the same with F0 the 20th percentile of the whole trace. ``ratio``: ``F / F0``
        with that F0.
    percentile, window_s : float
        Of the running baseline; window in seconds.

    Returns
    -------
    xarray.Dataset
        NaN, not valid, and an issue where F0 is not positive or below 1e-3 of the trace's median.
    """
    values = ds["activity"].values
    base = _baseline(ds, baseline, percentile, window_s)
    middle = np.full(values.shape[1], np.nan)
    known = np.isfinite(values).any(axis=0)
    middle[known] = np.nanmedian(values[:, known], axis=0)
    sound = (base > 0) & (base >= LEAST_BASELINE * middle)
    change = values if baseline == "ratio" else values - base
    result = np.full(values.shape, np.nan)
    np.divide(change, base, out=result, where=sound)
    bad = ds["valid"].values & ~sound
    ds = with_activity(ds, result, ds["valid"].values, units="1")
    if bad.any():
        ds = add_issue(
            ds,
            "BAD_BASELINE",
            f"F0 is not positive or below 1e-3 of the median in {int(bad.sum())} samples, which "
            "are NaN",
            "background taken off twice, or the source is dF/F already: set "
            "`preprocess.calcium.source: dff`, a smaller neuropil coefficient, or `dff: null`",
            rows=ds["roi"].values[bad.any(axis=0)],
        )
    return ds


def longest_run(missing: np.ndarray) -> np.ndarray:
    """Return the length of the longest run of True along axis 0.

    Parameters
    ----------
    missing : numpy.ndarray
        Bool, shape ``(n_times, n_rows)``.

    Returns
    -------
    numpy.ndarray
        Shape ``(n_rows,)``, samples.
    """
    index = np.arange(1, len(missing) + 1)[:, None]
    last_good = np.maximum.accumulate(np.where(missing, 0, index), axis=0)
    return (index - last_good).max(axis=0, initial=0)


@recorded_step("nan_runs")
def mark_nan_runs(ds: xr.Dataset, *, max_nan_fraction: float = 0.05) -> xr.Dataset:
    """Mark traces with a long missing stretch as not ok; they are kept.

    Parameters
    ----------
    ds : xarray.Dataset
        With ``valid (time, roi)`` and ``roi_ok (roi)``.
    max_nan_fraction : float
        Longest run of samples that are not valid, as a share of the recording's samples.
    """
    valid = ds["valid"].values
    long = longest_run(~valid) > max_nan_fraction * len(valid)
    ds = ds.assign(roi_ok=("roi", ds["roi_ok"].values & ~long, ds["roi_ok"].attrs))
    if long.any():
        ds = add_issue(
            ds,
            "NAN_RUN",
            f"missing for longer than {max_nan_fraction:g} of the recording at a stretch, not ok",
            "raise `preprocess.calcium.max_nan_fraction` to use them all the same",
            rows=ds["roi"].values[long],
        )
    return ds


def _slope(values: np.ndarray, time: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    whole = np.ones(len(time), dtype=bool)
    whole[[0, -1]] = False
    return np.gradient(values, time, axis=0), whole


@recorded_step("derivative")
def derivative(ds: xr.Dataset, *, method: str = "central") -> xr.Dataset:
    """Return the time derivative by central differences on the real timestamps.

    Second order for unequal steps; within each observed segment. The first and the last sample
    of a segment have a one-sided difference and are marked in ``valid``; a segment of fewer than
    three samples is NaN.

    Parameters
    ----------
    ds : xarray.Dataset
        With ``activity (time, roi)``.
    method : {"central"}
        The only one.
    """
    if method != "central":
        raise ValueError(f"derivative: method {method!r}, expected 'central'")
    time = np.asarray(ds["time"].values, dtype=np.float64)
    usable = ds["valid"].values
    source = np.where(usable, ds["activity"].values, np.nan)
    values = np.full(source.shape, np.nan)
    valid = np.zeros(source.shape, dtype=bool)
    for part in segments(ds):
        if part.stop - part.start >= 3:
            values[part], whole = _slope(source[part], time[part])
            valid[part] = usable[part] & whole[:, None]
    # A central difference does not use its own sample, but an unmeasured moment stays unmeasured.
    values[~usable] = np.nan
    units: Any = ds["activity"].attrs.get("units", "1")
    return with_activity(ds, values, valid, units=f"{units}/s")
