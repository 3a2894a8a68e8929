"""Conditionals of the bi-clustering sampler against brute force, quadrature and dense algebra."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats
from scipy.special import gammaln, logsumexp

from neuropipe.analyses.bicluster.kernels.dispersion import (
    count_tail,
    log_conditional,
    sample_dispersion,
)
from neuropipe.analyses.bicluster.kernels.dynamics import (
    draw_prior_dynamics,
    log_dynamics_conditional,
    sample_dynamics,
)
from neuropipe.analyses.bicluster.kernels.laplace_path import (
    approximate_path,
    expand_likelihood,
    log_path_prior,
)
from neuropipe.analyses.bicluster.kernels.likelihood import log_likelihood_bins, polya_gamma
from neuropipe.analyses.bicluster.kernels.partition import (
    log_partition_prior,
    log_v_dp,
    log_v_mfm,
    sample_partition,
)
from neuropipe.analyses.bicluster.kernels.readout import laplace, log_target
from neuropipe.analyses.bicluster.kernels.states import (
    log_transition_densities,
    sample_states_blocked,
    scan_states,
)
from neuropipe.analyses.bicluster.kernels.trajectory import (
    DRAW,
    EVALUATE,
    MEAN,
    accumulate_information,
    filter_forward,
    sample_backward,
    sample_trajectory,
)
from neuropipe.analyses.bicluster.kernels.transitions import (
    count_transitions,
    sample_tables,
    sample_transitions,
)

pytestmark = pytest.mark.uncompiled


def failures() -> np.ndarray:
    return np.zeros(2, np.int64)


class Toy:
    """Two states, n = 2, two trials, six bins: small enough for dense matrices."""

    def __init__(self, seed: int = 0, n_bins: int = 6, groups: int = 1, n_states: int = 2) -> None:
        rng = np.random.default_rng(seed)
        self.rng, self.size, self.n_bins = rng, 2, n_bins
        self.A = np.eye(2) + 0.3 * rng.standard_normal((groups, n_states, 2, 2))
        self.b = 0.2 * rng.standard_normal((groups, n_states, 2))
        root = 0.5 * rng.standard_normal((groups, n_states, 2, 2))
        self.Q = root @ root.swapaxes(-1, -2) + 0.1 * np.eye(2)
        self.states = rng.integers(n_states, size=n_bins)
        self.start = np.zeros(n_bins, bool)
        self.start[[0, 4]] = True
        factor = rng.standard_normal((groups, n_bins, 2, 1))
        self.information = factor @ factor.swapaxes(-1, -2)
        self.information[:, 2] = 0.0
        self.shift = rng.standard_normal((groups, n_bins, 2))
        self.shift[:, 2] = 0.0

    def dense(self, states: np.ndarray, group: int = 0) -> tuple[np.ndarray, np.ndarray, float]:
        """Return posterior mean, covariance and log evidence of the stacked path."""
        A, b, Q = self.A[group], self.b[group], self.Q[group]
        n = self.n_bins * self.size
        mean, cov = np.zeros(n), np.zeros((n, n))
        for t in range(self.n_bins):
            own = slice(2 * t, 2 * t + 2)
            if self.start[t]:
                cov[own, own] = np.eye(2)
                continue
            last, k = slice(2 * t - 2, 2 * t), states[t]
            mean[own] = A[k] @ mean[last] + b[k]
            cov[own, : 2 * t] = A[k] @ cov[last, : 2 * t]
            cov[: 2 * t, own] = cov[own, : 2 * t].T
            cov[own, own] = A[k] @ cov[last, last] @ A[k].T + Q[k]
        precision = np.zeros((n, n))
        for t in range(self.n_bins):
            own = slice(2 * t, 2 * t + 2)
            precision[own, own] = self.information[group, t]
        prior = np.linalg.inv(cov)
        after = np.linalg.inv(prior + precision)
        linear = prior @ mean + self.shift[group].ravel()
        evidence = 0.5 * (
            linear @ after @ linear - mean @ prior @ mean
            + np.linalg.slogdet(after)[1] - np.linalg.slogdet(cov)[1]
        )  # fmt: skip
        return after @ linear, after, float(evidence)

    def filtered(self) -> tuple[np.ndarray, np.ndarray, float]:
        precision, linear = np.empty((self.n_bins, 2, 2)), np.empty((self.n_bins, 2))
        evidence = filter_forward(
            self.A[0], self.b[0], self.Q[0], self.states, self.start, self.information[0],
            self.shift[0], np.zeros((self.n_bins, 2)), 0, self.n_bins, precision, linear,
            failures(),
        )  # fmt: skip
        return precision, linear, evidence

    def backward(self, precision, linear, x, mode, low=0, high=None) -> float:
        return sample_backward(
            self.rng, self.A[0], self.b[0], self.Q[0], self.states, self.start, precision, linear,
            x, low, self.n_bins if high is None else high, mode, failures(),
        )  # fmt: skip


def test_filter_gives_the_evidence_of_dense_algebra():
    toy = Toy()
    assert toy.filtered()[2] == pytest.approx(toy.dense(toy.states)[2], abs=1e-9)


def test_smoothed_mean_and_density_are_those_of_dense_algebra():
    toy = Toy()
    precision, linear, _ = toy.filtered()
    mean, cov, _ = toy.dense(toy.states)
    x = np.empty((toy.n_bins, 2))
    toy.backward(precision, linear, x, MEAN)
    np.testing.assert_allclose(x.ravel(), mean, atol=1e-9)
    x[:] = toy.rng.standard_normal(x.shape)
    density = toy.backward(precision, linear, x, EVALUATE)
    expected = stats.multivariate_normal(mean, cov).logpdf(x.ravel())
    assert density == pytest.approx(expected, abs=1e-8)


def test_draws_have_the_moments_of_dense_algebra():
    toy = Toy()
    mean, cov, _ = toy.dense(toy.states)
    x, draws = np.empty((toy.n_bins, 2)), []
    for _ in range(20_000):
        sample_trajectory(
            toy.rng, toy.A[0], toy.b[0], toy.Q[0], toy.states, toy.start, toy.information[0],
            toy.shift[0], x, failures(),
        )  # fmt: skip
        draws.append(x.ravel().copy())
    found = np.array(draws)
    # Five standard errors of a mean over 20,000 independent draws.
    assert np.abs(found.mean(0) - mean).max() < 5 * np.sqrt(cov.diagonal().max() / 20_000)
    assert np.abs(np.cov(found.T) - cov).max() < 0.05 * cov.diagonal().max()


def test_a_window_between_known_ends_has_the_conditional_density():
    toy = Toy()
    precision, linear, _ = toy.filtered()
    x = toy.rng.standard_normal((toy.n_bins, 2))
    mean, cov, _ = toy.dense(toy.states)
    inside, outside = np.arange(2, 6), np.r_[0:2, 6:12]  # bins 1 and 2
    whole, rest = (stats.multivariate_normal(mean[k], cov[np.ix_(k, k)]).logpdf(x.ravel()[k])
                   for k in (np.arange(12), outside))  # fmt: skip
    filter_forward(
        toy.A[0], toy.b[0], toy.Q[0], toy.states, toy.start, toy.information[0], toy.shift[0], x,
        1, 3, precision, linear, failures(),
    )  # fmt: skip
    assert inside.size == 4
    assert toy.backward(precision, linear, x, EVALUATE, 1, 3) == pytest.approx(
        whole - rest, abs=1e-8
    )


def test_information_is_the_sum_over_members():
    rng = np.random.default_rng(1)
    omega, weighted, readout = rng.random((3, 5)), rng.random((3, 5)), rng.random((3, 2))
    omega[0, 2] = weighted[0, 2] = 0.0
    information, shift = np.empty((5, 2, 2)), np.empty((5, 2))
    accumulate_information(omega, weighted, readout, np.array([0, 2]), information, shift)
    own = readout[[0, 2]]
    np.testing.assert_allclose(
        information, np.einsum("it,ia,ic->tac", omega[[0, 2]], own, own), atol=1e-12
    )
    np.testing.assert_allclose(shift, np.einsum("it,ia->ta", weighted[[0, 2]], own), atol=1e-12)


def _paths_of_states(toy: Toy, n_states: int):
    free = np.flatnonzero(~toy.start)
    for path in itertools.product(range(n_states), repeat=free.size):
        states = np.zeros(toy.n_bins, np.int64)
        states[free] = path
        yield states, free


def _log_chain(states: np.ndarray, start: np.ndarray, transition: np.ndarray) -> float:
    value = 0.0
    for t in np.flatnonzero(~start):
        if start[t - 1]:
            value -= np.log(len(transition))
        else:
            value += np.log(transition[states[t - 1], states[t]])
    return value


def _share_of_paths(draw, toy: Toy, log_weight, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities of all state paths, exact and from `count` draws."""
    exact, index = [], {}
    for states, free in _paths_of_states(toy, 2):
        index[tuple(states[free])] = len(exact)
        exact.append(log_weight(states))
    found = np.zeros(len(exact))
    for _ in range(count):
        draw()
        found[index[tuple(toy.states[free])]] += 1.0 / count
    return np.exp(np.array(exact) - logsumexp(exact)), found


