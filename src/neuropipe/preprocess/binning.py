"""Counts of spikes in bins whose edges are exact, at any width and over any length.

A bin width is held as an exact fraction of a second, and edge ``k`` is the float64 nearest to the
exact ``k`` widths: one product of integers and one division. Adding up a rounded width, or rounding
a quotient down, puts spikes on the clock of a sampler into wrong bins.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from neuropipe.errors import DataError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["bin_edges", "bin_on", "bin_spikes", "bin_width", "count_spikes", "observed_bins"]

MILLI = 1000
# Products of integers up to here are exact in float64, and so is the division after them.
MAX_EXACT = 1 << 53
UINT16_MAX = np.iinfo(np.uint16).max


def bin_width(bin_ms: float | str | Fraction) -> Fraction:
    """Return a bin width in seconds as an exact fraction.

    Parameters
    ----------
    bin_ms : float, str or Fraction
        Milliseconds: a decimal number means its decimal digits (33.3 is 333/10), a text may also
        be a ratio such as ``"100/3"``.

    Raises
    ------
    DataError
        If it is no positive number.

    Examples
    --------
    >>> bin_width(33.3), bin_width("100/3")
    (Fraction(333, 10000), Fraction(1, 30))
    """
    try:
        width = Fraction(repr(bin_ms) if isinstance(bin_ms, float) else bin_ms) / MILLI
    except (ValueError, ZeroDivisionError, TypeError) as error:
        raise DataError(f"bin_ms: {bin_ms!r} is no number of milliseconds") from error
    if width <= 0:
        raise DataError(f"bin_ms: {bin_ms!r} is not positive")
    return width


def bin_edges(first: int, last: int, width: Fraction) -> np.ndarray:
    """Return the edges ``k * width`` for ``k = first .. last``, each the nearest float64.

    Parameters
    ----------
    first, last : int
        Numbers of the first and the last edge.
    width : Fraction
        Bin width, s.

    Returns
    -------
    numpy.ndarray
        Seconds, ``(last - first + 1,)``.

    Raises
    ------
    DataError
        If an edge has no exact numerator in float64.

    Examples
    --------
    >>> bin_edges(0, 3, bin_width(20))
    array([0.  , 0.02, 0.04, 0.06])
    """
    top, bottom = width.numerator, width.denominator
    if max(abs(first), abs(last)) * top > MAX_EXACT or bottom > MAX_EXACT:
        raise DataError(f"bins of {width} s cannot be exact up to edge {last}; use a rounder width")
    return np.arange(first, last + 1, dtype=np.int64) * top / bottom


def count_spikes(times: np.ndarray, owner: np.ndarray, n_units: int, edges: np.ndarray
                 ) -> np.ndarray:  # fmt: skip
    """Return how many spikes of each unit lie in each bin ``[edge k, edge k + 1)``.

    Parameters
    ----------
    times : numpy.ndarray
        Seconds on the clock of the edges, any order, ``(n_spikes,)``.
    owner : numpy.ndarray
        Position of the unit of each spike, ``(n_spikes,)``.
    n_units : int
        Number of units.
    edges : numpy.ndarray
        Increasing, ``(n_bins + 1,)``.

    Returns
    -------
    numpy.ndarray
        ``(n_bins, n_units)``, uint16, or int32 where a bin holds more.

    Examples
    --------
    >>> count_spikes(np.array([0.0, 0.1, 0.2]), np.array([0, 0, 1]), 2, np.array([0, 0.2, 0.4]))
    array([[2, 0],
           [0, 1]], dtype=uint16)
    """
    n_bins = len(edges) - 1
    place = np.searchsorted(edges, times, side="right") - 1
    inside = (place >= 0) & (place < n_bins)
    flat = place[inside] * n_units + np.asarray(owner)[inside]
    counts = np.bincount(flat, minlength=n_bins * n_units).reshape(n_bins, n_units)
    return counts.astype(np.uint16 if counts.max(initial=0) <= UINT16_MAX else np.int32)


def observed_bins(edges: np.ndarray, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """Return which bins lie in observed time as a whole, per unit.

    Parameters
    ----------
    edges : numpy.ndarray
        ``(n_bins + 1,)``, seconds.
    starts, stops : numpy.ndarray
        Observed intervals of each unit, disjoint, NaN behind the last; ``(n_intervals, n_units)``.

    Returns
    -------
    numpy.ndarray
        Bool, ``(n_bins, n_units)``.
    """
    valid = np.zeros((len(edges) - 1, starts.shape[1]), dtype=bool)
    for unit in range(starts.shape[1]):
        for start, stop in zip(starts[:, unit], stops[:, unit], strict=True):
            if start <= stop:
                first = np.searchsorted(edges, start, side="left")
                last = np.searchsorted(edges, stop, side="right") - 1
                valid[first : max(first, last), unit] = True
    return valid


def bin_spikes(
    raw: xr.Dataset, bin_ms: float | str | Fraction, *, start: float | None = None,
    stop: float | None = None,
) -> xr.Dataset:  # fmt: skip
    """Return the counts of a spike recording on the bins ``k * bin_ms`` of its clock.

    Parameters
    ----------
    raw : xarray.Dataset
        ``/raw`` of an ingested spike recording.
    bin_ms : float, str or Fraction
        Bin width, see `bin_width`.
    start, stop : float, optional
        The bins cover this time, seconds; default: the observed time.

    Returns
    -------
    xarray.Dataset
        ``counts(time, unit)`` and ``valid(time, unit)``; ``time`` are bin centres, attribute
        ``bin_width_s``. Bins that were not observed as a whole hold 0 and are not valid; the
        mask is left out, with attribute ``all_valid``, when all are.

    Raises
    ------
    DataError
        If there is not one bin.
    """
    width = bin_width(bin_ms)
    observed = raw["observed"].values
    begin = Fraction(float(observed.min()) if start is None else start)
    end = Fraction(float(observed.max()) if stop is None else stop)
    first, last = -(-begin // width) if start is None else begin // width, end // width
    if stop is not None and last * width < end:
        last += 1
    if last <= first:
        raise DataError(f"no bin of {bin_ms} ms lies between {float(begin)} and {float(end)} s")
    return bin_on(raw, bin_edges(int(first), int(last), width), width)


def bin_on(raw: xr.Dataset, edges: np.ndarray, width: Fraction) -> xr.Dataset:
    """Return the counts of a spike recording on given bins.

    Parameters
    ----------
    raw : xarray.Dataset
        ``/raw`` of an ingested spike recording.
    edges : numpy.ndarray
        Of `bin_edges`, ``(n_bins + 1,)``, seconds.
    width : Fraction
        Width of a bin, s.

    Returns
    -------
    xarray.Dataset
        As `bin_spikes`.
    """
    import xarray as xr

    n_units = raw.sizes["unit"]
    counts = count_spikes(raw["spike_time"].values, raw["spike_unit"].values, n_units, edges)
    valid = observed_bins(edges, raw["obs_start"].values, raw["obs_stop"].values)
    coords = {name: c.variable for name, c in raw.coords.items() if c.dims == ("unit",)}
    for name in ("unit_start", "n_spikes"):
        coords.pop(name, None)
    binned = xr.Dataset(
        {"counts": (("time", "unit"), np.where(valid, counts, 0).astype(counts.dtype))},
        {"time": ("time", (edges[:-1] + edges[1:]) / 2, {"units": "s"}), **coords},
        {"bin_width_s": float(width)},
    )
    if valid.all():
        return binned.assign_attrs(all_valid=True)
    return binned.assign(valid=(("time", "unit"), valid))
