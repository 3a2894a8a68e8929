"""Resolution of source labels to the canonical names of an atlas."""

from __future__ import annotations

import difflib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from neuropipe.errors import Issue
from neuropipe.store.atlas import Atlas

__all__ = ["LabelTable", "canonical_name", "resolve_labels"]

SILENT = frozenset({"", "MERGE", "NONE", "NAN", "N/A", "NA", "NULL"})
NUMBER = re.compile(r"[-+]?\d+(\.\d*)?")
ONLY_QUESTION = re.compile(r"\?+")
PADDED = re.compile(r"([A-Z]+)0([1-9])")


@dataclass(frozen=True)
class LabelTable:
    """What became of the labels of one recording; every tuple has one entry per trace.

    Attributes
    ----------
    label_source : tuple of str
        Labels as the source wrote them.
    label : tuple of str
        Canonical name, or empty.
    label_confidence : tuple of float
        Confidence of the source, NaN where it states none.
    label_inferred : tuple of bool
        True where an ambiguous label was assigned because one candidate was free.
    label_candidates : tuple of str
        Canonical names that the source label may mean, joined by commas.
    neuron_class : tuple of str
        Class of the canonical name, or empty.
    issues : tuple of Issue
        In the order of the labels concerned, sorted by name.
    """

    label_source: tuple[str, ...]
    label: tuple[str, ...]
    label_confidence: tuple[float, ...]
    label_inferred: tuple[bool, ...]
    label_candidates: tuple[str, ...]
    neuron_class: tuple[str, ...]
    issues: tuple[Issue, ...]


def _text(label: Any) -> str:
    if label is None or (isinstance(label, float) and math.isnan(label)):
        return ""
    return label.decode("utf-8") if isinstance(label, bytes) else str(label)


def _is_silent(word: str) -> bool:
    return word in SILENT or bool(NUMBER.fullmatch(word) or ONLY_QUESTION.fullmatch(word))


def _exact(word: str, atlas: Atlas) -> str:
    """Return the canonical name that `word` spells, with or without zero padding, or empty."""
    if word in atlas:
        return word
    padded = PADDED.fullmatch(word)
    if padded:
        name = "".join(padded.groups())
        if atlas.type_of(name) == "motor":
            return name
    return ""


def canonical_name(label: str, atlas: Atlas) -> str:
    """Return the canonical name that a label spells out, or empty: no part of it is guessed.

    Examples
    --------
    >>> from neuropipe.store.atlas import load_atlas
    >>> canonical_name("vb02", load_atlas()), canonical_name("AVA", load_atlas())
    ('VB2', '')
    """
    return _exact(label.strip().upper(), atlas)


def _is_subsequence(part: str, whole: str) -> bool:
    letters = iter(whole)
    return all(letter in letters for letter in part)


def _completes(part: str, suffix: str) -> bool:
    """Tell whether what follows the class in a label may be a part of the suffix of a name."""
    if suffix.isdigit():
        padded = re.fullmatch(r"0([1-9])", part)
        return suffix == padded[1] if padded else suffix.startswith(part)
    return set(suffix) <= set("DVLR") and _is_subsequence(part, suffix)


def _candidates(word: str, atlas: Atlas) -> list[str]:
    """Return the canonical names that a label with a missing or doubtful part may mean.

    The class must be spelled out; what follows it must be part of the side letters or the
    number of a name of that class. A question mark stands for the doubtful part.
    """
    stem = word.rstrip("?")
    exact = _exact(stem, atlas)
    if exact and not exact[-1].isdigit():
        return [exact] if stem != word else []
    before = word.split("?", 1)[0]
    found = []
    for name, group in zip(atlas.names, atlas.classes, strict=True):
        if before.startswith(group) and name.startswith(group):
            part = word.replace("?", "")[len(group) :]
            suffix = name[len(group) :]
            if (suffix and _completes(part, suffix)) or (not suffix and not part):
                found.append(name)
    return found


