"""The two text files of BrainVision: header and markers."""

from __future__ import annotations

import configparser
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from neuropipe.errors import IngestError
from neuropipe.io.channels.probing import leads_out
from neuropipe.io.checks import refuse_pointers

__all__ = ["BrainVisionHeader", "Marker", "read_brainvision_header", "read_markers"]

FORMATS = {"INT_16": "<i2", "INT_32": "<i4", "IEEE_FLOAT_32": "<f4"}
ORIENTATIONS = ("MULTIPLEXED", "VECTORIZED")
IDENTITY = re.compile(r"Brain ?Vision( Core| V-Amp)? Data( Exchange)? (Header|Marker) File", re.I)
DEFAULT_UNIT = "\u00b5V"
MARKER = re.compile(r"^Mk\d+=(.*)", re.MULTILINE)


UTF8_MICRO = b"\xc2\xb5"


@dataclass(frozen=True)
class BrainVisionHeader:
    """What the ``.vhdr`` file states.

    Attributes
    ----------
    path, data, markers : Path
        The three files; `markers` is None without one.
    dtype : numpy.dtype
        Of the samples.
    multiplexed : bool
        All channels of a sample lie together; else all samples of a channel.
    n_points : int or None
        Samples per channel, where stated.
    rate : float
        Hz.
    names, references, units : tuple of str
        Per channel.
    resolution : numpy.ndarray
        Units per bit, ``(n_channels,)``.
    """

    path: Path
    data: Path
    markers: Path | None
    dtype: np.dtype
    multiplexed: bool
    n_points: int | None
    rate: float
    names: tuple[str, ...]
    references: tuple[str, ...]
    units: tuple[str, ...]
    resolution: np.ndarray


@dataclass(frozen=True)
class Marker:
    """One marker: kind, text, zero-based sample, length in samples, date of a new segment."""

    kind: str
    text: str
    position: int
    size: int
    date: datetime | None


def _decoded(path: Path) -> str:
    """Return the text of a header or marker file, in the code page that it names."""
    refuse_pointers(path)
    raw = path.read_bytes()
    if b"\x00" in raw and not raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = "holds NUL, which no text of BrainVision has"
        raise IngestError("ENCODING", path, text, "copy or download the file again")
    named = re.search(rb"Codepage=(\S+)", raw, re.IGNORECASE)
    page = named[1].decode("ascii", "ignore") if named else "utf-8"
    page = "cp1252" if page.upper() == "ANSI" else page
    try:
        return raw.decode(page).removeprefix("\ufeff")
    except (UnicodeDecodeError, LookupError) as error:
        if UTF8_MICRO in raw:  # read as Latin-1 its units would be unknown words
            text = f"says Codepage={page}, and neither all nor nothing of it is UTF-8: {error}"
            raise IngestError("ENCODING", path, text, "copy the file again") from error
        # What older recorders wrote on Windows.
        return raw.decode("latin-1")


def _refuse(path: Path, text: str) -> IngestError:
    return IngestError("NOT_THIS_FORMAT", path, text, "the header is damaged; copy it again")


def read_brainvision_header(path: Path) -> BrainVisionHeader:
    """Return the header of a BrainVision recording.

    Raises
    ------
    IngestError
        ``NOT_THIS_FORMAT`` naming the field at fault, ``MISSING_SIDECAR`` when the file of the
        samples is absent.
    """
    text = _decoded(path)
    first, _, rest = text.partition("\n")
    if not IDENTITY.search(first):
        raise _refuse(path, f"begins with {first[:60]!r}, 'Brain Vision Data Exchange Header File'")
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string(rest.partition("[Comment]")[0])
    except configparser.Error as error:
        raise _refuse(path, f"cannot be parsed: {' '.join(str(error).split())}") from None
    sections = {name.lower(): dict(parser.items(name)) for name in parser.sections()}
    common, binary = sections.get("common infos", {}), sections.get("binary infos", {})
    if common.get("dataformat", "BINARY").upper() != "BINARY":
        text = f"DataFormat is {common['dataformat']!r}, BINARY expected"
        raise IngestError("NOT_THIS_FORMAT", path, text, "export it as binary")
    form = _word(path, binary, "BinaryFormat", tuple(FORMATS))
    orientation = _word(path, common, "DataOrientation", ORIENTATIONS)
    n_channels = int(_value(path, common, "NumberOfChannels"))
    channels = _channels(path, sections.get("channel infos", {}), n_channels)
    return BrainVisionHeader(
        path=path,
        data=_data_file(path, common),
        markers=_marker_file(path, common),
        dtype=np.dtype(FORMATS[form]),
        multiplexed=orientation == "MULTIPLEXED",
        n_points=int(_value(path, common, "DataPoints")) if common.get("datapoints") else None,
        rate=1e6 / _value(path, common, "SamplingInterval"),
        names=tuple(row[0] for row in channels),
        references=tuple(row[1] for row in channels),
        units=tuple(row[3] for row in channels),
        resolution=np.array([row[2] for row in channels], dtype=np.float64),
    )


