"""The handle of a recording of channels: coordinates, and samples block by block."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.errors import IngestError, Issue
from neuropipe.io.arrays import object_array
from neuropipe.io.channels.amplitude import Amplitudes
from neuropipe.io.channels.grid import n_times, times_at
from neuropipe.io.channels.source import ChannelSource
from neuropipe.store.clock import RegularClock, describe_clock
from neuropipe.store.series import Block, RecordingSchema, SeriesSpec

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["ChannelHandle"]

TEXTS = ("ch_type", "units", "reference")
DEFAULT_ATTRS: dict[str, Any] = {
    "line_freq": float("nan"),
    "projectors": "[]",
    "compensation_grade": -1,
    "dev_head_t": [],
    "coord_frame": "",
}
KNOWN_TYPES = (
    *("bio", "chpi", "dbs", "ecg", "ecog", "eeg", "emg", "eog", "exci", "eyegaze", "gof", "grad"),
    *("gsr", "hbo", "hbr", "ias", "mag", "misc", "pupil", "ref_meg", "resp", "seeg", "stim"),
    *("syst", "temperature"),
)


class ChannelHandle:
    """An opened recording of channels.

    Parameters
    ----------
    source : ChannelSource
        What the files say, sidecars included.
    modality : str
        ``eeg``, ``meg`` or ``ieeg``.

    Attributes
    ----------
    issues : list of Issue
        Found while opening; those that the samples show are added as they stream.

    Raises
    ------
    IngestError
        ``LENGTH_MISMATCH`` or ``DUPLICATE_CHANNEL``, faults of a sidecar.
    """

    def __init__(self, source: ChannelSource, modality: str) -> None:
        self._source, self._modality = source, modality
        self.issues: list[Issue] = list(source.issues)
        self._check_table()
        self._scale, self._offset = self._scaling()
        # An integer stays; a float is multiplied where its unit was restated.
        self._factor = None if self._scale is not None else source.gain

    def _check_table(self) -> None:
        source, table = self._source, self._source.channels
        lengths = {"channels": len(table), "columns of samples": source.samples.shape[1]}
        lengths |= {"times": n_times(source.time), "samples": source.samples.shape[0]}
        if len(table) != source.samples.shape[1] or n_times(source.time) != source.samples.shape[0]:
            text = ", ".join(f"{name} {n}" for name, n in lengths.items())
            raise IngestError("LENGTH_MISMATCH", source.path, text, "the reader is wrong")
        twice = sorted(name for name, n in Counter(table.name).items() if n > 1)
        if twice:
            text = f"channels share the names {', '.join(twice[:5])}"
            raise IngestError("DUPLICATE_CHANNEL", source.path, text, "rename one of each")
        unknown = sorted(set(table.ch_type) - set(KNOWN_TYPES))
        if unknown:
            text = f"channel types {', '.join(unknown[:5])} are not among the usual; kept"
            self.issues.append(Issue("VOCABULARY", str(source.path), text))

    def _scaling(self) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Return scale and offset of integers, (n_channels,) each; None, None for floats."""
        samples, gain = self._source.samples, self._source.gain
        if samples.scale is None or samples.offset is None:
            return None, None
        if gain is None:
            return samples.scale, samples.offset
        return samples.scale * gain, samples.offset * gain

    def schema(self) -> RecordingSchema:
        """Return everything but the samples."""
        source = self._source
        shape = source.samples.shape
        return RecordingSchema(
            modality=self._modality,
            attrs={**DEFAULT_ATTRS, **source.attrs},
            raw=self._coordinates(),
            series=[SeriesSpec("signal", ("time", "channel"), shape, source.samples.dtype)],
            trials=source.trials,
            behavior=source.behavior,
            source_files=tuple(str(path) for path in source.source_files),
            clock=source.time if isinstance(source.time, RegularClock) else None,
        )

    def _coordinates(self) -> xr.Dataset:
        import xarray as xr

        table = self._source.channels
        coords: dict[str, Any] = {
            "channel": ("channel", object_array(table.name)),
            "channel_source": ("channel", object_array(table.source)),
            "bad": ("channel", np.asarray(table.bad, dtype=bool)),
        }
        if not isinstance(self._source.time, RegularClock):
            coords["time"] = ("time", self._source.time, {"units": "s"})
        for name in TEXTS:
            coords[name] = ("channel", object_array(getattr(table, name)))
        position = np.asarray(table.position, dtype=np.float64)
        for k, axis in enumerate("xyz"):
            coords[axis] = ("channel", position[:, k].copy(), {"units": "m"})
        for name in ("low_cutoff", "high_cutoff"):
            values = np.asarray(getattr(table, name), dtype=np.float64)
            coords[name] = ("channel", values, {"units": "Hz"})
        if self._scale is not None:
            coords["scale_factor"] = ("channel", np.asarray(self._scale, dtype=np.float64))
            coords["add_offset"] = ("channel", np.asarray(self._offset, dtype=np.float64))
        for name, values in table.columns.items():
            is_text = np.asarray(values).dtype.kind in "OUT"
            coords[name] = ("channel", object_array(list(values)) if is_text else values)
        data = {}
        if self._source.breaks:
            data["observed"] = (("interval", "edge"), self._observed(), {"units": "s"})
        return xr.Dataset(data, coords)

    def _observed(self) -> np.ndarray:
        """Return the observed segments, ``(n, 2)`` s, which end at gaps and at breaks."""
        time = self._source.time
        first = np.array([0])
        if not isinstance(time, RegularClock):
            first = np.searchsorted(time, describe_clock(time).segment_start)
        first = np.union1d(first, np.asarray(self._source.breaks, dtype=np.int64))
        last = np.concatenate([first[1:], [n_times(time)]]) - 1
        return np.stack([times_at(time, first), times_at(time, last)], axis=1)

    def blocks(self, max_bytes: int) -> Iterator[Block]:
        """Yield the samples in time order, at most `max_bytes` each.

        Raises
        ------
        IngestError
            ``UNITS`` after the last block: the amplitudes are not those of the declared unit.
        """
        source = self._source
        amplitudes = Amplitudes(source.channels, self._scale, source.units_given)
        step = source.samples.step(max_bytes)
        for start in range(0, source.samples.shape[0], step):
            values = source.samples.read(start, min(start + step, source.samples.shape[0]))
            if self._factor is not None:
                values = (values * self._factor).astype(source.samples.dtype, copy=False)
            amplitudes.add(values)
            yield Block("signal", start, values)
        self.issues += amplitudes.verdict(source.path)

    def events(self) -> xr.Dataset | None:
        """Return the events, onset in seconds from the first sample, or None."""
        return self._source.events

    def close(self) -> None:
        """Close the files."""
        self._source.samples.close()
