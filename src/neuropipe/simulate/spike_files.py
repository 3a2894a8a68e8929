"""Small spike recordings in real formats: NWB units with trials, Phy folder, table."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = [
    "SimulatedSpikes",
    "simulate_spikes",
    "write_phy_folder",
    "write_spike_nwb",
    "write_spike_table",
]

QUALITIES, REGIONS = ("good", "mua"), ("CA1", "VISp", "LP")


@dataclass(frozen=True)
class SimulatedSpikes:
    """Spikes of independent units, on the clock of a sampler.

    Attributes
    ----------
    samples : tuple of numpy.ndarray
        Increasing sample numbers per unit, int64.
    rate_hz : float
        Samples per second.
    duration_s : float
        Duration of the recording, seconds.
    trials : numpy.ndarray
        Start and stop of each trial, ``(n_trials, 2)``, seconds.
    """

    samples: tuple[np.ndarray, ...]
    rate_hz: float
    duration_s: float
    trials: np.ndarray

    @property
    def times(self) -> tuple[np.ndarray, ...]:
        """Spike times per unit, seconds."""
        return tuple(samples / self.rate_hz for samples in self.samples)

    @property
    def quality(self) -> list[str]:
        """Quality of each unit."""
        return [QUALITIES[k % len(QUALITIES)] for k in range(len(self.samples))]

    @property
    def region(self) -> list[str]:
        """Region of each unit."""
        return [REGIONS[k % len(REGIONS)] for k in range(len(self.samples))]


def simulate_spikes(
    rates_hz: Sequence[float] = (2.0, 8.0, 20.0, 0.0),
    duration_s: float = 60.0,
    *,
    sample_rate_hz: float = 30_000.0,
    trials: int = 6,
    seed: int = 0,
) -> SimulatedSpikes:
    """Return Poisson spikes at given mean rates; a unit at 0 Hz has none.

    Parameters
    ----------
    rates_hz : sequence of float
        Mean rate per unit.
    duration_s : float
        Duration, seconds.
    sample_rate_hz : float
        Clock of the sampler; no unit has two spikes in one sample.
    trials : int
        Trials of equal length that fill the recording but for pauses.
    seed : int
        Seed.
    """
    rng = np.random.default_rng(seed)
    n_samples = round(duration_s * sample_rate_hz)
    samples = tuple(
        np.unique(rng.integers(0, n_samples, rng.poisson(rate * duration_s))) for rate in rates_hz
    )
    starts = np.arange(trials) * duration_s / max(1, trials)
    edges = np.stack([starts, starts + 0.8 * duration_s / max(1, trials)], axis=1)
    return SimulatedSpikes(samples, sample_rate_hz, duration_s, edges)


def write_spike_nwb(
    spikes: SimulatedSpikes, path: Path | str, *, subject: str = "01", intervals: bool = True
) -> None:
    """Write the units and the trials as an NWB file, as another converter would.

    Parameters
    ----------
    spikes : SimulatedSpikes
    path : path
        The ``.nwb`` file.
    subject : str
        Subject in the header.
    intervals : bool
        State the observed time of each unit.
    """
    from datetime import datetime

    from pynwb import NWBHDF5IO, NWBFile
    from pynwb.file import Subject

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    start = datetime.fromisoformat("2024-01-01T09:00:00+00:00")
    nwb = NWBFile("simulated spikes", path.stem, start, file_create_date=start)
    nwb.subject = Subject(subject_id=subject, species="Mus musculus", sex="F", age="P90D")
    nwb.add_unit_column("quality", "Quality of the unit")
    nwb.add_unit_column("location", "Region of the unit")
    for unit, times in enumerate(spikes.times):
        known = {"obs_intervals": [[0.0, spikes.duration_s]]} if intervals else {}
        nwb.add_unit(
            id=10 + unit,
            spike_times=times,
            quality=spikes.quality[unit],
            location=spikes.region[unit],
            **known,
        )
    if len(spikes.trials):
        nwb.add_trial_column("choice", "Side that was chosen")
    for number, (begin, end) in enumerate(spikes.trials):
        side = ("left", "right")[number % 2]
        nwb.add_trial(start_time=float(begin), stop_time=float(end), choice=side)
    with NWBHDF5IO(path, "w") as stream:
        stream.write(nwb)


def write_phy_folder(spikes: SimulatedSpikes, path: Path | str) -> None:
    """Write the folder that Kilosort and Phy leave; units are numbered in steps of 3."""
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    samples = np.concatenate(spikes.samples)
    clusters = np.repeat(3 * np.arange(len(spikes.samples)), [len(s) for s in spikes.samples])
    order = np.argsort(samples, kind="stable")
    np.save(path / "spike_times.npy", samples[order].astype(np.uint64)[:, None])
    np.save(path / "spike_clusters.npy", clusters[order].astype(np.int32)[:, None])
    params = {"dat_path": "raw.dat", "n_channels_dat": 4, "dtype": "int16", "offset": 0}
    params |= {"sample_rate": spikes.rate_hz, "hp_filtered": False}
    lines = [f"{name} = {value!r}\n" for name, value in params.items()]
    (path / "params.py").write_text("".join(lines), encoding="utf-8")
    for name, column in (("cluster_group.tsv", "group"), ("cluster_KSLabel.tsv", "KSLabel")):
        rows = [[3 * unit, label] for unit, label in enumerate(spikes.quality)]
        # What Kilosort says of every unit, Phy's user says of the first only, and differently.
        rows = [[0, "noise"]] if column == "group" else rows
        with (path / name).open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
            writer.writerows([["cluster_id", column], *rows])


def write_spike_table(spikes: SimulatedSpikes, path: Path | str, *, unit: str = "s") -> None:
    """Write one row per spike, in the order of time.

    Parameters
    ----------
    spikes : SimulatedSpikes
    path : path
        The ``.csv`` file.
    unit : {"s", "ms", "samples"}
        Unit of the times.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.concatenate(spikes.samples)
    owner = np.repeat(np.arange(len(spikes.samples)), [len(s) for s in spikes.samples])
    order = np.argsort(samples, kind="stable")
    scale = {"s": spikes.rate_hz, "ms": spikes.rate_hz / 1000.0}
    values = samples if unit == "samples" else samples / scale[unit]
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["unit", "time", "region"])
        regions = spikes.region
        writer.writerows([f"u{owner[k]}", repr(values[k].item()), regions[owner[k]]] for k in order)
