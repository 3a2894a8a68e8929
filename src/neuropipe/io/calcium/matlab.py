"""MATLAB files of a laboratory (v5 to v7.3), read through a field map in the settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from neuropipe.config.models import Positive, StrictModel
from neuropipe.errors import ConfigError
from neuropipe.io.calcium.hdf5 import Datasets, Hdf5Settings, open_fields
from neuropipe.io.calcium.laboratory import TIME_UNITS
from neuropipe.io.entities import entities_of
from neuropipe.io.field_map import no_matrix, no_numbers
from neuropipe.io.matlab_file import MatlabFile, cell_text, is_matlab
from neuropipe.io.registry import Reader, ReaderMatch

if TYPE_CHECKING:
    from neuropipe.config.models import IngestOverride
    from neuropipe.io.calcium.handle import CalciumHandle

__all__ = ["READER", "MatlabFields", "MatlabSettings", "SampleClock", "open_recording", "probe"]


class SampleClock(StrictModel):
    """Times given as sample numbers of an acquisition clock."""

    path: str = Field(description="Field of the sample numbers.")
    rate_hz: Positive = Field(description="Rate of the acquisition clock.")
    every: int = Field(
        1, ge=1, description="Of so many sample numbers one is taken: planes per volume."
    )
    offset_s: float = Field(0.0, description="Seconds added, to bring it to another clock.")


class MatlabDatasets(Datasets):
    """Fields of the file; dots lead into structs, as in MATLAB (``positionDat.t``)."""

    time: str | SampleClock | None = Field(  # type: ignore[assignment]
        None, description="Sample times: a field, or {path, rate_hz, every, offset_s}."
    )
    fps: str | None = Field(None, description="Field of the frame rate, when there are no times.")


class MatlabSettings(Hdf5Settings):
    """Field map of the MATLAB files of one laboratory."""

    group: str = Field("", description="Struct that fields are looked up in; empty: the file.")
    datasets: MatlabDatasets = Field(
        default_factory=MatlabDatasets, description="Where the fields lie."
    )
    session_start: str | None = Field(
        None, description="Field with the start of the session, ISO 8601 with UTC offset."
    )


def probe(path: Path) -> ReaderMatch | None:
    """Return a match for a file whose header says MATLAB."""
    if not is_matlab(path):
        return None
    return ReaderMatch("matlab", "calcium", path, entities_of(path), assumed=True)


class MatlabFields(MatlabFile):
    """The variables of a MATLAB file, as `Fields` shows those of an HDF5 file.

    Parameters
    ----------
    path : Path
        The file; all of it is read.
    settings : MatlabSettings
        ``group``, the struct that names start from, and the clock of the times.
    """

    def __init__(self, path: Path, settings: MatlabSettings) -> None:
        super().__init__(path, settings.group)
        clock = settings.datasets.time
        self._clock = clock if isinstance(clock, SampleClock) else None
        self._unit_s = TIME_UNITS[settings.time_unit]

    def array(self, name: str) -> np.ndarray:
        """Return a field as an array; cells become texts."""
        value = self.value(name)
        if isinstance(value, np.ndarray) and value.dtype.kind != "O":
            return value
        items = value if isinstance(value, list | tuple | np.ndarray) else [value]
        texts = np.empty(len(items), dtype=object)
        texts[:] = [cell_text(item, self.where(name)) for item in items]
        return texts

    def numbers(self, name: str) -> np.ndarray:
        """Return a field of numbers."""
        value = self.value(name)
        if isinstance(value, list | tuple | str) or np.asarray(value).dtype.kind not in "biuf":
            raise no_numbers(self, name, getattr(value, "dtype", type(value).__name__))
        values = np.atleast_1d(np.asarray(value))
        clock = self._clock
        if clock is not None and name == clock.path:
            seconds = values.ravel()[:: clock.every] / clock.rate_hz + clock.offset_s
            return seconds / self._unit_s  # the field map scales all times by their unit
        return values

    def traces(self, name: str) -> np.ndarray:
        """Return a two-dimensional field of numbers; a single trace has one row."""
        values = self.numbers(name)
        if values.ndim > 2:
            raise no_matrix(self, name, values.shape)
        return values[:, None] if values.ndim == 1 else values

    def attribute(self, name: str) -> str:
        """Return a field of text."""
        return str(self.array(name).ravel()[0])

    def matrices(self) -> list[str]:
        """Return the two-dimensional fields with their shapes."""
        return [
            f"{name} {value.shape}"
            for name, value in sorted(self.flat.items())
            if isinstance(value, np.ndarray) and value.ndim == 2
        ]


def open_recording(path: Path, settings: MatlabSettings, override: IngestOverride) -> CalciumHandle:
    """Open one recording of a MATLAB file; the file is read as a whole.

    Raises
    ------
    IngestError
        A field is absent, lengths do not agree, or the file is damaged.
    ConfigError
        The field map does not say where the traces lie, or cannot tell rows from samples.
    """
    fields, names = MatlabFields(path, settings), settings.datasets
    changed: dict[str, Any] = {}
    if names.fps is not None:
        if names.time is not None or settings.rate_hz is not None or override.rate_hz is not None:
            raise ConfigError(
                "ingest.readers.matlab: `fps`, `time` and `rate_hz` exclude each other"
            )
        changed["rate_hz"] = float(fields.numbers(names.fps).ravel()[0])
    if isinstance(names.time, SampleClock):
        changed["datasets"] = names.model_copy(update={"time": names.time.path})
    return open_fields(path, settings.model_copy(update=changed), override, fields)


READER = Reader(
    name="matlab",
    modalities=("calcium",),
    extensions=(".mat",),
    settings=MatlabSettings,
    probe="neuropipe.io.calcium.matlab:probe",
    open="neuropipe.io.calcium.matlab:open_recording",
)
