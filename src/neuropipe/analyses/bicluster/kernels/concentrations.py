"""Concentrations of the sticky HDP-HMM under hyper-priors, by slice sampling.

Gamma priors of ``alpha + kappa`` and of ``gamma``, a Beta prior of ``kappa / (alpha + kappa)`` (Fox
et al. 2011). The rows of the transition matrix are integrated out; they have to be drawn anew
before anything else uses them.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["log_rows", "log_shared", "log_transitions", "sample_concentrations"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Generator = np.random.Generator
TINY = 1e-300
TOTAL, STAY, SHARED = 0, 1, 2
STEPS = 50


@njit(cache=True, nogil=True)
def log_transitions(counts: Ints, beta: Floats, alpha: float, kappa: float) -> float:
    """Return the log probability of transitions with the rows integrated out.

    Parameters
    ----------
    counts : ndarray of int, shape (n_states, n_states)
        How often each state (row) is followed by each.
    beta : ndarray, shape (n_states,)
        Shared weights.
    alpha, kappa : float
        ``pi_a ~ Dir(alpha beta + kappa e_a)``.
    """
    value = 0.0
    for a in range(beta.shape[0]):
        seen = 0
        for b in range(beta.shape[0]):
            n = counts[a, b]
            if n > 0:
                weight = max(alpha * beta[b] + (kappa if a == b else 0.0), TINY)
                value += math.lgamma(weight + n) - math.lgamma(weight)
                seen += n
        if seen > 0:
            value += math.lgamma(alpha + kappa) - math.lgamma(alpha + kappa + seen)
    return value


@njit(cache=True, nogil=True)
def log_rows(
    counts: Ints, beta: Floats, log_total: float, logit_stay: float, hyper: Floats
) -> float:
    """Return the log density of ``log(alpha + kappa)`` and ``logit(kappa / (alpha + kappa))``.

    Up to a constant, given transitions and shared weights; Jacobians of both are in it.

    Parameters
    ----------
    counts, beta : ndarray
        See `log_transitions`.
    log_total, logit_stay : float
        Where.
    hyper : ndarray, shape (6,)
        Shape and rate of ``alpha + kappa``, shape and rate of ``gamma``, both shapes of the Beta.
    """
    total = np.exp(log_total)
    stay = 1.0 / (1.0 + np.exp(-logit_stay))
    value = hyper[0] * log_total - hyper[1] * total
    value -= hyper[4] * np.log1p(np.exp(-logit_stay)) + hyper[5] * np.log1p(np.exp(logit_stay))
    return value + log_transitions(counts, beta, total * (1.0 - stay), total * stay)


@njit(cache=True, nogil=True)
def log_shared(beta: Floats, log_gamma: float, hyper: Floats) -> float:
    """Return the log density of ``log gamma`` given ``beta ~ Dir(gamma / L)``, up to a constant."""
    n_states, gamma = beta.shape[0], np.exp(log_gamma)
    value = hyper[2] * log_gamma - hyper[3] * gamma
    value += math.lgamma(gamma) - n_states * math.lgamma(gamma / n_states)
    for k in range(n_states):
        value += gamma / n_states * np.log(max(beta[k], TINY))
    return value


@njit(cache=True, nogil=True)
def _log_density(counts: Ints, beta: Floats, at: Floats, hyper: Floats, which: int) -> float:
    if which == SHARED:
        return log_shared(beta, at[SHARED], hyper)
    return log_rows(counts, beta, at[TOTAL], at[STAY], hyper)


@njit(cache=True, nogil=True)
def _slice(
    rng: Generator, counts: Ints, beta: Floats, at: Floats, hyper: Floats, which: int
) -> None:
    """Move one coordinate of `at` by slice sampling with stepping out (Neal 2003)."""
    here = at[which]
    level = _log_density(counts, beta, at, hyper, which) + np.log(1.0 - rng.random())
    low = here - rng.random()
    high = low + 1.0
    left = int(STEPS * rng.random())
    right = STEPS - 1 - left
    at[which] = low
    while left > 0 and _log_density(counts, beta, at, hyper, which) > level:
        at[which] -= 1.0
        left -= 1
    low = at[which]
    at[which] = high
    while right > 0 and _log_density(counts, beta, at, hyper, which) > level:
        at[which] += 1.0
        right -= 1
    high = at[which]
    while True:
        at[which] = low + rng.random() * (high - low)
        if _log_density(counts, beta, at, hyper, which) > level:
            return
        if at[which] < here:
            low = at[which]
        else:
            high = at[which]
        if high - low < 1e-12:
            at[which] = here
            return


@njit(cache=True, nogil=True)
def sample_concentrations(
    rng: Generator, counts: Ints, beta: Floats, hyper: Floats, strength: Floats
) -> None:
    """Overwrite alpha, gamma and kappa given transitions and shared weights.

    Parameters
    ----------
    rng : Generator
        Random numbers.
    counts : ndarray of int, shape (n_states, n_states)
        Transitions.
    beta : ndarray, shape (n_states,)
        Shared weights.
    hyper : ndarray, shape (6,)
        See `log_rows`.
    strength : ndarray, shape (3,)
        alpha, gamma, kappa, all positive; overwritten.
    """
    at = np.empty(3)
    at[TOTAL] = np.log(strength[0] + strength[2])
    at[STAY] = np.log(strength[2] / strength[0])
    at[SHARED] = np.log(strength[1])
    for which in (TOTAL, STAY, SHARED):
        _slice(rng, counts, beta, at, hyper, which)
    total, stay = np.exp(at[TOTAL]), 1.0 / (1.0 + np.exp(-at[STAY]))
    strength[0] = max(total * (1.0 - stay), TINY)
    strength[1] = np.exp(at[SHARED])
    strength[2] = max(total * stay, TINY)
