"""What the input of the representational analysis must be, and how it is put in order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuropipe.analyses.trsa.kernels.design import condition_means
from neuropipe.analyses.trsa.spec_limits import LEAST_CONDITIONS
from neuropipe.errors import DataError, Issue

__all__ = ["RegionPatterns", "ordered", "region_patterns", "subjects_of", "unusual_rdms"]

Floats = NDArray[np.float64]
FEW_CONDITIONS = 10
ONLY = "all"
GRID = ("subject", "region", "run", "condition", "channel")


@dataclass(frozen=True)
class RegionPatterns:
    """Patterns of one subject in one region.

    Attributes
    ----------
    values : ndarray, shape (n_runs, n_conditions, n_channels[, n_times])
        NaN where a run has no such condition; channels that are complete elsewhere.
    residuals : ndarray, shape (n_samples, n_channels), or None
        Noise samples that the input brought.
    dof : int or None
        Their degrees of freedom.
    channels : ndarray of int
        Positions of the channels in the input.
    partial : int
        Channels left out because they miss some of the runs or conditions.
    covariance : ndarray, shape (n_channels, n_channels), or None
        Noise covariance that the input or a file brought.
    """

    values: Floats
    residuals: Floats | None
    dof: int | None
    channels: NDArray[np.intp]
    partial: int
    covariance: Floats | None = None


def _check_conditions(labels: NDArray[np.str_]) -> None:
    names, count = np.unique(labels, return_counts=True)
    if (count > 1).any():
        twice = ", ".join(names[count > 1][:5])
        raise DataError(f"input: condition labels must be unique; found more than once: {twice}")
    if names.size < LEAST_CONDITIONS:
        raise DataError(
            f"input: {names.size} condition{'' if names.size == 1 else 's'}; need "
            f"{LEAST_CONDITIONS} or more. Name more events under input.labels"
        )


def _codes(values: NDArray[np.str_]) -> tuple[NDArray[np.str_], NDArray[np.int64]]:
    names, codes = np.unique(values, return_inverse=True)
    return names, codes.astype(np.int64)


def _from_observations(data: xr.Dataset) -> xr.Dataset:
    """Return the grid form of single observations, with their residuals."""
    patterns = data["patterns"]
    rest = tuple(d for d in ("channel", "time") if d in patterns.dims)
    values = patterns.transpose("observation", *rest).values.astype(np.float64)
    labels = {}
    for name in ("condition", "run", "subject"):
        if name in data.coords:
            labels[name] = data[name].values.astype(str)
        elif name == "condition":
            raise DataError("input: observations need a coordinate `condition`")
        else:
            labels[name] = np.full(len(values), ONLY if name == "subject" else "1")
    conditions, condition = _codes(labels["condition"])
    runs, run = _codes(labels["run"])
    parts = []
    for name in np.unique(labels["subject"]):
        own = labels["subject"] == name
        grid = (conditions.size, runs.size)
        means, left, _ = condition_means(values[own], condition[own], run[own], *grid)
        part = xr.Dataset(
            {"patterns": (("run", "condition", *rest), means)},
            coords={"run": runs, "condition": conditions},
        )
        if "time" not in rest:
            part["noise_residuals"] = (("sample", "channel"), left)
            seen = int(np.isfinite(means).all(axis=-1).sum())
            part["noise_dof"] = ((), max(int(np.isfinite(left).all(axis=1).sum()) - seen, 0))
        parts.append(part.expand_dims(subject=[str(name)]))
    kept = {n: c for n, c in data.coords.items() if set(c.dims) <= set(rest)}
    joined = xr.concat(parts, "subject", join="outer").assign_coords(kept)
    others = data.drop_vars("patterns").drop_dims("observation")
    return joined.merge(others).assign_attrs(data.attrs)


def _named(data: xr.Dataset) -> xr.Dataset:
    """Return the input with all dims there and their rows named."""
    if "condition" not in data.coords:
        raise DataError("input: coordinate `condition` is missing; it names the rows")
    for dim in ("subject", "region", "run"):
        if dim not in data.dims:
            data = data.assign(patterns=data["patterns"].expand_dims({dim: [ONLY]}))
        if dim not in data.coords:
            data = data.assign_coords({dim: [f"{k:04d}" for k in range(data.sizes[dim])]})
    return data


def ordered(data: xr.Dataset) -> xr.Dataset:
    """Return the input in grid form, all dims there, rows in plain string order of their names.

    The order of rows in the input then changes no number.

    Raises
    ------
    DataError
        If patterns, conditions or channels are missing, repeated or too few.
    """
    if "patterns" not in data:
        raise DataError(f"input: variable `patterns` is missing; found {tuple(data.data_vars)}")
    if "observation" in data["patterns"].dims:
        data = _from_observations(data)
    dims = set(data["patterns"].dims)
    if not {"condition", "channel"} <= dims or not dims <= {*GRID, "time"}:
        raise DataError(
            f"input: patterns has dims {data['patterns'].dims}; need condition and channel, out of "
            f"{', '.join(GRID)}, time"
        )
    data = _named(data)
    _check_conditions(data["condition"].values.astype(str))
    order = {d: np.argsort(data[d].values.astype(str)) for d in ("subject", "region", "run")}
    for dim in ("condition", "condition_2"):
        if dim in data.coords:
            order[dim] = np.argsort(data[dim].values.astype(str))
    return data.isel(order)


def subjects_of(data: xr.Dataset) -> list[str]:
    """Return the names of the subjects of ordered data."""
    return [str(name) for name in data["subject"].values]


def _pick(data: xr.Dataset, name: str, subject: str, region: str, dims: tuple[str, ...]) -> Floats:
    """Return one variable of a subject and region; dims that it lacks are taken as shared."""
    values = data[name]
    for dim, label in (("subject", subject), ("region", region)):
        if dim in values.dims:
            values = values.isel({dim: data[dim].values.astype(str).tolist().index(label)})
    kept = [dim for dim in dims if dim in values.dims]
    return values.transpose(*kept).values.astype(np.float64)


def region_patterns(data: xr.Dataset, subject: str, region: str) -> RegionPatterns | None:
    """Return the patterns of one subject and region of ordered data; None if there are none."""
    time = ("time",) if "time" in data["patterns"].dims else ()
    values = _pick(data, "patterns", subject, region, ("run", "condition", "channel", *time))
    finite = np.isfinite(values)
    if time:
        finite = finite.all(axis=-1)
    cells = finite.any(axis=2)
    if not cells.any():
        return None
    whole = finite[cells].all(axis=0)
    partial = int((finite[cells].any(axis=0) & ~whole).sum())
    channels = np.flatnonzero(whole)
    if not channels.size:
        raise DataError(
            f"input: {subject} {region}: no channel has all its runs and conditions; "
            f"{partial} have some"
        )
    values = values[:, :, channels]
    values[~cells] = np.nan
    residuals, dof = None, None
    if "noise_residuals" in data:
        dims = ("run", "sample", "channel")
        samples = _pick(data, "noise_residuals", subject, region, dims)[..., channels]
        samples = samples.reshape(-1, channels.size)
        residuals = samples[np.isfinite(samples).all(axis=1)]
        dof = max(len(residuals) - int(cells.sum()), 0)
        if "noise_dof" in data:
            dof = int(_pick(data, "noise_dof", subject, region, ()))
    return RegionPatterns(values, residuals, dof, channels, partial)


def unusual_rdms(rdms: xr.DataArray) -> list[Issue]:
    """Return issues about RDMs without differences and about pairs without an estimate."""
    values = rdms.transpose("subject", "region", ..., "pair").values
    seen = np.isfinite(values)
    used = seen.any(axis=-1)
    low = np.where(seen, values, np.inf).min(axis=-1)
    high = np.where(seen, values, -np.inf).max(axis=-1)
    flat = used & ~(high > low)
    issues = []
    if flat.any():
        message = f"{int(flat.sum())} RDMs are constant: their descriptors are 0, correlations NaN"
        issues.append(Issue("CONSTANT_RDM", "rdm", message, "check the patterns of these regions"))
    missing = int((~seen & used[..., None]).sum())
    if missing:
        message = (
            f"{missing} of {int(used.sum()) * seen.shape[-1]} dissimilarities have no estimate: a "
            "constant pattern, or no two runs with both conditions"
        )
        issues.append(Issue("MISSING_PAIRS", "rdm", message, "", "info"))
    return issues


def few_conditions(count: int) -> list[Issue]:
    """Return an issue if a bootstrap over so few conditions cannot be trusted."""
    if count >= FEW_CONDITIONS:
        return []
    return [
        Issue(
            "FEW_CONDITIONS",
            "condition",
            f"{count} conditions; a bootstrap over fewer than {FEW_CONDITIONS} is unreliable",
            "read intervals over conditions with care, or resample subjects only",
        )
    ]
