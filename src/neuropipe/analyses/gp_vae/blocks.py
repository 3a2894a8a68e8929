"""Trials that overlap in time: no sample is fitted and scored, latents of blocks are blended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuropipe.analyses.gp_vae.kernels.linear_model import Modality

__all__ = ["Blended", "blend", "overlap", "scored_later"]

Float = NDArray[np.float64]
RANK = {"train": 0, "validation": 1, "test": 2}
EXACT = 1e-6  # seconds; rounding of clocks


@dataclass(frozen=True)
class Blended:
    """Latents or predictions on the clock of the recording.

    Attributes
    ----------
    time : ndarray (S,)
        Seconds, runs one behind the other.
    run : ndarray (S,) of str
        Run of each time.
    mean, var : ndarray (S, K)
        Moments of the mixture of the blocks that hold a time.
    """

    time: Float
    run: NDArray[np.str_]
    mean: Float
    var: Float


def _runs(data: xr.Dataset) -> NDArray[np.str_]:
    if "run" in data.coords:
        return data["run"].values.astype(str)
    return np.full(data.sizes["trial"], "")


def scored_later(
    data: xr.Dataset, modalities: Mapping[str, Modality], split: NDArray[np.str_],
    steps: Mapping[str, float],
) -> dict[str, NDArray[np.bool_]]:  # fmt: skip
    """Return which times of each trial lie in a trial of a later split too.

    Parameters
    ----------
    data : xarray.Dataset
        Input; ``trial_onset`` and ``run`` say where trials lie.
    modalities : mapping
        Modality -> observations.
    split : ndarray (R,) of str
        Split of each trial; the order is train, validation, test.
    steps : mapping
        Modality -> step of its samples, seconds.

    Returns
    -------
    dict
        Modality -> (R, T); empty if no trials of different splits overlap.
    """
    if "trial_onset" not in data.coords and "trial_onset" not in data:
        return {}
    onset, run = data["trial_onset"].values.astype(float), _runs(data)
    rank = np.array([RANK.get(one, -1) for one in split])
    found = {}
    for name, one in modalities.items():
        first, last = one.times[0] - steps[name] + EXACT, one.times[-1] + steps[name] - EXACT
        hidden = np.zeros((len(split), one.times.size), bool)
        for trial in range(len(split)):
            behind = onset - onset[trial]
            near = (rank > rank[trial]) & (run == run[trial]) & (np.abs(behind) < last - first)
            for other in behind[near]:
                hidden[trial] |= (one.times > other + first) & (one.times < other + last)
        if hidden.any():
            found[name] = hidden
    return found


def overlap(data: xr.Dataset, grid: Float, step: float) -> float:
    """Return by how much neighbouring blocks of a run overlap, seconds; NaN without blocks.

    Parameters
    ----------
    data : xarray.Dataset
        Input; the attribute ``trials_by`` says whether trials are blocks.
    grid : ndarray (T,)
        Finest clock.
    step : float
        Its step, seconds.
    """
    if data.attrs.get("trials_by") != "blocks" or "trial_onset" not in data.coords:
        return np.nan
    onset, run = data["trial_onset"].values.astype(float), _runs(data)
    strides = [np.diff(np.sort(onset[run == one])) for one in np.unique(run)]
    every = np.concatenate(strides)
    return float(grid[-1] - grid[0] + step - every.min()) if every.size else np.nan


def blend(
    data: xr.Dataset, mean: Float, var: Float, inside: NDArray[np.bool_], grid: Float, step: float,
    late: Float | None = None,
) -> Blended:  # fmt: skip
    """Blend what overlapping blocks say; each fades in from its edges.

    Parameters
    ----------
    data : xarray.Dataset
        Input with the coordinate ``trial_onset``.
    mean, var : ndarray (R, T, K)
        Moments of latents or predictions at the grid.
    inside : ndarray (R, T) of bool
        Times of the grid within the span of each trial.
    grid : ndarray (T,)
        Seconds after ``trial_onset``.
    step : float
        Of the grid, seconds.
    late : ndarray (R,), optional
        By how much the samples of each trial lie behind the grid, seconds.
    """
    onset, run = data["trial_onset"].values.astype(float), _runs(data)
    begun = onset if late is None else onset + late
    pieces = []
    for name in np.unique(run):
        rows = np.flatnonzero((run == name) & inside.any(axis=1))
        if not rows.size:
            continue
        begin, end = begun[rows].min() + grid[0], begun[rows].max() + grid[-1]
        time = begin + step * np.arange(round((end - begin) / step) + 1)
        found = _mixture((mean, var), inside, begun, rows, grid, step, time)
        pieces.append((time, np.full(time.size, name), *found))
    return Blended(*(np.concatenate([piece[i] for piece in pieces]) for i in range(4)))


def _mixture(
    moments: tuple[Float, Float], inside: NDArray[np.bool_], onset: Float, rows: NDArray[np.intp],
    grid: Float, step: float, time: Float,
) -> tuple[Float, Float]:  # fmt: skip
    """Return mean and variance of the weighted mixture of trials at some times, NaN outside."""
    count = moments[0].shape[2]
    total = np.zeros((time.size, 1))
    first, second = np.zeros((time.size, count)), np.zeros((time.size, count))
    for row in rows:
        own = onset[row] + grid[inside[row]]
        here = np.flatnonzero((time > own[0] - step / 2) & (time < own[-1] + step / 2))
        edge = np.minimum(time[here] - own[0], own[-1] - time[here]) + step
        mean, spread = (
            np.stack([np.interp(time[here], own, one) for one in part[row, inside[row]].T], axis=1)
            for part in moments
        )
        weight = edge[:, None]
        total[here] += weight
        first[here] += weight * mean
        second[here] += weight * (spread + mean**2)
    seen = np.where(total > 0, total, np.nan)
    return first / seen, second / seen - (first / seen) ** 2
