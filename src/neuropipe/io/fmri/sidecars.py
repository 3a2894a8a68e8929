"""Files that belong to an image: those that BIDS names beside it, or those the settings name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neuropipe.errors import ConfigError, IngestError, Issue
from neuropipe.io.bids.tables import inherited_json, read_json
from neuropipe.io.bids.tree import bids_name, bids_root, sidecar
from neuropipe.io.checks import inside

__all__ = ["Sidecars", "entity", "find_sidecars", "suffix_of"]

# Entities by which images differ that share a table of confounds.
IMAGE_ENTITIES = ("space", "res", "den", "desc", "hemi", "atlas", "seg", "echo", "part")
CONFOUND_SUFFIXES = ("timeseries", "regressors", "confounds")


@dataclass(frozen=True)
class Sidecars:
    """What lies beside an image.

    Attributes
    ----------
    metadata : mapping
        Keys of the JSON files, the nearest winning.
    events, confounds, mask : Path or None
        Tables and brain mask.
    files : tuple of str
        JSON files that were read.
    issues : tuple of Issue
        What is absent.
    """

    metadata: Mapping[str, Any] = field(default_factory=dict)
    events: Path | None = None
    confounds: Path | None = None
    mask: Path | None = None
    files: tuple[str, ...] = ()
    issues: tuple[Issue, ...] = ()


def _stem(path: Path) -> str:
    """Return the name of an image without its extensions, however many it has."""
    name = bids_name(path)
    extension = name.extension if name is not None else "".join(path.suffixes[-2:])
    return path.name.removesuffix(extension).removesuffix(".nii")


def entity(path: Path, key: str) -> str:
    """Return what a file name states of an entity, "" when nothing."""
    name = bids_name(path)
    return "" if name is None else name.entities.get(key, "")


def suffix_of(path: Path) -> str:
    """Return the last word of a file name, such as ``bold``."""
    return _stem(path).rsplit("_", 1)[-1]


def _metadata(path: Path) -> tuple[dict[str, Any], list[Path]]:
    if bids_root(path) is not None:
        return inherited_json(path, suffix_of(path))
    own = path.with_name(f"{_stem(path)}.json")
    return (read_json(own), [own]) if own.is_file() else ({}, [])


def _events(path: Path) -> Path | None:
    found = sidecar(path, "events", ".tsv") if bids_root(path) is not None else None
    own = path.with_name(f"{_stem(path).removesuffix('_bold')}_events.tsv")
    return found or (own if own.is_file() else None)


def _fits(path: Path, other: Path, ignored: tuple[str, ...]) -> bool:
    """Tell whether a file states no entity that the image does not state alike.

    Outside BIDS any file of the folder would fit so: there its name begins like the image's.
    """
    own, name, stem = bids_name(path), bids_name(other), _stem(path)
    if own is None or name is None or "sub" not in own.entities:
        return other.name.startswith((f"{stem}_", f"{stem.removesuffix('_bold')}_"))
    stated = {key: value for key, value in name.entities.items() if key not in ignored}
    return all(own.entities.get(key) == value for key, value in stated.items())


def _one(found: list[Path], path: Path, key: str) -> Path | None:
    """Return the most special of the files that fit.

    Raises
    ------
    IngestError
        ``AMBIGUOUS_SIDECAR``: several fit equally well.
    """
    counts = [len(name.entities) if (name := bids_name(file)) else 0 for file in found]
    best = [file for file, count in zip(found, counts, strict=True) if count == max(counts)]
    if len(best) > 1:
        names = ", ".join(file.name for file in best)
        text = f"several files fit as {key}: {names}"
        raise IngestError("AMBIGUOUS_SIDECAR", path, text, f"name one: `{key}` of the reader")
    return best[0] if best else None


def _confounds(path: Path) -> Path | None:
    tables = sorted(path.parent.glob("*confounds*.tsv"))
    known = [file for file in tables if suffix_of(file) in CONFOUND_SUFFIXES]
    return _one([f for f in known if _fits(path, f, IMAGE_ENTITIES)], path, "confounds")


def _mask(path: Path) -> Path | None:
    # A mask in another space has another grid; one without a space fits the plain image.
    found = [
        file
        for file in sorted(path.parent.glob("*brain_mask.nii*"))
        if entity(file, "space") == entity(path, "space") and _fits(path, file, ("desc",))
    ]
    return _one(found, path, "mask")


def _given(name: str | None, path: Path, key: str) -> Path | None:
    if name is None:
        return None
    file = inside(Path(name), path.parent, path)
    if not file.is_file():
        raise ConfigError(f"{path}: {key}: {name!r} does not exist; correct the reader's settings")
    return file


def find_sidecars(
    path: Path,
    *,
    events: str | None,
    confounds: str | None,
    mask: str | None = None,
    by_name: bool = True,
) -> Sidecars:
    """Return the files that belong to an image; those named in the settings come first.

    Parameters
    ----------
    path : Path
        The image.
    events, confounds, mask : str or None
        Paths relative to the folder of the image; None: by BIDS names.
    by_name : bool
        Look for files that the settings do not name.

    Raises
    ------
    IngestError
        ``AMBIGUOUS_SIDECAR``, ``NOT_THIS_FORMAT``, or ``UNSAFE`` for a path out of the folder.
    ConfigError
        A named file does not exist.
    """
    metadata, files = _metadata(path) if by_name else ({}, [])
    found_events = _given(events, path, "events") or (_events(path) if by_name else None)
    table = _given(confounds, path, "confounds") or (_confounds(path) if by_name else None)
    issues = []
    if by_name and not files and entity(path, "sub"):
        text = "no JSON beside it; the header alone states the repetition time"
        issues.append(Issue("MISSING_SIDECAR", f"{path}: JSON", text, "is it left out?", "info"))
    if by_name and found_events is None and not entity(path, "task").lower().startswith("rest"):
        text = "no events table beside it; the store has no events"
        hint = "`events` of the reader names one"
        issues.append(Issue("MISSING_SIDECAR", f"{path}: events", text, hint))
    if by_name and table is None:
        text = "no confounds table beside it; motion cannot be regressed out"
        hint = "`confounds` of the reader names one"
        issues.append(Issue("MISSING_SIDECAR", f"{path}: confounds", text, hint))
    return Sidecars(
        metadata=metadata,
        events=found_events,
        confounds=table,
        mask=_given(mask, path, "mask") or (_mask(path) if by_name else None),
        files=tuple(str(file) for file in files),
        issues=tuple(issues),
    )
