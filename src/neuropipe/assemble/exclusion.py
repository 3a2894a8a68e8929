"""Which recordings enter a cohort, and what a reader is told about the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from neuropipe.assemble.rows import Member
from neuropipe.errors import DataError, Issue

if TYPE_CHECKING:
    import xarray as xr

    from neuropipe.assemble.sources import Source

__all__ = ["Account", "Unusable", "exclude", "left_out", "one_subject"]

_OR_EXCLUDE = "or mark the recording `exclude` in the recordings table"


class Unusable(Exception):  # noqa: N818 - no error: the recording is left out
    """A recording that cannot enter: the reason, and what to do about it."""

    def __init__(self, reason: str, remedy: str) -> None:
        self.reason, self.remedy = reason, f"{remedy}, {_OR_EXCLUDE}"
        super().__init__(reason)


def left_out(
    recording: str, subject: str, reason: str, remedy: str
) -> tuple[dict[str, Any], Issue]:
    """Return the entry of ``excluded`` and the issue of a recording that does not enter."""
    entry = {
        "kind": "recording",
        "recording": recording,
        "subject": subject,
        "reason": reason,
        "count": 1,
        "names": [recording],
    }
    return entry, Issue("RECORDING_LEFT_OUT", recording, reason, remedy)


@dataclass
class Account:
    """What was left out, and what a reader is told; filled on the way."""

    excluded: list[dict[str, Any]] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)

    def leave_out(self, tree: xr.DataTree, reason: str, remedy: str) -> None:
        """Note a recording that does not enter."""
        origin = str(tree.attrs.get("recording", "")), str(tree.attrs.get("subject_id", ""))
        entry, issue = left_out(*origin, reason, remedy)
        self.excluded.append(entry)
        self.issues.append(issue)

    def note(self, kind: str, source: Source, reason: str, names: Sequence[str]) -> None:
        """Note rows or trials of a recording that do not enter."""
        self.excluded.append(
            {
                "kind": kind,
                "recording": source.recording,
                "subject": source.subject,
                "reason": reason,
                "count": len(names),
                "names": list(names),
            }
        )

    def check_left(self, remaining: Sequence[Any]) -> None:
        """Raise `DataError` if nothing remains, with every reason and what to do about it."""
        if not remaining:
            reasons = "; ".join(f"{issue.path}: {issue.message}" for issue in self.issues)
            remedies = "; ".join(dict.fromkeys(issue.hint for issue in self.issues if issue.hint))
            text = f"no recording is left to assemble ({reasons})"
            raise DataError(f"{text}. {remedies[0].upper()}{remedies[1:]}" if remedies else text)


def _reason(member: Member, epochs: Sequence[str] | None) -> tuple[str, str]:
    """Return why a recording cannot enter and what to do about it; empty if it can."""
    if member.short:
        remedy = "lower `preprocess.*.min_samples`, widen `input.span_s`"
        return member.short, f"{remedy}, {_OR_EXCLUDE}"
    if not member.names and not member.has_labels:
        return "no labels", f"give a names table for this recording, {_OR_EXCLUDE}"
    if not member.names:
        remedy = "loosen `input.units.where`, look at the quality of its labelled rows"
        return "no labelled row is left", f"{remedy}, {_OR_EXCLUDE}"
    if epochs is not None and not {label for label, _, _ in member.events} & set(epochs):
        found = ", ".join(sorted({label for label, _, _ in member.events})) or "none"
        remedy = f"correct `input.epochs` or its events (labels found: {found})"
        return "none of the epochs is in its events", f"{remedy}, {_OR_EXCLUDE}"
    return "", ""


def exclude(
    members: Sequence[Member], epochs: Sequence[str] | None = None
) -> tuple[list[Member], list[dict[str, Any]], list[Issue]]:
    """Return the recordings that enter, the table of what does not, and an issue for each.

    Parameters
    ----------
    members : sequence of Member
        In any order.
    epochs : sequence of str, optional
        Labels of which a recording must have one; None: it need not.

    Returns
    -------
    kept : list of Member
        In order of subject.
    excluded : list of dict
        Rows and recordings left out: kind, recording, subject, reason, count, names.
    issues : list of Issue
        ``RECORDING_LEFT_OUT`` per recording; rows left out are no issue.

    Raises
    ------
    DataError
        If no recording enters.
    """
    kept: list[Member] = []
    excluded: list[dict[str, Any]] = []
    issues: list[Issue] = []
    for member in sorted(members, key=lambda member: member.subject):
        excluded += member.dropped
        reason, remedy = _reason(member, epochs)
        if not reason:
            kept.append(member)
            continue
        entry, issue = left_out(member.recording, member.subject, reason, remedy)
        excluded.append(entry)
        issues.append(issue)
    Account(excluded, issues).check_left(kept)
    return kept, excluded, issues


def one_subject(members: Sequence[Member]) -> list[Issue]:
    """Return the issue ``ONE_SUBJECT`` for a cohort of fewer than two subjects."""
    if len(members) > 1:
        return []
    return [
        Issue(
            "ONE_SUBJECT",
            "input.recordings",
            "the cohort has one subject; nothing can be said about what subjects share",
            "add recordings of other subjects, or use `scope: recording` with `align: single`",
        )
    ]
