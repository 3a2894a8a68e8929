"""Small fMRI data sets in real formats: BIDS NIfTI with sidecars, CIFTI, GIFTI, tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = [
    "MOTION",
    "SimulatedFmri",
    "block_response",
    "head_labels",
    "simulate_fmri",
    "write_atlas",
    "write_bids_fmri",
    "write_dense_cifti",
    "write_functional_gifti",
    "write_labels",
    "write_parcel_cifti",
    "write_parcel_table",
]

MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
CONDITIONS = ("face", "house", "cat")
HEAD_MM = 50.0
VOXEL_MM = 4.0
BASELINE, SIGNAL_CHANGE, UNSTEADY = 1000.0, 0.02, 2


@dataclass(frozen=True)
class SimulatedFmri:
    """One run of a head with parcels of known signals, and what was measured beside them.

    Attributes
    ----------
    values : numpy.ndarray
        Volumes, int16 ``(x, y, z, time)``; the first two are brighter than the steady state.
    labels : numpy.ndarray
        Parcel of each voxel from 1, 0 outside, int16 ``(x, y, z)``.
    affine : numpy.ndarray
        Voxel to mm, ``(4, 4)``.
    signals : numpy.ndarray
        Planted signal of each parcel, mean 0 and standard deviation 1, ``(time, parcel)``.
    motion : numpy.ndarray
        `MOTION` per volume, mm and radians, ``(time, 6)``.
    spikes : numpy.ndarray
        Volumes at which the head jumps.
    events : tuple of (onset s, duration s, label)
    tr_s : float
        Repetition time, seconds.
    """

    values: np.ndarray
    labels: np.ndarray
    affine: np.ndarray
    signals: np.ndarray
    motion: np.ndarray
    spikes: np.ndarray
    events: tuple[tuple[float, float, str], ...]
    tr_s: float

    @property
    def displacement(self) -> np.ndarray:
        """Framewise displacement in mm, NaN at the first volume, ``(time,)``."""
        steps = np.abs(np.diff(self.motion, axis=0))
        moved = steps[:, :3].sum(axis=1) + HEAD_MM * steps[:, 3:].sum(axis=1)
        return np.concatenate([[np.nan], moved])

    @property
    def names(self) -> list[str]:
        """Name of each parcel."""
        return [f"region{k + 1}" for k in range(self.signals.shape[1])]


def _response(tr_s: float) -> np.ndarray:
    """Return a haemodynamic response: two gamma densities, sum 1."""
    from scipy.stats import gamma

    t = np.arange(0.0, 30.0, tr_s)
    shape: np.ndarray = gamma.pdf(t, 6.0) - 0.35 * gamma.pdf(t, 12.0)
    return shape / shape.sum()


def head_labels(shape: tuple[int, int, int], parcels: int) -> np.ndarray:
    """Return labels (from 1, 0 outside) of an ellipsoid cut into parcels of nearly equal size."""
    axes = [np.linspace(-1, 1, n) for n in shape]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    inside = x**2 + y**2 + z**2 < 0.85
    angle = np.arctan2(y, x)
    order = np.argsort(angle[inside], kind="stable")
    labels = np.zeros(shape, np.int16)
    ranks = np.empty(order.size, np.int64)
    ranks[order] = np.arange(order.size)
    labels[inside] = 1 + ranks * parcels // order.size
    return labels


def block_response(
    n_times: int, tr_s: float, events: Sequence[tuple[float, float, str]]
) -> np.ndarray:
    """Return the haemodynamic response to events (onset s, duration s, label), ``(time,)``."""
    time, on = np.arange(n_times) * tr_s, np.zeros(n_times)
    for start, duration, _ in events:
        on[(time >= start) & (time < start + duration)] = 1.0
    return np.convolve(on, _response(tr_s))[:n_times]


def _signals(n_times: int, parcels: int, tr_s: float, events: list[tuple[float, float, str]],
             rng: np.random.Generator) -> np.ndarray:  # fmt: skip
    courses = [
        block_response(n_times, tr_s, [event for event in events if event[2] == label])
        for label in CONDITIONS
    ]
    own = np.stack([np.convolve(rng.normal(size=n_times + 4), np.ones(5) / 5, "valid")
                    for _ in range(parcels)], axis=1)  # fmt: skip
    weights = np.random.default_rng(7).uniform(0.2, 1.0, (len(CONDITIONS), parcels))
    signals = 2.0 * np.stack(courses, axis=1) @ weights + own[:n_times]
    return (signals - signals.mean(axis=0)) / signals.std(axis=0)


def simulate_fmri(
    parcels: int = 6,
    n_times: int = 120,
    *,
    shape: tuple[int, int, int] = (14, 12, 7),
    tr_s: float = 2.0,
    spikes: int = 2,
    noise: float = 10.0,
    seed: int = 0,
) -> SimulatedFmri:
    """Return a run with planted parcel signals, drift, motion with jumps and their artefacts.

    Parameters
    ----------
    parcels, n_times : int
        Number of parcels and volumes.
    shape : tuple of int
        Voxels.
    tr_s : float
        Repetition time, seconds.
    spikes : int
        Volumes at which the head jumps by more than 0.5 mm.
    noise : float
        Standard deviation of the noise of a voxel; the signal's is 20.
    seed : int
        Seed; the response of a parcel to a condition does not depend on it.
    """
    rng = np.random.default_rng(seed)
    labels = head_labels(shape, parcels)
    blocks = np.arange(10.0, n_times * tr_s - 20.0, 26.0)
    events = [(float(t), 12.0, CONDITIONS[k % len(CONDITIONS)]) for k, t in enumerate(blocks)]
    signals = _signals(n_times, parcels, tr_s, events, rng)
    motion = rng.normal(scale=[0.01] * 3 + [1e-4] * 3, size=(n_times, 6)).cumsum(axis=0)
    jumps = np.sort(rng.choice(np.arange(10, n_times - 5), spikes, replace=False))
    for jump in jumps:
        motion[jump, :3] += 0.6
    time = np.linspace(-1, 1, n_times)
    brain = labels > 0
    course = BASELINE * SIGNAL_CHANGE * signals[:, labels[brain] - 1]
    course += 15.0 * time[:, None] + 60.0 * motion[:, :3].sum(axis=1)[:, None]
    course[:UNSTEADY] += 200.0
    values = np.zeros((*shape, n_times))
    values[brain] = (BASELINE + course).T
    values += rng.normal(scale=noise, size=values.shape)
    affine = np.diag([VOXEL_MM] * 3 + [1.0])
    affine[:3, 3] = -VOXEL_MM * (np.array(shape) - 1) / 2
    return SimulatedFmri(
        values=np.rint(np.clip(values, 0, None)).astype(np.int16),
        labels=labels,
        affine=affine,
        signals=signals,
        motion=motion,
        spikes=jumps,
        events=tuple(events),
        tr_s=tr_s,
    )


def _image(values: np.ndarray, affine: np.ndarray, tr_s: float | None = None) -> Any:
    import nibabel as nib

    image: Any = nib.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm", "sec" if tr_s is not None else "unknown")
    if tr_s is not None:
        image.header.set_zooms((*image.header.get_zooms()[:3], tr_s))
    return image


def _write_tsv(path: Path, columns: dict[str, Any]) -> None:
    rows = zip(*columns.values(), strict=True)
    text = ["\t".join(columns)]
    text += ["\t".join("n/a" if _is_nan(cell) else str(cell) for cell in row) for row in rows]
    path.write_text("\n".join(text) + "\n", encoding="utf-8")


def _is_nan(cell: Any) -> bool:
    return isinstance(cell, float) and np.isnan(cell)


def _confounds(run: SimulatedFmri) -> dict[str, list[float]]:
    brain = run.values[run.labels > 0].astype(np.float64)
    rng = np.random.default_rng(len(run.motion))
    n_times = len(run.motion)
    columns = {
        "csf": rng.normal(500.0, 5.0, n_times),
        "white_matter": rng.normal(800.0, 5.0, n_times),
        "global_signal": brain.mean(axis=0),
        "framewise_displacement": run.displacement,
    }
    for k, name in enumerate(MOTION):
        step = np.concatenate([[np.nan], np.diff(run.motion[:, k])])
        columns |= {name: run.motion[:, k], f"{name}_derivative1": step}
    for k in range(UNSTEADY):
        columns[f"non_steady_state_outlier{k:02d}"] = (np.arange(n_times) == k).astype(float)
    return {name: [float(value) for value in values] for name, values in columns.items()}


def write_atlas(run: SimulatedFmri, path: Path | str) -> None:
    """Write the parcels as a label image, and their names as a table ``<stem>.tsv`` beside it."""
    write_labels(run.labels, run.affine, run.names, path)


def write_labels(
    labels: np.ndarray, affine: np.ndarray, names: Sequence[str], path: Path | str
) -> None:
    """Write labels as an image, and their names (from label 1) as a table ``<stem>.tsv`` beside it.

    Parameters
    ----------
    labels : numpy.ndarray
        ``(x, y, z)`` of int16, 0 outside.
    affine : numpy.ndarray
        Voxel to mm, ``(4, 4)``.
    names : sequence of str
    path : path
        ``.nii`` or ``.nii.gz``.
    """
    import nibabel as nib

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(_image(labels, affine), path)
    hemispheres = ["L" if k < len(names) // 2 else "R" for k in range(len(names))]
    columns = {"index": range(1, len(names) + 1), "name": names, "hemisphere": hemispheres}
    _write_tsv(path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + ".tsv"), columns)


def write_bids_fmri(
    run: SimulatedFmri,
    root: Path | str,
    *,
    subject: str = "01",
    task: str = "objects",
    number: str = "",
    extension: str = ".nii.gz",
    mask: bool = True,
) -> Path:
    """Write one run of one subject as BIDS: image, JSON, events, confounds, brain mask.

    Parameters
    ----------
    run : SimulatedFmri
    root : path
        Folder of the data set.
    subject, task, number : str
        Entities; `number` is ``run``, "" for none.
    extension : {".nii.gz", ".nii"}
    mask : bool
        Write the brain mask.

    Returns
    -------
    Path
        The image.
    """
    import nibabel as nib

    root = Path(root)
    folder = root / f"sub-{subject}" / "func"
    folder.mkdir(parents=True, exist_ok=True)
    description = {"Name": "simulated objects", "BIDSVersion": "1.10.0"}
    (root / "dataset_description.json").write_text(json.dumps(description), encoding="utf-8")
    stem = f"sub-{subject}_task-{task}" + (f"_run-{number}" if number else "")
    image = folder / f"{stem}_bold{extension}"
    nib.save(_image(run.values, run.affine, run.tr_s), image)
    n_slices = run.values.shape[2]
    metadata = {
        "RepetitionTime": run.tr_s,
        "TaskName": task,
        "SliceTiming": [k * run.tr_s / n_slices for k in range(n_slices)],
    }
    (folder / f"{stem}_bold.json").write_text(json.dumps(metadata), encoding="utf-8")
    onset, duration, label = zip(*run.events, strict=True)
    events = {"onset": onset, "duration": duration, "trial_type": label}
    _write_tsv(folder / f"{stem}_events.tsv", events)
    _write_tsv(folder / f"{stem}_desc-confounds_timeseries.tsv", _confounds(run))
    if mask:
        brain = (run.labels > 0).astype(np.uint8)
        nib.save(_image(brain, run.affine), folder / f"{stem}_desc-brain_mask.nii.gz")
    return image


def _parcel_means(run: SimulatedFmri) -> np.ndarray:
    """Return the mean of each parcel, float32 ``(time, parcel)``."""
    means = [run.values[run.labels == k + 1].mean(axis=0) for k in range(len(run.names))]
    return np.stack(means, axis=1).astype(np.float32)


def write_parcel_table(run: SimulatedFmri, path: Path | str) -> None:
    """Write the mean of each parcel as a table, one column per parcel."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    separator = "\t" if path.suffix == ".tsv" else ","
    rows = [run.names, *([repr(float(v)) for v in row] for row in _parcel_means(run))]
    path.write_text("\n".join(separator.join(row) for row in rows) + "\n", encoding="utf-8")


