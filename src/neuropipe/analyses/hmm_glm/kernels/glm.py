"""Weighted generalised linear models of all units: emissions of the states and Newton steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.hmm_glm.kernels.families import (
    GAUSSIAN,
    constant,
    log_density,
    rows_log_density,
    weighted_terms,
)

__all__ = ["Observations", "emissions", "newton_step", "penalised_derivatives", "unit_variance"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BLOCK_VALUES = 1 << 21  # doubles in one block of bins x units: 16 MB
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

    def blocks(self, rows: Ints) -> Iterator[Ints]:
        """Yield the rows in pieces whose working arrays stay small."""
        widest = max(self.observed.shape[1], self.design.shape[1], 1)
        size = max(BLOCK_VALUES // widest, 64)
        for start in range(0, rows.size, size):
            yield rows[start : start + size]


def emissions(data: Observations, theta: Floats, variance: Floats) -> Floats:
    """Return the log probability of every bin in every state, summed over units.

    Parameters
    ----------
    data : Observations
    theta : ndarray, shape (n_states, n_units, n_features)
        Parameters of every state.
    variance : ndarray, shape (n_states, n_units)
        Of the Gaussian family; not used by others.

    Returns
    -------
    ndarray, shape (n_bins, n_states)
        With every constant; 0 in bins that are not valid.
    """
    result = np.zeros((data.observed.shape[0], theta.shape[0]))
    for rows in data.blocks(np.flatnonzero(data.valid)):
        design, observed = data.design[rows], data.observed[rows]
        base = constant(data.code, observed)
        for s in range(theta.shape[0]):
            eta = design @ theta[s].T
            result[rows, s] = rows_log_density(data.code, eta, observed, variance[s]) + base
    return result


def _objective(
    data: Observations, rows: Ints, weight: Floats, theta: Floats, variance: Floats
) -> Floats:
    total = np.zeros(theta.shape[0])
    for block in data.blocks(rows):
        eta = data.design[block] @ theta.T
        total += weight[block] @ log_density(data.code, eta, data.observed[block], variance)
    return total


def _add_information(total: Floats, information: Floats, design: Floats) -> None:
    """Add sum_t information[t, n] d_t d_t' to the matrix of every unit."""
    n_features = design.shape[1]
    if n_features > PAIR_FEATURES:
        for n in range(information.shape[1]):
            total[n] += (design * information[:, n : n + 1]).T @ design
        return
    first, second = np.triu_indices(n_features)
    size = max(BLOCK_VALUES // first.size, 64)
    for start in range(0, design.shape[0], size):
        part = design[start : start + size]
        sums = information[start : start + size].T @ (part[:, first] * part[:, second])
        total[:, first, second] += sums
        off = first != second
        total[:, second[off], first[off]] += sums[:, off]


def penalised_derivatives(
    data: Observations,
    weight: Floats,
    theta: Floats,
    variance: Floats,
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
    variance : ndarray, shape (n_units,)
        Of the Gaussian family.
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
    objective = -0.5 * (precision * (theta - centre) ** 2).sum(axis=1)
    gradient = -precision * (theta - centre)
    information = np.zeros((n_units, n_features, n_features))
    for block in data.blocks(_used(data, weight, least_weight)):
        design = data.design[block]
        value, score, fisher = weighted_terms(
            data.code, design @ theta.T, data.observed[block], variance, weight[block]
        )
        objective += value
        gradient += score.T @ design
        _add_information(information, fisher, design)
    diagonal = np.arange(n_features)
    information[:, diagonal, diagonal] += precision
    return objective, gradient, information


def _used(data: Observations, weight: Floats, least_weight: float) -> Ints:
    return np.flatnonzero(data.valid & (weight > least_weight))


def newton_step(
    data: Observations,
    weight: Floats,
    theta: Floats,
    variance: Floats,
    *,
    precision: Floats,
    centre: Floats,
    least_weight: float = 0.0,
) -> Floats:
    """Take one Fisher-scoring step for every unit, halved until it does not lose.

    Parameters
    ----------
    data, weight, theta, variance, precision, centre, least_weight
        As in `penalised_derivatives`.

    Returns
    -------
    ndarray, shape (n_units, n_features)
        New parameters; a unit for which no step gains keeps its old ones.
    """
    objective, gradient, information = penalised_derivatives(
        data, weight, theta, variance,
        precision=precision, centre=centre, least_weight=least_weight,
    )  # fmt: skip
    step = np.linalg.solve(information, gradient[:, :, None])[:, :, 0]
    rows = _used(data, weight, least_weight)
    size = np.ones(theta.shape[0])
    for _ in range(HALVINGS + 1):
        trial = theta + size[:, None] * step
        value = _objective(data, rows, weight, trial, variance)
        value -= 0.5 * (precision * (trial - centre) ** 2).sum(axis=1)
        # Rounding of a sum of many bins must not turn a converged unit back.
        lost = ~(value >= objective - 1e-12 * np.abs(objective))
        if not lost.any():
            return trial
        size[lost] *= 0.5
    size[lost] = 0.0
    return theta + size[:, None] * step


def unit_variance(data: Observations, weight: Floats, theta: Floats, *, floor: Floats) -> Floats:
    """Return the residual variance of every unit in one state, at least ``floor``.

    Parameters
    ----------
    data, weight, theta
        As in `penalised_derivatives`.
    floor : ndarray, shape (n_units,)

    Returns
    -------
    ndarray, shape (n_units,)
        Ones for families without a variance.
    """
    if data.code != GAUSSIAN:
        return np.ones(theta.shape[0])
    total, mass = np.zeros(theta.shape[0]), 0.0
    for block in data.blocks(_used(data, weight, 0.0)):
        error = data.observed[block] - data.design[block] @ theta.T
        total += weight[block] @ error**2
        mass += float(weight[block].sum())
    return np.maximum(total / max(mass, 1e-300), floor)
