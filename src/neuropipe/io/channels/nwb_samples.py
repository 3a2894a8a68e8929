"""Samples of a series of NWB: integers as they are, floats in SI units."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from neuropipe.errors import IngestError

__all__ = ["NwbSamples"]


class NwbSamples:
    """Samples of one dataset, ``(time, channel)`` or ``(time,)``.

    Parameters
    ----------
    path : Path
        The file.
    dataset : str
        Place of the samples in it.
    dtype : numpy.dtype
        Of the file.
    shape : tuple of int
        ``(n_times, n_channels)``.
    factor, offset : numpy.ndarray
        ``value * factor + offset`` is in SI units, ``(n_channels,)`` each.
    """

    def __init__(
        self,
        path: Path,
        dataset: str,
        dtype: np.dtype,
        shape: tuple[int, int],
        factor: np.ndarray,
        offset: np.ndarray,
    ) -> None:
        self._path, self._dataset = path, dataset
        self._factor, self._offset = factor, offset
        self.shape, self.dtype = shape, dtype.newbyteorder("=")
        is_integer = dtype.kind in "iu"
        self.scale: np.ndarray | None = factor if is_integer else None
        self.offset: np.ndarray | None = offset if is_integer else None
        self._is_plain = is_integer or bool((factor == 1.0).all() and (offset == 0.0).all())

    def step(self, max_bytes: int) -> int:
        """Return how many samples to read at once."""
        return max(1, max_bytes // (self.shape[1] * self.dtype.itemsize))

    def read(self, start: int, stop: int, channels: Sequence[int] | None = None) -> np.ndarray:
        """Return samples ``(stop - start, n_channels)``.

        Raises
        ------
        IngestError
            ``TRUNCATED``: a chunk cannot be read.
        """
        import h5py

        try:
            with h5py.File(self._path, "r") as file:
                values = np.asarray(file[self._dataset][start:stop])
        except OSError as error:
            where = f"{self._path}: {self._dataset}"
            raise IngestError("TRUNCATED", where, str(error), "copy the file again") from error
        values = values.reshape(len(values), -1)
        if not self._is_plain:
            values = values.astype(np.float64) * self._factor + self._offset
        values = values if channels is None else values[:, list(channels)]
        return values.astype(self.dtype, copy=False)

    def close(self) -> None:
        """Nothing stays open."""
