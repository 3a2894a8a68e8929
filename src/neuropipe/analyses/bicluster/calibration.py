"""Joint tests of the whole sampler: Geweke's "getting it right", simulation-based calibration."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.bicluster.chain_state import ChainState, Priors, Problem, Scheme
from neuropipe.analyses.bicluster.joint import sample_counts, sample_prior
from neuropipe.analyses.bicluster.sweep import Sweep

__all__ = ["QUANTITIES", "geweke", "quantities", "simulation_ranks"]

Floats = NDArray[np.float64]

QUANTITIES = (
    "delta", "c^2", "log r", "arctan x", "trace A", "log det Q", "clusters", "states",
    "z1 = z2", "s1 = s2", "beta max", "pi stay",
)  # fmt: skip


def quantities(state: ChainState, start: NDArray[np.bool_]) -> Floats:
    """Return numbers that no relabelling changes, (n_quantities,), in the order of `QUANTITIES`."""
    first = 0 if state.coupled else int(state.label[0])
    steps = np.flatnonzero(~start)
    k = int(state.states[steps[-1]])
    return np.array(
        [
            state.coefficients[0, 0],
            state.coefficients[0, 1] ** 2,
            np.log(state.dispersion[0]),
            np.arctan(state.x[first, -1, 0]),
            np.trace(state.A[first, k]),
            np.linalg.slogdet(state.Q[first, k])[1],
            np.unique(state.label).size,
            np.unique(state.states[steps]).size,
            state.label[0] == state.label[1],
            state.states[steps[0]] == state.states[steps[1]],
            state.beta.max(),
            state.transition[k, k],
        ],
        dtype=np.float64,
    )


def geweke(
    problem: Problem,
    priors: Priors,
    scheme: Scheme,
    rng: np.random.Generator,
    *,
    chains: int,
    sweeps: int,
    labels: NDArray[np.int64] | None = None,
    cap: float = np.inf,
) -> Floats:
    """Compare draws of the prior with chains that redraw counts given parameters at every sweep.

    Both have the joint law of parameters and counts if every conditional is right (Geweke 2004).
    Each chain begins with a draw of the prior, so that it has that law from its first sweep on,
    and is independent of the others: errors need no autocorrelation, which one long chain would
    have to estimate, too low where clusters or states mix slowly. A fault shows as drift away
    from the first draw.

    Parameters
    ----------
    problem : Problem
        Shape, mask and trials; the counts are redrawn.
    priors : Priors
        Hyper-parameters.
    scheme : Scheme
        Model and moves.
    rng : Generator
        Random numbers.
    chains, sweeps : int
        Independent chains, and sweeps of each.
    labels : ndarray of int, optional
        Clusters, for full coupling.
    cap : float
        Quantities are cut off at +-cap, so that heavy-tailed priors have moments.

    Returns
    -------
    ndarray, shape (2, n_quantities)
        z-scores of means and second moments; NaN where a quantity does not vary.
    """
    drift = np.zeros((2, chains, len(QUANTITIES)))
    for c in range(chains):
        state = sample_prior(problem, priors, scheme, rng, labels)
        first = np.clip(quantities(state, problem.start), -cap, cap)
        for _ in range(sweeps):
            counts = sample_counts(problem, state, scheme, rng)
            Sweep(replace(problem, counts=counts), priors, scheme)(state, rng)
            values = np.clip(quantities(state, problem.start), -cap, cap)
            drift[0, c] += (values - first) / sweeps
            drift[1, c] += (values**2 - first**2) / sweeps
    error = drift.std(axis=1, ddof=1) / np.sqrt(chains)
    moving = error > 0
    if scheme.poisson:
        moving[:, QUANTITIES.index("log r")] = False  # not in the model
    scores = np.full((2, len(QUANTITIES)), np.nan)
    scores[moving] = drift.mean(axis=1)[moving] / error[moving]
    return scores


def simulation_ranks(
    problem: Problem,
    priors: Priors,
    scheme: Scheme,
    rng: np.random.Generator,
    *,
    sweeps: int,
    kept: int,
) -> Floats:
    """Return the rank of the truth among posterior draws, in [0, 1], one per quantity.

    One replicate of simulation-based calibration (Talts et al. 2018): truth and counts from the
    model, a chain from another draw of the prior, `kept` draws spread over its second half; ties,
    as of numbers of clusters, are broken at random.
    """
    truth = sample_prior(problem, priors, scheme, rng)
    counts = sample_counts(problem, truth, scheme, rng)
    state = sample_prior(problem, priors, scheme, rng)
    sweep = Sweep(replace(problem, counts=counts), priors, scheme)
    keep = set(np.linspace(sweeps // 2, sweeps - 1, kept).astype(int).tolist())
    drawn = []
    for index in range(sweeps):
        sweep(state, rng)
        if index in keep:
            drawn.append(quantities(state, problem.start))
    values, true = np.array(drawn), quantities(truth, problem.start)
    below = (values < true).sum(axis=0)
    ties = (values == true).sum(axis=0)
    ranks: Floats = (below + rng.integers(0, ties + 1)) / len(values)
    return ranks
