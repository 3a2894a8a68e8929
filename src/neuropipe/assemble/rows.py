"""Rows of one preprocessed recording under the names that a cohort shares."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.assemble.selection import select_rows, select_span
from neuropipe.errors import ConfigError, DataError
from neuropipe.preprocess.binning import bin_spikes
from neuropipe.preprocess.steps import row_dim

if TYPE_CHECKING:
    import xarray as xr

    from neuropipe.config.models import InputConfig

__all__ = [
    "UNNAMED",
    "Member",
    "modality_of",
    "read_member",
    "refuse_unnamed",
    "region_names",
    "row_tests",
    "spike_rates",
    "too_short",
]

ATLAS = "celegans-300"
NAMES = {"calcium": "label", "eeg": "channel", "meg": "channel", "fmri": "parcel"}
UNNAMED = {
    "spikes": "spike units have no names that mean the same in every subject",
    "ieeg": "intracranial contacts sit elsewhere in every subject, so their names are not shared",
}


@dataclass(frozen=True)
class Member:
    """One recording as it enters a cohort.

    Attributes
    ----------
    recording, subject, modality, row : str
        Names of the recording, its subject, its modality and its row dim.
    names : tuple of str
        Name per row; unique.
    labelled : numpy.ndarray
        Bool, shape ``(n_rows,)``: the row has a name that other subjects share.
    neuron_class, region : tuple of str
        Per row, empty where unknown.
    time : numpy.ndarray
        Shape ``(n_times,)``, seconds.
    values : numpy.ndarray
        Shape ``(n_times, n_rows)``, NaN where not valid.
    units : str
        Of the values.
    events : tuple of (str, float, float)
        Label, onset and duration in seconds; in order of onset.
    has_labels : bool
        Some row has a shared name, whether it enters or not.
    dropped : tuple of dict
        Rows left out: recording, subject, kind, reason, count, names.
    short : str
        Why the recording is too short, empty if it is not.
    """

    recording: str
    subject: str
    modality: str
    row: str
    names: tuple[str, ...]
    labelled: np.ndarray
    neuron_class: tuple[str, ...]
    region: tuple[str, ...]
    time: np.ndarray
    values: np.ndarray
    units: str
    events: tuple[tuple[str, float, float], ...]
    has_labels: bool
    dropped: tuple[dict[str, Any], ...]
    short: str


def modality_of(tree: xr.DataTree) -> str:
    """Return the modality that the root attribute ``schema`` names."""
    return str(tree.attrs.get("schema", "")).removeprefix("neuropipe.")


def refuse_unnamed(modality: str, row: str, analysis: str = "a cohort") -> None:
    """Raise `ConfigError` for rows without shared names: spike units, sEEG contacts, voxels."""
    reason = UNNAMED.get(modality, "")
    if not reason and NAMES.get(modality) != row and modality != "calcium":
        reason = f"rows of dim {row!r} have no names that mean the same in every subject"
    if reason:
        raise ConfigError(
            f"input.scope: {analysis} of {modality or 'unknown'} recordings is not possible: "
            f"{reason}; use `scope: recording` with `align: single`"
        )


def _texts(ds: xr.Dataset, name: str, size: int) -> list[str]:
    if name not in ds.variables:
        return [""] * size
    return ["" if value is None else str(value) for value in ds[name].values.tolist()]


def region_names(ds: xr.Dataset, size: int) -> list[str]:
    """Return the region of each row; of intracranial contacts it is the anatomical label."""
    return _texts(ds, "region" if "region" in ds.variables else "anat_label", size)


@functools.cache
def _types() -> dict[str, str]:
    from neuropipe.store.atlas import load_atlas

    atlas = load_atlas(ATLAS, include_can=True)
    return dict(zip(atlas.names, atlas.types, strict=True))


def _neuron_classes(ds: xr.Dataset, labels: Sequence[str], species: str) -> list[str]:
    """Return sensory, inter or motor for names of the atlas, else what the store says.

    The store may hold the anatomical class (``AVA``) under this name.
    """
    stored = _texts(ds, "neuron_class", len(labels))
    if species and "elegans" not in species:
        return stored
    types = _types()
    return [types.get(label, old) for label, old in zip(labels, stored, strict=True)]


def _masked(ds: xr.Dataset, row: str) -> np.ndarray:
    values = ds["activity"].transpose("time", row).values
    if "valid" in ds:
        values = np.where(ds["valid"].transpose("time", row).values, values, np.nan)
    return np.asarray(values)


def _events(tree: xr.DataTree) -> tuple[tuple[str, float, float], ...]:
    if "events" not in tree.children:
        return ()
    table = tree.children["events"].to_dataset(inherit=False)
    if "onset" not in table:
        return ()
    size = table.sizes["event"]
    onset = np.asarray(table["onset"].values, dtype=np.float64)
    duration = np.full(size, np.nan)
    if "duration" in table:
        duration = np.asarray(table["duration"].values, dtype=np.float64)
    order = np.argsort(onset, kind="stable")
    label = _texts(table, "label", size)
    return tuple((label[i], float(onset[i]), float(duration[i])) for i in order)


def _row_names(ds: xr.Dataset, row: str, modality: str) -> tuple[list[str], np.ndarray]:
    ids = [str(value) for value in ds[row].values.tolist()]
    if modality == "calcium":
        labels = _texts(ds, "label", len(ids))
    else:
        labels = ids if NAMES.get(modality) == row else [""] * len(ids)
    return ids, np.array(labels, dtype=object)


def _check_unique(names: Sequence[str], recording: str) -> None:
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise DataError(
            f"{recording}: the name {twice[0]!r} stands for {Counter(names)[twice[0]]} rows, "
            "expected one; correct the labels and ingest again"
        )


def too_short(ds: xr.Dataset, used: int) -> str:
    """Return why a preprocessed recording of which `used` samples remain is too short, or ""."""
    attrs = ds["activity"].attrs
    least = int(attrs.get("min_samples", 1))
    raw = int(attrs.get("raw_samples", least))
    if raw < least:
        return f"too short: {raw} raw samples, preprocess.*.min_samples is {least}"
    return f"too short: {used} samples within input.span_s" if used < 2 else ""


def row_tests(ds: xr.Dataset, row: str, where: str | None) -> list[tuple[str, np.ndarray]]:
    """Return the rows that ``units.where`` and their quality keep out: reason, bool per row."""
    ok_name = f"{row}_ok"
    ok = np.ones(ds.sizes[row], dtype=bool)
    if ok_name in ds:
        ok = np.asarray(ds[ok_name].values, dtype=bool)
    chosen = select_rows(ds, row, where)
    return [(f"units.where: {where}", ~chosen), (f"{ok_name} is False", ~ok)]


def _choose(
    ds: xr.Dataset,
    row: str,
    names: np.ndarray,
    named: np.ndarray,
    where: str | None,
    silent: Sequence[tuple[str, np.ndarray]] = (),
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Return the rows that enter, and a table of the others with the reason."""
    left = [("unlabelled", ~named)]
    enters = named.copy()
    for reason, out in [*row_tests(ds, row, where), *silent]:
        left.append((reason, enters & out))
        enters &= ~out
    dropped = [
        {"kind": "rows", "reason": reason, "count": int(rows.sum()), "names": names[rows].tolist()}
        for reason, rows in left
        if rows.any()
    ]
    return np.flatnonzero(enters), dropped


