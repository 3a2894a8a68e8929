"""Growth of time and memory of the NTF connectomes with neurons, time bins and animals."""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np

from neuropipe.analyses.ntf import affinity_tensor
from neuropipe.analyses.ntf.kernels.factorise import hals
from neuropipe.analyses.ntf.kernels.problem import Problem
from neuropipe.simulate.planted_calcium import planted_calcium
from neuropipe.threads import one_blas_thread

MIDDLE = {"neurons": 100, "bins": 240, "animals": 6}
GRID = {"neurons": (50, 100, 200, 400), "bins": (120, 240, 480, 960), "animals": (3, 6, 12, 24)}
RANK, ITERATIONS = 6, 10
COLUMNS = ("affinity_s", "iteration_s", "tensor_mb", "peak_mb")


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(neurons: int, bins: int, animals: int) -> dict[str, float]:
    """Return CPU seconds of the affinity and of one iteration, and the peak memory over both."""
    data, _ = planted_calcium(0, n_neurons=neurons, n_subjects=animals, duration=float(bins))
    before = peak_mb()
    begin = time.process_time()
    part = affinity_tensor(data)
    affinity = time.process_time() - begin
    X = part["affinity"].values
    problem = Problem.build(X, part["pair_observed"].values, part["time_observed"].values)
    begin = time.process_time()
    hals(problem, RANK, rng=np.random.default_rng(0), tol=0.0, max_iter=ITERATIONS)
    return {
        "affinity_s": affinity,
        "iteration_s": (time.process_time() - begin) / ITERATIONS,
        "tensor_mb": X.nbytes / 1e6,
        "peak_mb": peak_mb() - before,
    }


def _in_own_process(sizes: dict[str, int]) -> dict[str, float]:
    """Measure in a fresh process, so that the peak memory belongs to one size."""
    words = [str(sizes[name]) for name in MIDDLE]
    done = subprocess.run(
        [sys.executable, __file__, *words], check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout)


def cost() -> None:
    """Time and memory against each size, the others at the middle; growth as an exponent."""
    middle = ", ".join(f"{value} {name}" for name, value in MIDDLE.items())
    print(f"cost: {middle}, one of them varied; 4 Hz, excess, 15 % missing, rank {RANK}")
    print("peak: above the process with its input loaded; growth: exponent of the size\n")
    print("| varied | affinity, s CPU | one iteration, s CPU | tensor, MB | peak, MB |")
    print("|---|---|---|---|---|")
    for name, values in GRID.items():
        found = [_in_own_process({**MIDDLE, name: value}) for value in values]
        for value, row in zip(values, found, strict=True):
            print(
                f"| {value} {name} | {row['affinity_s']:.2f} | {row['iteration_s']:.4f} "
                f"| {row['tensor_mb']:.0f} | {row['peak_mb']:.0f} |"
            )
        slopes = [
            np.polyfit(np.log(values), np.log([row[column] for row in found]), 1)[0]
            for column in COLUMNS
        ]
        print(f"| growth with {name} | " + " | ".join(f"{slope:.2f}" for slope in slopes) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    for name in MIDDLE:
        parser.add_argument(name, type=int)
    given = parser.parse_args()
    measure_alone = one_blas_thread(measure)
    print(json.dumps(measure_alone(given.neurons, given.bins, given.animals)))


if __name__ == "__main__":
    main()
