from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import integrate, stats

from neuropipe.analyses.ntf.kernels import sbm
from neuropipe.analyses.ntf.kernels.block_sums import block_term
from neuropipe.analyses.ntf.kernels.communities import community_sets, detect_communities
from neuropipe.analyses.ntf.kernels.community_nulls import familywise_pvalue, permute_weights
from neuropipe.analyses.ntf.kernels.community_result import stack_communities
from neuropipe.stats.clustering_scores import adjusted_rand_score

MODELS = {"exponential": sbm.EXPONENTIAL, "normal": sbm.NORMAL}


def random_graph(rng, n, groups=(), inside=1.0, outside=0.15, missing=0.0):
    labels = np.full(n, -1)
    start = 0
    for number, size in enumerate(groups):
        labels[start : start + size] = number
        start += size
    same = (labels[:, None] == labels) & (labels[:, None] >= 0)
    graph = np.where(same, inside, outside) * rng.exponential(size=(n, n))
    graph[rng.random((n, n)) < missing] = np.nan
    graph = np.triu(graph, 1)
    return graph + graph.T, labels


def partitions(n):
    """All partitions of n items as restricted growth strings."""
    labels = [[0]]
    for _ in range(n - 1):
        labels = [[*old, k] for old in labels for k in range(max(old) + 2)]
    return np.array(labels)


def scaled(graph, model):
    values = graph[np.triu_indices(len(graph), 1)]
    values = values[np.isfinite(values)]
    weight = graph / values.mean()
    if model == "normal":
        weight = (np.sqrt(graph) - np.sqrt(values).mean()) / np.sqrt(values).std()
    np.fill_diagonal(weight, np.nan)
    return np.nan_to_num(weight), np.isfinite(weight).astype(np.int64)


def blocks(graph, model):
    tables = sbm.term_tables(len(graph), MODELS[model])
    return sbm.WeightedGraph(*scaled(graph, model), MODELS[model], *tables)


def term(model, values):
    """Marginal likelihood of the weights of one block pair."""
    tables = sbm.term_tables(6, model)
    graph = sbm.WeightedGraph(np.zeros((6, 6)), np.zeros((6, 6), np.int64), model, *tables)
    square = float(np.square(values).sum())
    return block_term(graph, len(values), float(sum(values)), square)


def objective(graph, labels, model):
    return sbm.partition_objective(blocks(graph, model), labels)


@pytest.mark.uncompiled
@pytest.mark.parametrize("values", [[0.4], [0.1, 2.5, 0.7], [0.0, 0.0, 3.0, 1.0]])
def test_exponential_marginal_likelihood_is_the_integral_over_the_rate(values):
    n, s = len(values), sum(values)
    expected = integrate.quad(lambda rate: rate**n * np.exp(-rate * (s + 1)), 0, np.inf)[0]
    assert term(sbm.EXPONENTIAL, values) == pytest.approx(np.log(expected))


@pytest.mark.uncompiled
@pytest.mark.parametrize("values", [[0.4], [0.1, -1.5, 0.7]])
def test_normal_marginal_likelihood_is_the_integral_over_mean_and_variance(values):
    # mean = z SD with z ~ N(0, 1): both axes then have short tails and a grid will do.
    z, log_variance = np.linspace(-9, 9, 601), np.linspace(-8, 40, 2401)
    variance = np.exp(log_variance)[:, None]
    density = stats.norm.pdf(z) * stats.invgamma.pdf(variance, 1) * variance
    for value in values:
        density = density * stats.norm.pdf(value, z * np.sqrt(variance), np.sqrt(variance))
    expected = np.trapezoid(np.trapezoid(density, z), log_variance)
    assert term(sbm.NORMAL, values) == pytest.approx(np.log(expected), abs=1e-6)


@pytest.mark.uncompiled
@pytest.mark.parametrize("model", ["exponential", "normal"])
def test_objective_is_the_sum_over_block_pairs_and_the_partition_prior(model):
    rng = np.random.default_rng(0)
    graph, _ = random_graph(rng, 6, missing=0.2)
    labels = np.array([0, 1, 1, 0, 2, 1])
    weight, observed = scaled(graph, model)
    block_table = sbm.term_tables(6, MODELS[model])[1]
    expected = block_table[3] + np.log(2.0) + np.log(6.0)
    for a, b in itertools.combinations_with_replacement(range(3), 2):
        pairs = [
            weight[i, j]
            for i, j in itertools.combinations(range(6), 2)
            if observed[i, j] and {labels[i], labels[j]} == {a, b}
        ]
        expected += term(MODELS[model], pairs)
    assert objective(graph, labels, model) == pytest.approx(expected)


