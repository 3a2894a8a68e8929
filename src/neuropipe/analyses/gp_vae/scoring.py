"""Comparison of a result with the truth of `neuropipe.simulate.spikes_and_frames`."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

__all__ = ["affine_r2", "mapped", "score", "with_times_of"]

Float = NDArray[np.float64]
NORMAL_95 = 1.959964


def _map(estimate: Float, truth: Float) -> Float:
    design = np.column_stack([estimate.reshape(-1, estimate.shape[-1]), np.ones(truth.size)])
    return np.linalg.lstsq(design, truth.ravel(), rcond=None)[0]


def affine_r2(train: tuple[Float, Float], test: tuple[Float, Float]) -> float:
    """Return the R2 on test trials of an affine map fitted to training trials.

    Parameters
    ----------
    train, test : (ndarray (R, T, K), ndarray (R, T))
        Estimated latents and one true latent.
    """
    weights = _map(*train)
    estimate, truth = test
    predicted = estimate @ weights[:-1] + weights[-1]
    return float(1 - ((predicted - truth) ** 2).sum() / ((truth - truth.mean()) ** 2).sum())


def with_times_of(truth: xr.Dataset, result: xr.Dataset) -> xr.Dataset:
    """Return the truth at the times of the latents, linearly between its own."""
    if truth.sizes["time"] == result.sizes["time"]:
        return truth
    ends = {"fill_value": "extrapolate"}
    return truth.interp(time=result["time"].values, kwargs=ends)


def mapped(result: xr.Dataset, planted: Float) -> tuple[Float, Float]:
    """Return mean and SD of one planted latent by an affine map fitted on training trials.

    Parameters
    ----------
    result : xarray.Dataset
        Result of `fit`.
    planted : ndarray, shape (n_trials, n_times)

    Returns
    -------
    mean, sd : ndarray, shape (n_trials, n_times)
    """
    train = result["trial_split"].values == "train"
    mean, var = result["latent_mean"].values, result["latent_var"].values
    weights = _map(mean[train], planted[train])
    return mean @ weights[:-1] + weights[-1], np.sqrt(var @ weights[:-1] ** 2)


def score(result: xr.Dataset, truth: xr.Dataset) -> dict[str, float]:
    """Return how well planted latents and rates were found.

    Parameters
    ----------
    result : xarray.Dataset
        Result of `fit` on the simulator's data.
    truth : xarray.Dataset
        Second return value of the simulator.

    Returns
    -------
    dict
        For each planted latent ``r2_<latent>``: R2 on test trials of an affine map (fitted on
        training trials) from the one estimated latent of the same group that fits best
        (`spikes` and `shared` from any latent without video); ``joint_r2_<latent>``: from all
        latents; ``rate_r2``; ``bits_per_spike`` and ``oracle_bits_per_spike`` of held-out units;
        ``coverage_<latent>``: share of true values inside 95 % posterior intervals.
    """
    split = result["trial_split"].values
    train, test = split == "train", split == "test"
    mean, var = result["latent_mean"].values, result["latent_var"].values
    found: dict[str, float] = {}
    truth = with_times_of(truth, result)
    names = [str(one) for one in truth["latent"].values]
    if "prediction_video" not in result:
        names = [name for name in names if name != "video"]
    group = [str(one) for one in result["latent_group"].values]
    for name in names:
        true = truth["latent_value"].sel(latent=name).values
        wanted = {"shared": "shared"}.get(name, f"private:{name}")
        places = [k for k, one in enumerate(group) if one == wanted] or list(range(len(group)))
        own = [
            affine_r2((mean[train][..., [k]], true[train]), (mean[test][..., [k]], true[test]))
            for k in places
        ]
        found[f"r2_{name}"] = max(own)
        found[f"joint_r2_{name}"] = affine_r2((mean[train], true[train]), (mean[test], true[test]))
        found[f"coverage_{name}"] = _cover(mean, var, true, train, test)
    rate = result["prediction_spikes"].values[test]
    true_rate = truth["rate"].values[test]
    centre = true_rate.mean(axis=(0, 1))
    found["rate_r2"] = float(
        1 - ((rate - true_rate) ** 2).sum() / ((true_rate - centre) ** 2).sum()
    )
    scores = result["score"].sel(modality="spikes", split="test")
    if "bits_per_spike" in scores["metric"].values:
        found["bits_per_spike"] = float(scores.sel(metric="bits_per_spike"))
    return found


def _cover(
    mean: Float, var: Float, true: Float, train: NDArray[np.bool_], test: NDArray[np.bool_]
) -> float:
    """Return the share of true values within 95 % intervals after an affine map of all latents."""
    weights = _map(mean[train], true[train])
    centre = mean[test] @ weights[:-1] + weights[-1]
    sd = np.sqrt(var[test] @ weights[:-1] ** 2)
    return float((np.abs(true[test] - centre) <= NORMAL_95 * sd).mean())
