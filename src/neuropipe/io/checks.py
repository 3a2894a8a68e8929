"""Checks of source files and of what readers found in them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.errors import IngestError, Issue

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "HDF5_MAGIC",
    "MAX_OFFSET_S",
    "check_behavior_clocks",
    "check_not_empty",
    "check_overlap",
    "check_session_start",
    "check_times",
    "common_length",
    "decode_texts",
    "has_magic",
    "head",
    "inside",
    "open_hdf5",
    "read_text",
    "refuse_pointers",
    "unusual_step",
]

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
HEAD_BYTES = 1024
MIN_OVERLAP = 0.9
MAX_OFFSET_S = 86_400.0
MIN_STEP_S, MAX_STEP_S = 1e-4, 20.0
EPOCH = "1970-01-01T00:00:00+00:00"


def head(path: Path, count: int = HEAD_BYTES) -> bytes:
    """Return the first bytes of a file; of a folder, none."""
    if path.is_dir():
        return b""
    with path.open("rb") as stream:
        return stream.read(count)


def has_magic(path: Path, magic: bytes) -> bool:
    """Tell whether a file begins with these bytes."""
    return path.is_file() and head(path, len(magic)) == magic


def refuse_pointers(path: Path) -> None:
    """Raise when a file holds no data but a web page or a pointer to data kept elsewhere.

    Raises
    ------
    IngestError
        ``EMPTY`` for a file of zero bytes, else ``NOT_THIS_FORMAT`` saying what the file is.
    """
    if path.is_dir():
        return
    if path.is_symlink() and not path.exists():
        hint = "git annex get fetches it"
        raise IngestError("NOT_THIS_FORMAT", path, "a link to data that are not here", hint)
    start = head(path)
    if not start:
        raise IngestError("EMPTY", path, "the file has no bytes", "copy or download it again")
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    kinds = (
        ((b"<!doctype html", b"<html", b"<head"), "an HTML page", "download the file itself"),
        (
            (b"version https://git-lfs.github.com/spec/",),
            "a git-lfs pointer",
            "git lfs pull fetches the data",
        ),
        ((b"/annex/objects/",), "a git-annex pointer", "git annex get fetches the data"),
    )
    for beginnings, what, hint in kinds:
        if text.startswith(beginnings):
            raise IngestError("NOT_THIS_FORMAT", path, f"it is {what}, not data", hint)
    if b".git/annex/objects/" in text and len(start) < HEAD_BYTES:
        hint = "git annex get fetches the data"
        raise IngestError("NOT_THIS_FORMAT", path, "it is a git-annex link, not data", hint)


def read_text(path: Path) -> str:
    """Return UTF-8 text, with or without byte order mark.

    Raises
    ------
    IngestError
        ``MISSING_SIDECAR``, ``ENCODING`` or ``NOT_THIS_FORMAT``.
    """
    if not path.is_file() and not path.is_symlink():
        raise IngestError("MISSING_SIDECAR", path, "no such file", "correct its path")
    refuse_pointers(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise IngestError(
            "ENCODING", path, f"not UTF-8 text: {error}", "save the table as UTF-8"
        ) from error
    if "\x00" in text:
        what = "holds NUL: UTF-16 text, or a damaged file"
        raise IngestError("ENCODING", path, what, "save the table as UTF-8, or copy it again")
    return text


def open_hdf5(path: Path) -> Any:
    """Open an HDF5 file for reading, with faults named.

    Returns
    -------
    h5py.File

    Raises
    ------
    IngestError
        ``NOT_THIS_FORMAT`` or ``TRUNCATED``.
    """
    import h5py

    refuse_pointers(path)
    if not has_magic(path, HDF5_MAGIC):
        raise IngestError(
            "NOT_THIS_FORMAT",
            path,
            f"begins with {head(path, 8)!r}, an HDF5 file with {HDF5_MAGIC!r}",
            "correct the column `reader`, or copy the file again",
        )
    try:
        return h5py.File(path, "r")
    except OSError as error:
        code = "TRUNCATED" if "truncated" in str(error) else "NOT_THIS_FORMAT"
        raise IngestError(code, path, str(error), "copy or download the file again") from error


def inside(path: Path, folder: Path, source: Path) -> Path:
    """Return a path named in settings, resolved against the source's folder.

    An absolute path is taken as trusted; a relative one must not leave the folder.

    Raises
    ------
    IngestError
        ``UNSAFE``: the relative path leads out of the folder.
    """
    if path.is_absolute():
        return path
    resolved = (folder / path).resolve()
    if not resolved.is_relative_to(folder.resolve()):
        raise IngestError(
            "UNSAFE",
            source,
            f"{str(path)!r} leads out of the folder {folder}",
            "write the absolute path if you trust it",
        )
    return folder / path


def decode_texts(values: Any, where: str) -> list[str]:
    """Return texts of bytes, str or None as a list of str; a NUL padding goes.

    Raises
    ------
    IngestError
        ``ENCODING``: a text is not UTF-8.
    """
    texts = []
    for value in np.asarray(values, dtype=object).ravel():
        if isinstance(value, bytes):
            try:
                value = value.decode("utf-8")
            except UnicodeDecodeError as error:
                raise IngestError(
                    "ENCODING", where, f"not UTF-8 text: {error}", "save the text as UTF-8"
                ) from error
        text = "" if value is None else str(value).rstrip("\x00")
        if "\x00" in text:
            what = f"the text {text[:40]!r} holds NUL"
            raise IngestError("ENCODING", where, what, "correct the text, or copy the file again")
        texts.append(text)
    return texts


def check_times(time: np.ndarray, where: str) -> None:
    """Raise unless sample times are finite and strictly increasing.

    Raises
    ------
    IngestError
        ``BAD_TIME`` with the first faulty sample.
    """
    bad = np.flatnonzero(~np.isfinite(time))
    if bad.size:
        raise IngestError(
            "BAD_TIME",
            where,
            f"{bad.size} of {time.size} timestamps are not finite, the first at sample {bad[0]}",
            "correct the timestamps; samples without a time cannot be placed",
        )
    back = np.flatnonzero(np.diff(time) <= 0)
    if back.size:
        i = int(back[0])
        kind = "repeats" if time[i + 1] == time[i] else "goes back"
        if time[i + 1] < time[i] and abs(time[i + 1]) < 1e-3 * abs(time[i]):
            kind = "is reset to zero: two recordings in one file, or a restarted clock"
        raise IngestError(
            "BAD_TIME",
            where,
            f"time {kind} at sample {i + 1}: {float(time[i])} s, then {float(time[i + 1])} s "
            f"({back.size} such steps); expected increasing times",
            "split the recording or correct its timestamps",
        )


def unusual_step(time: np.ndarray, path: object) -> list[Issue]:
    """Return an issue when samples of imaging lie so far apart that their unit is in doubt.

    Parameters
    ----------
    time : numpy.ndarray
        Sample times, s, ``(n_times,)``.
    path : object
        File, for the message.
    """
    step = float(np.median(np.diff(time))) if time.size > 1 else 1.0
    if MIN_STEP_S <= step <= MAX_STEP_S:
        return []
    probable = "milliseconds" if step > MAX_STEP_S else "minutes or hours"
    text = (
        f"samples are {step:.6g} s apart, expected {MIN_STEP_S:g} to {MAX_STEP_S:g} s for imaging; "
        f"the times are probably {probable}"
    )
    return [Issue("UNITS", f"{path}: time", text, "state the unit: `time_unit`, or `rate_hz`")]


def common_length(lengths: Mapping[str, int], trim: int, path: object) -> tuple[int, list[Issue]]:
    """Return the length that all fields share, after a permitted trim at the end.

    Parameters
    ----------
    lengths : mapping of str to int
        Length per field.
    trim : int
        By how much they may differ.
    path : object
        File, for the message.

    Raises
    ------
    IngestError
        ``LENGTH_MISMATCH`` with all lengths.
    """
    least, most = min(lengths.values()), max(lengths.values())
    if least == most:
        return least, []
    listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
    if most - least <= trim:
        message = f"lengths differ ({listed}); cut to {least}"
        return least, [Issue("TRIMMED", str(path), message, "set by `trim`")]
    hint = "`trim: 1` in ingest.overrides allows for one sample at the end"
    raise IngestError(
        "LENGTH_MISMATCH",
        path,
        f"lengths differ: {listed}",
        hint if most - least == 1 else "check that the fields belong to one recording",
    )


def check_not_empty(sizes: Mapping[str, int], path: object) -> None:
    """Raise when a recording has no samples or no rows.

    Raises
    ------
    IngestError
        ``EMPTY``.
    """
    for dim, size in sizes.items():
        if size == 0:
            raise IngestError(
                "EMPTY", path, f"zero along {dim!r}, at least 1 expected", "check the field map"
            )


def check_behavior_clocks(
    behavior: xr.Dataset | None, time: np.ndarray | None, path: object
) -> None:
    """Check that every behaviour clock runs while the recording does.

    Parameters
    ----------
    behavior : xarray.Dataset or None
        Variables along ``time_<stream>``, seconds on the clock of `time`.
    time : numpy.ndarray or None
        Sample times of the recording, shape ``(n_times,)``; None checks each clock by itself.

    Raises
    ------
    IngestError
        ``BAD_TIME`` or ``CLOCK_MISMATCH``.
    """
    if behavior is None:
        return
    for name in sorted(str(dim) for dim in behavior.dims):
        if not name.startswith("time_") or name not in behavior.coords:
            continue
        clock = np.asarray(behavior[name].values, dtype=np.float64)
        where = f"{path}: behavior.{name}"
        check_times(clock, where)
        if clock.size and time is not None:
            check_overlap(clock, time, where)


def check_overlap(
    clock: np.ndarray, time: np.ndarray, where: str, least: float = MIN_OVERLAP
) -> None:
    """Raise unless a behaviour clock runs while the recording does.

    Parameters
    ----------
    clock, time : numpy.ndarray
        Times of the behaviour and of the recording on one clock, seconds, increasing.
    where : str
        File and stream, for the message.
    least : float
        Least share of the recording that the behaviour covers.

    Raises
    ------
    IngestError
        ``CLOCK_MISMATCH``.
    """
    offset = float(clock[0] - time[0])
    span = float(time[-1] - time[0])
    common = min(clock[-1], time[-1]) - max(clock[0], time[0])
    share = common / span if span > 0 else float(clock[0] <= time[0] <= clock[-1])
    if abs(offset) <= MAX_OFFSET_S and share >= least:
        return
    found = f"{clock[0]:.3f} to {clock[-1]:.3f} s, the recording {time[0]:.3f} to {time[-1]:.3f} s"
    raise IngestError(
        "CLOCK_MISMATCH",
        where,
        f"the behaviour clock runs from {found}: {max(0.0, share):.0%} of the recording "
        f"(at least {least:.0%} expected), start offset {offset:.3f} s",
        "check that both clocks count the same seconds from the same zero",
    )


def check_session_start(text: str, where: str) -> str:
    """Return an ISO 8601 session start, or raise when it has no UTC offset.

    Raises
    ------
    IngestError
        ``NAIVE_SESSION_START`` or ``BAD_SESSION_START``.
    """
    if not text:
        return ""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise IngestError(
            "BAD_SESSION_START",
            where,
            f"{text!r} is not ISO 8601",
            "such as 2024-05-01T09:30+02:00",
        ) from error
    if moment.tzinfo is None:
        raise IngestError(
            "NAIVE_SESSION_START",
            where,
            f"session_start {text!r} has no UTC offset",
            f"write the offset in the source or the recordings table, such as {text}+00:00",
        )
    return "" if moment.isoformat() == EPOCH else text
