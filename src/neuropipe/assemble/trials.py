"""Preprocessed stores to ``counts`` or ``activity (trial, time, unit)``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.assemble.cuts import Cut
from neuropipe.assemble.exclusion import Account
from neuropipe.assemble.regressors import regressors_of
from neuropipe.assemble.runs import (
    Run,
    check_scope,
    check_step,
    common_rows,
    cut_run,
    one_modality,
    read_runs,
    row_coords,
    seen_rows,
)
from neuropipe.assemble.trial_settings import TrialInput, TrialsConfig
from neuropipe.assemble.trial_tables import events_within, trial_columns
from neuropipe.assemble.windows import Windows, find_windows, labels_found
from neuropipe.errors import Issue, issues_to_json

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Input", "trials"]

FEW_VALID = 0.5


class Input(TrialInput):
    """Keys of ``input:`` for analyses that get trials of units."""


@dataclass(frozen=True)
class Piece:
    """The trials of one run: where they lie, their rows, their regressors."""

    run: Run
    windows: Windows
    cut: Cut
    features: tuple[str, ...]
    regressor: np.ndarray


def _piece(run: Run, settings: Input, names: Sequence[str], account: Account) -> Piece | None:
    """Return the trials of a run that hold something; None if there are none."""
    windows = find_windows(run.stores, settings.trials, run.span, settings.span_s)
    if not len(windows):
        _note_trials(run, windows, account)
        _leave_out(run, settings.trials, account)
        return None
    cut = cut_run(run, windows, names)
    seen = cut.seen
    windows = windows.take(seen, "no valid sample in the trial")
    _note_trials(run, windows, account)
    if not seen.any():
        _leave_out(run, settings.trials, account)
        return None
    cut = cut.take(seen)
    features: list[str] = []
    regressor = np.zeros((*cut.values.shape[:2], 0))
    if settings.regressors:
        features, regressor = regressors_of(run, settings.regressors, windows, cut)
    return Piece(run, windows, cut, tuple(features), regressor)


def _note_trials(run: Run, windows: Windows, account: Account) -> None:
    for reason, names in windows.excluded:
        account.note("trial", run.sources[0], reason, names)


def _leave_out(run: Run, config: TrialsConfig, account: Account) -> None:
    what = {
        "events": f"no event labelled {', '.join(config.labels)} with samples around it",
        "trials": "no trial with samples in its table of trials",
        "blocks": f"shorter than a block of {config.block_s or 0:g} s",
        "recording": "no valid sample",
    }[config.by]
    remedy = "correct `input.trials`"
    if config.by in ("events", "trials"):
        remedy += f" (labels found: {labels_found(run.stores, config)})"
    for source in run.sources:
        account.leave_out(source.tree, what, remedy)


def _pad(pieces: Sequence[Piece], name: str, fill: Any) -> np.ndarray:
    """Return an array of all trials, ``(n_trials, n_times, ...)``, the short ones padded."""
    blocks = [p.regressor if name == "regressor" else getattr(p.cut, name) for p in pieces]
    size = max(block.shape[1] for block in blocks)
    dtype = np.result_type(*blocks)
    padded = []
    for block in blocks:
        rest = np.full((block.shape[0], size - block.shape[1], *block.shape[2:]), fill, dtype)
        padded.append(np.concatenate([block.astype(dtype, copy=False), rest], axis=1))
    return np.concatenate(padded)


def _time(pieces: Sequence[Piece]) -> tuple[np.ndarray, str]:
    """Return the time axis, seconds, and what its 0 is."""
    longest = max((piece.cut for piece in pieces), key=lambda cut: len(cut.time))
    by_recording = pieces[0].windows.on_clock
    if not by_recording:
        return longest.time, "onset"
    if len(pieces) == 1:
        return longest.time, "session"
    return longest.time - longest.first, "trial"


def _moments(pieces: Sequence[Piece], reference: str) -> dict[str, Any]:
    """Return when the trials are: the moment that is 0, and where their samples begin."""
    onset = np.concatenate([piece.windows.onset for piece in pieces])
    offset = np.concatenate([piece.cut.offset for piece in pieces])
    first = np.concatenate([np.full(len(p.windows), p.cut.first) for p in pieces])
    start = onset + first + offset
    zero = start if reference == "trial" else onset
    columns = {"trial_onset": zero, "trial_start": start, "sample_offset": offset}
    return {name: ("trial", values, {"units": "s"}) for name, values in columns.items()}


def _issues(valid: np.ndarray, missing: np.ndarray, lengths: np.ndarray) -> list[Issue]:
    """Return issues about places of the trials (padding apart) that cannot be used."""
    issues = []
    total = int(lengths.sum())
    share = 1 - int(valid.sum()) / total if total else 0.0
    if share > 1 - FEW_VALID:
        text = f"{share:.0%} of the bins are not valid, since one unit or more is missing there"
        hint = "leave units out that are rarely observed (`input.units.where`)"
        issues.append(Issue("FEW_VALID_BINS", "valid", text, hint))
    if missing.any():
        text = f"a regressor is missing in {int(missing.sum())} of {total} bins; they do not count"
        issues.append(Issue("REGRESSOR_MISSING", "input.regressors", text))
    return issues


def _dataset(pieces: list[Piece], names: list[str], settings: Input, account: Account
             ) -> xr.Dataset:  # fmt: skip
    import xarray as xr

    source, counted = pieces[0].run.sources[0], pieces[0].cut.values.dtype.kind in "iu"
    values = _pad(pieces, "values", 0 if counted else np.nan)
    valid = _pad(pieces, "valid", False).all(axis=2)
    regressor = _pad(pieces, "regressor", np.nan)
    missing = valid & ~np.isfinite(regressor).all(axis=2)
    valid &= ~missing
    regressor[~valid] = np.nan
    time, reference = _time(pieces)
    moments, step = _moments(pieces, reference), pieces[0].cut.step
    lengths = np.concatenate([piece.cut.length for piece in pieces])
    account.issues += _issues(valid, missing, lengths)
    start = moments["trial_start"][1]
    reach = np.stack([start, start + lengths * step], axis=1)
    zero = moments["trial_onset"][1]
    name, dims = "counts" if counted else "activity", ("trial", "time", "unit")
    data: dict[str, Any] = {name: (dims, values, {"units": source.units})}
    parts = [(piece.run, piece.windows) for piece in pieces]
    data |= events_within(parts, settings.trials, zero, reach)
    if settings.regressors:
        features = np.array(pieces[0].features, dtype=object)
        data["regressor"] = (("trial", "time", "feature"), regressor)
        data["feature"] = ("feature", features)
    coords = {"trial": np.arange(len(values)), "time": ("time", time, {"units": "s"})}
    coords |= row_coords(pieces[0].run, names) | moments | trial_columns(parts)
    ds = xr.Dataset(data, coords).assign_attrs(
        bin_width_s=float(f"{step:.12g}"),
        modality=source.modality,
        subject=source.subject,
        trials_by=settings.trials.by,
        time_reference=reference,
        excluded=json.dumps(account.excluded, ensure_ascii=False),
        issues=issues_to_json(account.issues),
    )
    return ds.assign_attrs(all_valid=1) if valid.all() else ds.assign(valid=(dims[:2], valid))


def trials(stores: Sequence[xr.DataTree], settings: Input) -> xr.Dataset:
    """Cut the recordings of one modality into trials.

    Parameters
    ----------
    stores : sequence of xarray.DataTree
        Preprocessed stores (of spikes the ingested ones) of one recording or one session, in any
        order. Recordings of the modality that ``trials.events_from`` names may be among them for
        their events alone.
    settings : Input
        The block ``input:`` of the analysis.

    Returns
    -------
    xarray.Dataset
        ``counts`` (spikes) or ``activity (trial, time, unit)``; ``valid (trial, time)``, False
        where any unit or regressor is missing and in padding (or attribute ``all_valid``);
        ``regressor (trial, time, feature)`` if asked for; ``event_trial, event_time (as `time`),
        event_onset, event_duration, event_label (event)`` of the events within trials.
        Coordinates ``time`` (seconds, bin centres or sample times), ``trial_onset`` (the moment
        that is 0), ``trial_start`` (where samples begin), ``sample_offset`` (by how much they lie
        behind ``time``, less than a step; 0 for counts), ``trial_label``, ``run``, ``session``
        and ``trial_<column>`` per trial; ``unit`` (text), ``unit_kind``, ``recording``,
        ``region`` per unit. Attributes ``bin_width_s``, ``modality``, ``trials_by``,
        ``time_reference`` (``session``: the session's clock, ``trial``: each trial's start,
        ``onset``: its event, start or block), ``excluded`` and ``issues`` (JSON).

    Raises
    ------
    ConfigError
        If modalities are mixed, the tables of events contradict each other, a regressor is
        unknown, or no row is left.
    DataError
        If runs have different rows, samples lie on no grid, or nothing is left.

    Notes
    -----
    Bins are counted from the onset, so that none straddles it; without one from 0 of the clock.
    """
    config = settings.trials
    check_scope(stores, settings.scope or "recording")
    modality = one_modality(stores, config.events_from)
    account = Account()
    runs = read_runs(
        stores, settings, settings.bin_ms, account, enters=lambda name: name == modality
    )
    account.check_left(runs)
    names = common_rows(runs, settings.units, account)
    found = [_piece(run, settings, names, account) for run in runs]
    pieces = [piece for piece in found if piece is not None]
    account.check_left(pieces)
    runs = [piece.run for piece in pieces]
    check_step([piece.cut for piece in pieces], runs)
    cuts, names = seen_rows(runs, [piece.cut for piece in pieces], names, account)
    pieces = [replace(piece, cut=cut) for piece, cut in zip(pieces, cuts, strict=True)]
    return _dataset(pieces, names, settings, account)
