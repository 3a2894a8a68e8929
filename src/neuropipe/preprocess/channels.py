"""Channels of EEG, MEG and intracranial recordings: choice, bad channels, interpolation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.errors import DataError
from neuropipe.preprocess.blocks import BLOCK_BYTES, ITEM_BYTES, activity_blocks, time_blocks
from neuropipe.preprocess.steps import add_issue, recorded_step, with_activity
from neuropipe.store.scaling import physical

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["DATA_TYPES", "bad_channels", "choose_channels", "interpolate_bad", "robust_z"]

DATA_TYPES = {"eeg": ("eeg",), "meg": ("mag", "grad"), "ieeg": ("seeg", "ecog", "dbs")}
AUXILIARY = ("eog", "ecg")
FLAT_SHARE = 1e-15
MAD_TO_SD = 1.4826
# A robust z of fewer channels of one type says nothing.
LEAST_CHANNELS = 4


def _values(raw: xr.Dataset, rows: np.ndarray, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return SI values with NaN where missing, and the mask, of chosen channels; block by block."""
    n_times = raw.sizes["time"]
    values = np.empty((n_times, len(rows)), dtype=dtype)
    valid = np.empty(values.shape, dtype=bool)
    for block in _stored_blocks(raw):
        found = physical(raw, rows, block)
        usable = np.isfinite(found)
        if "valid" in raw:
            usable &= raw["valid"].variable[block].values[:, rows]
        found[~usable] = np.nan
        values[block], valid[block] = found, usable
    return values, valid


def _stored_blocks(raw: xr.Dataset) -> Iterator[slice]:
    """Yield blocks of samples: the chunks of the store, so that each is decoded once."""
    n_times, n_rows = raw["signal"].shape
    chunks = raw["signal"].encoding.get("chunks")
    size = ITEM_BYTES * chunks[0] * n_rows if chunks else BLOCK_BYTES
    return time_blocks(n_times, n_rows, size)


def _working_dtype(source: np.dtype) -> type:
    """Return the precision of the work: float64 unless float32 holds every stored value."""
    narrow = source == np.float32 or (source.kind in "iu" and source.itemsize <= 2)
    return np.float32 if narrow else np.float64


@recorded_step("source")
def choose_channels(
    raw: xr.Dataset, *, types: Sequence[str], auxiliary: bool = False
) -> xr.Dataset:
    """Take the data channels from ``/raw``, in SI units, and call them ``activity``.

    Parameters
    ----------
    raw : xarray.Dataset
        With ``signal (time, channel)``, lazily loaded: it is read block by block.
    types : sequence of str
        ``ch_type`` of data channels. All others (stim, misc, eog, ecg, reference sensors) are
        never filtered and do not enter ``activity``; they stay in the ingested store.
    auxiliary : bool
        Also keep EOG and ECG as ``auxiliary (time, auxiliary_channel)``, for ICA.

    Returns
    -------
    xarray.Dataset
        ``activity (time, channel)``, ``valid``, ``channel_ok``, every coordinate. Float32 where
        that holds every stored value, else float64.

    Raises
    ------
    DataError
        If there is no data channel.
    """
    kinds = np.array([str(kind) for kind in raw["ch_type"].values], dtype=object)
    rows = np.flatnonzero(np.isin(kinds, list(types)))
    name = raw.attrs.get("recording", "recording")
    if len(rows) == 0:
        found = ", ".join(sorted(set(kinds))) or "none"
        raise DataError(
            f"{name}: no channel of type {' or '.join(types)}, found {found}; correct the channel "
            "types in the source or its channels.tsv"
        )
    dtype = _working_dtype(raw["signal"].dtype)
    values, valid = _values(raw, rows, dtype)
    rest = raw.drop_vars(["signal", "valid", "scale_factor", "add_offset"], errors="ignore")
    ds = rest.isel(channel=rows)
    if "channel_ok" not in ds:
        ds = ds.assign(channel_ok=("channel", np.ones(len(rows), dtype=bool)))
    attrs = {**raw["signal"].attrs, "units": _shared_unit(ds)}
    ds = ds.assign(
        activity=(("time", "channel"), values, attrs), valid=(("time", "channel"), valid)
    )
    if auxiliary and (extra := np.flatnonzero(np.isin(kinds, AUXILIARY))).size:
        ds = ds.assign(
            auxiliary=(("time", "auxiliary_channel"), _values(raw, extra, np.float64)[0])
        ).assign_coords(
            auxiliary_channel=raw["channel"].values[extra],
            auxiliary_type=("auxiliary_channel", kinds[extra]),
        )
    ds = ds.assign_attrs(source_series="signal")
    return _say_left_out(ds, kinds, types)


