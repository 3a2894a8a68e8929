"""The RDMs of one subject in all its regions, or RDMs that the input brings."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuropipe.analyses.trsa.checks import region_patterns
from neuropipe.analyses.trsa.estimate import (
    Estimate,
    centres_of,
    chosen_measure,
    estimate,
    pair_coordinates,
)
from neuropipe.analyses.trsa.given_noise import given_covariance
from neuropipe.analyses.trsa.kernels.rdm import MEASURES
from neuropipe.analyses.trsa.maps import searchlight
from neuropipe.analyses.trsa.spec import Settings
from neuropipe.errors import DataError, Issue, issues_to_json
from neuropipe.seeds import stage_generator

__all__ = ["given_rdms", "subject_rdms"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Region:
    """RDMs of one region, by its position among the regions."""

    position: int
    rdms: Estimate
    n_channels: int


def given_rdms(data: xr.Dataset, subject: str | None) -> xr.Dataset:
    """Return ready RDMs in the form of the stage, pairs in the order of the labels.

    Raises
    ------
    DataError
        If a pair of conditions is missing.
    """
    if "pair" not in data.dims or "condition_i" not in data.coords:
        raise DataError("input: rdm needs the dim pair with coordinates condition_i, condition_j")
    for dim in ("region", "subject"):
        if dim not in data.dims:
            data = data.assign(rdm=data["rdm"].expand_dims({dim: ["all"]}))
    if subject is not None:
        data = data.sel(subject=[subject])
    first, second = (data[f"condition_{k}"].values.astype(str) for k in "ij")
    place: dict[tuple[str, str], int] = {}
    for k, (a, b) in enumerate(zip(first, second, strict=True)):
        place[a, b] = place[b, a] = k
    labels = np.unique(np.concatenate([first, second]))
    i, j = np.triu_indices(labels.size, 1)
    wanted = list(zip(labels[i], labels[j], strict=True))
    missing = [pair for pair in wanted if pair not in place]
    if missing:
        raise DataError(f"input: rdm lacks the pair {missing[0]} (and {len(missing) - 1} more)")
    time = ("time",) if "time" in data["rdm"].dims else ()
    rdms = data["rdm"].isel(pair=[place[pair] for pair in wanted])
    rdms = rdms.transpose("subject", "region", *time, "pair")
    base = xr.Dataset({"rdm": rdms}, coords={"condition": labels})
    return base.assign_coords(pair_coordinates(base)).assign_attrs(
        issues="[]",
        measure=str(data["rdm"].attrs.get("measure", data.attrs.get("measure", "given"))),
        crossvalidated=int(data.attrs.get("crossvalidated", 0)),
        runs=0,
    )


def subject_rdms(data: xr.Dataset, name: str, settings: Settings, seed: int) -> xr.Dataset:
    """Return the RDMs of one subject in all regions; NaN where it has no such region."""
    regions = data["region"].values.astype(str).tolist()
    time = data["time"].values.astype(np.float64) if "time" in data["patterns"].dims else None
    issues, found, maps = list[Issue](), list[_Region](), None
    for k, region in enumerate(regions):
        patterns = region_patterns(data, name, region)
        if patterns is None:
            continue
        given = given_covariance(data, settings.models, name, region, patterns.channels)
        patterns = replace(patterns, covariance=given)
        where = f"{name} {region}"
        if patterns.partial:
            message = f"{patterns.partial} channels miss some runs or conditions and are left out"
            issues.append(Issue("PARTIAL_CHANNELS", where, message, "", "info"))
        one, told = estimate(
            patterns,
            settings.rdm,
            time,
            settings.time,
            modality=str(data.attrs.get("modality", "")),
            where=where,
            rng=stage_generator(seed, f"rdm-{name}", k),
        )
        issues += told
        found.append(_Region(k, one, patterns.channels.size))
        if settings.searchlight is not None:
            maps, told = searchlight(data, name, patterns, settings)
            issues += told
    if not found:
        return xr.Dataset(attrs={"issues": issues_to_json(issues), "absent": name})
    result = _gathered(data, name, settings, found)
    if maps is not None:
        result = result.merge(maps.expand_dims(subject=[name]), combine_attrs="override")
    return result.assign_attrs(issues=issues_to_json(issues))


def _stacked(values: dict[int, Floats], count: int, fill: float = np.nan) -> Floats:
    """Return one row per region with a leading subject axis; absent regions hold ``fill``."""
    blank = np.full(np.shape(next(iter(values.values()))), fill)
    return np.stack([values.get(k, blank) for k in range(count)])[None]


def _gathered(data: xr.Dataset, name: str, settings: Settings, found: list[_Region]) -> xr.Dataset:
    regions = data["region"].values.astype(str).tolist()
    count, rows, example = len(regions), ("subject", "region"), found[0].rdms
    measure = chosen_measure(settings.rdm, data.sizes["run"])
    time = ("time",) if example.values.ndim == 2 else ()
    values = {one.position: one.rdms.values for one in found}
    weights = {one.position: np.asarray(one.rdms.shrinkage) for one in found}
    sizes = {one.position: np.asarray(float(one.n_channels)) for one in found}
    pairs = {one.position: one.rdms.fold_pairs.astype(np.float64) for one in found}
    result = xr.Dataset(
        {
            "rdm": ((*rows, *time, "pair"), _stacked(values, count)),
            "noise_shrinkage": (rows, _stacked(weights, count)),
            "n_channels": (rows, _stacked(sizes, count, 0).astype(np.int64)),
            "n_pairs_cv": ((*rows, "pair"), _stacked(pairs, count, 0).astype(np.int64)),
        },
        coords={
            "subject": [name],
            "region": regions,
            "condition": data["condition"].values.astype(str),
        },
    )
    if time:
        centres = centres_of(data["time"].values.astype(np.float64), settings.time)[1]
        result = result.assign_coords(time=centres)
        halves = {one.position: one.rdms.halves for one in found if one.rdms.halves is not None}
        if halves:
            result["rdm_half"] = ((*rows, "half", "time", "pair"), _stacked(halves, count))
    if example.null.size:
        null = {one.position: one.rdms.null for one in found}
        result["permuted_mean"] = ((*rows, "permutation"), _stacked(null, count))
    units = "1"
    if MEASURES[measure].squared:
        whitened = MEASURES[measure].whitened and settings.rdm.noise != "none"
        scale = "noise variance" if whitened else f"({data.attrs.get('units', 'a.u.')})²"
        units = f"{scale} per channel"
    return result.assign_coords(pair_coordinates(result)).assign_attrs(
        measure=measure,
        crossvalidated=int(MEASURES[measure].crossvalidated),
        runs=data.sizes["run"],
        units=units,
    )