def test_partition_prior_sums_to_one():
    _, block_table = sbm.term_tables(6, sbm.EXPONENTIAL)
    total = 0.0
    for labels in partitions(6):
        sizes = np.bincount(labels)
        # Labelled partitions: each set partition stands for K! labellings.
        log_prior = block_table[sizes.size]
        log_prior += sum(np.log(np.arange(1, size + 1)).sum() for size in sizes)
        total += np.exp(log_prior) * np.prod(np.arange(1, sizes.size + 1))
    assert total == pytest.approx(1.0)


@pytest.mark.uncompiled
@pytest.mark.parametrize("model", ["exponential", "normal"])
@pytest.mark.parametrize("seed", range(6))
def test_move_gain_is_the_difference_of_the_objective(model, seed):
    rng = np.random.default_rng(seed)
    n = 9
    graph, _ = random_graph(rng, n, missing=0.2)
    labels = rng.integers(4, size=n)
    labels[:4] = [0, 1, 2, 2]
    labels[labels == 3] = 2
    labels[0] = 3  # block 3 is a single node
    for node in range(n):
        gains = sbm.move_gains(blocks(graph, model), labels, node, 6)
        for target in range(6):
            moved = labels.copy()
            moved[node] = target
            difference = objective(graph, moved, model) - objective(graph, labels, model)
            assert gains[target] == pytest.approx(difference, abs=1e-9)


@pytest.mark.parametrize("model", ["exponential", "normal"])
@pytest.mark.parametrize(("n", "seed"), [(6, 0), (6, 1), (7, 2), (7, 3), (7, 4)])
def test_search_finds_the_best_of_all_partitions(model, n, seed):
    rng = np.random.default_rng(seed)
    graph, _ = random_graph(rng, n, (3, 3), inside=2.0, outside=0.05, missing=0.1)
    best = max(objective(graph, labels, model) for labels in partitions(n))
    found = detect_communities(
        graph, weights=model, restarts=10, significance="none", rng=np.random.default_rng(seed)
    )
    assert -found.description_length == pytest.approx(best)
    assert objective(graph, found.block, model) == pytest.approx(best)


@pytest.mark.parametrize("model", ["exponential", "normal"])
def test_order_of_the_neurons_does_not_matter(model):
    rng = np.random.default_rng(3)
    graph, _ = random_graph(rng, 25, (6, 5), missing=0.1)
    order = rng.permutation(25)
    settings = {"weights": model, "null_draws": 20}
    found = detect_communities(graph, **settings, rng=np.random.default_rng(5))
    again = detect_communities(
        graph[np.ix_(order, order)], **settings, rng=np.random.default_rng(5)
    )
    np.testing.assert_array_equal(found.community[:, order], again.community)
    np.testing.assert_array_equal(found.pvalue, again.pvalue)
    np.testing.assert_allclose(found.strength, again.strength)


@pytest.mark.parametrize("model", ["exponential", "normal"])
@pytest.mark.parametrize("scale", [1e-6, 1024.0])
def test_scale_of_the_weights_does_not_matter(model, scale):
    graph, _ = random_graph(np.random.default_rng(1), 25, (6, 5))
    settings = {"weights": model, "null_draws": 20}
    found = detect_communities(graph, **settings, rng=np.random.default_rng(5))
    again = detect_communities(graph * scale, **settings, rng=np.random.default_rng(5))
    np.testing.assert_array_equal(found.community, again.community)
    np.testing.assert_allclose(found.strength * scale, again.strength)
    np.testing.assert_array_equal(found.pvalue, again.pvalue)
    assert found.description_length == pytest.approx(again.description_length)


