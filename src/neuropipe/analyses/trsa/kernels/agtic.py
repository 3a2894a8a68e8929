"""Dependence of two variables of unknown scale: adaptive geo-topological independence criterion.

Source: Lin and Kriegeskorte 2018. The statistic is the largest distance correlation over all
thresholds of both; the same maximum is taken in every permutation, which keeps the error rate.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.trsa.kernels.pairs import to_pairs, to_square
from neuropipe.analyses.trsa.kernels.transform import prescale, rgtm

__all__ = ["agtic", "distance_correlation_grid"]

Floats = NDArray[np.float64]


def _centred(points: Floats, cells: Floats) -> Floats:
    """Return doubly centred transformed distances of unit norm, ``(n_cells, n, n)``."""
    distance = np.sqrt(((points[:, None] - points) ** 2).sum(axis=2))
    scaled = prescale(to_pairs(distance), "minmax")
    square = to_square(np.stack([rgtm(scaled, lower, upper) for lower, upper in cells]))
    rows = square.mean(axis=1, keepdims=True)
    square = square - rows - np.swapaxes(rows, 1, 2) + rows.mean(axis=2, keepdims=True)
    norm = np.sqrt((square**2).sum(axis=(1, 2), keepdims=True))
    return np.asarray(square / np.where(norm > 0, norm, 1.0))


def distance_correlation_grid(first: Floats, second: Floats, cells: Floats) -> Floats:
    """Return squared distance correlations for all pairs of cells, ``(n_cells, n_cells)``."""
    a, b = (_centred(points, cells).reshape(len(cells), -1) for points in (first, second))
    return a @ b.T


def agtic(
    first: Floats, second: Floats, cells: Floats, draws: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Test whether two variables depend on each other.

    Parameters
    ----------
    first, second : ndarray, shape (n_observations, n_dims)
    cells : ndarray, shape (n_cells, 2)
        Lower and upper thresholds (quantiles) of the transform.
    draws : int
        Permutations.

    Returns
    -------
    statistic : float
        Largest squared distance correlation.
    pvalue : float
        Share of permutations (the data among them) with at least as large a maximum.
    """
    a, b = _centred(first, cells), _centred(second, cells)
    flat = a.reshape(len(cells), -1)
    observed = float((flat @ b.reshape(len(cells), -1).T).max())
    above = 1
    for _ in range(draws):
        order = rng.permutation(len(first))
        shuffled = b[:, order][:, :, order].reshape(len(cells), -1)
        above += float((flat @ shuffled.T).max()) >= observed - 1e-12
    return observed, above / (draws + 1)
