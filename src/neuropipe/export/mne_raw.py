"""Channels as a recording of MNE-Python, the common ground of BIDS and NeuralSet."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.errors import DataError
from neuropipe.export.recording import main_group, name_of, series_names, table_of

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["to_mne"]

# Words of the store that MNE has no type for.
TYPES = {"bad": "misc", "": "misc", "eyegaze": "misc", "pupil": "misc", "other": "misc"}
SEXES = {"M": 1, "F": 2}


def to_mne(tree: xr.DataTree) -> Any:
    """Return an eeg, meg or ieeg recording as ``mne.io.RawArray``, volts and tesla.

    Events become annotations from the first sample, bad channels ``info["bads"]``.

    Raises
    ------
    DataError
        If it is sampled irregularly or has gaps: MNE has no form for either.
    """
    import mne

    ds, (name, *_) = main_group(tree), series_names(tree)
    rate = float(tree.attrs.get("rate", np.nan))
    if not rate > 0:
        text = f"sampling is {tree.attrs.get('sampling')!r}, MNE needs one rate without gaps"
        raise DataError(f"{name_of(tree)}: {text}; export to csv or temporaldata instead")
    names = [str(channel) for channel in ds["channel"].values]
    info = mne.create_info(names, rate, _types(ds), verbose="error")
    raw = mne.io.RawArray(_samples(ds, name), info, verbose="error")
    if "bad" in ds:
        raw.info["bads"] = [n for n, bad in zip(names, ds["bad"].values, strict=True) if bad]
    line = float(ds.attrs.get("line_freq", np.nan))
    if line > 0:
        raw.info["line_freq"] = line
    _describe(raw, tree)
    _annotate(raw, tree, float(ds["time"].variable[0].values))
    return raw


def _types(ds: xr.Dataset) -> list[str]:
    from mne.io import get_channel_type_constants

    words = set(get_channel_type_constants())
    given = [str(kind) for kind in ds["ch_type"].values] if "ch_type" in ds else []
    given = given or ["eeg"] * ds.sizes["channel"]
    return [kind if kind in words else TYPES.get(kind, "misc") for kind in given]


def _samples(ds: xr.Dataset, name: str) -> np.ndarray:
    """Return samples ``(channel, time)`` in their units."""
    from neuropipe.store.scaling import physical

    values = physical(ds, series=name).T
    if not np.isfinite(values).all():
        text = "samples are missing, and MNE has no mark for them"
        raise DataError(f"{name}: {text}; export to csv or temporaldata instead")
    return values


def _describe(raw: Any, tree: xr.DataTree) -> None:
    started = str(tree.attrs.get("session_start", ""))
    if started:
        moment = datetime.fromisoformat(started).astimezone(UTC)
        raw.set_meas_date(moment.replace(microsecond=moment.microsecond))
    about: dict[str, Any] = {"his_id": str(tree.attrs.get("subject_id", ""))}
    if tree.attrs.get("sex") in SEXES:
        about["sex"] = SEXES[tree.attrs["sex"]]
    raw.info["subject_info"] = about


def _annotate(raw: Any, tree: xr.DataTree, first: float) -> None:
    import mne

    events = table_of(tree, "events")
    if events is None or not events.sizes["event"]:
        return
    onset = np.asarray(events["onset"].values, np.float64) - first
    duration = np.nan_to_num(np.asarray(events["duration"].values, np.float64))
    labels = [str(label) or "event" for label in events["label"].values]
    inside = (onset >= 0) & (onset <= raw.times[-1])
    words = [label for label, here in zip(labels, inside, strict=True) if here]
    marks = mne.Annotations(onset[inside], duration[inside], words, orig_time=raw.info["meas_date"])
    raw.set_annotations(marks, verbose="error")