@pytest.mark.parametrize("model", ["exponential", "normal"])
@pytest.mark.parametrize("seed", range(3))
def test_planted_communities_are_recovered_and_significant(model, seed):
    graph, truth = random_graph(np.random.default_rng(seed), 60, (10, 9), missing=0.1)
    found = detect_communities(graph, weights=model, rng=np.random.default_rng(seed))
    assert adjusted_rand_score(found.community[0], truth) >= 0.9
    assert found.pvalue[0, 0] < 0.02
    assert found.pvalue[0, 1] < 0.02


def test_five_communities_of_121_neurons_are_recovered():
    graph, truth = random_graph(np.random.default_rng(0), 121, (10,) * 5)
    found = detect_communities(graph, null_draws=40, rng=np.random.default_rng(0))
    assert adjusted_rand_score(found.community[0], truth) >= 0.95
    assert (found.pvalue[0] < 0.05).all()


@pytest.mark.parametrize("shape", [0.3, 1.0])
def test_exchangeable_noise_has_no_significant_community(shape):
    """Heavy tails (shape 0.3) always split into blocks; at most 5 % of seeds may call them real."""
    hits = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        noise = np.triu(rng.gamma(shape, size=(25, 25)), 1)
        pvalue = detect_communities(noise + noise.T, null_draws=60, rng=rng).pvalue
        hits += bool((pvalue <= 0.05).any())
    assert hits <= 3  # binomial(20, 0.05) exceeds 3 with probability 0.016


def test_weights_of_unobserved_pairs_are_ignored():
    rng = np.random.default_rng(0)
    graph, truth = random_graph(rng, 40, (9, 9), missing=0.3)
    found = detect_communities(graph, significance="none", rng=np.random.default_rng(1))
    assert adjusted_rand_score(found.community[0], truth) >= 0.9
    members = np.flatnonzero(found.community[0] == 0)
    inside = graph[np.ix_(members, members)][np.triu_indices(members.size, 1)]
    assert found.strength[0, 0] == pytest.approx(np.nanmean(inside))


def test_neuron_without_observed_pair_is_marked_and_changes_nothing():
    graph, _ = random_graph(np.random.default_rng(2), 30, (8,))
    wide = np.full((31, 31), np.nan)
    keep = np.delete(np.arange(31), 4)
    wide[np.ix_(keep, keep)] = graph
    found = detect_communities(graph, null_draws=10, rng=np.random.default_rng(0))
    again = detect_communities(wide, null_draws=10, rng=np.random.default_rng(0))
    assert again.block[4] == -2
    assert (again.community[:, 4] == -2).all()
    np.testing.assert_array_equal(again.community[:, keep], found.community)
    np.testing.assert_array_equal(again.pvalue, found.pvalue)


@pytest.mark.uncompiled
def test_coarser_levels_merge_blocks_of_finer_ones():
    graph, _ = random_graph(np.random.default_rng(4), 60, (10, 10, 10), inside=1.5)
    graph[:20, :20] += 0.5 * (1 - np.eye(20))
    found = detect_communities(graph, significance="none", rng=np.random.default_rng(0))
    assert len(found.community) == found.block.max()
    nested = sbm.merge_sequence(blocks(graph, "exponential"), found.block)
    for fine, coarse in itertools.pairwise(nested):
        assert len({*zip(fine, coarse, strict=True)}) == np.unique(fine).size
        assert np.unique(coarse).size == np.unique(fine).size - 1


@pytest.mark.uncompiled
def test_communities_have_the_least_size():
    graph, _ = random_graph(np.random.default_rng(0), 30, (8, 5))
    found = detect_communities(graph, min_size=6, significance="none", rng=np.random.default_rng(0))
    sizes = np.bincount(found.community[0][found.community[0] >= 0])
    assert (sizes >= 6).all()


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("model", ["exponential", "normal"])
def test_equal_weights_have_no_community(value, model):
    graph = np.full((12, 12), value)
    found = detect_communities(graph, weights=model, rng=np.random.default_rng(0))
    assert (found.community == -1).all()
    assert np.isnan(found.strength).all()
    assert np.isnan(found.pvalue).all()


@pytest.mark.uncompiled
@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_few_neurons_are_no_error(n):
    graph = np.abs(np.subtract.outer(np.arange(n), np.arange(n))).astype(float)
    found = detect_communities(graph, null_draws=5, rng=np.random.default_rng(0))
    assert found.community.shape == (1, n)
    assert np.isfinite(found.description_length)


