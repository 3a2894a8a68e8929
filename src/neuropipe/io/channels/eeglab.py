"""EEGLAB data sets: a ``.set`` file, mostly with its samples in a ``.fdt`` file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from neuropipe.config.models import StrictModel
from neuropipe.errors import IngestError, Issue
from neuropipe.io.channels.events import times_of
from neuropipe.io.channels.grid import Times, segment_times
from neuropipe.io.channels.mne_header import call_mne
from neuropipe.io.channels.mne_source import mne_source
from neuropipe.io.channels.opening import open_channels
from neuropipe.io.channels.probing import path_match
from neuropipe.io.channels.source import ChannelSource
from neuropipe.io.checks import HDF5_MAGIC, has_magic, head, refuse_pointers
from neuropipe.io.faults import readable
from neuropipe.io.matlab_elements import check_matlab5
from neuropipe.io.registry import Reader, ReaderMatch

if TYPE_CHECKING:
    from neuropipe.config.models import IngestOverride
    from neuropipe.io.channels.handle import ChannelHandle

__all__ = ["READER", "EeglabSettings", "open_recording", "open_source", "probe"]

MATLAB = (b"MATLAB 5.0", b"MATLAB 7.3")
BOUNDARY = "boundary"


class EeglabSettings(StrictModel):
    """Reading of EEGLAB data sets."""

    montage_units: Literal["auto", "m", "cm", "dm", "mm"] = Field(
        "auto", description="Unit of the electrode positions; `auto`: from their size."
    )


def probe(path: Path) -> ReaderMatch | None:
    """Return a match for a MATLAB file that is called ``.set``."""
    is_matlab = head(path, len(MATLAB[0])) in MATLAB or has_magic(path, HDF5_MAGIC)
    return path_match("eeglab", path) if is_matlab else None


def open_recording(
    path: Path, settings: EeglabSettings, override: IngestOverride, modality: str | None = None
) -> ChannelHandle:
    """Open an EEGLAB data set; samples in a ``.fdt`` file stay there.

    Samples inside the ``.set`` file are unpacked as a whole: MATLAB compresses them in one piece.

    Raises
    ------
    IngestError
        ``NOT_THIS_FORMAT`` (also for epochs), ``TRUNCATED``, ``MISSING_SIDECAR`` without the
        ``.fdt`` file, and those of `open_channels`.
    """
    return open_channels(open_source(path, settings, override), modality, override)


def open_source(path: Path, settings: EeglabSettings, override: IngestOverride) -> ChannelSource:
    """Return what the files say."""
    import h5py
    import mne

    refuse_pointers(path)
    if probe(path) is None:
        known = " or ".join(repr(start) for start in (*MATLAB, HDF5_MAGIC))
        text = f"begins with {head(path, 10)!r}, a MATLAB file with {known}"
        raise IngestError("NOT_THIS_FORMAT", path, text, "correct the column `reader`")
    check_matlab5(path)
    if head(path, len(MATLAB[0])) != MATLAB[0]:
        with readable(path):
            h5py.File(path).close()
    raw, issues = call_mne(
        _read, path, read=mne.io.read_raw_eeglab, montage_units=settings.montage_units
    )
    data = Path(raw.filenames[0])
    if data.parent.absolute() != path.parent.absolute():
        text = f"its samples are said to lie in {data}, out of the folder of the data set"
        raise IngestError("UNSAFE", path, text, "lay both files side by side")
    n_times, found = _length(data, path, raw, override.allow_truncated)
    issues += found
    rate = float(raw.info["sfreq"])
    time, breaks, found = _times(raw, n_times, rate, path)
    issues += found
    positions = np.asarray(raw.annotations.onset, dtype=np.float64) * rate
    # Latencies are whole samples that went through seconds.
    whole = np.rint(positions)
    positions = np.where(np.abs(positions - whole) < 1e-6, whole, positions)
    source = mne_source(
        raw,
        path,
        segments=[(0, n_times)],
        time=time,
        utc=False,
        issues=issues,
        annotations=(
            times_of(positions, time, rate),
            np.asarray(raw.annotations.duration, dtype=np.float64),
            list(raw.annotations.description),
        ),
        source_files=sorted({path, data}),
        breaks=breaks,
    )
    # A data set without types comes in as EEG, which says nothing of electrodes in the brain.
    stated = not {"seeg", "ecog", "dbs"}.isdisjoint(source.channels.ch_type)
    return replace(source, types_stated=stated)


def _read(path: Path, *, read: Any, montage_units: str) -> Any:
    try:
        return read(path, preload=False, montage_units=montage_units, verbose="warning")
    except FileNotFoundError as error:
        text = f"its samples are in a .fdt file that is not there: {error}"
        hint = "copy the .fdt file beside it, under the same name"
        raise IngestError("MISSING_SIDECAR", path, text, hint) from error


def _length(data: Path, path: Path, raw: Any, allow_truncated: bool) -> tuple[int, list[Issue]]:
    """Return the samples per channel that the ``.fdt`` file holds."""
    stated, n_channels = len(raw.times), len(raw.ch_names)
    if data == path or data.suffix.lower() != ".fdt":
        return stated, []
    size, frame = data.stat().st_size, 4 * n_channels
    if size == stated * frame:
        return stated, []
    text = f"{size} bytes, {stated} samples of {n_channels} channels need {stated * frame}"
    if size > stated * frame:
        return stated, [Issue("HEADER", str(data), f"{text}; the rest is left out")]
    if not allow_truncated:
        hint = "copy the file again, or keep the readable part with `allow_truncated: true`"
        raise IngestError("TRUNCATED", data, text, hint)
    return size // frame, [
        Issue("TRUNCATED", str(data), f"{text}; kept the readable part", "copy it again")
    ]


def _times(raw: Any, n_times: int, rate: float, path: Path) -> tuple[Times, list[int], list[Issue]]:
    """Return times, breaks and issues: a boundary is where EEGLAB took something out.

    Its duration is the length of what is gone; without one, times run on over a break.
    """
    notes = raw.annotations
    cuts: dict[int, float] = {}
    for onset, duration, text in zip(notes.onset, notes.duration, notes.description, strict=True):
        # The latency lies between two samples; the later one begins the segment.
        first = int(np.ceil(float(onset) * rate - 1e-6))
        if text == BOUNDARY and 0 < first < n_times:
            cuts[first] = cuts.get(first, 0.0) + max(0.0, float(np.nan_to_num(duration)))
    firsts = [0, *sorted(cuts)]
    lengths = np.diff([*firsts, n_times])
    starts = np.cumsum([0.0, *(lengths[:-1] / rate)])
    starts += np.cumsum([0.0, *(cuts[first] for first in firsts[1:])])
    time, issues = segment_times(starts, lengths, rate, path)
    breaks = [first for first in firsts[1:] if cuts[first] * rate < 0.5]
    if breaks:
        text = f"{len(breaks)} boundaries do not say how much was cut out"
        hint = "times run on; observed time ends at each break"
        issues.append(Issue("UNKNOWN_GAP", str(path), text, hint))
    return time, breaks, issues


READER = Reader(
    name="eeglab",
    modalities=("eeg", "meg", "ieeg"),
    extensions=(".set",),
    settings=EeglabSettings,
    probe="neuropipe.io.channels.eeglab:probe",
    open="neuropipe.io.channels.eeglab:open_recording",
)
