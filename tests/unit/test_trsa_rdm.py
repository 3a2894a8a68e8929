"""RDM estimators, noise normalisation and descriptors of the representational analysis."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.cluster.hierarchy import linkage
from scipy.sparse.csgraph import floyd_warshall
from scipy.stats import rankdata

from neuropipe.analyses.trsa.kernels.design import condition_means
from neuropipe.analyses.trsa.kernels.geodesic import fill_unconnected, rgdm, shortest_paths
from neuropipe.analyses.trsa.kernels.homology import (
    betti_curve,
    bottleneck,
    persistence_entropy,
    rips_bars,
    sliced_wasserstein,
    total_persistence,
)
from neuropipe.analyses.trsa.kernels.noise import (
    centred_residuals,
    noise_covariance,
    whiten,
    whitener,
)
from neuropipe.analyses.trsa.kernels.pairs import n_conditions, pair_index, to_pairs, to_square
from neuropipe.analyses.trsa.kernels.rdm import MEASURES, fold_pairs, rdm
from neuropipe.analyses.trsa.kernels.transform import (
    prescale,
    rgtm,
    smooth,
    threshold_class,
    threshold_grid,
)

pytestmark = pytest.mark.uncompiled


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def explicit_crossnobis(patterns, precision):
    """Mean over ordered pairs of distinct runs that both have the two conditions."""
    runs, n, channels = patterns.shape
    found = []
    for i, j in itertools.combinations(range(n), 2):
        products = []
        for a, b in itertools.permutations(range(runs), 2):
            first, second = patterns[a, i] - patterns[a, j], patterns[b, i] - patterns[b, j]
            if np.isfinite(first).all() and np.isfinite(second).all():
                products.append(first @ precision @ second / channels)
        found.append(np.mean(products) if products else np.nan)
    return np.array(found)


@pytest.mark.parametrize("full", [False, True])
def test_crossnobis_equals_the_loop_over_pairs_of_runs(rng, full):
    patterns = rng.normal(size=(4, 6, 9))
    precision = np.eye(9)
    if full:
        precision = np.linalg.inv(np.cov(rng.normal(size=(50, 9)), rowvar=False))
    noise = whitener(np.linalg.inv(precision))
    found = rdm(whiten(patterns, noise), "crossnobis")
    np.testing.assert_allclose(found, explicit_crossnobis(patterns, precision), rtol=1e-10)


def test_crossnobis_with_a_precision_of_each_run_equals_its_loop(rng):
    patterns = rng.normal(size=(3, 5, 4))
    roots = [whitener(np.cov(rng.normal(size=(40, 4)), rowvar=False)) for _ in range(3)]
    whitened = np.stack([whiten(p, root) for p, root in zip(patterns, roots, strict=True)])
    expected = explicit_crossnobis(whitened, np.eye(4))
    np.testing.assert_allclose(rdm(whitened, "crossnobis"), expected, rtol=1e-10)


def test_unbalanced_crossnobis_equals_its_loop_and_counts_its_pairs(rng):
    patterns = rng.normal(size=(4, 7, 5))
    patterns[0, 1] = patterns[2, 3] = patterns[0, 3] = np.nan
    patterns[1:, 6] = np.nan  # one run only: no pair of runs
    expected = explicit_crossnobis(patterns, np.eye(5))
    np.testing.assert_allclose(rdm(patterns, "crossnobis"), expected, rtol=1e-10)
    count = to_square(fold_pairs(patterns))
    assert count[0, 2] == 12
    assert count[0, 1] == 6
    assert (count[6] == 0).all()
    assert np.isnan(to_square(rdm(patterns, "crossnobis"))[6, :6]).all()


def test_crossnobis_of_equal_patterns_is_zero_on_average(rng):
    null = rdm(rng.normal(size=(2000, 4, 5, 20)), "crossnobis").mean(axis=1)
    assert abs(null.mean()) < 3 * null.std() / np.sqrt(2000)
    assert (null < 0).any()
    planted = np.zeros((5, 20))
    planted[0] = 1.0
    found = rdm(planted + rng.normal(size=(2000, 4, 5, 20)), "crossnobis")
    assert to_square(found.mean(axis=0))[0, 1:].mean() == pytest.approx(1.0, rel=0.02)


def test_plain_measures_equal_their_definitions(rng):
    patterns = rng.uniform(0.1, 3, size=(3, 5, 8))
    mean, i, j = patterns.mean(axis=0), *pair_index(5)
    square = ((mean[i] - mean[j]) ** 2).mean(axis=1)
    unit = mean / np.linalg.norm(mean, axis=1, keepdims=True)
    rates = (mean + 0.1) / 1.1
    expected = {
        "euclidean": square,
        "euclidean_root": np.sqrt(square),
        "cosine": 1 - (unit[i] * unit[j]).sum(axis=1),
        "correlation": 1 - np.corrcoef(mean)[i, j],
        "poisson_kl": ((rates[i] - rates[j]) * (np.log(rates[i]) - np.log(rates[j]))).mean(axis=1),
    }
    for measure, values in expected.items():
        np.testing.assert_allclose(rdm(patterns, measure), values, rtol=1e-10, err_msg=measure)


def test_cross_validated_poisson_divergence_equals_its_loop(rng):
    counts = rng.poisson(4.0, size=(3, 4, 6)).astype(float)
    rates, found = (counts + 0.1) / 1.1, []
    for i, j in itertools.combinations(range(4), 2):
        found.append(
            np.mean(
                [
                    (rates[a, i] - rates[a, j]) @ (np.log(rates[b, i]) - np.log(rates[b, j])) / 6
                    for a, b in itertools.permutations(range(3), 2)
                ]
            )
        )
    np.testing.assert_allclose(rdm(counts, "poisson_cv"), found, rtol=1e-10)


def test_leading_axes_are_batched(rng):
    patterns = rng.uniform(1, 2, size=(3, 2, 4, 5, 6))
    for measure in MEASURES:
        batched = rdm(patterns, measure)
        assert batched.shape == (3, 2, 10)
        np.testing.assert_allclose(batched[1, 1], rdm(patterns[1, 1], measure), rtol=1e-9)


def test_constant_pattern_has_no_correlation_distance(rng):
    patterns = rng.normal(size=(1, 4, 10))
    patterns[0, 2] = 0.1
    square = to_square(rdm(patterns, "correlation"))
    assert np.isnan(square[2, [0, 1, 3]]).all()
    assert np.isfinite(square[0, 1])


def test_measures_refuse_what_they_cannot_use(rng):
    with pytest.raises(ValueError, match="two runs or more, found 1"):
        rdm(rng.normal(size=(1, 4, 5)), "crossnobis")
    with pytest.raises(ValueError, match="at least 0"):
        rdm(rng.normal(size=(2, 4, 5)), "poisson_kl")


def test_a_large_common_offset_costs_no_digits(rng):
    patterns = rng.normal(size=(1, 4, 50))
    np.testing.assert_allclose(rdm(patterns + 1e6, "euclidean"), rdm(patterns, "euclidean"), 1e-6)


@pytest.mark.parametrize("method", ["diag", "shrinkage_diag", "shrinkage_eye", "full"])
def test_noise_covariances_approach_the_truth(rng, method):
    variance = np.array([1.0, 4.0, 0.25, 2.0])
    rows = rng.normal(size=(40_000, 4)) * np.sqrt(variance)
    covariance, weight = noise_covariance(rows, method)
    square = np.diag(covariance) if covariance.ndim == 1 else covariance
    # 40,000 rows: a variance is known to sqrt(2 / 40,000) = 0.7 %.
    np.testing.assert_allclose(square, np.diag(variance), atol=0.12)
    assert np.isnan(weight) or 0 <= weight <= 1


def test_few_residuals_are_shrunk_more_and_stay_invertible(rng):
    mixed = rng.normal(size=(400, 12)) @ rng.normal(size=(12, 12))
    weights = [noise_covariance(mixed[:rows], "shrinkage_diag")[1] for rows in (8, 40, 400)]
    assert weights[0] > weights[1] > weights[2]
    covariance, _ = noise_covariance(mixed[:8], "shrinkage_eye")
    root = whitener(covariance).root
    np.testing.assert_allclose(root @ covariance @ root, np.eye(12), atol=1e-8)
    with pytest.raises(ValueError, match="has rank 8; shrink it"):
        whitener(noise_covariance(mixed[:8], "full")[0])


def test_residuals_of_runs_lose_the_condition_means(rng):
    patterns = rng.normal(size=(4, 3, 2)) + rng.normal(size=(1, 3, 2)) * 100
    patterns[1, 2] = np.nan
    residuals, dof = centred_residuals(patterns)
    assert residuals.shape == (11, 2)
    assert dof == 8
    assert np.abs(residuals).max() < 10
    with pytest.raises(ValueError, match="give no covariance"):
        noise_covariance(residuals[:1])


def test_condition_means_of_single_observations(rng):
    values = rng.normal(size=(7, 2))
    values[6] = np.nan
    condition, run = np.array([0, 0, 1, 1, 0, -1, 1]), np.array([0, 0, 0, 1, 1, 0, 1])
    means, residuals, count = condition_means(values, condition, run, 2, 2)
    np.testing.assert_allclose(means[0, 0], values[:2].mean(axis=0))
    np.testing.assert_array_equal(count, [[2, 1], [1, 1]])
    np.testing.assert_allclose(residuals[0], (values[0] - values[1]) / 2)
    assert np.isnan(residuals[5:]).all()


def test_pairs_go_to_squares_and_back(rng):
    vectors = rng.normal(size=(3, 10))
    np.testing.assert_array_equal(to_pairs(to_square(vectors)), vectors)
    assert n_conditions(10) == 5
    with pytest.raises(ValueError, match="11 pairs"):
        n_conditions(11)


def slow_rgtm(vector, lower, upper):
    """The transform of one RDM, entry by entry."""
    ranks = rankdata(vector)
    low, high = min(ranks), max(ranks)
    unit = [(r - low) / (high - low) if high > low else 0.0 for r in ranks]
    a, b = (float(np.quantile(unit, q)) for q in (lower, upper))
    found = []
    for d in unit:
        if a == b:
            found.append(1.0 if d > a else 0.0)
        elif d <= a:
            found.append(0.0)
        else:
            found.append(1.0 if d >= b else (d - a) / (b - a))
    return np.array(found)


def test_rgtm_equals_the_slow_form_on_1000_rdms(rng):
    cells = threshold_grid()
    for trial in range(1000):
        n = int(rng.integers(4, 9))
        vector = rng.normal(size=n * (n - 1) // 2) * 10.0 ** rng.integers(-3, 4)
        if trial % 3 == 0:
            vector = np.round(vector / np.abs(vector).max() * 2)  # ties
        lower, upper = cells[rng.integers(len(cells))]
        found = rgtm(prescale(vector), lower, upper)
        np.testing.assert_allclose(found, slow_rgtm(vector, lower, upper), atol=1e-9)
        assert found.min() >= 0
        assert found.max() <= 1


def test_rgtm_at_0_1_is_the_scaled_rdm(rng):
    vectors = rng.normal(size=(4, 15))
    for how in ("rank", "minmax"):
        scaled = prescale(vectors, how)
        np.testing.assert_allclose(rgtm(scaled, 0.0, 1.0), scaled, atol=1e-12)
        assert (scaled.min(axis=1) == 0).all()
        assert (scaled.max(axis=1) == 1).all()


def test_ranks_make_the_transform_blind_to_increasing_maps(rng):
    vectors = rng.normal(size=(3, 21))
    np.testing.assert_array_equal(
        rgtm(prescale(vectors), 0.2, 0.7), rgtm(prescale(np.exp(3 * vectors)), 0.2, 0.7)
    )


def test_transforms_follow_a_permutation_of_conditions(rng):
    square = to_square(rng.uniform(size=28))
    order = rng.permutation(8)
    for transform in (
        lambda v: rgtm(prescale(v), 0.1, 0.5),
        lambda v: rgdm(prescale(v), "gt", lower=0.0, upper=0.4)[0],
        lambda v: rgdm(prescale(v), "k_nearest", k=2)[0],
        lambda v: rgdm(prescale(v), "p_nearest", p=0.3)[0],
        lambda v: rgdm(prescale(v), "p_shortest", p=0.4)[0],
    ):
        permuted = to_square(transform(to_pairs(square[np.ix_(order, order)])))
        expected = to_square(transform(to_pairs(square)))[np.ix_(order, order)]
        np.testing.assert_allclose(permuted, expected, atol=1e-12)


def test_each_rdm_is_scaled_and_thresholded_by_itself(rng):
    vectors = rng.uniform(size=(2, 15))
    together = rgtm(prescale(np.stack([vectors[0], 1000 * vectors[1]]), "minmax"), 0.2, 0.6)
    np.testing.assert_allclose(together[1], rgtm(prescale(vectors[1], "minmax"), 0.2, 0.6))


def test_missing_pairs_stay_missing_and_flat_rdms_become_zero(rng):
    vector = rng.uniform(size=10)
    vector[3] = np.nan
    found = rgtm(prescale(np.stack([vector, np.full(10, 7.0)])), 0.1, 0.9)
    assert np.isnan(found[0, 3])
    assert np.isfinite(np.delete(found[0], 3)).all()
    assert (found[1] == 0).all()
    assert np.isnan(rgtm(prescale(np.full(10, np.nan)), 0.1, 0.9)).all()


def test_thresholds_are_checked_and_absolute_ones_are_taken_as_given():
    scaled = np.array([0.1, 0.3, 0.5, 0.7, 0.9, 1.0])
    with pytest.raises(ValueError, match="above the upper"):
        rgtm(scaled, 0.6, 0.5)
    with pytest.raises(ValueError, match="must lie in"):
        rgtm(scaled, 0.6, 1.5)
    found = rgtm(scaled, 0.3, 0.7, mode="absolute")
    np.testing.assert_allclose(found, [0, 0, 0.5, 1, 1, 1])
    np.testing.assert_array_equal(rgtm(scaled, 0.5, 0.5, mode="absolute"), [0, 0, 0, 1, 1, 1])
    assert smooth(np.array([0.5])).item() == pytest.approx(0.5)


def test_threshold_grid_and_classes():
    cells = threshold_grid()
    assert len(cells) == 229
    assert [0.0, 0.0] not in cells.tolist()
    assert [1.0, 1.0] not in cells.tolist()
    named = {
        (0.0, 1.0): "geometry",
        (0.4, 0.6): "topology",
        (0.5, 0.5): "topology",
        (0.0, 0.4): "local",
        (0.1, 0.3): "local",
        (0.7, 1.0): "global",
        (0.6, 1.0): "global",
        (0.2, 0.6): "intermediate",
    }
    for cell, name in named.items():
        assert threshold_class(*cell) == name, cell


def test_geodesics_of_points_on_a_line():
    points = np.arange(6.0)
    distance = to_pairs(np.abs(points[:, None] - points))
    found, components = rgdm(distance / 5, "k_nearest", k=1)
    np.testing.assert_allclose(found, distance / 5)
    assert components == 1


def test_geodesics_equal_floyd_warshall_and_keep_the_triangle_inequality(rng):
    scaled = prescale(rng.uniform(size=45))
    found = to_square(rgdm(scaled, "p_shortest", p=0.3)[0])
    edges = to_square(np.where(scaled <= np.sort(scaled)[13], scaled, np.inf))
    expected = floyd_warshall(np.where(edges == 0, 1e-6, edges))  # scipy drops zeros
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert (found[:, None] <= found[:, :, None] + found[None] + 1e-12).all()
    square = to_square(np.array([1.0, np.inf, 0.0]))
    np.testing.assert_array_equal(shortest_paths(square)[0], [0, 1, 1])


def test_duplicated_conditions_have_geodesic_distance_zero(rng):
    points = np.repeat(rng.normal(size=(4, 3)), 2, axis=0)
    distance = to_pairs(((points[:, None] - points) ** 2).sum(axis=2))
    square = to_square(rgdm(prescale(distance), "gt", lower=0.0, upper=0.5)[0])
    assert (np.diagonal(square, 1)[::2] == 0).all()


def test_unconnected_conditions_are_counted_and_filled():
    square = np.full((6, 6), 0.9)
    square[:3, :3] = square[3:, 3:] = 0.1
    found, components = rgdm(to_pairs(square), "k_nearest", k=2)
    assert components == 2
    assert np.isinf(found).sum() == 9
    filled = fill_unconnected(found)
    assert filled.max() == pytest.approx(0.1 * (1 + 1 / 6))
    assert np.isnan(fill_unconnected(found, "nan")).sum() == 9
    with pytest.raises(ValueError, match="must not be negative"):
        rgdm(-to_pairs(square), "k_nearest", k=2)


def test_merge_heights_are_those_of_single_linkage(rng):
    distances = rng.uniform(size=66)
    h0, _ = rips_bars(distances)
    np.testing.assert_allclose(np.sort(h0[:, 1]), linkage(distances, "single")[:, 2])


def test_a_ring_has_one_long_loop_and_a_square_the_known_bar():
    angle = 2 * np.pi * np.arange(16) / 16
    points = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    _, h1 = rips_bars(to_pairs(np.linalg.norm(points[:, None] - points, axis=2)))
    length = np.sort(h1[:, 1] - h1[:, 0])[::-1]
    assert length[0] > 1.0
    assert length[1:].sum() < 1e-9
    corner = np.sqrt(2)
    _, bar = rips_bars(np.array([1, corner, 1, 1, corner, 1]))
    np.testing.assert_allclose(bar, [[1, corner]])


def brute_force_betti1(distances, scale):
    """Rank of the first homology of the Rips complex at one scale, by ranks modulo 2."""
    n = n_conditions(distances.size)
    square = to_square(distances)
    edges = [e for e in itertools.combinations(range(n), 2) if square[e] <= scale]
    faces = [
        t
        for t in itertools.combinations(range(n), 3)
        if all(square[e] <= scale for e in itertools.combinations(t, 2))
    ]

    def rank(columns):
        basis = {}
        for column in columns:
            while column:
                low = column.bit_length() - 1
                if low not in basis:
                    basis[low] = column
                    break
                column ^= basis[low]
        return len(basis)

    place = {edge: k for k, edge in enumerate(edges)}
    first = rank([(1 << a) ^ (1 << b) for a, b in edges])
    second = rank([sum(1 << place[e] for e in itertools.combinations(t, 2)) for t in faces])
    return len(edges) - first - second


def test_betti_curves_equal_the_ranks_of_the_complex(rng):
    for _ in range(5):
        points = rng.normal(size=(9, 2))
        distances = to_pairs(np.linalg.norm(points[:, None] - points, axis=2))
        _, h1 = rips_bars(distances)
        grid = np.sort(distances)[[8, 14, 20, 26]]
        expected = [brute_force_betti1(distances, scale) for scale in grid]
        np.testing.assert_array_equal(betti_curve(h1, grid), expected)


def test_summaries_and_distances_of_diagrams():
    bars = np.array([[0.0, 1.0], [0.2, 0.4]])
    assert total_persistence(bars) == pytest.approx(1.2)
    share = np.array([1.0, 0.2]) / 1.2
    assert persistence_entropy(bars) == pytest.approx(-(share * np.log(share)).sum())
    assert persistence_entropy(np.zeros((0, 2))) == 0
    assert bottleneck(bars, bars) == 0
    assert bottleneck(bars, bars[:1]) == pytest.approx(0.1)  # the short bar goes to the diagonal
    assert bottleneck(bars[:1], np.array([[0.0, 0.7]])) == pytest.approx(0.3)
    assert bottleneck(np.zeros((0, 2)), np.zeros((0, 2))) == 0
    assert sliced_wasserstein(bars, bars) == pytest.approx(0.0)
    assert sliced_wasserstein(bars, bars[:1]) > 0
    with pytest.raises(ValueError, match="finite"):
        rips_bars(np.array([0.1, np.nan, 0.2]))