def write_dense_cifti(run: SimulatedFmri, path: Path | str) -> np.ndarray:
    """Write voxels and a small left surface as dtseries; return the samples ``(time, row)``."""
    import nibabel as nib

    volume = nib.cifti2.BrainModelAxis.from_mask(run.labels > 0, affine=run.affine)
    surface = nib.cifti2.BrainModelAxis.from_surface([0, 2, 5, 9], 12, "CORTEX_LEFT")
    voxels = run.values[run.labels > 0].T.astype(np.float32)
    samples = np.concatenate([_parcel_means(run)[:, [0] * 4], voxels], axis=1)
    _save_cifti(samples, surface + volume, run.tr_s, Path(path))
    return samples


def write_parcel_cifti(run: SimulatedFmri, path: Path | str) -> np.ndarray:
    """Write the mean of each parcel as ptseries; return the samples ``(time, parcel)``."""
    import nibabel as nib

    models = []
    for k, name in enumerate(run.names):
        mask = run.labels == k + 1
        model = nib.cifti2.BrainModelAxis.from_mask(mask, affine=run.affine)
        models.append((name, model))
    samples = _parcel_means(run)
    axis = nib.cifti2.ParcelsAxis.from_brain_models(models)
    _save_cifti(samples, axis, run.tr_s, Path(path))
    return samples


