"""From the factors to graphs: adjacency, activity in time, communities and their significance."""

from __future__ import annotations

from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuropipe.analyses.ntf.checks import Prepared, prepare
from neuropipe.analyses.ntf.kernels.affinity import Traces, pair_index
from neuropipe.analyses.ntf.kernels.communities import detect_communities, largest_score
from neuropipe.analyses.ntf.kernels.community_nulls import familywise_pvalue
from neuropipe.analyses.ntf.kernels.community_result import stack_communities
from neuropipe.analyses.ntf.kernels.factorise import fit_pairs
from neuropipe.analyses.ntf.kernels.problem import Problem
from neuropipe.analyses.ntf.spec import Settings
from neuropipe.analyses.ntf.tensor import build_tensor
from neuropipe.seeds import stage_generator

__all__ = ["active_intervals", "adjacency", "dynamic_connectome", "find_communities", "is_active"]

Float = NDArray[np.floating]
SHIFT_DRAWS = 100
ACTIVE_SHARE, ACTIVE_QUANTILE = 0.5, 0.98


def adjacency(pairs: Float, n_neurons: int) -> Float:
    """Return symmetric matrices of pair values, shape (..., n_neurons, n_neurons).

    Parameters
    ----------
    pairs : ndarray, shape (..., n_pairs)
        Values of all pairs ``i < j`` in row-major order, NaN where unobserved.
    n_neurons : int
        Number of neurons.

    Returns
    -------
    ndarray
        Zero diagonal.
    """
    first, second = pair_index(n_neurons)
    result = np.zeros((*pairs.shape[:-1], n_neurons, n_neurons), dtype=pairs.dtype)
    result[..., first, second] = pairs
    result[..., second, first] = pairs
    return result


def is_active(time_factor: Float) -> NDArray[np.bool_]:
    """Return where a time factor (..., n_bins) exceeds half of its 0.98 quantile; not at NaN."""
    return time_factor > ACTIVE_SHARE * np.nanquantile(
        time_factor, ACTIVE_QUANTILE, axis=-1, keepdims=True
    )


def active_intervals(
    time_factor: Float, time_bin: NDArray[np.float64], width: float
) -> NDArray[np.float64]:
    """Return start and stop of the active stretches, shape (R, n_intervals, 2), NaN padded.

    Parameters
    ----------
    time_factor : ndarray, shape (R, n_bins)
        Time factors.
    time_bin : ndarray, shape (n_bins,)
        Bin centres, seconds.
    width : float
        Bin width, seconds.

    Returns
    -------
    ndarray
        Seconds.
    """
    found = []
    for active in is_active(time_factor):
        edges = np.diff(np.concatenate(([0], active.astype(np.int8), [0])))
        start, stop = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
        found.append(
            np.stack((time_bin[start] - width / 2, time_bin[stop - 1] + width / 2), axis=1)
        )
    result = np.full((len(found), max(1, *(len(one) for one in found)), 2), np.nan)
    for row, one in zip(result, found, strict=True):
        row[: len(one)] = one
    return result


def _shifted(traces: Traces, rng: np.random.Generator) -> Traces:
    """Rotate every trace by a random time of its own, within the recorded frames."""
    used = traces.values[:, traces.recorded]
    shift = rng.integers(used.shape[1], size=len(used))
    index = (np.arange(used.shape[1]) + shift[:, None]) % used.shape[1]
    values = traces.values.copy()
    values[:, traces.recorded] = np.take_along_axis(used, index, axis=1)
    return Traces(values, traces.present, traces.recorded, traces.segments)


def _shift_null(
    fitted: xr.Dataset, prepared: Prepared, settings: Settings, seed: int
) -> NDArray[np.float64]:
    """Return the largest score of each component's graph of shifted traces, (R, n_draws)."""
    time, subject = fitted["time_factor"].values.T, fitted["subject_factor"].values.T
    rules = settings.communities
    null = np.empty((time.shape[1], SHIFT_DRAWS))
    for draw in range(SHIFT_DRAWS):
        rng = stage_generator(seed, "circular_shift", draw)
        moved = tuple(_shifted(one, rng) for one in prepared.traces)
        fields = {**vars(prepared), "traces": moved}
        part = build_tensor(Prepared(**fields), settings.affinity)
        observed = part["pair_observed"].values
        problem = Problem.build(part["affinity"].values, observed, part["time_observed"].values)
        pairs = fit_pairs(problem, time, subject, ridge=settings.ridge)
        pairs[~observed.any(axis=1)] = np.nan
        for r, graph in enumerate(adjacency(pairs.T, prepared.neuron.size)):
            null[r, draw] = largest_score(
                graph,
                weights=rules.weights,
                k_max=rules.k_max,
                min_size=rules.min_size,
                rng=rng,
            )
    return null


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
        Uses ``communities``, ``significance``, ``affinity`` and ``ridge``.
    seed : int
        Seed of the job.

    Returns
    -------
    xarray.Dataset
        ``component_adjacency``, ``community``, ``community_strength``, ``community_score``,
        ``community_pvalue``, ``active_interval``, ``dynamic_strength``.
    """
    names = fitted["neuron"].values
    graphs = adjacency(fitted["pair_factor"].values, names.size)
    rules = settings.communities.model_dump()
    permute: Literal["none", "permute"] = (
        "permute" if settings.significance == "permute" else "none"
    )
    found = stack_communities(
        [
            detect_communities(
                graph, **rules, significance=permute, rng=stage_generator(seed, "communities", r)
            )
            for r, graph in enumerate(graphs)
        ]
    )
    pvalue = found["pvalue"]
    if settings.significance == "circular_shift":
        null = _shift_null(fitted, prepare(data, settings.affinity), settings, seed)
        pvalue = np.stack(
            [familywise_pvalue(s, n) for s, n in zip(found["score"], null, strict=True)]
        )
    time_bin = fitted["time_bin"].values
    width = float(np.median(np.diff(time_bin)))
    by_id = ("component", "level", "community_id")
    strength = fitted["component_weight"] * fitted["time_factor"] * fitted["subject_factor"]
    return xr.Dataset(
        {
            "component_adjacency": (("component", "neuron", "neuron_2"), graphs),
            "community": (("component", "level", "neuron"), found["community"]),
            "community_strength": (by_id, found["strength"]),
            "community_score": (by_id, found["score"]),
            "community_pvalue": (by_id, pvalue),
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
