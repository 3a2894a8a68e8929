"""Samples of BrainVision files: integers as they are, floats in SI units."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from neuropipe.errors import IngestError

__all__ = ["BrainVisionSamples"]


class BrainVisionSamples:
    """Samples of one ``.eeg`` file.

    Parameters
    ----------
    path : Path
        The file.
    dtype : numpy.dtype
        Of the file.
    shape : tuple of int
        ``(n_times, n_channels)``.
    multiplexed : bool
        All channels of a sample lie together; else all samples of a channel.
    scale : numpy.ndarray
        SI units per number, ``(n_channels,)``.
    """

    def __init__(
        self,
        path: Path,
        dtype: np.dtype,
        shape: tuple[int, int],
        multiplexed: bool,
        scale: np.ndarray,
    ) -> None:
        self._path, self._stored, self.multiplexed = path, dtype, multiplexed
        self._factor = scale
        self.shape = shape
        integers = dtype.kind == "i"
        # The product of a float32 and its resolution needs float64, as mne has it.
        self.dtype = dtype.newbyteorder("=") if integers else np.dtype(np.float64)
        self.scale: np.ndarray | None = scale if integers else None
        self.offset: np.ndarray | None = np.zeros(shape[1]) if integers else None

    def step(self, max_bytes: int) -> int:
        """Return how many samples to read at once."""
        return max(1, max_bytes // (self.shape[1] * self.dtype.itemsize))

    def read(self, start: int, stop: int, channels: Sequence[int] | None = None) -> np.ndarray:
        """Return samples ``(stop - start, n_channels)``.

        Raises
        ------
        IngestError
            ``TRUNCATED``: the file became shorter.
        """
        with self._path.open("rb") as stream:
            if self.multiplexed:
                n = self.shape[1]
                flat = self._fetch(stream, start * n, (stop - start) * n)
                values = flat.reshape(-1, n)
                values = values if channels is None else values[:, list(channels)]
            else:
                picks = range(self.shape[1]) if channels is None else channels
                columns = [
                    self._fetch(stream, k * self.shape[0] + start, stop - start) for k in picks
                ]
                values = np.stack(columns, axis=1)
        if self.scale is not None:
            return values.astype(self.dtype, copy=False)
        factor = self._factor if channels is None else self._factor[list(channels)]
        return values.astype(np.float64) * factor

    def _fetch(self, stream: object, first: int, count: int) -> np.ndarray:
        stream.seek(first * self._stored.itemsize)  # type: ignore[attr-defined]
        values = np.fromfile(stream, self._stored, count)  # type: ignore[call-overload]
        if len(values) < count:
            text = f"{len(values)} numbers at {first}, {count} expected"
            raise IngestError("TRUNCATED", self._path, text, "copy the file again")
        return values

    def close(self) -> None:
        """Nothing stays open."""
