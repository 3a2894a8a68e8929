"""Plexon files (.plx): header, channel headers and one block per spike or event."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from neuropipe.simulate.spike_files import SimulatedSpikes

__all__ = ["write_plexon"]

VERSION, HEADER_BYTES, CHANNEL_BYTES, EVENT_BYTES = 106, 7504, 1020, 296
SPIKE, EVENT = 1, 4
BLOCK = struct.Struct("<HHIHHHH")


def write_plexon(
    spikes: SimulatedSpikes, path: Path | str, *, events: tuple[float, ...] = ()
) -> None:
    """Write each unit as unit 1 of a channel of its own, without waveforms.

    Parameters
    ----------
    spikes : SimulatedSpikes
    path : path
        The ``.plx`` file.
    events : tuple of float
        Times of pulses on the event channel, seconds.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    rate, n = int(spikes.rate_hz), len(spikes.samples)
    last = round(spikes.duration_s * rate)
    header = bytearray(HEADER_BYTES)
    struct.pack_into("<4si", header, 0, b"PLEX", VERSION)
    struct.pack_into("<6i", header, 136, rate, n, 1, 0, 32, 8)
    struct.pack_into("<6i", header, 160, 2024, 1, 1, 9, 0, 0)
    struct.pack_into("<2id4B3H", header, 184, 0, rate, float(last), 1, 1, 12, 12, 3000, 5000, 1000)
    channels = [_channel(k, f"sig{k + 1:03d}", rate) for k in range(n)]
    pulse = bytearray(EVENT_BYTES)
    struct.pack_into("<32si", pulse, 0, b"Strobed", 257)
    rows = [(int(s), SPIKE, k + 1, 1) for k, own in enumerate(spikes.samples) for s in own]
    rows += [(round(t * rate), EVENT, 257, 7) for t in events]
    # The last block states how long the file is: an event at the end of the recording.
    rows = [*sorted(rows), (last, EVENT, 257, 9)]
    with path.open("wb") as stream:
        stream.write(bytes(header) + b"".join(channels) + bytes(pulse))
        for sample, kind, channel, unit in rows:
            stream.write(BLOCK.pack(kind, sample >> 32, sample & 0xFFFFFFFF, channel, unit, 0, 0))


def _channel(number: int, name: str, rate: int) -> bytes:
    found = bytearray(CHANNEL_BYTES)
    struct.pack_into("<32s32s5i", found, 0, name.encode(), name.encode(), number + 1, rate, 1, 1, 1)
    return bytes(found)


def sample_times(spikes: SimulatedSpikes, unit: int) -> np.ndarray:
    """Return what a reader of the file must give for a unit, seconds."""
    return np.asarray(spikes.samples[unit], dtype=np.float64) / spikes.rate_hz
