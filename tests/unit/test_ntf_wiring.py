from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from neuropipe.analyses.ntf.kernels.wiring import (
    STRATUM,
    compare_wiring,
    expected_weights,
    strength_strata,
)


def connectome(rng, n=60, *, tail=1.0, missing=0.0):
    """Weights with hubs: Poisson with a rate that is a product of heavy-tailed factors."""
    send, receive = rng.gamma(1.5, tail, n), rng.gamma(1.5, tail, n)
    weight = rng.poisson(np.outer(send, receive)).astype(float)
    weight[rng.random((n, n)) < missing] = np.nan
    np.fill_diagonal(weight, np.nan)
    return weight


def everybody(n):
    return np.ones(n, dtype=bool)


def compare(weight, groups, rng, draws=200, eligible=None):
    eligible = everybody(len(weight)) if eligible is None else eligible
    return compare_wiring(weight, groups, eligible, draws=draws, rng=rng)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_expected_weights_keep_the_strengths_of_every_neuron(signed, missing):
    rng = np.random.default_rng(0)
    weight = connectome(rng, missing=missing)
    weight -= 2.0 * signed
    measured = np.isfinite(weight)
    expected = expected_weights(weight, measured)
    known = np.where(measured, weight, 0.0)
    for axis in (0, 1):
        np.testing.assert_allclose(expected.sum(axis), known.sum(axis), atol=1e-6)
    assert not expected[~measured].any()
    if not signed and not missing:
        corner = expected[:30, 30:]  # without the diagonal: products of two factors have rank one
        assert np.linalg.matrix_rank(corner, tol=1e-6 * corner.max()) == 1


def test_statistic_is_the_mean_over_measured_ordered_pairs():
    rng = np.random.default_rng(1)
    weight = connectome(rng, 30, missing=0.2)
    group = np.array([3, 8, 11, 20])
    expected = expected_weights(weight, np.isfinite(weight))
    found = compare(weight, [group], rng)
    pairs = [(i, j) for i, j in itertools.permutations(group, 2) if np.isfinite(weight[i, j])]
    assert found.pairs[0] == len(pairs) < 12
    assert found.neurons[0] == 4
    assert found.weight[0] == pytest.approx(np.mean([weight[pair] for pair in pairs]))
    assert found.expected[0] == pytest.approx(np.mean([expected[pair] for pair in pairs]))


