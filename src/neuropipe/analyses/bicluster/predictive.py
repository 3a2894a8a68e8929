"""Counts drawn from the posterior of a result, beside those that were seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuropipe.analyses.bicluster.kernels.likelihood import CLIP
from neuropipe.analyses.bicluster.records import CHECKS, count_statistics
from neuropipe.errors import DataError
from neuropipe.seeds import stage_generator

__all__ = ["posterior_predictive"]

Floats = NDArray[np.float64]
MOST_KEPT = 5e7  # drawn counts held at once


def posterior_predictive(
    result: xr.DataTree, counts: Any = None, n: int = 200, *, seed: int = 0
) -> xr.Dataset:
    """Compare statistics of counts with those of counts drawn from the posterior.

    Parameters
    ----------
    result : xarray.DataTree
        From `fit` or `summarize`.
    counts : array, shape (n_units, n_bins), optional
        What to compare with, NaN or negative where unobserved; those of the result if not given.
        The draws miss the same entries.
    n : int
        Data sets to draw, spread evenly over the draws with trajectories of all chains; more than
        these use them again with new counts.
    seed : int
        Of the counts.

    Returns
    -------
    xarray.Dataset
        Per statistic ``fano``, ``isi0_fraction``, ``lag1_corr``, ``pairwise_corr`` (of each unit)
        and ``pop_var`` (one number): itself (sample[, unit]), ``<name>_data`` ([unit]), and
        ``<name>_tail`` ([unit]), the share of samples not below the data, near 0 or 1 where the
        model fails. ``counts_mean``, ``counts_low``, ``counts_high`` (unit, time): mean and 2.5
        and 97.5 % quantiles of the drawn counts, if n times entries is at most 5e7.

    Raises
    ------
    DataError
        If the counts have another shape than those of the result.

    Notes
    -----
    Gelman, Meng & Stern (1996), Stat Sinica 6, 733-807.
    """
    seen = result["observed_data/counts"].values if counts is None else np.asarray(counts)
    seen = np.nan_to_num(np.asarray(seen, dtype=np.float64), nan=-1.0)
    shape = (result.sizes["unit"], result.sizes["time"])
    if seen.shape != shape:
        raise DataError(f"counts: shape {seen.shape}; expected units x bins of the result, {shape}")
    if n < 1:
        raise DataError(f"n: {n} data sets; expected one or more")
    rng, picks = stage_generator(seed, "predictive"), _picks(result, n)
    keep = n * seen.size <= MOST_KEPT
    drawn: list[Floats] = []
    found: dict[str, list[Floats]] = {name: [] for name in CHECKS}
    for chain, latent_draw in picks:
        replica = np.where(seen >= 0.0, _replica(result, chain, latent_draw, rng), -1.0)
        for name, value in count_statistics(replica).items():
            found[name].append(value)
        if keep:
            drawn.append(replica)
    return _compared(found, count_statistics(seen), drawn).assign_coords(
        unit=result["unit"].values, time=result["time"].values
    )


def _picks(result: xr.DataTree, n: int) -> list[tuple[int, int]]:
    """Return chain and latent draw of each data set, evenly spread and reused if need be."""
    chains, draws = result["latent/trajectory"].shape[:2]
    pairs = [(chain, draw) for draw in range(draws) for chain in range(chains)]
    place = np.linspace(0, len(pairs) - 1, n).round().astype(int)
    return [pairs[k] for k in place]


def log_rates(result: xr.DataTree, chain: int, latent_draw: int) -> Floats:
    """Return the log rates (n_units, n_bins) of one draw with trajectories."""
    draw = latent_draw * int(result.attrs["latent_thin"])
    posterior = {
        name: result[f"posterior/{name}"].values[chain, draw]
        for name in ("cluster_label", "baseline", "loading")
    }
    paths = result["latent/trajectory"].isel(chain=chain, latent_draw=latent_draw)
    x = paths.transpose("draw_cluster", "component", "time").values[posterior["cluster_label"]]
    eta = posterior["baseline"][:, None] + x[:, 0]
    eta = eta + np.einsum("ip,ipt->it", posterior["loading"], x[:, 1:])
    if "log_exposure" in result["observed_data"]:
        eta = eta + result["observed_data/log_exposure"].values
    return np.asarray(eta, dtype=np.float64)


def _replica(result: xr.DataTree, chain: int, latent_draw: int, rng: np.random.Generator) -> Floats:
    rate = np.exp(np.clip(log_rates(result, chain, latent_draw), -CLIP, CLIP))
    if result.attrs["family"] == "negbin":
        draw = latent_draw * int(result.attrs["latent_thin"])
        size = result["posterior/dispersion"].values[chain, draw].astype(np.float64)[:, None]
        rate = rng.gamma(np.broadcast_to(size, rate.shape), rate / size)
    return rng.poisson(rate).astype(np.float64)


def _compared(
    found: dict[str, list[Floats]], seen: dict[str, Floats], drawn: list[Floats]
) -> xr.Dataset:
    values: dict[str, Any] = {}
    for name, samples in found.items():
        stack = np.array(samples)
        dims = ("unit",) if stack.ndim == 2 else ()
        known = np.isfinite(stack)
        above = np.where(known, stack >= seen[name], False).sum(axis=0)
        tail = above / np.maximum(known.sum(axis=0), 1)
        values[name] = (("sample", *dims), stack)
        values[f"{name}_data"] = (dims, seen[name])
        values[f"{name}_tail"] = (dims, np.where(np.isfinite(seen[name]), tail, np.nan))
    if drawn:
        stack = np.array(drawn, dtype=np.float32)
        low, high = np.quantile(stack, [0.025, 0.975], axis=0)
        bands = {"mean": stack.mean(axis=0), "low": low, "high": high}
        values |= {f"counts_{name}": (("unit", "time"), band) for name, band in bands.items()}
    return xr.Dataset(values)
