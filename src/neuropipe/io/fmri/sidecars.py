"""Files that belong to an image: those that BIDS names beside it, or those the settings name."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neuropipe.errors import ConfigError, IngestError, Issue
from neuropipe.io.checks import inside, read_text

__all__ = ["NamedParts", "Sidecars", "find_sidecars", "name_parts"]

EXTENSIONS = (
    ".dtseries.nii",
    ".ptseries.nii",
    ".dlabel.nii",
    ".func.gii",
    ".nii.gz",
    ".nii",
    ".gii",
)
DESCRIPTION = "dataset_description.json"
LEVELS = 5
# Entities by which images differ that share events, confounds and metadata.
IMAGE_ENTITIES = ("space", "res", "den", "desc", "hemi", "atlas", "seg", "echo", "part")
CONFOUND_SUFFIXES = ("timeseries", "regressors")


@dataclass(frozen=True)
class NamedParts:
    """A file name in the parts that BIDS gives it.

    Attributes
    ----------
    entities : mapping of str to str
        Such as ``{"sub": "01", "task": "rest"}``; empty for a name without any.
    suffix : str
        Last part, such as ``bold``.
    stem : str
        Name without extension.
    """

    entities: Mapping[str, str]
    suffix: str
    stem: str


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


def name_parts(name: str) -> NamedParts:
    """Return the parts of a file name.

    Examples
    --------
    >>> name_parts("sub-01_task-rest_bold.nii.gz").entities
    {'sub': '01', 'task': 'rest'}
    """
    extension = next((e for e in EXTENSIONS if name.lower().endswith(e)), Path(name).suffix)
    stem = name[: len(name) - len(extension)] if extension else name
    parts = stem.split("_")
    entities = {key: value for key, _, value in (p.partition("-") for p in parts) if value}
    return NamedParts(entities, "" if "-" in parts[-1] else parts[-1], stem)


def _folders(path: Path) -> Iterator[Path]:
    """Yield the folder of a file and those above it, up to the root of its data set."""
    for folder in (path.parent, *path.parent.parents)[:LEVELS]:
        yield folder
        if (folder / DESCRIPTION).is_file():
            return


def _applies(own: NamedParts, other: NamedParts, ignored: tuple[str, ...] = ()) -> bool:
    """Tell whether a sidecar's entities are all among those of the image."""
    wanted = {key: value for key, value in other.entities.items() if key not in ignored}
    if own.entities.get("sub"):
        return all(own.entities.get(key) == value for key, value in wanted.items())
    # Without BIDS names any table of the folder would fit: the name itself must agree.
    stem = own.stem.removesuffix("_bold")
    return other.stem in (own.stem, stem) or other.stem.startswith((f"{own.stem}_", f"{stem}_"))


def _metadata(path: Path, own: NamedParts) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the keys of every JSON file that applies, the nearest and most special last."""
    found: list[Path] = []
    for folder in _folders(path):
        here = []
        for file in sorted(folder.glob("*.json")):
            parts = name_parts(file.name)
            fits = parts.suffix == own.suffix or parts.stem == own.stem
            if fits and _applies(own, parts):
                here.append((len(parts.entities), file))
        found = [file for _, file in sorted(here)] + found
    merged: dict[str, Any] = {}
    for file in found:
        try:
            value = json.loads(read_text(file))
        except ValueError as error:
            text = f"not JSON: {error}"
            raise IngestError("NOT_THIS_FORMAT", file, text, "correct the sidecar") from error
        if isinstance(value, dict):
            merged |= value
    return merged, tuple(str(file) for file in found)


def _one(candidates: list[tuple[int, Path]], path: Path, key: str) -> Path | None:
    """Return the most special candidate.

    Raises
    ------
    IngestError
        ``AMBIGUOUS_SIDECAR``: several fit equally well.
    """
    if not candidates:
        return None
    most = max(count for count, _ in candidates)
    best = [file for count, file in candidates if count == most]
    if len(best) > 1:
        names = ", ".join(file.name for file in best)
        text = f"several files fit as {key}: {names}"
        raise IngestError("AMBIGUOUS_SIDECAR", path, text, f"name one: `{key}` of the reader")
    return best[0]


def _events(path: Path, own: NamedParts) -> Path | None:
    for folder in _folders(path):
        fitting = []
        for file in sorted(folder.glob("*events.tsv")):
            parts = name_parts(file.name)
            if parts.suffix == "events" and _applies(own, parts, IMAGE_ENTITIES):
                fitting.append((len(parts.entities), file))
        if fitting:
            return _one(fitting, path, "events")
    return None


def _confounds(path: Path, own: NamedParts) -> Path | None:
    fitting = []
    for file in sorted(path.parent.glob("*confounds*.tsv")):
        parts = name_parts(file.name)
        known = parts.suffix in (*CONFOUND_SUFFIXES, "confounds")
        if known and _applies(own, parts, IMAGE_ENTITIES):
            fitting.append((len(parts.entities), file))
    return _one(fitting, path, "confounds")


def _mask(path: Path, own: NamedParts) -> Path | None:
    fitting = []
    for file in sorted(path.parent.glob("*brain_mask.nii*")):
        parts = name_parts(file.name)
        # A mask in another space has another shape; one without a space fits the plain image.
        same = parts.entities.get("space") == own.entities.get("space")
        if same and _applies(own, parts, ("desc",)):
            fitting.append((len(parts.entities), file))
    return _one(fitting, path, "mask")


def _given(name: str | None, path: Path, key: str) -> Path | None:
    if name is None:
        return None
    file = inside(Path(name), path.parent, path)
    if not file.is_file():
        raise ConfigError(f"{path}: {key}: {name!r} does not exist; correct the reader's settings")
    return file


def find_sidecars(
    path: Path, *, events: str | None, confounds: str | None, mask: str | None = None
) -> Sidecars:
    """Return the files that belong to an image; those named in the settings come first.

    Parameters
    ----------
    path : Path
        The image.
    events, confounds, mask : str or None
        Paths relative to the folder of the image; None: by BIDS names.

    Raises
    ------
    IngestError
        ``AMBIGUOUS_SIDECAR``, ``NOT_THIS_FORMAT``, or ``UNSAFE`` for a path out of the folder.
    ConfigError
        A named file does not exist.
    """
    own = name_parts(path.name)
    metadata, files = _metadata(path, own)
    found_events = _given(events, path, "events") or _events(path, own)
    found_confounds = _given(confounds, path, "confounds") or _confounds(path, own)
    issues = []
    if not files and own.entities.get("sub"):
        text = "no JSON beside it; the header alone states the repetition time"
        issues.append(Issue("MISSING_SIDECAR", f"{path}: JSON", text, "is it left out?", "info"))
    if found_events is None and not own.entities.get("task", "").lower().startswith("rest"):
        text = "no events table beside it; the store has no events"
        hint = "`events` of the reader names one"
        issues.append(Issue("MISSING_SIDECAR", f"{path}: events", text, hint))
    if found_confounds is None:
        text = "no confounds table beside it; motion cannot be regressed out"
        hint = "`confounds` of the reader names one"
        issues.append(Issue("MISSING_SIDECAR", f"{path}: confounds", text, hint))
    return Sidecars(
        metadata=metadata,
        events=found_events,
        confounds=found_confounds,
        mask=_given(mask, path, "mask") or _mask(path, own),
        files=files,
        issues=tuple(issues),
    )
