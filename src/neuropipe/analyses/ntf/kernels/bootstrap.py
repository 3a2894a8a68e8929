"""Uncertainty of a factorisation: animals drawn with replacement."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.ntf.kernels.factorise import Factors, NTFResult, Once, at_once, hals
from neuropipe.analyses.ntf.kernels.problem import Float, Problem, TensorLike
from neuropipe.stats.factor_match import factor_match

__all__ = ["Bootstrap", "bootstrap", "inclusion"]

QUANTILES = (0.05, 0.95)


@dataclass(frozen=True)
class Bootstrap:
    """Intervals of the factors over resampled sets of animals.

    Attributes
    ----------
    time_factor : ndarray, shape (2, n_bins, R)
        5 and 95 % quantiles of B; NaN in bins that nobody was recorded in.
    subject_factor : ndarray, shape (2, n_subjects, R)
        5 and 95 % quantiles of G over the draws that hold the animal; NaN if none does.
    inclusion : ndarray, shape (n_pairs, R)
        Share of the draws with an animal that has the pair in which it belongs to the component;
        NaN if there is none.
    """

    time_factor: Float
    subject_factor: Float
    inclusion: Float


@dataclass(frozen=True)
class _Drawn:
    """View of a tensor with other subjects."""

    X: TensorLike
    subjects: NDArray[np.intp]

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.X.shape[:2], self.subjects.size)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.X.dtype

    def __getitem__(self, rows: slice) -> Float:
        return np.ascontiguousarray(np.asarray(self.X[rows])[:, :, self.subjects])


def inclusion(U: Float) -> NDArray[np.bool_]:
    """Return which pairs belong to each component: above half of its 0.98 quantile; not NaN."""
    threshold = 0.5 * np.nanquantile(U, 0.98, axis=0)
    result: NDArray[np.bool_] = np.greater(U, threshold)
    return result


def bootstrap(
    problem: Problem,
    best: NTFResult,
    rngs: Sequence[np.random.Generator],
    once: Once = at_once,
    **options: Any,
) -> Bootstrap:
    """Refit from the best solution on animals drawn with replacement.

    Parameters
    ----------
    problem : Problem
        Tensor and masks.
    best : NTFResult
        Solution to start from and to match components with.
    rngs : sequence of numpy.random.Generator
        One stream per draw.
    once : callable
        Keeps the factors of each draw, as in `factorise`.
    **options
        Of `hals`.

    Returns
    -------
    Bootstrap
    """
    n_subjects = problem.X.shape[2]
    times, loadings = [], []
    included, held = np.zeros(best.factors[0].shape), np.zeros((best.factors[0].shape[0], 1))
    for k, rng in enumerate(rngs):
        drawn = rng.integers(n_subjects, size=n_subjects)
        refit = functools.partial(_refit, problem, best, drawn, options)
        U, B, G = once(f"draw-{k}", refit)
        known = [np.nan_to_num(factor) for factor in (*best.factors[:2], U, B)]
        columns = factor_match(known[:2], known[2:])[1]
        times.append(B[:, columns])
        loading = np.full((n_subjects, columns.size), np.nan)
        # Columns have unit length over the animals drawn; the estimate has it over all of them.
        length = np.linalg.norm(np.nan_to_num(best.factors[2][drawn]), axis=0)
        loading[drawn] = G[:, columns] * length
        loadings.append(loading)
        included += inclusion(U[:, columns])
        held += np.isfinite(U[:, :1])
    share = np.divide(included, held, out=np.full(included.shape, np.nan), where=held > 0)
    return Bootstrap(_quantiles(np.stack(times)), _quantiles(np.stack(loadings)), share)


def _quantiles(draws: Float) -> Float:
    """Return the quantiles over the draws that are not NaN; NaN where all are."""
    result = np.full((len(QUANTILES), *draws.shape[1:]), np.nan)
    seen = np.isfinite(draws[:, :, 0]).any(axis=0)
    result[:, seen] = np.nanquantile(draws[:, seen], QUANTILES, axis=0)
    return result


def _refit(
    problem: Problem, best: NTFResult, drawn: NDArray[np.intp], options: dict[str, Any]
) -> Factors:
    W = None if problem.W is None else problem.W[:, drawn] > 0
    V = None if problem.V is None else problem.V[:, drawn] > 0
    resampled = Problem.build(_Drawn(problem.X, drawn), W, V)
    U, B, G = best.factors
    start = (U * best.weights, B, G[drawn])
    return hals(resampled, best.weights.size, start=start, **options).factors
