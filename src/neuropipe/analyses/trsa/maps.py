"""Searchlight maps of one subject, and their export."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuropipe.analyses.trsa.checks import RegionPatterns
from neuropipe.analyses.trsa.estimate import chosen_measure, noise_of, normalised
from neuropipe.analyses.trsa.kernels.models import Model
from neuropipe.analyses.trsa.kernels.noise import whiten
from neuropipe.analyses.trsa.kernels.rdm import MEASURES
from neuropipe.analyses.trsa.kernels.searchlight import (
    Neighbours,
    offset_neighbours,
    radius_neighbours,
    searchlight_scores,
)
from neuropipe.analyses.trsa.spec import RdmSettings, SearchlightSettings
from neuropipe.errors import ConfigError, DataError

__all__ = ["neighbours_of", "positions_of", "searchlight", "searchlight_image"]

Floats = NDArray[np.float64]
AXES = ("x", "y", "z")
OFF_GRID = 1e-3


def positions_of(data: xr.Dataset, subject: str, region: str, channels: NDArray[np.intp]) -> Floats:
    """Return the positions of channels in mm, shape ``(n_channels, 3)``."""
    columns = []
    for axis in AXES:
        if axis not in data:
            raise DataError(
                f"input: coordinate {axis!r} (mm) of channels is needed for searchlights"
            )
        values = data[axis]
        for dim, label in (("subject", subject), ("region", region)):
            if dim in values.dims:
                values = values.sel({dim: label})
        columns.append(values.values.astype(np.float64)[channels])
    return np.stack(columns, axis=1)


def _grid(position: Floats) -> tuple[NDArray[np.int64], Floats] | None:
    """Return places on a grid and its spacing; None if the positions lie on none."""
    steps = []
    for column in position.T:
        gaps = np.diff(np.unique(np.round(column, 4)))
        steps.append(gaps.min() if gaps.size else 1.0)
    spacing = np.array(steps)
    place = (position - position.min(axis=0)) / spacing
    whole = np.round(place)
    if np.abs(place - whole).max() > OFF_GRID or np.prod(whole.max(axis=0) + 1) > 5e7:
        return None
    return whole.astype(np.int64), spacing


def neighbours_of(position: Floats, settings: SearchlightSettings) -> tuple[Neighbours, Floats]:
    """Return neighbourhoods and the positions in the order of their numbers."""
    grid = _grid(position)
    least = settings.min_voxels
    if settings.nearest is not None:
        return radius_neighbours(position, None, least, settings.nearest), np.arange(len(position))
    if grid is None:
        return radius_neighbours(position, settings.radius_mm, least), np.arange(len(position))
    place, spacing = grid
    mask = np.zeros(place.max(axis=0) + 1, dtype=bool)
    mask[tuple(place.T)] = True
    order = np.lexsort(place.T[::-1])  # the mask's True entries in C order
    return offset_neighbours(mask, spacing, settings.radius_mm, least), order


def searchlight(
    region: RegionPatterns,
    position: Floats,
    models: dict[str, Model],
    settings: SearchlightSettings,
    rdm: RdmSettings,
    *,
    method: str,
    modality: str,
    where: str,
) -> xr.Dataset:
    """Return ``searchlight_score(model, centre)`` of fixed models for one subject.

    Noise is normalised per channel: a covariance of every neighbourhood would be another matrix
    root for each.
    """
    fixed = {name: model for name, model in models.items() if model.kind == "fixed"}
    if not fixed:
        raise ConfigError("analyses.trsa.searchlight: needs a fixed model to compare with")
    measure = chosen_measure(rdm, len(region.values))
    values = normalised(region.values, rdm, measure, modality)
    if not np.isfinite(values).all():
        raise DataError(f"{where}: searchlights need every condition in every run")
    if MEASURES[measure].whitened and rdm.noise != "none":
        noise, _ = noise_of(region, values, rdm.model_copy(update={"noise": "diag"}), None, where)
        values = whiten(values, noise)
    near, order = neighbours_of(position, settings)
    rows = np.concatenate([model.basis for model in fixed.values()])
    scores = searchlight_scores(
        np.ascontiguousarray(values[..., order]), near, rows,
        measure=measure, method=method, chunk_mb=settings.chunk_mb,
    )  # fmt: skip
    centres = position[order][near.centre]
    return xr.Dataset(
        {"searchlight_score": (("model", "centre"), scores)},
        coords={
            "model": list(fixed),
            **{axis: ("centre", centres[:, k]) for k, axis in enumerate(AXES)},
        },
    )


def searchlight_image(result: xr.Dataset, model: str, variable: str = "searchlight_score") -> Any:
    """Return a map as a NIfTI image in the space of its coordinates.

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
        If the result has no searchlight or the centres lie on no grid.
    """
    import nibabel as nib

    if variable not in result:
        raise DataError(f"result: {variable} is missing; set analyses.trsa.searchlight")
    position = np.stack([result[axis].values for axis in AXES], axis=1)
    grid = _grid(position)
    if grid is None:
        raise DataError("result: the centres of the searchlight lie on no regular grid")
    place, spacing = grid
    volume = np.full(place.max(axis=0) + 1, np.nan, dtype=np.float32)
    volume[tuple(place.T)] = result[variable].sel(model=model).values
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = position.min(axis=0)
    return nib.Nifti1Image(volume, affine)
