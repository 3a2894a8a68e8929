"""Read an NWB file that we wrote back into the tree of the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from neuropipe.errors import DataError, IngestError, MissingInput
from neuropipe.store.hdf5_heap import refuse_endless_heaps
from neuropipe.store.lazy_time import with_indexes
from neuropipe.store.nwb.clock import expand_clock
from neuropipe.store.nwb.manifest import MANIFEST_NAME, Manifest
from neuropipe.store.variables import decode_value

__all__ = ["PLACES", "from_nwb", "open_hdf5", "read_group"]

LAZY_BYTES = 1 << 20


def open_hdf5(path: Path | str) -> h5py.File:
    """Open an HDF5 file for reading.

    Raises
    ------
    MissingInput
        If there is no such file.
    IngestError
        ``NOT_THIS_FORMAT`` when it is something else, ``TRUNCATED`` when it is damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingInput(f"{path}: no such file; expected an NWB file")
    if not h5py.is_hdf5(path):
        with path.open("rb") as stream:
            start = stream.read(16)
        text = f"begins with {start!r}, expected the signature of HDF5"
        raise IngestError("NOT_THIS_FORMAT", path, text, "give the NWB file itself")
    refuse_endless_heaps(path)
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise IngestError("TRUNCATED", path, str(error), "copy or download it again") from error


def from_nwb(path: Path | str) -> xr.DataTree:
    """Return the tree that `to_nwb` wrote; arrays above 1 MB are loaded lazily.

    Parameters
    ----------
    path : path
        An ``.nwb`` file written by `to_nwb`.

    Raises
    ------
    MissingInput
        If there is no such file.
    IngestError
        ``NOT_THIS_FORMAT`` for a file that is not HDF5, ``TRUNCATED`` for a damaged one.
    DataError
        If the file was not written by `to_nwb`, or misses what its record names.
    """
    path = Path(path)
    with open_hdf5(path) as file:
        manifest = _manifest(file, path)
        try:
            groups = {group: read_group(file, path, manifest, group) for group in manifest.groups}
        except (KeyError, OSError, ValueError, RuntimeError, TypeError, AttributeError) as error:
            kind = type(error).__name__
            raise DataError(
                f"{path}: does not hold what its record in /scratch/{MANIFEST_NAME} names "
                f"({kind}: {error}); write it again"
            ) from error
    return xr.DataTree.from_dict(groups)


def _manifest(file: h5py.File, path: Path) -> Manifest:
    where = f"scratch/{MANIFEST_NAME}"
    if where not in file:
        raise DataError(
            f"{path}: has no /{where}, so it was not written by neuropipe; "
            "ingest it through the reader `nwb`"
        )
    try:
        return Manifest.from_json(file[where].asstr()[()])
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise DataError(f"{path}: /{where} is damaged ({error}); write it again") from error


Place = Callable[[h5py.File, Path, Mapping[str, Any]], Any]


def read_group(
    file: h5py.File,
    path: Path,
    manifest: Manifest,
    group: str,
    places: Mapping[str, Place] | None = None,
) -> xr.Dataset:
    """Return a group from where its record says that each variable lies.

    Parameters
    ----------
    file : h5py.File
        Open for reading.
    path : Path
        Its path, for arrays that are read later.
    manifest : Manifest
        The record.
    group : str
        Key of the record.
    places : mapping of str to callable, optional
        Kind of place -> ``(file, path, entry) -> values``; default: those of NWB.
    """
    variables, coords = {}, []
    for name, entry in manifest.groups[group]["variables"].items():
        variables[name] = _variable(file, path, entry, PLACES if places is None else places)
        if entry["coord"]:
            coords.append(name)
    attrs = manifest.attrs(group)
    data = {name: value for name, value in variables.items() if name not in coords}
    index_free = xr.Coordinates({name: variables[name] for name in coords}, indexes={})
    return with_indexes(xr.Dataset(data, index_free, attrs))


def _variable(
    file: h5py.File, path: Path, entry: Mapping[str, Any], places: Mapping[str, Place]
) -> xr.Variable:
    place = entry["place"]
    kind = next(key for key in places if key in place)
    values = places[kind](file, path, entry)
    if tuple(values.shape) != tuple(entry["shape"]):
        raise ValueError(f"{place}: shape {tuple(values.shape)}, expected {entry['shape']}")
    attrs = Manifest({"": {"attrs": entry["attrs"]}}).attrs("")
    chunks = _chunks(file, entry, kind)
    encoding = {"preferred_chunks": dict(zip(entry["dims"], chunks, strict=True))} if chunks else {}
    return xr.Variable(entry["dims"], values, attrs, encoding)


def _chunks(file: h5py.File, entry: Mapping[str, Any], kind: str) -> tuple[int, ...] | None:
    """Return how the samples lie in the file; parts lie side by side along the rows."""
    if kind == "path":
        return file[entry["place"]["path"]].chunks
    if kind == "parts":
        chunks = file[entry["place"]["parts"][0]["path"]].chunks
        return (chunks[0], *entry["shape"][1:]) if chunks else None
    return None


def _from_path(file: h5py.File, path: Path, entry: Mapping[str, Any]) -> Any:
    dataset = file[entry["place"]["path"]]
    if entry["dtype"] == "text":
        return np.asarray(dataset.asstr()[...], dtype=object)
    dtype = np.dtype(entry["dtype"])
    _check_kind(dataset, dtype)
    if dataset.size * dtype.itemsize <= LAZY_BYTES:
        return dataset[...].astype(dtype, copy=False)
    return indexing.LazilyIndexedArray(_LazyDataset(path, dataset, dtype))


