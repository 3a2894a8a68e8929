"""Spikes of a source by blocks of units: what bounds the memory of a reader."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from neuropipe.errors import IngestError

__all__ = ["PART_SPIKES", "ArrayParts", "Hdf5Parts", "SpikeParts", "unit_blocks"]

PART_SPIKES = 2_000_000


class SpikeParts(Protocol):
    """Spikes sorted by unit, handed out by blocks of whole units."""

    @property
    def counts(self) -> np.ndarray:
        """Spikes of each unit, ``(n_units,)``."""
        ...

    def parts(self) -> Iterator[tuple[int, int, np.ndarray]]:
        """Yield first unit, unit behind the last, and their times in seconds, unit by unit.

        Within a unit the times stand in the order of the source. A part holds at most
        `PART_SPIKES` spikes, or one unit.
        """
        ...


def unit_blocks(counts: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield ranges of units with at most `PART_SPIKES` spikes, or one unit each."""
    first = total = 0
    for unit, count in enumerate(counts.tolist()):
        if unit > first and total + count > PART_SPIKES:
            yield first, unit
            first, total = unit, 0
        total += count
    if len(counts):
        yield first, len(counts)


def _edges(counts: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts)])


class ArrayParts:
    """Spikes of formats that are read as a whole.

    Parameters
    ----------
    times, owner : numpy.ndarray
        Seconds, and position of the unit, of each spike; ``(n_spikes,)``, any order.
    n_units : int
        Number of units.
    path : object
        File, for messages.

    Raises
    ------
    IngestError
        ``LENGTH_MISMATCH``.
    """

    def __init__(self, times: np.ndarray, owner: np.ndarray, n_units: int, path: object) -> None:
        if len(times) != len(owner):
            text = f"lengths differ: spike times {len(times)}, units of spikes {len(owner)}"
            raise IngestError("LENGTH_MISMATCH", path, text, "copy it again")
        self.counts = np.bincount(owner, minlength=n_units).astype(np.int64)
        grouped = len(owner) < 2 or bool((owner[1:] >= owner[:-1]).all())
        self._times = times if grouped else times[np.argsort(owner, kind="stable")]

    def parts(self) -> Iterator[tuple[int, int, np.ndarray]]:
        """Yield the spikes by blocks of units."""
        edges = _edges(self.counts)
        for first, stop in unit_blocks(self.counts):
            yield first, stop, self._times[edges[first] : edges[stop]]


@dataclass(frozen=True)
class Hdf5Parts:
    """Spikes that lie unit by unit in a data set of an HDF5 file, read block by block.

    Attributes
    ----------
    path, name : Path and str
        File and data set; the file is open only while a block is read.
    counts : numpy.ndarray
        Spikes of each unit, ``(n_units,)``.
    """

    path: Path
    name: str
    counts: np.ndarray

    def parts(self) -> Iterator[tuple[int, int, np.ndarray]]:
        """Yield the spikes by blocks of units."""
        import h5py

        edges = _edges(self.counts)
        for first, stop in unit_blocks(self.counts):
            with h5py.File(self.path, "r") as file:
                values = np.asarray(file[self.name][edges[first] : edges[stop]], np.float64)
            yield first, stop, values
