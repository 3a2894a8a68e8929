"""The runs of a session: recordings side by side along rows, runs one after the other."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.assemble.cuts import Cut, Span
from neuropipe.assemble.exclusion import Account, Unusable
from neuropipe.assemble.rows import modality_of
from neuropipe.assemble.sources import Source, common_span, read_source
from neuropipe.assemble.streams import check_session
from neuropipe.assemble.windows import Windows
from neuropipe.errors import ConfigError, DataError

if TYPE_CHECKING:
    import xarray as xr

    from neuropipe.config.models import InputConfig, UnitSelection

__all__ = [
    "Run",
    "check_scope",
    "check_step",
    "common_rows",
    "cut_run",
    "one_modality",
    "read_runs",
    "row_coords",
    "seen_rows",
]

SAME_TIME = 0.01
SAME_STEP = 1e-4


@dataclass(frozen=True)
class Run:
    """Recordings made at the same time.

    Attributes
    ----------
    name : str
        Task and run, where they have one.
    stores : tuple of xarray.DataTree
        All recordings, also those that give events alone.
    sources : tuple of Source
        Those that enter, side by side along their rows.
    """

    name: str
    stores: tuple[xr.DataTree, ...]
    sources: tuple[Source, ...]

    @property
    def span(self) -> Span:
        """Time that all recordings that enter cover, seconds."""
        return common_span(self.sources)

    def of(self, modality: str) -> Run | None:
        """Return the run with the recordings of one modality alone; None without one."""
        chosen = tuple(s for s in self.sources if s.modality == modality)
        return Run(self.name, self.stores, chosen) if chosen else None

    @property
    def names(self) -> list[str]:
        """Name of every row; `<acq>.<id>` where several recordings lie side by side."""
        found = []
        for source in self.sources:
            mark = f"{source.acq}." if len(self.sources) > 1 and source.acq else ""
            found += [f"{mark}{name}" for name in source.ids.tolist()]
        twice = [name for name, count in Counter(found).items() if count > 1]
        if twice:
            listed = ", ".join(source.recording for source in self.sources)
            raise DataError(
                f"{listed}: the name {twice[0]!r} stands for {Counter(found)[twice[0]]} rows; "
                "give the recordings different `acq` in the recordings table"
            )
        return found

    def joined(self, name: str) -> np.ndarray:
        """Return an array per row of all recordings, one after the other."""
        return np.concatenate([getattr(source, name) for source in self.sources])


def one_modality(stores: Sequence[xr.DataTree], events_from: str | None = None) -> str:
    """Return the modality that is analysed.

    A second one may be there for its events alone, if `events_from` names it.

    Raises
    ------
    ConfigError
        If there is no recording, or more than one modality.
    """
    if not stores:
        raise ConfigError("input.recordings: no recording matches; nothing to assemble")
    found = sorted({modality_of(tree) for tree in stores})
    others = [modality for modality in found if modality != events_from] or found
    if len(others) > 1:
        raise ConfigError(
            f"input.recordings: one modality is analysed, found {', '.join(others)}; select one "
            "with `input.recordings: {modality: ...}`"
        )
    return others[0]


def check_scope(stores: Sequence[xr.DataTree], scope: str) -> None:
    """Raise `ConfigError` for several recordings where the scope is one."""
    if scope == "recording" and len(stores) > 1:
        names = ", ".join(sorted(str(tree.attrs.get("recording", "")) for tree in stores))
        raise ConfigError(
            f"input.scope: `recording` takes one recording, found {names}; write `scope: session`"
        )


def _natural(text: str) -> tuple[int, str]:
    return len(text), text


def read_runs(
    stores: Sequence[xr.DataTree],
    settings: InputConfig,
    bin_ms: float | str,
    account: Account,
    where: Callable[[xr.DataTree], str | None] | None = None,
    *,
    enters: Callable[[str], bool],
    one_session: bool = True,
) -> list[Run]:
    """Read the recordings of one session, run by run.

    Parameters
    ----------
    stores : sequence of xarray.DataTree
        Preprocessed stores (of spikes the ingested ones), in any order.
    settings : InputConfig
        ``scope``, ``units`` and ``span_s``.
    bin_ms : float or str
        Width of a bin of spikes, milliseconds.
    account : Account
        Gets the recordings and rows that are left out.
    where : callable, optional
        Which comparison the rows of a store must fulfil, in place of ``units.where``.
    enters : callable
        Says of a modality whether it is analysed; the others give events and regressors.
        Recordings of one session, run and task are made at the same time; one without a task
        belongs to the only task of its run, unless that has its modality already.
    one_session : bool
        Recordings of several sessions are an error; else runs of one follow those of another.

    Returns
    -------
    list of Run
        In order of session, run and task; those without a usable recording are left out.

    Raises
    ------
    DataError
        If subjects, sessions or clocks differ.
    """
    _check_same(stores, "subject", *(("session",) if one_session else ()))
    groups: dict[tuple[str, str, str], list[xr.DataTree]] = defaultdict(list)
    for tree in sorted(stores, key=lambda tree: str(tree.attrs.get("recording", ""))):
        session, run, task = (str(tree.attrs.get(k, "")) for k in ("session_id", "run", "task"))
        groups[session, run, task].append(tree)
    _join_without_task(groups)
    runs = []
    for (_, run, task), trees in sorted(
        groups.items(), key=lambda item: tuple(map(_natural, item[0]))
    ):
        named = {str(tree.attrs.get("recording", "")): tree for tree in trees}
        account.issues += check_session(named, "input.recordings")
        sources = []
        for tree in trees:
            if not enters(modality_of(tree)):
                continue
            try:
                test = settings.units.where if where is None else where(tree)
                sources.append(read_source(tree, test, settings.span_s, bin_ms))
                account.excluded += sources[-1].dropped
            except Unusable as found:
                account.leave_out(tree, found.reason, found.remedy)
        if sources:
            name = " ".join(part for part in (task, f"run {run}" if run else "") if part)
            runs.append(Run(name, tuple(trees), tuple(sources)))
    return runs


def _check_same(stores: Sequence[xr.DataTree], *keys: str) -> None:
    for key in keys:
        found = sorted({str(tree.attrs.get(f"{key}_id", "")) for tree in stores})
        if len(found) > 1:
            raise DataError(
                f"input.recordings: one {key} is expected, found {', '.join(map(repr, found))}; "
                "select one with `input.recordings`"
            )


def _join_without_task(groups: dict[tuple[str, str, str], list[xr.DataTree]]) -> None:
    """Put recordings that state no task to the one task that their run has, in place.

    One of a modality that is there already (and no other probe) is a run of its own.
    """
    for session, run, task in [key for key in groups if not key[2]]:
        tasks = [key for key in groups if key[:2] == (session, run) and key[2]]
        own = groups[session, run, task]
        if len(tasks) == 1 and not {*map(_kind, own)} & {*map(_kind, groups[tasks[0]])}:
            groups[tasks[0]] += groups.pop((session, run, task))


def _kind(tree: xr.DataTree) -> tuple[str, str]:
    return modality_of(tree), str(tree.attrs.get("acq", ""))


def check_step(cuts: Sequence[Cut], runs: Sequence[Run]) -> None:
    """Raise `DataError` if runs that follow each other have other steps."""
    for run, cut in zip(runs, cuts, strict=True):
        if not np.isclose(cut.step, cuts[0].step, rtol=SAME_STEP):
            raise DataError(
                f"{runs[0].sources[0].recording} has a step of {cuts[0].step:g} s, "
                f"{run.sources[0].recording} one of {cut.step:g} s; bring both to one grid in "
                "preprocessing, or use `scope: recording`"
            )


def common_rows(runs: Sequence[Run], units: UnitSelection, account: Account) -> list[str]:
    """Return the names of the rows that enter in every run, in the order of the first.

    ``min_rate_hz`` and ``min_spikes`` hold for all runs together.

    Raises
    ------
    ConfigError
        If spikes are counted of what has none, or no row is left.
    DataError
        If runs have different rows.
    """
    first = runs[0].names
    enters = np.ones(len(first), dtype=bool)
    orders = [_order(run, runs[0]) for run in runs]
    for run, order in zip(runs, orders, strict=True):
        enters &= run.joined("enters")[order]
    for reason, out in _silent(runs, orders, units):
        names = [name for name, drop in zip(first, enters & out, strict=True) if drop]
        enters &= ~out
        if names:
            account.note("rows", runs[0].sources[0], reason, names)
    if not enters.any():
        raise ConfigError(
            f"input.units: none of the {len(first)} rows of {runs[0].sources[0].recording} is "
            "left; loosen `where`, `min_rate_hz` or `min_spikes`"
        )
    return [name for name, kept in zip(first, enters, strict=True) if kept]


def _order(run: Run, first: Run) -> np.ndarray:
    """Return the positions of the first run's rows in another run."""
    place = {name: k for k, name in enumerate(run.names)}
    wanted = first.names
    differ = sorted(set(wanted) ^ set(place))
    if differ:
        names = ", ".join(differ[:5]) + (", ..." if len(differ) > 5 else "")
        raise DataError(
            f"input.scope: runs that follow each other need the same rows, but {names} "
            f"{'is' if len(differ) == 1 else 'are'} in only one of "
            f"{first.sources[0].recording} and {run.sources[0].recording}; select one run with "
            "`input.recordings: {run: ...}`, or use `scope: recording`"
        )
    return np.array([place[name] for name in wanted], dtype=np.int64)


