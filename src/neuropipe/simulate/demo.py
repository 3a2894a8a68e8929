"""The demo study: synthetic recordings in real file formats, with the truth beside them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuropipe.simulate.calcium_files import write_calcium_hdf5, write_calcium_nwb

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["simulate_worms", "write_demo"]

SEED = 20240501
STIMULI = ("odour", "light", "touch")


def simulate_worms(seed: int = SEED) -> tuple[xr.Dataset, xr.Dataset]:
    """Simulate three worms under one protocol: each stimulus drives one motif of neurons.

    Parameters
    ----------
    seed : int
        Seed of everything.

    Returns
    -------
    data : xarray.Dataset
        ``activity(subject, neuron, time)`` of 48 named neurons at 4 Hz over 180 s.
    truth : xarray.Dataset
        As `planted_calcium` returns it, with ``stimulus(motif)``.
    """
    from neuropipe.simulate.planted_calcium import planted_calcium
    from neuropipe.store.atlas import load_atlas

    data, truth = planted_calcium(
        seed, n_neurons=48, n_subjects=3, duration=180.0, n_motifs=len(STIMULI), missing=0.1
    )
    atlas = load_atlas("celegans-300")
    sensory = [name for name, kind in zip(atlas.names, atlas.types, strict=True) if kind != "motor"]
    step = len(sensory) // data.sizes["neuron"]
    names = sensory[::step][: data.sizes["neuron"]]
    subjects = ["w01", "w02", "w03"]
    data = data.assign_coords(neuron=names, subject=subjects)
    truth = truth.assign_coords(neuron=names, subject=subjects, stimulus=("motif", list(STIMULI)))
    return data, truth


def _events(truth: xr.Dataset) -> dict[str, list[tuple[float, float]]]:
    starts, stops = truth["motif_start"].values, truth["motif_stop"].values
    return {
        name: [(float(start), float(stop))]
        for name, start, stop in zip(STIMULI, starts, stops, strict=True)
    }


def _write_sources(folder: Path, data: xr.Dataset, truth: xr.Dataset) -> dict[str, Mapping]:
    """Write one NWB file and two HDF5 files; return the settings that read each."""
    events = _events(truth)
    raw = folder / "raw"
    found: dict[str, Mapping[str, Any]] = {}
    for subject in data["subject"].values:
        if subject == "w01":
            write_calcium_nwb(data, subject, raw / "w01.nwb", fluorescence=False, events=events)
        else:
            path = raw / f"{subject}.h5"
            found[subject] = write_calcium_hdf5(data, subject, path, events=events)
    return found


def _write_truth(folder: Path, truth: xr.Dataset) -> None:
    """Write the planted groups as plain JSON: stimulus -> interval, groups, subject strengths."""
    from neuropipe.store.atomic import write_json

    motifs = []
    for index, name in enumerate(STIMULI):
        one = truth.isel(motif=index)
        groups = [
            sorted(str(n) for n in truth["neuron"].values[one["label"].values == label])
            for label in range(1, int(one["label"].max()) + 1)
        ]
        motifs.append(
            {
                "stimulus": name,
                "start_s": float(one["motif_start"]),
                "stop_s": float(one["motif_stop"]),
                "groups": groups,
                "subject_strength": {
                    str(s): round(float(v), 4)
                    for s, v in zip(
                        truth["subject"].values, one["subject_strength"].values, strict=True
                    )
                },
            }
        )
    write_json(folder / "truth" / "motifs.json", {"motifs": motifs})


def write_demo(folder: Path | str) -> None:
    """Write the demo study: shipped configuration, simulated sources, truth.

    Parameters
    ----------
    folder : Path or str
        Study folder; ``config/config.yaml`` must not exist there.
    """
    from neuropipe.config.shipped import shipped

    folder = Path(folder)
    data, truth = simulate_worms()
    _write_sources(folder, data, truth)
    _write_truth(folder, truth)
    (folder / "config").mkdir(parents=True, exist_ok=True)
    for name in ("config.yaml", "recordings.tsv"):
        shutil.copyfile(shipped(f"config/{name}"), folder / "config" / name)
