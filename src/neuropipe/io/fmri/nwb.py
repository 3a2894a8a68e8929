"""NWB files of fMRI that we wrote; NWB has no type for fMRI that others could have used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from neuropipe.config.models import StrictModel
from neuropipe.errors import IngestError
from neuropipe.io.entities import entities_of
from neuropipe.io.nwb_file import check_nwb_header, header_entities, look_into
from neuropipe.io.own_nwb import OwnNwbHandle
from neuropipe.io.registry import Reader, ReaderMatch

if TYPE_CHECKING:
    from neuropipe.config.models import IngestOverride

__all__ = ["READER", "NwbFmriSettings", "open_recording", "probe"]

SERIES = "processing/fmri/bold"
HINT = "give an NWB file that neuropipe wrote, or the images themselves"


class NwbFmriSettings(StrictModel):
    """Reading of our own NWB files of fMRI; there is nothing to set."""


def probe(path: Path) -> ReaderMatch | None:
    """Return a match for a file that holds the series under the name that we give it."""
    entities = look_into(path, lambda file: header_entities(file) if SERIES in file else None)
    if entities is None:
        return None
    return ReaderMatch("nwb_fmri", "fmri", path, {**entities, **entities_of(path)})


def open_recording(path: Path, settings: NwbFmriSettings, override: IngestOverride) -> OwnNwbHandle:
    """Open a file that `to_nwb` wrote.

    Raises
    ------
    IngestError
        ``NOT_THIS_FORMAT`` for a file of another converter.
    """
    if not check_nwb_header(path, HINT):
        text = "its series `bold` was not written by neuropipe"
        raise IngestError("NOT_THIS_FORMAT", path, text, HINT)
    return OwnNwbHandle(path, "fmri")


READER = Reader(
    name="nwb_fmri",
    modalities=("fmri",),
    extensions=(".nwb",),
    settings=NwbFmriSettings,
    probe="neuropipe.io.fmri.nwb:probe",
    open="neuropipe.io.fmri.nwb:open_recording",
)
