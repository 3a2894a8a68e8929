"""Where chains begin: one cluster on a random smooth path, or k-means clusters, by chain number."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2
from scipy.ndimage import gaussian_filter1d

from neuropipe.analyses.bicluster.chain_state import ChainState, Priors, Problem, Scheme

__all__ = ["initial_state"]

Floats = NDArray[np.float64]
SMOOTHING = 5.0  # bins


def _smooth_paths(rng: np.random.Generator, count: int, n_bins: int, size: int) -> Floats:
    """Return random smooth trajectories of standard deviation 0.5, (count, n_bins, size)."""
    noise = rng.standard_normal((count, n_bins, size))
    width = max(min(2 * SMOOTHING, n_bins / 10), 1.0)
    smooth = gaussian_filter1d(noise, width, axis=1, mode="wrap")
    found: Floats = 0.5 * smooth / np.maximum(smooth.std(axis=1, keepdims=True), 1e-12)
    return found


def _kmeans_labels(rng: np.random.Generator, problem: Problem) -> NDArray[np.int64]:
    """Return clusters of smoothed, square-rooted, standardised counts."""
    counts = problem.counts
    mean = np.where(counts >= 0, counts, 0).sum(axis=1) / np.maximum((counts >= 0).sum(axis=1), 1)
    filled = np.sqrt(np.where(counts >= 0, counts, mean[:, None]))
    smooth = gaussian_filter1d(filled, SMOOTHING, axis=1, mode="nearest")
    smooth -= smooth.mean(axis=1, keepdims=True)
    smooth /= np.maximum(smooth.std(axis=1, keepdims=True), 1e-12)
    clusters = int(np.ceil(np.sqrt(len(counts))))
    _, labels = kmeans2(smooth, clusters, minit="++", rng=rng)
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


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
        Even: one cluster on a random path that is not fitted, so that the first sweep scatters the
        neurons; odd: ``ceil(sqrt(N))`` clusters by k-means.
    labels : ndarray of int, shape (n_units,), optional
        Clusters, if they are given.
    """
    n_units, n_bins = problem.counts.shape
    size, n_states = scheme.p + 1, scheme.n_states_max
    if labels is None:
        labels = _kmeans_labels(rng, problem) if chain % 2 else np.zeros(n_units, np.int64)
    labels = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    clusters = int(labels.max()) + 1
    groups, n = (1, clusters * size) if scheme.coupling == "full" else (clusters, size)
    counts = problem.counts
    seen = np.maximum((counts >= 0).sum(axis=1), 1)
    coefficients = np.zeros((n_units, size))
    coefficients[:, 0] = np.log(np.where(counts >= 0, counts, 0.0).sum(axis=1) / seen + 0.1)
    coefficients[:, 1:] = 0.1 * rng.standard_normal((n_units, scheme.p))
    stay = priors.alpha_h / n_states + priors.kappa * np.eye(n_states)
    return ChainState(
        label=labels,
        coefficients=coefficients,
        dispersion=np.full(n_units, 10.0),
        x=_smooth_paths(rng, groups, n_bins, n),
        A=np.tile(np.eye(n), (groups, n_states, 1, 1)),
        b=np.zeros((groups, n_states, n)),
        Q=np.tile(0.01 * np.eye(n), (groups, n_states, 1, 1)),
        states=np.zeros(n_bins, np.int64),
        beta=np.full(n_states, 1.0 / n_states),
        transition=stay / stay.sum(axis=1, keepdims=True),
    )
