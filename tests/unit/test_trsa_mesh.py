"""Ways along a mesh of triangles, against other ways to find them and against known surfaces."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import ConvexHull

from neuropipe.analyses.trsa.kernels.mesh import mesh_graph, mesh_neighbours
from neuropipe.analyses.trsa.kernels.searchlight import Neighbours, joined_neighbours


def sheet(columns: int, rows: int) -> np.ndarray:
    """Return the triangles of a grid of vertices, ``row * columns + column``."""
    corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
    right, up = corner + 1, corner + columns
    return np.concatenate([np.stack([corner, right, up], 1), np.stack([right, up + 1, up], 1)])


@pytest.fixture(scope="module")
def sphere() -> tuple[np.ndarray, np.ndarray]:
    k = np.arange(1500) + 0.5
    height, turn = np.arccos(1 - 2 * k / 1500), np.pi * (1 + 5**0.5) * k
    points = 50 * np.stack(
        [np.cos(turn) * np.sin(height), np.sin(turn) * np.sin(height), np.cos(height)], axis=1
    )
    return points, ConvexHull(points).simplices


def test_ways_over_a_sphere_are_arcs(sphere):
    points, triangles = sphere
    found = dijkstra(mesh_graph(points, triangles), indices=[0, 700])
    arc = 50 * np.arccos(np.clip(points[[0, 700]] @ points.T / 2500, -1, 1))
    ratio = (found / np.where(arc > 0, arc, 1))[arc > 5]
    # Steps along edges alone are 4 to 5 % too long on this mesh.
    assert ratio.mean() < 1.02
    assert ratio.min() > 0.99
    sides = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [0, 2]]])
    edges = mesh_graph(points, triangles).tolil()
    allowed = {tuple(sorted(pair)) for pair in sides.tolist()}
    added = [
        pair for pair in zip(*edges.nonzero(), strict=True) if tuple(sorted(pair)) not in allowed
    ]
    assert added  # and those that were added are no shorter than the straight line
    lengths = np.array([edges[a, b] for a, b in added])
    straight = np.linalg.norm(points[[a for a, _ in added]] - points[[b for _, b in added]], axis=1)
    assert (lengths >= straight - 1e-9).all()


def test_ways_in_a_plane_cross_pairs_of_triangles():
    points = np.array([[x, y, 0.0] for y in range(3) for x in range(4)])
    found = dijkstra(mesh_graph(points, sheet(4, 3)))
    straight = np.linalg.norm(points[:, None] - points, axis=2)
    # Both diagonals of a square are steps; three to the right and two up take two of them.
    np.testing.assert_allclose(found[0, 5], np.sqrt(2))
    np.testing.assert_allclose(found[1, 4], np.sqrt(2))
    np.testing.assert_allclose(found, np.where(found < straight, straight, found))


def test_neighbourhoods_equal_those_of_all_ways(sphere):
    points, triangles = sphere
    full = dijkstra(mesh_graph(points, triangles))
    vertex = np.arange(0, 1500, 2)  # ways lead over the vertices that have no channel
    near = mesh_neighbours(points, triangles, vertex, 12.0, 1)
    nearest = mesh_neighbours(points, triangles, vertex, None, 1, nearest=20)
    for k in range(0, len(vertex), 50):
        way = full[vertex[k], vertex]
        np.testing.assert_array_equal(near.of(k), np.flatnonzero(way <= 12.0))
        assert len(nearest.of(k)) == 20
        np.testing.assert_allclose(np.sort(way)[19], way[nearest.of(k)].max())


def test_banks_of_a_fold_are_no_neighbours():
    """Two sheets 2 mm apart that are joined along one side, as the banks of a sulcus are."""
    columns, rows = 21, 9
    place = np.arange(columns) - 10
    x, z = np.where(place < 0, -1.0, 1.0) + 0.0 * place, -np.abs(place) * 2.0
    points = np.array([[x[c], 2.0 * r, z[c]] for r in range(rows) for c in range(columns)])
    left, right = 4 * columns + 0, 4 * columns + 20  # the same depth on both banks
    assert np.linalg.norm(points[left] - points[right]) == 2.0
    near = mesh_neighbours(points, sheet(columns, rows), np.arange(len(points)), 6.0, 1)
    assert right not in near.of(left)
    assert left + 2 in near.of(left)


def test_small_neighbourhoods_and_faulty_meshes():
    points = np.array([[x, y, 0.0] for y in range(3) for x in range(4)])
    few = mesh_neighbours(points, sheet(4, 3), np.arange(12), 1.0, 5)
    assert few.centre.tolist() == [5, 6]  # the corners and sides have fewer
    with pytest.raises(ValueError, match="triangles name vertices outside 0 to 11"):
        mesh_graph(points, sheet(4, 3) + 1)
    with pytest.raises(ValueError, match="one place"):
        mesh_graph(np.zeros((12, 3)), sheet(4, 3))


def test_neighbourhoods_are_renumbered_taken_and_joined():
    one = Neighbours(np.array([0, 1]), np.array([0, 2, 5]), np.array([0, 1, 0, 1, 2]))
    other = one.renumbered(np.array([3, 5, 7]))
    assert other.centre.tolist() == [3, 5]
    assert other.of(1).tolist() == [3, 5, 7]
    both = joined_neighbours([other, one.renumbered(np.array([4, 1, 2]))])
    assert both.centre.tolist() == [1, 3, 4, 5]
    assert [both.of(k).tolist() for k in range(4)] == [[4, 1, 2], [3, 5], [4, 1], [3, 5, 7]]
    swapped = one.take(np.array([1, 0]))
    assert [swapped.of(k).tolist() for k in range(2)] == [[0, 1, 2], [0, 1]]
    assert len(joined_neighbours([])) == 0
