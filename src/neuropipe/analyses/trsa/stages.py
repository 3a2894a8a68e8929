"""The stages of the representational analysis: RDMs of each subject, then everything across."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuropipe.analyses.methods_text import counted
from neuropipe.analyses.trsa.arrangement import arrange, condition_map
from neuropipe.analyses.trsa.checks import few_conditions, ordered, subjects_of, unusual_rdms
from neuropipe.analyses.trsa.courses import generalisation, time_courses
from neuropipe.analyses.trsa.descriptors import describe
from neuropipe.analyses.trsa.group import common_conditions, joined_parts
from neuropipe.analyses.trsa.kernels.compare import WHITENED
from neuropipe.analyses.trsa.kernels.rdm import MEASURES
from neuropipe.analyses.trsa.map_group import searchlight_group
from neuropipe.analyses.trsa.maps import check_searchlight
from neuropipe.analyses.trsa.model_scores import model_scores, resampled
from neuropipe.analyses.trsa.models import named_models
from neuropipe.analyses.trsa.persistence import homology
from neuropipe.analyses.trsa.regions import identification
from neuropipe.analyses.trsa.spec import Settings
from neuropipe.analyses.trsa.subject import given_rdms, subject_rdms
from neuropipe.errors import ConfigError, Issue, issues_from_json, issues_to_json
from neuropipe.threads import one_blas_thread

__all__ = ["rdm", "summary"]

NEEDS_REGIONS = "name regions under input.regions"
NEEDS_SUBJECTS = "put the recordings of several subjects together, input.scope: cohort"
WORKING = ("rdm_half", "searchlight_score")  # replaced by what they give

Parts = Mapping[str, Sequence[xr.Dataset]]
Floats = NDArray[np.float64]


def comparator(settings: Settings, measure: str) -> str:
    """Return the comparator; ``auto`` depends on the measure.

    Raises
    ------
    ConfigError
        If a whitened comparator meets a measure that is no squared distance.
    """
    squared = measure in MEASURES and MEASURES[measure].squared
    if settings.compare == "auto":
        return "cosine_w" if squared else "pearson"
    if settings.compare in WHITENED and not squared:
        raise ConfigError(
            f"analyses.trsa.compare: {settings.compare} is made for squared distances, not for "
            f"{measure}; choose cosine, pearson or spearman"
        )
    return settings.compare


@one_blas_thread
def rdm(
    data: xr.Dataset, settings: Settings, seed: int, parts: Parts, *, subject: str | None = None
) -> xr.Dataset:
    """Estimate the RDMs, movies and searchlights of one subject.

    Parameters
    ----------
    data : xarray.Dataset
        ``patterns`` as the package says, or ``rdm(subject, region, [time,] pair)`` with
        coordinates ``condition_i`` and ``condition_j``.
    settings : Settings
        Uses ``rdm``, ``time``, ``searchlight``, ``models`` and ``compare``.
    seed : int
        Seed of the job.
    parts : mapping
        Not used.
    subject : str, optional
        Name of the subject; all of them, in turn, if not given.

    Returns
    -------
    xarray.Dataset
        ``rdm(subject, region, [time,] pair)``, ``noise_shrinkage``, ``n_channels``,
        ``n_pairs_cv``, ``permuted_mean``, ``rdm_half``, ``searchlight_score``,
        ``searchlight_rdm``.
    """
    if "patterns" not in data and "rdm" in data:
        check_searchlight(data, settings)
        return given_rdms(data, subject)
    data = ordered(data)
    check_searchlight(data, settings)
    names = subjects_of(data)
    if subject is not None and subject not in names:
        # The assembler left this subject out and said why; the summary does without it.
        return xr.Dataset(attrs={"issues": "[]", "absent": subject})
    wanted = names if subject is None else [subject]
    return joined_parts([subject_rdms(data, name, settings, seed) for name in wanted])


@one_blas_thread
def summary(data: xr.Dataset, settings: Settings, seed: int, parts: Parts) -> xr.Dataset:
    """Compute descriptors, comparisons and inference from the RDMs of all subjects.

    Parameters
    ----------
    data : xarray.Dataset
        Input; its models are used.
    settings : Settings
    seed : int
        Seed of the job.
    parts : mapping
        ``rdm``.

    Returns
    -------
    xarray.Dataset
        The result of the analysis.
    """
    joined = joined_parts(parts["rdm"])
    issues = issues_from_json(joined.attrs["issues"])
    joined, told = common_conditions(joined, settings.rdm.strict)
    measure = str(joined.attrs["measure"])
    issues += told + few_conditions(joined.sizes["condition"]) + _shared_noise(joined)
    issues += unusual_rdms(joined["rdm"])
    squared = measure in MEASURES and MEASURES[measure].squared
    joined["rdm"] = joined["rdm"].assign_attrs(
        measure=measure, crossvalidated=joined.attrs["crossvalidated"], squared=int(squared),
        units=str(joined.attrs.get("units", "1")),
    )  # fmt: skip
    rdms, method = joined["rdm"], comparator(settings, measure)
    found = [joined.drop_vars(WORKING, errors="ignore")]
    found.append(describe(rdms, settings.descriptor))
    found.append(condition_map(rdms))
    still = _still(rdms)
    found.append(arrange(still, settings, method))
    if settings.descriptor.homology:
        found.append(homology(still, settings.descriptor))
    part, told = _regions(still, settings, seed)
    found, issues = [*found, part], issues + told
    part, told = _models(data, joined, settings, method, seed)
    found, issues = [*found, part], issues + told
    if "rdm_half" in joined:
        found.append(generalisation(joined["rdm_half"].transpose("half", ...), method))
    if "searchlight_score" in joined:
        found.append(searchlight_group(ordered(data), joined, settings, seed))
    if "permuted_mean" in joined:
        found.append(_discriminability(joined))
    found.append(_categories(data, settings, joined))
    result = _merged(found).drop_vars("permuted_mean", errors="ignore")
    return result.assign_attrs(
        converged=1,
        issues=issues_to_json(issues),
        measure=measure,
        crossvalidated=joined.attrs["crossvalidated"],
        comparator=method,
        resampled=", ".join(resampled(settings.inference, joined.sizes["subject"])),
        runs=joined.attrs["runs"],
        modality=str(data.attrs.get("modality", "")),
        making=str(data.attrs.get("making", "{}")),
    )


def _categories(data: xr.Dataset, settings: Settings, joined: xr.Dataset) -> xr.Dataset:
    """Return the category of each condition as a coordinate, if any is known.

    Raises
    ------
    ConfigError
        If the settings name a condition that the input does not have.
    """
    labels = joined["condition"].values.astype(str).tolist()
    known = dict(settings.categories)
    if not known and "category" in data and data["category"].dims == ("condition",):
        names = data["condition"].values.astype(str).tolist()
        known = dict(zip(names, data["category"].values.astype(str).tolist(), strict=True))
    if not known:
        return xr.Dataset()
    every = set(data["condition"].values.astype(str)) if "condition" in data else set(labels)
    strange = sorted(set(known) - every - set(labels))
    if strange:
        raise ConfigError(
            f"analyses.trsa.categories: {', '.join(strange)}: no such condition; the input has "
            f"{', '.join(labels)}"
        )
    return xr.Dataset(coords={"category": ("condition", [known.get(n, "") for n in labels])})


def _merged(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Return all variables in one dataset; each keeps its attributes, the parts lose theirs."""
    result = xr.merge(parts, compat="override", join="outer", combine_attrs="drop")
    for part in reversed(parts):
        for name in part.data_vars:
            result[name].attrs = dict(part[name].attrs)
    return result


