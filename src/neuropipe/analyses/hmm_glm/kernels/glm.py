"""Weighted generalised linear models of all units: emissions of the states and Newton steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.hmm_glm.kernels.families import (
    POISSON_CODES,
    constant,
    log_density,
    rows_log_density,
    weighted_terms,
)
from neuropipe.analyses.hmm_glm.kernels.lasso import lasso_steps
from neuropipe.analyses.hmm_glm.kernels.multivariate import rows_log_normal
from neuropipe.analyses.hmm_glm.kernels.parallel import ordered_map

__all__ = [
    "Observations",
    "emissions",
    "gradient_of",
    "halved_step",
    "newton_step",
    "objective_of",
    "penalised_derivatives",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BLOCK_VALUES = 1 << 18  # doubles in one block of bins x values: 2 MB stay in the cache
LEAST_ROWS = 512  # of a block, below which products of matrices become slow
PAIR_FEATURES = 150  # beyond, the products of all pairs of features cost more memory than time
HALVINGS = 6


@dataclass(frozen=True)
class Observations:
    """Trials one after the other.

    Attributes
    ----------
    observed : ndarray, shape (n_bins, n_units)
        Finite everywhere; what stands in invalid bins is not used.
    design : ndarray, shape (n_bins, n_features)
        Column 0 is 1; then the history, sender by sender; then regressors.
    valid : ndarray of bool, shape (n_bins,)
        Bins that are observed.
    offsets : ndarray of int, shape (n_trials + 1,)
        Trial ``i`` is ``offsets[i]:offsets[i + 1]``.
    code : int
        Family, a value of `families.FAMILIES`.
    """

    observed: Floats
    design: Floats
    valid: NDArray[np.bool_]
    offsets: Ints
    code: int

    def blocks(self, rows: Ints, width: int = 0) -> Iterator[Ints]:
        """Yield the rows in pieces whose working arrays, ``width`` doubles a row, stay small."""
        widest = max(self.observed.shape[1], self.design.shape[1], width)
        size = max(BLOCK_VALUES // widest, LEAST_ROWS)
        for start in range(0, rows.size, size):
            yield rows[start : start + size]

    def used(self, weight: Floats, least_weight: float) -> Ints:
        """Return the observed bins with more than ``least_weight``."""
        return np.flatnonzero(self.valid & (weight > least_weight))


def emissions(data: Observations, theta: Floats, dispersion: Floats) -> Floats:
    """Return the log probability of every bin in every state, summed over units.

    Parameters
    ----------
    data : Observations
    theta : ndarray, shape (n_states, n_units, n_features)
        Parameters of every state.
    dispersion : ndarray, shape (n_states, n_units) or (n_states, n_units, n_units)
        Variance or covariance of the Gaussian family, size of the negative binomial; not used by
        others.

    Returns
    -------
    ndarray, shape (n_bins, n_states)
        With every constant; 0 in bins that are not valid.
    """
    result = np.zeros((data.observed.shape[0], theta.shape[0]))

    def one(task: tuple[Ints, int]) -> tuple[Ints, int, Floats]:
        rows, s = task
        observed, noise = data.observed[rows], dispersion[s]
        eta = data.design[rows] @ theta[s].T
        if noise.ndim == 2:
            return rows, s, rows_log_normal(observed - eta, noise)
        density = rows_log_density(data.code, eta, observed, noise)
        if data.code not in POISSON_CODES:
            density += constant(data.code, observed, noise)
        return rows, s, density

    blocks = data.blocks(np.flatnonzero(data.valid))
    for rows, s, values in ordered_map(one, product(blocks, range(theta.shape[0]))):
        result[rows, s] = values
    if data.code in POISSON_CODES:
        # The same in all states: computed once.
        for rows in data.blocks(np.flatnonzero(data.valid)):
            result[rows] += constant(data.code, data.observed[rows], dispersion[0])[:, None]
    return result


def objective_of(
    data: Observations, rows: Ints, weight: Floats, theta: Floats, dispersion: Floats
) -> Floats:
    """Return the weighted log probability of every unit, without the constant of the family.

    Parameters
    ----------
    data : Observations
    rows : ndarray of int
        Bins that count.
    weight : ndarray, shape (n_bins,)
    theta : ndarray, shape (n_units, n_features)
    dispersion : ndarray, shape (n_units,)
    """

    def one(block: Ints) -> Floats:
        eta = data.design[block] @ theta.T
        density = log_density(data.code, eta, data.observed[block], dispersion)
        return np.asarray(weight[block] @ density)

    total = np.zeros(theta.shape[0])
    for part in ordered_map(one, data.blocks(rows)):
        total += part
    return total


def gradient_of(
    data: Observations, rows: Ints, weight: Floats, theta: Floats, dispersion: Floats
) -> tuple[Floats, Floats, Floats]:
    """Return objective, gradient and the sum of the Fisher information of every unit.

    Parameters
    ----------
    data, rows, weight, theta, dispersion
        As in `objective_of`.

    Returns
    -------
    objective : ndarray, shape (n_units,)
    gradient : ndarray, shape (n_units, n_features)
    total : ndarray, shape (n_units,)
        Information about the linear predictor, summed over bins.
    """

    def one(block: Ints) -> tuple[Floats, Floats, Floats]:
        design = data.design[block]
        value, score, fisher = weighted_terms(
            data.code, design @ theta.T, data.observed[block], dispersion, weight[block]
        )
        return value, score.T @ design, fisher.sum(axis=0)

    sums = np.zeros(theta.shape[0]), np.zeros(theta.shape), np.zeros(theta.shape[0])
    for parts in ordered_map(one, data.blocks(rows)):
        for total, part in zip(sums, parts, strict=True):
            total += part
    return sums


def _information(fisher: Floats, design: Floats) -> Floats:
    """Return sum_t fisher[t, n] d_t d_t' of every unit, as rows of the pairs of features."""
    n_features = design.shape[1]
    first, second = np.triu_indices(n_features)
    if n_features <= PAIR_FEATURES:
        return np.asarray(fisher.T @ (design[:, first] * design[:, second]))
    rows, root = np.empty((fisher.shape[1], first.size)), np.sqrt(fisher)
    for n in range(fisher.shape[1]):
        scaled = design * root[:, n : n + 1]
        # A matrix times its own transpose takes half the products.
        rows[n] = (scaled.T @ scaled)[first, second]
    return rows


