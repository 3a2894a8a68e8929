"""Channels from a store to NWB against a bare h5py copy with gzip 4 (ingest.md, item 8).

python benchmarks/nwb_channels.py 400     # MB of samples
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import h5py
import numpy as np
import xarray as xr

from neuropipe.store.chunks import chunk_shape
from neuropipe.store.clock import RegularClock
from neuropipe.store.hashing import iter_blocks
from neuropipe.store.nwb import to_nwb
from neuropipe.store.series import Block, SeriesSpec
from neuropipe.store.zarr import open_store, write_recording

KINDS = ["eeg"] * 60 + ["eog"] * 2 + ["stim"] * 2
STEP = 1 << 16


def _text(words: list[str]) -> tuple[str, np.ndarray]:
    return "channel", np.array(words, dtype=object)


def write(path: Path, n_times: int) -> None:
    """Write a store of int16 noise in channels of three types."""
    n = len(KINDS)
    coords = {
        "channel": _text([f"c{k}" for k in range(n)]),
        "ch_type": _text(KINDS),
        "units": _text(["" if kind == "stim" else "V" for kind in KINDS]),
        "scale_factor": ("channel", np.full(n, 1e-7)),
        "add_offset": ("channel", np.zeros(n)),
    }
    rng = np.random.default_rng(0)

    def blocks() -> Iterator[Block]:
        for start in range(0, n_times, STEP):
            size = (min(STEP, n_times - start), n)
            yield Block("signal", start, (200 * rng.normal(size=size)).astype(np.int16))

    write_recording(
        path,
        modality="eeg",
        attrs={"subject_id": "a"},
        raw=xr.Dataset(coords=coords),
        series=[SeriesSpec("signal", ("time", "channel"), (n_times, n), np.dtype(np.int16))],
        blocks=blocks(),
        groups={},
        clock=RegularClock(0.0, 1000.0, n_times),
    )


def _ours(store: Path, path: Path) -> tuple[float, float]:
    """Return CPU seconds of the copy, and the peak memory of this process in MB."""
    to_nwb(open_store(store.with_name("small.zarr")), path.with_name("small.nwb"))  # imports
    tree = open_store(store)
    started = time.process_time()
    to_nwb(tree, path)
    seconds = time.process_time() - started
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _bare(blocks: Iterable[tuple[int, np.ndarray]], shape: tuple[int, int], path: Path) -> None:
    chunks = chunk_shape(shape, 2)
    known = {"compression": "gzip", "compression_opts": 4, "shuffle": True, "chunks": chunks}
    with h5py.File(path, "w") as file:
        data = file.create_dataset("x", shape, np.int16, **known)
        for start, values in blocks:
            data[start : start + len(values)] = values


def main(megabytes: int = 512) -> None:
    """Print CPU throughput of both, and the peak memory of ours."""
    n_times = megabytes * 10**6 // (2 * len(KINDS))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder / "small.zarr", 1000)
        write(folder / "a.zarr", n_times)
        # A process of its own, whose peak is not that of writing the store.
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            ours, peak = pool.submit(_ours, folder / "a.zarr", folder / "a.nwb").result()
        signal = open_store(folder / "a.zarr")["raw/signal"].variable
        seconds = []
        for held in (False, True):
            values = signal.values if held else None
            started = time.process_time()
            blocks = (
                iter_blocks(signal)
                if values is None
                else ((at, values[at : at + STEP]) for at in range(0, n_times, STEP))
            )
            _bare(blocks, signal.shape, folder / "b.h5")
            seconds.append(time.process_time() - started)
    print(f"{megabytes} MB of int16, {len(KINDS)} channels of three types")
    print(f"to NWB {megabytes / ours:.1f} MB/s, peak memory {peak:.0f} MB")
    for bare, place in zip(seconds, ("the store", "memory"), strict=True):
        text = f"bare gzip 4 copy from {place} {megabytes / bare:.1f} MB/s"
        print(f"{text}: ratio {bare / ours:.2f} (at least 0.80)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("megabytes", nargs="?", type=int, default=512)
    main(parser.parse_args().megabytes)
