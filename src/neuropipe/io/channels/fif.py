"""FIF files: MEG and EEG of Elekta, Neuromag and MEGIN, and what mne saves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from neuropipe.config.models import StrictModel
from neuropipe.errors import IngestError, Issue
from neuropipe.io.channels.grid import segment_times
from neuropipe.io.channels.mne_header import call_mne, wrapped
from neuropipe.io.channels.mne_source import mne_source
from neuropipe.io.channels.opening import open_channels
from neuropipe.io.channels.probing import path_match
from neuropipe.io.channels.source import ChannelSource
from neuropipe.io.checks import head, refuse_pointers
from neuropipe.io.registry import Reader, ReaderMatch

if TYPE_CHECKING:
    import mne

    from neuropipe.config.models import IngestOverride
    from neuropipe.io.channels.handle import ChannelHandle

__all__ = ["READER", "FifSettings", "open_recording", "open_source", "probe"]

# A file begins with the tag of its identity: kind 100, type 31.
MAGIC = b"\x00\x00\x00\x64\x00\x00\x00\x1f"


class FifSettings(StrictModel):
    """Reading of FIF files."""

    stim_channel: str | None = Field(
        None,
        description="Trigger channel whose steps are events; null: STI101, STI 014 or all of them.",
    )
    allow_maxshield: bool = Field(
        False, description="Read recordings with internal active shielding that were not cleaned."
    )


def probe(path: Path) -> ReaderMatch | None:
    """Return a match for a FIF file."""
    return path_match("fif", path, "meg") if head(path, 8) == MAGIC else None


def open_recording(
    path: Path, settings: FifSettings, override: IngestOverride, modality: str | None = None
) -> ChannelHandle:
    """Open a FIF recording; of its samples only trigger channels are read.

    Raises
    ------
    IngestError
        ``NOT_THIS_FORMAT`` or ``TRUNCATED`` with the words of mne, and those of `open_channels`.
    """
    return open_channels(open_source(path, settings, override), modality, override)


def open_source(path: Path, settings: FifSettings, override: IngestOverride) -> ChannelSource:
    """Return what the file says."""
    import mne

    refuse_pointers(path)
    if head(path, 8) != MAGIC:
        text = f"begins with {head(path, 8)!r}, a FIF file with {MAGIC!r}"
        raise IngestError("NOT_THIS_FORMAT", path, text, "correct the column `reader`")
    issues = _check_end(path, override.allow_truncated)
    raw, found = call_mne(
        mne.io.read_raw_fif,
        path,
        preload=False,
        allow_maxshield="yes" if settings.allow_maxshield else False,
        verbose="warning",
    )
    files = [Path(name) for name in raw.filenames]
    for part in files[1:]:
        issues += _check_end(part, override.allow_truncated)
    rate = float(raw.info["sfreq"])
    kept = _kept(raw)
    lengths = [end - first for first, end in kept]
    time, gaps = segment_times([first / rate for first, _ in kept], lengths, rate, path)
    exact = raw.orig_format == "single" and all(
        float(ch["cal"]) * float(ch["range"]) == 1.0 for ch in raw.info["chs"]
    )
    return mne_source(
        raw,
        path,
        segments=kept,
        time=time,
        dtype=np.dtype(np.float32 if exact else np.float64),
        utc=True,
        issues=[*issues, *found, *gaps],
        annotations=_annotations(path, raw),
        stim_channel=settings.stim_channel,
        t0_source=raw.first_samp / rate,
        source_files=files,
    )


def _kept(raw: mne.io.BaseRaw) -> list[tuple[int, int]]:
    """Return first sample and end of what was recorded; mne fills what was skipped with zeros."""
    kept: list[tuple[int, int]] = []
    begin = 0
    for extra in raw._raw_extras:
        bounds = np.asarray(extra["bounds"], dtype=np.int64)
        at = bounds - bounds[0] + begin
        for entry, first, end in zip(extra["ent"], at[:-1], at[1:], strict=True):
            if entry is None:
                continue
            if kept and kept[-1][1] == int(first):
                kept[-1] = (kept[-1][0], int(end))
            else:
                kept.append((int(first), int(end)))
        begin = int(at[-1])
    return kept


def _annotations(path: Path, raw: mne.io.BaseRaw) -> tuple[np.ndarray, np.ndarray, Sequence[str]]:
    """Return onsets (s from the first sample), durations and texts of all annotations.

    Taken from the file and not from `raw`, which leaves out those outside the data.
    """
    import mne

    def read() -> Any:
        try:
            return mne.read_annotations(path)
        except OSError as error:
            if "No annotation data" in str(error):
                return None
            raise

    found, _ = call_mne(lambda _: wrapped(read, path), path)
    if found is None:
        return np.zeros(0), np.zeros(0), ()
    onset = np.asarray(found.onset, dtype=np.float64)
    started = raw.info["meas_date"]
    if started is None or found.orig_time is not None:
        # Counted from the date, or from sample 0 of the recorder: not from the first sample.
        onset = onset - raw.first_samp / float(raw.info["sfreq"])
    if found.orig_time is not None and started is not None:
        onset = onset + (found.orig_time - started).total_seconds()
    return onset, np.asarray(found.duration, dtype=np.float64), list(found.description)


def _check_end(path: Path, allow_truncated: bool) -> list[Issue]:
    """Check that the chain of tags reaches its end; mne takes what there is in silence."""
    size, at, here = path.stat().st_size, 0, 0
    with path.open("rb") as stream:
        while True:
            stream.seek(at)
            tag = np.frombuffer(stream.read(16), dtype=">i4")
            if len(tag) < 4:
                break
            length, following = int(tag[2]), int(tag[3])
            end = at + 16 + length
            if end > size or length < 0:
                break
            if following == -1:
                return []
            at = end if following == 0 else following
            # At the end every tag is whole, but the last does not say that it is the last; back
            # it never goes.
            if not here < at < size:
                break
            here = at
    text = f"the chain of tags breaks off at byte {at} of {size}"
    if not allow_truncated:
        hint = "copy the file again, or keep the readable part with `allow_truncated: true`"
        raise IngestError("TRUNCATED", path, text, hint)
    return [Issue("TRUNCATED", str(path), f"{text}; kept the readable part", "copy it again")]


READER = Reader(
    name="fif",
    modalities=("meg", "eeg", "ieeg"),
    extensions=(".fif",),
    settings=FifSettings,
    probe="neuropipe.io.channels.fif:probe",
    open="neuropipe.io.channels.fif:open_recording",
)
