"""Memory of an ingest does not grow with the file."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys

import h5py
import nibabel as nib
import numpy as np
import pytest

N_TIMES, N_ROIS = 100_000, 500
# Section 14 of the ingest specification: 300 MB and 8 chunks of 8 MB over what imports need.
BOUND_MB = 300 + 8 * 8
# The image holds 123 MB, of which the mask keeps 53: less than both and the chunks would take.
OWN_BOUND_MB = {"nifti": 180}
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
import nibabel, neuropipe.io.fmri.nifti
if sys.argv[2] == "nifti":
    import nilearn.masking

def megabytes(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024

source, reader, settings, output = Path(sys.argv[1]), *sys.argv[2:4], Path(sys.argv[4])
modality = "fmri" if reader in ("nifti", "cifti") else "calcium"
row = Recording(name=f"sub-01_{modality}", subject="01", modality=modality, path="x", reader=reader)
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


SHAPE, N_VOLUMES = (64, 64, 30), 500


def _volumes(path, opener):
    """Write 123 MB of noise in a head, volume by volume; the header states what will follow."""
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")
    head = x**2 + y**2 + z**2 < 0.8
    rng = np.random.default_rng(0)
    noise = rng.integers(-20, 20, SHAPE, np.int16)
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape((*SHAPE, N_VOLUMES))
    header.set_zooms((3.0, 3.0, 3.0, 2.0))
    header.set_xyzt_units("mm", "sec")
    header["magic"], header["vox_offset"] = b"n+1", 352
    with opener(path) as stream:
        stream.write(header.binaryblock + bytes(4))
        for k in range(N_VOLUMES):
            volume = np.where(head, 1000 + np.roll(noise, k), 0).astype(np.int16)
            stream.write(volume.tobytes(order="F"))
    return path, {}


@pytest.fixture
def nifti(tmp_path):
    return _volumes(tmp_path / "a.nii.gz", lambda path: gzip.open(path, "wb", compresslevel=1))


@pytest.fixture
def cifti(tmp_path):
    """A hundred megabytes of grayordinates, of which a block by time takes pieces of every row."""
    rows = nib.cifti2.BrainModelAxis.from_surface(np.arange(32_492), 32_492, "CORTEX_LEFT")
    series = nib.cifti2.SeriesAxis(0.0, 0.72, 800)
    values = np.random.default_rng(0).normal(size=(800, len(rows))).astype(np.float32)
    image = nib.Cifti2Image(values, nib.cifti2.Cifti2Header.from_axes((series, rows)))
    nib.save(image, tmp_path / "a.dtseries.nii")
    return tmp_path / "a.dtseries.nii", {}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/status")
@pytest.mark.parametrize("reader", ["hdf5", "suite2p", "nifti", "cifti"])
def test_memory_of_an_ingest_is_bounded(tmp_path, request, reader):
    source, settings = request.getfixturevalue(reader)
    arguments = [str(source), reader, json.dumps(settings), str(tmp_path / "out" / "a.zarr")]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=True
    )
    assert float(done.stdout.split()[-1]) < OWN_BOUND_MB.get(reader, BOUND_MB), done.stdout
