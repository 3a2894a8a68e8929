"""Choice of the number of components: held-out error and similarity of restarts.

Whole fibres (pair, subject) are held out, so the mask keeps the form ``W[p,a]`` and a fold costs
what a fit costs. With one animal, (pair, time block) is held out instead and the two-way
factorisation gets a full mask.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.ntf.kernels.factorise import (
    NTFResult,
    Once,
    at_once,
    hals,
    update_rows,
)
from neuropipe.analyses.ntf.kernels.problem import Float, Mask, Problem, TensorLike
from neuropipe.stats.factor_match import factor_match
from neuropipe.stats.folds import hold_out_fibres

__all__ = [
    "HeldOut",
    "block_error",
    "choose_rank",
    "fibre_error",
    "held_out_errors",
    "held_out_folds",
    "restart_similarity",
]

FRACTION = 0.1
BLOCK_BINS = 10
# A held-out fibre is predicted from a pair factor that rests on few animals; with the ridge of the
# fit alone its noise hides the gain of a weak component. 0.1 puts the planted rank of seeds where
# 0.01 stopped one short, and leaves the others as they were.
RIDGE = 0.1
# A single start may end in a poor optimum, which looks like a fold that is hard at this rank.
STARTS = 3
Cells = tuple[NDArray[np.intp], NDArray[np.intp]]


@dataclass(frozen=True)
class HeldOut:
    """View of a tensor in which some fibres are 0.

    Attributes
    ----------
    X : TensorLike, shape (P, T, A)
        Tensor.
    pairs, subjects : ndarray of int, shape (n_fibres,)
        Fibres that are 0, sorted by pair.
    """

    X: TensorLike
    pairs: NDArray[np.intp]
    subjects: NDArray[np.intp]

    @property
    def shape(self) -> tuple[int, ...]:
        """(P, T, A)."""
        return self.X.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of X."""
        return self.X.dtype

    def __getitem__(self, rows: slice) -> Float:
        """Return a block of pairs, without the held-out fibres."""
        block = np.array(self.X[rows])
        start = rows.start or 0
        low, high = np.searchsorted(self.pairs, (start, start + len(block)))
        block[self.pairs[low:high] - start, :, self.subjects[low:high]] = 0
        return block


