"""Where the one-state model fails, in time: the features from which states are guessed."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.hmm_glm.kernels.families import weighted_terms
from neuropipe.analyses.hmm_glm.kernels.glm import Observations

__all__ = ["principal_scores", "smoothed_activity", "smoothed_scores"]

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
Ints = NDArray[np.int64]

STRIDE = 10  # bins between two sampled moments
REACH = 3.0  # the Gaussian window ends after so many standard deviations
MOST_VALUES = 512_000_000  # of all sampled scores together: 2 GB
LARGEST_EXACT = 2000  # rows or columns for which all components are computed
SPARE, SUBSPACE_ITERATIONS = 8, 6


def _standardised(values: Floats, valid: NDArray[np.bool_]) -> Floats32:
    """Return columns of mean 0 and variance 1 over valid bins; constant columns become 1."""
    scaled = np.zeros(values.shape, dtype=np.float32)
    for n, column in enumerate(values.T):
        seen = column[valid]
        spread = seen.std()
        scaled[valid, n] = (seen - seen.mean()) / spread if spread > 1e-12 else 1.0
    return scaled


def _residuals(data: Observations, theta: Floats, dispersion: Floats) -> Floats:
    """Return the score of every bin by its linear predictor, shape (n_bins, n_units)."""
    residual = np.empty(data.observed.shape)
    for rows in data.blocks(np.arange(len(residual))):
        eta = data.design[rows] @ theta.T
        ones = np.ones(rows.size)
        residual[rows] = weighted_terms(data.code, eta, data.observed[rows], dispersion, ones)[1]
    return residual


def _windows(offsets: Ints, sigma: float, stride: int) -> tuple[list[tuple[slice, Floats32]], Ints]:
    """Return Gaussian windows around sampled moments, and the nearest sample of every bin."""
    windows: list[tuple[slice, Floats32]] = []
    nearest = np.zeros(int(offsets[-1]), dtype=np.int64)
    reach = int(np.ceil(REACH * sigma))
    for start, stop in itertools.pairwise(offsets.tolist()):
        if stop == start:
            continue
        moments = np.arange(start + min(stride // 2, (stop - start) // 2), stop, stride)
        middle = 0.5 * (moments[1:] + moments[:-1])
        nearest[start:stop] = len(windows) + np.searchsorted(middle, np.arange(start, stop))
        for moment in moments.tolist():
            window = slice(max(start, moment - reach), min(stop, moment + reach + 1))
            distance = np.arange(window.start, window.stop) - moment
            weight = np.exp(-0.5 * (distance / sigma) ** 2)
            windows.append((window, (weight / weight.sum()).astype(np.float32)))
    return windows, nearest


def _stride(n_bins: int, size: int) -> int:
    return max(STRIDE, int(np.ceil(n_bins * size / MOST_VALUES)))


def smoothed_scores(
    data: Observations, theta: Floats, dispersion: Floats, *, sigma: float, noise: bool = False,
    correlated: bool = False,
) -> tuple[Floats32, Ints]:  # fmt: skip
    """Return the score of the one-state model around sampled moments.

    The score of a bin is the outer product of the residuals of the units with the features; its
    mean over a window says in which direction the weights of that window differ.

    Parameters
    ----------
    data : Observations
    theta : ndarray, shape (n_units, n_features)
        One-state fit.
    dispersion : ndarray, shape (n_units,)
        Of the one-state fit.
    sigma : float
        Standard deviation of the Gaussian window, bins.
    noise : bool
        Add the scores of the noise: squares of the residuals.
    correlated : bool
        Add instead the products of the residuals of every two units.

    Returns
    -------
    scores : ndarray of float32, shape (n_samples, n_scores)
    nearest : ndarray of int, shape (n_bins,)
        Sample that stands for each bin: the nearest one of its trial.
    """
    n_bins, n_units = data.observed.shape
    residual = _standardised(_residuals(data, theta, dispersion), data.valid)
    features = _standardised(data.design, data.valid)
    first, second = np.triu_indices(n_units) if correlated else (np.arange(n_units),) * 2
    n_weights = n_units * features.shape[1]
    n_noise = first.size if noise or correlated else 0
    size = n_weights + n_noise
    windows, nearest = _windows(data.offsets, sigma, _stride(n_bins, size))
    scores = np.empty((len(windows), size), dtype=np.float32)
    for row, (window, weight) in enumerate(windows):
        part = residual[window]
        weighted = (weight[:, None] * part).T
        scores[row, :n_weights] = (weighted @ features[window]).ravel()
        if n_noise:
            scores[row, n_weights:] = (weighted @ part)[first, second]
    return scores, nearest


def smoothed_activity(data: Observations, *, sigma: float) -> tuple[Floats32, Ints]:
    """Return the activity around sampled moments, every unit in its standard deviations.

    Parameters
    ----------
    data : Observations
    sigma : float
        Standard deviation of the Gaussian window, bins.

    Returns
    -------
    activity : ndarray of float32, shape (n_samples, n_units)
    nearest : ndarray of int, shape (n_bins,)
    """
    values = _standardised(data.observed, data.valid)
    windows, nearest = _windows(data.offsets, sigma, _stride(*values.shape))
    rows = [weight @ values[window] for window, weight in windows]
    return np.array(rows, dtype=np.float32), nearest


def principal_scores(scores: Floats32, n_components: int) -> Floats:
    """Return the projections on the leading principal components.

    Parameters
    ----------
    scores : ndarray of float32, shape (n_samples, n_values)
        Centred in place.
    n_components : int
        At most; fewer when there are fewer samples or values.

    Returns
    -------
    ndarray, shape (n_samples, n_found)

    Notes
    -----
    Large problems take the subspace iteration [1]_ from a fixed random start.

    References
    ----------
    .. [1] Halko, Martinsson, Tropp (2011), Finding structure with randomness. SIAM Rev 53,
       217-288.
    """
    scores -= scores.mean(axis=0)
    n_found = min(n_components, *scores.shape)
    if min(scores.shape) > LARGEST_EXACT:
        start = np.random.default_rng(0).normal(size=(scores.shape[1], n_found + SPARE))
        basis = start.astype(np.float32)
        for _ in range(SUBSPACE_ITERATIONS):
            basis = np.linalg.qr(scores.T @ np.linalg.qr(scores @ basis)[0])[0]
        left, values, _ = np.linalg.svd(scores @ basis, full_matrices=False)
        return np.asarray((left * values)[:, :n_found], dtype=np.float64)
    if scores.shape[1] <= scores.shape[0]:
        vectors = np.linalg.eigh((scores.T @ scores).astype(np.float64))[1]
        return np.asarray(scores @ vectors[:, ::-1][:, :n_found])
    values, vectors = np.linalg.eigh((scores @ scores.T).astype(np.float64))
    leading = np.sqrt(np.maximum(values[::-1][:n_found], 0.0))
    return np.asarray(vectors[:, ::-1][:, :n_found] * leading)
