"""The handle that every fMRI reader returns, and what all of them find beside the signal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from neuropipe.config.models import StrictModel
from neuropipe.io.arrays import object_array
from neuropipe.io.checks import common_length
from neuropipe.io.fmri.sidecars import Sidecars, find_sidecars
from neuropipe.io.fmri.tables import read_confounds, read_events
from neuropipe.io.fmri.timing import HeaderTime, timing_of
from neuropipe.store.series import Block, RecordingSchema, SeriesSpec

if TYPE_CHECKING:
    import xarray as xr

    from neuropipe.config.models import IngestOverride
    from neuropipe.errors import Issue

__all__ = ["Beside", "FmriHandle", "FmriSettings", "beside", "scale_attrs", "unique_names"]


class FmriSettings(StrictModel):
    """Keys that every reader of fMRI has."""

    events: str | None = Field(
        None, description="Events table, relative to the recording; null: by BIDS name."
    )
    confounds: str | None = Field(
        None, description="Confounds table, relative to the recording; null: by BIDS name."
    )
    confound_columns: list[str] = Field(
        default_factory=list,
        description="Names of the columns of a confounds table that has no header, in order; "
        "trans_x, trans_y, trans_z in mm and rot_x, rot_y, rot_z in radians are motion.",
    )


@dataclass(frozen=True)
class Beside:
    """What lies beside the signal, on its clock.

    Attributes
    ----------
    count : int
        Volumes to read.
    coords, variables : mapping
        ``time`` and names of confounds; ``confound``, ``sample_ok``, ``slice_timing``.
    events : xarray.Dataset or None
    sidecars : Sidecars
    files : list of str
        Every file read.
    issues : list of Issue
    """

    count: int
    coords: Mapping[str, Any]
    variables: Mapping[str, Any]
    events: xr.Dataset | None
    sidecars: Sidecars
    files: list[str]
    issues: list[Issue]


def beside(
    path: Path,
    count: int,
    header: HeaderTime | None,
    settings: FmriSettings,
    override: IngestOverride,
    *,
    mask: str | None = None,
) -> Beside:
    """Read what lies beside an image: times, events, confounds.

    Parameters
    ----------
    path : Path
        The recording.
    count : int
        Volumes in it.
    header : HeaderTime or None
        Step between them as the header states it.
    settings, override
        As the reader gets them.
    mask : str, optional
        Brain mask named in the settings.

    Raises
    ------
    IngestError
        Of `timing_of`, `find_sidecars`, `read_confounds`, `read_events`; ``LENGTH_MISMATCH``
        when confounds and volumes differ in number by more than ``trim``.
    """
    found = find_sidecars(path, events=settings.events, confounds=settings.confounds, mask=mask)
    timing = timing_of(count, header, found.metadata, override.tr_s, path)
    issues = [*found.issues, *timing.issues]
    coords: dict[str, Any] = {}
    variables: dict[str, Any] = {}
    files = [str(path), *found.files]
    if found.confounds is not None:
        table = read_confounds(found.confounds, settings.confound_columns)
        lengths = {"volumes": count, f"rows of {found.confounds.name}": len(table.values)}
        count, cut = common_length(lengths, override.trim, path)
        issues += cut
        coords["confound"] = ("confound", object_array(table.names))
        variables["confounds"] = (("time", "confound"), table.values[:count])
        variables["sample_ok"] = ("time", table.steady[:count])
        files.append(str(found.confounds))
    if timing.slice_times is not None:
        variables["slice_timing"] = ("slice", timing.slice_times, {"units": "s"})
    coords["time"] = ("time", timing.time[:count], {"units": "s"})
    events = None
    if found.events is not None:
        events = read_events(found.events)
        files.append(str(found.events))
    return Beside(count, coords, variables, events, found, files, issues)


def scale_attrs(slope: float, inter: float) -> dict[str, float]:
    """Return the attributes that turn stored numbers into values; none where they are values."""
    if slope == 1.0 and inter == 0.0:
        return {}
    return {"scale_factor": float(slope), "add_offset": float(inter)}


def unique_names(names: Sequence[str]) -> list[str]:
    """Return names with ``-0``, ``-1`` behind those that occur more than once.

    Examples
    --------
    >>> unique_names(["a", "b", "a"])
    ['a-0', 'b', 'a-1']
    """
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        if names.count(name) > 1:
            seen[name] = seen.get(name, -1) + 1
            name = f"{name}-{seen[name]}"
        unique.append(name)
    return unique


@dataclass
class FmriHandle:
    """An opened fMRI recording.

    Attributes
    ----------
    raw : xarray.Dataset
        Coordinates and small variables of ``/raw``.
    row : str
        ``voxel``, ``parcel`` or ``grayordinate``.
    dtype : numpy.dtype
        Of the samples.
    stream : callable
        ``stream(max_bytes)`` yields ``(n, row)`` from the first volume to the last.
    source_files : sequence of str
    issues : list of Issue
    event_table : xarray.Dataset or None
    attrs : mapping
        Root attributes that the source states.
    series_attrs : mapping
        Attributes of ``bold`` beside its unit.
    """

    raw: xr.Dataset
    row: str
    dtype: np.dtype
    stream: Callable[[int], Iterator[np.ndarray]]
    source_files: Sequence[str]
    issues: list[Issue]
    event_table: xr.Dataset | None = None
    attrs: Mapping[str, Any] = field(default_factory=dict)
    series_attrs: Mapping[str, Any] = field(default_factory=dict)

    def schema(self) -> RecordingSchema:
        """Return everything but the samples."""
        shape = (self.raw.sizes["time"], self.raw.sizes[self.row])
        attrs = {"units": "a.u.", **self.series_attrs}
        return RecordingSchema(
            modality="fmri",
            attrs=dict(self.attrs),
            raw=self.raw,
            series=[SeriesSpec("bold", ("time", self.row), shape, self.dtype, attrs)],
            source_files=tuple(sorted(set(self.source_files))),
        )

    def blocks(self, max_bytes: int) -> Iterator[Block]:
        """Yield the samples in time order; one volume is the least that a block can hold."""
        start, count = 0, self.raw.sizes["time"]
        for values in self.stream(max_bytes):
            values = values[: count - start]
            if len(values):
                yield Block("bold", start, np.ascontiguousarray(values, dtype=self.dtype))
            start += len(values)

    def events(self) -> xr.Dataset | None:
        """Return the events, onset 0 at the first volume, or None."""
        return self.event_table
