"""The metrics of the specification against a known truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuropipe.stats.clustering_scores import adjusted_rand_score

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["score"]


def score(result: xr.DataTree, truth: xr.Dataset) -> dict[str, float]:
    """Return how well a result recovers a planted truth.

    Parameters
    ----------
    result : xarray.DataTree
        Result of the analysis.
    truth : xarray.Dataset
        Second value of `simulate`.

    Returns
    -------
    dict
        ``unit_ari``, ``state_ari``, ``clusters`` (posterior mode), ``large_states`` (posterior
        mode of the number of states with 5 % of the bins or more), ``log_rate_correlation``,
        ``log_rate_coverage`` (95 % bands), ``dispersion_coverage`` (90 % intervals) if
        dispersions were planted.

    Examples
    --------
    >>> score.__name__
    'score'
    """
    eta = truth["log_rate"].values
    low, high = result["log_rate_low"].values, result["log_rate_high"].values
    states = result["posterior/state_label"].values
    states = states.reshape(-1, states.shape[-1])
    large = [(np.bincount(one) >= 0.05 * one.size).sum() for one in states]
    found = {
        "unit_ari": adjusted_rand_score(result["unit_cluster"].values, truth["unit_cluster"]),
        "state_ari": adjusted_rand_score(result["time_state"].values, truth["time_state"]),
        "clusters": float(np.bincount(result["posterior/n_clusters"].values.ravel()).argmax()),
        "large_states": float(np.bincount(large).argmax()),
        "log_rate_correlation": float(
            np.corrcoef(result["log_rate_mean"].values.ravel(), eta.ravel())[0, 1]
        ),
        "log_rate_coverage": float(((eta >= low) & (eta <= high)).mean()),
    }
    if "dispersion" in truth:
        dispersion = result["posterior/dispersion"].values
        bounds = np.quantile(dispersion.reshape(-1, dispersion.shape[-1]), [0.05, 0.95], axis=0)
        true = truth["dispersion"].values
        found["dispersion_coverage"] = float(((true >= bounds[0]) & (true <= bounds[1])).mean())
    return found
