"""Log likelihood of counts, negative binomial or Poisson, and the linear predictor.

Counts are float64, negative where unobserved. Log rates are clipped to [-30, 30] in every
exponential, so that a path that explodes over empty bins gives numbers, not overflows.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from neuropipe.analyses.bicluster.kernels.small_shapes import SMALLEST, polya_gamma_series

__all__ = ["CLIP", "linear_predictor", "log_likelihood_bins", "polya_gamma"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
CLIP = 30.0


@njit(cache=True, nogil=True)
def linear_predictor(
    offset: Floats, baseline: Floats, readout: Floats, group: Ints, x: Floats
) -> Floats:
    """Return eta, (n_units, n_bins): offset + baseline + readout of the group's trajectory.

    Parameters
    ----------
    offset : ndarray, shape (n_units, n_bins)
        Log exposure.
    baseline : ndarray, shape (n_units,)
        Baselines delta.
    readout : ndarray, shape (n_units, n)
        Rows h_i.
    group : ndarray of int, shape (n_units,)
        Slot of each neuron's group.
    x : ndarray, shape (n_slots, n_bins, n)
        Trajectories.
    """
    n_units, n_bins = offset.shape
    out = np.empty((n_units, n_bins))
    for i in range(n_units):
        path = x[group[i]]
        for t in range(n_bins):
            value = offset[i, t] + baseline[i]
            for m in range(path.shape[1]):
                value += readout[i, m] * path[t, m]
            out[i, t] = value
    return out


@njit(cache=True, nogil=True)
def log_likelihood_bins(
    counts: Floats, predictor: Floats, dispersion: Floats, poisson: bool
) -> Floats:
    """Return the log probability of every count, (n_units, n_bins), 0 where unobserved."""
    n_units, n_bins = counts.shape
    out = np.zeros((n_units, n_bins))
    for i in range(n_units):
        r = dispersion[i]
        for t in range(n_bins):
            y = counts[i, t]
            if y < 0.0:
                continue
            eta = min(max(predictor[i, t], -CLIP), CLIP)
            value = y * eta - math.lgamma(y + 1.0)
            if poisson:
                value -= np.exp(eta)
            else:
                value += math.lgamma(y + r) - math.lgamma(r) - y * np.log(r)
                value -= (y + r) * np.log1p(np.exp(eta) / r)
            out[i, t] = value
    return out


def polya_gamma(
    rng: np.random.Generator, counts: Floats, predictor: Floats, dispersion: Floats
) -> Floats:
    """Draw ``omega ~ PG(y + r, eta - log r)``, (n_units, n_bins), 0 where unobserved.

    Parameters
    ----------
    rng : Generator
        Random numbers.
    counts, predictor : ndarray, shape (n_units, n_bins)
        Counts, negative where unobserved, and eta.
    dispersion : ndarray, shape (n_units,)
        Sizes r.

    Notes
    -----
    ``NB(y | r, p)`` is proportional to ``exp(kappa psi) E[exp(-omega psi^2 / 2)]`` with
    ``psi = eta - log r`` and ``kappa = (y - r) / 2`` (Polson, Scott & Windle 2013). The package
    uses the normal limit for y + r > 50.
    """
    from polyagamma import random_polyagamma

    seen = counts >= 0.0
    shape = (counts + dispersion[:, None])[seen]
    tilt = (predictor - np.log(dispersion)[:, None])[seen]
    omega = np.zeros(counts.shape)
    drawn = random_polyagamma(np.maximum(shape, SMALLEST), tilt, random_state=rng)
    small = shape < SMALLEST
    if small.any():
        drawn[small] = polya_gamma_series(rng, shape[small], tilt[small])
    omega[seen] = drawn
    return omega
