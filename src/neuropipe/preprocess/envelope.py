"""Amplitude of frequency bands: high gamma, and log power of named bands."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from neuropipe.errors import DataError
from neuropipe.preprocess.blocks import activity_blocks, per_row
from neuropipe.preprocess.filtering import Fir, check_nyquist
from neuropipe.preprocess.rates import on_grid
from neuropipe.preprocess.resample import overlap_mean, target_grid
from neuropipe.preprocess.sampling import sampling_rate, segments
from neuropipe.preprocess.steps import add_issue, recorded_step

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["band_edges", "band_fir", "band_power", "high_gamma", "hilbert_amplitude"]

TRANSITION_SHARE = 0.25
MAX_GAP_STEPS = 3.0
Bands = Sequence[tuple[float, float]]


def band_edges(low_hz: float, high_hz: float, n_bands: int) -> np.ndarray:
    """Return the edges of adjoining bands that are equally wide on a log scale, Hz.

    Examples
    --------
    >>> band_edges(70, 280, 2).round(6).tolist()
    [70.0, 140.0, 280.0]
    """
    return np.geomspace(low_hz, high_hz, n_bands + 1)


def band_fir(low_hz: float, high_hz: float) -> Fir:
    """Return the filter of one band; its transitions are a quarter of the band wide.

    mne's own choice, a quarter of the edge's frequency, is wider than a narrow band at a high
    frequency, so that neighbouring bands would be nearly the same signal.
    """
    width = min(TRANSITION_SHARE * (high_hz - low_hz), low_hz)
    return Fir(low_hz, high_hz, width, width)


def hilbert_amplitude(values: np.ndarray) -> np.ndarray:
    """Return the size of the analytic signal of rows ``(n_rows, n_times)``."""
    from scipy.fft import next_fast_len
    from scipy.signal import hilbert

    n_times = values.shape[1]
    return np.abs(hilbert(values, N=next_fast_len(n_times), axis=1)[:, :n_times])


class _Amplitudes:
    """Amplitudes of bands of one recording, and the clock that they are brought to."""

    def __init__(self, ds: xr.Dataset, bands: Bands, resample_hz: float, key: str) -> None:
        check_nyquist(ds, max(high for _, high in bands), key)
        self.rate, self.parts = sampling_rate(ds), segments(ds)
        if resample_hz > self.rate * (1 + 1e-9):
            raise DataError(
                f"{ds.attrs.get('recording', 'recording')}: {key}.resample_hz is {resample_hz:g} "
                f"Hz, above the sampling rate of {self.rate:g} Hz; use a lower one"
            )
        self.firs = [band_fir(*band) for band in bands]
        self.taps = [fir.taps(self.rate) for fir in self.firs]
        self.time = np.asarray(ds["time"].values, dtype=np.float64)
        self.dt = 1.0 / resample_hz
        self.grid = target_grid(float(self.time[0]), float(self.time[-1]), self.dt)
        self._longest = max(part.stop - part.start for part in self.parts)
        needed = max(self.taps)
        if needed > self._longest or len(self.grid) == 0:
            raise DataError(
                f"{ds.attrs.get('recording', 'recording')}: {key} needs {needed / self.rate:.4g} s "
                f"without a gap, the longest stretch has {self._longest / self.rate:.4g} s; use "
                "wider bands"
            )

    def of(self, values: np.ndarray, valid: np.ndarray, band: int) -> np.ndarray:
        """Return the amplitude of a block of rows, NaN where it is not valid."""
        fir = self.firs[band]
        amplitude, whole = per_row(
            values, valid, self.parts, self.taps[band],
            lambda x: hilbert_amplitude(fir.run(x, self.rate)),
        )  # fmt: skip
        amplitude[~whole] = np.nan
        return amplitude

    def lowered(self, values: np.ndarray) -> np.ndarray:
        """Return the overlap mean of each segment on the new clock, NaN between segments."""
        result = np.full((len(self.grid), values.shape[1]), np.nan)
        slack = 1e-6 / self.rate
        for part in self.parts:
            time = self.time[part]
            first, last = np.searchsorted(self.grid, [time[0] - slack, time[-1] + slack])
            if len(time) > 1:
                result[first:last] = overlap_mean(
                    values[part], time, self.grid[first:last], self.dt, MAX_GAP_STEPS / self.rate
                )
        return result


def _zscored(values: np.ndarray) -> np.ndarray:
    """Return z-scores over the finite samples of each row; NaN for a row that does not vary."""
    # Row by row in memory: sums must not depend on how many rows a block has.
    rows = np.ascontiguousarray(values.T)
    known = np.isfinite(rows)
    count = np.where(known.any(axis=1), known.sum(axis=1), np.nan)
    offset = rows - (np.where(known, rows, 0.0).sum(axis=1) / count)[:, None]
    spread = np.sqrt((np.where(known, offset, 0.0) ** 2).sum(axis=1) / count)
    return (offset / np.where(spread > 0, spread, np.nan)[:, None]).T


@recorded_step("high_gamma", ("mne",))
def high_gamma(
    ds: xr.Dataset, *, band_hz: tuple[float, float] = (70, 150), n_bands: int = 8,
    resample_hz: float = 100,
) -> xr.Dataset:  # fmt: skip
    """Return the mean z-scored amplitude of log-spaced bands.

    Parameters
    ----------
    ds : xarray.Dataset
        With ``activity (time, channel)`` and ``valid``; mains taken out before.
    band_hz : tuple of float
        Lower edge of the first and upper edge of the last band, Hz.
    n_bands : int
        Number of bands.
    resample_hz : float
        Rate of the result, Hz, by overlap mean.

    Returns
    -------
    xarray.Dataset
        ``activity`` in standard deviations: Hilbert amplitude of each band, z-scored over the
        valid samples of the recording, then the mean over bands. Half a filter at the ends of
        each stretch is not valid.

    Raises
    ------
    DataError
        If the bands reach the Nyquist frequency, or no stretch is as long as their filters.
    """
    edges = band_edges(*band_hz, n_bands).tolist()
    bands = list(itertools.pairwise(edges))
    work = _Amplitudes(ds, bands, resample_hz, "high_gamma")
    result = np.empty((len(work.grid), ds.sizes["channel"]), dtype=ds["activity"].dtype)
    for rows, values, valid in activity_blocks(ds):
        total = np.zeros(values.shape)
        for band in range(n_bands):
            total += _zscored(work.of(values, valid, band))
        result[:, rows] = work.lowered(total / n_bands)
    ds = on_grid(ds, work.grid, result, np.isfinite(result), resample_hz)
    ds["activity"].attrs["units"] = "1"
    return ds


def _log_power(amplitude: np.ndarray) -> np.ndarray:
    """Return log10 of the squared amplitude; NaN for an amplitude of 0."""
    power = np.full(amplitude.shape, np.nan)
    np.log10(amplitude, out=power, where=np.nan_to_num(amplitude) > 0)
    return 2.0 * power


@recorded_step("band_power", ("mne",))
def band_power(
    ds: xr.Dataset, *, bands_hz: Mapping[str, tuple[float, float]], resample_hz: float = 100
) -> xr.Dataset:
    """Return the log power of named bands as rows ``<channel>.<band>``.

    Parameters
    ----------
    ds : xarray.Dataset
        With ``activity (time, channel)`` and ``valid``.
    bands_hz : mapping
        Name -> lower and upper edge, Hz.
    resample_hz : float
        Rate of the result, Hz, by overlap mean of the log power.

    Returns
    -------
    xarray.Dataset
        ``activity``: log10 of the squared Hilbert amplitude, of the unit before; rows in the
        order of channels, then bands, with ``band (channel)``, ``band_low``, ``band_high``. A
        channel without any power has no log power, with an issue.

    Raises
    ------
    DataError
        As of `high_gamma`.
    """
    names = list(bands_hz)
    work = _Amplitudes(ds, [bands_hz[name] for name in names], resample_hz, "band_power")
    n_rows, n_bands = ds.sizes["channel"], len(names)
    result = np.empty((len(work.grid), n_rows, n_bands), dtype=ds["activity"].dtype)
    silent = np.zeros(n_rows, dtype=bool)
    for rows, values, valid in activity_blocks(ds):
        for band in range(n_bands):
            amplitude = work.of(values, valid, band)
            silent[rows] |= (amplitude == 0).any(axis=0)
            result[:, rows, band] = work.lowered(_log_power(amplitude))
    flat = result.reshape(len(work.grid), n_rows * n_bands)
    unit = str(ds["activity"].attrs.get("units", ""))
    lost = ds["channel"].values[silent]
    rows_of = _band_rows(ds, names, [bands_hz[name] for name in names])
    ds = on_grid(ds, work.grid, flat, np.isfinite(flat), resample_hz, rows_of)
    ds["activity"].attrs["units"] = f"log10({unit}^2)" if unit else ""
    if silent.any():
        ds = add_issue(
            ds, "NO_POWER", "amplitude 0 has no logarithm, not valid there",
            "leave these channels out with `units.where`", rows=lost,
        )  # fmt: skip
    return ds


def _band_rows(ds: xr.Dataset, names: Sequence[str], bands: Bands) -> xr.Dataset:
    """Return the rows ``<channel>.<band>`` with the metadata of their channels, without values."""
    channels = [str(name) for name in ds["channel"].values]
    every = np.repeat(np.arange(len(channels)), len(names))
    rows = ds.drop_vars(["activity", "valid"]).isel(channel=every)
    joined = np.array([f"{channel}.{name}" for channel in channels for name in names], dtype=object)
    low, high = np.array(bands, dtype=np.float64).T
    columns = {
        "channel": joined,
        "band": np.array(list(names) * len(channels), dtype=object),
        "band_low": np.tile(low, len(channels)),
        "band_high": np.tile(high, len(channels)),
    }
    return rows.assign_coords({name: ("channel", column) for name, column in columns.items()})
