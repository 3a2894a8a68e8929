"""The tensor of a factorisation with its masks, read block by block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Float", "Mask", "Problem", "TensorLike", "pair_gram", "time_gram"]

Float = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]

BLOCK_BYTES = 2 << 20


class TensorLike(Protocol):
    """What the factorisation needs of X: a NumPy array, a memory map, a zarr array."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(n_pairs, n_bins, n_subjects)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64."""

    def __getitem__(self, rows: slice) -> Any:
        """Return a block of pairs."""


@dataclass(frozen=True)
class Problem:
    """The tensor, its masks, and what every restart needs of it.

    Attributes
    ----------
    X : TensorLike, shape (P, T, A)
        Tensor, 0 in missing cells.
    W : ndarray, shape (P, A), or None
        Pair observed in subject, in the dtype of X; None: all.
    V : ndarray, shape (T, A), or None
        Bin observed in subject; None: all.
    rows : int
        Pairs per block.
    norm2 : float
        Squared norm of X.
    subject_norm2 : ndarray, shape (A,)
        Squared norm by subject.
    column_sum : ndarray, shape (T * A,)
        Sum over pairs.
    """

    X: TensorLike
    W: Float | None
    V: Float | None
    rows: int
    norm2: float
    subject_norm2: NDArray[np.float64]
    column_sum: NDArray[np.float64]

    @classmethod
    def build(cls, X: TensorLike, W: Mask | None = None, V: Mask | None = None) -> Problem:
        """Check X in one pass and collect its sums.

        Raises
        ------
        ValueError
            If X holds negative or missing values, or values outside its masks.
        """
        n_pairs, n_bins, n_subjects = X.shape
        pairs = None if W is None or bool(np.all(W)) else np.asarray(W).astype(X.dtype)
        bins = None if V is None or bool(np.all(V)) else np.asarray(V).astype(np.float64)
        rows = int(np.clip(BLOCK_BYTES // (n_bins * n_subjects * X.dtype.itemsize), 64, 4096))
        squares, column_sum = np.zeros(n_subjects), np.zeros(n_bins * n_subjects)
        for start in range(0, n_pairs, rows):
            block = np.asarray(X[start : start + rows])
            _check_block(block, None if pairs is None else pairs[start : start + rows], bins)
            squares += np.einsum("pta,pta->a", block, block, dtype=np.float64)
            column_sum += block.reshape(len(block), -1).sum(axis=0, dtype=np.float64)
        return cls(X, pairs, bins, rows, float(squares.sum()), squares, column_sum)

    @property
    def complete(self) -> bool:
        """Nothing is missing."""
        return self.W is None and self.V is None

    def observed_rows(self) -> tuple[Mask, Mask, Mask]:
        """Return which pairs, bins and subjects have an observed cell."""
        n_pairs, n_bins, n_subjects = self.X.shape
        W = np.ones((1, n_subjects)) if self.W is None else self.W
        V = np.ones((1, n_subjects)) if self.V is None else self.V
        in_pairs, in_bins = W.any(axis=0), V.any(axis=0)
        pairs = np.broadcast_to((W * in_bins).any(axis=1), n_pairs)
        bins = np.broadcast_to((V * in_pairs).any(axis=1), n_bins)
        return pairs, bins, np.logical_and(in_pairs, in_bins)


def _check_block(block: Float, W: Float | None, V: Float | None) -> None:
    lowest = block.min(initial=0.0)
    if not (lowest >= 0 and np.isfinite(block.max(initial=0.0))):
        raise ValueError(
            f"the tensor holds negative or missing values (lowest {lowest}); it must be "
            "non-negative, and 0 in the cells that the masks W and V leave out"
        )
    outside = W is not None and bool(block.max(axis=1)[W == 0].any())
    if outside or (V is not None and bool(block.max(axis=0)[V == 0].any())):
        raise ValueError("the tensor must be 0 in the cells that the masks W and V leave out")


def time_gram(B: Float, V: Float | None, n_subjects: int) -> NDArray[np.float64]:
    """Return ``Q_a = sum_t V[t,a] b_t b_t^T``, shape (A, R, R); one for all without V."""
    if V is None:
        return np.broadcast_to(B.T @ B, (n_subjects, B.shape[1], B.shape[1]))
    gram: NDArray[np.float64] = np.einsum("ta,tr,ts->ars", V, B, B, optimize=True)
    return gram


def pair_gram(problem: Problem, U: Float) -> NDArray[np.float64]:
    """Return ``C_a = sum_p W[p,a] u_p u_p^T``, shape (A, R, R); U is (R, P)."""
    n_components, n_subjects = U.shape[0], problem.X.shape[2]
    shape = (n_subjects, n_components, n_components)
    if problem.W is None:
        return np.broadcast_to((U @ U.T).astype(np.float64), shape)
    result = np.zeros(shape)
    for start in range(0, U.shape[1], problem.rows):
        part = U[:, start : start + problem.rows]
        weights = problem.W[start : start + problem.rows].T
        result += (part[None] * weights[:, None, :]) @ part.T
    return result
