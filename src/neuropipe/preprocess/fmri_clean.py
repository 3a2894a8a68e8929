"""All nuisance of fMRI regressed out in one model, fitted to the volumes that are kept."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.errors import DataError
from neuropipe.preprocess.fmri_motion import MOTION, confound, motion_of, motion_terms
from neuropipe.preprocess.sampling import is_uniform, median_step
from neuropipe.preprocess.steps import add_issue, recorded_step, row_dim

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["clean", "nuisance"]

TISSUES = (("csf", "CSF"), ("white_matter", "WhiteMatter", "wm"))
UNITS = {"zscore_sample": "s.d.", "psc": "%", "none": ""}
BLOCK_BYTES = 32 << 20


def _motion(ds: xr.Dataset, confounds: str) -> np.ndarray:
    motion = motion_of(ds)
    if motion is None:
        name = str(ds.attrs.get("recording", "recording"))
        known = [str(c) for c in ds["confound"].values.tolist()] if "confound" in ds else []
        raise DataError(
            f"{name}: preprocess.fmri.confounds is {confounds!r}, but the store lacks motion "
            f"parameters: {', '.join(n for n in MOTION if n not in known)} (confounds found: "
            f"{', '.join(known) or 'none'}); set `preprocess.fmri.confounds: none`, or put a "
            "confounds table with these columns beside the image and ingest again"
        )
    return motion_terms(motion, confounds)


def nuisance(
    ds: xr.Dataset, *, confounds: str, csf_wm: bool, detrend: bool
) -> tuple[np.ndarray, xr.Dataset]:
    """Return the regressors of one model but the cosines, and the dataset with issues.

    Parameters
    ----------
    ds : xarray.Dataset
        With ``confounds (time, confound)`` and ``sample_ok (time)``.
    confounds : {"none", "6p", "24p"}
        Motion terms.
    csf_wm, detrend : bool
        Mean signals of CSF and white matter; a line in time.

    Returns
    -------
    numpy.ndarray
        ``(n_times, n_regressors)``.
    xarray.Dataset
        `ds`, with an issue where a tissue's signal is absent.

    Raises
    ------
    DataError
        If motion parameters are absent, or a regressor is NaN at a kept volume.
    """
    n_times = ds.sizes["time"]
    columns = [np.zeros((n_times, 0))]
    if confounds != "none":
        columns.append(_motion(ds, confounds))
    absent = []
    for names in TISSUES if csf_wm else ():
        signal = confound(ds, names)
        if signal is None:
            absent.append(names[0])
        else:
            columns.append(signal[:, None])
    if absent:
        text = f"no column {' and '.join(absent)} among the confounds; not regressed out"
        hint = "set `preprocess.fmri.csf_wm: false` if that is meant"
        ds = add_issue(ds, "NO_TISSUE_SIGNAL", text, hint)
    if detrend:
        columns.append(np.linspace(-1.0, 1.0, n_times)[:, None])
    matrix = np.concatenate(columns, axis=1)
    kept = np.asarray(ds["sample_ok"].values, dtype=bool)
    bad = np.argwhere(~np.isfinite(matrix) & kept[:, None])
    if bad.size:
        raise DataError(
            f"{ds.attrs.get('recording', 'recording')}: a confound that is regressed out is not "
            f"finite at volume {bad[0][0]}, numbers expected; correct the confounds table, or "
            "leave it out: `preprocess.fmri.confounds`, `csf_wm`"
        )
    # What censored volumes hold does not matter, but nilearn asks for numbers.
    return np.nan_to_num(matrix, posinf=0.0, neginf=0.0), ds


def _check_freedom(matrix: np.ndarray, drift: np.ndarray, kept: np.ndarray, name: str) -> None:
    design = np.concatenate([np.ones((len(matrix), 1)), matrix, drift], axis=1)[kept]
    spread = np.abs(design).max(axis=0)
    rank = int(np.linalg.matrix_rank(design / np.where(spread > 0, spread, 1.0)))
    if kept.sum() > rank:
        return
    raise DataError(
        f"{name}: {int(kept.sum())} volumes are kept, the model has {rank} independent "
        "regressors, so that nothing would be left; use `preprocess.fmri.confounds: 6p` or "
        "`none`, raise `fd_threshold_mm`, or exclude the recording"
    )


def _drift(time: np.ndarray, high_pass_hz: float | None, name: str) -> np.ndarray:
    """Return the cosine regressors up to a frequency, ``(n_times, n)``."""
    if high_pass_hz is None:
        return np.zeros((len(time), 0))
    if not is_uniform(time):
        raise DataError(
            f"{name}: volumes are not evenly spaced (median step {median_step(time):g} s), the "
            "high pass needs that; set `preprocess.fmri.high_pass_hz: null`"
        )
    from nilearn.glm.first_level.design_matrix import create_cosine_drift

    # The last column is the constant, which every model here has anyway.
    return np.asarray(create_cosine_drift(high_pass_hz, time))[:, :-1]


def _regress(
    values: np.ndarray, kept: np.ndarray, regressors: np.ndarray, standardise: str
) -> np.ndarray:
    """Return cleaned values at kept volumes, ``(n_kept, n_rows)``."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="From release 0.14.0")
        from nilearn.signal import clean as nilearn_clean

        return np.asarray(
            nilearn_clean(
                values,
                sample_mask=None if kept.all() else np.flatnonzero(kept),
                confounds=regressors if regressors.shape[1] else None,
                detrend=False,
                filter=False,
                standardize=None if standardise == "none" else standardise,
                standardize_confounds=True,
                ensure_finite=False,
            )
        )


