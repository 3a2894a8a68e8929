"""The volumes of a NIfTI file, read once from the first to the last."""

from __future__ import annotations

import gzip
import logging
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from neuropipe.errors import IngestError, Issue
from neuropipe.io.checks import head, refuse_pointers

__all__ = ["Volumes", "load_image"]

GZIP_MAGIC = b"\x1f\x8b"
HEADER_BYTES = 348
DAMAGED = (EOFError, zlib.error, OSError)


def load_image(path: Path) -> Any:
    """Return a nibabel image; only its header is read.

    Raises
    ------
    IngestError
        ``NOT_THIS_FORMAT``, or ``TRUNCATED`` for a file that ends within the header.
    """
    import nibabel as nib

    refuse_pointers(path)
    try:
        with _quiet_headers():
            return nib.load(path)
    except (*DAMAGED, nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError) as e:
        code = "TRUNCATED" if _ends_in_header(path) else "NOT_THIS_FORMAT"
        text = f"the header cannot be read: {e}"
        raise IngestError(code, path, text, "copy or download the file again") from e


@contextmanager
def _quiet_headers() -> Iterator[None]:
    """Drop nibabel's remarks on headers: those with zero zooms (all CIFTI files) draw a line each.

    A logger without a handler writes to the terminal, so taking its handlers away is not enough.
    """
    from nibabel.imageglobals import logger

    def drop(record: logging.LogRecord) -> bool:
        return False

    logger.addFilter(drop)
    try:
        yield
    finally:
        logger.removeFilter(drop)


def _ends_in_header(path: Path) -> bool:
    """Tell whether compressed data stop before a whole header."""
    if head(path, len(GZIP_MAGIC)) != GZIP_MAGIC:
        return False
    try:
        with gzip.open(path) as stream:
            return len(stream.read(HEADER_BYTES)) < HEADER_BYTES
    except EOFError:
        return True
    except (OSError, zlib.error):
        return False


class Volumes:
    """A 4-D image on disk, plain or compressed.

    Parameters
    ----------
    path : Path
        ``.nii`` or ``.nii.gz``.
    image : nibabel image
        As `load_image` returns it.
    allow_truncated : bool
        Keep the whole volumes of a file that ends too early, with an issue.

    Attributes
    ----------
    shape : tuple of int
        ``(x, y, z, time)`` of what can be read.
    dtype : numpy.dtype
        Of the stored numbers, in native byte order.
    slope, inter : float
        Value = number * slope + inter.
    issues : list of Issue

    Raises
    ------
    IngestError
        ``TRUNCATED``, or ``DTYPE`` for samples that are no plain numbers.
    """

    def __init__(self, path: Path, image: Any, allow_truncated: bool = False) -> None:
        proxy = image.dataobj
        self.path, self.issues = path, list[Issue]()
        self.shape: tuple[int, ...] = tuple(int(n) for n in image.shape)
        self._stored = np.dtype(proxy.dtype)
        self.dtype = self._stored.newbyteorder("=")
        self.slope, self.inter = float(proxy.slope), float(proxy.inter)
        self._offset = int(proxy.offset)
        self.compressed = path.suffix.lower() == ".gz"
        if self.dtype.kind not in "iuf":
            text = f"samples are {self.dtype}, real numbers expected"
            raise IngestError("DTYPE", path, text, "convert the image")
        self._volume_bytes = int(np.prod(self.shape[:3])) * self._stored.itemsize
        self._check_size(allow_truncated)

    def _check_size(self, allow_truncated: bool) -> None:
        stated = self.shape[3]
        if self.compressed:
            # Only reading tells where compressed data end; blocks raise when they end too early.
            found = self._count() if allow_truncated else stated
        else:
            found = max(0, self.path.stat().st_size - self._offset) // self._volume_bytes
        if found >= stated:
            return
        text = f"holds {found} whole volumes, the header states {stated}"
        if not allow_truncated:
            raise self._truncated(text)
        self.shape = (*self.shape[:3], found)
        self.issues.append(Issue("TRUNCATED", str(self.path), f"{text}; kept", "copy it again"))

    def _truncated(self, text: str) -> IngestError:
        hint = "copy the file again, or keep the whole volumes with `allow_truncated: true`"
        return IngestError("TRUNCATED", self.path, text, hint)

    def _count(self) -> int:
        """Return the number of whole volumes that can be read."""
        count = 0
        try:
            for values in self._numbers(self.shape[3], self._volume_bytes):
                count += values.shape[3]
        except IngestError:
            pass
        return count

    def chunks(self, max_bytes: int) -> Iterator[np.ndarray]:
        """Yield stored numbers ``(x, y, z, n)`` in time order, one volume at least.

        Raises
        ------
        IngestError
            ``TRUNCATED``.
        """
        yield from self._numbers(self.shape[3], max_bytes)

    def _numbers(self, count: int, max_bytes: int) -> Iterator[np.ndarray]:
        from nibabel.openers import ImageOpener

        step = max(1, max_bytes // self._volume_bytes)
        with ImageOpener(str(self.path)) as stream:
            for start in range(0, count, step):
                wanted = min(step, count - start)
                try:
                    if not start:
                        stream.seek(self._offset)
                    raw = stream.read(wanted * self._volume_bytes)
                except DAMAGED as error:
                    text = f"ends within volumes {start} to {start + wanted} of {count}: {error}"
                    raise self._truncated(text) from error
                if len(raw) < wanted * self._volume_bytes:
                    text = f"ends within volumes {start} to {start + wanted} of {count}"
                    raise self._truncated(text)
                values = np.frombuffer(raw, self._stored).reshape(
                    (*self.shape[:3], wanted), order="F"
                )
                yield values.astype(self.dtype, copy=False)

    def mean(self, max_bytes: int) -> np.ndarray:
        """Return the mean over time as values, float64 ``(x, y, z)``."""
        total = np.zeros(self.shape[:3])
        for values in self.chunks(max_bytes):
            total += np.nan_to_num(values).sum(axis=3, dtype=np.float64)
        return total / max(1, self.shape[3]) * self.slope + self.inter
