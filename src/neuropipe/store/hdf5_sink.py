"""A file that HDF5 writes into and that tells a full disk as an error.

HDF5 keeps what a full disk refused, tries it again when the file closes, and ends the process with
a segmentation fault (github.com/h5py/h5py/issues/914). Here it never learns of the refusal: what
comes after it goes nowhere, and the error is raised once the file is closed.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["hdf5_sink"]


class _Sink(io.FileIO):
    """A file whose first failed write is kept in `fault`; later ones are dropped."""

    fault: OSError | None = None

    def write(self, data: ReadableBuffer) -> int:
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while self.fault is None and rest:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.fault = error
        return size


@contextmanager
def hdf5_sink(path: Path | str, mode: str = "w+") -> Iterator[io.FileIO]:
    """Yield a file for ``h5py.File`` or ``Dataset.to_netcdf``.

    Parameters
    ----------
    path : path
        The file on disk.
    mode : {"w+", "r+"}
        A new file, or changes of an existing one.

    Raises
    ------
    OSError
        When a write failed, as for a disk that is full or a file that grew too large.
    """
    with _Sink(path, mode) as sink:
        try:
            yield sink
        # After a failed write HDF5 may stumble over what it cannot read back.
        except Exception as error:
            if sink.fault is None:
                raise
            raise sink.fault from error
    if sink.fault is not None:
        raise sink.fault
