"""Find recordings in files and folders and propose rows of the recordings table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from neuropipe.errors import IngestError, Issue
from neuropipe.io.bids.recordings import (
    SUFFIXES,
    Candidate,
    bids_candidates,
    candidate_issues,
    is_bids_root,
    is_inside_bids,
    is_side_table,
)
from neuropipe.io.bids.tree import bids_name, bids_root
from neuropipe.io.checks import refuse_pointers
from neuropipe.io.registry import Reader, ReaderMatch, readers

__all__ = ["ScanResult", "scan"]

SKIPPED_SUFFIXES = (".zarr",)
# Characters of a first line that are looked at.
_HEADER = 10_000


@dataclass(frozen=True)
class ScanResult:
    """What a scan found.

    Attributes
    ----------
    rows : list of dict
        Columns of the recordings table, sorted by path; absent values are ``""``.
    issues : list of Issue
        Files that no or several readers recognise, and entities that the user has to fill in.
    """

    rows: list[dict[str, str]]
    issues: list[Issue]


def _hits(candidate: Candidate, known: Iterable[Reader]) -> list[ReaderMatch]:
    """Return what the readers make of a candidate; its name in a BIDS tree settles the modality."""
    modality = candidate.modality
    fitting = [reader for reader in known if modality is None or modality in reader.modalities]
    found = []
    for reader in fitting:
        with suppress(IngestError):  # `_problem` tells what is wrong, if no other recognises it
            found.append(reader.matches(candidate.path))
    hits = [hit for hit in found if hit is not None]
    hits = [hit for hit in hits if hit.sure] or hits
    return hits if modality is None else [replace(hit, modality=modality) for hit in hits]


def _visit(path: Path, known: list[Reader]) -> Iterator[tuple[Candidate, list[ReaderMatch]]]:
    """Yield every file and every folder that is a recording by itself, in sorted order.

    A folder that a reader recognises is not entered; of a BIDS data set only those files are
    looked at that are recordings by their names, of other folders not the tables beside them.
    """
    if not path.is_dir():
        candidate = Candidate(path, _stated_modality(path))
        yield candidate, _hits(candidate, known)
        return
    if is_bids_root(path) or is_inside_bids(path):
        for candidate in bids_candidates(path):
            yield candidate, _hits(candidate, known)
        return
    candidate = Candidate(path, _stated_modality(path))
    hits = _hits(candidate, known)
    if hits:
        yield candidate, hits
        return
    for child in sorted(path.iterdir()):
        hidden = child.name.startswith(".") or child.suffix in SKIPPED_SUFFIXES
        if not hidden and not is_side_table(child):
            yield from _visit(child, known)


def _stated_modality(path: Path) -> str | None:
    """Return the modality that the name of a path inside a BIDS tree states."""
    name = bids_name(path)
    if name is None or name.suffix not in SUFFIXES or bids_root(path) is None:
        return None
    return SUFFIXES[name.suffix]


def _problem(candidate: Candidate, known: list[Reader]) -> Issue | None:
    """Return why a file that looks like data is no recording, or None for any other file."""
    path, modality = candidate.path, candidate.modality
    extensions = {extension for reader in known for extension in reader.extensions if extension}
    if modality is None and path.suffix.lower() not in extensions:
        return None
    try:
        refuse_pointers(path)
        for reader in known:
            reader.matches(path)
    except IngestError as error:
        return Issue(error.code, str(path), error.message, error.hint)
    if modality is not None:
        message = f"a recording of {modality} by its name, but no reader recognises it"
        return Issue("NOT_THIS_FORMAT", str(path), message, "is it damaged, or another format?")
    if _lists_connections(path):
        message = "a table of connections by its header"
        hint = "name it under `ingest.connectomes` of the configuration"
        return Issue("NOT_THIS_FORMAT", str(path), message, hint, "info")
    message = "no reader recognises it"
    return Issue("NOT_THIS_FORMAT", str(path), message, "is it a table beside the data?", "info")


def _lists_connections(path: Path) -> bool:
    """Return whether the header of a text table names a sender and a receiver."""
    from neuropipe.io.connectome.tables import POST_COLUMNS, PRE_COLUMNS

    if path.suffix.lower() not in (".csv", ".tsv"):
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as stream:
        header = {word.strip().lower() for word in re.split(r"[,\t]", stream.readline(_HEADER))}
    return bool(header & set(PRE_COLUMNS)) and bool(header & set(POST_COLUMNS))


def _row(hit: ReaderMatch, several: bool) -> tuple[dict[str, str], list[Issue]]:
    row = {"path": str(hit.path), "modality": hit.modality, "reader": hit.reader, **hit.entities}
    issues = list(hit.issues)
    if several:
        row["reader"] = ""
    if not hit.entities.get("subject"):
        row["subject"] = ""
        message = "neither the name nor the header states a subject"
        hint = "fill the column `subject`; a generated id would be a guess"
        issues.append(Issue("NO_SUBJECT", str(hit.path), message, hint))
    if hit.assumed and hit.path.stem.rpartition("_")[2].lower() != hit.modality:
        message = f"nothing in it says what it holds; proposed as {hit.modality}"
        hint = "correct the columns `modality` and `reader`, or remove the row"
        issues.append(Issue("MODALITY_ASSUMED", str(hit.path), message, hint))
    return row, issues


def _several(path: Path, hits: list[ReaderMatch]) -> Issue:
    names = " and ".join(repr(hit.reader) for hit in hits)
    message = f"the readers {names} both match"
    return Issue("SEVERAL_READERS", str(path), message, "name one in the column `reader`")


def _clashes(rows: list[dict[str, str]]) -> list[Issue]:
    """Return an issue per set of rows whose entities do not tell them apart."""
    keys = ("subject", "session", "task", "acq", "run", "modality")
    groups: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        if row["subject"]:
            groups.setdefault(tuple(row.get(key, "") for key in keys), []).append(row["path"])
    hint = "tell them apart by session, task, acq or run"
    return [
        Issue("SAME_ENTITIES", paths[0], f"same entities as {', '.join(paths[1:])}", hint)
        for paths in groups.values()
        if len(paths) > 1
    ]


def scan(paths: Iterable[Path | str]) -> ScanResult:
    """Probe files and folders; headers are read, signals never.

    Parameters
    ----------
    paths : iterable of path
        Files, or folders to search; stores and hidden files are passed over.

    Returns
    -------
    ScanResult
        One row per recording that a reader recognises. Entities come from BIDS-like names and,
        for NWB, from the header; what nobody states stays blank with an issue.
    """
    known = [reader for reader in readers().values() if not reader.stated_only]
    rows: list[dict[str, str]] = []
    issues: list[Issue] = []
    for start in paths:
        for candidate, hits in _visit(Path(start), known):
            if not hits:
                problem = _problem(candidate, known)
                issues += [problem] if problem is not None else []
                continue
            found, told = _rows(candidate, hits)
            rows += found
            issues += told
    return ScanResult(rows, issues + _clashes(rows))


def _rows(
    candidate: Candidate, hits: list[ReaderMatch]
) -> tuple[list[dict[str, str]], list[Issue]]:
    """Return the rows of one file: one, or one per modality that an NWB file holds."""
    path = candidate.path
    empty = [issue for hit in hits for issue in hit.issues if issue.code == "EMPTY"]
    if empty:
        return [], empty
    by_modality = {hit.modality: hit for hit in hits}
    if path.suffix.lower() == ".nwb" and len(by_modality) == len(hits):
        pairs = [_row(hit, several=False) for hit in hits]
    else:
        pairs = [_row(hits[0], len(hits) > 1)]
    issues = [_several(path, hits)] if len(hits) > len(pairs) else []
    issues += [issue for _, told in pairs for issue in told]
    return [row for row, _ in pairs], [*issues, *candidate_issues(candidate)]
