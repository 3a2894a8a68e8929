"""MEG systems of which mne decodes everything: CTF folders and KIT (Yokogawa, Ricoh) files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from neuropipe.config.models import StrictModel
from neuropipe.errors import IngestError
from neuropipe.io.channels.mne_header import call_mne
from neuropipe.io.channels.mne_source import mne_source
from neuropipe.io.channels.opening import open_channels
from neuropipe.io.channels.probing import path_match
from neuropipe.io.channels.source import ChannelSource
from neuropipe.io.checks import head, refuse_pointers
from neuropipe.io.registry import Reader, ReaderMatch
from neuropipe.store.clock import RegularClock

if TYPE_CHECKING:
    from neuropipe.config.models import IngestOverride
    from neuropipe.io.channels.handle import ChannelHandle

__all__ = ["CTF_READER", "KIT_READER", "MegSettings", "open_ctf", "open_kit"]


class MegSettings(StrictModel):
    """Reading of CTF and KIT recordings."""

    stim_channel: str | None = Field(
        None, description="Trigger channel whose steps are events; null: all trigger channels."
    )


def probe_ctf(path: Path) -> ReaderMatch | None:
    """Return a match for a ``.ds`` folder with header and samples."""
    if not path.is_dir() or path.suffix.lower() != ".ds":
        return None
    found = {file.suffix.lower() for file in path.iterdir()}
    return path_match("ctf", path, "meg") if {".res4", ".meg4"} <= found else None


def probe_kit(path: Path) -> ReaderMatch | None:
    """Return a match for a binary file of a KIT system."""
    start = head(path, 64)
    if len(start) < 64 or b"\x00" not in start or start.startswith((b"\x89HDF", b"MATLAB")):
        return None
    return path_match("kit", path, "meg")


def open_ctf(
    path: Path, settings: MegSettings, override: IngestOverride, modality: str | None = None
) -> ChannelHandle:
    """Open a CTF folder; of its samples only trigger channels are read.

    Raises
    ------
    IngestError
        ``NOT_THIS_FORMAT`` or ``TRUNCATED`` with the words of mne, and those of `open_channels`.
    """
    import mne

    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else []
    if not files:
        text = "is no folder, or an empty one; a CTF recording is a .ds folder"
        raise IngestError("NOT_THIS_FORMAT", path, text, "correct the column `path`")
    source = _opened(mne.io.read_raw_ctf, path, settings, files, system_clock="truncate")
    return open_channels(source, modality, override)


def open_kit(
    path: Path, settings: MegSettings, override: IngestOverride, modality: str | None = None
) -> ChannelHandle:
    """Open a KIT file; of its samples only trigger channels are read.

    Raises
    ------
    IngestError
        As of `open_ctf`.
    """
    import mne

    refuse_pointers(path)
    source = _opened(mne.io.read_raw_kit, path, settings, [path])
    return open_channels(source, modality, override)


def _opened(
    read: Callable[..., Any], path: Path, settings: MegSettings, files: list[Path], **options: Any
) -> ChannelSource:
    raw, issues = call_mne(read, path, preload=False, verbose="warning", **options)
    rate = float(raw.info["sfreq"])
    notes = raw.annotations
    onset = np.asarray(notes.onset, dtype=np.float64)
    if notes.orig_time is not None:
        onset = onset - raw.first_samp / rate
    return mne_source(
        raw,
        path,
        time=RegularClock(0.0, rate, len(raw.times)),
        # Both write the wall clock of the console.
        utc=False,
        issues=issues,
        annotations=(onset, np.asarray(notes.duration, np.float64), list(notes.description)),
        stim_channel=settings.stim_channel,
        source_files=files,
    )


CTF_READER = Reader(
    name="ctf",
    modalities=("meg", "eeg", "ieeg"),
    extensions=("",),
    settings=MegSettings,
    probe="neuropipe.io.channels.meg_systems:probe_ctf",
    open="neuropipe.io.channels.meg_systems:open_ctf",
)
KIT_READER = Reader(
    name="kit",
    modalities=("meg", "eeg", "ieeg"),
    extensions=(".sqd", ".con"),
    settings=MegSettings,
    probe="neuropipe.io.channels.meg_systems:probe_kit",
    open="neuropipe.io.channels.meg_systems:open_kit",
)
