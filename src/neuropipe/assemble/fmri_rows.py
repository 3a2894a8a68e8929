"""What the rows of fMRI are: voxels of a volume, vertices of a surface, parcels or columns."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from neuropipe.assemble.epoch_patterns import axes_of
from neuropipe.errors import DataError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["grid_of", "positions_mm", "row_names", "same_rows", "vertices_of"]

NO_VERTEX = -1


def _is_voxel(ds: xr.Dataset) -> np.ndarray | None:
    """Say which rows are voxels; None if the rows have no place in a volume."""
    if "i" not in ds.variables:
        return None
    return np.all([np.asarray(ds[axis].values) >= 0 for axis in "ijk"], axis=0)


def vertices_of(ds: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return the surface of each row, "" for none, and the number of its vertex, -1 for none."""
    count = ds.sizes[str(ds["bold"].dims[1])]
    structure, vertex = np.full(count, "", dtype=object), np.full(count, NO_VERTEX, dtype=np.int64)
    if "vertex" not in ds.variables or "structure" not in ds.variables:
        return structure, vertex
    number = np.asarray(ds["vertex"].values, dtype=np.int64)
    voxel = _is_voxel(ds)
    own = number >= 0 if voxel is None else (number >= 0) & ~voxel
    structure[own] = [
        str(name).removeprefix("CIFTI_STRUCTURE_") for name in ds["structure"].values[own]
    ]
    vertex[own] = number[own]
    return structure, vertex


def row_names(ds: xr.Dataset) -> np.ndarray:
    """Return a name of each row: ``i j k`` of voxels, ``<surface> <vertex>``, else that given.

    Parameters
    ----------
    ds : xarray.Dataset
        With ``bold (time, row)`` and what is known of the rows.
    """
    row = str(ds["bold"].dims[1])
    names = np.array([str(value) for value in ds[row].values.tolist()], dtype=object)
    voxel = _is_voxel(ds)
    if voxel is not None:
        index = zip(*(ds[axis].values[voxel].tolist() for axis in "ijk"), strict=True)
        names[voxel] = [f"{i} {j} {k}" for i, j, k in index]
    structure, vertex = vertices_of(ds)
    for place in np.flatnonzero(vertex >= 0):
        names[place] = f"{structure[place]} {vertex[place]}".strip()
    return names


def positions_mm(ds: xr.Dataset) -> np.ndarray:
    """Return x, y, z of rows in mm, from the affine where the store has them not; NaN unknown."""
    row = str(ds["bold"].dims[1])
    found = axes_of(ds, row)
    affine, voxel = ds["bold"].attrs.get("affine"), _is_voxel(ds)
    if np.isfinite(found).any() or affine is None or not np.size(affine) or voxel is None:
        return found
    index = np.stack([ds[axis].values for axis in "ijk"], axis=1).astype(np.float64)
    matrix = np.asarray(affine, dtype=np.float64)
    return np.where(voxel[:, None], index @ matrix[:3, :3].T + matrix[:3, 3], np.nan)


def grid_of(tree: xr.DataTree) -> dict[str, list[float]]:
    """Return affine (16 numbers) and shape of the volume, empty for rows that are no voxels."""
    attrs = tree["raw"].attrs
    affine, shape = (np.ravel(attrs.get(key, [])) for key in ("affine", "volume_shape"))
    if affine.size != 16 or shape.size != 3:
        return {}
    return {"affine": affine.astype(float).tolist(), "volume_shape": shape.astype(float).tolist()}


def same_rows(trees: Sequence[xr.DataTree]) -> list[np.ndarray]:
    """Return the positions of the rows that all runs have, for each run.

    Voxels are the same by their place in the volume, vertices by their number on their surface,
    other rows by their name.

    Raises
    ------
    DataError
        If the runs are of different volumes, or have no row in common.
    """
    keys = [_row_keys(tree) for tree in trees]
    names = [str(tree.attrs.get("recording", "")) for tree in trees]
    first = trees[0]["raw"].attrs
    for tree, name in zip(trees[1:], names[1:], strict=True):
        other = tree["raw"].attrs
        same = np.array_equal(
            np.shape(first.get("affine", 0.0)), np.shape(other.get("affine", 0.0))
        )
        same = same and np.allclose(first.get("affine", 0.0), other.get("affine", 0.0), atol=1e-4)
        if not same or list(first.get("volume_shape", [])) != list(other.get("volume_shape", [])):
            raise DataError(
                f"{names[0]} and {name}: the volumes have different grids, so that voxels do not "
                "correspond; bring the runs to one space before ingest"
            )
    shared = set(keys[0]).intersection(*map(set, keys[1:]))
    if not shared:
        raise DataError(
            f"{', '.join(names)}: no row is in all of these runs; select one hemisphere or one "
            "kind of file with `input.recordings`"
        )
    wanted = [key for key in keys[0] if key in shared]
    places = [{key: k for k, key in enumerate(found)} for found in keys]
    return [np.array([place[key] for key in wanted], dtype=np.int64) for place in places]


def _row_keys(tree: xr.DataTree) -> list[Hashable]:
    return list(row_names(tree["raw"].to_dataset()).tolist())
