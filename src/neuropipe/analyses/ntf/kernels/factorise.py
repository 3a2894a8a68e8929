"""Masked non-negative tensor factorisation by HALS: stage 2 of the NTF connectomes.

Model ``X[p,t,a] ~ sum_r lam_r U[p,r] B[t,r] G[a,r]``, all factors non-negative with columns of
unit length; loss ``1/2 sum W[p,a] V[t,a] (X - Xhat)^2`` with a ridge on U. Updates follow
hierarchical alternating least squares (Cichocki & Phan 2009, Gillis & Glineur 2012).

The rows of U are independent given B and G. A block of rows is therefore updated and at once
contracted for the other two modes while its part of X is in the cache: one pass over X per
iteration, which also lets X lie in a file.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.ntf.kernels.problem import Float, Problem, pair_gram, time_gram

__all__ = [
    "Factors",
    "NTFResult",
    "Once",
    "at_once",
    "factorise",
    "fit_pairs",
    "hals",
    "subject_errors",
    "update_rows",
]

Factors = tuple[Float, Float, Float]
Once = Callable[[str, Callable[[], Any]], Any]

DEAD = 1e-8


def at_once(name: str, compute: Callable[[], Any]) -> Any:
    """Compute a piece of a job and keep nothing."""
    return compute()


@dataclass(frozen=True)
class NTFResult:
    """Result of a factorisation.

    Attributes
    ----------
    weights : ndarray, shape (n_components,)
        Scale ``lam`` of each component, descending.
    factors : tuple of ndarray
        U (n_pairs, R), B (n_bins, R), G (n_subjects, R); columns of unit length. Rows of pairs,
        bins and subjects that were never observed are NaN.
    loss_history : ndarray, shape (n_iterations,)
        Loss after each iteration, ridge included, as a share of ``1/2 ||X||^2``.
    relative_error : float
        ``||X - Xhat|| / ||X||`` over the observed cells at the end.
    converged : bool
        The relative error changed by less than ``tol`` at the end.
    dead_components : int
        Components that are zero at the end.
    revived : int
        Times that a component became zero and was restarted from a small constant.
    restarts : tuple of NTFResult
        Every restart in order of its index; empty within a restart.
    """

    weights: Float
    factors: Factors
    loss_history: NDArray[np.float64]
    relative_error: float
    converged: bool
    dead_components: int
    revived: int = 0
    restarts: tuple[NTFResult, ...] = field(default=(), repr=False)


def update_rows(F: Float, M: Float, H: Float, sweeps: int) -> None:
    """Minimise ``sum_n f_n^T H_n f_n - 2 m_n f_n`` over ``f_n >= 0`` by coordinates, in place.

    Parameters
    ----------
    F : ndarray, shape (R, n)
        Rows of a factor, one column each; changed.
    M : ndarray, shape (R, n)
        Right-hand sides.
    H : ndarray, shape (R, R) or (R, R, n)
        Gram matrix, shared or one per column.
    sweeps : int
        Passes over the R coordinates.
    """
    shared = H.ndim == 2
    diagonal = np.diagonal(H) if shared else np.einsum("rrn->rn", H)
    step = 1.0 / np.maximum(diagonal, np.finfo(H.dtype).tiny * 1e8)
    for _ in range(sweeps):
        for r in range(F.shape[0]):
            current = H[r] @ F if shared else np.einsum("kn,kn->n", H[r], F)
            np.subtract(M[r], current, out=current)
            current *= step[r]
            current += F[r]
            np.maximum(current, 0.0, out=F[r])


def _update_pairs(
    problem: Problem,
    U: Float,
    B: Float,
    G: Float,
    *,
    ridge: float,
    sweeps: int,
    centre: Float | None = None,
) -> NDArray[np.float64]:
    """Update U (R, P) block by block and return ``Y = U X``, shape (R, T * A).

    The ridge pulls towards `centre` (R, P); None: towards 0.
    """
    dtype, n_components = U.dtype, U.shape[0]
    n_subjects = G.shape[0]
    K = (B[:, None, :] * G[None, :, :]).reshape(-1, n_components).astype(dtype)
    gram = time_gram(B, problem.V, n_subjects) * (G[:, :, None] * G[:, None, :])
    rho = np.zeros((n_components, n_components))
    if not problem.complete:
        np.fill_diagonal(rho, ridge * np.einsum("tr,tr->r", B, B) * np.einsum("ar,ar->r", G, G))
    shared = (gram.sum(axis=0) + rho).astype(dtype)
    by_subject = gram.reshape(n_subjects, -1).T.astype(dtype)
    Y = np.zeros((n_components, K.shape[0]))
    for start in range(0, U.shape[1], problem.rows):
        rows = slice(start, start + problem.rows)
        block = np.asarray(problem.X[rows]).reshape(-1, K.shape[0])
        H = shared
        if problem.W is not None:
            H = (by_subject @ problem.W[rows].T).reshape(n_components, n_components, -1)
            H = H + rho.astype(dtype)[:, :, None]
        part = np.ascontiguousarray(U[:, rows])
        M = (block @ K).T
        if centre is not None:
            M = M + np.diagonal(rho).astype(dtype)[:, None] * centre[:, rows]
        update_rows(part, M, H, sweeps)
        U[:, rows] = part
        Y += part @ block
    return Y


def _revive(problem: Problem, U: Float, Y: NDArray[np.float64]) -> int:
    """Restart components of U that became zero from a small constant; return how many."""
    dead = np.flatnonzero(~U.any(axis=1))
    U[dead] = DEAD
    Y[dead] = DEAD * problem.column_sum
    return int(dead.size)


def _revive_small(F: Float) -> int:
    dead = np.flatnonzero(~F.any(axis=0))
    F[:, dead] = DEAD
    return int(dead.size)


def _update_small(
    problem: Problem, U: Float, B: Float, G: Float, Y: NDArray[np.float64], sweeps: int
) -> tuple[Float, Float, float, int]:
    """Update B and G from the contraction Y; return them, the squared error, the revived."""
    n_bins, n_subjects = B.shape[0], G.shape[0]
    Y = Y.reshape(-1, n_bins, n_subjects)
    C = pair_gram(problem, U)
    outer = C * (G[:, :, None] * G[:, None, :])
    if problem.V is None:
        H = outer.sum(axis=0)
    else:
        H = np.einsum("ars,ta->rst", outer, problem.V, optimize=True)
    Bt = np.ascontiguousarray(B.T)
    update_rows(Bt, (Y @ G.T[:, :, None])[:, :, 0], H, sweeps)
    B = np.ascontiguousarray(Bt.T)
    revived = _revive_small(B)
    H_a = C * time_gram(B, problem.V, n_subjects)
    M = (B.T[:, None, :] @ Y)[:, 0]
    Gt = np.ascontiguousarray(G.T)
    update_rows(Gt, M, np.ascontiguousarray(H_a.transpose(1, 2, 0)), sweeps)
    G = np.ascontiguousarray(Gt.T)
    revived += _revive_small(G)
    cross = float(np.sum(M * G.T))
    square = float(np.sum((G[:, None] @ H_a)[:, 0] * G))
    return B, G, max(problem.norm2 - 2 * cross + square, 0.0), revived


def _unit(B: Float, G: Float, *rows: Float | None) -> tuple[Float, Float]:
    """Move the scale of B and G into arrays (R, P), in place; return B and G with unit columns."""
    b = np.maximum(np.linalg.norm(B, axis=0), np.finfo(np.float64).tiny)
    g = np.maximum(np.linalg.norm(G, axis=0), np.finfo(np.float64).tiny)
    for array in rows:
        if array is not None:
            array *= (b * g).astype(array.dtype)[:, None]
    return B / b, G / g


def _start(problem: Problem, rank: int, rng: np.random.Generator) -> Factors:
    """Return uniform random factors whose model has the norm of X on the observed cells.

    Rows without any observed cell start at 0. No data would ever move them, and their random
    values would count in the lengths of the columns.
    """
    n_pairs, n_bins, n_subjects = problem.X.shape
    U = rng.random((rank, n_pairs)).astype(problem.X.dtype)
    B, G = rng.random((n_bins, rank)), rng.random((n_subjects, rank))
    pairs, bins, subjects = problem.observed_rows()
    U[:, ~pairs] = B[~bins] = G[~subjects] = 0.0
    gram = pair_gram(problem, U) * time_gram(B, problem.V, n_subjects)
    norm2 = float(np.einsum("ar,ars,as->", G, gram, G, optimize=True))
    scale = (problem.norm2 / max(norm2, np.finfo(np.float64).tiny)) ** (1 / 6)
    return U * problem.X.dtype.type(scale), B * scale, G * scale


def _given(problem: Problem, start: Factors) -> Factors:
    """Return copies of given factors as `hals` changes them: U (R, P) in the dtype of X."""
    U, B, G = (np.nan_to_num(factor) for factor in start)
    pairs: Float = np.ascontiguousarray(U.T).astype(problem.X.dtype)
    return pairs, B.astype(np.float64), G.astype(np.float64)


def hals(
    problem: Problem,
    rank: int,
    *,
    rng: np.random.Generator | None = None,
    start: Factors | None = None,
    ridge: float = 0.01,
    tol: float = 1e-5,
    max_iter: int = 300,
    inner: int = 3,
    debias: bool = False,
) -> NTFResult:
    """Run one restart of masked HALS.

    Parameters
    ----------
    problem : Problem
        Tensor and masks.
    rank : int
        Number of components.
    rng : numpy.random.Generator, optional
        Draws the start; needed unless ``start`` is given.
    start : tuple of ndarray, optional
        U (P, R), B (T, R), G (A, R) to start from.
    ridge, tol, max_iter, inner, debias
        As in `factorise`.

    Returns
    -------
    NTFResult
        Components by descending weight.
    """
    if start is not None:
        U, B, G = _given(problem, start)
    elif rng is not None:
        U, B, G = _start(problem, rank, rng)
    else:
        raise ValueError("hals needs a generator or a start")
    norm2 = max(problem.norm2, np.finfo(np.float64).tiny)
    errors: list[float] = [np.inf]
    losses: list[float] = []
    revived, converged = 0, False
    centre: Float | None = None
    while len(losses) < max_iter and not converged:
        B, G = _unit(B, G, U, centre)
        Y = _update_pairs(problem, U, B, G, ridge=ridge, sweeps=inner, centre=centre)
        revived += _revive(problem, U, Y)
        B, G, error2, more = _update_small(problem, U, B, G, Y, inner)
        revived += more
        errors.append(float(np.sqrt(error2 / norm2)))
        losses.append((error2 + _penalty(problem, U, B, G, ridge, centre)) / norm2)
        converged = abs(errors[-2] - errors[-1]) < tol
        if converged and debias and centre is None and not problem.complete:
            centre, converged = U.copy(), False
    result = _ordered(problem, U, B, G)
    return replace(
        result,
        loss_history=np.array(losses),
        relative_error=errors[-1],
        converged=converged,
        revived=revived,
    )


def _penalty(
    problem: Problem, U: Float, B: Float, G: Float, ridge: float, centre: Float | None
) -> float:
    """Return twice the ridge term of the loss."""
    if problem.complete:
        return 0.0
    off = U if centre is None else U - centre
    lengths = [np.einsum("ij,ij->j", F, F, dtype=np.float64) for F in (off.T, B, G)]
    return ridge * float(np.prod(lengths, axis=0).sum())


def _ordered(problem: Problem, U: Float, B: Float, G: Float) -> NTFResult:
    """Normalise columns and order components by weight, ties by the centre of mass in time."""
    B, G = _unit(B, G, U)
    weights = np.linalg.norm(U.astype(np.float64), axis=1)
    dead = weights <= 10 * DEAD * np.sqrt(U.shape[1])
    centre = np.arange(B.shape[0]) @ B / np.maximum(B.sum(axis=0), np.finfo(np.float64).tiny)
    order = np.lexsort((centre, -weights))
    pairs = (U / np.maximum(weights, np.finfo(np.float64).tiny)[:, None]).T[:, order]
    factors = (pairs.astype(U.dtype), B[:, order].astype(U.dtype), G[:, order].astype(U.dtype))
    for factor, observed in zip(factors, problem.observed_rows(), strict=True):
        factor[~observed] = np.nan
    return NTFResult(weights[order], factors, np.empty(0), np.nan, False, int(dead.sum()))


def fit_pairs(
    problem: Problem, B: Float, G: Float, *, ridge: float = 0.01, sweeps: int = 50
) -> Float:
    """Return the pair factor (P, R) that fits X best with B and G held fixed."""
    U = np.zeros((B.shape[1], problem.X.shape[0]), dtype=problem.X.dtype)
    B64, G64 = (np.nan_to_num(factor).astype(np.float64) for factor in (B, G))
    _update_pairs(problem, U, B64, G64, ridge=ridge, sweeps=sweeps)
    return U.T


def subject_errors(problem: Problem, result: NTFResult) -> tuple[NDArray[np.float64], float]:
    """Return the relative error on the observed cells by subject, and over all.

    Parameters
    ----------
    problem : Problem
        Tensor and masks.
    result : NTFResult
        Its factorisation.

    Returns
    -------
    errors : ndarray, shape (A,)
        NaN for a subject without signal.
    total : float
        Over all subjects.
    """
    U, B, G = (np.nan_to_num(factor).astype(np.float64) for factor in result.factors)
    U = U * result.weights
    Y = np.zeros((U.shape[1], problem.column_sum.size))
    for start in range(0, len(U), problem.rows):
        rows = slice(start, start + problem.rows)
        Y += U[rows].T @ np.asarray(problem.X[rows]).reshape(-1, Y.shape[1])
    cross = np.einsum("rta,tr,ar->a", Y.reshape(-1, len(B), len(G)), B, G, optimize=True)
    gram = pair_gram(problem, U.T) * time_gram(B, problem.V, len(G))
    square = np.einsum("ar,ars,as->a", G, gram, G, optimize=True)
    norm2 = problem.subject_norm2
    left = np.maximum(norm2 - 2 * cross + square, 0.0)
    errors = np.sqrt(np.divide(left, norm2, out=np.full(left.shape, np.nan), where=norm2 > 0))
    total = np.sqrt(left.sum() / max(problem.norm2, np.finfo(np.float64).tiny))
    return errors, float(total)


def factorise(
    problem: Problem,
    rank: int,
    rngs: Sequence[np.random.Generator],
    *,
    ridge: float = 0.01,
    tol: float = 1e-5,
    max_iter: int = 300,
    inner: int = 3,
    debias: bool = False,
    once: Once = at_once,
) -> NTFResult:
    """Run one restart per generator and return the best.

    Parameters
    ----------
    problem : Problem
        Tensor and masks.
    rank : int
        Number of components.
    rngs : sequence of numpy.random.Generator
        One stream per restart.
    ridge : float
        Penalty on U relative to its Gram matrix, used only when something is missing. Without
        it the coefficient of a pair that was seen only in animals of near zero loading is
        almost free and explodes.
    tol : float
        Stop when the relative error changes by less.
    max_iter : int
        Iterations at most.
    inner : int
        Sweeps per mode and iteration.
    debias : bool
        Go on after convergence with the ridge pulling towards the solution instead of 0
        (iterated Tikhonov), which takes most of the shrinkage away: better for tensors close to
        the model, worse for noisy ones.
    once : callable
        ``once(name, compute)`` returns what `compute` gives, or gave when it was called before the
        job was killed.

    Returns
    -------
    NTFResult
        The restart of lowest final error, with all of them under ``restarts``.

    Raises
    ------
    ValueError
        If the rank is too large for the tensor.
    """
    limit = min(problem.X.shape[0], problem.X.shape[1], 50)
    if not 1 <= rank <= limit:
        raise ValueError(
            f"rank {rank} is out of range: 1 to {limit} for {problem.X.shape[0]} pairs and "
            f"{problem.X.shape[1]} time bins (50 at most)"
        )
    options: dict[str, Any] = {"ridge": ridge, "tol": tol, "max_iter": max_iter, "inner": inner}
    runs = tuple(
        once(
            f"restart-{k}",
            functools.partial(hals, problem, rank, rng=rng, debias=debias, **options),
        )
        for k, rng in enumerate(rngs)
    )
    best = min(runs, key=lambda run: run.relative_error)
    return replace(best, restarts=runs)