def test_blocked_states_have_the_law_of_enumeration():
    toy = Toy(2)
    x = toy.rng.standard_normal((1, toy.n_bins, 2))
    transition = np.array([[0.8, 0.2], [0.3, 0.7]])
    density = log_transition_densities(x, np.array([0]), toy.A, toy.b, toy.Q, toy.start, failures())

    def log_weight(states):
        value = _log_chain(states, toy.start, transition)
        for t in np.flatnonzero(~toy.start):
            k = states[t]
            mean = toy.A[0, k] @ x[0, t - 1] + toy.b[0, k]
            value += stats.multivariate_normal(mean, toy.Q[0, k]).logpdf(x[0, t])
        return value

    def draw():
        sample_states_blocked(toy.rng, density, transition, toy.start, toy.states)

    exact, found = _share_of_paths(draw, toy, log_weight, 20_000)
    assert np.abs(exact - found).max() < 5 * np.sqrt(0.25 / 20_000)
    assert toy.states[0] == toy.states[1]
    assert toy.states[4] == toy.states[5]


def test_collapsed_scan_leaves_the_marginal_law_of_states_invariant():
    toy = Toy(3, groups=2)
    transition = np.array([[0.8, 0.2], [0.3, 0.7]])
    precision, linear = np.empty((2, toy.n_bins, 2, 2)), np.empty((2, toy.n_bins, 2))

    def log_weight(states):
        return _log_chain(states, toy.start, transition) + sum(
            toy.dense(states, group)[2] for group in range(2)
        )

    def draw():
        scan_states(
            toy.rng, np.array([0, 1]), toy.A, toy.b, toy.Q, transition, toy.start, toy.information,
            toy.shift, toy.states, precision, linear, failures(),
        )  # fmt: skip

    exact, found = _share_of_paths(draw, toy, log_weight, 20_000)
    # Draws of a scan are correlated: eight standard errors of independent ones.
    assert np.abs(exact - found).max() < 8 * np.sqrt(0.25 / 20_000)
    x = np.empty((toy.n_bins, 2))
    sample_backward(toy.rng, toy.A[1], toy.b[1], toy.Q[1], toy.states, toy.start, precision[1],
                    linear[1], x, 0, toy.n_bins, MEAN, failures())  # fmt: skip
    np.testing.assert_allclose(x.ravel(), toy.dense(toy.states, 1)[0], atol=1e-8)


