"""The RDMs of one subject: noise normalisation, measure, movies and label permutations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuropipe.analyses.trsa.checks import RegionPatterns
from neuropipe.analyses.trsa.kernels.noise import (
    Whitener,
    centred_residuals,
    noise_covariance,
    whiten,
    whitener,
)
from neuropipe.analyses.trsa.kernels.rdm import MEASURES, fold_pairs, rdm
from neuropipe.analyses.trsa.kernels.temporal import windowed, windows
from neuropipe.analyses.trsa.spec import RdmSettings, TimeSettings
from neuropipe.errors import ConfigError, DataError, Issue

__all__ = ["Estimate", "centres_of", "chosen_measure", "estimate", "normalised"]

Floats = NDArray[np.float64]
MOST_CHANNELS = 2000
LEAST_RUNS_OF_HALVES = 4


@dataclass(frozen=True)
class Estimate:
    """RDMs of one subject and region.

    Attributes
    ----------
    values : ndarray, shape ([n_times,] n_pairs)
    halves : ndarray, shape (2, n_times, n_pairs), or None
        Movies of the odd and the even runs.
    fold_pairs : ndarray of int, shape (n_pairs,)
    shrinkage : float
    null : ndarray, shape (n_permutations,)
        Mean dissimilarity with labels permuted within runs.
    """

    values: Floats
    halves: Floats | None
    fold_pairs: NDArray[np.int64]
    shrinkage: float
    null: Floats


def chosen_measure(settings: RdmSettings, n_runs: int) -> str:
    """Return the measure; ``auto`` depends on the number of runs.

    Raises
    ------
    ConfigError
        If a cross-validated measure is asked for and there is one run.
    """
    measure = settings.measure
    if measure == "auto":
        return "crossnobis" if n_runs > 1 else "euclidean"
    if MEASURES[measure].crossvalidated and n_runs < 2:
        raise ConfigError(
            f"analyses.trsa.rdm.measure: {measure} needs two runs or more, the input has {n_runs}; "
            "choose euclidean or mahalanobis, or more input.folds"
        )
    return measure


def centres_of(time: Floats, settings: TimeSettings | None) -> tuple[list[slice], Floats]:
    """Return windows and their centres; every sample without settings."""
    if settings is None:
        return [slice(k, k + 1) for k in range(time.size)], time
    slices, centres = windows(time, settings.window_s, settings.step_s)
    if not slices:
        raise ConfigError(
            f"analyses.trsa.time.window_s: {settings.window_s} s is longer than the patterns "
            f"({np.ptp(time):g} s)"
        )
    return slices, centres


def normalised(values: Floats, settings: RdmSettings, measure: str, modality: str) -> Floats:
    """Return patterns after the square root and the removal of their mean, where asked for."""
    wanted = settings.stabilise
    counts = wanted == "sqrt" or (wanted == "auto" and modality == "spikes")
    if counts and MEASURES[measure].squared:
        if np.nanmin(values) < 0:
            raise DataError("input: patterns below 0 have no square root; set rdm.stabilise: none")
        values = np.sqrt(values)
    if settings.remove_mean:
        values = values - values.mean(axis=2, keepdims=True)
    return values


def _own_residuals(
    values: Floats, time: Floats | None, window: list[float] | None
) -> tuple[Floats, int]:
    """Return deviations over runs; of movies within a window, or before time 0.

    Raises
    ------
    ConfigError
        If no sample lies in the window.
    """
    if time is None:
        return centred_residuals(values)
    taken = time < 0 if window is None else (time >= window[0]) & (time <= window[1])
    if window is not None and not taken.any():
        raise ConfigError(
            f"analyses.trsa.rdm.noise_window_s: no sample from {window[0]:g} to {window[1]:g} s; "
            f"the patterns go from {time[0]:g} to {time[-1]:g} s"
        )
    used = values[..., taken] if taken.any() else values
    parts = [centred_residuals(used[..., t]) for t in range(used.shape[-1])]
    return np.concatenate([part for part, _ in parts]), sum(dof for _, dof in parts)


def noise_of(
    region: RegionPatterns, values: Floats, settings: RdmSettings, time: Floats | None, where: str
) -> tuple[Whitener | None, list[Issue]]:
    """Return the whitening of one region, and what should be told about it."""
    method, issues = settings.noise, list[Issue]()
    if method == "none":
        return None, issues
    if region.covariance is not None:
        return _whitener(_reduced(region.covariance, method), np.nan, where), issues
    if region.residuals is not None:
        residuals, dof = region.residuals, int(region.dof or 0)
    else:
        residuals, dof = _own_residuals(values, time, settings.noise_window_s)
    if dof < 1:
        message = "one run and no noise residuals: the patterns are not whitened"
        return None, [Issue("NO_NOISE_ESTIMATE", where, message, "add runs, or set noise: none")]
    if values.shape[2] > MOST_CHANNELS and method != "diag":
        method = "diag"
        message = f"{values.shape[2]} channels: noise normalised per channel, not {settings.noise}"
        issues.append(Issue("DIAGONAL_NOISE", where, message, "choose smaller regions", "info"))
    covariance, weight = noise_covariance(residuals, method, dof)
    return _whitener(covariance, weight, where), issues


def _reduced(covariance: Floats, method: str) -> Floats:
    return covariance.diagonal() if method == "diag" else covariance


def _whitener(covariance: Floats, weight: float, where: str) -> Whitener:
    try:
        return whitener(covariance, weight)
    except ValueError as error:
        raise DataError(f"{where}: {error}; key analyses.trsa.rdm.noise") from error


def _null(whitened: Floats, measure: str, draws: int, rng: np.random.Generator) -> Floats:
    """Return mean dissimilarities with the labels of every run permuted by themselves."""
    runs, n, _ = whitened.shape
    null = np.empty(draws)
    for draw in range(draws):
        shuffled = np.stack([whitened[run, rng.permutation(n)] for run in range(runs)])
        null[draw] = np.nanmean(rdm(shuffled, measure))
    return null


def estimate(
    region: RegionPatterns,
    settings: RdmSettings,
    time: Floats | None,
    windows_of: TimeSettings | None,
    *,
    modality: str,
    where: str,
    rng: np.random.Generator,
) -> tuple[Estimate, list[Issue]]:
    """Estimate the RDM, or the RDM movie, of one subject and region.

    Parameters
    ----------
    region : RegionPatterns
    settings : RdmSettings
    time : ndarray or None
        Seconds, if the patterns have a time axis.
    windows_of : TimeSettings or None
    modality : str
        Decides whether counts are stabilised.
    where : str
        Subject and region, for messages.
    rng : numpy.random.Generator
        Permutes labels.
    """
    measure = chosen_measure(settings, len(region.values))
    values = normalised(region.values, settings, measure, modality)
    noise, issues = None, list[Issue]()
    if MEASURES[measure].whitened:
        noise, issues = noise_of(region, values, settings, time, where)
    null, halves = np.zeros(0), None
    if time is None:
        whitened = whiten(values, noise)
        found = rdm(whitened, measure)
        if MEASURES[measure].crossvalidated and settings.permutations:
            null = _null(whitened, measure, settings.permutations, rng)
    else:
        slices, _ = centres_of(time, windows_of)
        spread = whiten(np.moveaxis(values, 2, 3), noise)
        pooling = "mean" if windows_of is None else windows_of.pooling
        frames = windowed(np.moveaxis(spread, 3, 2), slices, pooling)
        found = rdm(frames, measure)
        least = LEAST_RUNS_OF_HALVES if MEASURES[measure].crossvalidated else 2
        if frames.shape[1] >= least:
            halves = np.stack([rdm(frames[:, k::2], measure) for k in (0, 1)])
    count = fold_pairs(region.values if time is None else region.values[..., 0])
    weight = np.nan if noise is None else noise.shrinkage
    return Estimate(found, halves, count, weight, null), issues


def pair_coordinates(data: xr.Dataset) -> dict[str, tuple[str, list[str]]]:
    """Return the labels of both conditions of every pair."""
    labels = data["condition"].values.astype(str)
    i, j = np.triu_indices(labels.size, 1)
    return {
        "condition_i": ("pair", labels[i].tolist()),
        "condition_j": ("pair", labels[j].tolist()),
    }
