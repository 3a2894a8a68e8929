"""Find recordings in files and folders and propose rows of the recordings table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from neuropipe.errors import IngestError, Issue
from neuropipe.io.checks import refuse_pointers
from neuropipe.io.registry import Reader, ReaderMatch, readers

__all__ = ["ScanResult", "scan"]

SKIPPED_SUFFIXES = (".zarr",)


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


def _hits(path: Path, known: Iterable[Reader]) -> list[ReaderMatch]:
    found = []
    for reader in known:
        with suppress(IngestError):  # `_problem` tells what is wrong, if no other recognises it
            found.append(reader.matches(path))
    return [hit for hit in found if hit is not None]


def _visit(path: Path, known: list[Reader]) -> Iterator[tuple[Path, list[ReaderMatch]]]:
    """Yield every file and every folder that is a recording by itself, in sorted order.

    A folder that a reader recognises is not entered.
    """
    if path.is_dir():
        hits = _hits(path, known)
        if hits:
            yield path, hits
            return
        for child in sorted(path.iterdir()):
            if not child.name.startswith(".") and child.suffix not in SKIPPED_SUFFIXES:
                yield from _visit(child, known)
        return
    yield path, _hits(path, known)


def _problem(path: Path, known: list[Reader]) -> Issue | None:
    """Return why a file that looks like data is no recording, or None for any other file."""
    extensions = {extension for reader in known for extension in reader.extensions if extension}
    if path.suffix.lower() not in extensions:
        return None
    try:
        refuse_pointers(path)
        for reader in known:
            reader.matches(path)
    except IngestError as error:
        return Issue(error.code, str(path), error.message, error.hint)
    message = "no reader recognises it"
    return Issue("NOT_THIS_FORMAT", str(path), message, "is it a table beside the data?", "info")


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
    known = list(readers().values())
    rows: list[dict[str, str]] = []
    issues: list[Issue] = []
    for start in paths:
        for path, hits in _visit(Path(start), known):
            if not hits:
                problem = _problem(path, known)
                issues += [problem] if problem is not None else []
                continue
            if len(hits) > 1:
                issues.append(_several(path, hits))
            row, found = _row(hits[0], len(hits) > 1)
            rows.append(row)
            issues += found
    return ScanResult(rows, issues + _clashes(rows))
