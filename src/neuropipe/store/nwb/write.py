"""Write a store as NWB."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import xarray as xr

from neuropipe.errors import DataError
from neuropipe.store.atomic import atomic_path
from neuropipe.store.hdf5_sink import hdf5_sink
from neuropipe.store.nwb.manifest import MANIFEST_NAME
from neuropipe.store.schema import RootAttributes, parse_attributes
from neuropipe.store.spikes import BY_TIME
from neuropipe.store.variables import clean_dataset

if TYPE_CHECKING:
    from pynwb import NWBFile

    from neuropipe.store.nwb.builder import NwbBuilder

__all__ = ["to_nwb"]

NO_DATE = "1970-01-01T00:00:00+00:00"
PROCESSED = "/preprocessed"
WORMS = ("Caenorhabditis elegans", "C. elegans")
ONE_DURATION = r"P(?=[\dT])(\d+(\.\d+)?[YMWD])*(T(\d+(\.\d+)?[HMS])+)?"
DURATION = rf"{ONE_DURATION}(/({ONE_DURATION})?)?"
COMPRESSION = {"gzip": "gzip", "lzf": "lzf", "none": None}
NAMESPACE = uuid.UUID("6e0c1f0a-5d0f-5b60-9d5c-0f6e3b2f8a11")


def _calcium() -> Callable[[NwbBuilder, xr.Dataset], None]:
    from neuropipe.store.nwb.calcium import add_raw

    return add_raw


def _spikes() -> Callable[[NwbBuilder, xr.Dataset], None]:
    from neuropipe.store.nwb.spikes import add_raw

    return add_raw


def _channels() -> Callable[[NwbBuilder, xr.Dataset], None]:
    from neuropipe.store.nwb.channels import add_raw

    return add_raw


def _fmri() -> Callable[[NwbBuilder, xr.Dataset], None]:
    from neuropipe.store.nwb.fmri import add_raw

    return add_raw


RAW_MAPPERS: dict[str, Callable[[], Callable[[NwbBuilder, xr.Dataset], None]]] = {
    "calcium": _calcium,
    "spikes": _spikes,
    "eeg": _channels,
    "meg": _channels,
    "ieeg": _channels,
    "fmri": _fmri,
}


def to_nwb(
    tree: xr.DataTree,
    path: Path | str,
    *,
    compression: str = "gzip",
    force_timestamps: bool = False,
    processed: xr.DataTree | None = None,
) -> None:
    """Write an ingested recording as an NWB file, atomically and streaming.

    Parameters
    ----------
    tree : xarray.DataTree
        As `open_store` returns it.
    path : path
        The final ``.nwb`` file; an existing one is replaced.
    compression : {"gzip", "lzf", "none"}
        HDF5 filter of arrays.
    force_timestamps : bool
        Write timestamps also where the clock is regular. Otherwise a clock whose steps are
        within 1e-9 relative of their mean is written as rate and start.
    processed : xarray.DataTree or None
        Preprocessed store of the recording: its series join as module ``preprocessed``, and come
        back as group of that name.

    Raises
    ------
    DataError
        If the tree is no ingested recording of a modality that NWB files are written for.

    Notes
    -----
    The same store gives the same bytes: the identifier is the content hash, the creation date is
    the session's, and object ids derive from both.
    """
    if compression not in COMPRESSION:
        known = ", ".join(COMPRESSION)
        raise DataError(f"{path}: compression {compression!r} is unknown; expected one of {known}")
    from neuropipe.store.nwb.builder import NwbBuilder

    root = parse_attributes(tree.attrs, path)
    if "raw" not in tree.children:
        raise DataError(f"{path}: the tree has no group /raw; expected an ingested recording")
    if root.modality not in RAW_MAPPERS:
        known = ", ".join(RAW_MAPPERS)
        raise DataError(f"{path}: no NWB mapping of modality {root.modality!r}; there is {known}")
    builder = NwbBuilder(
        _new_file(root),
        compression=COMPRESSION[compression],
        force_timestamps=force_timestamps,
        t0=root.t0_source,
    )
    _fill(builder, tree, root.modality, processed)
    with atomic_path(path) as partial:
        _write(builder.nwbfile, partial)
        _fix_object_ids(partial, root.content_sha256)


def _fill(
    builder: NwbBuilder, tree: xr.DataTree, modality: str, processed: xr.DataTree | None
) -> None:
    from pynwb.core import ScratchData

    from neuropipe.store.nwb.tables import (
        add_behavior,
        add_events,
        add_observed,
        add_row_series,
        add_trials,
    )

    groups = {
        node.path: clean_dataset(node.to_dataset(inherit=False), node.path)
        for node in tree.subtree
        if node.path != f"/{BY_TIME}"  # the spikes once more, in another order
    }
    if processed is not None:
        groups[PROCESSED] = clean_dataset(processed.to_dataset(), PROCESSED)
    for group, ds in groups.items():
        builder.manifest.add_group(group, ds)
    RAW_MAPPERS[modality]()(builder, groups["/raw"])
    add_observed(builder, groups["/raw"])
    adders = {"/events": add_events, "/trials": add_trials, "/behavior": add_behavior}
    for group, add in adders.items():
        if group in groups:
            add(builder, groups[group])
    if processed is not None:
        add_row_series(builder, PROCESSED, groups[PROCESSED], "activity")
    for group, ds in groups.items():
        builder.scratch(group, ds)
    text = "Dims, dtypes, attributes and places of the variables of the store, as JSON"
    record = ScratchData(name=MANIFEST_NAME, data=builder.manifest.to_json(), description=text)
    builder.nwbfile.add_scratch(record)


def _subject(root: RootAttributes) -> dict[str, str]:
    """Return what is known of the subject, and the words of NWB for what is not.

    ``P0D/`` is any age, ``U`` unknown sex; for C. elegans there is no such word.
    """
    known = {"subject_id": root.subject_id, "age": root.age, "sex": root.sex or "U"}
    if root.species:
        known["species"] = root.species
    if not root.sex and root.species in WORMS:
        del known["sex"]
    if not re.fullmatch(DURATION, root.age):
        known["age"] = "P0D/"
        if root.age:
            known["description"] = f"age: {root.age}"
    return known


def _new_file(root: RootAttributes) -> NWBFile:
    from pynwb import NWBFile
    from pynwb.file import Subject

    start = datetime.fromisoformat(root.session_start or NO_DATE)
    known: dict[str, Any] = {"session_id": root.session_id} if root.session_id else {}
    return NWBFile(
        session_description=root.task or root.recording or "unknown",
        identifier=root.content_sha256 or root.recording or root.subject_id,
        session_start_time=start,
        file_create_date=start,
        subject=Subject(**_subject(root)),
        **known,
    )


def _write(nwbfile: NWBFile, path: Path) -> None:
    from pynwb import NWBHDF5IO

    # An open file, because a path that ends in .partial-<hash> draws a warning.
    with (
        hdf5_sink(path) as sink,
        h5py.File(sink, "w") as file,
        NWBHDF5IO(file=file, mode="w") as io,
    ):
        io.write(nwbfile)


def _fix_object_ids(path: Path, identifier: str) -> None:
    """Replace the random object ids by ids of the content and the place in the file."""
    with hdf5_sink(path, "r+") as sink, h5py.File(sink, "r+") as file:
        file.attrs.modify("object_id", str(uuid.uuid5(NAMESPACE, identifier)))

        def fix(name: str, item: h5py.Group | h5py.Dataset) -> None:
            if "object_id" in item.attrs:
                item.attrs.modify("object_id", str(uuid.uuid5(NAMESPACE, f"{identifier}/{name}")))

        file.visititems(fix)
