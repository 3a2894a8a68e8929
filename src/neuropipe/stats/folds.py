"""Held-out cells for choosing a rank."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["hold_out_fibres"]

Index = NDArray[np.intp]


def hold_out_fibres(
    observed: NDArray[np.bool_],
    *,
    folds: int,
    fraction: float,
    rng: np.random.Generator,
) -> list[tuple[Index, Index]]:
    """Draw disjoint sets of observed cells of a table, keeping one cell in every row.

    Parameters
    ----------
    observed : ndarray of bool, shape (n_rows, n_columns)
        Cells that exist, such as (pair, subject) or (pair, time block).
    folds : int
        Number of sets.
    fraction : float
        Share of the cells, out of the rows with two observed cells or more, in each set;
        ``folds * fraction <= 1``.
    rng : numpy.random.Generator
        Draws the cells.

    Returns
    -------
    list of (rows, columns)
        Cells of each fold, sorted by row. A row never loses all of its cells to one fold.

    Raises
    ------
    ValueError
        If no row has two observed cells, or the folds overlap.

    Examples
    --------
    >>> table = np.ones((10, 4), dtype=bool)
    >>> [len(rows) for rows, _ in hold_out_fibres(
    ...     table, folds=2, fraction=0.1, rng=np.random.default_rng(0))]
    [4, 4]
    """
    if folds * fraction > 1:
        raise ValueError(f"{folds} folds of {fraction:.0%} overlap")
    count = observed.sum(axis=1)
    rows, columns = np.nonzero(observed & (count >= 2)[:, None])
    if rows.size == 0:
        raise ValueError("no row has two observed cells: nothing can be held out")
    order = rng.permutation(rows.size)
    size = max(round(fraction * rows.size), 1)
    result = []
    for fold in range(folds):
        chosen = np.sort(order[fold * size : (fold + 1) * size])
        emptied = np.bincount(rows[chosen], minlength=count.size) == count
        first = np.concatenate(([True], np.diff(rows[chosen]) > 0))
        chosen = chosen[~(first & emptied[rows[chosen]])]
        result.append((rows[chosen], columns[chosen]))
    return result
