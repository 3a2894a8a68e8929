"""Comparators of descriptor vectors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.trsa.kernels.pairs import n_conditions
from neuropipe.analyses.trsa.kernels.ranks import signed_concordance, weighted_ranks
from neuropipe.analyses.trsa.kernels.whitened import whitened_grams

__all__ = ["COMPARATORS", "RANKED", "WHITENED", "centre_whitened", "compare", "correlate"]

Floats = NDArray[np.float64]
FLAT = 1e-12


def correlate(grams: Floats) -> Floats:
    """Return cosines from products ``(..., n_rows, n_rows)``; NaN for rows of norm 0."""
    norm = np.sqrt(np.maximum(np.diagonal(grams, axis1=-2, axis2=-1), 0.0))
    norm = np.where(norm > 0, norm, np.nan)
    return np.asarray(grams / (norm[..., :, None] * norm[..., None, :]))


def _cosines(first: Floats, second: Floats) -> Floats:
    norms = [np.linalg.norm(rows, axis=1) for rows in (first, second)]
    one, two = (np.where(norm > 0, norm, np.nan) for norm in norms)
    return (first @ second.T) / np.outer(one, two)


def _centred(rows: Floats) -> Floats:
    """Return rows minus their mean; a row that is constant up to rounding becomes 0."""
    centred = rows - rows.mean(axis=1, keepdims=True)
    flat = np.linalg.norm(centred, axis=1) <= FLAT * np.linalg.norm(rows, axis=1)
    centred[flat] = 0.0
    return centred


def _pearson(first: Floats, second: Floats) -> Floats:
    return _cosines(_centred(first), _centred(second))


def _ranks(rows: Floats) -> Floats:
    return weighted_ranks(rows, np.ones(rows.shape[1]))


def _spearman(first: Floats, second: Floats) -> Floats:
    return _pearson(_ranks(first), _ranks(second))


def _rho_a(first: Floats, second: Floats) -> Floats:
    n = first.shape[1]
    products = _ranks(first) @ _ranks(second).T
    return 12 * products / (n**3 - n) - 3 * (n + 1) / (n - 1)


def _kendall(first: Floats, second: Floats) -> Floats:
    n, ones = first.shape[1], np.ones(first.shape[1])
    sums = [[signed_concordance(x, y, ones) for y in second] for x in first]
    return np.array(sums) / (n * (n - 1) / 2)


def _negative_distance(first: Floats, second: Floats) -> Floats:
    square = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1) - 2 * first @ second.T
    return -np.sqrt(np.maximum(square, 0.0))


def centre_whitened(grams: Floats) -> Floats:
    """Take the whitened mean away: the last row of the products is that of the ones vector."""
    ones = grams[..., :-1, -1]
    return np.asarray(
        grams[..., :-1, :-1] - ones[..., :, None] * ones[..., None, :] / grams[..., -1:, -1:]
    )


def _whitened(first: Floats, second: Floats) -> Floats:
    gram = whitened_grams(np.vstack([first, second]), np.ones((1, n_conditions(first.shape[1]))))
    return correlate(gram[0])[: len(first), len(first) :]


def _whitened_pearson(first: Floats, second: Floats) -> Floats:
    stacked = np.vstack([first, second, np.ones((1, first.shape[1]))])
    gram = whitened_grams(stacked, np.ones((1, n_conditions(first.shape[1]))))
    return correlate(centre_whitened(gram[0]))[: len(first), len(first) :]


COMPARATORS: dict[str, Callable[[Floats, Floats], Floats]] = {
    "cosine": _cosines,
    "pearson": _pearson,
    "spearman": _spearman,
    "kendall_tau_a": _kendall,
    "rho_a": _rho_a,
    "euclidean": _negative_distance,
    "cosine_w": _whitened,
    "pearson_w": _whitened_pearson,
}
WHITENED = ("cosine_w", "pearson_w")
RANKED = ("spearman", "kendall_tau_a", "rho_a")


def compare(first: Floats, second: Floats, method: str) -> Floats:
    """Compare every row of one set with every row of another.

    Parameters
    ----------
    first : ndarray, shape (n_first, n_pairs)
    second : ndarray, shape (n_second, n_pairs)
        RDMs or descriptors. Each comparison uses the pairs that are finite in both.
    method : str
        A key of `COMPARATORS`. ``rho_a`` is the expected Spearman correlation when ties are
        broken at random, ``euclidean`` the negative distance; ``cosine_w`` and ``pearson_w`` are
        whitened for the covariance of distance estimates and meant for squared distances.

    Returns
    -------
    ndarray, shape (n_first, n_second)
        NaN where an RDM is constant or fewer than two pairs are left.

    Examples
    --------
    >>> found = compare(np.array([[1.0, 2.0, 3.0]]), np.array([[2.0, 4.0, 7.0]]), "spearman")
    >>> round(found.item(), 9)
    1.0
    """
    function = COMPARATORS[method]
    first, second = (np.atleast_2d(np.asarray(a, dtype=np.float64)) for a in (first, second))
    if np.isfinite(first).all() and np.isfinite(second).all():
        return function(first, second)
    found = np.full((len(first), len(second)), np.nan)
    for a, x in enumerate(first):
        for b, y in enumerate(second):
            seen = np.isfinite(x) & np.isfinite(y)
            if seen.sum() < 2:
                continue
            if method in WHITENED:  # the missing pairs stay where they are, as NaN
                x_seen, y_seen = np.where(seen, x, np.nan), np.where(seen, y, np.nan)
            else:
                x_seen, y_seen = x[seen], y[seen]
            found[a, b] = function(x_seen[None], y_seen[None])[0, 0]
    return found
