"""Joint tests of the whole sampler: Geweke's "getting it right", simulation-based calibration."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.bicluster.chain_state import ChainState, Priors, Problem, Scheme
from neuropipe.analyses.bicluster.joint import log_likelihood, sample_counts, sample_prior
from neuropipe.analyses.bicluster.starts import initial_state
from neuropipe.analyses.bicluster.sweep import Sweep
from neuropipe.errors import ComputationError

__all__ = ["QUANTITIES", "geweke", "quantities", "simulation_ranks"]

Floats = NDArray[np.float64]
ATTEMPTS = 1000
EXPLODED = 0.005  # the largest share of chains left out

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


def _drift(
    problem: Problem, priors: Priors, scheme: Scheme, rng: np.random.Generator, sweeps: int,
    labels: NDArray[np.int64] | None, cap: float,
) -> Floats | None:  # fmt: skip
    """Return how far one chain's mean and second moments lie from its start; None if exploded."""
    drift = np.zeros((2, len(QUANTITIES)))
    state = sample_prior(problem, priors, scheme, rng, labels)
    first = np.clip(quantities(state, problem.start), -cap, cap)
    for _ in range(sweeps):
        counts = sample_counts(problem, state, scheme, rng)
        try:
            Sweep(replace(problem, counts=counts), priors, scheme)(state, rng)
        except ComputationError:
            return None
        values = np.clip(quantities(state, problem.start), -cap, cap)
        drift += np.stack([values - first, values**2 - first**2]) / sweeps
    return drift


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
) -> tuple[Floats, int]:
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
    scores : ndarray, shape (2, n_quantities)
        z-scores of means and second moments; NaN where a quantity does not vary.
    exploded : int
        Chains left out: they met trajectories that covariances cannot hold.

    Raises
    ------
    ComputationError
        If more than one chain in 200 exploded.
    """
    found = [_drift(problem, priors, scheme, rng, sweeps, labels, cap) for _ in range(chains)]
    drift = np.stack([one for one in found if one is not None], axis=1)
    exploded = chains - drift.shape[1]
    if exploded > EXPLODED * chains:
        raise ComputationError(f"{exploded} of {chains} chains exploded; tighten the priors")
    error = drift.std(axis=1, ddof=1) / np.sqrt(drift.shape[1])
    moving = error > 0
    if scheme.poisson:
        moving[:, QUANTITIES.index("log r")] = False  # not in the model
    scores = np.full((2, len(QUANTITIES)), np.nan)
    scores[moving] = drift.mean(axis=1)[moving] / error[moving]
    return scores, exploded


def _model_draw(
    problem: Problem, priors: Priors, scheme: Scheme, rng: np.random.Generator, largest: float
) -> tuple[ChainState, Problem]:
    """Return parameters and the problem of counts drawn from the model, none over `largest`.

    What is refused depends on the counts alone, and ranks are uniform given any counts, so they
    stay uniform over those that are left.
    """
    for _ in range(ATTEMPTS):
        truth = sample_prior(problem, priors, scheme, rng)
        counts = sample_counts(problem, truth, scheme, rng)
        if 0.0 < counts.max() <= largest:
            return truth, replace(problem, counts=counts)
    raise ValueError(f"{ATTEMPTS} draws of the prior all have counts over {largest:g}, or none")


def simulation_ranks(
    problem: Problem,
    priors: Priors,
    scheme: Scheme,
    rng: np.random.Generator,
    *,
    sweeps: int,
    kept: int,
    largest: float = 200.0,
) -> tuple[Floats, Floats]:
    """Return ranks of the truth among posterior draws, and how dependent those draws are.

    One replicate of simulation-based calibration (Talts et al. 2018): truth and counts from the
    model, a chain from a start of `starts`, `kept` draws spread over its second half; ties, as of
    numbers of clusters, are broken at random.

    Parameters
    ----------
    problem : Problem
        Shape, mask and trials; the counts are drawn.
    priors, scheme
        Hyper-parameters; model and moves.
    rng : Generator
        Random numbers.
    sweeps, kept : int
        Length of the chain; draws kept.
    largest : float
        Counts over this are drawn anew: prior dynamics may explode.

    Returns
    -------
    ranks : ndarray, shape (n_quantities + 1,)
        Draws below the truth, 0 to `kept`, for `QUANTITIES` and the log likelihood.
    lag : ndarray, shape (n_quantities + 1,)
        Autocorrelation of kept draws at lag one, NaN where they do not vary.
    """
    truth, problem = _model_draw(problem, priors, scheme, rng, largest)
    state = initial_state(problem, priors, scheme, rng, int(rng.integers(4)))
    sweep = Sweep(problem, priors, scheme)
    keep = set(np.linspace(sweeps // 2, sweeps - 1, kept).astype(int).tolist())
    drawn = []
    for index in range(sweeps):
        sweep(state, rng)
        if index in keep:
            drawn.append(_ranked(problem, state, scheme))
    values, true = np.array(drawn), _ranked(problem, truth, scheme)
    below, ties = (values < true).sum(axis=0), (values == true).sum(axis=0)
    centred = values - values.mean(axis=0)
    variance = (centred**2).sum(axis=0)
    lag = np.full(true.size, np.nan)
    np.divide((centred[1:] * centred[:-1]).sum(axis=0), variance, out=lag, where=variance > 0)
    return (below + rng.integers(0, ties + 1)).astype(np.float64), lag


def _ranked(problem: Problem, state: ChainState, scheme: Scheme) -> Floats:
    found: Floats = np.append(
        quantities(state, problem.start), log_likelihood(problem, state, scheme)
    )
    return found
