"""channels.tsv: types, units, bad channels, filters and references; it overrides the header."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from neuropipe.errors import IngestError, Issue
from neuropipe.io.bids.tables import Table, free_column, free_name
from neuropipe.io.channels.grid import n_times, times_at
from neuropipe.io.channels.source import ChannelSource, restate_units
from neuropipe.io.channels.units import si_unit

__all__ = ["apply_channels"]

# Words of BIDS whose lower case is not the word of the store.
TYPES = {
    "VEOG": "eog",
    "HEOG": "eog",
    "TRIG": "stim",
    "REF": "eeg",
    "MEGMAG": "mag",
    "MEGGRADAXIAL": "mag",
    "MEGGRADPLANAR": "grad",
    "MEGREFMAG": "ref_meg",
    "MEGREFGRADAXIAL": "ref_meg",
    "MEGREFGRADPLANAR": "ref_meg",
    "MEGOTHER": "misc",
    "AUDIO": "misc",
    "PD": "misc",
    "ADC": "misc",
    "DAC": "misc",
    "OTHER": "misc",
    "TEMP": "temperature",
    "SYSCLOCK": "syst",
    "HLU": "chpi",
    "FITERR": "gof",
}
KNOWN = ("name", "type", "units", "status", "reference", "low_cutoff", "high_cutoff", "group")
STATUS = {"bad": True, "good": False}
SHOWN = 5
RATE_TOLERANCE = 1e-3


def apply_channels(
    source: ChannelSource, table: Table
) -> tuple[ChannelSource, dict[str, list[str]]]:
    """Return the source as channels.tsv describes it, and its columns `group` and `reference`.

    These two are "" where the table states nothing: others may know.

    Parameters
    ----------
    source : ChannelSource
        What the header says.
    table : Table
        ``*_channels.tsv``.

    Raises
    ------
    IngestError
        ``LENGTH_MISMATCH`` or ``NAME_MISMATCH``: other channels than the header has; ``UNITS``.
    """
    rows = _rows(source, table)
    source, issues = _with_types(source, [table.texts("type")[row] for row in rows], table)
    found = [issues]
    source, issues = _with_units(source, [table.texts("units")[row] for row in rows], table)
    found.append(issues)
    source, issues = _with_bad(source, [table.texts("status")[row] for row in rows], table)
    found.append(issues)
    channels = source.channels
    columns = {
        free_name(name): free_column(table, name)[rows]
        for name in table.columns
        if name not in KNOWN and name != "sampling_frequency"
    }
    low = _first(table.numbers("low_cutoff")[rows], channels.low_cutoff)
    high = _first(table.numbers("high_cutoff")[rows], channels.high_cutoff)
    channels = replace(
        channels,
        low_cutoff=low,
        high_cutoff=high,
        columns={**channels.columns, **columns},
    )
    found += [_cutoff_issues(low, high, table), _rate_issues(source, table, rows)]
    issues = [issue for part in found for issue in part]
    open_columns = {
        name: [table.texts(name)[row] for row in rows] for name in ("group", "reference")
    }
    return replace(source, channels=channels, issues=[*source.issues, *issues]), open_columns


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _rows(source: ChannelSource, table: Table) -> list[int]:
    """Return the row of the table for each channel."""
    names, header = table.texts("name"), source.channels
    if names == list(header.source):
        return list(range(len(names)))
    place = {name: row for row, name in enumerate(names)}
    unknown = [name for name in header.name if name not in place]
    surplus = sorted(set(names) - set(header.name))
    told = "; ".join(
        text
        for text in (
            f"only in the header: {_listed(unknown)}" if unknown else "",
            f"only in the table: {_listed(surplus)}" if surplus else "",
        )
        if text
    )
    hint = "correct the table, or set `sidecars: false`"
    if len(names) != len(header.name):
        text = f"{len(names)} rows, but the header has {len(header.name)} channels; {told}"
        raise IngestError("LENGTH_MISMATCH", table.path, text, hint)
    if unknown:
        raise IngestError("NAME_MISMATCH", table.path, f"other names than the header: {told}", hint)
    return [place[name] for name in header.name]


def _with_types(
    source: ChannelSource, stated: list[str], table: Table
) -> tuple[ChannelSource, list[Issue]]:
    channels = source.channels
    words = [TYPES.get(text.upper(), text.lower()) for text in stated]
    kinds = tuple(word or kind for word, kind in zip(words, channels.ch_type, strict=True))
    issues = []
    if source.types_stated:
        changed = Counter(
            pair for pair in zip(channels.ch_type, kinds, strict=True) if pair[0] != pair[1]
        )
        issues = [
            _overridden(table, f"type {old or 'unknown'!r} of the header is {new!r}", count)
            for (old, new), count in sorted(changed.items())
        ]
    all_stated = source.types_stated or all(words)
    channels = replace(channels, ch_type=kinds)
    return replace(source, channels=channels, types_stated=all_stated), issues


def _overridden(table: Table, what: str, count: int) -> Issue:
    text = f"{what} of {count} channels"
    return Issue("OVERRIDDEN", str(table.path), text, "the sidecar is taken", "info")


def _with_units(
    source: ChannelSource, stated: list[str], table: Table
) -> tuple[ChannelSource, list[Issue]]:
    """Restate units, unless the word of the table only names the quantity.

    Writers state V in the table whatever the numbers of the file are in; where the header states
    µV for the same numbers, it is the header that says how they were stored. Formats that fix the
    unit, as FIF and NWB do, leave nothing to restate.
    """
    channels = source.channels
    restated: dict[str, str] = {}
    pairs: Counter[tuple[str, str, bool]] = Counter()
    for name, word, declared in zip(channels.name, stated, channels.declared, strict=True):
        new, old = si_unit(word), si_unit(declared)
        if new is None or (old is not None and new == old):
            continue
        same_kind = old is not None and new[0] == old[0]
        is_fixed = old is not None and not source.units_stated
        names_quantity = is_fixed or (same_kind and new[1] == 1.0)
        if not names_quantity:
            restated[name] = word
        if old is not None:
            pairs[declared, word, names_quantity] += 1
    issues = []
    for (old_word, new_word, kept), count in sorted(pairs.items()):
        text = f"the header says {old_word}, the table {new_word}, for {count} channels"
        hint = "the header is taken: the table names the quantity" if kept else "the table is taken"
        issue = Issue("UNITS_DIFFER", str(table.path), text, hint)
        issues.append(issue if source.units_stated else replace(issue, severity="info"))
    return restate_units(source, restated), issues


def _with_bad(
    source: ChannelSource, stated: list[str], table: Table
) -> tuple[ChannelSource, list[Issue]]:
    header = np.asarray(source.channels.bad, dtype=bool)
    words = [text.lower() for text in stated]
    bad = np.array([STATUS.get(w, h) for w, h in zip(words, header, strict=True)], dtype=bool)
    issues = []
    if header.any() and (header != bad).any():
        issues.append(
            _overridden(table, "status good or bad of the header", int((header != bad).sum()))
        )
    odd = sorted({text for text in words if text and text not in STATUS})
    if odd:
        text = f"status {_listed(odd)} is neither good nor bad; the header is taken"
        issues.append(Issue("VOCABULARY", str(table.path), text))
    return replace(source, channels=replace(source.channels, bad=bad)), issues


def _first(stated: np.ndarray, header: Any) -> np.ndarray:
    return np.where(np.isnan(stated), np.asarray(header, dtype=np.float64), stated)


def _cutoff_issues(low: np.ndarray, high: np.ndarray, table: Table) -> list[Issue]:
    swapped = int((low > high).sum())
    if not swapped:
        return []
    text = f"low_cutoff lies above high_cutoff in {swapped} channels; kept as stated"
    return [Issue("CUTOFFS", str(table.path), text, "were the columns exchanged?")]


def _rate_issues(source: ChannelSource, table: Table, rows: list[int]) -> list[Issue]:
    rates = np.unique(table.numbers("sampling_frequency")[rows])
    rates = rates[np.isfinite(rates)]
    steps = n_times(source.time) - 1
    if not rates.size or steps < 1:
        return []
    first, last = times_at(source.time, np.array([0, steps]))
    found = steps / float(last - first)
    wrong = rates[np.abs(rates - found) > RATE_TOLERANCE * found]
    if not wrong.size:
        return []
    text = f"sampling_frequency {wrong[0]:g} Hz, but the samples lie {found:g} to the second"
    return [Issue("RATE_DIFFERS", str(table.path), text, "the header is taken")]
