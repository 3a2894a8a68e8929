"""Electrical series in NWB as other converters write them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["write_electrical_nwb"]


def write_electrical_nwb(
    path: Path | str,
    microvolts: np.ndarray,
    rate_hz: float,
    names: Sequence[str],
    *,
    series: Sequence[str] = ("ElectricalSeries",),
    per_channel: bool = False,
    start_s: float = 0.0,
    events: Sequence[float] = (),
    dtype: str = "int16",
) -> None:
    """Write an NWB file with electrical series of the same samples.

    Parameters
    ----------
    path : path
        The ``.nwb`` file.
    microvolts : numpy.ndarray
        Samples, ``(n_times, n_channels)``; stored as steps of 0.1 µV, floats as volts.
    rate_hz : float
        Sampling rate.
    names : sequence of str
        Channels: column ``channel_name`` of the electrodes; shank and location are made up.
    series : sequence of str
        Names of the series; all hold the same samples.
    per_channel : bool
        Give every channel its own factor: that of channel k is k + 1 times as large, and its
        stored numbers as much smaller.
    start_s : float
        Time of the first sample on the clock of the file.
    events : sequence of float
        Starts of epochs, on the same clock.
    dtype : {"int16", "float32"}
        Of the stored samples.
    """
    from pynwb import NWBHDF5IO, NWBFile
    from pynwb.ecephys import ElectricalSeries
    from pynwb.file import Subject

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    start = datetime.fromisoformat("2024-01-01T09:00:00+00:00")
    nwb = NWBFile("simulated voltages", path.stem, start, file_create_date=start)
    nwb.subject = Subject(subject_id="01", species="Homo sapiens", sex="F", age="P30Y")
    device = nwb.create_device("amplifier")
    nwb.add_electrode_column("channel_name", "Name of the channel")
    group = nwb.create_electrode_group("shank", description="x", location="x", device=device)
    for k, name in enumerate(names):
        nwb.add_electrode(
            x=1e3 * k, y=2e3, z=3e4, imp=1e4, location="hippocampus" if k else "unknown",
            group=group, channel_name=name,
        )  # fmt: skip
    region = nwb.create_electrode_table_region(list(range(len(names))), "all of them")
    factor = np.arange(1.0, len(names) + 1) if per_channel else np.ones(len(names))
    known: dict[str, Any] = {"channel_conversion": factor} if per_channel else {}
    if dtype == "int16":
        data: Any = np.round(microvolts * 10.0 / factor).astype(np.int16)
        known["conversion"] = 1e-7
    else:
        data = (microvolts * 1e-6 / factor).astype(dtype)
    for name in series:
        nwb.add_acquisition(
            ElectricalSeries(
                name=name,
                data=data,
                electrodes=region,
                rate=rate_hz,
                starting_time=start_s,
                **known,
            )
        )
    for onset in events:
        nwb.add_epoch(float(onset), float(onset) + 0.1, ["go"])
    with NWBHDF5IO(path, "w") as stream:
        stream.write(nwb)
