"""From the factors to graphs: adjacency, activity in time, communities and their significance."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuropipe.analyses.ntf.backends import detect_communities
from neuropipe.analyses.ntf.checks import prepare
from neuropipe.analyses.ntf.intervals import active_intervals
from neuropipe.analyses.ntf.kernels.community_result import stack_communities
from neuropipe.analyses.ntf.kernels.motif_graph import adjacency
from neuropipe.analyses.ntf.significance import shift_pvalues
from neuropipe.analyses.ntf.spec import Settings
from neuropipe.seeds import stage_generator

__all__ = ["dynamic_connectome", "find_communities"]

Float = NDArray[np.floating]


def _detected(graphs: Float, settings: Settings, seed: int) -> dict[str, NDArray[Any]]:
    """Return the communities of every graph, tested if the null is permuted weights."""
    rules = settings.communities.model_dump()
    permute: Literal["none", "permute"] = (
        "permute" if settings.significance == "permute" else "none"
    )
    return stack_communities(
        [
            detect_communities(
                graph, **rules, significance=permute, rng=stage_generator(seed, "communities", r)
            )
            for r, graph in enumerate(graphs)
        ]
    )


def find_communities(
    fitted: xr.Dataset, data: xr.Dataset, settings: Settings, seed: int
) -> xr.Dataset:
    """Detect the communities of every component and describe its activity.

    Parameters
    ----------
    fitted : xarray.Dataset
        Result of the stage ``fit``.
    data : xarray.Dataset
        Input in order, with the subjects of ``fitted``.
    settings : Settings
        Uses ``communities``, ``significance`` and, for shifted traces, ``affinity`` and the
        optimiser.
    seed : int
        Seed of the job.

    Returns
    -------
    xarray.Dataset
        ``component_adjacency``, ``community``, ``community_strength``, ``community_score``,
        ``community_pvalue``, ``active_interval``, ``dynamic_strength`` and, with
        ``communities.samples``, ``coassignment``.
    """
    names = fitted["neuron"].values
    graphs = adjacency(fitted["pair_factor"].values, names.size)
    found = _detected(graphs, settings, seed)
    pvalue = found["pvalue"]
    if settings.significance == "circular_shift":
        prepared = prepare(data, settings.affinity)
        pvalue = shift_pvalues(fitted, prepared, found["community"], settings, seed)
    time_bin = fitted["time_bin"].values
    width = float(np.median(np.diff(time_bin)))
    sampled = {}
    if "coassignment" in found:
        sampled["coassignment"] = (("component", "neuron", "neuron_2"), found["coassignment"])
    by_id = ("component", "level", "community_id")
    strength = fitted["component_weight"] * fitted["time_factor"] * fitted["subject_factor"]
    return xr.Dataset(
        {
            "component_adjacency": (("component", "neuron", "neuron_2"), graphs),
            "community": (("component", "level", "neuron"), found["community"]),
            "community_strength": (by_id, found["strength"]),
            "community_score": (by_id, found["score"]),
            "community_pvalue": (by_id, pvalue),
            **sampled,
            "active_interval": (
                ("component", "interval", "bound"),
                active_intervals(fitted["time_factor"].values, time_bin, width),
            ),
            "dynamic_strength": strength.transpose("time_bin", "subject", "component").astype(
                np.float32
            ),
        },
        coords={
            "neuron_2": names,
            "bound": np.array(["start", "stop"], dtype=object),
            "community_id": np.arange(pvalue.shape[2]),
            "level": np.arange(pvalue.shape[1]),
        },
    )


def dynamic_connectome(result: xr.Dataset, t: float, subject: str) -> xr.DataArray:
    """Return the model's connectome of one animal at one time.

    Parameters
    ----------
    result : xarray.Dataset
        Result of the analysis.
    t : float
        Time in seconds; the bin with the nearest centre is taken.
    subject : str
        Animal.

    Returns
    -------
    xarray.DataArray
        ``(neuron, neuron_2)``: sum over components of ``dynamic_strength`` times
        ``component_adjacency``; NaN for pairs that were never observed.
    """
    strength = result["dynamic_strength"].sel(subject=subject).sel(time_bin=t, method="nearest")
    product = strength * result["component_adjacency"]
    return product.sum("component", skipna=False).rename("dynamic_connectome")
