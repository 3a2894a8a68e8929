"""The joint density of the model, and draws from its prior: what every check refers to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln, gammaln

from neuropipe.analyses.bicluster.chain_state import ChainState, Priors, Problem, Scheme
from neuropipe.analyses.bicluster.kernels.dynamics import draw_path, draw_prior_dynamics
from neuropipe.analyses.bicluster.kernels.evidence import (
    log_sequence_evidence,
    log_trajectory_evidence,
)
from neuropipe.analyses.bicluster.kernels.likelihood import CLIP, log_likelihood_bins
from neuropipe.analyses.bicluster.kernels.partition import log_partition_prior, sample_partition
from neuropipe.analyses.bicluster.kernels.states import report_first_bins
from neuropipe.analyses.bicluster.kernels.transitions import draw_dirichlet
from neuropipe.analyses.bicluster.sweep import predictor

__all__ = ["log_joint", "log_likelihood", "sample_counts", "sample_prior"]

Floats = NDArray[np.float64]
TINY = 1e-300


def log_likelihood(problem: Problem, state: ChainState, scheme: Scheme) -> float:
    """Return the log probability of the observed counts."""
    eta = predictor(problem, state)
    return float(log_likelihood_bins(problem.counts, eta, state.dispersion, scheme.poisson).sum())


def _log_dirichlet(weights: Floats, concentration: Floats) -> float:
    kept = concentration > 0.0
    a, w = concentration[kept], np.maximum(weights[kept], TINY)
    return float(gammaln(a.sum()) - gammaln(a).sum() + ((a - 1.0) * np.log(w)).sum())


def _log_strength(alpha: float, gamma: float, kappa: float, priors: Priors) -> float:
    """Return the log prior of alpha + kappa, kappa's share of it, and gamma, if they have one."""
    if priors.hyper is None:
        return 0.0
    a, h, a_shared, h_shared, stays, leaves = priors.hyper
    total = alpha + kappa
    value = a * np.log(h) - gammaln(a) + (a - 1.0) * np.log(total) - h * total
    value += a_shared * np.log(h_shared) - gammaln(a_shared)
    value += (a_shared - 1.0) * np.log(gamma) - h_shared * gamma
    value += (stays - 1.0) * np.log(kappa / total) + (leaves - 1.0) * np.log(alpha / total)
    return float(value - betaln(stays, leaves))


def log_joint(problem: Problem, state: ChainState, priors: Priors, scheme: Scheme) -> float:
    """Return the log density of parameters and counts.

    Dynamics and transition probabilities are integrated out: those of states with few bins or
    none add the noise of their prior, orders of magnitude larger than what is to be watched.

    Parameters
    ----------
    problem : Problem
        Data.
    state : ChainState
        Parameters.
    priors : Priors
        Hyper-parameters.
    scheme : Scheme
        Model.

    Returns
    -------
    float
        Natural log.
    """
    log_v = scheme.log_v(state.label.size, priors, state.concentration)
    value = log_partition_prior(state.label, log_v, scheme.size_weight(priors))
    if scheme.partition == "dp":
        value -= state.concentration
    means = np.zeros_like(state.coefficients)
    means[:, 0] = priors.baseline_means(problem.counts)
    spread = np.full(scheme.p + 1, priors.v_c)
    spread[0] = priors.v_d
    square = (state.coefficients - means) ** 2 / spread + np.log(2.0 * np.pi * spread)
    value -= 0.5 * float(square.sum())
    if not scheme.poisson:
        r = state.dispersion
        value += float(((priors.a_r - 1.0) * np.log(r) - priors.h_r * r).sum())
        value += r.size * float(priors.a_r * np.log(priors.h_r) - gammaln(priors.a_r))
    alpha, gamma, kappa = priors.strength(state)
    value += _log_strength(alpha, gamma, kappa, priors)
    value += _log_dirichlet(state.beta, np.full(state.beta.size, gamma / state.beta.size))
    value += log_sequence_evidence(state.states, problem.start, state.beta, alpha, kappa)
    failures = np.zeros(2, np.int64)
    for slot in state.active():
        value += log_trajectory_evidence(
            state.x[slot], state.states, problem.start, state.beta.size, priors.nu_extra, priors.q0,
            failures,
        ).sum()  # fmt: skip
        first = state.x[slot, problem.start]
        value -= 0.5 * float((first**2 + np.log(2.0 * np.pi)).sum())
    return value + log_likelihood(problem, state, scheme)