def test_nothing_observed_is_no_error():
    found = detect_communities(np.full((5, 5), np.nan), rng=np.random.default_rng(0))
    assert (found.community == -2).all()


def test_input_is_left_alone():
    graph, _ = random_graph(np.random.default_rng(0), 12)
    before = graph.copy()
    detect_communities(graph, null_draws=3, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(graph, before)


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (np.ones((3, 4)), "square"),
        (np.arange(9.0).reshape(3, 3), "symmetric"),
        (-np.ones((3, 3)), "negative"),
        (np.full((3, 3), np.inf), "infinite"),
    ],
)
def test_a_matrix_that_is_no_graph_is_refused(graph, message):
    with pytest.raises(ValueError, match=message):
        detect_communities(graph, rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": "poisson"}, "exponential, normal"),
        ({"significance": "circular_shift"}, "none or permute"),
        ({"k_max": 0}, "k_max = 0"),
    ],
)
def test_unknown_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        detect_communities(np.ones((5, 5)), **settings, rng=np.random.default_rng(0))


def test_permuted_weights_stay_in_observed_places():
    graph, _ = random_graph(np.random.default_rng(0), 15, missing=0.3)
    np.fill_diagonal(graph, np.nan)
    shuffled = permute_weights(graph, np.random.default_rng(1))
    np.testing.assert_array_equal(np.isnan(shuffled), np.isnan(graph))
    np.testing.assert_array_equal(shuffled, shuffled.T)
    rows, columns = np.triu_indices(15, 1)
    np.testing.assert_array_equal(np.sort(shuffled[rows, columns]), np.sort(graph[rows, columns]))


def test_pvalue_counts_the_nulls_at_least_as_large():
    pvalue = familywise_pvalue(np.array([[3.0, 0.5, np.nan]]), np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(pvalue, [[0.5, 1.0, np.nan]])


def test_sets_of_a_null_graph_are_the_communities_of_all_levels():
    graph, _ = random_graph(np.random.default_rng(0), 40, (9, 8))
    found = detect_communities(graph, restarts=1, significance="none", rng=np.random.default_rng(7))
    expected = {
        tuple(np.flatnonzero(level == label))
        for level in found.community
        for label in np.unique(level[level >= 0])
    }
    sets = community_sets(graph, rng=np.random.default_rng(7))
    assert {tuple(members.tolist()) for members in sets} == expected


def test_stacked_graphs_repeat_their_coarsest_level():
    rng = np.random.default_rng(0)
    found = [
        detect_communities(random_graph(rng, 30, groups)[0], significance="none", rng=rng)
        for groups in ((10, 8, 7), ())
    ]
    stacked = stack_communities(found)
    assert stacked["community"].shape[0] == 2
    assert stacked["strength"].shape == stacked["pvalue"].shape == stacked["score"].shape
    np.testing.assert_array_equal(stacked["community"][1, -1], found[1].community[-1])


def brute_force_rand(first, second):
    together = together_2 = both = 0
    pairs = list(itertools.combinations(range(len(first)), 2))
    for i, j in pairs:
        together += first[i] == first[j]
        together_2 += second[i] == second[j]
        both += first[i] == first[j] and second[i] == second[j]
    expected = together * together_2 / len(pairs)
    return (both - expected) / ((together + together_2) / 2 - expected)


@pytest.mark.parametrize("seed", range(5))
def test_adjusted_rand_score_counts_pairs(seed):
    rng = np.random.default_rng(seed)
    first, second = rng.integers(-1, 3, size=(2, 12))
    assert adjusted_rand_score(first, second) == pytest.approx(brute_force_rand(first, second))


def test_adjusted_rand_score_of_trivial_partitions():
    assert adjusted_rand_score([1, 1, 1], [0, 0, 0]) == 1
    assert adjusted_rand_score([0, 1, 2], [2, 1, 0]) == 1
    assert adjusted_rand_score([0, 1, 2], [0, 0, 0]) == 0
    with pytest.raises(ValueError, match="lengths, 2, 3"):
        adjusted_rand_score([0, 1], [0, 1, 2])
