"""What a reader hands to the store: the shape of each series, then its samples block by block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr

    from neuropipe.errors import Issue
    from neuropipe.store.clock import RegularClock

__all__ = ["Block", "RecordingHandle", "RecordingSchema", "SeriesSpec"]


@dataclass(frozen=True)
class SeriesSpec:
    """One array with a time dimension, described before any sample is read.

    Attributes
    ----------
    name : str
        Variable name in the store, such as ``fluorescence``.
    dims : tuple of str
        Time first, such as ``("time", "roi")``.
    shape : tuple of int
        Length of each dim.
    dtype : numpy.dtype
        Dtype of the source, kept as it is.
    attrs : mapping
        JSON-serialisable attributes, ``units`` among them.
    """

    name: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype
    attrs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Block:
    """Samples ``start : start + len(values)`` of a series along its first dim."""

    name: str
    start: int
    values: np.ndarray


@dataclass(frozen=True)
class RecordingSchema:
    """All of a recording but the samples of its series.

    Attributes
    ----------
    modality : str
        ``calcium``, ``spikes``, ``eeg``, ``meg``, ``ieeg`` or ``fmri``.
    attrs : mapping
        Root attributes that the source states; absent keys are filled from the recordings table.
    raw : xarray.Dataset
        Coordinates and small variables of ``/raw``: ``time`` (float64 s, source clock) unless
        `clock` is given, rows.
    series : sequence of SeriesSpec
        The series of ``/raw``, in the order in which `RecordingHandle.blocks` yields them.
    trials, behavior : xarray.Dataset or None
        Groups of the same names.
    source_files : sequence of str
        Every file read, for the hash of the source.
    clock : RegularClock or None
        Times of a source that states start and rate, on the source's clock, in place of ``time``.
    """

    modality: str
    attrs: Mapping[str, Any]
    raw: xr.Dataset
    series: Sequence[SeriesSpec]
    trials: xr.Dataset | None = None
    behavior: xr.Dataset | None = None
    source_files: Sequence[str] = ()
    clock: RegularClock | None = None


class RecordingHandle(Protocol):
    """An opened recording; nothing large is read until `blocks` is iterated."""

    issues: list[Issue]

    def schema(self) -> RecordingSchema:
        """Return everything but the samples."""
        ...

    def blocks(self, max_bytes: int) -> Iterator[Block]:
        """Yield the samples of every series in time order, at most `max_bytes` each."""
        ...

    def events(self) -> xr.Dataset | None:
        """Return the events (dim ``event``; ``onset``, ``duration``, ``label`` ...) or None."""
        ...
