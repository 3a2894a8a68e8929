"""A stand-in for neuroconv, which lives in an environment of its own: what a page calls of it."""

from __future__ import annotations

import sys
from datetime import datetime
from types import ModuleType
from typing import Any

import numpy as np
import pytest

RATE_HZ, DURATION_S, N_UNITS, N_CHANNELS = 500.0, 20.0, 3, 4


class NWBConverter:
    """Writes units and voltages under the metadata that it is given; reads nothing."""

    data_interface_classes: dict[str, type]

    def __init__(self, source_data: dict[str, dict[str, str]]) -> None:
        assert set(source_data) == set(self.data_interface_classes)

    def get_metadata(self) -> dict[str, Any]:
        """Return metadata without what no file of the maker states."""
        return {"NWBFile": {"session_description": "simulated", "identifier": "m01"}}

    def run_conversion(self, *, nwbfile_path: str, metadata: dict[str, Any]) -> None:
        """Write the file as an own environment would."""
        from pynwb import NWBHDF5IO, NWBFile
        from pynwb.ecephys import ElectricalSeries
        from pynwb.file import Subject

        assert isinstance(metadata["NWBFile"]["session_start_time"], datetime)
        rng = np.random.default_rng(0)
        nwb = NWBFile(**metadata["NWBFile"])
        nwb.subject = Subject(**metadata["Subject"])
        device = nwb.create_device("probe")
        group = nwb.create_electrode_group("shank", description="x", location="x", device=device)
        for _ in range(N_CHANNELS):
            nwb.add_electrode(location="CA1", group=group)
        region = nwb.create_electrode_table_region(list(range(N_CHANNELS)), "all of them")
        steps = rng.normal(0, 300, (round(DURATION_S * RATE_HZ), N_CHANNELS)).astype(np.int16)
        series = ElectricalSeries(
            name="LFP", data=steps, electrodes=region, rate=RATE_HZ, conversion=1e-7
        )
        nwb.add_acquisition(series)
        for _ in range(N_UNITS):
            times = np.sort(rng.uniform(0, DURATION_S, 100))
            nwb.add_unit(spike_times=times, obs_intervals=[[0.0, DURATION_S]])
        with NWBHDF5IO(nwbfile_path, "w") as stream:
            stream.write(nwb)


def stand_in(patch: pytest.MonkeyPatch) -> None:
    """Let ``import neuroconv`` find the stand-in."""
    package, interfaces = ModuleType("neuroconv"), ModuleType("neuroconv.datainterfaces")
    package.NWBConverter = NWBConverter  # type: ignore[attr-defined]
    for name in ("KiloSortSortingInterface", "SpikeGLXRecordingInterface"):
        setattr(interfaces, name, type(name, (), {}))
    patch.setitem(sys.modules, "neuroconv", package)
    patch.setitem(sys.modules, "neuroconv.datainterfaces", interfaces)
