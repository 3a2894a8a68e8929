"""Searchlight maps as images: NIfTI volumes and GIFTI columns of vertices."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuropipe.analyses.trsa.map_places import AXES, grid_places
from neuropipe.analyses.trsa.spec import file_word
from neuropipe.analyses.trsa.surfaces import STRUCTURES
from neuropipe.errors import DataError

__all__ = ["grid_of_centres", "map_files", "searchlight_image", "searchlight_surface"]

Floats = NDArray[np.float64]
VARIABLES = {"score": "searchlight_score", "p": "searchlight_pvalue"}
HEMISPHERES = {name: side for side, name in STRUCTURES.items()}
MARKS = {"left": "L", "right": "R"}
PRIMARY = {"left": "CortexLeft", "right": "CortexRight"}
OFF_GRID = 0.01


def _values(result: xr.Dataset, model: str, variable: str) -> Floats:
    if variable not in result:
        raise DataError(f"result: {variable} is missing; set analyses.trsa.searchlight")
    return np.asarray(result[variable].sel(model=model).values, dtype=np.float64)


def _in_volume(result: xr.Dataset) -> NDArray[np.bool_]:
    """Say which centres are voxels."""
    if "vertex" not in result:
        return np.ones(result.sizes["centre"], dtype=bool)
    return np.asarray(result["vertex"].values < 0)


def grid_of_centres(
    position: Floats, attrs: Mapping[str, Any]
) -> tuple[NDArray[np.int64], Floats] | None:
    """Return the voxel of every centre and the affine, if centres lie on the grid that is stated.

    Parameters
    ----------
    position : ndarray, shape (n_centres, 3)
        mm.
    attrs : mapping
        ``affine`` (16 numbers) and ``volume_shape`` where they are known.
    """
    if np.size(attrs.get("affine", ())) != 16 or np.size(attrs.get("volume_shape", ())) != 3:
        return None
    affine = np.asarray(attrs["affine"], dtype=np.float64).reshape(4, 4)
    exact = (position - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
    if not np.isfinite(exact).all():
        return None
    place = np.round(exact).astype(np.int64)
    near = np.abs(exact - place).max(initial=0.0) < OFF_GRID
    inside = (place >= 0).all() and (place < np.ravel(attrs["volume_shape"])).all()
    return (place, affine) if near and inside else None


def _volume(
    position: Floats, attrs: Mapping[str, Any]
) -> tuple[NDArray[np.int64], list[int], Floats]:
    """Return the place of every centre in a volume, its shape and its affine."""
    stated = grid_of_centres(position, attrs)
    if stated is not None:
        return stated[0], [int(n) for n in np.ravel(attrs["volume_shape"])], stated[1]
    grid = grid_places(position)
    if grid is None:
        raise DataError("result: the centres of the searchlight lie on no regular grid")
    place, spacing = grid
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = position.min(axis=0)
    return place, (place.max(axis=0) + 1).tolist(), affine


def searchlight_image(result: xr.Dataset, model: str, variable: str = "searchlight_score") -> Any:
    """Return a map as a NIfTI image, on the grid of the data where it is known.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis, with a searchlight.
    model : str
        Whose map.
    variable : str
        ``searchlight_score`` or ``searchlight_pvalue``.

    Returns
    -------
    nibabel.Nifti1Image
        NaN where there is no centre.

    Raises
    ------
    DataError
        If the result has no searchlight in a volume, or the centres lie on no grid.
    """
    import nibabel as nib

    values, voxel = _values(result, model, variable), _in_volume(result)
    if not voxel.any():
        raise DataError("result: the centres of the searchlight are vertices; see surfaces")
    position = np.stack([result[axis].values[voxel] for axis in AXES], axis=1)
    place, shape, affine = _volume(position, result["searchlight_score"].attrs)
    volume = np.full(shape, np.nan, dtype=np.float32)
    volume[tuple(place.T)] = values[voxel]
    image = nib.Nifti1Image(volume, affine)
    image.header.set_xyzt_units("mm")
    return image


def searchlight_surface(
    result: xr.Dataset, model: str, side: str, variable: str = "searchlight_score"
) -> Any:
    """Return a map as a GIFTI column over the vertices of one hemisphere.

    Parameters
    ----------
    result, model, variable
        As in `searchlight_image`.
    side : {"left", "right"}

    Returns
    -------
    nibabel.gifti.GiftiImage
        One value per vertex of the surface, NaN without a centre.

    Raises
    ------
    DataError
        If the result has no searchlight on this hemisphere.
    """
    import nibabel as nib

    values = _values(result, model, variable)
    own = np.zeros(values.size, dtype=bool)
    if "structure" in result:
        own = (result["structure"].values.astype(str) == STRUCTURES[side]) & ~_in_volume(result)
    if not own.any():
        raise DataError(f"result: no centre of the searchlight is a vertex of the {side} surface")
    number = result["vertex"].values[own].astype(np.int64)
    stated = result["searchlight_score"].attrs.get(f"vertices_{STRUCTURES[side]}", 0)
    column = np.full(max(int(stated), int(number.max()) + 1), np.nan, dtype=np.float32)
    column[number] = values[own]
    array = nib.gifti.GiftiDataArray(
        column, intent="NIFTI_INTENT_NONE", datatype="NIFTI_TYPE_FLOAT32",
        meta=nib.gifti.GiftiMetaData({"Name": f"{model} {variable}"}),
    )  # fmt: skip
    meta = nib.gifti.GiftiMetaData({"AnatomicalStructurePrimary": PRIMARY[side]})
    return nib.gifti.GiftiImage(meta=meta, darrays=[array])


def _words(models: list[str]) -> dict[str, str]:
    """Return a file word of each model; those that would share one get their number behind it."""
    words = {name: file_word(name) for name in models}
    lower = [word.lower() for word in words.values()]
    return {
        name: word if lower.count(word.lower()) == 1 else f"{word}-{k + 1}"
        for k, (name, word) in enumerate(words.items())
    }


def map_files(result: xr.Dataset) -> dict[str, bytes]:
    """Return the maps of all models as files beside the result.

    Returns
    -------
    dict
        ``searchlight_<model>_<score|p>.nii.gz`` of voxels on a grid and
        ``searchlight_<model>_hemi-<L|R>_<score|p>.func.gii`` of vertices -> content; equal
        results give equal bytes.
    """
    if "searchlight_score" not in result:
        return {}
    scores = result["searchlight_score"].transpose("model", "centre").values
    names = result["model"].values.astype(str)
    mapped = [str(name) for name, row in zip(names, scores, strict=True) if np.isfinite(row).any()]
    sides = sorted(
        {HEMISPHERES.get(str(n), "") for n in result["structure"].values} - {""}
        if "structure" in result
        else ()
    )
    files: dict[str, bytes] = {}
    for model, word in _words(mapped).items():
        for short, variable in VARIABLES.items():
            if variable not in result:
                continue
            image = _image_or_none(result, model, variable)
            if image is not None:
                packed = gzip.compress(image.to_bytes(), mtime=0)
                files[f"searchlight_{word}_{short}.nii.gz"] = packed
            for side in sides:
                column = searchlight_surface(result, model, side, variable)
                name = f"searchlight_{word}_hemi-{MARKS[side]}_{short}.func.gii"
                files[name] = column.to_bytes()
    return files


def _image_or_none(result: xr.Dataset, model: str, variable: str) -> Any:
    """Return the image of a map; None for sensors, contacts and vertices, which have no grid."""
    try:
        return searchlight_image(result, model, variable)
    except DataError:
        return None
