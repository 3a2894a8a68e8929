"""One chain from its start to its last draw, with checkpoints from which it resumes bit by bit."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuropipe.analyses.bicluster.chain_state import ChainState, Priors, Problem, Scheme
from neuropipe.analyses.bicluster.checkpoint import Checkpoint
from neuropipe.analyses.bicluster.records import Records
from neuropipe.analyses.bicluster.starts import initial_state
from neuropipe.analyses.bicluster.sweep import Sweep
from neuropipe.analyses.bicluster.warmup import after_sweep, before_sweep
from neuropipe.seeds import stage_generator

__all__ = ["ChainPlan", "run_chain"]

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class ChainPlan:
    """How long a chain runs and what it keeps.

    Attributes
    ----------
    warmup, draws, thin, latent_thin : int
        Sweeps thrown away; sweeps after; every thin-th is kept; latents at every latent_thin-th.
    seed, chain : int
        Seed of the job and number of the chain: its generator derives from both.
    """

    warmup: int
    draws: int
    thin: int
    latent_thin: int
    seed: int
    chain: int


def _generator_state(rng: np.random.Generator) -> str:
    return json.dumps(rng.bit_generator.state)


def _restore(
    saved: tuple[dict[str, np.ndarray], dict[str, Any]],
    sweep: Sweep,
    records: Records,
    generators: tuple[np.random.Generator, ...],
) -> tuple[ChainState, int]:
    """Return state and next sweep of a checkpoint; set sampler, records and generators to it."""
    arrays, numbers = saved
    state = ChainState(
        **{key[6:]: array for key, array in arrays.items() if key.startswith("state/")},
        **numbers["state"],
    )
    sweep.count = numbers["count"]
    for name, array in vars(sweep.tally).items():
        array[:] = arrays[f"tally/{name}"]
    records.restore(arrays)
    for rng, text in zip(generators, numbers["generators"], strict=True):
        rng.bit_generator.state = json.loads(text)
    return state, numbers["next"]


def _save(
    store: Checkpoint, index: int, state: ChainState, sweep: Sweep, records: Records,
    generators: tuple[np.random.Generator, ...],
) -> None:  # fmt: skip
    """Write a checkpoint from which sweep `index` is the next."""
    tally = {f"tally/{name}": array for name, array in vars(sweep.tally).items()}
    arrays = {f"state/{name}": array for name, array in state.arrays().items()}
    numbers = {
        "next": index,
        "count": sweep.count,
        "state": state.scalars(),
        "generators": [_generator_state(rng) for rng in generators],
    }
    store.save({**arrays, **tally, **records.arrays()}, numbers)


def _advance(
    sweep: Sweep, state: ChainState, records: Records, plan: ChainPlan, index: int,
    generators: tuple[np.random.Generator, np.random.Generator],
) -> None:  # fmt: skip
    """Do sweep `index` and keep its draw if that is due."""
    rng, replicas = generators
    before_sweep(sweep, index, plan.warmup)
    sweep(state, rng)
    after_sweep(sweep, state, rng, index, plan.warmup)
    drawn = index - plan.warmup + 1
    if drawn > 0 and drawn % plan.thin == 0:
        records.add(state, sweep.tally.read(), replicas)


def run_chain(
    problem: Problem, priors: Priors, scheme: Scheme, plan: ChainPlan, *,
    counts: NDArray[np.float64] | None = None, held: NDArray[np.bool_] | None = None,
    labels: Ints | None = None, checkpoint: Path | None = None, signature: str = "",
    minutes: float = 5.0, on_sweep: Callable[[int], None] | None = None,
) -> xr.Dataset:  # fmt: skip
    """Run one chain.

    Parameters
    ----------
    problem : Problem
        Data without the held-out entries.
    priors, scheme
        Hyper-parameters; model and moves.
    plan : ChainPlan
        Length, thinning, seed.
    counts : ndarray, shape (n_units, n_bins), optional
        All counts, with the held-out ones.
    held : ndarray of bool, shape (n_units, n_bins), optional
        Held-out entries.
    labels : ndarray of int, shape (n_units,), optional
        Clusters to begin with, or to keep under ``fix_labels`` and full coupling.
    checkpoint : Path, optional
        Folder of the checkpoint; a chain with the same `signature` resumes from it.
    signature : str
        Hash of all that the chain depends on.
    minutes : float
        Time between checkpoints.
    on_sweep : callable, optional
        Called with the number of each sweep before it begins.

    Returns
    -------
    xarray.Dataset
        See `records.Records.dataset`; attribute ``time_per_sweep_s``.
    """
    counts = problem.counts if counts is None else counts
    held = np.zeros(counts.shape, dtype=bool) if held is None else held
    rng, replicas = (
        stage_generator(plan.seed, stage, plan.chain) for stage in ("chain", "replicas")
    )
    sweep = Sweep(problem, priors, scheme)
    kept = plan.draws // plan.thin
    records = Records(problem, counts, held, priors, scheme, kept, plan.latent_thin)
    store = Checkpoint(checkpoint, signature, minutes)
    saved = store.load()
    if saved is None:
        state, first = initial_state(problem, priors, scheme, rng, plan.chain, labels), 0
    else:
        state, first = _restore(saved, sweep, records, (rng, replicas))
    began = time.perf_counter()
    for index in range(first, plan.warmup + plan.draws):
        if store.due():
            _save(store, index, state, sweep, records, (rng, replicas))
        if on_sweep is not None:
            on_sweep(index)
        _advance(sweep, state, records, plan, index, (rng, replicas))
    seconds = (time.perf_counter() - began) / max(plan.warmup + plan.draws - first, 1)
    return records.dataset().assign_attrs(time_per_sweep_s=seconds)
