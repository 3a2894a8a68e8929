"""What the states do to every unit, and how well the model predicts it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.hmm_glm.kernels.chain import forward_filter
from neuropipe.analyses.hmm_glm.kernels.em import Parameters
from neuropipe.analyses.hmm_glm.kernels.families import GAUSSIAN
from neuropipe.analyses.hmm_glm.kernels.glm import emissions
from neuropipe.analyses.hmm_glm.kernels.goodness import cumulative, transform_curve
from neuropipe.analyses.hmm_glm.prepare import Prepared

__all__ = ["MOST_BINS", "goodness_variables", "state_means"]

Variables = dict[str, tuple[Any, Any]]
LEVELS = np.linspace(0.0, 1.0, 21)
MOST_BINS = 10_000  # evenly spaced ones stand for a longer recording


def state_means(prepared: Prepared, probability: NDArray[np.float64], step: float) -> Variables:
    """Return the mean activity of every unit in every state, counts per second.

    Parameters
    ----------
    prepared : Prepared
    probability : ndarray, shape (n_trials, n_times, n_states)
        Posterior.
    step : float
        Width of a bin, seconds; continuous activity keeps its own unit.
    """
    valid = prepared.observations.valid
    weight = probability[prepared.cells][valid]
    mass = np.maximum(weight.sum(axis=0), 1e-300)
    means = weight.T @ prepared.observations.observed[valid] / mass[:, None]
    scale = 1.0 if prepared.observations.code == GAUSSIAN else step
    return {"state_mean": (("state", "unit"), means / scale)}


def goodness_variables(prepared: Prepared, parameters: Parameters) -> Variables:
    """Return the distribution of the probability integral transform of every unit.

    Parameters
    ----------
    prepared : Prepared
    parameters : Parameters

    Returns
    -------
    dict
        ``transform(unit, level)``, the share of bins whose value given the past lies below the
        level; coordinate ``level``; ``transform_bins``, the number of bins looked at.
    """
    data = prepared.observations
    log_emission = emissions(data, parameters.theta, parameters.dispersion)
    _, predicted, _ = forward_filter(
        log_emission, parameters.transition, parameters.initial, data.offsets
    )
    rows = np.flatnonzero(data.valid)
    rows = rows[:: -(-rows.size // MOST_BINS)]
    design, observed = data.design[rows], data.observed[rows]
    step = 0.0 if data.code == GAUSSIAN else 1.0
    bounds, noise = np.zeros((2, *observed.shape)), parameters.dispersion
    if noise.ndim == 3:
        noise = np.diagonal(noise, axis1=1, axis2=2)
    for s, theta in enumerate(parameters.theta):
        eta = design @ theta.T
        for bound, value in zip(bounds, (observed - step, observed), strict=True):
            share = cumulative(data.code, value, eta, noise[s])
            bound += predicted[rows, s, None] * share
    return {
        "level": ("level", LEVELS),
        "transform": (("unit", "level"), transform_curve(*bounds, LEVELS)),
        "transform_bins": ((), rows.size),
    }
