"""Classes of connections by empirical Bayes: inhibitory, absent, excitatory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, gammainc, gammaln

from neuropipe.analyses.hmm_glm.kernels.priors import LEAST_VARIANCE, FixedPrior

__all__ = [
    "ConnectionRules",
    "Connections",
    "connection_prior",
    "global_classes",
    "infer_connections",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

ABSENT_PRECISION = 1e4
CLASSES = 3  # inhibitory, absent, excitatory
SMALLEST = 1e-12


@dataclass(frozen=True)
class ConnectionRules:
    """Which classes a pair can have in its states.

    Attributes
    ----------
    signed : bool
        A pair has a probability of its own for each sign; else only for being connected, and
        all pairs have the same share of each sign.
    dale : bool
        Every sender has one sign towards all other units, in all states. Its influence on itself
        (refractoriness, bursts) is no synapse and stays free.
    concentration : float
        Strength with which the classes of a pair are drawn to the overall frequencies.
    """

    signed: bool = True
    dale: bool = False
    concentration: float = 1.0


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
    excitatory : ndarray, shape (n_units, n_senders)
        Probability that a connection of the pair, if there is one, is excitatory; NaN where it
        has no meaning beyond ``overall``.
    """

    probability: Floats
    overall: Floats
    frequency: Floats
    strength: Floats
    spread: Floats
    excitatory: Floats


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


def _normalised(log: Floats) -> tuple[Floats, Floats]:
    """Return probabilities from their logarithms, and the logarithms of their sums."""
    top = log.max(axis=-1, keepdims=True)
    raw = np.exp(log - top)
    total = raw.sum(axis=-1, keepdims=True)
    return raw / total, (top + np.log(total))[..., 0]


def _responsibilities(
    density: Floats, model: Connections, rules: ConnectionRules
) -> tuple[Floats, Floats]:
    """Return the classes of every pair and state, and how probable excitation is for its sign."""
    free, _ = _normalised(density + np.log(np.maximum(model.overall, SMALLEST)))
    signs = model.frequency[2] / (model.frequency[0] + model.frequency[2])
    excitatory = np.full(model.overall.shape[:2], np.nan if rules.signed else signs)
    if not rules.dale:
        return free, excitatory
    absent = np.clip(model.overall[..., 1], SMALLEST, 1.0 - SMALLEST)
    log_prior = np.log(np.stack([1.0 - absent, absent], axis=-1))
    inhibits, log_inhibits = _normalised(density[..., :2] + log_prior)
    excites, log_excites = _normalised(density[..., :0:-1] + log_prior)
    other = np.logical_not(np.eye(*absent.shape))
    support = ((log_excites - log_inhibits) * other).sum(axis=(0, 1))
    share = np.broadcast_to(expit(support), absent.shape)[..., None]
    zero = np.zeros_like(excites[..., :1])
    mixed = share * np.concatenate([zero, excites[..., ::-1]], axis=-1)
    mixed += (1.0 - share) * np.concatenate([inhibits, zero], axis=-1)
    excitatory = np.where(other, share[..., 0], np.nan)
    return np.where(other[..., None], mixed, free), excitatory


