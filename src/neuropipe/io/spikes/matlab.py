"""Spikes in MATLAB files: a cell array with a vector per unit, or two vectors (unit, time)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from neuropipe.config.models import Positive, StrictModel
from neuropipe.errors import ConfigError, IngestError
from neuropipe.io.arrays import object_array
from neuropipe.io.entities import entities_of
from neuropipe.io.matlab_file import MatlabFile, cell_text, is_matlab, number_text
from neuropipe.io.registry import Reader, ReaderMatch
from neuropipe.io.spikes.handle import Sorting, SpikeHandle, open_sorting
from neuropipe.io.spikes.parts import ArrayParts
from neuropipe.io.spikes.units import ObservedSettings, times_per_second

if TYPE_CHECKING:
    from neuropipe.config.models import IngestOverride

__all__ = ["READER", "MatlabSpikeSettings", "SpikeFields", "open_recording", "probe"]


class SpikeFields(StrictModel):
    """Fields of the file; dots lead into structs, as in MATLAB (``sorted.times``)."""

    times: str | None = Field(
        None, description="Cell array with the spike times of each unit, or one vector of all."
    )
    units: str | None = Field(
        None, description="Unit of each spike, with one vector of times; null: a cell array."
    )
    names: str | None = Field(None, description="Name or number of each unit of a cell array.")
    quality: str | None = Field(None, description="Quality of each unit.")
    region: str | None = Field(None, description="Region of each unit.")
    rate: str | None = Field(None, description="Field of the sample rate, Hz.")
    duration: str | None = Field(None, description="Field of the duration, s.")


class MatlabSpikeSettings(ObservedSettings):
    """Field map of the spike files of one laboratory."""

    group: str = Field("", description="Struct that fields are looked up in; empty: the file.")
    datasets: SpikeFields = Field(default_factory=SpikeFields, description="Where the fields lie.")
    time_unit: Literal["s", "ms", "samples"] | None = Field(
        None, description="Unit of the spike times; nothing in the file states it."
    )
    sample_rate_hz: Positive | None = Field(None, description="Needed for times in samples.")


def probe(path: Path) -> ReaderMatch | None:
    """Return a match for a file whose header says MATLAB; what it holds the header leaves open."""
    if not is_matlab(path):
        return None
    return ReaderMatch("matlab_spikes", "spikes", path, entities_of(path), sure=False)


def _vector(value: Any, where: str) -> np.ndarray:
    """Return a vector of numbers as float64; one number and none at all are vectors too."""
    values = np.asarray([] if value is None else value)
    if values.size == 0:
        return np.zeros(0)
    if values.dtype.kind not in "biuf" or max(values.shape, default=1) != values.size:
        text = f"holds {values.dtype} of shape {values.shape}, a vector of numbers expected"
        raise IngestError("NOT_THIS_FORMAT", where, text, "correct the field map")
    return values.astype(np.float64).ravel()


def _is_cells(value: Any) -> bool:
    return isinstance(value, list | tuple) or getattr(value, "dtype", np.dtype(float)).kind == "O"


def _texts(file: MatlabFile, field: str | None, n_units: int) -> list[str]:
    """Return one text per unit; numbers as they are written."""
    if field is None:
        return [""] * n_units
    value = file.value(field)
    items = [value] if isinstance(value, str) else list(np.atleast_1d(np.asarray(value, object)))
    if len(items) != n_units:
        text = f"{len(items)} values for {n_units} units"
        raise IngestError("LENGTH_MISMATCH", file.where(field), text, "correct the field map")
    where = file.where(field)
    if isinstance(value, int | float) or getattr(value, "dtype", np.dtype(object)).kind in "iuf":
        return [number_text(number) for number in np.ravel(value)]
    return [str(cell_text(item, where)) for item in items]


def _number(file: MatlabFile, field: str | None) -> float | None:
    if field is None:
        return None
    values = _vector(file.value(field), file.where(field))
    if len(values) != 1:
        text = f"{len(values)} numbers, one expected"
        raise IngestError("LENGTH_MISMATCH", file.where(field), text, "correct the field map")
    return float(values[0])


def _by_cell(file: MatlabFile, names: SpikeFields) -> tuple[Any, np.ndarray, np.ndarray]:
    """Return units, times and owners of a cell array with one vector per unit."""
    field = str(names.times)
    cells = [_vector(cell, file.where(field)) for cell in file.value(field)]
    units: Any = np.arange(1, len(cells) + 1, dtype=np.int64)
    if names.names is not None:
        texts = _texts(file, names.names, len(cells))
        units = object_array(texts)
        if all(text.lstrip("-").isdigit() for text in texts):
            units = np.array([int(text) for text in texts], dtype=np.int64)
    times = np.concatenate(cells) if cells else np.zeros(0)
    return units, times, np.repeat(np.arange(len(cells)), [len(cell) for cell in cells])


def _by_vector(file: MatlabFile, names: SpikeFields) -> tuple[Any, np.ndarray, np.ndarray]:
    """Return units, times and owners of two vectors."""
    if names.units is None:
        raise ConfigError(
            f"{file.where(str(names.times))} holds one vector of times; name the unit of each "
            f"spike with `datasets: {{units: ...}}`. Fields: {', '.join(file.names()[:20])}"
        )
    times = _vector(file.value(str(names.times)), file.where(str(names.times)))
    value = file.value(names.units)
    if _is_cells(value) or isinstance(value, str):
        found = object_array(_texts(file, names.units, len(times)))
    else:
        found = _vector(value, file.where(names.units))
        if not np.array_equal(found, np.rint(found)):
            text = "numbers of units are not whole"
            raise IngestError(
                "NOT_THIS_FORMAT", file.where(names.units), text, "correct the field map"
            )
        found = found.astype(np.int64)
    units, owner = np.unique(found, return_inverse=True)
    return units, times, _same_length(owner, times, file.where(names.units))


def _same_length(owner: np.ndarray, times: np.ndarray, where: str) -> np.ndarray:
    if len(owner) != len(times):
        text = f"{len(owner)} units of spikes, {len(times)} spike times"
        raise IngestError("LENGTH_MISMATCH", where, text, "correct the field map")
    return owner


def open_recording(
    path: Path, settings: MatlabSpikeSettings, override: IngestOverride
) -> SpikeHandle:
    """Open the spikes of a MATLAB file; the file is read as a whole.

    Raises
    ------
    IngestError
        ``MISSING_SIDECAR`` (no such field, no unit of times, no sample rate), ``NOT_THIS_FORMAT``,
        ``TRUNCATED``, ``LENGTH_MISMATCH``, ``UNITS``, ``BAD_TIME`` or ``EMPTY``.
    ConfigError
        The field map does not say where the times or the units lie.
    """
    file, names = MatlabFile(path, settings.group), settings.datasets
    if names.times is None:
        raise ConfigError(
            f"{path}: the settings do not say where the spike times lie; set `datasets: {{times: "
            f"...}}` in ingest.readers.matlab_spikes or ingest.overrides.<recording>. "
            f"Fields: {', '.join(file.names()[:20]) or 'none'}"
        )
    cells = _is_cells(file.value(names.times))
    units, times, owner = (_by_cell if cells else _by_vector)(file, names)
    rate = _number(file, names.rate) or override.rate_hz or settings.sample_rate_hz
    divisor = times_per_second(settings.time_unit, rate, file.where(names.times))
    observed = settings.observed(_number(file, names.duration))
    columns = {
        name: _texts(file, getattr(names, name), len(units))
        for name in ("quality", "region")
        if getattr(names, name) is not None
    }
    return open_sorting(
        Sorting(
            units=units,
            spikes=ArrayParts(
                times if divisor == 1.0 else times / divisor, owner, len(units), path
            ),
            columns=columns,
            observed=observed,
        ),
        path=path,
        repair=override.repair,
        attrs={} if rate is None else {"sample_rate": float(rate)},
        source_files=[str(path)],
    )


READER = Reader(
    name="matlab_spikes",
    modalities=("spikes",),
    extensions=(".mat",),
    settings=MatlabSpikeSettings,
    probe="neuropipe.io.spikes.matlab:probe",
    open="neuropipe.io.spikes.matlab:open_recording",
)
