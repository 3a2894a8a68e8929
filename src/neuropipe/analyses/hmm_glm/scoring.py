"""Comparison of a result with the truth of `neuropipe.simulate.switching_glm`."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuropipe.analyses.hmm_glm.evaluate import decode, held_out, held_out_score
from neuropipe.analyses.hmm_glm.kernels.alignment import match_sequences
from neuropipe.analyses.hmm_glm.kernels.chain import forward_backward
from neuropipe.analyses.hmm_glm.kernels.em import Parameters
from neuropipe.analyses.hmm_glm.kernels.glm import emissions
from neuropipe.analyses.hmm_glm.prepare import prepare
from neuropipe.analyses.hmm_glm.spec import Settings

__all__ = ["oracle", "score"]


def _balanced(found: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    classes = [k for k in (-1, 0, 1) if (truth == k).any()]
    return float(np.mean([(found[truth == k] == k).mean() for k in classes]))


def score(result: xr.Dataset, truth: xr.Dataset, data: xr.Dataset) -> dict[str, float]:
    """Return how well states and couplings were found.

    Parameters
    ----------
    result : xarray.Dataset
        Result of `fit` with as many states as the truth.
    truth, data : xarray.Dataset
        Of the simulator; the trials to be scored, best those kept out of the fit.

    Returns
    -------
    dict
        ``state_accuracy`` (largest posterior), ``weight_error`` (relative Frobenius norm),
        ``connection_accuracy`` and ``global_accuracy`` (balanced over the three classes),
        ``log_likelihood_per_bin``, ``bits_per_spike``.
    """
    states = truth["state_sequence"].sel(trial=data["trial"]).values.ravel()
    probability = decode(result, data)["state_probability"].values
    found = probability.reshape(-1, probability.shape[-1]).argmax(axis=1)
    order = match_sequences(states, found, result.sizes["state"])
    weight, planted = result["weight"].values[order].sum(axis=-1), truth["weight"].values
    overall = truth["connection_probability_global"].values.argmax(axis=-1) - 1
    return {
        "state_accuracy": float((order[states] == found).mean()),
        "weight_error": float(np.linalg.norm(weight - planted) / np.linalg.norm(planted)),
        "connection_accuracy": _balanced(
            result["connection"].values[order], truth["connection"].values
        ),
        "global_accuracy": _balanced(result["connection_global"].values, overall),
        **held_out_score(result, data),
    }


def oracle(truth: xr.Dataset, data: xr.Dataset, rate: NDArray[np.float64]) -> dict[str, float]:
    """Return what the true parameters reach on the same data: the most that can be hoped for.

    Parameters
    ----------
    truth, data : xarray.Dataset
        Of the simulator.
    rate : ndarray, shape (n_units,)
        Mean count per bin in the data of the fit.

    Returns
    -------
    dict
        ``state_accuracy``, ``log_likelihood_per_bin``, ``bits_per_spike``.
    """
    observations = prepare(data, Settings(states=truth.sizes["state"])).observations
    n_states, n_units = truth.sizes["state"], truth.sizes["unit"]
    bias = np.broadcast_to(truth["bias"].values, (n_states, n_units))[:, :, None]
    parameters = Parameters(
        np.ascontiguousarray(np.concatenate([bias, truth["weight"].values], axis=2)),
        np.ones((n_states, n_units)),
        truth["transition_matrix"].values,
        np.full(n_states, 1.0 / n_states),
    )
    log_emission = emissions(observations, parameters.theta, parameters.dispersion)
    posterior = forward_backward(
        log_emission, parameters.transition, parameters.initial, observations.offsets
    )
    states = truth["state_sequence"].sel(trial=data["trial"]).values.ravel()
    accuracy = (posterior.probability.argmax(axis=1) == states).mean()
    return {"state_accuracy": float(accuracy), **held_out(observations, parameters, rate)}
