"""Expectation maximisation of the HMM-GLM: one start until the objective stands still."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.hmm_glm.kernels.chain import Posterior, forward_backward, update_chain
from neuropipe.analyses.hmm_glm.kernels.glm import (
    Observations,
    emissions,
    newton_step,
    penalised_derivatives,
    unit_variance,
)
from neuropipe.analyses.hmm_glm.kernels.priors import (
    Connections,
    FixedPrior,
    connection_prior,
    infer_connections,
)

__all__ = ["Fit", "Parameters", "Prior", "Rules", "connect", "information_inverse", "run"]

Floats = NDArray[np.float64]

SILENT_BIAS = -12.0


class Prior(Protocol):
    """What `run` needs of a prior."""

    @property
    def precision(self) -> Floats:
        """Precision of every parameter."""

    @property
    def centre(self) -> Floats:
        """Centre of every parameter."""

    def log_density(self, theta: Floats) -> float:
        """Return the log density of the weights."""

    def updated(self, theta: Floats) -> Prior:
        """Return the prior learned from the present weights."""


@dataclass(frozen=True)
class Parameters:
    """Everything that is estimated.

    Attributes
    ----------
    theta : ndarray, shape (n_states, n_units, n_features)
        Bias, weights, regressors.
    variance : ndarray, shape (n_states, n_units)
        Of the Gaussian family, else 1.
    transition : ndarray, shape (n_states, n_states)
    initial : ndarray, shape (n_states,)
    """

    theta: Floats
    variance: Floats
    transition: Floats
    initial: Floats


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
    """

    alpha: float
    kappa: float
    least_weight: float
    tol: float
    silent: NDArray[np.bool_]
    variance_floor: Floats
    unused: NDArray[np.bool_]


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
    """

    parameters: Parameters
    prior: Prior
    posterior: Posterior
    trace: tuple[float, ...]
    converged: bool

    @property
    def log_likelihood(self) -> float:
        """Log likelihood of all trials."""
        return float(self.posterior.log_likelihood.sum())


def _chain_density(parameters: Parameters, rules: Rules) -> float:
    log = np.log(parameters.transition)
    density = (rules.alpha - 1.0) * log.sum() + rules.kappa * np.trace(log)
    return float(density + np.log(parameters.initial).sum())


def _maximise(
    data: Observations, start: Parameters, posterior: Posterior, prior: Prior, rules: Rules
) -> Parameters:
    theta, variance = start.theta.copy(), start.variance.copy()
    precision, centre = prior.precision, prior.centre
    for s in range(theta.shape[0]):
        weight = np.ascontiguousarray(posterior.probability[:, s])
        if not (data.valid & (weight > rules.least_weight)).any():
            continue
        stepped = newton_step(
            data, weight, theta[s], variance[s],
            precision=precision[s], centre=centre[s], least_weight=rules.least_weight,
        )  # fmt: skip
        stepped[:, rules.unused] = 0.0
        theta[s, ~rules.silent] = stepped[~rules.silent]
        variance[s] = unit_variance(data, weight, theta[s], floor=rules.variance_floor)
    chain = update_chain(posterior, data.offsets, alpha=rules.alpha, kappa=rules.kappa)
    return Parameters(theta, variance, *chain)


def _expect(data: Observations, parameters: Parameters) -> Posterior:
    log_emission = emissions(data, parameters.theta, parameters.variance)
    return forward_backward(log_emission, parameters.transition, parameters.initial, data.offsets)


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
    max_iter : int
        M-steps at most; 0 only evaluates the start.

    Returns
    -------
    Fit
        The posterior belongs to the parameters returned.
    """
    parameters, trace, converged = start, list[float](), False
    while True:
        posterior = _expect(data, parameters)
        trace.append(
            float(posterior.log_likelihood.sum())
            + prior.log_density(parameters.theta)
            + _chain_density(parameters, rules)
        )
        if len(trace) > 1 and trace[-1] - trace[-2] < rules.tol * abs(trace[-1]):
            converged = True
        if converged or len(trace) > max_iter:
            return Fit(parameters, prior, posterior, tuple(trace), converged)
        parameters = _maximise(data, parameters, posterior, prior, rules)
        prior = prior.updated(parameters.theta)


def information_inverse(
    data: Observations, fit: Fit, rules: Rules, *, ridge: Floats
) -> tuple[Floats, Floats]:
    """Return estimates one step beyond the fit without its prior, and their variance.

    Parameters
    ----------
    data : Observations
    fit : Fit
    rules : Rules
    ridge : ndarray, shape (n_features,)
        Weak precision around 0 that keeps every matrix regular.

    Returns
    -------
    estimate, variance : ndarray, shape (n_states, n_units, n_features)
        The variance is the diagonal of the inverse Fisher matrix.
    """
    theta = fit.parameters.theta
    estimate, variance = np.empty_like(theta), np.empty_like(theta)
    precision = np.broadcast_to(ridge, theta.shape[1:])
    for s in range(theta.shape[0]):
        weight = np.ascontiguousarray(fit.posterior.probability[:, s])
        _, gradient, information = penalised_derivatives(
            data, weight, theta[s], fit.parameters.variance[s],
            precision=precision, centre=np.zeros_like(theta[s]), least_weight=rules.least_weight,
        )  # fmt: skip
        inverse = np.linalg.inv(information)
        estimate[s] = theta[s] + (inverse @ gradient[:, :, None])[:, :, 0]
        variance[s] = np.diagonal(inverse, axis1=1, axis2=2)
    return estimate, variance


def connect(
    data: Observations,
    fit: Fit,
    rules: Rules,
    *,
    ridge: Floats,
    shared: NDArray[np.bool_],
    n_basis: int,
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
    rounds, max_iter : int
        Rounds, and iterations in each.

    Returns
    -------
    Fit
        Of the last round; its trace covers that round, since every round has its own objective.
    Connections
    """
    shape = (*fit.parameters.theta.shape[:2], -1, n_basis)
    for _ in range(rounds):
        estimate, variance = information_inverse(data, fit, rules, ridge=ridge)
        weights = [v[:, :, shared].reshape(shape) for v in (estimate, variance)]
        model = infer_connections(weights[0], weights[1])
        prior: FixedPrior = connection_prior(model, *weights, ridge=ridge, shared=shared)
        fit = run(data, fit.parameters, prior, rules, max_iter=max_iter)
    return fit, model
