"""Model fit over time: clusters, latencies, generalisation from time to time."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuropipe.analyses.trsa.kernels.inference import clusters, sign_flips
from neuropipe.analyses.trsa.kernels.temporal import cross_temporal, onset, peak_interval
from neuropipe.analyses.trsa.spec import InferenceSettings
from neuropipe.seeds import stage_generator

__all__ = ["generalisation", "time_courses"]

Floats = NDArray[np.float64]
LEAST_SUBJECTS = 5  # 2 ** 5 changes of sign are the fewest that reach p < 0.05


def time_courses(scores: xr.DataArray, settings: InferenceSettings, seed: int) -> xr.Dataset:
    """Test the courses of model scores over time, and find their onsets and peaks.

    Parameters
    ----------
    scores : xarray.DataArray
        ``model_score(model, subject, region, time)``.
    settings : InferenceSettings
    seed : int

    Returns
    -------
    xarray.Dataset
        ``p_cluster(model, region, time)``, ``onset_s(model, region)``, ``peak_s``,
        ``peak_interval_s(model, region, limit)``; p-values are NaN with fewer than five subjects.
    """
    time = scores["time"].values.astype(np.float64)
    values = scores.transpose("model", "region", "subject", "time").values
    shape = values.shape[:2]
    p = np.full((*shape, time.size), np.nan)
    starts, peaks, limits = (
        np.full(shape, np.nan),
        np.full(shape, np.nan),
        np.full((*shape, 2), np.nan),
    )
    threshold = None if settings.cluster == "tfce" else float(settings.cluster)
    for k, place in enumerate(np.ndindex(shape)):
        courses = values[place]
        courses = courses[np.isfinite(courses).all(axis=1)]
        if not len(courses):
            continue
        rng = stage_generator(seed, "courses", k)
        draws = max(settings.bootstrap, 1)
        peaks[place], *interval = peak_interval(courses, time, draws, rng)
        limits[place] = interval
        if len(courses) >= LEAST_SUBJECTS and settings.permutations:
            null = sign_flips(courses, settings.permutations, rng)
            p[place] = clusters(null, threshold)[1]
            starts[place] = onset(p[place] < settings.alpha, time)
    dims = ("model", "region")
    return xr.Dataset(
        {
            "p_cluster": ((*dims, "time"), p),
            "onset_s": (dims, starts),
            "peak_s": (dims, peaks),
            "peak_interval_s": ((*dims, "limit"), limits),
        },
        coords={"limit": ["lower", "upper"]},
    )


def generalisation(halves: xr.DataArray, method: str) -> xr.Dataset:
    """Compare the RDMs of all times with those of all times, of disjoint runs.

    Parameters
    ----------
    halves : xarray.DataArray
        ``rdm_half(half, subject, region, time, pair)``.
    """
    first, second = halves.transpose("half", "subject", "region", "time", "pair").values
    count = halves.sizes["time"]
    found = np.full((*first.shape[:2], count, count), np.nan)
    for place in np.ndindex(found.shape[:2]):
        if np.isfinite(first[place]).any():
            found[place] = cross_temporal(first[place], second[place], method)
    return xr.Dataset(
        {"time_time": (("subject", "region", "time", "time_2"), found)},
        coords={"time_2": halves["time"].values},
    )
