"""The NTF connectomes for Python users: the whole chain, and its pieces on their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from neuropipe.analyses.ntf import stages
from neuropipe.analyses.ntf.checks import prepare
from neuropipe.analyses.ntf.kernels.factorise import NTFResult, factorise
from neuropipe.analyses.ntf.kernels.problem import Problem
from neuropipe.analyses.ntf.kernels.rank import choose_rank, held_out_errors, held_out_folds
from neuropipe.analyses.ntf.spec import ANALYSIS, AffinitySettings, Settings
from neuropipe.analyses.ntf.tensor import build_tensor
from neuropipe.seeds import stage_generator
from neuropipe.threads import one_blas_thread

__all__ = ["affinity_tensor", "fit", "fit_ntf", "select_rank"]


def fit(data: xr.Dataset, settings: Settings | None = None, seed: int = 0) -> xr.Dataset:
    """Run every stage: affinity, choice of the rank, factorisation, communities.

    Parameters
    ----------
    data : xarray.Dataset
        ``activity(subject, neuron, time)``, NaN where a neuron was not identified; optional
        epoch table and ``neuron_class``.
    settings : Settings, optional
        Defaults if not given.
    seed : int
        Every random number derives from it.

    Returns
    -------
    xarray.Dataset
        Components with graphs, time courses, loadings of animals and communities.

    Raises
    ------
    DataError
        If the input cannot be used; the message says what was found.
    """
    settings = Settings() if settings is None else settings
    scatter = ANALYSIS.scatter(settings)
    parts: dict[str, list[xr.Dataset]] = {}
    found: list[xr.Dataset] = []
    for stage in ANALYSIS.stages:
        keys: list[dict[str, int]] = scatter.get(stage, [{}])
        function = getattr(stages, stage)
        found = [function(data, settings, seed, parts, **key) for key in keys]
        if found:
            parts[stage] = found
    return found[0]


@one_blas_thread
def affinity_tensor(data: xr.Dataset, settings: AffinitySettings | None = None) -> xr.Dataset:
    """Return the affinity of all pairs of neurons: stage 1 on its own.

    Parameters
    ----------
    data : xarray.Dataset
        ``activity(subject, neuron, time)``.
    settings : AffinitySettings, optional
        Defaults if not given.

    Returns
    -------
    xarray.Dataset
        ``affinity(pair, time_bin, subject)`` and its masks ``pair_observed(pair, subject)``,
        ``time_observed(time_bin, subject)``.
    """
    settings = AffinitySettings() if settings is None else settings
    return build_tensor(prepare(data, settings), settings)


def _masks(
    X: Any,  # noqa: N803 - as in the equations
    W: ArrayLike | None,  # noqa: N803
    V: ArrayLike | None,  # noqa: N803
) -> tuple[NDArray[np.bool_] | None, NDArray[np.bool_] | None]:
    if len(X.shape) != 3:
        raise ValueError(f"X must have three dims (pair, time bin, subject), found {X.shape}")
    shapes = {"W": (X.shape[0], X.shape[2]), "V": (X.shape[1], X.shape[2])}
    masks = {"W": W, "V": V}
    for name, mask in masks.items():
        if mask is not None and np.shape(mask) != shapes[name]:
            raise ValueError(f"{name} has shape {np.shape(mask)}, expected {shapes[name]}")
    rows, bins = (None if m is None else np.asarray(m, dtype=np.bool_) for m in masks.values())
    return rows, bins


@one_blas_thread
def fit_ntf(
    X: Any,  # noqa: N803 - as in the equations
    rank: int,
    *,
    W: ArrayLike | None = None,  # noqa: N803
    V: ArrayLike | None = None,  # noqa: N803
    restarts: int = 8,
    ridge: float = 0.01,
    tol: float = 1e-5,
    max_iter: int = 300,
    inner: int = 3,
    debias: bool = False,
    seed: int = 0,
) -> NTFResult:
    """Factorise any non-negative three-way tensor with missing fibres.

    Parameters
    ----------
    X : array, shape (P, T, A)
        Non-negative, float32 or float64; 0 in missing cells. A memory map or a zarr array is
        read block by block.
    rank : int
        Number of components.
    W : array of bool, shape (P, A), optional
        Row observed in subject.
    V : array of bool, shape (T, A), optional
        Bin observed in subject.
    restarts : int
        Random starts.
    ridge : float
        Penalty on the row factor, relative to its Gram matrix; used only when cells are missing.
    tol : float
        Stop when the relative error changes by less.
    max_iter, inner : int
        Iterations at most; sweeps per mode and iteration.
    debias : bool
        Take most of the ridge's shrinkage away after convergence: better for tensors close to
        the model, worse for noisy ones.
    seed : int
        Seed of the starts.

    Returns
    -------
    NTFResult
        The best restart, with all of them under ``restarts``.

    Raises
    ------
    ValueError
        If X is negative or not finite, a mask has the wrong shape, or the rank is too large.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> U, B, G = rng.random((30, 2)), rng.random((20, 2)), rng.random((4, 2))
    >>> fit_ntf(np.einsum("pr,tr,ar->pta", U, B, G), 2, restarts=2).relative_error < 0.05
    True
    """
    problem = Problem.build(X, *_masks(X, W, V))
    rngs = [stage_generator(seed, "fit", index) for index in range(restarts)]
    options: dict[str, Any] = {"ridge": ridge, "tol": tol, "max_iter": max_iter, "inner": inner}
    return factorise(problem, rank, rngs, debias=debias, **options)


@one_blas_thread
def select_rank(
    X: Any,  # noqa: N803 - as in the equations
    ranks: Sequence[int],
    *,
    W: ArrayLike | None = None,  # noqa: N803
    V: ArrayLike | None = None,  # noqa: N803
    folds: int = 4,
    seed: int = 0,
    **options: Any,
) -> tuple[int, NDArray[np.float64]]:
    """Choose a rank by the error on held-out cells.

    Held out are (row, subject) fibres, or (row, block of 10 bins) when there is one subject.

    Parameters
    ----------
    X, W, V
        As in `fit_ntf`.
    ranks : sequence of int
        Candidates.
    folds : int
        Folds, each of 10 % of the cells.
    seed : int
        Seed of folds and starts.
    **options
        ``ridge``, ``tol``, ``max_iter``, ``inner`` of `fit_ntf`.

    Returns
    -------
    rank : int
        Smallest rank within one standard error of the lowest error.
    errors : ndarray, shape (n_ranks, folds)
        Relative errors on the held-out cells.

    Raises
    ------
    ValueError
        If no row was seen in two subjects, or in two blocks of time.
    """
    rows, bins = _masks(X, W, V)
    rows = np.ones((X.shape[0], X.shape[2]), dtype=bool) if rows is None else rows
    rng = stage_generator(seed, "folds")
    cells = held_out_folds(rows, X.shape[1], folds=folds, rng=rng, V=bins)
    errors = np.empty((len(ranks), folds))
    for row, rank in zip(errors, ranks, strict=True):
        rngs = [stage_generator(seed, f"rank-{rank}-fold", k) for k in range(folds)]
        row[:] = held_out_errors(X, rows, bins, cells, rank, rngs, **options)
    return choose_rank(ranks, errors), errors
