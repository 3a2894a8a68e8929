"""What the readers of NWB files share before any of them looks at its data."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from neuropipe.errors import IngestError
from neuropipe.io.checks import (
    HDF5_MAGIC,
    check_session_start,
    decode_texts,
    has_magic,
    open_hdf5,
)

__all__ = ["check_nwb_header", "header_entities", "look_into", "read_nwb"]

Found = TypeVar("Found")

OWN_MARK = "scratch/neuropipe"


def look_into(path: Path, look: Callable[[Any], Found | None]) -> Found | None:
    """Return what `look` finds in a file that says it is NWB; None in any other.

    A damaged file says nothing of its kind: `registry.match` tells that it is damaged.
    """
    if not has_magic(path, HDF5_MAGIC):
        return None
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return look(file) if "nwb_version" in file.attrs else None
    except OSError:
        return None


def header_entities(file: Any) -> dict[str, str]:
    """Return the subject that the header names, when it can serve as a label."""
    item = file.get("general/subject/subject_id")
    if item is None:
        return {}
    text = decode_texts([item[()]], str(file.filename))[0]
    return {"subject": text} if text.isalnum() else {}


def check_nwb_header(path: Path, hint: str) -> bool:
    """Check that a file is NWB with a usable session start; tell whether we wrote it.

    Raises
    ------
    IngestError
        ``NOT_THIS_FORMAT``, ``TRUNCATED`` or ``NAIVE_SESSION_START``.
    """
    with open_hdf5(path) as file:
        if "nwb_version" not in file.attrs:
            text = "an HDF5 file, but without the mark of NWB"
            raise IngestError("NOT_THIS_FORMAT", path, text, hint)
        # pynwb fails on a naive time with a message that names neither field nor remedy.
        if "session_start_time" in file:
            text = decode_texts([file["session_start_time"][()]], str(path))[0]
            check_session_start(text, f"{path}: session_start_time")
        return OWN_MARK in file


def read_nwb(stream: Any, path: Path) -> Any:
    """Return the file that an open pynwb stream holds.

    Raises
    ------
    IngestError
        ``NOT_THIS_FORMAT``: pynwb cannot read it.
    """
    try:
        with warnings.catch_warnings():
            # That a file follows an older schema is no fault of who reads it.
            warnings.simplefilter("ignore", DeprecationWarning)
            return stream.read()
    # A file that breaks its own schema raises whatever pynwb stumbles over first.
    except Exception as error:
        first = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise IngestError(
            "NOT_THIS_FORMAT", path, f"pynwb cannot read it: {first}", "pynwb-validate says more"
        ) from error
