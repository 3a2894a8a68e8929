from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

from neuropipe.analyses.ntf.kernels import sbm
from neuropipe.analyses.ntf.kernels.partition_sampler import (
    allocate,
    coassignment,
    log_posterior,
    sample_partitions,
)

MODELS = {"exponential": sbm.EXPONENTIAL, "normal": sbm.NORMAL}
MOVES = {"gibbs": (1, 0), "merge-split": (0, 3), "both": (1, 1)}


def weighted_graph(n, model, seed, *, inside=3.0, outside=0.1):
    """A graph whose posterior is spread over many partitions, one pair of it unobserved."""
    rng = np.random.default_rng(seed)
    weight = rng.exponential(size=(n, n)) * outside
    weight[:3, :3] *= inside / outside
    weight[3:, 3:] *= inside / outside
    if model == "normal":
        weight = np.sqrt(weight) - 0.6
    weight = np.triu(weight, 1)
    observed = np.triu(np.ones((n, n), np.int64), 1)
    weight[1, n - 1] = observed[1, n - 1] = 0
    tables = sbm.term_tables(n, MODELS[model])
    return sbm.WeightedGraph(weight + weight.T, observed + observed.T, MODELS[model], *tables)


def subgraph(graph, nodes):
    chosen = np.ix_(nodes, nodes)
    return sbm.WeightedGraph(
        np.ascontiguousarray(graph.weight[chosen]),
        np.ascontiguousarray(graph.observed[chosen]),
        graph.model,
        *sbm.term_tables(len(nodes), graph.model),
    )


def partitions(n):
    labels = [[0]]
    for _ in range(n - 1):
        labels = [[*old, k] for old in labels for k in range(max(old) + 2)]
    return np.array(labels)


def canonical(labels):
    """Number the blocks in the order of their first nodes."""
    seen: dict[int, int] = {}
    return tuple(seen.setdefault(int(label), len(seen)) for label in labels)


def enumerated(graph, n, most=None):
    states = [tuple(s) for s in partitions(n).tolist()]
    states = [s for s in states if most is None or max(s) < most]
    log = np.array([sbm.partition_objective(graph, np.array(s)) for s in states])
    log += [np.log(np.arange(1, max(s) + 2)).sum() for s in states]
    return states, np.exp(log - logsumexp(log))


def sampled(graph, n, moves, samples, seed=0, n_slots=None):
    start = np.zeros(n, np.int64)
    rng = np.random.default_rng(seed)
    return sample_partitions(
        graph, start, n_slots or n, samples=samples, discard=200, moves=moves, rng=rng
    )


@pytest.mark.parametrize("moves", MOVES)
@pytest.mark.parametrize("model", MODELS)
def test_sampled_partitions_have_the_enumerated_posterior(model, moves):
    n, samples = 6, 60_000
    graph = weighted_graph(n, model, seed=1)
    states, posterior = enumerated(graph, n)
    assert (posterior > 0.01).sum() >= 15, "a posterior of one partition would test nothing"
    place = {state: k for k, state in enumerate(states)}
    found = np.zeros(len(states))
    for labels in sampled(graph, n, MOVES[moves], samples):
        found[place[canonical(labels)]] += 1
    distance = 0.5 * np.abs(found / samples - posterior).sum()
    # E |p_hat - p| <= sqrt(p (1 - p) / n): 0.5 sum of these for independent samples; correlated
    # ones count as a quarter of as many.
    assert distance < np.sqrt(posterior * (1 - posterior) / (samples / 4)).sum() / 2


def test_no_partition_has_more_blocks_than_slots():
    graph = weighted_graph(5, "exponential", seed=1, inside=1.0, outside=0.3)
    states, posterior = enumerated(graph, 5, most=2)
    place = {state: k for k, state in enumerate(states)}
    found = np.zeros(len(states))
    for labels in sampled(graph, 5, (1, 1), 20_000, n_slots=2):
        found[place[canonical(labels)]] += 1
    distance = 0.5 * np.abs(found / 20_000 - posterior).sum()
    assert distance < np.sqrt(posterior * (1 - posterior) / 2_000).sum() / 2


@pytest.mark.uncompiled
def test_without_a_free_slot_no_block_is_split():
    graph = weighted_graph(5, "exponential", seed=1)
    assert not sampled(graph, 5, (1, 1), 20, n_slots=1).any()


@pytest.mark.uncompiled
def test_posterior_counts_every_numbering_of_the_blocks():
    graph = weighted_graph(5, "exponential", seed=0)
    labels = np.array([0, 2, 2, 5, 0])
    expected = sbm.partition_objective(graph, labels) + np.log(6)
    assert log_posterior(graph, labels) == pytest.approx(expected)


