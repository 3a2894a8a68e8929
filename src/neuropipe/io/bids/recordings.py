"""Which files of a BIDS tree are recordings, found by their names alone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from neuropipe.errors import IngestError, Issue
from neuropipe.io.bids.tree import DESCRIPTION, BidsName, bids_name, sidecar, sidecars
from neuropipe.io.checks import refuse_pointers

__all__ = [
    "SUFFIXES",
    "Candidate",
    "bids_candidates",
    "candidate_issues",
    "is_bids_root",
    "is_inside_bids",
    "is_side_table",
]

SUFFIXES = {"eeg": "eeg", "meg": "meg", "ieeg": "ieeg", "bold": "fmri"}
# What lies beside a recording, and what is a part of one.
SIDECARS = (".tsv", ".json", ".tsv.gz", ".txt", ".md", ".bval", ".bvec", ".html", ".jpg", ".png")
PARTS = (".eeg", ".vmrk", ".fdt", ".dat")
NO_RECORDINGS = ("anat", "dwi", "fmap", "perf", "pet", "beh", "micr", "nirs", "mrs", "motion")
ASIDE = ("derivatives", "sourcedata", "code", "stimuli", "phenotype", "logs")
# Tables beside a recording that are called so outside of BIDS trees, too.
TABLES = ("events", "channels", "electrodes", "scans", "sessions", "regressors", "participants")
TABLE_EXTENSIONS = (".tsv", ".csv")
FOLDER_FORMATS = ("_meg.ds", "_meg")


@dataclass(frozen=True)
class Candidate:
    """A file or folder that may be a recording.

    Attributes
    ----------
    path : Path
        The file or folder.
    modality : str or None
        What its name says; None leaves it to the readers.
    """

    path: Path
    modality: str | None


def is_side_table(path: Path) -> bool:
    """Tell whether a name is that of a table of events, channels, confounds, ..., not of data."""
    stem = path.stem.lower()
    is_side = stem.rsplit("_", 1)[-1] in TABLES or "desc-confounds" in stem
    return is_side and path.suffix.lower() in TABLE_EXTENSIONS


def is_bids_root(folder: Path) -> bool:
    """Tell whether a folder is the root of a BIDS data set."""
    return (folder / DESCRIPTION).is_file()


def is_inside_bids(folder: Path) -> bool:
    """Tell whether a folder is that of a subject, session or datatype in a BIDS data set."""
    above = folder.absolute()
    depth = next((k for k, f in enumerate([above, *above.parents[:3]]) if _is_subject(f)), None)
    return depth is not None and is_bids_root(above.parents[depth])


def _is_subject(folder: Path) -> bool:
    return re.fullmatch(r"sub-[A-Za-z0-9+]+", folder.name) is not None


def bids_candidates(root: Path) -> Iterator[Candidate]:
    """Yield what may be recordings below the root of a BIDS tree or a folder in it, in order.

    Sidecars, images of anatomy, parts of a recording and later parts of a split one are passed
    over, and so are derivatives, which are data sets of their own.
    """
    for child in sorted(root.iterdir()):
        if child.name in ASIDE or child.name.startswith("."):
            continue
        yield from _below(child)


def _below(path: Path) -> Iterator[Candidate]:
    if path.is_dir():
        if path.name.startswith("sub-") and path.name.endswith(FOLDER_FORMATS):
            yield Candidate(path, "meg")
        elif path.name not in NO_RECORDINGS and path.suffix != ".zarr":
            for child in sorted(path.iterdir()):
                if not child.name.startswith("."):
                    yield from _below(child)
        return
    name = bids_name(path)
    if name is None or "sub" not in name.entities:
        if not path.name.endswith((*SIDECARS, *PARTS)) and path.suffix:
            yield Candidate(path, None)
        return
    if name.extension in SIDECARS or name.entities.get("split", "1").lstrip("0") not in ("", "1"):
        return
    if name.extension in PARTS and _has_main(path):
        return
    yield Candidate(path, SUFFIXES.get(name.suffix))


def _has_main(part: Path) -> bool:
    return any(part.with_suffix(extension).exists() for extension in (".vhdr", ".set"))


def candidate_issues(candidate: Candidate) -> list[Issue]:
    """Return what the names beside a recording already tell of its ingest.

    Sidecars that are missing, and parts whose data are elsewhere; nothing is read but the first
    bytes of files.
    """
    name = bids_name(candidate.path)
    if name is None or candidate.modality is None:
        return []
    try:
        return [*_parts(candidate.path), *_missing(name, candidate.modality)]
    except IngestError as error:
        return [Issue(error.code, error.path, error.message, error.hint, "error")]


def _parts(path: Path) -> list[Issue]:
    issues = []
    for extension in PARTS:
        part = path.with_suffix(extension)
        if part == path or not (part.is_file() or part.is_symlink()):
            continue
        try:
            refuse_pointers(part)
        except IngestError as error:
            issues.append(Issue(error.code, str(part), error.message, error.hint, "error"))
    return issues


def _missing(name: BidsName, modality: str) -> list[Issue]:
    if modality == "fmri":
        return []
    path, issues = str(name.path), []
    if sidecar(name.path, "channels", ".tsv") is None:
        if modality == "ieeg":
            text = "no channels.tsv states the types of its channels; it cannot be ingested"
            issues.append(Issue("MISSING_SIDECAR", path, text, "write the table", "error"))
        else:
            text = "no channels.tsv: types, units and bad channels are those of the header"
            issues.append(Issue("MISSING_SIDECAR", path, text, "", "info"))
    if modality == "ieeg" and not sidecars(name.path, "electrodes", ".tsv", free=("space",)):
        text = "no electrodes.tsv: positions of contacts are unknown"
        issues.append(Issue("MISSING_SIDECAR", path, text, "write the table"))
    return issues
