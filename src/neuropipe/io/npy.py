"""NumPy files mapped into memory, checked against their headers, never unpickled."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Literal

import numpy as np

from neuropipe.errors import IngestError, Issue
from neuropipe.io.checks import head, refuse_pointers

__all__ = ["NpyArray", "load_pickled"]

MAGIC = b"\x93NUMPY"


def _read_header(path: Path) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Return shape, Fortran order, dtype and the offset of the samples."""
    refuse_pointers(path)
    start = head(path, 1 << 16)
    if not start.startswith(MAGIC):
        raise IngestError(
            "NOT_THIS_FORMAT",
            path,
            f"begins with {start[:6]!r}, a NumPy file with {MAGIC!r}",
            "copy or download the file again",
        )
    stream = io.BytesIO(start)
    try:
        version = np.lib.format.read_magic(stream)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran, dtype = read(stream)
    except (ValueError, KeyError) as error:
        text, hint = f"damaged header: {error}", "copy or download the file again"
        raise IngestError("NOT_THIS_FORMAT", path, text, hint) from error
    return shape, fortran, dtype, stream.tell()


class NpyArray:
    """An array in a ``.npy`` file; slicing reads only what is asked for.

    Parameters
    ----------
    path : Path
        The file.
    allow_truncated : bool
        Keep the whole rows of a file that ends too early, with an issue.

    Attributes
    ----------
    shape, stated_shape : tuple of int
        What can be read, and what the header states.
    issues : list of Issue

    Raises
    ------
    IngestError
        ``TRUNCATED``, ``UNSAFE`` for arrays of Python objects, ``NOT_THIS_FORMAT``.
    """

    def __init__(self, path: Path, allow_truncated: bool = False) -> None:
        shape, fortran, dtype, offset = _read_header(path)
        self.path, self.dtype = path, dtype
        self.issues: list[Issue] = []
        self.stated_shape = self.shape = shape
        if dtype.hasobject:
            raise IngestError(
                "UNSAFE",
                path,
                "holds Python objects (a pickle), numbers expected",
                "save the array as numbers; pickles of strangers run code",
            )
        if dtype.kind not in "biuf":
            hint = "save the array as numbers"
            raise IngestError("NOT_THIS_FORMAT", path, f"dtype {dtype}, numbers expected", hint)
        self._check_size(offset, fortran, allow_truncated)
        self._offset = offset
        self._order: Literal["C", "F"] = "F" if fortran else "C"

    def _check_size(self, offset: int, fortran: bool, allow_truncated: bool) -> None:
        size, shape = self.path.stat().st_size - offset, self.shape
        expected = int(np.prod(shape, dtype=np.int64)) * self.dtype.itemsize
        if size >= expected:
            return
        message = f"{size} bytes of samples, the header implies {expected}"
        row = expected // shape[0]
        if not allow_truncated or fortran:
            hint = "copy the file again, or keep the readable part with `allow_truncated: true`"
            raise IngestError("TRUNCATED", self.path, message, hint)
        self.shape = (max(0, size) // row, *shape[1:])
        kept = f"; kept the first {self.shape[0]} of {shape[0]} rows"
        self.issues.append(Issue("TRUNCATED", str(self.path), message + kept, "copy it again"))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        if 0 in self.shape:
            return np.zeros(self.shape, self.dtype)[key]
        # Mapped anew each time: pages of a map that stays open count as memory of the process.
        mapped = np.memmap(self.path, self.dtype, "r", self._offset, self.shape, self._order)
        return np.array(mapped[key])


def load_pickled(path: Path) -> np.ndarray:
    """Unpickle an object array; only for files that the settings trust.

    Raises
    ------
    IngestError
        ``TRUNCATED`` or ``NOT_THIS_FORMAT``.
    """
    _read_header(path)
    try:
        return np.load(path, allow_pickle=True)
    except Exception as error:
        raise IngestError(
            "TRUNCATED", path, f"cannot be unpickled: {error}", "copy the file again"
        ) from error
