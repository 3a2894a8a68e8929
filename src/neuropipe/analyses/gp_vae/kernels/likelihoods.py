"""Expected log-likelihoods under a normal linear predictor, with the derivatives that fits need.

Every function gets the data, mean and variance of the linear predictor and the parameters of the
noise. Poisson and normal expectations are closed forms, the others Gauss-Hermite sums of 20 nodes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

__all__ = ["ETA_CAP", "LIKELIHOODS", "Expectation", "Likelihood", "Noise", "normal_nodes"]

Float = NDArray[np.float64]
ETA_CAP = 20.0
STUDENT_DOF = 4.0
NODES = 20


class Expectation(NamedTuple):
    """Expected log-likelihood and derivatives, each of the shape of the data.

    Attributes
    ----------
    value : ndarray
        ``E[log p(y | eta)]``.
    slope : ndarray
        ``E[d log p / d eta]``.
    weight : ndarray
        ``-E[d2 log p / d eta2]``, or a positive bound of it.
    """

    value: Float
    slope: Float
    weight: Float


class Noise(NamedTuple):
    """Parameters of the observation besides the linear predictor.

    Attributes
    ----------
    scale : ndarray (N,)
        Variance (gaussian), squared scale (student_t) or dispersion (negbin) of each unit.
    bin_width : float
        Seconds; the mean count is ``bin_width exp(eta)``.
    """

    scale: Float
    bin_width: float = 1.0


def normal_nodes(count: int = NODES) -> tuple[Float, Float]:
    """Return nodes and weights of the expectation under a standard normal."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(count)
    return nodes, weights / weights.sum()


def _poisson(y: Float, mean: Float, var: Float, noise: Noise) -> Expectation:
    rate = noise.bin_width * np.exp(np.minimum(mean + 0.5 * var, ETA_CAP))
    value = y * (mean + np.log(noise.bin_width)) - rate
    return Expectation(value, y - rate, rate)


def _gaussian(y: Float, mean: Float, var: Float, noise: Noise) -> Expectation:
    error = y - mean
    value = -0.5 * ((error**2 + var) / noise.scale + np.log(2 * np.pi * noise.scale))
    return Expectation(value, error / noise.scale, np.broadcast_to(1 / noise.scale, error.shape))


Point = Callable[[Float, Float, Noise], Expectation]


def _quadrature(point: Point) -> Callable[[Float, Float, Float, Noise], Expectation]:
    """Return the expectation of a pointwise log-likelihood over the normal predictor."""
    nodes, weights = normal_nodes()

    def expected(y: Float, mean: Float, var: Float, noise: Noise) -> Expectation:
        if not np.any(var):
            return point(y, mean, noise)
        sd = np.sqrt(var)
        sums = [np.zeros(np.shape(mean)) for _ in range(3)]
        for node, weight in zip(nodes, weights, strict=True):
            for total, part in zip(sums, point(y, mean + node * sd, noise), strict=True):
                total += weight * part
        return Expectation(*sums)

    return expected


def _negbin_point(y: Float, eta: Float, noise: Noise) -> Expectation:
    mean = noise.bin_width * np.exp(np.minimum(eta, ETA_CAP))
    size = noise.scale
    value = (
        gammaln(y + size)
        - gammaln(size)
        - gammaln(y + 1)
        + size * np.log(size)
        + y * np.log(mean)
        - (y + size) * np.log(size + mean)
    )
    share = mean / (size + mean)
    return Expectation(value, y - (y + size) * share, (y + size) * share * (1 - share))


def _bernoulli_point(y: Float, eta: Float, noise: Noise) -> Expectation:
    chance = 1 / (1 + np.exp(-eta))
    return Expectation(y * eta - np.logaddexp(0, eta), y - chance, chance * (1 - chance))


def _student_point(y: Float, eta: Float, noise: Noise) -> Expectation:
    # The weight is that of the scale mixture of normals: positive, so that Newton steps ascend.
    half = (STUDENT_DOF + 1) / 2
    spread = STUDENT_DOF * noise.scale
    error = y - eta
    weight = 2 * half / (spread + error**2)
    constant = gammaln(half) - gammaln(STUDENT_DOF / 2) - 0.5 * np.log(np.pi * spread)
    return Expectation(constant - half * np.log1p(error**2 / spread), weight * error, weight)


def _poisson_constant(y: Float) -> Float:
    return -gammaln(y + 1)


def _no_constant(y: Float) -> Float:
    return np.zeros_like(y)


def _count_mean(mean: Float, var: Float) -> Float:
    return np.exp(np.minimum(mean + 0.5 * var, ETA_CAP))


def _identity_mean(mean: Float, var: Float) -> Float:
    return mean


def _logistic_mean(mean: Float, var: Float) -> Float:
    nodes, weights = normal_nodes()
    sd = np.sqrt(var)
    terms = (w / (1 + np.exp(-(mean + n * sd))) for n, w in zip(nodes, weights, strict=True))
    return sum(terms, np.zeros_like(mean))


@dataclass(frozen=True)
class Likelihood:
    """One observation model.

    Attributes
    ----------
    expect : callable
        ``(y, mean, var, noise) -> Expectation`` without terms of the data alone.
    constant : callable
        ``y -> ndarray``, the terms of the data alone.
    predict : callable
        ``(mean, var) -> ndarray``, the expected observation (counts: per second).
    counts : bool
        The data are counts >= 0.
    has_scale : bool
        `Noise.scale` is learned.
    exponential : bool
        All derivatives of the expectation by the predictor equal the first (Poisson), so that
        Newton's method for loadings is exact.
    """

    expect: Callable[[Float, Float, Float, Noise], Expectation]
    constant: Callable[[Float], Float] = _no_constant
    predict: Callable[[Float, Float], Float] = _identity_mean
    counts: bool = False
    has_scale: bool = False
    exponential: bool = False


LIKELIHOODS: dict[str, Likelihood] = {
    "poisson": Likelihood(_poisson, _poisson_constant, _count_mean, counts=True, exponential=True),
    "negbin": Likelihood(
        _quadrature(_negbin_point), predict=_count_mean, counts=True, has_scale=True
    ),
    "gaussian": Likelihood(_gaussian, has_scale=True),
    "bernoulli": Likelihood(_quadrature(_bernoulli_point), predict=_logistic_mean),
    "student_t": Likelihood(_quadrature(_student_point), has_scale=True),
}
