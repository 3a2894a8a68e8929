"""One second out of 10^7 spikes of 500 units: wall time and bytes decoded (ingest.md, item 6)."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import xarray as xr

from neuropipe.store.series import Block, SeriesSpec
from neuropipe.store.spikes import BY_TIME, spikes_between
from neuropipe.store.zarr import open_store, write_recording

N_SPIKES, N_UNITS, STOP_S = 10_000_000, 500, 4000.0


def write(path: Path) -> None:
    """Write a recording of uniform spikes."""
    rng = np.random.default_rng(0)
    owner = np.sort(rng.integers(0, N_UNITS, N_SPIKES)).astype(np.int32)
    times = rng.uniform(0, STOP_S, N_SPIKES)
    times = times[np.lexsort([times, owner])]
    counts = np.bincount(owner, minlength=N_UNITS)
    edges = np.array([[0.0, STOP_S]])
    raw = xr.Dataset(
        {
            "observed": (("interval", "edge"), edges),
            "obs_start": (("unit_interval", "unit"), np.zeros((1, N_UNITS))),
            "obs_stop": (("unit_interval", "unit"), np.full((1, N_UNITS), STOP_S)),
        },
        {
            "unit": np.arange(N_UNITS),
            "n_spikes": ("unit", counts),
            "unit_start": ("unit", np.cumsum(counts) - counts),
        },
    )
    arrays = {"spike_time": times, "spike_unit": owner}
    write_recording(
        path,
        modality="spikes",
        attrs={"subject_id": "a"},
        raw=raw,
        series=[SeriesSpec(n, ("spike",), v.shape, v.dtype) for n, v in arrays.items()],
        blocks=iter([Block(n, 0, v) for n, v in arrays.items()]),
        groups={},
    )


def main() -> None:
    """Print wall times of windows and the bytes that they decode."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.zarr"
        before = time.perf_counter()
        write(path)
        print(f"written in {time.perf_counter() - before:.1f} s")
        before = time.perf_counter()
        tree = open_store(path)
        print(f"opened in {1e3 * (time.perf_counter() - before):.0f} ms")
        spikes_between(tree, 0.0, 1.0)
        walls = []
        for start in np.random.default_rng(1).uniform(0, STOP_S - 1, 50):
            before = time.perf_counter()
            spikes_between(tree, start, start + 1.0)
            walls.append(1e3 * (time.perf_counter() - before))
        node = tree[BY_TIME]
        chunk = node["spike_time"].encoding["chunks"][0]
        most = 2 * chunk * (8 + 4) + node["second_start"].nbytes
        print(f"window: median {np.median(walls):.1f} ms, worst {max(walls):.1f} ms")
        print(f"decoded: at most {most / 1e6:.1f} MB")


if __name__ == "__main__":
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()
    main()
