"""Significance of communities against traces that were shifted in time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuropipe.analyses.ntf.backends import partition_function
from neuropipe.analyses.ntf.checks import Prepared
from neuropipe.analyses.ntf.intervals import is_active
from neuropipe.analyses.ntf.kernels.affinity import Traces
from neuropipe.analyses.ntf.kernels.communities import community_sets
from neuropipe.analyses.ntf.kernels.factorise import fit_pairs, hals
from neuropipe.analyses.ntf.kernels.motif_graph import adjacency
from neuropipe.analyses.ntf.kernels.shift_test import ShiftTest
from neuropipe.analyses.ntf.spec import SHIFT_DRAWS, Settings
from neuropipe.analyses.ntf.tensor import build_tensor, load_problem
from neuropipe.seeds import stage_generator

__all__ = ["activity_parts", "shift_pvalues", "shifted"]


def activity_parts(
    active: NDArray[np.bool_], n_times: int, bin_frames: int, least: int
) -> NDArray[np.int64]:
    """Return to which part of the recording each frame belongs, by the components active then.

    Parameters
    ----------
    active : ndarray of bool, shape (R, n_bins)
        When each component is active.
    n_times, bin_frames : int
        Frames of the recording and of a bin; frames after the last bin belong to it.
    least : int
        Parts of fewer frames join the one in which no component is active.

    Returns
    -------
    ndarray of int64, shape (n_times,)
        0 where no component is active.
    """
    quiet = np.zeros((1, len(active)), dtype=bool)
    code = np.unique(np.vstack((quiet, active.T)), axis=0, return_inverse=True)[1].ravel()[1:]
    for part in np.unique(code):
        if (code == part).sum() * bin_frames < least:
            code[code == part] = 0
    frame = np.minimum(np.arange(n_times) // bin_frames, code.size - 1)
    return code[frame].astype(np.int64)


def shifted(traces: Traces, parts: NDArray[np.int64], rng: np.random.Generator) -> Traces:
    """Rotate every trace by random times of its own, within each part of the recorded frames.

    Neurons that are all busy while a component is active stay so: what is lost is only that they
    change at the same moments. Steps are rotated and not values: where end meets start, or one
    recorded stretch another, the trace goes on at its level. A jump there would be the steepest
    moment of the null traces.

    Parameters
    ----------
    traces : Traces
        Traces of one animal.
    parts : ndarray of int64, shape (n_times,)
        From `activity_parts`.
    rng : numpy.random.Generator
        Source of the shifts.
    """
    used = traces.values[:, traces.recorded]
    steps = np.diff(used, axis=1, prepend=used[:, :1])
    lengths = [stop - start for start, stop in traces.segments]
    steps[:, np.cumsum(lengths)[:-1]] = 0.0
    part = parts[traces.recorded]
    for one in np.unique(part):
        frames = np.flatnonzero(part == one)
        shift = rng.integers(frames.size, size=len(used))
        index = frames[(np.arange(frames.size) + shift[:, None]) % frames.size]
        steps[:, frames] = np.take_along_axis(steps, index, axis=1)
    values = traces.values.copy()
    values[:, traces.recorded] = np.cumsum(steps, axis=1)
    return replace(traces, values=values)


def _null_graphs(
    fitted: xr.Dataset,
    prepared: Prepared,
    parts: NDArray[np.int64],
    settings: Settings,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Return the graphs of one draw of shifted traces, in units of the affinity.

    The components were chosen to fit the traces as they are; held fixed, they make independent
    neurons significant. So those of shifted traces are fitted as well, from the ones found.
    """
    time, subject = fitted["time_factor"].values.T, fitted["subject_factor"].values.T
    moved = replace(prepared, traces=tuple(shifted(one, parts, rng) for one in prepared.traces))
    part = build_tensor(moved, settings.affinity, settings.max_memory_gb)
    problem = load_problem(part, settings.max_memory_gb)
    start = (fit_pairs(problem, time, subject, ridge=settings.ridge), time, subject)
    options = settings.model_dump(include={"ridge", "tol", "max_iter", "inner"})
    found = hals(problem, time.shape[1], start=start, **options)
    return adjacency((found.factors[0] * found.weights).T, prepared.neuron.size).astype(np.float64)


def _shift_test(fitted: xr.Dataset, prepared: Prepared, settings: Settings, seed: int) -> ShiftTest:
    """Return the test of the graphs found, with the communities of every draw."""
    rules = settings.communities
    partition = partition_function(
        rules.backend, weights=rules.weights, resolution=rules.resolution
    )
    parts = activity_parts(
        is_active(fitted["time_factor"].values),
        prepared.traces[0].values.shape[1],
        prepared.bin_frames,
        prepared.window,
    )
    pairs = fitted["pair_factor"].values * fitted["component_weight"].values[:, None]
    test = ShiftTest(adjacency(pairs, prepared.neuron.size).astype(np.float64))
    for draw in range(SHIFT_DRAWS):
        rng = stage_generator(seed, "circular_shift", draw)
        graphs = _null_graphs(fitted, prepared, parts, settings, rng)
        sets = [
            community_sets(
                graph,
                weights=rules.weights,
                k_max=rules.k_max,
                min_size=rules.min_size,
                partition=partition,
                rng=rng,
            )
            for graph in graphs
        ]
        test.add(graphs, sets)
    return test


def shift_pvalues(
    fitted: xr.Dataset,
    prepared: Prepared,
    community: NDArray[np.int64],
    settings: Settings,
    seed: int,
) -> NDArray[np.float64]:
    """Return the p value of every community against graphs of shifted traces.

    Parameters
    ----------
    fitted : xarray.Dataset
        Result of the stage ``fit``.
    prepared : Prepared
        Its traces.
    community : ndarray of int64, shape (component, level, neuron)
        Communities found.
    settings : Settings
        Uses ``communities``, ``affinity`` and the optimiser.
    seed : int
        Seed of the job.

    Returns
    -------
    ndarray, shape (component, level, community_id)
        Family-wise over components and levels, NaN where there is no community.
    """
    test = _shift_test(fitted, prepared, settings, seed)
    place = [
        (r, level, label)
        for r, level in np.ndindex(*community.shape[:2])
        for label in range(community[r, level].max() + 1)
    ]
    found = test.pvalues([(r, np.flatnonzero(community[r, n] == c)) for r, n, c in place])
    pvalue = np.full((*community.shape[:2], max(1, community.max() + 1)), np.nan)
    for (r, level, label), value in zip(place, found, strict=True):
        pvalue[r, level, label] = value
    return pvalue
