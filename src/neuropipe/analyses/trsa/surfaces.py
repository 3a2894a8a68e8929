"""Surfaces of the cortex from GIFTI files, and neighbourhoods on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.trsa.kernels.mesh import mesh_neighbours
from neuropipe.analyses.trsa.kernels.searchlight import Neighbours
from neuropipe.errors import DataError, MissingInput

__all__ = ["STRUCTURES", "Surface", "places_on", "read_surfaces", "surface_neighbours"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
STRUCTURES = {"left": "CORTEX_LEFT", "right": "CORTEX_RIGHT"}
KEY = "analyses.trsa.searchlight.surfaces"


@dataclass(frozen=True)
class Surface:
    """One hemisphere as a mesh.

    Attributes
    ----------
    path : str
        Where it came from, for messages.
    points : ndarray, shape (n_vertices, 3)
        Places of vertices, mm.
    triangles : ndarray of int, shape (n_triangles, 3)
    """

    path: str
    points: Floats
    triangles: Ints


def _read(path: str, side: str) -> Surface:
    import nibabel as nib

    where = f"{KEY}.{side}: {path}"
    if not Path(path).is_file():
        raise MissingInput(f"{where}: no such file; paths are relative to the study folder")
    try:
        image = nib.load(path)
        points = image.agg_data("NIFTI_INTENT_POINTSET")
        triangles = image.agg_data("NIFTI_INTENT_TRIANGLE")
    except Exception as error:  # an XML parser may raise anything
        raise DataError(f"{where}: no GIFTI file that nibabel reads ({error})") from error
    if np.ndim(points) != 2 or np.ndim(triangles) != 2:
        raise DataError(f"{where}: holds no places and triangles; name a .surf.gii file")
    return Surface(path, np.asarray(points, np.float64), np.asarray(triangles, np.int64))


def read_surfaces(paths: Mapping[str, str]) -> dict[str, Surface]:
    """Return the surfaces by the name of their structure.

    Raises
    ------
    MissingInput
        If a file does not exist.
    DataError
        If it holds no mesh.
    """
    return {STRUCTURES[side]: _read(path, side) for side, path in paths.items()}


def places_on(surface: Surface, vertex: Ints) -> Floats:
    """Return the places of vertices, mm.

    Raises
    ------
    DataError
        If the surface has fewer vertices than the data.
    """
    if vertex.size and vertex.max() >= len(surface.points):
        raise DataError(
            f"{KEY}: {surface.path} has {len(surface.points)} vertices, the data name vertex "
            f"{int(vertex.max())}; name the surface in the space of the data"
        )
    return surface.points[vertex]


def surface_neighbours(
    surface: Surface, vertex: Ints, radius_mm: float | None, least: int, nearest: int | None
) -> Neighbours:
    """Return neighbourhoods of the channels of one surface, numbered as in ``vertex``.

    Raises
    ------
    DataError
        If the mesh is none.
    """
    try:
        return mesh_neighbours(surface.points, surface.triangles, vertex, radius_mm, least, nearest)
    except ValueError as error:
        raise DataError(f"{KEY}: {surface.path}: {error}") from error
