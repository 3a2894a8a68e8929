"""Tables of confounds, and numbers in tables."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from neuropipe.errors import IngestError
from neuropipe.io.checks import read_text
from neuropipe.io.delimited import check_cells, is_number, refuse_same_names, text_rows

__all__ = ["MISSING", "Confounds", "numbers", "read_confounds"]

MISSING = ("n/a", "N/A", "NaN", "nan", "NA", "null", "")


class Confounds:
    """Columns measured beside the signal.

    Attributes
    ----------
    values : numpy.ndarray
        Float64, ``(n_times, n_confounds)``, NaN where the table says ``n/a``.
    names : list of str
        Unique, in the order of the table.
    """

    def __init__(self, values: np.ndarray, names: list[str]) -> None:
        self.values, self.names = values, names

    @property
    def steady(self) -> np.ndarray:
        """Volumes that no column ``non_steady_state_outlier*`` marks, bool ``(n_times,)``."""
        columns = [k for k, n in enumerate(self.names) if n.startswith("non_steady_state_outlier")]
        return ~np.any(self.values[:, columns] > 0, axis=1)


def _read(path: Path, header: bool) -> tuple[list[str], np.ndarray]:
    """Return the names of the columns, and the cells as text, NaN where they are missing."""
    text = read_text(path)
    separator = {".tsv": "\t", ".csv": ","}.get(path.suffix.lower())
    if separator is None:
        rows = [line.split() for line in text.splitlines()]
    else:
        rows = list(text_rows(io.StringIO(text, newline=""), separator, path))
    rows = [[cell.strip() for cell in row] for row in rows if row]
    if not rows:
        raise IngestError("NOT_THIS_FORMAT", path, "the table has no rows", "copy it again")
    check_cells(rows, path, cut=not text.endswith(("\n", "\r")))
    names = rows.pop(0) if header else [str(k) for k in range(len(rows[0]))]
    cells = np.array(rows, dtype=object).reshape(len(rows), len(names))
    cells[np.isin(cells, MISSING)] = np.nan
    return names, cells


def _is_number(cell: str) -> bool:
    return cell in MISSING or is_number(cell)


def _has_header(path: Path) -> bool:
    text = read_text(path)
    first = text.split("\n", 1)[0].replace("\t", " ").replace(",", " ").split()
    return not all(_is_number(cell) for cell in first)


def read_confounds(path: Path, names: Sequence[str]) -> Confounds:
    """Read all columns of a table of confounds.

    Parameters
    ----------
    path : Path
        Tab, comma or blank separated by its extension; one row per volume.
    names : sequence of str
        Names of the columns of a table without header; empty: the header has them.

    Raises
    ------
    IngestError
        ``MISSING_SIDECAR`` for a table that names no columns, ``LENGTH_MISMATCH`` for another
        number of names, ``NOT_THIS_FORMAT`` for text among the numbers.
    """
    header = _has_header(path)
    stated, cells = _read(path, header)
    if not header and not names:
        text = f"{len(stated)} columns without names"
        hint = "name them: `confound_columns: [rot_x, rot_y, rot_z, trans_x, ...]` of the reader"
        raise IngestError("MISSING_SIDECAR", path, text, hint)
    if names and len(names) != len(stated):
        text = f"{len(stated)} columns, `confound_columns` names {len(names)}"
        raise IngestError("LENGTH_MISMATCH", path, text, "name every column, in order")
    found = list(names or stated)
    if "" in found:
        text = f"column {found.index('') + 1} of the header has no name"
        raise IngestError("NOT_THIS_FORMAT", path, text, "name it, or remove it")
    refuse_same_names(found, found, path)
    columns = [numbers(column, f"{path}: column {name}")
               for column, name in zip(cells.T, found, strict=True)]  # fmt: skip
    return Confounds(np.stack(columns, axis=1), found)


def numbers(column: Any, where: str) -> np.ndarray:
    """Return cells of text as float64, NaN where they are missing.

    Raises
    ------
    IngestError
        ``NOT_THIS_FORMAT`` for a cell that is no number.
    """
    cells = np.asarray(column, dtype=object)
    try:
        if any(isinstance(cell, str) and "_" in cell for cell in cells):
            raise ValueError("a number holds an underscore")
        return cells.astype(np.float64)
    except (ValueError, TypeError) as error:
        text = f"{error}; numbers expected"
        raise IngestError("NOT_THIS_FORMAT", where, text, "correct the table") from error
