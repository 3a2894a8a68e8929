"""Polya-Gamma variables of shapes so small that the package `polyagamma` refuses them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["SMALLEST", "polya_gamma_series"]

Floats = NDArray[np.float64]
SMALLEST = 1e-3  # of the package: it takes 1e-3 and refuses 1e-4
TERMS = 200


def polya_gamma_series(rng: np.random.Generator, shape: Floats, tilt: Floats) -> Floats:
    """Return draws of ``PG(shape, tilt)`` from the sum of Gamma variables that defines them.

    Parameters
    ----------
    rng : Generator
        Random numbers.
    shape, tilt : ndarray, shape (n,)
        Shapes, positive, and tilts.

    Notes
    -----
    ``(2 pi^2)^-1 sum_k g_k / ((k - 1/2)^2 + tilt^2 / (4 pi^2))`` with ``g_k ~ Gamma(shape, 1)``
    (Polson, Scott & Windle 2013); after 200 terms the rest enters by its mean, a share of about
    1e-3 of the whole.
    """
    half = np.arange(1, TERMS + 1) - 0.5
    weight = 1.0 / (half**2 + (tilt[:, None] / (2.0 * np.pi)) ** 2)
    drawn = rng.standard_gamma(np.broadcast_to(shape[:, None], weight.shape))
    found: Floats = ((drawn * weight).sum(axis=1) + shape / TERMS) / (2.0 * np.pi**2)
    return found
