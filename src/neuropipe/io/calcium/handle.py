"""The handle that every calcium reader returns: arrays on disk, read block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.io.arrays import behavior_dataset, object_array
from neuropipe.store.series import Block, RecordingSchema, SeriesSpec

if TYPE_CHECKING:
    import xarray as xr

    from neuropipe.errors import Issue

__all__ = [
    "UNITS",
    "ArraySource",
    "CalciumHandle",
    "behavior_dataset",
    "is_all_zero",
    "object_array",
]

UNITS = {"fluorescence": "a.u.", "neuropil": "a.u.", "dff": "1", "deconvolved": "a.u."}


@dataclass(frozen=True)
class ArraySource:
    """One series on disk.

    Attributes
    ----------
    name : str
        ``fluorescence``, ``neuropil``, ``dff`` or ``deconvolved``.
    array : array-like
        Anything with ``shape``, ``dtype`` and slicing that reads only what is asked for.
    rows_first : bool
        The array is ``(roi, time)``.
    attrs : mapping
        Attributes of the series beyond ``units``.
    """

    name: str
    array: Any
    rows_first: bool = False
    attrs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def dtype(self) -> np.dtype:
        """Dtype of the source in native byte order; float16 widens without loss to float32."""
        dtype = np.dtype(self.array.dtype).newbyteorder("=")
        return np.dtype(np.float32) if dtype == np.float16 else dtype

    def read(self, start: int, stop: int, n_rois: int) -> np.ndarray:
        """Return samples ``start : stop`` of the first `n_rois` rows as ``(time, roi)``."""
        if self.rows_first:
            values = np.asarray(self.array[:n_rois, start:stop]).T
        else:
            values = np.asarray(self.array[start:stop])[:, :n_rois]
        return np.ascontiguousarray(values, dtype=self.dtype)

    def step(self, n_rois: int, max_bytes: int) -> int:
        """Return how many samples to read at once: whole chunks of the source where it fits."""
        step = max(1, max_bytes // max(1, n_rois * self.dtype.itemsize))
        chunks = getattr(self.array, "chunks", None)
        length = chunks[1 if self.rows_first else 0] if chunks else 1
        return step // length * length or step


@dataclass
class CalciumHandle:
    """An opened calcium recording.

    Attributes
    ----------
    raw : xarray.Dataset
        Coordinates along ``time`` (float64 s, source clock) and ``roi``.
    sources : sequence of ArraySource
        The series.
    attrs : mapping
        Root attributes that the source states.
    source_files : sequence of str
        Every file read.
    issues : list of Issue
        Found while opening.
    behavior, trials, event_table : xarray.Dataset or None
        On the source clock.
    close : callable
        Closes the files.
    """

    raw: xr.Dataset
    sources: Sequence[ArraySource]
    attrs: Mapping[str, Any]
    source_files: Sequence[str]
    issues: list[Issue]
    behavior: xr.Dataset | None = None
    trials: xr.Dataset | None = None
    event_table: xr.Dataset | None = None
    close: Callable[[], None] = lambda: None

    def schema(self) -> RecordingSchema:
        """Return everything but the samples."""
        shape = (self.raw.sizes["time"], self.raw.sizes["roi"])
        series = [
            SeriesSpec(s.name, ("time", "roi"), shape, s.dtype, {"units": UNITS[s.name], **s.attrs})
            for s in self.sources
        ]
        return RecordingSchema(
            modality="calcium",
            attrs=dict(self.attrs),
            raw=self.raw,
            series=series,
            trials=self.trials,
            behavior=self.behavior,
            source_files=tuple(self.source_files),
        )

    def blocks(self, max_bytes: int) -> Iterator[Block]:
        """Yield the samples series by series in time order, at most `max_bytes` each.

        One sample of all rows is the least that a block can hold.
        """
        n_times, n_rois = self.raw.sizes["time"], self.raw.sizes["roi"]
        for source in self.sources:
            step = source.step(n_rois, max_bytes)
            for start in range(0, n_times, step):
                stop = min(start + step, n_times)
                yield Block(source.name, start, source.read(start, stop, n_rois))

    def events(self) -> xr.Dataset | None:
        """Return the events on the source clock, or None."""
        return self.event_table


def is_all_zero(array: Any) -> bool:
    """Tell whether an array ``(roi, time)`` on disk holds zeros only; read in blocks."""
    step = max(1, (8 << 20) // max(1, array.shape[1] * array.dtype.itemsize))
    return not any(
        np.any(np.asarray(array[start : start + step])) for start in range(0, len(array), step)
    )
