"""Where the fit begins: the one-state model, and guesses of the states around it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.hmm_glm.kernels.dispersion import moment_size, unit_covariance
from neuropipe.analyses.hmm_glm.kernels.em import SILENT_BIAS, Parameters
from neuropipe.analyses.hmm_glm.kernels.families import (
    BERNOULLI,
    GAUSSIAN,
    NEGBIN_CODES,
    NEGBIN_SOFTPLUS,
    POISSON_SIGMOID,
    POISSON_SOFTPLUS,
)
from neuropipe.analyses.hmm_glm.kernels.glm import Observations
from neuropipe.analyses.hmm_glm.kernels.maximise import Rules, step_dispersion
from neuropipe.analyses.hmm_glm.kernels.quasi_newton import newton_or_quasi
from neuropipe.analyses.hmm_glm.kernels.score_features import (
    principal_scores,
    smoothed_activity,
    smoothed_scores,
)

__all__ = [
    "OneState",
    "activity_labels",
    "fit_one_state",
    "labelled_start",
    "perturbed_start",
    "score_labels",
    "single_start",
    "starting_chain",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

STEPS = 8
SETTLED = 1e-4  # largest move of a parameter, far below what separates states
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
    dispersion : ndarray, shape (n_units,)
        Variance of the Gaussian family, size of the negative binomial, else 1.
    """

    theta: Floats
    dispersion: Floats


def _first_bias(code: int, mean: Floats) -> Floats:
    if code == GAUSSIAN:
        return mean
    if code in (BERNOULLI, POISSON_SIGMOID):
        share = np.clip(mean, 1e-3, 1 - 1e-3)
        return np.log(share) - np.log1p(-share)
    rate = np.maximum(mean, 1e-5)
    if code in (POISSON_SOFTPLUS, NEGBIN_SOFTPLUS):
        return rate + np.log(-np.expm1(-rate))
    return np.log(rate)


def _first_dispersion(data: Observations, rules: Rules) -> Floats:
    observed = data.observed[data.valid]
    if data.code == GAUSSIAN:
        return np.maximum(observed.var(axis=0), rules.variance_floor)
    return moment_size(observed) if data.code in NEGBIN_CODES else np.ones(observed.shape[1])


def fit_one_state(data: Observations, rules: Rules, ridge: Floats) -> OneState:
    """Fit the model with one state by Newton steps; noise is independent.

    Parameters
    ----------
    data : Observations
    rules : Rules
        Silent units are held at a very low rate.
    ridge : ndarray, shape (n_features,)
    """
    theta = np.zeros((data.observed.shape[1], ridge.size))
    theta[:, 0] = _first_bias(data.code, data.observed[data.valid].mean(axis=0))
    theta[rules.silent, 0] = SILENT_BIAS
    dispersion, independent = _first_dispersion(data, rules), replace(rules, scale=None)
    weight = np.ones((data.observed.shape[0], 1))
    penalty = {"precision": np.broadcast_to(ridge, theta.shape), "centre": np.zeros_like(theta)}
    for _ in range(STEPS):
        stepped = newton_or_quasi(data, weight[:, 0], theta, dispersion, **penalty)
        stepped[:, rules.unused] = 0.0
        moved = np.abs(stepped - theta)[~rules.silent].max(initial=0.0)
        theta[~rules.silent] = stepped[~rules.silent]
        old = dispersion
        dispersion = step_dispersion(data, weight, theta[None], old[None], independent)[0]
        if moved < SETTLED and np.allclose(dispersion, old, rtol=1e-3):
            break
    return OneState(theta, dispersion)


def starting_chain(n_states: int) -> tuple[Floats, Floats]:
    """Return a transition matrix of long states and uniform initial probabilities."""
    if n_states == 1:
        return np.ones((1, 1)), np.ones(1)
    away = (1.0 - STAY) / (n_states - 1)
    return away + (STAY - away) * np.eye(n_states), np.full(n_states, 1.0 / n_states)


def _with_chain(theta: Floats, dispersion: Floats, rules: Rules) -> Parameters:
    """Return parameters that keep the rules: one bias where it is common, covariances."""
    theta = theta.copy()
    theta[:, rules.silent], theta[:, :, rules.unused] = theta[0, rules.silent], 0.0
    if rules.shared_bias:
        theta[:, :, 0] = theta[:, :, 0].mean(axis=0)
    if rules.scale is not None and dispersion.ndim == 2:
        dispersion = np.stack([np.diag(row) for row in dispersion])
    return Parameters(theta, dispersion, *starting_chain(len(theta)))


