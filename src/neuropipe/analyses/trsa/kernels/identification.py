"""Which region or layer a held-out subject's descriptor comes from.

Nearest class centroid, leaving one subject out (Lin and Kriegeskorte 2024). All distances to all
centroids, also those without a second subject, follow from the products of the descriptors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.trsa.kernels.compare import compare
from neuropipe.analyses.trsa.kernels.pairs import complete
from neuropipe.analyses.trsa.kernels.transform import ramp, row_thresholds

__all__ = [
    "Identification",
    "accuracy_map",
    "accuracy_null",
    "identify",
    "identify_by",
    "nested_accuracy",
    "squared_distances",
]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Identification:
    """Result of identifying labels.

    Attributes
    ----------
    predicted : ndarray of int, shape (n_subjects, n_labels)
        Label of the nearest centroid; -1 where a subject has no such region.
    correct : ndarray, shape (n_subjects,)
        Share of a subject's regions that were identified; NaN without regions.
    accuracy : float
        Mean over all (subject, region).
    distance_ratio : float
        Mean distance within labels over mean distance between labels, between subjects.
    """

    predicted: Ints
    correct: Floats
    accuracy: float
    distance_ratio: float


def _grams(vectors: Floats) -> tuple[Floats, Bools]:
    """Return products ``(S, L, S, L)`` over the pairs that all have, and which rows exist."""
    present = np.asarray(np.isfinite(vectors).any(axis=2))
    flat = vectors.reshape(-1, vectors.shape[-1])
    if not np.isfinite(flat).all():
        kept = complete(vectors[present], 0)
        flat = np.compress(kept, np.where(present.reshape(-1, 1), flat, 0.0), axis=1)
    return (flat @ flat.T).reshape(*present.shape, *present.shape), present


def squared_distances(gram: Floats, present: Bools, counts: Floats) -> Floats:
    """Return squared distances to the centroids of the other subjects.

    Parameters
    ----------
    gram : ndarray, shape (n_subjects, n_labels, n_subjects, n_labels)
        Products of the descriptors.
    present : ndarray of bool, shape (n_subjects, n_labels)
    counts : ndarray, shape (n_subjects,)
        How often each subject counts in the centroids (a resample); ones otherwise.

    Returns
    -------
    ndarray, shape (n_subjects, n_labels, n_labels)
        Infinite where no other subject has the label.
    """
    weight = counts[:, None] * present
    subject, label = np.arange(len(counts)), np.arange(present.shape[1])
    own = gram[subject, :, subject, :]
    toward = np.einsum("sltm,tm->slm", gram, weight) - own * weight[:, None]
    same = gram[:, label, :, label]  # (label, subject, subject)
    rows = np.einsum("mst,tm->sm", same, weight)
    inside = same[:, subject, subject].T
    total = (weight * rows).sum(axis=0) - 2 * weight * rows + weight**2 * inside
    n = weight.sum(axis=0) - weight
    safe = np.maximum(n, 1e-300)
    squared = inside[:, :, None] - 2 * toward / safe[:, None] + (total / safe**2)[:, None]
    return np.asarray(np.where((n > 0)[:, None] & present[:, :, None], squared, np.inf))


def _share_correct(predicted: Ints, present: Bools) -> Floats:
    right = (predicted == np.arange(predicted.shape[-1])) & present
    count = present.sum(axis=-1)
    return np.asarray(np.where(count > 0, right.sum(axis=-1) / np.maximum(count, 1), np.nan))


def _ratio(gram: Floats, present: Bools) -> float:
    size = np.einsum("slsl->sl", gram)
    squared = size[:, :, None, None] + size - 2 * gram
    distance = np.sqrt(np.maximum(squared, 0.0))
    other = ~np.eye(len(present), dtype=bool)[:, None, :, None]
    seen = present[:, :, None, None] & present & other
    within = np.eye(present.shape[1], dtype=bool)[None, :, None, :] & seen
    between = seen & ~within
    if not within.any() or not between.any() or not distance[between].mean() > 0:
        return np.nan
    return float(distance[within].mean() / distance[between].mean())


def identify(vectors: Floats, counts: Floats | None = None) -> Identification:
    """Identify labels by the nearest centroid of the other subjects.

    Parameters
    ----------
    vectors : ndarray, shape (n_subjects, n_labels, n_pairs)
        Descriptors; all NaN where a subject has no such region.
    counts : ndarray, shape (n_subjects,), optional
        A resample of subjects: all copies of the one in question are left out.
    """
    gram, present = _grams(vectors)
    counts = np.ones(len(vectors)) if counts is None else counts
    distance = squared_distances(gram, present, counts)
    known = present & np.isfinite(distance).any(axis=2)
    predicted = np.where(known, distance.argmin(axis=2), -1)
    correct = _share_correct(predicted, known)
    weight = (counts * known.sum(axis=1))[counts > 0]
    share = np.nan_to_num(correct[counts > 0])
    total = weight.sum()
    accuracy = float(share @ weight / total) if total > 0 else np.nan
    return Identification(predicted, correct, accuracy, _ratio(gram, present))


def identify_by(vectors: Floats, method: str) -> Identification:
    """Identify labels by any comparator instead of the Euclidean distance."""
    present = np.asarray(np.isfinite(vectors).any(axis=2))
    predicted = np.full(present.shape, -1)
    for s in range(len(vectors)):
        others = np.delete(vectors, s, axis=0)
        seen = np.isfinite(others)
        count = seen.sum(axis=0)
        template = np.where(seen, others, 0.0).sum(axis=0) / np.maximum(count, 1)
        template = np.where(count > 0, template, np.nan)
        score = np.nan_to_num(compare(vectors[s], template, method), nan=-np.inf)
        predicted[s] = np.where(present[s], score.argmax(axis=1), -1)
    correct = _share_correct(predicted, present)
    accuracy = float((predicted == np.arange(present.shape[1]))[present].mean())
    return Identification(predicted, correct, accuracy, _ratio(*_grams(vectors)))


def _inner_accuracy(gram: Floats, present: Bools) -> Floats:
    """Return, for every left-out subject, the accuracy among the others alone.

    The centroid for test subject t without s follows from sums over all subjects by taking the
    terms of s and t away.
    """
    weight = present.astype(np.float64)
    subject, label = np.arange(len(present)), np.arange(present.shape[1])
    own = gram[subject, :, subject, :]
    same = gram[:, label, :, label]  # (label, subject, subject)
    inside = same[:, subject, subject].T
    toward = np.einsum("tlum,um->tlm", gram, weight) - own * weight[:, None]
    toward = toward - np.einsum("tlsm,sm->stlm", gram, weight)
    rows = weight * np.einsum("mst,tm->sm", same, weight)
    alone = weight**2 * inside - 2 * rows
    both = weight[:, None] * weight * same.transpose(1, 2, 0)
    total = rows.sum(axis=0) + alone[:, None] + alone + 2 * both
    n = weight.sum(axis=0) - weight[:, None] - weight
    safe = np.where(n > 0, n, 1.0)
    distance = -2 * toward / safe[:, :, None] + (total / safe**2)[:, :, None]
    distance = np.where((n > 0)[:, :, None], distance, np.inf)
    known = present & np.isfinite(distance).any(axis=3)
    known[subject, subject] = False
    right = (distance.argmin(axis=3) == label) & known
    count = known.sum(axis=(1, 2))
    return np.asarray(np.where(count > 0, right.sum(axis=(1, 2)) / np.maximum(count, 1), np.nan))


def accuracy_map(
    scaled: Floats, cells: Floats, *, nested: bool = True, mode: str = "quantile"
) -> tuple[Floats, Floats, Floats]:
    """Return the accuracy of every (lower, upper) of the geo-topological transform.

    Parameters
    ----------
    scaled : ndarray, shape (n_subjects, n_labels, n_pairs)
        Scaled RDMs.
    cells : ndarray, shape (n_cells, 2)
        Lower and upper thresholds.
    nested : bool
        Also leave each subject out of the choice.
    mode : {"quantile", "absolute"}
        What the thresholds are.

    Returns
    -------
    accuracy : ndarray, shape (n_cells,)
    outer : ndarray, shape (n_cells, n_subjects)
        Share of correct regions of each subject.
    inner : ndarray, shape (n_cells, n_subjects)
        Accuracy among the others when this subject does not exist; NaN unless ``nested``.
    """
    outer = np.full((len(cells), len(scaled)), np.nan)
    inner, accuracy = outer.copy(), np.full(len(cells), np.nan)
    weight = np.isfinite(scaled).any(axis=2).sum(axis=1)
    rows = scaled.reshape(-1, scaled.shape[-1])
    levels, place = np.unique(cells, return_inverse=True)
    thresholds = row_thresholds(rows, levels, mode)
    for k, (lower, upper) in enumerate(place.reshape(cells.shape)):
        transformed = ramp(rows, thresholds[lower], thresholds[upper])
        gram, present = _grams(transformed.reshape(scaled.shape))
        distance = squared_distances(gram, present, np.ones(len(scaled)))
        known = present & np.isfinite(distance).any(axis=2)
        outer[k] = _share_correct(np.where(known, distance.argmin(axis=2), -1), known)
        accuracy[k] = np.nansum(outer[k] * weight) / weight[np.isfinite(outer[k])].sum()
        if nested:
            inner[k] = _inner_accuracy(gram, present)
    return accuracy, outer, inner


def _shuffled_labels(present: Bools, draws: int, rng: np.random.Generator) -> Ints:
    """Return labels ``(draws, S, L)``, permuted among the labels that each subject has."""
    found = np.tile(np.arange(present.shape[1]), (draws, len(present), 1))
    for s, row in enumerate(present):
        own = np.flatnonzero(row)
        for labels in found[:, s]:
            labels[own] = rng.permutation(own)
    return found


def _null_accuracy(gram: Floats, present: Bools, labels: Ints) -> Floats:
    """Return accuracies ``(n_draws,)`` with other labels of the rows of each subject.

    Sums of the rows of one label are one product for all draws; the subject in question is then
    taken away.
    """
    draws, subjects, count = labels.shape
    rows = subjects * count
    chosen = (labels[..., None] == np.arange(count)) & present[..., None]
    chosen = chosen.reshape(draws, rows, count)
    flat = gram.reshape(rows, rows)
    toward = np.einsum("rq,dqm->drm", flat, chosen.astype(np.float64), optimize=True)
    total = (toward * chosen).sum(axis=1)
    toward, chosen = (a.reshape(draws, subjects, count, count) for a in (toward, chosen))
    weight = chosen.astype(np.float64)
    own = gram[np.arange(subjects), :, np.arange(subjects), :]
    inside = np.matmul(own, weight)  # products with the subject's own row of each label
    same = (weight * inside).sum(axis=2)
    crossed = (weight * toward).sum(axis=2)
    n = weight.sum(axis=(1, 2))[:, None] - weight.sum(axis=2)
    safe = np.maximum(n, 1.0)[:, :, None]
    left = (total[:, None] - 2 * crossed + same)[:, :, None]
    distance = -2 * (toward - inside) / safe + left / safe**2
    distance = np.where((n > 0)[:, :, None], distance, np.inf)
    known = present & np.isfinite(distance).any(axis=3)
    right = (distance.argmin(axis=3) == labels) & known
    return np.asarray(right.sum(axis=(1, 2)) / np.maximum(known.sum(axis=(1, 2)), 1))


def accuracy_null(
    scaled: Floats,
    cells: Floats,
    draws: int,
    rng: np.random.Generator,
    *,
    mode: str = "quantile",
) -> Floats:
    """Return accuracies of every (lower, upper) with labels permuted within subjects.

    Every draw permutes all cells alike, so that the largest accuracy of a draw tests a map.

    Parameters
    ----------
    scaled, cells, mode
        As in `accuracy_map`.
    draws : int
        Permutations.

    Returns
    -------
    ndarray, shape (draws, n_cells)
    """
    rows = scaled.reshape(-1, scaled.shape[-1])
    levels, place = np.unique(cells, return_inverse=True)
    thresholds = row_thresholds(rows, levels, mode)
    found = np.empty((draws, len(cells)))
    labels = None
    for k, (lower, upper) in enumerate(place.reshape(cells.shape)):
        transformed = ramp(rows, thresholds[lower], thresholds[upper])
        gram, present = _grams(transformed.reshape(scaled.shape))
        labels = _shuffled_labels(present, draws, rng) if labels is None else labels
        found[:, k] = _null_accuracy(gram, present, labels)
    return found


def nested_accuracy(outer: Floats, inner: Floats) -> tuple[float, Ints]:
    """Return the accuracy of cells that were chosen without the subject they are used for.

    Parameters
    ----------
    outer, inner : ndarray, shape (n_cells, n_subjects)
        From `accuracy_map`. Among equally good cells the first is taken.

    Returns
    -------
    accuracy : float
    chosen : ndarray of int, shape (n_subjects,)
        Cell of each subject.
    """
    chosen = np.nan_to_num(inner, nan=-1.0).argmax(axis=0)
    return float(np.nanmean(outer[chosen, np.arange(outer.shape[1])])), chosen
