"""Comparators, noise ceilings, bootstrap and tests of the representational analysis."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import kendalltau, rankdata, spearmanr, ttest_1samp

from neuropipe.analyses.trsa.kernels.bootstrap import BOOTSTRAPPED, draw_counts, dual_bootstrap
from neuropipe.analyses.trsa.kernels.ceiling import ceilings_of_similarity, noise_ceiling, pooled
from neuropipe.analyses.trsa.kernels.compare import COMPARATORS, compare
from neuropipe.analyses.trsa.kernels.inference import (
    adjust,
    clusters,
    corrected_variance,
    enhanced,
    max_statistic,
    repeat_corrected_variance,
    sign_flips,
    t_test,
)
from neuropipe.analyses.trsa.kernels.pairs import pair_index, to_pairs, to_square
from neuropipe.analyses.trsa.kernels.permutation import permutation_null
from neuropipe.analyses.trsa.kernels.ranks import signed_concordance, weighted_ranks
from neuropipe.analyses.trsa.kernels.whitened import distance_covariance, whitened_grams

pytestmark = pytest.mark.uncompiled

N = 7


@pytest.fixture
def rng():
    return np.random.default_rng(1)


@pytest.fixture
def rdms(rng):
    return rng.normal(1.0, 0.5, size=(5, N * (N - 1) // 2))


def explicit_whitened(x, y, seen, *, centred):
    inverse = np.linalg.inv(distance_covariance(N)[np.ix_(seen, seen)])
    x, y, ones = x[seen], y[seen], np.ones(int(seen.sum()))
    if centred:
        x, y = (v - ones @ inverse @ v / (ones @ inverse @ ones) for v in (x, y))
    return x @ inverse @ y / np.sqrt((x @ inverse @ x) * (y @ inverse @ y))


def test_covariance_of_distances_is_that_of_simulated_ones(rng):
    patterns = rng.normal(size=(200_000, 4, 1))
    i, j = pair_index(4)
    distances = (patterns[:, i] - patterns[:, j])[..., 0] ** 2
    # Squares of correlated normals with variance 2: covariance 2 c**2.
    np.testing.assert_allclose(
        np.cov(distances, rowvar=False), 2 * distance_covariance(4), atol=0.25
    )


def test_whitened_cosine_equals_the_inverse_covariance_and_cka(rdms):
    found = compare(rdms, rdms, "cosine_w")
    all_pairs = np.ones(rdms.shape[1], dtype=bool)
    centring = np.eye(N) - 1 / N
    centred = [centring @ to_square(v) @ centring for v in rdms]
    for a, b in itertools.product(range(5), repeat=2):
        expected = explicit_whitened(rdms[a], rdms[b], all_pairs, centred=False)
        cka = (centred[a] * centred[b]).sum() / (
            np.linalg.norm(centred[a]) * np.linalg.norm(centred[b])
        )
        assert found[a, b] == pytest.approx(expected, rel=1e-10)
        assert found[a, b] == pytest.approx(cka, rel=1e-10)


@pytest.mark.parametrize(("method", "centred"), [("cosine_w", False), ("pearson_w", True)])
def test_whitened_comparators_with_missing_pairs_equal_the_remaining_block(rdms, method, centred):
    rdms[0, [2, 9]] = np.nan
    rdms[3, [9, 14, 15]] = np.nan
    found = compare(rdms, rdms, method)
    for a, b in itertools.product(range(5), repeat=2):
        seen = np.isfinite(rdms[a]) & np.isfinite(rdms[b])
        expected = explicit_whitened(rdms[a], rdms[b], seen, centred=centred)
        assert found[a, b] == pytest.approx(expected, rel=1e-9)


def test_whitened_products_of_a_resample_equal_those_of_the_resampled_rdms(rdms, rng):
    counts, _ = draw_counts(N, 6, rng, 3)
    grams = whitened_grams(rdms, counts)
    for gram, times in zip(grams, counts, strict=True):
        drawn = np.repeat(np.arange(N), times.astype(int))
        i, j = pair_index(N)
        seen = drawn[i] != drawn[j]
        resampled = np.stack([to_square(v)[drawn[i], drawn[j]] for v in rdms])[:, seen]
        inverse = np.linalg.inv(distance_covariance(N)[np.ix_(seen, seen)])
        expected = resampled @ inverse @ resampled.T
        scale = gram[0, 0] / expected[0, 0]
        np.testing.assert_allclose(gram, scale * expected, rtol=1e-8)


def test_plain_comparators_equal_scipy(rdms):
    first, second = rdms[:2], np.round(rdms[2:])
    found = {method: compare(first, second, method) for method in COMPARATORS}
    for a, x in enumerate(first):
        for b, y in enumerate(second):
            assert found["pearson"][a, b] == pytest.approx(np.corrcoef(x, y)[0, 1], rel=1e-10)
            assert found["spearman"][a, b] == pytest.approx(spearmanr(x, y).statistic, rel=1e-10)
            cosine = x @ y / np.linalg.norm(x) / np.linalg.norm(y)
            assert found["cosine"][a, b] == pytest.approx(cosine, rel=1e-10)
            assert found["euclidean"][a, b] == pytest.approx(-np.linalg.norm(x - y), rel=1e-10)
    x, y = first[0], rdms[4]  # no ties: tau a is tau b
    tau = compare(x[None], y[None], "kendall_tau_a").item()
    assert tau == pytest.approx(kendalltau(x, y).statistic, rel=1e-10)
    assert compare(x[None], y[None], "rho_a").item() == pytest.approx(
        spearmanr(x, y).statistic, rel=1e-10
    )


def test_rank_comparators_with_ties(rng):
    x, y = rng.integers(0, 3, size=10).astype(float), rng.integers(0, 4, size=10).astype(float)
    signs = [
        np.sign(x[p] - x[q]) * np.sign(y[p] - y[q]) for p, q in itertools.combinations(range(10), 2)
    ]
    tau = compare(x[None], y[None], "kendall_tau_a").item()
    assert tau == pytest.approx(np.mean(signs))
    broken = []
    for _ in range(6000):
        ranks = [rankdata(v + 1e-6 * rng.random(10)) for v in (x, y)]
        broken.append(np.corrcoef(*ranks)[0, 1])
    expected = compare(x[None], y[None], "rho_a").item()
    assert expected == pytest.approx(np.mean(broken), abs=4 * np.std(broken) / np.sqrt(6000))


def test_weighted_ranks_and_concordances_equal_repeated_entries(rng):
    values, other = rng.integers(0, 5, size=(2, 12)).astype(float)
    times = rng.integers(0, 4, size=12)
    repeated = np.repeat(np.arange(12), times)
    found = weighted_ranks(values[None], times.astype(float))[0]
    np.testing.assert_allclose(found[repeated], rankdata(values[repeated]))
    x, y = values[repeated], other[repeated]
    expected = np.sign(x[:, None] - x) * np.sign(y[:, None] - y)
    assert signed_concordance(values, other, times.astype(float)) == expected.sum() / 2


def test_comparisons_use_the_pairs_that_both_have(rdms):
    rdms[0, 3] = np.nan
    for method in ("cosine", "pearson", "spearman", "rho_a", "kendall_tau_a", "euclidean"):
        kept = np.delete(np.arange(rdms.shape[1]), 3)
        expected = compare(rdms[:1, kept], rdms[1:, kept], method)
        np.testing.assert_allclose(compare(rdms[:1], rdms[1:], method), expected)
    assert np.isnan(compare(np.full((1, 21), np.nan), rdms, "pearson")).all()


def test_flat_rdms_give_nan_and_no_error(rdms):
    flat = np.full((1, rdms.shape[1]), 0.1)
    for method in ("pearson", "spearman", "pearson_w"):
        assert np.isnan(compare(flat, rdms[1:], method)).all() or method == "pearson_w"
    assert np.isnan(compare(0 * flat, rdms[1:], "cosine")).all()


def test_negative_values_count_in_cosines():
    x = np.array([[-1.0, 1.0, 1.0]])
    assert compare(x, np.array([[1.0, 1.0, 1.0]]), "cosine").item() == pytest.approx(1 / 3)


@pytest.mark.parametrize("method", BOOTSTRAPPED)
def test_ceilings_are_those_of_the_means(rdms, method):
    lower, upper = noise_ceiling(rdms, method)
    everyone = compare(rdms, pooled(rdms, method)[None], method).mean()
    assert upper == pytest.approx(everyone)
    assert lower < upper
    alone = noise_ceiling(rdms[:1], method)
    assert np.isnan(alone[0])
    assert alone[1] == pytest.approx(1.0)


def test_no_model_beats_the_upper_ceiling(rdms, rng):
    for method in ("cosine", "pearson", "cosine_w", "pearson_w"):
        upper = noise_ceiling(rdms, method)[1]
        others = rng.normal(size=(200, rdms.shape[1])) * 0.3 + pooled(rdms, method)
        assert compare(rdms, others, method).mean(axis=0).max() <= upper + 1e-12


def test_ceilings_from_similarities_equal_those_of_the_resampled_rdms(rdms):
    counts = np.array([[1.0] * 5, [2, 0, 1, 2, 0], [0, 5, 0, 0, 0]])
    similarity = np.repeat(compare(rdms, rdms, "pearson")[None], 3, axis=0)
    found = ceilings_of_similarity(similarity, counts)
    np.testing.assert_allclose(found[0], noise_ceiling(rdms, "pearson"))
    drawn = rdms[[0, 0, 2, 3, 3]]
    upper = compare(drawn, pooled(drawn, "pearson")[None], "pearson").mean()
    assert found[1, 1] == pytest.approx(upper)
    lower = [
        compare(rdms[[s]], pooled(drawn[[d not in (s,) for d in (0, 0, 2, 3, 3)]], "pearson")[None],
                "pearson").item()
        for s in (0, 0, 2, 3, 3)
    ]  # fmt: skip
    assert found[1, 0] == pytest.approx(np.mean(lower))
    assert np.isnan(found[2, 0])


@pytest.mark.parametrize("method", BOOTSTRAPPED)
def test_bootstrap_equals_the_resampled_rdms(rdms, rng, method):
    data, models = rdms[:3], rdms[3:]
    made = dual_bootstrap(data, models, method=method, samples=4, rng=np.random.default_rng(5))
    again = np.random.default_rng(5)
    subjects, _ = draw_counts(3, 4, again, 2)
    conditions, _ = draw_counts(N, 4, again, 3)
    i, j = pair_index(N)
    for sample in range(4):
        drawn = np.repeat(np.arange(N), conditions[sample].astype(int))
        pairs = np.where(
            drawn[i] == drawn[j], np.nan, [to_square(v)[drawn[i], drawn[j]] for v in rdms]
        )
        people = np.repeat(np.arange(3), subjects[sample].astype(int))
        expected = compare(pairs[:3][people], pairs[3:], method).mean(axis=0)
        np.testing.assert_allclose(made.scores["both"][sample], expected, rtol=1e-8)
        condition = compare(pairs[:3], pairs[3:], method).mean(axis=0)
        np.testing.assert_allclose(made.scores["condition"][sample], condition, rtol=1e-8)
        ceiling = noise_ceiling(pairs[:3], method)
        np.testing.assert_allclose(made.ceilings["condition"][sample], ceiling, rtol=1e-8)
        subject = compare(data[people], models, method).mean(axis=0)
        np.testing.assert_allclose(made.scores["subject"][sample], subject, rtol=1e-8)


def test_bootstrap_of_one_factor_and_its_refusals(rdms):
    made = dual_bootstrap(
        rdms[:1], rdms[1:], method="cosine", samples=5, rng=np.random.default_rng(0),
        resample=("condition",),
    )  # fmt: skip
    assert set(made.scores) == {"condition"}
    with pytest.raises(ValueError, match="cannot be bootstrapped"):
        dual_bootstrap(rdms, rdms, method="euclidean", samples=2, rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="nothing to resample"):
        dual_bootstrap(
            rdms, rdms, method="cosine", samples=2, rng=np.random.default_rng(0), resample=()
        )


def test_resamples_with_too_few_conditions_are_drawn_again(rng):
    counts, redrawn = draw_counts(4, 500, rng, 3)
    assert redrawn > 0
    assert ((counts > 0).sum(axis=1) >= 3).all()
    assert (counts.sum(axis=1) == 4).all()


def test_corrected_variance_equals_its_formula_and_stays_in_its_bounds():
    variances = {"subject": np.array([1.0, 3]), "condition": np.array([2.0, 3]),
                 "both": np.array([3.5, 1])}  # fmt: skip
    found, dof = corrected_variance(variances, 12, 30)
    f, g = 12 / 11, 30 / 29
    assert found[0] == pytest.approx(f * 1 + g * 2 - f * g * (3.5 - 3))
    assert found[1] == 1.0  # lower bound above v_b: v_b
    # A sum of two variances: 12 / 11 of 1 with 11, 30 / 29 of 2 with 29 degrees of freedom.
    assert dof[0] == pytest.approx((f + 2 * g) ** 2 / (f**2 / 11 + (2 * g) ** 2 / 29))
    assert (dof >= 11).all()
    assert (dof <= 40).all()
    large, _ = corrected_variance({k: v[:1] for k, v in variances.items()}, 10**6, 10**6)
    assert large[0] == pytest.approx(2 * (1 + 2) - 3.5, rel=1e-5)
    alone, dof = corrected_variance({"condition": np.array([2.0])}, 1, 30)
    assert alone[0] == pytest.approx(2 * g)
    assert dof.tolist() == [29]


def test_repeats_of_cross_validation_take_their_variance_away(rng):
    base = rng.normal(size=(20_000, 1, 1))
    scores = base + rng.normal(size=(20_000, 4, 1)) * 2
    # Standard error of a variance of about 1 from 20,000 samples of variance 5: about 0.03.
    assert repeat_corrected_variance(scores).item() == pytest.approx(1.0, abs=0.12)


def test_t_test_is_that_of_scipy(rng):
    values = rng.normal(0.4, 1, size=12)
    variance = np.array([values.var(ddof=1) / 12])
    expected = ttest_1samp(values, 0)
    found = t_test(np.array([values.mean()]), variance, 11, two_sided=True)
    assert found.item() == pytest.approx(expected.pvalue)
    one = t_test(np.array([values.mean()]), variance, 11).item()
    assert one == pytest.approx(ttest_1samp(values, 0, alternative="greater").pvalue)
    assert np.isnan(t_test(np.array([1.0]), np.array([0.0]), 3)).all()


def test_adjusted_pvalues_are_the_known_ones():
    p = np.array([0.01, 0.04, 0.03, np.nan])
    np.testing.assert_allclose(adjust(p, "holm"), [0.03, 0.06, 0.06, np.nan])
    np.testing.assert_allclose(adjust(p, "fdr"), [0.03, 0.04, 0.04, np.nan])
    np.testing.assert_array_equal(adjust(p, "none"), p)


def test_maximum_over_the_family_keeps_its_error(rng):
    false = 0
    for _ in range(200):
        null = sign_flips(rng.normal(size=(8, 30)), 127, rng)
        false += (max_statistic(null) <= 0.05).any()
    # 200 studies at 0.05: 10 expected, SD 3.1.
    assert 2 <= false <= 20


def test_clusters_find_a_planted_interval(rng):
    values = rng.normal(size=(14, 60)) * 0.5
    values[:, 20:32] += 0.8
    for threshold in (0.3, None):
        mass, pvalue = clusters(sign_flips(values, 199, rng), threshold)
        assert (pvalue[21:31] < 0.05).all()
        assert pvalue[:15].min() > 0.05
        assert mass[25] > 0
    assert (enhanced(np.zeros((1, 5))) == 0).all()


def test_pairs_of_a_square_are_read_in_row_order():
    square = np.arange(16.0).reshape(4, 4)
    np.testing.assert_array_equal(to_pairs(square), [1, 2, 3, 6, 7, 11])


@pytest.mark.parametrize("method", BOOTSTRAPPED)
@pytest.mark.parametrize("holes", [False, True])
def test_permuted_labels_equal_comparisons_with_permuted_models(rdms, method, holes):
    data, models = rdms[:3], np.round(rdms[3:], 1)
    if holes:
        data[1, 4] = np.nan
    null = permutation_null(data, models, method, 5, np.random.default_rng(3))
    again, (i, j) = np.random.default_rng(3), pair_index(N)
    orders = [np.arange(N), *(again.permutation(N) for _ in range(5))]
    for row, order in zip(null, orders, strict=True):
        permuted = to_square(models)[:, order[i], order[j]]
        np.testing.assert_allclose(row, compare(data, permuted, method).mean(axis=0), atol=1e-12)
