"""Searchlight maps of one subject, and their export."""

from __future__ import annotations

from typing import Any, TypedDict

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuropipe.analyses.trsa.checks import RegionPatterns
from neuropipe.analyses.trsa.estimate import chosen_measure, noise_of, normalised
from neuropipe.analyses.trsa.kernels.models import Model
from neuropipe.analyses.trsa.kernels.noise import whiten
from neuropipe.analyses.trsa.kernels.pairs import n_conditions, pair_index, to_square
from neuropipe.analyses.trsa.kernels.rdm import MEASURES
from neuropipe.analyses.trsa.kernels.searchlight import (
    LINEAR,
    Neighbours,
    offset_neighbours,
    radius_neighbours,
    searchlight_maxima,
    searchlight_rdms,
    searchlight_scores,
)
from neuropipe.analyses.trsa.spec import RdmSettings, SearchlightSettings, Settings
from neuropipe.errors import ConfigError, DataError, Issue

__all__ = [
    "check_searchlight",
    "neighbours_of",
    "positions_of",
    "searchlight",
    "searchlight_image",
]

Floats = NDArray[np.float64]
AXES = ("x", "y", "z")
OFF_GRID = 1e-3
OFFERED = ("correlation", *LINEAR)


class _Options(TypedDict):
    measure: str
    method: str
    chunk_mb: float


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


def check_searchlight(data: xr.Dataset, settings: Settings) -> None:
    """Refuse a searchlight that the input or the other settings do not allow.

    Raises
    ------
    ConfigError
        If there are several regions, a time axis, ready RDMs, or a measure that no searchlight
        offers.
    """
    key = "analyses.trsa.searchlight"
    if settings.searchlight is None:
        return
    if "patterns" not in data:
        raise ConfigError(f"{key}: needs patterns of channels; the input brings ready RDMs")
    if "time" in data["patterns"].dims:
        raise ConfigError(f"{key}: patterns have a time axis; set input.keep_time: false")
    if data.sizes["region"] > 1:
        raise ConfigError(
            f"{key}: maps go over all channels, found {data.sizes['region']} regions; it needs "
            "input.regions: null, or searchlight: null"
        )
    measure = chosen_measure(settings.rdm, data.sizes["run"])
    if measure not in OFFERED:
        raise ConfigError(
            f"{key}: analyses.trsa.rdm.measure is {measure}; searchlights offer "
            f"{', '.join(OFFERED)}"
        )


def _permuted(rows: Floats, draws: int, rng: np.random.Generator) -> Floats:
    """Return models ``(draws * n_models, n_pairs)`` with permuted conditions."""
    i, j = pair_index(n_conditions(rows.shape[1]))
    squares = to_square(rows)
    orders = [rng.permutation(squares.shape[-1]) for _ in range(draws)]
    return np.concatenate([squares[:, order[i], order[j]] for order in orders])


def _prepared(
    region: RegionPatterns, rdm: RdmSettings, measure: str, modality: str, where: str
) -> tuple[Floats, list[Issue]]:
    """Return patterns whose noise is normalised per channel, and what to tell about it.

    A covariance of every neighbourhood would be another matrix root for each.
    """
    values = normalised(region.values, rdm, measure, modality)
    if not MEASURES[measure].whitened or rdm.noise == "none":
        return values, []
    noise, issues = noise_of(region, values, rdm.model_copy(update={"noise": "diag"}), None, where)
    if rdm.noise != "diag" and noise is not None:
        message = f"searchlight: noise normalised per channel, not {rdm.noise}"
        issues.append(Issue("DIAGONAL_NOISE", where, message, "", "info"))
    return whiten(values, noise), issues


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
    rng: np.random.Generator | None = None,
) -> tuple[xr.Dataset, list[Issue]]:
    """Return ``searchlight_score(model, centre)`` of fixed models for one subject.

    Parameters
    ----------
    rng : numpy.random.Generator, optional
        Permutes the conditions of the models for ``searchlight_maximum(model, permutation)``, the
        best score over all centres, the observed one first: the test of a subject alone.
    """
    fixed = {name: model for name, model in models.items() if model.kind == "fixed"}
    if not fixed and not settings.keep_rdms:
        raise ConfigError("analyses.trsa.searchlight: needs a fixed model to compare with")
    measure = chosen_measure(rdm, len(region.values))
    values, issues = _prepared(region, rdm, measure, modality, where)
    near, order = neighbours_of(position, settings)
    if not len(near):
        raise DataError(
            f"{where}: no neighbourhood within {settings.radius_mm:g} mm has "
            f"{settings.min_voxels} channels; change searchlight.radius_mm or min_voxels"
        )
    values = np.ascontiguousarray(values[..., order])
    centres = position[order][near.centre]
    axes = {axis: ("centre", centres[:, k]) for k, axis in enumerate(AXES)}
    found = xr.Dataset(coords={"model": list(fixed), **axes} if fixed else axes)
    if settings.keep_rdms:
        made = searchlight_rdms(values, near, measure, chunk_mb=settings.chunk_mb)
        found["searchlight_rdm"] = (("centre", "pair"), made)
    if not fixed:
        return found, issues
    rows = np.concatenate([model.basis for model in fixed.values()])
    options: _Options = {"measure": measure, "method": method, "chunk_mb": settings.chunk_mb}
    scores = searchlight_scores(values, near, rows, **options)
    found["searchlight_score"] = (("model", "centre"), scores, {"comparator": method})
    if rng is not None and settings.permutations:
        null = _permuted(rows, settings.permutations, rng)
        drawn = searchlight_maxima(values, near, null, **options).reshape(-1, len(rows))
        best = np.nan_to_num(scores, nan=-np.inf).max(axis=1)
        found["searchlight_maximum"] = (("model", "permutation"), np.vstack([best, drawn]).T)
    return found, issues


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
