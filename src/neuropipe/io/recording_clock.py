"""A recording on the session clock: its samples, spikes and observed time, and the pair stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.errors import ConfigError, IngestError
from neuropipe.io.behavior.sidecars import Sidecars
from neuropipe.io.checks import MAX_OFFSET_S
from neuropipe.io.session_clock import SessionClock

if TYPE_CHECKING:
    import xarray as xr

    from neuropipe.store.clock import RegularClock
    from neuropipe.store.series import Block, RecordingSchema

__all__ = ["clock_attrs", "moved_blocks", "on_clock", "recording_clock", "session_grid"]

# Variables of /raw in seconds of the device, beside `time`.
MOMENTS = ("observed", "segment_start", "obs_start", "obs_stop")


def recording_clock(
    side: Sidecars,
    schema: RecordingSchema,
    events: xr.Dataset | None,
    attrs: Mapping[str, Any],
    time: np.ndarray,
) -> SessionClock:
    """Return the clock of a recording; without settings the session begins with its first sample.

    Parameters
    ----------
    side : Sidecars
        Settings and tables of the recording.
    schema : RecordingSchema
        What the reader found.
    events : xarray.Dataset or None
        Events of the reader, on the device clock.
    attrs : mapping
        Root attributes; ``session_start`` is when the device clock read 0.
    time : numpy.ndarray
        Sample times, or start and stop of what was observed, on the device clock.

    Raises
    ------
    IngestError
        ``CLOCK_MISMATCH``, ``MISSING_SIDECAR``, and those of the tables.
    ConfigError
        A clock is given for a file that we wrote.
    """
    if "clock_offset" in schema.attrs:
        if side.override.clock is not None:
            raise ConfigError(
                f"{side.source}: neuropipe wrote it, so its times are on the session clock "
                "already; leave out `clock`"
            )
        return SessionClock(found_by="file")
    sampled = side.times is not None
    clock = side.device_clock(events, step_s=side.step_s, stated_start=str(attrs["session_start"]))
    if clock is None:
        return SessionClock(offset=0.0 - float(time[0]) if sampled else 0.0)
    first = float(clock.to_session(time[0]))
    if abs(first) > MAX_OFFSET_S:
        raise IngestError(
            "CLOCK_MISMATCH",
            f"{side.source}: clock",
            f"the recording begins {first:.6g} s from the start of the session, more than a day",
            "check `b`, or the moments `session_start` and `device_zero`",
        )
    return clock


def clock_attrs(clock: SessionClock, schema: RecordingSchema, first: float) -> dict[str, Any]:
    """Return the root attributes of the clock; a file that we wrote keeps its own."""
    stated = schema.attrs
    if clock.found_by == "file":
        kept = {key: float(stated[key]) for key in ("clock_scale", "clock_offset")}
        return {**kept, "t0_source": float(stated.get("t0_source", 0.0))}
    found: dict[str, Any] = {"clock_scale": clock.scale, "clock_offset": clock.offset}
    found["t0_source"] = first + float(stated.get("t0_source", 0.0))
    return found | ({"session_start": clock.session_start} if clock.session_start else {})


def on_clock(raw: xr.Dataset, clock: SessionClock) -> xr.Dataset:
    """Return ``/raw`` with all its moments on the session clock."""
    moved = {
        name: (raw[name].dims, clock.to_session(raw[name].values), raw[name].attrs)
        for name in MOMENTS
        if name in raw
    }
    raw = raw.assign(moved)
    if "time" in raw:
        raw = raw.assign_coords(time=("time", clock.to_session(raw["time"].values), {"units": "s"}))
    return raw


def session_grid(regular: RegularClock | None, clock: SessionClock) -> RegularClock | None:
    """Return a regular clock of samples on the session clock."""
    if regular is None:
        return None
    start = float(clock.to_session(regular.start))
    return replace(regular, start=start, rate=regular.rate / clock.scale)


def moved_blocks(blocks: Iterator[Block], clock: SessionClock) -> Iterator[Block]:
    """Yield the blocks with times of spikes on the session clock."""
    for block in blocks:
        if block.name == "spike_time":
            block = replace(block, values=clock.to_session(block.values))
        yield block
