"""Tables beside recordings (CSV, TSV, parquet) as data frames, with faults named."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from neuropipe.errors import ConfigError, IngestError
from neuropipe.io.checks import refuse_pointers
from neuropipe.io.delimited import refuse_same_names
from neuropipe.io.long_table import delimiter_of, usual_column

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["column_of", "read_frame", "units_per_second"]

UNITS_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6}
TAIL_BYTES, BLOCK_BYTES = 1 << 16, 1 << 20
WHOLE = re.compile(r"[+-]?\d{1,18}")


def read_frame(path: Path, *, as_text: bool = False) -> pd.DataFrame:
    """Read a table; ``n/a`` and empty cells are missing.

    Parameters
    ----------
    path : Path
        CSV, TSV or parquet; text is UTF-8, with or without byte order mark.
    as_text : bool
        Leave the cells of text tables as text, for callers that convert themselves.

    Raises
    ------
    IngestError
        ``MISSING_SIDECAR``, ``ENCODING``, ``TRUNCATED``, ``DUPLICATE_COLUMN`` or
        ``NOT_THIS_FORMAT``.
    """
    import pandas as pd

    if not path.is_file() and not path.is_symlink():
        raise IngestError("MISSING_SIDECAR", path, "no such file", "correct its path")
    refuse_pointers(path)
    is_text = path.suffix.lower() != ".parquet"
    if is_text:
        _refuse_nul(path)
    try:
        if not is_text:
            return pd.read_parquet(path)
        separator = delimiter_of(path)
        frame = pd.read_csv(
            path, sep=separator, encoding="utf-8-sig", skipinitialspace=True, index_col=False,
            dtype=str,  # Python turns text into the nearest number, parsers of tables nearly
        )  # fmt: skip
    except UnicodeDecodeError as error:
        text = f"not UTF-8 text: {error}"
        raise IngestError("ENCODING", path, text, "save the table as UTF-8") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, OSError, ValueError) as error:
        text = f"cannot be read: {str(error).splitlines()[0]}"
        raise IngestError("NOT_THIS_FORMAT", path, text, "correct or copy the table") from error
    _refuse_cut(path, separator, frame.shape[1])
    frame = _named(frame, path, separator)
    if as_text:
        return frame
    typed = {name: _typed(frame[name].to_numpy(dtype=object)) for name in frame.columns}
    return pd.DataFrame(typed)


def _refuse_nul(path: Path) -> None:
    """Raise when a text holds NUL; pandas would keep it within a cell."""
    with path.open("rb") as stream:
        if any(b"\x00" in block for block in iter(lambda: stream.read(BLOCK_BYTES), b"")):
            text = "holds NUL: UTF-16 text, or a damaged file"
            raise IngestError("ENCODING", path, text, "save the table as UTF-8, or copy it again")


def _named(frame: pd.DataFrame, path: Path, separator: str) -> pd.DataFrame:
    """Return the table with the names of its header, where pandas makes up others.

    The first column may count the rows and have no name, as pandas writes it: it is left out.
    """
    with path.open(encoding="utf-8-sig", newline="") as stream:
        rows = csv.reader(stream, delimiter=separator, skipinitialspace=True)
        header = [name.strip() for name in next((row for row in rows if row), [])]
    if len(header) != frame.shape[1]:
        return frame
    refuse_same_names(header, [name for name in header if name], path)
    counts = [str(k) for k in range(len(frame))]
    if header and not header[0] and frame.iloc[:, 0].tolist() == counts:
        header, frame = header[1:], frame.iloc[:, 1:]
    if "" in header:
        text = f"column {header.index('') + 1} of the header has no name"
        raise IngestError("NOT_THIS_FORMAT", path, text, "name it, or remove it")
    return frame.set_axis(header, axis="columns")


def _typed(cells: np.ndarray) -> np.ndarray:
    """Return cells of text as bool, whole numbers or numbers where all of them are."""
    known = np.array([isinstance(cell, str) for cell in cells], dtype=bool)
    texts = cells[known]
    words = set(texts.tolist())
    if len(words) <= 2 and words and words <= {"True", "False", "true", "false"} and known.all():
        return np.array([text.lower() == "true" for text in texts])
    if known.all() and len(texts) and all(WHOLE.fullmatch(text) for text in texts):
        return texts.astype(np.int64)
    numbers = np.full(len(cells), np.nan)
    try:
        if any("_" in text for text in words):  # 1_000 is a number to Python alone
            return cells
        numbers[known] = texts.astype(np.float64)
    except ValueError:
        return cells
    return numbers


def _refuse_cut(path: Path, separator: str, n_columns: int) -> None:
    """Raise when the last line has fewer cells than there are columns."""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - TAIL_BYTES))
        lines = stream.read().decode("utf-8", errors="replace").rstrip("\r\n").split("\n")
    last = lines[-1]
    if len(lines) > 1 and '"' not in last and last.count(separator) + 1 < n_columns:
        text = f"the last line has {last.count(separator) + 1} cells, {n_columns} expected"
        raise IngestError("TRUNCATED", path, text, "copy the table again")


def column_of(
    given: str | None, usual: Sequence[str], names: Sequence[str], path: object, what: str
) -> str | None:
    """Return the column that the settings name, else the first of the usual names, else None.

    Raises
    ------
    ConfigError
        The named column does not exist.
    """
    if given is not None and given not in names:
        raise ConfigError(f"{path}: no column {given!r} for {what}; it has {', '.join(names[:30])}")
    return given if given is not None else usual_column(names, usual)


def units_per_second(stated: str | None, column: str, path: object) -> float:
    """Return by what a column of times is divided to give seconds.

    Raises
    ------
    IngestError
        ``MISSING_SIDECAR``: neither the settings nor the name of the column state the unit.
    """
    suffix = column.strip().lower().rpartition("_")[2]
    unit = stated or (suffix if suffix in UNITS_PER_SECOND else "")
    if not unit:
        text = f"neither the settings nor the name of column {column!r} state the unit of times"
        raise IngestError("MISSING_SIDECAR", path, text, "set `time_unit: s` (or ms, us)")
    return UNITS_PER_SECOND[unit]
