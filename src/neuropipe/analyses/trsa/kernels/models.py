"""Models of an RDM: fixed, chosen, weighted or on a line; flexible ones are cross-validated.

Source of weighted models: Khaligh-Razavi and Kriegeskorte 2014; of the scheme of cross-validation
over subjects and conditions: Schütt et al. 2023.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar, nnls

from neuropipe.analyses.trsa.kernels.bootstrap import draw_counts
from neuropipe.analyses.trsa.kernels.ceiling import pooled
from neuropipe.analyses.trsa.kernels.compare import WHITENED, centre_whitened, compare
from neuropipe.analyses.trsa.kernels.pairs import complete, n_conditions, pair_index, to_square
from neuropipe.analyses.trsa.kernels.whitened import whitened_grams

__all__ = ["KINDS", "Model", "bootstrap_flexible", "crossvalidated_scores", "fit_model"]

Floats = NDArray[np.float64]
Index = NDArray[np.intp]
LEAST_TEST_CONDITIONS = 4


@dataclass(frozen=True)
class Model:
    """A model of an RDM.

    Attributes
    ----------
    kind : {"fixed", "select", "weighted", "interpolate"}
        How the prediction follows from the basis.
    basis : ndarray, shape (n_basis, n_pairs)
        One RDM for a fixed model; candidates, components, or the corners of a line.
    """

    kind: str
    basis: Floats


def _products(rows: Floats, method: str) -> Floats:
    """Return products in the space in which the comparator is a cosine."""
    if method in WHITENED:
        seen = complete(rows, 0)
        stacked = np.vstack([rows, np.ones((1, rows.shape[1]))])
        ones = np.ones((1, n_conditions(rows.shape[1])))
        gram = whitened_grams(np.where(seen, stacked, np.nan), ones)[0]
        return centre_whitened(gram) if method == "pearson_w" else gram[:-1, :-1]
    rows = rows[:, complete(rows, 0)]
    if method != "cosine":
        rows = rows - rows.mean(axis=1, keepdims=True)
    return rows @ rows.T


def _fixed(basis: Floats, train: Floats, method: str) -> Floats:
    return np.ones(1)


def _select(basis: Floats, train: Floats, method: str) -> Floats:
    return np.eye(len(basis))[int(np.nanargmax(compare(train, basis, method).mean(axis=0)))]


def _weighted(basis: Floats, train: Floats, method: str) -> Floats:
    target = pooled(train, method)
    gram = _products(np.vstack([basis, target[None]]), method)
    values, vectors = np.linalg.eigh(gram[:-1, :-1])
    kept = values > 1e-12 * values.max()
    root = np.sqrt(values[kept])
    design = root[:, None] * vectors[:, kept].T
    weights = nnls(design, (vectors[:, kept].T @ gram[:-1, -1]) / root)[0]
    return np.asarray(weights if weights.any() else np.full(len(basis), 1.0 / len(basis)))


def _interpolate(basis: Floats, train: Floats, method: str) -> Floats:
    best, chosen = -np.inf, np.eye(len(basis))[0]
    for k in range(len(basis) - 1):

        def loss(share: float, k: int = k) -> float:
            mixed = (1 - share) * basis[k] + share * basis[k + 1]
            return -float(compare(train, mixed[None], method).mean())

        found = minimize_scalar(loss, bounds=(0.0, 1.0), method="bounded")
        for share in (0.0, float(found.x), 1.0):
            if -loss(share) > best:
                best, chosen = -loss(share), np.zeros(len(basis))
                chosen[k], chosen[k + 1] = 1 - share, share
    return chosen


KINDS: dict[str, Callable[[Floats, Floats, str], Floats]] = {
    "fixed": _fixed,
    "select": _select,
    "weighted": _weighted,
    "interpolate": _interpolate,
}


def fit_model(model: Model, train: Floats, method: str) -> Floats:
    """Return the weights of the basis that suit the training RDMs.

    Parameters
    ----------
    model : Model
    train : ndarray, shape (n_subjects, n_pairs)
        Over the same pairs as the basis.
    method : str
        Comparator to maximise.

    Returns
    -------
    ndarray, shape (n_basis,)
        Non-negative.
    """
    return KINDS[model.kind](model.basis, train, method)


def _sub_pairs(vectors: Floats, conditions: Index) -> Floats:
    """Return the pairs among drawn conditions; pairs of two copies are NaN."""
    i, j = pair_index(conditions.size)
    found = to_square(vectors)[..., conditions[i], conditions[j]]
    return np.asarray(np.where(conditions[i] == conditions[j], np.nan, found))


def _folds(labels: Index, count: int, rng: np.random.Generator) -> list[Index]:
    """Divide distinct labels into folds; copies of one label stay together."""
    distinct = rng.permutation(np.unique(labels))
    return [np.flatnonzero(np.isin(labels, part)) for part in np.array_split(distinct, count)]


def crossvalidated_scores(
    data: Floats,
    models: Sequence[Model],
    *,
    method: str,
    rng: np.random.Generator,
    subject_folds: int = 2,
    condition_folds: int = 2,
    subjects: Index | None = None,
    conditions: Index | None = None,
    test_subject: int | None = None,
) -> Floats:
    """Score models on subjects and conditions that they were not fitted to.

    Parameters
    ----------
    data : ndarray, shape (n_subjects, n_pairs)
    models : sequence of Model
    method : str
        Comparator.
    rng : numpy.random.Generator
        Divides into folds.
    subject_folds, condition_folds : int
        Folds; one fold of subjects means that all are in both sets (a single subject).
    subjects, conditions : ndarray of int, optional
        A resample; copies stay in one fold.
    test_subject : int, optional
        Score this one alone, with models fitted to the others.

    Returns
    -------
    ndarray, shape (n_models,)
        Mean over folds and over the subjects of each; NaN where folds are too small.
    """
    n = n_conditions(data.shape[1])
    subjects = np.arange(len(data)) if subjects is None else subjects
    conditions = np.arange(n) if conditions is None else conditions
    people = _folds(subjects, min(subject_folds, np.unique(subjects).size), rng)
    if test_subject is not None:
        people = [np.flatnonzero(subjects == test_subject)]
    scores = []
    for held_out in _folds(conditions, condition_folds, rng):
        if np.unique(conditions[held_out]).size < LEAST_TEST_CONDITIONS:
            continue
        rest = np.delete(conditions, held_out)
        for test in people:
            train = subjects if test.size == subjects.size else np.delete(subjects, test)
            known, new = (
                _sub_pairs(data[train], rest),
                _sub_pairs(data[subjects[test]], conditions[held_out]),
            )
            row = []
            for model in models:
                fitted = Model(model.kind, _sub_pairs(model.basis, rest))
                weights = fit_model(fitted, known, method)
                prediction = weights @ _sub_pairs(model.basis, conditions[held_out])
                row.append(compare(new, prediction[None], method).mean())
            scores.append(row)
    return np.mean(scores, axis=0) if scores else np.full(len(models), np.nan)


def bootstrap_flexible(
    data: Floats,
    models: Sequence[Model],
    *,
    method: str,
    samples: int,
    rng: np.random.Generator,
    repeats: int = 2,
    resample: tuple[str, ...] = ("subject", "condition"),
) -> Floats:
    """Cross-validate in every resample of subjects and conditions.

    Returns
    -------
    ndarray, shape (samples, repeats, n_models)
        For `inference.repeat_corrected_variance`.
    """
    n, count = n_conditions(data.shape[1]), len(data)
    least = 2 * LEAST_TEST_CONDITIONS
    found = np.full((samples, repeats, len(models)), np.nan)
    drawn = {
        "subject": draw_counts(count, samples, rng, min(2, count))[0].astype(int),
        "condition": draw_counts(n, samples, rng, min(least, n))[0].astype(int),
    }
    for sample in range(samples):
        index = {
            name: np.repeat(np.arange(size), drawn[name][sample])
            if name in resample
            else np.arange(size)
            for name, size in (("subject", count), ("condition", n))
        }
        for repeat in range(repeats):
            found[sample, repeat] = crossvalidated_scores(
                data, models, method=method, rng=rng,
                subjects=index["subject"], conditions=index["condition"],
            )  # fmt: skip
    return found