def _shared_unit(ds: xr.Dataset) -> str:
    """Return the unit of all channels, "" when they differ (``units (channel)`` has each)."""
    units = {str(unit) for unit in ds["units"].values} if "units" in ds.variables else {""}
    return units.pop() if len(units) == 1 else ""


def _say_left_out(ds: xr.Dataset, kinds: np.ndarray, types: Sequence[str]) -> xr.Dataset:
    others = [kind for kind in kinds if kind not in types]
    if not others:
        return ds
    listed = ", ".join(f"{others.count(kind)} {kind}" for kind in sorted(set(others)))
    return add_issue(
        ds,
        "CHANNELS_LEFT_OUT",
        f"channels that are no {' or '.join(types)} are not in `activity`: {listed}",
        "they are in the ingested store",
        severity="info",
    )


def robust_z(values: np.ndarray) -> np.ndarray:
    """Return ``(x - median) / (1.4826 MAD)``; 0 where the spread is 0, NaN stays NaN."""
    known = values[np.isfinite(values)]
    result = np.full(values.shape, np.nan)
    if known.size == 0:
        return result
    offset = values - np.median(known)
    spread = MAD_TO_SD * np.median(np.abs(known - np.median(known)))
    np.divide(offset, spread, out=result, where=np.isfinite(values) & (spread > 0))
    return result if spread > 0 else np.where(np.isfinite(values), 0.0, np.nan)


