"""A fitted model on other data: held-out likelihood, bits per spike, states, predictions."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuropipe.analyses.hmm_glm.kernels.chain import forward_backward, forward_filter, viterbi
from neuropipe.analyses.hmm_glm.kernels.em import Parameters
from neuropipe.analyses.hmm_glm.kernels.families import mean
from neuropipe.analyses.hmm_glm.kernels.glm import Observations, emissions
from neuropipe.analyses.hmm_glm.prepare import Prepared, prepare
from neuropipe.analyses.hmm_glm.spec import recorded_settings
from neuropipe.errors import DataError
from neuropipe.threads import one_blas_thread

__all__ = [
    "decode",
    "decoded",
    "dispersion_variables",
    "held_out",
    "held_out_score",
    "parameters_of",
    "predict_rates",
]

Floats = NDArray[np.float64]


def predict_rates(data: Observations, parameters: Parameters, predicted: Floats) -> Floats:
    """Return the mean of every bin given the bins before it, shape (n_bins, n_units).

    Parameters
    ----------
    data : Observations
    parameters : Parameters
    predicted : ndarray, shape (n_bins, n_states)
        Probability of the states given the past.
    """
    rates = np.zeros_like(data.observed)
    for s, theta in enumerate(parameters.theta):
        rates += predicted[:, s, None] * mean(data.code, data.design @ theta.T)
    return rates


def decoded(
    prepared: Prepared, parameters: Parameters
) -> dict[str, tuple[tuple[str, ...], Floats]]:
    """Return states and predictions of every bin, as the variables of a dataset.

    Parameters
    ----------
    prepared : Prepared
    parameters : Parameters
    """
    data = prepared.observations
    log_emission = emissions(data, parameters.theta, parameters.dispersion)
    chain = parameters.transition, parameters.initial, data.offsets
    filtered, predicted, _ = forward_filter(log_emission, *chain)
    cell, nan = ("trial", "time"), np.nan
    posterior = forward_backward(log_emission, *chain).probability
    path = viterbi(log_emission, *chain)
    rates = predict_rates(data, parameters, predicted)
    return {
        "state_probability": ((*cell, "state"), prepared.unfold(posterior, nan)),
        "state_probability_filtered": ((*cell, "state"), prepared.unfold(filtered, nan)),
        "state_viterbi": (cell, prepared.unfold(path, -1)),
        "prediction": ((*cell, "unit"), prepared.unfold(rates, nan)),
    }


def dispersion_variables(
    prepared: Prepared, parameters: Parameters
) -> dict[str, tuple[tuple[str, ...], Floats]]:
    """Return what the noise has beside its mean, as the variables of a dataset.

    Parameters
    ----------
    prepared : Prepared
    parameters : Parameters

    Returns
    -------
    dict
        ``variance(state, unit)`` or ``covariance(state, receiver, sender)`` of the Gaussian
        family, ``dispersion(unit)`` of the negative binomial, nothing for other families.
    """
    found = parameters.dispersion
    if prepared.family == "negbin":
        return {"dispersion": (("unit",), found[0])}
    if prepared.family != "gaussian":
        return {}
    if found.ndim == 3:
        return {"covariance": (("state", "receiver", "sender"), found)}
    return {"variance": (("state", "unit"), found)}


def _dispersion_of(result: xr.Dataset) -> Floats:
    shape = result.sizes["state"], result.sizes["unit"]
    if "covariance" in result:
        return result["covariance"].transpose("state", "receiver", "sender").values
    if "variance" in result:
        return result["variance"].transpose("state", "unit").values
    if "dispersion" in result:
        return np.broadcast_to(result["dispersion"].values, shape).copy()
    return np.ones(shape)


def parameters_of(result: xr.Dataset) -> Parameters:
    """Return the parameters held in a result of `fit`."""
    weight = result["weight"].transpose("state", "receiver", "sender", "basis").values
    parts = [result["bias"].values[:, :, None], weight.reshape(*weight.shape[:2], -1)]
    if "regressor_weight" in result:
        parts.append(result["regressor_weight"].transpose("state", "unit", "feature").values)
    return Parameters(
        np.ascontiguousarray(np.concatenate(parts, axis=2)),
        _dispersion_of(result),
        result["transition_matrix"].values,
        result["initial_probability"].values,
    )


def _prepared_for(result: xr.Dataset, data: xr.Dataset) -> Prepared:
    settings = recorded_settings(result.attrs["settings"])
    ours, theirs = (d["unit"].values.astype(str).tolist() for d in (result, data))
    if ours != theirs:
        raise DataError("data: the units are not those of the result, in its order")
    return prepare(data, settings, silent=result["silent"].values.astype(bool))


@one_blas_thread
def decode(result: xr.Dataset, data: xr.Dataset) -> xr.Dataset:
    """Return states and predictions of data that need not be those of the fit.

    Parameters
    ----------
    result : xarray.Dataset
        Result of `fit`.
    data : xarray.Dataset
        Input with the same units.

    Returns
    -------
    xarray.Dataset
        ``state_probability``, ``state_probability_filtered (trial, time, state)``,
        ``state_viterbi(trial, time)``, -1 where nothing was observed, ``prediction(trial, time,
        unit)``.

    Raises
    ------
    DataError
        If the units differ.
    """
    found = decoded(_prepared_for(result, data), parameters_of(result))
    coords = {name: data[name] for name in ("trial", "time") if name in data.coords}
    return xr.Dataset(found, coords={**coords, "unit": data["unit"]})


@one_blas_thread
def held_out_score(result: xr.Dataset, data: xr.Dataset) -> dict[str, float]:
    """Score data that were kept out of the fit, by the forward pass alone.

    Parameters
    ----------
    result : xarray.Dataset
        Result of `fit`.
    data : xarray.Dataset
        Input with the same units.

    Returns
    -------
    dict
        ``log_likelihood_per_bin``, nats; ``bits_per_spike``: gain over a Poisson process with
        each unit's mean rate in the data of the fit, NaN for other families.
    """
    prepared = _prepared_for(result, data)
    return held_out(prepared.observations, parameters_of(result), result["rate"].values)


def held_out(data: Observations, parameters: Parameters, rate: Floats) -> dict[str, float]:
    """Score observations under parameters; see `held_out_score`.

    Parameters
    ----------
    data : Observations
    parameters : Parameters
    rate : ndarray, shape (n_units,)
        Mean count per bin in the training data; NaN for families that do not count.
    """
    from scipy.special import gammaln, xlogy

    log_emission = emissions(data, parameters.theta, parameters.dispersion)
    *_, total = forward_filter(
        log_emission, parameters.transition, parameters.initial, data.offsets
    )
    counts, bits = data.observed[data.valid], np.nan
    if np.isfinite(rate).all():
        # A unit that was silent in training gets the rate of half a count there, not log 0.
        floor = np.maximum(rate, 0.5 / max(len(counts), 1))
        base = (xlogy(counts, floor) - floor - gammaln(counts + 1.0)).sum()
        bits = float((total.sum() - base) / (np.log(2.0) * max(counts.sum(), 1.0)))
    return {
        "log_likelihood_per_bin": float(total.sum() / max(len(counts), 1)),
        "bits_per_spike": bits,
    }
