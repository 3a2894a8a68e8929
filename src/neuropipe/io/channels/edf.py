"""EDF, EDF+, BDF and BDF+ files: integers stay integers, records with gaps keep their times."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from neuropipe.config.models import StrictModel
from neuropipe.errors import IngestError, Issue
from neuropipe.io.channels.edf_header import EDF_MAGIC, EdfHeader, read_edf_header
from neuropipe.io.channels.edf_samples import Annotation, EdfSamples, read_annotations
from neuropipe.io.channels.events import code_of, event_table, step_events
from neuropipe.io.channels.facts import local_start, subject_age
from neuropipe.io.channels.grid import Times, segment_times, times_at
from neuropipe.io.channels.names import unique_names
from neuropipe.io.channels.opening import open_channels
from neuropipe.io.channels.probing import path_match
from neuropipe.io.channels.source import ChannelSource, ChannelTable, Samples
from neuropipe.io.channels.units import si_unit
from neuropipe.io.checks import head
from neuropipe.io.registry import Reader, ReaderMatch
from neuropipe.store.clock import RegularClock

if TYPE_CHECKING:
    from neuropipe.config.models import IngestOverride
    from neuropipe.io.channels.handle import ChannelHandle

__all__ = ["READER", "EdfSettings", "open_recording", "open_source", "probe"]

TRIGGERS = ("status", "trigger")
# EDF+ puts the type before the name: "EEG Fpz-Cz". Other types of its list are no potentials.
PREFIX_TYPES = ("EEG", "EOG", "ECG", "EMG", "ECOG", "SEEG", "DBS", "BIO", "RESP", "TEMP", "MISC")
TYPE_WORDS = {"TEMP": "temperature"}
# BioSemi keeps triggers in the lower 16 bits of the status word, the amplifier's state above.
TRIGGER_MASK = (1 << 16) - 1


class EdfSettings(StrictModel):
    """Reading of EDF and BDF files."""

    stim_events: bool = Field(
        True, description="Take the steps of the channels Status and Trigger as events."
    )


def probe(path: Path) -> ReaderMatch | None:
    """Return a match for a file that begins as EDF or BDF."""
    return path_match("edf", path) if head(path, 8) in EDF_MAGIC else None


@dataclass(frozen=True)
class _Choice:
    """Channels of one rate, and how many records hold them."""

    header: EdfHeader
    picks: list[int]
    n_records: int

    @property
    def rate(self) -> float:
        return float(self.header.samples[self.picks[0]]) / self.header.record_s


def open_recording(
    path: Path, settings: EdfSettings, override: IngestOverride, modality: str | None = None
) -> ChannelHandle:
    """Open an EDF or BDF file; of its samples only annotations and triggers are read.

    Raises
    ------
    IngestError
        ``NOT_THIS_FORMAT``, ``TRUNCATED``, ``MIXED_RATES``, ``BAD_TIME``, ``EMPTY``, and those
        of `open_channels`.
    """
    return open_channels(open_source(path, settings, override), modality, override)


def open_source(path: Path, settings: EdfSettings, override: IngestOverride) -> ChannelSource:
    """Return what the file says."""
    header = read_edf_header(path)
    if not header.signals:
        raise IngestError(
            "EMPTY",
            path,
            "there are annotations but no signals",
            "is this the file of the signals?",
        )
    n_records, issues = _records(header, override.allow_truncated)
    if not n_records:
        raise IngestError("EMPTY", path, "there are no samples, only a header", "copy it again")
    if override.resample == "highest" and len(_rates(header, header.signals)) > 1:
        from neuropipe.io.channels.edf_upsampled import upsampled

        return upsampled(header, issues)
    choice = _Choice(header, _one_rate(header, override.series, issues), n_records)
    table, scale, offset, found = edf_table(header, choice.picks)
    issues += found
    samples = EdfSamples(header, choice.picks, n_records, scale, offset)
    begins, annotations = read_annotations(header, n_records)
    time, found = _times(choice, begins)
    issues += found
    start, found = local_start(header.started, path)
    return ChannelSource(
        path=path,
        channels=table,
        samples=samples,
        time=time,
        types_stated=False,
        events=_events(choice, samples, table, time, begins, annotations, settings),
        attrs={**start, **_subject(header)},
        source_files=(path,),
        issues=(*issues, *found),
    )


def _records(header: EdfHeader, allow_truncated: bool) -> tuple[int, list[Issue]]:
    """Return how many whole records the file holds, against what its header states."""
    size = header.path.stat().st_size - header.n_bytes
    held, rest = divmod(size, header.record_bytes)
    stated, path = header.n_records, str(header.path)
    if stated == held and not rest:
        return held, []
    found = f"{size} bytes of samples, {held} whole records of {header.record_bytes} bytes"
    if stated < 0:
        text = f"the header does not state the number of records; the file holds {found}"
        return held, [Issue("HEADER", path, text, "was the recording stopped properly?")]
    if held >= stated:
        text = f"the header states {stated} records, the file holds {found}; all whole ones read"
        return held, [Issue("HEADER", path, text, "was the recording stopped properly?")]
    text = (
        f"the header states {stated} records ({stated * header.record_s:g} s), the file holds "
        f"{found} ({held * header.record_s:g} s)"
    )
    if not allow_truncated:
        hint = "copy the file again, or keep the readable part with `allow_truncated: true`"
        raise IngestError("TRUNCATED", path, text, hint)
    return held, [Issue("TRUNCATED", path, f"{text}; kept the readable part", "copy it again")]


def _rates(header: EdfHeader, picks: list[int]) -> dict[float, list[int]]:
    found: dict[float, list[int]] = {}
    for k in picks:
        found.setdefault(float(header.samples[k]) / header.record_s, []).append(k)
    return dict(sorted(found.items()))


def _one_rate(header: EdfHeader, series: str | None, issues: list[Issue]) -> list[int]:
    """Return the channels of one rate: the only one, or that which `series` names."""
    rates = _rates(header, header.signals)
    listed = "; ".join(
        f"{rate:g} Hz: {', '.join(header.labels[k] for k in picks[:6])}"
        + (f" and {len(picks) - 6} more" if len(picks) > 6 else "")
        for rate, picks in rates.items()
    )
    if series is None:
        if len(rates) == 1:
            return header.signals
        hint = (
            f'`series: "{max(rates):g} Hz"` in ingest.overrides takes the channels of one rate, '
            "`resample: highest` brings all to the highest"
        )
        raise IngestError("MIXED_RATES", header.path, f"channels of several rates: {listed}", hint)
    number = re.fullmatch(r"\s*([\d.]+(?:e-?\d+)?)\s*(?:Hz)?\s*", series)
    wanted = float(number[1]) if number else None
    for rate, picks in rates.items():
        if wanted is not None and abs(rate - wanted) <= 1e-6 * rate:
            if len(rates) > 1:
                text = f"took the {len(picks)} channels of {rate:g} Hz; the file has {listed}"
                issues.append(Issue("MIXED_RATES", str(header.path), text, "", "info"))
            return picks
    text = f"`series: {series}` names none of the rates: {listed}"
    raise IngestError("MIXED_RATES", header.path, text, 'write it such as `series: "256 Hz"`')


def edf_table(
    header: EdfHeader, picks: list[int]
) -> tuple[ChannelTable, np.ndarray, np.ndarray, list[Issue]]:
    """Return the channels, scale and offset to SI, and what was inferred."""
    path = header.path
    labels = [header.labels[k] for k in picks]
    names, issues = unique_names(labels, path)
    units, declared, factors, types = [], [], [], []
    for k in picks:
        word = header.units[k]
        known = si_unit(word)
        kind = _type_of(header.labels[k], word)
        # A trigger has no unit; that of BDF has no range either.
        is_stim = kind == "stim"
        units.append("" if is_stim or known is None else known[0])
        declared.append("" if is_stim else word)
        factors.append(1.0 if is_stim or known is None else known[1])
        types.append(kind)
    factor, at = np.array(factors), np.array(picks)
    scale, offset = header.scale[at] * factor, header.offset[at] * factor
    counted = np.array([kind == "stim" and header.itemsize == 3 for kind in types])
    scale, offset = np.where(counted, 1.0, scale), np.where(counted, 0.0, offset)
    issues += _inferred(header, types, declared, path)
    n = len(picks)
    table = ChannelTable(
        name=tuple(names),
        source=tuple(labels),
        ch_type=tuple(types),
        units=tuple(units),
        declared=tuple(declared),
        bad=np.zeros(n, dtype=bool),
        reference=("",) * n,
        position=np.full((n, 3), np.nan),
        low_cutoff=np.array([_cutoff(header.prefilters[k], "HP") for k in picks]),
        high_cutoff=np.array([_cutoff(header.prefilters[k], "LP") for k in picks]),
    )
    return table, scale, offset, issues


def _type_of(label: str, unit: str) -> str:
    if label.lower() in TRIGGERS:
        return "stim"
    word = label.split(" ")[0].upper()
    if " " in label and word in PREFIX_TYPES:
        return TYPE_WORDS.get(word, word.lower())
    known = si_unit(unit)
    # No type is stated. A potential is taken as EEG, as mne does; anything else cannot be.
    return "eeg" if not unit or (known is not None and known[0] == "V") else "misc"


def _cutoff(text: str, word: str) -> float:
    """Return a cutoff of ``HP:0.1Hz LP:75Hz``; NaN for none, and for DC."""
    found = re.search(rf"{word}:\s*(\d+(?:[.,]\d*)?)\s*(?:Hz|$|\s)", text)
    value = float(found[1].replace(",", ".")) if found else 0.0
    return value if value > 0 else float("nan")


def _inferred(header: EdfHeader, types: list[str], declared: list[str], path: Path) -> list[Issue]:
    counts = {kind: types.count(kind) for kind in sorted(set(types))}
    listed = ", ".join(f"{n} {kind}" for kind, n in counts.items())
    text = f"EDF states no channel types; from labels and units: {listed}"
    issues = [Issue("CHANNEL_TYPES", str(path), text, "*_channels.tsv states them", "info")]
    blank = sum(not unit and kind == "eeg" for unit, kind in zip(declared, types, strict=True))
    if blank:
        text = f"{blank} channels state no physical unit; their numbers are kept as they are"
        issues.append(Issue("UNITS", str(path), text, "set `units` in ingest.overrides"))
    if header.without_range:
        shown = ", ".join(header.without_range[:8])
        text = f"channels without a physical or digital range, taken as 1: {shown}"
        issues.append(Issue("HEADER", str(path), text, "their amplitudes are unknown"))
    return issues


def _times(choice: _Choice, begins: np.ndarray | None) -> tuple[Times, list[Issue]]:
    """Return the sample times: one grid, with gaps where records say so."""
    length = int(choice.header.samples[choice.picks[0]])
    rate, path = choice.rate, choice.header.path
    if begins is None:
        if choice.header.variant.endswith("+D"):
            text = "the header says that records do not follow each other, but none has a time"
            raise IngestError("BAD_TIME", path, text, "the annotations are damaged")
        return RegularClock(0.0, rate, choice.n_records * length), []
    # Records that follow each other within half a sample make one segment.
    gap = np.diff(begins) - choice.header.record_s
    first = np.concatenate([[0], np.flatnonzero(np.abs(gap) * rate > 0.5) + 1])
    counts = np.diff(np.concatenate([first, [choice.n_records]])) * length
    time, issues = segment_times(begins[first], counts, rate, path)
    if len(first) > 1 and not choice.header.variant.endswith("+D"):
        text = f"the header calls it {choice.header.variant or 'EDF'}, but its records have gaps"
        issues.append(Issue("HEADER", str(path), text))
    return time, issues


def _events(
    choice: _Choice,
    samples: Samples,
    table: ChannelTable,
    time: Times,
    begins: np.ndarray | None,
    annotations: list[Annotation],
    settings: EdfSettings,
) -> Any:
    """Return annotations and steps of trigger channels, seconds from the first sample."""
    zero = 0.0 if begins is None else float(begins[0])
    wanted = settings.stim_events
    triggers = {k: table.name[k] for k, kind in enumerate(table.ch_type) if kind == "stim"}
    places, codes, names = step_events(samples, triggers if wanted else {}, mask=TRIGGER_MASK)
    if not annotations and not len(places) and begins is None and not triggers:
        return None
    return event_table(
        [a.onset - zero for a in annotations] + list(times_at(time, places)),
        [a.duration for a in annotations] + [0.0] * len(places),
        [a.text for a in annotations] + [str(code) for code in codes],
        code=[code_of(a.text) for a in annotations] + list(codes),
        source=["annotations"] * len(annotations) + names,
    )


def _subject(header: EdfHeader) -> dict[str, str]:
    """Return sex and age where the patient field of EDF+ states them."""
    words = header.patient.split(" ")
    if len(words) < 4:
        return {}
    found = {"sex": words[1]} if words[1] in ("M", "F") else {}
    age = subject_age(words[2], header.started)
    return {**found, **({"age": age} if age else {})}


READER = Reader(
    name="edf",
    modalities=("eeg", "meg", "ieeg"),
    extensions=(".edf", ".bdf", ".rec"),
    settings=EdfSettings,
    probe="neuropipe.io.channels.edf:probe",
    open="neuropipe.io.channels.edf:open_recording",
)