def test_dynamics_have_the_moments_of_the_matrix_normal_inverse_wishart():
    toy = Toy(4, n_bins=40)
    toy.states, toy.start = np.repeat([0, 1], 20), np.zeros(40, bool)
    toy.start[0] = True
    x = np.cumsum(0.3 * toy.rng.standard_normal((40, 2)), axis=0)
    A, b, Q = np.empty((3, 2, 2)), np.empty((3, 2)), np.empty((3, 2, 2))
    sums, count = [np.zeros_like(A), np.zeros_like(b), np.zeros_like(Q)], 8000
    for _ in range(count):
        sample_dynamics(toy.rng, x, toy.states, toy.start, 6.0, 0.2, A, b, Q, failures())
        for total, one in zip(sums, (A, b, Q), strict=True):
            total += one / count
    u = np.column_stack([x, np.ones(40)])
    for k, steps in ((0, np.arange(1, 20)), (1, np.arange(20, 40)), (2, np.arange(0))):
        U, Y, M0 = u[steps - 1].T, x[steps].T, np.eye(2, 3)
        Kn = np.eye(3) + U @ U.T
        Mn = (M0 + Y @ U.T) @ np.linalg.inv(Kn)
        Sn = 0.2 * np.eye(2) + Y @ Y.T + M0 @ M0.T - Mn @ Kn @ Mn.T
        # Mean of IW(nu, S) is S / (nu - n - 1); one percent is three Monte-Carlo errors.
        np.testing.assert_allclose(sums[2][k], Sn / (8 + steps.size - 3), rtol=0.05, atol=2e-3)
        np.testing.assert_allclose(np.column_stack([sums[0][k], sums[1][k]]), Mn, atol=0.02)


