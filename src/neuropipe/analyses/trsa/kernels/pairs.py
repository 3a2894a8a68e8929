"""Pairs of conditions: the upper triangle of an RDM in row order, and back."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["complete", "n_conditions", "pair_index", "to_pairs", "to_square"]

Floats = NDArray[np.float64]
Index = NDArray[np.intp]
Bools = NDArray[np.bool_]


def complete(values: Floats, axis: int) -> Bools:
    """Tell where all values along an axis are finite."""
    return np.asarray(np.isfinite(values).all(axis=axis))


def pair_index(n: int) -> tuple[Index, Index]:
    """Return first and second condition of every pair, each of shape ``(n * (n - 1) / 2,)``.

    Examples
    --------
    >>> [index.tolist() for index in pair_index(3)]
    [[0, 0, 1], [1, 2, 2]]
    """
    return np.triu_indices(n, 1)


def n_conditions(n_pairs: int) -> int:
    """Return the number of conditions of a vector of pairs.

    Raises
    ------
    ValueError
        If no number of conditions has so many pairs.
    """
    n = (1 + math.isqrt(1 + 8 * n_pairs)) // 2
    if n * (n - 1) // 2 != n_pairs:
        raise ValueError(f"{n_pairs} pairs are not the upper triangle of a square matrix")
    return n


def to_square(vectors: Floats, diagonal: float = 0.0) -> Floats:
    """Return the symmetric matrices ``(..., n, n)`` of vectors of pairs ``(..., n_pairs)``."""
    vectors = np.asarray(vectors, dtype=np.float64)
    n = n_conditions(vectors.shape[-1])
    i, j = pair_index(n)
    square = np.full((*vectors.shape[:-1], n, n), diagonal)
    square[..., i, j] = vectors
    square[..., j, i] = vectors
    return square


def to_pairs(square: Floats) -> Floats:
    """Return the upper triangles ``(..., n_pairs)`` of matrices ``(..., n, n)``."""
    i, j = pair_index(square.shape[-1])
    return np.asarray(square[..., i, j])
