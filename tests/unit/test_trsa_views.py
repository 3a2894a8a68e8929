"""Identification, flexible models, time, MDS, searchlights and independence."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform
from scipy.stats import spearmanr

from neuropipe.analyses.trsa.kernels.agtic import agtic, distance_correlation_grid
from neuropipe.analyses.trsa.kernels.compare import compare
from neuropipe.analyses.trsa.kernels.identification import (
    accuracy_map,
    accuracy_null,
    identify,
    identify_by,
    nested_accuracy,
)
from neuropipe.analyses.trsa.kernels.mds import align, classical_mds, mds, mds_movie, stress
from neuropipe.analyses.trsa.kernels.models import (
    Model,
    bootstrap_flexible,
    crossvalidated_scores,
    fit_model,
)
from neuropipe.analyses.trsa.kernels.rdm import rdm
from neuropipe.analyses.trsa.kernels.searchlight import (
    offset_neighbours,
    radius_neighbours,
    searchlight_rdms,
    searchlight_scores,
)
from neuropipe.analyses.trsa.kernels.temporal import (
    cross_temporal,
    onset,
    peak_interval,
    windowed,
    windows,
)
from neuropipe.analyses.trsa.kernels.transform import prescale, rgtm, threshold_grid

pytestmark = pytest.mark.uncompiled


@pytest.fixture
def rng():
    return np.random.default_rng(2)


def slow_identification(vectors):
    """Nearest centroid of the others by loops; NaN rows have no region."""
    subjects, labels = vectors.shape[:2]
    present = np.isfinite(vectors).all(axis=2)
    predicted = np.full((subjects, labels), -1)
    for s in range(subjects):
        rest = [t for t in range(subjects) if t != s]
        for label in np.flatnonzero(present[s]):
            distance = []
            for m in range(labels):
                others = [vectors[t, m] for t in rest if present[t, m]]
                centre = np.mean(others, axis=0) if others else np.full(vectors.shape[2], np.inf)
                distance.append(np.linalg.norm(vectors[s, label] - centre))
            predicted[s, label] = int(np.argmin(distance))
    return predicted


@pytest.fixture
def regions(rng):
    """Five subjects, four regions with their own RDMs, one region of one subject absent."""
    vectors = rng.uniform(size=(1, 4, 15)) + 0.4 * rng.uniform(size=(5, 4, 15))
    vectors[2, 1] = np.nan
    return vectors


def test_identification_equals_the_loop(regions):
    found = identify(regions)
    expected = slow_identification(regions)
    np.testing.assert_array_equal(found.predicted, expected)
    right = (expected == np.arange(4)) & np.isfinite(regions).all(axis=2)
    assert found.accuracy == pytest.approx(right.sum() / 19)
    assert 0 < found.distance_ratio < 1


def test_a_subject_drawn_twice_is_left_out_with_both_copies(regions):
    vectors = np.nan_to_num(regions, nan=0.3)
    counts = np.array([2.0, 1, 0, 1, 1])
    found = identify(vectors, counts)
    people = np.repeat(np.arange(5), counts.astype(int))
    right = []
    for s in people:
        templates = vectors[people[people != s]].mean(axis=0)
        for label in range(4):
            distance = np.linalg.norm(vectors[s, label] - templates, axis=1)
            right.append(distance.argmin() == label)
    assert found.accuracy == pytest.approx(np.mean(right))


def test_accuracy_map_equals_identification_cell_by_cell(regions):
    scaled, cells = prescale(regions), threshold_grid(0.25)
    accuracy, outer, inner = accuracy_map(scaled, cells)
    for k, cell in enumerate(cells):
        assert accuracy[k] == pytest.approx(identify(rgtm(scaled, *cell)).accuracy)
        for s in range(5):
            rest = np.delete(rgtm(scaled, *cell), s, axis=0)
            assert inner[k, s] == pytest.approx(identify(rest).accuracy)
    nested, chosen = nested_accuracy(outer, inner)
    assert nested == pytest.approx(np.mean([outer[chosen[s], s] for s in range(5)]))
    assert nested <= outer.max(axis=0).mean()


def test_identification_by_a_comparator(regions):
    # Unit vectors: the nearest by Euclidean distance of unit centroids is the most similar.
    found = identify_by(regions, "cosine")
    assert found.accuracy > 0.5
    assert found.predicted[2, 1] == -1
    alone = identify_by(regions[:2], "pearson")
    assert alone.predicted.shape == (2, 4)


def basis_and_data(rng, weights, noise=0.05):
    basis = rng.uniform(size=(3, 66))
    data = weights @ basis + noise * rng.normal(size=(6, 66))
    return basis, data


@pytest.mark.parametrize("method", ["cosine", "pearson", "cosine_w", "pearson_w", "spearman"])
def test_weighted_models_recover_their_weights(rng, method):
    truth = np.array([1.0, 0.0, 2.0])
    basis, data = basis_and_data(rng, truth)
    weights = fit_model(Model("weighted", basis), data, method)
    assert (weights >= 0).all()
    weights = weights / weights.sum() * truth.sum()
    if method != "spearman":  # ranks are no linear mixture
        np.testing.assert_allclose(weights, truth, atol=0.15)
    assert compare(data, (weights @ basis)[None], method).mean() > 0.9


def test_select_and_interpolate_find_the_planted_model(rng):
    basis, data = basis_and_data(rng, np.array([0.0, 1.0, 0.0]))
    np.testing.assert_array_equal(fit_model(Model("select", basis), data, "cosine"), [0, 1, 0])
    basis, data = basis_and_data(rng, np.array([0.0, 0.3, 0.7]))
    weights = fit_model(Model("interpolate", basis), data, "pearson")
    np.testing.assert_allclose(weights, [0, 0.3, 0.7], atol=0.05)


def test_cross_validation_does_not_reward_freedom(rng):
    """Many random components fit training noise; on held-out pairs they gain nothing."""
    data = rng.normal(size=(6, 190))
    free = Model("weighted", rng.normal(size=(40, 190)))
    fitted = compare(data, (fit_model(free, data, "pearson") @ free.basis)[None], "pearson").mean()
    held_out = [
        crossvalidated_scores(data, [free], method="pearson", rng=rng).item() for _ in range(10)
    ]
    assert fitted > 0.1
    assert abs(np.mean(held_out)) < 0.05


def test_flexible_bootstrap_has_repeats_and_copes_with_one_subject(rng):
    basis, data = basis_and_data(rng, np.array([1.0, 0.5, 0.0]))
    models = [Model("weighted", basis), Model("fixed", basis[:1])]
    found = bootstrap_flexible(data, models, method="cosine", samples=5, rng=rng)
    assert found.shape == (5, 2, 2)
    assert np.isfinite(found).all()
    alone = bootstrap_flexible(
        data[:1], models, method="cosine", samples=3, rng=rng, resample=("condition",)
    )
    assert np.isfinite(alone).all()


def test_windows_cover_whole_samples_only():
    time = np.arange(10) * 0.01
    slices, centres = windows(time, 0.03, 0.02)
    assert [(s.start, s.stop) for s in slices] == [(0, 3), (2, 5), (4, 7), (6, 9)]
    np.testing.assert_allclose(centres, [0.01, 0.03, 0.05, 0.07])
    patterns = np.arange(40.0).reshape(2, 2, 10)
    np.testing.assert_allclose(windowed(patterns, slices)[0], patterns[..., :3].mean(axis=-1))
    assert windowed(patterns, slices, "concatenate").shape == (4, 2, 6)


def test_time_generalisation_of_one_planted_geometry(rng):
    truth = rng.uniform(size=45)
    movie = np.concatenate([np.zeros((5, 45)), np.repeat(truth[None], 5, axis=0)])
    first, second = (movie + 0.2 * rng.normal(size=movie.shape) for _ in range(2))
    found = cross_temporal(first, second, "pearson")
    np.testing.assert_allclose(found, found.T)
    assert found[5:, 5:].min() > 0.3
    assert np.abs(found[:5, :5]).mean() < 0.2


def test_onset_and_peak():
    time = np.arange(8) / 10
    flags = np.array([0, 1, 1, 0, 1, 1, 1, 1], dtype=bool)
    assert onset(flags, time) == pytest.approx(0.4)
    assert np.isnan(onset(flags[:4], time))
    courses = np.tile(np.exp(-((time - 0.3) ** 2) / 0.01), (5, 1))
    assert peak_interval(courses, time, 50, np.random.default_rng(0)) == pytest.approx((0.3,) * 3)


def test_mds_of_points_in_a_plane_gives_them_back(rng):
    points = rng.normal(size=(8, 2))
    square = squareform(pdist(points))
    np.testing.assert_allclose(squareform(pdist(classical_mds(square))), square, atol=1e-8)
    found, misfit = mds(square)
    assert misfit < 1e-6
    np.testing.assert_allclose(align(found, points), points, atol=1e-6)


def test_stress_falls_below_that_of_principal_coordinates(rng):
    square = squareform(pdist(rng.normal(size=(12, 6))))
    found, misfit = mds(square)
    assert misfit < stress(square, classical_mds(square))
    assert misfit == pytest.approx(stress(square, found))
    assert np.isnan(mds(np.zeros((4, 4)))[1])


def test_frames_of_a_movie_follow_each_other(rng):
    points = rng.normal(size=(6, 2))
    squares = np.stack([squareform(pdist(points * scale)) for scale in (1.0, 1.2, 1.4)])
    frames, misfit = mds_movie(squares)
    for before, after in itertools.pairwise(frames):
        assert np.linalg.norm(after - before) < 0.3 * np.linalg.norm(before)
    assert misfit.max() < 1e-5


@pytest.fixture
def volume(rng):
    mask = np.zeros((7, 6, 5), dtype=bool)
    mask[1:6, 1:5, 1:4] = True
    mask[3, 3, 2] = False
    return mask, rng.normal(size=(3, 6, int(mask.sum())))


def test_neighbours_are_the_voxels_of_the_mask_within_the_radius(volume):
    mask, _ = volume
    spacing = np.array([2.0, 3.0, 2.0])
    where = offset_neighbours(mask, spacing, 4.0, 5)
    position = np.argwhere(mask) * spacing
    for k in range(len(where)):
        distance = np.linalg.norm(position - position[where.centre[k]], axis=1)
        np.testing.assert_array_equal(np.sort(where.of(k)), np.flatnonzero(distance <= 4.0))
    sizes = (np.linalg.norm(position[:, None] - position, axis=2) <= 4.0).sum(axis=1)
    np.testing.assert_array_equal(where.centre, np.flatnonzero(sizes >= 5))
    same = radius_neighbours(position, 4.0, 5)
    np.testing.assert_array_equal(same.of(3), np.sort(where.of(3)))
    nearest = radius_neighbours(position, None, 1, nearest=4)
    assert np.diff(nearest.start).tolist() == [4] * len(position)


@pytest.mark.parametrize("measure", ["correlation", "euclidean", "crossnobis"])
def test_searchlights_equal_rdms_of_their_voxels(volume, measure):
    mask, patterns = volume
    where = offset_neighbours(mask, np.ones(3), 1.5, 4)
    found = searchlight_rdms(patterns, where, measure, chunk_mb=0.01)
    for k in (0, len(where) // 2, len(where) - 1):
        expected = rdm(patterns[..., where.of(k)], measure)
        np.testing.assert_allclose(found[k], expected, rtol=1e-8, atol=1e-12)


def test_searchlight_scores_equal_comparisons_and_flat_voxels_give_nan(volume, rng):
    mask, patterns = volume
    where = offset_neighbours(mask, np.ones(3), 1.0, 2)
    patterns[:, 0, where.of(0)] = 0.25
    models = rng.uniform(size=(2, 15))
    found = searchlight_scores(patterns, where, models, chunk_mb=0.01)
    rdms = searchlight_rdms(patterns, where)
    assert np.isnan(found[:, 0]).all()
    for k in (5, 9):
        for m in range(2):
            assert found[m, k] == pytest.approx(spearmanr(rdms[k], models[m]).statistic)
    with pytest.raises(ValueError, match="searchlights compare by"):
        searchlight_scores(patterns, where, models, method="kendall_tau_a")
    with pytest.raises(ValueError, match="searchlights offer"):
        searchlight_rdms(patterns, where, "poisson_kl")


def test_a_searchlight_of_no_centre_is_empty(volume):
    mask, patterns = volume
    where = offset_neighbours(mask, np.ones(3), 0.5, 10)
    assert searchlight_rdms(patterns, where).shape == (0, 15)


def test_distance_correlation_at_full_range_is_that_of_its_definition(rng):
    x, y = rng.normal(size=(2, 20, 2))
    a, b = (squareform(pdist(v)) for v in (x, y))
    centring = np.eye(20) - 1 / 20
    a, b = centring @ a @ centring, centring @ b @ centring
    # The transform moves distances by their minimum off the diagonal: centre alike.
    found = distance_correlation_grid(x, x, np.array([[0.0, 1.0]]))
    assert found.item() == pytest.approx(1.0)
    expected = (a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b)
    other = distance_correlation_grid(x, y, np.array([[0.0, 1.0]])).item()
    assert other == pytest.approx(expected, abs=0.1)


def test_agtic_finds_a_circle_and_keeps_its_error(rng):
    angle = rng.uniform(0, 2 * np.pi, size=40)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    x, y = circle[:, :1], circle[:, 1:]  # uncorrelated but dependent
    cells = threshold_grid(0.25)
    assert agtic(x, y, cells, 99, rng)[1] <= 0.05
    false = sum(agtic(*rng.normal(size=(2, 15, 1)), cells, 19, rng)[1] <= 0.05 for _ in range(60))
    assert false <= 9  # 3 expected of 60 at 1 of 20, SD 1.7


def test_the_null_of_a_map_is_identification_under_permuted_labels(rng):
    scaled = rng.uniform(size=(4, 3, 28))
    scaled[1, 2] = np.nan  # a subject without the last label
    cells = np.array([[0.0, 1.0], [0.3, 0.5]])
    null = accuracy_null(scaled, cells, 6, np.random.default_rng(5))
    again = np.random.default_rng(5)
    present = np.isfinite(scaled).any(axis=2)
    orders = np.tile(np.arange(3), (6, 4, 1))
    for s, row in enumerate(present):
        for draw in range(6):
            orders[draw, s, row] = again.permutation(np.flatnonzero(row))
    for draw in range(6):
        moved = np.empty_like(scaled)
        for s in range(4):
            moved[s, orders[draw, s]] = scaled[s]
        expected = accuracy_map(moved, cells, nested=False)[0]
        np.testing.assert_allclose(null[draw], expected, atol=1e-12)
