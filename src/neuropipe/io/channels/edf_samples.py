"""Samples and annotations in the data records of EDF and BDF files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neuropipe.errors import IngestError
from neuropipe.io.channels.edf_header import EdfHeader

__all__ = ["Annotation", "EdfSamples", "read_annotations"]

TAL = re.compile(rb"([+-]\d+(?:\.\d*)?)(?:\x15(\d+(?:\.\d*)?))?((?:\x14[^\x14\x00]*)*)\x14\x00")


def _integers(raw: np.ndarray) -> np.ndarray:
    """Return 24-bit little-endian integers ``(n, 3)`` of bytes as int32 ``(n,)``."""
    wide = np.zeros((len(raw), 4), dtype=np.uint8)
    wide[:, 1:] = raw
    # The sign bit stands in bit 31 now; the shift back carries it along.
    return wide.view("<i4").ravel().astype(np.int32, copy=False) >> 8


class EdfSamples:
    """Integers of channels that share one rate.

    Parameters
    ----------
    header : EdfHeader
    picks : sequence of int
        Channels, all with the same number of samples per record.
    n_records : int
        Records that the file holds.
    scale, offset : numpy.ndarray
        Of the picked channels, SI units; ``(n_channels,)``.
    """

    def __init__(
        self,
        header: EdfHeader,
        picks: Sequence[int],
        n_records: int,
        scale: np.ndarray,
        offset: np.ndarray,
    ) -> None:
        self._header, self._picks = header, list(picks)
        self._length = int(header.samples[picks[0]])
        self._starts = np.concatenate([[0], np.cumsum(header.samples)])
        self.dtype = np.dtype(np.int16 if header.itemsize == 2 else np.int32)
        self.shape = (n_records * self._length, len(self._picks))
        self.scale: np.ndarray | None = scale
        self.offset: np.ndarray | None = offset

    def step(self, max_bytes: int) -> int:
        """Return whole records where one fits, else a part of one."""
        fitting = max(1, max_bytes // (len(self._picks) * self.dtype.itemsize))
        # The other channels of a record are read along.
        whole = max_bytes // max(1, self._header.record_bytes)
        return min(fitting // self._length, whole) * self._length or min(fitting, self._length)

    def read(self, start: int, stop: int, channels: Sequence[int] | None = None) -> np.ndarray:
        """Return samples ``(stop - start, n_channels)``."""
        picks = self._picks if channels is None else [self._picks[k] for k in channels]
        first, last = start // self._length, -(-stop // self._length)
        with self._header.path.open("rb") as stream:
            if channels is None and stop - start >= self._length:
                values = self._records(stream, first, last, picks)
                skipped = start - first * self._length
                return values[skipped : skipped + stop - start]
            parts = [
                self._part(stream, record, start, stop, picks) for record in range(first, last)
            ]
        return np.concatenate(parts)

    def _fetch(self, stream: object, offset: int, count: int) -> np.ndarray:
        """Return `count` samples from byte `offset`, native integers."""
        stream.seek(offset)  # type: ignore[attr-defined]
        size = self._header.itemsize
        raw = np.fromfile(stream, np.uint8, count * size)  # type: ignore[call-overload]
        if len(raw) < count * size:
            text = f"{len(raw)} bytes at offset {offset}, {count * size} expected"
            raise IngestError("TRUNCATED", self._header.path, text, "copy the file again")
        if size == 2:
            return raw.view("<i2").astype(np.int16, copy=False)
        return _integers(raw.reshape(-1, 3))

    def _records(self, stream: object, first: int, last: int, picks: Sequence[int]) -> np.ndarray:
        """Return whole records as ``(time, channel)``."""
        header = self._header
        count = (last - first) * int(self._starts[-1])
        whole = self._fetch(stream, header.n_bytes + first * header.record_bytes, count)
        whole = whole.reshape(last - first, -1)
        out = np.empty((last - first, self._length, len(picks)), self.dtype)
        for column, pick in enumerate(picks):
            at = int(self._starts[pick])
            out[:, :, column] = whole[:, at : at + self._length]
        return out.reshape(-1, len(picks))

    def _part(
        self, stream: object, record: int, start: int, stop: int, picks: Sequence[int]
    ) -> np.ndarray:
        """Return what lies between `start` and `stop` in one record, channel by channel."""
        begin = max(0, start - record * self._length)
        end = min(self._length, stop - record * self._length)
        header = self._header
        base = header.n_bytes + record * header.record_bytes
        columns = [
            self._fetch(
                stream, base + (int(self._starts[k]) + begin) * header.itemsize, end - begin
            )
            for k in picks
        ]
        return np.stack(columns, axis=1)

    def close(self) -> None:
        """Nothing stays open."""


@dataclass(frozen=True)
class Annotation:
    """Onset in seconds from the start that the header states, duration (0 = instant), text."""

    onset: float
    duration: float
    text: str


def read_annotations(
    header: EdfHeader, n_records: int
) -> tuple[np.ndarray | None, list[Annotation]]:
    """Return the start of each record, and the annotations.

    Returns
    -------
    tuple of numpy.ndarray or None, and list of Annotation
        Seconds from the start of the file, ``(n_records,)``; None without annotation channels.

    Raises
    ------
    IngestError
        ``BAD_TIME``: a record does not say when it begins.
    """
    channels = header.annotations
    if not channels:
        return None, []
    starts = np.concatenate([[0], np.cumsum(header.samples)]) * header.itemsize
    begins = np.full(n_records, np.nan)
    found: list[Annotation] = []
    with header.path.open("rb") as stream:
        for record in range(n_records):
            base = header.n_bytes + record * header.record_bytes
            for channel in channels:
                stream.seek(base + int(starts[channel]))
                raw = stream.read(int(header.samples[channel]) * header.itemsize)
                for tal in TAL.finditer(raw):
                    onset, duration = float(tal[1]), float(tal[2] or 0)
                    texts = tal[3].split(b"\x14")[1:]
                    if np.isnan(begins[record]) and (not texts or not texts[0]):
                        begins[record] = onset
                    found += [
                        Annotation(onset, duration, text.decode("utf-8", "replace"))
                        for text in texts
                        if text
                    ]
    if np.isnan(begins).any():
        record = int(np.flatnonzero(np.isnan(begins))[0])
        if header.variant.endswith("D"):
            text = f"record {record} does not state when it begins, in a file with gaps"
            raise IngestError("BAD_TIME", header.path, text, "the annotations are damaged")
        begins = np.where(np.isnan(begins), np.arange(n_records) * header.record_s, begins)
    return begins, found
