"""Tables of parcel time series (CSV, TSV): one column per parcel, one row per volume."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from neuropipe.errors import ConfigError, IngestError
from neuropipe.io.arrays import object_array
from neuropipe.io.checks import head, refuse_pointers
from neuropipe.io.delimited import is_number
from neuropipe.io.entities import entities_of
from neuropipe.io.fmri.handle import FmriHandle, FmriSettings, beside
from neuropipe.io.fmri.sidecars import entity
from neuropipe.io.fmri.tables import MISSING, numbers
from neuropipe.io.registry import Reader, ReaderMatch

if TYPE_CHECKING:
    import pandas as pd

    from neuropipe.config.models import IngestOverride

__all__ = ["READER", "RoiTableSettings", "open_recording", "probe"]

SEPARATORS = {".tsv": "\t", ".csv": ","}
COUNT_ROWS = 10_000
# A cell is held as text first: about that many bytes for each of its number's.
TEXT_FACTOR = 8


class RoiTableSettings(FmriSettings):
    """Reading of tables of parcel time series."""

    ignore_columns: list[str] = Field(
        default_factory=list, description="Columns that are no parcels, such as a frame number."
    )


def probe(path: Path) -> ReaderMatch | None:
    """Return a match for a text table whose first line separates names."""
    start = head(path, 1 << 16) if path.is_file() else b""
    separator = SEPARATORS.get(path.suffix.lower(), "")
    first = start.decode("utf-8-sig", errors="replace").split("\n")[0]
    if not separator or b"\x00" in start or first.lstrip().startswith("<") or not first.strip():
        return None
    return ReaderMatch("roi_table", "fmri", path, entities_of(path))


class _Table:
    """Columns of a text table, read in pieces of rows."""

    def __init__(self, path: Path, ignore: list[str]) -> None:
        import pandas as pd

        refuse_pointers(path)
        self.path = path
        self._options: dict[str, Any] = {
            "sep": SEPARATORS.get(path.suffix.lower(), ","),
            "encoding": "utf-8-sig",
            "na_values": list(MISSING),
            "keep_default_na": False,
            "dtype": str,
            "skipinitialspace": True,
        }
        with path.open(encoding="utf-8-sig", errors="replace") as stream:
            separator = self._options["sep"]
            header = [name.strip().strip('"') for name in stream.readline().split(separator)]
        twice = sorted({name for name in header if header.count(name) > 1})
        if twice:
            text = f"two columns are named {twice[0]!r}"
            raise IngestError("DUPLICATE_COLUMN", path, text, "rename one of them")
        absent = [name for name in ignore if name not in header]
        if absent:
            known = ", ".join(header[:30])
            raise ConfigError(f"{path}: there is no column {absent[0]!r}; it has {known}")
        if all(is_number(name) for name in header):
            text = "the first line holds numbers, names of parcels expected"
            raise IngestError("MISSING_SIDECAR", path, text, "add a line with the names")
        self.names = [name for name in header if name not in ignore]
        try:
            with pd.read_csv(path, usecols=[0], chunksize=COUNT_ROWS, **self._options) as pieces:
                self.length = sum(len(piece) for piece in pieces)
        except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> IngestError:
        if isinstance(error, UnicodeDecodeError):
            hint = "save the table as UTF-8"
            return IngestError("ENCODING", self.path, f"not UTF-8 text: {error}", hint)
        text = f"cannot be read: {str(error).splitlines()[0]}"
        return IngestError("NOT_THIS_FORMAT", self.path, text, "correct the table")

    def chunks(self, max_bytes: int) -> Iterator[np.ndarray]:
        """Yield ``(n, parcel)`` float64 in time order."""
        import pandas as pd

        step = max(1, max_bytes // max(1, 8 * TEXT_FACTOR * len(self.names)))
        try:
            with pd.read_csv(
                self.path, usecols=self.names, chunksize=step, **self._options
            ) as pieces:
                for piece in pieces:
                    yield self._values(piece)
        except (pd.errors.ParserError, UnicodeDecodeError) as error:
            raise self._unreadable(error) from error

    def _values(self, piece: pd.DataFrame) -> np.ndarray:
        columns = [numbers(piece[name], f"{self.path}: column {name}") for name in self.names]
        return np.stack(columns, axis=1)


def open_recording(path: Path, settings: RoiTableSettings, override: IngestOverride) -> FmriHandle:
    """Open a table of parcel time series.

    Raises
    ------
    IngestError
        ``MISSING_SIDECAR`` without repetition time or names, ``DUPLICATE_COLUMN``,
        ``NOT_THIS_FORMAT``, ``ENCODING``, and the codes of `beside`.
    ConfigError
        A column to ignore does not exist.
    """
    import xarray as xr

    table = _Table(path, settings.ignore_columns)
    found = beside(path, table.length, None, settings, override)
    count = len(table.names)
    columns: dict[str, Any] = {
        "parcel": ("parcel", object_array(table.names)),
        "parcel_index": ("parcel", np.arange(count, dtype=np.int32)),
    }
    raw = xr.Dataset(found.variables, {**found.coords, **columns})
    raw.attrs = {"space": entity(path, "space")}
    return FmriHandle(
        raw=raw,
        row="parcel",
        dtype=np.dtype(np.float64),
        stream=table.chunks,
        source_files=found.files,
        issues=found.issues,
        event_table=found.events,
    )


READER = Reader(
    name="roi_table",
    modalities=("fmri",),
    extensions=(".csv", ".tsv"),
    settings=RoiTableSettings,
    probe="neuropipe.io.fmri.roi_table:probe",
    open="neuropipe.io.fmri.roi_table:open_recording",
    stated_only=True,
)
