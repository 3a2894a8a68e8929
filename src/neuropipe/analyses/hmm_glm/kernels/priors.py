"""Priors on the coupling weights: a ridge, absolute values, a mean shared by the states.

Every prior offers the same: a quadratic penalty for the Newton step (``precision``, ``centre``),
its log density for the objective, and an update from the present weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEAST_VARIANCE", "FixedPrior", "SharedMean"]

Floats = NDArray[np.float64]

LEAST_VARIANCE = 1e-4


@dataclass(frozen=True)
class FixedPrior:
    """A penalty that no update changes.

    Attributes
    ----------
    precision, centre : ndarray, shape (n_states, n_units, n_features)
    l1 : ndarray, shape (n_features,), optional
        Penalty on absolute values.
    """

    precision: Floats
    centre: Floats
    l1: Floats | None = None

    def log_density(self, theta: Floats) -> float:
        """Return minus the penalty."""
        square = 0.5 * (self.precision * (theta - self.centre) ** 2).sum()
        return float(-square if self.l1 is None else -square - (np.abs(theta) @ self.l1).sum())

    def updated(self, theta: Floats) -> FixedPrior:
        """Return the prior itself."""
        return self


@dataclass(frozen=True)
class SharedMean:
    """Weights of all states scatter around a learned mean W0 with a learned variance.

    Attributes
    ----------
    ridge : ndarray, shape (n_features,)
        Precision around 0 of every parameter, beside the shared mean.
    shared : ndarray of bool, shape (n_features,)
        Features whose weights have a common mean: the history.
    mean : ndarray, shape (n_units, n_features)
        W0; 0 where not shared.
    variance : float
        sigma squared.
    n_states : int
        Two or more.
    """

    ridge: Floats
    shared: NDArray[np.bool_]
    mean: Floats
    variance: float
    n_states: int
    l1: None = None

    @property
    def precision(self) -> Floats:
        """Precision of every parameter."""
        row = self.ridge + self.shared / self.variance
        return np.broadcast_to(row, (self.n_states, *self.mean.shape))

    @property
    def centre(self) -> Floats:
        """Centre of the penalty of every parameter."""
        row = self.mean * self.shared / self.variance / (self.ridge + self.shared / self.variance)
        return np.broadcast_to(row, (self.n_states, *self.mean.shape))

    def log_density(self, theta: Floats) -> float:
        """Return the log density with the mean integrated out, but for a constant.

        Of S deviations from their own mean only S - 1 are free: this is why the variance that
        maximises it divides by S - 1, and why the objective then rises in every iteration.
        """
        weights = theta[:, :, self.shared]
        squares = ((weights - weights.mean(axis=0)) ** 2).sum()
        free = weights.size * (self.n_states - 1) / self.n_states
        shrunk = -0.5 * squares / self.variance - 0.5 * free * np.log(self.variance)
        return float(shrunk - 0.5 * (self.ridge * theta**2).sum())

    def updated(self, theta: Floats) -> SharedMean:
        """Return the prior with mean and variance of the present weights."""
        mean = theta.mean(axis=0) * self.shared
        spread = (theta - mean)[:, :, self.shared] ** 2
        variance = spread.mean() * self.n_states / (self.n_states - 1)
        return replace(self, mean=mean, variance=max(float(variance), LEAST_VARIANCE))

    def around(self, theta: Floats) -> SharedMean:
        """Return the prior for a start: its mean, and at least the present variance.

        With another mean the first step would leave the maximum of `log_density`, in which the
        mean is integrated out.
        """
        learned = self.updated(theta)
        return replace(learned, variance=max(learned.variance, self.variance))
