"""Tables and JSON of BIDS: UTF-8 with or without byte order mark, ``n/a`` for what is unknown."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neuropipe.errors import IngestError
from neuropipe.io.arrays import object_array
from neuropipe.io.bids.tree import sidecars
from neuropipe.io.checks import read_text
from neuropipe.io.delimited import is_number, refuse_same_names, text_rows

__all__ = [
    "Table",
    "free_column",
    "free_name",
    "inherited_json",
    "read_json",
    "read_table",
]

MISSING = ("n/a", "N/A", "NA", "nan", "NaN", "")


@dataclass(frozen=True)
class Table:
    """A table of text; what is not known is "".

    Attributes
    ----------
    path : Path
        The file.
    columns : mapping of str to list of str
        In the order of the file, all of one length.
    """

    path: Path
    columns: Mapping[str, list[str]]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))

    def texts(self, name: str) -> list[str]:
        """Return a column, "" for each row where there is no such column."""
        return list(self.columns.get(name, [""] * len(self)))

    def numbers(self, name: str) -> np.ndarray:
        """Return a column as float64, NaN where it is not known or absent.

        Raises
        ------
        IngestError
            ``NOT_A_NUMBER`` with the first cell at fault.
        """
        found = np.full(len(self), np.nan)
        for row, text in enumerate(self.columns.get(name, [])):
            if text and not is_number(text):
                where = f"{self.path}: column {name}, line {row + 2}"
                raise IngestError(
                    "NOT_A_NUMBER", where, f"{text!r}, expected a number or n/a", "correct it"
                )
            found[row] = float(text) if text else np.nan
        return found

    def row_of(self, name: str, value: str) -> dict[str, str]:
        """Return the first row with a value in a column; empty when there is none."""
        for row, text in enumerate(self.columns.get(name, [])):
            if text == value:
                return {key: column[row] for key, column in self.columns.items()}
        return {}


def free_name(column: str) -> str:
    """Return the name in the store of a column that the schema has no place for."""
    return "x_" + re.sub(r"[/:\s]+", "_", column)


def free_column(table: Table, name: str) -> np.ndarray:
    """Return a column as numbers where all that is known of it are numbers, else as text."""
    texts = table.texts(name)
    known = [text for text in texts if text]
    if known and all(is_number(text) for text in known):
        return table.numbers(name)
    return object_array(texts)


def read_table(path: Path, needs: Sequence[str] = ()) -> Table:
    """Return a tab separated table.

    Parameters
    ----------
    path : Path
        The file.
    needs : sequence of str
        Columns that must be there.

    Raises
    ------
    IngestError
        ``ENCODING``, ``NOT_THIS_FORMAT`` (no such column, rows of unequal length), ``EMPTY`` or
        ``MISSING_SIDECAR``.
    """
    lines = list(text_rows(io.StringIO(read_text(path), newline=""), "\t", path))
    lines = [line for line in lines if any(cell.strip() for cell in line)]
    if not lines:
        raise IngestError("EMPTY", path, "the table has no header", "write it again, or remove it")
    header, *rows = lines
    header = [name.strip() for name in header]
    refuse_same_names(header, header, path)
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            text = f"line {number} has {len(row)} cells, the header {len(header)}"
            hint = "separate cells by tabs, write n/a where nothing is known"
            raise IngestError("NOT_THIS_FORMAT", path, text, hint)
    absent = [name for name in needs if name not in header]
    if absent:
        text = f"no column {', '.join(absent)}; it has {', '.join(header)}"
        raise IngestError("NOT_THIS_FORMAT", path, text, "add the column")
    cells = [["" if cell.strip() in MISSING else cell.strip() for cell in row] for row in rows]
    return Table(path, {name: [row[k] for row in cells] for k, name in enumerate(header)})


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object; keys whose value is null, "" or ``n/a`` are left out.

    Raises
    ------
    IngestError
        ``ENCODING`` or ``NOT_THIS_FORMAT``.
    """
    try:
        value = json.loads(read_text(path))
    except ValueError as error:
        text = f"is not JSON: {error}"
        raise IngestError("NOT_THIS_FORMAT", path, text, "correct the file") from error
    if not isinstance(value, dict):
        text = f"holds a {type(value).__name__}, expected an object of keys and values"
        raise IngestError("NOT_THIS_FORMAT", path, text, "correct the file")
    return {key: entry for key, entry in value.items() if entry not in (None, "", "n/a", "N/A")}


def inherited_json(path: Path, suffix: str) -> tuple[dict[str, Any], list[Path]]:
    """Return what all JSON sidecars of a data file say together, and the files.

    A key of a more specific file replaces that of a more general one.

    Parameters
    ----------
    path : Path
        The data file.
    suffix : str
        Suffix of the sidecars, such as ``eeg`` or ``bold``.
    """
    merged: dict[str, Any] = {}
    files = sidecars(path, suffix, ".json")
    for file in files:
        merged |= read_json(file)
    return merged, files
