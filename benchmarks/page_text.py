"""The text of docs/benchmarks.md, made of the catalogue and of the records alone."""

from __future__ import annotations

import re
from itertools import groupby
from typing import Any

from claims import ROOT, Claim, Find, Section, measured, texts, transcribed
from growth_plots import draw, series

PAGE = ROOT / "docs" / "benchmarks.md"
FIGURES = PAGE.parent / "figures"
NONE = "\N{EN DASH}"

INTRO = """<!-- Written by `make benchmarks` from benchmarks/claims.toml and benchmarks/records. -->

# Benchmarks

Each claim has a command, which pairs us with a peer in one run where there is one. `make
benchmarks` runs all of them and writes this page; `make benchmarks ONLY="ntf trsa-speed"` runs
sections or single claims and leaves the records of the others as they are; `ONLY=--page` runs
nothing. Commands get one thread. `DATA` is a folder of public recordings.

Where a claim has a record, its date, commit, machine, versions and load stand with its figures.
Figures marked *transcribed* were measured before there were records and are carried over as they
were written down; their date and commit are those of the text, not of the run, and they have not
been measured again. Of those, and of the peers in general:
"""


def shown(find: Find, text: str) -> str:
    """Return what patterns take out of a text, parted by semicolons."""
    if not isinstance(find, str):
        return "; ".join(filter(None, (_picked(one, text) for one in find)))
    found = [match.groups() for match in re.finditer(find, text, re.MULTILINE)]
    return "; ".join(" ".join(" ".join(group).split()).replace(" ,", ",") for group in found)


def _picked(one: dict[str, str], text: str) -> str:
    """Return the least or the most of the numbers that a pattern finds, with its label."""
    found = re.findall(one["find"], text, re.MULTILINE)
    pick = {"least": min, "most": max}[one["pick"]]
    return f"{one['label']} {pick(found, key=float)}" if found else ""


def figures(claim: Claim) -> tuple[str, str, str]:
    """Return our figure, the peer's, and when both were measured or written down."""
    old = transcribed(claim.section).get(claim.id, {})
    if not (found := measured(claim)):
        when = f"*transcribed*, {old['written']}" if old else "not yet"
        verdict = f"; **{old['verdict']}**" if "verdict" in old else ""
        return old.get("ours", NONE) + verdict, old.get("peer", NONE), when
    text = "\n".join(found["output"])
    ours, their = (shown(one, text) if one else "" for one in (claim.ours, claim.their))
    missed = text.count("MISSED")
    ours = (ours or "below") + (f"; **{missed} missed**" if missed else "")
    return ours, their or NONE, f"{found['date']}, {found['commit']}"


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def overview(sections: tuple[Section, ...]) -> list[str]:
    """Return the table of all claims."""
    lines = []
    for section in sections:
        lines += ["", f"**{section.title}**", ""]
        lines += [
            "| claim | demand | our figure | peer's figure | measured |",
            "|---|---|---|---|---|",
        ]
        for claim in section.claims:
            link = f"[{claim.title}](#{claim.anchor}): {claim.claim}"
            ours, their, when = figures(claim)
            row = (link, claim.demand or NONE, ours, their, when)
            lines.append("| " + " | ".join(map(cell, row)) + " |")
    return lines


def provenance(found: dict[str, Any]) -> str:
    """Return date, commit, cost, machine and versions of a run as a sentence."""
    machine = found["machine"]
    changed = " with changes" if found["uncommitted"] else ""
    names = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    return (
        f"Measured {found['date']} on {found['commit']}{changed}: {found['cpu_s']} CPU s in all, "
        f"peak {found['peak_mb']} MB, load {found['load'][0]} to {found['load'][1]}; "
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB, "
        f"{machine['system']}; {names}."
    )


def printed(lines: list[str]) -> list[str]:
    """Return printed lines: tables as tables, everything else as it stood."""
    shown_lines: list[str] = []
    for table, part in groupby(lines, key=lambda line: line.startswith("|")):
        body = list(part)
        while body and not body[0]:
            body.pop(0)
        while body and not body[-1]:
            body.pop()
        if body:
            shown_lines += ["", *body] if table else ["", "```text", *body, "```"]
    return shown_lines


def details(claim: Claim) -> list[str]:
    """Return the figures of one claim under its heading."""
    lines = ["", f"### {claim.title}", "", f"{claim.claim}."]
    lines[-1] += f" Demand: {claim.demand}." if claim.demand else ""
    lines[-1] += f" Beside: {claim.peer}." if claim.peer else ""
    lines += ["", f"`python benchmarks/{claim.command}` (about {claim.cpu_s:g} CPU s)"]
    old = transcribed(claim.section).get(claim.id)
    if found := measured(claim):
        lines += ["", provenance(found), *printed(found["output"])]
    if drawn := next((text for text in texts(claim) if series(claim, text)), ""):
        panels = ", ".join(row["panel"] for row in claim.rows)
        last = found and drawn == "\n".join(found["output"])
        source = "the last run" if last else "transcribed figures"
        what = "CPU seconds and memory" if "memory" in str(claim.rows) else "CPU seconds"
        alt = f"{claim.title}: {what} against {panels}, from {source}"
        lines += ["", f"![{alt}](figures/{claim.id}.svg)"]
    if old:
        before = ", older than the run above" if found else ""
        text = old["text"].strip()
        lines += ["", f"*Transcribed{before}; written down {old['written']}:*", "", text]
    elif not found:
        lines += ["", "Not measured yet."]
    return lines


def page(sections: tuple[Section, ...]) -> str:
    """Return the whole page."""
    lines = [INTRO.strip(), "", transcribed("page")["section"]["text"].strip(), "", "## Claims"]
    lines += overview(sections)
    for section in sections:
        lines += ["", f"## {section.title}"]
        if note := transcribed(section.id).get("section"):
            lines += ["", f"Of the transcribed figures: {note['text'].strip()}"]
        for claim in section.claims:
            lines += details(claim)
    return "\n".join(lines) + "\n"


def write_page(sections: tuple[Section, ...]) -> None:
    """Write the page and the plots of growth that it shows."""
    FIGURES.mkdir(exist_ok=True)
    for claim in (claim for section in sections for claim in section.claims):
        if found := next(filter(None, (series(claim, text) for text in texts(claim))), None):
            (FIGURES / f"{claim.id}.svg").write_bytes(draw(claim.title, found))
    PAGE.write_text(page(sections), encoding="utf-8")
