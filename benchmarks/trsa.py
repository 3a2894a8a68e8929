"""The representational analysis: acceptance criteria, time, memory, peers, real recordings.

Run one case at a time, so that the peak memory belongs to it::

    OMP_NUM_THREADS=1 python benchmarks/trsa.py acceptance     # all criteria beside their demands
    OMP_NUM_THREADS=1 python benchmarks/trsa.py false_alarms   # one of them
    OMP_NUM_THREADS=1 python benchmarks/trsa.py speed          # S1 to S6
    OMP_NUM_THREADS=1 python benchmarks/trsa.py growth         # with conditions, subjects, voxels
    OMP_NUM_THREADS=1 python benchmarks/trsa.py brain          # 100,000 searchlights
    OMP_NUM_THREADS=1 python benchmarks/trsa.py peers          # beside rsatoolbox and mne-rsa
    OMP_NUM_THREADS=1 python benchmarks/trsa.py equality       # values beside rsatoolbox, ripser
    OMP_NUM_THREADS=1 python benchmarks/trsa.py ring DATA      # heading ring of the fly
    OMP_NUM_THREADS=1 python benchmarks/trsa.py haxby DATA     # objects, one slice
    OMP_NUM_THREADS=1 python benchmarks/trsa.py eeg DATA       # movie of one EEG recording

DATA is the folder of public recordings. The peers are no dependencies of the project:
``pip install -e ".[bench]"`` installs them. Times are CPU seconds (`time.process_time`).
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from trsa_acceptance import ACCEPTANCE

from neuropipe.analyses.trsa.kernels.bootstrap import dual_bootstrap
from neuropipe.analyses.trsa.kernels.geodesic import rgdm
from neuropipe.analyses.trsa.kernels.identification import accuracy_map
from neuropipe.analyses.trsa.kernels.noise import whiten, whitener
from neuropipe.analyses.trsa.kernels.rdm import rdm
from neuropipe.analyses.trsa.kernels.searchlight import offset_neighbours, searchlight_scores
from neuropipe.analyses.trsa.kernels.transform import prescale, rgtm, threshold_grid


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def timed(function: Callable[[], object], repeats: int = 3) -> float:
    """Return the median CPU time of some calls, after one that compiles."""
    function()
    used = []
    for _ in range(repeats):
        begin = time.process_time()
        function()
        used.append(time.process_time() - begin)
    return float(np.median(used))


def report(name: str, seconds: float, demand: float) -> None:
    verdict = "met" if seconds <= demand else "MISSED"
    print(f"{name}: {seconds:.3f} s CPU (demand {demand} s) {verdict}", flush=True)


def acceptance() -> None:
    for criterion in ACCEPTANCE.values():
        criterion()


def brain_case(rng: np.random.Generator, centres: int) -> tuple:
    """Return a ball of voxels, patterns of 20 conditions and one model."""
    radius = (centres * 3 / (4 * np.pi)) ** (1 / 3)
    grid = np.arange(-np.ceil(radius), np.ceil(radius) + 1)
    x, y, z = np.meshgrid(grid, grid, grid, indexing="ij")
    mask = x**2 + y**2 + z**2 <= radius**2
    patterns = rng.normal(size=(1, 20, int(mask.sum())))
    return mask, patterns, rng.uniform(size=(1, 190))


def speed() -> None:
    rng = np.random.default_rng(0)
    runs = rng.normal(size=(8, 62, 500))
    covariance = np.cov(rng.normal(size=(1000, 500)), rowvar=False)
    noise = whitener(covariance)
    report(
        "S1 crossnobis 62 x 8 x 500, precision given",
        timed(lambda: rdm(whiten(runs, noise), "crossnobis")),
        0.05,
    )
    movie = rng.normal(size=(200, 8, 40, 64))
    small = whitener(np.cov(rng.normal(size=(500, 64)), rowvar=False))
    report(
        "S2 movie 40 x 8 x 64 x 200", timed(lambda: rdm(whiten(movie, small), "crossnobis")), 0.5
    )
    data, models = rng.uniform(size=(24, 1891)), rng.uniform(size=(10, 1891))
    for method in ("cosine", "pearson", "cosine_w", "pearson_w"):
        report(
            f"S3 dual bootstrap, 1000 x 10 models x 24 x 62, {method}",
            timed(lambda m=method: dual_bootstrap(
                data, models, method=m, samples=1000, rng=np.random.default_rng(1)), 1), 3.0,
        )  # fmt: skip
    regions = prescale(rng.uniform(size=(24, 8, 1891)))
    report(
        "S5 map of 229 cells, nested",
        timed(lambda: accuracy_map(regions, threshold_grid()), 1),
        10.0,
    )
    large = rng.uniform(size=(1, 499_500))

    def both() -> None:
        scaled = prescale(large)
        rgtm(scaled, 0.2, 0.6)
        rgdm(scaled[0], "gt", lower=0.0, upper=0.3)

    report("S6 1000 conditions, RGTM and RGDM", timed(both, 1), 6.0)


def brain(centres: int = 100_000) -> None:
    rng = np.random.default_rng(0)
    mask, patterns, models = brain_case(rng, centres)
    small = np.ones((6, 6, 6), dtype=bool)
    where = offset_neighbours(small, np.ones(3), 3.65, 10)
    searchlight_scores(rng.normal(size=(1, 20, 216)), where, models)  # compiles
    wall, begin = time.perf_counter(), time.process_time()
    where = offset_neighbours(mask, np.ones(3), 3.65, 10)
    table = time.process_time() - begin
    scores = searchlight_scores(patterns, where, models)
    used = time.process_time() - begin
    size = np.diff(where.start).mean()
    print(
        f"S4 {len(where)} centres, {size:.0f} voxels on average, 20 conditions, spearman: "
        f"{used:.2f} s CPU ({time.perf_counter() - wall:.2f} s wall), {table:.2f} s of it "
        f"neighbours, peak {peak_mb():.0f} MB (demand 15 s, 2000 MB); mean score "
        f"{np.nanmean(scores):.4f}"
    )


def growth() -> None:
    rng = np.random.default_rng(0)
    print(
        "conditions  crossnobis  bootstrap  RGTM   RGDM  (s CPU; 8 runs x 200 channels, 24 "
        "subjects)"
    )
    for n in (20, 40, 80, 160):
        patterns, pairs = rng.normal(size=(8, n, 200)), n * (n - 1) // 2
        data, models = rng.uniform(size=(24, pairs)), rng.uniform(size=(10, pairs))
        used = [
            timed(lambda p=patterns: rdm(p, "crossnobis"), 1),
            timed(lambda d=data, m=models: dual_bootstrap(
                d, m, method="cosine_w", samples=200, rng=np.random.default_rng(0)), 1),
            timed(lambda d=data: rgtm(prescale(d), 0.2, 0.6), 1),
            timed(lambda d=data: rgdm(prescale(d)[0], "gt", lower=0.0, upper=0.3), 1),
        ]  # fmt: skip
        print(f"{n:10d}  " + "  ".join(f"{u:8.4f}" for u in used), flush=True)
    print("subjects  bootstrap of 200, 62 conditions (s CPU)")
    for subjects in (6, 12, 24, 48):
        data, models = rng.uniform(size=(subjects, 1891)), rng.uniform(size=(10, 1891))
        used = timed(lambda d=data, m=models: dual_bootstrap(
            d, m, method="cosine_w", samples=200, rng=np.random.default_rng(0)), 1)  # fmt: skip
        print(f"{subjects:8d}  {used:.3f}", flush=True)
    print("centres  searchlight (s CPU)")
    for centres in (1000, 4000, 16_000):
        mask, patterns, models = brain_case(rng, centres)
        where = offset_neighbours(mask, np.ones(3), 3.65, 10)
        print(
            f"{len(where):7d}  "
            f"{timed(lambda p=patterns, w=where, m=models: searchlight_scores(p, w, m), 1):.3f}",
            flush=True,
        )


def main() -> None:
    import trsa_peers
    import trsa_real

    cases: dict[str, Callable[..., None]] = {
        "acceptance": acceptance, "speed": speed, "growth": growth, "brain": brain,
        **ACCEPTANCE, **trsa_peers.CASES, **trsa_real.CASES,
    }  # fmt: skip
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("case", choices=cases)
    parser.add_argument("data", nargs="?", type=Path, help="folder of public recordings")
    parser.add_argument("--figures", type=Path, help="folder for pictures of the figures")
    arguments = parser.parse_args()
    case = cases[arguments.case]
    case(arguments.data, arguments.figures) if arguments.case in trsa_real.CASES else case()


if __name__ == "__main__":
    main()
