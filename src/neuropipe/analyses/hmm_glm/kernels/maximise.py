"""The M-step: weights, dispersion and chain given the probabilities of the states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.hmm_glm.kernels.dispersion import (
    size_step,
    unit_covariance,
    unit_variance,
)
from neuropipe.analyses.hmm_glm.kernels.families import GAUSSIAN, NEGBIN_CODES
from neuropipe.analyses.hmm_glm.kernels.glm import (
    Observations,
    halved_step,
    objective_of,
    penalised_derivatives,
)
from neuropipe.analyses.hmm_glm.kernels.lasso import lasso_steps
from neuropipe.analyses.hmm_glm.kernels.quasi_newton import newton_or_quasi, weighted_products

__all__ = ["Prior", "Rules", "common_bias_steps", "step_dispersion", "step_weights"]

Floats = NDArray[np.float64]

SWEEPS = 2  # over the units whose noise is correlated


class Prior(Protocol):
    """What the fit needs of a prior."""

    @property
    def precision(self) -> Floats:
        """Precision of every parameter."""

    @property
    def centre(self) -> Floats:
        """Centre of every parameter."""

    @property
    def l1(self) -> Floats | None:
        """Penalty on the absolute value of every feature's weight, if any."""

    def log_density(self, theta: Floats) -> float:
        """Return the log density of the weights."""

    def updated(self, theta: Floats) -> Prior:
        """Return the prior learned from the present weights."""


@dataclass(frozen=True)
class Rules:
    """How the fit proceeds.

    Attributes
    ----------
    alpha, kappa : float
        Prior of the transition matrix, see `chain.update_chain`.
    least_weight : float
        Bins below this probability of a state are left out of its weights.
    tol : float
        End when the objective grows by less, relatively.
    silent : ndarray of bool, shape (n_units,)
        Units that are fixed at a very low rate.
    variance_floor : ndarray, shape (n_units,)
    unused : ndarray of bool, shape (n_features,)
        Features that are 0 in every bin, such as the history of silent units: weight 0.
    shared_bias : bool
        One bias per unit for all states.
    scale : ndarray, shape (n_units,), or None
        Variances to which covariances of few bins are drawn; None: noise is independent.
    least_mass : float
        Bins below which a state counts as empty and is seeded anew, once.
    """

    alpha: float
    kappa: float
    least_weight: float
    tol: float
    silent: NDArray[np.bool_]
    variance_floor: Floats
    unused: NDArray[np.bool_]
    shared_bias: bool = False
    scale: Floats | None = None
    least_mass: float = 0.0


def common_bias_steps(gradient: Floats, information: Floats) -> Floats:
    """Return Newton steps of all states whose first parameter is one and the same.

    Parameters
    ----------
    gradient : ndarray, shape (n_states, n_units, n_features)
    information : ndarray, shape (n_states, n_units, n_features, n_features)

    Returns
    -------
    ndarray, shape (n_states, n_units, n_features)
        Column 0 is equal in all states.
    """
    border = information[..., 1:, :1]
    right = np.concatenate([gradient[..., 1:, None], border], axis=-1)
    solved = np.linalg.solve(information[..., 1:, 1:], right)
    free, pulled = solved[..., 0], solved[..., 1]
    edge = border[..., 0]
    slope = (gradient[..., 0] - (edge * free).sum(axis=-1)).sum(axis=0)
    curvature = (information[..., 0, 0] - (edge * pulled).sum(axis=-1)).sum(axis=0)
    bias = slope / curvature
    weights = free - bias[None, :, None] * pulled
    column = np.broadcast_to(bias, gradient.shape[:2])[..., None]
    return np.concatenate([column, weights], axis=-1)


def _common_bias_lasso(theta: Floats, gradient: Floats, information: Floats, l1: Floats) -> Floats:
    """Return proximal steps of all states together, with one bias."""
    n_states, n_units, n_features = theta.shape
    n_free = n_features - 1
    size = 1 + n_states * n_free
    matrix = np.zeros((n_units, size, size))
    at, slope, pull = np.zeros((n_units, size)), np.zeros((n_units, size)), np.zeros(size)
    at[:, 0], slope[:, 0] = theta[0, :, 0], gradient[..., 0].sum(axis=0)
    matrix[:, 0, 0] = information[..., 0, 0].sum(axis=0)
    for s in range(n_states):
        own = slice(1 + s * n_free, 1 + (s + 1) * n_free)
        at[:, own], slope[:, own], pull[own] = theta[s, :, 1:], gradient[s, :, 1:], l1[1:]
        matrix[:, own, own] = information[s, :, 1:, 1:]
        matrix[:, own, 0] = matrix[:, 0, own] = information[s, :, 1:, 0]
    steps = lasso_steps(at, slope, matrix, pull)
    weights = steps[:, 1:].reshape(n_units, n_states, n_free).transpose(1, 0, 2)
    column = np.broadcast_to(steps[:, 0], (n_states, n_units))[..., None]
    return np.concatenate([column, weights], axis=-1)


