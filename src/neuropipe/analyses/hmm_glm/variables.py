"""A fitted model as named variables, and back: what parts, results and scores have in common."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from neuropipe.analyses.hmm_glm.evaluate import dispersion_variables
from neuropipe.analyses.hmm_glm.fitting import Fitted
from neuropipe.analyses.hmm_glm.prepare import COUNTS, Prepared

__all__ = [
    "CONNECTION_TYPES",
    "chain_variables",
    "coordinates",
    "mean_counts",
    "plain_order",
    "step_s",
    "weight_variables",
]

CONNECTION_TYPES = ("inhibitory", "absent", "excitatory")
COPIED = ("region", "unit_kind", "recording", "run", "session", "trial_onset", "trial_start",
          "trial_label")  # fmt: skip
Variables = dict[str, tuple[Any, Any]]


def step_s(data: xr.Dataset) -> float:
    """Return the width of a bin, or the time between samples, in seconds; NaN if unknown."""
    if "bin_width_s" in data.attrs:
        return float(data.attrs["bin_width_s"])
    if "time" not in data.coords or data.sizes["time"] < 2:
        return float("nan")
    return float(np.median(np.diff(data["time"].values.astype(np.float64))))


def plain_order(data: xr.Dataset) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the plain order of units and trials by name, and the way back.

    The order of the input then changes no number: random starts and the rounding of sums belong
    to the names.
    """
    order = {
        dim: np.argsort(data[dim].values.astype(str) if dim == "unit" else data[dim].values,
                        kind="stable")
        for dim in ("unit", "trial") if dim in data.dims and dim in data.coords
    }  # fmt: skip
    back = {dim: np.argsort(index) for dim, index in order.items()}
    if "unit" in back:
        back["receiver"] = back["sender"] = back["unit"]
    return order, back


def coordinates(data: xr.Dataset, prepared: Prepared, n_states: int) -> dict[str, Any]:
    """Return the coordinates of a result: those of the input, and those of the model."""
    unit = data["unit"].values
    kept = ("trial", "time", *COPIED)
    return {
        **{name: data[name].variable for name in kept if name in data.coords},
        "unit": unit, "receiver": unit, "sender": unit,
        "state": np.arange(n_states), "state_to": np.arange(n_states),
        "connection_type": list(CONNECTION_TYPES),
        "lag": np.arange(1, prepared.basis.shape[1] + 1),
    }  # fmt: skip


def weight_variables(prepared: Prepared, fitted: Fitted) -> Variables:
    """Return weights, their errors, classes of connections, and the chain."""
    parameters, n_basis = fitted.fit.parameters, prepared.basis.shape[0]
    theta = parameters.theta
    n_states, n_units = theta.shape[:2]
    shape = (n_states, n_units, n_units, n_basis)
    pair = ("receiver", "sender")
    weight, variance = (
        values[:, :, prepared.shared].reshape(shape) for values in (theta, fitted.estimate_variance)
    )
    found: Variables = {
        "weight": (("state", *pair, "basis"), weight),
        "weight_se": (("state", *pair, "basis"), np.sqrt(variance)),
        "weight_kernel": (("state", *pair, "lag"), weight @ prepared.basis),
        "weight_shared": ((*pair, "basis"), fitted.mean[:, prepared.shared].reshape(shape[1:])),
        "bias": (("state", "unit"), theta[:, :, 0]),
        **dispersion_variables(prepared, parameters),
        "transition_matrix": (("state", "state_to"), parameters.transition),
        "initial_probability": ("state", parameters.initial),
    }
    n_history = int(prepared.shared.sum())
    if theta.shape[2] > 1 + n_history:
        found["regressor_weight"] = (("state", "unit", "feature"), theta[:, :, 1 + n_history :])
    if fitted.connections is not None:
        model = fitted.connections
        found["connection_probability"] = (("state", *pair, "connection_type"), model.probability)
        found["connection_probability_global"] = ((*pair, "connection_type"), model.overall)
        found["connection"] = (("state", *pair), model.probability.argmax(axis=-1) - 1)
        found["connection_global"] = (pair, fitted.connection_global)
    return found


def chain_variables(
    path: np.ndarray, probability: np.ndarray, transition: np.ndarray, step: float
) -> Variables:
    """Return how long and how often states last.

    Parameters
    ----------
    path : ndarray of int, shape (n_trials, n_times)
        Most probable path, -1 where nothing was observed.
    probability : ndarray, shape (n_trials, n_times, n_states)
        Posterior, NaN where nothing was observed.
    transition : ndarray, shape (n_states, n_states)
    step : float
        Width of a bin, seconds.

    Notes
    -----
    A visit is a run of one state on the path; it ends with its trial. ``switch_rate_hz`` counts
    the visits that begin after another state, per second of observed time of the trial.
    """
    n_states = transition.shape[0]
    visits, switches = np.zeros((2, len(path), n_states), np.int64)
    bins = np.zeros((len(path), n_states), np.int64)
    for trial, row in enumerate(path):
        seen = row[row >= 0]
        first = np.flatnonzero(np.diff(seen, prepend=-1))
        np.add.at(visits[trial], seen[first], 1)
        np.add.at(switches[trial], seen[first[1:]], 1)
        bins[trial] = np.bincount(seen, minlength=n_states)
    mass = np.nansum(probability, axis=(0, 1))
    seconds = step * bins.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_dwell = step * bins.sum(axis=0) / visits.sum(axis=0)
        expected = step / (1.0 - np.diagonal(transition))
        rate = switches / seconds
    return {
        "occupancy": ("state", mass / mass.sum()),
        "n_visits": ("state", visits.sum(axis=0)),
        "dwell_time_mean_s": ("state", mean_dwell),
        "dwell_time_expected_s": ("state", expected),
        "switch_rate_hz": (("trial", "state"), rate),
    }


def mean_counts(prepared: Prepared) -> np.ndarray:
    """Return the mean count per bin of every unit; NaN for families that do not count."""
    data = prepared.observations
    rate = data.observed[data.valid].mean(axis=0)
    return rate if prepared.family in COUNTS else np.full_like(rate, np.nan)
