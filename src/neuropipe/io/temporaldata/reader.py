"""Recordings in HDF5 files of temporaldata, torch_brain and brainsets, our own among them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from neuropipe.config.models import StrictModel
from neuropipe.errors import IngestError, Issue
from neuropipe.io.checks import HDF5_MAGIC, decode_texts, has_magic, open_hdf5
from neuropipe.io.entities import entities_of
from neuropipe.io.hdf5_fields import Fields
from neuropipe.io.registry import Reader, ReaderMatch
from neuropipe.io.temporaldata.objects import Objects, class_of, is_temporaldata

if TYPE_CHECKING:
    from neuropipe.config.models import IngestOverride

__all__ = ["READER", "TemporaldataSettings", "open_recording", "probe"]

MODALITIES = ("spikes", "calcium", "eeg", "meg", "ieeg", "fmri")
OWN_MARK = "neuropipe/manifest"
HINT = "give a file that temporaldata, torch_brain or brainsets wrote"


class TemporaldataSettings(StrictModel):
    """Reading of temporaldata files."""

    kind: Literal["dff", "fluorescence", "deconvolved"] | None = Field(
        None, description="What calcium traces are, where the name of the array does not tell."
    )
    ch_type: Literal["eeg", "seeg", "ecog", "dbs", "mag", "grad"] | None = Field(
        None, description="Type of all channels, where no column `type` or `ch_type` tells."
    )


def _text(item: Any, name: str) -> str:
    value = None if item is None else item.attrs.get(name)
    return "" if value is None else decode_texts([value], name)[0]


def probe(path: Path) -> ReaderMatch | None:
    """Return a match for an HDF5 file whose root is a ``Data``; the header only is read."""
    if not has_magic(path, HDF5_MAGIC):
        return None
    import h5py

    try:
        with h5py.File(path, "r") as file:
            if not is_temporaldata(file):
                return None
            modality = _modality(file)
            subject = _text(file.get("subject"), "id")
    except (OSError, RuntimeError, KeyError, AttributeError):
        return None
    entities = {"subject": subject} if subject.isalnum() else {}
    issues = []
    if not modality:
        text = "no time series of it has the shape of a recording; choose by `series`"
        issues.append(Issue("EMPTY", str(path), text, HINT, "error"))
    found = {**entities, **entities_of(path)}
    return ReaderMatch("temporaldata", modality or "spikes", path, found, tuple(issues))


def _modality(file: Any) -> str:
    """Return what a file seems to hold first of all, "" when nothing is known."""
    if OWN_MARK in file:
        return _text(file["neuropipe"], "modality")
    names = [name.lower() for name in file]
    classes = {name: class_of(file[name]) for name in file}
    if any(kind == "IrregularTimeSeries" and "unit_index" in file[name]
           for name, kind in classes.items()):  # fmt: skip
        return "spikes"
    if "rois" in names or any("calcium" in name for name in names):
        return "calcium"
    for modality, words in {"meg": ("meg",), "ieeg": ("ieeg", "seeg", "ecog"),
                            "eeg": ("eeg", "channels")}.items():  # fmt: skip
        if any(word in names for word in words):
            return modality
    return ""


def open_recording(
    path: Path,
    settings: TemporaldataSettings,
    override: IngestOverride,
    modality: str | None = None,
) -> Any:
    """Open one recording of a temporaldata file.

    Raises
    ------
    IngestError
        ``NOT_THIS_FORMAT``, ``TRUNCATED``, ``EMPTY``, ``SEVERAL_SERIES``, ``LENGTH_MISMATCH``,
        ``MISSING_SIDECAR``, ``BAD_TIME``, ``UNITS``, and those of the handles of each modality.
    """
    with open_hdf5(path) as file:
        if not is_temporaldata(file):
            text = "an HDF5 file, but its root is no `Data` of temporaldata"
            raise IngestError("NOT_THIS_FORMAT", path, text, HINT)
        is_own, known = OWN_MARK in file, _modality(file)
    modality = modality or known or "spikes"
    if is_own:
        return _own(path, modality)
    if modality not in OPENERS:
        text = f"a file of temporaldata that neuropipe did not write says nothing of {modality}"
        raise IngestError("NOT_THIS_FORMAT", path, text, "correct the column `modality`")
    fields = Fields(path)
    try:
        with open_hdf5(path) as file:
            return OPENERS[modality]()(Objects(fields, file), settings, override, modality)
    except BaseException:
        fields.close()
        raise


def _own(path: Path, modality: str) -> Any:
    from neuropipe.errors import DataError
    from neuropipe.io.own_nwb import OwnHandle
    from neuropipe.store.temporaldata import from_temporaldata

    try:
        tree = from_temporaldata(path)
    except IngestError:
        raise
    except DataError as error:
        raise IngestError("TRUNCATED", path, str(error), "copy the file again") from error
    return OwnHandle(path, modality, tree)


def _spikes() -> Callable[..., Any]:
    from neuropipe.io.temporaldata.recordings import open_spikes

    return open_spikes


def _calcium() -> Callable[..., Any]:
    from neuropipe.io.temporaldata.recordings import open_calcium

    return open_calcium


def _channels() -> Callable[..., Any]:
    from neuropipe.io.temporaldata.recordings import open_electrical

    return open_electrical


OPENERS: dict[str, Callable[[], Callable[..., Any]]] = {
    "spikes": _spikes,
    "calcium": _calcium,
    "eeg": _channels,
    "meg": _channels,
    "ieeg": _channels,
}

READER = Reader(
    name="temporaldata",
    modalities=MODALITIES,
    extensions=(".h5", ".hdf5"),
    settings=TemporaldataSettings,
    probe="neuropipe.io.temporaldata.reader:probe",
    open="neuropipe.io.temporaldata.reader:open_recording",
)