def spike_rates(tree: xr.DataTree, bin_ms: float | str) -> xr.Dataset:
    """Return the spike rates of an ingested recording as ``activity (time, unit)``, Hz.

    Parameters
    ----------
    tree : xarray.DataTree
        Ingested spikes.
    bin_ms : float or str
        Width of a bin, milliseconds.

    Returns
    -------
    xarray.Dataset
        NaN and not valid where a unit was not observed; coordinates ``spike_count (unit)`` and
        ``mean_rate (unit)`` over the observed bins.
    """
    import xarray as xr

    binned = bin_spikes(tree["raw"].to_dataset(), bin_ms)
    counts, width = binned["counts"].values, binned.attrs["bin_width_s"]
    valid = binned["valid"].values if "valid" in binned else np.ones(counts.shape, dtype=bool)
    total = counts.sum(axis=0, dtype=np.int64)
    with np.errstate(invalid="ignore"):
        rate = total / (valid.sum(axis=0) * width)
    dims = ("time", "unit")
    activity = (dims, np.where(valid, counts / width, np.nan), {"units": "Hz"})
    ds = xr.Dataset({"activity": activity, "valid": (dims, valid)}, binned.coords)
    return ds.assign_coords(spike_count=("unit", total), mean_rate=("unit", rate))


