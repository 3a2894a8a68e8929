"""Numbers, names and paragraphs of the page as safe HTML."""

from __future__ import annotations

import base64
import functools
import hashlib
import math
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = [
    "anchor",
    "asset",
    "content_hash",
    "data_uri",
    "environment",
    "format_duration",
    "format_number",
    "href",
    "methods_html",
]

DASH = "\N{EN DASH}"
_CODE = re.compile(r"`([^`]+)`")
_STRONG = re.compile(r"\*\*([^*]+)\*\*")
_EMPHASIS = re.compile(r"(?<![\w*])\*([^*\s][^*]*)\*(?![\w*])")
_LINK = re.compile(r"\[([^\]]+)\]\((https?://[^)\s]+)\)")
_BARE_LINK = re.compile(r"(?<![\"=>;])\bhttps?://[^\s<>\")]+[^\s<>\").,;]")
_ITEM = re.compile(r"^\s*(?:[-*+]|\d+[.)])\s+")


def anchor(*words: str) -> str:
    """Return an id for use in ``#...``: letters, digits, ``-`` and ``_`` only.

    Text that had to change gets a short hash, so that two texts never share an id.

    >>> anchor("run", "ntf", "cohort-worm")
    'run--ntf--cohort-worm'
    """
    text = "--".join(words)
    clean = re.sub(r"[^A-Za-z0-9_-]+", "-", text)
    if clean == text:
        return clean
    return f"{clean}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def href(*parts: str) -> str:
    """Return a percent-encoded relative link from the page's folder into the study folder."""
    return "../" + "/".join(quote(part, safe="/") for part in parts)


def data_uri(content: bytes, mime: str) -> str:
    """Return bytes as a ``data:`` address."""
    return f"data:{mime};base64,{base64.b64encode(content).decode('ascii')}"


def content_hash(text: str) -> str:
    """Return the hash of an inline script or style in the form of a content security policy."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return "'sha256-" + base64.b64encode(digest).decode("ascii") + "'"


def format_number(value: Any) -> str:
    """Return a number with four significant digits; other values as text.

    >>> format_number(0.123456), format_number("12"), format_number("AVAL")
    ('0.1235', '12', 'AVAL')
    """
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "null"}[value]
    if isinstance(value, int):
        return str(value)
    text = str(value)
    if re.fullmatch(r"[+-]?\d+", text):
        return text
    try:
        number = float(text)
    except ValueError:
        return text
    if not math.isfinite(number):
        return DASH if math.isnan(number) else text
    return f"{number:.4g}"


def format_duration(seconds: Any) -> str:
    """Return seconds in the largest sensible unit.

    >>> format_duration(5400), format_duration(75), format_duration(None)
    ('1.5 h', '1 min 15 s', '–')
    """
    if not isinstance(seconds, int | float) or not math.isfinite(seconds):
        return DASH
    if seconds < 60:
        return f"{seconds:.3g} s"
    if seconds < 3600:
        minutes, rest = divmod(round(seconds), 60)
        if minutes >= 10:
            return f"{round(seconds / 60)} min"
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{seconds / 3600:.3g} h"


def _inline(text: str) -> str:
    """Mark up one escaped line."""
    text = _LINK.sub(r'<a href="\2">\1</a>', text)
    text = _BARE_LINK.sub(lambda match: f'<a href="{match[0]}">{match[0]}</a>', text)
    text = _CODE.sub(r"<code>\1</code>", text)
    text = _STRONG.sub(r"<strong>\1</strong>", text)
    return _EMPHASIS.sub(r"<em>\1</em>", text)


def _block(block: str) -> str:
    lines = [line for line in block.split("\n") if line.strip()]
    heading = re.match(r"#{1,6}\s+(.*)", lines[0])
    if heading:
        rest = _block("\n".join(lines[1:])) if lines[1:] else ""
        return f"<p><strong>{_inline(heading[1])}</strong></p>{rest}"
    first = next((n for n, line in enumerate(lines) if _ITEM.match(line)), None)
    if first is None:
        return f"<p>{_inline(' '.join(lines))}</p>"
    items: list[str] = []
    for line in lines[first:]:
        if _ITEM.match(line):
            items.append(_ITEM.sub("", line))
        else:
            items[-1] += " " + line.strip()
    before = f"<p>{_inline(' '.join(lines[:first]))}</p>" if first else ""
    return before + "<ul>" + "".join(f"<li>{_inline(item)}</li>" for item in items) + "</ul>"


def methods_html(text: str) -> Markup:
    """Return the small part of Markdown that methods texts use as HTML; all else is escaped.

    Headings, paragraphs, lists, ``code``, *emphasis*, **strong** and http links.
    """
    escaped = str(escape(text.strip()))
    blocks = [block for block in re.split(r"\n\s*\n", escaped) if block.strip()]
    return Markup("\n".join(_block(block) for block in blocks))


@functools.cache
def asset(name: str) -> str:
    """Return the text of a shipped asset."""
    from importlib.resources import files

    return (files("neuropipe.report") / "assets" / name).read_text(encoding="utf-8")


def environment() -> Environment:
    """Return the template environment: everything escaped, unknown names are errors."""
    import jinja2

    from neuropipe.report.charts import marker, panel_svg

    def load(name: str) -> str | None:
        return asset(name) if name.endswith(".j2") else None

    result = jinja2.Environment(
        loader=jinja2.FunctionLoader(load),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    result.filters.update(
        number=format_number,
        duration=format_duration,
        methods=methods_html,
        panel=panel_svg,
    )
    result.globals["marker"] = marker
    return result