def _patterns(finite: np.ndarray, kept: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return sets of rows that miss the same samples: samples to use, and the rows."""
    whole = finite.sum(axis=0) == kept.sum()
    found = [(kept, np.flatnonzero(whole))] if whole.any() else []
    others = np.flatnonzero(~whole)
    if others.size:
        patterns, owner = np.unique(finite[:, others], axis=1, return_inverse=True)
        owner = owner.ravel()
        found += [(patterns[:, k], others[owner == k]) for k in range(patterns.shape[1])]
    return found


def _clean_rows(
    values: np.ndarray, kept: np.ndarray, regressors: np.ndarray, standardise: str
) -> np.ndarray:
    """Return cleaned rows, NaN where censored or missing and where a row does not vary.

    Rows are fitted together where the same samples are missing.
    """
    result = np.full(values.shape, np.nan)
    for use, rows in _patterns(np.isfinite(values) & kept[:, None], kept):
        # The constant is one more regressor.
        if use.sum() < 2 or use.sum() <= np.linalg.matrix_rank(regressors[use]) + 1:
            continue
        rows = rows[np.ptp(values[np.ix_(use, rows)], axis=0) > 0]
        if rows.size:
            part = np.where(use[:, None], values[:, rows], 0.0)
            result[np.ix_(use, rows)] = _regress(part, use, regressors, standardise)
    return result


def _in_pieces(
    source: np.ndarray, kept: np.ndarray, regressors: np.ndarray, standardise: str
) -> np.ndarray:
    """Return cleaned rows in the precision of the source; few are float64 at a time."""
    result = np.empty_like(source)
    step = max(1, BLOCK_BYTES // (8 * len(source)))
    for start in range(0, source.shape[1], step):
        columns = slice(start, start + step)
        block = source[:, columns].astype(np.float64)
        result[:, columns] = _clean_rows(block, kept, regressors, standardise)
    return result


@recorded_step("clean", ("nilearn",))
def clean(
    ds: xr.Dataset,
    *,
    confounds: str = "24p",
    csf_wm: bool = True,
    detrend: bool = True,
    high_pass_hz: float | None = 0.008,
    standardise: str = "zscore_sample",
) -> xr.Dataset:
    """Regress out motion, tissue signals, trend and slow drift in one least-squares model.

    One model, since steps in turn put back what was taken off before (Lindquist et al. 2019).
    It is fitted to the kept volumes only; the regressors of drift belong to the whole clock.

    Parameters
    ----------
    ds : xarray.Dataset
        With ``activity (time, <row>)``, ``valid``, ``sample_ok (time)`` and ``confounds``.
    confounds, csf_wm, detrend
        Of `nuisance`.
    high_pass_hz : float or None
        Cosines up to this frequency are regressed out.
    standardise : {"zscore_sample", "psc", "none"}
        Scale over kept volumes: standard deviations, percent of the mean, or as it is.

    Returns
    -------
    xarray.Dataset
        All volumes; NaN where censored. Rows that do not vary, or have too few samples for the
        model, are NaN and not ok, with an issue. Without ``confounds``.

    Raises
    ------
    DataError
        Of `nuisance`; if no degree of freedom is left; if volumes are not evenly spaced and a
        high pass is asked for.
    """
    name, row = str(ds.attrs.get("recording", "recording")), row_dim(ds)
    matrix, ds = nuisance(ds, confounds=confounds, csf_wm=csf_wm, detrend=detrend)
    drift = _drift(np.asarray(ds["time"].values, np.float64), high_pass_hz, name)
    kept = np.asarray(ds["sample_ok"].values, dtype=bool)
    _check_freedom(matrix, drift, kept, name)
    regressors = np.concatenate([matrix, drift], axis=1)
    source = ds["activity"].transpose("time", row).values
    result = _in_pieces(source, kept, regressors, standardise)
    lost = ~np.isfinite(result).any(axis=0)
    known = np.isfinite(source).any(axis=0)
    ds = ds.drop_vars(["confounds", "confound", "slice_timing"], errors="ignore")
    ds = ds.assign({f"{row}_ok": (row, ds[f"{row}_ok"].values & ~lost)})
    units: dict[str, Any] = {"units": UNITS[standardise] or ds["activity"].attrs.get("units", "")}
    ds = ds.assign(
        activity=(("time", row), result, {**ds["activity"].attrs, **units}),
        valid=(("time", row), np.isfinite(result)),
    )
    if (lost & known).any():
        text = "rows that do not vary, or have too few samples for the model, are NaN and not ok"
        rows = ds[row].values[lost & known]
        ds = add_issue(ds, "FLAT_ROWS", text, "a mask that reaches out of the head?", rows=rows)
    return ds
