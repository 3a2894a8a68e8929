"""CPU time and memory of the HMM-GLM states, and of hidden Markov models without coupling."""

from __future__ import annotations

import functools
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import numba
import numpy as np

from neuropipe.analyses import hmm_glm
from neuropipe.analyses.hmm_glm import fitting
from neuropipe.analyses.hmm_glm.kernels.em import Parameters, connect, posterior_of, run
from neuropipe.analyses.hmm_glm.kernels.families import FAMILIES
from neuropipe.analyses.hmm_glm.kernels.glm import Observations
from neuropipe.analyses.hmm_glm.kernels.history import history_basis, history_features
from neuropipe.analyses.hmm_glm.kernels.maximise import Rules
from neuropipe.analyses.hmm_glm.kernels.priors import FixedPrior
from neuropipe.analyses.hmm_glm.prepare import prepare
from neuropipe.analyses.hmm_glm.starts import starting_chain
from neuropipe.simulate.switching_glm import connection_truth, draw_states, long_states

STATES = 5


def used(function: Callable[[], object], repeats: int = 1) -> float:
    """Return the least CPU seconds of some calls."""
    times = []
    for _ in range(repeats):
        begin = time.process_time()
        function()
        times.append(time.process_time() - begin)
    return min(times)


@functools.cache
def problem():
    """Return the training set of SIM-1, 50 000 bins x 20 units, and a start at the truth."""
    data, truth = hmm_glm.simulate(1)
    settings = hmm_glm.Settings(states=5, prior="gaussian", restarts=1)
    prepared = prepare(data.isel(trial=slice(0, 10)), settings)
    theta = np.concatenate(
        [np.broadcast_to(truth["bias"].values, (STATES, 20))[:, :, None], truth["weight"].values],
        axis=2,
    )
    start = Parameters(
        np.ascontiguousarray(theta), np.ones((STATES, 20)), truth["transition_matrix"].values,
        np.full(STATES, 0.2),
    )  # fmt: skip
    rules = fitting.fit_rules(prepared, settings, STATES)
    shape = theta.shape
    prior = FixedPrior(np.full(shape, 0.01), np.zeros(shape))
    return prepared, settings, start, rules, prior


def speed() -> None:
    """Section 11: E-step, EM iteration, fit with one score start, rounds of connections."""
    prepared, settings, start, rules, prior = problem()
    data = prepared.observations
    run(data, start, prior, rules, max_iter=1)
    step = used(lambda: posterior_of(data, start), 5)
    print(f"E-step: {step:.3f} s CPU (demand 0.2)")
    endless = replace(rules, tol=0.0)
    # k M-steps take k + 1 E-steps.
    many = used(lambda: run(data, start, prior, endless, max_iter=3), 2)
    print(f"EM iteration: {(many - step) / 3:.3f} s CPU (demand 1.1)")
    fitting.fit_states(prepared, settings, STATES, 0)
    found: list[fitting.Fitted] = []
    whole = used(lambda: found.append(fitting.fit_states(prepared, settings, STATES, 0)))
    print(f"fit with one score start, prior gaussian: {whole:.2f} s CPU (demand 15), "
          f"{len(found[0].fit.trace) - 1} iterations")  # fmt: skip
    ridge = np.full(data.design.shape[1], 0.01)
    layout = {"ridge": ridge, "shared": prepared.shared, "n_basis": 1}
    rounds = used(lambda: connect(data, found[0].fit, rules, **layout))
    print(f"rounds of connections: {rounds:.2f} s CPU (demand 12)")


