"""Identification of regions (layers) by descriptors: accuracy, maps over thresholds, errors."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuropipe.analyses.trsa.descriptors import (
    descriptor_names,
    descriptor_vectors,
    scaled_rdms,
)
from neuropipe.analyses.trsa.kernels.bootstrap import draw_counts
from neuropipe.analyses.trsa.kernels.identification import (
    Identification,
    accuracy_map,
    accuracy_null,
    identify,
    identify_by,
    nested_accuracy,
)
from neuropipe.analyses.trsa.kernels.inference import corrected_variance, max_statistic, t_test
from neuropipe.analyses.trsa.kernels.pairs import pair_index, to_square
from neuropipe.analyses.trsa.kernels.transform import CLASSES, threshold_class, threshold_grid
from neuropipe.analyses.trsa.model_scores import resampled
from neuropipe.analyses.trsa.spec import ACCURACY_DRAWS, Settings
from neuropipe.seeds import stage_generator

__all__ = ["identification"]

Floats = NDArray[np.float64]
CLASS_SAMPLE, LEAST_DISTINCT, NOISE_DRAWS = 10, 4, 5


def _identify(vectors: Floats, classifier: str) -> Identification:
    return (
        identify(vectors) if classifier == "nearest_centroid" else identify_by(vectors, classifier)
    )


def _draws(values: Floats, settings: Settings, seed: int) -> dict[str, Floats]:
    """Return accuracies ``(n_draws, n_descriptors)`` of resamples, by what was resampled.

    Subjects are clusters: all regions of one are drawn together, and all copies of one are left
    out together. The transform is computed anew on the resampled conditions.
    """
    draws = min(settings.inference.bootstrap, ACCURACY_DRAWS)
    count, n = len(values), to_square(values[0, 0]).shape[-1]
    rng = stage_generator(seed, "accuracy")
    subjects, _ = draw_counts(count, draws, rng, 2)
    conditions, _ = draw_counts(n, draws, rng, LEAST_DISTINCT)
    sources = resampled(settings.inference, count)
    whole = list(descriptor_vectors(values, settings.descriptor).values())
    found: dict[str, Floats] = {}
    if "subject" in sources:
        rows = [[identify(v, times).accuracy for v in whole] for times in subjects]
        found["subject"] = np.array(rows)
    if "condition" in sources:
        found["condition"] = np.empty((draws, len(whole)))
        found["both"] = np.empty((draws, len(whole)))
        squares, (i, j) = to_square(values), pair_index(n)
        for k in range(draws):
            drawn = np.repeat(np.arange(n), conditions[k].astype(int))
            seen = drawn[i] != drawn[j]
            taken = np.where(seen, squares[..., drawn[i], drawn[j]], np.nan)
            for d, v in enumerate(descriptor_vectors(taken, settings.descriptor).values()):
                found["condition"][k, d] = identify(v).accuracy
                found["both"][k, d] = identify(v, subjects[k]).accuracy
        if "subject" not in sources:
            del found["both"]
    return found


def _uncertainty(
    accuracy: Floats, values: Floats, settings: Settings, seed: int
) -> tuple[Floats, Floats]:
    """Return standard errors, and p-values of differences between descriptors."""
    count = len(accuracy)
    p = np.full((count, count), np.nan)
    if not settings.inference.bootstrap or settings.identify.classifier != "nearest_centroid":
        return np.full(count, np.nan), p
    draws = _draws(values, settings, seed)
    sizes = (len(values), to_square(values[0, 0]).shape[-1])
    variance, _ = corrected_variance({s: d.var(axis=0, ddof=1) for s, d in draws.items()}, *sizes)
    for a in range(count):
        gaps = {s: (d - d[:, a : a + 1]).var(axis=0, ddof=1) for s, d in draws.items()}
        gap, dof = corrected_variance(gaps, *sizes)
        p[a] = t_test(accuracy - accuracy[a], gap, dof, two_sided=True)
    np.fill_diagonal(p, np.nan)
    return np.sqrt(variance), p


def _standard_error(correct: Floats) -> float:
    """Return the standard error of a mean over subjects, those without regions left out."""
    seen = correct[np.isfinite(correct)]
    return float(seen.std(ddof=1) / np.sqrt(seen.size)) if seen.size > 1 else np.nan


def _noisy(values: Floats, settings: Settings, seed: int) -> xr.Dataset:
    """Return the accuracy of every descriptor after noise was added to the RDMs.

    The noise is normal, its SD a share of the SD of all entries of all RDMs. Entries that fall
    below 0 are set to 0 (Lin and Kriegeskorte 2024), or to the smallest estimate where a
    cross-validated measure has negative ones.
    """
    levels = np.array(settings.identify.noise_levels)
    names = descriptor_names(settings.descriptor)
    found = np.full((2, len(names), levels.size), np.nan)
    scale, least = np.nanstd(values), min(float(np.nanmin(values)), 0.0)
    for k, level in enumerate(levels):
        rng = stage_generator(seed, "rdm-noise", k)
        correct = []
        for _ in range(NOISE_DRAWS if level > 0 else 1):
            drawn = np.maximum(values + level * scale * rng.normal(size=values.shape), least)
            vectors = descriptor_vectors(drawn, settings.descriptor)
            made = [_identify(v, settings.identify.classifier) for v in vectors.values()]
            correct.append([[one.accuracy, *one.correct] for one in made])
        mean = np.mean(correct, axis=0)
        found[0, :, k] = mean[:, 0]
        found[1, :, k] = [_standard_error(row) for row in mean[:, 1:]]
    dims = ("descriptor", "noise_level")
    return xr.Dataset(
        {"accuracy_noise": (dims, found[0]), "accuracy_noise_se": (dims, found[1])},
        coords={"descriptor": names, "noise_level": levels},
    )


def _top(scaled: Floats, settings: Settings) -> float:
    """Return what 1 stands for on the grid: the largest dissimilarity of unscaled RDMs, or 1."""
    chosen = settings.descriptor
    if chosen.threshold_mode == "quantile" or chosen.prescale != "none":
        return 1.0
    return float(np.nanmax(scaled)) or 1.0


def _grid(values: Floats, settings: Settings, seed: int) -> xr.Dataset:
    """Return the accuracy over all thresholds, that of nested choice and that of classes."""
    cells = threshold_grid(settings.descriptor.grid_step)
    scaled, mode = scaled_rdms(values, settings.descriptor), settings.descriptor.threshold_mode
    thresholds = cells * _top(scaled, settings)
    nested = settings.identify.select == "nested" and len(values) > 2
    accuracy, outer, inner = accuracy_map(scaled, thresholds, nested=nested, mode=mode)
    steps = np.unique(np.round(cells, 6))
    found = np.full((steps.size, steps.size), np.nan)
    place = np.searchsorted(steps, np.round(cells, 6))
    found[tuple(place.T)] = accuracy
    names = np.array([threshold_class(*cell) for cell in cells])
    rng = stage_generator(seed, "classes")
    classes = np.full((2, len(CLASSES)), np.nan)
    for k, name in enumerate(CLASSES):
        members = np.flatnonzero(names == name)
        if members.size:
            chosen = rng.permutation(members)[:CLASS_SAMPLE]
            classes[:, k] = accuracy[chosen].mean(), _standard_error(outer[chosen].mean(axis=0))
    result = xr.Dataset(
        {
            "accuracy_map": (("lower", "upper"), found),
            "accuracy_class": ("class_name", classes[0]),
            "accuracy_class_se": ("class_name", classes[1]),
        },
        coords={"lower": steps, "upper": steps, "class_name": list(CLASSES)},
    )
    draws = min(settings.inference.permutations, ACCURACY_DRAWS)
    if draws:
        rng = stage_generator(seed, "accuracy-null")
        null = accuracy_null(scaled, thresholds, draws, rng, mode=mode)
        tested = np.full(found.shape, np.nan)
        tested[tuple(place.T)] = max_statistic(np.vstack([accuracy, null]))
        result["accuracy_map_pvalue"] = (("lower", "upper"), tested)
    if nested:
        best, chosen = nested_accuracy(outer, inner)
        result["accuracy_nested"] = ((), best)
        result["nested_cell"] = (("subject", "limit"), thresholds[chosen])
        result = result.assign_coords(limit=["lower", "upper"])
    return result


def identification(rdms: xr.DataArray, settings: Settings, seed: int) -> xr.Dataset:
    """Identify the region of held-out subjects by every descriptor.

    Parameters
    ----------
    rdms : xarray.DataArray
        ``(subject, region, pair)``, at least two of each.
    settings : Settings
    seed : int

    Returns
    -------
    xarray.Dataset
        ``identification_accuracy``, ``accuracy_se``, ``accuracy_pvalue``, ``distance_ratio``,
        ``confusion``, ``accuracy_region``, ``accuracy_map``, ``accuracy_class``,
        ``accuracy_map_pvalue`` (of the family of all cells), ``accuracy_nested``,
        ``accuracy_noise``.
    """
    values = rdms.values
    vectors = descriptor_vectors(values, settings.descriptor)
    found = {name: _identify(v, settings.identify.classifier) for name, v in vectors.items()}
    regions = rdms["region"].values
    labels = range(len(regions))
    confusion = np.array(
        [
            [[(one.predicted[:, t] == q).sum() for q in labels] for t in labels]
            for one in found.values()
        ]
    )
    total = confusion.sum(axis=2)
    own = np.einsum("drr->dr", confusion) / np.where(total > 0, total, 1)
    accuracy = np.array([one.accuracy for one in found.values()])
    error, pvalue = _uncertainty(accuracy, values, settings, seed)
    names = list(found)
    result = xr.Dataset(
        {
            "identification_accuracy": ("descriptor", accuracy),
            "accuracy_se": ("descriptor", error),
            "accuracy_pvalue": (("descriptor", "descriptor_2"), pvalue),
            "distance_ratio": ("descriptor", [one.distance_ratio for one in found.values()]),
            "confusion": (("descriptor", "region_true", "region_predicted"), confusion),
            "accuracy_region": (("descriptor", "region"), own),
        },
        coords={
            "descriptor": names,
            "descriptor_2": names,
            "region": regions,
            "region_true": regions,
            "region_predicted": regions,
        },
    )
    result = result.merge(_grid(values, settings, seed))
    if settings.identify.noise_levels:
        result = result.merge(_noisy(values, settings, seed))
    return result.assign_coords(subject=rdms["subject"])
