"""Linear algebra of the very small matrices inside the sampler's loops.

LAPACK costs about a microsecond per call, more than the work at three dimensions. All functions
write into arrays of the caller, so that the loops over bins allocate nothing.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = [
    "cholesky",
    "invert_lower",
    "invert_spd",
    "log_det",
    "solve_lower",
    "solve_lower_transposed",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

JITTERS = (1e-10, 1e-9, 1e-8, 1e-7, 1e-6)


@njit(cache=True, nogil=True)
def _factor(matrix: Floats, lower: Floats, jitter: float) -> bool:
    size = matrix.shape[0]
    for j in range(size):
        pivot = matrix[j, j] + jitter
        for m in range(j):
            pivot -= lower[j, m] * lower[j, m]
        if not pivot > 0.0:
            return False
        root = np.sqrt(pivot)
        lower[j, j] = root
        for i in range(j + 1, size):
            value = matrix[i, j]
            for m in range(j):
                value -= lower[i, m] * lower[j, m]
            lower[i, j] = value / root
            lower[j, i] = 0.0
    return True


@njit(cache=True, nogil=True)
def cholesky(matrix: Floats, lower: Floats, failures: Ints) -> None:
    """Write the lower Cholesky factor of a symmetric matrix into `lower`.

    A matrix that rounding left indefinite gets jitter, relative to its mean diagonal, escalating
    from 1e-10 to 1e-6.

    Parameters
    ----------
    matrix, lower : ndarray, shape (n, n)
        Only the lower triangle of `matrix` is read.
    failures : ndarray, shape (2,)
        Counts: matrices that needed jitter; matrices for which even that was not enough, whose
        factor is then the root of the absolute diagonal.
    """
    if _factor(matrix, lower, 0.0):
        return
    failures[0] += 1
    size = matrix.shape[0]
    scale = 0.0
    for i in range(size):
        scale += abs(matrix[i, i]) / size
    for jitter in JITTERS:
        if _factor(matrix, lower, jitter * scale):
            return
    failures[1] += 1
    for i in range(size):
        for j in range(size):
            lower[i, j] = 0.0
        lower[i, i] = np.sqrt(max(abs(matrix[i, i]), 1e-300))


@njit(cache=True, nogil=True)
def solve_lower(lower: Floats, vector: Floats) -> None:
    """Overwrite `vector` with ``lower^{-1} vector``."""
    for i in range(vector.shape[0]):
        value = vector[i]
        for m in range(i):
            value -= lower[i, m] * vector[m]
        vector[i] = value / lower[i, i]


@njit(cache=True, nogil=True)
def solve_lower_transposed(lower: Floats, vector: Floats) -> None:
    """Overwrite `vector` with ``lower^{-T} vector``."""
    size = vector.shape[0]
    for back in range(size):
        i = size - 1 - back
        value = vector[i]
        for m in range(i + 1, size):
            value -= lower[m, i] * vector[m]
        vector[i] = value / lower[i, i]


@njit(cache=True, nogil=True)
def invert_lower(lower: Floats, inverse: Floats) -> None:
    """Write the inverse of a lower triangular matrix into `inverse`."""
    size = lower.shape[0]
    for j in range(size):
        for i in range(j):
            inverse[i, j] = 0.0
        inverse[j, j] = 1.0 / lower[j, j]
        for i in range(j + 1, size):
            value = 0.0
            for m in range(j, i):
                value -= lower[i, m] * inverse[m, j]
            inverse[i, j] = value / lower[i, i]


@njit(cache=True, nogil=True)
def invert_spd(lower: Floats, inverse: Floats, work: Floats) -> None:
    """Write ``(lower lower')^{-1}`` into `inverse`; `work` has the same shape."""
    invert_lower(lower, work)
    size = lower.shape[0]
    for i in range(size):
        for j in range(i + 1):
            value = 0.0
            for m in range(i, size):
                value += work[m, i] * work[m, j]
            inverse[i, j] = value
            inverse[j, i] = value


@njit(cache=True, nogil=True)
def log_det(lower: Floats) -> float:
    """Return the log determinant of ``lower lower'``."""
    total = 0.0
    for i in range(lower.shape[0]):
        total += np.log(lower[i, i])
    return 2.0 * total
