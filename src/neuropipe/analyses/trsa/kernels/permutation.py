"""Permutations of condition labels, which tell whether a model is related to RDMs at all.

For comparators that are cosines the mean score of a permuted model is one dot product with a
vector that does not change, since the norm of a complete RDM does not depend on the labels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.trsa.kernels.ceiling import pooled
from neuropipe.analyses.trsa.kernels.compare import RANKED, WHITENED, compare
from neuropipe.analyses.trsa.kernels.pairs import n_conditions, pair_index, to_pairs, to_square
from neuropipe.analyses.trsa.kernels.ranks import weighted_ranks

__all__ = ["permutation_null"]

Floats = NDArray[np.float64]


def _direction(rows: Floats, method: str) -> Floats:
    """Return a vector whose product with a model is the mean score, up to a factor."""
    if method in RANKED:
        ranks = weighted_ranks(rows, np.ones(rows.shape[1]))
        mean = pooled(ranks, "pearson") if method == "spearman" else ranks.mean(axis=0)
        return np.asarray(mean - mean.mean())
    mean = pooled(rows, method)
    if method not in WHITENED:
        return mean if method == "cosine" else mean - mean.mean()
    square = to_square(mean)
    rows_of = square.mean(axis=0)
    return to_pairs(square - rows_of - rows_of[:, None] + rows_of.mean())


def permutation_null(
    rows: Floats, models: Floats, method: str, draws: int, rng: np.random.Generator
) -> Floats:
    """Return mean scores of models whose condition labels were permuted.

    Parameters
    ----------
    rows : ndarray, shape (n_subjects, n_pairs)
        RDMs of the subjects.
    models : ndarray, shape (n_models, n_pairs)
        All models get the same permutation.
    method : str
        Comparator.
    draws : int
        Permutations; the first row of the result is the observed one.

    Returns
    -------
    ndarray, shape (draws + 1, n_models)
    """
    n = n_conditions(rows.shape[1])
    i, j = pair_index(n)
    observed = compare(rows, models, method).mean(axis=0)
    orders = [rng.permutation(n) for _ in range(draws)]
    finite = np.isfinite(rows).all() and np.isfinite(models).all()
    if not finite or method == "kendall_tau_a":
        squares = to_square(models)
        null = [compare(rows, squares[:, o[i], o[j]], method).mean(axis=0) for o in orders]
        return np.vstack([observed[None], *[row[None] for row in null]])
    used = weighted_ranks(models, np.ones(models.shape[1])) if method in RANKED else models
    direction = _direction(rows, method)
    squares = to_square(used)
    place = (
        np.stack([order[i] * n + order[j] for order in orders])
        if draws
        else np.zeros((0, i.size), int)
    )
    products = np.stack([square.ravel()[place] @ direction for square in squares], axis=1)
    start = used @ direction
    scale = np.where(start != 0, observed / np.where(start != 0, start, 1.0), 0.0)
    return np.vstack([observed[None], products * scale])
