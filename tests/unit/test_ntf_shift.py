from __future__ import annotations

import itertools

import numpy as np
import pytest

from neuropipe.analyses.ntf.kernels.shift_test import ShiftTest


def graphs(rng, level, n_components=2):
    """Graphs whose pairs differ in their level, as those of busy and of quiet neurons do."""
    n = len(level)
    out = np.empty((n_components, n, n))
    for graph in out:
        graph[:] = np.triu(np.outer(level, level) * rng.exponential(size=(n, n)), 1)
        graph += graph.T
    return out


def strongest(graph, size=4):
    """The neurons of most weight: what a detection that follows activity would find."""
    return np.sort(np.argsort(-np.nansum(graph, axis=0))[:size])


def brute_force(observed, nulls, component, members, null_sets):
    every = np.sqrt(np.stack([observed, *nulls]))
    own = [(every[:, r].mean(0), every[:, r].std(0)) for r in range(observed.shape[0])]
    pooled = every.reshape(-1, *every.shape[2:])
    both = [own, [(pooled.mean(0), pooled.std(0))] * len(own)]
    worst = 0.0
    for moments in both:

        def score(d, r, chosen, moments=moments):
            mean, deviation = moments[r]
            pairs = itertools.combinations(chosen, 2)
            z = [(every[d, r, i, j] - mean[i, j]) / deviation[i, j] for i, j in pairs]
            return sum(z) / np.sqrt(len(z))

        value = score(0, component, members)
        largest = [
            max(score(d + 1, r, chosen) for r, found in enumerate(sets) for chosen in found)
            for d, sets in enumerate(null_sets)
        ]
        p = (1 + sum(one >= value for one in largest)) / (1 + len(nulls))
        worst = max(worst, p)
    return worst


def test_pvalue_is_that_of_the_definition():
    rng = np.random.default_rng(0)
    level = rng.gamma(2.0, size=9)
    observed = graphs(rng, level)
    observed[1, :4, :4] *= 3
    test = ShiftTest(observed)
    nulls = [graphs(rng, level) for _ in range(12)]
    sets = [[[strongest(g), np.array([0, 2, 5])] for g in null] for null in nulls]
    for null, found in zip(nulls, sets, strict=True):
        test.add(null, found)
    chosen = [(0, np.array([1, 2, 3])), (1, np.arange(4)), (1, np.array([0, 8]))]
    expected = [brute_force(observed, nulls, r, members, sets) for r, members in chosen]
    np.testing.assert_allclose(test.pvalues(chosen), expected)


def test_neurons_that_are_always_busy_are_no_community():
    """Observed graphs are of the same kind as the null ones; the busiest neurons are taken."""
    hits = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        level = np.where(np.arange(20) < 5, 3.0, 1.0)
        every = [graphs(rng, level) for _ in range(40)]
        test = ShiftTest(every[0])
        for null in every[1:]:
            test.add(null, [[strongest(graph)] for graph in null])
        found = [(r, strongest(graph)) for r, graph in enumerate(every[0])]
        hits += bool((test.pvalues(found) <= 0.05).any())
    assert hits <= 12  # binomial(100, 0.05) exceeds 12 with probability 0.0015


def test_a_community_that_only_the_observed_graph_has_is_significant():
    rng = np.random.default_rng(1)
    level = rng.gamma(2.0, size=20)
    observed = graphs(rng, level)
    members = np.arange(5, 10)
    observed[0][np.ix_(members, members)] *= 8
    test = ShiftTest(observed)
    for _ in range(39):
        null = graphs(rng, level)
        test.add(null, [[strongest(graph)] for graph in null])
    assert test.pvalues([(0, members), (1, members)]).tolist()[0] == pytest.approx(1 / 40)
    assert test.pvalues([(1, members)])[0] > 0.1


def test_unobserved_and_constant_pairs_are_no_error():
    rng = np.random.default_rng(2)
    observed = graphs(rng, np.ones(6))
    observed[:, 0] = observed[:, :, 0] = np.nan
    observed[:, 1, 2] = observed[:, 2, 1] = 0.0
    test = ShiftTest(observed)
    for _ in range(5):
        null = graphs(rng, np.ones(6))
        null[:, 0] = null[:, :, 0] = np.nan
        null[:, 1, 2] = null[:, 2, 1] = 0.0
        test.add(null, [[], [np.arange(3)]])
    p = test.pvalues([(0, np.arange(4)), (0, np.array([0, 1]))])
    assert np.isfinite(p).all()
    assert p[1] == 1.0
    assert test.pvalues([]).shape == (0,)
