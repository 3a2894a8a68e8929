"""One number of states: starts, the best two to the end, connections, order of the states."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import cycle, islice

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.hmm_glm.kernels.chain import Posterior
from neuropipe.analyses.hmm_glm.kernels.em import (
    Fit,
    Parameters,
    Prior,
    Rules,
    connect,
    information_inverse,
    run,
)
from neuropipe.analyses.hmm_glm.kernels.priors import (
    Connections,
    FixedPrior,
    SharedMean,
    infer_connections,
)
from neuropipe.analyses.hmm_glm.prepare import Prepared
from neuropipe.analyses.hmm_glm.spec import Settings
from neuropipe.analyses.hmm_glm.starts import fit_one_state, perturbed_start, score_start
from neuropipe.seeds import stage_generator

__all__ = ["Fitted", "fit_states", "refit"]

Floats = NDArray[np.float64]

SIGMAS = (10.0, 5.0, 20.0)
TRIAL_ITERATIONS, KEPT = 10, 2
LEAST_WEIGHT = 1e-3
FIRST_VARIANCE = 1 / 9  # of weights around their shared mean, until it is learned
BIAS_RIDGE = 0.1  # of the ridge of weights


@dataclass(frozen=True)
class Fitted:
    """The best start, states by decreasing occupancy.

    Attributes
    ----------
    fit : Fit
    connections : Connections or None
        None without history.
    estimate_variance : ndarray, shape (n_states, n_units, n_features)
        Diagonal of the inverse Fisher matrix.
    mean : ndarray, shape (n_units, n_features)
        W0: mean over states.
    restarts : tuple of Fit
        Every start, as far as it was run.
    """

    fit: Fit
    connections: Connections | None
    estimate_variance: Floats
    mean: Floats
    restarts: tuple[Fit, ...]


def _starts(
    prepared: Prepared, settings: Settings, n_states: int, rules: Rules, ridge: Floats, seed: int
) -> list[Parameters]:
    data = prepared.observations
    one = fit_one_state(data, rules, ridge)
    count = settings.restarts if n_states > 1 else 1
    n_score = {"score": max(count - 1, 1), "perturb": 0}[settings.init]
    found = []
    for index, sigma in enumerate(islice(cycle(SIGMAS), count)):
        rng = stage_generator(seed, "fit", index)
        if n_states == 1:
            variance = one.variance[None]
            found.append(Parameters(one.theta[None], variance, np.ones((1, 1)), np.ones(1)))
        elif index < n_score:
            found.append(score_start(data, one, rules, n_states=n_states, sigma=sigma, rng=rng))
        else:
            found.append(perturbed_start(one, rules, n_states=n_states, rng=rng))
    return found


def _prior(prepared: Prepared, settings: Settings, n_states: int, ridge: Floats) -> Prior:
    shape = (n_states, prepared.observations.observed.shape[1], ridge.size)
    # One state has no spread around a mean.
    if settings.prior == "none" or n_states == 1 or not prepared.shared.any():
        return FixedPrior(np.broadcast_to(ridge, shape), np.zeros(shape))
    return SharedMean(ridge, prepared.shared, np.zeros(shape[1:]), FIRST_VARIANCE, n_states)


def _rules(prepared: Prepared, settings: Settings) -> Rules:
    data = prepared.observations
    return Rules(
        alpha=settings.sticky.alpha, kappa=settings.sticky.kappa, least_weight=LEAST_WEIGHT,
        tol=settings.tol, silent=prepared.silent,
        variance_floor=1e-6 * np.maximum(data.observed[data.valid].var(axis=0), 1e-300),
        unused=~data.design[data.valid].any(axis=0),
    )  # fmt: skip


def _ordered(fit: Fit, order: NDArray[np.intp]) -> Fit:
    old, posterior = fit.parameters, fit.posterior
    parameters = Parameters(
        old.theta[order], old.variance[order], old.transition[np.ix_(order, order)],
        old.initial[order],
    )  # fmt: skip
    return replace(
        fit,
        parameters=parameters,
        posterior=Posterior(
            np.ascontiguousarray(posterior.probability[:, order]),
            posterior.transitions[np.ix_(order, order)],
            posterior.log_likelihood,
        ),
    )


def _ridge(prepared: Prepared, settings: Settings) -> Floats:
    ridge = np.full(prepared.observations.design.shape[1], settings.regularisation.ridge)
    ridge[0] *= BIAS_RIDGE
    return ridge


def refit(prepared: Prepared, settings: Settings, start: Parameters) -> Parameters:
    """Fit other data from the solution of a fit, its prior learned again.

    Parameters
    ----------
    prepared : Prepared
        Such as trials drawn again.
    settings : Settings
    start : Parameters
        Order and number of states are kept.
    """
    data, rules = prepared.observations, _rules(prepared, settings)
    ridge = _ridge(prepared, settings)
    prior = _prior(prepared, settings, len(start.theta), ridge)
    found = run(data, start, prior, rules, max_iter=settings.max_iter)
    n_basis = prepared.basis.shape[0]
    if settings.prior == "onehot" and n_basis:
        found, _ = connect(data, found, rules, ridge=ridge, shared=prepared.shared, n_basis=n_basis)
    return found.parameters


def fit_states(prepared: Prepared, settings: Settings, n_states: int, seed: int) -> Fitted:
    """Fit one number of states.

    Parameters
    ----------
    prepared : Prepared
    settings : Settings
    n_states : int
        One of the numbers that the settings list.
    seed : int
        Restart ``i`` has a stream of its own.
    """
    data, rules = prepared.observations, _rules(prepared, settings)
    ridge = _ridge(prepared, settings)
    prior = _prior(prepared, settings, n_states, ridge)
    tried = [
        run(data, start, prior, rules, max_iter=min(TRIAL_ITERATIONS, settings.max_iter))
        for start in _starts(prepared, settings, n_states, rules, ridge, seed)
    ]
    for index in np.argsort([-fit.trace[-1] for fit in tried], kind="stable")[:KEPT]:
        early = tried[index]
        left = settings.max_iter - len(early.trace) + 1
        if not early.converged and left > 0:
            late = run(data, early.parameters, early.prior, rules, max_iter=left)
            tried[index] = replace(late, trace=early.trace + late.trace[1:])
    best = tried[int(np.argmax([fit.trace[-1] for fit in tried]))]
    connections, n_basis = None, prepared.basis.shape[0]
    if settings.prior == "onehot" and n_basis:
        best, _ = connect(data, best, rules, ridge=ridge, shared=prepared.shared, n_basis=n_basis)
    mass = best.posterior.probability[data.valid].sum(axis=0)
    best = _ordered(best, np.argsort(-mass, kind="stable"))
    estimate, variance = information_inverse(data, best, rules, ridge=ridge)
    if n_basis:
        shape = (*estimate.shape[:2], -1, n_basis)
        parts = (values[:, :, prepared.shared].reshape(shape) for values in (estimate, variance))
        connections = infer_connections(*parts)
    mean = best.parameters.theta.mean(axis=0)
    return Fitted(best, connections, variance, mean, tuple(tried))
