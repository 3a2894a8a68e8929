"""A non-negative tensor of exactly known rank: pairs x time x subjects."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["PlantedTensor", "planted_tensor"]


class PlantedTensor(NamedTuple):
    """Tensor, masks and truth.

    Attributes
    ----------
    X : ndarray, shape (n_pairs, n_bins, n_subjects)
        Noisy tensor, 0 where ``W`` is False.
    W : ndarray of bool, shape (n_pairs, n_subjects)
        Both neurons of the pair are present.
    clean : ndarray, shape (n_pairs, n_bins, n_subjects)
        Tensor without noise, complete.
    full : ndarray, shape (n_pairs, n_bins, n_subjects)
        Tensor with noise, complete.
    factors : tuple of ndarray
        Planted U, B, G.
    """

    X: NDArray[np.floating]
    W: NDArray[np.bool_]
    clean: NDArray[np.floating]
    full: NDArray[np.floating]
    factors: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


def planted_tensor(
    seed: int,
    *,
    n_neurons: int = 100,
    n_bins: int = 200,
    n_subjects: int = 5,
    rank: int = 6,
    group: int = 15,
    noise: float = 0.1,
    missing: float = 0.0,
    dtype: str = "float32",
) -> PlantedTensor:
    """Draw a CP tensor: groups of neurons, Gaussian bumps in time, loadings of animals.

    Parameters
    ----------
    seed : int
        Seed of everything.
    n_neurons, n_bins, n_subjects : int
        Sizes; there are ``n_neurons (n_neurons - 1) / 2`` pairs.
    rank : int
        Number of components.
    group : int
        Neurons per component.
    noise : float
        Norm of the Gaussian noise relative to the norm of the tensor; the sum is cut at 0.
    missing : float
        Share of (neuron, subject) that are missing.
    dtype : str
        Of the tensors.

    Returns
    -------
    PlantedTensor
    """
    rng = np.random.default_rng(seed)
    first, second = np.triu_indices(n_neurons, 1)
    member = np.zeros((n_neurons, rank))
    for r in range(rank):
        member[rng.choice(n_neurons, group, replace=False), r] = rng.uniform(0.5, 1, group)
    pairs = member[first] * member[second]
    centre = (np.arange(rank) + rng.uniform(0.3, 0.7, rank)) * n_bins / rank
    width = rng.uniform(0.3, 0.6, rank) * n_bins / rank
    bins = np.exp(-0.5 * ((np.arange(n_bins)[:, None] - centre) / width) ** 2)
    loading = rng.uniform(0.2, 1, (n_subjects, rank))
    clean = np.einsum("pr,tr,ar->pta", pairs, bins, loading, optimize=True)
    full = rng.standard_normal(clean.shape)
    full *= noise * np.linalg.norm(clean) / np.linalg.norm(full)
    full = np.maximum(full + clean, 0).astype(dtype)
    present = rng.random((n_neurons, n_subjects)) >= missing
    observed = present[first] & present[second]
    return PlantedTensor(
        full * observed[:, None, :], observed, clean.astype(dtype), full, (pairs, bins, loading)
    )