def _silent(ds: xr.Dataset, settings: InputConfig) -> list[tuple[str, np.ndarray]]:
    """Return the units with too few spikes, with the reason.

    Raises
    ------
    ConfigError
        The settings count spikes of what has none.
    """
    wanted = {"min_rate_hz": "mean_rate", "min_spikes": "spike_count"}
    found = []
    for key, column in wanted.items():
        least = getattr(settings.units, key)
        if least is None:
            continue
        if column not in ds:
            raise ConfigError(f"input.units.{key}: counts spikes; use `where`")
        found.append((f"units.{key}: {least:g}", ~(ds[column].values >= least)))
    return found


def read_member(
    tree: xr.DataTree, settings: InputConfig, *, named: bool, bin_ms: float | str = 20
) -> Member:
    """Read one preprocessed store: its usable rows, named, and its samples within the span.

    Parameters
    ----------
    tree : xarray.DataTree
        Preprocessed store; of spikes the ingested one.
    settings : InputConfig
        ``units.where`` and ``span_s`` are used.
    named : bool
        Only rows with a shared name enter; else every row does, those without one under its id.
    bin_ms : float or str
        Width of a bin of spikes, milliseconds; their rates are the activity.

    Raises
    ------
    ConfigError
        If ``units`` asks for spike rates of another modality.
    DataError
        If two rows have one name, or the store holds no ``activity``.
    """
    modality, recording = modality_of(tree), str(tree.attrs.get("recording", ""))
    ds = spike_rates(tree, bin_ms) if modality == "spikes" else tree.to_dataset()
    if "activity" not in ds:
        raise DataError(f"{recording}: the store holds no `activity`; preprocess the recording")
    row, silent = row_dim(ds), _silent(ds, settings)
    ids, labels = _row_names(ds, row, modality)
    classes = np.array(
        _neuron_classes(ds, labels.tolist(), str(tree.attrs.get("species", ""))), dtype=object
    )
    ds = ds.assign_coords(neuron_class=(row, classes))
    shared = labels != ""
    names = np.where(shared, labels, np.array(ids, dtype=object))
    enters = shared if named else np.ones(len(ids), dtype=bool)
    keep, left = _choose(ds, row, names, enters, settings.units.where, silent)
    subject = str(tree.attrs.get("subject_id", ""))
    dropped = tuple({"recording": recording, "subject": subject, **entry} for entry in left)
    _check_unique(names[keep].tolist(), recording)
    cut = select_span(ds, settings.span_s).isel({row: keep})
    region = np.array(region_names(ds, len(ids)), dtype=object)
    return Member(
        recording=recording,
        subject=subject,
        modality=modality,
        row=row,
        names=tuple(names[keep].tolist()),
        labelled=shared[keep],
        neuron_class=tuple(classes[keep].tolist()),
        region=tuple(region[keep].tolist()),
        time=np.asarray(cut["time"].values, dtype=np.float64),
        values=_masked(cut, row),
        units=str(ds["activity"].attrs.get("units", "")),
        events=_events(tree),
        has_labels=bool(enters.any()),
        dropped=dropped,
        short=too_short(ds, cut.sizes["time"]),
    )
