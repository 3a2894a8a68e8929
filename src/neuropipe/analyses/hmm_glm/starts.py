"""Where the fit begins: the one-state model, and guesses of the states around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.hmm_glm.kernels.em import SILENT_BIAS, Parameters, Rules
from neuropipe.analyses.hmm_glm.kernels.families import (
    BERNOULLI,
    GAUSSIAN,
    POISSON_SIGMOID,
    POISSON_SOFTPLUS,
)
from neuropipe.analyses.hmm_glm.kernels.glm import Observations, newton_step, unit_variance
from neuropipe.analyses.hmm_glm.kernels.score_features import principal_scores, smoothed_scores

__all__ = ["OneState", "fit_one_state", "perturbed_start", "score_start", "starting_chain"]

Floats = NDArray[np.float64]

STEPS = 8
COMPONENTS, CLUSTER_STARTS = 12, 20
LABEL_RIDGE = 20.0  # holds the first weights of a state near the one-state solution
NOISE = 0.15
STAY = 0.98


@dataclass(frozen=True)
class OneState:
    """The model with a single state.

    Attributes
    ----------
    theta : ndarray, shape (n_units, n_features)
    variance : ndarray, shape (n_units,)
    """

    theta: Floats
    variance: Floats


def _first_bias(code: int, mean: Floats) -> Floats:
    if code == GAUSSIAN:
        return mean
    if code in (BERNOULLI, POISSON_SIGMOID):
        share = np.clip(mean, 1e-3, 1 - 1e-3)
        return np.log(share) - np.log1p(-share)
    rate = np.maximum(mean, 1e-5)
    return np.log(np.expm1(rate)) if code == POISSON_SOFTPLUS else np.log(rate)


def fit_one_state(data: Observations, rules: Rules, ridge: Floats) -> OneState:
    """Fit the model with one state by Newton steps.

    Parameters
    ----------
    data : Observations
    rules : Rules
        Silent units are held at a very low rate.
    ridge : ndarray, shape (n_features,)
    """
    observed = data.observed[data.valid]
    theta = np.zeros((observed.shape[1], ridge.size))
    theta[:, 0] = _first_bias(data.code, observed.mean(axis=0))
    theta[rules.silent, 0] = SILENT_BIAS
    variance = np.maximum(observed.var(axis=0), rules.variance_floor)
    if data.code != GAUSSIAN:
        variance = np.ones_like(variance)
    weight = np.ones(data.observed.shape[0])
    penalty = {"precision": np.broadcast_to(ridge, theta.shape), "centre": np.zeros_like(theta)}
    for _ in range(STEPS):
        stepped = newton_step(data, weight, theta, variance, **penalty)
        moved = np.abs(stepped - theta)[~rules.silent].max(initial=0.0)
        theta[~rules.silent] = stepped[~rules.silent]
        variance = unit_variance(data, weight, theta, floor=rules.variance_floor)
        if moved < 1e-6:
            break
    return OneState(theta, variance)


def starting_chain(n_states: int) -> tuple[Floats, Floats]:
    """Return a transition matrix of long states and uniform initial probabilities."""
    if n_states == 1:
        return np.ones((1, 1)), np.ones(1)
    away = (1.0 - STAY) / (n_states - 1)
    return away + (STAY - away) * np.eye(n_states), np.full(n_states, 1.0 / n_states)


def score_start(
    data: Observations, one: OneState, rules: Rules, *, n_states: int, sigma: float,
    rng: np.random.Generator,
) -> Parameters:  # fmt: skip
    """Guess the states from where the one-state model fails, and give each its own weights.

    Parameters
    ----------
    data : Observations
    one : OneState
    rules : Rules
    n_states : int
    sigma : float
        Smoothing of the scores, bins.
    rng : numpy.random.Generator
        Seeds the clustering.
    """
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    scores, nearest = smoothed_scores(data, one.theta, one.variance, sigma=sigma)
    points = principal_scores(scores, COMPONENTS)
    seed = int(rng.integers(2**31))
    with threadpool_limits(limits=1):
        clusters = KMeans(min(n_states, len(points)), n_init=CLUSTER_STARTS, random_state=seed)
        labels = clusters.fit_predict(points)[nearest]
    theta = np.repeat(one.theta[None], n_states, axis=0)
    variance = np.repeat(one.variance[None], n_states, axis=0)
    precision = np.full(one.theta.shape, LABEL_RIDGE)
    for s in range(n_states):
        weight = (labels == s).astype(np.float64)
        stepped = newton_step(
            data, weight, one.theta, one.variance, precision=precision, centre=one.theta
        )
        theta[s, ~rules.silent] = stepped[~rules.silent]
        if weight[data.valid].any():
            variance[s] = unit_variance(data, weight, theta[s], floor=rules.variance_floor)
    return Parameters(theta, variance, *starting_chain(n_states))


def perturbed_start(
    one: OneState, rules: Rules, *, n_states: int, rng: np.random.Generator
) -> Parameters:
    """Start every state at the one-state solution with noise.

    Parameters
    ----------
    one : OneState
    rules : Rules
    n_states : int
    rng : numpy.random.Generator
    """
    theta = np.repeat(one.theta[None], n_states, axis=0)
    scale = np.sqrt(one.variance)[None, :, None]
    noise = NOISE * scale * rng.normal(size=theta.shape)
    noise[:, rules.silent] = 0.0
    noise[:, :, rules.unused] = 0.0
    variance = np.repeat(one.variance[None], n_states, axis=0)
    return Parameters(theta + noise, variance, *starting_chain(n_states))