def penalised_derivatives(
    data: Observations,
    weight: Floats,
    theta: Floats,
    dispersion: Floats,
    *,
    precision: Floats,
    centre: Floats,
    least_weight: float = 0.0,
) -> tuple[Floats, Floats, Floats]:
    """Return objective, gradient and Fisher matrix of every unit in one state.

    Parameters
    ----------
    data : Observations
    weight : ndarray, shape (n_bins,)
        Probability of the state.
    theta : ndarray, shape (n_units, n_features)
        Where to evaluate.
    dispersion : ndarray, shape (n_units,)
        Variance of the Gaussian family, size of the negative binomial.
    precision, centre : ndarray, shape (n_units, n_features)
        The penalty is ``precision (theta - centre)**2 / 2``.
    least_weight : float
        Bins with less weight are left out.

    Returns
    -------
    objective : ndarray, shape (n_units,)
        Weighted log probability (without the constant of the family) minus the penalty.
    gradient : ndarray, shape (n_units, n_features)
    information : ndarray, shape (n_units, n_features, n_features)
        Expected curvature, penalty included.
    """
    n_units, n_features = theta.shape
    first, second = np.triu_indices(n_features)

    def one(block: Ints) -> tuple[Floats, Floats, Floats]:
        design = data.design[block]
        value, score, fisher = weighted_terms(
            data.code, design @ theta.T, data.observed[block], dispersion, weight[block]
        )
        return value, score.T @ design, _information(fisher, design)

    objective = -0.5 * (precision * (theta - centre) ** 2).sum(axis=1)
    gradient = -precision * (theta - centre)
    pairs = np.zeros((n_units, first.size))
    width = first.size if n_features <= PAIR_FEATURES else 0
    for value, slope, part in ordered_map(one, data.blocks(data.used(weight, least_weight), width)):
        objective += value
        gradient += slope
        pairs += part
    information = np.empty((n_units, n_features, n_features))
    information[:, first, second] = pairs
    information[:, second, first] = pairs
    diagonal = np.arange(n_features)
    information[:, diagonal, diagonal] += precision
    return objective, gradient, information


def halved_step(
    evaluate: Callable[[Floats], Floats], theta: Floats, step: Floats, objective: Floats
) -> Floats:
    """Take a step for every unit, halved until it does not lose.

    Parameters
    ----------
    evaluate : callable
        Objective of every unit at parameters like ``theta``.
    theta, step : ndarray, shape (..., n_units, n_features)
    objective : ndarray, shape (n_units,)
        At ``theta``.

    Returns
    -------
    ndarray, shape (..., n_units, n_features)
        New parameters; a unit for which no step gains keeps its old ones.
    """
    size = np.ones(objective.shape)
    for _ in range(HALVINGS + 1):
        trial = theta + size[:, None] * step
        # Rounding of a sum of many bins must not turn a converged unit back.
        lost = ~(evaluate(trial) >= objective - 1e-12 * np.abs(objective))
        if not lost.any():
            return trial
        size[lost] *= 0.5
    size[lost] = 0.0
    return theta + size[:, None] * step


def newton_step(
    data: Observations,
    weight: Floats,
    theta: Floats,
    dispersion: Floats,
    *,
    precision: Floats,
    centre: Floats,
    least_weight: float = 0.0,
    l1: Floats | None = None,
) -> Floats:
    """Take one Fisher-scoring step for every unit, halved until it does not lose.

    Parameters
    ----------
    data, weight, theta, dispersion, precision, centre, least_weight
        As in `penalised_derivatives`.
    l1 : ndarray, shape (n_features,), optional
        Penalty on the absolute value of every parameter; the step is then a proximal one.

    Returns
    -------
    ndarray, shape (n_units, n_features)
        New parameters; a unit for which no step gains keeps its old ones.
    """
    objective, gradient, information = penalised_derivatives(
        data, weight, theta, dispersion,
        precision=precision, centre=centre, least_weight=least_weight,
    )  # fmt: skip
    if l1 is None:
        step = np.asarray(np.linalg.solve(information, gradient[:, :, None])[:, :, 0])
    else:
        step = lasso_steps(theta, gradient, information, l1)
        objective = objective - np.abs(theta) @ l1
    rows = data.used(weight, least_weight)

    def evaluate(trial: Floats) -> Floats:
        value = objective_of(data, rows, weight, trial, dispersion)
        value -= 0.5 * (precision * (trial - centre) ** 2).sum(axis=1)
        return value if l1 is None else value - np.abs(trial) @ l1

    return halved_step(evaluate, theta, step, objective)
