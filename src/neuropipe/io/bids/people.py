"""Who was recorded and when: participants.tsv, sessions.tsv and scans.tsv."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from neuropipe.errors import Issue
from neuropipe.io.bids.tables import Table, read_json, read_table
from neuropipe.io.bids.tree import bids_name, bids_root
from neuropipe.io.delimited import is_number

__all__ = ["People", "people_of"]

SEXES = {"m": "M", "male": "M", "f": "F", "female": "F", "o": "O", "other": "O", "u": "U"}
SPECIES = {
    "human": "Homo sapiens",
    "mouse": "Mus musculus",
    "rat": "Rattus norvegicus",
    "macaque": "Macaca mulatta",
}
AGE_UNITS = {"year": "Y", "month": "M", "week": "W", "day": "D"}


@dataclass
class People:
    """What the tables state.

    Attributes
    ----------
    attrs : dict
        Root attributes: ``sex``, ``age`` (ISO 8601), ``species``, ``session_start``.
    files : list of Path
        Files that were read.
    issues : list of Issue
        What could not be used.
    """

    attrs: dict[str, Any] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)


def people_of(path: Path) -> People:
    """Return what the tables of a BIDS tree state of one data file.

    Raises
    ------
    IngestError
        ``ENCODING`` or ``NOT_THIS_FORMAT`` of a table.
    """
    name, root = bids_name(path), bids_root(path)
    found = People()
    if name is None or root is None:
        return found
    subject, session = f"sub-{name.entities['sub']}", name.entities.get("ses")
    table = _table(root / "participants.tsv", "participant_id", found)
    person = table.row_of("participant_id", subject) if table is not None else {}
    if table is not None and not person:
        text = f"no row of {subject}"
        found.issues.append(Issue("NOT_LISTED", str(table.path), text, "add the row"))
    visits = _table(root / subject / f"{subject}_sessions.tsv", "session_id", found)
    visit = visits.row_of("session_id", f"ses-{session}") if visits is not None else {}
    _describe(found, root, {**person, **{k: v for k, v in visit.items() if v}})
    start = _scan_time(path, root, found) or visit.get("acq_time", "")
    if start:
        _note_start(found, start, path)
    return found


def _table(path: Path, key: str, found: People) -> Table | None:
    if not path.is_file():
        return None
    found.files.append(path)
    return read_table(path, (key,))


def _describe(found: People, root: Path, person: dict[str, str]) -> None:
    where = str(root / "participants.tsv")
    if sex := person.get("sex", "").lower():
        if sex in SEXES:
            found.attrs["sex"] = SEXES[sex]
        else:
            found.issues.append(Issue("VOCABULARY", where, f"sex {person['sex']!r} is unknown"))
    if age := person.get("age", ""):
        _note_age(found, root, age)
    species = person.get("species", "")
    found.attrs["species"] = SPECIES.get(species.lower(), species) or SPECIES["human"]
    if not species:
        text = "no species is stated, which in BIDS means Homo sapiens"
        found.issues.append(Issue("SPECIES_ASSUMED", where, text, "", "info"))


def _note_age(found: People, root: Path, age: str) -> None:
    if age.upper().startswith("P") and any(digit.isdigit() for digit in age):
        found.attrs["age"] = age
        return
    path = root / "participants.json"
    stated = read_json(path).get("age", {}) if path.is_file() else {}
    found.files += [path] if path.is_file() else []
    unit = str(stated.get("Units", "year") if isinstance(stated, dict) else "year")
    letter = AGE_UNITS.get(unit.strip().lower().rstrip("s"))
    if letter is None or not is_number(age):
        text = f"age {age!r} in {unit!r} is no number of years, months, weeks or days; left out"
        found.issues.append(Issue("AGE", str(root / "participants.tsv"), text, "correct it"))
        return
    found.attrs["age"] = f"P{float(age):g}{letter}"


def _scan_time(path: Path, root: Path, found: People) -> str:
    """Return the time that the table of scans states for a file, which it names by its place."""
    for folder in path.absolute().parents:
        if not folder.is_relative_to(root):
            break
        for table in sorted(folder.glob("sub-*_scans.tsv")):
            rows = _table(table, "filename", found)
            place = path.absolute().relative_to(folder).as_posix()
            if rows is not None:
                return rows.row_of("filename", place).get("acq_time", "")
    return ""


def _note_start(found: People, text: str, path: Path) -> None:
    where = f"{path}: acq_time"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        issue = Issue("BAD_SESSION_START", where, f"{text!r} is not ISO 8601; left out")
        found.issues.append(issue)
        return
    if moment.tzinfo is None:
        message = f"{text!r} has no UTC offset, which BIDS does not ask for; left out"
        hint = "state it in the column `session_start` of the recordings table"
        found.issues.append(Issue("NAIVE_SESSION_START", where, message, hint, "info"))
        return
    found.attrs["session_start"] = moment.isoformat()
