"""Memory of an ingest does not grow with the file."""

from __future__ import annotations

import json
import subprocess
import sys

import h5py
import numpy as np
import pytest

N_TIMES, N_ROIS = 100_000, 500
# Section 14 of the ingest specification: 300 MB and 8 chunks of 8 MB over what imports need.
BOUND_MB = 300 + 8 * 8
SCRIPT = """
import json, sys
from pathlib import Path
import h5py, pynwb, zarr, xarray
from neuropipe.config.models import IngestConfig
from neuropipe.config.recordings import Recording
from neuropipe.io.ingest import ingest_recording
from neuropipe.store.hashing import content_sha256
from neuropipe.store.zarr import open_store
import neuropipe.store.nwb.builder, neuropipe.store.nwb.calcium, neuropipe.io.calcium.hdf5

def megabytes(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024

source, reader, settings, output = Path(sys.argv[1]), *sys.argv[2:4], Path(sys.argv[4])
row = Recording(name="sub-01_calcium", subject="01", modality="calcium", path="x", reader=reader)
config = IngestConfig(compression="lzf", readers={reader: json.loads(settings)})
before = megabytes("VmRSS")
report = ingest_recording(row, source, config, output)
tree = open_store(output)
assert content_sha256(tree["raw"].to_dataset()) == report["content_sha256"]
print(megabytes("VmHWM") - before)
"""


def _blocks():
    ramp = np.arange(10_000 * N_ROIS, dtype=np.float32).reshape(10_000, N_ROIS)
    for start in range(0, N_TIMES, len(ramp)):
        yield start, ramp + start


@pytest.fixture
def hdf5(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        traces = file.create_dataset("traces", (N_TIMES, N_ROIS), "f4")
        for start, values in _blocks():
            traces[start : start + len(values)] = values
        file["time"] = np.arange(N_TIMES) / 30.0
    return path, {"kind": "dff", "datasets": {"traces": "traces", "time": "time"}}


@pytest.fixture
def suite2p(tmp_path):
    folder = tmp_path / "plane0"
    folder.mkdir()
    shape = (N_ROIS, N_TIMES)
    traces = np.lib.format.open_memmap(folder / "F.npy", "w+", np.float32, shape)
    for start, values in _blocks():
        traces[:, start : start + len(values)] = values.T
    traces.flush()
    return folder, {"rate_hz": 30.0}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/status")
@pytest.mark.parametrize("reader", ["hdf5", "suite2p"])
def test_memory_of_an_ingest_is_bounded(tmp_path, request, reader):
    source, settings = request.getfixturevalue(reader)
    arguments = [str(source), reader, json.dumps(settings), str(tmp_path / "out" / "a.zarr")]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < BOUND_MB, done.stdout
