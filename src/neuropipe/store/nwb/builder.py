"""What every modality needs to build an NWB file: data, clocks, tables and the record of places."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from hdmf.backends.hdf5 import H5DataIO
from hdmf.common import ElementIdentifiers, VectorData
from hdmf.data_utils import AbstractDataChunkIterator, DataChunk
from pynwb import ProcessingModule, TimeSeries
from pynwb.core import ScratchData
from pynwb.epoch import TimeIntervals
from pynwb.misc import Units
from pynwb.ophys import PlaneSegmentation

from neuropipe.errors import DataError
from neuropipe.store.chunks import SMALL_BYTES, chunk_shape, column_slices
from neuropipe.store.nwb.clock import rate_form
from neuropipe.store.nwb.manifest import Manifest
from neuropipe.store.variables import encode_value, is_text

if TYPE_CHECKING:
    import xarray as xr
    from pynwb import NWBFile

__all__ = ["NwbBuilder", "describe", "number_attr"]

RESERVED_COLUMNS = {
    "colnames",
    "description",
    "electrode_group",
    "electrodes",
    "has_mask",
    "id",
    "image_mask",
    "obs_intervals",
    "pixel_mask",
    "spike_times",
    "start_time",
    "stop_time",
    "tags",
    "timeseries",
    "voxel_mask",
    "waveform_mean",
    "waveform_sd",
    "waveforms",
}
GZIP_LEVEL = 4
MODULE_TEXT = {
    "ophys": "Optical physiology",
    "behavior": "Behaviour, each stream on its own clock",
    "preprocessed": "Result of the preprocessing chain",
    "fmri": "Functional magnetic resonance imaging",
}


class _Blocks(AbstractDataChunkIterator):  # type: ignore[misc]  # hdmf has no types
    """Hand a lazily loaded variable to hdmf one chunk at a time."""

    def __init__(self, variable: xr.Variable, dtype: np.dtype) -> None:
        self._variable, self._dtype = variable, dtype
        self._chunk = chunk_shape(variable.shape, dtype.itemsize)
        self._places = self._each_chunk()

    def _each_chunk(self) -> Iterator[tuple[slice, ...]]:
        length, step = self._variable.shape[0], self._chunk[0]
        for start in range(0, length, step):
            for columns in column_slices(self._variable.shape, self._chunk):
                yield slice(start, min(start + step, length)), *columns

    def __iter__(self) -> Iterator[DataChunk]:
        return self

    def __next__(self) -> DataChunk:
        place = next(self._places)
        values = np.asarray(self._variable[place].values, dtype=self._dtype)
        return DataChunk(data=values, selection=place)

    def recommended_chunk_shape(self) -> tuple[int, ...]:
        return self._chunk

    def recommended_data_shape(self) -> tuple[int, ...]:
        return tuple(self._variable.shape)

    @property
    def dtype(self) -> np.dtype:
        return self._dtype

    @property
    def maxshape(self) -> tuple[int, ...]:
        return tuple(self._variable.shape)


class NwbBuilder:
    """An NWB file in the making.

    Parameters
    ----------
    nwbfile : pynwb.NWBFile
        File that gets the data.
    compression : str or None
        HDF5 filter of large arrays.
    force_timestamps : bool
        Write timestamps also for regular clocks.
    t0 : float
        Time on the source's clock that was subtracted, seconds.
    """

    def __init__(
        self, nwbfile: NWBFile, *, compression: str | None, force_timestamps: bool, t0: float
    ) -> None:
        self.nwbfile, self.manifest = nwbfile, Manifest()
        self._compression, self._force_timestamps, self._t0 = compression, force_timestamps, t0
        self._clocks: dict[tuple[str, str], dict[str, Any]] = {}

    def module(self, name: str) -> ProcessingModule:
        """Return a processing module, made on first use."""
        if name not in self.nwbfile.processing:
            module = ProcessingModule(name=name, description=MODULE_TEXT.get(name, name))
            self.nwbfile.add_processing_module(module)
        return self.nwbfile.processing[name]

    def data(self, variable: xr.Variable) -> Any:
        """Return the values in the form that hdmf writes: streamed in chunks when large.

        Bool becomes uint8 in series, text a list.
        """
        if is_text(variable.dtype):
            return _text(variable)
        dtype = np.dtype(np.uint8) if variable.dtype == bool else np.dtype(variable.dtype)
        if variable.size * dtype.itemsize <= SMALL_BYTES:
            return self.filtered(np.asarray(variable.values, dtype=dtype), variable.shape)
        return self.filtered(_Blocks(variable, dtype), variable.shape)

    def filtered(
        self, data: Any, shape: Sequence[int], chunks: tuple[int, ...] | None = None
    ) -> Any:
        """Return data that HDF5 compresses, in chunks of the store unless others are given."""
        if self._compression is None or not all(shape):
            return data
        level = GZIP_LEVEL if self._compression == "gzip" else None
        with warnings.catch_warnings():
            # The user asked for lzf; that it is less portable than gzip is documented.
            warnings.filterwarnings("ignore", message="lzf compression may not be available")
            return H5DataIO(
                data,
                compression=self._compression,
                compression_opts=level,
                shuffle=bool(data.dtype.kind in "iu" or len(shape) == 1),
                chunks=chunks or chunk_shape(shape, data.dtype.itemsize),
            )

    def time(self, group: str, name: str, time: xr.Variable, path: str) -> dict[str, Any]:
        """Return the arguments of a `TimeSeries` that set its clock.

        The first series on a clock holds the timestamps, the others link to it.

        Parameters
        ----------
        group, name : str
            Time coordinate in the store.
        time : xarray.Variable
            Its values, seconds.
        path : str
            Path of the series in the file.
        """
        clock = self._clocks.get((group, name))
        if clock is not None:
            return clock
        form = None if self._force_timestamps else rate_form(time, self._t0)
        if form is None:
            self.manifest.place(group, name, {"path": f"{path}/timestamps"})
            return {"timestamps": self.data(time)}
        if form["formula"]:
            self.manifest.place(group, name, {"clock": form})
        clock = {"starting_time": form["start"], "rate": form["rate"]}
        self._clocks[group, name] = clock
        return clock

    def clocked_by(self, group: str, name: str, series: TimeSeries) -> None:
        """Let the next series on this clock link to the timestamps of `series`."""
        self._clocks.setdefault((group, name), {"timestamps": series})

    def series(
        self, parent: Any, group: str, name: str, ds: xr.Dataset, path: str, title: str
    ) -> None:
        """Add a plain `TimeSeries` that holds one variable; `path` is that of its parent."""
        variable, clock = ds[name].variable, str(ds[name].dims[0])
        title = re.sub(r"[/:]", "_", title)
        here = f"{path}/{title}"
        series = TimeSeries(
            name=title,
            data=self.data(variable),
            unit=str(variable.attrs.get("units", "n.a.")) or "n.a.",
            description=describe(variable, name),
            conversion=number_attr(variable, "scale_factor", 1.0),
            offset=number_attr(variable, "add_offset", 0.0),
            **self.time(group, clock, ds[clock].variable, here),
        )
        parent(series)
        self.clocked_by(group, clock, series)
        self.manifest.place(group, name, {"path": f"{here}/data"})

    def columns(
        self, group: str, ds: xr.Dataset, names: Sequence[str], path: str
    ) -> list[VectorData]:
        """Return table columns of variables along the rows of a table at `path`."""
        columns: list[VectorData] = []
        for name in names:
            title = re.sub(r"[/:]", "_", name)
            while _is_taken(title) or title in {column.name for column in columns}:
                title += "_"
            variable = ds[name].variable
            data = self.data(variable) if is_text(variable.dtype) else np.asarray(variable.values)
            text = describe(variable, name)
            columns.append(VectorData(name=title, description=text, data=data))
            self.manifest.place(group, name, {"path": f"{path}/{title}"})
        return columns

    def intervals(
        self, name: str, columns: Sequence[VectorData], edges: np.ndarray, description: str
    ) -> TimeIntervals:
        """Return a table of intervals, edges of shape ``(n, 2)`` in seconds."""
        start = VectorData(name="start_time", description="Start, s", data=edges[:, 0])
        stop = VectorData(name="stop_time", description="Stop, s", data=edges[:, 1])
        return TimeIntervals(
            name=name,
            description=description,
            id=ElementIdentifiers(name="id", data=np.arange(len(edges))),
            columns=[start, stop, *columns],
        )

    def scratch(self, group: str, ds: xr.Dataset) -> None:
        """Keep what has no home in NWB: small values in the record, arrays as `ScratchData`."""
        for name in self.manifest.homeless(group):
            variable = ds[name].variable
            if variable.size == 0:
                self.manifest.place(group, name, {"value": []})
            elif not variable.dims and not is_text(variable.dtype):
                value = encode_value(variable.values.item())
                self.manifest.place(group, name, {"value": [value]})
            else:
                self._scratch_array(group, name, variable)

    def _scratch_array(self, group: str, name: str, variable: xr.Variable) -> None:
        title = re.sub(r"[/:\s]+", "_", f"neuropipe{group}_{name}")
        data = self.data(variable)
        text = describe(variable, name)
        self.nwbfile.add_scratch(ScratchData(name=title, data=data, description=text))
        self.manifest.place(group, name, {"path": f"/scratch/{title}"})


def _is_taken(title: str) -> bool:
    """Say whether NWB or pynwb gives the name of a column another meaning."""
    owners = (TimeIntervals, PlaneSegmentation, Units)
    return title in RESERVED_COLUMNS or any(hasattr(owner, title) for owner in owners)


def _text(variable: xr.Variable) -> Any:
    """Return text as nested lists; HDF5 ends a text at its first NUL."""
    values = np.asarray(variable.values, dtype=object)
    if any("\0" in value for value in values.flat):
        raise DataError("text with a NUL character cannot be written to NWB; remove the character")
    return values.tolist()


def number_attr(variable: xr.Variable, key: str, default: float) -> float:
    """Return an attribute that is a number, or the default."""
    value = variable.attrs.get(key)
    return float(value) if isinstance(value, int | float) else default


def describe(variable: xr.Variable, name: str) -> str:
    """Return the description of a variable, its name when it has none."""
    text = str(variable.attrs.get("description", "") or variable.attrs.get("long_name", "") or name)
    units = str(variable.attrs.get("units", ""))
    return f"{text} [{units}]" if units else text
