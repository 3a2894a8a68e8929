"""Worms of the demo study: calcium imaging of named neurons under one protocol."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuropipe.simulate.calcium_files import write_calcium_hdf5, write_calcium_nwb

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["STIMULI", "simulate_worms", "write_worms"]

SEED = 20240501
STIMULI = ("odour", "light", "touch")


def simulate_worms(
    seed: int = SEED, subjects: int = 3, *, snr: float = 4.0, missing: float = 0.1
) -> tuple[xr.Dataset, xr.Dataset]:
    """Simulate worms under one protocol: each stimulus drives one motif of neurons.

    Parameters
    ----------
    seed : int
        Seed of everything.
    subjects : int
        Number of worms.
    snr, missing : float
        As of `planted_calcium`.

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
        seed, n_neurons=48, n_subjects=subjects, duration=180.0, n_motifs=len(STIMULI),
        snr=snr, missing=missing,
    )  # fmt: skip
    atlas = load_atlas("celegans-300")
    sensory = [name for name, kind in zip(atlas.names, atlas.types, strict=True) if kind != "motor"]
    step = len(sensory) // data.sizes["neuron"]
    names = sensory[::step][: data.sizes["neuron"]]
    labels = [f"w{k + 1:02d}" for k in range(subjects)]
    data = data.assign_coords(neuron=names, subject=labels)
    truth = truth.assign_coords(neuron=names, subject=labels, stimulus=("motif", list(STIMULI)))
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


def write_worms(
    folder: Path, *, seed: int = SEED, subjects: int = 3, snr: float = 4.0, missing: float = 0.1
) -> xr.Dataset:
    """Write the sources of the worms below ``raw/`` of a study folder.

    Parameters
    ----------
    folder : Path
        Study folder.
    seed : int
        Seed of everything.
    subjects : int
        Number of worms; the first is an NWB file, the others are HDF5 files of one laboratory.
    snr, missing : float
        As of `planted_calcium`.

    Returns
    -------
    xarray.Dataset
        The truth, as `simulate_worms` returns it.
    """
    data, truth = simulate_worms(seed, subjects, snr=snr, missing=missing)
    _write_sources(folder, data, truth)
    return truth
