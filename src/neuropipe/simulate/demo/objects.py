"""The viewer of the demo study: fMRI of two runs whose patterns have a known geometry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from neuropipe.simulate.fmri_files import (
    BASELINE,
    SimulatedFmri,
    block_response,
    head_labels,
    write_bids_fmri,
    write_labels,
)
from neuropipe.simulate.planted_layers import layer_latents

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["CONDITIONS", "REGIONS", "write_objects"]

Floats = NDArray[np.float64]

SUBJECT = "f01"
CATEGORIES = ("face", "house", "tool", "fruit")
CONDITIONS = tuple(f"{name}{k}" for name in CATEGORIES for k in (1, 2, 3))
REGIONS = ("early", "middle", "late")
SHAPE, TR_S, REPEATS = (12, 12, 6), 2.0, 4
DURATION_S, GAP_S, TAIL_S = 2.0, 4.0, 16.0
EFFECT, NOISE = 12.0, 8.0  # SD of the patterns and of the noise of a voxel, around `BASELINE`


def write_objects(folder: Path, *, seed: int, runs: int = 2) -> xr.Dataset:
    """Write runs of fMRI as BIDS, an atlas of the regions, and their geometries as models.

    Parameters
    ----------
    folder : Path
        Study folder; ``bids/`` and ``atlas/`` are written below.
    seed : int
        Seed of everything.
    runs : int
        Number of runs.

    Returns
    -------
    xarray.Dataset
        ``true_rdm(region, condition, condition_2)``: mean squared difference over voxels of the
        planted patterns, in squared units of their SD.
    """
    import xarray as xr

    rng = np.random.default_rng(seed)
    labels = head_labels(SHAPE, len(REGIONS))
    patterns = _patterns(rng, labels)
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    for number in range(1, runs + 1):
        run = _run(rng, labels, patterns, affine)
        write_bids_fmri(run, folder / "bids", subject=SUBJECT, number=str(number))
    write_labels(labels, affine, REGIONS, folder / "atlas" / "regions.nii.gz")
    difference = [p[:, None] - p[None] for p in _by_region(patterns, labels)]
    true = np.stack([(one**2).mean(axis=2) for one in difference])
    _write_models(true, folder / "models")
    return xr.Dataset(
        {"true_rdm": (("region", "condition", "condition_2"), true)},
        coords={
            "region": list(REGIONS),
            "condition": list(CONDITIONS),
            "condition_2": list(CONDITIONS),
        },
    )


def _by_region(patterns: Floats, labels: NDArray[np.int16]) -> list[Floats]:
    inside = labels[labels > 0]
    return [patterns[:, inside == k + 1] for k in range(len(REGIONS))]


def _patterns(rng: np.random.Generator, labels: NDArray[np.int16]) -> Floats:
    """Return (condition, voxel): from region to region categories take over from items."""
    latents = layer_latents(
        rng, conditions=len(CONDITIONS), categories=len(CATEGORIES), latents=8, layers=len(REGIONS)
    )
    inside = labels[labels > 0]
    found = np.empty((len(CONDITIONS), inside.size))
    for k, latent in enumerate(latents):
        n_voxels = int((inside == k + 1).sum())
        mixed = latent @ rng.normal(size=(latent.shape[1], n_voxels))
        found[:, inside == k + 1] = (mixed - mixed.mean(axis=0)) / mixed.std()
    return found


def _events(rng: np.random.Generator) -> list[tuple[float, float, str]]:
    """Return every condition once in each of `REPEATS` shuffled rounds."""
    order = [name for _ in range(REPEATS) for name in rng.permutation(CONDITIONS)]
    gaps = GAP_S + rng.choice([0.0, TR_S], len(order))
    onsets = 8.0 + np.concatenate([[0.0], np.cumsum(gaps)[:-1]])
    return [(float(at), DURATION_S, str(name)) for at, name in zip(onsets, order, strict=True)]


def _run(
    rng: np.random.Generator, labels: NDArray[np.int16], patterns: Floats, affine: Floats
) -> SimulatedFmri:
    events = _events(rng)
    n_times = round((events[-1][0] + TAIL_S) / TR_S)
    courses = np.stack(
        [block_response(n_times, TR_S, [e for e in events if e[2] == name]) for name in CONDITIONS],
        axis=1,
    )
    motion = rng.normal(scale=[0.01] * 3 + [1e-4] * 3, size=(n_times, 6)).cumsum(axis=0)
    drift = 15.0 * np.linspace(-1, 1, n_times) + 40.0 * motion[:, :3].sum(axis=1)
    mean_response = 20.0 * courses.sum(axis=1, keepdims=True)
    course = EFFECT * courses @ patterns + mean_response + drift[:, None]
    values = np.zeros((*SHAPE, n_times))
    values[labels > 0] = (BASELINE + course).T
    values += rng.normal(scale=NOISE, size=values.shape)
    return SimulatedFmri(
        values=np.rint(np.clip(values, 0, None)).astype(np.int16),
        labels=labels,
        affine=affine,
        signals=np.stack([part.mean(axis=1) for part in _regions_of(course, labels)], axis=1),
        motion=motion,
        spikes=np.zeros(0, np.int64),
        events=tuple(events),
        tr_s=TR_S,
    )


def _regions_of(course: Floats, labels: NDArray[np.int16]) -> list[Floats]:
    inside = labels[labels > 0]
    return [course[:, inside == k + 1] for k in range(len(REGIONS))]


def _write_models(true: Floats, folder: Path) -> None:
    """Write the geometry of the first and of the last region as tables."""
    folder.mkdir(parents=True, exist_ok=True)
    for k in (0, len(REGIONS) - 1):
        lines = [",".join(["", *CONDITIONS])]
        for name, row in zip(CONDITIONS, true[k], strict=True):
            lines.append(",".join([name, *(f"{value:.6g}" for value in row)]))
        (folder / f"{REGIONS[k]}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