def held_out_folds(
    W: Mask, n_bins: int, *, folds: int, rng: np.random.Generator, V: Mask | None = None
) -> list[Cells]:
    """Return the held-out cells of each fold.

    Parameters
    ----------
    W : ndarray of bool, shape (P, A)
        Pair observed in subject.
    n_bins : int
        Time bins.
    folds : int
        Number of folds.
    rng : numpy.random.Generator
        Draws the cells.
    V : ndarray of bool, shape (T, A), optional
        Bin observed in subject; blocks of time without any are not held out.

    Returns
    -------
    list of (pairs, columns)
        Columns are subjects, or blocks of 10 bins when there is one subject.

    Raises
    ------
    ValueError
        If nothing can be held out.
    """
    table = W
    if W.shape[1] == 1:
        blocks = np.ones(-(-n_bins // BLOCK_BINS), dtype=bool)
        if V is not None:
            blocks = np.logical_or.reduceat(V[:, 0], np.arange(0, n_bins, BLOCK_BINS))
        table = W & blocks
    return hold_out_fibres(table, folds=folds, fraction=FRACTION, rng=rng)


def held_out_errors(
    X: TensorLike,
    W: Mask,
    V: Mask | None,
    folds: Sequence[Cells],
    rank: int,
    rngs: Sequence[np.random.Generator],
    once: Once = at_once,
    **options: Any,
) -> NDArray[np.float64]:
    """Return the error of each fold on its held-out cells, shape (n_folds,).

    Parameters
    ----------
    X : TensorLike, shape (P, T, A)
        Tensor.
    W, V : ndarray of bool
        Masks (P, A) and (T, A).
    folds : sequence of tuple
        Of `held_out_folds`: fibres, or blocks of time when there is one subject.
    rank : int
        Number of components.
    rngs : sequence of numpy.random.Generator
        One stream per fold.
    once : callable
        Keeps the error of each fold, as in `factorise`.
    **options
        Of `hals`.
    """
    if W.shape[1] > 1:
        error = functools.partial(fibre_error, X, W, V)
    else:
        matrix = np.asarray(X[0 : X.shape[0]])[:, :, 0]
        bins = np.ones(X.shape[1], dtype=bool) if V is None else V[:, 0]
        error = functools.partial(block_error, matrix, W[:, 0], bins)
    return np.array(
        [
            once(f"fold-{k}", functools.partial(error, cells, rank, rng, **options))
            for k, (cells, rng) in enumerate(zip(folds, rngs, strict=True))
        ]
    )


def fibre_error(
    X: TensorLike,
    W: Mask,
    V: Mask | None,
    cells: Cells,
    rank: int,
    rng: np.random.Generator,
    **options: Any,
) -> float:
    """Fit without the held-out (pair, subject) fibres; return the relative error on them.

    Parameters
    ----------
    X : TensorLike, shape (P, T, A)
        Tensor.
    W, V : ndarray of bool
        Masks (P, A) and (T, A).
    cells : tuple of ndarray
        Pairs and subjects held out, sorted by pair.
    rank : int
        Number of components.
    rng : numpy.random.Generator
        Draws three starts, of which the best fit to the other fibres counts.
    **options
        Of `hals`; the ridge is at least 0.1.

    Returns
    -------
    float
    """
    options["ridge"] = max(options.get("ridge", 0.0), RIDGE)
    train = W.copy()
    train[cells] = False
    problem = Problem.build(HeldOut(X, *cells), train, V)
    runs = [hals(problem, rank, rng=one, **options) for one in rng.spawn(STARTS)]
    result = min(runs, key=lambda run: run.relative_error)
    U, B, G = (np.nan_to_num(factor).astype(np.float64) for factor in result.factors)
    error = total = 0.0
    pairs, subjects = cells
    for start in range(0, X.shape[0], problem.rows):
        low, high = np.searchsorted(pairs, (start, start + problem.rows))
        p, a = pairs[low:high], subjects[low:high]
        block = np.asarray(X[start : start + problem.rows])
        seen = block[p - start, :, a].astype(np.float64)
        model = (U[p] * result.weights * G[a]) @ B.T
        if V is not None:
            model = model * V.T[a]
        error += float(np.sum((seen - model) ** 2))
        total += float(np.sum(seen**2))
    return float(np.sqrt(error / max(total, np.finfo(float).tiny)))


def block_error(
    X: Float,
    W: Mask,
    V: Mask,
    cells: Cells,
    rank: int,
    rng: np.random.Generator,
    **options: Any,
) -> float:
    """Fit one animal without the held-out (pair, time block) cells; return the error on them.

    Parameters
    ----------
    X : ndarray, shape (P, T)
        Tensor of the animal.
    W, V : ndarray of bool, shapes (P,) and (T,)
        Masks.
    cells : tuple of ndarray
        Pairs and blocks of 10 bins held out.
    rank : int
        Number of components.
    rng : numpy.random.Generator
        Draws three starts, of which the best fit to the other cells counts.
    **options
        Of `hals`; the ridge is at least 0.1.

    Returns
    -------
    float
    """
    blocks = np.zeros((X.shape[0], -(-X.shape[1] // BLOCK_BINS)), dtype=bool)
    blocks[cells] = True
    held = np.repeat(blocks, BLOCK_BINS, axis=1)[:, : X.shape[1]]
    observed = W[:, None] & V[None, :]
    held &= observed
    options["ridge"] = max(options.get("ridge", 0.0), RIDGE)
    mask = (observed & ~held).astype(X.dtype)
    runs = [_two_way(X, mask, rank, one, **options) for one in rng.spawn(STARTS)]
    U, B, _ = min(runs, key=lambda run: run[2])
    error = np.sum((X - U @ B.T)[held].astype(np.float64) ** 2)
    total = np.sum(X[held].astype(np.float64) ** 2)
    return float(np.sqrt(error / max(total, np.finfo(float).tiny)))


def _two_way(
    X: Float,
    mask: Float,
    rank: int,
    rng: np.random.Generator,
    *,
    ridge: float = 0.01,
    tol: float = 1e-5,
    max_iter: int = 300,
    inner: int = 3,
) -> tuple[Float, Float, float]:
    """Factorise a matrix under a full mask; return U (P, R), B (T, R) and the relative error."""
    X = X * mask
    norm2 = float(np.sum(X.astype(np.float64) ** 2))
    U = rng.random((rank, X.shape[0])).astype(X.dtype)
    B = rng.random((rank, X.shape[1])).astype(X.dtype)
    B[:, ~mask.any(axis=0)] = 0.0
    B *= np.sqrt(norm2) / np.linalg.norm(U.T @ B)
    eye = np.eye(rank, dtype=X.dtype)[:, :, None]
    error = np.inf
    for _ in range(max_iter):
        last = error
        length = np.maximum(np.linalg.norm(B, axis=1), np.finfo(X.dtype).tiny)[:, None]
        B, U = B / length, U * length
        H = (mask @ _outer(B).T).T.reshape(rank, rank, -1) + ridge * eye
        update_rows(U, B @ X.T, H, inner)
        U[~U.any(axis=1)] = 1e-8
        M, H = U @ X, (_outer(U) @ mask).reshape(rank, rank, -1)
        update_rows(B, M, H, inner)
        B[~B.any(axis=1)] = 1e-8
        square = np.einsum("rt,rst,st->", B, H, B, dtype=np.float64, optimize=True)
        cross = np.sum(M * B, dtype=np.float64)
        error = float(np.sqrt(max(norm2 - 2 * cross + square, 0) / max(norm2, 1e-300)))
        if abs(last - error) < tol:
            break
    return U.T, B.T, error


def _outer(F: Float) -> Float:
    """Return all products of two rows of F (R, n), shape (R * R, n)."""
    return (F[:, None, :] * F[None, :, :]).reshape(-1, F.shape[1])


def choose_rank(ranks: Sequence[int], errors: NDArray[np.float64]) -> int:
    """Return the smallest rank within one standard error of the lowest held-out error.

    Parameters
    ----------
    ranks : sequence of int
        Candidate ranks.
    errors : ndarray, shape (n_ranks, n_folds)
        Held-out errors.

    Returns
    -------
    int

    Notes
    -----
    All ranks are scored on the same cells. The standard error is that of the difference to the
    lowest error over folds, so that how hard a fold is does not count.

    Examples
    --------
    >>> choose_rank([1, 2, 3], np.array([[9.0, 9.2], [5.0, 5.4], [5.1, 5.2]]))
    2
    """
    excess = errors - errors[int(np.argmin(errors.mean(axis=1)))]
    spread = excess.std(axis=1, ddof=1) / np.sqrt(errors.shape[1])
    within = excess.mean(axis=1) <= spread
    return min(rank for rank, good in zip(ranks, within, strict=True) if good)


def restart_similarity(restarts: Sequence[NTFResult]) -> NDArray[np.float64]:
    """Return the factor match score between all restarts, shape (n_restarts, n_restarts)."""
    result = np.eye(len(restarts))
    for i, first in enumerate(restarts):
        for j in range(i):
            score = factor_match(first.factors, restarts[j].factors)[0]
            result[i, j] = result[j, i] = score
    return result