def _variances(ds: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return the variance of each channel over valid samples, and what rounding alone makes."""
    n_rows = ds.sizes["channel"]
    variance, rounding = np.full(n_rows, np.nan), np.zeros(n_rows)
    eps = np.finfo(ds["activity"].dtype).eps
    for rows, values, valid in activity_blocks(ds):
        known = valid.any(axis=0)
        # Row by row in memory: sums must not depend on how many rows a block has.
        found = np.ascontiguousarray(np.where(valid, values, np.nan).T[known])
        place = np.arange(rows.start, rows.stop)[known]
        variance[place] = np.nanvar(found, axis=1)
        rounding[place] = (4 * eps * np.nanmax(np.abs(found), axis=1)) ** 2
    return variance, rounding


def _judge(
    variance: np.ndarray, rounding: np.ndarray, kinds: np.ndarray, z: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the robust z of log variance within each type, and which channels are flat, noisy."""
    score = np.full(len(variance), np.nan)
    flat = np.zeros(len(variance), dtype=bool)
    for kind in sorted(set(kinds)):
        here = np.flatnonzero((kinds == kind) & np.isfinite(variance))
        if here.size == 0:
            continue
        floor = np.maximum(FLAT_SHARE * np.median(variance[here]), rounding[here])
        flat[here] = variance[here] <= floor
        varied = here[~flat[here]]
        if varied.size >= LEAST_CHANNELS:
            score[varied] = robust_z(np.log10(variance[varied]))
    return score, flat, np.nan_to_num(score) > z


@recorded_step("bad_channels")
def bad_channels(ds: xr.Dataset, *, z: float | None = 5.0) -> xr.Dataset:
    """Mark channels that should not be used as not ok; they are kept.

    Parameters
    ----------
    ds : xarray.Dataset
        With ``activity (time, channel)``, ``valid``, ``ch_type`` and, from the source, ``bad``.
    z : float or None
        A channel is noisy when the robust z of the logarithm of its variance among channels of
        its type exceeds this, and flat when its variance is below 1e-15 of their median; None:
        only the source's word counts.

    Returns
    -------
    xarray.Dataset
        ``channel_ok`` False for the candidates. What was found stays beside it over all channels
        of the source, whatever becomes of the rows: ``log_variance``, ``variance_z`` and
        ``bad_reason (source_channel)``, the last one of "", "source", "noisy", "flat", or
        several joined by ``+``. One issue per rule names the channels.
    """
    names = np.array([str(name) for name in ds["channel"].values], dtype=object)
    kinds = np.array([str(kind) for kind in ds["ch_type"].values], dtype=object)
    variance, rounding = _variances(ds)
    score = np.full(len(names), np.nan)
    stated = ds["bad"].values.astype(bool) if "bad" in ds.variables else np.zeros(len(names), bool)
    rules = {"source": stated}
    if z is not None:
        score, flat, noisy = _judge(variance, rounding, kinds, z)
        rules |= {"noisy": noisy, "flat": flat}
    reason = np.array(
        ["+".join(rule for rule, hit in rules.items() if hit[i]) for i in range(len(names))],
        dtype=object,
    )
    log_variance = np.full(len(names), np.nan)
    np.log10(variance, out=log_variance, where=np.nan_to_num(variance) > 0)
    ok = ds["channel_ok"].values & (reason == "")
    ds = ds.assign(
        channel_ok=("channel", ok, ds["channel_ok"].attrs),
        log_variance=("source_channel", log_variance),
        variance_z=("source_channel", score),
        bad_reason=("source_channel", reason),
    ).assign_coords(source_channel=names)
    said = {
        "source": "bad by the word of the source, not ok",
        "noisy": f"robust z of log variance above {z if z is not None else 0:g}, not ok",
        "flat": "flat, not ok",
    }
    for rule, hit in rules.items():
        if hit.any():
            ds = add_issue(
                ds, "BAD_CHANNEL", said[rule],
                "look at their traces; correct `bad` in the source or `bad_channels.z`",
                rows=names[hit],
            )  # fmt: skip
    if not ok.any():
        raise DataError(
            f"{ds.attrs.get('recording', 'recording')}: no channel is left that is not bad; "
            "exclude the recording, or correct its channels.tsv"
        )
    return ds


def _spline(ds: xr.Dataset, bad: np.ndarray) -> np.ndarray:
    """Return the weights of spherical splines, ``(n_bad, n_channels)``.

    Interpolation is linear, so that interpolating an identity matrix gives its weights.
    """
    import mne

    names = [str(name) for name in ds["channel"].values]
    place = np.stack([ds[axis].values for axis in "xyz"], axis=1)
    info = mne.create_info(names, 100.0, "eeg", verbose="error")
    raw = mne.io.RawArray(np.eye(len(names)), info, verbose="error")
    montage = mne.channels.make_dig_montage(
        dict(zip(names, place, strict=True)), coord_frame="head"
    )
    raw.set_montage(montage, verbose="error")
    raw.info["bads"] = [name for name, is_bad in zip(names, bad, strict=True) if is_bad]
    centre = _sphere_centre(place)
    raw.interpolate_bads(reset_bads=True, origin=tuple(centre), verbose="error")
    return np.asarray(raw.get_data(picks=np.flatnonzero(bad)))


def _sphere_centre(place: np.ndarray) -> np.ndarray:
    """Return the centre of the sphere that fits positions best, metres."""
    system = np.column_stack([2 * place, np.ones(len(place))])
    solution, *_ = np.linalg.lstsq(system, (place**2).sum(axis=1), rcond=None)
    return np.asarray(solution[:3])


@recorded_step("interpolate", ("mne",))
def interpolate_bad(ds: xr.Dataset) -> xr.Dataset:
    """Replace channels that are not ok by spherical splines over the others.

    Parameters
    ----------
    ds : xarray.Dataset
        EEG with ``activity``, ``valid``, ``channel_ok`` and positions ``x, y, z``.

    Returns
    -------
    xarray.Dataset
        These channels are ok again, and marked in ``interpolated (channel)``. A sample is valid
        where all channels that it is made of are.

    Raises
    ------
    DataError
        If a position is unknown.
    """
    bad = ~ds["channel_ok"].values
    if not bad.any():
        return ds.assign_coords(interpolated=("channel", bad))
    place = np.stack([ds[axis].values if axis in ds.variables else np.full(len(bad), np.nan)
                      for axis in "xyz"], axis=1)  # fmt: skip
    lost = ~np.isfinite(place).all(axis=1)
    if lost.any():
        named = ", ".join(str(name) for name in ds["channel"].values[lost][:10])
        raise DataError(
            f"{ds.attrs.get('recording', 'recording')}: bad_channels.interpolate needs the "
            f"position of every channel, unknown of {named}; add electrodes.tsv, or write "
            "`interpolate: false`"
        )
    weights = _spline(ds, bad)
    values, valid = ds["activity"].values.copy(), ds["valid"].values.copy()
    for block in time_blocks(*values.shape):
        good = np.where(valid[block][:, ~bad], values[block][:, ~bad], np.nan).astype(np.float64)
        values[block, bad] = good @ weights[:, ~bad].T
        valid[block, bad] = np.isfinite(good).all(axis=1, keepdims=True)
    ds = with_activity(ds, values, valid).assign(channel_ok=("channel", np.ones(len(bad), bool)))
    return ds.assign_coords(interpolated=("channel", bad))
