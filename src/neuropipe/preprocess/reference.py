"""New references: common average of EEG; bipolar, white matter and shank mean of contacts."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.errors import DataError
from neuropipe.preprocess.blocks import time_blocks
from neuropipe.preprocess.steps import add_issue, recorded_step, with_activity
from neuropipe.store.variables import is_text

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["average_reference", "contact_pairs", "contact_reference"]

# Contacts of a grid follow each other row by row; the step to the next row is longer than this.
FAR_STEPS = 1.5
MISSING: dict[str, Any] = {"O": "", "f": np.nan, "i": -1, "u": 0, "b": False}


def _texts(ds: xr.Dataset, name: str) -> np.ndarray:
    if name not in ds.variables:
        return np.full(ds.sizes["channel"], "", dtype=object)
    return np.array([str(value) for value in ds[name].values], dtype=object)


def _positions(ds: xr.Dataset) -> np.ndarray:
    """Return ``(n_channels, 3)``, metres, NaN where unknown."""
    unknown = np.full(ds.sizes["channel"], np.nan)
    columns = [ds[axis].values if axis in ds.variables else unknown for axis in "xyz"]
    return np.stack(columns, axis=1).astype(np.float64)


def _name(ds: xr.Dataset) -> str:
    return str(ds.attrs.get("recording", "recording"))


def _mean_of(values: np.ndarray, valid: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Return the mean over the valid members of each sample, NaN where there is none."""
    usable = valid[:, members]
    total = np.where(usable, values[:, members], 0.0).sum(axis=1, dtype=np.float64)
    count = usable.sum(axis=1)
    return np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)


def _minus_means(ds: xr.Dataset, groups: Sequence[tuple[np.ndarray, np.ndarray]]) -> xr.Dataset:
    """Subtract from the channels of each group (first) the mean of others (second)."""
    old, usable = ds["activity"].values, ds["valid"].values
    values, valid = np.empty_like(old), np.zeros(old.shape, dtype=bool)
    values.fill(np.nan)
    for block in time_blocks(*old.shape):
        for targets, members in groups:
            mean = _mean_of(old[block], usable[block], members)[:, None]
            values[block, targets] = old[block][:, targets] - mean
            valid[block, targets] = usable[block][:, targets] & np.isfinite(mean)
    return with_activity(ds, values, valid)


@recorded_step("reference")
def average_reference(ds: xr.Dataset, *, kind: str = "average") -> xr.Dataset:
    """Refer EEG to the mean of its good channels.

    Parameters
    ----------
    ds : xarray.Dataset
        With ``activity (time, channel)``, ``valid``, ``channel_ok``.
    kind : {"average"}
        The only one.

    Returns
    -------
    xarray.Dataset
        The mean over good channels that are valid at a sample is taken off all channels, bad ones
        too; ``reference_weight (channel)`` holds the projection, ``reference`` says so.

    Raises
    ------
    DataError
        If there are fewer than two good channels.
    """
    if kind != "average":
        raise ValueError(f"reference: kind {kind!r}, expected 'average'")
    good = np.flatnonzero(ds["channel_ok"].values)
    if good.size < 2:
        raise DataError(
            f"{_name(ds)}: reference `average` needs two good channels or more, found {good.size}; "
            "write `reference: null`"
        )
    everything = np.arange(ds.sizes["channel"])
    weight = np.where(ds["channel_ok"].values, 1.0 / good.size, 0.0)
    return _minus_means(ds, [(everything, good)]).assign_coords(
        reference=("channel", np.full(everything.size, "average", dtype=object)),
        reference_weight=("channel", weight),
    )


def contact_pairs(ds: xr.Dataset) -> list[tuple[int, int]]:
    """Return the pairs of neighbouring good contacts, in the order of shanks and contacts.

    Neighbours have successive numbers on one shank: a missing or bad contact breaks the chain.
    On grids (``ecog``) with known positions the step to the next row breaks it too.

    Parameters
    ----------
    ds : xarray.Dataset
        With ``electrode_group``, ``contact``, ``channel_ok (channel)``; contact -1 is unknown.
    """
    groups, contacts = _texts(ds, "electrode_group"), ds["contact"].values
    ok = ds["channel_ok"].values & (contacts >= 0) & (groups != "")
    kinds, place = _texts(ds, "ch_type"), _positions(ds)
    pairs: list[tuple[int, int]] = []
    for group in sorted(set(groups[ok])):
        here = np.flatnonzero(ok & (groups == group))
        here = here[np.argsort(contacts[here], kind="stable")]
        found = [(int(a), int(b)) for a, b in itertools.pairwise(here)
                 if contacts[b] - contacts[a] == 1 and kinds[a] == kinds[b]]  # fmt: skip
        distance = np.array([np.linalg.norm(place[a] - place[b]) for a, b in found])
        known = distance[np.isfinite(distance)]
        far = FAR_STEPS * np.median(known) if known.size else np.inf
        pairs += [
            pair for pair, length in zip(found, distance, strict=True)
            if not (kinds[pair[0]] == "ecog" and length > far)
        ]  # fmt: skip
    return pairs


