"""Priors on the coupling weights: a ridge, a mean shared by the states, classes of connections.

Every prior offers the same: a quadratic penalty for the Newton step (``precision``, ``centre``),
its log density for the objective, and an update from the present weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Connections", "FixedPrior", "SharedMean", "connection_prior", "infer_connections"]

Floats = NDArray[np.float64]

LEAST_VARIANCE = 1e-4
ABSENT_PRECISION = 1e4
CLASSES = 3  # inhibitory, absent, excitatory


@dataclass(frozen=True)
class FixedPrior:
    """A penalty that no update changes.

    Attributes
    ----------
    precision, centre : ndarray, shape (n_states, n_units, n_features)
    """

    precision: Floats
    centre: Floats

    def log_density(self, theta: Floats) -> float:
        """Return minus the penalty."""
        return float(-0.5 * (self.precision * (theta - self.centre) ** 2).sum())

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


class Connections(NamedTuple):
    """Classes of connections, in the order inhibitory, absent, excitatory.

    Attributes
    ----------
    probability : ndarray, shape (n_states, n_units, n_senders, 3)
        Of each class in each state.
    overall : ndarray, shape (n_units, n_senders, 3)
        Of each pair in any state: A0.
    frequency : ndarray, shape (3,)
        Over all pairs and states.
    strength, spread : ndarray, shape (n_basis,)
        Mean size and variance of the weights that are there.
    """

    probability: Floats
    overall: Floats
    frequency: Floats
    strength: Floats
    spread: Floats


def _log_normal(value: Floats, mean: Floats, variance: Floats) -> Floats:
    density: Floats = -0.5 * ((value - mean) ** 2 / variance + np.log(2.0 * np.pi * variance))
    return density


def _class_densities(estimate: Floats, error: Floats, strength: Floats, spread: Floats) -> Floats:
    """Return the log density of every estimate in every class, summed over basis functions."""
    nothing = np.zeros_like(strength)
    classes = ((-strength, spread), (nothing, nothing), (strength, spread))
    return np.stack(
        [_log_normal(estimate, centre, width + error).sum(axis=-1) for centre, width in classes],
        axis=-1,
    )


def _responsibilities(estimate: Floats, error: Floats, model: Connections) -> Floats:
    log = _class_densities(estimate, error, model.strength, model.spread) + np.log(model.overall)
    log -= log.max(axis=-1, keepdims=True)
    raw = np.exp(log)
    return raw / raw.sum(axis=-1, keepdims=True)


def _is_supported(estimate: Floats, error: Floats, model: Connections) -> bool:
    """Tell whether three classes explain more than noise does, by the Bayes information criterion.

    Estimates of noise are fitted by classes of the size of the noise about as well as by 0 alone.
    """
    log = _class_densities(estimate, error, model.strength, model.spread)
    mixed = np.logaddexp.reduce(log + np.log(model.frequency), axis=-1)
    n_parameters = CLASSES - 1 + 2 * model.strength.size
    return bool((mixed - log[..., 1]).sum() > 0.5 * n_parameters * np.log(mixed.size))


def _nothing_connected(model: Connections) -> Connections:
    absent = np.array([0.0, 1.0, 0.0])
    return model._replace(
        probability=np.broadcast_to(absent, model.probability.shape).copy(),
        overall=np.broadcast_to(absent, model.overall.shape).copy(),
        frequency=absent,
    )


def _moments(
    estimate: Floats, error: Floats, probability: Floats, model: Connections
) -> tuple[Floats, Floats]:
    """Return mean and variance of the signed size of the weights that are there."""
    m, v = model.strength, model.spread
    mass, first, parts = np.zeros_like(m), np.zeros_like(m), []
    for column, sign in ((0, -1.0), (2, 1.0)):
        share = probability[..., column, None]
        size = m + v / (v + error) * (sign * estimate - m)
        mass = mass + share.sum(axis=(0, 1, 2))
        first = first + (share * size).sum(axis=(0, 1, 2))
        parts.append((share, size))
    strength = np.maximum(first / np.maximum(mass, 1e-12), 1e-3)
    second = sum(
        (share * (v * error / (v + error) + (size - strength) ** 2)).sum(axis=(0, 1, 2))
        for share, size in parts
    )
    return strength, np.maximum(second / np.maximum(mass, 1e-12), LEAST_VARIANCE)


def infer_connections(
    estimate: Floats, error: Floats, *, concentration: float = 1.0, iterations: int = 50
) -> Connections:
    """Sort weights into classes by empirical Bayes on estimates and their sampling variance.

    Parameters
    ----------
    estimate : ndarray, shape (n_states, n_units, n_senders, n_basis)
        Estimates without a prior.
    error : ndarray, same shape
        Their sampling variance.
    concentration : float
        Strength with which the classes of a pair are drawn to the overall frequencies.
    iterations : int
        Updates of frequencies, sizes and probabilities.

    Returns
    -------
    Connections
        With several basis functions the classes belong to the pair, the sizes to the function.
        Every connection is absent when three classes explain the estimates no better than noise.

    Notes
    -----
    Absent weights are 0, excitatory ones N(m, v), inhibitory ones N(-m, v) [1]_.

    References
    ----------
    .. [1] Stephens (2017), False discovery rates: a new deal. Biostatistics 18, 275-294.
    """
    n_states = estimate.shape[0]
    strong = np.abs(estimate) > 2.0 * np.sqrt(error)
    size = np.array(
        [np.abs(estimate[..., b][strong[..., b]]).mean() if strong[..., b].any() else 0.1
         for b in range(estimate.shape[-1])]
    )  # fmt: skip
    frequency = np.array([0.15, 0.7, 0.15])
    shape = estimate.shape[:-1]
    model = Connections(
        np.empty((*shape, CLASSES)), np.broadcast_to(frequency, (*shape[1:], CLASSES)), frequency,
        size, np.maximum(0.25 * size**2, LEAST_VARIANCE),
    )  # fmt: skip
    for _ in range(iterations):
        found = _responsibilities(estimate, error, model)
        frequency = np.maximum(found.mean(axis=(0, 1, 2)), 1e-6)
        frequency = frequency / frequency.sum()
        overall = (found.sum(axis=0) + concentration * frequency) / (n_states + concentration)
        model = Connections(found, overall, frequency, *_moments(estimate, error, found, model))
    return model if _is_supported(estimate, error, model) else _nothing_connected(model)


def connection_prior(
    model: Connections,
    estimate: Floats,
    error: Floats,
    *,
    ridge: Floats,
    shared: NDArray[np.bool_],
) -> FixedPrior:
    """Return the quadratic penalty that stands for the classes.

    Parameters
    ----------
    model : Connections
    estimate, error : ndarray, shape (n_states, n_units, n_senders, n_basis)
        What the classes were inferred from.
    ridge : ndarray, shape (n_features,)
        Precision of the parameters that are not weights.
    shared : ndarray of bool, shape (n_features,)
        The history features.

    Notes
    -----
    Estimate and penalty together have the mean and variance that the weight has under the mixture
    of its classes (moment matching, as in expectation propagation [1]_). A penalty that averages
    the precisions of the classes instead holds a weight at 0 that is absent with a probability
    of a tenth, because the precision of absence is so large.

    References
    ----------
    .. [1] Minka (2001), Expectation propagation for approximate Bayesian inference. UAI.
    """
    mean = np.zeros_like(estimate)
    square = model.probability[..., 1, None] / ABSENT_PRECISION * np.ones_like(estimate)
    kept = model.spread / (model.spread + error)
    for column, sign in ((0, -1.0), (2, 1.0)):
        share = model.probability[..., column, None]
        middle = sign * model.strength + kept * (estimate - sign * model.strength)
        mean += share * middle
        square += share * (kept * error + middle**2)
    # Two classes that both remain possible can be wider than the estimate: a weak penalty then.
    least = 1.0 / (model.spread + model.strength**2)
    precision = np.clip(1.0 / (square - mean**2) - 1.0 / error, least, ABSENT_PRECISION)
    centre = ((1.0 / error + precision) * mean - estimate / error) / precision
    n_states, n_units = estimate.shape[:2]
    full = np.broadcast_to(ridge, (n_states, n_units, ridge.size)).copy()
    middle = np.zeros_like(full)
    full[:, :, shared] = precision.reshape(n_states, n_units, -1)
    middle[:, :, shared] = centre.reshape(n_states, n_units, -1)
    return FixedPrior(full, middle)