def _check_kind(dataset: h5py.Dataset, dtype: np.dtype) -> None:
    """Raise when a cast would change values: NaN has no integer."""
    truth = dtype.kind == "b" and dataset.dtype.kind in "bu"
    if not truth and not np.can_cast(dataset.dtype, dtype, "same_kind"):
        raise ValueError(f"{dataset.name}: dtype {dataset.dtype}, expected {dtype}")


def _from_parts(file: h5py.File, path: Path, entry: Mapping[str, Any]) -> Any:
    """Return an array whose columns lie in several datasets."""
    dtype = np.dtype(entry["dtype"])
    parts = [(part["path"], np.array(part["columns"])) for part in entry["place"]["parts"]]
    for name, columns in parts:
        if file[name].shape != (entry["shape"][0], len(columns)):
            raise ValueError(f"{name}: shape {file[name].shape}, expected {len(columns)} columns")
        _check_kind(file[name], dtype)
    array = _LazyParts(path, parts, tuple(entry["shape"]), dtype)
    if int(np.prod(array.shape)) * dtype.itemsize <= LAZY_BYTES:
        return array.read((slice(None), slice(None)))
    return indexing.LazilyIndexedArray(array)


def _from_columns(file: h5py.File, path: Path, entry: Mapping[str, Any]) -> np.ndarray:
    for column in entry["place"]["columns"]:
        _check_kind(file[column], np.dtype(entry["dtype"]))
    columns = [file[column][...] for column in entry["place"]["columns"]]
    return np.stack(columns, axis=-1).astype(entry["dtype"], copy=False)


def _from_value(file: h5py.File, path: Path, entry: Mapping[str, Any]) -> np.ndarray:
    dtype = object if entry["dtype"] == "text" else np.dtype(entry["dtype"])
    values = [decode_value(value) for value in entry["place"]["value"]]
    return np.array(values, dtype=dtype).reshape(entry["shape"])


def _from_clock(file: h5py.File, path: Path, entry: Mapping[str, Any]) -> Any:
    return expand_clock(entry["place"]["clock"], entry["shape"][0])


def _per_unit(file: h5py.File, path: Path, entry: Mapping[str, Any]) -> np.ndarray:
    """Return what the index of the spikes tells: owner of each, or start and number per unit."""
    stops = file[entry["place"]["index"]][...].astype(np.int64)
    counts = np.diff(stops, prepend=0)
    found = {
        "spike_unit": np.repeat(np.arange(len(counts), dtype=np.int32), counts),
        "unit_start": stops - counts,
        "n_spikes": counts,
    }
    return found[entry["place"]["gives"]].astype(entry["dtype"], copy=False)


def _from_ragged(file: h5py.File, path: Path, entry: Mapping[str, Any]) -> np.ndarray:
    """Return one column of intervals per unit as ``(interval, unit)``, NaN behind the last."""
    place = entry["place"]
    values = file[place["ragged"]][...].reshape(-1, 2)[:, place["column"]]
    counts = np.diff(file[place["ragged_index"]][...].astype(np.int64), prepend=0)
    padded = np.full(entry["shape"], np.nan)
    for unit, part in enumerate(np.split(values, np.cumsum(counts)[:-1])):
        padded[: len(part), unit] = part
    return padded


PLACES: dict[str, Place] = {
    "path": _from_path,
    "parts": _from_parts,
    "columns": _from_columns,
    "value": _from_value,
    "clock": _from_clock,
    "index": _per_unit,
    "ragged": _from_ragged,
}


class _LazyDataset(BackendArray):
    """A dataset that is read when indexed; the file is open only while it is read."""

    def __init__(self, path: Path, dataset: h5py.Dataset, dtype: np.dtype) -> None:
        self._path, self._name = path, dataset.name
        self.shape, self.dtype = dataset.shape, dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.BASIC, self._read
        )

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        with h5py.File(self._path, "r") as file:
            return np.asarray(file[self._name][key]).astype(self.dtype, copy=False)


class _LazyParts(BackendArray):
    """An array whose columns lie in several datasets; only those asked for are read."""

    def __init__(
        self,
        path: Path,
        parts: list[tuple[str, np.ndarray]],
        shape: tuple[int, ...],
        dtype: np.dtype,
    ) -> None:
        self._path, self._parts = path, parts
        self.shape, self.dtype = shape, dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.BASIC, self.read
        )

    def read(self, key: tuple[Any, ...]) -> np.ndarray:
        """Return the samples of a slice or a position per dim."""
        rows, columns = key
        wanted = np.atleast_1d(np.arange(self.shape[1])[columns])
        found = np.empty((*np.arange(self.shape[0])[rows].shape, len(wanted)), self.dtype)
        with h5py.File(self._path, "r") as file:
            for name, held in self._parts:
                here = np.flatnonzero(np.isin(wanted, held))
                if not here.size:
                    continue
                local = np.searchsorted(held, wanted[here])
                low, high = int(local.min()), int(local.max()) + 1
                found[..., here] = file[name][rows, low:high][..., local - low]
        return found if isinstance(columns, slice) else found[..., 0]