def sample_prior(
    problem: Problem,
    priors: Priors,
    scheme: Scheme,
    rng: np.random.Generator,
    labels: NDArray[np.int64] | None = None,
) -> ChainState:
    """Return a draw of every parameter from the prior.

    Parameters
    ----------
    problem : Problem
        Its shape and trial starts count; counts only for ``m_d = NaN``.
    priors : Priors
        Hyper-parameters.
    scheme : Scheme
        Model.
    rng : Generator
        Random numbers.
    labels : ndarray of int, shape (n_units,), optional
        Clusters, if they are given.
    """
    n_units, n_bins = problem.counts.shape
    size, n_states = scheme.p + 1, scheme.n_states_max
    concentration = float(rng.exponential())
    if labels is None:
        labels = _partition(n_units, priors, scheme, rng, concentration)
    coefficients = rng.normal(0.0, np.sqrt(priors.v_c), (n_units, size))
    coefficients[:, 0] = rng.normal(
        priors.baseline_means(problem.counts), np.sqrt(priors.v_d), n_units
    )
    beta, transition = np.empty(n_states), np.empty((n_states, n_states))
    alpha, gamma, kappa = strength = _strength(priors, rng)
    draw_dirichlet(rng, np.full(n_states, gamma / n_states), beta)
    for k in range(n_states):
        weight = alpha * beta
        weight[k] += kappa
        draw_dirichlet(rng, weight, transition[k])
    states = np.zeros(n_bins, np.int64)
    for t in range(1, n_bins):
        if problem.start[t - 1]:
            states[t] = rng.integers(n_states)
        else:
            states[t] = rng.choice(n_states, p=transition[states[t - 1]])
    report_first_bins(states, problem.start)
    clusters = int(labels.max()) + 1
    groups, n = (1, clusters * size) if scheme.coupling == "full" else (clusters, size)
    x, matrix = np.empty((groups, n_bins, n)), np.empty((groups, n_states, n, n))
    offset, noise = np.empty((groups, n_states, n)), np.empty((groups, n_states, n, n))
    failures = np.zeros(2, np.int64)
    for j in range(groups):
        draw_prior_dynamics(
            rng, priors.nu_extra, priors.q0, matrix[j], offset[j], noise[j], failures
        )
        draw_path(rng, matrix[j], offset[j], noise[j], states, problem.start, x[j], failures)
    dispersion = rng.gamma(priors.a_r, 1.0 / priors.h_r, n_units)
    return ChainState(
        labels.copy(), coefficients, dispersion, x, matrix, offset, noise, states, beta, transition,
        strength=strength, concentration=concentration,
    )  # fmt: skip


def _strength(priors: Priors, rng: np.random.Generator) -> Floats:
    """Return alpha, gamma and kappa, drawn if they have priors."""
    if priors.hyper is None:
        return np.array([priors.alpha_h, priors.gamma_h, priors.kappa])
    a, h, a_shared, h_shared, stays, leaves = priors.hyper
    total, stay = rng.gamma(a, 1.0 / h), rng.beta(stays, leaves)
    return np.array([total * (1.0 - stay), rng.gamma(a_shared, 1.0 / h_shared), total * stay])


def _partition(
    n_units: int, priors: Priors, scheme: Scheme, rng: np.random.Generator, concentration: float
) -> NDArray[np.int64]:
    if scheme.partition == "mfm":
        return sample_partition(rng, n_units, priors.rho, priors.gamma)
    labels: list[int] = []
    for i in range(n_units):
        sizes = np.bincount(labels) if labels else np.zeros(0, np.int64)
        weights = np.append(sizes, concentration) / (i + concentration)
        labels.append(int(rng.choice(weights.size, p=weights)))
    return np.array(labels)


def sample_counts(
    problem: Problem, state: ChainState, scheme: Scheme, rng: np.random.Generator
) -> Floats:
    """Return counts drawn from the model, -1 where the problem's are unobserved."""
    rate = np.exp(np.clip(predictor(problem, state), -CLIP, CLIP))
    if not scheme.poisson:
        r = state.dispersion[:, None]
        rate = rng.gamma(np.broadcast_to(r, rate.shape), rate / r)
    drawn = rng.poisson(rate).astype(np.float64)
    return np.where(problem.counts >= 0.0, drawn, -1.0)
