"""Variables of a MATLAB file (v5 to v7.3) by their names, with faults that name what is there."""

from __future__ import annotations

import difflib
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from neuropipe.errors import IngestError
from neuropipe.io.checks import has_magic, refuse_pointers
from neuropipe.io.faults import readable
from neuropipe.io.matlab_elements import check_matlab5

__all__ = ["MatlabFile", "cell_text", "is_matlab", "number_text"]

MATLAB_MAGIC = b"MATLAB"


def is_matlab(path: Path) -> bool:
    """Tell whether the header of a file says MATLAB."""
    return has_magic(path, MATLAB_MAGIC)


def _read(path: Path) -> dict[str, Any]:
    from pymatreader import read_mat

    refuse_pointers(path)
    if not has_magic(path, MATLAB_MAGIC):
        raise IngestError(
            "NOT_THIS_FORMAT",
            path,
            "the header does not say MATLAB",
            "correct the column `reader`, or copy the file again",
        )
    check_matlab5(path)
    with readable(path), warnings.catch_warnings():
        # Objects of classes (figures, tables) that nobody but MATLAB can read.
        warnings.filterwarnings("ignore", category=UserWarning)
        return read_mat(str(path))


def number_text(number: float) -> str:
    """Return a number as text, a whole one without a point.

    Examples
    --------
    >>> number_text(1234567.0), number_text(0.5)
    ('1234567', '0.5')
    """
    number = float(number)
    return str(int(number)) if number.is_integer() and abs(number) < 2**53 else repr(number)


def cell_text(item: Any, where: str) -> Any:
    """Return one cell of a cell array of texts as text; an empty cell is no text.

    Raises
    ------
    IngestError
        ``NOT_THIS_FORMAT``: neither text nor one number as MATLAB holds them (double).
    """
    if isinstance(item, str | bytes):
        return item
    values = np.asarray(item)
    if item is None or values.size == 0:
        return ""
    if values.size > 1 or values.dtype.kind != "f":
        found = "a struct" if isinstance(item, dict) else f"{values.size} values {values.dtype}"
        text = f"a cell holds {found}, expected text or one number"
        raise IngestError("NOT_THIS_FORMAT", where, text, "correct the names, or copy it again")
    number = float(values.ravel()[0])
    return "" if np.isnan(number) else number_text(number)


class MatlabFile:
    """The variables of a MATLAB file; dots lead into structs, as in MATLAB (``positionDat.t``).

    Parameters
    ----------
    path : Path
        The file; all of it is read.
    group : str
        Struct that names start from; empty: the file.

    Raises
    ------
    IngestError
        ``NOT_THIS_FORMAT``, or ``TRUNCATED``.
    """

    def __init__(self, path: Path, group: str = "") -> None:
        self.path, self._group = path, group
        self.flat: dict[str, Any] = {}
        self._collect(_read(path), "")

    def _collect(self, values: Any, prefix: str) -> None:
        for key, value in values.items():
            name = f"{prefix}{key}"
            if isinstance(value, dict):
                self._collect(value, f"{name}.")
            elif not str(key).startswith(("__", "#")):
                self.flat[name] = value

    def close(self) -> None:
        """Nothing is open: the file was read as a whole."""

    def where(self, name: str) -> str:
        """Return file and field for a message."""
        return f"{self.path}: {self._full(name)}"

    def _full(self, name: str) -> str:
        if name.startswith("/") or not self._group:
            return name.lstrip("/")
        return f"{self._group}.{name}"

    def value(self, name: str) -> Any:
        """Return a field as it was read.

        Raises
        ------
        IngestError
            ``MISSING_SIDECAR``: no such field; the message names the closest.
        """
        full = self._full(name)
        if full not in self.flat:
            names = self.names()
            close = difflib.get_close_matches(full, names, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else f"fields: {', '.join(names[:20])}"
            raise IngestError("MISSING_SIDECAR", self.where(name), "no such field", hint)
        return self.flat[full]

    def names(self) -> list[str]:
        """Return all fields, sorted."""
        return sorted(self.flat)
