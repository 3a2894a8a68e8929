"""From chains to the result: point partitions, bands, prediction, diagnostics."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuropipe.analyses.bicluster.aligned import aligned_trajectories, eigenvalues
from neuropipe.analyses.bicluster.baseline_model import gain_per_spike, mean_rate_log_density
from neuropipe.analyses.bicluster.diagnostics import chain_agreement, diagnose, verdict
from neuropipe.analyses.bicluster.kernels.point_partition import (
    align_labels,
    coclustering,
    point_partition,
    point_partition_of_draws,
)
from neuropipe.analyses.bicluster.prepare import Prepared
from neuropipe.analyses.bicluster.records import (
    CHECKS,
    LATENTS,
    SHARES,
    STRENGTHS,
    count_statistics,
)
from neuropipe.analyses.bicluster.spec import Settings
from neuropipe.errors import Issue, issues_to_json

__all__ = ["summarise"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
MOST_BINS, MOST_POINTWISE = 2000, 200_000
POSTERIOR = (
    "cluster_label", "state_label", "baseline", "loading", "dispersion", "n_clusters", "n_states",
    "log_joint", "log_likelihood_total", "log_rate_spread", "state_weight", "transition_matrix",
)  # fmt: skip


def _pooled(chains: Sequence[xr.Dataset], name: str) -> np.ndarray:
    return np.concatenate([one[name].values for one in chains])


def _certainty(draws: Ints, point: Ints) -> Floats:
    """Return the share of draws in which each item's aligned label is that of the point."""
    same = np.zeros(point.size)
    for labels in draws:
        same += align_labels(labels, point)[labels] == point
    return same / len(draws)


def _partitions(chains: Sequence[xr.Dataset], loss: str) -> xr.Dataset:
    units = _pooled(chains, "cluster_label").astype(np.int64)
    states = _pooled(chains, "state_label").astype(np.int64)
    unit_cluster, unit_score = point_partition(units, loss)
    found: dict[str, Any] = {
        "coclustering_unit": (("unit", "unit_2"), coclustering(units)),
        "unit_cluster": ("unit", unit_cluster),
        "unit_cluster_probability": ("unit", _certainty(units, unit_cluster)),
        "pear_unit": ((), unit_score),
    }
    if states.shape[1] <= MOST_BINS:
        found["coclustering_time"] = (("time", "time_2"), coclustering(states).astype(np.float32))
        time_state, time_score = point_partition(states, loss)
    else:
        time_state, time_score = point_partition_of_draws(states)
    found |= {
        "time_state": ("time", time_state),
        "time_state_probability": ("time", _certainty(states, time_state)),
        "pear_time": ((), time_score),
    }
    return xr.Dataset(found)


def _log_rates(chains: Sequence[xr.Dataset]) -> xr.Dataset:
    """Return mean and normal 95 % bands of eta from the moments of the chains."""
    mean = np.mean([one["log_rate_mean"].values for one in chains], axis=0)
    second = [one["log_rate_sd"].values ** 2 + one["log_rate_mean"].values ** 2 for one in chains]
    spread = np.sqrt(np.maximum(np.mean(second, axis=0) - mean**2, 0.0))
    bands = {"mean": mean, "low": mean - 1.96 * spread, "high": mean + 1.96 * spread}
    return xr.Dataset({f"log_rate_{k}": (("unit", "time"), v) for k, v in bands.items()})


def _bouts(states: Ints, trial: Ints, width: float) -> xr.Dataset:
    """Return duration and state of every stretch of one state within a trial."""
    edges = np.flatnonzero((np.diff(states) != 0) | (np.diff(trial) != 0)) + 1
    edges = np.concatenate([[0], edges, [states.size]])
    return xr.Dataset(
        {
            "dwell_time_s": ("bout", np.diff(edges) * width),
            "bout_state": ("bout", states[edges[:-1]]),
        }
    )