def _silent(
    runs: Sequence[Run], orders: Sequence[np.ndarray], units: UnitSelection
) -> list[tuple[str, np.ndarray]]:
    asked = [key for key in ("min_rate_hz", "min_spikes") if getattr(units, key) is not None]
    if not asked:
        return []
    if any(source.spike_count is None for run in runs for source in run.sources):
        raise ConfigError(f"input.units.{asked[0]}: counts spikes; use `where`")
    pairs = list(zip(runs, orders, strict=True))
    count = np.sum([run.joined("spike_count")[order] for run, order in pairs], axis=0)
    seconds = np.sum([run.joined("observed_s")[order] for run, order in pairs], axis=0)
    rate = np.divide(count, seconds, out=np.zeros(len(count)), where=seconds > 0)
    measure = {"min_rate_hz": rate, "min_spikes": count}
    return [
        (f"units.{key}: {getattr(units, key):g}", measure[key] < getattr(units, key))
        for key in asked
    ]


def cut_run(run: Run, windows: Windows, names: Sequence[str]) -> Cut:
    """Cut all recordings of a run and put them side by side along rows.

    Parameters
    ----------
    run : Run
    windows : Windows
        Trials of the run.
    names : sequence of str
        Rows to take, in this order.

    Raises
    ------
    DataError
        If recordings to be put side by side do not have the same sample times.
    """
    place = {name: k for k, name in enumerate(run.names)}
    wanted = np.array([place[name] for name in names], dtype=np.int64)
    cuts, order, start = [], [], 0
    for source in run.sources:
        own = np.flatnonzero((wanted >= start) & (wanted < start + len(source.ids)))
        cuts.append(source.samples.cut(windows, wanted[own] - start))
        order.append(own)
        start += len(source.ids)
    first = cuts[0]
    for source, cut in zip(run.sources, cuts, strict=True):
        _check_same_time(first, cut, run.sources[0], source)
    back = np.argsort(np.concatenate(order), kind="stable")
    values = np.concatenate([cut.values for cut in cuts], axis=2)[:, :, back]
    valid = np.concatenate([cut.valid for cut in cuts], axis=2)[:, :, back]
    return replace(first, values=values, valid=valid)