def _overall(
    found: Floats, frequency: Floats, excitatory: Floats, rules: ConnectionRules
) -> Floats:
    """Return A0: classes of a pair over its states, drawn to the overall frequencies."""
    total = found.sum(axis=0) + rules.concentration * frequency
    overall = total / (len(found) + rules.concentration)
    present = 1.0 - overall[..., 1]
    split = np.stack([present * (1.0 - excitatory), overall[..., 1], present * excitatory], axis=-1)
    return np.where(np.isnan(excitatory)[..., None], overall, split)


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
    estimate: Floats, error: Floats, rules: ConnectionRules | None = None, *, iterations: int = 50
) -> Connections:
    """Sort weights into classes by empirical Bayes on estimates and their sampling variance.

    Parameters
    ----------
    estimate : ndarray, shape (n_states, n_units, n_senders, n_basis)
        Estimates without a prior.
    error : ndarray, same shape
        Their sampling variance.
    rules : ConnectionRules, optional
        Which classes a pair can have.
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
    rules = ConnectionRules() if rules is None else rules
    strong = np.abs(estimate) > 2.0 * np.sqrt(error)
    size = np.array(
        [np.abs(estimate[..., b][strong[..., b]]).mean() if strong[..., b].any() else 0.1
         for b in range(estimate.shape[-1])]
    )  # fmt: skip
    frequency = np.array([0.15, 0.7, 0.15])
    shape = estimate.shape[:-1]
    model = Connections(
        np.empty((*shape, CLASSES)), np.broadcast_to(frequency, (*shape[1:], CLASSES)), frequency,
        size, np.maximum(0.25 * size**2, LEAST_VARIANCE), np.full(shape[1:], np.nan),
    )  # fmt: skip
    for _ in range(iterations):
        density = _class_densities(estimate, error, model.strength, model.spread)
        found, excitatory = _responsibilities(density, model, rules)
        frequency = np.maximum(found.mean(axis=(0, 1, 2)), 1e-6)
        frequency = frequency / frequency.sum()
        model = Connections(
            found, _overall(found, frequency, excitatory, rules), frequency,
            *_moments(estimate, error, found, model), excitatory,
        )  # fmt: skip
    return model if _is_supported(estimate, error, model) else _nothing_connected(model)


def _largest_probability(alpha: Floats) -> Floats:
    """Return the probability that each share of a Dirichlet(alpha) draw is the largest.

    Shares are ratios of Gamma variables; the integral over the logarithm of the largest one is a
    sum over a grid, which is exact to about eight digits.
    """
    total = float(alpha.sum(axis=-1).max())
    grid = np.linspace(-30.0, np.log(total + 10.0 * np.sqrt(total) + 20.0), 256)
    value = np.exp(grid)
    below = gammainc(alpha[..., None], value)
    log = alpha[..., None] * grid - value - gammaln(alpha)[..., None]
    columns = [
        (np.exp(log[..., c, :]) * np.delete(below, c, axis=-2).prod(axis=-2)).sum(axis=-1)
        for c in range(alpha.shape[-1])
    ]
    result = np.stack(columns, axis=-1)
    return np.asarray(result / result.sum(axis=-1, keepdims=True))


def _most_supported(counts: Floats, prior: Floats) -> Ints:
    """Return the class whose being the most frequent one the counts support most."""
    prior = np.maximum(prior, 1e-3)
    base = _largest_probability(prior)
    best = [(_largest_probability(row + prior) / base).argmax(axis=-1) for row in counts]
    return np.array(best, dtype=np.int64)


def global_classes(model: Connections, rules: ConnectionRules | None = None) -> Ints:
    """Return the class of every pair in the network that all states share.

    Parameters
    ----------
    model : Connections
    rules : ConnectionRules, optional
        As in `infer_connections`.

    Returns
    -------
    ndarray of int, shape (n_units, n_senders)
        -1, 0 or 1.

    Notes
    -----
    A pair's shares of the classes have a Dirichlet posterior; ``p(class is the largest share)``
    is compared with what it was before any state was seen, and the class that gains most is
    called. Rare classes are so found as surely as frequent ones. The arg max of A0 instead calls
    nearly every pair absent that is connected in less than half of its states: with few states
    it misses many rare classes even where the class of every state is known.
    """
    rules = ConnectionRules() if rules is None else rules
    if model.frequency[1] == 1.0:
        return np.zeros(model.overall.shape[:2], dtype=np.int64)
    counts = model.probability.sum(axis=0)
    prior = rules.concentration * model.frequency
    signed = _most_supported(counts, prior) - 1
    present = np.stack([counts[..., 1], counts[..., 0] + counts[..., 2]], axis=-1)
    pair = _most_supported(present, np.array([prior[1], prior[0] + prior[2]]))
    toward = counts[..., 2] - counts[..., 0]
    if rules.dale:
        toward = model.excitatory - 0.5
    split = pair * np.where(toward > 0, 1, -1)
    return np.where(np.isnan(model.excitatory), signed, split)


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
