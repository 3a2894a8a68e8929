"""Throughput and memory of ingest, paired with bare copies of the same samples in one run.

A BrainVision recording (int16, 64 channels, 1 kHz) is made once per size, then::

    OMP_NUM_THREADS=1 python benchmarks/ingest.py speed --gigabytes 1
    OMP_NUM_THREADS=1 python benchmarks/ingest.py memory --gigabytes 8 --compression none

`speed` compares, in CPU seconds of one process: the way from file to Zarr store (reading, checks,
hashes of source and content) with a bare copy by zarr, chunks and codec the same; the NWB file
with a bare copy by h5py (gzip 4, shuffle); reading a store with reading by zarr; and times a
random second of all channels, and opening.
`memory` prints by how much the peak of an ingest exceeds what the imports need.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

CHANNELS, RATE_HZ, RESOLUTION_UV = 64, 1000, 0.1
BLOCK = 65_536
HEADER = """BrainVision Data Exchange Header File Version 1.0

[Common Infos]
Codepage=UTF-8
DataFile={name}.eeg
DataFormat=BINARY
DataOrientation=MULTIPLEXED
NumberOfChannels={channels}
SamplingInterval={interval}

[Binary Infos]
BinaryFormat=INT_16

[Channel Infos]
"""


def write_recording(folder: Path, gigabytes: float) -> Path:
    """Write random walks as a BrainVision recording, unless an equal one is there."""
    samples = int(gigabytes * 1e9 / 2 / CHANNELS)
    name = f"walk_{gigabytes:g}gb"
    data, header = folder / f"{name}.eeg", folder / f"{name}.vhdr"
    lines = [f"Ch{k + 1}=E{k + 1:02d},,{RESOLUTION_UV},µV" for k in range(CHANNELS)]
    text = HEADER.format(name=name, channels=CHANNELS, interval=1_000_000 // RATE_HZ)
    header.write_text(text + "\n".join(lines) + "\n", encoding="utf-8")
    if data.exists() and data.stat().st_size == samples * CHANNELS * 2:
        return header
    rng = np.random.default_rng(0)
    with data.open("wb") as stream:
        for start in range(0, samples, BLOCK):
            count = min(BLOCK, samples - start)
            walk = np.cumsum(rng.normal(0, 20, (count, CHANNELS)), axis=0)
            walk -= walk.mean(axis=0)
            stream.write(np.clip(walk, -32_000, 32_000).astype("<i2").tobytes())
    return header


def read_blocks(header: Path) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the samples of the file in blocks, as a copy must read them too."""
    start = 0
    with header.with_suffix(".eeg").open("rb") as stream:
        while (values := np.fromfile(stream, "<i2", BLOCK * CHANNELS)).size:
            yield start, values.reshape(-1, CHANNELS)
            start += len(values) // CHANNELS


def ingest(header: Path, output: Path, compression: str) -> dict[str, float]:
    """Ingest and return CPU seconds: all of it, and the NWB file alone."""
    from neuropipe.config.models import IngestConfig
    from neuropipe.config.recordings import Recording
    from neuropipe.io import ingest as module

    used: dict[str, float] = {}
    write_nwb = module.write_nwb

    def timed(*arguments: Any) -> None:
        begin = time.process_time()
        write_nwb(*arguments)
        used["nwb"] = time.process_time() - begin

    row = Recording(
        name="sub-01_eeg", subject="01", modality="eeg", path=str(header), reader="brainvision"
    )
    module.write_nwb = timed
    begin = time.process_time()
    module.ingest_recording(row, header, IngestConfig(compression=compression), output)
    used["all"] = time.process_time() - begin
    module.write_nwb = write_nwb
    return used


def copy_zarr(header: Path, output: Path, shape: tuple[int, int], chunks: tuple[int, int]) -> None:
    """Copy by zarr alone: chunks and codec of the store."""
    import zarr
    from zarr.codecs import BloscCodec

    codec = BloscCodec(cname="zstd", clevel=3, shuffle="shuffle")
    array = zarr.create_array(output, shape=shape, dtype="i2", chunks=chunks, compressors=[codec])
    held, start = [], 0
    for _, values in read_blocks(header):
        held.append(values)
        if sum(map(len, held)) >= chunks[0]:
            joined = np.concatenate(held)
            whole = len(joined) - len(joined) % chunks[0]
            array[start : start + whole] = joined[:whole]
            held, start = [joined[whole:]], start + whole
    array[start:] = np.concatenate(held)


