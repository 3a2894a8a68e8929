"""Choice of the rank, restart similarity and bootstrap against brute force and known cases."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.optimize import nnls

from neuropipe.analyses.ntf import fit_ntf, select_rank
from neuropipe.analyses.ntf.kernels.bootstrap import bootstrap, inclusion
from neuropipe.analyses.ntf.kernels.factorise import NTFResult, hals
from neuropipe.analyses.ntf.kernels.problem import Problem
from neuropipe.analyses.ntf.kernels.rank import (
    _two_way,
    block_error,
    fibre_error,
    held_out_errors,
    held_out_folds,
    restart_similarity,
)
from neuropipe.simulate.planted_tensor import PlantedTensor, planted_tensor

STARTS, RIDGE = 3, 0.1  # of the rank selection


def small(seed: int, n_subjects: int = 5, missing: float = 0.15) -> PlantedTensor:
    return planted_tensor(
        seed, n_neurons=16, n_bins=40, n_subjects=n_subjects, rank=2, group=6, missing=missing,
        dtype="float64",
    )  # fmt: skip


class TheseAnimals:
    """Stands for a generator that draws the animals given."""

    def __init__(self, drawn: list[int]) -> None:
        self.drawn = drawn

    def integers(self, high: int, size: int) -> np.ndarray:
        assert high == size == len(self.drawn)
        return np.array(self.drawn)


def result_of(U: np.ndarray, B: np.ndarray, G: np.ndarray) -> NTFResult:
    return NTFResult(np.ones(U.shape[1]), (U, B, G), np.empty(0), 0.0, True, 0)


# --- held-out cells --------------------------------------------------------------------------


def test_error_on_held_out_fibres_is_that_of_a_fit_that_never_saw_them() -> None:
    data = small(0)
    V = np.ones((40, 5), dtype=bool)
    V[30:, 2] = False
    X = data.X * V
    cells = held_out_folds(data.W, 40, folds=2, rng=np.random.default_rng(0), V=V)[0]
    train = data.W.copy()
    train[cells] = False
    erased = X * train[:, None, :]
    fits = [
        hals(Problem.build(erased, train, V), 2, rng=rng, ridge=RIDGE)
        for rng in np.random.default_rng(5).spawn(STARTS)
    ]
    best = min(fits, key=lambda one: one.relative_error)
    U, B, G = (np.nan_to_num(factor) for factor in best.factors)
    model = np.einsum("r,pr,tr,ar->pta", best.weights, U, B, G) * V
    hidden = [(X[p, :, a], model[p, :, a]) for p, a in zip(*cells, strict=True)]
    seen, predicted = (np.concatenate(part) for part in zip(*hidden, strict=True))
    expected = np.linalg.norm(seen - predicted) / np.linalg.norm(seen)
    found = fibre_error(X, data.W, V, cells, 2, np.random.default_rng(5))
    assert found == pytest.approx(expected, rel=1e-6)
    assert found < 0.5, "the planted rank predicts what it did not see"


def test_values_of_held_out_cells_do_not_change_the_fit() -> None:
    data = small(1)
    cells = held_out_folds(data.W, 40, folds=2, rng=np.random.default_rng(0))[0]
    louder = data.X.copy()
    louder[cells[0], :, cells[1]] *= 100.0
    found = fibre_error(louder, data.W, None, cells, 2, np.random.default_rng(0))
    assert found == pytest.approx(0.99, abs=0.01), "the prediction stays a hundred times smaller"
    single = small(1, n_subjects=1, missing=0.0)
    whole = np.ones(len(single.X), dtype=bool), np.ones(40, dtype=bool)
    cells = held_out_folds(single.W, 40, folds=2, rng=np.random.default_rng(0))[0]
    louder = single.X[:, :, 0].copy()
    for pair, block in zip(*cells, strict=True):
        louder[pair, 10 * block : 10 * block + 10] *= 100.0
    found = block_error(louder, *whole, cells, 2, np.random.default_rng(0))
    assert found == pytest.approx(0.99, abs=0.01)


def test_factorisation_under_a_full_mask_meets_non_negative_least_squares() -> None:
    data = small(2, n_subjects=1, missing=0.0)
    X = data.X[:, :, 0]
    mask = (np.random.default_rng(0).random(X.shape) < 0.8).astype(float)
    ridge = 0.05
    U, B, error = _two_way(
        X, mask, 2, np.random.default_rng(1), ridge=ridge, tol=1e-13, max_iter=5000, inner=20
    )
    unit = B / np.linalg.norm(B, axis=0)  # the ridge acts on U beside B of unit columns
    assert not (U < 0).any() and not (B < 0).any()
    seen = mask > 0
    left = np.linalg.norm((X - U @ B.T)[seen]) / np.linalg.norm(X[seen])
    assert error == pytest.approx(left, rel=1e-6)
    for row in range(0, len(X), 9):
        seen = mask[row] > 0
        stacked = np.vstack((unit[seen], np.sqrt(ridge) * np.eye(2)))
        expected, _ = nnls(stacked, np.concatenate((X[row, seen], np.zeros(2))))
        np.testing.assert_allclose(U[row], expected, atol=1e-4)
    for column in range(0, X.shape[1], 7):
        seen = mask[:, column] > 0
        expected, _ = nnls(U[seen], X[seen, column])
        np.testing.assert_allclose(B[column], expected, atol=1e-4)


def test_blocks_of_time_stay_whole_and_pauses_are_not_held_out() -> None:
    W, V = np.ones((50, 1), dtype=bool), np.ones((95, 1), dtype=bool)
    V[20:40] = False
    for _pairs, blocks in held_out_folds(W, 95, folds=4, rng=np.random.default_rng(0), V=V):
        assert set(blocks.tolist()) <= {0, 1, 4, 5, 6, 7, 8, 9}
    everywhere = held_out_folds(W, 95, folds=4, rng=np.random.default_rng(0))
    assert {2, 3} <= set(everywhere[0][1].tolist())


def test_one_animal_is_scored_on_blocks_and_several_on_fibres() -> None:
    data = small(3, n_subjects=1, missing=0.0)
    folds = held_out_folds(data.W, 40, folds=2, rng=np.random.default_rng(0))
    rngs = [np.random.default_rng(k) for k in range(2)]
    found = held_out_errors(data.X, data.W, None, folds, 2, rngs)
    bins = np.ones(40, dtype=bool)
    expected = [
        block_error(data.X[:, :, 0], data.W[:, 0], bins, cells, 2, np.random.default_rng(k))
        for k, cells in enumerate(folds)
    ]
    np.testing.assert_array_equal(found, expected)


def test_the_rank_of_one_animal_is_selected() -> None:
    data = planted_tensor(4, n_neurons=30, n_bins=150, n_subjects=1, rank=3, group=8)
    rank, errors = select_rank(data.X, [1, 2, 3, 4], folds=3)
    assert errors.shape == (4, 3)
    assert rank in (3, 4)
    assert errors[2].mean() < 0.6 * errors[0].mean()


def test_time_blocks_of_a_recording_of_one_block_cannot_be_held_out() -> None:
    with pytest.raises(ValueError, match="no row has two"):
        select_rank(np.random.default_rng(0).random((20, 10, 1)), [1, 2])


# --- restarts --------------------------------------------------------------------------------


def test_restart_similarity_is_that_of_the_best_of_all_matchings() -> None:
    rng = np.random.default_rng(0)
    runs = [result_of(*(rng.random((n, 3)) for n in (30, 20, 4))) for _ in range(3)]
    found = restart_similarity(runs)
    for i, j in itertools.combinations(range(3), 2):
        cosines = np.ones((3, 3))
        for one, two in zip(runs[i].factors, runs[j].factors, strict=True):
            norms = np.outer(np.linalg.norm(one, axis=0), np.linalg.norm(two, axis=0))
            cosines *= (one.T @ two) / norms
        best = max(
            np.mean([cosines[r, order[r]] for r in range(3)])
            for order in itertools.permutations(range(3))
        )
        assert found[i, j] == pytest.approx(best)


def test_permuted_components_are_the_same_and_disjoint_ones_are_not() -> None:
    rng = np.random.default_rng(1)
    factors = [rng.random((n, 3)) for n in (30, 20, 4)]
    moved = [factor[:, [2, 0, 1]] for factor in factors]
    disjoint = [np.kron(np.eye(6), np.ones((4, 1)))] * 3
    first, second = ([part[:, a : a + 3] for part in disjoint] for a in (0, 3))
    found = restart_similarity([result_of(*f) for f in (factors, moved)])
    assert found[0, 1] == pytest.approx(1.0)
    assert restart_similarity([result_of(*f) for f in (first, second)])[0, 1] == 0.0


# --- bootstrap -------------------------------------------------------------------------------


def test_a_draw_is_a_fit_of_the_animals_drawn() -> None:
    data = small(4)
    problem = Problem.build(data.X, data.W)
    best = hals(problem, 2, rng=np.random.default_rng(0), tol=1e-9)
    drawn = [0, 0, 3, 4, 4]
    found = bootstrap(problem, best, [TheseAnimals(drawn)], tol=1e-9)
    U, B, G = best.factors
    alone = hals(
        Problem.build(np.ascontiguousarray(data.X[:, :, drawn]), data.W[:, drawn]),
        2,
        start=(np.nan_to_num(U) * best.weights, B, G[drawn]),
        tol=1e-9,
    )
    matched = alone.factors[1].T @ B
    order = matched.argmax(axis=0)
    for quantile in (0, 1):
        np.testing.assert_allclose(found.time_factor[quantile], alone.factors[1][:, order])
    assert np.isnan(found.subject_factor[:, [1, 2]]).all(), "animals that were not drawn"
    expected = inclusion(alone.factors[0][:, order]).astype(float)
    expected[np.isnan(alone.factors[0][:, 0])] = np.nan
    np.testing.assert_array_equal(found.inclusion, expected)


def test_quantiles_are_those_of_the_draws() -> None:
    data = small(5, missing=0.0)
    problem = Problem.build(data.X)
    best = hals(problem, 2, rng=np.random.default_rng(0))
    draws = [[0, 1, 2, 3, 3], [4, 4, 1, 0, 2], [2, 2, 2, 3, 1]]
    single = [bootstrap(problem, best, [TheseAnimals(drawn)]).time_factor[0] for drawn in draws]
    found = bootstrap(problem, best, [TheseAnimals(drawn) for drawn in draws])
    expected = np.quantile(np.stack(single), (0.05, 0.95), axis=0)
    np.testing.assert_allclose(found.time_factor, expected, atol=1e-12)


# --- what limits the rank, and the ridge -----------------------------------------------------


def test_a_rank_above_fifty_is_refused() -> None:
    X = np.random.default_rng(0).random((80, 70, 2))
    with pytest.raises(ValueError, match="rank 51 is out of range: 1 to 50"):
        fit_ntf(X, 51)


def test_without_the_shrinkage_missing_cells_of_an_exact_tensor_are_predicted_better() -> None:
    """The ridge pulls coefficients of rarely seen pairs to 0; the second pass undoes that."""
    for seed in range(3):
        data = planted_tensor(seed, n_neurons=40, n_bins=60, rank=3, group=12, missing=0.3)
        hidden = ~data.W & data.W.any(axis=1)[:, None]
        truth = data.full.transpose(0, 2, 1)[hidden]
        errors = []
        for debias in (False, True):
            one = fit_ntf(data.X, 3, W=data.W, restarts=2, debias=debias)
            U, B, G = one.factors
            model = np.einsum("r,pr,tr,ar->pat", one.weights, np.nan_to_num(U), B, G)
            errors.append(np.linalg.norm(model[hidden] - truth) / np.linalg.norm(truth))
            # As for the plain ridge, which the sweeps over B and G ignore.
            assert (np.diff(one.loss_history) <= 5e-5).all()
        assert errors[1] < 0.95 * errors[0]


def test_without_missing_data_there_is_no_shrinkage_to_undo() -> None:
    data = small(6, missing=0.0)
    plain, second = (fit_ntf(data.X, 2, restarts=1, debias=debias) for debias in (False, True))
    np.testing.assert_array_equal(plain.factors[0], second.factors[0])
