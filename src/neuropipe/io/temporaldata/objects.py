"""The objects of a temporaldata file: time series, intervals and tables, found by their class."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neuropipe.errors import IngestError
from neuropipe.io.arrays import object_array
from neuropipe.io.checks import decode_texts
from neuropipe.io.hdf5_fields import Fields
from neuropipe.store.clock import RegularClock

__all__ = ["RECORDED", "Objects", "Series", "class_of", "is_temporaldata"]

SERIES = ("IrregularTimeSeries", "RegularTimeSeries")
# Parts of a time series that are not samples.
OWN_PARTS = ("domain", "timestamps", "timestamp_indices_1s", "time")
# Modality -> words in the name of a series that holds its samples.
RECORDED = {
    "calcium": {"calcium", "ophys", "traces"},
    "eeg": {"eeg"},
    "meg": {"meg"},
    "ieeg": {"ieeg", "seeg", "ecog", "lfp"},
    "fmri": {"bold", "fmri"},
}
# Groups that hold no recorded data.
APART = ("neuropipe", "brainset", "subject", "session", "device")


def class_of(item: Any) -> str:
    """Return the class of temporaldata that a group says it is, "" when it says none."""
    value = item.attrs.get("object", "")
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)


def is_temporaldata(file: Any) -> bool:
    """Tell whether an open HDF5 file is a ``Data`` of temporaldata."""
    return class_of(file) == "Data"


@dataclass(frozen=True)
class Series:
    """A time series.

    Attributes
    ----------
    place : str
        Path in the file.
    is_regular : bool
        Start and rate in place of times.
    arrays : mapping of str to (shape, dtype)
        Its numeric arrays.
    """

    place: str
    is_regular: bool
    arrays: dict[str, tuple[tuple[int, ...], np.dtype]]

    @property
    def name(self) -> str:
        """Path without slashes, for names of the store."""
        return self.place.replace("/", "_")

    @property
    def words(self) -> set[str]:
        """Words of the path, lower case."""
        return set(re.split(r"[^a-z]+", self.place.lower()))


class Objects:
    """What an open file of temporaldata holds.

    Parameters
    ----------
    fields : Fields
        The file.
    file : h5py.File
        The same file, for its groups.
    """

    def __init__(self, fields: Fields, file: Any) -> None:
        self.fields, self._file = fields, file
        self.path: Path = fields.path
        self.series: dict[str, Series] = {}
        self.tables: list[str] = []
        self.intervals: list[str] = []
        self._walk(file, "")

    def _walk(self, group: Any, place: str) -> None:
        import h5py

        for name in sorted(group):
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                continue
            item, here = group.get(name), f"{place}{name}"
            if not isinstance(item, h5py.Group) or here in APART:
                continue
            kind = class_of(item)
            if kind in SERIES:
                self.series[here] = Series(here, kind == SERIES[1], _arrays(item))
            elif kind == "ArrayDict":
                self.tables.append(here)
            elif kind == "Interval" and name != "domain":
                self.intervals.append(here)
            elif kind == "Data" and not place.count("/") > 4:
                self._walk(item, f"{here}/")

    def attribute(self, group: str, name: str) -> str:
        """Return an attribute of a group as text, "" when there is none."""
        item = self._file.get(group)
        value = None if item is None else item.attrs.get(name)
        return "" if value is None else decode_texts([value], self.fields.where(group))[0]

    def columns(self, group: str) -> dict[str, np.ndarray]:
        """Return the one-dimensional columns of a table or of intervals; text as objects."""
        import h5py

        found: dict[str, np.ndarray] = {}
        for name, item in sorted(self._file[group].items()):
            if not isinstance(item, h5py.Dataset) or item.ndim != 1:
                continue
            values = self.fields.array(f"{group}/{name}")[...]
            if values.dtype.kind in "SO":
                values = object_array(decode_texts(values, self.fields.where(f"{group}/{name}")))
            found[name] = values
        lengths = {name: len(values) for name, values in found.items()}
        if len(set(lengths.values())) > 1:
            text = ", ".join(f"{name} {n}" for name, n in lengths.items())
            hint = "columns of one group have one length; export the file again"
            raise IngestError("LENGTH_MISMATCH", self.fields.where(group), text, hint)
        return found

    def domain(self, place: str) -> np.ndarray:
        """Return observed time of a series, ``(n, 2)`` s.

        Raises
        ------
        IngestError
            ``BAD_TIME``: not finite, or an interval ends before it starts.
        """
        start, end = (
            np.asarray(self.fields.numbers(f"{place}/domain/{edge}")[...], np.float64).ravel()
            for edge in ("start", "end")
        )
        where = self.fields.where(f"{place}/domain")
        if len(start) != len(end) or not len(start):
            text = f"{len(start)} starts, {len(end)} ends; at least one interval expected"
            raise IngestError("LENGTH_MISMATCH", where, text, "export the file again")
        whole = np.stack([start, end], axis=1)
        if not np.isfinite(whole).all() or (end < start).any() or (np.diff(start) < 0).any():
            text = "an interval is not finite, ends before it starts, or comes after a later one"
            raise IngestError("BAD_TIME", where, text, "export the file again")
        return whole

    def clock(self, series: Series, count: int) -> np.ndarray | RegularClock:
        """Return the times of `count` samples of a series, seconds.

        Raises
        ------
        IngestError
            ``MISSING_SIDECAR`` without rate or times, ``LENGTH_MISMATCH``.
        """
        where = self.fields.where(series.place)
        if not series.is_regular:
            times = np.asarray(self.fields.numbers(f"{series.place}/timestamps")[...], np.float64)
            if times.shape != (count,):
                text = f"{count} samples, timestamps of shape {times.shape}"
                raise IngestError("LENGTH_MISMATCH", where, text, "export the file again")
            return times
        rate = self._file[series.place].attrs.get("sampling_rate")
        if not isinstance(rate, int | float | np.number) or not 0 < rate < np.inf:
            text = f"sampling_rate is {rate!r}, expected a number above 0"
            raise IngestError("MISSING_SIDECAR", where, text, "export the file again")
        domain = self.domain(series.place)
        length = float(domain[-1, 1] - domain[0, 0])
        if abs(length * rate - count) > 1.0:
            text = f"{count} samples at {rate} Hz, but a domain of {length:.6g} s"
            raise IngestError("LENGTH_MISMATCH", where, text, "export the file again")
        return RegularClock(float(domain[0, 0]), float(rate), count)


def _arrays(group: Any) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    import h5py

    return {
        name: (tuple(item.shape), item.dtype)
        for name, item in sorted(group.items())
        if isinstance(item, h5py.Dataset) and name not in OWN_PARTS and item.ndim
    }
