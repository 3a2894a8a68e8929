"""Tables with one row per spike (CSV, TSV, parquet): its unit and its time."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from neuropipe.config.models import Positive
from neuropipe.errors import ConfigError, IngestError
from neuropipe.io.arrays import object_array
from neuropipe.io.entities import entities_of
from neuropipe.io.frames import read_frame
from neuropipe.io.long_table import (
    TIME_COLUMNS,
    UNIT_COLUMNS,
    header_of,
    is_spike_table,
    usual_column,
)
from neuropipe.io.registry import Reader, ReaderMatch
from neuropipe.io.spikes.handle import TEXT_COLUMNS, Sorting, SpikeHandle, open_sorting
from neuropipe.io.spikes.parts import ArrayParts
from neuropipe.io.spikes.units import ObservedSettings, times_per_second

if TYPE_CHECKING:
    import pandas as pd

    from neuropipe.config.models import IngestOverride

__all__ = ["READER", "SpikeTableSettings", "open_recording", "probe"]

WHOLE = re.compile(r"-?\d{1,18}")


class SpikeTableSettings(ObservedSettings):
    """Reading of tables with one row per spike."""

    unit_column: str | None = Field(None, description="Column of units; null: by usual names.")
    time_column: str | None = Field(None, description="Column of times; null: by usual names.")
    time_unit: Literal["s", "ms", "samples"] | None = Field(
        None, description="Unit of the times, unless the name of the column states it."
    )
    sample_rate_hz: Positive | None = Field(None, description="Needed for times in samples.")


def probe(path: Path) -> ReaderMatch | None:
    """Return a match for a table that names a column of units and one of spike times."""
    if not is_spike_table(header_of(path)):
        return None
    return ReaderMatch("spike_table", "spikes", path, entities_of(path))


def _named(given: str | None, usual: tuple[str, ...], names: list[str], path: Path) -> str:
    if given is not None and given not in names:
        raise ConfigError(f"{path}: there is no column {given!r}; it has {', '.join(names)}")
    found = given or usual_column(names, usual)
    if found is None:
        text = f"no column named {' or '.join(usual[:4])}; it has {', '.join(names)}"
        raise IngestError("NOT_THIS_FORMAT", path, text, "name it: unit_column, time_column")
    return found


def _scale(column: str, settings: SpikeTableSettings, override: IngestOverride,
           path: Path) -> float:  # fmt: skip
    """Return by what the times are divided to give seconds."""
    unit = settings.time_unit or TIME_COLUMNS.get(column.strip().lower(), "")
    rate = override.rate_hz or settings.sample_rate_hz
    return times_per_second(unit, rate, f"{path}: {column}")


def _times(frame: pd.DataFrame, column: str, path: Path) -> np.ndarray:
    try:
        cells = frame[column].to_numpy(dtype=object)
        if any(isinstance(cell, str) and "_" in cell for cell in cells):
            raise ValueError("a number holds an underscore")
        times = cells.astype(np.float64)
    except (ValueError, TypeError) as error:
        text = f"column {column}: {error}; numbers expected"
        raise IngestError("NOT_THIS_FORMAT", path, text, "correct the table") from error
    if len(times) and np.isnan(times[-1]) and not np.isnan(times[:-1]).any():
        text = f"line {len(times) + 1}, the last, has no time"
        raise IngestError("TRUNCATED", path, text, "copy the table again")
    return times


def _units(frame: pd.DataFrame, column: str, path: Path) -> tuple[np.ndarray, np.ndarray]:
    missing = np.flatnonzero(frame[column].isna().to_numpy())
    if missing.size:
        text = f"{missing.size} spikes have no unit, the first in line {missing[0] + 2}"
        raise IngestError("NOT_THIS_FORMAT", path, text, "correct the table")
    texts, codes = np.unique(frame[column].astype(str).to_numpy(dtype=object), return_inverse=True)
    if all(WHOLE.fullmatch(text) for text in texts):
        units, order = np.unique([int(text) for text in texts], return_inverse=True)
        return units.astype(np.int64), order[codes]
    return object_array([str(text) for text in texts]), codes


def _columns(frame: pd.DataFrame, owner: np.ndarray, n_units: int) -> dict[str, Any]:
    """Return text columns that say one thing per unit."""
    found: dict[str, Any] = {}
    for name in TEXT_COLUMNS:
        if name not in frame.columns:
            continue
        texts = frame[name].fillna("").astype(str).to_numpy(dtype=object)
        first = np.full(n_units, -1)
        first[owner[::-1]] = np.arange(len(owner))[::-1]
        if (texts == texts[first][owner]).all():
            found[name] = texts[first]
    return found


def open_recording(
    path: Path, settings: SpikeTableSettings, override: IngestOverride
) -> SpikeHandle:
    """Open a table of spikes.

    Raises
    ------
    IngestError
        ``MISSING_SIDECAR`` (no unit of times, no sample rate), ``NOT_THIS_FORMAT``, ``ENCODING``,
        ``TRUNCATED``, ``UNITS``, ``BAD_TIME`` or ``EMPTY``.
    ConfigError
        A named column does not exist.
    """
    frame = read_frame(path, as_text=True)
    names = [str(name) for name in frame.columns]
    unit = _named(settings.unit_column, UNIT_COLUMNS, names, path)
    time = _named(settings.time_column, tuple(TIME_COLUMNS), names, path)
    scale = _scale(time, settings, override, path)
    times = _times(frame, time, path)
    units, owner = _units(frame, unit, path)
    return open_sorting(
        Sorting(
            units=units,
            spikes=ArrayParts(times if scale == 1.0 else times / scale, owner, len(units), path),
            columns=_columns(frame, owner, len(units)),
            observed=settings.observed(),
        ),
        path=path,
        repair=override.repair,
        attrs={},
        source_files=[str(path)],
    )


READER = Reader(
    name="spike_table",
    modalities=("spikes",),
    extensions=(".csv", ".tsv", ".parquet"),
    settings=SpikeTableSettings,
    probe="neuropipe.io.spikes.table:probe",
    open="neuropipe.io.spikes.table:open_recording",
)