def peers() -> None:
    """Time per EM iteration on the same counts; the peers fit rates per state and no coupling."""
    import jax
    from dynamax.hidden_markov_model import PoissonHMM as Dynamax
    from hmmlearn.hmm import PoissonHMM as Hmmlearn

    prepared, _, start, rules, prior = problem()
    data = prepared.observations
    endless = replace(rules, tol=0.0)
    run(data, start, prior, endless, max_iter=1)
    ours = _per_iteration(lambda count: run(data, start, prior, endless, max_iter=count))
    print(f"neuropipe, {start.theta[0].size} weights per state: {ours:.3f} s CPU per iteration")
    flat, _ = run(data, start, prior, rules, max_iter=0).parameters, None
    plain = Observations(
        data.observed, np.ones((len(data.observed), 1)), data.valid, data.offsets, data.code
    )
    level = Parameters(flat.theta[:, :, :1] + 0.1 * np.arange(STATES)[:, None, None],
                       flat.dispersion, flat.transition, flat.initial)  # fmt: skip
    ridge = FixedPrior(np.full(level.theta.shape, 1e-3), np.zeros(level.theta.shape))
    short = replace(endless, unused=np.zeros(1, dtype=bool))
    run(plain, level, ridge, short, max_iter=1)
    bare = _per_iteration(lambda count: run(plain, level, ridge, short, max_iter=count))
    print(f"neuropipe without coupling: {bare:.3f} s CPU per iteration")
    counts = data.observed.astype(np.int64)

    def hmmlearn(count: int) -> None:
        model = Hmmlearn(STATES, n_iter=count, tol=-np.inf, random_state=0)
        model.fit(counts, np.diff(data.offsets))

    print(f"hmmlearn PoissonHMM, no coupling: {_per_iteration(hmmlearn):.3f} s CPU per iteration")
    model = Dynamax(STATES, data.observed.shape[1])
    trials = counts.reshape(10, -1, counts.shape[1])

    def dynamax(count: int) -> None:
        parameters, properties = model.initialize(jax.random.PRNGKey(0))
        # Results are promised at once and computed later: wait for them.
        jax.block_until_ready(
            model.fit_em(parameters, properties, trials, num_iters=count, verbose=False)
        )

    spent = _per_iteration(dynamax, 20)
    print(f"dynamax PoissonHMM, no coupling, float32: {spent:.3f} s CPU per iteration, without "
          "the compilation of each fit")  # fmt: skip


def _per_iteration(fit: Callable[[int], object], more: int = 4) -> float:
    """Return the CPU time per iteration of `more` more iterations than two."""
    fit(2)
    return (used(lambda: fit(2 + more), 2) - used(lambda: fit(2), 2)) / more


def _parallel_share() -> float:
    """Return the share of the CPU time of EM iterations that is spent in pieces for threads."""
    prepared, _, start, rules, prior = problem()
    spent = 0.0

    def timed(function, items):
        def measured(item):
            nonlocal spent
            begin = time.thread_time()
            result = function(item)
            spent += time.thread_time() - begin
            return result

        return map(measured, items)

    kernels = "neuropipe.analyses.hmm_glm.kernels"
    modules = [
        m
        for name, m in sys.modules.items()
        if name.startswith(kernels) and hasattr(m, "ordered_map")
    ]
    before = modules[0].ordered_map
    for module in modules:
        module.ordered_map = timed
    begin = time.thread_time()
    run(prepared.observations, start, prior, replace(rules, tol=0.0), max_iter=3)
    whole = time.thread_time() - begin
    for module in modules:
        module.ordered_map = before
    return spent / whole


def threads() -> None:
    """Wall time of an EM iteration on one thread and on all: idle cores needed."""
    prepared, _, start, rules, prior = problem()
    endless = replace(rules, tol=0.0)
    run(prepared.observations, start, prior, endless, max_iter=1)
    share = _parallel_share()
    print(f"{share:.3f} of the CPU time of an EM iteration is in pieces for threads: two idle "
          f"cores gain {1 / (1 - share / 2):.2f} at most")  # fmt: skip
    wall = {}
    for count in (1, numba.config.NUMBA_NUM_THREADS):
        numba.set_num_threads(count)
        run(prepared.observations, start, prior, endless, max_iter=1)
        times = []
        for _ in range(5):
            begin = time.perf_counter()
            fit = run(prepared.observations, start, prior, endless, max_iter=3)
            times.append(time.perf_counter() - begin)
        wall[count] = min(times)
        print(f"{count} threads: {wall[count]:.2f} s wall for 3 iterations, objective "
              f"{fit.trace[-1]!r}, load {os.getloadavg()[0]:.1f}")  # fmt: skip
    print(f"gain: {wall[1] / min(wall.values()):.2f}")


