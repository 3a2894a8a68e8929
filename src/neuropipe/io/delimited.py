"""Delimited text: its rows, and the faults that a row or a header can show."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from neuropipe.errors import IngestError, Issue

__all__ = [
    "check_cells",
    "is_number",
    "last_line_open",
    "open_tables",
    "refuse_same_names",
    "text_rows",
]

TABLES = (".csv", ".tsv", ".txt")


def _checked(lines: Iterable[str], path: object) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        if "\x00" in line:
            text = f"line {number} holds a NUL, which no text has"
            raise IngestError("NOT_THIS_FORMAT", path, text, "copy or download the file again")
        yield line


def text_rows(lines: Iterable[str], delimiter: str, path: object) -> Iterator[list[str]]:
    """Yield the rows of a table; empty lines are left out.

    Parameters
    ----------
    lines : iterable of str
        An open file (``newline=""``) or ``io.StringIO``.
    delimiter : str
    path : path
        For messages.

    Raises
    ------
    IngestError
        ``NOT_THIS_FORMAT``: a quote is left open, or the text holds NUL.
    """
    reader = csv.reader(_checked(lines, path), delimiter=delimiter, strict=True)
    try:
        yield from (row for row in reader if row)
    except csv.Error as error:
        text = f"line {reader.line_num}: {error}; is a quote left open?"
        raise IngestError("NOT_THIS_FORMAT", path, text, "correct the table") from error


def check_cells(rows: Sequence[Sequence[str]], path: object, *, cut: bool = False) -> None:
    """Raise unless every row has as many cells as the first.

    Parameters
    ----------
    rows : sequence of rows
        The header first.
    path : path
        For messages.
    cut : bool
        The text may have been cut: its last line has no end.

    Raises
    ------
    IngestError
        ``TRUNCATED`` where the last row of a text that may be cut has fewer, else
        ``LENGTH_MISMATCH``.
    """
    for number, row in enumerate(rows, start=1):
        if len(row) == len(rows[0]):
            continue
        message = f"line {number}: {len(row)} cells for {len(rows[0])} columns"
        if cut and number == len(rows) and len(row) < len(rows[0]):
            raise IngestError(
                "TRUNCATED", path, f"{message}, and the text ends there", "copy the file again"
            )
        raise IngestError("LENGTH_MISMATCH", path, message, "correct the table")


def refuse_same_names(header: Sequence[str], used: Iterable[str | None], path: object) -> None:
    """Raise when a column that is used shares its name with another.

    Raises
    ------
    IngestError
        ``DUPLICATE_COLUMN``.
    """
    for name in used:
        if name is not None and list(header).count(name) > 1:
            text = f"two columns are named {name!r}"
            raise IngestError("DUPLICATE_COLUMN", path, text, "rename one of them")


def is_number(text: str) -> bool:
    """Tell whether text states a number; ``1_000`` is one to Python alone.

    Examples
    --------
    >>> is_number("1e3"), is_number("1_000"), is_number("n/a")
    (True, False, False)
    """
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def last_line_open(text: str, path: object) -> list[Issue]:
    """Return an issue when the last line has no end: a file that was cut looks like this too."""
    if not text or text.endswith(("\n", "\r")):
        return []
    message = "the last line has no end of line; if the file was cut, its last value is wrong"
    return [Issue("LAST_LINE_OPEN", str(path), message, "compare it with the original", "info")]


def open_tables(files: Iterable[str]) -> list[Issue]:
    """Return an issue for each table among the files whose last line has no end."""
    issues = []
    for path in (Path(file) for file in files):
        if path.suffix.lower() in TABLES and path.is_file():
            with path.open("rb") as stream:
                stream.seek(max(0, path.stat().st_size - 1))
                issues += last_line_open(stream.read().decode("latin-1"), path)
    return issues
