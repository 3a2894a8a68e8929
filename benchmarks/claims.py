"""The catalogue of claims and what is known of each: records of runs, transcribed figures."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RECORDS = HERE / "records"
TRANSCRIBED = RECORDS / "transcribed"
Find = str | list[dict[str, str]]


@dataclass(frozen=True)
class Claim:
    """One entry of the catalogue."""

    id: str
    title: str
    claim: str
    command: str
    cpu_s: float
    section: str
    demand: str = ""
    peer: str = ""
    packages: tuple[str, ...] = ()
    ours: Find = ""
    their: Find = ""
    rows: tuple[dict[str, Any], ...] = ()

    @property
    def record(self) -> Path:
        """File of the last run."""
        return RECORDS / f"{self.id}.json"

    @property
    def anchor(self) -> str:
        """Link to the heading of its figures."""
        return re.sub(r"[^\w-]", "", self.title.lower().replace(" ", "-"))


@dataclass(frozen=True)
class Section:
    """A part of the page with its claims."""

    id: str
    title: str
    claims: tuple[Claim, ...]


def catalogue(path: Path = HERE / "claims.toml") -> tuple[Section, ...]:
    """Return the sections of the catalogue in the order of the page."""
    sections = []
    for given in tomllib.loads(path.read_text(encoding="utf-8"))["section"]:
        fields = [one | {"section": given["id"]} for one in given["claim"]]
        tuples = ("packages", "rows")
        claims = [Claim(**one | {k: tuple(one.get(k, ())) for k in tuples}) for one in fields]
        sections.append(Section(given["id"], given["title"], tuple(claims)))
    return tuple(sections)


def transcribed(section: str) -> dict[str, dict[str, str]]:
    """Return the figures of a section that were written down by hand, by claim."""
    path = TRANSCRIBED / f"{section}.toml"
    return tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def measured(claim: Claim) -> dict[str, Any]:
    """Return the record of a claim's last run; empty without one."""
    path = claim.record
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def texts(claim: Claim) -> Iterable[str]:
    """Return what a claim's figures are read from, the last run first."""
    if found := measured(claim):
        yield "\n".join(found["output"])
    if text := transcribed(claim.section).get(claim.id, {}).get("text"):
        yield text
