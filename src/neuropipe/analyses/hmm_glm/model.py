"""The HMM-GLM states for Python users: one number of states."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from neuropipe.analyses.hmm_glm.evaluate import decoded, dispersion_variables
from neuropipe.analyses.hmm_glm.fitting import Fitted, fit_states
from neuropipe.analyses.hmm_glm.kernels.alignment import match_sequences, match_weights
from neuropipe.analyses.hmm_glm.prepare import COUNTS, Prepared, prepare
from neuropipe.analyses.hmm_glm.spec import Settings
from neuropipe.errors import DataError, Issue, issues_to_json
from neuropipe.threads import one_blas_thread

__all__ = ["align_states", "fit"]

CONNECTION_TYPES = ("inhibitory", "absent", "excitatory")
RARE = 0.01  # occupancy below which a state is pointed out
Variables = dict[str, tuple[Any, Any]]


def _weights(prepared: Prepared, fitted: Fitted) -> Variables:
    theta, n_basis = fitted.fit.parameters.theta, prepared.basis.shape[0]
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
        "weight_shared": (
            (*pair, "basis"),
            fitted.mean[:, prepared.shared].reshape(shape[1:]),
        ),
        "bias": (("state", "unit"), theta[:, :, 0]),
        **dispersion_variables(prepared, fitted.fit.parameters),
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


def _chain(data: xr.Dataset, prepared: Prepared, fitted: Fitted, path: Any) -> Variables:
    """Return the chain, and how long states lasted on the most probable path."""
    parameters, n_states = fitted.fit.parameters, len(fitted.fit.parameters.theta)
    valid = prepared.observations.valid
    mass = fitted.fit.posterior.probability[valid].sum(axis=0)
    width = float(data.attrs.get("bin_width_s", np.nan))
    visits, bins = np.zeros(n_states, np.int64), np.zeros(n_states)
    for row in path:
        seen = row[row >= 0]
        first = np.flatnonzero(np.diff(seen, prepend=-1))
        np.add.at(visits, seen[first], 1)
        bins += np.bincount(seen, minlength=n_states)
    stay = np.diagonal(parameters.transition)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_dwell, expected = width * bins / visits, width / (1.0 - stay)
    return {
        "transition_matrix": (("state", "state_to"), parameters.transition),
        "initial_probability": ("state", parameters.initial),
        "occupancy": ("state", mass / mass.sum()),
        "n_visits": ("state", visits),
        "dwell_time_mean_s": ("state", mean_dwell),
        "dwell_time_expected_s": ("state", expected),
    }


def _traces(fitted: Fitted) -> Variables:
    longest = max(len(fit.trace) for fit in fitted.restarts)
    trace = np.full((len(fitted.restarts), longest), np.nan)
    for row, fit in zip(trace, fitted.restarts, strict=True):
        row[: len(fit.trace)] = fit.trace
    likelihood = [fit.log_likelihood for fit in fitted.restarts]
    return {
        "objective_trace": (("restart", "iteration"), trace),
        "log_likelihood_train": ("restart", np.array(likelihood)),
    }


def _issues(prepared: Prepared, fitted: Fitted, occupancy: Any) -> list[Issue]:
    issues = [*prepared.issues, *fitted.issues]
    rare = np.flatnonzero(occupancy < RARE)
    if rare.size:
        names = ", ".join(str(s) for s in rare)
        issues.append(
            Issue("RARE_STATE", "state", f"states {names} last under 1 % of the time",
                  "a smaller number of states may do")
        )  # fmt: skip
    if not any(fit.converged for fit in fitted.restarts):
        issues.append(
            Issue("NOT_CONVERGED", "objective_trace", "no start converged", "raise `max_iter`")
        )
    return issues


def _rate(prepared: Prepared) -> Any:
    data = prepared.observations
    rate = data.observed[data.valid].mean(axis=0)
    return rate if prepared.family in COUNTS else np.full_like(rate, np.nan)


@one_blas_thread
def fit(data: xr.Dataset, settings: Settings | None = None, seed: int = 0) -> xr.Dataset:
    """Find states, each with a coupling network of its own.

    Parameters
    ----------
    data : xarray.Dataset
        ``counts`` or ``activity(trial, time, unit)``; optional ``valid(trial, time)`` and
        ``regressor(trial, time, feature)``; attribute ``bin_width_s``.
    settings : Settings, optional
        Defaults if not given.
    seed : int
        Every random number derives from it.

    Returns
    -------
    xarray.Dataset
        States over time, weights with standard errors, connections, transition matrix; states by
        decreasing occupancy.

    Raises
    ------
    DataError
        If the input cannot be used; the message says what was found.
    """
    settings = Settings() if settings is None else settings
    order, back = _orders(data)
    return _fit(data.isel(order), settings, seed).isel(back)


def _orders(data: xr.Dataset) -> tuple[dict[str, Any], dict[str, Any]]:
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


def _fit(data: xr.Dataset, settings: Settings, seed: int) -> xr.Dataset:
    prepared = prepare(data, settings)
    fitted = fit_states(prepared, settings, seed)
    states = decoded(prepared, fitted.fit.parameters)
    chain = _chain(data, prepared, fitted, states["state_viterbi"][1])
    unit = data["unit"].values
    issues = _issues(prepared, fitted, chain["occupancy"][1])
    return xr.Dataset(
        {
            **states, **_weights(prepared, fitted), **chain, **_traces(fitted),
            "silent": ("unit", prepared.silent.astype(np.int8)),
            "rate": ("unit", _rate(prepared)),
        },
        coords={
            **{name: data[name] for name in ("trial", "time") if name in data.coords},
            "unit": unit, "receiver": unit, "sender": unit,
            "state": np.arange(settings.states), "state_to": np.arange(settings.states),
            "connection_type": list(CONNECTION_TYPES),
            "lag": np.arange(1, prepared.basis.shape[1] + 1),
        },
        attrs={
            "settings": settings.model_dump_json(), "seed": int(seed),
            "n_states": settings.states, "prior": settings.prior, "family": prepared.family,
            "link": prepared.link, "converged": int(any(f.converged for f in fitted.restarts)),
            "issues": issues_to_json(issues),
        },
    )  # fmt: skip


def align_states(reference: xr.Dataset, other: xr.Dataset, by: str = "sequence") -> xr.Dataset:
    """Return a result with its states in the order of another one.

    Parameters
    ----------
    reference, other : xarray.Dataset
        Results with the same number of states.
    by : {"sequence", "weight"}
        Agreement of the most probable paths (of the same data), or correlation of the weights.

    Raises
    ------
    DataError
        If the numbers of states differ.
    """
    if reference.sizes["state"] != other.sizes["state"]:
        found = reference.sizes["state"], other.sizes["state"]
        raise DataError(f"cannot align {found[1]} states with {found[0]}")
    if by == "weight":
        order = match_weights(reference["weight"].values, other["weight"].values)
    else:
        paths = (d["state_viterbi"].values.ravel() for d in (reference, other))
        order = match_sequences(*paths, reference.sizes["state"])
    renamed = np.append(np.argsort(order), -1)  # -1 stays -1
    moved = other.isel(state=order, state_to=order)
    return moved.assign(
        state_viterbi=other["state_viterbi"].copy(data=renamed[other["state_viterbi"].values])
    ).assign_coords(state=other["state"].values, state_to=other["state_to"].values)
