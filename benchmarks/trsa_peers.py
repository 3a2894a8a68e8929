"""The representational analysis beside rsatoolbox, mne-rsa and ripser: values, faults, CPU time."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from importlib.metadata import version

import numpy as np

from neuropipe.analyses.trsa.kernels.bootstrap import dual_bootstrap
from neuropipe.analyses.trsa.kernels.compare import compare
from neuropipe.analyses.trsa.kernels.geodesic import rgdm
from neuropipe.analyses.trsa.kernels.homology import rips_bars
from neuropipe.analyses.trsa.kernels.noise import noise_covariance, whiten, whitener
from neuropipe.analyses.trsa.kernels.pairs import to_pairs, to_square
from neuropipe.analyses.trsa.kernels.rdm import rdm
from neuropipe.analyses.trsa.kernels.searchlight import (
    offset_neighbours,
    searchlight_rdms,
    searchlight_scores,
)
from neuropipe.analyses.trsa.kernels.transform import prescale, rgtm


def cpu(function: Callable[[], object]) -> tuple[float, object]:
    begin = time.process_time()
    found = function()
    return time.process_time() - begin, found


def compared(name: str, ours: float, theirs: float, demand: float, note: str = "") -> None:
    ratio = theirs / ours
    verdict = "met" if ratio >= demand else "MISSED"
    print(f"{name}: ours {ours:.4f} s, theirs {theirs:.3f} s CPU{note}: {ratio:.0f} x "
          f"(demand {demand:.0f} x) {verdict}", flush=True)  # fmt: skip


def agree(name: str, ours: np.ndarray, theirs: np.ndarray, tolerance: float = 1e-10) -> None:
    worst = float(np.abs(np.asarray(ours) - np.asarray(theirs)).max())
    print(f"equal: {name}: largest difference {worst:.1e} (demand {tolerance:.0e}) "
          f"{'met' if worst <= tolerance else 'MISSED'}", flush=True)  # fmt: skip


def _dataset(patterns: np.ndarray):
    import rsatoolbox

    runs, n, _ = patterns.shape
    return rsatoolbox.data.Dataset(
        patterns.reshape(runs * n, -1),
        obs_descriptors={"cond": np.tile(np.arange(n), runs), "run": np.repeat(np.arange(runs), n)},
    )


def equality() -> None:
    """Values where rsatoolbox is right; what it does where it is not."""
    import rsatoolbox
    from rsatoolbox.rdm import RDMs, calc_rdm
    from rsatoolbox.rdm import compare as rsa_compare
    from rsatoolbox.rdm.transform import geotopological_transform

    print(f"rsatoolbox {version('rsatoolbox')}")
    rng = np.random.default_rng(0)
    patterns = rng.normal(size=(5, 9, 14)) + 1
    covariance = np.cov(rng.normal(size=(60, 14)), rowvar=False)
    data, precision = _dataset(patterns), np.linalg.inv(covariance)
    whitened = whiten(patterns, whitener(covariance))

    def theirs(method: str, **more: object) -> np.ndarray:
        return calc_rdm(data, method=method, descriptor="cond", **more).dissimilarities[0]

    agree("euclidean", rdm(patterns, "euclidean"), theirs("euclidean"))
    agree("correlation", rdm(patterns, "correlation"), theirs("correlation"))
    agree("mahalanobis", rdm(whitened, "mahalanobis"), theirs("mahalanobis", noise=precision))
    agree("crossnobis", rdm(patterns, "crossnobis"), theirs("crossnobis", cv_descriptor="run"))
    agree("crossnobis, precision", rdm(whitened, "crossnobis"),
          theirs("crossnobis", cv_descriptor="run", noise=precision))  # fmt: skip
    first, second = rng.normal(1, 0.5, size=(2, 4, 36))
    for ours, name in (("cosine", "cosine"), ("pearson", "corr"), ("spearman", "spearman"),
                       ("rho_a", "rho-a"), ("kendall_tau_a", "tau-a"), ("cosine_w", "cosine_cov"),
                       ("pearson_w", "corr_cov")):  # fmt: skip
        agree(name, compare(first, second, ours), rsa_compare(RDMs(first), RDMs(second), name))
    residuals = rng.normal(size=(40, 14)) @ rng.normal(size=(14, 14))
    residuals -= residuals.mean(axis=0)
    for method in ("shrinkage_diag", "shrinkage_eye"):
        found = rsatoolbox.data.noise.cov_from_residuals(residuals.copy(), method=method)
        ours, size = noise_covariance(residuals, method)[0], np.abs(found).max()
        agree(f"noise {method} (relative)", ours / size, found / size, 1e-2)
    _faults(rng, geotopological_transform, RDMs)
    _homology(rng)


def _faults(rng: np.random.Generator, transform: Callable, rdms: type) -> None:
    """Print what is wrong with the geo-topological transform of the toolbox, and what ours does."""
    small, large = rng.uniform(size=(2, 21))
    stack = np.stack([small, 1000 * large])
    alone = transform(rdms(small[None].copy()), 0.2, 0.8).dissimilarities[0]
    beside = transform(rdms(stack.copy()), 0.2, 0.8).dissimilarities[0]
    ours = rgtm(prescale(stack, "minmax"), 0.2, 0.8)[0]
    own = rgtm(prescale(small, "minmax"), 0.2, 0.8)
    moved, own_move = np.abs(alone - beside).max(), np.abs(ours - own).max()
    print(f"fault: another subject in the stack moves thresholds: theirs by {moved:.2f}, ours by "
          f"{own_move:.0e}")  # fmt: skip
    given = small.copy()
    found = transform(rdms(given[None]), 0.2, 0.6).dissimilarities[0]
    a, b = np.quantile(small, [0.2, 0.6])
    right = np.clip((small - a) / (b - a), 0, 1)
    print(f"fault: rescaled values meet the upper threshold in old units: theirs off by "
          f"{np.abs(found - right).max():.2f}, and the input changes by "
          f"{np.abs(given - small).max():.2f}; "
          f"ours off by {np.abs(rgtm(small, 0.2, 0.6) - right).max():.0e}")  # fmt: skip
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = transform(rdms(small[None].copy()), 0.5, 0.5).dissimilarities[0]
    print(f"fault: l = u: theirs has {int(np.isnan(found).sum())} NaN, {len(told)} warnings; ours "
          f"{int(np.isnan(rgtm(small, 0.5, 0.5)).sum())} NaN")  # fmt: skip
    from rsatoolbox.rdm.transform import geodesic_transform

    points = np.repeat(rng.normal(size=(4, 2)), 2, axis=0)
    distance = to_pairs(((points[:, None] - points) ** 2).sum(axis=2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = to_square(geodesic_transform(rdms(distance[None].copy())).dissimilarities[0])
    ours = to_square(rgdm(prescale(distance), "gt", lower=0.0, upper=0.9)[0])
    theirs, ours = (np.diagonal(square, 1)[::2].max() for square in (theirs, ours))
    print(f"fault: duplicated conditions: geodesic distance theirs {theirs:.3f}, ours {ours:.3f} "
          "(right: 0)")  # fmt: skip


def _homology(rng: np.random.Generator) -> None:
    from ripser import ripser

    worst = 0.0
    for n in (12, 24, 40):
        points = rng.normal(size=(n, 3))
        square = np.sqrt(((points[:, None] - points) ** 2).sum(axis=2))
        used, (h0, h1) = cpu(lambda s=square: rips_bars(to_pairs(s)))
        their, bars = cpu(lambda s=square: ripser(s, distance_matrix=True, maxdim=1)["dgms"])
        for ours, other in ((h0, bars[0][np.isfinite(bars[0][:, 1])]), (h1, bars[1])):
            one = np.sort(ours[:, 1] - ours[:, 0])
            two = np.sort(other[:, 1] - other[:, 0])
            two = two[two > 1e-7]
            worst = max(worst, np.abs(one[one > 1e-7] - two).max(initial=0.0))
        print(f"homology of {n}: ours {used:.3f} s, ripser {their:.3f} s CPU")
    print(f"equal: bars beside ripser (single precision there): largest difference {worst:.1e}")


def peers() -> None:
    """Time of the three heavy jobs beside rsatoolbox, and RDMs beside mne-rsa."""
    bootstrap()
    movie()
    searchlights()


def bootstrap() -> None:
    from rsatoolbox.inference import eval_dual_bootstrap
    from rsatoolbox.model import ModelFixed
    from rsatoolbox.rdm import RDMs

    rng = np.random.default_rng(0)
    data, models = rng.uniform(size=(24, 1891)), rng.uniform(size=(10, 1891))
    fixed = [ModelFixed(f"m{k}", m) for k, m in enumerate(models)]
    # The slope between two numbers of resamples leaves out what is done once.
    cases = (
        ("cosine", "cosine", 2, 8),
        ("pearson", "corr", 2, 8),
        ("cosine_w", "cosine_cov", 1, 2),
    )
    for ours, theirs, few, more in cases:
        used = []
        for samples in (few, more):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                used.append(cpu(lambda t=theirs, n=samples: eval_dual_bootstrap(
                    fixed, RDMs(data), method=t, N=n, k_pattern=1, k_rdm=1))[0])  # fmt: skip
        dual_bootstrap(data, models, method=ours, samples=20, rng=rng)
        own, _ = cpu(lambda o=ours: dual_bootstrap(
            data, models, method=o, samples=1000, rng=np.random.default_rng(1)))  # fmt: skip
        compared(f"dual bootstrap of 1000, 10 models, 24 subjects, 62 conditions, {ours}", own,
                 1000 * (used[1] - used[0]) / (more - few), 100,
                 f" (from N = {few} and {more}, scaled)")  # fmt: skip


def movie() -> None:
    import mne_rsa
    from rsatoolbox.data import TemporalDataset
    from rsatoolbox.rdm import calc_rdm_movie

    rng = np.random.default_rng(0)
    patterns = rng.normal(size=(8, 40, 64, 200))
    data = TemporalDataset(
        patterns.reshape(320, 64, 200),
        obs_descriptors={"cond": np.tile(np.arange(40), 8), "run": np.repeat(np.arange(8), 40)},
        time_descriptors={"time": np.arange(200.0)},
    )
    used, theirs = cpu(
        lambda: calc_rdm_movie(data, method="crossnobis", descriptor="cond", cv_descriptor="run")
    )
    frames = np.ascontiguousarray(np.moveaxis(patterns, 3, 0))
    rdm(frames[:2], "crossnobis")
    own, ours = cpu(lambda: rdm(np.ascontiguousarray(np.moveaxis(patterns, 3, 0)), "crossnobis"))
    agree("crossnobis movie", ours, theirs.dissimilarities)
    compared("crossnobis movie, 40 x 8 x 64 x 200", own, used, 10)
    times, _ = cpu(lambda: [mne_rsa.compute_rdm_cv(f, metric="sqeuclidean") for f in frames[:10]])
    print(
        f"mne-rsa cross-validated squared Euclidean, the same movie: {times * 20:.2f} s CPU (10 "
        "frames, scaled)"
    )


def searchlights() -> None:
    from rsatoolbox.inference import eval_fixed
    from rsatoolbox.model import ModelFixed
    from rsatoolbox.util.searchlight import evaluate_models_searchlight, get_searchlight_RDMs

    rng = np.random.default_rng(0)
    mask = np.ones((15, 15, 15), dtype=bool)
    where = offset_neighbours(mask, np.ones(3), 3.65, 10)
    patterns, model = rng.normal(size=(1, 20, 3375)), rng.uniform(size=(1, 190))
    chosen = 3000
    centres = where.centre[:chosen]
    lists = [where.of(k) for k in range(chosen)]

    def theirs() -> tuple[np.ndarray, np.ndarray]:
        made = get_searchlight_RDMs(
            patterns[0], centres, lists, np.arange(20), method="correlation"
        )
        scores = evaluate_models_searchlight(made, ModelFixed("m", model[0]), eval_fixed,
                                             method="spearman", n_jobs=1)  # fmt: skip
        return made.dissimilarities, np.array([s.evaluations.ravel()[0] for s in scores])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        used, (rdms, scores) = cpu(theirs)
    searchlight_scores(patterns, where, model)
    own, found = cpu(lambda: searchlight_scores(patterns, where, model))
    agree("searchlight RDMs", searchlight_rdms(patterns, where)[:chosen], rdms)
    agree("searchlight scores", found[0, :chosen], scores)
    compared("3,000 searchlights with one model (ours: 3,375)", own, used, 30)


CASES: dict[str, Callable[[], None]] = {
    "peers": peers,
    "peer_bootstrap": bootstrap,
    "peer_movie": movie,
    "peer_searchlights": searchlights,
    "equality": equality,
}
