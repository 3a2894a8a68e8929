"""Representational dissimilarity matrices of patterns, plain and cross-validated.

All are divided by the number of channels. Sources: Kriegeskorte et al. 2008; Walther et al. 2016
(crossnobis); Schütt et al. 2019 (Poisson divergence).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.trsa.kernels.pairs import complete, pair_index, to_pairs

__all__ = ["MEASURES", "Measure", "fold_pairs", "mean_over_runs", "rdm"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
PRIOR_RATE, PRIOR_WEIGHT = 1.0, 0.1
PAIRS_AT_ONCE = 256


@dataclass(frozen=True)
class Measure:
    """One way to measure the dissimilarity of two conditions.

    Attributes
    ----------
    function : callable
        ``(..., n_runs, n_conditions, n_channels) -> (..., n_pairs)``.
    crossvalidated : bool
        Products of different runs only; needs two runs, may be negative.
    whitened : bool
        Patterns are whitened before.
    squared : bool
        A squared distance, for which whitened comparators are made.
    """

    function: Callable[[Floats], Floats]
    crossvalidated: bool = False
    whitened: bool = False
    squared: bool = False


def mean_over_runs(patterns: Floats) -> Floats:
    """Return ``(..., n_conditions, n_channels)``, over the runs that have the condition."""
    seen = complete(patterns, -1)[..., None]
    count = seen.sum(axis=-3)
    total = np.where(seen, patterns, 0.0).sum(axis=-3)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))


def fold_pairs(patterns: Floats) -> Ints:
    """Return the number of ordered pairs of distinct runs of each condition pair.

    Parameters
    ----------
    patterns : ndarray, shape (n_runs, n_conditions, n_channels)
        NaN where a run has no such condition.

    Returns
    -------
    ndarray of int, shape (n_pairs,)
    """
    seen = complete(patterns, -1).astype(np.int64)
    both = to_pairs((seen.T @ seen).astype(np.float64)).astype(np.int64)
    return both * (both - 1)


def _distances(gram: Floats) -> Floats:
    """Return ``G_ii + G_jj - G_ij - G_ji`` of (possibly asymmetric) products."""
    i, j = pair_index(gram.shape[-1])
    diagonal = np.diagonal(gram, axis1=-2, axis2=-1)
    return np.asarray(diagonal[..., i] + diagonal[..., j] - gram[..., i, j] - gram[..., j, i])


def _euclidean(patterns: Floats) -> Floats:
    mean = mean_over_runs(patterns)
    # Centred, so that a common mean far from 0 costs no digits.
    mean = mean - np.nanmean(mean, axis=-2, keepdims=True)
    distances = _distances(mean @ np.swapaxes(mean, -1, -2)) / mean.shape[-1]
    return np.maximum(distances, 0.0)


def _euclidean_root(patterns: Floats) -> Floats:
    return np.sqrt(_euclidean(patterns))


def _one_minus_cosine(rows: Floats, scale: Floats) -> Floats:
    """Return 1 - cosine; NaN for rows whose norm is rounding of their ``scale``."""
    norm = np.linalg.norm(rows, axis=-1, keepdims=True)
    flat = ~(norm > 1e-12 * scale)
    unit = np.where(flat, np.nan, rows / np.where(flat, 1.0, norm))
    return 1.0 - to_pairs(np.asarray(unit @ np.swapaxes(unit, -1, -2)))


def _cosine(patterns: Floats) -> Floats:
    mean = mean_over_runs(patterns)
    return _one_minus_cosine(mean, np.zeros((*mean.shape[:-1], 1)))


def _correlation(patterns: Floats) -> Floats:
    mean = mean_over_runs(patterns)
    scale = np.linalg.norm(mean, axis=-1, keepdims=True)
    return _one_minus_cosine(mean - mean.mean(axis=-1, keepdims=True), scale)


def _crossed(first: Floats, second: Floats) -> Floats:
    """Return the mean over ordered pairs of distinct runs of the products of differences."""
    runs, channels = first.shape[-3], first.shape[-1]
    if np.isfinite(first).all() and np.isfinite(second).all():
        gram = first.sum(axis=-3) @ np.swapaxes(second.sum(axis=-3), -1, -2)
        for run in range(runs):
            gram -= first[..., run, :, :] @ np.swapaxes(second[..., run, :, :], -1, -2)
        return _distances(gram) / (runs * (runs - 1) * channels)
    return _crossed_unbalanced(first, second)


def _crossed_unbalanced(first: Floats, second: Floats) -> Floats:
    """Return `_crossed` where runs lack conditions: each pair over the runs that have both."""
    channels = first.shape[-1]
    first_of, second_of = pair_index(first.shape[-2])
    found = np.full((*first.shape[:-3], first_of.size), np.nan)
    for start in range(0, first_of.size, PAIRS_AT_ONCE):
        stop = start + PAIRS_AT_ONCE
        i, j = first_of[start:stop], second_of[start:stop]
        a = first[..., i, :] - first[..., j, :]
        b = second[..., i, :] - second[..., j, :]
        seen = complete(a, -1) & complete(b, -1)
        a, b = (np.where(seen[..., None], d, 0.0) for d in (a, b))
        count = seen.sum(axis=-2)
        total = (a.sum(axis=-3) * b.sum(axis=-3)).sum(axis=-1) - (a * b).sum(axis=(-3, -1))
        pairs = count * (count - 1)
        found[..., start:stop] = np.where(
            pairs > 0, total / (np.maximum(pairs, 1) * channels), np.nan
        )
    return found


def _crossnobis(patterns: Floats) -> Floats:
    return _crossed(patterns, patterns)


def _with_prior(rates: Floats) -> Floats:
    return (rates + PRIOR_RATE * PRIOR_WEIGHT) / (1 + PRIOR_WEIGHT)


def _poisson_kl(patterns: Floats) -> Floats:
    rates = _with_prior(mean_over_runs(patterns))
    return _distances(rates @ np.swapaxes(np.log(rates), -1, -2)) / rates.shape[-1]


def _poisson_cv(patterns: Floats) -> Floats:
    rates = _with_prior(patterns)
    return _crossed(rates, np.log(rates))


MEASURES: dict[str, Measure] = {
    "euclidean": Measure(_euclidean, squared=True),
    "euclidean_root": Measure(_euclidean_root),
    "correlation": Measure(_correlation),
    "cosine": Measure(_cosine),
    "mahalanobis": Measure(_euclidean, whitened=True, squared=True),
    "crossnobis": Measure(_crossnobis, crossvalidated=True, whitened=True, squared=True),
    "poisson_kl": Measure(_poisson_kl),
    "poisson_cv": Measure(_poisson_cv, crossvalidated=True),
}


def rdm(patterns: Floats, measure: str) -> Floats:
    """Return the dissimilarities of all pairs of conditions, divided by the channels.

    Parameters
    ----------
    patterns : ndarray, shape (..., n_runs, n_conditions, n_channels)
        Whitened by the caller where the measure asks for it; leading axes (time) are batched.
        NaN where a run has no such condition.
    measure : str
        A key of `MEASURES`.

    Returns
    -------
    ndarray, shape (..., n_pairs)
        NaN for pairs without data. Cross-validated ones have expectation 0 for equal conditions
        and so may be negative.

    Raises
    ------
    ValueError
        If a cross-validated measure gets fewer than two runs, or a Poisson measure negative
        counts.
    """
    kind = MEASURES[measure]
    patterns = np.asarray(patterns, dtype=np.float64)
    if kind.crossvalidated and patterns.shape[-3] < 2:
        raise ValueError(f"{measure} needs two runs or more, found {patterns.shape[-3]}")
    if measure.startswith("poisson") and np.nanmin(patterns) < 0:
        raise ValueError(f"{measure} needs counts or rates of at least 0")
    return kind.function(patterns)
