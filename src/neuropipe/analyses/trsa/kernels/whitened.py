"""Whitened products of RDMs: comparators that know how distances of one RDM depend on each other.

For independent noise of equal size in every condition the covariance of distance estimates is
``V[(i,j),(k,l)] = (c_ij . c_kl) ** 2`` with contrasts ``c_ij = e_i - e_j`` (Diedrichsen et al.
2020). Its inverse need never be built: ``x' V^-1 y`` is, up to a factor, the Frobenius product of
the doubly centred matrices ``H X H`` and ``H Y H``. Pairs that are missing, or that join two copies
of one condition in a resample, are taken out by a Schur complement over these pairs alone, which
equals the inverse of the remaining block of V.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.trsa.kernels.pairs import n_conditions, pair_index, to_square

__all__ = ["distance_covariance", "pair_grams", "whitened_grams"]

Floats = NDArray[np.float64]
BLOCK_BYTES = 64e6


def distance_covariance(n: int) -> Floats:
    """Return V of ``n`` conditions for independent noise, shape ``(n_pairs, n_pairs)``."""
    i, j = pair_index(n)
    contrasts = np.zeros((i.size, n))
    contrasts[np.arange(i.size), i] = 1.0
    contrasts[np.arange(i.size), j] = -1.0
    return np.asarray((contrasts @ contrasts.T) ** 2)


def pair_grams(vectors: Floats, pair_weights: Floats) -> Floats:
    """Return the weighted products of all vectors for many weights at once.

    Parameters
    ----------
    vectors : ndarray, shape (n_rows, n_pairs)
    pair_weights : ndarray, shape (n_samples, n_pairs)

    Returns
    -------
    ndarray, shape (n_samples, n_rows, n_rows)
        ``sum_p w_p x_p y_p``, by one matrix product over the table of products.
    """
    rows = len(vectors)
    first, second = np.triu_indices(rows)
    grams = np.empty((len(pair_weights), rows, rows))
    size = max(1, int(BLOCK_BYTES / (8 * vectors.shape[1])))
    for start in range(0, first.size, size):
        a, b = first[start : start + size], second[start : start + size]
        part = pair_weights @ (vectors[a] * vectors[b]).T
        grams[:, a, b] = part
        grams[:, b, a] = part
    return grams


def whitened_grams(vectors: Floats, weights: Floats) -> Floats:
    """Return ``x' V^-1 y`` (up to one factor) of all vectors, for many resamples of conditions.

    Parameters
    ----------
    vectors : ndarray, shape (n_rows, n_pairs)
        RDMs; pairs that are NaN in any of them are taken out of all.
    weights : ndarray, shape (n_samples, n)
        How often each condition was drawn; ones for the RDMs as they are. Pairs of two copies
        of one condition are taken out.

    Returns
    -------
    ndarray, shape (n_samples, n_rows, n_rows)
    """
    n = n_conditions(vectors.shape[1])
    i, j = pair_index(n)
    missing = np.flatnonzero(~np.isfinite(vectors).all(axis=0))
    vectors = vectors.copy()
    vectors[:, missing] = 0.0
    total = weights.sum(axis=1)[:, None, None]
    row_mean = np.einsum("rij,sj->sri", to_square(vectors), weights, optimize=True) / total
    mean = np.einsum("sri,si->sr", row_mean, weights) / total[:, 0]
    grams = 2 * pair_grams(vectors, weights[:, i] * weights[:, j])
    grams -= 2 * total * (row_mean * weights[:, None]) @ np.swapaxes(row_mean, 1, 2)
    grams += total**2 * mean[:, :, None] * mean[:, None, :]
    for gram, w, r, m in zip(grams, weights, row_mean, mean, strict=True):
        _take_out(gram, w, r, m, vectors, (i[missing], j[missing]))
    return grams


def _take_out(
    gram: Floats,
    w: Floats,
    row_mean: Floats,
    mean: Floats,
    vectors: Floats,
    missing: tuple[NDArray[np.intp], NDArray[np.intp]],
) -> None:
    """Subtract the Schur complement of copies and of missing pairs from one Gram matrix."""
    copied = np.flatnonzero(w > 1)
    used = (w[missing[0]] > 0) & (w[missing[1]] > 0)
    i, j = missing[0][used], missing[1][used]
    if not copied.size + i.size:
        return
    total, k = w.sum(), np.arange(copied.size)
    # Row sums, per condition, of the matrix that holds 1 at the entries of one kind of pair.
    rows = np.zeros((copied.size + i.size, w.size))
    rows[k, copied] = w[copied] - 1
    q = copied.size + np.arange(i.size)
    rows[q, i], rows[q, j] = w[j], w[i]
    size = rows @ w
    block = np.diag(size) - 2 / total * (rows * w) @ rows.T + np.outer(size, size) / total**2
    # Both kinds are 0 in the squares, so that only the means are left after centring.
    ends = (np.concatenate([copied, i]), np.concatenate([copied, j]))
    centred = mean[:, None] - row_mean[:, ends[0]] - row_mean[:, ends[1]]
    products = centred * size
    gram -= products @ np.linalg.solve(block, products.T)
