"""Headers that mne reads: its warnings become issues, its errors keep its words."""

from __future__ import annotations

import json
import re
import struct
import warnings
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.errors import IngestError, Issue
from neuropipe.io.channels.facts import local_start, years_between
from neuropipe.io.channels.source import ChannelTable

if TYPE_CHECKING:
    import mne

__all__ = ["call_mne", "mne_attrs", "mne_table", "wrapped"]

SEXES = {1: "M", 2: "F"}
FRAMES = {
    **{0: "unknown", 1: "device", 2: "isotrak", 3: "hpi", 4: "head", 5: "mri"},
    **{6: "mri_slice", 7: "mri_display", 1000: "ctf_head", 1001: "ctf_meg"},
}
DUPLICATES = re.compile(r"found duplicates for: (\{.*?\})\. Applying running", re.DOTALL)
# What mne warns of and the readers check or tell themselves.
HANDLED = (
    "does not conform to MNE naming conventions",
    "found duplicates for",
    "were outside data range",
    "Omitted",
    "boundary",
)
ENDED_EARLY = (
    "truncat",
    "end of file",
    "eof",
    "could not read",
    "not enough",
    "is smaller than",
)


def call_mne(function: Callable[..., Any], path: Path, **arguments: Any) -> tuple[Any, list[Issue]]:
    """Call a reader of mne and return its result with its warnings as issues.

    Raises
    ------
    IngestError
        ``TRUNCATED`` or ``NOT_THIS_FORMAT``, with the words of mne.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = wrapped(function, path, path, **arguments)
    issues = []
    for warning in caught:
        text = " ".join(str(warning.message).split())
        is_library = issubclass(warning.category, DeprecationWarning | PendingDeprecationWarning)
        if is_library or issubclass(warning.category, ResourceWarning):
            continue
        if found := DUPLICATES.search(text):
            names = ", ".join(sorted(re.findall(r"'([^']*)'", found[1])))
            text = f"names occur more than once: {names}; numbered -0, -1 and so on"
            issues.append(Issue("DUPLICATE_CHANNEL", str(path), text))
        elif not any(word in text for word in HANDLED):
            issues.append(Issue("HEADER", str(path), f"mne: {text}"))
    return result, issues


def wrapped(function: Callable[..., Any], path: Path, *given: Any, **arguments: Any) -> Any:
    """Call a function of mne; whatever it raises about the file becomes an `IngestError`.

    Raises
    ------
    IngestError
        ``TRUNCATED`` or ``NOT_THIS_FORMAT``, with the words of mne.
    """
    try:
        return function(*given, **arguments)
    except (IngestError, MemoryError):
        raise
    # A damaged header makes a reader stumble over whatever comes first.
    except Exception as error:
        text = " ".join(str(error).split())[:400]
        kind = type(error).__name__
        short = isinstance(error, EOFError | struct.error)
        early = short or any(word in text.lower() for word in ENDED_EARLY)
        code = "TRUNCATED" if early else "NOT_THIS_FORMAT"
        raise IngestError(
            code, path, f"mne cannot read it ({kind}: {text})", "copy or download it again"
        ) from error


def _sources(names: Sequence[str], issues: Sequence[Issue]) -> list[str]:
    """Return the names of the file, where mne numbered those that occur twice."""
    twice = set()
    for issue in issues:
        if issue.code == "DUPLICATE_CHANNEL":
            twice |= set(issue.message.partition(": ")[2].partition(";")[0].split(", "))
    sources = []
    for name in names:
        stem, dash, number = name.rpartition("-")
        sources.append(stem if dash and number.isdigit() and stem in twice else name)
    return sources


def mne_table(raw: mne.io.BaseRaw, issues: Sequence[Issue]) -> ChannelTable:
    """Return the channels as mne describes them; all values are in SI units already.

    Positions of coils and electrodes stay in the frame that the file gives them; where several
    frames are used, ``x_coord_frame`` tells which.
    """
    info = raw.info
    units = {107: "V", 112: "T", 201: "T/m"}
    words = [units.get(int(ch["unit"]), "") for ch in info["chs"]]
    types = [str(kind) for kind in raw.get_channel_types()]
    words = ["" if kind == "stim" else unit for kind, unit in zip(types, words, strict=True)]
    position = np.array([np.asarray(ch["loc"][:3], dtype=np.float64) for ch in info["chs"]])
    # Zero stands for an unknown place.
    position[(position == 0).all(axis=1) | ~np.isfinite(position).all(axis=1)] = np.nan
    n = len(types)
    # mne has no word for unknown: 0 Hz and half the rate stand for it.
    low, high = float(info["highpass"]), float(info["lowpass"])
    filtered = np.array([kind != "stim" for kind in types])
    frames = [FRAMES.get(int(ch["coord_frame"]), "unknown") for ch in info["chs"]]
    known = np.isfinite(position).all(axis=1)
    used = {frame for frame, here in zip(frames, known, strict=True) if here}
    columns = {"x_coord_frame": frames} if len(used) > 1 else {}
    return ChannelTable(
        name=tuple(raw.ch_names),
        source=tuple(_sources(raw.ch_names, issues)),
        ch_type=tuple(types),
        units=tuple(words),
        declared=tuple(words),
        bad=np.isin(raw.ch_names, info["bads"]),
        reference=("",) * n,
        position=position,
        low_cutoff=np.where(filtered & (low > 0), low, np.nan),
        high_cutoff=np.where(filtered & (high < info["sfreq"] / 2), high, np.nan),
        columns=columns,
    )


def _frame(raw: mne.io.BaseRaw, table: ChannelTable) -> str:
    """Return the frame of the positions; of several, that of most channels."""
    known = np.isfinite(table.position).all(axis=1)
    frames = [
        FRAMES.get(int(ch["coord_frame"]), "unknown")
        for ch, here in zip(raw.info["chs"], known, strict=True)
        if here
    ]
    return max(sorted(set(frames)), key=frames.count) if frames else ""


def mne_attrs(
    raw: mne.io.BaseRaw, table: ChannelTable, path: Path, *, utc: bool
) -> tuple[dict[str, Any], list[Issue]]:
    """Return attributes of the recording that mne found.

    Parameters
    ----------
    raw : mne.io.BaseRaw
    table : ChannelTable
        Its channels.
    path : Path
        File, for issues.
    utc : bool
        The date of the format is in UTC; else it is local time, which is no `session_start`.
    """
    info = raw.info
    attrs: dict[str, Any] = {"coord_frame": _frame(raw, table), **_subject(info)}
    if info["line_freq"] is not None:
        attrs["line_freq"] = float(info["line_freq"])
    attrs["projectors"] = json.dumps([_projector(p) for p in info["projs"]])
    grade = raw.compensation_grade
    attrs["compensation_grade"] = -1 if grade is None else int(grade)
    if info["dev_head_t"] is not None:
        attrs["dev_head_t"] = np.asarray(info["dev_head_t"]["trans"], np.float64).ravel().tolist()
    issues: list[Issue] = []
    date = info["meas_date"]
    if date is not None and date.year > 1970:
        if utc:
            attrs["session_start"] = date.astimezone(UTC).isoformat()
        else:
            _, issues = local_start(date.replace(tzinfo=None), path)
    return attrs, issues


def _subject(info: Any) -> dict[str, str]:
    subject = info["subject_info"] or {}
    found = {"sex": SEXES[subject["sex"]]} if subject.get("sex") in SEXES else {}
    born, start = subject.get("birthday"), info["meas_date"]
    if born is not None and isinstance(start, datetime):
        age = years_between(born, start.date())
        found |= {"age": age} if age else {}
    return found


def _projector(projector: Any) -> dict[str, Any]:
    data = projector["data"]
    return {
        "desc": str(projector["desc"]),
        "kind": int(projector["kind"]),
        "active": bool(projector["active"]),
        "channels": list(data["col_names"]),
        "vectors": np.asarray(data["data"], dtype=np.float64).tolist(),
    }
