"""Patterns of one subject from its fMRI runs: rows that all runs have, regions, one fit a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from neuropipe.assemble.condition_settings import Input
from neuropipe.assemble.exclusion import Account, Unusable
from neuropipe.assemble.fmri_rows import (
    grid_of,
    positions_mm,
    row_names,
    same_rows,
    vertices_of,
)
from neuropipe.assemble.glm_patterns import (
    Design,
    RunEstimate,
    design_of,
    fit_run,
    window_means,
)
from neuropipe.assemble.patterns import ONE_REGION, RegionPatterns, SubjectPatterns
from neuropipe.assemble.rows import row_tests
from neuropipe.assemble.selection import names_in
from neuropipe.errors import ConfigError
from neuropipe.preprocess.fmri import bold_blocks, raw_bold

if TYPE_CHECKING:
    import xarray as xr

    from neuropipe.config.models import FmriPreprocess
    from neuropipe.preprocess.fmri_parcels import Atlas

__all__ = ["fmri_patterns", "run_names"]

INTENSITY = "relative_intensity"
REGIONS = "input.regions"
SHOWN = 20
NAMING = (("run",), ("session_id", "run"), ("session_id", "task", "acq", "run"))


def run_names(stores: Sequence[xr.DataTree]) -> list[str]:
    """Return a name of each run: its ``run``, with the session and so on where that is not one.

    Parameters
    ----------
    stores : sequence of xarray.DataTree
        All fMRI recordings; names are unique within a subject.
    """
    for entities in NAMING:
        names = [
            " ".join(value for e in entities if (value := str(tree.attrs.get(e, ""))))
            for tree in stores
        ]
        owners = [str(tree.attrs.get("subject_id", "")) for tree in stores]
        if len(set(zip(owners, names, strict=True))) == len(stores):
            return [name or "1" for name in names]
    return [str(tree.attrs.get("recording", "")) for tree in stores]


@dataclass(frozen=True)
class _Rows:
    """The rows of a subject: positions in each run, names, places in space or on a surface."""

    positions: tuple[np.ndarray, ...]
    names: np.ndarray
    places: np.ndarray
    structure: np.ndarray
    vertex: np.ndarray
    regions: Mapping[str, np.ndarray]


def _intensity(trees: Sequence[xr.DataTree], places: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean of each row over all runs, relative to the largest."""
    total = np.zeros(len(places[0]))
    for tree, own in zip(trees, places, strict=True):
        values, number = np.zeros(len(own)), np.zeros(len(own))
        for _, block in bold_blocks(tree["raw"].to_dataset()):
            known = np.isfinite(block[:, own])
            values += np.where(known, block[:, own], 0.0).sum(axis=0)
            number += known.sum(axis=0)
        total += values / np.maximum(number, 1)
    return total / max(float(total.max()), np.finfo(np.float64).tiny)


def _choose(
    trees: Sequence[xr.DataTree], places: Sequence[np.ndarray], where: str | None
) -> tuple[xr.Dataset, np.ndarray, list[tuple[str, int]]]:
    """Return the rows of the first run, which of them enter, and how many do not, and why."""
    first = raw_bold(trees[0]["raw"].to_dataset())
    row = str(first["bold"].dims[1])
    ds = first.isel({row: places[0]})
    ok = np.ones(len(places[0]), dtype=bool)
    for tree, own in zip(trees, places, strict=True):
        raw = tree["raw"].to_dataset()
        if f"{row}_ok" in raw:
            ok &= np.asarray(raw[f"{row}_ok"].values, dtype=bool)[own]
    ds = ds.assign({f"{row}_ok": (row, ok)})
    if where is not None and INTENSITY in names_in(where):
        ds = ds.assign_coords({INTENSITY: (row, _intensity(trees, places))})
    enters, left = np.ones(len(ok), dtype=bool), []
    for reason, out in row_tests(ds, row, where):
        left.append((reason, int((enters & out).sum())))
        enters &= ~out
    return ds, enters, left


def _rows(
    trees: Sequence[xr.DataTree], settings: Input, atlas: Atlas | None, account: Account
) -> _Rows:
    from neuropipe.preprocess.fmri_parcels import voxel_labels

    places = same_rows(trees)
    ds, enters, left = _choose(trees, places, settings.units.where)
    regions = {ONE_REGION: np.flatnonzero(enters)}
    if atlas is not None:
        labels = np.where(enters, voxel_labels(ds, atlas, REGIONS), 0)
        left.append(("in no region", int((enters & (labels == 0)).sum())))
        names = atlas.columns["parcel"]
        regions = {
            name: np.flatnonzero(labels == index)
            for name, index in zip(names, atlas.index.tolist(), strict=True)
        }
        regions = {name: own for name, own in regions.items() if len(own)}
    _note(account, trees[0], left)
    if not any(len(own) for own in regions.values()):
        reasons = "; ".join(f"{count} {reason}" for reason, count in left if count)
        raise Unusable(f"no row is left ({reasons})", "loosen `input.units.where` or `regions`")
    return _Rows(tuple(places), row_names(ds), positions_mm(ds), *vertices_of(ds), regions)


def _note(account: Account, tree: xr.DataTree, left: Sequence[tuple[str, int]]) -> None:
    for reason, count in left:
        if count:
            account.excluded.append(
                {"kind": "rows", "recording": str(tree.attrs.get("recording", "")),
                 "subject": str(tree.attrs.get("subject_id", "")), "reason": reason,
                 "count": count, "names": []}
            )  # fmt: skip


