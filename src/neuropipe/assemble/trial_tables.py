"""What is known of trials beside their samples: labels, columns, the events within them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from neuropipe.assemble.runs import Run
from neuropipe.assemble.trial_settings import TrialsConfig
from neuropipe.assemble.windows import Windows, read_table, source_of_trials

__all__ = ["events_within", "trial_columns"]

Part = tuple[Run, Windows]


def trial_columns(parts: Sequence[Part]) -> dict[str, Any]:
    """Return what is known of each trial: label, run, session, and columns of its table."""
    sizes = [len(windows) for _, windows in parts]
    names = [run.name for run, _ in parts]
    session = parts[0][0].sources[0].session
    found: dict[str, Any] = {
        "trial_label": ("trial", np.concatenate([windows.label for _, windows in parts])),
        "run": ("trial", np.repeat(np.array(names, dtype=object), sizes)),
        "session": ("trial", np.array([session] * sum(sizes), dtype=object)),
    }
    shared = set.intersection(*(set(windows.columns) for _, windows in parts))
    for name in sorted(shared - {"onset", "label", "start"}):
        values = np.concatenate([windows.columns[name] for _, windows in parts])
        if values.ndim == 1 and values.dtype.kind in "biufOT":
            found[f"trial_{name}"] = ("trial", _plain(values))
    return found


def _plain(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind in "biuf":
        return values
    return np.array(["" if v is None else str(v) for v in values.tolist()], dtype=object)


def events_within(
    parts: Sequence[Part], config: TrialsConfig, onset: np.ndarray, reach: np.ndarray
) -> dict[str, Any]:
    """Return the events that lie in trials, one row per event and trial.

    Parameters
    ----------
    parts : sequence of (Run, Windows)
        The trials of each run.
    config : TrialsConfig
        The block ``input.trials``.
    onset : numpy.ndarray
        The moment that is 0 in each trial, ``(n_trials,)``, seconds.
    reach : numpy.ndarray
        Start and stop of each trial, ``(n_trials, 2)``, seconds.

    Returns
    -------
    dict
        Columns along ``event``: ``event_trial``, ``event_time`` (after the trial's 0),
        ``event_onset`` (on the session's clock), ``event_duration``, ``event_label``; {} without
        an event.
    """
    rows: list[tuple[int, float, float, float, str]] = []
    first = 0
    for run, windows in parts:
        table = _event_table(run, config)
        for trial in range(first, first + len(windows)) if table else ():
            time = np.asarray(table["onset"], dtype=np.float64)
            for k in np.flatnonzero((time >= reach[trial, 0]) & (time < reach[trial, 1])):
                duration = float(table["duration"][k]) if "duration" in table else np.nan
                label = str(table["label"][k]) if "label" in table else ""
                rows.append((trial, time[k] - onset[trial], time[k], duration, label))
        first += len(windows)
    if not rows:
        return {}
    numbers, relative, absolute, durations, labels = zip(*rows, strict=True)
    return {
        "event_trial": ("event", np.array(numbers, dtype=np.int64)),
        "event_time": ("event", np.array(relative), {"units": "s"}),
        "event_onset": ("event", np.array(absolute), {"units": "s"}),
        "event_duration": ("event", np.array(durations), {"units": "s"}),
        "event_label": ("event", np.array(labels, dtype=object)),
    }


def _event_table(run: Run, config: TrialsConfig) -> Mapping[str, np.ndarray]:
    """Return the events of a run: those that trials are cut at, else of its first recording."""
    if config.by == "events":
        tree = source_of_trials(run.stores, config)
        return {} if tree is None else read_table(tree, "events")
    own = [source.tree for source in run.sources]
    tables = (read_table(tree, "events") for tree in [*own, *run.stores])
    return next((table for table in tables if table), {})
