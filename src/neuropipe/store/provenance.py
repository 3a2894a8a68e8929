"""Provenance: settings, seed, versions, hashes and times of every product."""

from __future__ import annotations

import hashlib
import json
import platform
import resource
import subprocess
import time
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuropipe.store.atomic import atomic_path, write_json

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "Stopwatch",
    "git_commit",
    "read_dataset",
    "read_provenance",
    "versions",
    "write_dataset",
    "write_provenance",
]

PACKAGES = (
    "neuropipe", "numpy", "scipy", "pandas", "xarray", "zarr", "h5netcdf", "h5py", "pynwb",
    "matplotlib", "scikit-learn", "numba", "snakemake",
)  # fmt: skip
PROVENANCE_ATTRIBUTE = "provenance"


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide results."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@cache
def git_commit() -> str:
    """Return the commit of the checkout that neuropipe runs from, ``""`` when installed."""
    folder = Path(__file__).resolve().parents[3]
    if not (folder / ".git").exists():
        return ""
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.strip() if answer.returncode == 0 else ""


class Stopwatch:
    """Wall time, CPU time and peak memory since it was made."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.monotonic(), time.process_time()

    @property
    def wall_s(self) -> float:
        """Seconds of wall time."""
        return round(time.monotonic() - self._wall, 3)

    @property
    def cpu_s(self) -> float:
        """Seconds of CPU time of this process."""
        return round(time.process_time() - self._cpu, 3)

    @property
    def peak_mb(self) -> float:
        """Peak resident memory of this process in MB."""
        return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def _plain(value: Any) -> Any:
    """Return a value that a netCDF attribute can hold."""
    if isinstance(value, bool):
        return int(value)
    if value is None:
        return ""
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(value, sort_keys=True, ensure_ascii=False)
    return value


def write_dataset(
    dataset: xr.Dataset | xr.DataTree, path: Path | str, provenance: Mapping[str, Any]
) -> dict[str, Any]:
    """Write a dataset as netCDF-4 or Zarr with its provenance, atomically.

    Parameters
    ----------
    dataset : xarray.Dataset or xarray.DataTree
        What a stage or an assembler returned; of a tree, which goes to ``.nc`` only, the root
        holds the attributes.
    path : Path or str
        ``.nc`` (netCDF-4 through h5netcdf) or ``.zarr``.
    provenance : mapping
        ``settings``, ``seed``, ``inputs``, ``code`` and so on, JSON values.

    Returns
    -------
    dict
        The provenance as written, ``content_sha256`` and ``versions`` added. It stands in the
        attribute ``provenance`` of the file; the keys of architecture section 8 stand beside it.
    """
    path = Path(path)
    record = dict(provenance)
    groups = _groups(dataset)
    dataset = groups.pop("/")
    record["content_sha256"] = _content({"/": dataset, **groups})
    record["versions"] = versions()
    kept = ("settings", "seed", "versions", "wall_s", "cpu_s")
    flat: dict[str, Any] = {key: record[key] for key in kept if key in record}
    flat |= {"input_sha256": record.get("inputs", {}), "code_fingerprint": record.get("code", {})}
    attrs = {str(key): _plain(value) for key, value in dataset.attrs.items()}
    attrs |= {key: _plain(value) for key, value in flat.items()}
    attrs[PROVENANCE_ATTRIBUTE] = json.dumps(record, sort_keys=True, ensure_ascii=False)
    dataset = dataset.copy(deep=False)
    dataset.attrs = attrs
    with atomic_path(path) as partial:
        if path.suffix == ".zarr":
            dataset.to_zarr(partial, mode="w", zarr_format=3, consolidated=True)
        else:
            _write_netcdf({"/": dataset, **groups}, partial)
    return record


def _groups(dataset: xr.Dataset | xr.DataTree) -> dict[str, xr.Dataset]:
    """Return the root and the groups of a tree, without inherited coordinates, by path."""
    import xarray as xr

    if isinstance(dataset, xr.Dataset):
        return {"/": dataset}
    return {node.path: node.to_dataset(inherit=False) for node in dataset.subtree}


def _content(groups: Mapping[str, xr.Dataset]) -> str:
    """Return the hash of the content of a dataset, or of all groups of a tree, the root first."""
    from neuropipe.store.hashing import content_sha256

    hashes = [content_sha256(dataset) for dataset in groups.values()]
    return hashes[0] if len(hashes) == 1 else _joined(hashes)


def _write_netcdf(groups: Mapping[str, xr.Dataset], path: Path) -> None:
    from neuropipe.store.hdf5_sink import hdf5_sink

    with hdf5_sink(path) as sink:
        for name, group in groups.items():
            how: dict[str, Any] = {"mode": "w"} if name == "/" else {"mode": "a", "group": name}
            group.to_netcdf(sink, engine="h5netcdf", encoding=_encoding(group), **how)


def _joined(hashes: Sequence[str]) -> str:
    return hashlib.sha256(" ".join(hashes).encode()).hexdigest()


def _encoding(dataset: xr.Dataset) -> dict[str, dict[str, Any]]:
    large = 100_000
    return {
        str(name): {"zlib": True, "complevel": 4, "shuffle": True}
        for name, variable in dataset.variables.items()
        if variable.size > large and variable.dtype.kind in "fiu"
    }


def _has_groups(path: Path) -> bool:
    import h5py

    with h5py.File(path, "r") as file:
        return any(isinstance(one, h5py.Group) for one in file.values())


def read_dataset(path: Path | str) -> Any:
    """Open a dataset, or a tree of them, that `write_dataset` wrote, values in memory.

    Raises
    ------
    MissingInput
        If the file does not exist.
    DataError
        If it cannot be read, or does not hold what was written, naming the file.
    """
    from neuropipe.errors import DataError, MissingInput

    path = Path(path)
    if not path.exists():
        raise MissingInput(f"{path}: no such file; run the step that writes it")
    try:
        dataset = _load(path)
    # A damaged file raises whatever its reader stumbles over first.
    except Exception as error:
        raise DataError(f"{path}: cannot be read ({error}); remove it and run again") from error
    written = _written_content(dataset)
    if written and written != _content(_groups(dataset)):
        raise DataError(
            f"{path}: is damaged, its content is not what was written; remove it and run again"
        )
    return dataset


def _written_content(dataset: xr.Dataset | xr.DataTree) -> str:
    """Return the hash of what `write_dataset` wrote; "" for a dataset made elsewhere."""
    try:
        record = json.loads(dataset.attrs.get(PROVENANCE_ATTRIBUTE, "{}"))
        return str(record.get("content_sha256", ""))
    except (ValueError, TypeError, AttributeError):
        return ""


def _load(path: Path) -> xr.Dataset | xr.DataTree:
    import xarray as xr

    if path.suffix == ".zarr":
        return xr.open_zarr(path, chunks=None).load()
    if _has_groups(path):
        with xr.open_datatree(path, engine="h5netcdf") as tree:
            return tree.load()
    return xr.load_dataset(path, engine="h5netcdf")


def read_provenance(path: Path | str) -> dict[str, Any]:
    """Return the provenance of a product without loading it; {} when there is none.

    `path` is a ``.json`` record, or a ``.nc`` file or ``.zarr`` store that `write_dataset` wrote.
    """
    import h5py

    path = Path(path)
    try:
        if path.suffix == ".json":
            return json.loads(path.read_text(encoding="utf-8"))
        if path.suffix == ".zarr":
            group = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
            return json.loads(group["attributes"][PROVENANCE_ATTRIBUTE])
        with h5py.File(path, "r") as file:
            return json.loads(file.attrs.get(PROVENANCE_ATTRIBUTE, "{}"))
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def write_provenance(path: Path | str, record: Mapping[str, Any]) -> None:
    """Write ``provenance.json`` beside a result, or the completion marker of a store."""
    write_json(path, {"versions": versions(), "git_commit": git_commit(), **record})


def input_hashes(paths: Sequence[Path | str]) -> dict[str, str]:
    """Return path -> content hash, from the provenance of each product."""
    return {str(path): read_provenance(path).get("content_sha256", "") for path in paths}
