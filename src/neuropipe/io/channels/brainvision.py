"""BrainVision recordings: header, markers and samples in three files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.config.models import StrictModel
from neuropipe.errors import IngestError, Issue
from neuropipe.io.channels.brainvision_header import (
    IDENTITY,
    BrainVisionHeader,
    Marker,
    read_brainvision_header,
    read_markers,
)
from neuropipe.io.channels.brainvision_samples import BrainVisionSamples
from neuropipe.io.channels.events import code_of, event_table, times_of
from neuropipe.io.channels.facts import local_start
from neuropipe.io.channels.grid import Times, segment_times
from neuropipe.io.channels.mne_header import call_mne, mne_attrs, mne_table
from neuropipe.io.channels.names import unique_names
from neuropipe.io.channels.opening import open_channels
from neuropipe.io.channels.probing import path_match
from neuropipe.io.channels.source import ChannelSource, ChannelTable
from neuropipe.io.channels.units import si_unit
from neuropipe.io.checks import head
from neuropipe.io.registry import Reader, ReaderMatch

if TYPE_CHECKING:
    import xarray as xr

    from neuropipe.config.models import IngestOverride
    from neuropipe.io.channels.handle import ChannelHandle

__all__ = ["READER", "BrainVisionSettings", "open_recording", "open_source", "probe"]

NEW_SEGMENT = "New Segment"
# Units that BrainVision files use beside those of potentials -> SI word and factor, as in mne.
OTHER_UNITS = {"\u00b5S": 1e-6, "uS": 1e-6, "\u03bcS": 1e-6}


class BrainVisionSettings(StrictModel):
    """Reading of BrainVision files; nothing to set."""


def probe(path: Path) -> ReaderMatch | None:
    """Return a match for a header file of Brain Vision."""
    start = head(path, 200).decode("latin-1")
    return path_match("brainvision", path) if IDENTITY.search(start) else None


@dataclass(frozen=True)
class _Clock:
    """Times of the samples, and the samples at which a break of unknown length lies."""

    time: Times
    breaks: tuple[int, ...]
    issues: list[Issue]


def open_recording(
    path: Path, settings: BrainVisionSettings, override: IngestOverride, modality: str | None = None
) -> ChannelHandle:
    """Open a BrainVision recording; no samples are read.

    Raises
    ------
    IngestError
        ``NOT_THIS_FORMAT``, ``MISSING_SIDECAR``, ``TRUNCATED``, ``BAD_TIME``, ``EMPTY``, and
        those of `open_channels`.
    """
    return open_channels(open_source(path, settings, override), modality, override)


def open_source(
    path: Path, settings: BrainVisionSettings, override: IngestOverride
) -> ChannelSource:
    """Return what the three files say."""
    header = read_brainvision_header(path)
    markers = read_markers(header.markers) if header.markers is not None else []
    n_times, issues = _length(header, markers, override.allow_truncated)
    if header.markers is None:
        text = "there is no marker file, so there are no events"
        issues.append(Issue("MISSING_SIDECAR", str(path), text, "copy the .vmrk file too"))
    known, attrs, found = _facts(header)
    issues += found
    table, scale, found = _table(header, known)
    issues += found
    clock = _clock(header, markers, n_times)
    dates = [marker.date for marker in markers if marker.date is not None]
    _, found = local_start(min(dates) if dates else None, path)
    files = [path, header.data, *([header.markers] if header.markers is not None else [])]
    return ChannelSource(
        path=path,
        channels=table,
        samples=BrainVisionSamples(
            header.data, header.dtype, (n_times, len(table)), header.multiplexed, scale
        ),
        time=clock.time,
        breaks=clock.breaks,
        types_stated=False,
        length_stated=header.n_points is not None,
        events=_events(markers, clock.time, header.rate),
        attrs=attrs,
        source_files=tuple(files),
        issues=(*issues, *clock.issues, *found),
    )


def _length(
    header: BrainVisionHeader, markers: list[Marker], allow_truncated: bool
) -> tuple[int, list[Issue]]:
    """Return the samples per channel that the file holds, against header and markers."""
    n_channels = len(header.names)
    frame = n_channels * header.dtype.itemsize
    size = header.data.stat().st_size
    held, rest = divmod(size, frame)
    last = max((marker.position for marker in markers if marker.kind != NEW_SEGMENT), default=-1)
    stated = header.n_points
    if stated is not None and held > stated:
        text = f"DataPoints={stated}, but the file holds {held} samples per channel; all read"
        if header.multiplexed:
            return held, [Issue("HEADER", str(header.path), text)]
    # A file that states no length still tells of a loss: a part of a sample, a later marker.
    short = stated is not None and held < stated
    if not short and not rest and last <= held:
        return held, []
    expected = f"DataPoints={stated}" if stated is not None else "whole samples"
    text = (
        f"{size} bytes make {held} samples of {n_channels} channels and {rest} bytes; expected "
        f"{expected}" + (f"; the last marker stands at sample {last + 1}" if last > held else "")
    )
    if not allow_truncated or not header.multiplexed:
        hint = "copy the file again, or keep the readable part with `allow_truncated: true`"
        if not header.multiplexed:
            hint = "copy the file again: of vectorised data the last channels are lost"
        raise IngestError("TRUNCATED", header.data, text, hint)
    text += "; kept the readable part"
    return held, [Issue("TRUNCATED", str(header.data), text, "copy the file again")]


def _facts(header: BrainVisionHeader) -> tuple[ChannelTable | None, dict[str, Any], list[Issue]]:
    """Return channels and attributes as mne reads them from the header.

    mne takes no header in which a name occurs twice.
    """
    import mne

    path = header.path
    if len(set(header.names)) < len(header.names):
        text = "names occur more than once, so types follow from units; no filters, no positions"
        return None, {}, [Issue("HEADER", str(path), text, "rename one of each in the header")]
    raw, issues = call_mne(mne.io.read_raw_brainvision, path, preload=False, verbose="warning")
    table = mne_table(raw, ())
    # Dates are those of the markers, which are checked there.
    attrs, _ = mne_attrs(raw, table, path, utc=False)
    raw.close()
    return table, attrs, issues


def _plain_table(header: BrainVisionHeader) -> ChannelTable:
    """Return the channels of which nothing but name and unit is known."""
    n = len(header.names)
    kinds = ["eeg" if (si_unit(unit) or ("",))[0] == "V" else "misc" for unit in header.units]
    nothing = np.full(n, np.nan)
    return ChannelTable(
        name=header.names, source=header.names, ch_type=tuple(kinds), units=header.units,
        declared=header.units, bad=np.zeros(n, dtype=bool), reference=header.references,
        position=np.full((n, 3), np.nan), low_cutoff=nothing, high_cutoff=nothing.copy(),
    )  # fmt: skip


def _table(
    header: BrainVisionHeader, known_table: ChannelTable | None
) -> tuple[ChannelTable, np.ndarray, list[Issue]]:
    """Return the channels, SI units per number, and issues."""
    names, issues = unique_names(header.names, header.path)
    table = _plain_table(header) if known_table is None else known_table
    factors, units = [], []
    for word in header.units:
        known = si_unit(word)
        units.append(known[0] if known else "")
        factors.append(known[1] if known else OTHER_UNITS.get(word, 1.0))
    unknown = {w for w in header.units if w and si_unit(w) is None and w not in OTHER_UNITS}
    if unknown:
        text = f"units {', '.join(sorted(unknown))} are no voltage; these numbers stay as they are"
        hint = "set `units` in ingest.overrides, if they are voltages"
        issues.append(Issue("UNITS", str(header.path), text, hint, "info"))
    kinds = list(table.ch_type)
    counts = {kind: kinds.count(kind) for kind in sorted(set(kinds))}
    listed = ", ".join(f"{n} {kind}" for kind, n in counts.items())
    text = f"BrainVision states no channel types; from names and units: {listed}"
    issues.append(
        Issue("CHANNEL_TYPES", str(header.path), text, "*_channels.tsv states them", "info")
    )
    table = replace(
        table,
        name=tuple(names),
        source=header.names,
        units=tuple(units),
        declared=header.units,
        reference=header.references,
    )
    return table, header.resolution * np.array(factors), issues


def _clock(header: BrainVisionHeader, markers: list[Marker], n_times: int) -> _Clock:
    """Return the times: a new segment begins when its date says, else at a break."""
    segments: dict[int, datetime | None] = {0: None}
    for marker in markers:
        if marker.kind == NEW_SEGMENT and 0 <= marker.position < n_times:
            segments[marker.position] = marker.date or segments.get(marker.position)
    firsts = sorted(segments)
    lengths = np.diff([*firsts, n_times])
    starts, breaks = [0.0], []
    # The date of the last segment that had one, and its start.
    anchor = (segments[0], 0.0)
    for k, first in enumerate(firsts[1:], start=1):
        follows = starts[-1] + float(lengths[k - 1]) / header.rate
        date = segments[first]
        if date is not None and anchor[0] is not None:
            stated = anchor[1] + (date - anchor[0]).total_seconds()
            # Within half a sample it is the next sample, whatever the clock of the computer says.
            follows = stated if abs(stated - follows) * header.rate > 0.5 else follows
        else:
            breaks.append(first)
        starts.append(follows)
        anchor = (date, follows) if date is not None else anchor
    time, issues = segment_times(starts, lengths, header.rate, header.path)
    if breaks:
        text = f"{len(breaks)} new segments without a date: how long the pause was is unknown"
        hint = "times run on; observed time ends at each break"
        issues.append(Issue("UNKNOWN_GAP", str(header.path), text, hint))
    return _Clock(time, tuple(breaks), issues)


def _events(markers: list[Marker], time: Times, rate: float) -> xr.Dataset | None:
    """Return the markers but that of the first segment, which only holds the date."""
    kept = [m for m in markers if not (m.kind == NEW_SEGMENT and m.position <= 0)]
    if not markers:
        return None
    positions = np.array([marker.position for marker in kept], dtype=np.float64)
    return event_table(
        times_of(positions, time, rate),
        [marker.size / rate for marker in kept],
        [f"{marker.kind}/{marker.text}" for marker in kept],
        code=[code_of(marker.text) for marker in kept],
        source=["markers"] * len(kept),
        columns={"x_kind": [marker.kind for marker in kept]},
    )


READER = Reader(
    name="brainvision",
    modalities=("eeg", "meg", "ieeg"),
    extensions=(".vhdr",),
    settings=BrainVisionSettings,
    probe="neuropipe.io.channels.brainvision:probe",
    open="neuropipe.io.channels.brainvision:open_recording",
)