def _rank(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def _settle_duplicates(
    names: list[str], confidence: Sequence[float]
) -> tuple[set[int], list[Issue]]:
    """Return the positions that lose their name to a duplicate, and one issue per name."""
    rows = defaultdict(list)
    for position, name in enumerate(names):
        if name:
            rows[name].append(position)
    losers: set[int] = set()
    issues = []
    for name in sorted(name for name, found in rows.items() if len(found) > 1):
        found = rows[name]
        best = max(_rank(confidence[i]) for i in found)
        winners = [i for i in found if _rank(confidence[i]) == best]
        keep = winners[0] if len(winners) == 1 else None
        losers.update(i for i in found if i != keep)
        end = (
            f"row {keep} keeps it (highest confidence)"
            if keep is not None
            else "none keeps it (equal confidence)"
        )
        message = f"{name!r} labels {len(found)} traces (rows {found}); {end}"
        issues.append(Issue("DUPLICATE_LABEL", name, message, "correct the label table"))
    return losers, issues


def _infer(candidates: list[list[str]], used: set[str], policy: str) -> dict[int, str]:
    """Return position -> name of the ambiguous labels with exactly one free candidate.

    A name that two labels would take goes to neither, so that the order of the traces cannot
    matter.
    """
    if policy != "resolve":
        return {}
    free = {i: [n for n in names if n not in used] for i, names in enumerate(candidates)}
    chosen = {i: names[0] for i, names in free.items() if len(names) == 1}
    claims = Counter(chosen.values())
    return {i: name for i, name in chosen.items() if claims[name] == 1}


def _ambiguous_issue(row: int, source: str, names: list[str], chosen: str) -> Issue:
    listed = ", ".join(names)
    end = f"; taken as {chosen}, the only free one" if chosen else ""
    return Issue(
        "AMBIGUOUS_LABEL",
        f"row {row}",
        f"{source!r} may be {listed}{end}",
        "complete the label in the source, or set ingest.labels.ambiguous: resolve",
    )


def _unknown_issue(row: int, source: str, word: str, atlas: Atlas) -> Issue:
    near = difflib.get_close_matches(word.rstrip("?"), atlas.names, n=1, cutoff=0.6)
    hint = f"nearest name: {near[0]}" if near else ""
    message = f"{source!r} is not in {atlas.name}; the trace stays, unlabelled"
    return Issue("UNKNOWN_LABEL", f"row {row}", message, hint)


def resolve_labels(
    labels: Sequence[Any],
    atlas: Atlas,
    confidence: Sequence[float] | None = None,
    ambiguous: Literal["leave", "resolve"] = "leave",
) -> LabelTable:
    """Give source labels their canonical names, without a guess in silence.

    Parameters
    ----------
    labels : sequence of (n_traces,)
        Source labels; None and NaN count as empty.
    atlas : Atlas
        Canonical names.
    confidence : sequence of float, (n_traces,), optional
        Settles duplicates of an exact label: the highest keeps the name.
    ambiguous : {"leave", "resolve"}
        What to do with a label that misses a side: leave it unlabelled, or assign it when
        exactly one of its candidates is not used in this recording and nobody else claims it.

    Returns
    -------
    LabelTable
        One entry per trace, and the issues.

    Raises
    ------
    ValueError
        `confidence` has another length than `labels`.

    Examples
    --------
    >>> from neuropipe.store.atlas import load_atlas
    >>> resolve_labels([" vb02", "AIM?", "merge"], load_atlas()).label
    ('VB2', '', '')
    """
    source = tuple(_text(label) for label in labels)
    if confidence is not None and len(confidence) != len(source):
        raise ValueError(f"{len(source)} labels but {len(confidence)} confidences")
    trust = (math.nan,) * len(source) if confidence is None else tuple(map(float, confidence))
    words = [text.strip().upper() for text in source]
    names = [_exact(word, atlas) for word in words]
    losers, issues = _settle_duplicates(names, trust)
    open_rows = [i for i, name in enumerate(names) if not name and not _is_silent(words[i])]
    candidates: list[list[str]] = [[] for _ in source]
    for i in open_rows:
        candidates[i] = _candidates(words[i], atlas)
    inferred = _infer(candidates, {name for name in names if name}, ambiguous)
    for i in open_rows:
        if candidates[i]:
            issues.append(_ambiguous_issue(i, source[i], candidates[i], inferred.get(i, "")))
        else:
            issues.append(_unknown_issue(i, source[i], words[i], atlas))
    for i in losers:
        candidates[i] = [names[i]]
    final = ["" if i in losers else inferred.get(i, name) for i, name in enumerate(names)]
    return LabelTable(
        label_source=source,
        label=tuple(final),
        label_confidence=trust,
        label_inferred=tuple(i in inferred for i in range(len(source))),
        label_candidates=tuple(",".join(group) for group in candidates),
        neuron_class=tuple(atlas.class_of(name) for name in final),
        issues=tuple(issues),
    )
