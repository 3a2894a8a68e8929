"""Counts of coupled units whose network switches between states: the set SIM-1."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numba import njit
from numpy.typing import NDArray

__all__ = [
    "FAMILIES",
    "LARGEST_RATE",
    "connection_truth",
    "draw_states",
    "long_states",
    "switching_glm",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LARGEST_RATE = 1e4  # per bin; beyond, the network has run away
STABLE_RADIUS = 0.9
FAMILIES = {"poisson": 0, "negbin": 1, "bernoulli": 2}


@njit(cache=True)
def _draw_count(rng: np.random.Generator, family: int, eta: float, size: float) -> int:
    """Draw one bin of one unit; -1 if its rate has exploded."""
    if family == 2:
        return 1 if rng.random() < 1.0 / (1.0 + np.exp(-eta)) else 0
    rate = max(eta, 0.0) + np.log1p(np.exp(-abs(eta)))
    if rate > LARGEST_RATE:
        return -1
    if family == 1:
        rate *= rng.standard_gamma(size) / size
    return rng.poisson(rate)


@njit(cache=True)
def _draw_trial(
    rng: np.random.Generator, states: Ints, weight: Floats, bias: Floats, kernel: Floats,
    family: int, size: float,
) -> Ints:  # fmt: skip
    """Draw counts bin by bin; stops with -1 in the first bin that explodes."""
    n_bins, n_units, n_lags = states.size, bias.size, kernel.size
    counts = np.zeros((n_bins, n_units), np.int64)
    history = np.zeros(n_units)
    for t in range(n_bins):
        history[:] = 0.0
        for lag in range(1, min(n_lags, t) + 1):
            for j in range(n_units):
                history[j] += kernel[lag - 1] * counts[t - lag, j]
        for n in range(n_units):
            eta = bias[n]
            for j in range(n_units):
                eta += weight[states[t], n, j] * history[j]
            counts[t, n] = _draw_count(rng, family, eta, size)
            if counts[t, n] < 0:
                return counts
    return counts


def draw_states(rng: np.random.Generator, n_bins: int, transition: Floats) -> Ints:
    """Draw one trial of a chain that begins in any state.

    Parameters
    ----------
    rng : numpy.random.Generator
    n_bins : int
    transition : ndarray, shape (n_states, n_states)
    """
    n_states = transition.shape[0]
    border = transition.cumsum(axis=1)
    states = np.empty(n_bins, dtype=np.int64)
    states[0] = rng.integers(n_states)
    for t, draw in enumerate(rng.random(n_bins - 1)):
        states[t + 1] = min(int(np.searchsorted(border[states[t]], draw)), n_states - 1)
    return states


def connection_truth(
    rng: np.random.Generator, n_units: int, n_states: int
) -> tuple[Floats, Ints, Floats]:
    """Draw class probabilities of every ordered pair, classes of every state, and weights.

    Parameters
    ----------
    rng : numpy.random.Generator
    n_units, n_states : int

    Returns
    -------
    overall : ndarray, shape (n_units, n_units, 3)
        Probability of inhibitory, absent, excitatory.
    connection : ndarray of int, shape (n_states, n_units, n_units)
        -1, 0, 1; receiver before sender.
    weight : ndarray, shape (n_states, n_units, n_units)
        Scaled so that excitation alone has a spectral radius of 0.9 at most.
    """
    overall = rng.dirichlet([0.1, 0.8, 0.1], (n_units, n_units))
    draw = rng.random((n_states, n_units, n_units, 1))
    connection = (draw > overall.cumsum(axis=-1)[None, :, :, :2]).sum(axis=-1) - 1
    weight = connection * np.exp(rng.normal(-0.2, 0.4, connection.shape))
    radius = max(np.abs(np.linalg.eigvals(np.maximum(w, 0.0))).max() for w in weight)
    return overall, connection, weight * min(1.0, STABLE_RADIUS / max(radius, 1e-12))


def long_states(n_states: int, stay: float) -> Floats:
    """Return a transition matrix with one probability of staying and equal ones of leaving."""
    if n_states == 1:
        return np.ones((1, 1))
    away = (1.0 - stay) / (n_states - 1)
    return away + (stay - away) * np.eye(n_states)


def switching_glm(
    seed: int = 0,
    *,
    n_units: int = 20,
    n_states: int = 5,
    n_bins: int = 5000,
    n_trials: int = 20,
    stay: float = 0.98,
    bias: float = -0.8,
    bin_width_s: float = 0.02,
    family: str = "poisson",
    size: float = 2.0,
    gain: float = 1.0,
) -> tuple[xr.Dataset, xr.Dataset]:
    """Draw SIM-1: sparse couplings of three classes, of their own in every state.

    Parameters
    ----------
    seed : int
        Seed of everything.
    n_units, n_states, n_bins, n_trials : int
        Sizes; every trial has ``n_bins`` bins.
    stay : float
        Probability of staying in a state for one more bin.
    bias : float
        Mean bias of the units; -0.8 gives about 0.4 counts per bin.
    bin_width_s : float
        Width of a bin, seconds.
    family : {"poisson", "negbin", "bernoulli"}
        Softplus link for counts; `bernoulli`: at most one event per bin, logistic link, as events
        of calcium traces.
    size : float
        Dispersion of `negbin`: the variance is ``rate + rate**2 / size``.
    gain : float
        Multiplies the weights; events, which cannot run away, bear more than 1.

    Returns
    -------
    data : xarray.Dataset
        ``counts(trial, time, unit)``, ``valid(trial, time)``.
    truth : xarray.Dataset
        ``state_sequence(trial, time)``, ``weight`` and ``connection(state, receiver, sender)``,
        ``connection_probability_global(receiver, sender, connection_type)``, ``bias(unit)``,
        ``dispersion(unit)`` (of `negbin`), ``transition_matrix(state, state_to)``,
        ``history_kernel(lag)``.

    Raises
    ------
    ValueError
        If rates exceed `LARGEST_RATE`.

    Examples
    --------
    >>> data, truth = switching_glm(0, n_units=4, n_states=2, n_bins=50, n_trials=2)
    >>> data["counts"].shape, int(truth["state_sequence"].max()) < 2
    ((2, 50, 4), True)
    """
    rng = np.random.default_rng(seed)
    overall, connection, weight = connection_truth(rng, n_units, n_states)
    weight = gain * weight
    biases = rng.normal(bias, 0.03, n_units)
    kernel = np.exp(-np.arange(1.0, 6.0))
    kernel /= kernel.sum()
    transition = long_states(n_states, stay)
    states = np.stack([draw_states(rng, n_bins, transition) for _ in range(n_trials)])
    counts = np.stack(
        [_draw_trial(rng, z, weight, biases, kernel, FAMILIES[family], size) for z in states]
    )
    if counts.min() < 0:
        raise ValueError(f"seed {seed}: a rate exceeds {LARGEST_RATE:g} per bin; lower `bias`")
    unit = np.array([f"u{n:03d}" for n in range(n_units)], dtype=object)
    data = xr.Dataset(
        {
            "counts": (("trial", "time", "unit"), counts),
            "valid": (("trial", "time"), np.ones((n_trials, n_bins), dtype=bool)),
        },
        coords={
            "trial": np.arange(n_trials),
            "time": (np.arange(n_bins) + 0.5) * bin_width_s,
            "unit": unit,
        },
        attrs={"bin_width_s": bin_width_s},
    )
    return data, _truth(
        states=states, weight=weight, connection=connection, overall=overall, biases=biases,
        transition=transition, kernel=kernel, size=size, unit=unit,
    )  # fmt: skip


def _truth(
    *, states: Ints, weight: Floats, connection: Ints, overall: Floats, biases: Floats,
    transition: Floats, kernel: Floats, size: float, unit: NDArray[np.object_],
) -> xr.Dataset:  # fmt: skip
    pair = ("state", "receiver", "sender")
    return xr.Dataset(
        {
            "state_sequence": (("trial", "time"), states),
            "weight": (pair, weight),
            "connection": (pair, connection),
            "connection_probability_global": ((*pair[1:], "connection_type"), overall),
            "bias": ("unit", biases),
            "dispersion": ("unit", np.full(len(unit), size)),
            "transition_matrix": (("state", "state_to"), transition),
            "history_kernel": ("lag", kernel),
        },
        coords={"unit": unit, "receiver": unit, "sender": unit,
                "connection_type": ["inhibitory", "absent", "excitatory"]},
    )  # fmt: skip
