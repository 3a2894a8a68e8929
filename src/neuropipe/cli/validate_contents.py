"""What sources hold beside signals, compared with what the configuration asks of them."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from neuropipe.errors import Issue

if TYPE_CHECKING:
    from neuropipe.config.recordings import Recording
    from neuropipe.store.clock import RegularClock
    from neuropipe.study import Collection, Run, Study

__all__ = ["Contents", "confound_issues", "contents_of", "file_issues",
           "filter_issues", "label_issues"]  # fmt: skip

SHOWN = 20


@dataclass(frozen=True)
class Contents:
    """What a header and the tables beside it tell of one recording.

    Attributes
    ----------
    events : mapping
        Column -> texts that occur in it; {} without events.
    confounds : tuple of str
        Columns of the confounds table (fMRI).
    clock : RegularClock or None
        Times of samples, where they are regular (EEG, MEG, intracranial recordings).
    line_hz : float
        Mains frequency that the source states, Hz; NaN if it does not.
    """

    events: Mapping[str, frozenset[str]]
    confounds: tuple[str, ...] = ()
    clock: RegularClock | None = None
    line_hz: float = math.nan


def contents_of(handle: Any, modality: str) -> Contents:
    """Return what an opened source holds beside signals."""
    table = handle.events()
    events = {}
    for name in () if table is None else table.variables:
        values = table[name].values
        if values.dtype.kind in "OUS":
            events[str(name)] = frozenset(str(value) for value in values.tolist())
    raw = getattr(handle, "raw", None)
    confounds: tuple[str, ...] = ()
    if raw is not None and "confound" in raw:
        confounds = tuple(str(name) for name in raw["confound"].values.tolist())
    if modality not in ("eeg", "meg", "ieeg"):
        return Contents(events, confounds)
    schema = handle.schema()
    line_hz = float(schema.attrs.get("line_freq", math.nan))
    return Contents(events, confounds, schema.clock, line_hz)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return (", ".join(names[:SHOWN]) or "none") + more


def confound_issues(study: Study, recording: Recording, found: Contents) -> list[Issue]:
    """Return an error if motion regressors are asked for that the confounds table lacks."""
    from neuropipe.preprocess.fmri_motion import MOTION

    wanted = study.config.preprocess.fmri.confounds
    lacking = [name for name in MOTION if name not in found.confounds]
    if recording.modality != "fmri" or wanted == "none" or not lacking:
        return []
    text = (
        f"preprocess.fmri.confounds is {wanted!r}, but the confounds lack {', '.join(lacking)} "
        f"(columns found: {_listed(found.confounds)})"
    )
    hint = (
        "write `preprocess: {fmri: {confounds: none}}`, or put a table with these columns beside "
        "the image"
    )
    return [Issue("NO_MOTION", f"{recording.name}: {recording.path}", text, hint, "error")]


def filter_issues(study: Study, recording: Recording, found: Contents) -> list[Issue]:
    """Return an error for each filter that the recording is too short or too slow for.

    Filters reach over time: one that is longer than the recording leaves no sample valid.
    """
    settings, clock = getattr(study.config.preprocess, recording.modality, None), found.clock
    if clock is None:
        return []
    from neuropipe.preprocess.filtering import Fir, notch_filter

    where, filters = f"{recording.name}: {recording.path}", {}
    band = getattr(settings, "bandpass_hz", None) or (None, None)
    line = getattr(settings, "line_hz", None)
    line = found.line_hz if line == "auto" else line
    highest = max(edge or 0.0 for edge in band)
    if highest >= clock.rate / 2:
        text = (
            f"preprocess.{recording.modality}.bandpass_hz reaches {highest:g} Hz, half the rate "
            f"is {clock.rate / 2:g} Hz"
        )
        return [Issue("BAND", where, text, "lower it, or write `null` at its end", "error")]
    if line and math.isfinite(line):
        filters["line_hz", "write `null` there"] = notch_filter(line, clock.rate)
    if band != (None, None):
        filters["bandpass_hz", "raise its lower edge, write `null` there"] = Fir(*band)
    lasts = {key: fir.taps(clock.rate) for key, fir in filters.items() if fir is not None}
    return [
        Issue(
            "SHORT_RECORDING",
            where,
            f"the filter of preprocess.{recording.modality}.{key} is {taps / clock.rate:.3g} s "
            f"long, the recording {clock.count / clock.rate:.3g} s",
            f"{remedy}, or exclude the recording",
            "error",
        )
        for (key, remedy), taps in lasts.items()
        if clock.count < taps
    ]


def _labels_of(collection: Collection, column: str, contents: Mapping[str, Contents]
               ) -> set[str] | None:  # fmt: skip
    """Return the labels in a collection; None if those of a recording are not known."""
    known: set[str] = set()
    for recording in collection.recordings:
        if recording.name not in contents:
            return None
        events = contents[recording.name].events
        known |= next((events[c] for c in (column, f"x_{column}") if c in events), frozenset())
    return known - {""}


def label_issues(study: Study, run: Run, contents: Mapping[str, Contents]) -> list[Issue]:
    """Return an error for each label of events that the configuration names and nobody has.

    Conditions (``input.labels``) have to be in every collection, labels that trials are cut
    around (``input.trials.labels``) in one of them.

    Parameters
    ----------
    study : Study
    run : Run
        One that names no labels has nothing to check.
    contents : mapping
        Recording -> what it holds; those whose events come from elsewhere are not there.
    """
    column = getattr(run.input, "column", None) or "label"
    issues = []
    for collection in run.collections if getattr(run.input, "labels", None) else ():
        known = _labels_of(collection, column, contents)
        names = getattr(run.input, "labels")  # noqa: B009 - of some analyses
        issues += _unknown(names, known, collection.name, column, f"{run.label}.input.labels")
    trials = getattr(run.input, "trials", None)
    if trials is None or trials.by != "events":
        return issues
    column = trials.column or "label"
    found = [_labels_of(collection, column, contents) for collection in run.collections]
    everywhere = None if None in found else set().union(*filter(None, found))
    where = f"{run.label}.input.trials.labels"
    return issues + _unknown(trials.labels, everywhere, "the analysis", column, where)


def _unknown(
    labels: Sequence[str], known: set[str] | None, whose: str, column: str, where: str
) -> list[Issue]:
    """Return an error for each label that is not known; none if nothing is."""
    issues = []
    for label in () if known is None else labels:
        if label in known:
            continue
        text = (
            f"{label!r}: no recording of {whose} has such an event (column {column}; found: "
            f"{_listed(sorted(known))})"
        )
        near = difflib.get_close_matches(label, known, 1)
        hint = f"did you mean {near[0]!r}?" if near else "correct it, or leave it out"
        issues.append(Issue("UNKNOWN_LABEL", f"analyses.{where}", text, hint, "error"))
    return issues


def file_issues(study: Study, run: Run) -> list[Issue]:
    """Return an error for each file that an analysis names and that does not exist or fit."""
    named = [*getattr(run.settings, "files", ())]
    if getattr(run.input, "regions", None):
        named.append(str(getattr(run.input, "regions")))  # noqa: B009 - of some analyses
    found = run.analysis.check_files(run.settings, run.input, study.root)
    faults = [
        Issue("FILE_CONTENT", f"analyses.{run.label}", text, "correct the file", "error")
        for text in found
    ]
    return faults + [
        Issue(
            "MISSING_FILE",
            f"analyses.{run.label}: {path}",
            "the file does not exist",
            "correct the path; it is relative to the study folder",
            "error",
        )
        for path in dict.fromkeys(named)
        if not (study.root / path).is_file()
    ]
