"""fMRI recordings as images: voxels put back into their volume."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.errors import DataError
from neuropipe.export.recording import main_group, name_of, series_names

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["repetition_time", "to_images"]


def repetition_time(tree: xr.DataTree) -> float:
    """Return the repetition time, s.

    Raises
    ------
    DataError
        If the recording is not sampled regularly.
    """
    rate = float(tree.attrs.get("rate", np.nan))
    if not rate > 0:
        text = f"sampling is {tree.attrs.get('sampling')!r}, one repetition time is needed"
        raise DataError(f"{name_of(tree)}: {text}; export to csv instead")
    return 1.0 / rate


def to_images(tree: xr.DataTree) -> tuple[Any, Any]:
    """Return bold image (x, y, z, time) and mask of a recording of voxels, as NIfTI.

    Voxels outside the mask are 0.

    Raises
    ------
    DataError
        If the rows are no voxels, such as parcels or grayordinates.
    """
    import nibabel as nib

    ds, (name, *_) = main_group(tree), series_names(tree)
    if not {"i", "j", "k"} <= set(ds.variables) or "affine" not in ds.attrs:
        row = ds[name].dims[-1]
        text = f"rows are of dim {row!r}, without place in a volume; an image needs voxels"
        raise DataError(f"{name_of(tree)}: {text}; export to csv instead")
    place = tuple(ds[axis].values for axis in "ijk")
    shape = tuple(int(n) for n in ds.attrs["volume_shape"])
    values = np.zeros((*shape, ds.sizes["time"]), dtype=ds[name].dtype)
    values[place] = ds[name].values.T
    mask = np.zeros(shape, dtype=np.uint8)
    mask[place] = 1
    affine = np.asarray(ds.attrs["affine"], dtype=np.float64).reshape(4, 4)
    bold = nib.Nifti1Image(values, affine)
    bold.header.set_xyzt_units("mm", "sec")
    bold.header.set_zooms((*bold.header.get_zooms()[:3], repetition_time(tree)))
    return bold, nib.Nifti1Image(mask, affine)
