"""What every exporter asks of a store: its name, its series, its row names, its tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from neuropipe.errors import ConfigError, DataError
from neuropipe.store.schema import MODALITIES, modality_of

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "behavior_streams",
    "main_group",
    "name_of",
    "new_file",
    "observed_of",
    "series_names",
    "table_of",
]


def name_of(tree: xr.DataTree) -> str:
    """Return the name of the recording; of the subject and the modality when it has none."""
    fallback = f"sub-{tree.attrs.get('subject_id', '')}_{modality_of(tree.attrs)}"
    return str(tree.attrs.get("recording") or fallback)


def main_group(tree: xr.DataTree) -> xr.Dataset:
    """Return the group with the samples: ``/raw``, or the root of a preprocessed store."""
    if "raw" in tree.children:
        return tree["raw"].to_dataset(inherit=False)
    ds = tree.to_dataset()
    if "activity" not in ds:
        raise DataError(
            f"{name_of(tree)}: neither /raw nor `activity`; expected the store of a recording"
        )
    return ds


def series_names(tree: xr.DataTree) -> list[str]:
    """Return the variables ``(time, row)`` of the recording; of spikes, none."""
    ds = main_group(tree)
    known = ("activity", *MODALITIES[modality_of(tree.attrs)].series)
    return [name for name in known if name in ds and ds[name].dims[:1] == ("time",)]


def observed_of(ds: xr.Dataset) -> np.ndarray:
    """Return observed time, ``(n, 2)`` s."""
    if "observed" in ds:
        return np.asarray(ds["observed"].values, dtype=np.float64).reshape(-1, 2)
    time = ds["time"].values
    return np.array([[time[0], time[-1]]], dtype=np.float64)


def table_of(tree: xr.DataTree, name: str) -> xr.Dataset | None:
    """Return the one-dimensional columns of ``events`` or ``trials``, None where there is none."""
    if name not in tree.children:
        return None
    ds = tree[name].to_dataset(inherit=False)
    first = "onset" if name == "events" else "start"
    if first not in ds:
        return None
    dim = ds[first].dims
    return ds[[column for column in ds.variables if ds[column].dims == dim]]


def behavior_streams(tree: xr.DataTree) -> dict[str, xr.Dataset]:
    """Return the variables of each clock of the behaviour, by the name of the stream."""
    if "behavior" not in tree.children:
        return {}
    ds = tree["behavior"].to_dataset(inherit=False)
    clocks = sorted(str(dim) for dim in ds.dims if str(dim).startswith("time_"))
    return {
        clock.removeprefix("time_"): ds[[n for n in ds.data_vars if ds[n].dims[:1] == (clock,)]]
        for clock in clocks
    }


def new_file(path: Path) -> Path:
    """Return a path that does not exist yet.

    Raises
    ------
    ConfigError
        If it does.
    """
    if path.exists():
        raise ConfigError(f"{path}: exists already; remove it or choose another --output")
    return path
