"""Noise ceilings: how well the best possible model could do, given how subjects differ."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.trsa.kernels.compare import RANKED, WHITENED, compare
from neuropipe.analyses.trsa.kernels.pairs import n_conditions
from neuropipe.analyses.trsa.kernels.ranks import weighted_ranks
from neuropipe.analyses.trsa.kernels.whitened import whitened_grams

__all__ = ["ceilings_of_similarity", "noise_ceiling", "pooled"]

Floats = NDArray[np.float64]


def _unit_whitened(rows: Floats) -> Floats:
    ones = np.ones((1, n_conditions(rows.shape[1])))
    norm = np.array([whitened_grams(row[None], ones)[0, 0, 0] for row in rows])
    return np.asarray(rows / np.sqrt(np.maximum(norm, 0.0))[:, None])


def _without_whitened_mean(rows: Floats) -> Floats:
    ones = np.ones((1, n_conditions(rows.shape[1])))
    grams = [whitened_grams(np.stack([row, np.ones_like(row)]), ones)[0] for row in rows]
    return rows - np.array([gram[0, 1] / gram[1, 1] for gram in grams])[:, None]


def _unit(rows: Floats) -> Floats:
    return np.asarray(rows / np.sqrt(np.nanmean(rows**2, axis=1, keepdims=True)))


def _standard(rows: Floats) -> Floats:
    centred = rows - np.nanmean(rows, axis=1, keepdims=True)
    return _unit(centred)


def _rank(rows: Floats) -> Floats:
    found = np.full(rows.shape, np.nan)
    for target, row in zip(found, rows, strict=True):
        seen = np.isfinite(row)
        target[seen] = weighted_ranks(row[None, seen], np.ones(int(seen.sum())))[0]
    return found


def _normalised(rows: Floats, method: str) -> Floats:
    """Return the rows whose mean is best for the comparator."""
    if method in RANKED:
        return _rank(rows)
    if method == "pearson":
        return _standard(rows)
    if method == "pearson_w":
        return _unit_whitened(_without_whitened_mean(rows))
    if method in WHITENED:
        return _unit_whitened(rows)
    return _unit(rows) if method == "cosine" else rows


def pooled(rows: Floats, method: str) -> Floats:
    """Return the mean RDM of subjects, after the normalisation that fits the comparator.

    Parameters
    ----------
    rows : ndarray, shape (n_subjects, n_pairs)
        Pairs that are NaN in every subject stay NaN.
    method : str
        Comparator.
    """
    normalised = _normalised(rows, method)
    seen = np.isfinite(normalised)
    total = np.where(seen, normalised, 0.0).sum(axis=0)
    return np.asarray(np.where(seen.any(axis=0), total / np.maximum(seen.sum(axis=0), 1), np.nan))


def noise_ceiling(rows: Floats, method: str) -> tuple[float, float]:
    """Return lower and upper noise ceiling.

    Parameters
    ----------
    rows : ndarray, shape (n_subjects, n_pairs)
        RDMs of the subjects.
    method : str
        Comparator.

    Returns
    -------
    lower : float
        Mean over subjects of the comparator with the mean of the others; NaN for one subject.
    upper : float
        The same with the mean of all.
    """
    upper = compare(rows, pooled(rows, method)[None], method).mean()
    if len(rows) < 2:
        return np.nan, float(upper)
    lower = [
        compare(rows[s][None], pooled(np.delete(rows, s, axis=0), method)[None], method)[0, 0]
        for s in range(len(rows))
    ]
    return float(np.mean(lower)), float(upper)


def ceilings_of_similarity(similarity: Floats, counts: Floats) -> Floats:
    """Return ceilings from the similarities between subjects alone.

    For a cosine the comparator of a subject with a mean of unit vectors needs only the products
    of these vectors, so that a resample of subjects costs no look at the RDMs.

    Parameters
    ----------
    similarity : ndarray, shape (n_samples, n_subjects, n_subjects)
        Cosines (of whitened or centred vectors).
    counts : ndarray, shape (n_samples, n_subjects)
        How often each subject was drawn; all copies of one are left out together.

    Returns
    -------
    ndarray, shape (n_samples, 2)
        Lower and upper; lower is NaN where one subject alone was drawn.
    """
    toward = np.einsum("bst,bt->bs", similarity, counts)
    square = np.einsum("bs,bs->b", toward, counts)[:, None]
    total = counts.sum(axis=1)
    upper = (counts * toward / np.sqrt(square)).sum(axis=1) / total
    rest = square - 2 * counts * toward + counts**2
    alone = ~(rest > 1e-12 * np.maximum(square, 1.0))
    others = (toward - counts) / np.sqrt(np.where(alone, 1.0, rest))
    used = counts > 0
    lower = np.where(used, counts * others, 0.0).sum(axis=1) / total
    lower[(alone & used).any(axis=1)] = np.nan
    return np.stack([lower, upper], axis=1)