def allocation_by_subgraphs(graph, labels, order, blocks):
    """Log probability of an allocation, from the objective of the graph placed so far."""
    placed = [node for node in range(len(labels)) if node not in order]
    total = 0.0
    for node in order:
        nodes = [*placed, node]
        part = subgraph(graph, nodes)
        values = [
            sbm.partition_objective(part, np.array([*labels[placed], block])) for block in blocks
        ]
        total += values[blocks.index(labels[node])] - logsumexp(values)
        placed.append(node)
    return total


@pytest.mark.uncompiled
@pytest.mark.parametrize("model", MODELS)
def test_allocation_probability_is_that_of_the_graph_placed_so_far(model):
    graph = weighted_graph(7, model, seed=3)
    labels = np.array([0, 1, 0, 1, 2, 0, 1])
    for order in itertools.permutations([2, 3, 5, 6]):
        found = allocate(graph, labels.copy(), np.array(order), (0, 1), 4, np.empty(0))
        assert found == pytest.approx(allocation_by_subgraphs(graph, labels, order, [0, 1]))


@pytest.mark.uncompiled
def test_allocation_probabilities_sum_to_one():
    graph = weighted_graph(6, "exponential", seed=4)
    order = np.array([4, 2, 5])
    total = 0.0
    for outcome in itertools.product([0, 1], repeat=3):
        labels = np.array([0, 1, 0, 2, 0, 0])
        labels[order] = outcome
        total += np.exp(allocate(graph, labels, order, (0, 1), 3, np.empty(0)))
    assert total == pytest.approx(1.0)


def merge_split_kernel(graph, n, states):
    """Exact transition probabilities of one merge-split, by enumeration of all its choices."""
    place = {state: k for k, state in enumerate(states)}
    log = np.array([log_posterior(graph, np.array(state)) for state in states])
    kernel = np.zeros((len(states), len(states)))
    for k, state in enumerate(states):
        for i, j in itertools.permutations(range(n), 2):
            labels = np.array(state)
            share = 1 / (n * (n - 1))
            union = np.isin(labels, [labels[i], labels[j]])
            orders = list(itertools.permutations(set(np.flatnonzero(union)) - {i, j}))
            if labels[i] != labels[j]:
                merged = np.where(labels == labels[j], labels[i], labels)
                target = place[canonical(merged)]
                pair = [labels[i], labels[j]]
                for order in orders:
                    back = allocation_by_subgraphs(graph, labels, order, pair)
                    accept = min(1.0, np.exp(log[target] - log[k] + back))
                    kernel[k, target] += share / len(orders) * accept
                continue
            for order in orders:
                for outcome in itertools.product([labels[i], n], repeat=len(order)):
                    new = labels.copy()
                    new[j] = n
                    new[list(order)] = outcome
                    forth = allocation_by_subgraphs(graph, new, order, [labels[i], n])
                    target = place[canonical(new)]
                    accept = min(1.0, np.exp(log[target] - log[k] - forth))
                    kernel[k, target] += share / len(orders) * np.exp(forth) * accept
    kernel[np.diag_indices(len(states))] = 1 - kernel.sum(axis=1)
    return kernel


def test_merge_split_is_in_detailed_balance_and_moves_as_enumerated():
    n, samples = 4, 200_000
    graph = weighted_graph(n, "exponential", seed=5)
    states, posterior = enumerated(graph, n)
    kernel = merge_split_kernel(graph, n, states)
    flow = posterior[:, None] * kernel
    np.testing.assert_allclose(flow, flow.T, atol=1e-14)
    place = {state: k for k, state in enumerate(states)}
    path = [place[canonical(labels)] for labels in sampled(graph, n, (0, 1), samples)]
    counts = np.zeros_like(kernel)
    np.add.at(counts, (path[:-1], path[1:]), 1)
    # Given the visits of a state, the next states are multinomial with the row of the kernel.
    expected = counts.sum(axis=1, keepdims=True) * kernel
    assert (counts[kernel < 1e-15] == 0).all()
    used = expected >= 5
    statistic = ((counts - expected)[used] ** 2 / expected[used]).sum()
    assert statistic < stats.chi2.ppf(0.999, used.sum() - len(states))


@pytest.mark.uncompiled
def test_a_seed_fixes_the_samples_and_the_start_is_left_alone():
    graph = weighted_graph(8, "exponential", seed=0)
    start = np.zeros(8, np.int64)
    one, two, other = (
        sample_partitions(
            graph, start, 8, samples=50, moves=(1, 2), rng=np.random.default_rng(seed)
        )
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)
    assert not start.any()


def test_coassignment_is_one_within_a_planted_block():
    graph = weighted_graph(30, "exponential", seed=0, inside=0.5, outside=0.5)
    weight = graph.weight.copy()
    weight[:10, :10] *= 8
    graph = graph._replace(weight=weight)
    found = coassignment(sampled(graph, 30, (1, 3), 300))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, found.T)
    assert (np.diag(found) == 1).all()
    assert found[:10, :10].min() > 0.8
    assert found[:10, 10:].max() < 0.2
