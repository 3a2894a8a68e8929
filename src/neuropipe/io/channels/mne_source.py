"""A source from a recording that mne opened: shared by the formats that mne decodes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.errors import ConfigError
from neuropipe.io.channels.events import code_of, event_table, step_events
from neuropipe.io.channels.grid import Times, times_at
from neuropipe.io.channels.mne_header import mne_attrs, mne_table
from neuropipe.io.channels.mne_samples import MneSamples
from neuropipe.io.channels.source import ChannelSource, ChannelTable

if TYPE_CHECKING:
    import mne
    import xarray as xr

    from neuropipe.errors import Issue

__all__ = ["mne_source", "trigger_channels"]

# Composite trigger channels: the lines that they are made of would say everything again.
COMPOSITES = ("STI101", "STI 101", "STI201", "STI 014", "STI014", "UPPT001")
Annotated = tuple[np.ndarray, np.ndarray, Sequence[str]]


def trigger_channels(table: ChannelTable, wanted: str | None, path: Path) -> dict[int, str]:
    """Return position and name of the trigger channels to read.

    Raises
    ------
    ConfigError
        `wanted` is no channel of the file.
    """
    names = list(table.name)
    if wanted is not None:
        if wanted not in names:
            stim = [n for n, kind in zip(names, table.ch_type, strict=True) if kind == "stim"]
            listed = ", ".join(stim) or "none"
            raise ConfigError(
                f"{path}: stim_channel {wanted!r} is no channel; trigger channels are {listed}"
            )
        return {names.index(wanted): wanted}
    for name in COMPOSITES:
        if name in names:
            return {names.index(name): name}
    return {k: names[k] for k, kind in enumerate(table.ch_type) if kind == "stim"}


def mne_source(
    raw: mne.io.BaseRaw,
    path: Path,
    *,
    time: Times,
    utc: bool,
    issues: Sequence[Issue],
    annotations: Annotated,
    source_files: Sequence[Path],
    segments: Sequence[tuple[int, int]] | None = None,
    dtype: np.dtype | None = None,
    stim_channel: str | None = None,
    t0_source: float = 0.0,
    breaks: Sequence[int] = (),
) -> ChannelSource:
    """Return the source of a recording that mne opened.

    Parameters
    ----------
    raw : mne.io.BaseRaw
        Not loaded.
    path : Path
        File, for errors and issues.
    time : Times
        Sample times, s from the first sample.
    utc : bool
        The date of the format is in UTC.
    issues : sequence of Issue
        Found so far.
    annotations : tuple
        Onsets (s from the first sample), durations (s) and texts.
    source_files : sequence of Path
        Every file read.
    segments, dtype
        As of `MneSamples`.
    stim_channel : str, optional
        Trigger channel; None finds it.
    t0_source : float
        First sample on the clock of the source, s.
    breaks : sequence of int
        As of `ChannelSource`.
    """
    table = mne_table(raw, issues)
    attrs, found = mne_attrs(raw, table, path, utc=utc)
    if t0_source:
        attrs["t0_source"] = t0_source
    samples = MneSamples(raw, path, segments, dtype)
    triggers = trigger_channels(table, stim_channel, path)
    return ChannelSource(
        path=path,
        channels=table,
        samples=samples,
        time=time,
        types_stated=True,
        units_stated=False,
        events=_events(samples, triggers, time, annotations),
        attrs=attrs,
        source_files=tuple(source_files),
        issues=(*issues, *found),
        breaks=tuple(breaks),
    )


def _events(
    samples: MneSamples, triggers: dict[int, str], time: Times, annotations: Annotated
) -> xr.Dataset | None:
    """Return annotations and steps of trigger channels; None where the format has neither."""
    onset, duration, text = annotations
    if not len(onset) and not triggers:
        return None
    places, codes, names = step_events(samples, triggers)
    labels: list[Any] = [*text, *(str(code) for code in codes)]
    return event_table(
        np.concatenate([onset, times_at(time, places)]),
        np.concatenate([duration, np.zeros(len(places))]),
        labels,
        code=[*(code_of(word) for word in text), *codes],
        source=["annotations"] * len(onset) + names,
    )
