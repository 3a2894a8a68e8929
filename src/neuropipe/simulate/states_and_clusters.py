"""One session whose spikes, contacts and scalp channels follow the same hidden states.

Clusters of units have trajectories that settle at levels of the current state; contacts are
mixtures of these trajectories, scalp channels an autoregression whose couplings belong to the
state. So the same recordings have a known partition of units, known states and known latents.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuropipe.simulate.switching_gaussian import draw_autoregression
from neuropipe.simulate.switching_glm import connection_truth

__all__ = ["BIN_S", "STEP_S", "StatesAndClusters", "states_and_clusters"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

STEP_S = 0.01  # of what is recorded
REFRACTORY_S = 0.002
BIN_S = 0.3  # of the dynamics
SMOOTH_S = 0.12  # SD of the kernel that rounds their corners
DECAY, NOISE = 0.6, 0.4  # per bin: distance to the level of the state, SD of the innovations
COMPONENTS = ("common", "latent")


@dataclass(frozen=True)
class StatesAndClusters:
    """What is recorded, and what drives it, every `STEP_S` seconds.

    Attributes
    ----------
    spike_times : tuple of numpy.ndarray
        Seconds per unit.
    contacts : numpy.ndarray
        ``(n_times, n_contacts)``, a.u.
    scalp : numpy.ndarray
        ``(n_scalp_times, n_channels)``, a.u., one sample every ``scalp_step`` steps.
    scalp_step : int
        Steps per sample of the scalp channels.
    truth : xarray.Dataset
        ``state(time)``, ``unit_cluster(unit)``, ``trajectory(time, latent)``, ``log_rate(time,
        unit)`` per second, and of the scalp channels ``weight(state, receiver, sender, lag)``,
        ``connection`` and ``connection_probability_global`` as in `switching_gaussian`.
    """

    spike_times: tuple[Floats, ...]
    contacts: Floats
    scalp: Floats
    scalp_step: int
    truth: xr.Dataset


def _state_path(rng: np.random.Generator, n_bins: int, n_states: int, dwell_s: float) -> Ints:
    """Return states that last half to one and a half of `dwell_s`, any other state next."""
    path = np.empty(n_bins, np.int64)
    state, start = 0, 0
    while start < n_bins:
        stop = start + max(1, round(rng.uniform(0.5, 1.5) * dwell_s / BIN_S))
        path[start:stop] = state
        start = stop
        state = (state + rng.integers(1, n_states)) % n_states
    return path


def _levels(n_states: int, n_clusters: int) -> Floats:
    """Return (state, cluster, component): each state lifts other clusters, in its own way."""
    turn = 2 * np.pi * np.arange(n_states)[:, None] / n_states
    phase = turn + 2 * np.pi * np.arange(n_clusters) / (2 * n_clusters)
    return np.stack([1.0 * np.cos(phase), 1.0 * np.sin(phase)], axis=-1)


def _trajectories(rng: np.random.Generator, states: Ints, levels: Floats) -> Floats:
    """Return (bin, cluster, component): linear dynamics towards the level of the state, centred."""
    paths = np.empty((states.size, *levels.shape[1:]))
    now = levels[states[0]]
    for t, state in enumerate(states):
        pull = (1 - DECAY) * levels[state]
        now = DECAY * now + pull + NOISE * rng.standard_normal(now.shape)
        paths[t] = now
    return paths - paths.mean(axis=0)


def _finer(paths: Floats, n_times: int) -> Floats:
    """Return trajectories every `STEP_S`, without kinks at the middles of bins."""
    from scipy.interpolate import PchipInterpolator
    from scipy.ndimage import gaussian_filter1d

    middles = (np.arange(len(paths)) + 0.5) * BIN_S
    time = np.clip((np.arange(n_times) + 0.5) * STEP_S, middles[0], middles[-1])
    finer = PchipInterpolator(middles, paths, axis=0)(time)
    smooth: Floats = gaussian_filter1d(finer, SMOOTH_S / STEP_S, axis=0, mode="nearest")
    return smooth


def _spikes(rng: np.random.Generator, log_rate: Floats) -> tuple[Floats, ...]:
    """Return spike times of Poisson counts, those too close put off by the refractory period."""
    counts = rng.poisson(np.exp(log_rate) * STEP_S)
    found = []
    for column in counts.T:
        bins = np.repeat(np.arange(column.size), column)
        times = np.sort((bins + rng.uniform(size=bins.size)) * STEP_S)
        rests = REFRACTORY_S * np.arange(times.size)
        times = np.maximum.accumulate(times - rests) + rests
        found.append(times[times < column.size * STEP_S])
    return tuple(found)


def states_and_clusters(
    seed: int = 0,
    *,
    duration_s: float = 240.0,
    n_states: int = 2,
    dwell_s: float = 6.0,
    n_clusters: int = 2,
    n_per: int = 10,
    rate_hz: float = 12.0,
    n_contacts: int = 10,
    contact_noise: float = 0.5,
    n_channels: int = 6,
    scalp_step: int = 2,
) -> StatesAndClusters:
    """Simulate a session of spikes, contacts and scalp channels with common states.

    Parameters
    ----------
    seed : int
        Seed of everything.
    duration_s : float
        Length, seconds.
    n_states : int
        States; the path never stays in one for more than 1.5 times `dwell_s`.
    dwell_s : float
        Mean duration of a visit, seconds.
    n_clusters, n_per : int
        Clusters, and units of each.
    rate_hz : float
        Mean rate of a unit at a log rate of zero.
    n_contacts : int
        Contacts, each a random mixture of the trajectories.
    contact_noise : float
        SD of their noise; mixtures have an SD of about one.
    n_channels : int
        Scalp channels.
    scalp_step : int
        Steps of 10 ms per sample of the scalp channels.

    Returns
    -------
    StatesAndClusters

    Examples
    --------
    >>> made = states_and_clusters(0, duration_s=10.0)
    >>> made.contacts.shape, len(made.spike_times)
    ((1000, 10), 20)
    """
    rng = np.random.default_rng(seed)
    n_bins, n_times = round(duration_s / BIN_S), round(duration_s / STEP_S)
    path = _state_path(rng, n_bins + 1, n_states, dwell_s)
    paths = _finer(_trajectories(rng, path, _levels(n_states, n_clusters)), n_times)
    states = path[(np.arange(n_times) * STEP_S / BIN_S + 1e-9).astype(int)]
    cluster = np.repeat(np.arange(n_clusters), n_per)
    loading = rng.normal(0.0, 0.5, cluster.size)
    baseline = np.log(rate_hz) + rng.normal(0.0, 0.2, cluster.size)
    log_rate = baseline + paths[:, cluster, 0] + loading * paths[:, cluster, 1]
    latent = paths.reshape(n_times, -1)
    mixing = rng.normal(size=(latent.shape[1], n_contacts)) / np.sqrt(latent.shape[1])
    contacts = latent @ mixing + contact_noise * rng.standard_normal((n_times, n_contacts))
    scalp, couplings = _scalp(rng, states[::scalp_step], n_states, n_channels)
    names = [f"cluster {j + 1} {word}" for j in range(n_clusters) for word in COMPONENTS]
    truth = xr.Dataset(
        {
            "state": ("time", states),
            "trajectory": (("time", "latent"), latent),
            "log_rate": (("time", "unit"), log_rate),
            "unit_cluster": ("unit", cluster),
            "loading": ("unit", loading),
            **couplings,
        },
        coords={"time": (np.arange(n_times) + 0.5) * STEP_S, "latent": names},
    )
    return StatesAndClusters(_spikes(rng, log_rate), contacts, scalp, scalp_step, truth)


def _scalp(
    rng: np.random.Generator, states: Ints, n_states: int, n_channels: int
) -> tuple[Floats, dict[str, tuple[tuple[str, ...], NDArray]]]:
    """Return an autoregression of one lag whose couplings switch, and these couplings."""
    overall, connection, weight = connection_truth(rng, n_channels, n_states)
    weight = 0.8 * weight / np.abs(weight).sum(axis=-1).max()
    bias = rng.normal(0.0, 0.5, (n_states, n_channels))
    root = np.broadcast_to(np.eye(n_channels), (n_states, n_channels, n_channels))
    values = draw_autoregression(rng, states, bias, weight[..., None], root)
    pair = ("receiver", "sender")
    return values, {
        "weight": (("state_kind", *pair, "lag"), weight[..., None]),
        "connection": (("state_kind", *pair), connection),
        "connection_probability_global": ((*pair, "connection_type"), overall),
    }
