"""The stages of the bi-clustering: one job per chain, then the summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import xarray as xr

from neuropipe.analyses.bicluster.chain import ChainPlan, run_chain
from neuropipe.analyses.bicluster.prepare import prepare, priors_of, scheme_of
from neuropipe.analyses.bicluster.spec import Settings
from neuropipe.analyses.bicluster.summarise import summarise
from neuropipe.errors import issues_to_json
from neuropipe.threads import one_blas_thread

__all__ = ["chain", "summary"]

Parts = Mapping[str, Sequence[xr.Dataset]]


@one_blas_thread
def chain(
    data: xr.Dataset,
    settings: Settings,
    seed: int,
    parts: Parts,
    *,
    chain: int,
    checkpoint: Path | None = None,
) -> xr.Dataset:
    """Run one chain.

    Parameters
    ----------
    data : xarray.Dataset
        ``counts(unit, time)``; optional ``valid``, ``offset``, ``trial``, ``region``.
    settings : Settings
        All but ``loss``.
    seed : int
        Seed of the job; the chain's generator derives from it and from `chain`.
    parts : mapping
        Not used.
    chain : int
        Number of the chain, from 0.
    checkpoint : Path, optional
        Folder of this chain's checkpoint.

    Returns
    -------
    xarray.Dataset
        Draws, see `neuropipe.analyses.bicluster.records`.

    Raises
    ------
    DataError
        If the counts cannot be used.
    """
    ready, mcmc = prepare(data, settings, seed), settings.mcmc
    plan = ChainPlan(mcmc.warmup, mcmc.draws, mcmc.thin, mcmc.latent_thin, seed, chain)
    found = run_chain(
        ready.problem, priors_of(settings), scheme_of(settings), plan, counts=ready.counts,
        held=ready.held, checkpoint=checkpoint, signature=ready.signature(settings, seed, chain),
        minutes=mcmc.checkpoint_min,
    )  # fmt: skip
    return found.assign_coords(unit=ready.data["unit"].values).assign_attrs(
        chain=chain, issues=issues_to_json(ready.issues)
    )


@one_blas_thread
def summary(data: xr.Dataset, settings: Settings, seed: int, parts: Parts) -> xr.DataTree:
    """Gather the chains: point partitions, aligned trajectories, diagnostics.

    Parameters
    ----------
    data : xarray.Dataset
        Input.
    settings : Settings
        ``loss``, and what the chains used.
    seed : int
        Seed of the job.
    parts : mapping
        ``chain``.

    Returns
    -------
    xarray.DataTree
        The result of the analysis.
    """
    return summarise(prepare(data, settings, seed), settings, parts["chain"])
