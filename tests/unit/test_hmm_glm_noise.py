"""Dispersion, common biases, absolute penalties, many features: against independent computation."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from scipy import optimize, stats

from neuropipe.analyses.hmm_glm.kernels.dispersion import (
    moment_size,
    size_step,
    unit_covariance,
    unit_variance,
)
from neuropipe.analyses.hmm_glm.kernels.em import Parameters, information_inverse, run
from neuropipe.analyses.hmm_glm.kernels.families import FAMILIES, mean
from neuropipe.analyses.hmm_glm.kernels.glm import (
    Observations,
    emissions,
    newton_step,
    penalised_derivatives,
)
from neuropipe.analyses.hmm_glm.kernels.lasso import lasso_steps
from neuropipe.analyses.hmm_glm.kernels.maximise import Rules, common_bias_steps, step_weights
from neuropipe.analyses.hmm_glm.kernels.multivariate import (
    covariance_step,
    log_prior,
    rows_log_normal,
)
from neuropipe.analyses.hmm_glm.kernels.parallel import ordered_map
from neuropipe.analyses.hmm_glm.kernels.priors import FixedPrior, SharedMean
from neuropipe.analyses.hmm_glm.kernels.quasi_newton import quasi_newton_steps

N_BINS, N_UNITS, N_FEATURES = 400, 3, 4
SOFTPLUS, GAUSSIAN = FAMILIES["poisson", "softplus"], FAMILIES["gaussian", "identity"]


def problem(code, seed=0):
    """Two states of 20 bins in turn whose units differ in weight, and in noise."""
    rng = np.random.default_rng(seed)
    design = np.column_stack([np.ones(N_BINS), rng.normal(size=(N_BINS, N_FEATURES - 1))])
    states = np.arange(N_BINS) // 20 % 2
    theta = rng.normal(0, 0.7, (2, N_UNITS, N_FEATURES))
    eta = np.einsum("tp,tnp->tn", design, theta[states])
    if code == GAUSSIAN:
        mix = rng.normal(size=(2, N_UNITS, N_UNITS))
        observed = eta + np.einsum("tnm,tm->tn", mix[states], rng.normal(size=eta.shape))
    else:
        observed = rng.poisson(mean(code, eta) * rng.gamma(1.5, 1 / 1.5, eta.shape)).astype(float)
    data = Observations(observed, design, np.ones(N_BINS, bool), np.array([0, 200, 400]), code)
    return data, theta, states, rng


def rules(**changes):
    given = {
        "alpha": 1.0, "kappa": 0.0, "least_weight": 0.0, "tol": 1e-12,
        "silent": np.zeros(N_UNITS, bool), "variance_floor": np.full(N_UNITS, 1e-6),
        "unused": np.zeros(N_FEATURES, bool),
    }  # fmt: skip
    return Rules(**{**given, **changes})


def ridge_prior(l1=None, size=0.1):
    shape = (2, N_UNITS, N_FEATURES)
    return FixedPrior(np.full(shape, size), np.zeros(shape), l1)


def shared_mean():
    ridge, shared = np.full(N_FEATURES, 0.01), np.arange(N_FEATURES) > 0
    return SharedMean(ridge, shared, np.zeros((N_UNITS, N_FEATURES)), 1 / 9, 2)


CHAIN = np.array([[0.95, 0.05], [0.05, 0.95]]), np.full(2, 0.5)


@pytest.mark.parametrize("dense", [1000, 2])
def test_size_of_the_negative_binomial_is_the_maximum_that_scipy_finds(dense, monkeypatch):
    monkeypatch.setattr("neuropipe.analyses.hmm_glm.kernels.dispersion.DENSE_COUNTS", dense)
    data, theta, states, _ = problem(FAMILIES["negbin", "softplus"])
    probability = np.eye(2)[states]
    size = np.ones(N_UNITS)
    for _ in range(30):
        size = size_step(data, probability, theta, size)
    rate = mean(data.code, np.einsum("tp,tnp->tn", data.design, theta[states]))
    for n in range(N_UNITS):

        def loss(log, n=n):
            r = np.exp(log)
            return -stats.nbinom.logpmf(data.observed[:, n], r, r / (r + rate[:, n])).sum()

        best = optimize.minimize_scalar(loss, bounds=(-5, 9), method="bounded")
        assert loss(np.log(size[n])) <= best.fun + 1e-6


def test_size_step_never_loses_and_poisson_counts_have_a_large_size():
    data, theta, states, rng = problem(FAMILIES["negbin", "softplus"])
    probability = np.eye(2)[states]
    rate = mean(data.code, np.einsum("tp,tnp->tn", data.design, theta[states]))
    plain = Observations(
        rng.poisson(rate).astype(float), data.design, data.valid, data.offsets, data.code
    )
    size = np.full(N_UNITS, 0.05)
    values = []
    for _ in range(40):
        log = np.choose(states, emissions(plain, theta, np.repeat(size[None], 2, axis=0)).T)
        values.append(log.sum())
        size = size_step(plain, probability, theta, size)
    # Near a size of 1e4 the log Gamma functions of its count part cancel: 1e-12 of 1e5.
    assert np.diff(values).min() >= -1e-7
    assert size.min() > 5
    assert moment_size(rng.negative_binomial(2, 0.4, (20_000, 1)))[0] == pytest.approx(2, rel=0.1)
    with pytest.raises(ValueError, match="no size"):
        size_step(problem(SOFTPLUS)[0], probability, theta, size)


def test_errors_with_a_covariance_have_the_density_of_scipy():
    rng = np.random.default_rng(1)
    mix = rng.normal(size=(4, 4))
    error, covariance = rng.normal(size=(7, 4)), mix @ mix.T + np.eye(4)
    expected = stats.multivariate_normal(np.zeros(4), covariance).logpdf(error)
    np.testing.assert_allclose(rows_log_normal(error, covariance), expected, rtol=1e-10)


def test_covariance_is_the_maximum_of_likelihood_and_prior():
    data, theta, states, rng = problem(GAUSSIAN)
    weight, scale = (states == 0).astype(float), np.array([1.0, 2.0, 0.5])
    best = unit_covariance(data, weight, theta[0], scale=scale)

    def objective(matrix):
        error = data.observed - data.design @ theta[0].T
        return weight @ rows_log_normal(error, matrix) + log_prior(matrix, scale)

    top = objective(best)
    for _ in range(100):
        move = 0.05 * rng.normal(size=(N_UNITS, N_UNITS))
        factor = np.eye(N_UNITS) + move
        assert objective(factor @ best @ factor.T) < top
    np.testing.assert_allclose(covariance_step(np.zeros((3, 3)), 0.0, scale), np.diag(scale))


def test_weights_with_correlated_noise_maximise_the_joint_density():
    data, theta, states, rng = problem(GAUSSIAN)
    probability = np.eye(2)[states]
    matrices = np.stack([np.cov(rng.normal(size=(3, 9))) for _ in range(2)])
    prior, own = ridge_prior(size=2.0), rules(scale=np.ones(N_UNITS))
    found = theta
    for _ in range(80):
        found = step_weights(data, probability, found, matrices, prior, own)

    def objective(flat):
        moved = flat.reshape(theta.shape)
        log = np.choose(states, emissions(data, moved, matrices).T).sum()
        return log + prior.log_density(moved)

    # The objective is concave: a point without slope is its maximum.
    slope = optimize.approx_fprime(found.ravel(), objective, 1e-6)
    np.testing.assert_allclose(slope, 0.0, atol=1e-2)
    assert np.abs(optimize.approx_fprime(theta.ravel(), objective, 1e-6)).max() > 1.0


@pytest.mark.parametrize("kind", [("poisson", "softplus"), ("gaussian", "identity")])
def test_a_common_bias_is_that_of_the_joint_optimum(kind):
    code = FAMILIES[kind]
    data, theta, states, _ = problem(code)
    probability, dispersion, prior = np.eye(2)[states], np.ones((2, N_UNITS)), ridge_prior()
    found = np.zeros_like(theta)
    for _ in range(30):
        found = step_weights(data, probability, found, dispersion, prior, rules(shared_bias=True))
    np.testing.assert_array_equal(found[0, :, 0], found[1, :, 0])

    def full(flat):
        parts = flat.reshape(N_UNITS, -1)
        weights = parts[:, 1:].reshape(N_UNITS, 2, -1).transpose(1, 0, 2)
        bias = np.broadcast_to(parts[:, 0], (2, N_UNITS))[..., None]
        return np.concatenate([bias, weights], axis=-1)

    def objective(flat):
        moved = full(flat)
        log = np.choose(states, emissions(data, moved, dispersion).T).sum()
        return -(log + prior.log_density(moved))

    start = np.zeros(N_UNITS * (1 + 2 * (N_FEATURES - 1)))
    best = optimize.minimize(objective, start, method="BFGS", tol=1e-9)
    np.testing.assert_allclose(found, full(best.x), atol=1e-4)


def test_steps_with_a_common_bias_solve_the_joint_system():
    rng = np.random.default_rng(2)
    mix = rng.normal(size=(2, 1, 4, 9))
    information, gradient = mix @ mix.swapaxes(-1, -2), rng.normal(size=(2, 1, 4))
    joint, right = np.zeros((7, 7)), np.zeros(7)
    for s, rows in enumerate(([0, 1, 2, 3], [0, 4, 5, 6])):
        joint[np.ix_(rows, rows)] += information[s, 0]
        right[rows] += gradient[s, 0]
    step = np.linalg.solve(joint, right)
    found = common_bias_steps(gradient, information)
    np.testing.assert_allclose(found[0, 0], step[:4], rtol=1e-9)
    np.testing.assert_allclose(found[1, 0], step[[0, 4, 5, 6]], rtol=1e-9)


@pytest.mark.uncompiled
def test_proximal_steps_satisfy_the_conditions_of_the_optimum():
    rng = np.random.default_rng(3)
    mix = rng.normal(size=(5, 6, 12))
    information = mix @ mix.swapaxes(1, 2)
    theta, gradient = rng.normal(size=(5, 6)), 5 * rng.normal(size=(5, 6))
    l1 = np.array([0.0, 4.0, 4.0, 4.0, 8.0, 8.0])
    steps = lasso_steps(theta, gradient, information, l1)
    end = theta + steps
    slope = gradient - np.einsum("npq,nq->np", information, steps)
    away = end != 0
    np.testing.assert_allclose(slope[away], (l1 * np.sign(end))[away], atol=1e-6)
    assert (np.abs(slope) <= l1 + 1e-6)[~away].all()
    assert (~away[:, 1:]).any()


@pytest.mark.parametrize("shared_bias", [False, True])
def test_absolute_penalties_shrink_weights_to_zero_and_never_lose(shared_bias):
    data, theta, _, _ = problem(SOFTPLUS)
    l1 = 15.0 * (np.arange(N_FEATURES) > 0)
    start = Parameters(theta * (np.arange(N_FEATURES) > 0), np.ones((2, N_UNITS)), *CHAIN)
    fit = run(data, start, ridge_prior(l1), rules(shared_bias=shared_bias), max_iter=40)
    assert np.diff(fit.trace).min() >= -1e-8 * abs(fit.trace[-1])
    zeros = (fit.parameters.theta[:, :, 1:] == 0).mean()
    assert 0.1 < zeros < 1.0
    plain = run(data, start, ridge_prior(), rules(shared_bias=shared_bias), max_iter=40)
    assert (plain.parameters.theta != 0).all()


@pytest.mark.parametrize("kind", sorted(FAMILIES))
def test_quasi_newton_steps_reach_the_newton_optimum(kind):
    data, theta, _, rng = problem(FAMILIES[kind])
    if kind[0] == "bernoulli":
        data = Observations(
            np.minimum(data.observed, 1), data.design, data.valid, data.offsets, data.code
        )
    weight, noise = rng.random(N_BINS), np.ones(N_UNITS)
    penalty = {"precision": np.full(theta[0].shape, 0.5), "centre": np.zeros_like(theta[0])}
    newton = quasi = np.zeros_like(theta[0])
    for _ in range(40):
        newton = newton_step(data, weight, newton, noise, **penalty)
        quasi = quasi_newton_steps(data, weight, quasi, noise, **penalty)
    np.testing.assert_allclose(quasi, newton, atol=1e-5)
    before = penalised_derivatives(data, weight, theta[0], noise, **penalty)[0]
    once = quasi_newton_steps(data, weight, theta[0], noise, **penalty, steps=1)
    assert (penalised_derivatives(data, weight, once, noise, **penalty)[0] >= before).all()


def families_and_noise():
    yield from ((kind, {}) for kind in sorted(FAMILIES) if kind[1] != "sigmoid")
    yield ("gaussian", "identity"), {"scale": np.ones(N_UNITS)}
    yield ("poisson", "softplus"), {"shared_bias": True}
    yield ("gaussian", "identity"), {"scale": np.ones(N_UNITS), "shared_bias": True}


@pytest.mark.parametrize("prior", [ridge_prior, shared_mean])
@pytest.mark.parametrize(("kind", "changes"), list(families_and_noise()))
def test_no_iteration_lowers_the_objective(kind, changes, prior):
    data, theta, _, _ = problem(FAMILIES[kind])
    if kind[0] == "bernoulli":
        data = Observations(
            np.minimum(data.observed, 1), data.design, data.valid, data.offsets, data.code
        )
    noise = np.ones((2, N_UNITS))
    if "scale" in changes:
        noise = np.stack([np.eye(N_UNITS)] * 2)
    if changes.get("shared_bias"):
        theta[:, :, 0] = theta[0, :, 0]
    start, given = Parameters(0.5 * theta, noise, *CHAIN), prior()
    if isinstance(given, SharedMean):
        given = given.around(start.theta)
    fit = run(data, start, given, rules(**changes), max_iter=30)
    trace = np.array(fit.trace)
    assert trace[-1] > trace[0] + 1
    assert np.diff(trace).min() >= -1e-8 * abs(trace[-1])


def test_results_of_threads_come_in_order(monkeypatch):
    monkeypatch.setattr(numba, "get_num_threads", lambda: 3)
    assert list(ordered_map(lambda value: value**2, range(50))) == [v**2 for v in range(50)]

    def fails(value):
        raise ArithmeticError(value)

    with pytest.raises(ArithmeticError, match="0"):
        list(ordered_map(fails, range(9)))


def test_threads_give_the_same_bits(monkeypatch):
    data, theta, _, rng = problem(SOFTPLUS)
    monkeypatch.setattr("neuropipe.analyses.hmm_glm.kernels.glm.LEAST_ROWS", 32)
    monkeypatch.setattr("neuropipe.analyses.hmm_glm.kernels.glm.BLOCK_VALUES", 64)
    weight, noise = rng.random(N_BINS), np.ones(N_UNITS)
    prior = {"precision": np.ones(theta[0].shape), "centre": np.zeros_like(theta[0])}
    results = []
    for count in (1, 3):
        monkeypatch.setattr(numba, "get_num_threads", lambda count=count: count)
        results.append(penalised_derivatives(data, weight, theta[0], noise, **prior))
    for one, three in zip(*results, strict=True):
        np.testing.assert_array_equal(one, three)


def test_estimates_without_a_prior_are_regressions_and_collinear_features_are_told():
    data, theta, _, _ = problem(GAUSSIAN)
    design = np.column_stack([data.design[:, :3], data.design[:, 1] + data.design[:, 2]])
    twin = Observations(data.observed, design, data.valid, data.offsets, GAUSSIAN)
    ridge = np.full(N_FEATURES, 1e-6)
    noise = np.ones((2, N_UNITS))
    for given, limit in ((data, False), (twin, True)):
        fit = run(given, Parameters(theta, noise, *CHAIN), ridge_prior(), rules(), max_iter=3)
        found = information_inverse(given, fit, rules(), ridge=ridge)
        assert (found.condition > 1e10).all() == limit
        assert (found.condition > 1e10).any() == limit
        if not limit:
            weight = fit.posterior.probability[:, 0]
            scaled = np.sqrt(weight)[:, None]
            expected = np.linalg.lstsq(data.design * scaled, data.observed * scaled)[0].T
            np.testing.assert_allclose(found.estimate[0], expected, atol=1e-5)
            inverse = np.linalg.inv((data.design * scaled).T @ (data.design * scaled))
            variance = fit.parameters.dispersion[0][:, None] * np.diag(inverse)
            np.testing.assert_allclose(found.variance[0], variance, rtol=1e-5)


def test_residual_variance_ignores_bins_without_weight():
    data, theta, states, _ = problem(GAUSSIAN)
    weight = (states == 1).astype(float)
    error = (data.observed - data.design @ theta[1].T)[states == 1]
    found = unit_variance(data, weight, theta[1], floor=np.zeros(N_UNITS))
    np.testing.assert_allclose(found, (error**2).mean(axis=0))


@pytest.mark.parametrize("prior", [ridge_prior, shared_mean])
def test_permuting_the_states_of_a_start_permutes_the_fit(prior):
    data, theta, _, _ = problem(SOFTPLUS)
    transition, initial = np.array([[0.9, 0.1], [0.3, 0.7]]), np.array([0.8, 0.2])
    start = Parameters(theta, np.ones((2, N_UNITS)), transition, initial)
    swapped = Parameters(
        theta[::-1].copy(), np.ones((2, N_UNITS)), transition[::-1, ::-1].copy(), initial[::-1]
    )
    first, second = (run(data, s, prior(), rules(), max_iter=10) for s in (start, swapped))
    # Sums over states in another order: rounding, carried through ten iterations.
    np.testing.assert_allclose(first.trace, second.trace, rtol=1e-10)
    np.testing.assert_allclose(first.parameters.theta, second.parameters.theta[::-1], atol=1e-7)
    np.testing.assert_allclose(
        first.posterior.probability, second.posterior.probability[:, ::-1], atol=1e-7
    )
