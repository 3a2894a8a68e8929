"""Patterns of one subject from trials around events, in folds in place of runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.assemble.condition_settings import Input
from neuropipe.assemble.cuts import Cut
from neuropipe.assemble.epochs import in_baseline, subtract_baseline
from neuropipe.assemble.exclusion import Account
from neuropipe.assemble.patterns import (
    ONE_REGION,
    RegionPatterns,
    SubjectPatterns,
    stratified_folds,
)
from neuropipe.assemble.runs import Run, check_step, common_rows, cut_run, read_runs, seen_rows
from neuropipe.assemble.trial_settings import TrialsConfig
from neuropipe.assemble.windows import find_windows, labels_found
from neuropipe.errors import ConfigError, Issue
from neuropipe.preprocess.steps import row_dim

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["epoch_patterns", "fold_patterns", "places_of", "summarise_trials"]

AXES = ("x", "y", "z")
ONE_SESSION = ("spikes", "calcium")
MILLIMETRES = {"m": 1000.0}


def _check_sessions(stores: Sequence[xr.DataTree], modality: str) -> None:
    sessions = sorted({str(tree.attrs.get("session_id", "")) for tree in stores})
    if modality in ONE_SESSION and len(sessions) > 1:
        raise ConfigError(
            f"input.recordings: {stores[0].attrs.get('subject_id', '')} has {modality} of the "
            f"sessions {', '.join(sessions)}, whose rows are not the same ones; select one with "
            "`input.recordings: {session: ...}`"
        )


def _trials(
    runs: Sequence[Run], settings: Input, names: list[str], account: Account
) -> tuple[list[Cut], list[str], np.ndarray]:
    """Return the trials of each run, the rows that they have, and the label of each trial."""
    config = TrialsConfig(
        by="events", labels=list(settings.labels), column=settings.column,
        window_s=settings.window_s,
    )  # fmt: skip
    used, cuts, labels = [], [], [np.zeros(0, dtype=object)]
    for run in runs:
        windows = find_windows(run.stores, config, run.span, settings.span_s)
        cut = cut_run(run, windows, names) if len(windows) else None
        if cut is not None:
            seen = cut.seen
            windows, cut = windows.take(seen, "no valid sample in the trial"), cut.take(seen)
        for reason, trials in windows.excluded:
            account.note("trial", run.sources[0], reason, trials)
        if cut is None or not len(windows):
            remedy = f"correct `input.labels` (labels found: {labels_found(run.stores, config)})"
            for source in run.sources:
                text = f"no event labelled {', '.join(settings.labels)} with samples around it"
                account.leave_out(source.tree, text, remedy)
            continue
        used.append(run)
        cuts.append(cut)
        labels.append(windows.label)
    if cuts:
        check_step(cuts, used)
        cuts, names = seen_rows(used, cuts, names, account)
    return cuts, names, np.concatenate(labels)


def _single_trials(cuts: Sequence[Cut], modality: str, settings: Input
                   ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Return trials ``(trial, time, row)``, NaN where missing, and their times."""
    values = np.concatenate([np.where(c.valid, c.values, np.nan) for c in cuts])
    return summarise_trials(values, cuts[0].time, cuts[0].step, modality, settings)


def summarise_trials(
    values: np.ndarray, time: np.ndarray, step: float, modality: str, settings: Input
) -> tuple[np.ndarray, np.ndarray]:
    """Take the baseline off trials and average them over time, as the settings say.

    Parameters
    ----------
    values : numpy.ndarray
        ``(n_trials, n_times, n_rows)``, NaN where missing; changed in place.
    time : numpy.ndarray
        Seconds after the event, ``(n_times,)``.
    step : float
        Width of a bin, seconds.
    modality : str
        Decides the baseline; counts of spikes become rates.
    settings : Input

    Returns
    -------
    values : numpy.ndarray
        ``(n_trials, n_times or 1, n_rows)``.
    time : numpy.ndarray
        As given.
    """
    baseline = settings.baseline_of(modality)
    for trial, block in enumerate(values):
        values[trial] = subtract_baseline(block, time, baseline, settings.window_s)
    if settings.keep_time:
        return values, time
    after = np.ones(len(time), dtype=bool)
    if baseline is not None:
        last = settings.window_s[1] if baseline[1] is None else baseline[1]
        # A baseline that fills the window leaves nothing behind it: then all of it counts.
        after = time > last if (time > last).any() else after
    scale = 1 / step if modality == "spikes" else 1.0
    return _mean(values[:, after], axis=1)[:, None] * scale, time


def _mean(values: np.ndarray, axis: int) -> np.ndarray:
    """Return the mean over what is there, NaN where nothing is."""
    known = np.isfinite(values)
    number = known.sum(axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis)
    return np.divide(total, number, out=np.full(number.shape, np.nan), where=number > 0)


