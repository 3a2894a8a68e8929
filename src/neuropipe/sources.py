"""Which files and which other stores a recording is made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from neuropipe.config.models import FmriPreprocess, IngestConfig
from neuropipe.config.recordings import Recording
from neuropipe.errors import ConfigError
from neuropipe.io.companions import Folders, companions
from neuropipe.study import Study

__all__ = ["atlas_files", "references", "source_files"]

_MAX_FOLDER_FILES = 2000


def source_files(
    root: Path, recording: Recording, ingest: IngestConfig, folders: Folders | None = None
) -> tuple[str, ...]:
    """Return the source files of a recording that exist, parts and sidecars among them.

    A folder stands for its files; paths are relative to `root`, the study folder; `folders` are
    listings that recordings share.

    A missing source is not an input: its own job then fails with a clear message, and the jobs of
    the other recordings run.
    """
    source = recording.source(root)
    if source.is_dir():
        files = sorted(p for p in source.rglob("*") if p.is_file() and p.name[0] != ".")
        files = [p for p in files if not set(p.name) & set("<>{}")]  # Snakemake's wildcards
        found = [str(Path(recording.path) / p.relative_to(source)) for p in files]
        found = found[:_MAX_FOLDER_FILES]
    else:
        found = [recording.path] if source.exists() else []
    beside = companions(root, recording.path, folders) if source.exists() else []
    found += [path for path in beside if not set(path) & set("<>{}")]
    for value in _texts(_reader_settings(ingest, recording)):
        if "." in value:
            named = Path(recording.path).parent / value
            if (root / named).is_file() and str(named) not in found:
                found.append(str(named))
    return tuple(found)


def _texts(value: Any) -> Iterator[str]:
    """Yield every text among settings, however deep: paths of tables are among them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for entry in value.values():
            yield from _texts(entry)


def references(study: Study, recording: Recording) -> list[Recording]:
    """Return the recordings whose events are the reference of a clock of this one.

    Raises
    ------
    ConfigError
        A recording that the study lacks, this one itself, or one that needs a reference too.
    """
    found = []
    for name in dict.fromkeys(_named_references(study.config.ingest.overrides, recording.name)):
        other = study.recording(name)
        where = f"ingest.overrides.{recording.name}: clock.reference.recording"
        if next(_named_references(study.config.ingest.overrides, name), None) is not None:
            raise ConfigError(
                f"{where}: {name} takes its own clock from another recording; name one that "
                "is on the session clock by itself"
            )
        if other.exclude:
            raise ConfigError(f"{where}: {name} is excluded in the recordings table")
        found.append(other)
    return found


def _named_references(overrides: Mapping[str, Any], name: str) -> Iterator[str]:
    """Yield the value of every ``reference.recording`` in the settings of a recording."""

    def walk(value: Any) -> Iterator[str]:
        for key, entry in value.items() if isinstance(value, Mapping) else ():
            if key == "reference" and isinstance(entry, Mapping):
                yield from [str(entry["recording"])] if entry.get("recording") else []
            else:
                yield from walk(entry)

    return walk(overrides.get(name, {}))


def atlas_files(root: Path, fmri: FmriPreprocess) -> tuple[str, ...]:
    """Return the files of the atlas of fMRI that are there; the step names one that is not."""
    atlas = fmri.parcellation
    named = (atlas.atlas, atlas.names) if atlas is not None else ()
    return tuple(path for path in named if path is not None and (root / path).exists())


def _reader_settings(ingest: IngestConfig, recording: Recording) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for name, settings in ingest.readers.items():
        if recording.reader in ("", name):
            merged |= settings
    return merged | ingest.overrides.get(recording.name, {})
