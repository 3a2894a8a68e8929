"""Formats of sorted units that laboratories and recorders write: MATLAB files, Plexon."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from damage import Damage
from formats import Format, Source
from formats_spikes import DURATION_S, MS, SAMPLES, by_unit, spikes_of_variant

from neuropipe.simulate.matlab_files import write_matlab
from neuropipe.simulate.plexon_files import write_plexon

__all__ = ["FORMATS"]

FIELDS = {"times": "sorted.times", "names": "sorted.id", "quality": "sorted.quality"}


def _write_matlab(folder: Path, variant: int, version: str, factor: float = 1.0) -> Source:
    spikes = spikes_of_variant(variant)
    content = {
        "times": [times * factor for times in spikes.times],
        "id": [f"u{k}" for k in range(len(spikes.times))],
        "quality": list(spikes.quality),
    }
    write_matlab(folder / "a.mat", {"sorted": content}, version)
    settings = {"datasets": FIELDS, "time_unit": "s", "duration_s": DURATION_S}
    return Source("a.mat", settings)


def _in_units(factor: float, version: str) -> Any:
    def apply(path: Path, rng: np.random.Generator) -> None:
        _write_matlab(path.parent, 0, version, factor)

    return apply


def _store(cells: list[Any], names: list[str], quality: list[str]) -> dict[str, np.ndarray]:
    times = [np.atleast_1d(np.asarray(cell, dtype=np.float64)).ravel() for cell in cells]
    owner = np.repeat(np.arange(len(times)), [len(part) for part in times])
    found = by_unit(names, owner, np.concatenate(times))
    return found | {"raw/quality": np.array(quality, dtype=object)}


def _read_matlab_5(folder: Path, source: Source) -> dict[str, np.ndarray]:
    import scipy.io

    content = scipy.io.loadmat(folder / source.path)["sorted"]
    fields = {name: list(content[name][0, 0].ravel()) for name in ("times", "id", "quality")}
    texts = {name: [str(cell.item()) if cell.size else "" for cell in fields[name]]
             for name in ("id", "quality")}  # fmt: skip
    return _store(fields["times"], texts["id"], texts["quality"])


def _read_matlab_73(folder: Path, source: Source) -> dict[str, np.ndarray]:
    import h5py

    with h5py.File(folder / source.path) as file:

        def cells(name: str) -> list[np.ndarray]:
            return [file[ref] for ref in file[f"sorted/{name}"][...].ravel()]

        times = [[] if "MATLAB_empty" in cell.attrs else cell[...] for cell in cells("times")]
        texts = {
            name: ["".join(map(chr, cell[...].ravel())) for cell in cells(name)]
            for name in ("id", "quality")
        }
    return _store(times, texts["id"], texts["quality"])


def _write_plexon(folder: Path, variant: int) -> Source:
    write_plexon(spikes_of_variant(variant), folder / "a.plx", events=(1.5, 4.25))
    return Source("a.plx")


def _read_plexon(folder: Path, source: Source) -> dict[str, np.ndarray]:
    import neo.io

    (block,) = neo.io.PlexonIO(filename=str(folder / source.path)).read()
    (segment,) = block.segments
    times = [train.times.rescale("s").magnitude for train in segment.spiketrains]
    owner = np.repeat(np.arange(len(times)), [len(part) for part in times])
    found = by_unit(range(len(times)), owner, np.concatenate(times))
    found.pop("raw/unit")
    onsets = [event.times.rescale("s").magnitude for event in segment.events]
    return found | {"events/onset": np.sort(np.concatenate(onsets))}


def _matlab(version: str, kind: str, read: Any, share: float) -> Format:
    own = ((MS, 1e3), (SAMPLES, 3e4))
    return Format(
        f"MATLAB {version} spikes", "spikes", "matlab_spikes",
        partial(_write_matlab, version=version), read, {"a.mat": kind},
        own=tuple(("a.mat", Damage(name, _in_units(factor, version), "refused"))
                  for name, factor in own),
        share=share,
    )  # fmt: skip


FORMATS = (
    _matlab("5", "binary", _read_matlab_5, 1.0),
    _matlab("7.3", "hdf5", _read_matlab_73, 0.6),
    Format("Plexon", "spikes", "neo", _write_plexon, _read_plexon, {"a.plx": "binary"}),
)
