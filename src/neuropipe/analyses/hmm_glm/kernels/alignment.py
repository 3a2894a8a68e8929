"""Alignment of states: two fits name the same states in another order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

__all__ = ["match_sequences", "match_weights"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def match_sequences(reference: Ints, other: Ints, n_states: int) -> Ints:
    """Match the states of two sequences so that they agree in most bins.

    Parameters
    ----------
    reference, other : ndarray of int, shape (n_bins,)
        States; bins with a negative number in either are left out.
    n_states : int
        States of the larger of the two.

    Returns
    -------
    ndarray of int, shape (n_states,)
        State of ``other`` that is each state of ``reference``.

    Examples
    --------
    >>> match_sequences(np.array([0, 0, 1, 2]), np.array([2, 2, 0, 1]), 3)
    array([2, 0, 1])
    """
    seen = (reference >= 0) & (other >= 0)
    confusion = np.zeros((n_states, n_states), dtype=np.int64)
    np.add.at(confusion, (reference[seen], other[seen]), 1)
    return np.asarray(linear_sum_assignment(-confusion)[1], dtype=np.int64)


def match_weights(reference: Floats, other: Floats) -> Ints:
    """Match states by the correlation of their weights.

    Parameters
    ----------
    reference, other : ndarray, shape (n_states, ...)
        Weights; both have the same shape.

    Returns
    -------
    ndarray of int, shape (n_states,)
        State of ``other`` that is each state of ``reference``.
    """
    rows = [w.reshape(len(w), -1) for w in (reference, other)]
    rows = [w - w.mean(axis=1, keepdims=True) for w in rows]
    rows = [w / np.maximum(np.linalg.norm(w, axis=1, keepdims=True), 1e-300) for w in rows]
    return np.asarray(linear_sum_assignment(-(rows[0] @ rows[1].T))[1], dtype=np.int64)
