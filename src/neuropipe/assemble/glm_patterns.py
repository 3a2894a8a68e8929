"""Patterns of fMRI: one model of a run with all its regressors, or means of volumes.

The model is that of a general linear model with a canonical response (Friston et al. 1995), fitted
by nilearn; conditions, motion, tissue signals, slow drift and censored volumes enter together.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from neuropipe.assemble.exclusion import Unusable
from neuropipe.assemble.windows import read_table
from neuropipe.errors import Issue, issues_from_json
from neuropipe.preprocess.fmri import bold_blocks
from neuropipe.preprocess.fmri_clean import nuisance
from neuropipe.preprocess.fmri_motion import mark_volumes

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from neuropipe.config.models import FmriPreprocess

__all__ = ["Design", "RunEstimate", "design_of", "fit_run", "window_means"]

MIN_ONSET_S = -24.0
BLOCK_ROWS = 4096
QUADRATIC = 2
DESIGN_DIMS = (("time",), ("confound",), ("time", "confound"), ("confound", "time"))


@dataclass(frozen=True)
class Design:
    """Regressors of one run.

    Attributes
    ----------
    matrix : numpy.ndarray
        ``(n_times, n_regressors)``.
    columns : tuple of int
        Column of each condition; -1 for one that the run does not have.
    kept : numpy.ndarray
        Bool, ``(n_times,)``: volumes that are not censored.
    counts : numpy.ndarray
        Events of each condition.
    rank : int
        Of the matrix.
    """

    matrix: np.ndarray
    columns: tuple[int, ...]
    kept: np.ndarray
    counts: np.ndarray
    rank: int


@dataclass(frozen=True)
class RunEstimate:
    """What one run says.

    Attributes
    ----------
    patterns : numpy.ndarray
        ``(n_conditions, n_rows)``; NaN for a condition that the run does not have, and for rows
        with missing samples.
    residuals : numpy.ndarray
        float32, ``(n_samples, n_rows)``.
    dof : int
        Degrees of freedom of the residuals.
    counts : numpy.ndarray
        Events of each condition.
    """

    patterns: np.ndarray
    residuals: np.ndarray
    dof: int
    counts: np.ndarray


def _events(tree: xr.DataTree, labels: Sequence[str], column: str | None, last: float
            ) -> tuple[pd.DataFrame, np.ndarray, list[Issue]]:  # fmt: skip
    """Return the events that enter the model with the number of their regressor.

    The conditions come first; every other label has a regressor of its own.
    """
    import pandas as pd

    recording = str(tree.attrs.get("recording", ""))
    table = read_table(tree, "events")
    name = next((c for c in (column or "label", f"x_{column}") if c in table), None)
    if name is None:
        raise Unusable("it has no events with such labels", "correct `input.labels` or its events")
    label = np.array([str(value) for value in table[name].tolist()], dtype=object)
    onset = np.asarray(table["onset"], dtype=np.float64)
    duration = np.full(len(onset), np.nan)
    if "duration" in table:
        duration = np.asarray(table["duration"], dtype=np.float64)
    inside = (onset >= MIN_ONSET_S) & (onset <= last) & (label != "")
    unknown = inside & ~np.isfinite(duration)
    wanted = np.isin(label.astype(str), list(labels))
    if (unknown & wanted).any():
        first = int(np.argmax(unknown & wanted))
        raise Unusable(
            f"the event {label[first]!r} at {onset[first]:g} s has no duration",
            "write durations (0 for an instant) into its table of events",
        )
    issues = []
    if unknown.any():
        words = ", ".join(sorted(set(label[unknown].tolist())))
        text = f"events without a duration have no regressor: {words}"
        issues.append(Issue("EVENT_WITHOUT_DURATION", recording, text))
    use = inside & ~unknown
    others = sorted(set(label[use].tolist()) - set(labels))
    number = {text: k for k, text in enumerate([*labels, *others])}
    kind = np.array([number[text] for text in label[use].tolist()], dtype=np.int64)
    # Labels may be anything; nilearn wants names.
    frame = pd.DataFrame(
        {"onset": onset[use], "duration": duration[use], "trial_type": [f"e{k:04d}" for k in kind]}
    )
    counts = np.bincount(kind, minlength=len(labels))[: len(labels)]
    if not counts.any():
        found = ", ".join(others) or "none"
        remedy = f"correct `input.labels` (labels found: {found})"
        raise Unusable("none of the conditions is in its events", remedy)
    return frame, counts, issues


def _volumes(tree: xr.DataTree, fd_threshold_mm: float | None) -> xr.Dataset:
    """Return what is known of each volume, with ``sample_ok``."""
    raw = tree["raw"].to_dataset()
    ds = raw.drop_vars([n for n, v in raw.variables.items() if v.dims not in DESIGN_DIMS]).load()
    ds.attrs = {"recording": str(tree.attrs.get("recording", ""))}
    return mark_volumes(ds, fd_threshold_mm)


def design_of(
    tree: xr.DataTree, labels: Sequence[str], column: str | None, settings: FmriPreprocess
) -> tuple[Design, list[Issue]]:
    """Return the model of one run.

    Parameters
    ----------
    tree : xarray.DataTree
        Ingested fMRI.
    labels : sequence of str
        Conditions.
    column : str or None
        Column of the events that holds them.
    settings : FmriPreprocess
        ``confounds``, ``csf_wm``, ``detrend``, ``high_pass_hz``, ``fd_threshold_mm``.

    Returns
    -------
    design : Design
        One regressor per event label with the response of Glover, motion, tissue signals and
        trend, cosines up to the high pass, one regressor per censored volume, the constant.
    issues : list of Issue

    Raises
    ------
    Unusable
        If the run has none of the conditions, or they cannot be told from the other regressors.
    DataError
        If motion parameters are absent, or no volume is left.
    """
    from nilearn.glm.first_level import make_first_level_design_matrix

    ds = _volumes(tree, settings.fd_threshold_mm)
    noise, ds = nuisance(
        ds, confounds=settings.confounds, csf_wm=settings.csf_wm, detrend=settings.detrend
    )
    time = np.asarray(ds["time"].values, dtype=np.float64)
    frame, counts, issues = _events(tree, labels, column, float(time[-1]))
    kept = np.asarray(ds["sample_ok"].values, dtype=bool)
    censored = np.eye(len(time))[:, ~kept]
    added = np.concatenate([noise, censored], axis=1)
    with warnings.catch_warnings():
        # Several events of one label at one time: nilearn adds them up, and says so.
        warnings.simplefilter("ignore", UserWarning)
        matrix = make_first_level_design_matrix(
            time, frame, hrf_model="glover", add_regs=added if added.shape[1] else None,
            add_reg_names=[f"n{k:04d}" for k in range(added.shape[1])] or None,
            drift_model=None if settings.high_pass_hz is None else "cosine",
            high_pass=settings.high_pass_hz or 0.01, min_onset=MIN_ONSET_S,
        )  # fmt: skip
    names = list(matrix.columns)
    columns = tuple(names.index(f"e{k:04d}") if counts[k] else -1 for k in range(len(labels)))
    design = np.asarray(matrix.values, dtype=np.float64)
    rank = _check_estimable(design, columns, kept)
    issues += issues_from_json(ds.attrs.get("issues", "[]"))
    return Design(design, columns, kept, counts, rank), issues


def _rank(matrix: np.ndarray) -> int:
    scale = np.linalg.norm(matrix, axis=0)
    return int(np.linalg.matrix_rank(matrix / np.where(scale > 0, scale, 1.0)))


def _check_estimable(matrix: np.ndarray, columns: Sequence[int], kept: np.ndarray) -> int:
    """Return the rank; raise `Unusable` if a condition is a mixture of other regressors."""
    own = [k for k in columns if k >= 0]
    rank, others = _rank(matrix), _rank(np.delete(matrix, own, axis=1))
    remedy = "use fewer confounds (`preprocess.fmri.confounds`), or correct its events"
    if rank - others < len(own):
        raise Unusable("its conditions cannot be told from the other regressors", remedy)
    if rank >= len(matrix):
        text = f"{int(kept.sum())} volumes are kept, too few for {matrix.shape[1]} regressors"
        raise Unusable(text, remedy)
    return rank


def _samples(raw: xr.Dataset, rows: np.ndarray) -> np.ndarray:
    """Return samples of some rows in their units, NaN where not valid, ``(n_times, n_rows)``."""
    values = np.empty((raw.sizes["time"], len(rows)))
    for here, block in bold_blocks(raw):
        values[here] = block[:, rows]
    return values


def _usable(values: np.ndarray) -> np.ndarray:
    """Say which rows have all samples, and not all the same."""
    whole = np.isfinite(values).all(axis=0)
    whole[whole] = np.ptp(values[:, whole], axis=0) > 0
    return whole


def fit_run(
    tree: xr.DataTree, design: Design, rows: np.ndarray, noise: Literal["ols", "ar1"]
) -> RunEstimate:
    """Fit the model of a run to each row.

    Parameters
    ----------
    tree : xarray.DataTree
        Ingested fMRI.
    design : Design
        Of `design_of`.
    rows : numpy.ndarray
        Positions of the rows.
    noise : {"ols", "ar1"}
        Least squares, or prewhitened by an autoregression of order 1.

    Returns
    -------
    RunEstimate
        Residuals at the kept volumes; whitened ones with ``ar1``.
    """
    from nilearn.glm.first_level import run_glm

    values = _samples(tree["raw"].to_dataset(), rows)
    whole = _usable(values[design.kept])
    values = np.where(np.isfinite(values), values, 0.0)
    patterns = np.full((len(design.columns), len(rows)), np.nan)
    residuals = np.full((int(design.kept.sum()), len(rows)), np.nan, dtype=np.float32)
    present = [k for k, column in enumerate(design.columns) if column >= 0]
    chosen = [design.columns[k] for k in present]
    places = np.flatnonzero(whole)
    for first in range(0, len(places), BLOCK_ROWS):
        own = places[first : first + BLOCK_ROWS]
        kinds, results = run_glm(values[:, own], design.matrix, noise_model=noise)
        for kind, fitted in results.items():
            some = own[np.asarray(kinds) == kind]
            patterns[np.ix_(present, some)] = np.asarray(fitted.theta)[chosen]
            left: Any = fitted.residuals if noise == "ols" else fitted.whitened_residuals
            residuals[:, some] = np.asarray(left)[design.kept]
    dof = len(design.matrix) - design.rank
    return RunEstimate(patterns, residuals, dof, design.counts)


def window_means(
    tree: xr.DataTree, labels: Sequence[str], column: str | None, rows: np.ndarray, lag_s: float,
    fd_threshold_mm: float | None,
) -> tuple[RunEstimate, list[Issue]]:  # fmt: skip
    """Return the mean of the volumes from each onset to its offset, both shifted by a lag.

    Parameters
    ----------
    tree : xarray.DataTree
        Ingested fMRI.
    labels, column
        Of `design_of`.
    rows : numpy.ndarray
        Positions of the rows.
    lag_s : float
        Delay of the response, seconds.
    fd_threshold_mm : float or None
        Volumes with a larger displacement do not count.

    Returns
    -------
    estimate : RunEstimate
        After a quadratic trend is taken off each row. Residuals: events minus the mean of their
        condition, where a condition has several.
    issues : list of Issue

    Raises
    ------
    Unusable
        If the run has none of the conditions, or no volume lies in their windows.
    """
    ds = _volumes(tree, fd_threshold_mm)
    time, kept = np.asarray(ds["time"].values, float), np.asarray(ds["sample_ok"].values, bool)
    frame, _, issues = _events(tree, labels, column, float(time[-1]))
    values = _samples(tree["raw"].to_dataset(), rows)
    whole = _usable(values[kept])
    course = np.where(np.isfinite(values), values, 0.0)
    trend = np.polynomial.legendre.legvander(np.linspace(-1, 1, len(time)), QUADRATIC)
    course -= trend @ np.linalg.lstsq(trend[kept], course[kept], rcond=None)[0]
    kinds = np.array([int(name[1:]) for name in frame["trial_type"]], dtype=np.int64)
    events, kind = [], []
    for k, onset, duration in zip(kinds, frame["onset"], frame["duration"], strict=True):
        inside = kept & (time >= onset + lag_s) & (time < onset + lag_s + duration)
        if k < len(labels) and inside.any():
            events.append(course[inside].mean(axis=0))
            kind.append(k)
    if not events:
        raise Unusable("no volume lies in the windows of its events", "correct `input.glm.lag_s`")
    single, owner = np.stack(events), np.array(kind)
    single[:, ~whole] = np.nan
    counts = np.bincount(owner, minlength=len(labels))
    patterns = np.full((len(labels), len(rows)), np.nan)
    residuals = []
    for k in np.unique(owner):
        patterns[k] = single[owner == k].mean(axis=0)
        if counts[k] > 1:
            residuals.append(single[owner == k] - patterns[k])
    left = np.concatenate(residuals) if residuals else np.zeros((0, len(rows)))
    dof = len(left) - int((counts > 1).sum())
    found = issues + issues_from_json(ds.attrs.get("issues", "[]"))
    return RunEstimate(patterns, left.astype(np.float32), dof, counts), found
