"""EDF, EDF+ and BDF files written from integers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["EdfSignal", "write_edf_file"]

NOTE_BYTES = 120


@dataclass(frozen=True)
class EdfSignal:
    """One channel: numbers as stored, ranges, unit, and of how many samples one is kept."""

    name: str
    numbers: np.ndarray
    physical: tuple[float, float]
    digital: tuple[int, int]
    unit: str
    every: int


def _field(value: object, width: int) -> bytes:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    raw = text.encode("latin-1")
    if len(raw) > width:
        raise ValueError(f"{text!r} does not fit {width} characters")
    return raw.ljust(width)


def _bytes(numbers: np.ndarray, bdf: bool) -> bytes:
    if not bdf:
        return numbers.astype("<i2").tobytes()
    return numbers.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()


def _header(
    signals: Sequence[EdfSignal], per_record: Sequence[int], n_records: int, *, record_s: float,
    bdf: bool, variant: str,
) -> bytes:  # fmt: skip
    n = len(signals)
    date = "X X X X" if variant else "X"
    fixed = [
        (b"\xffBIOSEMI" if bdf else b"0       "),
        _field("X F 02-MAY-1951 X" if variant else "X", 80),
        _field("Startdate 01-JAN-2024 " + date[:5] if variant else "X", 80),
        _field("01.01.24", 8),
        _field("09.00.00", 8),
        _field(256 * (n + 1), 8),
        _field(variant or ("24BIT" if bdf else ""), 44),
        _field(n_records, 8),
        _field(float(record_s), 8),
        _field(n, 4),
    ]
    columns: list[tuple[int, list[object]]] = [
        (16, [s.name for s in signals]),
        (80, ["" for _ in signals]),
        (8, [s.unit for s in signals]),
        (8, [s.physical[0] for s in signals]),
        (8, [s.physical[1] for s in signals]),
        (8, [s.digital[0] for s in signals]),
        (8, [s.digital[1] for s in signals]),
        (80, ["HP:0.1Hz LP:75Hz" if s.unit else "" for s in signals]),
        (8, list(per_record)),
        (32, ["" for _ in signals]),
    ]
    rows = [_field(value, width) for width, values in columns for value in values]
    return b"".join([*fixed, *rows])


def write_edf_file(
    path: Path,
    signals: Sequence[EdfSignal],
    *,
    rate_hz: float,
    record_s: float,
    bdf: bool,
    notes: Sequence[tuple[float, str]] | None,
    pauses: Mapping[int, float],
) -> None:
    """Write signals in data records.

    Parameters
    ----------
    path : Path
        The file.
    signals : sequence of EdfSignal
    rate_hz : float
        Rate of signals of which every sample is kept.
    record_s : float
        Duration of a record, seconds.
    bdf : bool
        24-bit numbers.
    notes : sequence of (float, str) or None
        Seconds of recorded time and text of each annotation; None: a file without them.
    pauses : mapping of int to float
        Record -> seconds that recording paused before it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    size = 3 if bdf else 2
    per_record = [round(rate_hz * record_s / s.every) for s in signals]
    n_records = len(signals[0].numbers) // per_record[0]
    kind, everything, counts = ("BDF" if bdf else "EDF"), list(signals), list(per_record)
    variant = ""
    if notes is not None:
        variant = f"{kind}+{'D' if pauses else 'C'}"
        limit = 2 ** (8 * size - 1)
        ends = (-limit, limit - 1)
        everything.append(EdfSignal(f"{kind} Annotations", np.zeros(0), (-1.0, 1.0), ends, "", 1))
        counts.append(NOTE_BYTES // size)
    header = _header(everything, counts, n_records, record_s=record_s, bdf=bdf, variant=variant)
    with path.open("wb") as stream:
        stream.write(header)
        for record in range(n_records):
            for signal, count in zip(signals, per_record, strict=True):
                stream.write(_bytes(signal.numbers[record * count : (record + 1) * count], bdf))
            if notes is not None:
                stream.write(_notes(record, record_s, notes, pauses))


def _notes(
    record: int, record_s: float, notes: Sequence[tuple[float, str]], pauses: Mapping[int, float]
) -> bytes:
    """Return the annotations of a record: first when it begins, then the events in it."""
    begin = record * record_s
    paused = sum(pause for at, pause in pauses.items() if at <= record)
    text = f"+{begin + paused:g}\x14\x14\x00"
    for onset, word in notes:
        if begin <= onset < begin + record_s:
            text += f"+{onset + paused:.6f}\x14{word}\x14\x00"
    return text.encode("utf-8").ljust(NOTE_BYTES, b"\x00")
