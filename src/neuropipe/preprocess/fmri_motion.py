"""Head motion: parameters, framewise displacement, and the volumes that are left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuropipe.errors import DataError
from neuropipe.preprocess.steps import add_issue, recorded_step

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "MOTION",
    "censor",
    "confound",
    "framewise_displacement",
    "mark_volumes",
    "motion_of",
    "motion_terms",
]

TRANSLATIONS = ("trans_x", "trans_y", "trans_z")
ROTATIONS = ("rot_x", "rot_y", "rot_z")
MOTION = (*TRANSLATIONS, *ROTATIONS)
DISPLACEMENT = ("framewise_displacement", "FramewiseDisplacement")
HEAD_MM = 50.0
MANY_CENSORED = 0.2


def confound(ds: xr.Dataset, names: tuple[str, ...]) -> np.ndarray | None:
    """Return the first of these confounds that the store holds, ``(n_times,)``, or None."""
    if "confounds" not in ds:
        return None
    known = [str(name) for name in ds["confound"].values]
    found = next((name for name in names if name in known), None)
    if found is None:
        return None
    table = ds["confounds"].transpose("time", "confound").values
    return np.asarray(table[:, known.index(found)], dtype=np.float64)


def motion_of(ds: xr.Dataset) -> np.ndarray | None:
    """Return the six motion parameters, mm and radians, ``(n_times, 6)``, or None.

    Parameters
    ----------
    ds : xarray.Dataset
        With ``confounds (time, confound)`` where the source has any.
    """
    columns = [confound(ds, (name,)) for name in MOTION]
    known = [column for column in columns if column is not None]
    return np.stack(known, axis=1) if len(known) == len(columns) else None


def motion_terms(motion: np.ndarray, confounds: str) -> np.ndarray:
    """Return motion regressors.

    Parameters
    ----------
    motion : numpy.ndarray
        ``(n_times, 6)``.
    confounds : {"6p", "24p"}
        ``24p``: parameters, backward differences, and the squares of both (Satterthwaite et al.
        2013). The first difference is that of the second volume, as in nilearn.

    Returns
    -------
    numpy.ndarray
        ``(n_times, 6)`` or ``(n_times, 24)``.
    """
    if confounds == "6p":
        return motion
    steps = np.diff(motion, axis=0)
    steps = np.concatenate([steps[:1], steps])
    return np.concatenate([motion, steps, motion**2, steps**2], axis=1)


def framewise_displacement(motion: np.ndarray) -> np.ndarray:
    """Return how far the head moved since the volume before, mm.

    Sum of absolute differences of the six parameters, rotations as arcs on a sphere of 50 mm
    (Power et al. 2012).

    Parameters
    ----------
    motion : numpy.ndarray
        Translations in mm, then rotations in radians, ``(n_times, 6)``.

    Returns
    -------
    numpy.ndarray
        ``(n_times,)``, NaN at the first volume.

    Examples
    --------
    >>> framewise_displacement(np.array([[0.0] * 6, [0.1, 0, 0, 0.01, 0, 0]])).round(3).tolist()
    [nan, 0.6]
    """
    steps = np.abs(np.diff(motion, axis=0))
    moved = steps[:, :3].sum(axis=1) + HEAD_MM * steps[:, 3:].sum(axis=1)
    return np.concatenate([[np.nan], moved])


def mark_volumes(ds: xr.Dataset, fd_threshold_mm: float | None) -> xr.Dataset:
    """Mark volumes that are not steady or at which the head moved.

    Parameters
    ----------
    ds : xarray.Dataset
        With ``time`` and ``confounds`` where the source has any; ``sample_ok (time)`` of the
        source, which is False at volumes before the steady state.
    fd_threshold_mm : float or None
        Largest framewise displacement; None censors none for motion.

    Returns
    -------
    xarray.Dataset
        ``sample_ok (time)`` and, where motion is known, ``framewise_displacement (time)`` in mm:
        the column of the source, else computed from the motion parameters.

    Raises
    ------
    DataError
        If no volume is left.
    """
    n_times = ds.sizes["time"]
    kept = np.ones(n_times, dtype=bool)
    if "sample_ok" in ds:
        kept = np.asarray(ds["sample_ok"].values, dtype=bool)
    moved = confound(ds, DISPLACEMENT)
    motion = motion_of(ds)
    if moved is None and motion is not None:
        moved = framewise_displacement(motion)
    if moved is not None:
        attrs = {"units": "mm", "threshold": fd_threshold_mm if fd_threshold_mm else np.nan}
        ds = ds.assign(framewise_displacement=("time", moved, attrs))
    if fd_threshold_mm is not None and moved is not None:
        kept = kept & ~(moved > fd_threshold_mm)
    elif fd_threshold_mm is not None:
        text = "no motion parameters and no framewise displacement, so no volume is censored"
        hint = "name the confounds table when ingesting, or set `fd_threshold_mm: null`"
        ds = add_issue(ds, "NO_MOTION", text, hint)
    name = str(ds.attrs.get("recording", "recording"))
    if not kept.any():
        raise DataError(
            f"{name}: every volume moved by more than {fd_threshold_mm:g} mm or is not steady; "
            "raise `preprocess.fmri.fd_threshold_mm`, or exclude the recording"
        )
    lost = int((~kept).sum())
    if lost > MANY_CENSORED * n_times:
        text = f"{lost} of {n_times} volumes are censored ({100 * lost / n_times:.0f} %)"
        ds = add_issue(ds, "CENSORED", text, "look at the motion figure before using it")
    return ds.assign(sample_ok=("time", kept))


@recorded_step("censor")
def censor(ds: xr.Dataset, *, fd_threshold_mm: float | None = 0.5) -> xr.Dataset:
    """Mark volumes that are not steady or at which the head moved; none is deleted.

    Parameters
    ----------
    ds : xarray.Dataset
        With ``activity (time, <row>)``; else as `mark_volumes` takes it.
    fd_threshold_mm : float or None
        Largest framewise displacement; None censors none for motion.

    Returns
    -------
    xarray.Dataset
        As of `mark_volumes`; ``activity`` is NaN and not valid at censored volumes.

    Raises
    ------
    DataError
        If no volume is left.
    """
    ds = mark_volumes(ds, fd_threshold_mm)
    kept = ds["sample_ok"].values
    values = ds["activity"].values.copy()
    values[~kept] = np.nan
    return ds.assign(
        activity=ds["activity"].copy(data=values),
        valid=ds["valid"].copy(data=ds["valid"].values & kept[:, None]),
    )