def _shared_noise(joined: xr.Dataset) -> list[Issue]:
    if joined.attrs["crossvalidated"] or joined.sizes["region"] < 2:
        return []
    return [
        Issue(
            "SHARED_NOISE",
            "similarity",
            "RDMs of regions of one subject come from the same trials: their shared noise raises "
            "their similarity",
            "use a cross-validated measure, or compare regions between subjects only",
            "info",
        )
    ]


def _still(rdms: xr.DataArray) -> xr.DataArray:
    """Return RDMs without time: movies as their mean after time 0."""
    if "time" not in rdms.dims:
        return rdms
    after = rdms["time"].values >= 0
    used = rdms.isel(time=np.flatnonzero(after)) if after.any() else rdms
    return used.mean("time", keep_attrs=True)


def _regions(still: xr.DataArray, settings: Settings, seed: int) -> tuple[xr.Dataset, list[Issue]]:
    usable = np.isfinite(still.values).any(axis=2)
    if (usable.sum(axis=0) > 1).sum() > 1:
        return identification(still, settings, seed), []
    message = (
        f"{counted(still.sizes['region'], 'region')} in "
        f"{counted(still.sizes['subject'], 'subject')}: identification needs two of each"
    )
    remedy = NEEDS_REGIONS if still.sizes["region"] < 2 else NEEDS_SUBJECTS
    return xr.Dataset(), [Issue("NO_IDENTIFICATION", "region", message, remedy, "info")]


def _models(
    data: xr.Dataset, joined: xr.Dataset, settings: Settings, method: str, seed: int
) -> tuple[xr.Dataset, list[Issue]]:
    wanted = joined["condition"].values.astype(str).tolist()
    models = named_models(ordered(data) if "patterns" in data else data, settings.models, wanted)
    if not models:
        return xr.Dataset(), []
    issues, subjects = list[Issue](), joined.sizes["subject"]
    if "subject" in settings.inference.resample and subjects < 3:
        message = (
            f"{counted(subjects, 'subject')}: intervals and tests generalise over conditions only"
        )
        issues.append(Issue("NO_SUBJECT_BOOTSTRAP", "subject", message, "", "info"))
    found = model_scores(joined["rdm"], models, method, settings.inference, seed)
    if "n_redrawn" in found and found["n_redrawn"].max() > 0:
        message = f"{int(found['n_redrawn'].max())} resamples of fewer than 3 conditions drawn anew"
        issues.append(Issue("RESAMPLES_REDRAWN", "condition", message, "", "info"))
    found = found.assign_coords(subject=joined["subject"], region=joined["region"])
    rows = np.stack([model.basis[0] for model in models.values()])
    found["model_rdm"] = (("model", "pair"), rows)
    if "time" in joined.dims:
        found = found.assign_coords(time=joined["time"])
        found = found.merge(time_courses(found["model_score"], settings.inference, seed))
    return found, issues


def _discriminability(joined: xr.Dataset) -> xr.Dataset:
    """Return the mean cross-validated dissimilarity and its p under permuted labels."""
    mean, null = joined["rdm"].mean("pair"), joined["permuted_mean"]
    above = (null >= mean).sum("permutation") + 1
    p = (above / (joined.sizes["permutation"] + 1)).where(np.isfinite(mean))
    return xr.Dataset(
        {
            "mean_dissimilarity": mean.drop_attrs(),
            "p_discriminability": p,
            "null_dissimilarity_95": null.quantile(0.95, "permutation").drop_vars("quantile"),
        }
    )
