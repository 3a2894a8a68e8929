"""The bi-clustering for Python users: the chains, their summary, and the model on its own."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from neuropipe.analyses.bicluster import stages
from neuropipe.analyses.bicluster.chain import ChainPlan, run_chain
from neuropipe.analyses.bicluster.chain_state import ChainState, Priors, Problem, Scheme
from neuropipe.analyses.bicluster.joint import log_joint, sample_counts, sample_prior
from neuropipe.analyses.bicluster.spec import Settings
from neuropipe.analyses.bicluster.sweep import Sweep

__all__ = ["BiclusterModel", "fit"]


def fit(data: xr.Dataset, settings: Settings | None = None, seed: int = 0) -> xr.DataTree:
    """Run all chains in turn and summarise them.

    Parameters
    ----------
    data : xarray.Dataset
        ``counts(unit, time)``; optional ``valid``, ``offset``, ``trial``, ``region``.
    settings : Settings, optional
        Defaults if not given.
    seed : int
        Every random number derives from it.

    Returns
    -------
    xarray.DataTree
        Summary at the root; draws in the groups ``posterior``, ``latent`` and so on.

    Raises
    ------
    DataError
        If the counts cannot be used; the message says what was found.
    """
    settings = Settings() if settings is None else settings
    chains = [
        stages.chain(data, settings, seed, {}, chain=chain) for chain in range(settings.mcmc.chains)
    ]
    return stages.summary(data, settings, seed, {"chain": chains})


@dataclass(frozen=True)
class BiclusterModel:
    """The model without files and settings: for tests, and for fits with given labels.

    Attributes
    ----------
    p, n_states_max, family, partition, coupling
        See `chain_state.Scheme`; ``coupling="full"`` needs ``fix_labels``.
    priors : Priors
        Hyper-parameters.

    Examples
    --------
    >>> model = BiclusterModel(p=1, n_states_max=2)
    >>> state = model.sample_prior(3, 12, np.random.default_rng(0))
    >>> state.coefficients.shape
    (3, 2)
    """

    p: int = 2
    family: str = "negbin"
    partition: str = "mfm"
    coupling: str = "block"
    n_states_max: int = 10
    priors: Priors = field(default_factory=Priors)
    n_inner: int = 5
    n_aux: int = 3
    sm_every: int = 5
    collapsed: bool = True

    def scheme(self, *, fix_labels: bool = False) -> Scheme:
        """Return model and moves as the sampler takes them.

        Raises
        ------
        ValueError
            If the coupling is full and labels are free: a new cluster would change the dynamics
            of all.
        """
        if self.coupling == "full" and not fix_labels:
            raise ValueError('coupling "full" needs fix_labels: labels move only under "block"')
        own = {one: getattr(self, one) for one in Scheme.__dataclass_fields__ if hasattr(self, one)}
        return Scheme(**{**own, "fix_labels": fix_labels})

    def log_joint(self, state: ChainState, counts: Any) -> float:
        """Return the log density of parameters and counts, -1 or NaN where unobserved."""
        problem = Problem.of(np.nan_to_num(counts, nan=-1.0))
        return log_joint(problem, state, self.priors, self.scheme(fix_labels=state.coupled))

    def sample_prior(
        self, n_units: int, n_bins: int, rng: np.random.Generator, labels: Any = None
    ) -> ChainState:
        """Return a draw of every parameter from the prior."""
        problem = Problem.of(np.zeros((n_units, n_bins)))
        scheme = self.scheme(fix_labels=labels is not None)
        return sample_prior(problem, self.priors, scheme, rng, labels)

    def sample_counts(self, state: ChainState, rng: np.random.Generator) -> np.ndarray:
        """Return counts drawn from the model given its parameters."""
        problem = Problem.of(np.zeros((state.label.size, state.states.size)))
        return sample_counts(problem, state, self.scheme(fix_labels=state.coupled), rng)

    def step(self, state: ChainState, counts: Any, rng: np.random.Generator) -> ChainState:
        """Return the state after one sweep; the one given is left alone."""
        problem = Problem.of(np.nan_to_num(counts, nan=-1.0))
        after = state.copy()
        Sweep(problem, self.priors, self.scheme(fix_labels=state.coupled))(after, rng)
        return after

    def run_chain(
        self,
        counts: Any,
        *,
        warmup: int = 2500,
        draws: int = 7500,
        thin: int = 5,
        latent_thin: int = 10,
        seed: int = 0,
        chain: int = 0,
        checkpoint: Path | None = None,
        valid: Any = None,
        fix_labels: Any = None,
    ) -> xr.Dataset:
        """Run one chain; `fix_labels` are the clusters of the neurons, if they are to stay."""
        labels = None if fix_labels is None else np.asarray(fix_labels, dtype=np.int64)
        plan = ChainPlan(warmup, draws, thin, latent_thin, seed, chain)
        problem = Problem.of(counts, valid=valid)
        scheme = self.scheme(fix_labels=labels is not None)
        return run_chain(
            problem, replace(self.priors), scheme, plan, labels=labels, checkpoint=checkpoint
        ).assign_attrs(chain=chain)
