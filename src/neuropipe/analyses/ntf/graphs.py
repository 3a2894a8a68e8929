"""From the factors to graphs: adjacency, activity in time, communities and their significance."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuropipe.analyses.ntf.backends import detect_communities, partition_function
from neuropipe.analyses.ntf.checks import Prepared, prepare
from neuropipe.analyses.ntf.kernels.affinity import Traces, pair_index
from neuropipe.analyses.ntf.kernels.communities import largest_score
from neuropipe.analyses.ntf.kernels.community_nulls import familywise_pvalue
from neuropipe.analyses.ntf.kernels.community_result import stack_communities
from neuropipe.analyses.ntf.kernels.factorise import fit_pairs, hals
from neuropipe.analyses.ntf.spec import Settings
from neuropipe.analyses.ntf.tensor import build_tensor, load_problem
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
    """Rotate every trace by a random time of its own, within the recorded frames.

    Steps are rotated and not values: where end meets start, or one recorded stretch another, the
    trace goes on at its level. A jump there would be the steepest moment of the null traces.
    """
    used = traces.values[:, traces.recorded]
    steps = np.diff(used, axis=1, prepend=used[:, :1])
    lengths = [stop - start for start, stop in traces.segments]
    steps[:, np.cumsum(lengths)[:-1]] = 0.0
    shift = rng.integers(used.shape[1], size=len(used))
    index = (np.arange(used.shape[1]) + shift[:, None]) % used.shape[1]
    values = traces.values.copy()
    values[:, traces.recorded] = np.cumsum(np.take_along_axis(steps, index, axis=1), axis=1)
    return replace(traces, values=values)


def _shift_null(
    fitted: xr.Dataset, prepared: Prepared, settings: Settings, seed: int
) -> NDArray[np.float64]:
    """Return the largest score over all components of shifted traces, one per draw.

    The components were chosen to fit the traces as they are; held fixed, they make independent
    neurons significant. So those of shifted traces are fitted as well, from the ones found.
    """
    time, subject = fitted["time_factor"].values.T, fitted["subject_factor"].values.T
    rules = settings.communities
    partition = partition_function(
        rules.backend, weights=rules.weights, resolution=rules.resolution
    )
    options = settings.model_dump(include={"ridge", "tol", "max_iter", "inner"})
    null = np.empty(SHIFT_DRAWS)
    for draw in range(SHIFT_DRAWS):
        rng = stage_generator(seed, "circular_shift", draw)
        moved = replace(prepared, traces=tuple(_shifted(one, rng) for one in prepared.traces))
        part = build_tensor(moved, settings.affinity, settings.max_memory_gb)
        problem = load_problem(part, settings.max_memory_gb)
        start = (fit_pairs(problem, time, subject, ridge=settings.ridge), time, subject)
        pairs = hals(problem, time.shape[1], start=start, **options).factors[0]
        null[draw] = max(
            largest_score(
                graph,
                weights=rules.weights,
                k_max=rules.k_max,
                min_size=rules.min_size,
                partition=partition,
                rng=rng,
            )
            for graph in adjacency(pairs.T, prepared.neuron.size)
        )
    return null


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
        null = _shift_null(fitted, prepare(data, settings.affinity), settings, seed)
        pvalue = familywise_pvalue(found["score"], null)
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