def _save_cifti(samples: np.ndarray, rows: Any, tr_s: float, path: Path) -> None:
    import nibabel as nib

    path.parent.mkdir(parents=True, exist_ok=True)
    series = nib.cifti2.SeriesAxis(0.0, tr_s, len(samples))
    image = nib.Cifti2Image(samples, nib.cifti2.Cifti2Header.from_axes((series, rows)))
    image.nifti_header.set_intent("ConnDenseSeries")
    nib.save(image, path)


def write_functional_gifti(
    run: SimulatedFmri, path: Path | str, *, stated: bool = True
) -> np.ndarray:
    """Write one vertex per parcel as func.gii; return the samples ``(time, vertex)``.

    Parameters
    ----------
    run : SimulatedFmri
    path : path
        The file.
    stated : bool
        State the repetition time in the metadata.
    """
    import nibabel as nib

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = _parcel_means(run)
    meta = {"AnatomicalStructurePrimary": "CortexLeft"}
    if stated:
        meta |= {"TimeStep": str(1000 * run.tr_s), "TimeUnits": "NIFTI_UNITS_MSEC"}
    arrays = [
        nib.gifti.GiftiDataArray(
            row, intent="NIFTI_INTENT_TIME_SERIES", datatype="NIFTI_TYPE_FLOAT32"
        )
        for row in samples
    ]
    image = nib.gifti.GiftiImage(meta=nib.gifti.GiftiMetaData(meta), darrays=arrays)
    nib.save(image, path)
    return samples
