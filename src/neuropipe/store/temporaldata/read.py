"""Read a file of temporaldata that we wrote back into the tree of the store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

from neuropipe.errors import DataError
from neuropipe.store.nwb.manifest import Manifest
from neuropipe.store.nwb.read import PLACES, open_hdf5, read_group

__all__ = ["OWN_MARK", "from_temporaldata"]

OWN_MARK = "neuropipe/manifest"


def _by_unit(file: h5py.File, path: Path, entry: Mapping[str, Any]) -> np.ndarray:
    """Return spikes by unit and then time, from their order by time."""
    group = file[entry["place"]["by_unit"]]
    owner = group["unit_index"][...]
    order = np.argsort(owner, kind="stable")
    values = owner if entry["place"]["gives"] == "spike_unit" else group["timestamps"][...]
    return np.asarray(values[order]).astype(entry["dtype"], copy=False)


OWN_PLACES = {**PLACES, "by_unit": _by_unit}


def from_temporaldata(path: Path | str) -> xr.DataTree:
    """Return the tree that `to_temporaldata` wrote; arrays above 1 MB are loaded lazily.

    Raises
    ------
    MissingInput
        If there is no such file.
    IngestError
        ``NOT_THIS_FORMAT`` for a file that is not HDF5, ``TRUNCATED`` for a damaged one.
    DataError
        If the file was not written by `to_temporaldata`, or misses what its record names.
    """
    path = Path(path)
    with open_hdf5(path) as file:
        manifest = _manifest(file, path)
        try:
            groups = {
                group: read_group(file, path, manifest, group, OWN_PLACES)
                for group in manifest.groups
            }
        except (KeyError, OSError, ValueError, RuntimeError, TypeError, AttributeError,
                IndexError) as error:  # fmt: skip
            raise DataError(
                f"{path}: does not hold what its record /{OWN_MARK} names "
                f"({type(error).__name__}: {error}); export it again"
            ) from error
    return xr.DataTree.from_dict(groups)


def _manifest(file: h5py.File, path: Path) -> Manifest:
    if OWN_MARK not in file:
        raise DataError(
            f"{path}: has no /{OWN_MARK}, so it is no ingested recording that neuropipe exported; "
            "ingest it through the reader `temporaldata`"
        )
    try:
        return Manifest.from_json(bytes(file[OWN_MARK][...]).decode("utf-8"))
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise DataError(f"{path}: /{OWN_MARK} is damaged ({error}); export it again") from error
