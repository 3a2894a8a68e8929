"""Variances that generalise, and tests.

Sources: Schütt et al. 2023 (corrected variance of the dual bootstrap), Satterthwaite 1946 (degrees
of freedom), Holm 1979, Benjamini and Hochberg 1995, Smith and Nichols 2009 (threshold-free cluster
enhancement).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

__all__ = [
    "CORRECTIONS",
    "adjust",
    "clusters",
    "corrected_variance",
    "enhanced",
    "max_statistic",
    "repeat_corrected_variance",
    "sign_flips",
    "t_test",
]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def corrected_variance(
    variances: Mapping[str, Floats], n_subjects: int, n_conditions: int
) -> tuple[Floats, Floats]:
    """Return the variance over new subjects and new conditions, and its degrees of freedom.

    The bootstrap over both counts the noise of subjects and conditions three times; what single
    bootstraps tell takes the surplus away, and small samples are corrected. The degrees of freedom
    are those of a sum of two variances (Satterthwaite 1946): those of subjects where subjects
    make the variance, those of conditions where conditions do. The smaller of the two, whatever
    makes the variance, is too cautious: two equally good models then differ at 0.05 in 0.016 of
    noisy studies instead of 0.038.

    Parameters
    ----------
    variances : mapping
        Bootstrap variances by source: ``subject``, ``condition`` and ``both``, or one alone.
    n_subjects, n_conditions : int
        Sizes of the resampled sets.
    """
    f = {"subject": n_subjects / (n_subjects - 1) if n_subjects > 1 else np.nan}
    f["condition"] = n_conditions / (n_conditions - 1)
    size = {"subject": n_subjects, "condition": n_conditions}
    if "both" not in variances:
        (source,) = variances
        alone = np.asarray(f[source] * variances[source])
        return alone, np.full(alone.shape, size[source] - 1.0)
    subject = f["subject"] * np.asarray(variances["subject"])
    condition = f["condition"] * np.asarray(variances["condition"])
    both = np.asarray(variances["both"])
    surplus = both - np.asarray(variances["subject"]) - np.asarray(variances["condition"])
    estimate = subject + condition - f["subject"] * f["condition"] * surplus
    low = np.minimum(np.maximum(subject, condition), both)
    weights = subject**2 / (n_subjects - 1) + condition**2 / (n_conditions - 1)
    positive = weights > 0
    dof = np.where(positive, (subject + condition) ** 2 / np.where(positive, weights, 1.0), np.nan)
    return np.clip(estimate, low, both), dof


def repeat_corrected_variance(scores: Floats) -> Floats:
    """Return the bootstrap variance without that of a random division into folds.

    Parameters
    ----------
    scores : ndarray, shape (n_samples, n_repeats, n_models)
        At least two divisions of every resample.

    Notes
    -----
    ``var(mean of c) = v + e / c`` and ``var(one) = v + e`` are solved for v.
    """
    repeats = scores.shape[1]
    mean = scores.mean(axis=1).var(axis=0, ddof=1)
    single = scores.var(axis=0, ddof=1).mean(axis=0)
    return np.maximum((repeats * mean - single) / (repeats - 1), 0.0)


def t_test(
    estimate: Floats, variance: Floats, dof: Floats | float, *, two_sided: bool = False
) -> Floats:
    """Return p-values of ``estimate / sqrt(variance)`` against 0; NaN where the variance is 0."""
    variance = np.asarray(variance, dtype=np.float64)
    t = np.asarray(estimate) / np.sqrt(np.where(variance > 0, variance, np.nan))
    return np.asarray(2 * stdtr(dof, -np.abs(t)) if two_sided else stdtr(dof, -t))


def _holm(p: Floats) -> Floats:
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def _fdr(p: Floats) -> Floats:
    order = np.argsort(p)[::-1]
    stepped = np.minimum.accumulate(p[order] * p.size / np.arange(p.size, 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


CORRECTIONS: dict[str, Callable[[Floats], Floats]] = {
    "holm": _holm,
    "fdr": _fdr,
    "none": lambda p: p.copy(),
}


def adjust(p: Floats, correction: str) -> Floats:
    """Adjust p-values for their number; NaN stay NaN and do not count.

    Examples
    --------
    >>> adjust(np.array([0.01, 0.04, np.nan]), "holm")
    array([0.02, 0.04,  nan])
    """
    p = np.asarray(p, dtype=np.float64)
    seen = np.isfinite(p)
    adjusted = np.full(p.shape, np.nan)
    adjusted[seen] = CORRECTIONS[correction](p[seen])
    return adjusted


def sign_flips(values: Floats, draws: int, rng: np.random.Generator) -> Floats:
    """Return means over subjects after random changes of sign.

    Parameters
    ----------
    values : ndarray, shape (n_subjects, ...)
    draws : int
        The first draw changes nothing, so that no p-value is 0.

    Returns
    -------
    ndarray, shape (draws + 1, ...)
    """
    signs = rng.choice([-1.0, 1.0], size=(draws, len(values)))
    signs = np.vstack([np.ones((1, len(values))), signs])
    return np.asarray(np.tensordot(signs, values, axes=1) / len(values))


def max_statistic(null: Floats) -> Floats:
    """Return p-values that hold for the family, by the largest statistic of each draw.

    Parameters
    ----------
    null : ndarray, shape (n_draws, ...)
        Statistics; the first draw is the observed one.

    Returns
    -------
    ndarray, shape (...)
    """
    largest = np.sort(null.reshape(len(null), -1).max(axis=1))
    above = len(null) - np.searchsorted(largest, null[0] - 1e-12)
    return np.asarray(above / len(null), dtype=np.float64)


def _runs(mask: Bools) -> NDArray[np.intp]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return edges.reshape(-1, 2)


def enhanced(statistic: Floats, *, extent: float = 0.5, height: float = 2.0) -> Floats:
    """Return the threshold-free cluster enhancement of courses over time.

    Parameters
    ----------
    statistic : ndarray, shape (..., n_times)
        Positive values count; 50 levels up to the largest of all courses.
    """
    levels, step = np.linspace(0, float(np.nanmax(statistic, initial=0.0)), 51, retstep=True)
    total = np.zeros(statistic.shape)
    flat, out = statistic.reshape(-1, statistic.shape[-1]), total.reshape(-1, statistic.shape[-1])
    for level in levels[1:]:
        for course, target in zip(flat, out, strict=True):
            for start, stop in _runs(course >= level):
                target[start:stop] += (stop - start) ** extent * level**height * step
    return total


def clusters(null: Floats, threshold: float | None) -> tuple[Floats, Floats]:
    """Test courses over time by clusters.

    Parameters
    ----------
    null : ndarray, shape (n_draws, n_times)
        Statistics; the first draw is the observed one.
    threshold : float or None
        Forms clusters, whose sums are compared; None: threshold-free enhancement.

    Returns
    -------
    statistic : ndarray, shape (n_times,)
        Sum of the cluster of each time (0 outside), or the enhanced statistic.
    pvalue : ndarray, shape (n_times,)
        Against the largest of each draw.
    """
    if threshold is None:
        mass = enhanced(null)
    else:
        mass = np.zeros(null.shape)
        for course, target in zip(null, mass, strict=True):
            for start, stop in _runs(course > threshold):
                target[start:stop] = course[start:stop].sum()
    pvalue = max_statistic(mass)
    return mass[0], np.where(mass[0] > 0, pvalue, 1.0)