def test_density_of_dynamics_is_bayes_theorem():
    """Conditional over prior density, integrated over the prior, is one."""
    toy = Toy(5)
    x = 0.3 * toy.rng.standard_normal((toy.n_bins, 2))
    A, b, Q = np.empty((2, 2, 2)), np.empty((2, 2)), np.empty((2, 2, 2))
    ratios = []
    for _ in range(4000):
        draw_prior_dynamics(toy.rng, 6.0, 0.5, A, b, Q, failures())
        ratios.append(np.exp(log_dynamics_conditional(x, toy.states, toy.start, 6.0, 0.5, A, b, Q)))
    error = np.std(ratios) / np.sqrt(len(ratios))
    assert np.mean(ratios) == pytest.approx(1.0, abs=5 * error)
    assert error < 0.1


def test_transition_counts_skip_first_states_of_trials():
    states = np.array([0, 0, 1, 1, 0, 0, 1])
    start = np.array([1, 0, 0, 0, 1, 0, 0], bool)
    assert count_transitions(states, start, 2).tolist() == [[0, 2], [0, 1]]


def test_tables_have_the_law_of_the_restaurant():
    """Means of the table counts: sums of Bernoulli probabilities, thinned by stickiness."""
    rng = np.random.default_rng(0)
    counts, beta, alpha, kappa = np.array([[6, 3], [0, 4]]), np.array([0.3, 0.7]), 2.0, 1.5
    mean = np.mean([sample_tables(rng, counts, beta, alpha, kappa) for _ in range(20_000)], axis=0)

    def expected(a: int, b: int) -> float:
        weight = alpha * beta[b] + kappa * (a == b)
        tables = sum(weight / (weight + seated) for seated in range(counts[a, b]))
        return tables * (1 - kappa / weight * (a == b))

    wanted = [expected(0, b) + expected(1, b) for b in range(2)]
    np.testing.assert_allclose(mean, wanted, atol=0.05)


def test_transitions_given_states_have_their_dirichlet_mean():
    rng = np.random.default_rng(1)
    states, start = np.array([0, 0, 1, 1, 1, 0]), np.zeros(6, bool)
    start[0] = True
    beta, transition = np.full(2, 0.5), np.empty((2, 2))
    rows, weights = [], []
    for _ in range(20_000):
        sample_transitions(rng, states, start, 4.0, 3.0, 2.0, beta, transition)
        rows.append(transition.copy())
        weights.append(beta.copy())
    concentration = 4.0 * np.array(weights)[:, None, :] + 2.0 * np.eye(2)
    concentration = concentration + count_transitions(states, start, 2)
    expected = (concentration / concentration.sum(-1, keepdims=True)).mean(0)
    np.testing.assert_allclose(np.mean(rows, axis=0), expected, atol=0.01)


FIXTURES = {
    (5, 0.2): [-6.040877, -6.712485, -6.206231, -4.963234, -3.196985],
    (30, 0.2): [-76.213271, -79.069569, -80.806808, -81.830539, -82.323214],
    (63, 0.415): [-201.870174, -205.83519, -208.69922, -210.867854, -212.523541],
}


@pytest.mark.parametrize("case", FIXTURES)
def test_log_v_of_the_specification(case):
    np.testing.assert_allclose(log_v_mfm(*case, 1.0)[1:6], FIXTURES[case], atol=2e-6)