def copy_hdf5(header: Path, output: Path, shape: tuple[int, int], chunks: tuple[int, int]) -> None:
    """Copy by h5py alone: gzip 4 and shuffle, as the NWB file has."""
    import h5py

    with h5py.File(output, "w") as file:
        data = file.create_dataset(
            "a", shape, "i2", chunks=chunks, compression="gzip", compression_opts=4, shuffle=True
        )
        held, start = np.empty((0, CHANNELS), "i2"), 0
        for _, values in read_blocks(header):
            held = np.concatenate([held, values])
            whole = len(held) - len(held) % chunks[0]
            data[start : start + whole] = held[:whole]
            held, start = held[whole:], start + whole
        data[start:] = held


def cpu(action: Callable[[], Any]) -> float:
    """Return the CPU seconds of a call."""
    begin = time.process_time()
    action()
    return time.process_time() - begin


def read_all(read: Callable[[slice], np.ndarray], starts: Sequence[int], step: int) -> None:
    """Read an array block by block and keep none."""
    for at in starts:
        read(slice(at, at + step))


def share(bare: float, ours: float, demand: int) -> str:
    """Return our share of the speed of a bare copy, beside what is asked for."""
    found = bare / ours
    verdict = "met" if 100 * found >= demand else "MISSED"
    return f"{found:.0%} of its speed (demand {demand} %) {verdict}"


def speed(folder: Path, gigabytes: float, compression: str) -> None:
    """Print throughput beside bare copies."""
    import zarr

    from neuropipe.store.zarr import open_store

    header = write_recording(folder, gigabytes)
    store = folder / "out" / "sub-01_eeg.zarr"
    shutil.rmtree(store.parent, ignore_errors=True)
    used = ingest(header, store, compression)
    array = zarr.open_array(store / "raw" / "signal", mode="r")
    shape, chunks = array.shape, array.chunks
    shutil.rmtree(folder / "bare.zarr", ignore_errors=True)
    bare_zarr = cpu(lambda: copy_zarr(header, folder / "bare.zarr", shape, chunks))
    to_zarr = used["all"] - used["nwb"]
    print(f"to Zarr: {to_zarr:.2f} s CPU, bare zarr copy {bare_zarr:.2f} s: "
          f"{share(bare_zarr, to_zarr, 40)}")  # fmt: skip
    bare_hdf5 = cpu(lambda: copy_hdf5(header, folder / "bare.h5", shape, chunks))
    print(f"to NWB: {used['nwb']:.2f} s CPU, bare h5py copy {bare_hdf5:.2f} s: "
          f"{share(bare_hdf5, used['nwb'], 80)}")  # fmt: skip
    signal = open_store(store)["raw"]["signal"].variable
    bare = zarr.open_array(folder / "bare.zarr", mode="r")
    starts = range(0, shape[0], chunks[0])
    ours = cpu(lambda: read_all(lambda at: signal[at].values, starts, chunks[0]))
    theirs = cpu(lambda: read_all(bare.__getitem__, starts, chunks[0]))
    print(f"read: {ours:.2f} s CPU, bare zarr {theirs:.2f} s: {share(theirs, ours, 70)}")
    begin = time.perf_counter()
    open_store(store)
    print(f"open: {1e3 * (time.perf_counter() - begin):.0f} ms (demand 100)")
    rng, seconds = np.random.default_rng(1), []
    for at in rng.integers(0, shape[0] - RATE_HZ, 50):
        begin = time.perf_counter()
        _ = signal[int(at) : int(at) + RATE_HZ].values
        seconds.append(time.perf_counter() - begin)
    print(f"random second: median {1e3 * statistics.median(seconds):.1f} ms (demand 30)")


MEMORY = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import h5py, pynwb, zarr, xarray
import neuropipe.store.nwb.builder
import ingest as benchmark
from neuropipe.io.registry import match

def megabytes(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024

header = Path(sys.argv[2])
match(header, "eeg", "brainvision")
before = megabytes("VmRSS")
benchmark.ingest(header, Path(sys.argv[3]), sys.argv[4])
print(megabytes("VmHWM") - before)
"""


def memory(folder: Path, gigabytes: float, compression: str) -> None:
    """Print the peak of an ingest over what the imports need."""
    header = write_recording(folder, gigabytes)
    shutil.rmtree(folder / "out", ignore_errors=True)
    output = folder / "out" / "sub-01_eeg.zarr"
    arguments = [str(Path(__file__).parent), str(header), str(output), compression]
    command = [sys.executable, "-c", MEMORY, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    print(f"memory: {gigabytes:g} GB: +{float(done.stdout):.0f} MB (demand 300 + 8 chunks = 364)")


CASES = {"speed": speed, "memory": memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--compression", default="gzip", choices=["none", "gzip", "lzf"])
    parser.add_argument("--folder", type=Path, help="keeps the files; default: a temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        CASES[options.case](folder, options.gigabytes, options.compression)


if __name__ == "__main__":
    main()
