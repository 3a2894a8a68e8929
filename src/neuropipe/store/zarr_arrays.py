"""Zarr arrays and groups as xarray reads them, written piece by piece."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.store.chunks import ChunkBuffer, chunk_shape, column_slices
from neuropipe.store.hashing import VariableDigest, iter_blocks
from neuropipe.store.variables import encode_attrs, is_text

if TYPE_CHECKING:
    import xarray as xr
    import zarr

__all__ = ["ArrayWriter", "new_store", "write_dataset", "write_variable"]


@contextmanager
def new_store(path: Path) -> Iterator[zarr.Group]:
    """Yield the root group of a new Zarr v3 store; consolidate its metadata at the end."""
    import zarr

    root = zarr.open_group(path, mode="w-", zarr_format=3)
    yield root
    with warnings.catch_warnings():
        # The Zarr 3 specification does not have consolidated metadata yet; stores open without.
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        zarr.consolidate_metadata(root.store)


class ArrayWriter:
    """One array of a store, filled along its first dim by blocks of any length.

    Parameters
    ----------
    group : zarr.Group
        Group that gets the array.
    name : str
        Name of the array.
    dims, shape, dtype
        As of an `xarray.Variable`; every kind of text becomes variable-length UTF-8.
    attrs : mapping
        JSON-serialisable attributes.
    fill_value : optional
        Value of what is never written; every chunk is stored.
    chunks : tuple of int, optional
        Chunk length per dim; default: `chunk_shape`.

    Attributes
    ----------
    chunks : tuple of int
        Chunk length per dim.
    digest : VariableDigest
        Hash of what was written so far.
    length : int
        Samples taken so far.
    """

    def __init__(
        self,
        group: zarr.Group,
        name: str,
        dims: Sequence[Hashable],
        shape: Sequence[int],
        dtype: np.dtype,
        *,
        attrs: Mapping[str, Any] | None = None,
        fill_value: Any = None,
        chunks: tuple[int, ...] | None = None,
    ) -> None:
        from zarr.codecs import BloscCodec, Crc32cCodec

        dtype = np.dtype(dtype)
        text = is_text(dtype)
        self.chunks = chunks or chunk_shape(shape, dtype.itemsize)
        self._array = group.create_array(
            name,
            shape=tuple(shape),
            dtype=str if text else dtype.newbyteorder("="),
            chunks=self.chunks,
            # Whatever reads the store can tell a damaged chunk, and one that is gone.
            compressors=[BloscCodec(cname="zstd", clevel=3, shuffle="shuffle"), Crc32cCodec()],
            config={"write_empty_chunks": True},
            fill_value=("" if text else dtype.type(0)) if fill_value is None else fill_value,
            dimension_names=tuple(str(dim) for dim in dims),
            attributes=encode_attrs(attrs or {}, f"{group.path}/{name}"),
        )
        self.digest = VariableDigest(dims, shape, dtype)
        self.length = 0
        self._buffer = ChunkBuffer(self.chunks[0] if self.chunks else 1, self._write)

    def add(self, values: np.ndarray) -> None:
        """Take the next samples, shape ``(n, ...)``."""
        self.digest.update(values)
        self.length += len(values)
        self._buffer.add(values)
        if self.length == self._array.shape[0]:
            self.close()

    def set(self, values: np.ndarray) -> None:
        """Write the whole of an array, also one without dims or without elements."""
        self.digest.update(values)
        if values.size:
            self._array[...] = values

    def close(self) -> None:
        """Write what is still held."""
        self._buffer.flush()

    def _write(self, start: int, values: np.ndarray) -> None:
        here = slice(start, start + len(values))
        for columns in column_slices(self._array.shape, self.chunks):
            self._array[(here, *columns)] = values[(slice(None), *columns)]


def write_variable(group: zarr.Group, name: str, variable: xr.Variable) -> VariableDigest:
    """Write one variable in blocks and return the hash of its content."""
    writer = ArrayWriter(
        group, name, variable.dims, variable.shape, variable.dtype, attrs=variable.attrs
    )
    if not variable.dims or not variable.size:
        writer.set(np.asarray(variable.values))
        return writer.digest
    for _, values in iter_blocks(variable):
        writer.add(values)
    writer.close()
    return writer.digest


def write_dataset(group: zarr.Group, ds: xr.Dataset) -> dict[str, VariableDigest]:
    """Write the variables and the attributes of a cleaned dataset; return the hashes."""
    digests = {
        str(name): write_variable(group, str(name), variable)
        for name, variable in ds.variables.items()
    }
    write_group_attrs(group, ds.attrs, ds.coords)
    return digests


def write_group_attrs(group: zarr.Group, attrs: Mapping[Any, Any], coords: Iterable[Any]) -> None:
    """Write the attributes of a group, among them the names of its coordinates for xarray."""
    encoded = encode_attrs(attrs, f"/{group.path}")
    names = sorted(str(name) for name in coords)
    if names:
        encoded["coordinates"] = " ".join(names)
    group.attrs.put(encoded)
