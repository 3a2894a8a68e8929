"""Neighbourhoods on a surface: shortest ways along a mesh of triangles.

Ways run along the edges of the triangles and across pairs of them that were unfolded into one
plane, as far as the straight line stays within the pair; edges alone would be up to a sixth longer.
"""

from __future__ import annotations

from heapq import heappop, heappush

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.sparse import csr_array

from neuropipe.analyses.trsa.kernels.searchlight import Neighbours

__all__ = ["mesh_graph", "mesh_neighbours"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def _sides(triangles: Ints) -> tuple[Ints, Ints]:
    """Return the sides of all triangles, smaller vertex first, and the vertex opposite of each."""
    a, b, c = triangles.T
    sides = np.concatenate([np.stack([a, b], 1), np.stack([b, c], 1), np.stack([c, a], 1)])
    return np.sort(sides, axis=1), np.concatenate([c, a, b])


def _flat(points: Floats, side: Ints, opposite: Ints) -> tuple[Floats, Floats]:
    """Return the place of a vertex along a side and its height above it, in units of the side."""
    start, along = points[side[:, 0]], points[side[:, 1]] - points[side[:, 0]]
    size = (along**2).sum(axis=1)
    size = np.where(size > 0, size, 1.0)
    way = points[opposite] - start
    place = (way * along).sum(axis=1) / size
    height = np.sqrt(np.maximum((way**2).sum(axis=1) / size - place**2, 0.0))
    return place, height


def _unfolded(points: Floats, side: Ints, opposite: Ints) -> tuple[Ints, Floats]:
    """Return pairs of vertices on both sides of an edge, and the straight way between them."""
    order = np.lexsort(side.T[::-1])
    side, opposite = side[order], opposite[order]
    twin = np.flatnonzero((side[:-1] == side[1:]).all(axis=1))
    edge, c, d = side[twin], opposite[twin], opposite[twin + 1]
    (x, h), (y, k) = _flat(points, edge, c), _flat(points, edge, d)
    length = np.linalg.norm(points[edge[:, 1]] - points[edge[:, 0]], axis=1)
    total = h + k
    crossing = np.where(total > 0, (x * k + y * h) / np.where(total > 0, total, 1.0), -1.0)
    inside = (crossing >= 0) & (crossing <= 1) & (c != d)
    straight = length * np.sqrt((x - y) ** 2 + total**2)
    return np.stack([c, d], axis=1)[inside], straight[inside]


def mesh_graph(points: Floats, triangles: Ints) -> csr_array:
    """Return the lengths of steps between near vertices, ``(n_vertices, n_vertices)``, symmetric.

    Parameters
    ----------
    points : ndarray, shape (n_vertices, 3)
        Places of vertices, mm.
    triangles : ndarray of int, shape (n_triangles, 3)

    Raises
    ------
    ValueError
        If a triangle names a vertex that there is not, or two vertices of one lie in one place.
    """
    points, triangles = np.asarray(points, np.float64), np.asarray(triangles, np.int64)
    if triangles.size and (triangles.min() < 0 or triangles.max() >= len(points)):
        raise ValueError(f"triangles name vertices outside 0 to {len(points) - 1}")
    side, opposite = _sides(triangles)
    edges = np.unique(side, axis=0)
    length = np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1)
    if not (length > 0).all():
        raise ValueError("two joined vertices lie in one place")
    across, straight = _unfolded(points, side, opposite)
    pairs, sizes = np.concatenate([edges, across]), np.concatenate([length, straight])
    both = np.concatenate([pairs, pairs[:, ::-1]])
    # A pair may be joined twice: the shorter way counts.
    order = np.lexsort((np.tile(sizes, 2), both[:, 1], both[:, 0]))
    both, doubled = both[order], np.tile(sizes, 2)[order]
    first = np.ones(len(both), dtype=bool)
    first[1:] = (both[1:] != both[:-1]).any(axis=1)
    shape = (len(points), len(points))
    return csr_array((doubled[first], (both[first, 0], both[first, 1])), shape=shape)


@njit(cache=True, nogil=True)
def _reach(
    start: Ints, target: Ints, length: Floats, number: Ints, sources: Ints, radius: float, most: int
) -> tuple[Ints, Ints]:  # pragma: no cover - compiled
    """Return the channels within reach of every source, nearest first (Dijkstra)."""
    distance = np.full(start.size - 1, np.inf)
    sizes = np.zeros(sources.size, dtype=np.int64)
    found = np.empty(max(sources.size, 16), dtype=np.int64)
    filled = 0
    for k in range(sources.size):
        heap = [(0.0, sources[k])]
        touched = [sources[k]]
        distance[sources[k]] = 0.0
        while len(heap) and sizes[k] < most:
            way, vertex = heappop(heap)
            if way > distance[vertex]:
                continue
            if number[vertex] >= 0:
                if filled == found.size:
                    larger = np.empty(2 * found.size, dtype=np.int64)
                    larger[:filled] = found
                    found = larger
                found[filled] = number[vertex]
                filled += 1
                sizes[k] += 1
            for entry in range(start[vertex], start[vertex + 1]):
                other, total = target[entry], way + length[entry]
                if total <= radius and total < distance[other]:
                    distance[other] = total
                    touched.append(other)
                    heappush(heap, (total, other))
        for vertex in touched:
            distance[vertex] = np.inf
    return sizes, found[:filled]


def mesh_neighbours(
    points: Floats,
    triangles: Ints,
    vertex: Ints,
    radius: float | None,
    least: int,
    nearest: int | None = None,
) -> Neighbours:
    """Return neighbourhoods on a surface, by geodesic radius or as the nearest channels.

    Parameters
    ----------
    points, triangles
        Of `mesh_graph`.
    vertex : ndarray of int, shape (n_channels,)
        Vertex of every channel; ways may lead over vertices without one.
    radius : float or None
        Longest way, in the unit of the points; None: the ``nearest`` ones.
    least : int
        Smaller neighbourhoods are left out.
    nearest : int, optional
        Channels per neighbourhood.

    Returns
    -------
    Neighbours
        Channels are numbered as in ``vertex``.
    """
    graph = mesh_graph(points, triangles)
    number = np.full(len(points), -1, dtype=np.int64)
    number[vertex] = np.arange(len(vertex))
    reach = np.inf if radius is None else radius * (1 + 1e-9)
    most = len(vertex) if nearest is None or radius is not None else nearest
    sizes, found = _reach(
        graph.indptr.astype(np.int64), graph.indices.astype(np.int64), graph.data, number,
        np.asarray(vertex, dtype=np.int64), reach, most,
    )  # fmt: skip
    entry = np.repeat(np.arange(len(vertex)), sizes)
    order = np.lexsort((found, entry))
    kept = sizes >= least
    voxel = found[order][np.repeat(kept, sizes)]
    start = np.concatenate([[0], np.cumsum(sizes[kept])])
    return Neighbours(np.flatnonzero(kept), start.astype(np.int64), voxel)