def _each_state(
    data: Observations, probability: Floats, theta: Floats, dispersion: Floats, prior: Prior,
    rules: Rules,
) -> Floats:  # fmt: skip
    """Step every state by itself."""
    stepped, precision, centre = theta.copy(), prior.precision, prior.centre
    for s in range(theta.shape[0]):
        weight = np.ascontiguousarray(probability[:, s])
        if data.used(weight, rules.least_weight).size:
            stepped[s] = newton_or_quasi(
                data, weight, theta[s], dispersion[s], precision=precision[s], centre=centre[s],
                least_weight=rules.least_weight, l1=prior.l1,
            )  # fmt: skip
    return stepped


def _common_bias(
    data: Observations, probability: Floats, theta: Floats, dispersion: Floats, prior: Prior,
    rules: Rules,
) -> Floats:  # fmt: skip
    """Step all states together, with one bias per unit."""
    weights = np.ascontiguousarray(probability.T)
    precision, centre, l1 = prior.precision, prior.centre, prior.l1
    parts = [
        penalised_derivatives(
            data, weight, theta[s], dispersion[s], precision=precision[s], centre=centre[s],
            least_weight=rules.least_weight,
        )
        for s, weight in enumerate(weights)
    ]  # fmt: skip
    gradient, information = (np.stack([part[i] for part in parts]) for i in (1, 2))
    objective = sum(part[0] for part in parts)
    rows = [data.used(weight, rules.least_weight) for weight in weights]
    if l1 is None:
        step = common_bias_steps(gradient, information)
    else:
        step = _common_bias_lasso(theta, gradient, information, l1)
        objective = objective - (np.abs(theta) @ l1).sum(axis=0)

    def evaluate(trial: Floats) -> Floats:
        value = -0.5 * (precision * (trial - centre) ** 2).sum(axis=(0, 2))
        for s, weight in enumerate(weights):
            value += objective_of(data, rows[s], weight, trial[s], dispersion[s])
        return value if l1 is None else value - (np.abs(trial) @ l1).sum(axis=0)

    return halved_step(evaluate, theta, step, np.asarray(objective))


def _correlated(
    data: Observations, probability: Floats, theta: Floats, dispersion: Floats, prior: Prior,
    rules: Rules,
) -> Floats:  # fmt: skip
    """Set one unit after the other to its maximum given the others, whose noise is correlated."""
    theta, precision, centre = theta.copy(), prior.precision, prior.centre
    n_states, n_units, n_features = theta.shape
    weights = np.ascontiguousarray(probability.T)
    products = [weighted_products(data, data.used(w, rules.least_weight), w) for w in weights]
    inverse = np.linalg.inv(dispersion)
    diagonal = np.arange(n_features)
    for n in np.tile(np.arange(n_units), SWEEPS):
        gradient = np.empty((n_states, 1, n_features))
        information = np.empty((n_states, 1, n_features, n_features))
        for s, (gram, cross) in enumerate(products):
            pull = precision[s, n] * (theta[s, n] - centre[s, n])
            right = inverse[s, :, n]
            gradient[s, 0] = cross @ right - gram @ (theta[s].T @ right) - pull
            information[s, 0] = inverse[s, n, n] * gram
            information[s, 0, diagonal, diagonal] += precision[s, n]
        if rules.shared_bias:
            step = common_bias_steps(gradient, information)
        else:
            step = np.asarray(np.linalg.solve(information, gradient[..., None])[..., 0])
        theta[:, n] += step[:, 0]
    return theta


def step_weights(
    data: Observations, probability: Floats, theta: Floats, dispersion: Floats, prior: Prior,
    rules: Rules,
) -> Floats:  # fmt: skip
    """Return weights of all states that explain the bins of each state no worse.

    Parameters
    ----------
    data : Observations
    probability : ndarray, shape (n_bins, n_states)
    theta : ndarray, shape (n_states, n_units, n_features)
    dispersion : ndarray
        See `kernels.dispersion`.
    prior : Prior
    rules : Rules
    """
    step: Callable[..., Floats] = _common_bias if rules.shared_bias else _each_state
    if dispersion.ndim == 3:
        step = _correlated
    stepped = step(data, probability, theta, dispersion, prior, rules)
    stepped[:, :, rules.unused] = 0.0
    stepped[:, rules.silent] = theta[:, rules.silent]
    return stepped


def step_dispersion(
    data: Observations, probability: Floats, theta: Floats, dispersion: Floats, rules: Rules
) -> Floats:
    """Return the dispersion that fits weights and states no worse; see `kernels.dispersion`.

    Parameters
    ----------
    data, probability, theta, dispersion, rules
        As in `step_weights`.
    """
    if data.code in NEGBIN_CODES:
        size = size_step(data, probability, theta, dispersion[0])
        return np.repeat(size[None], len(theta), axis=0)
    found = dispersion.copy()
    if data.code == GAUSSIAN:
        for s, weight in enumerate(np.ascontiguousarray(probability.T)):
            if rules.scale is not None:
                found[s] = unit_covariance(data, weight, theta[s], scale=rules.scale)
            elif data.used(weight, 0.0).size:
                found[s] = unit_variance(data, weight, theta[s], floor=rules.variance_floor)
    return found
