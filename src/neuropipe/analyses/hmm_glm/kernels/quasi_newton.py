"""Weights of many units: limited-memory steps that never form the Fisher matrix of a unit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.hmm_glm.kernels.glm import (
    PAIR_FEATURES,
    Observations,
    gradient_of,
    newton_step,
)
from neuropipe.analyses.hmm_glm.kernels.parallel import ordered_map

__all__ = ["newton_or_quasi", "quasi_newton_steps", "weighted_products"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

STEPS, HALVINGS = 3, 6


def weighted_products(data: Observations, rows: Ints, weight: Floats) -> tuple[Floats, Floats]:
    """Return the weighted products of the features with each other and with the observations.

    Parameters
    ----------
    data : Observations
    rows : ndarray of int
    weight : ndarray, shape (n_bins,)

    Returns
    -------
    gram : ndarray, shape (n_features, n_features)
    cross : ndarray, shape (n_features, n_units)
    """

    def one(block: Ints) -> tuple[Floats, Floats]:
        weighted = (data.design[block] * weight[block, None]).T
        return weighted @ data.design[block], weighted @ data.observed[block]

    n_features, n_units = data.design.shape[1], data.observed.shape[1]
    gram, cross = np.zeros((n_features, n_features)), np.zeros((n_features, n_units))
    for first, second in ordered_map(one, data.blocks(rows)):
        gram += first
        cross += second
    return gram, cross


def _direction(gradient: Floats, pairs: list[tuple[Floats, Floats]], inverse: Floats) -> Floats:
    """Return the ascent direction of every unit by the two-loop recursion."""
    slope, shares = gradient.copy(), []
    for move, change in reversed(pairs):
        curved = (move * change).sum(axis=1)
        scale = np.where(curved > 0, 1.0 / np.where(curved > 0, curved, 1.0), 0.0)
        share = scale * (move * slope).sum(axis=1)
        slope -= share[:, None] * change
        shares.append((share, scale))
    step: Floats = np.matmul(inverse, slope[:, :, None])[:, :, 0]
    for (move, change), (share, scale) in zip(pairs, reversed(shares), strict=True):
        back = scale * (change * step).sum(axis=1)
        step += (share - back)[:, None] * move
    return step


def quasi_newton_steps(
    data: Observations,
    weight: Floats,
    theta: Floats,
    dispersion: Floats,
    *,
    precision: Floats,
    centre: Floats,
    least_weight: float = 0.0,
    steps: int = STEPS,
) -> Floats:
    """Take some L-BFGS steps for all units together, none of which loses.

    The first curvature of a unit is the weighted product of the features times the unit's mean
    Fisher information, plus its penalty: exact for Gaussian units, close for others.

    Parameters
    ----------
    data, weight, theta, dispersion, precision, centre, least_weight
        As in `glm.newton_step`.
    steps : int

    Returns
    -------
    ndarray, shape (n_units, n_features)

    References
    ----------
    .. [1] Nocedal (1980), Updating quasi-Newton matrices with limited storage. Math Comp 35,
       773-782.
    """
    rows = data.used(weight, least_weight)
    gram, _ = weighted_products(data, rows, weight)

    def derivatives(trial: Floats) -> tuple[Floats, Floats, Floats]:
        value, slope, total = gradient_of(data, rows, weight, trial, dispersion)
        value -= 0.5 * (precision * (trial - centre) ** 2).sum(axis=1)
        return value, slope - precision * (trial - centre), total

    value, slope, total = derivatives(theta)
    curvature = (total / max(weight[rows].sum(), 1e-300))[:, None, None] * gram
    diagonal = np.arange(theta.shape[1])
    curvature[:, diagonal, diagonal] += precision
    inverse = np.linalg.inv(curvature)
    pairs: list[tuple[Floats, Floats]] = []
    for _ in range(steps):
        step, size = _direction(slope, pairs, inverse), np.ones(len(theta))
        for _ in range(HALVINGS + 1):
            trial = theta + size[:, None] * step
            reached, new_slope, _ = derivatives(trial)
            lost = ~(reached >= value - 1e-12 * np.abs(value))
            if not lost.any():
                break
            size[lost] *= 0.5
        trial[lost], reached[lost], new_slope[lost] = theta[lost], value[lost], slope[lost]
        # Curvature of the loss: the objective is concave, its slope falls along a step.
        pairs.append((trial - theta, slope - new_slope))
        theta, value, slope = trial, reached, new_slope
    return theta


def newton_or_quasi(
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
    """Take a Newton step, or quasi-Newton steps where features are many.

    Parameters
    ----------
    data, weight, theta, dispersion, precision, centre, least_weight, l1
        As in `glm.newton_step`. A penalty on absolute values always takes a Newton step.
    """
    if theta.shape[1] > PAIR_FEATURES and l1 is None:
        return quasi_newton_steps(
            data, weight, theta, dispersion,
            precision=precision, centre=centre, least_weight=least_weight,
        )  # fmt: skip
    return newton_step(
        data, weight, theta, dispersion,
        precision=precision, centre=centre, least_weight=least_weight, l1=l1,
    )  # fmt: skip