def _regions(region: np.ndarray, unit_cluster: Ints) -> xr.Dataset:
    names, index = np.unique(region.astype(str), return_inverse=True)
    table = np.zeros((names.size, int(unit_cluster.max()) + 1), np.int64)
    np.add.at(table, (index, unit_cluster), 1)
    return xr.Dataset(
        {"region_by_cluster": (("region_name", "cluster"), table)}, coords={"region_name": names}
    )


def _latents(chains: Sequence[xr.Dataset], partitions: xr.Dataset, thin: int) -> xr.Dataset:
    """Return bands of the trajectories and eigenvalues of the dynamics."""
    point, point_states = partitions["unit_cluster"].values, partitions["time_state"].values
    labels = np.concatenate([one["cluster_label"].values[::thin] for one in chains]).astype(int)
    states = np.concatenate([one["state_label"].values[::thin] for one in chains]).astype(int)
    joint = np.concatenate([one["log_joint"].values[::thin] for one in chains])
    paths = [draw for one in chains for draw in one["trajectory"].values]
    matrices = [draw for one in chains for draw in one["dynamics_matrix"].values]
    bands, share = aligned_trajectories(labels, paths, joint, point)
    dims = ("cluster", "component", "time")
    names = ("trajectory_mean", "trajectory_low", "trajectory_high")
    found = xr.Dataset({name: (dims, band) for name, band in zip(names, bands, strict=True)})
    found["trajectory_share"] = ("cluster", share)
    return found.merge(eigenvalues(labels, matrices, states, point, point_states))


def _prediction(ready: Prepared, chains: Sequence[xr.Dataset], block: int) -> dict[str, Any]:
    """Return the mean log density of held-out entries and its gain over a mean rate, bits.

    The standard error takes the blocks of bins of a unit, not their bins, as independent.
    """
    names = ("held_out_log_likelihood", "held_out_bits_per_spike", "held_out_bits_per_spike_se")
    if not ready.held.any():
        return dict.fromkeys(names, ((), np.nan))
    own = [np.nan_to_num(one["log_density"].values) for one in chains]  # NaN: never held out
    density = np.logaddexp.reduce(own, axis=0)
    density = density - np.log(len(chains))
    baseline = mean_rate_log_density(ready.problem.counts, ready.counts)
    held, spikes = ready.held, max(float(ready.counts[ready.held].sum()), 1.0)
    gain, error = gain_per_spike(density - baseline, held, spikes, block)
    values = (float(density[held].mean()), gain, error)
    return {name: ((), value) for name, value in zip(names, values, strict=True)}


def _component_first(latent: xr.Dataset) -> xr.Dataset:
    """Return latents with trajectories as (..., component, time)."""
    return latent.assign(trajectory=latent["trajectory"].transpose(..., "component", "time"))


def _groups(ready: Prepared, chains: Sequence[xr.Dataset]) -> dict[str, xr.Dataset]:
    """Return the groups of draws, in arviz's names."""
    most = max(one.sizes["draw_cluster"] for one in chains)

    def stacked(names: Sequence[str]) -> xr.Dataset:
        picked = [one[list(names)].drop_vars("unit", errors="ignore") for one in chains]
        if "draw_cluster" in picked[0].dims:
            picked = [one.pad(draw_cluster=(0, most - one.sizes["draw_cluster"])) for one in picked]
        return xr.concat(picked, "chain", join="exact").drop_attrs()

    strengths = [name for name in STRENGTHS if name in chains[0]]
    checks = stacked([f"check_{name}" for name in CHECKS])
    seen = count_statistics(ready.problem.counts)
    counts = ready.data["counts"].values
    if (ready.counts < 0).any():
        counts = np.where(ready.counts < 0, np.nan, ready.counts)
    observed = xr.Dataset(
        {"counts": (("unit", "time"), counts)}
        | {name: (("unit",) if seen[name].ndim else (), seen[name]) for name in CHECKS}
    )
    if "log_exposure" in chains[0]:
        observed["log_exposure"] = chains[0]["log_exposure"].drop_vars("unit", errors="ignore")
    groups = {
        "posterior": stacked([*POSTERIOR, *strengths]),
        "latent": _component_first(stacked(LATENTS)),
        # Seconds are no draws: as an attribute they leave results of a seed equal bit for bit.
        "sample_stats": stacked(SHARES).assign_attrs(
            time_per_sweep_s=[float(one.attrs.get("time_per_sweep_s", np.nan)) for one in chains]
        ),
        "posterior_predictive": checks.rename(
            {f"check_{name}": name for name in CHECKS} | {"latent_draw": "ppc_draw"}
        ),
        "observed_data": observed,
        "log_likelihood": stacked(["held_out"]),
    }
    if ready.counts.size <= MOST_POINTWISE:
        groups["log_likelihood"]["counts"] = stacked(["log_density"])["log_density"]
    return groups


