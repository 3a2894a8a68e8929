"""The store of a connectome: sparse on disk, ``weight (kind, pre, post)`` in memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.errors import DataError, Issue
from neuropipe.store.hashing import content_sha256
from neuropipe.store.schema import SCHEMA_VERSION, check_version
from neuropipe.store.zarr import open_store, write_tree

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "CONNECTOME_SCHEMA",
    "KINDS",
    "check_connectome",
    "is_connectome",
    "open_connectome",
    "write_connectome",
]

CONNECTOME_SCHEMA = "neuropipe.connectome"
KINDS = ("chemical", "gap", "functional")
PAIR = ("kind", "pre", "post")
GROUPS = ("neurons", "pairs", "edges", "other")


def is_connectome(attrs: Mapping[Any, Any]) -> bool:
    """Tell whether root attributes are those of a connectome."""
    return attrs.get("schema") == CONNECTOME_SCHEMA


def write_connectome(ds: xr.Dataset, path: Path | str) -> str:
    """Write a connectome as a Zarr store, atomically, and return its content hash.

    Parameters
    ----------
    ds : xarray.Dataset
        ``weight``, ``weight_std`` (NaN where not measured), ``present``, ``n_tables``, each
        ``(kind, pre, post)``; columns of the neurons along ``neuron``; edges with a partner that
        is no canonical neuron as ``other_pre``, ``other_post``, ``other_kind``, ``other_weight``,
        ``other_table`` ``(other)``.
    path : path
        The final ``.zarr`` folder.
    """
    import xarray as xr

    columns = [name for name in ds.variables if ds[name].dims == ("neuron",)]
    other = {str(n): ds[n] for n in ds.data_vars if ds[n].dims == ("other",)}
    weight, spread = ds["weight"].values, ds["weight_std"].values
    where = np.nonzero((np.nan_to_num(weight) != 0) | (np.nan_to_num(spread) != 0))
    edges = {
        dim: ("edge", ds[dim].values[index]) for dim, index in zip(PAIR, where, strict=True)
    } | {name: ("edge", ds[name].values[where]) for name in ("weight", "weight_std")}
    content = content_sha256(ds)
    groups = {
        "/": xr.Dataset(attrs={**ds.attrs, "content_sha256": content}),
        "/neurons": ds[columns].drop_vars(PAIR, errors="ignore"),
        "/pairs": ds[["present", "n_tables"]],
        "/edges": xr.Dataset(edges),
        "/other": xr.Dataset(
            {name.removeprefix("other_"): ("other", v.values) for name, v in other.items()}
        ),
    }
    groups = {name: group if name == "/" else group.drop_attrs() for name, group in groups.items()}
    write_tree(xr.DataTree.from_dict(groups), path)
    return content


def open_connectome(path: Path | str) -> xr.Dataset:
    """Return a connectome as `write_connectome` was given it.

    Parameters
    ----------
    path : path
        ``stores/connectome/<name>.zarr``.

    Raises
    ------
    MissingInput
        There is no such store.
    DataError
        It is damaged, or no connectome.
    """
    tree = open_store(path)
    absent = [name for name in GROUPS if name not in tree.children]
    if not is_connectome(tree.attrs) or absent:
        raise DataError(
            f"{path}: is no connectome store (schema {tree.attrs.get('schema', '')!r}, absent "
            f"groups: {', '.join(absent) or 'none'}); ingest it through `ingest.connectomes`"
        )
    return _dense(tree, path)


def _dense(tree: xr.DataTree, path: Path | str) -> xr.Dataset:
    pairs, edges = (tree[name].to_dataset().load() for name in ("pairs", "edges"))
    present = pairs["present"].values
    ds = pairs.merge(tree["neurons"].to_dataset().load())
    index = [{str(text): i for i, text in enumerate(pairs[dim].values.tolist())} for dim in PAIR]
    try:
        at = tuple(
            np.array([known[str(text)] for text in edges[dim].values.tolist()], dtype=np.int64)
            for dim, known in zip(PAIR, index, strict=True)
        )
    except KeyError as error:
        raise DataError(
            f"{path}: /edges names {error}, which /pairs does not list; ingest the tables again"
        ) from None
    for name in ("weight", "weight_std"):
        dense = np.where(present, 0.0, np.nan).astype(np.float32)
        dense[at] = edges[name].values
        ds[name] = (PAIR, dense)
    other = tree["other"].to_dataset().load()
    ds = ds.assign({f"other_{name}": ("other", other[name].values) for name in other.data_vars})
    known = {key: value for key, value in tree.attrs.items() if key != "content_sha256"}
    return ds.assign_attrs(known)


def check_connectome(tree: xr.DataTree, path: Path | str) -> list[Issue]:
    """Return what is wrong with a connectome store; empty when all is well."""
    version = check_version(str(tree.attrs.get("schema_version", "")), "/ attribute schema_version")
    issues = [version] if version is not None else []
    try:
        ds = open_connectome(path)
        found = content_sha256(ds)
    except DataError as error:
        return [*issues, Issue("DAMAGED", str(path), str(error), "ingest it again", "error")]
    # Damaged chunks raise whatever the codec stumbles over.
    except Exception as error:
        text = f"cannot be read ({type(error).__name__}: {error})"
        return [*issues, Issue("DAMAGED", str(path), text, "ingest it again", "error")]
    issues += _check_values(ds, str(path))
    stated = str(tree.attrs.get("content_sha256", ""))
    if found != stated:
        text = f"content hash {found[:12]}, the store states {stated[:12]}"
        hint = "the weights were changed after ingest; ingest the tables again"
        issues.append(Issue("CONTENT_HASH", str(path), text, hint, "error"))
    return issues


def _check_values(ds: xr.Dataset, path: str) -> list[Issue]:
    faults = []
    weight, present = ds["weight"].values, ds["present"].values
    unknown = [kind for kind in ds["kind"].values.tolist() if kind not in KINDS]
    if unknown:
        faults.append(f"kind {unknown[0]!r}, expected {', '.join(KINDS)}")
    if not np.array_equal(np.isfinite(weight), present):
        faults.append("weights are finite at other places than `present` says")
    if "gap" in ds["kind"].values:
        gap = ds["weight"].sel(kind="gap").values
        if not np.array_equal(gap, gap.T, equal_nan=True):
            faults.append("gap junctions are not symmetric")
    return [Issue("CONNECTOME", path, text, "ingest it again", "error") for text in faults]


def root_attributes(name: str) -> dict[str, Any]:
    """Return the attributes that every connectome store has."""
    return {"schema": CONNECTOME_SCHEMA, "schema_version": SCHEMA_VERSION, "connectome": name}
