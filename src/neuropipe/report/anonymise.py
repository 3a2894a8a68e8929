"""Subjects as S1, S2, ... in everything that the page shows."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from neuropipe.config.recordings import Recording

__all__ = ["Names"]

View = TypeVar("View")

# Addresses are handled one by one: a picture's bytes are not text, and a link whose target names
# a subject is dropped, since its address would give the name away.
_PICTURES = {"uri"}
_LINKS = {"href"}


class Names:
    """How subjects are called on the page.

    ``sub-<label>`` is replaced wherever it occurs, also in figures; the bare label where it
    stands as a word of its own and is more than digits (a subject ``12`` would otherwise change
    every number 12) and in columns named ``subject``.

    Parameters
    ----------
    recordings : iterable of Recording
        In the order of the recordings table, which numbers the subjects.
    hide : bool
        Replace labels; otherwise everything passes unchanged.
    """

    def __init__(self, recordings: Iterable[Recording], *, hide: bool = False) -> None:
        recordings = tuple(recordings)
        labels = dict.fromkeys(recording.subject for recording in recordings)
        self.hidden = hide
        # A name once given is never taken for a label: renaming twice changes nothing.
        prefix = "S" if not any(re.fullmatch(r"S\d+", label) for label in labels) else "Anon"
        self._new = {label: f"{prefix}{n}" for n, label in enumerate(labels, 1)} if hide else {}
        words = {label: new for label, new in self._new.items() if not label.isdigit()}
        sources: dict[str, str] = {}
        if hide:
            for recording in recordings:
                name = f"(source of {self._new[recording.subject]})"
                sources[recording.path] = sources[PurePosixPath(recording.path).name] = name
        sources.pop("", None)
        self._sources = {key: sources[key] for key in sorted(sources, key=len, reverse=True)}
        self._prefixed = self._pattern(self._new, r"sub-", r"(?![A-Za-z0-9])")
        self._words = self._pattern(words, r"(?<![A-Za-z0-9])", r"(?![A-Za-z0-9])")

    @staticmethod
    def _pattern(labels: Iterable[str], before: str, after: str) -> re.Pattern[str] | None:
        ordered = sorted(labels, key=len, reverse=True)
        if not ordered:
            return None
        return re.compile(f"({before})({'|'.join(map(re.escape, ordered))}){after}")

    def subject(self, label: str) -> str:
        """Return the shown name of a subject label."""
        return self._new.get(label, label)

    def text(self, text: str) -> str:
        """Return text with the subjects renamed."""
        if not self.hidden:
            return text
        for source, new in self._sources.items():
            text = text.replace(source, new)
        for pattern in (self._prefixed, self._words):
            if pattern is not None:
                text = pattern.sub(lambda match: match[1] + self._new[match[2]], text)
        return text

    def svg(self, content: bytes) -> bytes:
        """Return an SVG with the subjects renamed in its texts and comments."""
        if not self.hidden:
            return content

        def between(match: re.Match[str]) -> str:
            return ">" + self.text(match[1]) + "<"

        text = re.sub(r"<!--.*?-->", "", content.decode("utf-8", "replace"), flags=re.DOTALL)
        return re.sub(r">([^<]+)<", between, text).encode("utf-8")

    def view(self, value: View) -> View:
        """Return a tree of dataclasses, tuples and dicts with the subjects renamed."""
        return self._walk(value) if self.hidden else value

    def _walk(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, tuple | list):
            return type(value)(self._walk(item) for item in value)
        if isinstance(value, dict):
            return {self._walk(key): self._walk(item) for key, item in value.items()}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = {
                field.name: self._field(field.name, getattr(value, field.name))
                for field in dataclasses.fields(value)
            }
            return dataclasses.replace(value, **fields)
        return value

    def _field(self, name: str, value: Any) -> Any:
        if name in _PICTURES:
            return value
        if name in _LINKS:
            return value if self.text(value) == value else ""
        return self._walk(value)
