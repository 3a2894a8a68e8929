"""What a file of channels says, before anything beside it is heard, and the handle of it.

A format module returns a `ChannelSource`; `neuropipe.io.channels.opening.open_channels` lets
sidecars replace parts of it (`dataclasses.replace`), and makes the handle that ingest reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from neuropipe.errors import IngestError
from neuropipe.io.channels.units import si_unit

if TYPE_CHECKING:
    import xarray as xr

    from neuropipe.errors import Issue
    from neuropipe.io.channels.grid import Times

__all__ = ["ChannelSource", "ChannelTable", "Samples", "restate_units"]


class Samples(Protocol):
    """Samples on disk, read only when asked for.

    Attributes
    ----------
    dtype : numpy.dtype
        int16 or int32 as in the source; float32 or float64 are in SI units already.
    shape : tuple of int
        ``(n_times, n_channels)``.
    scale, offset : numpy.ndarray or None
        Of integers, ``(n_channels,)`` float64: ``value * scale + offset`` is in SI units.
    """

    dtype: np.dtype
    shape: tuple[int, int]
    scale: np.ndarray | None
    offset: np.ndarray | None

    def read(self, start: int, stop: int, channels: Sequence[int] | None = None) -> np.ndarray:
        """Return samples ``(stop - start, n_channels)``, of all channels or of those named."""
        ...

    def step(self, max_bytes: int) -> int:
        """Return how many samples to read at once."""
        ...

    def close(self) -> None:
        """Close the files."""
        ...


@dataclass(frozen=True)
class ChannelTable:
    """One value per channel, all of length ``n_channels``.

    Attributes
    ----------
    name, source : sequence of str
        Unique name, and the name in the file.
    ch_type : sequence of str
        Lower case: eeg eog ecg emg stim mag grad ref_meg misc seeg ecog ...
    units : sequence of str
        Of the values in SI: ``V``, ``T``, ``T/m``; "" unknown.
    declared : sequence of str
        Unit of the stored numbers as the file states it, such as ``uV``; "" unknown.
    bad : numpy.ndarray
        bool: the source calls the channel bad.
    reference : sequence of str
        Reference of the channel; "" unknown.
    position : numpy.ndarray
        ``(n_channels, 3)`` metres in the frame `coord_frame` of the attributes; NaN unknown.
    low_cutoff, high_cutoff : numpy.ndarray
        Filter of the recorder, Hz; NaN unknown.
    columns : mapping of str to array
        Further coordinates: those of iEEG, and free ones called ``x_<name>``.
    """

    name: Sequence[str]
    source: Sequence[str]
    ch_type: Sequence[str]
    units: Sequence[str]
    declared: Sequence[str]
    bad: np.ndarray
    reference: Sequence[str]
    position: np.ndarray
    low_cutoff: np.ndarray
    high_cutoff: np.ndarray
    columns: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.name)


@dataclass(frozen=True)
class ChannelSource:
    """A recording as its own files describe it.

    Attributes
    ----------
    path : Path
        The file (or folder) that was opened.
    channels : ChannelTable
        One row per column of `samples`.
    samples : Samples
        The samples.
    time : RegularClock or numpy.ndarray
        Seconds from the first sample: without gaps a clock that starts at 0, else ``(n_times,)``
        float64, strictly increasing, which steps over the gaps.
    breaks : sequence of int
        Samples at which recording was resumed after a pause of unknown length: times run on, but
        observed time ends before each.
    types_stated : bool
        The channel types are stated (by the format or by a sidecar), not a default.
    length_stated : bool
        The file states how many samples it holds; False: nothing but its size does.
    units_stated : bool
        The file states a unit per channel, and may be wrong; False: the format fixes the unit, so
        that a table beside it cannot restate the numbers.
    events : xarray.Dataset or None
        Dim ``event``: ``onset`` (s from the first sample), ``duration``, ``label``, ``code``,
        ``source``, free columns ``x_<name>``.
    attrs : mapping
        Root attributes and attributes of ``/raw`` (``line_freq``, ``coord_frame`` ...).
    source_files : sequence of Path
        Every file read.
    issues : sequence of Issue
        What was found so far.
    gain : numpy.ndarray or None
        Factor per channel that restates the unit of the source (`restate_units`).
    units_given : bool
        The user has stated the unit: the samples are not held against what is usual.
    trials, behavior : xarray.Dataset or None
        Groups of the same names.
    """

    path: Path
    channels: ChannelTable
    samples: Samples
    time: Times
    types_stated: bool
    events: xr.Dataset | None = None
    attrs: Mapping[str, Any] = field(default_factory=dict)
    source_files: Sequence[Path] = ()
    issues: Sequence[Issue] = ()
    breaks: Sequence[int] = ()
    gain: np.ndarray | None = None
    units_given: bool = False
    length_stated: bool = True
    units_stated: bool = True
    trials: xr.Dataset | None = None
    behavior: xr.Dataset | None = None


def restate_units(source: ChannelSource, stated: Mapping[str, str]) -> ChannelSource:
    """Return the source with the unit of stored numbers restated for some channels.

    A file that says V although its numbers are microvolts is corrected by ``{"Cz": "uV"}``: the
    integers stay, their scale changes; floats are multiplied as they are read.

    Parameters
    ----------
    source : ChannelSource
    stated : mapping of str to str
        Channel name -> unit of the stored numbers (``uV``, ``mV``, ``fT`` ...).

    Raises
    ------
    IngestError
        ``UNITS``: a word that is no unit.
    """
    table = source.channels
    units, declared = list(table.units), list(table.declared)
    gain = np.ones(len(table)) if source.gain is None else source.gain.copy()
    for k, name in enumerate(table.name):
        if name not in stated or stated[name] == declared[k]:
            continue
        new, old = si_unit(stated[name]), si_unit(declared[k])
        if new is None:
            text = f"channel {name}: {stated[name]!r} is no unit of a potential or a field"
            raise IngestError("UNITS", source.path, text, "such as V, mV, uV, T, fT, T/m")
        gain[k] *= new[1] / (old[1] if old is not None else 1.0)
        units[k], declared[k] = new[0], stated[name]
    table = replace(table, units=tuple(units), declared=tuple(declared))
    return replace(source, channels=table, gain=None if np.all(gain == 1.0) else gain)
