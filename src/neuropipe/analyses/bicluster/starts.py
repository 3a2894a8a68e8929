"""Where chains begin: many or fewer clusters by k-means, states of varied dynamics.

All chains begin with more clusters than expected, nearly pure ones, which the merges of the
warm-up bring down; labels are held until the trajectories fit. A chain that begins with one state,
or with states that differ in nothing but their bins, finds others only after some thousand sweeps:
states begin with dynamics from white noise to random walk, held until each has found its bins.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2
from scipy.ndimage import gaussian_filter1d

from neuropipe.analyses.bicluster.chain_state import ChainState, Priors, Problem, Scheme
from neuropipe.analyses.bicluster.kernels.states import report_first_bins

__all__ = ["initial_state", "kmeans_labels", "smooth_paths"]

Floats = NDArray[np.float64]
SMOOTHING = 3.0  # bins
COMPONENTS, TRIES = 10, 10
BOUTS = (50.0, 20.0)  # bins


def smooth_paths(rng: np.random.Generator, count: int, n_bins: int, size: int) -> Floats:
    """Return random smooth trajectories of standard deviation 0.5, (count, n_bins, size)."""
    noise = rng.standard_normal((count, n_bins, size))
    width = max(min(3 * SMOOTHING, n_bins / 10), 1.0)
    smooth = gaussian_filter1d(noise, width, axis=1, mode="wrap")
    found: Floats = 0.5 * smooth / np.maximum(smooth.std(axis=1, keepdims=True), 1e-12)
    return found


def kmeans_labels(rng: np.random.Generator, counts: Floats, clusters: int) -> NDArray[np.int64]:
    """Return labels of neurons by k-means, the best of `TRIES`.

    Of the first principal components of smoothed, square-rooted, standardised counts.
    """
    mean = np.where(counts >= 0, counts, 0).sum(axis=1) / np.maximum((counts >= 0).sum(axis=1), 1)
    filled = np.sqrt(np.where(counts >= 0, counts, mean[:, None]))
    smooth = gaussian_filter1d(filled, SMOOTHING, axis=1, mode="nearest")
    smooth -= smooth.mean(axis=1, keepdims=True)
    smooth /= np.maximum(smooth.std(axis=1, keepdims=True), 1e-12)
    left, size, _ = np.linalg.svd(smooth, full_matrices=False)
    points = (left * size)[:, :COMPONENTS]
    best, least = np.zeros(len(counts), np.int64), np.inf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of centres without members, which are dropped below
        for _ in range(TRIES):
            centres, labels = kmeans2(points, min(clusters, len(counts)), minit="++", rng=rng)
            spread = float(((points - centres[labels]) ** 2).sum())
            if spread < least:
                best, least = labels, spread
    return np.unique(best, return_inverse=True)[1].astype(np.int64)


def _states(
    rng: np.random.Generator, start: NDArray[np.bool_], n_states: int, chain: int
) -> NDArray[np.int64]:
    """Return bouts of random states, shorter for every second pair of chains."""
    states = np.zeros(start.size, np.int64)
    switches = rng.random(start.size) < 1.0 / BOUTS[chain % 4 // 2]
    drawn = rng.integers(n_states, size=start.size)
    for t in range(1, start.size):
        states[t] = drawn[t] if switches[t] else states[t - 1]
    report_first_bins(states, start)
    return states


def _dynamics(rng: np.random.Generator, n_states: int, size: int) -> tuple[Floats, Floats]:
    """Return dynamics from white noise to random walks, one per state, in random order."""
    memory = (rng.permutation(n_states) + rng.random(n_states)) / n_states
    variance = 0.01 * np.exp(0.7 * rng.standard_normal(n_states))
    identity = np.eye(size)
    return memory[:, None, None] * identity, variance[:, None, None] * identity


def initial_state(
    problem: Problem,
    priors: Priors,
    scheme: Scheme,
    rng: np.random.Generator,
    chain: int,
    labels: NDArray[np.int64] | None = None,
) -> ChainState:
    """Return the first state of a chain.

    Parameters
    ----------
    problem : Problem
        Data.
    priors : Priors
        Hyper-parameters.
    scheme : Scheme
        Model.
    rng : Generator
        Random numbers of the chain.
    chain : int
        Even: ``ceil(1.5 sqrt(N))`` clusters by k-means, odd: ``ceil(sqrt(N))``. States
        begin in random bouts of 50 bins on average for chains 0, 1, 4, 5, ..., else 20.
        Trajectories are random smooth paths and fitted to nothing; dynamics are the same for
        all clusters.
    labels : ndarray of int, shape (n_units,), optional
        Clusters, if they are given.
    """
    n_units, n_bins = problem.counts.shape
    size, n_states = scheme.p + 1, scheme.n_states_max
    if labels is None:
        factor = 1.0 if chain % 2 else 1.5
        labels = kmeans_labels(rng, problem.counts, int(np.ceil(factor * np.sqrt(n_units))))
    labels = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    clusters = int(labels.max()) + 1
    groups, n = (1, clusters * size) if scheme.coupling == "full" else (clusters, size)
    counts = problem.counts
    seen = np.maximum((counts >= 0).sum(axis=1), 1)
    coefficients = np.zeros((n_units, size))
    coefficients[:, 0] = np.log(np.where(counts >= 0, counts, 0.0).sum(axis=1) / seen + 0.1)
    coefficients[:, 1:] = 0.1 * rng.standard_normal((n_units, scheme.p))
    matrix, noise = _dynamics(rng, n_states, n)
    stay = priors.alpha_h / n_states + priors.kappa * np.eye(n_states)
    return ChainState(
        label=labels,
        coefficients=coefficients,
        dispersion=np.full(n_units, 10.0),
        x=smooth_paths(rng, groups, n_bins, n),
        A=np.tile(matrix, (groups, 1, 1, 1)),
        b=np.zeros((groups, n_states, n)),
        Q=np.tile(noise, (groups, 1, 1, 1)),
        states=_states(rng, problem.start, n_states, chain),
        beta=np.full(n_states, 1.0 / n_states),
        transition=stay / stay.sum(axis=1, keepdims=True),
    )
