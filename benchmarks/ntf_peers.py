"""The factorisation of the NTF connectomes beside tensortools and tensorly, in one run.

All methods get the same tensor and the same random starts, on one core, and are timed in CPU
seconds. tensorly has no masked non-negative HALS; tensortools fills missing cells with its own
prediction after every mode.
"""

from __future__ import annotations

import importlib
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuropipe.analyses.ntf.kernels.factorise import hals
from neuropipe.analyses.ntf.kernels.problem import Problem
from neuropipe.simulate.planted_tensor import PlantedTensor, planted_tensor

RANK, TOL, MAX_ITER = 6, 1e-5, 300
SAME_OPTIMUM = 1e-3
INSTALL = 'pip install -e ".[bench]"'
Factors = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Run:
    """One run: CPU seconds, relative error after each iteration, factors."""

    seconds: float
    errors: np.ndarray
    factors: Factors


Method = Callable[[PlantedTensor, np.ndarray, Factors, int, float], Run]


def _need(*names: str) -> None:
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError:
            sys.exit(f"{name} is not installed; the comparison needs it: {INSTALL}")


def _ours(
    data: PlantedTensor, X: np.ndarray, start: Factors, max_iter: int, tol: float, **options: Any
) -> Run:
    masked = not data.W.all()
    begin = time.process_time()
    problem = Problem.build(X, data.W if masked else None)
    found = hals(problem, RANK, start=start, max_iter=max_iter, tol=tol, **options)
    used = time.process_time() - begin
    U, B, G = found.factors
    return Run(used, np.sqrt(found.loss_history), (np.nan_to_num(U) * found.weights, B, G))


def _ours_debiased(*given: Any) -> Run:
    return _ours(*given, debias=True)


def _tensortools(
    data: PlantedTensor, X: np.ndarray, start: Factors, max_iter: int, tol: float
) -> Run:
    import tensortools
    from tensortools.tensors import KTensor

    mask = None if data.W.all() else np.repeat(data.W[:, None, :], X.shape[1], axis=1)
    init = KTensor([factor.copy() for factor in start])
    # It stops when the improvement is below tol, and does one iteration more than max_iter.
    stop = tol if tol > 0 else -np.inf
    begin = time.process_time()
    found = tensortools.ncp_hals(
        X, RANK, mask=mask, init=init, tol=stop, max_iter=max_iter - 1, verbose=False
    )
    used = time.process_time() - begin
    return Run(used, np.array(found.obj_hist, dtype=float), tuple(found.factors))


def _tensorly(data: PlantedTensor, X: np.ndarray, start: Factors, max_iter: int, tol: float) -> Run:
    from tensorly.cp_tensor import CPTensor
    from tensorly.decomposition import non_negative_parafac_hals

    init = CPTensor((np.ones(RANK, X.dtype), [factor.copy() for factor in start]))
    begin = time.process_time()
    found, errors = non_negative_parafac_hals(
        X, RANK, init=init, n_iter_max=max_iter, tol=tol, return_errors=True
    )
    used = time.process_time() - begin
    first, *others = found.factors
    return Run(used, np.array(errors, dtype=float), (first * found.weights, *others))


METHODS: dict[str, Method] = {
    "neuropipe": _ours,
    "tensortools ncp_hals": _tensortools,
    "tensorly non_negative_parafac_hals": _tensorly,
}
MASKED: dict[str, Method] = {
    "neuropipe (ridge 0.01)": _ours,
    "neuropipe (ridge 0.01, debias)": _ours_debiased,
    "tensortools ncp_hals(mask=)": _tensortools,
}


def _start(seed: int, X: np.ndarray) -> Factors:
    """Return random factors whose model has the norm of X."""
    rng = np.random.default_rng(seed)
    factors = [rng.random((size, RANK)) for size in X.shape]
    square = np.prod([factor.T @ factor for factor in factors], axis=0).sum()
    scale = (np.linalg.norm(X.astype(np.float64)) / np.sqrt(square)) ** (1 / 3)
    return tuple((factor * scale).astype(X.dtype) for factor in factors)


def _error(truth: np.ndarray, factors: Factors, cells: np.ndarray) -> float:
    """Return the relative error over the (pair, subject) cells given."""
    U, B, G = (np.asarray(factor, dtype=np.float64) for factor in factors)
    model = np.einsum("pr,tr,ar->pat", U, B, G, optimize=True)[cells]
    seen = truth.transpose(0, 2, 1)[cells].astype(np.float64)
    return float(np.linalg.norm(model - seen) / np.linalg.norm(seen))


def _corrected(run: Run, error: float) -> np.ndarray:
    """Return the errors of a run by iteration, without what rounding added to all of them."""
    return np.sqrt(np.maximum(run.errors**2 + error**2 - run.errors[-1] ** 2, 0.0))


def _print_table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    for row in rows:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)))


