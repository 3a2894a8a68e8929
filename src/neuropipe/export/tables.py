"""Recordings as plain tables (CSV): samples, rows, events, trials, behaviour, and who it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from neuropipe.export.recording import (
    behavior_streams,
    main_group,
    name_of,
    new_file,
    observed_of,
    series_names,
    table_of,
)
from neuropipe.store.atomic import atomic_path

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = ["behavior_frame", "write"]

BLOCK_BYTES = 4 << 20
# Attributes that say where the store came from, and not what was recorded.
APART = ("pipeline", "issues")


def write(tree: xr.DataTree, output: Path) -> list[Path]:
    """Write one table per series, the first column ``time`` in seconds; NaN is an empty cell.

    Samples of channels are in their units (volts, tesla), not the integers of the source; a
    sample that is not valid is empty. Spikes are one row each, ``unit,time``. Floats are written
    with as many digits as it takes to read the same number again.

    Returns
    -------
    list of Path
        ``<recording>_<what>.csv`` and ``<recording>.json``.
    """
    stem = output / name_of(tree)
    ds = main_group(tree)
    written: list[Path] = []

    def target(what: str) -> Path:
        written.append(new_file(stem.with_name(f"{stem.name}_{what}.csv")))
        return written[-1]

    row = _write_samples(tree, ds, target)
    columns = [n for n in ds.variables if ds[n].dims == (row,)]
    _save(ds[columns].to_dataframe().reset_index(), target(f"{row}s"))
    observed = observed_of(ds)
    _save_columns({"start": observed[:, 0], "stop": observed[:, 1]}, target("observed"))
    for name in ("events", "trials"):
        table = table_of(tree, name)
        if table is not None:
            frame = table.to_dataframe().reset_index(drop=True)
            _save(frame, target(name))
    for stream, variables in behavior_streams(tree).items():
        _save(behavior_frame(variables, stream), target(f"behavior-{stream}"))
    path = new_file(stem.with_name(f"{stem.name}.json"))
    with atomic_path(path) as partial:
        partial.write_text(json.dumps(_about(tree, ds), indent=1, ensure_ascii=False) + "\n")
    return [*written, path]


def _write_samples(tree: xr.DataTree, ds: xr.Dataset, target: object) -> str:
    """Write the samples; return the dim of the rows."""
    names = series_names(tree)
    for name in names:
        _write_series(ds, name, target(name))  # type: ignore[operator]
    if names:
        return str(ds[names[0]].dims[-1])
    units = ds["unit"].values[ds["spike_unit"].values]
    _save_columns({"unit": units, "time": ds["spike_time"].values}, target("spikes"))  # type: ignore[operator]
    return "unit"


def _write_series(ds: xr.Dataset, name: str, path: Path) -> None:
    """Write one series in blocks of time."""
    header = ["time", *(str(value) for value in ds[str(ds[name].dims[-1])].values)]
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
        _line(stream, header)
        for frame in _frames(ds, name, header):
            frame.to_csv(stream, index=False, header=False, lineterminator="\n")


def _frames(ds: xr.Dataset, name: str, header: list[str]) -> Iterator[pd.DataFrame]:
    import pandas as pd

    from neuropipe.store.scaling import physical_blocks

    # What is exact in float32 is written with the digits of float32.
    dtype = np.float32 if ds[name].dtype == np.float32 else np.float64
    for here, values in physical_blocks(ds, name, BLOCK_BYTES):
        times = pd.DataFrame({header[0]: ds["time"].variable[here].values})
        samples = pd.DataFrame(values.astype(dtype))
        yield pd.concat([times, samples], axis=1)


def _line(stream: IO[str], cells: list[str]) -> None:
    import csv

    csv.writer(stream, lineterminator="\n").writerow(cells)


def behavior_frame(variables: xr.Dataset, stream: str) -> pd.DataFrame:
    """Return the variables of one clock as columns, ``time`` first; 2-D ones as ``name_0`` ..."""
    import pandas as pd

    columns = {"time": variables[f"time_{stream}"].values}
    for name in variables.data_vars:
        values = variables[name].values
        if values.ndim == 1:
            columns[str(name)] = values
        else:
            flat = values.reshape(len(values), -1)
            columns |= {f"{name}_{k}": flat[:, k] for k in range(flat.shape[1])}
    return pd.DataFrame(columns)


def _save(frame: pd.DataFrame, path: Path) -> None:
    with atomic_path(path) as partial:
        frame.to_csv(partial, index=False, lineterminator="\n")


def _save_columns(columns: dict[str, np.ndarray], path: Path) -> None:
    import pandas as pd

    _save(pd.DataFrame(columns), path)


def _about(tree: xr.DataTree, ds: xr.Dataset) -> dict[str, object]:
    from neuropipe.store.variables import encode_attrs

    root = {key: value for key, value in tree.attrs.items() if key not in APART}
    units = {str(n): str(v.attrs["units"]) for n, v in ds.variables.items() if "units" in v.attrs}
    return {**encode_attrs(root, "/"), "raw": encode_attrs(ds.attrs, "/raw"), "units": units}
