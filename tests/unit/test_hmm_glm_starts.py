"""Where fits begin: scores against sums by hand, large problems, states that lost their bins."""

from __future__ import annotations

import numpy as np
import pytest

from neuropipe.analyses.hmm_glm.kernels.em import Parameters, run
from neuropipe.analyses.hmm_glm.kernels.families import FAMILIES, mean
from neuropipe.analyses.hmm_glm.kernels.glm import Observations
from neuropipe.analyses.hmm_glm.kernels.maximise import Rules
from neuropipe.analyses.hmm_glm.kernels.priors import FixedPrior, SharedMean
from neuropipe.analyses.hmm_glm.kernels.score_features import (
    principal_scores,
    smoothed_activity,
    smoothed_scores,
)
from neuropipe.analyses.hmm_glm.starts import fit_one_state, labelled_start, starting_chain

MODULE = "neuropipe.analyses.hmm_glm.kernels.score_features"


def problem(kind=("gaussian", "identity"), n_bins=300):
    rng = np.random.default_rng(0)
    design = np.column_stack([np.ones(n_bins), rng.normal(size=(n_bins, 2))])
    states = np.arange(n_bins) // 50 % 2
    theta = np.array([[[0.0, 0.8, 0.0], [0.5, 0.0, -0.5]], [[0.5, -0.8, 0.3], [0.0, 0.5, 0.5]]])
    eta = np.einsum("tp,tnp->tn", design, theta[states])
    code = FAMILIES[kind]
    if kind[0] == "gaussian":
        observed = eta + rng.normal(size=eta.shape)
    elif kind[0] == "bernoulli":
        observed = (rng.random(eta.shape) < mean(code, eta)).astype(float)
    else:
        observed = rng.poisson(mean(code, eta)).astype(float)
    offsets = np.array([0, n_bins // 3, n_bins])
    return Observations(observed, design, np.ones(n_bins, bool), offsets, code), theta, states


def rules(**changes):
    given = {
        "alpha": 1.0, "kappa": 0.0, "least_weight": 1e-3, "tol": 1e-8,
        "silent": np.zeros(2, bool), "variance_floor": np.full(2, 1e-6),
        "unused": np.zeros(3, bool),
    }  # fmt: skip
    return Rules(**{**given, **changes})


@pytest.mark.parametrize("noise", ["none", "squares", "products"])
def test_scores_are_weighted_outer_products_of_residuals_and_features(noise):
    data, theta, _ = problem()
    found, nearest = smoothed_scores(
        data, theta[0], np.ones(2), sigma=4.0, noise=noise == "squares",
        correlated=noise == "products",
    )  # fmt: skip
    residual = data.observed - data.design @ theta[0].T
    residual = (residual - residual.mean(axis=0)) / residual.std(axis=0)
    features = data.design.copy()
    features[:, 1:] = (features[:, 1:] - features[:, 1:].mean(0)) / features[:, 1:].std(0)
    for t in (3, 120, 299):
        row = found[nearest[t]]
        start, stop = (0, 100) if t < 100 else (100, 300)
        sampled = list(range(start + 5, stop, 10))
        moment = min(sampled, key=lambda m, t=t: abs(m - t))
        bins = np.arange(max(start, moment - 12), min(stop, moment + 13))
        weight = np.exp(-0.5 * ((bins - moment) / 4.0) ** 2)
        weight /= weight.sum()
        expected = np.einsum("t,tn,tp->np", weight, residual[bins], features[bins]).ravel()
        products = np.einsum("t,tn,tm->nm", weight, residual[bins], residual[bins])
        extra = {
            "none": [],
            "squares": np.diag(products),
            "products": products[[0, 0, 1], [0, 1, 1]],
        }
        np.testing.assert_allclose(row, np.append(expected, extra[noise]), atol=1e-5)


def test_activity_is_averaged_around_sampled_moments():
    data, _, _ = problem()
    found, nearest = smoothed_activity(data, sigma=3.0)
    scaled = (data.observed - data.observed.mean(axis=0)) / data.observed.std(axis=0)
    bins = np.arange(100, 115)
    weight = np.exp(-0.5 * ((bins - 105) / 3.0) ** 2)
    np.testing.assert_allclose(found[nearest[105]], weight @ scaled[bins] / weight.sum(), atol=1e-5)


def test_large_problems_have_the_same_leading_components(monkeypatch):
    rng = np.random.default_rng(1)
    low = rng.normal(size=(300, 4)) * [9.0, 7.0, 5.0, 3.0] @ rng.normal(size=(4, 80))
    scores = (low + 0.1 * rng.normal(size=low.shape)).astype(np.float32)
    exact = principal_scores(scores.copy(), 4)
    wide = principal_scores(scores.T[:, :60].copy(), 3)
    monkeypatch.setattr(f"{MODULE}.LARGEST_EXACT", 10)
    for expected, given, count in ((exact, scores, 4), (wide, scores.T[:, :60], 3)):
        found = principal_scores(given.copy(), count)
        signs = np.sign((found * expected).sum(axis=0))
        np.testing.assert_allclose(found * signs, expected, atol=0.02 * np.abs(expected).max())


@pytest.mark.parametrize("kind", sorted(FAMILIES))
def test_one_state_fits_reach_a_point_without_slope(kind):
    from neuropipe.analyses.hmm_glm.kernels.glm import penalised_derivatives

    data, _, _ = problem(kind)
    ridge = np.full(3, 0.01)
    one = fit_one_state(data, rules(), ridge)
    slope = penalised_derivatives(
        data, np.ones(300), one.theta, one.dispersion,
        precision=np.broadcast_to(ridge, one.theta.shape), centre=np.zeros_like(one.theta),
    )[1]  # fmt: skip
    np.testing.assert_allclose(slope, 0.0, atol=1e-2)
    assert (one.dispersion > 0).all()


@pytest.mark.parametrize("full", [False, True])
def test_labels_give_states_their_own_weights_and_noise(full):
    data, theta, states = problem(n_bins=3000)
    given = rules(scale=data.observed.var(axis=0) if full else None)
    one = fit_one_state(data, given, np.full(3, 0.01))
    start = labelled_start(data, one, given, states, 2)
    # Ridge 20 of about 1500 bins shrinks a little; standard errors are 0.03.
    np.testing.assert_allclose(start.theta, theta, atol=0.12)
    assert start.dispersion.shape == ((2, 2, 2) if full else (2, 2))
    common = labelled_start(data, one, rules(shared_bias=True), states, 2)
    np.testing.assert_array_equal(common.theta[0, :, 0], common.theta[1, :, 0])


def test_a_state_that_lost_its_bins_is_seeded_from_what_is_predicted_worst():
    data, theta, states = problem(n_bins=3000)
    lost = theta.copy()
    lost[1, :, 0] = 60.0  # explains nothing
    start = Parameters(lost, np.ones((2, 2)), *starting_chain(2))
    prior = FixedPrior(np.full(theta.shape, 0.01), np.zeros(theta.shape))
    without = run(data, start, prior, rules(least_mass=0.0), max_iter=60)
    seeded = run(data, start, prior, rules(least_mass=15.0), max_iter=60)
    assert (without.reseeded, seeded.reseeded) == (0, 1)
    assert without.posterior.probability[:, 1].sum() < 15
    assert seeded.posterior.probability.sum(axis=0).min() > 500
    assert seeded.log_likelihood > without.log_likelihood + 100
    found = seeded.posterior.probability.argmax(axis=1)
    assert max((found == states).mean(), (found != states).mean()) > 0.9


def test_a_start_begins_at_the_maximum_of_its_prior():
    _, theta, _ = problem()
    prior = SharedMean(np.full(3, 0.01), np.arange(3) > 0, np.zeros((2, 3)), 1 / 9, 2)
    begun = prior.around(theta)
    np.testing.assert_allclose(begun.mean[:, 1:], theta.mean(axis=0)[:, 1:])
    assert begun.variance >= prior.variance
    assert prior.around(0.01 * theta).variance == prior.variance