def _equal_error(
    data: PlantedTensor, X: np.ndarray, start: Factors, runs: dict[str, Run]
) -> dict[str, float]:
    """Return CPU seconds of each method up to the largest of the final errors."""
    everything = np.ones(data.W.shape, dtype=bool)
    errors = {name: _error(X, run.factors, everything) for name, run in runs.items()}
    target = max(errors.values())
    seconds = {}
    for name, run in runs.items():
        reached = np.flatnonzero(_corrected(run, errors[name]) <= target + 1e-9)
        iterations = int(reached[0]) + 1 if reached.size else run.errors.size
        seconds[name] = METHODS[name](data, X, start, iterations, 0.0).seconds
    return seconds


def peers(starts: int = 8) -> None:
    """4,950 pairs x 200 bins x 5 animals, rank 6: at least 1.5 x faster than the fastest."""
    _need("tensortools", "tensorly")
    warnings.simplefilter("ignore")  # of numba, in tensortools
    for dtype in ("float32", "float64"):
        data = planted_tensor(0, dtype=dtype)
        everything = np.ones(data.W.shape, dtype=bool)
        _tensortools(data, data.X, _start(0, data.X), 1, 0.0)  # compiles
        runs: dict[str, list[Run]] = {name: [] for name in METHODS}
        equal: dict[str, list[float]] = {name: [] for name in METHODS}
        for seed in range(starts):
            first = _start(seed, data.X)
            here = {n: method(data, data.X, first, MAX_ITER, TOL) for n, method in METHODS.items()}
            ends = [_error(data.X, run.factors, everything) for run in here.values()]
            for name, run in here.items():
                runs[name].append(run)
            if max(ends) - min(ends) < SAME_OPTIMUM:
                for name, used in _equal_error(data, data.X, first, here).items():
                    equal[name].append(used)
        _report(data, runs, equal)


def _report(data: PlantedTensor, runs: dict[str, list[Run]], equal: dict[str, list[float]]) -> None:
    everything = np.ones(data.W.shape, dtype=bool)
    ends = {n: np.array([_error(data.X, r.factors, everything) for r in runs[n]]) for n in runs}
    best = min(found.min() for found in ends.values())
    count = len(equal["neuropipe"])
    shape = " x ".join(str(size) for size in data.X.shape)
    print(
        f"\npeers: {shape}, rank {RANK}, {data.X.dtype}, {len(ends['neuropipe'])} starts, tol {TOL}"
    )
    print(f"equal error: {count} starts from which all three reach one optimum")
    rows = [("method", "s per restart", "iterations", "median error", "in best optimum",
             "s to equal error", "ours is faster")]  # fmt: skip
    for name, found in runs.items():
        seconds = np.mean([run.seconds for run in found])
        rows.append(
            (
                name,
                f"{seconds:.3f}",
                f"{np.mean([run.errors.size for run in found]):.0f}",
                f"{np.median(ends[name]):.5f}",
                f"{int((ends[name] < best + SAME_OPTIMUM).sum())} of {len(found)}",
                f"{np.mean(equal[name]):.3f}",
                f"{np.mean(equal[name]) / np.mean(equal['neuropipe']):.2f} x",
            )
        )
    _print_table(rows)
    fastest = min(np.mean(equal[name]) for name in equal if name != "neuropipe")
    ratio = fastest / np.mean(equal["neuropipe"])
    print(f"ratio to the fastest peer: {ratio:.2f} x (demand 1.5, aim 3)")


def masked(seeds: int = 5) -> None:
    """Take 28 % of the cells away: 8 x faster than tensortools at lower error."""
    _need("tensortools")
    warnings.simplefilter("ignore")
    runs: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in MASKED}
    for seed in range(seeds):
        data = planted_tensor(seed, missing=0.15)
        first = _start(seed, data.X)
        if seed == 0:
            _tensortools(data, data.X, first, 1, 0.0)  # compiles
        # A pair that nobody has cannot be predicted.
        hidden = ~data.W & data.W.any(axis=1)[:, None]
        for name, method in MASKED.items():
            run = method(data, data.X, first, MAX_ITER, TOL)
            errors = (_error(data.full, run.factors, cells) for cells in (data.W, hidden))
            runs[name].append((run.seconds, run.errors.size, *errors))
    print(
        f"\nmasked: 4950 x 200 x 5, rank {RANK}, 28 % of cells missing, {seeds} tensors, tol {TOL}"
    )
    rows = [("method", "s per restart", "iterations", "error, observed", "error, missing",
             "ours is faster")]  # fmt: skip
    table = {name: np.mean(found, axis=0) for name, found in runs.items()}
    peer = table["tensortools ncp_hals(mask=)"]
    for name, (seconds, iterations, observed, missing) in table.items():
        ratio = "" if name.startswith("tensortools") else f"{peer[0] / seconds:.1f} x"
        rows.append(
            (
                name,
                f"{seconds:.3f}",
                f"{iterations:.0f}",
                f"{observed:.5f}",
                f"{missing:.4f}",
                ratio,
            )
        )
    _print_table(rows)
    print("demand: 8 x faster at lower error")
