"""The mean map of all subjects and its test."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuropipe.analyses.trsa.checks import region_patterns
from neuropipe.analyses.trsa.group import centre_keys
from neuropipe.analyses.trsa.kernels.inference import max_statistic, sign_flips
from neuropipe.analyses.trsa.kernels.pairs import n_conditions, pair_index, to_square
from neuropipe.analyses.trsa.kernels.searchlight import Neighbours, searchlight_maxima
from neuropipe.analyses.trsa.map_places import AXES
from neuropipe.analyses.trsa.maps import fixed_models, map_comparator, subject_map
from neuropipe.analyses.trsa.spec import SearchlightSettings, Settings
from neuropipe.seeds import stage_generator

__all__ = ["searchlight_group"]

Floats = NDArray[np.float64]
LEAST_SUBJECTS = 5  # 2 ** 5 changes of sign are the fewest that reach p < 0.05
BY_SIGNS, BY_CONDITIONS = "signs of subjects", "permuted conditions"
SLACK = 1e-12


def _by_signs(values: Floats, draws: int, seed: int) -> Floats:
    """Return family-wise p of scores ``(n_models, n_subjects, n_centres)``."""
    p = np.full((len(values), values.shape[2]), np.nan)
    for k, rows in enumerate(values):
        seen = np.isfinite(rows).all(axis=0)
        if seen.any():
            rng = stage_generator(seed, "searchlight", k)
            p[k, seen] = max_statistic(sign_flips(rows[:, seen], draws, rng))
    return p


def _permuted(rows: Floats, draws: int, rng: np.random.Generator) -> Floats:
    """Return models ``(draws * n_models, n_pairs)`` with permuted conditions."""
    i, j = pair_index(n_conditions(rows.shape[1]))
    squares = to_square(rows)
    orders = [rng.permutation(squares.shape[-1]) for _ in range(draws)]
    return np.concatenate([squares[:, order[i], order[j]] for order in orders])


def _maps(
    data: xr.Dataset, joined: xr.Dataset, settings: Settings
) -> tuple[list[tuple[Floats, Neighbours]], str]:
    """Return patterns and neighbourhoods of every subject at the common centres."""
    wanted, parts, measure = centre_keys(joined), [], ""
    region = str(data["region"].values[0])
    for name in joined["subject"].values.astype(str):
        patterns = region_patterns(data, name, region)
        if patterns is None:
            continue
        own, _ = subject_map(data, name, patterns, settings)
        own_keys = centre_keys(xr.Dataset(coords=own.places.coords()))
        number = {key: k for k, key in enumerate(own_keys)}
        chosen = np.array([number[key] for key in wanted], dtype=np.int64)
        parts.append((own.values, own.places.near.take(chosen)))
        measure = own.measure
    return parts, measure


def _by_conditions(
    data: xr.Dataset, joined: xr.Dataset, mean: Floats, settings: Settings, seed: int
) -> Floats:
    """Return family-wise p of the mean map under models of permuted conditions.

    All subjects meet the same permutation: the test is of these subjects, for other conditions.
    """
    near = settings.searchlight or SearchlightSettings()
    names, rows = fixed_models(data, settings)
    order = [names.index(name) for name in joined["model"].values.astype(str)]
    rows = rows[order]
    null = _permuted(rows, near.permutations, stage_generator(seed, "searchlight-conditions"))
    parts, measure = _maps(data, joined, settings)
    drawn = searchlight_maxima(
        parts, null, measure=measure, method=map_comparator(settings), chunk_mb=near.chunk_mb
    ).reshape(-1, len(rows))
    best = np.vstack([np.nan_to_num(mean, nan=-np.inf).max(axis=1), drawn])
    above = (best[:, :, None] >= mean[None] - SLACK).mean(axis=0)
    return np.where(np.isfinite(mean), above, np.nan)


def searchlight_group(
    data: xr.Dataset, joined: xr.Dataset, settings: Settings, seed: int
) -> xr.Dataset:
    """Return the mean map of each model and its p, corrected for all centres.

    Five subjects or more are tested by their signs, fewer by permuted condition labels, which
    says nothing of other subjects.

    Parameters
    ----------
    data : xarray.Dataset
        Ordered input.
    joined : xarray.Dataset
        ``searchlight_score(subject, model, centre)`` at the centres that all subjects have.
    settings : Settings
    seed : int
    """
    near = settings.searchlight or SearchlightSettings()
    scores = joined["searchlight_score"].transpose("model", "subject", "centre")
    values = scores.values
    mean = np.where(np.isfinite(values).all(axis=1), values.mean(axis=1), np.nan)
    places = {key: data.attrs[key] for key in ("affine", "volume_shape") if key in data.attrs}
    attrs = {**joined["searchlight_score"].attrs, **places}
    found = xr.Dataset({"searchlight_score": (("model", "centre"), mean, attrs)})
    many = values.shape[1] >= LEAST_SUBJECTS
    if many and settings.inference.permutations:
        p = _by_signs(values, settings.inference.permutations, seed)
        found["searchlight_pvalue"] = (("model", "centre"), p, {"test": BY_SIGNS})
    elif not many and near.permutations:
        p = _by_conditions(data, joined, mean, settings, seed)
        found["searchlight_pvalue"] = (("model", "centre"), p, {"test": BY_CONDITIONS})
    kept = {name: joined[name] for name in (*AXES, "structure", "vertex") if name in joined}
    return found.assign_coords(kept | {"model": joined["model"].values})
