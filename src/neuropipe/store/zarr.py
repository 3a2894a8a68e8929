"""Write and open Zarr stores."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from neuropipe.errors import DataError, MissingInput
from neuropipe.store.atomic import atomic_path
from neuropipe.store.lazy_time import with_indexes
from neuropipe.store.recording import write_recording
from neuropipe.store.schema import check_version
from neuropipe.store.variables import clean_dataset, decode_attrs, is_text
from neuropipe.store.zarr_arrays import new_store, write_dataset

__all__ = ["open_store", "write_recording", "write_tree"]

logger = logging.getLogger(__name__)


def write_tree(tree: xr.DataTree, path: Path | str) -> None:
    """Write any tree as a Zarr store, atomically; lazy variables stream through in blocks.

    Parameters
    ----------
    tree : xarray.DataTree
        Variables are numbers, bool or text.
    path : path
        The final ``.zarr`` folder; an existing one is replaced.

    Raises
    ------
    DataError
        If a variable or an attribute has no form in a store.
    """
    with atomic_path(path) as partial, new_store(partial) as root:
        for node in tree.subtree:
            group = root if node.path == "/" else root.require_group(node.path.strip("/"))
            write_dataset(group, clean_dataset(node.to_dataset(inherit=False), node.path))


def open_store(path: Path | str, chunks: Mapping[str, int] | str | None = None) -> xr.DataTree:
    """Open a store lazily: Zarr format 2 or 3, with or without consolidated metadata.

    Values stay as stored: `scale_factor` and `add_offset` remain attributes.

    Parameters
    ----------
    path : path
        The ``.zarr`` folder.
    chunks : mapping or {"auto"} or None
        None gives lazy indexing without dask, "auto" dask arrays in the chunks on disk, a mapping
        overrides these by dim. Text is loaded, since dask cannot tell its size.

    Raises
    ------
    MissingInput
        If `path` does not exist.
    DataError
        If it is not a Zarr store, is damaged, or has a schema version we cannot read. A chunk
        that is damaged or gone is told when it is read, see `CheckedStore`.
    """
    from neuropipe.store.checked_chunks import CheckedStore

    path = Path(path)
    consolidated = _is_consolidated(path)
    try:
        store: Any = CheckedStore(path, read_only=True)  # xarray passes stores of zarr on
        tree = xr.open_datatree(
            store,
            engine="zarr",
            consolidated=consolidated,
            mask_and_scale=False,
            decode_times=False,
            create_default_indexes=False,
        )
        tree = xr.DataTree.from_dict(
            {node.path: _restored(node.to_dataset(inherit=False)) for node in tree.subtree}
        )
        for node in tree.subtree:
            node.encoding["source"] = str(path)
    except DataError:
        raise
    # A damaged store raises whatever its reader stumbles over first.
    except Exception as error:
        kind = type(error).__name__
        raise DataError(
            f"{path}: the Zarr store cannot be opened, its metadata are damaged or incomplete "
            f"({kind}: {error}); write it again"
        ) from error
    _check_version(tree, path)
    return (
        tree if chunks is None else _chunked(tree, {} if isinstance(chunks, str) else dict(chunks))
    )


def _chunked(tree: xr.DataTree, chunks: dict[str, int]) -> xr.DataTree:
    groups = {}
    for node in tree.subtree:
        ds = node.to_dataset(inherit=False)
        for name, variable in ds.variables.items():
            if name not in ds.xindexes and not is_text(variable.dtype):
                sizes = {**variable.encoding.get("preferred_chunks", {}), **chunks}
                here = {dim: size for dim, size in sizes.items() if dim in variable.dims}
                ds[name] = ds[name].chunk(here)
        groups[node.path] = ds
    return xr.DataTree.from_dict(groups)


def _is_consolidated(path: Path) -> bool:
    if not path.exists():
        raise MissingInput(f"{path}: no such store; expected a .zarr folder")
    if not path.is_dir():
        raise DataError(f"{path}: is a file; expected a .zarr folder")
    if (path / ".zgroup").is_file():
        return (path / ".zmetadata").is_file()
    if not (path / "zarr.json").is_file():
        raise DataError(f"{path}: is not a Zarr store; neither zarr.json nor .zgroup is in it")
    try:
        root = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
        return root.get("consolidated_metadata") is not None
    except (ValueError, AttributeError) as error:
        raise DataError(f"{path}: zarr.json is damaged ({error}); write the store again") from error


def _restored(ds: xr.Dataset) -> xr.Dataset:
    """Give attributes their numbers back, keep fill values out of them, add indexes."""
    ds.attrs = decode_attrs(ds.attrs)
    for name in ds.variables:
        variable = ds.variables[name]
        fill: Any = variable.attrs.pop("_FillValue", None)
        variable.attrs = decode_attrs(variable.attrs)
        if fill is not None:
            variable.encoding["_FillValue"] = fill
    return with_indexes(ds)


def _check_version(tree: xr.DataTree, path: Path) -> None:
    if "schema_version" not in tree.attrs:
        return
    issue = check_version(str(tree.attrs["schema_version"]), path)
    if issue is None:
        return
    if issue.severity == "error":
        raise DataError(f"{path}: {issue.message}; {issue.hint}")
    logger.warning("%s: %s; %s", path, issue.message, issue.hint)
