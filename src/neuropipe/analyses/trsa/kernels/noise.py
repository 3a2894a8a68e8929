"""Noise covariance of channels and the whitening of patterns.

Sources: Ledoit and Wolf 2004 (towards a scaled identity), Schäfer and Strimmer 2005 (towards the
diagonal), Walther et al. 2016 (why to whiten).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.trsa.kernels.pairs import complete

__all__ = ["NOISE", "Whitener", "centred_residuals", "noise_covariance", "whiten", "whitener"]

Floats = NDArray[np.float64]
RANK_TOLERANCE = 1e-10


@dataclass(frozen=True)
class Whitener:
    """Square root of a precision matrix.

    Attributes
    ----------
    root : ndarray, shape (n_channels, n_channels) or (n_channels,)
        Symmetric root; a vector holds the diagonal of a diagonal one.
    shrinkage : float
        Weight of the target; NaN where nothing was shrunk.
    """

    root: Floats
    shrinkage: float


def centred_residuals(patterns: Floats) -> tuple[Floats, int]:
    """Return the deviations of runs from the means over runs, and their degrees of freedom.

    Parameters
    ----------
    patterns : ndarray, shape (n_runs, n_conditions, n_channels)
        NaN rows where a run has no such condition.

    Returns
    -------
    residuals : ndarray, shape (n_samples, n_channels)
    dof : int
        Rows minus fitted means; 0 or less where every condition was seen once.
    """
    seen = complete(patterns, -1)
    count = seen.sum(axis=0)
    filled = np.where(seen[..., None], patterns, 0.0)
    mean = filled.sum(axis=0) / np.maximum(count, 1)[:, None]
    residuals = (filled - mean)[seen]
    return residuals, int(seen.sum() - (count > 0).sum())


def _full(residuals: Floats, dof: int) -> tuple[Floats, float]:
    return residuals.T @ residuals / dof, np.nan


def _diag(residuals: Floats, dof: int) -> tuple[Floats, float]:
    return (residuals**2).sum(axis=0) / dof, np.nan


def _shrinkage_eye(residuals: Floats, dof: int) -> tuple[Floats, float]:
    """Shrink towards the mean variance times the identity (Ledoit and Wolf 2004, lemma 3.3)."""
    rows, channels = residuals.shape
    sample = residuals.T @ residuals / rows
    mean = float(np.trace(sample)) / channels
    distance = float((sample**2).sum()) - channels * mean**2
    spread = float(((residuals**2).sum(axis=1) ** 2).sum()) / rows**2
    spread -= float((sample**2).sum()) / rows
    weight = 1.0 if distance <= 0 else min(max(spread / distance, 0.0), 1.0)
    shrunk = (1 - weight) * sample
    shrunk[np.diag_indices(channels)] += weight * mean
    return shrunk * (rows / dof), weight


def _shrinkage_diag(residuals: Floats, dof: int) -> tuple[Floats, float]:
    """Shrink correlations towards 0, keep variances (Schäfer and Strimmer 2005, table 2 D)."""
    rows = residuals.shape[0]
    variance = (residuals**2).sum(axis=0) / dof
    scale = np.sqrt(variance)
    standard = residuals / np.where(scale > 0, scale, 1.0)
    product = standard.T @ standard
    square = (standard**2).T @ standard**2
    off = ~np.eye(len(variance), dtype=bool)
    mean = product / rows
    spread = (square / rows - mean**2) * rows**2 / dof**2 / max(rows - 1, 1)
    total = float(((product / dof)[off] ** 2).sum())
    weight = 1.0 if total <= 0 else min(max(float(spread[off].sum()) / total, 0.0), 1.0)
    covariance = product / dof * np.outer(scale, scale)
    return np.where(off, (1 - weight) * covariance, covariance), weight


Estimator = Callable[[Floats, int], tuple[Floats, float]]
NOISE: dict[str, Estimator] = {
    "diag": _diag,
    "shrinkage_diag": _shrinkage_diag,
    "shrinkage_eye": _shrinkage_eye,
    "full": _full,
}


def noise_covariance(
    residuals: Floats, method: str = "shrinkage_diag", dof: int | None = None
) -> tuple[Floats, float]:
    """Estimate the covariance of the noise of channels.

    Parameters
    ----------
    residuals : ndarray, shape (n_samples, n_channels)
        Means already taken away; rows with NaN are left out.
    method : {"diag", "shrinkage_diag", "shrinkage_eye", "full"}
        Estimator.
    dof : int, optional
        Rows minus fitted means; rows minus one if not given.

    Returns
    -------
    covariance : ndarray, shape (n_channels, n_channels), or (n_channels,) for ``diag``
    shrinkage : float
        Weight of the target, NaN for ``diag`` and ``full``.

    Raises
    ------
    ValueError
        If there are no degrees of freedom.
    """
    rows = residuals[np.isfinite(residuals).all(axis=1)]
    dof = len(rows) - 1 if dof is None else dof
    if dof < 1 or len(rows) < 2:
        raise ValueError(f"{len(rows)} residuals with {dof} degrees of freedom give no covariance")
    return NOISE[method](rows, dof)


def whitener(covariance: Floats, shrinkage: float = np.nan) -> Whitener:
    """Return the symmetric inverse root of a covariance.

    Parameters
    ----------
    covariance : ndarray, shape (n_channels, n_channels) or (n_channels,)
        Positive definite; a vector holds variances.

    Raises
    ------
    ValueError
        If it is singular: too few residuals for an unshrunk estimate, or a constant channel.
    """
    values, vectors = (
        (covariance, None)
        if covariance.ndim == 1
        else np.linalg.eigh((covariance + covariance.T) / 2)
    )
    if not values.min() > RANK_TOLERANCE * max(values.max(), 0.0):
        rank = int((values > RANK_TOLERANCE * max(values.max(), 0.0)).sum())
        raise ValueError(
            f"noise covariance of {len(values)} channels has rank {rank}; shrink it "
            "(shrinkage_diag, shrinkage_eye), and drop channels that are constant"
        )
    root = 1 / np.sqrt(values)
    return Whitener(root if vectors is None else (vectors * root) @ vectors.T, shrinkage)


def whiten(patterns: Floats, noise: Whitener | None) -> Floats:
    """Return patterns ``(..., n_channels)`` times the root of the precision."""
    if noise is None:
        return patterns
    return patterns * noise.root if noise.root.ndim == 1 else patterns @ noise.root
