"""Linear filters between a latent and what a modality shows of it, by frequency response."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["RESPONSES"]

Float = NDArray[np.float64]
Complex = NDArray[np.complex128]


def _delta(omega: Float, decay: float) -> Complex:
    return np.ones(omega.size, complex)


def _calcium(omega: Float, decay: float) -> Complex:
    return np.asarray(1 / (1 + 1j * omega * decay), np.complex128)


def _hrf(omega: Float, decay: float) -> Complex:
    base = np.asarray(1 / (1 + 1j * omega), np.complex128)
    return np.asarray((base**6 - base**16 / 6) / (1 - 1 / 6), np.complex128)


# Of unit gain at frequency 0. ``calcium``: exponential decay with time constant ``decay``
# seconds; ``hrf``: difference of gamma densities of shapes 6 and 16 (scale 1 s, ratio 1/6),
# the canonical haemodynamic response, whose characteristic functions are closed forms.
RESPONSES: dict[str, Callable[[Float, float], Complex]] = {
    "delta": _delta,
    "calcium": _calcium,
    "hrf": _hrf,
}