def _drawn(n_units: int, n_bins: int, n_states: int) -> tuple[Observations, Parameters]:
    """Poisson counts of switching rates with the features of a coupled model; quick to draw."""
    rng = np.random.default_rng(0)
    transition = long_states(n_states, 0.98)
    states = draw_states(rng, n_bins, transition)
    level = rng.normal(-0.8, 0.4, (n_states, n_units))
    observed = np.empty((n_bins, n_units))
    for first in range(0, n_bins, 10_000):
        rows = slice(first, first + 10_000)
        observed[rows] = rng.poisson(np.logaddexp(0.0, level[states[rows]]))
    offsets = np.array([0, n_bins])
    design = np.empty((n_bins, n_units + 1))
    design[:, 0] = 1.0
    design[:, 1:] = history_features(observed, history_basis("exp", 5), offsets)
    _, _, weight = connection_truth(rng, n_units, n_states)
    theta = np.concatenate([level[:, :, None] + 0.05, 0.1 * weight], axis=2)
    data = Observations(
        observed, design, np.ones(n_bins, bool), offsets, FAMILIES["poisson", "softplus"]
    )
    chain = starting_chain(n_states)
    return data, Parameters(theta, np.ones((n_states, n_units)), *chain)


def _iteration(n_units: int, n_bins: int, n_states: int) -> float:
    data, start = _drawn(n_units, n_bins, n_states)
    shape = start.theta.shape
    prior = FixedPrior(np.full(shape, 0.01), np.zeros(shape))
    rules = Rules(
        1.0, 0.0, 1e-3, 0.0, np.zeros(n_units, bool), np.ones(n_units), np.zeros(shape[2], bool)
    )
    begin = time.process_time()
    fit = run(data, start, prior, rules, max_iter=2)
    spent = time.process_time() - begin
    return spent / max(len(fit.trace) - 1, 1)


def growth() -> None:
    """CPU time of an EM iteration over units, bins and states."""
    _iteration(10, 5000, 2)
    base = {"n_units": 20, "n_bins": 20_000, "n_states": 4}
    for name, values in {
        "n_units": (10, 20, 40, 80, 120), "n_bins": (10_000, 20_000, 40_000, 80_000),
        "n_states": (2, 4, 8, 16),
    }.items():  # fmt: skip
        for value in values:
            spent = _iteration(**{**base, name: value})
            print(f"{name} {value:6d}: {spent:.3f} s CPU per iteration")


def scale() -> None:
    """200 units x 200,000 bins x 5 states: less than 16 GB."""
    import xarray as xr

    data, _ = _drawn(200, 200_000, STATES)
    counts = data.observed.astype(np.int16).reshape(20, 10_000, 200)
    del data
    dataset = xr.Dataset(
        {"counts": (("trial", "time", "unit"), counts)},
        coords={"unit": [f"u{n:03d}" for n in range(200)]}, attrs={"bin_width_s": 0.02},
    )  # fmt: skip
    settings = hmm_glm.Settings(states=STATES, prior="gaussian", restarts=1, max_iter=2)
    begin = time.process_time()
    prepared = prepare(dataset, settings)
    fitted = fitting.fit_states(prepared, settings, STATES, 0)
    whole = time.process_time() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    iteration = used(lambda: run(
        prepared.observations, fitted.fit.parameters, fitted.fit.prior,
        fitting.fit_rules(prepared, settings, STATES), max_iter=1,
    ))  # fmt: skip
    print(f"one score start, {settings.max_iter} iterations, standard errors: {whole:.0f} s CPU")
    print(f"one more iteration and its E-step twice: {iteration:.0f} s CPU")
    print(f"peak memory {peak:.1f} GB (demand 16)")
