"""Sentences that the methods paragraphs of all analyses share."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["changed_sentence", "changed_settings", "counted", "paragraph", "software_sentence"]


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def changed_settings(settings: BaseModel, defaults: BaseModel | None = None) -> dict[str, Any]:
    """Return the settings that differ from the defaults, by dotted key.

    Parameters
    ----------
    settings : pydantic.BaseModel
        Settings of an analysis.
    defaults : pydantic.BaseModel, optional
        What to compare with; without it, the settings' class with no argument.
    """
    known = dict(_flat((type(settings)() if defaults is None else defaults).model_dump()))
    found = _flat(settings.model_dump())
    return {key: value for key, value in found if key not in known or value != known[key]}


def _written(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def changed_sentence(settings: BaseModel, defaults: BaseModel | None = None) -> str:
    """Return a sentence on the settings that differ from the defaults; as `changed_settings`."""
    changed = changed_settings(settings, defaults)
    if not changed:
        return "All settings were at their defaults."
    listed = "; ".join(f"{key} = {_written(value)}" for key, value in changed.items())
    return f"Settings that differ from the defaults: {listed}."


def software_sentence(attrs: Mapping[str, Any]) -> str:
    """Return a sentence on the software of a result, from its attribute ``versions`` (JSON)."""
    versions = json.loads(attrs.get("versions", "{}") or "{}")
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"Software: {listed}." if listed else ""


def counted(count: int, noun: str) -> str:
    """Return a number with its noun.

    Examples
    --------
    >>> counted(1, "trial"), counted(3, "trial")
    ('1 trial', '3 trials')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


def paragraph(parts: tuple[str, ...], references: Mapping[str, str]) -> str:
    """Return the parts as one paragraph of Markdown and the references that it names as a list.

    Parameters
    ----------
    parts : tuple of str
        Sentences; empty ones are left out.
    references : mapping
        What the paragraph calls a work by -> its full reference.
    """
    text = " ".join(part for part in parts if part)
    cited = [reference for name, reference in references.items() if name in text]
    return text + "\n\n" + "\n".join(f"- {reference}" for reference in cited) + "\n"
