"""Samples that mne decodes, read in blocks, without what the recorder skipped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from neuropipe.io.channels.mne_header import wrapped

if TYPE_CHECKING:
    import mne

__all__ = ["MneSamples"]


class MneSamples:
    """Samples of a recording that mne opened, float in SI units.

    Parameters
    ----------
    raw : mne.io.BaseRaw
    path : Path
        File, for errors.
    segments : sequence of (int, int), optional
        First sample and end of each part to keep, in samples of `raw`; default: all.
    dtype : numpy.dtype
        float32 only where no value changes by it.
    """

    def __init__(
        self,
        raw: mne.io.BaseRaw,
        path: Path,
        segments: Sequence[tuple[int, int]] | None = None,
        dtype: np.dtype | None = None,
    ) -> None:
        self._raw, self._path = raw, path
        kept = [(0, len(raw.times))] if segments is None else list(segments)
        self._firsts = np.array([first for first, _ in kept], dtype=np.int64)
        lengths = np.array([end - first for first, end in kept], dtype=np.int64)
        self._ends = np.cumsum(lengths)
        self.dtype = np.dtype(np.float64) if dtype is None else dtype
        self.shape = (int(lengths.sum()), len(raw.ch_names))
        self.scale: np.ndarray | None = None
        self.offset: np.ndarray | None = None

    def step(self, max_bytes: int) -> int:
        """Return how many samples to read at once; mne holds them as float64."""
        return max(1, max_bytes // (8 * self.shape[1]))

    def read(self, start: int, stop: int, channels: Sequence[int] | None = None) -> np.ndarray:
        """Return samples ``(stop - start, n_channels)``.

        Raises
        ------
        IngestError
            ``TRUNCATED`` or ``NOT_THIS_FORMAT``: what mne says of samples it cannot decode.
        """
        picks = slice(None) if channels is None else list(channels)
        parts, at = [], start
        while at < stop:
            k = int(np.searchsorted(self._ends, at, side="right"))
            begin = int(self._ends[k - 1]) if k else 0
            end = min(stop, int(self._ends[k]))
            here = slice(int(self._firsts[k]) + at - begin, int(self._firsts[k]) + end - begin)
            values = wrapped(self._raw.__getitem__, self._path, (picks, here))[0]
            parts.append(np.ascontiguousarray(values.T, dtype=self.dtype))
            at = end
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def close(self) -> None:
        """Close the files."""
        self._raw.close()
