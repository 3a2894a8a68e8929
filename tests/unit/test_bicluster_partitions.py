"""Point partitions, alignment and count statistics of the bi-clustering."""

from __future__ import annotations

import numpy as np
import pytest

from neuropipe.analyses.bicluster.aligned import aligned_trajectories
from neuropipe.analyses.bicluster.kernels.point_partition import (
    align_labels,
    coclustering,
    number_by_size,
    pear,
    point_partition,
    point_partition_of_draws,
)
from neuropipe.analyses.bicluster.records import count_statistics

P = np.array([[1, 0.9, 0.2, 0.1], [0.9, 1, 0.3, 0.1], [0.2, 0.3, 1, 0.8], [0.1, 0.1, 0.8, 1]])


@pytest.mark.parametrize(
    ("labels", "value"), [("0011", 0.642857), ("0001", 0.133333), ("0000", 0.0), ("0123", 0.0)]
)
def test_pear_of_the_specification(labels, value):
    assert pear(np.array([int(k) for k in labels]), P) == pytest.approx(value, abs=1e-6)


@pytest.fixture(scope="module")
def draws() -> np.ndarray:
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], [6, 5, 3])
    found = np.tile(truth, (60, 1))
    noise = rng.random(found.shape) < 0.08
    found[noise] = rng.integers(4, size=noise.sum())
    return np.array([rng.permutation(4)[one] for one in found])


@pytest.mark.parametrize("loss", ["pear", "vi", "binder"])
def test_noisy_draws_give_back_the_partition(draws, loss):
    labels, score = point_partition(draws, loss)
    assert labels.tolist() == [0] * 6 + [1] * 5 + [2] * 3
    assert 0.5 < score < 1.0


def test_contingency_tables_choose_as_pairs_do(draws):
    labels, score = point_partition_of_draws(draws, most=60)
    assert score == pytest.approx(pear(labels, coclustering(draws)), abs=1e-9)
    best = max(pear(one, coclustering(draws)) for one in draws)
    assert score == pytest.approx(best, abs=1e-9)


def test_coclustering_is_the_share_of_draws():
    draws = np.array([[0, 0, 1], [1, 0, 0]])
    np.testing.assert_allclose(coclustering(draws), [[1, 0.5, 0], [0.5, 1, 0.5], [0, 0.5, 1]])


def test_labels_are_numbered_by_size_and_aligned_by_overlap():
    assert number_by_size(np.array([7, 3, 3, 5, 5, 5])).tolist() == [2, 1, 1, 0, 0, 0]
    found = align_labels(np.array([2, 2, 0, 0, 1]), np.array([0, 0, 1, 1, 1]))
    assert found[2] == 0
    assert found[0] == 1
    assert found[1] == -1


def test_rotated_draws_of_one_trajectory_align():
    rng = np.random.default_rng(1)
    path = np.cumsum(rng.standard_normal((50, 3)), axis=0)
    paths = []
    for angle in (0.3, 2.0, 4.0):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        one = path + rng.standard_normal(3)
        one[:, 1:] = one[:, 1:] @ turn * (1, -1)
        paths.append(one[None])
    labels = np.zeros((3, 4), np.int64)
    bands, share = aligned_trajectories(labels, paths, np.arange(3.0), labels[0])
    assert share.tolist() == [1.0]
    # The three draws are one path in three frames: the band has no width.
    np.testing.assert_allclose(bands[1], bands[2], atol=1e-9)


def test_count_statistics_skip_unobserved_bins():
    counts = np.array([[0.0, 2, -1, 4, 0, 0], [1, 1, 1, 1, 1, 1]])
    found = count_statistics(counts)
    seen = counts[0, [0, 1, 3, 4, 5]]
    assert found["fano"][0] == pytest.approx(seen.var() / seen.mean())
    assert found["isi0_fraction"].tolist() == [0.6, 0.0]
    assert np.isnan(found["lag1_corr"][1])
