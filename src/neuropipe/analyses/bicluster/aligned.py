"""Trajectories and dynamics of the point-estimate clusters, aligned over draws."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuropipe.analyses.bicluster.kernels.point_partition import align_labels

__all__ = ["aligned_trajectories", "eigenvalues"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
LEAST_OVERLAP = 0.5


def _matches(labels: Ints, point: Ints) -> list[tuple[int, float]]:
    """Return, per cluster of the point estimate, the draw's best cluster and their overlap."""
    found = []
    for cluster in range(int(point.max()) + 1):
        member = point == cluster
        shared = np.bincount(labels[member], minlength=int(labels.max()) + 1)
        union = np.bincount(labels, minlength=shared.size) + member.sum() - shared
        best = int(np.argmax(shared / union))
        found.append((best, float(shared[best] / union[best])))
    return found


def _canonical(path: Floats) -> Floats:
    """Return a path (n_bins, n) centred, its factors turned to their principal axes."""
    path = path - path.mean(axis=0)
    if path.shape[1] > 1:
        axes = np.linalg.svd(path[:, 1:], full_matrices=False)[2]
        path[:, 1:] = path[:, 1:] @ axes.T
    return path


def _procrustes(path: Floats, reference: Floats) -> Floats:
    """Return the path with its factors turned, signs and order included, to a reference."""
    found = path.copy()
    u, _, v = np.linalg.svd(path[:, 1:].T @ reference[:, 1:])
    found[:, 1:] = path[:, 1:] @ (u @ v)
    return found


def aligned_trajectories(
    labels: Ints, paths: list[Floats], log_joint: Floats, point: Ints
) -> tuple[Floats, Floats]:
    """Return mean and 2.5 and 97.5 % quantiles of each cluster's trajectory.

    Parameters
    ----------
    labels : ndarray of int, shape (n_draws, n_units)
        Labels of the draws with latents.
    paths : list of ndarray, shape (n_clusters, n_bins, n)
        Trajectories of each draw.
    log_joint : ndarray, shape (n_draws,)
        The draw with the largest is the reference.
    point : ndarray of int, shape (n_units,)
        Point partition.

    Returns
    -------
    bands : ndarray, shape (3, n_point_clusters, n, n_bins)
        Mean, low, high; NaN where no draw has the cluster.
    share : ndarray, shape (n_point_clusters,)
        Share of draws with a cluster that overlaps it (Jaccard) by one half or more.
    """
    clusters, (_, n_bins, size) = int(point.max()) + 1, paths[0].shape
    bands, share = np.full((3, clusters, size, n_bins), np.nan), np.zeros(clusters)
    order = np.argsort(-log_joint)
    for cluster in range(clusters):
        reference, kept = None, []
        for draw in order:
            best, overlap = _matches(labels[draw], point)[cluster]
            if overlap < LEAST_OVERLAP:
                continue
            path = _canonical(paths[draw][best].astype(np.float64))
            reference = path if reference is None else reference
            kept.append(_procrustes(path, reference))
        share[cluster] = len(kept) / len(order)
        if kept:
            stack = np.array(kept)
            bands[0, cluster] = stack.mean(axis=0).T
            bands[1:, cluster] = np.quantile(stack, [0.025, 0.975], axis=0).transpose(0, 2, 1)
    return bands, share


def eigenvalues(
    labels: Ints, matrices: list[Floats], states: Ints, point: Ints, point_states: Ints
) -> xr.Dataset:
    """Return eigenvalues of the dynamics per draw, point cluster and point state.

    Parameters
    ----------
    labels, states : ndarray of int, shapes (n_draws, n_units) and (n_draws, n_bins)
        Labels of the draws with latents.
    matrices : list of ndarray, shape (n_clusters, n_states, n, n)
        Dynamics of each draw.
    point, point_states : ndarray of int
        Point partitions of neurons and bins.

    Returns
    -------
    xarray.Dataset
        ``dynamics_eigenvalue_real``, ``_imag`` (latent_sample, cluster, occupied_state, component),
        NaN where a draw has no such cluster or state.
    """
    clusters, occupied = int(point.max()) + 1, int(point_states.max()) + 1
    size = matrices[0].shape[-1]
    found = np.full((len(matrices), clusters, occupied, size), np.nan, dtype=np.complex128)
    for draw, matrix in enumerate(matrices):
        matched = align_labels(states[draw], point_states)
        for cluster, (best, overlap) in enumerate(_matches(labels[draw], point)):
            if overlap < LEAST_OVERLAP:
                continue
            for state, target in enumerate(matched):
                if target >= 0 and np.isfinite(matrix[best, state]).all():
                    values = np.linalg.eigvals(matrix[best, state].astype(np.float64))
                    found[draw, cluster, target] = values[np.argsort(-np.abs(values))]
    dims = ("latent_sample", "cluster", "occupied_state", "component")
    return xr.Dataset(
        {
            "dynamics_eigenvalue_real": (dims, found.real),
            "dynamics_eigenvalue_imag": (dims, found.imag),
        }
    )
