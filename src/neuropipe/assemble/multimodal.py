"""Recordings of one session, each on its own clock, cut into the same trials."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from neuropipe.assemble.behavior import MODALITY as BEHAVIOR
from neuropipe.assemble.behavior import read_behavior
from neuropipe.assemble.exclusion import Account
from neuropipe.assemble.modality_part import Part, variables_of
from neuropipe.assemble.rows import modality_of
from neuropipe.assemble.runs import (
    Run,
    check_scope,
    check_step,
    common_rows,
    cut_run,
    read_runs,
    seen_rows,
)
from neuropipe.assemble.selection import names_in
from neuropipe.assemble.sources import row_columns
from neuropipe.assemble.trial_settings import TrialInput, TrialsConfig
from neuropipe.assemble.trial_tables import events_within, trial_columns
from neuropipe.assemble.windows import Windows, find_windows
from neuropipe.config.models import UnitSelection
from neuropipe.errors import ConfigError, DataError, issues_to_json

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Input", "multimodal"]

Name = Literal["spikes", "calcium", "eeg", "meg", "ieeg", "fmri", "behavior"]


class Input(TrialInput):
    """Keys of ``input:`` for analyses that get several modalities of a session."""

    modalities: list[Name] = Field(
        default_factory=list,
        description="Modalities to use, in the order of the report; none means all recorded ones. "
        "`behavior` takes the variables that `behavior` lists.",
    )
    units: UnitSelection = Field(
        default_factory=UnitSelection,
        description="Rows to use; `where` holds for the modalities whose rows have what it "
        "compares, counts and rates of spikes for spikes.",
    )
    behavior: list[str] = Field(
        default_factory=list,
        description="Variables of behaviour, of one stream, that are the modality `behavior`.",
    )

    @model_validator(mode="after")
    def _modalities_fit(self) -> Input:
        for key in ("modalities", "behavior"):
            values = getattr(self, key)
            if len(set(values)) < len(values):
                raise ValueError(f"`{key}` lists a name twice; write each once")
        if (BEHAVIOR in self.modalities) != bool(self.behavior):
            raise ValueError(
                "`modalities: [..., behavior]` and `behavior: [variable, ...]` go together; write "
                "both or neither"
            )
        if self.modalities == [BEHAVIOR]:
            raise ValueError("`modalities: [behavior]` needs a recorded modality beside it")
        return self


def _modalities(stores: Sequence[xr.DataTree], settings: Input) -> list[str]:
    found = sorted({modality_of(tree) for tree in stores})
    if not found:
        raise ConfigError("input.recordings: no recording matches; nothing to assemble")
    absent = [m for m in settings.modalities if m not in found and m != BEHAVIOR]
    if absent:
        raise ConfigError(
            f"input.modalities: no recording of {', '.join(absent)} among "
            f"{', '.join(sorted(str(tree.attrs.get('recording', '')) for tree in stores))}; leave "
            "it out, or select recordings of it with `input.recordings`"
        )
    return list(settings.modalities) or found


def _tests(stores: Sequence[xr.DataTree], settings: Input) -> dict[str, str | None]:
    """Return the comparison that holds for each recording: those whose rows have its columns."""
    where = settings.units.where
    if where is None:
        return {}
    known = {str(tree.attrs.get("recording", "")): row_columns(tree) for tree in stores}
    wanted = names_in(where)
    tests = {name: where for name, columns in known.items() if wanted <= columns}
    if not tests:
        columns = sorted(set.union(*known.values()))
        raise ConfigError(
            f"input.units.where: no recording has all of {', '.join(sorted(wanted))} per row (in "
            f"{where!r}). Known: {', '.join(columns)}"
        )
    return dict.fromkeys(known) | tests


def _with_behavior(runs: Sequence[Run], settings: Input, account: Account) -> list[Run]:
    """Add the variables of behaviour to each run whose stores have them."""
    found, faults = [], []
    for run in runs:
        try:
            source, issues = read_behavior(
                run.stores, settings.behavior, run.sources[0], settings.span_s
            )
        except ConfigError as fault:
            faults.append(fault)
            found.append(run)
            continue
        account.issues += issues
        found.append(replace(run, sources=(*run.sources, source)))
    if len(faults) == len(runs):
        raise faults[0]
    return found


def _windows(run: Run, settings: Input, several: bool) -> Windows:
    windows = find_windows(run.stores, settings.trials, run.span, settings.span_s)
    if windows.on_clock and several:
        # Each run is a trial of its own, whose time begins with it.
        return replace(windows, onset=np.array([windows.start]), start=0.0, on_clock=False)
    return windows


def _part(
    modality: str, runs: Sequence[Run], windows: Sequence[Windows], units: UnitSelection,
    account: Account,
) -> Part:  # fmt: skip
    own = [run.of(modality) for run in runs]
    present = [run for run in own if run is not None]
    names = common_rows(present, units, account)
    cuts = [
        None if run is None else cut_run(run, at, names)
        for run, at in zip(own, windows, strict=True)
    ]
    found = [cut for cut in cuts if cut is not None]
    check_step(found, present)
    return Part(modality, tuple(own), names, tuple(cuts))


def _parts(
    modalities: Sequence[str], runs: Sequence[Run], windows: Sequence[Windows], settings: Input,
    account: Account,
) -> list[Part]:  # fmt: skip
    units, counted = settings.units, UnitSelection(where=settings.units.where)
    if units != counted and "spikes" not in modalities:
        raise ConfigError(
            "input.units: `min_rate_hz` and `min_spikes` count spikes, and there are none; use "
            "`where`"
        )
    return [
        _part(m, runs, windows, units if m == "spikes" else counted, account)
        for m in modalities
        if any(run.of(m) is not None for run in runs)
    ]


def _seen(part: Part, sizes: Sequence[int]) -> list[np.ndarray]:
    """Return of each run which trials hold a sample of the modality."""
    return [
        np.zeros(size, dtype=bool) if cut is None else cut.seen
        for cut, size in zip(part.cuts, sizes, strict=True)
    ]


def _drop_empty(
    parts: list[Part], runs: Sequence[Run], windows: Sequence[Windows], account: Account
) -> tuple[list[Part], list[Windows]]:
    """Leave trials out that no modality has a sample in."""
    sizes = [len(at) for at in windows]
    seen = [np.any(kinds, axis=0) for kinds in zip(*(_seen(p, sizes) for p in parts), strict=True)]
    kept = []
    for run, at, keep in zip(runs, windows, seen, strict=True):
        kept.append(at.take(keep, "no valid sample in the trial"))
        for reason, names in kept[-1].excluded:
            account.note("trial", run.sources[0], reason, names)
    fewer = []
    for part in parts:
        cuts = [
            None if c is None else c.take(keep) for c, keep in zip(part.cuts, seen, strict=True)
        ]
        present, held = replace(part, cuts=tuple(cuts)).found
        held, names = seen_rows(present, held, part.names, account)
        rest = iter(held)
        cuts = [None if cut is None else next(rest) for cut in cuts]
        fewer.append(replace(part, names=names, cuts=tuple(cuts)))
    return fewer, kept


def _dataset(
    parts: Sequence[Part], runs: Sequence[Run], windows: Sequence[Windows], settings: Input,
    account: Account,
) -> xr.Dataset:  # fmt: skip
    import xarray as xr

    onset = np.concatenate([at.onset for at in windows])
    start = onset + np.concatenate([np.full(len(at), at.start) for at in windows])
    length = np.concatenate([at.length for at in windows])
    data: dict[str, Any] = {}
    coords: dict[str, Any] = {
        "trial": np.arange(len(onset)),
        "trial_onset": ("trial", onset, {"units": "s"}),
        "trial_start": ("trial", start, {"units": "s"}),
    }
    for part in parts:
        variables, own, issues = variables_of(part, windows, settings.regressors)
        account.issues += issues
        data |= variables
        coords |= own
    tables = list(zip(runs, windows, strict=True))
    reach = np.stack([start, start + length], axis=1)
    data |= events_within(tables, settings.trials, onset, reach)
    on_clock = windows[0].on_clock
    by_run = settings.trials.by == "recording"
    return xr.Dataset(data, coords | trial_columns(tables)).assign_attrs(
        modalities=json.dumps([part.modality for part in parts]),
        subject=runs[0].sources[0].subject,
        trials_by=settings.trials.by,
        time_reference="session" if on_clock else "trial" if by_run else "onset",
        excluded=json.dumps(account.excluded, ensure_ascii=False),
        issues=issues_to_json(account.issues),
    )


def multimodal(stores: Sequence[xr.DataTree], settings: Input) -> xr.Dataset:
    """Cut the recordings of a session into the same trials, each on its own clock.

    Parameters
    ----------
    stores : sequence of xarray.DataTree
        Preprocessed stores (of spikes the ingested ones) of one session or one recording, in any
        order; those of a modality that is not asked for give events and behaviour alone.
    settings : Input
        The block ``input:`` of the analysis.

    Returns
    -------
    xarray.Dataset
        Per modality ``<m> (trial, time_<m>, unit_<m>)``: counts of spikes, samples of the others,
        NaN (0 in counts) where missing; ``valid_<m>`` of the same dims, False there (or attribute
        ``all_valid`` of the variable); ``regressor_<m> (trial, time_<m>, feature)`` if asked for.
        A modality that a run does not have is missing in its trials. Attributes of ``<m>``:
        ``units``, ``likelihood``, ``bin_width_s`` (counts) or ``step_s``. Coordinates
        ``time_<m>`` (seconds after ``trial_onset``), ``sample_offset_<m> (trial)``: by how much
        the samples of a trial lie behind it, ``unit_<m>`` (text), ``unit_kind_<m>``,
        ``recording_<m>``, ``region_<m>``; ``trial_onset``, ``trial_start``, ``trial_label``,
        ``run``, ``session``, ``trial_<column>``. Events and attributes as of `trials`;
        ``modalities`` is the JSON list in order.

    Raises
    ------
    ConfigError
        If a modality has no recording, or a setting names what is not there.
    DataError
        If runs have different rows, samples lie on no grid, or nothing is left.
    """
    check_scope(stores, settings.scope or "session")
    wanted = _modalities(stores, settings)
    account, tests = Account(), _tests(stores, settings)
    runs = read_runs(
        stores, settings, settings.bin_ms, account,
        lambda tree: tests.get(str(tree.attrs.get("recording", ""))),
        enters=lambda name: name in wanted,
    )  # fmt: skip
    account.check_left(runs)
    _check_together(runs)
    if BEHAVIOR in wanted:
        runs = _with_behavior(runs, settings, account)
    windows = [_windows(run, settings, len(runs) > 1) for run in runs]
    runs, windows = _with_trials(runs, windows, settings.trials, account)
    parts = _parts(wanted, runs, windows, settings, account)
    parts, windows = _drop_empty(parts, runs, windows, account)
    if not sum(map(len, windows)):
        raise DataError("input.trials: no trial holds a sample; correct `labels` or `window_s`")
    return _dataset(parts, runs, windows, settings, account)


def _check_together(runs: Sequence[Run]) -> None:
    """Raise `ConfigError` if there are several modalities, and never two in one run."""
    kinds = [sorted({source.modality for source in run.sources}) for run in runs]
    if len({kind for own in kinds for kind in own}) > 1 and all(len(own) == 1 for own in kinds):
        listed = "; ".join(
            f"{run.name or 'no run or task'}: {own[0]}"
            for run, own in zip(runs, kinds, strict=True)
        )
        raise ConfigError(
            f"input.modalities: no two modalities are of one run ({listed}); give recordings that "
            "were made at the same time the same `run` and `task` in the recordings table"
        )


def _with_trials(
    runs: Sequence[Run], windows: Sequence[Windows], config: TrialsConfig, account: Account
) -> tuple[list[Run], list[Windows]]:
    """Leave runs out that have no trial."""
    kept = []
    for run, at in zip(runs, windows, strict=True):
        if len(at):
            kept.append((run, at))
            continue
        for source in run.sources:
            account.leave_out(
                source.tree, f"no trial (`by: {config.by}`)", "correct `input.trials`"
            )
    account.check_left(kept)
    return [run for run, _ in kept], [at for _, at in kept]
