"""Damaged heaps of text in HDF5 files, which the library reads without ever coming to an end.

Texts of variable length lie in collections of objects, each with its size. Where a size was
zeroed the library does not move on: it loops in C, where no time limit of ours reaches it. So the
collections near both ends of a file, where headers are, are walked here first.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from neuropipe.errors import IngestError

__all__ = ["refuse_endless_heaps"]

SIGNATURE = b"\x89HDF\r\n\x1a\n"
COLLECTION = b"GCOL\x01\x00\x00\x00"
HEADER = 16
WINDOW = 4 << 20


def refuse_endless_heaps(path: Path, window: int = WINDOW) -> None:
    """Raise for an HDF5 file with a collection of texts that has no end.

    Parameters
    ----------
    path : Path
        Any file; those that are not HDF5 pass.
    window : int
        Bytes looked at from the beginning, and as many from the end.

    Raises
    ------
    IngestError
        ``NOT_THIS_FORMAT``.
    """
    if not path.is_file():
        return
    state = path.stat()
    if _has_endless(str(path), state.st_size, state.st_mtime_ns, window):
        text = "texts of the file lie in a damaged heap, which has no end"
        raise IngestError("NOT_THIS_FORMAT", path, text, "copy or download the file again")


@lru_cache(maxsize=64)
def _has_endless(path: str, size: int, modified_ns: int, window: int) -> bool:
    """Tell whether a collection has no end; asked once for a file that did not change."""
    with Path(path).open("rb") as stream:
        if SIGNATURE not in stream.read(2048 + len(SIGNATURE)):
            return False
        for start in dict.fromkeys((0, max(0, size - window))):
            stream.seek(start)
            if any(_is_endless(part) for part in _collections(stream.read(window))):
                return True
    return False


def _collections(data: bytes) -> Iterator[bytes]:
    at = data.find(COLLECTION)
    while at >= 0:
        (length,) = struct.unpack_from("<Q", data.ljust(at + HEADER, b"\xff"), at + 8)
        yield data[at + HEADER : at + min(length, len(data))]
        at = data.find(COLLECTION, at + 1)


def _is_endless(objects: bytes) -> bool:
    """Walk the objects as the library does: number, and size without or (number 0) with header."""
    at = 0
    while at + HEADER <= len(objects):
        (number,) = struct.unpack_from("<H", objects, at)
        (size,) = struct.unpack_from("<Q", objects, at + 8)
        step = size if number == 0 else HEADER + -(-size // 8) * 8
        if step == 0:
            return True
        at += step
    return False
