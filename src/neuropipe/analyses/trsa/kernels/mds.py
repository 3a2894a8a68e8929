"""Multidimensional scaling: classical start, stress majorisation, alignment of a sequence.

Sources: de Leeuw 1977 (SMACOF), Kruskal 1964 (stress 1), Lin et al. 2019 (aligned MDS of movies).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["align", "classical_mds", "mds", "mds_movie", "stress"]

Floats = NDArray[np.float64]


def classical_mds(square: Floats, dims: int = 2) -> Floats:
    """Return the principal coordinates of a matrix of distances, shape ``(n, dims)``."""
    centring = np.eye(len(square)) - 1 / len(square)
    values, vectors = np.linalg.eigh(-0.5 * centring @ square**2 @ centring)
    order = np.argsort(values)[::-1][:dims]
    columns = vectors[:, order]
    # The sign of an eigenvector is free: the largest entry becomes positive.
    signs = np.sign(columns[np.abs(columns).argmax(axis=0), np.arange(len(order))])
    return np.asarray(
        columns * np.where(signs == 0, 1.0, signs) * np.sqrt(np.maximum(values[order], 0))
    )


def _distances(points: Floats) -> Floats:
    return np.linalg.norm(points[:, None] - points, axis=2)


def stress(square: Floats, points: Floats) -> float:
    """Return Kruskal's stress 1 of an arrangement; NaN if all distances are 0."""
    upper = np.triu_indices(len(square), 1)
    shown = _distances(points)[upper]
    size = float((shown**2).sum())
    return float(np.sqrt(((square[upper] - shown) ** 2).sum() / size)) if size > 0 else np.nan


def mds(
    square: Floats, dims: int = 2, *, start: Floats | None = None, max_iter: int = 300
) -> tuple[Floats, float]:
    """Arrange items so that their distances come close to those given.

    Parameters
    ----------
    square : ndarray, shape (n, n)
        Distances of at least 0.
    dims : int
        Dimensions.
    start : ndarray, shape (n, dims), optional
        Where to begin; the principal coordinates if not given, so that nothing is drawn.
    max_iter : int
        Iterations at most.

    Returns
    -------
    points : ndarray, shape (n, dims)
        Mean 0.
    stress : float
        Kruskal's stress 1.
    """
    points = classical_mds(square, dims) if start is None else start
    previous = np.inf
    for _ in range(max_iter):
        shown = _distances(points)
        raw = float(((square - shown) ** 2).sum())
        if previous - raw < 1e-9 * float((square**2).sum()):
            break
        previous = raw
        ratio = np.divide(square, shown, out=np.zeros_like(square), where=shown > 0)
        points = (ratio.sum(axis=1)[:, None] * points - ratio @ points) / len(square)
    return points - points.mean(axis=0), stress(square, points)


def align(points: Floats, target: Floats) -> Floats:
    """Rotate and reflect an arrangement towards another; distances do not change.

    Parameters
    ----------
    points, target : ndarray, shape (n, dims)
    """
    centred, goal = points - points.mean(axis=0), target - target.mean(axis=0)
    u, _, vt = np.linalg.svd(centred.T @ goal)
    return np.asarray(centred @ (u @ vt) + target.mean(axis=0))


def mds_movie(squares: Floats, dims: int = 2) -> tuple[Floats, Floats]:
    """Arrange every frame of a movie, each aligned with the one before.

    Parameters
    ----------
    squares : ndarray, shape (n_times, n, n)

    Returns
    -------
    points : ndarray, shape (n_times, n, dims)
    stress : ndarray, shape (n_times,)
    """
    arranged, misfit = zip(*(mds(square, dims) for square in squares), strict=True)
    points = [arranged[0]]
    for frame in arranged[1:]:
        points.append(align(frame, points[-1]))
    return np.stack(points), np.array(misfit)
