"""The stages of the NTF connectomes: affinity, rank, fit, communities."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuropipe.analyses.ntf.checks import ordered, prepare
from neuropipe.analyses.ntf.connectome import compare_connectome
from neuropipe.analyses.ntf.graphs import find_communities
from neuropipe.analyses.ntf.kernels.bootstrap import bootstrap
from neuropipe.analyses.ntf.kernels.factorise import NTFResult, factorise, subject_errors
from neuropipe.analyses.ntf.kernels.problem import Problem
from neuropipe.analyses.ntf.kernels.rank import (
    choose_rank,
    held_out_errors,
    held_out_folds,
    restart_similarity,
)
from neuropipe.analyses.ntf.spec import ANALYSIS, Settings
from neuropipe.analyses.ntf.tensor import build_tensor, load_problem
from neuropipe.errors import DataError, Issue, issues_from_json, issues_to_json
from neuropipe.seeds import stage_generator
from neuropipe.store.code import code_fingerprint
from neuropipe.store.pieces import Pieces, signature_of
from neuropipe.threads import one_blas_thread

__all__ = ["affinity", "communities", "fit", "rank"]

Parts = Mapping[str, Sequence[xr.Dataset]]
MAX_RANK, STABLE, LEVEL = 50, 0.9, 0.05


@one_blas_thread
def affinity(data: xr.Dataset, settings: Settings, seed: int, parts: Parts) -> xr.Dataset:
    """Compute the affinity tensor of all animals.

    Parameters
    ----------
    data : xarray.Dataset
        ``activity(subject, neuron, time)``, NaN where missing.
    settings : Settings
        Uses ``affinity`` and ``max_memory_gb``.
    seed : int
        Not used: nothing is drawn.
    parts : mapping
        Not used.

    Returns
    -------
    xarray.Dataset
        See `neuropipe.analyses.ntf.tensor.build_tensor`.
    """
    return build_tensor(prepare(data, settings.affinity), settings.affinity, settings.max_memory_gb)


def _options(settings: Settings) -> dict[str, Any]:
    return {
        "ridge": settings.ridge,
        "tol": settings.tol,
        "max_iter": settings.max_iter,
        "inner": settings.inner,
    }


def _pieces(
    folder: Path | None, problem: Problem, settings: Settings, seed: int, stage: str, rank: int
) -> Pieces:
    """Return the keeper of what a killed job of this tensor and these settings had done."""
    if folder is None:
        return Pieces(None)
    # Sums over pairs stand for the tensor, which may be larger than memory.
    tensor = (problem.norm2, problem.subject_norm2, problem.column_sum, problem.W, problem.V)
    used = ANALYSIS.for_stage(settings, stage)
    signature = signature_of(
        *tensor, str(problem.X.shape), str(problem.X.dtype), json.dumps(used, sort_keys=True),
        seed, rank, code_fingerprint(ANALYSIS.code_modules),
    )  # fmt: skip
    return Pieces(folder, signature, (NTFResult,))


def _generators(seed: int, stage: str, count: int) -> list[np.random.Generator]:
    return [stage_generator(seed, stage, index) for index in range(count)]


def _largest_rank(problem: Problem) -> int:
    return min(problem.X.shape[0], problem.X.shape[1], MAX_RANK)


def _held_out_errors(
    problem: Problem, part: xr.Dataset, settings: Settings, seed: int, rank: int, pieces: Pieces
) -> NDArray[np.float64]:
    """Return the held-out error of each fold, NaN where nothing can be held out."""
    pairs, bins = part["pair_observed"].values, part["time_observed"].values
    try:
        # Folds do not depend on the rank, so that ranks are compared on the same cells.
        rng = stage_generator(seed, "folds")
        folds = held_out_folds(pairs, len(bins), folds=settings.cv_folds, rng=rng, V=bins)
    except ValueError:
        return np.full(settings.cv_folds, np.nan)
    rngs = _generators(seed, f"rank-{rank}-fold", len(folds))
    return held_out_errors(
        problem.X, pairs, bins, folds, rank, rngs, once=pieces, **_options(settings)
    )


@one_blas_thread
def rank(
    data: xr.Dataset,
    settings: Settings,
    seed: int,
    parts: Parts,
    *,
    rank: int,
    checkpoint: Path | None = None,
) -> xr.Dataset:
    """Measure one rank: error on held-out cells, similarity of restarts.

    Parameters
    ----------
    data : xarray.Dataset
        Not used.
    settings : Settings
        Folds, restarts and optimiser.
    seed : int
        Seed of the job.
    parts : mapping
        ``affinity``.
    rank : int
        Number of components.
    checkpoint : Path, optional
        Folder that keeps folds and restarts, from which a killed job goes on.

    Returns
    -------
    xarray.Dataset
        ``cv_error(rank, fold)``, ``fms_restart(rank, restart, restart_2)``, ``restart_error(rank,
        restart)``; NaN when the tensor is too small for the rank.
    """
    (part,) = parts["affinity"]
    problem = load_problem(part, settings.max_memory_gb)
    pieces = _pieces(checkpoint, problem, settings, seed, "rank", rank)
    count = settings.restarts
    errors, similarity = np.full(settings.cv_folds, np.nan), np.full((count, count), np.nan)
    final, issues, converged = np.full(count, np.nan), [], 1
    if rank > _largest_rank(problem):
        message = f"rank {rank} exceeds {_largest_rank(problem)}, the most the tensor allows"
        issues.append(Issue("RANK_TOO_LARGE", f"rank {rank}", message, "lower max_rank", "info"))
    else:
        errors = _held_out_errors(problem, part, settings, seed, rank, pieces)
        rngs = _generators(seed, f"rank-{rank}", count)
        result = factorise(problem, rank, rngs, once=pieces, **_options(settings))
        similarity = restart_similarity(result.restarts)
        final = np.array([one.relative_error for one in result.restarts])
        converged = int(result.converged)
    return xr.Dataset(
        {
            "cv_error": (("rank", "fold"), errors[None]),
            "fms_restart": (("rank", "restart", "restart_2"), similarity[None]),
            "restart_error": (("rank", "restart"), final[None]),
        },
        coords={"rank": [rank]},
        attrs={"converged": converged, "issues": issues_to_json(issues)},
    )


def _selected(
    settings: Settings, ranks: Sequence[xr.Dataset], limit: int
) -> tuple[int, list[Issue]]:
    """Return the rank to use and what to say about it."""
    if isinstance(settings.rank, int):
        if settings.rank > limit:
            raise DataError(f"rank {settings.rank} is too large: the tensor allows {limit} at most")
        return settings.rank, []
    table = xr.concat([part["cv_error"] for part in ranks], "rank").sortby("rank")
    table = table.where(table["rank"] <= limit, drop=True)
    candidates = [int(r) for r in table["rank"].values]
    if not candidates:
        raise DataError(f"rank {settings.rank}: the tensor allows {limit} at most")
    if not np.isfinite(table.values).all():
        message = (
            "no pair was seen in two animals (or two blocks of time); the smallest rank is used"
        )
        return candidates[0], [Issue("RANK_NOT_TESTED", "rank", message, "give rank an integer")]
    return choose_rank(candidates, table.values), []


def _fit_issues(
    result: NTFResult, similarity: NDArray[np.float64], settings: Settings
) -> list[Issue]:
    issues = []
    stuck = [k for k, one in enumerate(result.restarts) if not one.converged]
    if stuck:
        issues.append(
            Issue(
                "NOT_CONVERGED",
                f"restarts {stuck}",
                f"{len(stuck)} of {settings.restarts} restarts reached max_iter "
                f"{settings.max_iter}; the one used {'did' if result.converged else 'did not'} "
                "converge",
                "raise max_iter, or lower the rank",
            )
        )
    if result.dead_components:
        message = f"{result.dead_components} of {result.weights.size} components are empty"
        issues.append(Issue("DEAD_COMPONENTS", "rank", message, "lower the rank"))
    other = similarity[np.triu_indices(len(similarity), 1)]
    if other.size and np.median(other) < STABLE:
        issues.append(
            Issue(
                "UNSTABLE_COMPONENTS",
                "rank",
                f"restarts agree with a median factor match score of {np.median(other):.2f} "
                f"(stable: {STABLE} or more) at rank {result.weights.size}",
                "lower the rank, or check that time is aligned across animals",
            )
        )
    return issues


@one_blas_thread
def fit(
    data: xr.Dataset,
    settings: Settings,
    seed: int,
    parts: Parts,
    *,
    checkpoint: Path | None = None,
) -> xr.Dataset:
    """Choose the rank and factorise the tensor.

    Parameters
    ----------
    data : xarray.Dataset
        Not used.
    settings : Settings
        Rank, restarts and optimiser.
    seed : int
        Seed of the job.
    parts : mapping
        ``affinity`` and, unless the rank is given, ``rank``.
    checkpoint : Path, optional
        Folder that keeps restarts and resamplings, from which a killed job goes on.

    Returns
    -------
    xarray.Dataset
        Factors, weights, errors and the measures of rank selection.

    Raises
    ------
    DataError
        If the tensor is too small for the rank.
    """
    (part,) = parts["affinity"]
    problem = load_problem(part, settings.max_memory_gb)
    ranks = parts.get("rank", ())
    used, issues = _selected(settings, ranks, _largest_rank(problem))
    rngs = _generators(seed, "fit", settings.restarts)
    pieces = _pieces(checkpoint, problem, settings, seed, "fit", used)
    result = factorise(problem, used, rngs, once=pieces, **_options(settings))
    similarity = restart_similarity(result.restarts)
    issues += _fit_issues(result, similarity, settings)
    dataset = _factors(result, problem, part).merge(_selection(ranks, settings, used, similarity))
    if settings.bootstrap:
        draws = _generators(seed, "bootstrap", settings.bootstrap)
        dataset = dataset.merge(_intervals(problem, result, draws, settings, pieces))
    return dataset.assign_attrs(
        converged=int(result.converged),
        issues=issues_to_json(issues),
        rank_selected=used,
        dead_components=result.dead_components,
    )


def _factors(result: NTFResult, problem: Problem, part: xr.Dataset) -> xr.Dataset:
    pairs, time, subjects = result.factors
    length = max(one.loss_history.size for one in result.restarts)
    history = np.full((len(result.restarts), length), np.nan)
    for row, one in zip(history, result.restarts, strict=True):
        row[: one.loss_history.size] = one.loss_history
    error, total = subject_errors(problem, result)
    return xr.Dataset(
        {
            "component_weight": ("component", result.weights),
            "pair_factor": (("component", "pair"), pairs.T),
            "time_factor": (("component", "time_bin"), time.T),
            "subject_factor": (("component", "subject"), subjects.T),
            "loss_history": (("restart", "iteration"), history),
            "restart_error": ("restart", np.array([r.relative_error for r in result.restarts])),
            "restart_converged": ("restart", np.array([r.converged for r in result.restarts])),
            "reconstruction_error": ("subject", error),
            "explained_variance": ((), 1.0 - total**2),
            "pair_observed": part["pair_observed"],
            "time_observed": part["time_observed"],
            "silent": part["silent"],
        },
        coords={"component": np.arange(result.weights.size)},
    )


def _selection(
    ranks: Sequence[xr.Dataset], settings: Settings, used: int, similarity: NDArray[np.float64]
) -> xr.Dataset:
    """Return the measures of all ranks, or of the one that was given."""
    if ranks:
        names = ["cv_error", "fms_restart"]
        return xr.concat([part[names] for part in ranks], "rank").sortby("rank").drop_attrs()
    return xr.Dataset(
        {
            "cv_error": (("rank", "fold"), np.full((1, settings.cv_folds), np.nan)),
            "fms_restart": (("rank", "restart", "restart_2"), similarity[None]),
        },
        coords={"rank": [used]},
    )


def _intervals(
    problem: Problem,
    result: NTFResult,
    draws: Sequence[np.random.Generator],
    settings: Settings,
    pieces: Pieces,
) -> xr.Dataset:
    found = bootstrap(problem, result, draws, once=pieces, **_options(settings))
    return xr.Dataset(
        {
            "time_factor_interval": (
                ("component", "time_bin", "quantile"),
                found.time_factor.transpose(2, 1, 0),
            ),
            "subject_factor_interval": (
                ("component", "subject", "quantile"),
                found.subject_factor.transpose(2, 1, 0),
            ),
            "pair_inclusion": (("component", "pair"), found.inclusion.T),
        },
        coords={"quantile": [0.05, 0.95]},
    )


def _null_issues(settings: Settings) -> list[Issue]:
    """Return an issue if no community can be significant, however strong it is."""
    count = settings.communities.null_draws
    least = 1 / (count + 1)
    if settings.significance == "none" or least < LEVEL:
        return []
    return [
        Issue(
            "TOO_FEW_NULLS",
            "communities.null_draws",
            f"the smallest possible p is 1/({count}+1) = {least:.3g}; no community can reach "
            f"p < {LEVEL:g}",
            "raise communities.null_draws to at least 20",
        )
    ]


@one_blas_thread
def communities(data: xr.Dataset, settings: Settings, seed: int, parts: Parts) -> xr.Dataset:
    """Find the communities of each component and gather the result.

    Parameters
    ----------
    data : xarray.Dataset
        Input; traces, epochs and classes are copied for the figures.
    settings : Settings
        Uses ``communities``, ``significance`` and, for shifted traces, ``affinity`` and the
        optimiser.
    seed : int
        Seed of the job.
    parts : mapping
        ``affinity``, ``fit`` and, if it ran, ``rank``.

    Returns
    -------
    xarray.Dataset
        The result of the analysis.
    """
    (fitted,), (tensor,) = parts["fit"], parts["affinity"]
    issues = []
    for part in (tensor, *parts.get("rank", ()), fitted):
        issues += issues_from_json(part.attrs["issues"])
    issues += _null_issues(settings)
    kept = ordered(data).sel(subject=fitted["subject"].values)
    found = find_communities(fitted, kept, settings, seed)
    if "connectome_weight" in kept:
        wiring, told = compare_connectome(found, kept["connectome_weight"], seed)
        found = found.merge(wiring, combine_attrs="override").assign_attrs(wiring.attrs)
        issues += told
    copied = {
        name: kept[name]
        for name in (
            "epoch_name",
            "epoch_start",
            "epoch_stop",
            "epoch_subject",
            "neuron_class",
            "connectome_weight",
        )
        if name in kept
    }
    traces = kept["activity"].transpose("subject", "neuron", "time").astype(np.float32)
    attrs = {
        **fitted.attrs,
        **found.attrs,
        "issues": issues_to_json(issues),
        "dropped_subjects": tensor.attrs["dropped_subjects"],
        "affinity_mode": settings.affinity.mode,
        "significance": settings.significance,
        "affinity_settings": settings.affinity.model_dump_json(),
        "bin_width_s": tensor.attrs["bin_width_s"],
        "align": str(data.attrs.get("align", "")),
    }
    merged = xr.merge([fitted, found, xr.Dataset({"activity": traces, **copied})], join="exact")
    return merged.assign_attrs(attrs)
