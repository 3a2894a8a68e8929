"""Poisson counts: trajectories proposed by a negative binomial of large size, window by window."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from neuropipe.analyses.bicluster.kernels.likelihood import CLIP
from neuropipe.analyses.bicluster.kernels.trajectory import DRAW, filter_forward, sample_backward

__all__ = ["update_windows"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Generator = np.random.Generator


@njit(cache=True, nogil=True)
def _correction(y: float, eta: float, size: float) -> float:
    """Return the log of Poisson over negative binomial, up to terms without eta."""
    eta = min(max(eta, -CLIP), CLIP)
    rate = np.exp(eta)
    return (y + size) * np.log1p(rate / size) - rate


@njit(cache=True, nogil=True)
def _window_ratio(
    counts: Floats, predictor: Floats, readout: Floats, members: Ints, change: Floats, low: int,
    size: float, commit: bool,
) -> float:  # fmt: skip
    """Return the log acceptance ratio of moving the path by `change` from bin `low` on."""
    total = 0.0
    for i in members:
        for t in range(change.shape[0]):
            step = 0.0
            for m in range(change.shape[1]):
                step += readout[i, m] * change[t, m]
            if commit:
                predictor[i, low + t] += step
            elif counts[i, low + t] >= 0.0:
                eta = predictor[i, low + t]
                total += _correction(counts[i, low + t], eta + step, size)
                total -= _correction(counts[i, low + t], eta, size)
    return total


@njit(cache=True, nogil=True)
def update_windows(
    rng: Generator, counts: Floats, predictor: Floats, readout: Floats, members: Ints, size: float,
    A: Floats, b: Floats, Q: Floats, states: Ints, start: Bools, information: Floats,
    shift: Floats, edges: Ints, x: Floats, tally: Ints, failures: Ints,
) -> None:  # fmt: skip
    """Update one group's trajectory under Poisson counts, window by window.

    Each window is drawn from its conditional given both ends under a negative binomial of size
    `size` with its Polya-Gamma variables, a kernel that is reversible for that target, and
    accepted with the ratio of Poisson to negative binomial likelihoods.

    Parameters
    ----------
    rng : Generator
        Random numbers.
    counts, predictor : ndarray, shape (n_units, n_bins)
        Counts, negative where unobserved; eta, kept up to date.
    readout : ndarray, shape (n_units, n)
        Rows h_i.
    members : ndarray of int
        Neurons of the group.
    size : float
        Size of the negative binomial.
    A, b, Q : ndarray, shapes (n_states, n[, n])
        Dynamics of the group.
    states, start : ndarray, shape (n_bins,)
        State of each bin; first bins of trials.
    information, shift : ndarray, shapes (n_bins, n[, n])
        From `trajectory.accumulate_information`.
    edges : ndarray of int
        First bins of the windows, then the number of bins.
    x : ndarray, shape (n_bins, n)
        Trajectory, changed in place.
    tally : ndarray, shape (2,)
        Counts of accepted windows and of all.
    failures : ndarray, shape (2,)
        See `linalg.cholesky`.
    """
    n_bins, n = x.shape
    precision, linear = np.empty((n_bins, n, n)), np.empty((n_bins, n))
    before = np.empty_like(x)
    for w in range(edges.shape[0] - 1):
        low, high = edges[w], edges[w + 1]
        before[low:high] = x[low:high]
        filter_forward(
            A, b, Q, states, start, information, shift, x, low, high, precision, linear, failures
        )
        sample_backward(
            rng, A, b, Q, states, start, precision, linear, x, low, high, DRAW, failures
        )
        change = x[low:high] - before[low:high]
        ratio = _window_ratio(counts, predictor, readout, members, change, low, size, False)
        tally[1] += 1
        if np.log(1.0 - rng.random()) < ratio:
            tally[0] += 1
            _window_ratio(counts, predictor, readout, members, change, low, size, True)
        else:
            x[low:high] = before[low:high]
