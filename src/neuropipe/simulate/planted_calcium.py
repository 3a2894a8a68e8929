"""Calcium traces of several animals with planted, dynamic functional groups."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

__all__ = ["planted_calcium"]

Float = NDArray[np.float64]

PRIVATE_RATE, COMMON_RATE = 0.05, 0.45
DECAY_S, RISE_S = 3.0, 0.5
DRIFT = 0.2
BIN_S = 1.0


@dataclass(frozen=True)
class _Motif:
    groups: tuple[NDArray[np.intp], ...]
    start: float
    stop: float
    strength: Float


def _draw_motifs(
    rng: np.random.Generator, n_neurons: int, n_subjects: int, duration: float, n_motifs: int
) -> list[_Motif]:
    starts = np.linspace(0.05 * duration, max(0.95 * duration - 40.0, 0.05 * duration), n_motifs)
    motifs = []
    for start in starts:
        sizes = rng.integers(8, 13, size=rng.integers(1, 3))
        order = rng.permutation(n_neurons)
        groups = tuple(np.sort(part) for part in np.split(order, np.cumsum(sizes))[:-1])
        active = rng.choice(
            n_subjects, rng.integers(-(-n_subjects // 2), n_subjects + 1), replace=False
        )
        strength = np.zeros(n_subjects)
        strength[active] = rng.uniform(0.7, 1.0, active.size)
        motifs.append(_Motif(groups, start, start + rng.uniform(25.0, 40.0), strength))
    return motifs


def _events(
    rng: np.random.Generator, rate: float, start: float, stop: float
) -> tuple[Float, Float]:
    """Return times and sizes of Poisson events."""
    count = rng.poisson(rate * max(stop - start, 0.0))
    return rng.uniform(start, stop, count), rng.gamma(3.0, 1 / 3, count)


def _drive(
    rng: np.random.Generator,
    motifs: list[_Motif],
    subject: int,
    n_neurons: int,
    n_times: int,
    fs: float,
) -> Float:
    """Return the events of one animal on the frame grid, shape (n_neurons, n_times)."""
    drive = np.zeros((n_neurons, n_times))
    for row in drive:
        times, sizes = _events(rng, PRIVATE_RATE, 0.0, n_times / fs)
        np.add.at(row, (times * fs).astype(int), sizes)
    for motif in motifs:
        stop = min(motif.stop, n_times / fs)
        for group in motif.groups:
            times, sizes = _events(rng, COMMON_RATE, motif.start, stop)
            common = np.zeros(n_times)
            np.add.at(common, (times * fs).astype(int), sizes)
            weight = motif.strength[subject] * rng.uniform(0.8, 1.2, group.size)
            drive[group] += weight[:, None] * common
    return drive


def _calcium(
    rng: np.random.Generator, drive: Float, fs: float, snr: float, gain: Float, sign: Float
) -> Float:
    """Turn events into fluorescence traces with noise and drift."""
    from scipy.signal import fftconvolve

    n_times = drive.shape[1]
    lag = np.arange(0, 8 * DECAY_S, 1 / fs)
    kernel = np.exp(-lag / DECAY_S) - np.exp(-lag / RISE_S)
    kernel /= kernel.max()
    signal = fftconvolve(drive, kernel[None], axes=1)[:, :n_times] * (gain * sign)[:, None]
    sd = signal.std(axis=1, keepdims=True)
    noise = rng.standard_normal(drive.shape) * sd / snr
    drift = np.cumsum(rng.standard_normal(drive.shape), axis=1) * DRIFT * sd / np.sqrt(n_times)
    traces: Float = signal + noise + drift
    return traces


def _truth(
    motifs: list[_Motif], sign: Float, names: list[str], subjects: list[str], n_bins: int
) -> xr.Dataset:
    label = np.zeros((len(motifs), len(names)), dtype=np.int64)
    for m, motif in enumerate(motifs):
        for g, group in enumerate(motif.groups):
            label[m, group] = g + 1
    first, second = np.triu_indices(len(names), 1)
    centre = (np.arange(n_bins) + 0.5) * BIN_S
    start = np.array([motif.start for motif in motifs])
    stop = np.array([motif.stop for motif in motifs])
    return xr.Dataset(
        {
            "label": (("motif", "neuron"), label),
            "pair_indicator": (
                ("motif", "pair"),
                (label[:, first] == label[:, second]) & (label[:, first] > 0),
            ),
            "time_indicator": (
                ("motif", "time_bin"),
                (centre >= start[:, None]) & (centre < stop[:, None]),
            ),
            "subject_strength": (
                ("motif", "subject"),
                np.array([motif.strength for motif in motifs]),
            ),
            "motif_start": ("motif", start),
            "motif_stop": ("motif", stop),
            "sign": ("neuron", sign),
        },
        coords={
            "neuron": names,
            "subject": subjects,
            "time_bin": centre,
            "neuron_i": ("pair", np.array(names)[first]),
            "neuron_j": ("pair", np.array(names)[second]),
        },
    )


def planted_calcium(
    seed: int = 0,
    *,
    n_neurons: int = 60,
    n_subjects: int = 6,
    duration: float = 240.0,
    fs: float = 4.0,
    n_motifs: int = 4,
    snr: float = 4.0,
    missing: float = 0.15,
    p_negative: float = 0.2,
) -> tuple[xr.Dataset, xr.Dataset]:
    """Simulate identified neurons whose groups interact in one stretch of time and some animals.

    Each motif has one or two disjoint groups of 8-12 neurons, which receive a common train of
    events in the motif's interval of 25-40 s, in at least half of the animals; every neuron has
    private events. Two groups of a motif are independent of each other.

    Parameters
    ----------
    seed : int
        Seed of everything.
    n_neurons, n_subjects : int
        Neurons (at least 24) and animals.
    duration : float
        Length in seconds.
    fs : float
        Frames per second.
    n_motifs : int
        Number of motifs.
    snr : float
        SD of the signal over SD of the white noise.
    missing : float
        Share of (neuron, subject) traces that are NaN.
    p_negative : float
        Share of neurons whose trace is inverted, in all animals.

    Returns
    -------
    data : xarray.Dataset
        ``activity(subject, neuron, time)`` with NaN for missing traces.
    truth : xarray.Dataset
        ``label(motif, neuron)`` (0: in no group), ``pair_indicator(motif, pair)``,
        ``time_indicator(motif, time_bin)`` on bins of 1 s, ``subject_strength(motif, subject)``,
        ``motif_start``, ``motif_stop`` in seconds.

    Examples
    --------
    >>> data, truth = planted_calcium(0, n_subjects=2)
    >>> dict(data.sizes), truth.sizes["motif"]
    ({'subject': 2, 'neuron': 60, 'time': 960}, 4)
    """
    rng = np.random.default_rng(seed)
    n_times = round(duration * fs)
    motifs = _draw_motifs(rng, n_neurons, n_subjects, duration, n_motifs)
    sign = np.ones(n_neurons)
    sign[rng.choice(n_neurons, round(p_negative * n_neurons), replace=False)] = -1.0
    activity = np.empty((n_subjects, n_neurons, n_times))
    for subject in range(n_subjects):
        drive = _drive(rng, motifs, subject, n_neurons, n_times, fs)
        gain = rng.uniform(0.5, 2.0, n_neurons)
        activity[subject] = _calcium(rng, drive, fs, snr, gain, sign)
    absent = rng.choice(
        n_subjects * n_neurons, round(missing * n_subjects * n_neurons), replace=False
    )
    activity.reshape(-1, n_times)[absent] = np.nan
    names = [f"N{i:03d}" for i in range(n_neurons)]
    subjects = [f"S{i:02d}" for i in range(n_subjects)]
    data = xr.Dataset(
        {"activity": (("subject", "neuron", "time"), activity, {"units": "dF/F"})},
        coords={"subject": subjects, "neuron": names, "time": np.arange(n_times) / fs},
        attrs={"align": "absolute", "time_aligned": 1},
    )
    return data, _truth(motifs, sign, names, subjects, int(duration // BIN_S))
