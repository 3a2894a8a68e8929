"""Similarity of factorisations: the factor match score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

__all__ = ["factor_match", "match_matrix"]

Float = NDArray[np.floating]


def match_matrix(first: Sequence[Float], second: Sequence[Float]) -> NDArray[np.float64]:
    """Return the product over modes of the cosines between columns.

    Parameters
    ----------
    first, second : sequence of ndarray, shapes (n_k, R) and (n_k, S)
        Factors of each mode. Rows that are NaN in either are left out.

    Returns
    -------
    ndarray, shape (R, S)
        In [-1, 1]; 0 where a column is zero.
    """
    result = np.ones((first[0].shape[1], second[0].shape[1]))
    for a, b in zip(first, second, strict=True):
        a, b = a.astype(np.float64), b.astype(np.float64)
        known = np.isfinite(a).all(axis=1) & np.isfinite(b).all(axis=1)
        a, b = a[known], b[known]
        norms = np.outer(np.linalg.norm(a, axis=0), np.linalg.norm(b, axis=0))
        result *= np.divide(a.T @ b, norms, out=np.zeros(norms.shape), where=norms > 0)
    return result


def factor_match(
    first: Sequence[Float], second: Sequence[Float]
) -> tuple[float, NDArray[np.intp], NDArray[np.float64]]:
    """Match the columns of two factorisations and return the mean matched similarity.

    Parameters
    ----------
    first, second : sequence of ndarray, shapes (n_k, R) and (n_k, S)
        Factors of each mode, ``R <= S``.

    Returns
    -------
    score : float
        Factor match score: mean over the columns of ``first`` of the matched products.
    columns : ndarray of int, shape (R,)
        Column of ``second`` matched to each column of ``first``.
    products : ndarray, shape (R,)
        Product of cosines of each match.

    Raises
    ------
    ValueError
        If ``first`` has more columns than ``second``.

    Notes
    -----
    Williams et al. 2018, Neuron 98:1099; matching by the Hungarian method.

    Examples
    --------
    >>> eye = np.eye(3)
    >>> score, columns, _ = factor_match((eye, eye), (eye[:, ::-1], eye[:, ::-1]))
    >>> score, columns.tolist()
    (1.0, [2, 1, 0])
    """
    products = match_matrix(first, second)
    if products.shape[0] > products.shape[1]:
        raise ValueError(f"cannot match {products.shape[0]} columns to {products.shape[1]}")
    rows, columns = linear_sum_assignment(-products)
    matched = products[rows, columns]
    return float(matched.mean()), columns, matched
