"""Trials as windows of time: from the events, the trial table, blocks, or a whole recording."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.assemble.trial_settings import TrialsConfig
from neuropipe.errors import ConfigError, DataError

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "Windows",
    "find_windows",
    "grid_numbers",
    "has_table",
    "labels_found",
    "n_blocks",
    "read_table",
    "samples_in",
    "source_of_trials",
]

ROUNDING = 1e-6
TABLES = {"events": ("events", "onset"), "trials": ("trials", "start")}


@dataclass(frozen=True)
class Windows:
    """Where the trials of one run lie.

    Attributes
    ----------
    onset : numpy.ndarray
        The moment that is 0 in each trial, seconds on the session's clock, ``(n_trials,)``.
    start : float
        Where the trials begin, seconds after their onset.
    length : numpy.ndarray
        Seconds, ``(n_trials,)``.
    label : numpy.ndarray
        Text per trial, "" where trials have none.
    columns : mapping
        Further columns of the table, by name, each ``(n_trials,)``.
    on_clock : bool
        The one trial is the recording; its times are those of the session's clock.
    excluded : tuple of (str, list of str)
        Reason, and the trials left out for it.
    """

    onset: np.ndarray
    start: float
    length: np.ndarray
    label: np.ndarray
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    on_clock: bool = False
    excluded: tuple[tuple[str, list[str]], ...] = ()

    def __len__(self) -> int:
        return len(self.onset)

    def take(self, keep: np.ndarray, reason: str) -> Windows:
        """Return the trials where `keep` is True; the others are left out for `reason`."""
        if keep.all():
            return self
        names = [
            f"{label} at {onset:g} s".strip()
            for label, onset in zip(self.label[~keep], self.onset[~keep], strict=True)
        ]
        return replace(
            self,
            onset=self.onset[keep],
            length=self.length[keep],
            label=self.label[keep],
            columns={name: values[keep] for name, values in self.columns.items()},
            excluded=(*self.excluded, (reason, names)),
        )


def read_table(tree: xr.DataTree, name: str) -> dict[str, np.ndarray]:
    """Return the columns of a table of a store, in order of time.

    Parameters
    ----------
    tree : xarray.DataTree
        Ingested or preprocessed store.
    name : {"events", "trials"}
        The table. Rows without a finite time are left out.

    Returns
    -------
    dict
        Column -> values; {} if the store has no such table, or an empty one.
    """
    group, key = TABLES[name]
    if group not in tree.children:
        return {}
    table = tree.children[group].to_dataset(inherit=False)
    if key not in table or not table[key].size:
        return {}
    dim = table[key].dims
    times = np.asarray(table[key].values, dtype=np.float64)
    order = np.argsort(times, kind="stable")
    order = order[np.isfinite(times[order])]
    return {
        str(column): np.asarray(variable.values)[order]
        for column, variable in table.variables.items()
        if variable.dims == dim and str(column) not in map(str, dim)
    }


def _texts(values: np.ndarray) -> np.ndarray:
    return np.array(["" if value is None else str(value) for value in values.tolist()], object)


def _column(table: Mapping[str, np.ndarray], config: TrialsConfig) -> str:
    """Return the column of the labels, "" if there is none; free ones of events begin with x_."""
    name = config.column or "label"
    return next((column for column in (name, f"x_{name}") if column in table), "")


def _labels(table: Mapping[str, np.ndarray], config: TrialsConfig, where: str) -> np.ndarray:
    column = _column(table, config)
    if column:
        return _texts(table[column])
    if config.column is None and not config.labels:
        return np.full(len(next(iter(table.values()))), "", dtype=object)
    raise ConfigError(
        f"input.trials.column: the {config.by} of {where} have no column "
        f"{config.column or 'label'!r}; they have {', '.join(sorted(table))}"
    )


def has_table(tree: xr.DataTree, config: TrialsConfig) -> bool:
    """Say whether a store has events of the wanted labels, or a table of trials."""
    table = read_table(tree, config.by)
    if not table or not config.labels:
        return bool(table)
    column = _column(table, config)
    return bool(column) and bool(set(_texts(table[column])) & set(config.labels))


def _same(first: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray], key: str) -> bool:
    return len(first[key]) == len(other[key]) and bool(
        np.allclose(first[key], other[key], rtol=0, atol=ROUNDING)
    )


def source_of_trials(stores: Sequence[xr.DataTree], config: TrialsConfig) -> xr.DataTree | None:
    """Return the store whose events or trials count for a run; None if no store has any.

    Parameters
    ----------
    stores : sequence of xarray.DataTree
        The recordings of one run.
    config : TrialsConfig
        ``by`` is ``events`` or ``trials``.

    Raises
    ------
    ConfigError
        If several have some that differ, or none is of the modality ``events_from``.
    """
    wanted = f"neuropipe.{config.events_from}"
    chosen = [t for t in stores if config.events_from is None or t.attrs.get("schema") == wanted]
    names = ", ".join(str(tree.attrs.get("recording", "")) for tree in stores)
    if not chosen:
        raise ConfigError(
            f"input.trials.events_from: {config.events_from}, but the recordings are {names}; "
            "name a modality among them, or select one more with `input.recordings`"
        )
    found = [tree for tree in chosen if has_table(tree, config)]
    if not found:
        _check_column(chosen, config)
        return None
    tables = [read_table(tree, config.by) for tree in found]
    key = TABLES[config.by][1]
    if not all(_same(tables[0], table, key) for table in tables[1:]):
        listed = ", ".join(str(tree.attrs.get("recording", "")) for tree in found)
        raise ConfigError(
            f"input.trials.events_from: the {config.by} of {listed} differ; name the modality "
            "whose count, or leave the others out with `input.recordings`"
        )
    return found[0]


def _check_column(stores: Sequence[xr.DataTree], config: TrialsConfig) -> None:
    """Raise `ConfigError` if there are tables, and none has the column of labels."""
    tables = [table for tree in stores if (table := read_table(tree, config.by))]
    if tables and not any(_column(table, config) for table in tables):
        _labels(tables[0], config, ", ".join(str(t.attrs.get("recording", "")) for t in stores))


def labels_found(stores: Sequence[xr.DataTree], config: TrialsConfig) -> str:
    """Return the labels that stores have, for a message."""
    known: set[str] = set()
    for tree in stores:
        table = read_table(tree, config.by)
        column = _column(table, config)
        known |= set(_texts(table[column]).tolist()) if column else set()
    return ", ".join(sorted(known)) or "none"


def _whole(tree: xr.DataTree | None, config: TrialsConfig, span: tuple[float, float]) -> Windows:
    length = np.array([span[1] - span[0]])
    return Windows(np.zeros(1), span[0], length, np.array([""], dtype=object), on_clock=True)


def n_blocks(duration: float, block_s: float, overlap_s: float) -> int:
    """Return how many whole blocks lie in a duration, seconds.

    Examples
    --------
    >>> n_blocks(10.0, 4.0, 1.0)
    3
    """
    return max(0, int((duration - overlap_s) / (block_s - overlap_s) + ROUNDING))


def _blocks(tree: xr.DataTree | None, config: TrialsConfig, span: tuple[float, float]) -> Windows:
    block = float(config.block_s or 0.0)
    count = n_blocks(span[1] - span[0], block, config.overlap_s)
    onset = span[0] + (block - config.overlap_s) * np.arange(count)
    return Windows(onset, 0.0, np.full(count, block), np.full(count, "", dtype=object))


def _table_of(tree: xr.DataTree | None, config: TrialsConfig) -> tuple[dict[str, np.ndarray], str]:
    if tree is None:
        return {}, ""
    return read_table(tree, config.by), str(tree.attrs.get("recording", ""))


def _around_events(
    tree: xr.DataTree | None, config: TrialsConfig, span: tuple[float, float]
) -> Windows:
    table, where = _table_of(tree, config)
    start, stop = config.window_s or (0.0, 0.0)
    if not table:
        return Windows(np.zeros(0), start, np.zeros(0), np.zeros(0, dtype=object))
    label = _labels(table, config, where)
    chosen = np.isin(label.astype(str), config.labels)
    onset = np.asarray(table["onset"], dtype=np.float64)[chosen]
    columns = {
        name.removeprefix("x_"): values[chosen]
        for name, values in table.items()
        if name.startswith("x_")
    }
    return Windows(onset, start, np.full(len(onset), stop - start), label[chosen], columns)


def _trials_of(tree: xr.DataTree | None, config: TrialsConfig, span: tuple[float, float]
               ) -> Windows:  # fmt: skip
    table, where = _table_of(tree, config)
    if not table:
        return Windows(np.zeros(0), 0.0, np.zeros(0), np.zeros(0, dtype=object))
    start, stop = (np.asarray(table[name], dtype=np.float64) for name in ("start", "stop"))
    label = _labels(table, config, where)
    chosen = np.isin(label.astype(str), config.labels) if config.labels else start == start
    columns = {k: v[chosen] for k, v in table.items() if k not in ("start", "stop", "label")}
    length = (stop - start)[chosen]
    windows = Windows(start[chosen], 0.0, length, label[chosen], columns)
    return windows.take(length > 0, "the trial has no stop after its start")


MAKERS: dict[str, Callable[[Any, TrialsConfig, tuple[float, float]], Windows]] = {
    "recording": _whole,
    "blocks": _blocks,
    "events": _around_events,
    "trials": _trials_of,
}


def find_windows(
    stores: Sequence[xr.DataTree],
    config: TrialsConfig,
    span: tuple[float, float],
    span_s: tuple[float, float] | None = None,
) -> Windows:
    """Return the trials of one run.

    Parameters
    ----------
    stores : sequence of xarray.DataTree
        All recordings of the run, among them the one whose events count.
    config : TrialsConfig
        The block ``input.trials``.
    span : tuple of float
        Time that all recordings cover, seconds; blocks and whole recordings fill it.
    span_s : tuple of float, optional
        Trials that begin (their onset) outside are left out.

    Returns
    -------
    Windows
        In order of time; none if no store has the events.

    Raises
    ------
    ConfigError
        Of `source_of_trials`; if the table lacks the column of labels.
    DataError
        If the recordings have no time in common.
    """
    if span[1] <= span[0]:
        names = ", ".join(str(tree.attrs.get("recording", "")) for tree in stores)
        raise DataError(
            f"{names}: have no time in common within input.span_s; select other recordings, or "
            "correct `clock` in ingest.overrides"
        )
    tree = source_of_trials(stores, config) if config.by in TABLES else None
    windows = MAKERS[config.by](tree, config, span)
    if span_s is None or windows.on_clock or config.by == "blocks":
        return windows
    inside = (windows.onset >= span_s[0]) & (windows.onset < span_s[1])
    return windows.take(inside, "outside input.span_s")


def grid_numbers(time: np.ndarray, step: float) -> np.ndarray:
    """Return the number of each sample on the recording's grid, missing ones counted, int64.

    Examples
    --------
    >>> grid_numbers(np.array([0.0, 0.1, 0.4]), 0.1).tolist()
    [0, 1, 4]
    """
    steps = np.maximum(np.rint(np.diff(time) / step), 1).astype(np.int64)
    return np.concatenate([np.zeros(min(len(time), 1), dtype=np.int64), np.cumsum(steps)])


def samples_in(
    time: np.ndarray, grid: np.ndarray, start: float, count: int, rate: float
) -> tuple[slice, np.ndarray]:
    """Return the samples of one window and their places in it; a gap leaves places empty.

    Parameters
    ----------
    time : numpy.ndarray
        Increasing sample times, ``(n_times,)``, seconds.
    grid : numpy.ndarray
        Number of each sample on the grid of the recording, missing ones counted, int64.
    start : float
        Of the window, seconds; the first sample at or after it has place 0.
    count : int
        Places of the window.
    rate : float
        Samples per second.
    """
    low = int(np.searchsorted(time, start - ROUNDING / rate, side="left"))
    if low == len(time):
        return slice(low, low), np.zeros(0, dtype=np.int64)
    first = int(np.floor((time[low] - start) * rate + ROUNDING))
    place = first + grid[low : low + count] - grid[low]
    high = int(np.searchsorted(place, count, side="left"))
    return slice(low, low + high), place[:high]
