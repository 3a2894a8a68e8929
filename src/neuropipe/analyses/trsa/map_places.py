"""Where the searchlights of one subject lie: in a volume, on surfaces, or in both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuropipe.analyses.trsa.kernels.searchlight import (
    Neighbours,
    joined_neighbours,
    offset_neighbours,
    radius_neighbours,
)
from neuropipe.analyses.trsa.spec import SearchlightSettings
from neuropipe.analyses.trsa.surfaces import Surface, places_on, read_surfaces, surface_neighbours
from neuropipe.errors import DataError

__all__ = ["AXES", "Places", "grid_places", "places_of", "vertices_of"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
AXES = ("x", "y", "z")
OFF_GRID, MOST_CELLS = 1e-3, 5e7


@dataclass(frozen=True)
class Places:
    """Neighbourhoods of one subject.

    Attributes
    ----------
    near : Neighbours
        Numbers count the channels in use.
    position : ndarray, shape (n_channels, 3)
        Of all channels, mm.
    structure : ndarray of str, shape (n_channels,)
        Surface of a channel, "" for a voxel.
    vertex : ndarray of int, shape (n_channels,)
        Number on the surface, -1 for a voxel.
    n_vertices : mapping
        Surface -> all its vertices.
    """

    near: Neighbours
    position: Floats
    structure: NDArray[np.object_]
    vertex: Ints
    n_vertices: Mapping[str, int]

    def coords(self) -> dict[str, tuple[str, NDArray[np.generic]]]:
        """Return the coordinates of the centres."""
        centre = self.near.centre
        found = {axis: ("centre", self.position[centre, k]) for k, axis in enumerate(AXES)}
        if (self.vertex[centre] >= 0).any():
            found["structure"] = ("centre", self.structure[centre].astype(str))
            found["vertex"] = ("centre", self.vertex[centre])
        return found


def _column(data: xr.Dataset, name: str, subject: str, region: str) -> NDArray[np.generic]:
    values = data[name]
    for dim, label in (("subject", subject), ("region", region)):
        if dim in values.dims:
            values = values.isel({dim: data[dim].values.astype(str).tolist().index(label)})
    return np.asarray(values.values)


def _positions(data: xr.Dataset, subject: str, region: str) -> Floats:
    """Return the positions of all channels in mm, NaN where unknown, ``(n_channels, 3)``."""
    missing = [axis for axis in AXES if axis not in data]
    if missing and "vertex" not in data:
        raise DataError(
            f"input: coordinate {missing[0]!r} (mm) of channels is needed for searchlights"
        )
    if missing:
        return np.full((data.sizes["channel"], 3), np.nan)
    return np.stack([_column(data, a, subject, region).astype(np.float64) for a in AXES], axis=1)


def vertices_of(data: xr.Dataset, subject: str, region: str) -> tuple[NDArray[np.object_], Ints]:
    """Return the surface and the vertex of all channels, "" and -1 for those on none."""
    if "vertex" not in data or "structure" not in data:
        count = data.sizes["channel"]
        return np.full(count, "", dtype=object), np.full(count, -1, dtype=np.int64)
    structure = _column(data, "structure", subject, region).astype(str).astype(object)
    return structure, _column(data, "vertex", subject, region).astype(np.int64)


def grid_places(position: Floats) -> tuple[Ints, Floats] | None:
    """Return places on a grid and its spacing; None if the positions lie on none."""
    steps = []
    for column in position.T:
        gaps = np.diff(np.unique(np.round(column, 4)))
        steps.append(gaps.min() if gaps.size else 1.0)
    spacing = np.array(steps)
    place = (position - position.min(axis=0)) / spacing
    whole = np.round(place)
    if np.abs(place - whole).max() > OFF_GRID or np.prod(whole.max(axis=0) + 1) > MOST_CELLS:
        return None
    return whole.astype(np.int64), spacing


def _in_volume(position: Floats, settings: SearchlightSettings) -> Neighbours:
    """Return neighbourhoods by distance in space, numbered as the positions."""
    grid, least = grid_places(position), settings.min_voxels
    if settings.nearest is not None:
        return radius_neighbours(position, None, least, min(settings.nearest, len(position)))
    if grid is None:
        return radius_neighbours(position, settings.radius_mm, least)
    place, spacing = grid
    mask = np.zeros(place.max(axis=0) + 1, dtype=bool)
    mask[tuple(place.T)] = True
    order = np.lexsort(place.T[::-1])  # the mask's True entries in C order
    return offset_neighbours(mask, spacing, settings.radius_mm, least).renumbered(order)


def _on_surfaces(
    structure: NDArray[np.object_],
    vertex: Ints,
    surfaces: dict[str, Surface],
    settings: SearchlightSettings,
) -> list[Neighbours]:
    parts = []
    for name, surface in surfaces.items():
        own = np.flatnonzero((structure == name) & (vertex >= 0))
        radius = None if settings.nearest is not None else settings.radius_mm
        if own.size:
            near = surface_neighbours(
                surface, vertex[own], radius, settings.min_voxels, settings.nearest
            )
            parts.append(near.renumbered(own))
    return parts


def places_of(
    data: xr.Dataset,
    subject: str,
    region: str,
    channels: NDArray[np.intp],
    settings: SearchlightSettings,
) -> Places:
    """Return the neighbourhoods of one subject.

    Parameters
    ----------
    data : xarray.Dataset
        Ordered input with ``x``, ``y``, ``z`` (mm), or ``structure`` and ``vertex`` of channels.
    subject, region : str
    channels : ndarray of int
        Channels in use.
    settings : SearchlightSettings

    Raises
    ------
    DataError
        If channels have no place, or no neighbourhood is large enough.
    """
    structure, vertex = (column[channels] for column in vertices_of(data, subject, region))
    position = _positions(data, subject, region)[channels]
    surfaces = read_surfaces(settings.surfaces)
    for name, surface in surfaces.items():
        own = (structure == name) & (vertex >= 0)
        position[own] = places_on(surface, vertex[own])
    lost = ~np.isfinite(position).all(axis=1)
    if lost.any():
        names = ", ".join(sorted({str(name) or "no surface" for name in structure[lost]}))
        raise DataError(
            f"{subject} {region}: {int(lost.sum())} channels ({names}) have no place; name the "
            "surfaces that they lie on: analyses.trsa.searchlight.surfaces: {left: <file>, "
            "right: <file>}, or leave them out with input.units.where"
        )
    parts = _on_surfaces(structure, vertex, surfaces, settings)
    voxels = np.flatnonzero(~np.isin(structure, list(surfaces)) | (vertex < 0))
    if voxels.size:
        parts.append(_in_volume(position[voxels], settings).renumbered(voxels))
    near = joined_neighbours(parts)
    if not len(near):
        size = f"within {settings.radius_mm:g} mm" if settings.nearest is None else "of the nearest"
        raise DataError(
            f"{subject} {region}: no neighbourhood {size} has {settings.min_voxels} channels; "
            "change searchlight.radius_mm or min_voxels"
        )
    sizes = {name: len(surface.points) for name, surface in surfaces.items()}
    return Places(near, position, structure, vertex, sizes)
