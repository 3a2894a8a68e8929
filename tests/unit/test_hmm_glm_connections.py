"""Classes of connections: signs, Dale's law, the network of all states, relaxed classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.distributions import RelaxedOneHotCategorical

from neuropipe.analyses.hmm_glm.kernels.connections import (
    ConnectionRules,
    _largest_probability,
    global_classes,
    infer_connections,
)
from neuropipe.analyses.hmm_glm.kernels.families import FAMILIES, log_density
from neuropipe.analyses.hmm_glm.kernels.gumbel import _log_probability, concrete_log_density

UNSIGNED, DALE = ConnectionRules(signed=False), ConnectionRules(dale=True)


def estimates(sign, seed, error=0.04, size=0.5):
    rng = np.random.default_rng(seed)
    noise = np.sqrt(error) * rng.normal(size=sign.shape)
    return (sign * size + noise)[..., None], np.full((*sign.shape, 1), error)


def right(model, sign):
    return (model.probability.argmax(axis=-1) - 1 == sign).mean()


def test_one_sign_per_sender_is_learned_and_corrects_noisy_weights():
    rng = np.random.default_rng(0)
    sender = rng.choice([-1, 1], 12)
    other = ~np.eye(12, dtype=bool)
    sign = (rng.random((3, 12, 12)) < 0.3) * np.where(other, sender, -sender)
    given = estimates(sign, 1)
    free, bound = infer_connections(*given), infer_connections(*given, DALE)
    column = np.nanmean(bound.excitatory, axis=0)
    np.testing.assert_allclose(column, sender > 0, atol=0.05)
    called = bound.probability.argmax(axis=-1) - 1
    assert (called * sender * other >= 0).all()
    wrong = ((free.probability.argmax(axis=-1) - 1) * sender * other < 0).sum()
    assert wrong > 0
    assert right(bound, sign) > right(free, sign)
    # A unit's influence on itself is no synapse and keeps its own sign.
    own = np.einsum("sii->si", called)
    assert (own * sender <= 0).all()
    assert np.isnan(np.diagonal(bound.excitatory)).all()
    np.testing.assert_array_equal(
        np.sign(global_classes(bound, DALE))[other] * np.broadcast_to(sender, (12, 12))[other] >= 0,
        True,
    )


def test_presence_alone_is_shared_where_signs_change_between_states():
    """Pairs that are connected in every state, with a sign drawn anew in each."""
    rng = np.random.default_rng(2)
    pair = rng.random((14, 14)) < 0.3
    sign = pair * rng.choice([-1, 1], (4, 14, 14))
    given = estimates(sign, 3, error=0.02)
    signed, unsigned = infer_connections(*given), infer_connections(*given, UNSIGNED)
    assert right(unsigned, sign) > right(signed, sign)
    present = 1.0 - unsigned.overall[..., 1]
    # Four states and one pseudo state at the overall frequency give 0.86 at most.
    assert present[pair].mean() > 0.7
    assert present[~pair].mean() < 0.1
    ratio = unsigned.overall[..., 2] / present
    np.testing.assert_allclose(ratio, ratio[0, 0])
    np.testing.assert_array_equal(global_classes(unsigned, UNSIGNED) != 0, pair)


@pytest.mark.parametrize("rules", [ConnectionRules(), UNSIGNED, DALE])
def test_probabilities_of_classes_sum_to_one(rules):
    rng = np.random.default_rng(4)
    sign = rng.choice([-1, 0, 1], (3, 8, 8), p=[0.15, 0.7, 0.15])
    model = infer_connections(*estimates(sign, 5), rules)
    np.testing.assert_allclose(model.probability.sum(axis=-1), 1.0)
    np.testing.assert_allclose(model.overall.sum(axis=-1), 1.0)
    assert set(np.unique(global_classes(model, rules))) <= {-1, 0, 1}


def test_probability_of_the_largest_share_is_that_of_draws():
    alpha = np.array([[0.1, 0.8, 0.1], [2.1, 3.8, 0.1], [1.0, 1.0, 1.0], [0.05, 5.9, 0.05]])
    rng = np.random.default_rng(6)
    for row, found in zip(alpha, _largest_probability(alpha), strict=True):
        draws = (
            np.log(rng.gamma(row + 1, size=(100_000, 3))) + np.log(rng.random((100_000, 3))) / row
        )  # logarithms of Gamma variables of small shape do not underflow
        share = np.bincount(draws.argmax(axis=1), minlength=3) / 100_000
        np.testing.assert_allclose(found, share, atol=0.007)  # four standard errors
    np.testing.assert_allclose(_largest_probability(alpha[2]), 1 / 3, rtol=1e-6)


def test_the_network_of_all_states_finds_rare_classes_as_surely_as_frequent_ones():
    """Classes known without error: the arg max of A0 still misses pairs, by the luck of states."""
    scores = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        overall = rng.dirichlet([0.1, 0.8, 0.1], (20, 20))
        draw = rng.random((5, 20, 20, 1)) > overall.cumsum(axis=-1)[None, :, :, :2]
        sign = draw.sum(axis=-1) - 1
        model = infer_connections(*estimates(sign, seed, error=1e-4))
        truth = overall.argmax(axis=-1) - 1
        recalls = [
            np.mean([(found[truth == k] == k).mean() for k in (-1, 0, 1)])
            for found in (model.overall.argmax(axis=-1) - 1, global_classes(model))
        ]
        scores.append(recalls)
    plain, supported = np.mean(scores, axis=0)
    assert supported > plain + 0.03
    assert supported > 0.9


def test_nothing_is_called_without_support():
    rng = np.random.default_rng(7)
    estimate = 0.1 * rng.normal(size=(3, 9, 9, 1))
    model = infer_connections(estimate, np.full(estimate.shape, 0.01))
    np.testing.assert_array_equal(global_classes(model), 0)


@pytest.mark.parametrize("temperature", [0.2, 0.5, 1.0])
def test_concrete_density_is_that_of_torch(temperature):
    rng = np.random.default_rng(8)
    share, base = (torch.tensor(rng.dirichlet([1.0, 2.0, 1.5], 50)) for _ in range(2))
    reference = RelaxedOneHotCategorical(torch.tensor(temperature), probs=base)
    expected = reference.log_prob(share)
    torch.testing.assert_close(concrete_log_density(share, base.log(), temperature), expected)


def test_concrete_density_integrates_to_one():
    """In coordinates log(a_1 / a_3), log(a_2 / a_3), where the corners are far away."""
    grid = torch.linspace(-40, 40, 801, dtype=torch.float64)
    first, second = torch.meshgrid(grid, grid, indexing="ij")
    share = torch.softmax(torch.stack([first, second, torch.zeros_like(first)], dim=-1), dim=-1)
    share = share.clamp(min=1e-300)
    base = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    density = concrete_log_density(share, base.log(), 0.4) + share.log().sum(dim=-1)
    total = float(density.exp().sum()) * 0.1**2
    assert total == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("kind", sorted(FAMILIES))
def test_gradients_climb_the_log_probability_of_the_family(kind):
    """Up to a constant: differences between two predictors are those of the compiled families."""
    rng = np.random.default_rng(9)
    first, second = rng.normal(size=(2, 40, 3))
    observed = rng.integers(0, 2, (40, 3)).astype(float)
    dispersion = rng.uniform(0.5, 2.0, 3)
    expected, found = (
        log(first) - log(second)
        for log in (
            lambda eta: log_density(FAMILIES[kind], eta, observed, dispersion),
            lambda eta: _log_probability(
                FAMILIES[kind], *(torch.tensor(v) for v in (eta, observed, dispersion))
            ).numpy(),
        )
    )
    np.testing.assert_allclose(found, expected, atol=1e-10)