def _designs(
    trees: Sequence[xr.DataTree], settings: Input, fmri: FmriPreprocess, account: Account
) -> tuple[list[xr.DataTree], list[Design | None]]:
    """Return the runs that can be used, and their models."""
    used, designs = [], []
    for tree in trees:
        try:
            design = None
            if settings.glm.estimate == "glm":
                design, issues = design_of(tree, settings.labels, settings.column, fmri)
                account.issues += issues
        except Unusable as found:
            account.leave_out(tree, found.reason, found.remedy)
            continue
        used.append(tree)
        designs.append(design)
    return used, designs


def _estimate(
    tree: xr.DataTree, design: Design | None, rows: np.ndarray, settings: Input,
    fmri: FmriPreprocess, account: Account,
) -> RunEstimate | None:  # fmt: skip
    if design is not None:
        return fit_run(tree, design, rows, settings.glm.noise)
    try:
        found, issues = window_means(
            tree, settings.labels, settings.column, rows, settings.glm.lag_s, fmri.fd_threshold_mm
        )
    except Unusable as fault:
        account.leave_out(tree, fault.reason, fault.remedy)
        return None
    account.issues += issues
    return found


def fmri_patterns(
    stores: Sequence[xr.DataTree], names: Sequence[str], settings: Input, fmri: FmriPreprocess,
    atlas: Atlas | None, account: Account,
) -> SubjectPatterns | None:  # fmt: skip
    """Return one pattern per condition and run of one subject.

    Parameters
    ----------
    stores : sequence of xarray.DataTree
        Ingested fMRI recordings of one subject.
    names : sequence of str
        Of the runs.
    settings : Input
        ``labels``, ``column``, ``glm``, ``units.where``; rows can be compared by
        ``relative_intensity`` too, their mean over all runs relative to the largest.
    fmri : FmriPreprocess
        Confounds, high pass and censoring.
    atlas : Atlas or None
        Image of the regions; None: one region.
    account : Account
        Gets what is left out, and issues.

    Returns
    -------
    SubjectPatterns or None
        None if the subject has no usable run.

    Raises
    ------
    ConfigError
        If spikes are counted.
    DataError
        If runs are of different volumes.
    """
    if settings.units.min_rate_hz is not None or settings.units.min_spikes is not None:
        raise ConfigError("input.units: `min_rate_hz` and `min_spikes` count spikes; use `where`")
    named = {id(tree): name for tree, name in zip(stores, names, strict=True)}
    used, designs = _designs(stores, settings, fmri, account)
    if not used:
        return None
    try:
        rows = _rows(used, settings, atlas, account)
    except Unusable as found:
        for tree in used:
            account.leave_out(tree, found.reason, found.remedy)
        return None
    chosen = np.unique(np.concatenate(list(rows.regions.values())))
    pairs = [
        (tree, _estimate(tree, design, places[chosen], settings, fmri, account))
        for tree, design, places in zip(used, designs, rows.positions, strict=True)
    ]
    runs = [tree for tree, estimate in pairs if estimate is not None]
    estimates = [estimate for _, estimate in pairs if estimate is not None]
    keep = settings.glm.residuals
    regions = _regions(runs, estimates, rows, chosen, keep, account) if runs else {}
    if not regions:
        return None
    bold = runs[0]["raw/bold"]
    return SubjectPatterns(
        subject=str(runs[0].attrs.get("subject_id", "")),
        runs=tuple(named[id(tree)] for tree in runs),
        regions=regions,
        counts=np.stack([estimate.counts for estimate in estimates]),
        recordings=tuple(str(tree.attrs.get("recording", "")) for tree in runs),
        units=str(bold.attrs.get("units", "a.u.")),
        row=str(bold.dims[1]),
        grid=grid_of(runs[0]),
    )


def _regions(
    runs: Sequence[xr.DataTree], estimates: Sequence[RunEstimate], rows: _Rows,
    chosen: np.ndarray, keep: bool, account: Account,
) -> dict[str, RegionPatterns]:  # fmt: skip
    """Return the patterns of each region, without the rows that a run has no pattern of."""
    lost = np.any([~np.isfinite(e.patterns).any(axis=0) for e in estimates], axis=0)
    _note(account, runs[0], [("missing or constant samples in a run", int(lost.sum()))])
    regions = {}
    for name, own in rows.regions.items():
        place = np.searchsorted(chosen, own)
        place = place[~lost[place]]
        if len(place):
            regions[name] = _region(estimates, place, rows, chosen, keep)
    if not regions:
        account.leave_out(runs[0], "no row has samples in all runs", "look at its brain masks")
    return regions


def _region(
    estimates: Sequence[RunEstimate], place: np.ndarray, rows: _Rows, chosen: np.ndarray, keep: bool
) -> RegionPatterns:
    return RegionPatterns(
        values=np.stack([estimate.patterns[:, place] for estimate in estimates]),
        residuals=tuple(e.residuals[: len(e.residuals) * keep, place] for e in estimates),
        dof=sum(estimate.dof for estimate in estimates) if keep else 0,
        names=rows.names[chosen[place]],
        places=rows.places[chosen[place]],
        structure=rows.structure[chosen[place]],
        vertex=rows.vertex[chosen[place]],
    )
