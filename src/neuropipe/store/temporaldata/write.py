"""Write a store as an HDF5 file that temporaldata and torch_brain open."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

from neuropipe.errors import DataError
from neuropipe.store.atomic import atomic_path
from neuropipe.store.nwb.clock import rate_form
from neuropipe.store.nwb.manifest import Manifest
from neuropipe.store.schema import MODALITIES, RootAttributes, parse_attributes
from neuropipe.store.spikes import BY_TIME
from neuropipe.store.temporaldata.groups import (
    write_array,
    write_data,
    write_intervals,
    write_irregular,
    write_regular,
    write_table,
)
from neuropipe.store.variables import clean_dataset, encode_value, is_text

__all__ = ["to_temporaldata"]

# Modality -> group of its samples.
SERIES_GROUP = {"calcium": "calcium_traces", "fmri": "bold"}
# Row dim -> group of its table.
TABLES = {"roi": "rois", "unit": "units", "channel": "channels"}
# Variable of the store -> name that torch_brain's models look for.
ARRAYS = {"dff": "df_over_f"}
TIMES = {"events": ("onset", "duration"), "trials": ("start", "stop")}
RESERVED = ("domain", "events", "trials", "neuropipe", "brainset", "subject", "session", "spikes")


def to_temporaldata(tree: xr.DataTree, path: Path | str) -> None:
    """Write an ingested or a preprocessed recording as a file of temporaldata, atomically.

    Parameters
    ----------
    tree : xarray.DataTree
        As `open_store` returns it.
    path : path
        The final ``.h5`` file; an existing one is replaced.

    Raises
    ------
    DataError
        If the tree is no recording.

    Notes
    -----
    Samples keep their dtype: integers of channels are volts (or tesla) after
    ``signal * channels.scale_factor + channels.add_offset``. What temporaldata has no place for,
    and where each variable lies, stands in the group ``neuropipe``, by which the reader
    `temporaldata` gives an ingested recording back bit for bit.
    """
    path = Path(path)
    root = parse_attributes(tree.attrs, path)
    groups = {
        node.path: clean_dataset(node.to_dataset(inherit=False), node.path)
        for node in tree.subtree
        if node.path != f"/{BY_TIME}" and not node.path.startswith("/proc")
    }
    main = "/raw" if "/raw" in groups else "/"
    if main == "/" and "activity" not in groups["/"]:
        raise DataError(f"{path}: neither /raw nor `activity`; expected the store of a recording")
    with atomic_path(path) as partial, h5py.File(partial, "w") as file:
        writer = _Writer(file, root, groups)
        writer.recording(main)
        writer.tables()
        writer.behavior()
        writer.finish(main)


class _Writer:
    """Writes groups and notes where each variable went."""

    def __init__(
        self, file: h5py.File, root: RootAttributes, groups: Mapping[str, xr.Dataset]
    ) -> None:
        self.file, self.root, self.groups = file, root, groups
        self.manifest = Manifest()
        for path, ds in groups.items():
            self.manifest.add_group(path, ds)

    def recording(self, main: str) -> None:
        """Write samples and rows of the recording."""
        ds = self.groups[main]
        schema = MODALITIES[self.root.modality]
        if main == "/raw" and not schema.clocked:
            self._spikes(ds)
            rows = "unit"
        else:
            name = SERIES_GROUP.get(self.root.modality, self.root.modality)
            series = next(n for n in (*schema.series, "activity") if n in ds.data_vars)
            rows = str(ds[series].dims[-1])
            self._series(main, ds, "time", name)
        self._rows(main, ds, rows)
        observed = _observed(ds)
        write_intervals(self.file.create_group("domain"), observed[:, 0], observed[:, 1])

    def _spikes(self, ds: xr.Dataset) -> None:
        """Write spikes in the order of time; the store has them by unit."""
        times, units = ds["spike_time"].values, ds["spike_unit"].values
        order = np.argsort(times, kind="stable")
        columns = {"unit_index": xr.Variable("spike", units[order])}
        group = self.file.create_group("spikes")
        write_irregular(group, xr.Variable("spike", times[order]), columns, _observed(ds))
        for name in ("spike_time", "spike_unit"):
            self.manifest.place("/raw", name, {"by_unit": "spikes", "gives": name})

    def _series(self, path: str, ds: xr.Dataset, dim: str, name: str) -> None:
        """Write everything along one clock as one time series."""
        time = ds[dim].variable
        found = {str(n): v for n, v in ds.variables.items() if v.dims[:1] == (dim,) and n != dim}
        columns = {ARRAYS.get(n, n): variable for n, variable in found.items()}
        form = rate_form(time, self.root.t0_source)
        if form is None or any(is_text(v.dtype) for v in columns.values()):
            domain = _observed(ds) if dim == "time" else np.array([[time[0], time[-1]]], float)
            group = self.file.create_group(name)
            lossy = write_irregular(group, time, columns, domain.reshape(-1, 2))
            self.manifest.place(path, dim, {"path": f"/{name}/timestamps"})
        else:
            lossy = set()
            if not form["formula"]:
                columns = {**columns, "time": time}
                self.manifest.place(path, dim, {"path": f"/{name}/time"})
            else:
                self.manifest.place(path, dim, {"clock": form})
            group = self.file.create_group(name)
            write_regular(group, form["start"], form["rate"], columns)
        for variable in found:
            held = ARRAYS.get(variable, variable)
            if held not in lossy:
                self.manifest.place(path, variable, {"path": f"/{name}/{held}"})

    def _rows(self, path: str, ds: xr.Dataset, row: str) -> None:
        """Write the table of rows; ``id`` is the name of each as text."""
        names = np.array([str(value) for value in ds[row].values], dtype=object)
        columns = {"id": xr.Variable(row, names)}
        columns |= {str(n): v for n, v in ds.variables.items() if v.dims[:1] == (row,)}
        if is_text(ds[row].dtype):
            del columns[row]
        title = TABLES.get(row, f"{row}s")
        lossy = write_table(self.file.create_group(title), columns)
        for name in columns:
            held = row if name == "id" and is_text(ds[row].dtype) else name
            if name not in lossy and held in ds.variables:
                self.manifest.place(path, held, {"path": f"/{title}/{name}"})

    def tables(self) -> None:
        """Write events and trials as intervals; an unknown duration ends at once."""
        for name, (first, second) in TIMES.items():
            ds = self.groups.get(f"/{name}")
            if ds is None or first not in ds:
                continue
            start = np.asarray(ds[first].values, dtype=np.float64)
            last = np.asarray(ds[second].values, dtype=np.float64) if second in ds else 0 * start
            end = start + np.nan_to_num(last) if name == "events" else last
            dim = ds[first].dims[0]
            columns = {
                str(n): v
                for n, v in ds.variables.items()
                if v.dims[:1] == (dim,) and n not in (first, "start", "end", "stop")
            }
            lossy = write_intervals(self.file.create_group(name), start, end, columns)
            for column in columns:
                if column not in lossy:
                    self.manifest.place(f"/{name}", column, {"path": f"/{name}/{column}"})
            self.manifest.place(f"/{name}", first, {"path": f"/{name}/start"})
            if name == "trials":
                self.manifest.place("/trials", "stop", {"path": "/trials/end"})

    def behavior(self) -> None:
        """Write each clock of the behaviour as a time series of its own."""
        ds = self.groups.get("/behavior")
        if ds is None:
            return
        for dim in sorted(str(dim) for dim in ds.dims if str(dim).startswith("time_")):
            stream = dim.removeprefix("time_")
            taken = stream in self.file or stream in RESERVED
            self._series("/behavior", ds, dim, f"behavior_{stream}" if taken else stream)

    def finish(self, main: str) -> None:
        """Write who and what was recorded, and the record by which our reader finds everything."""
        root = self.root
        write_data(self.file, {})
        described = {
            "brainset": {
                "id": root.dataset or "unknown",
                "origin_version": root.dataset_version or "unknown",
                "derived_version": root.schema_version,
                "source": root.dataset or "unknown",
                "description": f"{root.modality} recording, exported by neuropipe",
            },
            "subject": {"id": root.subject_id, "species": root.species, "sex": root.sex,
                        "age": root.age},
            "session": {"id": root.recording or root.subject_id,
                        "recording_date": root.session_start},
        }  # fmt: skip
        for name, attributes in described.items():
            write_data(self.file.create_group(name), attributes)
        own = self.file.require_group("neuropipe")
        write_data(own, {"version": version("neuropipe"), "modality": root.modality})
        if main != "/raw":
            return
        for path, ds in self.groups.items():
            for name in self.manifest.homeless(path):
                self._keep(path, name, ds[name].variable)
        text = self.manifest.to_json().encode("utf-8")
        own.create_dataset("manifest", data=np.frombuffer(text, dtype=np.uint8))

    def _keep(self, path: str, name: str, variable: xr.Variable) -> None:
        """Keep what has no home in temporaldata: small values in the record, arrays as they are."""
        if variable.size == 0 or not variable.dims:
            values = [encode_value(value) for value in np.asarray(variable.values).ravel().tolist()]
            self.manifest.place(path, name, {"value": values})
            return
        group = _data_group(self.file, f"neuropipe/kept{path}".rstrip("/"))
        if is_text(variable.dtype):
            group.create_dataset(name, data=variable.values.astype(object), dtype=TEXT)
        else:
            write_array(group, name, variable)
        self.manifest.place(path, name, {"path": f"{group.name}/{name}"})


TEXT: Any = h5py.string_dtype()


def _data_group(file: h5py.File, path: str) -> h5py.Group:
    """Return a group of which every part is a ``Data``."""
    group: h5py.Group = file
    for part in path.split("/"):
        group = group.require_group(part)
        if "object" not in group.attrs:
            write_data(group, {})
    return group


def _observed(ds: xr.Dataset) -> np.ndarray:
    """Return observed time, ``(n, 2)`` s, disjoint."""
    if "observed" in ds:
        return np.asarray(ds["observed"].values, dtype=np.float64).reshape(-1, 2)
    time = ds["time"].variable
    return np.array([[float(time[0].values), float(time[-1].values)]])