def _remarks(partitions: xr.Dataset, p: int) -> list[Issue]:
    """Return what the point partitions give cause to say."""
    found, sizes = [], np.bincount(partitions["unit_cluster"].values)
    if (sizes < p).any():
        message = f"{(sizes < p).sum()} clusters have fewer than p = {p} units: the prior decides"
        found.append(Issue("SMALL_CLUSTERS", "model.p", message, "lower `p`", "info"))
    if partitions["time_state"].values.max() == 0:
        message = "all bins are in one state: the activity is stationary or says too little"
        found.append(Issue("ONE_STATE", "time_state", message, "widen `span_s`", "info"))
    return found


def summarise(ready: Prepared, settings: Settings, chains: Sequence[xr.Dataset]) -> xr.DataTree:
    """Gather chains into the result.

    Parameters
    ----------
    ready : Prepared
        Data.
    settings : Settings
        Uses ``loss``, ``model``, ``mcmc``.
    chains : sequence of xarray.Dataset
        From `chain.run_chain`.

    Returns
    -------
    xarray.DataTree
        Summary at the root, draws in groups.
    """
    chains = sorted(chains, key=lambda one: int(one.attrs["chain"]))
    data = ready.data
    partitions = _partitions(chains, settings.loss)
    width = float(data.attrs.get("bin_width_s", np.median(np.diff(data["time"].values))))
    trial = data["trial"].values if "trial" in data else np.zeros(data.sizes["time"], int)
    found = diagnose(chains, partitions["unit_cluster"].values)
    agreement = chain_agreement(chains)
    converged, issues = verdict(found, agreement, chains, settings.model.n_states_max)
    root = xr.merge(
        [
            partitions,
            _log_rates(chains),
            _bouts(partitions["time_state"].values, trial, width),
            _latents(chains, partitions, settings.mcmc.latent_thin),
            found,
            xr.Dataset(_prediction(ready, chains, settings.heldout.block_bins)),
            xr.Dataset({"chain_agreement": (("chain", "chain_2"), agreement)}),
        ]
    )
    region = data["region"].values if "region" in data else np.full(data.sizes["unit"], "")
    root = root.merge(_regions(region, partitions["unit_cluster"].values))
    root = root.assign_coords(
        unit=data["unit"].values.astype(str),
        time=data["time"].values,
        trial=("time", trial),
        region=("unit", region.astype(str)),
    )
    issues += _remarks(partitions, settings.model.p)
    seconds = [float(one.attrs.get("time_per_sweep_s", np.nan)) for one in chains]
    root.attrs = {
        "converged": int(converged),
        "issues": issues_to_json([*ready.issues, *issues]),
        "dropped_units": json.dumps(ready.dropped),
        "bin_width_s": width,
        "time_per_sweep_s": float(np.mean(seconds)),
        "family": settings.model.family,
        "latent_thin": settings.mcmc.latent_thin,
        "loss": settings.loss,
    }
    groups = _groups(ready, chains)
    return xr.DataTree.from_dict({"/": root, **{f"/{k}": v for k, v in groups.items()}})
