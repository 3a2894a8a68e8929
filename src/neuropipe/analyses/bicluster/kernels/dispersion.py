"""Dispersion of each neuron: slice sampling of log r on its exact conditional."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["count_tail", "log_conditional", "sample_dispersion"]

Floats = NDArray[np.float64]
Generator = np.random.Generator
WIDTH, STEPS = 1.0, 20
LARGE = 200  # counts above it enter by log Gamma functions, not by the tail


@njit(cache=True, nogil=True)
def count_tail(counts: Floats) -> Floats:
    """Return how many of the observed counts up to `LARGE` exceed 0, 1, 2, ..."""
    most = 0
    for value in counts:
        if value <= LARGE:
            most = max(most, int(value))
    tail = np.zeros(most)
    for value in counts:
        if value <= LARGE:
            for v in range(int(value)):
                tail[v] += 1.0
    return tail


@njit(cache=True, nogil=True)
def log_conditional(
    log_r: float, counts: Floats, tail: Floats, rate: Floats, shape: float, prior_rate: float
) -> float:
    """Return the log density of log r given counts and rates, up to a constant.

    ``a log r - h r + sum [lgamma(y + r) - lgamma(r) + r log r - (y + r) log(r + lambda)]``; the
    ratio of Gamma functions is the sum of ``log(r + v)`` over v below the count, and with 1 + v / r
    and 1 + lambda / r in place of r + v and r + lambda the powers of r cancel.

    Parameters
    ----------
    log_r : float
        Where to evaluate.
    counts, rate : ndarray, shape (n_bins,)
        Counts, negative where unobserved, and expected counts.
    tail : ndarray
        `count_tail` of the counts.
    shape, prior_rate : float
        Prior ``r ~ Gamma(shape, prior_rate)``.
    """
    r = np.exp(log_r)
    total = shape * log_r - prior_rate * r
    for v in range(tail.shape[0]):
        total += tail[v] * np.log1p(v / r)
    for t in range(counts.shape[0]):
        if counts[t] >= 0.0:
            total -= (counts[t] + r) * np.log1p(rate[t] / r)
            if counts[t] > LARGE:
                total += math.lgamma(counts[t] + r) - math.lgamma(r) - counts[t] * log_r
    return total


@njit(cache=True, nogil=True)
def sample_dispersion(
    rng: Generator, counts: Floats, predictor: Floats, shape: float, prior_rate: float,
    dispersion: Floats,
) -> None:  # fmt: skip
    """Overwrite the dispersion of every neuron with a slice-sampling update (Neal 2003).

    Parameters
    ----------
    rng : Generator
        Random numbers.
    counts : ndarray, shape (n_units, n_bins)
        Negative where unobserved.
    predictor : ndarray, shape (n_units, n_bins)
        Log of the expected counts.
    shape, prior_rate : float
        Prior ``r ~ Gamma(shape, prior_rate)``.
    dispersion : ndarray, shape (n_units,)
        Overwritten.
    """
    n_units, n_bins = counts.shape
    rate = np.empty(n_bins)
    for i in range(n_units):
        for t in range(n_bins):
            rate[t] = np.exp(min(max(predictor[i, t], -30.0), 30.0))
        y, tail = counts[i], count_tail(counts[i])
        here = np.log(dispersion[i])
        level = log_conditional(here, y, tail, rate, shape, prior_rate) + np.log(1.0 - rng.random())
        low = here - WIDTH * rng.random()
        high = low + WIDTH
        left = int(rng.random() * STEPS)
        right = STEPS - 1 - left
        while left > 0 and log_conditional(low, y, tail, rate, shape, prior_rate) > level:
            low -= WIDTH
            left -= 1
        while right > 0 and log_conditional(high, y, tail, rate, shape, prior_rate) > level:
            high += WIDTH
            right -= 1
        while True:
            there = low + (high - low) * rng.random()
            if log_conditional(there, y, tail, rate, shape, prior_rate) > level:
                break
            if there < here:
                low = there
            else:
                high = there
        dispersion[i] = np.exp(there)
