"""Comparison of a result with the truth of the simulators of switching states."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuropipe.analyses.hmm_glm.evaluate import decode, held_out, held_out_score
from neuropipe.analyses.hmm_glm.kernels.alignment import match_sequences
from neuropipe.analyses.hmm_glm.kernels.em import Parameters, posterior_of
from neuropipe.analyses.hmm_glm.prepare import prepare
from neuropipe.analyses.hmm_glm.spec import Settings

__all__ = ["equation_8", "oracle", "score"]


def _balanced(found: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    classes = [k for k in (-1, 0, 1) if (truth == k).any()]
    return float(np.mean([(found[truth == k] == k).mean() for k in classes]))


def score(
    result: xr.Dataset, truth: xr.Dataset, data: xr.Dataset | None = None
) -> dict[str, float]:
    """Return how well states and couplings were found.

    Parameters
    ----------
    result : xarray.Dataset
        Result of `fit` with as many states as the truth.
    truth : xarray.Dataset
        Of the simulator.
    data : xarray.Dataset, optional
        Trials of the simulator to be scored, best those kept out of the fit; without them the
        states of the fit are scored, and there is no likelihood.

    Returns
    -------
    dict
        ``state_accuracy`` (largest posterior), ``weight_error`` (relative Frobenius norm),
        ``connection_accuracy`` and ``global_accuracy`` (balanced over the three classes; against
        the arg max of A0), ``connection_accuracy_eq8`` (see `equation_8`), as far as the truth
        has couplings; ``log_likelihood_per_bin``, ``bits_per_spike``.
    """
    decoded = result if data is None else decode(result, data)
    states = truth["state_sequence"].sel(trial=decoded["trial"]).values.ravel()
    probability = decoded["state_probability"].values
    found = probability.reshape(-1, probability.shape[-1]).argmax(axis=1)
    order = match_sequences(states, found, result.sizes["state"])
    scores = {"state_accuracy": float((order[states] == found).mean())}
    if "weight" in truth:
        planted = truth["weight"].values
        lagged = "lag" in truth["weight"].dims
        weight = result["weight_kernel"] if lagged else result["weight"].sum("basis")
        difference = weight.values[order] - planted
        scores["weight_error"] = float(np.linalg.norm(difference) / np.linalg.norm(planted))
        simple = equation_8(weight.values[order])
        if simple.shape == truth["connection"].shape:
            scores["connection_accuracy_eq8"] = _balanced(simple, truth["connection"].values)
        connection = result["connection"].values[order]
        scores["connection_accuracy"] = _balanced(connection, truth["connection"].values)
        overall = truth["connection_probability_global"].values.argmax(axis=-1) - 1
        scores["global_accuracy"] = _balanced(result["connection_global"].values, overall)
    return scores if data is None else {**scores, **held_out_score(result, data)}


def equation_8(weight: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return classes of connections by the published rule, for comparison.

    Parameters
    ----------
    weight : ndarray, shape (n_states, n_units, n_units)

    Returns
    -------
    ndarray of int, same shape
        1 where a weight exceeds half of the largest one of its state, -1 where it is below half
        of the smallest negative one.
    """
    largest = np.maximum(weight.max(axis=(1, 2), keepdims=True), 1e-12)
    smallest = np.minimum(weight.min(axis=(1, 2), keepdims=True), -1e-12)
    return (weight > 0.5 * largest).astype(np.int64) - (weight < 0.5 * smallest)


def _true_parameters(truth: xr.Dataset, settings: Settings) -> Parameters:
    n_states, n_units = truth["transition_matrix"].shape[0], truth.sizes["unit"]
    bias = np.broadcast_to(truth["bias"].values, (n_states, n_units))[:, :, None]
    parts = [bias]
    if "weight" in truth and settings.history.bins:
        parts.append(truth["weight"].values.reshape(n_states, n_units, -1))
    dispersion = np.ones((n_states, n_units))
    if settings.family == "negbin":
        dispersion = np.broadcast_to(truth["dispersion"].values, (n_states, n_units)).copy()
    if "covariance" in truth:
        dispersion = truth["covariance"].values
        if settings.covariance == "diagonal":
            dispersion = np.diagonal(dispersion, axis1=1, axis2=2).copy()
    return Parameters(
        np.ascontiguousarray(np.concatenate(parts, axis=2)), dispersion,
        truth["transition_matrix"].values, np.full(n_states, 1.0 / n_states),
    )  # fmt: skip


def oracle(
    truth: xr.Dataset, data: xr.Dataset, rate: NDArray[np.float64],
    settings: Settings | None = None,
) -> dict[str, float]:  # fmt: skip
    """Return what the true parameters reach on the same data: the most that can be hoped for.

    Parameters
    ----------
    truth, data : xarray.Dataset
        Of the simulator.
    rate : ndarray, shape (n_units,)
        Mean count per bin in the data of the fit.
    settings : Settings, optional
        Family, covariance and history; those of the fit. Defaults if not given.

    Returns
    -------
    dict
        ``state_accuracy``, ``log_likelihood_per_bin``, ``bits_per_spike``.
    """
    settings = Settings() if settings is None else settings
    observations = prepare(data, settings).observations
    parameters = _true_parameters(truth, settings)
    posterior = posterior_of(observations, parameters).probability
    states = truth["state_sequence"].sel(trial=data["trial"]).values.ravel()
    accuracy = (posterior.argmax(axis=1) == states).mean()
    return {"state_accuracy": float(accuracy), **held_out(observations, parameters, rate)}
