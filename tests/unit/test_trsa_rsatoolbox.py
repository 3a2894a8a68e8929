"""Values equal to rsatoolbox where it is right, and its known faults, which ours does not have.

Skipped without that toolbox (extra `bench`); `benchmarks/trsa.py equality` prints the differences.
"""

from __future__ import annotations

import numpy as np
import pytest

from neuropipe.analyses.trsa.kernels.compare import compare
from neuropipe.analyses.trsa.kernels.geodesic import rgdm
from neuropipe.analyses.trsa.kernels.noise import whiten, whitener
from neuropipe.analyses.trsa.kernels.pairs import to_pairs, to_square
from neuropipe.analyses.trsa.kernels.rdm import rdm
from neuropipe.analyses.trsa.kernels.transform import prescale, rgtm

rsatoolbox = pytest.importorskip("rsatoolbox", reason="rsatoolbox (extra dev) is not installed")
transforms = pytest.importorskip("rsatoolbox.rdm.transform")
pytestmark = pytest.mark.filterwarnings("ignore")  # its own, of other packages
RUNS, CONDITIONS, CHANNELS = 5, 9, 14
EXACT = 1e-10


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def patterns(rng):
    return rng.normal(size=(RUNS, CONDITIONS, CHANNELS)) + 1


@pytest.mark.parametrize(
    ("measure", "whitened"),
    [
        ("euclidean", False),
        ("correlation", False),
        ("mahalanobis", True),
        ("crossnobis", False),
        ("crossnobis", True),
    ],
)
def test_rdms_are_those_of_rsatoolbox(rng, patterns, measure, whitened):
    labels = {
        "cond": np.tile(np.arange(CONDITIONS), RUNS),
        "run": np.repeat(np.arange(RUNS), CONDITIONS),
    }
    data = rsatoolbox.data.Dataset(patterns.reshape(-1, CHANNELS), obs_descriptors=labels)
    options, ours = {"cv_descriptor": "run"} if measure == "crossnobis" else {}, patterns
    if whitened:
        covariance = np.cov(rng.normal(size=(60, CHANNELS)), rowvar=False)
        options["noise"] = np.linalg.inv(covariance)
        ours = whiten(patterns, whitener(covariance))
    theirs = rsatoolbox.rdm.calc_rdm(data, method=measure, descriptor="cond", **options)
    np.testing.assert_allclose(rdm(ours, measure), theirs.dissimilarities[0], atol=EXACT)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("cosine", "cosine"),
        ("pearson", "corr"),
        ("spearman", "spearman"),
        ("rho_a", "rho-a"),
        ("kendall_tau_a", "tau-a"),
        ("cosine_w", "cosine_cov"),
        ("pearson_w", "corr_cov"),
    ],
)
def test_comparisons_are_those_of_rsatoolbox(rng, ours, theirs):
    first, second = rng.normal(1, 0.5, size=(2, 4, 36))
    rdms = [rsatoolbox.rdm.RDMs(rows) for rows in (first, second)]
    expected = rsatoolbox.rdm.compare(*rdms, theirs)
    np.testing.assert_allclose(compare(first, second, ours), expected, atol=EXACT)


def test_another_subject_of_the_stack_moves_no_threshold(rng):
    small, large = rng.uniform(size=(2, 21))
    stack = np.stack([small, 1000 * large])
    transform, rdms = transforms.geotopological_transform, rsatoolbox.rdm.RDMs
    theirs = transform(rdms(stack.copy()), 0.2, 0.8).dissimilarities[0]
    alone = transform(rdms(small[None].copy()), 0.2, 0.8).dissimilarities[0]
    assert np.abs(theirs - alone).max() > 0.1
    ours = rgtm(prescale(stack, "minmax"), 0.2, 0.8)[0]
    np.testing.assert_array_equal(ours, rgtm(prescale(small, "minmax"), 0.2, 0.8))


def test_the_transform_keeps_its_units_and_its_input(rng):
    small = rng.uniform(size=21)
    a, b = np.quantile(small, [0.2, 0.6])
    right = np.clip((small - a) / (b - a), 0, 1)
    given = small.copy()
    transform, rdms = transforms.geotopological_transform, rsatoolbox.rdm.RDMs
    theirs = transform(rdms(given[None]), 0.2, 0.6).dissimilarities[0]
    assert np.abs(theirs - right).max() > 0.1
    assert np.abs(given - small).max() > 0.1
    kept = small.copy()
    np.testing.assert_allclose(rgtm(kept, 0.2, 0.6), right, atol=EXACT)
    np.testing.assert_array_equal(kept, small)
    step = rgtm(small, 0.5, 0.5)
    np.testing.assert_array_equal(step, small > np.quantile(small, 0.5))


def test_duplicated_conditions_are_at_geodesic_distance_0(rng):
    points = np.repeat(rng.normal(size=(4, 2)), 2, axis=0)
    distance = to_pairs(((points[:, None] - points) ** 2).sum(axis=2))
    geodesic = transforms.geodesic_transform
    theirs = geodesic(rsatoolbox.rdm.RDMs(distance[None].copy())).dissimilarities[0]
    assert np.diagonal(to_square(theirs), 1)[::2].max() > 0
    ours = to_square(rgdm(prescale(distance), "gt", lower=0.0, upper=0.9)[0])
    np.testing.assert_array_equal(np.diagonal(ours, 1)[::2], 0)
