"""Subjects side by side: parts joined, common conditions, common centres of maps."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import xarray as xr

from neuropipe.analyses.trsa.spec_limits import LEAST_CONDITIONS
from neuropipe.errors import DataError, Issue, issues_to_json

__all__ = ["centre_keys", "common_conditions", "joined_parts"]

AXES = ("x", "y", "z")
SAME_PLACE_MM = 0.01


def centre_keys(part: xr.Dataset) -> list[tuple[float, ...]]:
    """Return what tells the centres of a map apart: their places to a hundredth of a millimetre."""
    axes = np.stack([part[axis].values for axis in AXES], axis=1)
    return [tuple(row) for row in np.round(axes / SAME_PLACE_MM).tolist()]


def _on_common_centres(
    parts: Sequence[xr.Dataset],
) -> tuple[list[xr.Dataset], list[Issue]]:
    """Keep the centres that every subject has, in the order of the first subject."""
    if not any("centre" in part.dims for part in parts):
        return list(parts), []
    places = [centre_keys(part) for part in parts]
    common = set(places[0]).intersection(*places[1:])
    total = len(set().union(*places))
    if len(common) == total and all(own == places[0] for own in places):
        return list(parts), []
    order = [place for place in places[0] if place in common]
    kept = []
    for part, own in zip(parts, places, strict=True):
        number = {place: k for k, place in enumerate(own)}
        kept.append(part.isel(centre=[number[place] for place in order]))
    if common:
        message = f"{len(common)} of {total} centres of searchlights are common to all subjects"
        return kept, [Issue("SEARCHLIGHT_CENTRES", "centre", message, "", "info")]
    message = "no centre of a searchlight is common to all subjects: there is no group map"
    hint = "bring the images into one space"
    return [part.drop_dims("centre") for part in parts], [
        Issue("SEARCHLIGHT_CENTRES", "centre", message, hint)
    ]


def joined_parts(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Return the parts of subjects as one dataset, subjects in the order of their names.

    Maps keep the centres that all subjects have.
    """
    used = [part for part in parts if "rdm" in part]
    if not used:
        raise DataError("input: no subject has patterns in any region")
    used = sorted(used, key=lambda part: str(part["subject"].values[0]))
    used, told = _on_common_centres(used)
    joined = xr.concat(
        used, "subject", data_vars="minimal", coords="minimal", compat="override", join="exact",
        combine_attrs="override",
    )  # fmt: skip
    issues = [issue for part in parts for issue in json.loads(part.attrs.get("issues", "[]"))]
    issues += json.loads(issues_to_json(told))
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
