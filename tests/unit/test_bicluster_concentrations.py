"""Kernels of the hyper-priors of states, and Polya-Gamma variables of tiny shapes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logsumexp
from scipy.stats import beta as beta_law
from scipy.stats import dirichlet, gamma

from neuropipe.analyses.bicluster.kernels.concentrations import (
    log_rows,
    log_shared,
    log_transitions,
    sample_concentrations,
)
from neuropipe.analyses.bicluster.kernels.likelihood import polya_gamma
from neuropipe.analyses.bicluster.kernels.small_shapes import polya_gamma_series

HYPER = np.array([3.0, 0.4, 2.0, 0.5, 4.0, 2.0])
COUNTS = np.array([[14, 2, 0], [1, 9, 3], [2, 2, 6]])
BETA = np.array([0.5, 0.3, 0.2])


def test_transitions_have_the_probability_of_an_urn():
    """Drawn one after the other, each has the share of its weight: Polya's urn."""
    alpha, kappa, value = 2.5, 4.0, 0.0
    for a, row in enumerate(COUNTS):
        weight = alpha * BETA + kappa * (np.arange(3) == a)
        for b in np.repeat(np.arange(3), row):
            value += np.log(weight[b] / weight.sum())
            weight[b] += 1
    assert log_transitions(COUNTS, BETA, alpha, kappa) == pytest.approx(value, rel=1e-12)


def test_a_state_without_weight_is_never_entered():
    beta = np.array([0.6, 0.4, 0.0])
    counts = np.array([[3, 1, 0], [1, 3, 0], [0, 0, 0]])
    assert np.isfinite(log_transitions(counts, beta, 2.0, 1.0))
    counts[0, 2] = 1
    assert log_transitions(counts, beta, 2.0, 1.0) < -600


def test_density_of_the_rows_holds_priors_and_jacobians():
    """Without transitions it is the prior, carried to the scales that are sampled."""
    none = np.zeros((3, 3), np.int64)

    def expected(u: float, v: float) -> float:
        total, stay = np.exp(u), expit(v)
        prior = gamma(3.0, scale=1 / 0.4).logpdf(total) + beta_law(4.0, 2.0).logpdf(stay)
        return prior + u + np.log(stay * (1 - stay))

    found = log_rows(none, BETA, 1.3, -0.4, HYPER) - log_rows(none, BETA, 0.2, 0.7, HYPER)
    assert found == pytest.approx(expected(1.3, -0.4) - expected(0.2, 0.7), rel=1e-10)


def test_density_of_the_shared_concentration_is_that_of_the_dirichlet():
    def expected(w: float) -> float:
        value = gamma(2.0, scale=2.0).logpdf(np.exp(w)) + w
        return value + dirichlet(np.full(3, np.exp(w) / 3)).logpdf(BETA)

    found = log_shared(BETA, 1.1, HYPER) - log_shared(BETA, -0.5, HYPER)
    assert found == pytest.approx(expected(1.1) - expected(-0.5), rel=1e-10)


def test_sampled_concentrations_have_the_posterior_of_quadrature():
    rng, strength = np.random.default_rng(0), np.array([5.0, 5.0, 10.0])
    drawn = np.empty((20_000, 3))
    for row in drawn:
        sample_concentrations(rng, COUNTS, BETA, HYPER, strength)
        row[:] = strength
    u, v = np.linspace(-3, 5, 161), np.linspace(-6, 8, 141)
    grid = np.array([[log_rows(COUNTS, BETA, a, b, HYPER) for b in v] for a in u])
    weight = np.exp(grid - logsumexp(grid))
    w = np.linspace(-6, 5, 400)
    shared = np.array([log_shared(BETA, one, HYPER) for one in w])
    share = np.exp(shared - logsumexp(shared))
    total, stay = drawn[:, 0] + drawn[:, 2], drawn[:, 2] / (drawn[:, 0] + drawn[:, 2])
    # Slices mix fast: 20,000 draws have standard errors below 2 % of these means and spreads.
    for values, on_grid, p in (
        (np.log(total), u, weight.sum(axis=1)),
        (stay, expit(v), weight.sum(axis=0)),
        (np.log(drawn[:, 1]), w, share),
    ):
        mean = (p * on_grid).sum()
        spread = np.sqrt((p * (on_grid - mean) ** 2).sum())
        assert values.mean() == pytest.approx(mean, abs=0.06 * spread)
        assert values.std() == pytest.approx(spread, rel=0.05)


@pytest.mark.parametrize(("shape", "tilt"), [(0.05, 0.0), (0.3, 2.0), (1.0, -4.0)])
def test_series_has_mean_and_variance_of_polya_gamma(shape, tilt):
    rng, n = np.random.default_rng(1), 20_000
    drawn = polya_gamma_series(rng, np.full(n, shape), np.full(n, tilt))
    z = abs(tilt) if tilt else 1e-3
    mean = shape / (2 * z) * np.tanh(z / 2)
    variance = shape / (4 * z**3) * (np.sinh(z) - z) / np.cosh(z / 2) ** 2
    # Five standard errors of a mean; variances of so skewed a law within a fifth.
    assert drawn.mean() == pytest.approx(mean, abs=5 * np.sqrt(variance / n))
    assert drawn.var() == pytest.approx(variance, rel=0.2)


def test_a_dispersion_near_zero_stops_no_chain():
    counts, rng = np.array([[0.0, 0.0, 2.0, -1.0]]), np.random.default_rng(0)
    omega = polya_gamma(rng, counts, np.zeros((1, 4)), np.array([1e-5]))
    assert np.isfinite(omega).all()
    assert omega[0, 2] > 0.0
    assert omega[0, 3] == 0.0
