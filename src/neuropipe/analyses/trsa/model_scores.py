"""Scores of models in every region and at every time, with ceilings, bootstrap and tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.stats import wilcoxon

from neuropipe.analyses.trsa.kernels.bootstrap import SOURCES, dual_bootstrap
from neuropipe.analyses.trsa.kernels.ceiling import noise_ceiling
from neuropipe.analyses.trsa.kernels.compare import compare
from neuropipe.analyses.trsa.kernels.inference import (
    adjust,
    corrected_variance,
    max_statistic,
    repeat_corrected_variance,
    t_test,
)
from neuropipe.analyses.trsa.kernels.models import (
    Model,
    bootstrap_flexible,
    crossvalidated_scores,
)
from neuropipe.analyses.trsa.kernels.pairs import n_conditions
from neuropipe.analyses.trsa.kernels.permutation import permutation_null
from neuropipe.analyses.trsa.spec import InferenceSettings
from neuropipe.seeds import stage_generator

__all__ = ["FLEXIBLE_DRAWS", "model_scores", "resampled"]

Floats = NDArray[np.float64]
FLEXIBLE_DRAWS, REPEATS = 100, 2
LEAST_SIGNED_RANK, LEAST_SUBJECTS = 6, 3


def _variance(draws: Floats) -> Floats:
    """Return the variance over draws, NaN left out; NaN where fewer than two are left."""
    seen = np.isfinite(draws)
    count = seen.sum(axis=0)
    mean = np.where(seen, draws, 0.0).sum(axis=0) / np.maximum(count, 1)
    square = np.where(seen, (draws - mean) ** 2, 0.0).sum(axis=0)
    return np.asarray(np.where(count > 1, square / np.maximum(count - 1, 1), np.nan))


def _repeated(draws: Floats) -> Floats:
    """Return the repeat-corrected variance of each column, over the resamples that have it."""
    found = np.full(draws.shape[2], np.nan)
    for k in range(draws.shape[2]):
        own = draws[np.isfinite(draws[:, :, k]).all(axis=1), :, k]
        if len(own) > 1:
            found[k] = repeat_corrected_variance(own[:, :, None])[0]
    return found


def resampled(settings: InferenceSettings, n_subjects: int) -> tuple[str, ...]:
    """Return what can be resampled: subjects only if there are three or more."""
    wanted = tuple(settings.resample)
    if n_subjects < LEAST_SUBJECTS:
        wanted = tuple(name for name in wanted if name != "subject") or ("condition",)
    return wanted


@dataclass(frozen=True)
class _Draws:
    """Bootstrap scores ``(n_draws, n_models)`` and ceilings ``(n_draws, 2)`` by source."""

    scores: dict[str, Floats]
    ceilings: dict[str, Floats]
    repeats: dict[str, Floats] | None
    redrawn: int

    def variances(self, take: Callable[[Floats], Floats]) -> dict[str, Floats]:
        """Return variances of what ``take`` makes of the models' scores, by source.

        Resamples in which a model is constant have no score and are left out.
        """
        if self.repeats is None:
            return {source: _variance(take(draws)) for source, draws in self.scores.items()}
        return {source: _repeated(take(draws)) for source, draws in self.repeats.items()}

    def below_ceiling(self) -> dict[str, Floats]:
        """Return variances of lower ceiling minus score."""
        if self.repeats is None:
            gaps = {s: self.ceilings[s][:, :1] - draws for s, draws in self.scores.items()}
            return {s: _variance(gap) for s, gap in gaps.items()}
        # Drawn apart from the ceilings: the variance of the difference is at most this sum.
        own = self.variances(lambda draws: draws)
        return {s: own[s] + _variance(self.ceilings[s][:, 0]) for s in own}


def _draw(
    rows: Floats, models: list[Model], method: str, settings: InferenceSettings, seed: int
) -> _Draws:
    sources = resampled(settings, len(rows))
    fixed = all(model.kind == "fixed" for model in models)
    basis = np.concatenate([model.basis[:1] for model in models])
    made = dual_bootstrap(
        rows, basis, method=method, samples=settings.bootstrap, resample=sources,
        rng=stage_generator(seed, "bootstrap"),
    )  # fmt: skip
    if fixed:
        return _Draws(made.scores, made.ceilings, None, made.redrawn)
    wanted = {s: (s,) for s in SOURCES[:2] if s in sources}
    if len(wanted) == 2:
        wanted["both"] = ("subject", "condition")
    repeats = {
        source: bootstrap_flexible(
            rows, models, method=method, samples=min(FLEXIBLE_DRAWS, settings.bootstrap),
            rng=stage_generator(seed, f"flexible-{source}"), repeats=REPEATS, resample=names,
        )
        for source, names in wanted.items()
    }  # fmt: skip
    scores = {source: rows.mean(axis=1) for source, rows in repeats.items()}
    return _Draws(scores, made.ceilings, repeats, made.redrawn)


def _scores(rows: Floats, models: list[Model], method: str, seed: int) -> Floats:
    """Return scores ``(n_models, n_subjects)``; flexible models on subjects left out."""
    found = np.full((len(models), len(rows)), np.nan)
    flexible = [k for k, model in enumerate(models) if model.kind != "fixed"]
    for k, model in enumerate(models):
        if model.kind == "fixed":
            found[k] = compare(rows, model.basis, method)[:, 0]
    chosen = [models[k] for k in flexible]
    for s in range(len(rows) if flexible else 0):
        divided = [
            crossvalidated_scores(
                rows, chosen, method=method, test_subject=s,
                rng=stage_generator(seed, "held-out", s * REPEATS + repeat),
            )
            for repeat in range(REPEATS)
        ]  # fmt: skip
        found[flexible, s] = np.mean(divided, axis=0)
    return found


def _one(
    rows: Floats, models: list[Model], method: str, settings: InferenceSettings, seed: int
) -> dict[str, Floats]:
    """Return everything about one region at one time."""
    count = len(models)
    scores = _scores(rows, models, method, seed)
    estimate = scores.mean(axis=1)
    ceiling = np.array(noise_ceiling(rows, method))
    found = {"score": scores, "ceiling": ceiling}
    fixed = [k for k, model in enumerate(models) if model.kind == "fixed"]
    if settings.permutations and fixed:
        basis = np.concatenate([models[k].basis for k in fixed])
        rng = stage_generator(seed, "permutation")
        null = permutation_null(rows, basis, method, settings.permutations, rng)
        found["null"] = np.full((len(null), count), np.nan)
        found["null"][:, fixed] = null
    if len(rows) >= LEAST_SIGNED_RANK:
        found["signed_rank"] = np.array([_signed_rank(row) for row in scores])
    if settings.bootstrap:
        found |= _tested(rows, models, method, settings, seed, estimate, ceiling)
    return found


def _signed_rank(scores: Floats) -> float:
    if not np.isfinite(scores).all() or not scores.any():
        return np.nan
    return float(wilcoxon(scores, alternative="greater").pvalue)


def _tested(
    rows: Floats,
    models: list[Model],
    method: str,
    settings: InferenceSettings,
    seed: int,
    estimate: Floats,
    ceiling: Floats,
) -> dict[str, Floats]:
    """Return bootstrap scores, variances and p-values."""
    count, sizes = len(models), (len(rows), n_conditions(rows.shape[1]))
    draws = _draw(rows, models, method, settings, seed)
    main = "both" if "both" in draws.scores else next(iter(draws.scores))
    single = draws.variances(lambda scores: scores)
    variance, dof = corrected_variance(single, *sizes)
    parts = np.full((4, count), np.nan)
    for k, source in enumerate(SOURCES):
        if source in single:
            parts[k] = single[source]
    parts[3] = variance
    i, j = np.triu_indices(count, 1)
    pairwise = np.full((count, count), np.nan)
    if i.size:
        between, freedom = corrected_variance(
            draws.variances(lambda scores: scores[..., i] - scores[..., j]), *sizes
        )
        pairwise[i, j] = t_test(estimate[i] - estimate[j], between, freedom, two_sided=True)
        pairwise[j, i] = pairwise[i, j]
    gap, gap_dof = corrected_variance(draws.below_ceiling(), *sizes)
    ceilings = draws.ceilings[main]
    return {
        "bootstrap": draws.scores[main],
        "redrawn": np.asarray(float(draws.redrawn)),
        "variance": parts,
        "p_vs_zero": t_test(estimate, variance, dof),
        "p_vs_ceiling": t_test(ceiling[0] - estimate, gap, gap_dof),
        "p_pairwise": pairwise,
        "ceiling_se": np.sqrt(_variance(ceilings)),
    }


DIMS = {
    "score": ("model_score", ("model", "subject")),
    "ceiling": ("noise_ceiling", ("bound",)),
    "ceiling_se": ("noise_ceiling_se", ("bound",)),
    "bootstrap": ("model_score_bootstrap", ("bootstrap", "model")),
    "redrawn": ("n_redrawn", ()),
    "variance": ("variance_components", ("source", "model")),
    "p_vs_zero": ("p_vs_zero", ("model",)),
    "p_vs_ceiling": ("p_vs_ceiling", ("model",)),
    "p_pairwise": ("p_pairwise", ("model", "model_2")),
    "signed_rank": ("p_signed_rank", ("model",)),
}


def model_scores(
    rdms: xr.DataArray,
    models: dict[str, Model],
    method: str,
    settings: InferenceSettings,
    seed: int,
) -> xr.Dataset:
    """Score all models on the RDMs of every region (and time).

    Parameters
    ----------
    rdms : xarray.DataArray
        ``(subject, region, [time,] pair)``; NaN where a subject lacks a region.
    models : dict
        Name -> model, over the same pairs.
    method : str
        Comparator.
    settings : InferenceSettings
    seed : int
        The same resamples meet every region and time.
    """
    lead = rdms.dims[1:-1]
    shape = rdms.shape[1:-1]
    listed = list(models.values())
    results: dict[tuple[int, ...], dict[str, Floats]] = {}
    for place in np.ndindex(shape):
        values = rdms.values[(slice(None), *place)]
        present = np.isfinite(values).any(axis=1)
        if not present.any():
            continue
        found = _one(values[present], listed, method, settings, seed)
        scores = np.full((len(listed), len(values)), np.nan)
        scores[:, present] = found["score"]
        results[place] = {**found, "score": scores}
    coords = {"model": list(models), "model_2": list(models), "bound": ["lower", "upper"]}
    coords["source"] = [*SOURCES, "corrected"]
    gathered = _gathered(results, shape, lead).assign_coords(coords)
    return _adjusted(gathered.merge(_permutations(results, shape, lead, list(models))), settings)


def _gathered(
    results: dict[tuple[int, ...], dict[str, Floats]], shape: tuple[int, ...], lead: tuple[str, ...]
) -> xr.Dataset:
    found = xr.Dataset()
    for key, (name, dims) in DIMS.items():
        known = [one[key] for one in results.values() if key in one]
        if not known:
            continue
        stacked = np.full((*known[0].shape, *shape), np.nan)
        for place, one in results.items():
            if key in one:
                stacked[(..., *place)] = one[key]
        found[name] = ((*dims, *lead), stacked)
    return found


def _permutations(
    results: dict[tuple[int, ...], dict[str, Floats]],
    shape: tuple[int, ...],
    lead: tuple[str, ...],
    names: list[str],
) -> xr.Dataset:
    """Return p-values of label permutations, alone and over all models, regions and times."""
    known = {place: one["null"] for place, one in results.items() if "null" in one}
    if not known:
        return xr.Dataset()
    draws = len(next(iter(known.values())))
    null = np.full((draws, len(names), *shape), np.nan)
    for place, values in known.items():
        null[(slice(None), slice(None), *place)] = values
    seen = np.isfinite(null).all(axis=0)
    alone = np.where(seen, (null >= null[0] - 1e-12).mean(axis=0), np.nan)
    family = np.where(seen, max_statistic(np.where(seen, null, -np.inf)), np.nan)
    dims = ("model", *lead)
    return xr.Dataset({"p_permutation": (dims, alone), "p_permutation_family": (dims, family)})


def _adjusted(found: xr.Dataset, settings: InferenceSettings) -> xr.Dataset:
    """Add p-values corrected for the number of models (of pairs of models)."""
    for name in ("p_vs_zero", "p_vs_ceiling"):
        if name in found:
            values = np.apply_along_axis(adjust, 0, found[name].values, settings.correction)
            found[f"{name}_adjusted"] = (found[name].dims, values)
    if "p_pairwise" in found:
        raw = found["p_pairwise"].values
        i, j = np.triu_indices(raw.shape[0], 1)
        values = np.full(raw.shape, np.nan)
        if i.size:
            values[i, j] = np.apply_along_axis(adjust, 0, raw[i, j], settings.correction)
            values[j, i] = values[i, j]
        found["p_pairwise_adjusted"] = (found["p_pairwise"].dims, values)
    return found