def _partitions(n: int):
    def grow(labels):
        if len(labels) == n:
            yield np.array(labels)
            return
        for label in range(max(labels, default=-1) + 2):
            yield from grow([*labels, label])

    yield from grow([])


@pytest.mark.parametrize("gamma", [1.0, 0.4])
def test_partition_prior_sums_to_one_and_has_the_number_of_clusters(gamma):
    log_v = log_v_mfm(5, 0.2, gamma)
    values = {tuple(one): log_partition_prior(one, log_v, gamma) for one in _partitions(5)}
    assert len(values) == 52
    assert np.exp(logsumexp(list(values.values()))) == pytest.approx(1.0, abs=1e-9)
    if gamma == 1.0:
        number = [sum(np.exp(v) for k, v in values.items() if max(k) + 1 == t) for t in range(1, 6)]
        wanted = [0.28554, 0.29175, 0.24202, 0.13981, 0.04089]
        np.testing.assert_allclose(number, wanted, atol=1e-5)


def test_partition_prior_of_the_dirichlet_process_sums_to_one():
    log_v = log_v_dp(4, 1.7)
    total = logsumexp([log_partition_prior(one, log_v, 0.0) for one in _partitions(4)])
    assert total == pytest.approx(0.0, abs=1e-10)


def test_sampled_partitions_have_the_prior():
    rng = np.random.default_rng(2)
    drawn = [int(sample_partition(rng, 5, 0.2, 1.0).max()) + 1 for _ in range(10_000)]
    share = np.bincount(drawn, minlength=6)[1:] / 10_000
    np.testing.assert_allclose(share, [0.28554, 0.29175, 0.24202, 0.13981, 0.04089], atol=0.02)


COUNTS, RATE = np.array([0.0, 3, 1, 7, 2]), np.array([0.5, 2, 1, 4, 3])


@pytest.mark.parametrize(("r", "value"), [(0.5, -14.09394), (2, -10.931295), (10, -9.347429)])
def test_log_conditional_of_dispersion_of_the_specification(r, value):
    found = log_conditional(np.log(r), COUNTS, count_tail(COUNTS), RATE, 1.0, 0.1)
    assert found == pytest.approx(value, abs=1e-5)


def test_large_counts_enter_the_dispersion_without_a_table():
    counts, rate = np.array([500.0, 3.0, -1.0]), np.array([300.0, 2.0, 1.0])
    values = [log_conditional(x, counts, count_tail(counts), rate, 1.0, 0.1) for x in (0.0, 2.0)]
    exact = [
        stats.nbinom(r, r / (r + rate[:2])).logpmf(counts[:2].astype(int)).sum() - 0.1 * r + x
        for x, r in ((0.0, 1.0), (2.0, np.exp(2.0)))
    ]
    assert values[1] - values[0] == pytest.approx(exact[1] - exact[0], abs=1e-8)


def test_dispersion_chain_has_the_posterior_of_quadrature():
    rng = np.random.default_rng(3)
    rate = np.full((1, 500), 1.1)
    y = rng.poisson(rng.gamma(10.0, rate / 10.0)).astype(float)
    grid = np.linspace(-2, 5, 2000)
    tail = count_tail(y[0])
    log_density = np.array([log_conditional(g, y[0], tail, rate[0], 1.0, 1.0) for g in grid])
    law = np.cumsum(np.exp(log_density - logsumexp(log_density)))
    exact = np.exp(np.interp([0.025, 0.5, 0.975], law, grid))
    r, draws = np.array([10.0]), []
    for _ in range(12_000):
        sample_dispersion(rng, y, np.log(rate), 1.0, 1.0, r)
        draws.append(r[0])
    np.testing.assert_allclose(np.quantile(draws, [0.025, 0.5, 0.975]), exact, rtol=0.05)


@pytest.mark.parametrize("poisson", [False, True])
def test_likelihood_is_that_of_scipy(poisson):
    counts, eta, r = np.array([[0.0, 4, -1, 2]]), np.array([[0.3, 1.0, 0, -2]]), np.array([3.5])
    found = log_likelihood_bins(counts, eta, r, poisson)[0]
    rate, seen = np.exp(eta[0]), [0, 1, 3]
    law = stats.poisson(rate) if poisson else stats.nbinom(3.5, 3.5 / (3.5 + rate))
    np.testing.assert_allclose(found[seen], law.logpmf(counts[0].astype(int))[seen], atol=1e-10)
    assert found[2] == 0.0


