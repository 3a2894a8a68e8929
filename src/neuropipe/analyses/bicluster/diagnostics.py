"""Did the chains agree? Diagnostics, the verdict, and what to tell."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuropipe.analyses.bicluster.kernels.point_partition import point_partition
from neuropipe.errors import Issue
from neuropipe.stats.chain_diagnostics import ess_bulk, ess_tail, rhat_rank
from neuropipe.stats.clustering_scores import adjusted_rand_score

__all__ = ["DECIDING", "RHAT", "chain_agreement", "cluster_norms", "diagnose", "verdict"]

DECIDING = ("log_joint", "n_clusters", "n_states")
FURTHER = ("log_likelihood_total", "dispersion_mean", "log_rate_norm")
RHAT, ESS, AGREEMENT, FULL = 1.05, 100.0, 0.8, 0.05
MOST_CLUSTERS = 4


def _draws(chains: Sequence[xr.Dataset], name: str) -> NDArray[np.float64]:
    if name == "dispersion_mean":
        return np.array([np.log(one["dispersion"].values).mean(axis=1) for one in chains])
    if name == "log_rate_norm":
        return _norms(chains, slice(None))
    return np.array([one[name].values for one in chains], dtype=np.float64)


def _norms(chains: Sequence[xr.Dataset], units: Any) -> NDArray[np.float64]:
    """Return the root mean square over units and bins of the centred log rates, per draw."""
    spread = [one["log_rate_spread"].values[:, units].astype(np.float64) for one in chains]
    return np.array([np.sqrt((one**2).mean(axis=1)) for one in spread])


def cluster_norms(
    chains: Sequence[xr.Dataset], unit_cluster: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """Return the norm of the log rates of each of the largest point clusters, per draw.

    Averages over fixed sets of units, which no relabelling changes.
    """
    shown = range(min(int(unit_cluster.max()) + 1, MOST_CLUSTERS))
    return {f"log_rate_norm_{k}": _norms(chains, unit_cluster == k) for k in shown}


def diagnose(chains: Sequence[xr.Dataset], unit_cluster: NDArray[np.int64]) -> xr.Dataset:
    """Return R-hat and effective sample sizes of the summary quantities, dim ``quantity``.

    Parameters
    ----------
    chains : sequence of xarray.Dataset
        Draws.
    unit_cluster : ndarray of int, shape (n_units,)
        Point partition; the norm of the log rates is looked at in each of its largest clusters.
    """
    values = {name: _draws(chains, name) for name in (*DECIDING, *FURTHER)}
    values |= cluster_norms(chains, unit_cluster)
    return xr.Dataset(
        {
            "rhat": ("quantity", np.array([rhat_rank(one) for one in values.values()])),
            "ess_bulk": ("quantity", np.array([ess_bulk(one) for one in values.values()])),
            "ess_tail": ("quantity", np.array([ess_tail(one) for one in values.values()])),
        },
        coords={"quantity": list(values)},
    )


def chain_agreement(chains: Sequence[xr.Dataset]) -> NDArray[np.float64]:
    """Return the adjusted Rand index of the point partitions of each pair of chains."""
    points = [point_partition(one["cluster_label"].values.astype(np.int64))[0] for one in chains]
    found = np.eye(len(points))
    for a, b in combinations(range(len(points)), 2):
        found[a, b] = found[b, a] = adjusted_rand_score(points[a], points[b])
    return found


def verdict(
    found: xr.Dataset, agreement: NDArray[np.float64], chains: Sequence[xr.Dataset], n_states: int
) -> tuple[bool, list[Issue]]:
    """Return whether the chains converged, and the issues."""
    deciding = found.sel(quantity=list(DECIDING))
    reasons = []
    if len(chains) < 2:
        reasons.append("one chain cannot be compared with another")
    for name in DECIDING:
        rhat, ess = (float(deciding[key].sel(quantity=name)) for key in ("rhat", "ess_bulk"))
        if not rhat < RHAT:
            reasons.append(f"R-hat of {name} is {rhat:.2f} (wanted: below {RHAT})")
        if not ess > ESS:
            reasons.append(f"effective sample size of {name} is {ess:.0f} (wanted: over {ESS:.0f})")
    if agreement.min() <= AGREEMENT:
        reasons.append(
            f"point partitions of two chains agree with an adjusted Rand index of "
            f"{agreement.min():.2f} (wanted: over {AGREEMENT})"
        )
    issues = []
    if reasons:
        issues.append(
            Issue("NOT_CONVERGED", "mcmc", "; ".join(reasons), "raise mcmc.warmup and mcmc.draws")
        )
    full = np.mean([one["n_states"].values == n_states for one in chains])
    if full > FULL:
        issues.append(
            Issue(
                "ALL_STATES_USED",
                "model.n_states_max",
                f"all {n_states} states are in use in {100 * full:.0f} % of the draws",
                "raise model.n_states_max",
            )
        )
    return not reasons, issues