def _fold_means(
    values: np.ndarray, kind: np.ndarray, fold: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return means ``(fold, condition, row, time)``, trials minus them, and how many there are."""
    means = np.full((*shape, values.shape[2], values.shape[1]), np.nan)
    counts = np.zeros(shape, dtype=np.int64)
    left = np.full_like(values, np.nan)
    for f, c in sorted(set(zip(fold.tolist(), kind.tolist(), strict=True))):
        own = (fold == f) & (kind == c)
        mean = _mean(values[own], axis=0)
        means[f, c], counts[f, c] = mean.T, own.sum()
        if own.sum() > 1:
            left[own] = values[own] - mean
    return means, left, counts


def epoch_patterns(
    stores: Sequence[xr.DataTree], settings: Input, account: Account, rng: np.random.Generator
) -> SubjectPatterns | None:
    """Return the mean responses of one subject in each fold of trials.

    Parameters
    ----------
    stores : sequence of xarray.DataTree
        Preprocessed stores (of spikes the ingested ones) of one subject and modality.
    settings : Input
        ``labels``, ``column``, ``window_s``, ``baseline_s``, ``bin_ms``, ``folds``,
        ``keep_time``, ``units``, ``span_s``.
    account : Account
        Gets what is left out, and issues.
    rng : numpy.random.Generator
        Draws the folds.

    Returns
    -------
    SubjectPatterns or None
        None if the subject has no trial. Residuals: trials minus the mean of their condition in
        their fold; with ``keep_time`` those of the baseline, or of all times without one.
    """
    modality = str(stores[0].attrs.get("schema", "")).removeprefix("neuropipe.")
    _check_sessions(stores, modality)
    runs = read_runs(
        stores, settings, settings.bin_ms, account, enters=lambda _: True, one_session=False
    )
    if not runs:
        return None
    names = common_rows(runs, settings.units, account)
    cuts, names, labels = _trials(runs, settings, names, account)
    if not cuts:
        return None
    values, time = _single_trials(cuts, modality, settings)
    region, counts = fold_patterns(
        values, labels, time, settings, modality, rng, names=names, places=places_of(runs[0], names)
    )
    source = runs[0].sources[0]
    account.issues += _few(source.subject, settings, counts)
    return SubjectPatterns(
        subject=source.subject,
        runs=tuple(str(k + 1) for k in range(settings.folds)),
        regions={ONE_REGION: region},
        counts=counts,
        recordings=tuple(s.recording for run in runs for s in run.sources),
        units=source.units if modality != "spikes" else "1" if settings.keep_time else "Hz",
        row=source.row,
        time=time if settings.keep_time else None,
    )


def fold_patterns(
    values: np.ndarray,
    labels: np.ndarray,
    time: np.ndarray,
    settings: Input,
    modality: str,
    rng: np.random.Generator,
    *,
    names: Sequence[str],
    places: np.ndarray,
) -> tuple[RegionPatterns, np.ndarray]:
    """Deal trials into folds and return their means, and the events per fold and condition.

    Parameters
    ----------
    values, time
        Of `summarise_trials`.
    labels : numpy.ndarray
        Of each trial.
    settings : Input
    modality : str
    rng : numpy.random.Generator
        Draws the folds.
    names, places
        Of the rows.
    """
    place = {label: k for k, label in enumerate(settings.labels)}
    kind = np.array([place[label] for label in labels.tolist()], dtype=np.int64)
    fold = stratified_folds(kind, settings.folds, rng)
    shape = (settings.folds, len(settings.labels))
    means, left, counts = _fold_means(values, kind, fold, shape)
    samples, dof = _noise(left, fold, counts, time, settings, modality)
    region = RegionPatterns(
        means if settings.keep_time else means[..., 0], samples, dof,
        np.array(list(names), dtype=object), places,
    )  # fmt: skip
    return region, counts


def _noise(
    left: np.ndarray, fold: np.ndarray, counts: np.ndarray, time: np.ndarray, settings: Input,
    modality: str,
) -> tuple[tuple[np.ndarray, ...], int]:  # fmt: skip
    baseline = settings.baseline_of(modality)
    if settings.keep_time and baseline is not None:
        left = left[:, in_baseline(time, baseline, settings.window_s)]
    several = counts[counts > 1]
    dof = int((several - 1).sum()) * left.shape[1]
    samples = []
    for f in range(settings.folds):
        own = left[fold == f].reshape(-1, left.shape[2])
        samples.append(own[np.isfinite(own).any(axis=1)].astype(np.float32))
    return tuple(samples), dof


def _few(subject: str, settings: Input, counts: np.ndarray) -> list[Issue]:
    total = counts.sum(axis=0)
    few = [
        f"{label} ({n})"
        for label, n in zip(settings.labels, total.tolist(), strict=True)
        if 0 < n < settings.folds
    ]
    if not few:
        return []
    text = f"fewer trials than the {settings.folds} folds: {', '.join(few)}; some folds lack them"
    return [Issue("FEW_TRIALS", f"sub-{subject}", text, "lower `input.folds`")]


def places_of(run: Run, names: Sequence[str]) -> np.ndarray:
    """Return x, y, z of rows, mm where the store states its unit, ``(n_rows, 3)``; NaN unknown."""
    columns = []
    for source in run.sources:
        tree: Any = source.tree
        ds = tree["raw"].to_dataset() if "raw" in tree.children else tree.to_dataset()
        row = "unit" if source.modality == "spikes" else row_dim(ds)
        columns.append(axes_of(ds, row))
    place = {name: k for k, name in enumerate(run.names)}
    return np.concatenate(columns)[[place[name] for name in names]]


def axes_of(ds: xr.Dataset, row: str) -> np.ndarray:
    """Return x, y, z of all rows of a dataset, as `places_of`."""
    found = np.full((ds.sizes[row], len(AXES)), np.nan)
    for k, axis in enumerate(AXES):
        if axis in ds.variables and ds[axis].dims == (row,):
            scale = MILLIMETRES.get(str(ds[axis].attrs.get("units", "")), 1.0)
            found[:, k] = scale * np.asarray(ds[axis].values, dtype=np.float64)
    return found
