"""Searchlight maps of one subject."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuropipe.analyses.trsa.checks import RegionPatterns
from neuropipe.analyses.trsa.estimate import chosen_measure, noise_of, normalised
from neuropipe.analyses.trsa.kernels.noise import whiten
from neuropipe.analyses.trsa.kernels.rdm import MEASURES
from neuropipe.analyses.trsa.kernels.searchlight import (
    LINEAR,
    searchlight_rdms,
    searchlight_scores,
)
from neuropipe.analyses.trsa.map_places import Places, places_of
from neuropipe.analyses.trsa.models import named_models
from neuropipe.analyses.trsa.spec import RdmSettings, SearchlightSettings, Settings
from neuropipe.errors import ConfigError, Issue

__all__ = [
    "SubjectMap",
    "check_searchlight",
    "fixed_models",
    "map_comparator",
    "searchlight",
    "subject_map",
]

Floats = NDArray[np.float64]
OFFERED = ("correlation", *LINEAR)
COMPARATORS = ("pearson", "cosine")  # beside spearman


@dataclass(frozen=True)
class SubjectMap:
    """What the map of one subject is made of.

    Attributes
    ----------
    values : ndarray, shape (n_runs, n_conditions, n_channels)
        Patterns with normalised noise.
    places : Places
    measure : str
    """

    values: Floats
    places: Places
    measure: str


def check_searchlight(data: xr.Dataset, settings: Settings) -> None:
    """Refuse a searchlight that the input or the other settings do not allow.

    Raises
    ------
    ConfigError
        If there are several regions, a time axis, ready RDMs, or a measure that no searchlight
        offers.
    """
    key = "analyses.trsa.searchlight"
    if settings.searchlight is None:
        return
    if "patterns" not in data:
        raise ConfigError(f"{key}: needs patterns of channels; the input brings ready RDMs")
    if "time" in data["patterns"].dims:
        raise ConfigError(f"{key}: patterns have a time axis; set input.keep_time: false")
    if data.sizes["region"] > 1:
        raise ConfigError(
            f"{key}: maps go over all channels, found {data.sizes['region']} regions; it needs "
            "input.regions: null, or searchlight: null"
        )
    measure = chosen_measure(settings.rdm, data.sizes["run"])
    if measure not in OFFERED:
        raise ConfigError(
            f"{key}: analyses.trsa.rdm.measure is {measure}; searchlights offer "
            f"{', '.join(OFFERED)}"
        )


def _prepared(
    region: RegionPatterns, rdm: RdmSettings, measure: str, modality: str, where: str
) -> tuple[Floats, list[Issue]]:
    """Return patterns whose noise is normalised per channel, and what to tell about it.

    A covariance of every neighbourhood would be another matrix root for each.
    """
    values = normalised(region.values, rdm, measure, modality)
    if not MEASURES[measure].whitened or rdm.noise == "none":
        return values, []
    noise, issues = noise_of(region, values, rdm.model_copy(update={"noise": "diag"}), None, where)
    if rdm.noise != "diag" and noise is not None:
        message = f"searchlight: noise normalised per channel, not {rdm.noise}"
        issues.append(Issue("DIAGONAL_NOISE", where, message, "", "info"))
    return whiten(values, noise), issues


def map_comparator(settings: Settings) -> str:
    """Return the comparator of searchlights."""
    return settings.compare if settings.compare in COMPARATORS else "spearman"


def fixed_models(data: xr.Dataset, settings: Settings) -> tuple[list[str], Floats]:
    """Return the names of fixed models of ordered data and their rows ``(n_models, n_pairs)``."""
    labels = data["condition"].values.astype(str).tolist()
    models = named_models(data, settings.models, labels)
    fixed = {name: model.basis for name, model in models.items() if model.kind == "fixed"}
    return list(fixed), np.concatenate(list(fixed.values())) if fixed else np.zeros((0, 0))


def subject_map(
    data: xr.Dataset, name: str, patterns: RegionPatterns, settings: Settings
) -> tuple[SubjectMap, list[Issue]]:
    """Return the normalised patterns of one subject and its neighbourhoods.

    Parameters
    ----------
    data : xarray.Dataset
        Ordered input.
    name : str
        Subject.
    patterns : RegionPatterns
        Of its only region.
    settings : Settings
        With a searchlight.
    """
    region = str(data["region"].values[0])
    near = settings.searchlight or SearchlightSettings()
    places = places_of(data, name, region, patterns.channels, near)
    measure = chosen_measure(settings.rdm, len(patterns.values))
    modality, where = str(data.attrs.get("modality", "")), f"{name} {region}"
    values, issues = _prepared(patterns, settings.rdm, measure, modality, where)
    return SubjectMap(np.ascontiguousarray(values), places, measure), issues


def searchlight(
    data: xr.Dataset, name: str, patterns: RegionPatterns, settings: Settings
) -> tuple[xr.Dataset, list[Issue]]:
    """Return ``searchlight_score(model, centre)`` of fixed models for one subject.

    Parameters
    ----------
    data, name, patterns, settings
        As in `subject_map`.
    """
    near = settings.searchlight or SearchlightSettings()
    names, rows = fixed_models(data, settings)
    if not names and not near.keep_rdms:
        raise ConfigError("analyses.trsa.searchlight: needs a fixed model to compare with")
    own, issues = subject_map(data, name, patterns, settings)
    coords = own.places.coords()
    found = xr.Dataset(coords={"model": names, **coords} if names else coords)
    if near.keep_rdms:
        made = searchlight_rdms(own.values, own.places.near, own.measure, chunk_mb=near.chunk_mb)
        found["searchlight_rdm"] = (("centre", "pair"), made)
    if names:
        method = map_comparator(settings)
        scores = searchlight_scores(
            own.values, own.places.near, rows, measure=own.measure, method=method,
            chunk_mb=near.chunk_mb,
        )  # fmt: skip
        sizes = {f"vertices_{name}": count for name, count in own.places.n_vertices.items()}
        attrs = {"comparator": method, **sizes}
        found["searchlight_score"] = (("model", "centre"), scores, attrs)
    return found, issues
