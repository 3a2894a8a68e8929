"""Expectation maximisation of the HMM-GLM: one start until the objective stands still."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.hmm_glm.kernels.chain import (
    Posterior,
    forward_backward,
    forward_filter,
    update_chain,
)
from neuropipe.analyses.hmm_glm.kernels.connections import (
    ConnectionRules,
    Connections,
    connection_prior,
    infer_connections,
)
from neuropipe.analyses.hmm_glm.kernels.glm import (
    Observations,
    emissions,
    penalised_derivatives,
)
from neuropipe.analyses.hmm_glm.kernels.maximise import Prior, Rules, step_dispersion, step_weights
from neuropipe.analyses.hmm_glm.kernels.multivariate import log_prior
from neuropipe.analyses.hmm_glm.kernels.quasi_newton import newton_or_quasi

__all__ = [
    "SILENT_BIAS",
    "Fit",
    "Information",
    "Parameters",
    "chain_density",
    "connect",
    "information_inverse",
    "posterior_of",
    "run",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SILENT_BIAS = -12.0
WORST_SHARE = 0.02  # of the bins, from which an empty state is seeded
SEED_RIDGE = 20.0  # holds the first weights of a seeded state near those of the largest state


@dataclass(frozen=True)
class Parameters:
    """Everything that is estimated.

    Attributes
    ----------
    theta : ndarray, shape (n_states, n_units, n_features)
        Bias, weights, regressors.
    dispersion : ndarray, shape (n_states, n_units) or (n_states, n_units, n_units)
        Variance or covariance of the Gaussian family, size of the negative binomial, else 1.
    transition : ndarray, shape (n_states, n_states)
    initial : ndarray, shape (n_states,)
    """

    theta: Floats
    dispersion: Floats
    transition: Floats
    initial: Floats


@dataclass(frozen=True)
class Fit:
    """A start after some iterations.

    Attributes
    ----------
    parameters : Parameters
    prior : Prior
        As learned last.
    posterior : Posterior
        Under ``parameters``.
    trace : tuple of float
        Objective (log likelihood plus log prior) of every iteration.
    converged : bool
    reseeded : int
        States that lost all bins and were seeded anew; the objective may fall at that iteration.
    """

    parameters: Parameters
    prior: Prior
    posterior: Posterior
    trace: tuple[float, ...]
    converged: bool
    reseeded: int = 0

    @property
    def log_likelihood(self) -> float:
        """Log likelihood of all trials."""
        return float(self.posterior.log_likelihood.sum())


def chain_density(parameters: Parameters, rules: Rules) -> float:
    """Return the log prior density of the chain, and of covariances, but for a constant."""
    log = np.log(parameters.transition)
    density = (rules.alpha - 1.0) * log.sum() + rules.kappa * np.trace(log)
    if rules.scale is not None:
        density += sum(log_prior(matrix, rules.scale) for matrix in parameters.dispersion)
    return float(density + np.log(parameters.initial).sum())


def _maximise(
    data: Observations, start: Parameters, posterior: Posterior, prior: Prior, rules: Rules
) -> Parameters:
    probability = posterior.probability
    theta = step_weights(data, probability, start.theta, start.dispersion, prior, rules)
    dispersion = step_dispersion(data, probability, theta, start.dispersion, rules)
    chain = update_chain(posterior, data.offsets, alpha=rules.alpha, kappa=rules.kappa)
    return Parameters(theta, dispersion, *chain)


def posterior_of(data: Observations, parameters: Parameters) -> Posterior:
    """Return the posterior of the states under parameters."""
    log_emission = emissions(data, parameters.theta, parameters.dispersion)
    return forward_backward(log_emission, parameters.transition, parameters.initial, data.offsets)


def _worst_bins(data: Observations, parameters: Parameters) -> NDArray[np.bool_]:
    """Return the bins that their past predicted worst."""
    log_emission = emissions(data, parameters.theta, parameters.dispersion)
    chain = parameters.transition, parameters.initial, data.offsets
    _, predicted, _ = forward_filter(log_emission, *chain)
    top = log_emission.max(axis=1)
    likelihood = top + np.log((predicted * np.exp(log_emission - top[:, None])).sum(axis=1))
    limit = np.quantile(likelihood[data.valid], WORST_SHARE)
    return np.asarray(data.valid & (likelihood <= limit))


def _reseed(
    data: Observations, parameters: Parameters, posterior: Posterior, empty: Ints, rules: Rules
) -> Parameters:
    """Give empty states the worst predicted bins, in equal numbers, and a way in and out."""
    mass = posterior.probability[data.valid].sum(axis=0)
    largest = int(mass.argmax())
    theta, dispersion = parameters.theta.copy(), parameters.dispersion.copy()
    n_states, base = len(theta), theta[largest]
    noise = dispersion[largest] if dispersion.ndim == 2 else np.diagonal(dispersion[largest])
    shares = np.array_split(np.flatnonzero(_worst_bins(data, parameters)), len(empty))
    for s, rows in zip(empty, shares, strict=True):
        weight = np.zeros(len(data.observed))
        weight[rows] = 1.0
        stepped = newton_or_quasi(
            data, weight, base, np.ascontiguousarray(noise),
            precision=np.full(base.shape, SEED_RIDGE), centre=base,
        )  # fmt: skip
        theta[s], dispersion[s] = base, dispersion[largest]
        theta[s, ~rules.silent] = stepped[~rules.silent]
    if rules.shared_bias:
        theta[:, :, 0] = base[:, 0]
    stay = (1.0 - WORST_SHARE) * parameters.transition
    transition = stay + WORST_SHARE / n_states
    transition[empty] = WORST_SHARE / n_states + (1.0 - WORST_SHARE) * np.eye(n_states)[empty]
    return Parameters(theta, dispersion, transition, np.full(n_states, 1.0 / n_states))


def run(data: Observations, start: Parameters, prior: Prior, rules: Rules, *, max_iter: int) -> Fit:
    """Iterate until the objective stands still.

    Parameters
    ----------
    data : Observations
    start : Parameters
        Where to begin; states must differ.
    prior : Prior
        Learned along the way.
    rules : Rules
        A state below ``least_mass`` is seeded once from the bins that are predicted worst.
    max_iter : int
        M-steps at most; 0 only evaluates the start.

    Returns
    -------
    Fit
        The posterior belongs to the parameters returned.
    """
    parameters, trace, converged = start, list[float](), False
    reseeded, settled = 0, 0
    while True:
        posterior = posterior_of(data, parameters)
        value = float(posterior.log_likelihood.sum()) + chain_density(parameters, rules)
        trace.append(value + prior.log_density(parameters.theta))
        if len(trace) > settled + 1 and trace[-1] - trace[-2] < rules.tol * abs(trace[-1]):
            converged = True
        if converged or len(trace) > max_iter:
            return Fit(parameters, prior, posterior, tuple(trace), converged, reseeded)
        mass = posterior.probability[data.valid].sum(axis=0)
        empty = np.flatnonzero(mass < rules.least_mass)
        if empty.size and not reseeded:
            parameters = _reseed(data, parameters, posterior, empty, rules)
            reseeded, settled = int(empty.size), len(trace)
            continue
        parameters = _maximise(data, parameters, posterior, prior, rules)
        prior = prior.updated(parameters.theta)


@dataclass(frozen=True)
class Information:
    """Estimates without a prior, one step beyond the fit, and how sure they are.

    Attributes
    ----------
    estimate, variance : ndarray, shape (n_states, n_units, n_features)
        The variance is the diagonal of the inverse Fisher matrix.
    condition : ndarray, shape (n_states, n_units)
        Condition number of the Fisher matrix before the ridge is added.
    """

    estimate: Floats
    variance: Floats
    condition: Floats


def _marginal(dispersion: Floats) -> Floats:
    """Return the noise variance of every unit by itself."""
    if dispersion.ndim == 2:
        return dispersion
    return np.ascontiguousarray(np.diagonal(dispersion, axis1=1, axis2=2))


def _condition(information: Floats, used: NDArray[np.bool_]) -> Floats:
    """Return the condition number of every unit, features scaled to one size."""
    matrix = information[:, used][:, :, used]
    scale = np.sqrt(np.maximum(np.diagonal(matrix, axis1=1, axis2=2), 1e-300))
    values = np.linalg.eigvalsh(matrix / scale[:, :, None] / scale[:, None, :])
    return np.asarray(values[:, -1] / np.maximum(values[:, 0], 1e-300))


def information_inverse(
    data: Observations, fit: Fit, rules: Rules, *, ridge: Floats
) -> Information:
    """Return estimates one step beyond the fit without its prior, and their variance.

    Parameters
    ----------
    data : Observations
    fit : Fit
    rules : Rules
    ridge : ndarray, shape (n_features,)
        Weak precision around 0 that keeps every matrix regular.

    Notes
    -----
    With correlated Gaussian noise the estimate of a unit without a prior does not depend on the
    noise of the others, all units having the same features.
    """
    theta, noise = fit.parameters.theta, _marginal(fit.parameters.dispersion)
    estimate, variance = np.empty_like(theta), np.empty_like(theta)
    condition = np.empty(theta.shape[:2])
    precision = np.broadcast_to(ridge, theta.shape[1:])
    for s in range(theta.shape[0]):
        weight = np.ascontiguousarray(fit.posterior.probability[:, s])
        _, gradient, information = penalised_derivatives(
            data, weight, theta[s], noise[s],
            precision=precision, centre=np.zeros_like(theta[s]), least_weight=rules.least_weight,
        )  # fmt: skip
        condition[s] = _condition(information - np.diag(ridge), ~rules.unused)
        inverse = np.linalg.inv(information)
        estimate[s] = theta[s] + (inverse @ gradient[:, :, None])[:, :, 0]
        variance[s] = np.diagonal(inverse, axis1=1, axis2=2)
    return Information(estimate, variance, condition)


def connect(
    data: Observations,
    fit: Fit,
    rules: Rules,
    *,
    ridge: Floats,
    shared: NDArray[np.bool_],
    n_basis: int,
    classes: ConnectionRules | None = None,
    rounds: int = 3,
    max_iter: int = 2,
) -> tuple[Fit, Connections]:
    """Alternate between the classes of the connections and the weights given the classes.

    Parameters
    ----------
    data : Observations
    fit : Fit
        Converged, under any prior.
    rules : Rules
    ridge : ndarray, shape (n_features,)
    shared : ndarray of bool, shape (n_features,)
        The history features.
    n_basis : int
        Basis functions per sender.
    classes : ConnectionRules, optional
        Which connections exclude each other.
    rounds, max_iter : int
        Rounds, and iterations in each.

    Returns
    -------
    Fit
        Of the last round; its trace covers that round, since every round has its own objective.
    Connections
    """
    classes = ConnectionRules() if classes is None else classes
    calm = replace(rules, least_mass=0.0)
    shape = (*fit.parameters.theta.shape[:2], -1, n_basis)
    for _ in range(rounds):
        found = information_inverse(data, fit, rules, ridge=ridge)
        estimate = found.estimate[:, :, shared].reshape(shape)
        error = found.variance[:, :, shared].reshape(shape)
        model = infer_connections(estimate, error, classes)
        prior = connection_prior(model, estimate, error, ridge=ridge, shared=shared)
        fit = replace(
            run(data, fit.parameters, prior, calm, max_iter=max_iter), reseeded=fit.reseeded
        )
    return fit, model
