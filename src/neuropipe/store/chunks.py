"""Chunks of the arrays on disk, and buffers that turn any blocks into whole chunks."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

__all__ = ["BUFFER_BYTES", "ChunkBuffer", "chunk_shape", "column_slices"]

CHUNK_BYTES = 8 << 20
SMALL_BYTES = 1 << 20
BUFFER_BYTES = 64 << 20
CHUNK_ROWS = 64


def chunk_shape(shape: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """Return the chunk of an array whose first dim is time.

    Arrays below 1 MB are one chunk. Larger ones get chunks of about 8 MB that hold up to 64 rows
    and as many samples as fit. Where that many samples of *all* rows would not fit a buffer of
    64 MB (voxels), the chunk gets shorter in time and takes more rows, so that a writer never
    holds more than the buffer.

    Parameters
    ----------
    shape : sequence of int
        Shape of the whole array.
    itemsize : int
        Bytes per element.

    Returns
    -------
    tuple of int
        Chunk length per dim, at least 1.
    """
    lengths = [max(1, int(length)) for length in shape]
    size = itemsize * int(np.prod(lengths, dtype=np.int64))
    if size <= SMALL_BYTES or not lengths:
        return tuple(lengths)
    if len(lengths) == 1:
        return (min(lengths[0], CHUNK_BYTES // itemsize),)
    rest = int(np.prod(lengths[2:], dtype=np.int64)) * itemsize
    rows = min(CHUNK_ROWS, lengths[1])
    samples = max(1, CHUNK_BYTES // (rows * rest))
    held = max(1, BUFFER_BYTES // (lengths[1] * rest))
    if held < min(samples, lengths[0]):
        samples = held
        rows = min(lengths[1], max(rows, CHUNK_BYTES // (samples * rest)))
    return (min(samples, lengths[0]), rows, *lengths[2:])


def column_slices(shape: Sequence[int], chunk: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    """Yield the parts of all dims but the first that one chunk covers.

    Chunks that are written or read one by one need memory for one, not for all that lie side by
    side.
    """
    parts = [
        [slice(at, min(at + step, length)) for at in range(0, length, step)]
        for length, step in zip(shape[1:], chunk[1:], strict=True)
    ]
    yield from itertools.product(*parts)


class ChunkBuffer:
    """Collect consecutive blocks and pass them on in whole chunks along the first dim.

    Writing a part of a chunk means reading, decoding and writing it again; blocks of a reader
    seldom end where chunks end. Memory is that of one row of chunks, and none after `flush`.

    Parameters
    ----------
    length : int
        Length of a chunk along the first dim.
    write : callable
        Called with ``(start, values)``; `start` is a multiple of `length`. The values are
        overwritten afterwards.
    """

    def __init__(self, length: int, write: Callable[[int, np.ndarray], None]) -> None:
        self._length, self._write = length, write
        self._held: np.ndarray | None = None
        self._count = 0
        self._start = 0

    def add(self, values: np.ndarray) -> None:
        """Take the next samples."""
        while len(values):
            if not self._count and len(values) >= self._length:
                taken = len(values) - len(values) % self._length
                self._pass_on(values[:taken])
            else:
                taken = min(len(values), self._length - self._count)
                if self._held is None:
                    self._held = np.empty((self._length, *values.shape[1:]), values.dtype)
                self._held[self._count : self._count + taken] = values[:taken]
                self._count += taken
                if self._count == self._length:
                    self._pass_on(self._held)
                    self._count = 0
            values = values[taken:]

    def flush(self) -> None:
        """Pass on what is held, also if it is less than a chunk."""
        if self._held is not None and self._count:
            self._pass_on(self._held[: self._count])
        self._held, self._count = None, 0

    def _pass_on(self, values: np.ndarray) -> None:
        self._write(self._start, values)
        self._start += len(values)
