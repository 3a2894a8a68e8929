"""The BIDS layer of channel recordings: sidecars know better than the header of a data file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.errors import Issue
from neuropipe.io.arrays import object_array
from neuropipe.io.bids.channels import apply_channels
from neuropipe.io.bids.contacts import CONTACT_TYPES, UNKNOWN_CONTACT, contact_of, white_matter
from neuropipe.io.bids.duration import duration_issues
from neuropipe.io.bids.electrodes import Electrodes, read_electrodes
from neuropipe.io.bids.events import read_events
from neuropipe.io.bids.people import people_of
from neuropipe.io.bids.tables import inherited_json, read_table
from neuropipe.io.bids.tree import bids_root, sidecar
from neuropipe.io.channels.grid import times_at
from neuropipe.io.channels.source import ChannelSource

if TYPE_CHECKING:
    from neuropipe.config.models import IngestOverride

__all__ = ["apply"]

REFERENCES = ("EEGReference", "iEEGReference")
HINT = "the sidecar is taken"
# What a format says that knows no types: the table has settled it.
INFERRED_TYPES = "CHANNEL_TYPES"


def apply(source: ChannelSource, modality: str, override: IngestOverride) -> ChannelSource:
    """Return a source with the sidecars of its BIDS tree applied.

    Outside a tree, or with ``sidecars: false``, only the names of intracranial contacts are read.

    Parameters
    ----------
    source : ChannelSource
        What the format module found.
    modality : str
        ``eeg``, ``meg`` or ``ieeg``.
    override : IngestOverride
        ``sidecars`` and ``space``.

    Raises
    ------
    IngestError
        ``LENGTH_MISMATCH``, ``NAME_MISMATCH``, ``UNITS``, ``NO_SUCH_SPACE``, ``ENCODING``,
        ``TRUNCATED``, ``UNSAFE``, ``NOT_THIS_FORMAT``, ``NOT_A_NUMBER`` or ``BAD_TIME``.
    """
    root = bids_root(source.path) if override.sidecars else None
    stated, electrodes = _nothing(source), None
    if root is not None:
        source, stated = _with_channels(source)
        source = _with_json(source, modality, stated["reference"], override.allow_truncated)
        source, electrodes = _with_electrodes(source, modality, override.space)
        source = _with_events(source)
        source = _with_people(source)
    if modality == "ieeg":
        source = _with_contacts(source, stated["group"], electrodes)
    return source if root is None else _portable(source, root)


def _add(source: ChannelSource, files: Sequence[Path], issues: Sequence[Issue]) -> ChannelSource:
    known = [*source.source_files, *(f for f in files if f not in source.source_files)]
    return replace(source, source_files=known, issues=[*source.issues, *issues])


def _nothing(source: ChannelSource) -> dict[str, list[str]]:
    return {name: [""] * len(source.channels) for name in ("group", "reference")}


def _with_channels(source: ChannelSource) -> tuple[ChannelSource, dict[str, list[str]]]:
    path = sidecar(source.path, "channels", ".tsv")
    if path is None:
        text = "no channels.tsv beside it: types, units and bad channels are those of the header"
        issue = Issue("MISSING_SIDECAR", str(source.path), text)
        return _add(source, [], [issue]), _nothing(source)
    source, stated = apply_channels(source, read_table(path, ("name", "type")))
    if source.types_stated:
        issues = [issue for issue in source.issues if issue.code != INFERRED_TYPES]
        source = replace(source, issues=issues)
    return _add(source, [path], []), stated


def _with_json(
    source: ChannelSource, modality: str, references: Sequence[str], allow_truncated: bool
) -> ChannelSource:
    """Apply the JSON of the modality; a reference of channels.tsv comes before its own."""
    stated, files = inherited_json(source.path, modality)
    attrs: dict[str, Any] = {}
    line = stated.get("PowerLineFrequency")
    if isinstance(line, int | float) and line > 0:
        attrs["line_freq"] = float(line)
    reference = next((str(stated[key]) for key in REFERENCES if key in stated), "")
    if reference and modality == "ieeg":
        attrs["reference_scheme"] = reference
    kinds, channels = ("eeg", *CONTACT_TYPES), source.channels
    of_each = zip(references, channels.reference, channels.ch_type, strict=True)
    filled = [row or (reference if kind in kinds else "") or old for row, old, kind in of_each]
    channels = replace(channels, reference=tuple(filled))
    issues = _changed(source.attrs, attrs, files[-1] if files else source.path)
    issues += duration_issues(source, files, allow_truncated)
    source = replace(source, channels=channels, attrs={**source.attrs, **attrs})
    return _add(source, files, issues)


def _changed(header: Mapping[str, Any], stated: Mapping[str, Any], path: Path) -> list[Issue]:
    """Return an issue per value that differs from what the header states."""
    found = []
    for key, value in stated.items():
        old = header.get(key, "")
        unknown = old == "" or (isinstance(old, float) and np.isnan(old))
        if not unknown and old != value:
            text = f"{key}: the header states {old!r}, the sidecar {value!r}"
            found.append(Issue("OVERRIDDEN", str(path), text, HINT, "info"))
    return found


def _with_electrodes(
    source: ChannelSource, modality: str, space: str | None
) -> tuple[ChannelSource, Electrodes | None]:
    channels = source.channels
    found = read_electrodes(source.path, channels.name, space) if modality != "meg" else None
    header = np.asarray(channels.position, dtype=np.float64)
    if found is None:
        if modality == "meg" or np.isfinite(header).any():
            return source, None
        text = "no electrodes.tsv beside it: positions of electrodes are unknown"
        return _add(source, [], [Issue("MISSING_SIDECAR", str(source.path), text)]), None
    known = np.isfinite(found.position).any(axis=1)
    # One frame for all: a header's positions do not stay among those of another system.
    position = found.position if known.any() else header
    attrs = dict(source.attrs)
    if known.any():
        attrs["coord_frame"] = found.space
        if modality == "ieeg":
            attrs["space"] = found.space
    columns = dict(channels.columns)
    if modality != "ieeg" and np.isfinite(found.impedance).any():
        columns["impedance"] = found.impedance
    channels = replace(channels, position=position, columns=columns)
    return _add(replace(source, channels=channels, attrs=attrs), found.files, found.issues), found


def _with_events(source: ChannelSource) -> ChannelSource:
    path = sidecar(source.path, "events", ".tsv")
    if path is None:
        if "_task-rest" in source.path.name.lower():
            return source
        text = "no events.tsv beside it: events are those of the header, if it has any"
        hint = "is it left out? a recording at rest has none"
        return _add(source, [], [Issue("MISSING_SIDECAR", str(source.path), text, hint, "info")])
    events, issues = read_events(path)
    n_header = 0 if source.events is None else source.events.sizes["event"]
    if n_header and n_header != events.sizes["event"]:
        text = f"{events.sizes['event']} events, {n_header} in the header"
        issues = [*issues, Issue("OVERRIDDEN", str(path), text, HINT, "info")]
    # The table counts from the first sample, whatever time a format gives to that.
    first = float(times_at(source.time, np.array([0]))[0])
    events = events.assign(onset=events["onset"] + first)
    return _add(replace(source, events=events), [path], issues)


def _with_people(source: ChannelSource) -> ChannelSource:
    people = people_of(source.path)
    table = people.files[0] if people.files else source.path
    issues = [*people.issues, *_changed(source.attrs, people.attrs, table)]
    if "session_start" in people.attrs:
        kept = [issue for issue in source.issues if issue.code != "NAIVE_SESSION_START"]
        source = replace(source, issues=kept)
    return _add(replace(source, attrs={**source.attrs, **people.attrs}), people.files, issues)


def _with_contacts(
    source: ChannelSource, groups: Sequence[str], electrodes: Electrodes | None
) -> ChannelSource:
    """Add the coordinates of intracranial contacts; a group that nobody states is inferred."""
    channels, n = source.channels, len(source.channels)
    listed = electrodes.group if electrodes is not None else [""] * n
    stated = _texts(channels.columns, "electrode_group", n)
    shanks, numbers, inferred = [""] * n, np.full(n, UNKNOWN_CONTACT, dtype=np.int32), []
    for k, (name, kind) in enumerate(zip(channels.name, channels.ch_type, strict=True)):
        if kind not in CONTACT_TYPES:
            continue
        parsed, numbers[k] = contact_of(name)
        shanks[k] = groups[k] or listed[k] or stated[k]
        if not shanks[k] and parsed:
            shanks[k] = parsed
            inferred.append(parsed)
    labels = electrodes.anat_label if electrodes is not None else [""] * n
    known = zip(labels, _texts(channels.columns, "anat_label", n), strict=True)
    labels = [label or header for label, header in known]
    columns = {
        "electrode_group": object_array(shanks),
        "contact": numbers,
        "anat_label": object_array(labels),
        "is_white_matter": white_matter(labels),
    }
    for key in ("size", "impedance"):
        found = getattr(electrodes, key) if electrodes is not None else np.full(n, np.nan)
        header = np.asarray(channels.columns.get(key, found), dtype=np.float64)
        columns[key] = np.where(np.isnan(found), header, found)
    issues = []
    if inferred:
        text = f"groups {', '.join(sorted(set(inferred)))} are read from names of channels"
        hint = "state them in the column `group` of channels.tsv"
        issues.append(Issue("GROUP_INFERRED", str(source.path), text, hint, "info"))
    channels = replace(channels, columns={**channels.columns, **columns})
    attrs = {"space": "", "reference_scheme": "", **source.attrs}
    return _add(replace(source, channels=channels, attrs=attrs), [], issues)


def _texts(columns: Mapping[str, Any], name: str, n: int) -> list[str]:
    return [str(text) for text in columns[name]] if name in columns else [""] * n


def _portable(source: ChannelSource, root: Path) -> ChannelSource:
    """Name the files of the tree from its root on."""
    issues = [
        replace(
            issue,
            path=issue.path.replace(f"{root}/", ""),
            message=issue.message.replace(f"{root}/", ""),
        )
        for issue in source.issues
    ]
    return replace(source, issues=issues)
