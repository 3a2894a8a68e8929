"""One number of states: starts, the best two to the end, connections, order of the states."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.hmm_glm.kernels.chain import Posterior
from neuropipe.analyses.hmm_glm.kernels.connections import (
    ConnectionRules,
    Connections,
    global_classes,
    infer_connections,
)
from neuropipe.analyses.hmm_glm.kernels.em import (
    Fit,
    Information,
    Parameters,
    connect,
    information_inverse,
    run,
)
from neuropipe.analyses.hmm_glm.kernels.families import EXP_CODES, EXP_LIMIT, GAUSSIAN
from neuropipe.analyses.hmm_glm.kernels.glm import Observations
from neuropipe.analyses.hmm_glm.kernels.maximise import Prior, Rules
from neuropipe.analyses.hmm_glm.kernels.priors import FixedPrior, SharedMean
from neuropipe.analyses.hmm_glm.prepare import Prepared
from neuropipe.analyses.hmm_glm.spec import Settings
from neuropipe.analyses.hmm_glm.starts import (
    OneState,
    activity_labels,
    fit_one_state,
    labelled_start,
    perturbed_start,
    score_labels,
    single_start,
)
from neuropipe.errors import Issue
from neuropipe.seeds import stage_generator
from neuropipe.store.pieces import Pieces

__all__ = ["KEPT_KINDS", "Fitted", "fit_rules", "fit_states", "refit"]

Floats = NDArray[np.float64]

SIGMAS = (10.0, 5.0, 20.0)
TRIAL_ITERATIONS, KEPT = 10, 2
LEAST_WEIGHT = 1e-3
FIRST_VARIANCE = 1 / 9  # of weights around their shared mean, until it is learned
BIAS_RIDGE = 0.1  # of the ridge of weights
EMPTY_SHARE = 0.05  # of an equal share of the bins, below which a state counts as empty
LARGEST_CONDITION = 1e10
# What a start that is kept consists of.
KEPT_KINDS = (Fit, Parameters, Posterior, FixedPrior, SharedMean)


@dataclass(frozen=True)
class Fitted:
    """The best start, states by decreasing occupancy.

    Attributes
    ----------
    fit : Fit
    connections : Connections or None
        None without history.
    connection_global : ndarray of int, shape (n_units, n_units), or None
        Class of every pair in the network that all states share, -1, 0 or 1.
    estimate_variance : ndarray, shape (n_states, n_units, n_features)
        Diagonal of the inverse Fisher matrix.
    mean : ndarray, shape (n_units, n_features)
        W0: mean over states.
    restarts : tuple of Fit
        Every start, as far as it was run.
    issues : tuple of Issue
        What the fit met.
    """

    fit: Fit
    connections: Connections | None
    connection_global: NDArray[np.int64] | None
    estimate_variance: Floats
    mean: Floats
    restarts: tuple[Fit, ...]
    issues: tuple[Issue, ...]


def _clustered_count(settings: Settings, count: int) -> int:
    """Return how many of the starts are clustered; one of several is a perturbed one."""
    return 0 if settings.init == "perturb" else max(count - 1, 1)


def _start(
    prepared: Prepared, settings: Settings, n_states: int, rules: Rules, *, one: OneState,
    seed: int, index: int,
) -> Parameters:  # fmt: skip
    """Return where a start begins."""
    data = prepared.observations
    if n_states == 1:
        return single_start(one, rules)
    guess = activity_labels if settings.init == "kmeans" else score_labels
    rng, sigma = stage_generator(seed, "fit", index), SIGMAS[index % len(SIGMAS)]
    if index < _clustered_count(settings, settings.restarts):
        labels = guess(data, one, rules, n_states=n_states, sigma=sigma, rng=rng)
        return labelled_start(data, one, rules, labels, n_states)
    return perturbed_start(one, rules, n_states=n_states, rng=rng, scaled=data.code == GAUSSIAN)


def _prior(prepared: Prepared, settings: Settings, n_states: int, ridge: Floats) -> Prior:
    shape = (n_states, prepared.observations.observed.shape[1], ridge.size)
    # One state has no spread around a mean.
    if settings.prior == "none" or n_states == 1 or not prepared.shared.any():
        l1 = settings.regularisation.l1 * prepared.shared if settings.regularisation.l1 else None
        return FixedPrior(np.broadcast_to(ridge, shape), np.zeros(shape), l1)
    return SharedMean(ridge, prepared.shared, np.zeros(shape[1:]), FIRST_VARIANCE, n_states)


def _around(prior: Prior, start: Parameters) -> Prior:
    return prior.around(start.theta) if isinstance(prior, SharedMean) else prior


def fit_rules(prepared: Prepared, settings: Settings, n_states: int) -> Rules:
    """Return how a fit of prepared data proceeds under the settings."""
    data = prepared.observations
    observed = data.observed[data.valid]
    variance = np.maximum(observed.var(axis=0), 1e-300)
    full = data.code == GAUSSIAN and settings.covariance == "full"
    n_features = data.design.shape[1]
    return Rules(
        alpha=settings.sticky.alpha, kappa=settings.sticky.kappa, least_weight=LEAST_WEIGHT,
        tol=settings.tol, silent=prepared.silent, variance_floor=1e-6 * variance,
        unused=~data.design[data.valid].any(axis=0),
        shared_bias=settings.bias == "shared" and n_states > 1,
        scale=variance if full else None,
        # Of few bins, 5 per parameter would be more than an equal share of the states.
        least_mass=min(5.0 * n_features, EMPTY_SHARE * len(observed) / n_states),
    )  # fmt: skip


def _connection_rules(settings: Settings) -> ConnectionRules:
    return ConnectionRules(signed=settings.connection_types == "signed", dale=settings.dale)


def _ordered(fit: Fit, order: NDArray[np.intp]) -> Fit:
    old, posterior = fit.parameters, fit.posterior
    parameters = Parameters(
        old.theta[order], old.dispersion[order], old.transition[np.ix_(order, order)],
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


def _issues(
    prepared: Prepared, fit: Fit, information: Information, rules: Rules
) -> tuple[Issue, ...]:
    """Return what the fit met: ill-conditioned units, empty states, clipped rates."""
    data, found = prepared.observations, []
    poor = np.flatnonzero((information.condition > LARGEST_CONDITION).any(axis=0) & ~rules.silent)
    if poor.size:
        names = ", ".join(str(prepared.units[n]) for n in poor[:10])
        found.append(
            Issue("ILL_CONDITIONED", "weight",
                  f"{poor.size} units have nearly collinear features in a state: {names}",
                  "weights there are held by `regularisation.ridge`; raise it or shorten history")
        )  # fmt: skip
    mass = fit.posterior.probability[data.valid].sum(axis=0)
    empty = np.flatnonzero(mass < rules.least_mass)
    if empty.size and len(mass) > 1:
        names = ", ".join(str(s) for s in empty)
        found.append(
            Issue("EMPTY_STATE", "state", f"states {names} stayed empty after being seeded anew",
                  "use fewer `states`")
        )  # fmt: skip
    if data.code in EXP_CODES and (share := _clipped_share(data, fit)) > 0:
        found.append(
            Issue("RATE_CLIPPED", "prediction",
                  f"rates of {share:.2g} of all bins reach exp({EXP_LIMIT:g})",
                  "link: softplus grows more slowly")
        )  # fmt: skip
    return tuple(found)


def _clipped_share(data: Observations, fit: Fit) -> float:
    """Return the share of bins in which a rate of any state is at its limit."""
    reached, rows = 0, np.flatnonzero(data.valid)
    for block in data.blocks(rows):
        over = np.zeros(len(block), dtype=bool)
        for theta in fit.parameters.theta:
            over |= (data.design[block] @ theta.T > EXP_LIMIT).any(axis=1)
        reached += int(over.sum())
    return reached / max(rows.size, 1)


def _run_to_the_end(fit: Fit, data: Observations, rules: Rules, max_iter: int) -> Fit:
    left = max_iter - len(fit.trace) + 1
    if fit.converged or left <= 0:
        return fit
    once = replace(rules, least_mass=0.0) if fit.reseeded else rules
    late = run(data, fit.parameters, fit.prior, once, max_iter=left)
    seeded = max(fit.reseeded, late.reseeded)
    return replace(late, trace=fit.trace + late.trace[1:], reseeded=seeded)


def _best_start(
    prepared: Prepared, settings: Settings, n_states: int, rules: Rules, ridge: Floats, seed: int,
    pieces: Pieces,
) -> tuple[Fit, tuple[Fit, ...]]:  # fmt: skip
    """Run every start for some iterations and the best of them to the end."""
    data, prior = prepared.observations, _prior(prepared, settings, n_states, ridge)
    one = fit_one_state(data, rules, ridge)

    def begun(index: int) -> Fit:
        start = _start(prepared, settings, n_states, rules, one=one, seed=seed, index=index)
        most = min(TRIAL_ITERATIONS, settings.max_iter)
        return run(data, start, _around(prior, start), rules, max_iter=most)

    count = 1 if n_states == 1 else settings.restarts
    tried = [pieces(f"start-{k}", functools.partial(begun, k)) for k in range(count)]
    for index in np.argsort([-fit.trace[-1] for fit in tried], kind="stable")[:KEPT]:
        ended = functools.partial(_run_to_the_end, tried[index], data, rules, settings.max_iter)
        tried[index] = pieces(f"end-{index}", ended)
    return tried[int(np.argmax([fit.trace[-1] for fit in tried]))], tuple(tried)


def _connected(
    prepared: Prepared, settings: Settings, fit: Fit, rules: Rules, seed: int
) -> tuple[Fit, Connections | None]:
    """Return the fit under the classes of its connections, for the priors that have some."""
    n_basis = prepared.basis.shape[0]
    layout = {"ridge": _ridge(prepared, settings), "shared": prepared.shared, "n_basis": n_basis}
    if settings.prior == "onehot" and n_basis:
        classes = _connection_rules(settings)
        return connect(prepared.observations, fit, rules, classes=classes, **layout)[0], None
    if settings.prior == "onehot-gumbel" and n_basis:
        from neuropipe.analyses.hmm_glm.kernels.gumbel import connect_relaxed

        rng = stage_generator(seed, "gumbel")
        return connect_relaxed(prepared.observations, fit, rules, rng=rng, **layout)
    return fit, None


def _ridge(prepared: Prepared, settings: Settings) -> Floats:
    ridge = np.full(prepared.observations.design.shape[1], settings.regularisation.ridge)
    ridge[0] *= BIAS_RIDGE
    return ridge


def refit(prepared: Prepared, settings: Settings, start: Parameters, seed: int) -> Parameters:
    """Fit other data from the solution of a fit, its prior learned again.

    Parameters
    ----------
    prepared : Prepared
        Such as trials drawn again.
    settings : Settings
    start : Parameters
        Order and number of states are kept.
    seed : int
    """
    n_states, data = len(start.theta), prepared.observations
    rules, ridge = fit_rules(prepared, settings, n_states), _ridge(prepared, settings)
    prior = _prior(prepared, settings, n_states, ridge)
    once = replace(rules, least_mass=0.0)
    found = run(data, start, _around(prior, start), once, max_iter=settings.max_iter)
    return _connected(prepared, settings, found, rules, seed)[0].parameters


def fit_states(
    prepared: Prepared, settings: Settings, n_states: int, seed: int, pieces: Pieces | None = None
) -> Fitted:
    """Fit one number of states.

    Parameters
    ----------
    prepared : Prepared
    settings : Settings
    n_states : int
        One of the numbers that the settings list.
    seed : int
        Restart ``i`` has a stream of its own.
    pieces : Pieces, optional
        Keeps the starts, so that a killed fit goes on after the last.
    """
    data, rules = prepared.observations, fit_rules(prepared, settings, n_states)
    ridge = _ridge(prepared, settings)
    kept = Pieces(None) if pieces is None else pieces
    best, tried = _best_start(prepared, settings, n_states, rules, ridge, seed, kept)
    classes, n_basis = _connection_rules(settings), prepared.basis.shape[0]
    best, connections = _connected(prepared, settings, best, rules, seed)
    called = None
    mass = best.posterior.probability[data.valid].sum(axis=0)
    order = np.argsort(-mass, kind="stable")
    best = _ordered(best, order)
    information = information_inverse(data, best, rules, ridge=ridge)
    if connections is not None:
        connections = connections._replace(probability=connections.probability[order])
    elif n_basis:
        shape = (*best.parameters.theta.shape[:2], -1, n_basis)
        parts = (information.estimate, information.variance)
        connections = infer_connections(
            *(values[:, :, prepared.shared].reshape(shape) for values in parts), classes
        )
    if connections is not None:
        called = global_classes(connections, classes)
    return Fitted(
        best, connections, called, information.variance, best.parameters.theta.mean(axis=0),
        tried, _issues(prepared, best, information, rules),
    )  # fmt: skip
