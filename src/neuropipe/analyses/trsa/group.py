"""Subjects side by side: parts joined, common conditions, group maps."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import xarray as xr

from neuropipe.analyses.trsa.kernels.inference import max_statistic, sign_flips
from neuropipe.analyses.trsa.spec import InferenceSettings
from neuropipe.errors import DataError, Issue
from neuropipe.seeds import stage_generator

__all__ = ["common_conditions", "joined_parts", "searchlight_group"]

AXES = ("x", "y", "z")
LEAST_SUBJECTS, LEAST_CONDITIONS = 5, 4


def joined_parts(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Return the parts of subjects as one dataset, subjects in the order of their names.

    Maps of subjects with other centres cannot be joined and are left out of the group.
    """
    used = [part for part in parts if "rdm" in part]
    if not used:
        raise DataError("input: no subject has patterns in any region")
    used = sorted(used, key=lambda part: str(part["subject"].values[0]))
    if any("centre" in part.dims for part in used):
        first = used[0]
        same = all(
            part.sizes.get("centre") == first.sizes.get("centre")
            and all(np.allclose(part[a].values, first[a].values) for a in AXES)
            for part in used
        )
        if not same:
            used = [part.drop_dims("centre") for part in used]
    joined = xr.concat(
        used, "subject", data_vars="minimal", coords="minimal", compat="override", join="exact",
        combine_attrs="override",
    )  # fmt: skip
    issues = [issue for part in parts for issue in json.loads(part.attrs.get("issues", "[]"))]
    return joined.assign_attrs(issues=json.dumps(issues, ensure_ascii=False))


def common_conditions(joined: xr.Dataset, strict: bool) -> tuple[xr.Dataset, list[Issue]]:
    """Keep the conditions that every subject has in some region, and say which were dropped.

    Raises
    ------
    DataError
        If conditions differ under ``rdm.strict``, or fewer than four are left.
    """
    labels = joined["condition"].values.astype(str)
    i, j = np.triu_indices(labels.size, 1)
    rdms = joined["rdm"]
    finite = np.isfinite(rdms).any([d for d in rdms.dims if d not in ("subject", "pair")])
    seen = finite.transpose("subject", "pair").values
    has = np.stack([seen[:, (i == c) | (j == c)].any(axis=1) for c in range(labels.size)], axis=1)
    kept = has.all(axis=0)
    if kept.all():
        return joined, []
    dropped = ", ".join(labels[~kept])
    if strict or kept.sum() < LEAST_CONDITIONS:
        names = joined["subject"].values.astype(str)
        lacking = ", ".join(names[~has.all(axis=1)])
        raise DataError(
            f"input: subjects {lacking} lack conditions ({dropped}); {int(kept.sum())} are common "
            f"and {LEAST_CONDITIONS} are needed. Leave the subjects or the conditions out"
        )
    pairs = np.flatnonzero(kept[i] & kept[j])
    message = f"conditions that not every subject has are left out: {dropped}"
    issue = Issue(
        "CONDITIONS_DROPPED", "condition", message, "set rdm.strict to make this an error"
    )
    return joined.isel(pair=pairs, condition=np.flatnonzero(kept)), [issue]


def searchlight_group(joined: xr.Dataset, settings: InferenceSettings, seed: int) -> xr.Dataset:
    """Return the mean map of each model and, with five subjects or more, its family-wise p."""
    scores = joined["searchlight_score"].transpose("model", "subject", "centre")
    values = scores.values
    mean = np.where(np.isfinite(values).all(axis=1), values.mean(axis=1), np.nan)
    found = xr.Dataset({"searchlight_score": (("model", "centre"), mean)})
    if values.shape[1] >= LEAST_SUBJECTS and settings.permutations:
        p = np.full(mean.shape, np.nan)
        for k, rows in enumerate(values):
            seen = np.isfinite(rows).all(axis=0)
            rng = stage_generator(seed, "searchlight", k)
            p[k, seen] = max_statistic(sign_flips(rows[:, seen], settings.permutations, rng))
        found["searchlight_pvalue"] = (("model", "centre"), p)
    kept = {axis: joined[axis] for axis in AXES}
    return found.assign_coords(kept | {"model": joined["model"].values})
