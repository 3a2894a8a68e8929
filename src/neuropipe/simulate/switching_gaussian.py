"""Continuous channels whose mean, noise and coupling switch between states."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuropipe.simulate.switching_glm import connection_truth, draw_states, long_states

__all__ = ["draw_autoregression", "switching_gaussian"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

STABLE_SUM = 0.8  # of the absolute weights into a channel: keeps every sequence of states bounded
LAG_DECAY = 0.5


def _covariances(rng: np.random.Generator, n_states: int, n_units: int, *, full: bool) -> Floats:
    """Draw noise covariances with variances between a half and one and a half."""
    scale = np.sqrt(rng.uniform(0.5, 1.5, (n_states, n_units)))
    found = np.zeros((n_states, n_units, n_units))
    for s in range(n_states):
        matrix = np.eye(n_units)
        if full:
            mixed = rng.normal(size=(n_units, n_units + 2))
            matrix = mixed @ mixed.T
        size = np.sqrt(np.diagonal(matrix))
        found[s] = matrix / size / size[:, None] * scale[s] * scale[s][:, None]
    return found


def draw_autoregression(
    rng: np.random.Generator, states: Ints, bias: Floats, weight: Floats, root: Floats
) -> Floats:
    """Draw channels that follow their own past, by couplings of the current state.

    Parameters
    ----------
    rng : numpy.random.Generator
    states : ndarray of int, shape (n_times,)
    bias : ndarray, shape (n_states, n_units)
    weight : ndarray, shape (n_states, n_units, n_units, n_lags)
        Receiver before sender; the first lag is the last sample.
    root : ndarray, shape (n_states, n_units, n_units)
        Cholesky factors of the noise covariances.

    Returns
    -------
    ndarray, shape (n_times, n_units)
    """
    noise = rng.normal(size=(states.size, bias.shape[1]))
    activity = np.zeros_like(noise)
    n_lags = weight.shape[-1]
    for t, state in enumerate(states):
        value = bias[state] + root[state] @ noise[t]
        for lag in range(1, min(n_lags, t) + 1):
            value = value + weight[state, :, :, lag - 1] @ activity[t - lag]
        activity[t] = value
    return activity


def switching_gaussian(
    seed: int = 0,
    *,
    n_units: int = 8,
    n_states: int = 3,
    n_bins: int = 1500,
    n_trials: int = 4,
    stay: float = 0.98,
    n_lags: int = 0,
    spread: float = 0.5,
    covariance: str = "diagonal",
    bin_width_s: float = 0.02,
) -> tuple[xr.Dataset, xr.Dataset]:
    """Draw a hidden Markov model with Gaussian noise, or an autoregressive one.

    Parameters
    ----------
    seed : int
        Seed of everything.
    n_units, n_states, n_bins, n_trials : int
        Sizes.
    stay : float
        Probability of staying in a state for one more bin.
    n_lags : int
        Bins of the past that enter, 0: none. Couplings are of three classes as in SIM-1.
    spread : float
        Standard deviation of the state means.
    covariance : {"diagonal", "full"}
        Noise of a state: independent, or correlated between channels.
    bin_width_s : float
        Width of a bin, seconds.

    Returns
    -------
    data : xarray.Dataset
        ``activity(trial, time, unit)``.
    truth : xarray.Dataset
        ``state_sequence(trial, time)``, ``bias(state, unit)``, ``covariance(state, receiver,
        sender)``, ``transition_matrix(state, state_to)``, and with lags ``weight(state,
        receiver, sender, lag)``, ``connection``, ``connection_probability_global``.

    Examples
    --------
    >>> data, truth = switching_gaussian(0, n_units=3, n_bins=20, n_trials=2)
    >>> data["activity"].shape, "weight" in truth
    ((2, 20, 3), False)
    """
    rng = np.random.default_rng(seed)
    overall, connection, weight = connection_truth(rng, n_units, n_states)
    largest = np.abs(weight).sum(axis=-1).max()
    shape = LAG_DECAY ** np.arange(n_lags)
    lagged = weight[..., None] * STABLE_SUM / largest * shape / max(shape.sum(), 1.0)
    bias = rng.normal(0.0, spread, (n_states, n_units))
    matrices = _covariances(rng, n_states, n_units, full=covariance == "full")
    root, transition = np.linalg.cholesky(matrices), long_states(n_states, stay)
    states = np.stack([draw_states(rng, n_bins, transition) for _ in range(n_trials)])
    activity = np.stack([draw_autoregression(rng, z, bias, lagged, root) for z in states])
    unit = np.array([f"c{n:03d}" for n in range(n_units)], dtype=object)
    data = xr.Dataset(
        {"activity": (("trial", "time", "unit"), activity)},
        coords={
            "trial": np.arange(n_trials),
            "time": (np.arange(n_bins) + 0.5) * bin_width_s,
            "unit": unit,
        },
        attrs={"bin_width_s": bin_width_s},
    )
    pair = ("state", "receiver", "sender")
    truth = {
        "state_sequence": (("trial", "time"), states),
        "bias": (("state", "unit"), bias),
        "covariance": (pair, matrices),
        "transition_matrix": (("state", "state_to"), transition),
    }
    if n_lags:
        truth["weight"] = ((*pair, "lag"), lagged)
        truth["connection"] = (pair, connection)
        truth["connection_probability_global"] = ((*pair[1:], "connection_type"), overall)
    return data, xr.Dataset(truth, coords={"unit": unit})