def _word(path: Path, section: dict[str, str], key: str, known: tuple[str, ...]) -> str:
    found = section.get(key.lower(), "").strip()
    if found not in known:
        raise _refuse(path, f"{key} is {found!r}, one of {', '.join(known)} expected")
    return found


def _value(path: Path, section: dict[str, str], key: str) -> float:
    """Return a positive number of the header."""
    text = section.get(key.lower(), "").strip()
    try:
        value = float(text)
    except ValueError:
        raise _refuse(path, f"{key} is {text!r}, a number expected") from None
    if not value > 0 or not np.isfinite(value):
        raise _refuse(path, f"{key} is {text!r}, a number above 0 expected")
    return value


def _channels(
    path: Path, section: dict[str, str], n_channels: int
) -> list[tuple[str, str, float, str]]:
    """Return name, reference, resolution and unit per channel."""
    rows: dict[int, tuple[str, str, float, str]] = {}
    for key, value in section.items():
        number = re.fullmatch(r"ch(\d+)", key)
        if not number:
            continue
        parts = [part.strip().replace(r"\1", ",") for part in value.split(",")] + [""] * 4
        name, reference, resolution, unit = parts[:4]
        try:
            factor = float(resolution) if resolution else 1.0
        except ValueError:
            text = f"[Channel Infos] {key}: resolution {resolution!r}, a number expected"
            raise _refuse(path, text) from None
        rows[int(number[1])] = (name, reference, factor, unit or DEFAULT_UNIT)
    absent = [k for k in range(1, n_channels + 1) if k not in rows]
    if absent:
        text = f"[Channel Infos] lacks Ch{absent[0]} ({len(absent)} of {n_channels} channels)"
        raise _refuse(path, text)
    return [rows[k] for k in range(1, n_channels + 1)]


def _data_file(path: Path, common: dict[str, str]) -> Path:
    named = common.get("datafile", "").replace("$b", path.stem).strip()
    if leads_out(named):
        text = f"DataFile={named} leads out of the folder of the header"
        raise IngestError("UNSAFE", path, text, "lay the files side by side and correct the header")
    data = path.parent / named
    if not named or not data.is_file():
        raise IngestError(
            "MISSING_SIDECAR",
            path,
            f"DataFile={named} names the samples, but there is no such file beside the header",
            "copy it too; after renaming, correct DataFile and MarkerFile in the header",
        )
    refuse_pointers(data)
    return data


def _marker_file(path: Path, common: dict[str, str]) -> Path | None:
    named = common.get("markerfile", "").replace("$b", path.stem).strip()
    stated = path.parent / named if named and not leads_out(named) else None
    usual = (stated, path.with_suffix(".vmrk"))
    return next((file for file in usual if file is not None and file.is_file()), None)


def read_markers(path: Path) -> list[Marker]:
    """Return the markers of a ``.vmrk`` file, in its order.

    Raises
    ------
    IngestError
        ``NOT_THIS_FORMAT`` naming the marker at fault.
    """
    text = _decoded(path)
    if not IDENTITY.search(text.partition("\n")[0]):
        raise _refuse(path, "does not begin as a marker file of Brain Vision")
    found = []
    for row in MARKER.findall(text):
        parts = row.strip().split(",")
        try:
            position = int(parts[2]) - 1
            size = int(parts[3]) if len(parts) > 3 and parts[3].strip().isdigit() else 0
        except (IndexError, ValueError):
            raise _refuse(path, f"marker {row.strip()[:60]!r} has no position") from None
        kind, word = (part.replace(r"\1", ",") for part in parts[:2])
        date = _date(parts[5]) if len(parts) > 5 else None
        found.append(Marker(kind, word, position, size, date))
    return found


def _date(text: str) -> datetime | None:
    """Return the date of a new segment, ``YYYYMMDDhhmmssuuuuuu``; zeros stand for none."""
    try:
        return datetime.strptime(text.strip(), "%Y%m%d%H%M%S%f")
    except ValueError:
        return None
