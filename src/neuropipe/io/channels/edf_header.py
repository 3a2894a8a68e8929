"""The header of EDF and BDF files: fixed columns of ASCII."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from neuropipe.errors import IngestError
from neuropipe.io.checks import head, refuse_pointers

__all__ = ["ANNOTATION_LABELS", "EDF_MAGIC", "EdfHeader", "read_edf_header"]

EDF_MAGIC = (b"0       ", b"\xffBIOSEMI")
ANNOTATION_LABELS = ("EDF Annotations", "BDF Annotations")
FIXED_BYTES = 256
PER_CHANNEL = (
    ("label", 16),
    ("transducer", 80),
    ("unit", 8),
    ("physical_min", 8),
    ("physical_max", 8),
    ("digital_min", 8),
    ("digital_max", 8),
    ("prefilter", 80),
    ("samples", 8),
    ("reserved", 32),
)


@dataclass(frozen=True)
class EdfHeader:
    """What the header states.

    Attributes
    ----------
    path : Path
        The file.
    itemsize : int
        Bytes per sample: 2 (EDF) or 3 (BDF).
    variant : str
        ``EDF+C``, ``EDF+D``, ``BDF+C``, ``24BIT`` ...; "" for plain EDF.
    patient, recorded : str
        Text fields of subject and recording.
    started : datetime or None
        Local time without offset.
    n_bytes : int
        Length of the header.
    n_records : int
        Number of data records; -1: the recorder did not fill it in.
    record_s : float
        Duration of a record, seconds.
    labels, units, prefilters : tuple of str
        Per channel, annotation channels included.
    scale, offset : numpy.ndarray
        ``digital * scale + offset`` is in `units`; ``(n_channels,)`` float64.
    samples : numpy.ndarray
        Samples per record of each channel, int64.
    without_range : tuple of str
        Channels whose header states no usable range: their numbers stay as they are.
    """

    path: Path
    itemsize: int
    variant: str
    patient: str
    recorded: str
    started: datetime | None
    n_bytes: int
    n_records: int
    record_s: float
    labels: tuple[str, ...]
    units: tuple[str, ...]
    prefilters: tuple[str, ...]
    scale: np.ndarray
    offset: np.ndarray
    samples: np.ndarray
    without_range: tuple[str, ...]

    @property
    def record_bytes(self) -> int:
        """Bytes of one data record."""
        return int(self.samples.sum()) * self.itemsize

    @property
    def annotations(self) -> list[int]:
        """Positions of the channels that hold annotations."""
        return [k for k, label in enumerate(self.labels) if label in ANNOTATION_LABELS]

    @property
    def signals(self) -> list[int]:
        """Positions of the channels that hold samples."""
        return [k for k, label in enumerate(self.labels) if label not in ANNOTATION_LABELS]


def _damaged(path: Path, text: str) -> IngestError:
    hint = "the header is damaged; copy the file again"
    return IngestError("NOT_THIS_FORMAT", path, text, hint)


def _number(path: Path, field: str, raw: bytes) -> float:
    text = raw.decode("latin-1").split("\x00")[0].strip().replace(",", ".")
    try:
        value = float(text)
    except ValueError:
        raise _damaged(path, f"header field {field!r} is {text!r}, a number expected") from None
    if not np.isfinite(value):
        raise _damaged(path, f"header field {field!r} is {text!r}, a number expected")
    return value


def _count(path: Path, field: str, raw: bytes, least: int) -> int:
    value = _number(path, field, raw)
    if value != int(value) or value < least:
        text = f"header field {field!r} is {value:g}, a whole number from {least} expected"
        raise _damaged(path, text)
    return int(value)


def _text(raw: bytes) -> str:
    return raw.decode("latin-1").split("\x00")[0].strip()


def _started(recorded: str, day: str, clock: str) -> datetime | None:
    """Return date and time; the field of EDF+ holds all four digits of the year."""
    found = re.match(r"Startdate (\d{2}-[A-Za-z]{3}-\d{4})\b", recorded)
    try:
        if found:
            date = datetime.strptime(found[1].title(), "%d-%b-%Y")
        else:
            d, m, y = (int(part) for part in day.split("."))
            date = datetime(y + (2000 if y < 85 else 1900), m, d)
        hour, minute, second = (int(part) for part in clock.split("."))
        return date.replace(hour=hour, minute=minute, second=second)
    except ValueError:
        return None


def read_edf_header(path: Path) -> EdfHeader:
    """Return the header of an EDF or BDF file.

    Raises
    ------
    IngestError
        ``NOT_THIS_FORMAT`` naming the field at fault, ``EMPTY``, ``TRUNCATED``.
    """
    refuse_pointers(path)
    fixed = head(path, FIXED_BYTES)
    if fixed[:8] not in EDF_MAGIC:
        text = f"begins with {fixed[:8]!r}, EDF with {EDF_MAGIC[0]!r} and BDF with {EDF_MAGIC[1]!r}"
        raise IngestError("NOT_THIS_FORMAT", path, text, "correct the column `reader`")
    if len(fixed) < FIXED_BYTES:
        text = f"{len(fixed)} bytes, a header has at least {FIXED_BYTES}"
        raise IngestError("TRUNCATED", path, text, "copy the file again")
    n_channels = _count(path, "number of signals", fixed[252:256], 1)
    n_bytes = _count(path, "bytes in header", fixed[184:192], FIXED_BYTES)
    expected = FIXED_BYTES * (n_channels + 1)
    if n_bytes != expected:
        text = f"header field 'bytes in header' is {n_bytes}, {n_channels} signals need {expected}"
        raise _damaged(path, text)
    whole = head(path, n_bytes)
    if len(whole) < n_bytes:
        text = f"the file has {len(whole)} bytes, its header alone {n_bytes}"
        raise IngestError("TRUNCATED", path, text, "copy the file again")
    columns = _columns(whole[FIXED_BYTES:], n_channels)
    record_s = _number(path, "duration of a data record", fixed[244:252])
    if record_s <= 0:
        text = f"header field 'duration of a data record' is {record_s:g} s, more than 0 expected"
        raise _damaged(path, text)
    scale, offset, without = _scaling(path, columns)
    recorded = _text(fixed[88:168])
    return EdfHeader(
        path=path,
        itemsize=3 if fixed[:8] == EDF_MAGIC[1] else 2,
        variant=_text(fixed[192:236])[:5],
        patient=_text(fixed[8:88]),
        recorded=recorded,
        started=_started(recorded, _text(fixed[168:176]), _text(fixed[176:184])),
        n_bytes=n_bytes,
        n_records=_count(path, "number of data records", fixed[236:244], -1),
        record_s=record_s,
        labels=tuple(_text(raw) for raw in columns["label"]),
        units=tuple(_text(raw) for raw in columns["unit"]),
        prefilters=tuple(_text(raw) for raw in columns["prefilter"]),
        scale=scale,
        offset=offset,
        samples=np.array(
            [_count(path, "samples in a data record", raw, 1) for raw in columns["samples"]],
            dtype=np.int64,
        ),
        without_range=without,
    )


def _columns(block: bytes, n_channels: int) -> dict[str, list[bytes]]:
    found, start = {}, 0
    for name, width in PER_CHANNEL:
        found[name] = [
            block[start + k * width : start + (k + 1) * width] for k in range(n_channels)
        ]
        start += width * n_channels
    return found


def _scaling(
    path: Path, columns: dict[str, list[bytes]]
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Return scale and offset per channel, and the channels without a usable range.

    mne takes a range of zero as one; so do we, with an issue.
    """
    ends = {
        name: np.array([_number(path, name.replace("_", " "), raw) for raw in columns[name]])
        for name in ("physical_min", "physical_max", "digital_min", "digital_max")
    }
    physical = ends["physical_max"] - ends["physical_min"]
    digital = ends["digital_max"] - ends["digital_min"]
    broken = (physical == 0) | (digital == 0)
    scale = np.where(physical == 0, 1.0, physical) / np.where(digital == 0, 1.0, digital)
    offset = ends["physical_min"] - ends["digital_min"] * scale
    labels = [_text(raw) for raw in columns["label"]]
    unusable = tuple(
        label
        for label, fault in zip(labels, broken, strict=True)
        if fault and label not in ANNOTATION_LABELS
    )
    return scale, offset, unusable
