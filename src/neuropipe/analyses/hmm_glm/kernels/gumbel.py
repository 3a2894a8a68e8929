"""One-hot connections as first published: relaxed classes, and stochastic gradients in the M-step.

A weight is ``(a_exc - a_inh) w`` with a strength ``w > 0`` and a point ``a`` of the simplex of
three classes whose prior is the Concrete density [1]_ around the ``a0`` of its pair.

References
----------
.. [1] Maddison, Mnih, Teh (2017), The Concrete distribution. ICLR.
.. [2] Li, Kim, Rodgers, Choi, Wu (2024), One-hot generalized linear model for switching brain state
   discovery. ICLR.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import softplus

from neuropipe.analyses.hmm_glm.kernels.chain import update_chain
from neuropipe.analyses.hmm_glm.kernels.connections import CLASSES, Connections
from neuropipe.analyses.hmm_glm.kernels.em import Fit, Parameters, chain_density, posterior_of
from neuropipe.analyses.hmm_glm.kernels.families import (
    BERNOULLI,
    EXP_CODES,
    EXP_LIMIT,
    GAUSSIAN,
    NEGBIN_CODES,
    POISSON_SIGMOID,
)
from neuropipe.analyses.hmm_glm.kernels.glm import Observations
from neuropipe.analyses.hmm_glm.kernels.maximise import Rules, step_dispersion

__all__ = ["concrete_log_density", "connect_relaxed"]

Floats = NDArray[np.float64]
Tensor: TypeAlias = torch.Tensor

TEMPERATURE = 0.2
LEAST_SHARE = 1e-3  # of a class: at the corners of the simplex the density is infinite
LOG_STRENGTH = (-5.0, 2.0)  # mean and standard deviation of log w
BIAS_SPREAD = 2.0
LEAST_STRENGTH = 0.02
ROUNDS, STEPS, BATCH = 15, 80, 2048
RATE, RATE_DECAY = 0.05, 0.8
SETTLED = 1e-4  # relative change of the objective over the last round


def concrete_log_density(share: Tensor, log_base: Tensor, temperature: float) -> Tensor:
    """Return the log of the Concrete density.

    Parameters
    ----------
    share : Tensor, shape (..., n_classes)
        Points inside the simplex.
    log_base : Tensor, shape (..., n_classes)
        Logarithms of the probabilities of the classes.
    temperature : float
        The smaller, the more of the mass lies at the corners.

    Returns
    -------
    Tensor, shape (...)
    """
    n_classes, log = share.shape[-1], share.log()
    mixed = torch.logsumexp(log_base - temperature * log, dim=-1)
    each = (log_base - (temperature + 1.0) * log).sum(dim=-1)
    constant = math.lgamma(n_classes) + (n_classes - 1) * math.log(temperature)
    return constant - n_classes * mixed + each


def _log_probability(code: int, eta: Tensor, observed: Tensor, dispersion: Tensor) -> Tensor:
    """Return the log probability of every value, but for what no weight changes."""
    if code == GAUSSIAN:
        return -0.5 * (observed - eta) ** 2 / dispersion
    if code == BERNOULLI:
        return observed * eta - softplus(eta)
    if code in EXP_CODES:
        log_rate = eta.clamp(max=EXP_LIMIT)
    elif code == POISSON_SIGMOID:
        log_rate = -softplus(-eta)
    else:
        log_rate = softplus(eta).clamp(min=1e-30).log()
    if code in NEGBIN_CODES:
        both = torch.logaddexp(log_rate, dispersion.log())
        return observed * log_rate - (observed + dispersion) * both
    return observed * log_rate - log_rate.exp()


@dataclass(frozen=True)
class _Relaxed:
    """What is learned by gradients: all but bias and covariates in the form of the classes."""

    bias: Tensor  # (n_states or 1, n_units)
    covariate: Tensor  # (n_states, n_units, n_regressors)
    logits: Tensor  # (n_states, n_units, n_senders, 3)
    strength: Tensor  # (n_states, n_units, n_senders, n_basis), before the softplus
    base: Tensor  # (n_units, n_senders, 3)

    def leaves(self) -> list[Tensor]:
        return [self.bias, self.covariate, self.logits, self.strength, self.base]

    def shares(self) -> Tensor:
        soft = torch.softmax(self.logits, dim=-1)
        return LEAST_SHARE + (1.0 - CLASSES * LEAST_SHARE) * soft

    def weights(self) -> Tensor:
        """Return bias, weights and covariates, shape (n_states, n_units, n_features)."""
        share = self.shares()
        signed = (share[..., 2:] - share[..., :1]) * softplus(self.strength)
        n_states, n_units = signed.shape[:2]
        bias = self.bias.expand(n_states, n_units)[..., None]
        return torch.cat([bias, signed.reshape(n_states, n_units, -1), self.covariate], dim=-1)

    def log_prior(self, ridge: Floats) -> Tensor:
        concrete = concrete_log_density(
            self.shares(), torch.log_softmax(self.base, dim=-1), TEMPERATURE
        ).sum()
        log_strength = softplus(self.strength).clamp(min=1e-30).log()
        middle, spread = LOG_STRENGTH
        strength = -0.5 * (((log_strength - middle) / spread) ** 2).sum()
        bias = -0.5 * (self.bias**2).sum() / BIAS_SPREAD**2
        return concrete + strength + bias - 0.5 * ridge[-1] * (self.covariate**2).sum()


def _begin(theta: Floats, shared: NDArray[np.bool_], n_basis: int, *, one_bias: bool) -> _Relaxed:
    """Return classes that lean to the sign of each weight as far as it exceeds the typical one."""
    n_states, n_units = theta.shape[:2]
    weight = theta[:, :, shared].reshape(n_states, n_units, -1, n_basis)
    lean = weight.sum(axis=-1) / max(float(np.abs(weight.sum(axis=-1)).mean()), 1e-12)
    logits = np.stack([-lean, np.zeros_like(lean), lean], axis=-1)
    strength = np.maximum(np.abs(weight), LEAST_STRENGTH)
    bias = theta[:1, :, 0] if one_bias else theta[:, :, 0]
    values = (
        bias, theta[:, :, 1 + int(shared.sum()) :], logits, np.log(np.expm1(strength)),
        logits.mean(axis=0),
    )  # fmt: skip
    return _Relaxed(*(torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in values))


def _climb(
    data: Observations, probability: Floats, relaxed: _Relaxed, dispersion: Floats,
    ridge: Floats, *, rate: float, rng: np.random.Generator,
) -> None:  # fmt: skip
    """Take stochastic gradient steps on the expected objective."""
    rows = np.flatnonzero(data.valid)
    optimiser = torch.optim.Adam(relaxed.leaves(), lr=rate)
    noise = torch.tensor(dispersion)[:, None]
    size = min(BATCH, rows.size)
    for _ in range(STEPS):
        chosen = rng.choice(rows, size, replace=False)
        design, observed, weight = (
            torch.tensor(values[chosen]) for values in (data.design, data.observed, probability)
        )
        eta = torch.einsum("tp,snp->stn", design, relaxed.weights())
        terms = _log_probability(data.code, eta, observed, noise).sum(dim=-1)
        expected = (terms * weight.T).sum() * (rows.size / size)
        loss = -(expected + relaxed.log_prior(ridge)) / rows.size
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _connections(relaxed: _Relaxed) -> Connections:
    with torch.no_grad():
        share = relaxed.shares().numpy()
        overall = torch.softmax(relaxed.base, dim=-1).numpy()
        strength = softplus(relaxed.strength).numpy()
    present = 1.0 - share[..., 1, None]
    mass = np.maximum(present.sum(axis=(0, 1, 2)), 1e-12)
    middle = (present * strength).sum(axis=(0, 1, 2)) / mass
    spread = (present * (strength - middle) ** 2).sum(axis=(0, 1, 2)) / mass
    nothing = np.full(overall.shape[:2], np.nan)
    return Connections(share, overall, share.mean(axis=(0, 1, 2)), middle, spread, nothing)


def connect_relaxed(
    data: Observations,
    fit: Fit,
    rules: Rules,
    *,
    ridge: Floats,
    shared: NDArray[np.bool_],
    n_basis: int,
    rng: np.random.Generator,
) -> tuple[Fit, Connections]:
    """Learn weights in the form of relaxed classes, from a fit under any other prior.

    Parameters
    ----------
    data : Observations
    fit : Fit
        Converged; its states and weights are the start.
    rules : Rules
    ridge : ndarray, shape (n_features,)
        Precision of the regressors.
    shared : ndarray of bool, shape (n_features,)
        The history features.
    n_basis : int
        Basis functions per sender.
    rng : numpy.random.Generator
        Draws the bins of each gradient step.

    Returns
    -------
    Fit
        Its trace covers the rounds of this function; it need not rise, as gradients are drawn.
    Connections
        The relaxed classes themselves.
    """
    relaxed = _begin(fit.parameters.theta, shared, n_basis, one_bias=rules.shared_bias)
    parameters, posterior, trace = fit.parameters, fit.posterior, list[float]()
    frozen = parameters.theta[:, rules.silent].copy()
    with _one_thread():
        for index in range(ROUNDS):
            rate = RATE * RATE_DECAY**index
            _climb(
                data, posterior.probability, relaxed, parameters.dispersion, ridge,
                rate=rate, rng=rng,
            )  # fmt: skip
            theta = relaxed.weights().detach().numpy()
            theta[:, rules.silent], theta[:, :, rules.unused] = frozen, 0.0
            theta = np.ascontiguousarray(theta)
            noise = step_dispersion(
                data, posterior.probability, theta, parameters.dispersion, rules
            )
            chain = update_chain(posterior, data.offsets, alpha=rules.alpha, kappa=rules.kappa)
            parameters = Parameters(theta, noise, *chain)
            posterior = posterior_of(data, parameters)
            value = float(posterior.log_likelihood.sum()) + chain_density(parameters, rules)
            trace.append(value + float(relaxed.log_prior(ridge).detach()))
    settled = abs(trace[-1] - trace[-2]) < SETTLED * abs(trace[-1])
    found = replace(
        fit, parameters=parameters, posterior=posterior, trace=tuple(trace), converged=settled
    )
    return found, _connections(relaxed)
