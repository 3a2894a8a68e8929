"""What a store can be exported to, and the one door to all of it."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from neuropipe.errors import ConfigError, DataError, MissingInput

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["TARGETS", "export_store", "open_recording_store"]

# Target -> ``module:function``, called as ``function(tree, output)``; it returns what it wrote.
TARGETS = {
    "temporaldata": "neuropipe.export.temporaldata:write",
    "neuralset": "neuropipe.export.neuralset:write",
    "bids": "neuropipe.export.bids:write",
    "csv": "neuropipe.export.tables:write",
}


def open_recording_store(path: Path | str) -> xr.DataTree:
    """Open a store, or an NWB file that we wrote.

    Raises
    ------
    MissingInput
        If there is no such file or folder.
    DataError
        If it is no store of a recording.
    """
    from neuropipe.store.nwb import from_nwb
    from neuropipe.store.schema import modality_of
    from neuropipe.store.zarr import open_store

    path = Path(path)
    if not path.exists():
        raise MissingInput(f"{path}: no such store; expected a .zarr folder or an .nwb file")
    tree = from_nwb(path) if path.suffix == ".nwb" else open_store(path)
    if not modality_of(tree.attrs):
        raise DataError(f"{path}: not the store of a recording; its attribute `schema` is absent")
    return tree


def export_store(path: Path | str, target: str, output: Path | str) -> list[Path]:
    """Export the store of one recording.

    Parameters
    ----------
    path : Path or str
        A ``.zarr`` store, ingested or preprocessed, or an ``.nwb`` file that we wrote.
    target : str
        Key of `TARGETS`.
    output : Path or str
        Folder to write into; made when absent. Files in it are never replaced.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    ConfigError
        If the target is unknown, or a file of that name exists.
    DataError
        If the target has no form for this recording; the message says what has.
    MissingDependency
        If a package of the target is not installed.
    """
    if target not in TARGETS:
        raise ConfigError(f"{target}: unknown target; one of {', '.join(TARGETS)}")
    module, _, name = TARGETS[target].partition(":")
    write: Callable[[xr.DataTree, Path], list[Path]] = getattr(import_module(module), name)
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    return write(open_recording_store(path), output)