def single_start(one: OneState, rules: Rules) -> Parameters:
    """Return the one-state model as the start of a fit with one state."""
    return _with_chain(one.theta[None], one.dispersion[None], rules)


def labelled_start(
    data: Observations, one: OneState, rules: Rules, labels: Ints, n_states: int
) -> Parameters:
    """Give every state the weights of its bins, held near the one-state model.

    Parameters
    ----------
    data : Observations
    one : OneState
    rules : Rules
    labels : ndarray of int, shape (n_bins,)
        Guessed state of every bin.
    n_states : int
    """
    theta = np.repeat(one.theta[None], n_states, axis=0)
    hard = (labels[:, None] == np.arange(n_states)).astype(np.float64)
    precision = np.full(one.theta.shape, LABEL_RIDGE)
    for s, weight in enumerate(np.ascontiguousarray(hard.T)):
        stepped = newton_or_quasi(
            data, weight, one.theta, one.dispersion, precision=precision, centre=one.theta
        )
        theta[s, ~rules.silent] = stepped[~rules.silent]
    dispersion = np.repeat(one.dispersion[None], n_states, axis=0)
    if data.code == GAUSSIAN and rules.scale is not None:
        parts = zip(hard.T, theta, strict=True)
        dispersion = np.stack(
            [unit_covariance(data, np.ascontiguousarray(w), t, scale=rules.scale) for w, t in parts]
        )
    elif data.code == GAUSSIAN:
        dispersion = step_dispersion(data, hard, theta, dispersion, rules)
    return _with_chain(theta, dispersion, rules)


def _clusters(points: Floats, n_states: int, rng: np.random.Generator) -> Ints:
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    seed = int(rng.integers(2**31))
    with threadpool_limits(limits=1):
        clusters = KMeans(min(n_states, len(points)), n_init=CLUSTER_STARTS, random_state=seed)
        return np.asarray(clusters.fit_predict(points), dtype=np.int64)


def score_labels(
    data: Observations, one: OneState, rules: Rules, *, n_states: int, sigma: float,
    rng: np.random.Generator,
) -> Ints:  # fmt: skip
    """Guess the states from where the one-state model fails.

    Parameters
    ----------
    data : Observations
    one : OneState
    rules : Rules
        Covariances of the noise count among what can differ.
    n_states : int
    sigma : float
        Smoothing of the scores, bins.
    rng : numpy.random.Generator
        Seeds the clustering.
    """
    scores, nearest = smoothed_scores(
        data, one.theta, one.dispersion, sigma=sigma, noise=data.code == GAUSSIAN,
        correlated=rules.scale is not None,
    )  # fmt: skip
    return _clusters(principal_scores(scores, COMPONENTS), n_states, rng)[nearest]


def activity_labels(
    data: Observations, one: OneState, rules: Rules, *, n_states: int, sigma: float,
    rng: np.random.Generator,
) -> Ints:  # fmt: skip
    """Guess the states from the smoothed activity.

    Parameters
    ----------
    data, one, rules, n_states, sigma, rng
        As in `score_labels`.
    """
    activity, nearest = smoothed_activity(data, sigma=sigma)
    return _clusters(principal_scores(activity, COMPONENTS), n_states, rng)[nearest]


def perturbed_start(
    one: OneState, rules: Rules, *, n_states: int, rng: np.random.Generator, scaled: bool
) -> Parameters:
    """Start every state at the one-state solution with noise.

    Parameters
    ----------
    one : OneState
    rules : Rules
    n_states : int
    rng : numpy.random.Generator
    scaled : bool
        Noise is relative to the standard deviation of the unit: the Gaussian family.
    """
    theta = np.repeat(one.theta[None], n_states, axis=0)
    scale = np.sqrt(one.dispersion)[None, :, None] if scaled else 1.0
    theta = theta + NOISE * scale * rng.normal(size=theta.shape) * ~rules.silent[None, :, None]
    return _with_chain(theta, np.repeat(one.dispersion[None], n_states, axis=0), rules)
