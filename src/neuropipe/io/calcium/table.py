"""Wide tables (CSV, TSV, parquet): first column time, one column per trace."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from neuropipe.errors import ConfigError, IngestError, Issue
from neuropipe.io.calcium.handle import CalciumHandle, behavior_dataset, object_array
from neuropipe.io.calcium.laboratory import (
    TIME_UNITS,
    LaboratorySettings,
    side_names,
    stated_kind,
)
from neuropipe.io.calcium.names import TraceNames
from neuropipe.io.checks import head, refuse_pointers
from neuropipe.io.delimited import refuse_same_names, text_rows
from neuropipe.io.entities import entities_of
from neuropipe.io.long_table import header_of, is_spike_table
from neuropipe.io.registry import Reader, ReaderMatch
from neuropipe.store.series import Block

if TYPE_CHECKING:
    from neuropipe.config.models import IngestOverride

__all__ = ["READER", "TableSettings", "open_recording", "probe"]

MISSING = {"", "n/a", "na", "nan", "null", "none"}
DELIMITERS = {".tsv": "\t", ".csv": ","}
PARQUET_MAGIC = b"PAR1"
PROBE_BYTES = 1 << 16
MIN_NUMERIC = 2 / 3


class TableSettings(LaboratorySettings):
    """Reading of wide tables."""

    time_column: str | None = Field(None, description="Column of times; null: the first.")
    behavior_columns: list[str] = Field(
        default_factory=list, description="Columns that hold behaviour, not traces."
    )
    ignore_columns: list[str] = Field(default_factory=list, description="Columns to leave out.")
    delimiter: str | None = Field(None, description="Separator; null: by the extension.")


def probe(path: Path) -> ReaderMatch | None:
    """Return a match for a parquet file, or for text with a header and then mostly numbers.

    A table of names beside the data is none, nor is one with a row per spike.
    """
    if is_spike_table(header_of(path)):
        return None
    if path.suffix.lower() == ".parquet":
        found = head(path, 4) == PARQUET_MAGIC
        return _match(path) if found else None
    start = head(path, PROBE_BYTES)
    if b"\x00" in start or start.lstrip().startswith(b"<"):
        return None
    lines = start.decode("utf-8-sig", errors="replace").split("\n")
    delimiter = max(",\t;", key=lines[0].count)
    if delimiter not in lines[0]:
        return None
    cells = lines[1].split(delimiter) if len(lines) > 1 else []
    whole = cells if len(lines) > 2 else cells[:-1]
    if whole and sum(_is_number(cell) for cell in whole) <= MIN_NUMERIC * len(whole):
        return None
    return _match(path)


def _match(path: Path) -> ReaderMatch:
    return ReaderMatch("table", "calcium", path, entities_of(path), assumed=True)


def _is_number(cell: str) -> bool:
    try:
        float(cell.strip() or "nan")
    except ValueError:
        return cell.strip().lower() in MISSING
    return True


@dataclass(frozen=True)
class _Columns:
    """Positions of the columns of a table."""

    names: tuple[str, ...]
    time: int
    traces: tuple[int, ...]
    behavior: tuple[int, ...]


def _sort_columns(names: list[str], settings: TableSettings, path: Path) -> _Columns:
    special = [*settings.behavior_columns, *settings.ignore_columns]
    special += [settings.time_column] if settings.time_column is not None else []
    for name in special:
        if name not in names:
            raise ConfigError(
                f"{path}: there is no column {name!r}; it has {', '.join(names[:30])}"
            )
    refuse_same_names(names, special, path)
    time = names.index(settings.time_column) if settings.time_column is not None else 0
    behavior = tuple(names.index(name) for name in settings.behavior_columns)
    left_out = {time, *behavior, *(names.index(name) for name in settings.ignore_columns)}
    traces = tuple(i for i in range(len(names)) if i not in left_out)
    return _Columns(tuple(names), time, traces, behavior)


def _number(cell: str, where: str) -> float:
    if cell.strip().lower() in MISSING:
        return math.nan
    try:
        if "_" in cell:  # 1_000 is a number to Python alone
            raise ValueError(cell)
        return float(cell)
    except ValueError as error:
        raise IngestError(
            "NOT_THIS_FORMAT", where, f"{cell!r} is not a number", "correct the table"
        ) from error


class _CsvTable:
    """Rows of a delimited text file."""

    def __init__(self, path: Path, delimiter: str, allow_truncated: bool) -> None:
        self.path, self.delimiter = path, delimiter
        self.issues: list[Issue] = []
        rows = self._rows()
        self.names = next(rows, [])
        self.issues += _no_header(self.names, path)
        self.length, last_bad = 0, None
        for number, row in enumerate(rows, start=2):
            if last_bad is not None or len(row) > len(self.names):
                where = number if last_bad is None else last_bad
                raise IngestError(
                    "LENGTH_MISMATCH",
                    f"{path}: line {where}",
                    f"another number of cells than the {len(self.names)} columns of line 1",
                    "correct the table",
                )
            if len(row) < len(self.names):
                last_bad = number
            else:
                self.length += 1
        if last_bad is not None:
            self._refuse_truncated(last_bad, allow_truncated)

    def _refuse_truncated(self, line: int, allowed: bool) -> None:
        message = f"line {line}, the last, has fewer cells than line 1"
        if not allowed:
            raise IngestError(
                "TRUNCATED",
                self.path,
                message,
                "copy the file again, or keep the whole lines with `allow_truncated: true`",
            )
        self.issues.append(Issue("TRUNCATED", str(self.path), f"{message}; left out", ""))

    def _rows(self) -> Iterator[list[str]]:
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as stream:
                yield from text_rows(stream, self.delimiter, self.path)
        except UnicodeDecodeError as error:
            raise IngestError(
                "ENCODING", self.path, f"not UTF-8 text: {error}", "save the table as UTF-8"
            ) from error

    def dtype_of(self, columns: tuple[int, ...]) -> np.dtype:
        """Return the dtype that holds the columns; text has none of its own."""
        return np.dtype(np.float64)

    def chunks(self, columns: tuple[int, ...], step: int) -> Iterator[np.ndarray]:
        """Yield ``(n_samples, n_columns)`` of at most `step` samples."""
        rows = self._rows()
        next(rows)
        held: list[list[float]] = []
        for order, row in zip(range(self.length), rows, strict=False):
            where = f"{self.path}: line {order + 2}"
            held.append([_number(row[c], where) for c in columns])
            if len(held) == step:
                yield np.array(held, np.float64)
                held = []
        if held:
            yield np.array(held, np.float64).reshape(len(held), len(columns))


def _no_header(names: list[str], path: Path) -> list[Issue]:
    """Tell of a first line of numbers: they may be the first samples, and no names."""
    if not names or not all(_is_number(name) and name.strip() for name in names):
        return []
    text = (
        f"line 1 holds numbers ({', '.join(names[:3])}, ...), where names of columns are expected"
    )
    if all(name.strip().lstrip("+-").isdigit() for name in names):
        return [Issue("NO_HEADER", str(path), f"{text}; taken as names", "add a line of names")]
    raise IngestError("NOT_THIS_FORMAT", path, text, "add a line of names")


class _ParquetTable:
    """Rows of a parquet file."""

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        self.path = path
        self.issues: list[Issue] = []
        try:
            self._file = pq.ParquetFile(path)
        except Exception as error:
            with path.open("rb") as stream:
                stream.seek(-4, 2)
                whole = stream.read() == PARQUET_MAGIC
            code = "NOT_THIS_FORMAT" if whole else "TRUNCATED"
            raise IngestError(code, path, str(error), "copy the file again") from error
        self.names = list(self._file.schema_arrow.names)
        self.length = self._file.metadata.num_rows
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            text = f"two columns are named {twice[0]!r}"
            raise IngestError("DUPLICATE_COLUMN", path, text, "rename one of them")

    def _has_nulls(self, column: int) -> bool:
        """Tell whether a column misses values, or does not say that it misses none."""
        metadata = self._file.metadata
        groups = [metadata.row_group(k).column(column) for k in range(metadata.num_row_groups)]
        counts = [group.statistics.null_count if group.statistics else None for group in groups]
        return any(count != 0 for count in counts)

    def dtype_of(self, columns: tuple[int, ...]) -> np.dtype:
        """Return the dtype that holds these columns without loss."""
        schema = self._file.schema_arrow
        kinds = [
            _parquet_dtype(schema.field(k).type, self.path, self.names[k], self._has_nulls(k))
            for k in columns
        ]
        return np.result_type(*(kinds or [np.dtype(np.float64)]))

    def chunks(self, columns: tuple[int, ...], step: int) -> Iterator[np.ndarray]:
        """Yield ``(n_samples, n_columns)`` of at most `step` samples."""
        names = [self.names[c] for c in columns]
        dtype = self.dtype_of(columns)
        for batch in self._file.iter_batches(batch_size=step, columns=names):
            held = [batch.column(batch.schema.get_field_index(n)) for n in names]
            yield np.stack([c.to_numpy(zero_copy_only=False).astype(dtype) for c in held], axis=1)


def _parquet_dtype(kind: Any, path: Path, name: str, has_nulls: bool) -> np.dtype:
    import pyarrow as pa

    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise IngestError(
            "NOT_THIS_FORMAT",
            f"{path}: column {name}",
            f"holds {kind}, numbers expected",
            "leave it out with `ignore_columns`",
        )
    if has_nulls and not pa.types.is_floating(kind):
        return np.dtype(np.float64)
    return np.dtype(kind.to_pandas_dtype())


@dataclass
class TableHandle(CalciumHandle):
    """A wide table, read row by row."""

    table: Any = None
    columns: Any = None

    def blocks(self, max_bytes: int) -> Iterator[Block]:
        """Yield the samples in time order, at most `max_bytes` each (one sample at least)."""
        name, dtype = self.sources[0].name, self.sources[0].dtype
        step = max(1, max_bytes // max(1, len(self.columns.traces) * dtype.itemsize))
        start = 0
        for values in self.table.chunks(self.columns.traces, step):
            yield Block(name, start, np.ascontiguousarray(values, dtype=dtype))
            start += len(values)


@dataclass(frozen=True)
class _Described:
    """Name and dtype of the series of a table, in the place of an array."""

    name: str
    dtype: np.dtype
    attrs: dict[str, Any]


def _open_table(path: Path, settings: TableSettings, override: IngestOverride) -> Any:
    refuse_pointers(path)
    if path.suffix.lower() == ".parquet":
        return _ParquetTable(path)
    delimiter = settings.delimiter or DELIMITERS.get(path.suffix.lower(), ",")
    return _CsvTable(path, delimiter, override.allow_truncated)


def _read_columns(table: Any, columns: tuple[int, ...]) -> np.ndarray:
    parts = list(table.chunks(columns, 65_536)) if columns else []
    return np.concatenate(parts) if parts else np.zeros((0, len(columns)))


def open_recording(path: Path, settings: TableSettings, override: IngestOverride) -> TableHandle:
    """Open a wide table; the samples are read when blocks are asked for.

    Raises
    ------
    IngestError
        ``TRUNCATED``, ``LENGTH_MISMATCH``, ``ENCODING``, or ``NOT_THIS_FORMAT`` for cells that
        are no numbers.
    ConfigError
        A column named in the settings does not exist.
    """
    import xarray as xr

    table = _open_table(path, settings, override)
    columns = _sort_columns(table.names, settings, path)
    issues, files = list(table.issues), [str(path)]
    kind = stated_kind(settings, path, issues)
    scale = TIME_UNITS[settings.time_unit]
    time = _read_columns(table, (columns.time,)).astype(np.float64).ravel() * scale
    moved = _read_columns(table, columns.behavior)
    variables = {n: ("behavior", moved[:, k]) for k, n in enumerate(settings.behavior_columns)}
    names = side_names(settings, path, len(columns.traces), files)
    issues += names.issues if names is not None else ()
    if names is None:
        names = TraceNames(tuple(columns.names[i] for i in columns.traces), None)
    coords: dict[str, Any] = {
        "time": ("time", time),
        "roi": ("roi", np.arange(len(columns.traces), dtype=np.int64)),
        "label_source": ("roi", object_array(names.labels)),
    }
    if names.confidence is not None:
        coords["label_confidence"] = ("roi", np.array(names.confidence, np.float64))
    attrs = {"units": settings.unit} if settings.unit else {}
    return TableHandle(
        raw=xr.Dataset(coords=coords),
        sources=[_Described(kind, table.dtype_of(columns.traces), attrs)],
        attrs={},
        source_files=files,
        issues=issues,
        behavior=behavior_dataset({"behavior": time}, variables),
        table=table,
        columns=columns,
    )


READER = Reader(
    name="table",
    modalities=("calcium",),
    extensions=(".csv", ".tsv", ".parquet"),
    settings=TableSettings,
    probe="neuropipe.io.calcium.table:probe",
    open="neuropipe.io.calcium.table:open_recording",
)
