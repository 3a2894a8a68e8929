"""The files of one recording under their final names: all of them, or none."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.errors import DataError, IngestError, Issue
from neuropipe.store.atomic import (
    discard,
    name_target,
    partial_sibling,
    remove_abandoned,
)

if TYPE_CHECKING:
    import xarray as xr

    from neuropipe.config.models import IngestConfig

__all__ = [
    "portable",
    "publish",
    "refuse_other_content",
    "refuse_warnings",
    "source_attrs",
    "source_entries",
    "staging",
    "stored_issues",
    "versions",
    "write_nwb",
]

PACKAGES = ("neuropipe", "numpy", "h5py", "xarray", "zarr", "pynwb", "pandas")


def portable(issue: Issue, source: Path) -> Issue:
    """Return an issue that names files relative to the source's folder."""
    folder = f"{source.parent}/"
    return replace(
        issue,
        path=issue.path.replace(folder, ""),
        message=issue.message.replace(folder, ""),
    )


def refuse_warnings(issues: Sequence[Issue], source: Path) -> None:
    """Raise when there is an issue beyond information: the rule of ``strict: true``.

    Raises
    ------
    IngestError
        With the code of the first, naming up to five.
    """
    faults = [issue for issue in issues if issue.severity != "info"]
    if faults:
        listed = "; ".join(f"{i.code} {i.path}: {i.message}" for i in faults[:5])
        more = f"; and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise IngestError(
            faults[0].code,
            source,
            f"{len(faults)} warnings under `strict: true`: {listed}{more}",
            faults[0].hint or "correct the source, or set `strict: false`",
        )


@contextmanager
def staging(output: Path, source: Path) -> Iterator[Path]:
    """Yield a folder beside the output that never outlives the block.

    Errors that name the temporary store are raised again with the source in its place.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    files = output.with_name(output.stem)  # store, NWB file and report share this name
    remove_abandoned(files)
    folder = partial_sibling(files)
    folder.mkdir()
    try:
        yield folder
    except IngestError as error:
        where, message = (
            text.replace(str(folder / output.name), output.name).replace(output.name, str(source))
            for text in (error.path, error.message)
        )
        if error.code == "EXISTS":
            raise
        raise IngestError(error.code, where, message, error.hint) from error
    except OSError as error:
        name_target(error, folder, output)
        raise
    finally:
        discard(folder)


def refuse_other_content(output: Path, content: str, overwrite: bool) -> None:
    """Raise when the output exists with other content, unless it may be replaced.

    Raises
    ------
    IngestError
        ``EXISTS``.
    """
    if overwrite or not output.exists():
        return
    from neuropipe.store.zarr import open_store

    try:
        found = str(open_store(output).attrs.get("content_sha256", ""))
    except DataError:
        found = ""
    if found != content:
        raise IngestError(
            "EXISTS",
            output,
            f"exists with content {found[:12] or 'unknown'}, the source gives {content[:12]}",
            "--overwrite replaces it",
        )


def write_nwb(store: Path, settings: IngestConfig) -> None:
    """Write the NWB file beside a store, from the store itself."""
    from neuropipe.store.nwb import to_nwb
    from neuropipe.store.zarr import open_store

    to_nwb(
        open_store(store),
        store.with_suffix(".nwb"),
        compression=settings.compression,
        force_timestamps=settings.timing.force_timestamps,
    )


def stored_issues(store: Path, settings: IngestConfig, source: Path) -> list[dict[str, str]]:
    """Return the issues that the store holds: ours, and those that the samples added."""
    from neuropipe.errors import issues_from_json
    from neuropipe.store.zarr import open_store

    issues = issues_from_json(str(open_store(store).attrs.get("issues", "[]")))
    if settings.strict:
        refuse_warnings(issues, source)
    return [asdict(issue) for issue in issues]


def source_entries(files: Sequence[str], source: Path) -> list[dict[str, Any]]:
    """Return path, hash and size of every source file, relative to the source's folder."""
    from neuropipe.store.hashing import file_sha256

    paths = sorted(Path(file) for file in files)
    return [
        {"path": _relative(p, source), "sha256": file_sha256(p), "bytes": p.stat().st_size}
        for p in paths
    ]


def source_attrs(
    sources: Sequence[Mapping[str, Any]], raw: xr.Dataset, modality: str
) -> dict[str, str]:
    """Return the hash of all source files, and the list of those that are referred to."""
    from neuropipe.store.hashing import combine_files
    from neuropipe.store.schema import MODALITIES

    attrs = {"source_sha256": combine_files((Path(s["path"]).name, s["sha256"]) for s in sources)}
    if "source_files" in MODALITIES[modality].raw_attrs:
        # Images are referred to, never copied; a file that we wrote refers to its own source.
        found = [{key: entry[key] for key in ("path", "sha256")} for entry in sources]
        attrs["source_files"] = raw.attrs.get("source_files") or json.dumps(found)
    return attrs


def versions() -> dict[str, str]:
    """Return the versions of the packages that decide what a store holds."""
    return {name: version(name) for name in PACKAGES}


def _relative(file: Path, source: Path) -> str:
    return Path(os.path.relpath(file, source.parent)).as_posix()


def publish(folder: Path, output: Path, report: dict[str, Any]) -> None:
    """Move the finished files to their final names; the report, the marker, goes last."""
    from neuropipe.store.atomic import write_json
    from neuropipe.store.zarr import open_store

    attrs = dict(open_store(folder / output.name).attrs)
    report["attrs"] = {key: _json_value(value) for key, value in sorted(attrs.items())}
    final = output.with_name(f"{output.stem}.report.json")
    staged = folder / final.name
    write_json(staged, report)
    names = (output.name, f"{output.stem}.nwb", final.name)
    _exchange(folder, output.parent, [name for name in names if (folder / name).exists()])


def _exchange(folder: Path, target: Path, names: Sequence[str]) -> None:
    """Move files to `target`, the last name last; a failure puts back what was there.

    The marker leaves first and arrives last, so that a process killed on the way leaves a
    recording without one.
    """
    replaced = folder / "replaced"
    replaced.mkdir()
    try:
        for name in reversed(names):
            if (target / name).exists():
                (target / name).rename(replaced / name)
        for name in names:
            (folder / name).rename(target / name)
    except BaseException:
        for name in reversed(names):
            if (target / name).exists() and not (folder / name).exists():
                (target / name).rename(folder / name)
        for name in names:
            if (replaced / name).exists():
                (replaced / name).rename(target / name)
        raise


def _json_value(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not np.isfinite(value) else value
