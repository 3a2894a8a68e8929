"""Zero-phase FIR filters: mains notch and band pass, within each stretch without a gap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.errors import DataError
from neuropipe.preprocess.blocks import activity_blocks, per_row, usable_runs
from neuropipe.preprocess.sampling import sampling_rate, segments
from neuropipe.preprocess.steps import add_issue, recorded_step, with_activity

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Fir", "bandpass", "filtered", "notch", "notch_filter", "resolve_line"]

# Of mne's notch: stop band freq / 200 wide, transitions of 0.5 Hz.
NOTCH_SHARE, NOTCH_TRANSITION_HZ = 200.0, 0.5


@dataclass(frozen=True)
class Fir:
    """A zero-phase FIR filter as `mne.filter` designs it (firwin, Hamming window).

    Attributes
    ----------
    low, high : float or tuple of float or None
        Edges of the pass band, Hz; ``low`` above ``high`` makes stop bands.
    low_transition, high_transition : float or "auto"
        Widths of the transition bands, Hz.
    """

    low: float | tuple[float, ...] | None
    high: float | tuple[float, ...] | None
    low_transition: float | str = "auto"
    high_transition: float | str = "auto"

    def _design(self) -> dict[str, Any]:
        return {
            "l_freq": self.low,
            "h_freq": self.high,
            "l_trans_bandwidth": self.low_transition,
            "h_trans_bandwidth": self.high_transition,
            "verbose": "error",
        }

    def taps(self, rate: float) -> int:
        """Return the length of the filter at a sampling rate, samples."""
        from mne.filter import create_filter

        return len(create_filter(None, rate, **self._design()))

    def run(self, values: np.ndarray, rate: float) -> np.ndarray:
        """Filter rows ``(n_rows, n_times)``, float64, at least as long as the filter."""
        from mne.filter import filter_data

        return np.asarray(filter_data(values, rate, copy=True, **self._design()))


def filtered(ds: xr.Dataset, fir: Fir, what: str, remedy: str) -> xr.Dataset:
    """Return `ds` with ``activity`` filtered, one block of rows at a time.

    Parameters
    ----------
    ds : xarray.Dataset
        With ``activity (time, <row>)`` and ``valid``; its samples are regular within segments.
    fir : Fir
        The filter.
    what, remedy : str
        Name of the filter and its key, and what makes it shorter, for messages.

    Returns
    -------
    xarray.Dataset
        Half a filter at the ends of each stretch keeps its values with ``valid`` False; a
        stretch shorter than the filter is NaN, with an issue.

    Raises
    ------
    DataError
        If no stretch is as long as the filter.
    """
    rate = sampling_rate(ds)
    taps, parts = fir.taps(rate), segments(ds)
    old = ds["activity"]
    values = np.empty(old.shape, dtype=old.dtype)
    valid = np.zeros(old.shape, dtype=bool)
    short, longest = np.zeros(old.shape[1], dtype=np.int64), 0
    for rows, given, usable in activity_blocks(ds):
        done, whole = per_row(given, usable, parts, taps, lambda x: fir.run(x, rate))
        values[:, rows], valid[:, rows] = done, whole
        for run, members in usable_runs(usable, parts):
            longest = max(longest, run.stop - run.start)
            if run.stop - run.start < taps:
                short[rows.start + members] += run.stop - run.start
    if longest and not valid.any():
        raise DataError(
            f"{ds.attrs.get('recording', 'recording')}: {what} is {taps / rate:.4g} s long, but "
            f"the longest stretch without a gap lasts {longest / rate:.4g} s; {remedy}"
        )
    ds = with_activity(ds, values, valid)
    if short.any():
        ds = add_issue(
            ds,
            "SHORT_SEGMENT",
            f"{what} is {taps / rate:.4g} s long; shorter stretches, up to "
            f"{short.max() / rate:.4g} s of a channel, are not valid",
            f"{remedy} to keep them",
        )
    return ds


def resolve_line(ds: xr.Dataset, line_hz: float | str | None) -> tuple[xr.Dataset, float | None]:
    """Return the mains frequency to take out, Hz; None with an issue when it is unknown.

    Parameters
    ----------
    ds : xarray.Dataset
        ``activity`` has the attribute ``line_freq`` of the source.
    line_hz : float or "auto" or None
        ``auto``: what the source states.
    """
    if line_hz is None or not isinstance(line_hz, str):
        return ds, line_hz
    stated = float(ds["activity"].attrs.get("line_freq", np.nan))
    if np.isfinite(stated) and stated > 0:
        return ds, stated
    ds = add_issue(
        ds,
        "LINE_FREQ_UNKNOWN",
        "the source does not state the mains frequency, so no notch was applied",
        "write `line_hz: 50` or `line_hz: 60`",
    )
    return ds, None


def notch_filter(line_hz: float, rate: float) -> Fir | None:
    """Return the stop bands at a frequency and its harmonics below Nyquist; None: there are none.

    Parameters
    ----------
    line_hz, rate : float
        Mains frequency and sampling rate, Hz.
    """
    centres = line_hz * np.arange(1, int(rate / 2 / line_hz) + 1)
    reach = centres / NOTCH_SHARE / 2 + NOTCH_TRANSITION_HZ
    kept = centres + reach < rate / 2
    if not kept.any():
        return None
    low, high = (centres + reach)[kept], (centres - reach)[kept]
    return Fir(tuple(low.tolist()), tuple(high.tolist()), NOTCH_TRANSITION_HZ, NOTCH_TRANSITION_HZ)


@recorded_step("notch", ("mne",))
def notch(ds: xr.Dataset, *, line_hz: float) -> xr.Dataset:
    """Take out the mains frequency and its harmonics.

    Parameters
    ----------
    ds : xarray.Dataset
        With ``activity (time, <row>)`` and ``valid``.
    line_hz : float
        Mains frequency, Hz. A harmonic whose stop band would reach Nyquist stays.

    Returns
    -------
    xarray.Dataset
        As of `filtered`.
    """
    fir = notch_filter(line_hz, sampling_rate(ds))
    return (
        ds
        if fir is None
        else filtered(ds, fir, f"the notch at {line_hz:g} Hz (`line_hz`)", "write `line_hz: null`")
    )


@recorded_step("bandpass", ("mne",))
def bandpass(ds: xr.Dataset, *, low_hz: float | None, high_hz: float | None) -> xr.Dataset:
    """Keep a band of frequencies.

    Parameters
    ----------
    ds : xarray.Dataset
        With ``activity (time, <row>)`` and ``valid``.
    low_hz, high_hz : float or None
        Edges of the band, Hz; None leaves that side open.

    Returns
    -------
    xarray.Dataset
        As of `filtered`.

    Raises
    ------
    DataError
        If the band does not end below the Nyquist frequency.
    """
    if low_hz is None and high_hz is None:
        return ds
    check_nyquist(ds, max(low_hz or 0.0, high_hz or 0.0), "bandpass_hz")
    ends = ["the start" if low_hz is None else f"{low_hz:g}",
            "the end" if high_hz is None else f"{high_hz:g} Hz"]  # fmt: skip
    what = f"the band pass from {' to '.join(ends)} (`bandpass_hz`)"
    return filtered(ds, Fir(low_hz, high_hz), what, "raise its lower edge or write `null` there")


def check_nyquist(ds: xr.Dataset, edge_hz: float, key: str) -> None:
    """Raise `DataError` for a band edge that is not below half the sampling rate."""
    rate = sampling_rate(ds)
    if edge_hz >= rate / 2:
        raise DataError(
            f"{ds.attrs.get('recording', 'recording')}: {key} reaches {edge_hz:g} Hz, but the "
            f"recording is sampled at {rate:g} Hz and holds nothing above {rate / 2:g} Hz; lower "
            "it, or leave the upper edge open with `null`"
        )
