"""Check of a MATLAB 5 file, element by element, before a library reads it.

SciPy takes types and counts of elements as they stand there: one flipped byte makes it read out of
bounds, which ends the process without an exception. What passes here, it reads as it was written:
every element lies inside the one that holds it and fills it, has a type that its place allows, and
as many values as its dims say. Values are not looked at; a variable that is compressed is unpacked
piece by piece, so that its sum is checked and little of it is in memory.

Layout: MATLAB "MAT-File Format", level 5.
"""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from neuropipe.errors import IngestError
from neuropipe.io.checks import HDF5_MAGIC, head

__all__ = ["check_matlab5"]

HEADER = 128
# Version and order of bytes, at the end of the header.
ORDERS = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}
HDF5_VERSIONS = (b"\x00\x02IM", b"\x02\x00MI")
INT8, INT32, UINT32, MATRIX, COMPRESSED, UTF8, UTF16, UTF32 = 1, 5, 6, 14, 15, 16, 17, 18
# Type of an element -> numpy's type, and bytes of a value.
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8",
           13: "u8"}  # fmt: skip
SIZES = {kind: int(name[1]) for kind, name in NUMBERS.items()}
INTEGERS = frozenset({1, 2, 3, 4, 5, 6, 12, 13})
CHARACTERS = {1: "ascii", 2: "ascii", 4: "utf-16-le", UTF8: "utf-8", UTF16: "utf-16-le",
              UTF32: "utf-32-le"}  # fmt: skip
NAMES, COUNTS, FLAGS = frozenset({INT8, UTF8}), frozenset({INT32, UINT32}), frozenset({UINT32})
# Class of an array -> type that holds its values in full; MATLAB also writes them as smaller ones.
CLASSES = {6: 9, 7: 7, 8: 1, 9: 2, 10: 3, 11: 4, 12: 5, 13: 6, 14: 12, 15: 13}
CELL, STRUCT, OBJECT, CHAR, SPARSE, FUNCTION, OPAQUE = 1, 2, 3, 4, 5, 16, 17
COMPLEX, LOGICAL = 1 << 11, 1 << 9
MAX_DIMS, MAX_DEPTH, MAX_EMPTY = 32, 100, 1 << 20
PIECE = 1 << 18
# Deflate packs no better than 1032 bytes into one.
MAX_RATIO = 1032


class _DamageError(Exception):
    """What is wrong, and whether bytes are missing."""

    def __init__(self, text: str, cut: bool = False) -> None:
        super().__init__(text)
        self.cut = cut


