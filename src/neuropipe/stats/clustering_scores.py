"""Agreement of two partitions of the same items."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["adjusted_rand_score"]


def adjusted_rand_score(labels: ArrayLike, labels_2: ArrayLike) -> float:
    """Return the Rand index of two partitions, corrected for chance.

    Parameters
    ----------
    labels, labels_2 : array_like (n_items,)
        Group of each item; any values, negative ones are groups like others.

    Returns
    -------
    float
        1 for equal partitions, 0 on average for independent ones; 1 when both have one group only
        or both have singletons only.

    Raises
    ------
    ValueError
        If the two differ in length or are empty.

    Notes
    -----
    With a, b the numbers of item pairs together in either partition, j those together in both and
    n all pairs: ``(j - a b / n) / ((a + b) / 2 - a b / n)`` (Hubert & Arabie 1985).

    Examples
    --------
    >>> adjusted_rand_score([0, 0, 1, 1], ["b", "b", "a", "a"])
    1.0
    """
    first, second = np.ravel(labels), np.ravel(labels_2)
    if first.size != second.size or first.size == 0:
        raise ValueError(f"labels: expected equal, positive lengths, {first.size}, {second.size}")
    _, rows = np.unique(first, return_inverse=True)
    _, columns = np.unique(second, return_inverse=True)
    table = np.zeros((rows.max() + 1, columns.max() + 1))
    np.add.at(table, (rows, columns), 1)

    def pairs(counts: np.ndarray) -> float:
        return float((counts * (counts - 1) / 2).sum())

    together, together_2 = pairs(table.sum(axis=1)), pairs(table.sum(axis=0))
    total = first.size * (first.size - 1) / 2
    expected = together * together_2 / total if total else 0.0
    span = (together + together_2) / 2 - expected
    return 1.0 if span == 0 else (pairs(table) - expected) / span
