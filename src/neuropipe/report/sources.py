"""Files of a study as the page needs them; a missing or damaged file is never an error."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuropipe.errors import Issue
from neuropipe.report.markup import data_uri, href

if TYPE_CHECKING:
    from neuropipe.report.anonymise import Names

__all__ = [
    "Figure",
    "Link",
    "Table",
    "read_figures",
    "read_issues",
    "read_json",
    "read_links",
    "read_maps",
    "read_table",
    "read_text",
    "shrink_svg",
]

MAX_SVG_BYTES = 400_000
MAX_TABLE_ROWS = 200
SEVERITIES = ("error", "warning", "info")
# CSS pixels per unit of an SVG's width; figures are shown a quarter larger than printed.
_UNITS = {"pt": 96 / 72, "px": 1.0, "": 1.0, "mm": 96 / 25.4, "in": 96.0}
_ENLARGE = 1.25


@dataclass(frozen=True)
class Link:
    """A file beside the page; ``href`` is empty when it must not be named."""

    text: str
    href: str


@dataclass(frozen=True)
class Figure:
    """A picture with its caption; ``uri`` is empty when it is linked, not embedded."""

    slug: str
    title: str
    caption: str
    uri: str
    width: int
    height: int
    links: tuple[Link, ...]


@dataclass(frozen=True)
class Table:
    """A table of texts; rows are left out when there are more than the page shows."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    n_rows: int
    links: tuple[Link, ...] = ()

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Tell for each column whether it holds numbers only."""
        return tuple(
            all(_is_number(row[n]) or not row[n] for row in self.rows)
            and any(row[n] for row in self.rows)
            for n in range(len(self.columns))
        )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def read_text(path: Path) -> str:
    """Return the text of a file, or "" when there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object; {} when absent, and with an issue when it cannot be read."""
    text = read_text(path)
    if not text:
        return {}
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        return _damaged(path, f"not JSON: {error}")
    if isinstance(value, list):
        return {"figures": value}
    return value if isinstance(value, dict) else _damaged(path, "expected a JSON object")


def _damaged(path: Path, message: str) -> dict[str, Any]:
    hint = "Delete the file and run the workflow again."
    return {"issues": [{"code": "DAMAGED_FILE", "path": path.name, "message": message,
                        "hint": hint, "severity": "error"}]}  # fmt: skip


def read_issues(*entries: Any) -> tuple[Issue, ...]:
    """Return issues (JSON text or lists of objects) once each, worst first."""
    found: dict[Issue, None] = {}
    for entry in entries:
        if isinstance(entry, str):
            try:
                entry = json.loads(entry or "[]")
            except json.JSONDecodeError:
                entry = [{"code": "ISSUE", "message": entry}]
        for item in entry or ():
            found[_issue(item)] = None
    return tuple(sorted(found, key=lambda issue: SEVERITIES.index(issue.severity)))


def _issue(item: Any) -> Issue:
    if not isinstance(item, dict):
        return Issue("ISSUE", "", str(item))
    severity = item.get("severity", "warning")
    return Issue(
        code=str(item.get("code", "ISSUE")),
        path=str(item.get("path", "")),
        message=str(item.get("message", "")),
        hint=str(item.get("hint", "")),
        severity=severity if severity in SEVERITIES else "warning",
    )


def read_links(root: Path, folder: str, names: Sequence[str]) -> tuple[Link, ...]:
    """Return links to the named files that exist, called by their suffix."""
    return tuple(
        Link(Path(name).suffix[1:].upper() or name, href(folder, name))
        for name in names
        if (root / folder / name).is_file()
    )


def read_table(root: Path, path: str, names: Names, limit: int = MAX_TABLE_ROWS) -> Table | None:
    """Return a TSV file, with its rows unless there are more than `limit`; None when absent."""
    text = read_text(root / path)
    if not text.strip():
        return None
    lines = list(csv.reader(text.splitlines(), delimiter="\t"))
    columns = lines[0]
    width = len(columns)
    rows = [(line + [""] * width)[:width] for line in lines[1:] if line]
    subject = [n for n, column in enumerate(columns) if re.fullmatch(r"subjects?(_\d)?", column)]
    for row in rows:
        for n in subject:
            row[n] = names.listed(row[n])
    shown = rows if len(rows) <= limit else []
    return Table(
        tuple(columns), tuple(map(tuple, shown)), len(rows), (Link(Path(path).name, href(path)),)
    )


def read_figures(root: Path, folder: str, names: Names) -> tuple[str, tuple[Figure, ...]]:
    """Return the headline and the figures that ``figures.json`` of a folder lists, in order."""
    listing = read_json(root / folder / "figures.json")
    figures = []
    for entry in listing.get("figures") or ():
        if isinstance(entry, dict) and entry.get("slug"):
            figures.append(_figure(root, folder, entry, names))
    return str(listing.get("headline") or ""), tuple(figures)


def read_maps(root: Path, folder: str) -> tuple[str, ...]:
    """Return the names of the images for other programs that ``figures.json`` lists."""
    listed = read_json(root / folder / "figures.json").get("maps")
    names = [str(name) for name in listed] if isinstance(listed, list) else []
    return tuple(name for name in names if Path(name).name == name)


def _figure(root: Path, folder: str, entry: dict[str, Any], names: Names) -> Figure:
    slug = str(entry["slug"])
    stem = f"fig-{slug}"
    uri, width, height = _picture(root / folder, stem, names)
    return Figure(
        slug=slug,
        title=str(entry.get("title") or slug),
        caption=str(entry.get("caption") or ""),
        uri=uri,
        width=width,
        height=height,
        links=read_links(root, folder, [f"{stem}.{s}" for s in ("svg", "png", "pdf", "tsv")]),
    )


def _picture(folder: Path, stem: str, names: Names) -> tuple[str, int, int]:
    """Return address and size of a picture: the SVG, or the PNG when the SVG is large.

    A PNG cannot be searched for the names of subjects, so it is not used when they are hidden.
    """
    svg, png = folder / f"{stem}.svg", folder / f"{stem}.png"
    use_png = png.is_file() and not names.hidden
    if svg.is_file() and (svg.stat().st_size <= MAX_SVG_BYTES or not use_png):
        if svg.stat().st_size > 5 * MAX_SVG_BYTES:
            return "", 0, 0
        content = shrink_svg(names.svg(svg.read_bytes()))
        return data_uri(content, "image/svg+xml"), *_svg_size(content)
    if use_png:
        content = png.read_bytes()
        return data_uri(content, "image/png"), *_png_size(content)
    return "", 0, 0


def shrink_svg(content: bytes) -> bytes:
    """Return an SVG with the coordinates of its paths rounded to 0.01 point."""

    def rounded(match: re.Match[bytes]) -> bytes:
        return f"{float(match[0]):.2f}".rstrip("0").rstrip(".").encode()

    def path(match: re.Match[bytes]) -> bytes:
        return re.sub(rb"-?\d+\.\d{3,}", rounded, match[0])

    return re.sub(rb'\sd="[^"]*"', path, content)


def _svg_size(content: bytes) -> tuple[int, int]:
    head = re.search(rb"<svg\b[^>]*>", content)
    text = head[0].decode("utf-8", "replace") if head else ""
    sizes = []
    for key in ("width", "height"):
        match = re.search(rf'\b{key}="([\d.]+)(pt|px|mm|in|)"', text)
        sizes.append(round(float(match[1]) * _UNITS[match[2]] * _ENLARGE) if match else 0)
    return sizes[0], sizes[1]


def _png_size(content: bytes) -> tuple[int, int]:
    # Pixels at 200 dpi, the resolution of our rasters, to CSS pixels.
    width, height = (int.from_bytes(content[n : n + 4], "big") for n in (16, 20))
    return round(width * 0.48 * _ENLARGE), round(height * 0.48 * _ENLARGE)
