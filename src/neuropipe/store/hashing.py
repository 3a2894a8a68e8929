"""Hashes of files and of array contents, the same for the same content wherever it lies."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from neuropipe.errors import MissingInput
from neuropipe.store.chunks import BUFFER_BYTES, column_slices

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "VariableDigest",
    "combine_digests",
    "combine_files",
    "content_sha256",
    "file_sha256",
    "iter_blocks",
    "read_chunkwise",
    "source_sha256",
]

READ_BYTES = 1 << 20
BLOCK_BYTES = 8 << 20
TEXT_KINDS = "OUTS"
# Snakemake leaves this file in the folders that it made; it is no content.
WORKFLOW_FILE = ".snakemake_timestamp"


def file_sha256(path: Path | str) -> str:
    """Return the SHA-256 of the bytes of one file, as hexadecimal text.

    Raises
    ------
    MissingInput
        If `path` is not a file.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingInput(f"{path}: no such file; expected a file to hash")
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(READ_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _files_of(path: Path) -> list[tuple[str, Path]]:
    if path.is_dir():
        files = (file for file in path.rglob("*") if file.is_file() and file.name != WORKFLOW_FILE)
        return [(f"{path.name}/{file.relative_to(path).as_posix()}", file) for file in files]
    return [(path.name, path)]


def source_sha256(paths: Sequence[Path | str]) -> str:
    """Return one SHA-256 over names and bytes of source files.

    Files are taken in the order of their names; a folder stands for all files below it. The hash
    depends on neither the order of `paths` nor the place where the files lie.

    Raises
    ------
    MissingInput
        If a path does not exist.
    """
    named = [entry for path in paths for entry in _files_of(Path(path))]
    return combine_files((name, file_sha256(file)) for name, file in named)


def combine_files(hashed: Iterable[tuple[str, str]]) -> str:
    """Return one SHA-256 over pairs of the name and the hash of a file, in any order."""
    digest = hashlib.sha256()
    for name, content in sorted(hashed):
        _update_text(digest, name)
        digest.update(bytes.fromhex(content))
    return digest.hexdigest()


def _update_text(digest: hashlib._Hash, text: str) -> None:
    encoded = text.encode("utf-8")
    digest.update(len(encoded).to_bytes(8, "little"))
    digest.update(encoded)


def _as_text(value: object) -> str:
    if value is None:
        return ""
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


class VariableDigest:
    """Running hash of one variable, fed with blocks along its first dim.

    Parameters
    ----------
    dims : sequence of str
        Dims in order.
    shape : sequence of int
        Length of each dim of the whole variable.
    dtype : numpy.dtype
        Dtype; every kind of text counts as the same dtype.
    """

    def __init__(self, dims: Sequence[Hashable], shape: Sequence[int], dtype: np.dtype) -> None:
        self._is_text = np.dtype(dtype).kind in TEXT_KINDS
        self._digest = hashlib.sha256()
        _update_text(self._digest, "text" if self._is_text else np.dtype(dtype).name)
        for dim, length in zip(dims, shape, strict=True):
            _update_text(self._digest, str(dim))
            self._digest.update(int(length).to_bytes(8, "little"))

    def update(self, values: np.ndarray) -> None:
        """Add the next samples, in C order and little-endian."""
        values = np.asarray(values)
        if self._is_text:
            for value in values.ravel():
                _update_text(self._digest, _as_text(value))
        elif values.size:
            little = values.dtype.newbyteorder("<")
            ordered = np.ascontiguousarray(values, dtype=little)
            self._digest.update(ordered.reshape(-1).view(np.uint8).data)

    def digest(self) -> bytes:
        """Return the hash of all samples so far."""
        return self._digest.digest()


def combine_digests(digests: Mapping[str, VariableDigest]) -> str:
    """Return one SHA-256 over named variables, sorted by name."""
    combined = hashlib.sha256()
    for name in sorted(digests):
        _update_text(combined, name)
        combined.update(digests[name].digest())
    return combined.hexdigest()


def iter_blocks(
    variable: xr.Variable, max_bytes: int = BLOCK_BYTES
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield ``(start, values)`` of consecutive blocks along the first dim.

    A variable that is loaded lazily is never read as a whole. Its blocks end where its chunks
    end, so that each is decoded once; one row of chunks may then exceed `max_bytes`.
    """
    if not variable.dims or variable.sizes[variable.dims[0]] == 0:
        yield 0, variable.values
        return
    length = variable.shape[0]
    stored = variable.encoding.get("preferred_chunks", {})
    chunk = _stored_chunk(variable)
    row_bytes = max(1, int(np.prod(variable.shape[1:], dtype=np.int64)) * variable.dtype.itemsize)
    step = max(1, max_bytes // row_bytes)
    if stored and step >= chunk[0]:
        step -= step % chunk[0]
    elif stored and chunk[0] * row_bytes <= BUFFER_BYTES:
        step = chunk[0]
    for start in range(0, length, step):
        yield start, read_chunkwise(variable, slice(start, min(start + step, length)))


def _stored_chunk(variable: xr.Variable) -> list[int]:
    stored = variable.encoding.get("preferred_chunks", {})
    return [int(stored.get(dim, size)) for dim, size in variable.sizes.items()]


def read_chunkwise(variable: xr.Variable, here: slice) -> np.ndarray:
    """Return samples along the first dim, read chunk by chunk where they lie on disk.

    Chunks that are decoded one by one need memory for one, not for all that lie side by side.
    """
    chunk = _stored_chunk(variable)
    if variable.dtype.kind in TEXT_KINDS or list(chunk[1:]) == list(variable.shape[1:]):
        return variable[here].values
    values = np.empty((here.stop - here.start, *variable.shape[1:]), variable.dtype)
    for columns in column_slices(variable.shape, chunk):
        values[(slice(None), *columns)] = variable[(here, *columns)].values
    return values


def content_sha256(ds: xr.Dataset) -> str:
    """Return the hash of the variables of a dataset, coordinates included.

    It covers name, dims, shape, dtype and values in C order of each variable, sorted by name.
    Attributes, chunks, compression and the kind of text array do not enter.

    Parameters
    ----------
    ds : xarray.Dataset
        Loaded or lazy; lazy variables are read in blocks.
    """
    digests = {}
    for name, variable in ds.variables.items():
        digest = VariableDigest(variable.dims, variable.shape, variable.dtype)
        for _, values in iter_blocks(variable):
            digest.update(values)
            del values  # or it would stay while the next block is read
        digests[str(name)] = digest
    return combine_digests(digests)