class _Unpacked(io.RawIOBase):
    """The bytes of a compressed variable, unpacked as they are asked for.

    Parameters
    ----------
    stream : BinaryIO
        Stands at the first compressed byte.
    size : int
        Compressed bytes.
    """

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream, self._left = stream, size
        self._unpacker = zlib.decompressobj()
        self._waiting = b""

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer; 0 at the end of the variable."""
        view = memoryview(buffer)
        while not self._unpacker.eof:
            if not self._waiting and self._left:
                self._waiting = self._stream.read(min(self._left, PIECE))
                self._left -= len(self._waiting)
            fed = self._waiting
            data = self._unpacker.decompress(fed, len(view))
            self._waiting = self._unpacker.unconsumed_tail
            if data:
                view[: len(data)] = data
                return len(data)
            if not fed and not self._left:
                raise _DamageError("a compressed variable ends before its sum")
        if self._left or self._unpacker.unused_data:
            raise _DamageError("bytes follow the sum of a compressed variable")
        return 0


class _Elements:
    """A walk over the elements of one stream.

    Parameters
    ----------
    stream : BinaryIO
        Stands at the first element.
    order : {"<", ">"}
        Order of bytes.
    at : int
        Position of the first element, for messages and ends.
    """

    def __init__(self, stream: BinaryIO, order: str, at: int) -> None:
        self._stream, self._order, self.at = stream, order, at
        self._tag = struct.Struct(f"{order}II").unpack
        self._bodies: dict[int, Callable[[tuple[int, ...], int, int, int], None]] = {
            CELL: self._cells, STRUCT: self._struct, OBJECT: self._object, CHAR: self._characters,
            SPARSE: self._sparse, FUNCTION: self._function,
        }  # fmt: skip

    def take(self, size: int, stop: int) -> bytes:
        """Return so many bytes, which must lie before `stop`."""
        if self.at + size > stop:
            raise _DamageError(
                f"byte {self.at}: {size} bytes said to follow, {stop - self.at} are left"
            )
        data = self._stream.read(size)
        if len(data) != size:
            raise _DamageError(
                f"byte {self.at}: {size} bytes said to follow, {len(data)} do", cut=True
            )
        self.at += size
        return data

    def _skip(self, size: int, stop: int) -> None:
        while size > PIECE:
            self.take(PIECE, stop)
            size -= PIECE
        self.take(size, stop)

    def full_tag(self, stop: int) -> tuple[int, int]:
        """Return type and bytes of an element that is not a small one."""
        kind, size = self._tag(self.take(8, stop))
        return kind, size

    def _element(self, kinds: Container[int], stop: int) -> tuple[int, bytes]:
        """Return type and bytes of an element of one of these types."""
        kind, size, small = self._head(kinds, stop)
        if small is not None:
            return kind, small
        data = self.take(size, stop)
        self.take(-size % 8, stop)
        return kind, data

    def _head(self, kinds: Container[int], stop: int) -> tuple[int, int, bytes | None]:
        """Return type, bytes and, of a small element, what it holds."""
        at, tag = self.at, self.take(8, stop)
        kind, size = self._tag(tag)
        small = None
        if kind >> 16:
            kind, size = kind & 0xFFFF, kind >> 16
            if size > 4:
                raise _DamageError(f"byte {at}: a small element of {size} bytes, at most 4 fit")
            small = tag[4 : 4 + size]
        if kind not in kinds:
            raise _DamageError(f"byte {at}: an element of type {kind}, which may not stand here")
        return kind, size, small

    def _numbers(self, cls: int, count: int, stop: int) -> None:
        """Check values of a class of numbers, without a look at them."""
        at = self.at
        kind, size, small = self._head(NUMBERS, stop)
        full = CLASSES[cls]
        if kind != full and SIZES[kind] >= SIZES[full]:
            text = f"byte {at}: type {kind} in an array of class {cls}, expected {full} or smaller"
            raise _DamageError(text)
        if size != count * SIZES[kind]:
            text = f"byte {at}: {size} bytes of type {kind}, {count} values expected"
            raise _DamageError(text)
        if small is None:
            self._skip(size + -size % 8, stop)

    def _whole(self, stop: int) -> np.ndarray:
        kind, data = self._element(INTEGERS, stop)
        if len(data) % SIZES[kind]:
            raise _DamageError(f"byte {self.at}: {len(data)} bytes are no whole numbers")
        return np.frombuffer(data, dtype=self._order + NUMBERS[kind]).astype(np.int64)

    def matrix(self, stop: int, depth: int = 0) -> None:
        """Check an array and what it holds.

        Raises
        ------
        _DamageError
        """
        kind, size = self.full_tag(stop)
        if kind != MATRIX:
            raise _DamageError(f"byte {self.at - 8}: an element of type {kind}, expected {MATRIX}")
        if size > stop - self.at:
            text = f"byte {self.at}: {size} bytes said to follow, {stop - self.at} are left"
            raise _DamageError(text, cut=depth == 0)
        if depth > MAX_DEPTH:
            raise _DamageError(f"byte {self.at}: arrays in arrays, more than {MAX_DEPTH} deep")
        if size:
            self._array(self.at + size, depth)
        elif not depth:
            raise _DamageError(f"byte {self.at}: a variable of 0 bytes")

    def _array(self, stop: int, depth: int) -> None:
        at = self.at
        _, data = self._element(FLAGS, stop)
        if len(data) != 8:
            raise _DamageError(f"byte {at}: {len(data)} bytes of flags, 8 expected")
        flags = self._tag(data)[0]
        cls = flags & 0xFF
        if cls == OPAQUE:
            for _ in ("name", "system of types", "class"):
                self._element(NAMES, stop)
            self.matrix(stop, depth + 1)
        else:
            dims = self._dims(stop)
            self._element(NAMES, stop)
            if cls in CLASSES:
                for _ in range(2 if flags & COMPLEX else 1):
                    self._numbers(cls, math.prod(dims), stop)
            elif cls in self._bodies:
                self._bodies[cls](dims, flags, stop, depth)
            else:
                raise _DamageError(f"byte {at}: an array of class {cls}, unknown to MATLAB 5")
        if self.at != stop:
            raise _DamageError(f"byte {self.at}: {stop - self.at} bytes left over in an array")

    def _dims(self, stop: int) -> tuple[int, ...]:
        at = self.at
        _, data = self._element(COUNTS, stop)
        dims = struct.unpack(f"{self._order}{len(data) // 4}i", data[: len(data) // 4 * 4])
        if len(data) % 4 or not 2 <= len(dims) <= MAX_DIMS or min(dims) < 0:
            raise _DamageError(f"byte {at}: dims {dims}, expected 2 to {MAX_DIMS} counts")
        return dims

    def _characters(self, dims: tuple[int, ...], flags: int, stop: int, depth: int) -> None:
        at, length = self.at, math.prod(dims)
        kind, data = self._element(CHARACTERS, stop)
        text = data.decode(CHARACTERS[kind], "replace")
        # Dims count what MATLAB holds, units of 16 bits; a text may be all blank with no bytes.
        counts = {len(text), len(text.encode("utf-16-le", "surrogatepass")) // 2}
        if kind == 4:
            counts = {len(data) // 2}
        if length not in counts and not (not data and length <= MAX_EMPTY):
            raise _DamageError(f"byte {at}: {len(text)} characters, {length} expected")

    def _cells(self, dims: tuple[int, ...], flags: int, stop: int, depth: int) -> None:
        self._children(math.prod(dims), stop, depth)

    def _children(self, count: int, stop: int, depth: int) -> None:
        if count * 8 > stop - self.at:
            text = f"byte {self.at}: {count} arrays do not fit into {stop - self.at} bytes"
            raise _DamageError(text)
        for _ in range(count):
            self.matrix(stop, depth + 1)

    def _object(self, dims: tuple[int, ...], flags: int, stop: int, depth: int) -> None:
        self._element(NAMES, stop)
        self._struct(dims, flags, stop, depth)

    def _struct(self, dims: tuple[int, ...], flags: int, stop: int, depth: int) -> None:
        at = self.at
        _, data = self._element(COUNTS, stop)
        width = struct.unpack(f"{self._order}i", data)[0] if len(data) == 4 else 0
        _, names = self._element(NAMES, stop)
        if width <= 0 or len(names) % width:
            raise _DamageError(f"byte {at}: {len(names)} bytes of names of {width} each")
        found = [names[k : k + width] for k in range(0, len(names), width)]
        if not all(b"\0" in name for name in found):
            raise _DamageError(f"byte {at}: the name of a field has no end")
        if not found and math.prod(dims) > MAX_EMPTY:
            raise _DamageError(f"byte {at}: dims {dims} of a struct without fields")
        self._children(math.prod(dims) * len(found), stop, depth)

    def _function(self, dims: tuple[int, ...], flags: int, stop: int, depth: int) -> None:
        self.matrix(stop, depth + 1)

    def _sparse(self, dims: tuple[int, ...], flags: int, stop: int, depth: int) -> None:
        at, (rows, columns) = self.at, dims[:2]
        row, starts = self._whole(stop), self._whole(stop)
        if len(dims) != 2 or len(starts) <= columns:
            raise _DamageError(f"byte {at}: {len(starts)} starts of {columns} columns, dims {dims}")
        starts = starts[: columns + 1]
        count = int(starts[-1])
        row = row[:count]
        if starts[0] or np.any(np.diff(starts) < 0) or len(row) != count:
            raise _DamageError(f"byte {at}: starts of columns do not rise from 0 to {len(row)}")
        if count and (row.min() < 0 or row.max() >= rows):
            raise _DamageError(f"byte {at}: rows {row.min()} to {row.max()}, {rows} expected")
        for _ in range(2 if flags & COMPLEX else 1):
            kind, data = self._element(NUMBERS, stop)
            # Logical ones are bytes, even where they are called numbers of 8.
            one = 1 if flags & LOGICAL and len(data) == count else SIZES[kind]
            if len(data) % one or len(data) // one < count:
                raise _DamageError(f"byte {self.at}: {len(data)} bytes for {count} values")


def _check_variable(stream: BinaryIO, order: str, at: int, end: int) -> int:
    """Check the variable at a position and return where it ends."""
    if end - at < 8:
        raise _DamageError(
            f"byte {at}: 8 bytes of a variable expected, {end - at} follow", cut=True
        )
    walk = _Elements(stream, order, at)
    kind, size = walk.full_tag(end)
    stop = walk.at + size
    if kind not in (MATRIX, COMPRESSED):
        raise _DamageError(
            f"byte {at}: an element of type {kind}, expected {MATRIX} or {COMPRESSED}"
        )
    if stop > end:
        raise _DamageError(f"byte {at}: {size} bytes said to follow, {end - walk.at} do", cut=True)
    if kind == COMPRESSED:
        _check_compressed(stream, order, at, size)
    else:
        stream.seek(at)
        walk.at = at
        walk.matrix(stop)
    return stop


def _check_compressed(stream: BinaryIO, order: str, at: int, size: int) -> None:
    unpacked = io.BufferedReader(_Unpacked(stream, size), PIECE)
    try:
        tag = unpacked.peek(8)[:8]
        if len(tag) < 8:
            raise _DamageError("a compressed variable is empty")
        stop = 8 + struct.unpack(f"{order}II", tag)[1]
        if stop > 8 + MAX_RATIO * size:
            raise _DamageError(f"{stop} bytes cannot come of {size} compressed ones")
        _Elements(unpacked, order, 0).matrix(stop)
        if unpacked.read(1):
            raise _DamageError(f"byte {stop}: a compressed variable goes on after its end")
    except zlib.error as error:
        raise _DamageError(
            f"byte {at}: a compressed variable cannot be unpacked: {error}"
        ) from error
    except _DamageError as damage:
        raise _DamageError(f"in the compressed variable at byte {at}: {damage}") from damage


def check_matlab5(path: Path) -> None:
    """Check that a MATLAB 5 file is what its format says; a file of HDF5 (7.3) passes unread.

    Parameters
    ----------
    path : Path
        A file whose first bytes say MATLAB.

    Raises
    ------
    IngestError
        ``TRUNCATED``: its last variable goes on after its end. ``NOT_THIS_FORMAT``: damaged.
    """
    start, end = head(path, HEADER), path.stat().st_size
    if start.startswith(HDF5_MAGIC) or start[124:128] in HDF5_VERSIONS:
        return
    try:
        if end <= HEADER:
            raise _DamageError(
                f"the file has {end} bytes, at least one variable expected", cut=True
            )
        order = ORDERS.get(start[124:128])
        if order is None:
            text = f"version and order of bytes are {start[124:128]!r}, unknown to MATLAB 5"
            raise _DamageError(text)
        with path.open("rb") as stream:
            at = HEADER
            while at < end:
                stream.seek(at)
                at = _check_variable(stream, order, at, end)
    except _DamageError as damage:
        code = "TRUNCATED" if damage.cut else "NOT_THIS_FORMAT"
        raise IngestError(code, path, str(damage), "copy the file again") from damage
