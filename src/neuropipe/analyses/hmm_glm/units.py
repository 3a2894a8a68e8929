"""Units and meaning of every variable of a result."""

from __future__ import annotations

import xarray as xr

__all__ = ["MEANING", "with_units"]

ACTIVITY = "activity"  # stands for the unit of the input

# Variable -> unit and meaning.
MEANING = {
    "state_probability": ("1", "probability of the state given the whole trial"),
    "state_probability_filtered": ("1", "probability of the state given the trial up to this bin"),
    "state_viterbi": ("1", "state on the most probable path, -1 where nothing was observed"),
    "prediction": (ACTIVITY, "mean of the bin given the bins before it"),
    "weight": ("1", "effect of a sender's filtered activity on a receiver's predictor"),
    "weight_se": ("1", "Laplace standard error of the weight"),
    "weight_kernel": ("1", "effect of a sender's activity by lag"),
    "weight_shared": ("1", "weight common to the states (W0), their mean"),
    "weight_interval": ("1", "bootstrap percentile interval of the weight"),
    "bias": ("1", "base level of a unit's predictor"),
    "variance": (f"{ACTIVITY}^2", "noise variance of the Gaussian family"),
    "covariance": (f"{ACTIVITY}^2", "noise covariance of the Gaussian family"),
    "dispersion": ("1", "size of the negative binomial; Poisson in the limit"),
    "regressor_weight": ("1", "effect of a regressor on a unit's predictor"),
    "connection_probability": ("1", "probability of the class of a connection in the state"),
    "connection_probability_global": ("1", "probability of the class in any state (A0)"),
    "connection": ("1", "most probable class: -1 inhibitory, 0 absent, 1 excitatory"),
    "connection_global": ("1", "class in the network that the states share"),
    "transition_matrix": ("1", "probability of the next bin's state"),
    "transition_interval": ("1", "bootstrap percentile interval of the transition"),
    "initial_probability": ("1", "probability of the state in the first bin of a trial"),
    "occupancy": ("1", "share of observed time"),
    "occupancy_interval": ("1", "bootstrap percentile interval of the occupancy"),
    "n_visits": ("1", "runs of the state on the most probable path"),
    "dwell_time_mean_s": ("s", "mean length of a visit"),
    "dwell_time_expected_s": ("s", "mean length of a visit implied by the transition matrix"),
    "dwell_time_interval_s": ("s", "bootstrap percentile interval of the expected dwell time"),
    "switch_rate_hz": ("Hz", "switches into the state per second of the trial"),
    "state_mean": (ACTIVITY, "mean activity in the state"),
    "transform": ("1", "share of bins whose value given the past lies below the level"),
    "transform_bins": ("1", "bins looked at"),
    "rate": ("count/bin", "mean count per bin in the data of the fit"),
    "silent": ("1", "1 for a unit without a single count"),
    "log_likelihood_train": ("nat", "log likelihood of every restart on all data"),
    "log_likelihood_trace": ("nat", "penalised log likelihood by iteration"),
    "held_out_log_likelihood": ("nat/bin", "log likelihood of held-out data"),
    "bits_per_spike": ("bit/spike", "held-out gain over a constant rate"),
    "bic": ("nat", "Bayes information criterion (-2 log likelihood + penalty)"),
    "restart_agreement": ("1", "share of bins in which two restarts agree"),
    "rare_states": ("1", "states below 1 % of the time"),
}


def with_units(result: xr.Dataset, data: xr.Dataset) -> xr.Dataset:
    """Return a result whose variables say what they are.

    Parameters
    ----------
    result : xarray.Dataset
    data : xarray.Dataset
        Input; ``activity`` may carry the attribute ``units``.
    """
    counts = "counts" in data
    activity = "count" if counts else str(data["activity"].attrs.get("units", "a.u."))
    result = result.copy()
    for name, (unit, meaning) in MEANING.items():
        if name not in result:
            continue
        own = "count/s" if name == "state_mean" and counts else unit.replace(ACTIVITY, activity)
        result[name].attrs = {"units": own, "long_name": meaning}
    return result