def test_polya_gamma_variables_have_their_mean_and_skip_masked_entries():
    rng = np.random.default_rng(4)
    counts = np.tile([0.0, 3.0, -1.0], (1, 8000))
    eta, r = np.full(counts.shape, 0.4), np.array([5.5])
    omega = polya_gamma(rng, counts, eta, r)
    assert (omega[counts < 0] == 0).all()
    tilt = 0.4 - np.log(5.5)
    for y in (0.0, 3.0):
        mean = (y + 5.5) / (2 * tilt) * np.tanh(tilt / 2)
        assert omega[counts == y].mean() == pytest.approx(mean, rel=0.02)


@pytest.mark.parametrize("poisson", [False, True])
def test_laplace_is_close_to_quadrature_and_its_gradient_right(poisson):
    rng = np.random.default_rng(5)
    x = np.column_stack([0.3 * rng.standard_normal(60), rng.standard_normal(60)])
    counts = rng.poisson(np.exp(0.2 + x[:, 0] + 0.5 * x[:, 1])).astype(float)
    counts[:5] = -1.0
    mean, precision, offset = np.array([0.1, 0.0]), np.array([1.0, 2.0]), np.full(60, 0.1)
    gradient, hessian = np.empty(2), np.empty((2, 2))

    def f(b):
        return log_target(
            counts, offset, x, 4.0, poisson, mean, precision, np.asarray(b), gradient, hessian
        )

    here = np.array([0.3, -0.2])
    numeric = [(f(here + h) - f(here - h)) / 2e-5 for h in 1e-5 * np.eye(2)]
    f(here)
    np.testing.assert_allclose(gradient, numeric, rtol=1e-5)
    mode, lower = np.empty(2), np.empty((2, 2))
    found = laplace(counts, offset, x, 4.0, poisson, mean, precision, mode, lower, failures())
    grid = np.linspace(-1.2, 1.2, 121)
    values = [f(mode + np.array([a, c])) for a in grid for c in grid]
    exact = logsumexp(values) + 2 * np.log(grid[1] - grid[0])
    assert found == pytest.approx(exact, abs=0.05)


def test_gaussian_path_is_exact_where_the_likelihood_says_nothing():
    """Without counts the approximation is the prior: the ratio of both densities is zero."""
    toy = Toy(6)
    counts = np.full((2, toy.n_bins), -1.0)
    members, coefficients = np.array([0, 1]), np.zeros((2, 2))
    data = counts, np.zeros(counts.shape), coefficients, np.ones(2), False
    precision, linear = approximate_path(
        toy.rng, *data, members, toy.A[0], toy.b[0], toy.Q[0], toy.states, toy.start, failures()
    )
    x = np.empty((toy.n_bins, 2))
    density = toy.backward(precision, linear, x, DRAW)
    prior = log_path_prior(x, toy.A[0], toy.b[0], toy.Q[0], toy.states, toy.start, failures())
    assert density == pytest.approx(prior, abs=1e-9)


def test_gaussian_path_gives_nearly_the_same_evidence_at_every_draw():
    toy = Toy(7)
    counts = toy.rng.poisson(5.0, (12, toy.n_bins)).astype(float)
    members, coefficients = np.arange(12), 0.3 * toy.rng.standard_normal((12, 2))
    coefficients[:, 0] = 1.5
    data = counts, np.zeros(counts.shape), coefficients, np.full(12, 8.0), False
    dynamics = toy.A[0], toy.b[0], toy.Q[0], toy.states, toy.start
    precision, linear = approximate_path(toy.rng, *data, members, *dynamics, failures())
    x, values = np.empty((toy.n_bins, 2)), []
    for _ in range(50):
        proposal = toy.backward(precision, linear, x, DRAW)
        likelihood = expand_likelihood(
            *data, members, x, np.empty((toy.n_bins, 2, 2)), np.empty_like(x)
        )
        values.append(log_path_prior(x, *dynamics, failures()) + likelihood - proposal)
    assert np.std(values) < 0.3
    assert gammaln(counts + 1).sum() > 0
