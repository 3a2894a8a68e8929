"""Subjects as S1, S2, ... in everything that the page shows."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
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
# What is said about this study's data; all other prose is the same in every study.
_SAID = {"message", "hint", "error", "reasons", "headline", "failed"}
_WHO = {"path", "members", "collection", "subject"}
_SUBJECT_KEY = re.compile(r"(?:.*\.)?subjects?(?:_\d)?")


class Names:
    """How subjects are called on the page.

    ``sub-<label>`` is replaced wherever it occurs, also in figures. A bare label may be a word of
    the language (a subject called ``a``) or a number, so it is replaced only where it stands as a
    subject: as the whole of an entry that names subjects or of a text in a figure (there numbers
    only with a leading zero, as the others may be ticks), and in messages where it is quoted,
    follows the word "subject", or cannot be a word because it has both letters and digits.

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
        sources: dict[str, str] = {}
        if hide:
            for recording in recordings:
                name = f"(source of {self._new[recording.subject]})"
                sources[recording.path] = sources[PurePosixPath(recording.path).name] = name
        sources.pop("", None)
        self._sources = {key: sources[key] for key in sorted(sources, key=len, reverse=True)}
        distinct = [x for x in self._new if re.search(r"\d", x) and re.search(r"[A-Za-z]", x)]
        end = r"(?![A-Za-z0-9])"
        self._prefixed = self._pattern(self._new, r"sub-", end)
        self._named = self._pattern(distinct, r"\b(?:[Ss]ubjects?|[Aa]nimals?) ", end)
        self._words = self._pattern(distinct, r"(?<![A-Za-z0-9])", end)
        after = r"\b(?:[Ss]ubjects?|[Aa]nimals?):? "
        self._said = self._pattern(self._new, after, end)
        self._quoted = self._pattern(self._new, r"['\"`]", r"(?=['\"`])")
        self._counted = self._pattern(self._new, r"(?:^|[,;:(] ?)", r"(?=: \d)")
        self._any = self._pattern(self._new, r"(?<![A-Za-z0-9])", end)

    @staticmethod
    def _pattern(labels: Iterable[str], before: str, after: str) -> re.Pattern[str] | None:
        ordered = sorted(labels, key=len, reverse=True)
        if not ordered:
            return None
        return re.compile(f"({before})({'|'.join(map(re.escape, ordered))}){after}")

    def _replace(self, text: str, *patterns: re.Pattern[str] | None) -> str:
        for pattern in patterns:
            if pattern is not None:
                text = pattern.sub(lambda match: match[1] + self._new[match[2]], text)
        return text

    def subject(self, label: str) -> str:
        """Return the shown name of a subject label."""
        return self._new.get(label, label)

    def text(self, text: str) -> str:
        """Return prose with the subjects renamed where they stand as ``sub-<label>``."""
        if not self.hidden:
            return text
        for source, new in self._sources.items():
            text = text.replace(source, new)
        return self._replace(text, self._prefixed, self._named)

    def message(self, text: str) -> str:
        """Return a message about the data of this study with the subjects renamed."""
        return self._replace(self.text(text), self._said, self._quoted, self._counted, self._words)

    def listed(self, text: str) -> str:
        """Return a subject, or several with commas between, renamed; other text as a message."""
        return ", ".join(self._new.get(one) or self.message(one) for one in text.split(", "))

    def settings(self, value: Any, *, who: bool = False) -> Any:
        """Return nested settings with the subjects that they select renamed."""
        if not self.hidden:
            return value
        if isinstance(value, Mapping):
            return {
                self.text(str(key)): self.settings(
                    item, who=who or bool(_SUBJECT_KEY.fullmatch(str(key)))
                )
                for key, item in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.settings(item, who=who) for item in value]
        if who:
            return self._new.get(str(value), self.text(value) if isinstance(value, str) else value)
        return self.text(value) if isinstance(value, str) else value

    def svg(self, content: bytes) -> bytes:
        """Return an SVG with the subjects renamed in its texts and comments."""
        if not self.hidden:
            return content

        def between(match: re.Match[str]) -> str:
            label = match[1].strip()
            is_tick = label.isdigit() and not (label.startswith("0") and len(label) > 1)
            if label in self._new and not is_tick:
                return ">" + match[1].replace(label, self._new[label]) + "<"
            return ">" + self.message(match[1]) + "<"

        text = re.sub(r"<!--.*?-->", "", content.decode("utf-8", "replace"), flags=re.DOTALL)
        return re.sub(r">([^<]+)<", between, text).encode("utf-8")

    def view(self, value: View) -> View:
        """Return a tree of dataclasses, tuples and dicts with the subjects renamed."""
        return self._walk(value, self.text) if self.hidden else value

    def _walk(self, value: Any, rename: Callable[[str], str]) -> Any:
        if isinstance(value, str):
            return rename(value)
        if isinstance(value, tuple | list):
            return type(value)(self._walk(item, rename) for item in value)
        if isinstance(value, dict):
            return {rename(key): self._walk(item, rename) for key, item in value.items()}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            whole = self._selection(value)
            fields = {
                field.name: self._field(field.name, getattr(value, field.name), whole)
                for field in dataclasses.fields(value)
            }
            return dataclasses.replace(value, **fields)
        return value

    def _selection(self, value: Any) -> bool:
        """Tell whether a row of settings selects subjects, so that each word is a label."""
        key = getattr(value, "key", None) or getattr(value, "name", None)
        is_row = hasattr(value, "default") or hasattr(value, "cells")
        return is_row and isinstance(key, str) and bool(_SUBJECT_KEY.fullmatch(key))

    def _field(self, name: str, value: Any, selection: bool) -> Any:
        if name in _PICTURES:
            return value
        if name in _LINKS:
            return value if self.message(value) == value else ""
        if selection and name in ("value", "cells"):
            return self._walk(value, lambda text: self._replace(text, self._any))
        if name in _WHO:
            return self._walk(value, self.listed)
        return self._walk(value, self.message if name in _SAID else self.text)