def _check_same_time(first: Cut, other: Cut, a: Source, b: Source) -> None:
    slack = SAME_TIME * first.step
    same = (
        len(first.time) == len(other.time)
        and np.isclose(first.step, other.step, rtol=1e-6)
        and np.allclose(first.time, other.time, rtol=0, atol=slack)
        and np.allclose(first.offset, other.offset, rtol=0, atol=slack)
    )
    if not same:
        raise DataError(
            f"{a.recording} and {b.recording}: the sample times differ, so that they cannot lie "
            "side by side along `unit`; select one with `input.recordings`, or bring both to one "
            "grid in preprocessing"
        )


def seen_rows(
    runs: Sequence[Run], cuts: Sequence[Cut], names: list[str], account: Account
) -> tuple[list[Cut], list[str]]:
    """Leave rows out that no trial of any run holds a sample of."""
    seen = np.any([cut.valid.any(axis=(0, 1)) for cut in cuts], axis=0)
    if seen.all():
        return list(cuts), names
    lost = [name for name, kept in zip(names, seen, strict=True) if not kept]
    account.note("rows", runs[0].sources[0], "no valid sample in the trials", lost)
    kept = [name for name, keep in zip(names, seen, strict=True) if keep]
    return [cut.take_rows(seen) for cut in cuts], kept


def row_coords(run: Run, names: Sequence[str], dim: str = "unit") -> dict[str, Any]:
    """Return the coordinates of rows: ids, kind, recording and region."""
    place = {name: k for k, name in enumerate(run.names)}
    order = [place[name] for name in names]
    recording = [s.recording for s in run.sources for _ in s.ids]
    kind = [s.row for s in run.sources for _ in s.ids]
    columns = {"unit_kind": kind, "recording": recording, "region": run.joined("region").tolist()}
    found: dict[str, Any] = {dim: (dim, np.array(list(names), dtype=object))}
    for name, values in columns.items():
        found[name] = (dim, np.array([values[k] for k in order], dtype=object))
    return found
