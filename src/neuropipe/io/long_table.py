"""Tables with one row per spike, told from tables with one column per trace."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from neuropipe.io.checks import head

__all__ = [
    "TIME_COLUMNS",
    "UNIT_COLUMNS",
    "delimiter_of",
    "header_of",
    "is_spike_table",
    "usual_column",
]

UNIT_COLUMNS = ("unit", "unit_id", "cluster", "cluster_id")
# Column -> unit that its name states, "" for none.
TIME_COLUMNS = {
    "time": "", "spike_time": "", "times": "", "spike_times": "",
    "time_s": "s", "spike_time_s": "s",
    "time_ms": "ms", "spike_time_ms": "ms",
    "sample": "samples", "samples": "samples", "spike_sample": "samples",
}  # fmt: skip
PARQUET_MAGIC = b"PAR1"
PROBE_BYTES = 1 << 16


def usual_column(names: Sequence[str], usual: Sequence[str]) -> str | None:
    """Return the first usual name that a header holds, as it is written there."""
    lower = {name.strip().lower(): name for name in names}
    return next((lower[name] for name in usual if name in lower), None)


def is_spike_table(names: Sequence[str]) -> bool:
    """Tell whether a header names a column of units and one of spike times."""
    unit, time = usual_column(names, UNIT_COLUMNS), usual_column(names, tuple(TIME_COLUMNS))
    return unit is not None and time is not None


def header_of(path: Path) -> list[str]:
    """Return the column names of a CSV, TSV or parquet file; none of anything else."""
    if path.suffix.lower() == ".parquet":
        if head(path, 4) != PARQUET_MAGIC:
            return []
        import pyarrow.parquet as pq

        try:
            return list(pq.read_schema(path).names)
        except (OSError, ValueError):
            return []
    line = _first_line(path)
    return [name.strip().strip('"') for name in line.split(delimiter_of(path))] if line else []


def delimiter_of(path: Path) -> str:
    """Return the separator that the first line of a text table uses most."""
    return max(",\t;", key=_first_line(path).count)


def _first_line(path: Path) -> str:
    start = head(path, PROBE_BYTES)
    if b"\x00" in start or start.lstrip().startswith(b"<"):
        return ""
    return start.decode("utf-8-sig", errors="replace").split("\n")[0].strip("\r")
