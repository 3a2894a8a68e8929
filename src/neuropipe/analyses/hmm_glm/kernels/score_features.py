"""Where the one-state model fails, in time: the features from which states are guessed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.hmm_glm.kernels.families import weighted_terms
from neuropipe.analyses.hmm_glm.kernels.glm import Observations

__all__ = ["principal_scores", "smoothed_scores"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

STRIDE = 10  # bins between two sampled moments
REACH = 3.0  # the Gaussian window ends after so many standard deviations
MOST_VALUES = 64_000_000  # doubles of all sampled scores together: 512 MB


def _standardised(values: Floats, valid: NDArray[np.bool_]) -> Floats:
    """Return columns of mean 0 and variance 1 over valid bins; constant columns become 1."""
    centre, spread = values[valid].mean(axis=0), values[valid].std(axis=0)
    constant = spread <= 1e-12
    scaled = (values - centre) / np.where(constant, 1.0, spread)
    scaled[:, constant] = 1.0
    scaled[~valid] = 0.0
    return scaled


def _samples(offsets: Ints, stride: int) -> list[tuple[int, int, Ints]]:
    return [
        (
            int(start),
            int(stop),
            np.arange(start + min(stride // 2, (stop - start) // 2), stop, stride),
        )
        for start, stop in zip(offsets[:-1], offsets[1:], strict=True)  # noqa: RUF007
        if stop > start
    ]


def smoothed_scores(
    data: Observations, theta: Floats, variance: Floats, *, sigma: float
) -> tuple[Floats, Ints]:
    """Return the score of the one-state model around sampled moments.

    The score of a bin is the outer product of the residuals of the units with the features; its
    mean over a window says in which direction the weights of that window differ.

    Parameters
    ----------
    data : Observations
    theta : ndarray, shape (n_units, n_features)
        One-state fit.
    variance : ndarray, shape (n_units,)
        Of the Gaussian family.
    sigma : float
        Standard deviation of the Gaussian window, bins.

    Returns
    -------
    scores : ndarray, shape (n_samples, n_units * n_features)
    nearest : ndarray of int, shape (n_bins,)
        Sample that stands for each bin: the nearest one of its trial.
    """
    n_bins, n_units = data.observed.shape
    ones = np.ones(n_bins)
    _, score, _ = weighted_terms(data.code, data.design @ theta.T, data.observed, variance, ones)
    residual = _standardised(score, data.valid)
    features = _standardised(data.design, data.valid)
    size = n_units * features.shape[1]
    stride = max(STRIDE, int(np.ceil(n_bins * size / MOST_VALUES)))
    trials = _samples(data.offsets, stride)
    scores = np.empty((sum(len(at) for *_, at in trials), size))
    nearest = np.empty(n_bins, dtype=np.int64)
    reach, row = int(np.ceil(REACH * sigma)), 0
    for start, stop, moments in trials:
        bins = np.arange(start, stop)
        middle = 0.5 * (moments[1:] + moments[:-1])
        nearest[start:stop] = row + np.searchsorted(middle, bins)
        for moment in moments:
            window = slice(max(start, moment - reach), min(stop, moment + reach + 1))
            distance = np.arange(window.start, window.stop) - moment
            weight = np.exp(-0.5 * (distance / sigma) ** 2)
            weighted = (weight / weight.sum())[:, None] * residual[window]
            scores[row] = (weighted.T @ features[window]).ravel()
            row += 1
    return scores, nearest


def principal_scores(scores: Floats, n_components: int) -> Floats:
    """Return the projections on the leading principal components.

    Parameters
    ----------
    scores : ndarray, shape (n_samples, n_values)
    n_components : int
        At most; fewer when there are fewer samples or values.

    Returns
    -------
    ndarray, shape (n_samples, n_found)
    """
    centred = scores - scores.mean(axis=0)
    n_found = min(n_components, *centred.shape)
    if centred.shape[1] <= centred.shape[0]:
        vectors = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :n_found]
        return centred @ vectors
    values, vectors = np.linalg.eigh(centred @ centred.T)
    leading = np.sqrt(np.maximum(values[::-1][:n_found], 0.0))
    return vectors[:, ::-1][:, :n_found] * leading
