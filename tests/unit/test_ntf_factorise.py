"""Masked HALS: descent, optimality, invariances, exact-CP acceptance; choice of the rank."""

from __future__ import annotations

import numpy as np
import pytest

from neuropipe.analyses.ntf import fit_ntf, select_rank
from neuropipe.analyses.ntf.kernels.bootstrap import bootstrap
from neuropipe.analyses.ntf.kernels.factorise import factorise, fit_pairs, hals, subject_errors
from neuropipe.analyses.ntf.kernels.problem import Problem
from neuropipe.analyses.ntf.kernels.rank import (
    HeldOut,
    block_error,
    choose_rank,
    held_out_folds,
    restart_similarity,
)
from neuropipe.simulate.planted_tensor import PlantedTensor, planted_tensor
from neuropipe.stats.factor_match import factor_match
from neuropipe.stats.folds import hold_out_fibres


def small(seed: int, missing: float = 0.15, dtype: str = "float64") -> PlantedTensor:
    return planted_tensor(
        seed, n_neurons=20, n_bins=40, rank=3, group=6, missing=missing, dtype=dtype
    )


def start(seed: int, shape: tuple[int, int, int], rank: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    return tuple(rng.random((n, rank)) for n in shape)


def model(U, B, G, weights=1.0) -> np.ndarray:
    return np.einsum("pr,tr,ar->pta", np.nan_to_num(U) * weights, B, G)


# The ridge acts on U alone: the sweeps over B and G ignore it, so that weights are not shrunk, and
# the loss may rise by about the square of the ridge. In float32 the rounding of the loss is 1e-7
# of the squared norm, to which the loss is relative.
@pytest.mark.parametrize(
    ("missing", "ridge", "dtype", "slack"),
    [
        (0.0, 0.01, "float64", 1e-9),
        (0.15, 0.0, "float64", 1e-9),
        (0.15, 0.01, "float64", 5e-5),
        (0.0, 0.01, "float32", 1e-6),
        (0.15, 0.0, "float32", 1e-6),
    ],
)
def test_loss_never_rises(missing: float, ridge: float, dtype: str, slack: float) -> None:
    for seed in range(4):
        data = small(seed, missing, dtype)
        result = fit_ntf(data.X, 3, W=data.W, restarts=3, tol=1e-6, ridge=ridge, seed=seed)
        for one in result.restarts:
            assert (np.diff(one.loss_history) <= slack).all()


def test_error_without_the_model_equals_the_error_with_it() -> None:
    data = small(0)
    V = np.ones((40, 5), dtype=bool)
    V[30:, 2] = False
    X = data.X * V
    result = fit_ntf(X, 3, W=data.W, V=V, restarts=2)
    mask = data.W[:, None, :] & V
    residual = (X - model(*result.factors, result.weights))[mask]
    expected = np.linalg.norm(residual) / np.linalg.norm(X[mask])
    assert result.relative_error == pytest.approx(expected, rel=1e-9)
    errors, total = subject_errors(Problem.build(X, data.W, V), result)
    assert total == pytest.approx(expected, rel=1e-9)
    left = (X - model(*result.factors, result.weights))[:, :, 2][mask[:, :, 2]]
    assert errors[2] == pytest.approx(np.linalg.norm(left) / np.linalg.norm(X[:, :, 2]))


@pytest.mark.parametrize("with_time_mask", [False, True])
@pytest.mark.parametrize("missing", [0.0, 0.15])
def test_gradient_at_the_solution_meets_the_optimality_conditions(
    missing: float, with_time_mask: bool
) -> None:
    data = small(1, missing)
    V = np.ones((40, 5), dtype=bool)
    V[:6, 1] = not with_time_mask
    X = data.X * V
    rng = np.random.default_rng(0)
    problem = Problem.build(X, data.W, V)
    result = hals(problem, 3, rng=rng, ridge=0.0, tol=0.0, max_iter=3000)
    factors = [np.nan_to_num(result.factors[0]) * result.weights, *result.factors[1:]]
    mask = data.W[:, None, :] & V

    def objective() -> float:
        return 0.5 * float(np.sum((mask * (X - model(*factors))) ** 2))

    step = 1e-5
    for factor in factors:
        rows = np.random.default_rng(1).choice(len(factor), min(12, len(factor)), replace=False)
        for row in rows:
            for r in range(3):
                kept = factor[row, r]
                factor[row, r] = kept + step
                up = objective()
                factor[row, r] = kept - step
                down = objective()
                factor[row, r] = kept
                gradient = (up - down) / (2 * step)
                if kept > 1e-6:
                    assert abs(gradient) < 2e-3
                else:
                    assert gradient > -2e-3


def test_permuting_the_rows_of_every_mode_permutes_the_factors() -> None:
    data = small(2)
    rng = np.random.default_rng(3)
    p, t, a = (rng.permutation(n) for n in data.X.shape)
    first = start(0, data.X.shape, 3)
    moved = (first[0][p], first[1][t], first[2][a])
    one = hals(Problem.build(data.X, data.W), 3, start=first)
    two = hals(
        Problem.build(np.ascontiguousarray(data.X[np.ix_(p, t, a)]), data.W[np.ix_(p, a)]),
        3,
        start=moved,
    )
    assert two.relative_error == pytest.approx(one.relative_error, rel=1e-9)
    for before, after, order in zip(one.factors, two.factors, (p, t, a), strict=True):
        np.testing.assert_allclose(before[order], after, atol=1e-7)


def test_float32_equals_float64() -> None:
    data = small(4)
    first = start(0, data.X.shape, 3)
    X32 = data.X.astype(np.float32)
    one = hals(Problem.build(data.X, data.W), 3, start=first)
    two = hals(Problem.build(X32, data.W), 3, start=first)
    assert two.factors[0].dtype == np.float32
    assert two.relative_error == pytest.approx(one.relative_error, abs=1e-3)
    for a, b in zip(one.factors, two.factors, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)


def test_same_seed_gives_identical_factors_and_restarts_differ() -> None:
    data = small(5)
    one, two = (fit_ntf(data.X, 3, W=data.W, restarts=2, seed=7) for _ in range(2))
    for a, b in zip(one.factors, two.factors, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(one.restarts[0].factors[1], one.restarts[1].factors[1])


def test_the_order_of_the_seeds_orders_the_restarts_and_changes_no_number() -> None:
    data = small(5)
    problem = Problem.build(data.X, data.W)
    one, two = (
        factorise(problem, 3, [np.random.default_rng(k) for k in seeds])
        for seeds in ((0, 1, 2), (2, 0, 1))
    )
    for place, other in enumerate((1, 2, 0)):
        a, b = one.restarts[place], two.restarts[other]
        np.testing.assert_array_equal(a.factors[0], b.factors[0])
    np.testing.assert_array_equal(one.factors[1], two.factors[1])


def test_components_are_ordered_by_weight_with_unit_columns() -> None:
    data = small(6)
    result = fit_ntf(data.X, 3, W=data.W, restarts=2)
    assert (np.diff(result.weights) <= 0).all()
    for factor in result.factors:
        np.testing.assert_allclose(np.linalg.norm(np.nan_to_num(factor), axis=0), 1.0, rtol=1e-6)
        assert np.nanmin(factor) >= 0


@pytest.mark.parametrize("seed", range(5))
def test_exact_tensor_is_recovered(seed: int) -> None:
    data = planted_tensor(seed)
    result = fit_ntf(data.X, 6, restarts=4, seed=seed)
    assert factor_match(data.factors, result.factors)[0] >= 0.995
    close = [one.relative_error - result.relative_error < 1e-4 for one in result.restarts]
    assert sum(close) >= 2, "a second restart finds the same optimum"


@pytest.mark.parametrize("seed", range(5))
def test_exact_tensor_with_missing_neurons_is_recovered(seed: int) -> None:
    data = planted_tensor(seed, missing=0.15)
    result = fit_ntf(data.X, 6, W=data.W, restarts=4, seed=seed)
    assert factor_match(data.factors, result.factors)[0] >= 0.97
    U, B, G = result.factors
    hidden = ~data.W & np.isfinite(U[:, :1])
    error = (model(U, B, G, result.weights) - data.full).transpose(0, 2, 1)[hidden]
    assert np.linalg.norm(error) <= 0.30 * np.linalg.norm(data.full.transpose(0, 2, 1)[hidden])


def test_reading_missing_cells_as_zero_is_worse() -> None:
    for seed in range(2):
        data = planted_tensor(seed, missing=0.15)
        masked = fit_ntf(data.X, 6, W=data.W, restarts=3)
        filled = fit_ntf(data.X, 6, restarts=3)
        score = [factor_match(data.factors, one.factors)[0] for one in (masked, filled)]
        assert score[1] < score[0] - 0.02


def test_pairs_that_were_never_observed_are_nan() -> None:
    data = small(7, missing=0.0)
    W = data.W.copy()
    W[5] = False
    result = fit_ntf(data.X * W[:, None, :], 3, W=W, restarts=1)
    assert np.isnan(result.factors[0][5]).all()
    assert np.isfinite(np.delete(result.factors[0], 5, axis=0)).all()


@pytest.mark.parametrize("ridge", [0.0, 0.01])
def test_what_was_never_observed_is_nan_and_does_not_count(ridge: float) -> None:
    data = small(7, missing=0.0)
    W, V = np.ones(data.W.shape, dtype=bool), np.ones((40, 5), dtype=bool)
    W[:50] = False
    V[10:15] = False
    V[:, 3] = False
    X = data.X * W[:, None, :] * V
    result = fit_ntf(X, 3, W=W, V=V, restarts=1, ridge=ridge)
    unseen = (slice(0, 50), slice(10, 15), slice(3, 4))
    for factor, rows in zip(result.factors, unseen, strict=True):
        assert np.isnan(factor[rows]).all()
        others = np.delete(factor, np.r_[rows], axis=0)
        np.testing.assert_allclose(np.linalg.norm(others, axis=0), 1.0)
    errors, total = subject_errors(Problem.build(X, W, V), result)
    assert total == pytest.approx(result.relative_error)
    assert np.isnan(errors[3])
    kept = np.delete(np.delete(np.delete(X, np.r_[0:50], 0), np.r_[10:15], 1), 3, 2)
    alone = fit_ntf(kept, 3, restarts=1)
    assert result.relative_error == pytest.approx(alone.relative_error, abs=2e-3)


def test_a_component_that_starts_at_zero_is_revived() -> None:
    data = small(8, missing=0.0)
    first = start(0, data.X.shape, 3)
    first[1][:, 1] = 0.0
    result = hals(Problem.build(data.X), 3, start=first)
    assert result.dead_components == 0
    assert factor_match(data.factors, result.factors)[0] > 0.95


def test_a_zero_tensor_gives_dead_components_and_no_nan() -> None:
    result = fit_ntf(np.zeros((10, 12, 3)), 2, restarts=1)
    assert result.dead_components == 2
    assert np.isfinite(result.factors[0]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X: -X, "negative"),
        (lambda X: np.where(X.mean() < X, np.nan, X), "missing"),
        (lambda X: X[:, :, 0], "three dims"),
    ],
)
def test_an_impossible_tensor_is_refused(change, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_ntf(change(small(0, 0.0).X), 2)


def test_values_outside_the_masks_are_refused() -> None:
    data = small(9)
    with pytest.raises(ValueError, match="masks"):
        fit_ntf(data.full, 2, W=data.W)
    with pytest.raises(ValueError, match="W has shape"):
        fit_ntf(data.X, 2, W=data.W.T)


def test_a_rank_beyond_the_tensor_is_refused() -> None:
    with pytest.raises(ValueError, match="rank 41 is out of range: 1 to 40"):
        fit_ntf(small(0).X, 41, W=small(0).W)


def test_a_memory_map_gives_the_same_factors(tmp_path) -> None:
    data = small(1, dtype="float32")
    path = tmp_path / "tensor.npy"
    np.save(path, data.X)
    one = fit_ntf(data.X, 3, W=data.W, restarts=1)
    two = fit_ntf(np.load(path, mmap_mode="r"), 3, W=data.W, restarts=1)
    np.testing.assert_array_equal(one.factors[0], two.factors[0])


def test_pair_factor_with_the_others_fixed_is_the_fitted_one() -> None:
    data = small(2)
    problem = Problem.build(data.X, data.W)
    result = hals(problem, 3, rng=np.random.default_rng(0), ridge=0.0, tol=0.0, max_iter=500)
    found = fit_pairs(problem, *result.factors[1:], ridge=0.0)
    seen = data.W.any(axis=1)
    np.testing.assert_allclose(found[seen], (result.factors[0] * result.weights)[seen], atol=1e-3)


def test_held_out_cells_are_disjoint_and_leave_every_row_one() -> None:
    observed = np.random.default_rng(0).random((200, 3)) < 0.7
    folds = hold_out_fibres(observed, folds=10, fraction=0.1, rng=np.random.default_rng(1))
    seen = np.zeros_like(observed, dtype=int)
    for rows, columns in folds:
        assert (np.diff(rows) >= 0).all()
        train = observed.copy()
        train[rows, columns] = False
        assert train[observed.sum(axis=1) >= 2].any(axis=1).all()
        seen[rows, columns] += 1
    assert seen.max() == 1
    assert not seen[~observed].any()
    assert not seen[observed.sum(axis=1) < 2].any()


def test_nothing_to_hold_out_is_an_error() -> None:
    with pytest.raises(ValueError, match="no row has two"):
        hold_out_fibres(np.eye(4, dtype=bool), folds=2, fraction=0.1, rng=np.random.default_rng(0))


def test_view_without_held_out_fibres_equals_zeroing_them() -> None:
    X = small(0, 0.0).X
    cells = held_out_folds(np.ones((190, 5), bool), 40, folds=2, rng=np.random.default_rng(0))[0]
    expected = X.copy()
    expected[cells[0], :, cells[1]] = 0
    view = HeldOut(X, *cells)
    np.testing.assert_array_equal(view[0:190], expected)
    np.testing.assert_array_equal(view[64:100], expected[64:100])


def test_rank_of_a_planted_tensor_is_chosen() -> None:
    data = small(3)
    rank, errors = select_rank(data.X, [1, 2, 3, 4, 5], W=data.W)
    assert errors.shape == (5, 4)
    assert rank in (3, 4)


def test_rank_of_one_animal_is_found_by_time_blocks() -> None:
    data = planted_tensor(2, n_neurons=30, n_bins=150, n_subjects=1, rank=3, group=8)
    folds = held_out_folds(data.W, 150, folds=4, rng=np.random.default_rng(0))
    errors = np.array(
        [
            [
                block_error(
                    data.X[:, :, 0],
                    data.W[:, 0],
                    np.ones(150, bool),
                    cells,
                    rank,
                    np.random.default_rng(k),
                )
                for k, cells in enumerate(folds)
            ]
            for rank in (1, 2, 3, 4)
        ]
    )
    assert choose_rank([1, 2, 3, 4], errors) in (3, 4)
    assert errors[2].mean() < 0.3


def test_one_standard_error_rule() -> None:
    errors = np.array([[0.9, 1.1], [0.52, 0.54], [0.4, 0.6], [0.45, 0.6]])
    assert choose_rank([2, 3, 4, 5], errors) == 3


def test_restart_similarity_is_symmetric_with_ones() -> None:
    data = small(4)
    similarity = restart_similarity(fit_ntf(data.X, 3, W=data.W, restarts=3).restarts)
    np.testing.assert_allclose(similarity, similarity.T)
    np.testing.assert_allclose(np.diagonal(similarity), 1.0)
    assert similarity.max() <= 1 + 1e-9


def test_bootstrap_intervals_hold_the_estimate() -> None:
    data = planted_tensor(0, n_neurons=20, n_bins=40, n_subjects=8, rank=2, group=6)
    problem = Problem.build(data.X, data.W)
    best = hals(problem, 2, rng=np.random.default_rng(0))
    found = bootstrap(problem, best, [np.random.default_rng(k) for k in range(10)])
    inside = (found.time_factor[0] <= best.factors[1] + 0.02) & (
        found.time_factor[1] >= best.factors[1] - 0.02
    )
    assert inside.mean() > 0.9
    planted = data.factors[0] > 0
    columns = factor_match(data.factors, best.factors)[1]
    assert found.inclusion[:, columns][planted].mean() > 0.8
    assert found.inclusion[:, columns][~planted].mean() < 0.1


def test_without_noise_every_draw_of_animals_gives_the_estimate() -> None:
    data = planted_tensor(
        0, n_neurons=20, n_bins=40, n_subjects=6, rank=1, group=10, noise=0, dtype="float64"
    )
    W = data.W.copy()
    strong = int(data.factors[0].argmax())
    W[strong, 1:] = False  # a pair of the first animal only
    problem = Problem.build(data.X * W[:, None, :], W)
    best = hals(problem, 1, rng=np.random.default_rng(0), tol=1e-9)
    found = bootstrap(problem, best, [np.random.default_rng(k) for k in range(12)], tol=1e-9)
    for quantile in (0, 1):
        np.testing.assert_allclose(found.subject_factor[quantile], best.factors[2], atol=2e-3)
        np.testing.assert_allclose(found.time_factor[quantile], best.factors[1], atol=2e-3)
    assert found.inclusion[strong, 0] == 1, "draws without the first animal do not count"
