"""Emissions, Newton steps, bases and priors of the HMM-GLM against independent computation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, stats

from neuropipe.analyses.hmm_glm.kernels.connections import connection_prior, infer_connections
from neuropipe.analyses.hmm_glm.kernels.dispersion import unit_variance
from neuropipe.analyses.hmm_glm.kernels.em import Parameters, connect, run
from neuropipe.analyses.hmm_glm.kernels.families import FAMILIES, mean
from neuropipe.analyses.hmm_glm.kernels.glm import (
    Observations,
    emissions,
    newton_step,
    penalised_derivatives,
)
from neuropipe.analyses.hmm_glm.kernels.history import history_basis, history_features
from neuropipe.analyses.hmm_glm.kernels.maximise import Rules
from neuropipe.analyses.hmm_glm.kernels.priors import (
    FixedPrior,
    SharedMean,
)

EVERY = sorted(FAMILIES)
N_UNITS, N_BINS = 3, 90


def drawn(code, rng, shape):
    if code == FAMILIES["gaussian", "identity"]:
        return rng.normal(size=shape)
    if code == FAMILIES["bernoulli", "logistic"]:
        return rng.integers(0, 2, shape).astype(float)
    return rng.poisson(0.7, shape).astype(float)


def problem(kind, seed=0, n_bins=N_BINS):
    rng = np.random.default_rng(seed)
    code = FAMILIES[kind]
    observed = drawn(code, rng, (n_bins, N_UNITS))
    offsets = np.array([0, n_bins // 3, n_bins])
    history = history_features(observed, history_basis("exp", 3), offsets)
    design = np.column_stack([np.ones(n_bins), history])
    valid = rng.random(n_bins) > 0.1
    data = Observations(observed, design, valid, offsets, code)
    theta = rng.normal(0, 0.4, (2, N_UNITS, design.shape[1]))
    return data, theta, rng.uniform(0.5, 2.0, (2, N_UNITS)), rng


def scipy_log_density(kind, eta, observed, dispersion):
    rate = mean(FAMILIES[kind], eta)
    if kind[0] == "gaussian":
        return stats.norm.logpdf(observed, eta, np.sqrt(dispersion))
    if kind[0] == "negbin":
        return stats.nbinom.logpmf(observed, dispersion, dispersion / (dispersion + rate))
    return (stats.bernoulli if kind[0] == "bernoulli" else stats.poisson).logpmf(observed, rate)


@pytest.mark.uncompiled
@pytest.mark.parametrize("kind", EVERY)
def test_emissions_are_the_log_probabilities_of_scipy(kind):
    data, theta, variance, _ = problem(kind)
    expected = np.zeros((N_BINS, 2))
    for s in range(2):
        eta = data.design @ theta[s].T
        terms = scipy_log_density(kind, eta, data.observed, variance[s])
        expected[:, s] = np.where(data.valid, terms.sum(axis=1), 0.0)
    np.testing.assert_allclose(emissions(data, theta, variance), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.uncompiled
@pytest.mark.parametrize("eta", [-800.0, -31.0, -29.0, 0.0, 35.0])
def test_extreme_rates_keep_finite_exact_logarithms(eta):
    data = Observations(
        np.array([[2.0]]),
        np.ones((1, 1)),
        np.ones(1, bool),
        np.array([0, 1]),
        FAMILIES["poisson", "softplus"],
    )
    found = emissions(data, np.full((1, 1, 1), eta), np.ones((1, 1)))[0, 0]
    log_rate = eta + np.log1p(-np.exp(eta) / 2) if eta < -20 else np.log(np.logaddexp(0, eta))
    assert found == pytest.approx(2 * log_rate - np.logaddexp(0, eta) - np.log(2), rel=1e-12)


@pytest.mark.uncompiled
def test_beyond_its_limit_the_exponential_link_is_constant():
    code, ones, limit = FAMILIES["poisson", "exp"], np.ones((1, 1)), 20.0
    data = Observations(2 * ones, ones, np.ones(1, bool), np.array([0, 1]), code)
    for eta in (limit + 1e-9, 800.0):
        found = emissions(data, np.full((1, 1, 1), eta), ones)[0, 0]
        assert found == pytest.approx(stats.poisson.logpmf(2, np.exp(limit)), rel=1e-12)
    flat = {"precision": 0 * ones, "centre": 0 * ones}
    _, gradient, information = penalised_derivatives(data, np.ones(1), 30 * ones, ones[0], **flat)
    assert not gradient.any()
    assert not information.any()


@pytest.mark.uncompiled
@pytest.mark.parametrize("kind", EVERY)
def test_gradient_and_information_equal_finite_differences(kind):
    data, theta, variance, rng = problem(kind)
    weight = rng.random(N_BINS)
    prior = {"precision": rng.random(theta[0].shape), "centre": rng.normal(size=theta[0].shape)}

    def objective(flat):
        return penalised_derivatives(
            data, weight, flat.reshape(theta[0].shape), variance[0], **prior
        )[0].sum()

    _, gradient, information = penalised_derivatives(data, weight, theta[0], variance[0], **prior)
    differences = optimize.approx_fprime(theta[0].ravel(), objective, 1e-6)
    np.testing.assert_allclose(gradient.ravel(), differences, rtol=1e-4, atol=1e-4)

    # Expected curvature: the observations are replaced by their means, where it is the Hessian.
    eta = data.design @ theta[0].T
    expected = Observations(mean(data.code, eta), data.design, data.valid, data.offsets, data.code)
    for n in range(N_UNITS):
        for p in range(theta.shape[2]):
            moved = [theta[0].copy(), theta[0].copy()]
            moved[0][n, p] += 1e-5
            moved[1][n, p] -= 1e-5
            up, down = (
                penalised_derivatives(expected, weight, m, variance[0], **prior)[1][n]
                for m in moved
            )
            np.testing.assert_allclose(information[n, p], (down - up) / 2e-5, rtol=1e-5, atol=1e-5)


@pytest.mark.uncompiled
@pytest.mark.parametrize("kind", EVERY)
def test_newton_steps_end_at_the_optimum_that_scipy_finds(kind):
    data, theta, variance, rng = problem(kind)
    weight = rng.random(N_BINS)
    prior = {"precision": np.full(theta[0].shape, 0.5), "centre": np.zeros_like(theta[0])}
    found = np.zeros_like(theta[0])
    for _ in range(50):
        found = newton_step(data, weight, found, variance[0], **prior)
    rows = np.flatnonzero(data.valid)
    for n in range(N_UNITS):

        def loss(beta, n=n):
            terms = scipy_log_density(
                kind, data.design[rows] @ beta, data.observed[rows, n], variance[0, n]
            )
            return -(weight[rows] @ terms) + 0.25 * (beta**2).sum()

        best = optimize.minimize(loss, np.zeros(theta.shape[2]), tol=1e-12)
        np.testing.assert_allclose(found[n], best.x, atol=2e-5)


def test_many_features_take_the_other_way_to_the_same_matrix(monkeypatch):
    data, theta, variance, rng = problem(("poisson", "softplus"))
    prior = {"precision": np.ones(theta[0].shape), "centre": np.zeros_like(theta[0])}
    weight = rng.random(N_BINS)
    pairs = penalised_derivatives(data, weight, theta[0], variance[0], **prior)[2]
    module = "neuropipe.analyses.hmm_glm.kernels.glm"
    monkeypatch.setattr(f"{module}.PAIR_FEATURES", 1)
    monkeypatch.setattr(f"{module}.BLOCK_VALUES", 1)
    loop = penalised_derivatives(data, weight, theta[0], variance[0], **prior)[2]
    np.testing.assert_allclose(pairs, loop, rtol=1e-12)


def test_residual_variance_is_the_weighted_mean_square():
    data, theta, _, rng = problem(("gaussian", "identity"))
    weight = rng.random(N_BINS)
    error = (data.observed - data.design @ theta[0].T)[data.valid]
    expected = np.average(error**2, axis=0, weights=weight[data.valid])
    floor = np.zeros(N_UNITS)
    np.testing.assert_allclose(unit_variance(data, weight, theta[0], floor=floor), expected)
    np.testing.assert_allclose(unit_variance(data, weight, theta[0], floor=floor + 99), 99.0)


@pytest.mark.parametrize(
    ("kind", "bins", "rows"), [("exp", 5, 1), ("raised_cosine", 12, 4), ("lags", 3, 3)]
)
def test_every_basis_function_is_positive_and_sums_to_one(kind, bins, rows):
    basis = history_basis(kind, bins, count=4, decay=1.0)
    assert basis.shape == (rows, bins)
    assert basis.min() >= 0
    np.testing.assert_allclose(basis.sum(axis=1), 1.0)
    assert history_basis(kind, 0).shape == (0, 0)


def test_history_is_a_sum_over_the_past_of_the_same_trial():
    rng = np.random.default_rng(1)
    observed, basis = (
        rng.poisson(1.0, (11, 2)).astype(float),
        history_basis("raised_cosine", 4, count=2),
    )
    offsets = np.array([0, 2, 2, 11])
    expected = np.zeros((11, 2, 2))
    for start, stop in ((0, 2), (2, 11)):
        for t in range(start, stop):
            for k in range(1, 5):
                if t - k >= start:
                    expected[t] += np.outer(observed[t - k], basis[:, k - 1])
    np.testing.assert_allclose(history_features(observed, basis, offsets), expected.reshape(11, 4))


def rules(n_features=4):
    nothing = np.zeros(N_UNITS, bool)
    unused = np.zeros(n_features, bool)
    return Rules(1.0, 0.5, 0.0, 1e-12, nothing, np.full(N_UNITS, 1e-3), unused)


def start_of(data, theta, variance):
    chain = np.array([[0.9, 0.1], [0.1, 0.9]]), np.full(2, 0.5)
    return Parameters(theta, variance, *chain)


def priors_of(data):
    n_features = data.design.shape[1]
    shape = (2, N_UNITS, n_features)
    ridge, shared = np.full(n_features, 0.01), np.arange(n_features) > 0
    return {
        "none": FixedPrior(np.full(shape, 0.01), np.zeros(shape)),
        "gaussian": SharedMean(ridge, shared, np.zeros(shape[1:]), 1 / 9, 2),
    }


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("prior", ["none", "gaussian"])
def test_no_iteration_lowers_the_objective(kind, prior):
    data, theta, variance, _ = problem(kind, n_bins=400)
    start = start_of(data, theta, np.ones_like(variance))
    fit = run(data, start, priors_of(data)[prior], rules(), max_iter=60)
    trace = np.array(fit.trace)
    assert len(trace) > 10
    assert trace[-1] > trace[0] + 1
    assert np.diff(trace).min() >= -1e-8 * abs(trace[-1])


def test_no_iteration_lowers_the_objective_within_a_round_of_connections():
    data, theta, variance, _ = problem(("poisson", "softplus"), n_bins=400)
    fit = run(
        data, start_of(data, theta, variance), priors_of(data)["gaussian"], rules(), max_iter=30
    )
    ridge, shared = np.full(4, 0.01), np.arange(4) > 0
    found, model = connect(data, fit, rules(), ridge=ridge, shared=shared, n_basis=1, max_iter=30)
    assert len(found.trace) > 3
    assert np.diff(found.trace).min() >= -1e-8 * abs(found.trace[-1])
    np.testing.assert_allclose(model.probability.sum(axis=-1), 1.0)
    np.testing.assert_allclose(model.overall.sum(axis=-1), 1.0)


def test_penalties_are_the_quadratic_part_of_the_log_density():
    data, theta, _, _ = problem(("poisson", "softplus"))
    for prior in priors_of(data).values():
        prior = prior.updated(theta)

        def quadratic(t, prior=prior):
            return -0.5 * (prior.precision * (t - prior.centre) ** 2).sum()

        # Moves that keep the mean over states: the mean is integrated out of the density.
        move = np.stack([np.full(theta.shape[1:], 0.1), np.full(theta.shape[1:], -0.1)])
        gained = prior.log_density(theta + move) - prior.log_density(theta)
        assert gained == pytest.approx(quadratic(theta + move) - quadratic(theta))


def test_variance_of_the_shared_mean_maximises_its_density():
    data, theta, _, _ = problem(("poisson", "softplus"))
    prior = priors_of(data)["gaussian"].updated(theta)
    np.testing.assert_allclose(prior.mean[:, 1:], theta.mean(axis=0)[:, 1:])
    best = prior.log_density(theta)
    for factor in (0.9, 1.1):
        other = SharedMean(prior.ridge, prior.shared, prior.mean, factor * prior.variance, 2)
        assert other.log_density(theta) < best


def test_connections_recover_a_mixture_of_three_classes():
    rng = np.random.default_rng(2)
    sign = rng.choice([-1, 0, 1], (4, 15, 15), p=[0.1, 0.8, 0.1])
    weight = sign * rng.normal(0.6, 0.1, sign.shape)
    error = rng.uniform(0.005, 0.02, sign.shape)
    estimate = weight + np.sqrt(error) * rng.normal(size=sign.shape)
    model = infer_connections(estimate[..., None], error[..., None])
    np.testing.assert_allclose(model.frequency, [0.1, 0.8, 0.1], atol=0.03)
    assert model.strength[0] == pytest.approx(0.6, abs=0.03)
    assert np.sqrt(model.spread[0]) == pytest.approx(0.1, abs=0.03)
    assert (model.probability.argmax(axis=-1) - 1 == sign).mean() > 0.98


def test_connections_of_pure_noise_are_absent():
    rng = np.random.default_rng(3)
    estimate = 0.1 * rng.normal(size=(3, 12, 12, 1))
    model = infer_connections(estimate, np.full(estimate.shape, 0.01))
    assert (model.probability.argmax(axis=-1) != 1).mean() < 0.02


def test_penalty_of_connections_gives_the_mean_of_the_mixture():
    """Estimate and penalty combined are the mean of numerical integration over the mixture."""
    rng = np.random.default_rng(5)
    sign = rng.choice([-1, 0, 1], (2, 6, 6), p=[0.2, 0.6, 0.2])
    error = rng.uniform(0.01, 0.05, (*sign.shape, 1))
    estimate = sign[..., None] * 0.5 + np.sqrt(error) * rng.normal(size=error.shape)
    model = infer_connections(estimate, error)
    shared = np.arange(7) > 0
    prior = connection_prior(model, estimate, error, ridge=np.full(7, 0.3), shared=shared)
    assert (prior.precision[:, :, 0] == 0.3).all()
    assert (prior.centre[:, :, 0] == 0.0).all()
    precision, centre = (v[:, :, 1:] for v in (prior.precision, prior.centre))
    found = (estimate[..., 0] / error[..., 0] + precision * centre) / (
        1 / error[..., 0] + precision
    )
    grid = np.linspace(-3, 3, 20_001)
    m, v = model.strength[0], model.spread[0]
    for index in np.ndindex(sign.shape):
        a, u, x = model.overall[index[1:]], error[index][0], estimate[index][0]
        slab = a[0] * stats.norm.pdf(grid, -m, v**0.5) + a[2] * stats.norm.pdf(grid, m, v**0.5)
        slab = slab * stats.norm.pdf(x, grid, u**0.5)
        null = a[1] * stats.norm.pdf(x, 0, u**0.5)
        step = grid[1] - grid[0]
        expected = (slab * grid).sum() * step / (slab.sum() * step + null)
        # The classes' probabilities are those of the iteration before the last.
        assert found[index] == pytest.approx(expected, abs=2e-3)