def test_pvalue_is_the_share_of_all_groups_of_a_stratum():
    """With one stratum the matched groups are all of that size: they can be listed."""
    rng = np.random.default_rng(2)
    n, draws = 9, 4000
    assert n < 1.5 * STRATUM
    weight = connectome(rng, n)
    excess = weight - expected_weights(weight, np.isfinite(weight))

    def mean_excess(group):
        return np.mean([excess[pair] for pair in itertools.permutations(group, 2)])

    every = {group: mean_excess(group) for group in itertools.combinations(range(n), 3)}
    ranked = sorted(every, key=every.get)
    for group in (ranked[0], ranked[len(ranked) // 2], ranked[-5]):
        share = np.mean([value >= every[group] - 1e-12 for value in every.values()])
        found = compare(weight, [np.array(group)], rng, draws=draws)
        assert found.pvalue[0] == pytest.approx(
            share, abs=4 * np.sqrt(share * (1 - share) / draws) + 1 / draws
        )
        values = np.quantile(list(every.values()), [0.05, 0.5, 0.95])
        assert (np.abs(found.null[0] - values) < 0.3 * np.ptp(values)).all()


def test_strata_hold_neurons_of_similar_strength():
    weight = connectome(np.random.default_rng(3), 57)
    strata = strength_strata(weight, np.isfinite(weight))
    assert sorted(np.concatenate(strata)) == list(range(57))
    assert all(8 <= stratum.size <= 12 for stratum in strata)
    strength = np.nansum(weight, 0) + np.nansum(weight, 1)
    assert all(
        strength[low].max() <= strength[high].min() for low, high in itertools.pairwise(strata)
    )


def naive_pvalue(weight, group, rng, draws=200):
    """Share of random sets of the same size, of any strength, with as much weight."""
    observed = np.nansum(weight[np.ix_(group, group)])
    sets = [rng.choice(len(weight), group.size, replace=False) for _ in range(draws)]
    return (1 + sum(np.nansum(weight[np.ix_(s, s)]) >= observed for s in sets)) / (1 + draws)


def test_groups_of_hubs_are_not_significant_for_being_hubs():
    """Null true: members are drawn by strength alone. Sets of any strength reject it often."""
    pvalues, naive = [], []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        weight = connectome(rng, 80)
        strength = np.nansum(weight, 0) + np.nansum(weight, 1)
        group = rng.choice(80, 8, replace=False, p=strength / strength.sum())
        pvalues.append(compare(weight, [group], rng, draws=99).pvalue[0])
        if seed < 60:
            naive.append(naive_pvalue(weight, group, rng, draws=99))
    # p is a multiple of 1/100: as fine as the test of 300 values can tell from uniform.
    assert stats.kstest(pvalues, "uniform").pvalue > 0.01
    # binomial(300, 0.05) exceeds 26 with probability 0.002
    assert np.sum(np.array(pvalues) <= 0.05) <= 26
    assert np.mean(np.array(naive) <= 0.05) > 0.15


def test_familywise_p_holds_over_groups():
    hits = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        weight = connectome(rng, 60)
        groups = [rng.choice(60, size, replace=False) for size in (4, 6, 8, 10, 12)]
        found = compare(weight, groups, rng, draws=199)
        assert (found.pvalue_family >= found.pvalue).all()
        hits += bool((found.pvalue_family <= 0.05).any())
    assert hits <= 12  # binomial(100, 0.05) exceeds 12 with probability 0.0015


def test_planted_wiring_is_found_among_equal_strengths():
    """Within the group weights are moved to members from others: no strength changes."""
    hits = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        weight = rng.poisson(3.0, (60, 60)).astype(float)
        group = rng.choice(60, 8, replace=False)
        rest = np.setdiff1d(np.arange(60), group)
        for i in group:
            for j in group[group != i]:
                moved = min(2.0, weight[i, rng.choice(rest)])
                weight[i, j] += moved
                weight[i, rest] -= moved / rest.size
        weight = np.maximum(weight, 0)
        found = compare(weight, [group, rest[:8]], rng, draws=499)
        hits += found.pvalue_family[0] < 0.05
        assert found.pvalue_family[1] > 0.01
    assert hits >= 9


def test_what_was_not_measured_does_not_count():
    rng = np.random.default_rng(4)
    weight = connectome(rng, 40)
    weight[10:14, 10:14] = np.nan
    weight[20] = weight[:, 20] = np.nan
    groups = [np.arange(10, 14), np.array([20, 21]), np.array([20, 21, 22]), np.array([5])]
    found = compare(weight, groups, rng)
    np.testing.assert_array_equal(found.pairs, [0, 0, 2, 0])
    np.testing.assert_array_equal(found.neurons, [4, 1, 2, 1])
    np.testing.assert_array_equal(np.isfinite(found.pvalue), [False, False, True, False])
    np.testing.assert_array_equal(np.isfinite(found.pvalue_family), np.isfinite(found.pvalue))
    assert np.isnan(found.weight[[0, 1, 3]]).all()
    assert found.weight[2] == pytest.approx((weight[21, 22] + weight[22, 21]) / 2)


def test_neurons_that_were_not_recorded_are_never_drawn():
    """Their wiring is heavy: drawn, they would make every other group light."""
    rng = np.random.default_rng(5)
    weight = connectome(rng, 40)
    eligible = everybody(40)
    eligible[30:] = False
    other = weight.copy()
    other[30:] *= 50
    other[:, 30:] *= 50
    groups = [np.arange(6), np.arange(3, 12)]
    one, two = (
        compare(values, groups, np.random.default_rng(0), eligible=eligible)
        for values in (weight, other)
    )
    np.testing.assert_array_equal(one.pvalue, two.pvalue)
    np.testing.assert_array_equal(one.null, two.null)


def test_nothing_measured_or_no_group_is_no_error():
    found = compare(np.full((8, 8), np.nan), [np.arange(3)], np.random.default_rng(0))
    assert np.isnan(found.pvalue).all()
    assert compare(np.ones((8, 8)), [], np.random.default_rng(0)).pvalue.shape == (0,)


def test_equal_weights_are_never_significant():
    found = compare(np.ones((30, 30)), [np.arange(5), np.arange(9)], np.random.default_rng(0))
    np.testing.assert_allclose(found.pvalue, 1.0)
    np.testing.assert_allclose(found.pvalue_family, 1.0)
