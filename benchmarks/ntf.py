"""CPU time and memory of the NTF connectomes at the sizes of their specification.

Run one case at a time, so that the peak memory belongs to it::

    OMP_NUM_THREADS=1 python benchmarks/ntf.py restart
    OMP_NUM_THREADS=1 python benchmarks/ntf.py affinity
    OMP_NUM_THREADS=1 python benchmarks/ntf.py scale
    OMP_NUM_THREADS=1 python benchmarks/ntf.py memmap
    OMP_NUM_THREADS=1 python benchmarks/ntf.py peers       # beside tensortools and tensorly
    OMP_NUM_THREADS=1 python benchmarks/ntf.py masked      # beside tensortools
    OMP_NUM_THREADS=1 python benchmarks/ntf.py cost        # growth with neurons, bins, animals
    OMP_NUM_THREADS=1 python benchmarks/ntf.py acceptance  # what is recovered from planted truth

The peers are no dependencies of the project: ``pip install -e ".[bench]"`` installs them.
Times are CPU seconds of this process (`time.process_time`).
"""

from __future__ import annotations

import argparse
import importlib
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from neuropipe.analyses.ntf import AffinitySettings, affinity_tensor, fit_ntf
from neuropipe.analyses.ntf.kernels.factorise import hals
from neuropipe.analyses.ntf.kernels.problem import Problem
from neuropipe.simulate.planted_calcium import planted_calcium
from neuropipe.simulate.planted_tensor import planted_tensor
from neuropipe.threads import one_blas_thread


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def restart() -> None:
    """4,950 pairs x 200 bins x 5 animals, rank 6, to tol 1e-5: at most 2.0 s per restart."""
    for missing in (0.0, 0.15):
        for dtype in ("float32", "float64"):
            data = planted_tensor(0, missing=missing, dtype=dtype)
            begin = time.process_time()
            result = fit_ntf(data.X, 6, W=data.W, restarts=8)
            used = (time.process_time() - begin) / 8
            iterations = np.mean([one.loss_history.size for one in result.restarts])
            print(
                f"restart: missing {missing:.2f} {dtype}: {used:.3f} s CPU per restart, "
                f"{iterations:.0f} iterations on average (demand 2.0 s)"
            )


def affinity() -> None:
    """115 neurons x 800 frames x 7 animals: less than 10 s."""
    data, _ = planted_calcium(0, n_neurons=115, n_subjects=7, duration=200.0, missing=0.0)
    for mode in ("excess", "differential", "abs_corr", "abs_dcorr"):
        begin = time.process_time()
        affinity_tensor(data, AffinitySettings(mode=mode))
        print(f"affinity: {mode}: {time.process_time() - begin:.2f} s CPU (demand 10 s)")


def scale() -> None:
    """44,850 pairs x 200 bins x 10 animals, rank 8: 1.0 s per iteration, 3.5 x tensor."""
    rng = np.random.default_rng(0)
    X = rng.random((44_850, 200, 10), dtype=np.float32)
    W = rng.random((44_850, 10)) >= 0.28
    for pair in range(0, len(X), 4096):
        X[pair : pair + 4096] *= W[pair : pair + 4096, None, :]
    begin = time.process_time()
    problem = Problem.build(X, W)
    build = time.process_time() - begin
    begin = time.process_time()
    hals(problem, 8, rng=rng, tol=0.0, max_iter=5)
    per = (time.process_time() - begin) / 5
    ratio = peak_mb() * 1024**2 / X.nbytes
    print(
        f"scale: {X.nbytes / 1e6:.0f} MB: {build:.2f} s CPU to check, {per:.2f} s CPU per "
        f"iteration (demand 1.0), peak {ratio:.2f} x tensor (demand 3.5)"
    )


def memmap() -> None:
    """499,500 pairs x 200 bins x 7 animals (2.8 GB) from a file: peak below 4 GB."""
    shape = (499_500, 200, 7)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tensor.npy"
        X = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
        for pair in range(0, shape[0], 4096):
            block = X[pair : pair + 4096]
            block[:] = rng.random(block.shape, dtype=np.float32)
        X.flush()
        del X, block
        begin = time.process_time()
        hals(Problem.build(np.load(path, mmap_mode="r")), 8, rng=rng, tol=0.0, max_iter=2)
        used = time.process_time() - begin
    print(f"memmap: 2 iterations {used:.1f} s CPU, peak {peak_mb():.0f} MB (demand 4000)")


def _other(module: str, name: str) -> Callable[[], None]:
    """Return a case of a script beside this one, which is read when the case runs."""

    def case() -> None:
        getattr(importlib.import_module(module), name)()

    return case


CASES = {
    "restart": restart,
    "affinity": affinity,
    "scale": scale,
    "memmap": memmap,
    "peers": _other("ntf_peers", "peers"),
    "masked": _other("ntf_peers", "masked"),
    "cost": _other("ntf_cost", "cost"),
    "acceptance": _other("ntf_acceptance", "acceptance"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("case", choices=CASES)
    one_blas_thread(CASES[parser.parse_args().case])()


if __name__ == "__main__":
    main()
