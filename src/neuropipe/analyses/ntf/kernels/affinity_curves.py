"""The affinity of one pair of neurons at the full frame rate, with what it is made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.ntf.kernels.affinity import (
    AFFINITY_MODES,
    Traces,
    derivatives,
    scaled_derivatives,
)

__all__ = ["PairCurves", "pair_curves"]

Float = NDArray[np.float64]


@dataclass(frozen=True)
class PairCurves:
    """One pair of neurons in one animal.

    Attributes
    ----------
    slope : ndarray, shape (2, n_times)
        Scaled derivatives with their sign, in [-1, 1].
    cut : ndarray of bool, shape (n_times,)
        The derivative of one of the two changes its sign here.
    affinity : ndarray, shape (n_times,)
        Affinity, before it is averaged in bins.
    """

    slope: Float
    cut: NDArray[np.bool_]
    affinity: Float


def pair_curves(
    traces: Traces,
    pair: tuple[int, int],
    *,
    mode: str,
    rate_hz: float,
    deriv_window: int,
    window: int,
    scale_quantile: float,
) -> PairCurves:
    """Return derivatives and affinity of one pair, as `affinity.pair_affinity` computes them.

    Parameters
    ----------
    traces : Traces
        Traces of the animal, all neurons.
    pair : tuple of int
        Positions of the two neurons.
    mode, rate_hz, deriv_window, window, scale_quantile
        As in `affinity.pair_affinity`.
    """
    slopes = derivatives(traces, window=deriv_window, dt=1 / rate_hz)
    scaled, silent = scaled_derivatives(traces, slopes, quantile=scale_quantile, dt=1 / rate_hz)
    slopes[silent] = 0.0
    function = AFFINITY_MODES[mode](scaled, slopes, traces, window // 2)
    first, second = (np.array([one], dtype=np.intp) for one in pair)
    sign = np.sign(slopes[list(pair)])
    cut = np.zeros(sign.shape[1], dtype=bool)
    cut[1:] = (sign[:, 1:] != sign[:, :-1]).any(axis=0)
    return PairCurves(scaled[list(pair)] * sign, cut, function(first, second)[0])
