"""Check stores and NWB files that lie on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from neuropipe.errors import DataError, IngestError, Issue, MissingInput
from neuropipe.store.connectome import check_connectome, is_connectome
from neuropipe.store.hashing import content_sha256
from neuropipe.store.schema import check_tree
from neuropipe.store.zarr import open_store

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["validate_store"]

# Checks of the inspector that are told, not refused, with what to do about them: what the source
# does not say cannot be invented, and a short recording may have fewer samples than rows.
TOLERATED = {
    "check_subject_sex": "fill the column sex of the recordings table",
    "check_subject_age": "fill the column age of the recordings table",
    "check_ascending_spike_times": "fine when times repeat only: ingest refuses unsorted ones",
    "check_spike_times_not_in_samples": "fine when the few spikes fall on whole seconds",
    "check_data_orientation": "fine when the recording has fewer samples than rows",
}


def validate_store(path: Path | str) -> list[Issue]:
    """Check a ``.zarr`` store or an ``.nwb`` file: schema, content hash, and the rules of NWB.

    Parameters
    ----------
    path : path
        Ingested or preprocessed store, or any NWB file. An NWB file that neuropipe did not
        write is checked by pynwb and nwbinspector only.

    Returns
    -------
    list of Issue
        Severity ``error`` for what makes it unusable; empty when all is well. A damaged file is
        an issue, not an exception.

    Raises
    ------
    MissingInput
        If there is nothing under `path`.
    DataError
        If `path` ends in neither ``.zarr`` nor ``.nwb``.
    """
    path = Path(path)
    if path.suffix not in CHECKS:
        known = " or ".join(CHECKS)
        raise DataError(f"{path}: ends in {path.suffix!r}; expected a store that ends in {known}")
    if not path.exists():
        raise MissingInput(f"{path}: no such store")
    try:
        return CHECKS[path.suffix](path)
    except IngestError as error:
        return [Issue(error.code, error.path, error.message, error.hint, "error")]
    except DataError as error:
        return [Issue("DAMAGED", str(path), str(error), "write it again", "error")]


def _check_zarr(path: Path) -> list[Issue]:
    tree = open_store(path)
    if is_connectome(tree.attrs):
        return check_connectome(tree, path)
    return _check_content(tree, path)


def _check_content(tree: xr.DataTree, path: Path) -> list[Issue]:
    """Check schema and content hash; this reads every sample."""
    issues = check_tree(tree)
    stated = str(tree.attrs.get("content_sha256", ""))
    if "raw" not in tree.children or not stated:
        return issues
    try:
        found = content_sha256(tree["raw"].to_dataset())
    # Damaged chunks raise whatever the codec stumbles over.
    except Exception as error:
        text = f"samples cannot be read ({type(error).__name__}: {error})"
        return [*issues, Issue("DAMAGED", f"{path}: /raw", text, "write it again", "error")]
    if found != stated:
        text = f"content hash {found[:12]}, the store states {stated[:12]}"
        hint = "the samples were changed after ingest; ingest the recording again"
        issues.append(Issue("CONTENT_HASH", f"{path}: /raw", text, hint, "error"))
    return issues


def _check_nwb(path: Path) -> list[Issue]:
    from neuropipe.store.nwb.manifest import MANIFEST_NAME
    from neuropipe.store.nwb.read import from_nwb, open_hdf5

    with open_hdf5(path) as file:
        if "nwb_version" not in file.attrs:
            text = "an HDF5 file without attribute nwb_version"
            raise IngestError("NOT_THIS_FORMAT", path, text, "give an NWB file")
        ours = f"scratch/{MANIFEST_NAME}" in file
    issues = [*_check_pynwb(path), *_check_inspector(path)]
    return [*issues, *_check_content(from_nwb(path), path)] if ours else issues


def _check_pynwb(path: Path) -> list[Issue]:
    import pynwb

    try:
        errors = pynwb.validate(path=str(path))
    except Exception as error:  # pynwb promises no type of exception for damaged files
        text = f"pynwb cannot read it ({type(error).__name__}: {error})"
        return [Issue("DAMAGED", str(path), text, "write it again", "error")]
    return [
        Issue("NWB_SCHEMA", f"{path}: {error.location or error.name}", error.reason, "", "error")
        for error in errors
    ]


def _check_inspector(path: Path) -> list[Issue]:
    from nwbinspector import Importance, inspect_nwbfile

    messages = inspect_nwbfile(
        nwbfile_path=str(path), skip_validate=True, importance_threshold=Importance.CRITICAL
    )
    issues = []
    for message in messages:
        hint = TOLERATED.get(message.check_function_name)
        issues.append(
            Issue(
                "NWB_INSPECTOR",
                f"{path}: {message.location}",
                f"{message.message} ({message.check_function_name})",
                hint or "",
                "error" if hint is None else "warning",
            )
        )
    return issues


CHECKS: dict[str, Callable[[Path], list[Issue]]] = {".zarr": _check_zarr, ".nwb": _check_nwb}
