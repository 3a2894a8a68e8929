"""Tables beside an image: events and confounds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from neuropipe.errors import IngestError
from neuropipe.io.arrays import object_array
from neuropipe.io.checks import read_text

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = ["MISSING", "Confounds", "numbers", "read_confounds", "read_events"]

LABELS = ("trial_type", "label", "condition", "event_type")
WHOLE = re.compile(r"-?\d{1,18}")
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


def _read(path: Path, header: bool) -> pd.DataFrame:
    import io

    import pandas as pd

    text = read_text(path)
    separator = {".tsv": "\t", ".csv": ","}.get(path.suffix.lower(), r"\s+")
    try:
        return pd.read_csv(
            io.StringIO(text),
            sep=separator,
            header=0 if header else None,
            na_values=list(MISSING),
            keep_default_na=False,
            dtype=str,  # Python turns text into the nearest number, parsers of tables nearly
            skipinitialspace=True,
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        message = f"cannot be read: {str(error).splitlines()[0]}"
        raise IngestError("NOT_THIS_FORMAT", path, message, "correct the table") from error


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return cell in MISSING
    return True


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
    frame = _read(path, header)
    if not header and not names:
        text = f"{frame.shape[1]} columns without names"
        hint = "name them: `confound_columns: [rot_x, rot_y, rot_z, trans_x, ...]` of the reader"
        raise IngestError("MISSING_SIDECAR", path, text, hint)
    if names and len(names) != frame.shape[1]:
        text = f"{frame.shape[1]} columns, `confound_columns` names {len(names)}"
        raise IngestError("LENGTH_MISMATCH", path, text, "name every column, in order")
    found = [str(name) for name in (names or frame.columns)]
    twice = sorted({name for name in found if found.count(name) > 1})
    if twice:
        text = f"two columns are named {twice[0]!r}"
        raise IngestError("DUPLICATE_COLUMN", path, text, "rename one of them")
    columns = [numbers(frame[column], f"{path}: column {name}")
               for column, name in zip(frame.columns, found, strict=True)]  # fmt: skip
    return Confounds(np.stack(columns, axis=1), found)


def numbers(column: pd.Series, where: str) -> np.ndarray:
    """Return a column of text as float64, NaN where it is missing.

    Raises
    ------
    IngestError
        ``NOT_THIS_FORMAT`` for a cell that is no number.
    """
    try:
        return column.to_numpy(dtype=object).astype(np.float64)
    except (ValueError, TypeError) as error:
        text = f"{error}; numbers expected"
        raise IngestError("NOT_THIS_FORMAT", where, text, "correct the table") from error


def _text(column: pd.Series) -> np.ndarray:
    return object_array([str(value) for value in column.fillna("")])


def read_events(path: Path) -> xr.Dataset:
    """Read an events table; onset 0 is the first volume.

    Returns
    -------
    xarray.Dataset
        ``onset``, ``duration`` (s, NaN unknown), ``label``, ``code`` (-1 none), ``source`` and
        every other column as ``x_<name>``, along ``event`` in order of onset.

    Raises
    ------
    IngestError
        ``MISSING_SIDECAR`` without a column ``onset``, ``BAD_TIME`` for an onset that is no
        number, ``NOT_THIS_FORMAT``.
    """
    import xarray as xr

    frame = _read(path, header=True)
    if "onset" not in frame:
        text = f"no column `onset`; it has {', '.join(map(str, frame.columns))}"
        raise IngestError("MISSING_SIDECAR", path, text, "name the column of onsets `onset`")
    onset = numbers(frame["onset"], f"{path}: onset")
    bad = np.flatnonzero(~np.isfinite(onset))
    if bad.size:
        text = f"the onset in line {bad[0] + 2} is no number"
        raise IngestError("BAD_TIME", path, text, "correct the table")
    known = "duration" in frame
    duration = np.full(len(onset), np.nan)
    if known:
        duration = numbers(frame["duration"], f"{path}: duration")
    label = next((name for name in LABELS if name in frame), None)
    columns = {
        "onset": onset,
        "duration": duration,
        "label": object_array([""] * len(onset)) if label is None else _text(frame[label]),
        "code": _codes(frame),
        "source": object_array([path.name] * len(onset)),
    }
    for name in (str(name) for name in frame.columns if name not in ("onset", "duration", label)):
        safe = "x_" + "".join(c if c.isalnum() or c == "_" else "_" for c in name)
        if safe not in columns:
            columns[safe] = _numbers_or_text(frame[name])
    order = np.argsort(onset, kind="stable")
    units = {"onset": {"units": "s"}, "duration": {"units": "s"}}
    return xr.Dataset(
        {n: ("event", values[order], units.get(n, {})) for n, values in columns.items()}
    )


def _numbers_or_text(column: pd.Series) -> np.ndarray:
    try:
        return numbers(column, "")
    except IngestError:
        return _text(column)


def _codes(frame: pd.DataFrame) -> np.ndarray:
    """Return the whole numbers of column `value`, -1 where there are none."""
    none = np.full(len(frame), -1, np.int64)
    if "value" not in frame:
        return none
    texts = ["-1" if cell != cell else str(cell) for cell in frame["value"]]
    if not all(WHOLE.fullmatch(text) for text in texts):
        return none
    return np.array([int(text) for text in texts], np.int64)
