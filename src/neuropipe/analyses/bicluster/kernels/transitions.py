"""Tables of the sticky HDP-HMM with a weak limit: transition counts, beta, pi."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["count_transitions", "draw_dirichlet", "sample_tables", "sample_transitions"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Generator = np.random.Generator


@njit(cache=True, nogil=True)
def count_transitions(states: Ints, start: Bools, n_states: int) -> Ints:
    """Return how often each state follows each, (n_states, n_states), rows the earlier.

    The first state of a trial, that of its second bin, has no predecessor.
    """
    counts = np.zeros((n_states, n_states), np.int64)
    for t in range(2, states.shape[0]):
        if not (start[t] or start[t - 1]):
            counts[states[t - 1], states[t]] += 1
    return counts


@njit(cache=True, nogil=True)
def draw_dirichlet(rng: Generator, concentration: Floats, out: Floats) -> None:
    """Write a Dirichlet draw into `out`; a concentration of 0 gives weight 0."""
    total = 0.0
    for k in range(concentration.shape[0]):
        out[k] = rng.standard_gamma(concentration[k]) if concentration[k] > 0.0 else 0.0
        total += out[k]
    for k in range(concentration.shape[0]):
        out[k] /= total


@njit(cache=True, nogil=True)
def sample_tables(rng: Generator, counts: Ints, beta: Floats, alpha: float, kappa: float) -> Floats:
    """Return tables per dish, without those that stickiness alone explains, (n_states,).

    ``m_ab ~ CRT(n_ab, alpha beta_b + kappa 1[a = b])``, then ``m_aa`` loses a
    ``Binomial(m_aa, kappa / (kappa + alpha beta_a))`` (Fox et al. 2011).
    """
    n_states = beta.shape[0]
    tables = np.zeros(n_states)
    for a in range(n_states):
        for b in range(n_states):
            weight = alpha * beta[b] + (kappa if a == b else 0.0)
            sticky = kappa / weight if a == b and weight > 0.0 else 0.0
            for seated in range(counts[a, b]):
                if rng.random() * (weight + seated) < weight and rng.random() >= sticky:
                    tables[b] += 1.0
    return tables


@njit(cache=True, nogil=True)
def sample_transitions(
    rng: Generator, states: Ints, start: Bools, alpha: float, gamma: float, kappa: float,
    beta: Floats, transition: Floats,
) -> None:  # fmt: skip
    """Overwrite state weights and transition probabilities given the states.

    Parameters
    ----------
    rng : Generator
        Random numbers.
    states, start : ndarray, shape (n_bins,)
        State of each bin; first bins of trials.
    alpha, gamma, kappa : float
        Concentrations of rows and of the shared weights; extra weight on staying.
    beta : ndarray, shape (n_states,)
        Shared weights, overwritten.
    transition : ndarray, shape (n_states, n_states)
        Overwritten.
    """
    n_states = beta.shape[0]
    counts = count_transitions(states, start, n_states)
    tables = sample_tables(rng, counts, beta, alpha, kappa)
    draw_dirichlet(rng, tables + gamma / n_states, beta)
    for a in range(n_states):
        weight = alpha * beta + counts[a]
        weight[a] += kappa
        draw_dirichlet(rng, weight, transition[a])