def _agree(values: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return what both contacts of each pair have in common, else the missing value."""
    if is_text(values.dtype):
        values = np.array([str(value) for value in values], dtype=object)
    a, b = values[first], values[second]
    if values.dtype.kind == "f":
        return np.where(a == b, a, np.nan)
    return np.where(a == b, a, np.array(MISSING[values.dtype.kind], dtype=values.dtype))


def _pair_rows(ds: xr.Dataset, first: np.ndarray, second: np.ndarray) -> xr.Dataset:
    """Return the per-row metadata of pairs, without ``activity`` and ``valid``."""
    names = _texts(ds, "channel")
    single = ds.drop_vars(["activity", "valid"])
    rows = single.isel(channel=first)
    columns: dict[str, Any] = {}
    for name, variable in single.variables.items():
        if variable.dims == ("channel",) and name != "channel":
            columns[str(name)] = ("channel", _agree(variable.values, first, second))
    for axis in "xyz":
        if axis in ds.variables:
            columns[axis] = ("channel", (ds[axis].values[first] + ds[axis].values[second]) / 2)
    for name, choose in (("low_cutoff", np.fmax), ("high_cutoff", np.fmin)):
        if name in ds.variables:
            columns[name] = ("channel", choose(ds[name].values[first], ds[name].values[second]))
    if "is_white_matter" in ds.variables:
        white = ds["is_white_matter"].values
        a, b = white[first], white[second]
        # A pair with one contact in grey matter sees grey matter.
        columns["is_white_matter"] = ("channel", np.where((a == 0) | (b == 0), 0, np.minimum(a, b)))
    if "anat_label" in ds.variables:
        label = _texts(ds, "anat_label")
        both = [a if a == b else "/".join(filter(None, (a, b)))
                for a, b in zip(label[first], label[second], strict=True)]  # fmt: skip
        columns["anat_label"] = ("channel", np.array(both, dtype=object))
    columns |= {
        "contact": ("channel", ds["contact"].values[first]),
        "channel_source": ("channel", names[first]),
        "reference": ("channel", names[second]),
        "bad": ("channel", np.zeros(len(first), dtype=bool)),
        "channel_ok": ("channel", np.ones(len(first), dtype=bool)),
    }
    paired = [f"{a}-{b}" for a, b in zip(names[first], names[second], strict=True)]
    data = {name: columns.pop(name) for name in list(columns) if name in single.data_vars}
    return rows.assign(data).assign_coords(
        {**columns, "channel": ("channel", np.array(paired, dtype=object))}
    )


def _bipolar(ds: xr.Dataset) -> xr.Dataset:
    pairs = contact_pairs(ds)
    if not pairs:
        raise DataError(
            f"{_name(ds)}: reference `bipolar` found no two good neighbours on a shank; give "
            "`group` and contact numbers in electrodes.tsv, or use `car` or `none`"
        )
    first, second = (np.array(side, dtype=np.int64) for side in zip(*pairs, strict=True))
    old, usable = ds["activity"].values, ds["valid"].values
    values = np.empty((len(old), len(pairs)), dtype=old.dtype)
    valid = np.empty(values.shape, dtype=bool)
    for block in time_blocks(*old.shape):
        values[block] = old[block][:, first] - old[block][:, second]
        valid[block] = usable[block][:, first] & usable[block][:, second]
    rows = _pair_rows(ds, first, second).assign(
        activity=(("time", "channel"), values, ds["activity"].attrs),
        valid=(("time", "channel"), valid),
    )
    unused = np.setdiff1d(np.flatnonzero(ds["channel_ok"].values), [*first, *second])
    if unused.size:
        rows = add_issue(
            rows,
            "CONTACT_WITHOUT_PAIR",
            f"{unused.size} good contacts have no good neighbour and are in no pair: "
            + ", ".join(str(name) for name in ds["channel"].values[unused][:10]),
            "a missing or bad contact breaks the chain of a shank",
            severity="info",
        )
    return rows


def _shank_mean(ds: xr.Dataset) -> xr.Dataset:
    groups, good = _texts(ds, "electrode_group"), ds["channel_ok"].values
    chosen, alone = [], np.zeros(len(groups), dtype=bool)
    for group in sorted(set(groups)):
        here = np.flatnonzero(groups == group)
        members = here[good[here]]
        if members.size < 2:
            alone[here] = True
        else:
            chosen.append((here, members))
    if not chosen:
        raise DataError(
            f"{_name(ds)}: reference `car` found no shank with two good contacts; give `group` in "
            "electrodes.tsv, or use `none`"
        )
    result = _minus_means(ds, chosen)
    ok = good & ~alone
    if (good & alone).any():
        result = add_issue(
            result,
            "SHANK_TOO_SMALL",
            "the only good contact of its shank has no mean to refer to, not ok",
            "use another `reference`",
            rows=ds["channel"].values[good & alone],
        )
    words = np.array([f"mean of {group or 'all'}" for group in groups], dtype=object)
    return result.assign(channel_ok=("channel", ok)).assign_coords(reference=("channel", words))


def _white_matter(ds: xr.Dataset, nearest: bool) -> xr.Dataset:
    good = ds["channel_ok"].values
    marked = ds["is_white_matter"].values if "is_white_matter" in ds.variables else np.zeros(0)
    sources = np.flatnonzero(good & (marked == 1)) if marked.size else np.zeros(0, dtype=int)
    if sources.size == 0:
        raise DataError(
            f"{_name(ds)}: reference `white_matter` needs a good contact in white matter; none is "
            "marked in electrodes.tsv; use `bipolar` or `car`"
        )
    rest = np.flatnonzero(marked != 1)
    names = _texts(ds, "channel")
    if not nearest:
        groups = [(np.arange(rest.size), sources)]
        words = np.full(rest.size, "mean of white matter", dtype=object)
    else:
        closest = _closest(ds, rest, sources)
        groups = [(np.flatnonzero(closest == s), np.array([s])) for s in np.unique(closest)]
        words = names[closest]
    old, usable = ds["activity"].values, ds["valid"].values
    values = np.full((len(old), rest.size), np.nan, dtype=old.dtype)
    valid = np.zeros(values.shape, dtype=bool)
    for block in time_blocks(*old.shape):
        for targets, members in groups:
            mean = _mean_of(old[block], usable[block], members)[:, None]
            values[block, targets] = old[block][:, rest[targets]] - mean
            valid[block, targets] = usable[block][:, rest[targets]] & np.isfinite(mean)
    rows = ds.drop_vars(["activity", "valid"]).isel(channel=rest)
    return rows.assign(
        activity=(("time", "channel"), values, ds["activity"].attrs),
        valid=(("time", "channel"), valid),
    ).assign_coords(reference=("channel", words))


def _closest(ds: xr.Dataset, rest: np.ndarray, sources: np.ndarray) -> np.ndarray:
    """Return for each channel of `rest` the nearest of `sources`; ties go to the first."""
    place = _positions(ds)
    unknown = np.concatenate([rest, sources])
    unknown = unknown[~np.isfinite(place[unknown]).all(axis=1)]
    if unknown.size:
        named = ", ".join(_texts(ds, "channel")[np.sort(unknown)][:10])
        raise DataError(
            f"{_name(ds)}: reference `white_matter` needs positions, unknown of {named}; add them "
            "to electrodes.tsv, or use `white_matter_mean`"
        )
    distance = np.linalg.norm(place[rest][:, None] - place[sources][None], axis=2)
    return np.asarray(sources[np.argmin(distance, axis=1)])


KINDS: dict[str, Callable[[Any], Any]] = {
    "bipolar": _bipolar,
    "car": _shank_mean,
    "white_matter": lambda ds: _white_matter(ds, nearest=True),
    "white_matter_mean": lambda ds: _white_matter(ds, nearest=False),
}


@recorded_step("reference")
def contact_reference(ds: xr.Dataset, *, kind: str = "bipolar") -> xr.Dataset:
    """Refer intracranial contacts to each other.

    Parameters
    ----------
    ds : xarray.Dataset
        With ``activity (time, channel)``, ``valid``, ``channel_ok``, ``electrode_group``,
        ``contact``; positions for ``white_matter``.
    kind : {"bipolar", "car", "white_matter", "white_matter_mean"}
        ``bipolar``: differences of neighbouring good contacts of a shank, rows ``A1-A2`` at the
        midpoint, with the metadata that both contacts share. ``car``: minus the mean of the good
        contacts of the shank. ``white_matter``: minus the nearest good contact in white matter,
        or minus their mean; these contacts leave ``activity``.

    Returns
    -------
    xarray.Dataset
        A sample is valid where all it is made of is; means are over what is valid at a sample.
        ``reference (channel)`` says what was taken off.

    Raises
    ------
    DataError
        If the contacts do not say what the reference needs.
    """
    return KINDS[kind](ds)
