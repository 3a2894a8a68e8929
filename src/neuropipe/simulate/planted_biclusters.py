"""Spike counts of planted clusters of neurons with trajectories that switch between two states."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

__all__ = ["planted_biclusters"]

Floats = NDArray[np.float64]
BURN_IN = 500


def _rotation(rng: np.random.Generator, theta: float, size: int) -> Floats:
    """Return a rotation by theta in a random plane, the other axes fixed."""
    turn = np.eye(size)
    turn[:2, :2] = [[np.cos(theta), -np.sin(theta)], [np.sin(theta), np.cos(theta)]]
    basis = np.linalg.qr(rng.standard_normal((size, size)))[0]
    return basis @ turn @ basis.T


def _states(rng: np.random.Generator, n_bins: int, mean_dur: float) -> NDArray[np.int64]:
    """Return alternating states 0 and 1 with durations 1 + Poisson, one rate per state."""
    rates = rng.gamma(100.0, mean_dur / 100.0, 2)
    runs: list[int] = []
    while len(runs) < n_bins:
        for state in (0, 1):
            runs += [state] * (1 + int(rng.poisson(rates[state])))
    return np.array(runs[:n_bins])


def _trajectory(
    rng: np.random.Generator, dynamics: Floats, states: NDArray[np.int64], q: float
) -> Floats:
    size = dynamics.shape[1]
    x = np.empty((states.size, size))
    x[0] = rng.standard_normal(size)
    for t in range(1, states.size):
        x[t] = dynamics[states[t]] @ x[t - 1] + np.sqrt(q) * rng.standard_normal(size)
    return x


def planted_biclusters(
    seed: int = 0,
    *,
    n_per: int = 10,
    n_clusters: int = 3,
    p: int = 2,
    T: int = 500,  # noqa: N803 - the symbol of the method
    r: float = 10.0,
    family: str = "negbin",
    a_rest: float = 0.01,
    rho_osc: float = 1.01,
    theta: float = np.pi / 20,
    q: float = 0.01,
    mean_dur: float = 50.0,
    sd_delta: float = 0.5,
    sd_c: float = 0.5,
) -> tuple[xr.Dataset, xr.Dataset]:
    """Simulate counts of clusters of neurons, with the constants of Wei (arXiv 2309.02213).

    Parameters
    ----------
    seed : int
        Seed.
    n_per, n_clusters : int
        Neurons per cluster; clusters.
    p, T : int
        Latent factors; bins kept after a burn-in of 500.
    r : float
        Dispersion.
    family : {"negbin", "poisson"}
        Distribution of counts.
    a_rest, rho_osc, theta : float
        Dynamics: ``a_rest I`` in state 0, ``rho_osc`` times a rotation by `theta` in state 1.
    q : float
        Variance of the noise.
    mean_dur : float
        Mean bins per bout.
    sd_delta, sd_c : float
        Standard deviations of baselines and loadings.

    Returns
    -------
    data : xarray.Dataset
        ``counts(unit, time)``, ``valid``, ``trial``, ``region``.
    truth : xarray.Dataset
        ``unit_cluster``, ``time_state``, ``log_rate``, ``trajectory``, ``loading``, ``baseline``,
        ``dispersion``, and ``dynamics_matrix``, ``dynamics_offset`` in the frame of the centred
        and rotated trajectories.

    Examples
    --------
    >>> data, truth = planted_biclusters(0, n_per=3, T=40)
    >>> data["counts"].shape
    (9, 40)
    """
    rng = np.random.default_rng(np.random.SeedSequence([int(seed), 2309]))
    size, n_units = p + 1, n_per * n_clusters
    states = _states(rng, T + BURN_IN, mean_dur)
    labels = np.repeat(np.arange(n_clusters), n_per)
    loading = rng.normal(0.0, sd_c, (n_units, p))
    baseline = rng.normal(0.0, sd_delta, n_units)
    paths = np.empty((n_clusters, T, size))
    matrices, offsets = np.empty((n_clusters, 2, size, size)), np.empty((n_clusters, 2, size))
    for j in range(n_clusters):
        oscillation = rho_osc * _rotation(rng, theta, size)
        dynamics = np.stack([a_rest * np.eye(size), oscillation])
        x = _trajectory(rng, dynamics, states, q)[BURN_IN:]
        centre = x.mean(axis=0)
        x -= centre
        _, _, axes = np.linalg.svd(x[:, 1:], full_matrices=False)
        x[:, 1:] = x[:, 1:] @ axes.T
        loading[labels == j] = loading[labels == j] @ axes.T
        paths[j] = x
        frame = np.eye(size)
        frame[1:, 1:] = axes
        matrices[j] = frame @ dynamics @ frame.T
        offsets[j] = (dynamics @ centre - centre) @ frame.T
    eta = baseline[:, None] + paths[labels, :, 0]
    eta += np.einsum("ip,itp->it", loading, paths[labels, :, 1:])
    rate = np.exp(eta)
    if family == "negbin":
        rate = rng.gamma(r, rate / r)
    counts = rng.poisson(rate)
    width = 0.5
    data = xr.Dataset(
        {"counts": (("unit", "time"), counts), "valid": (("unit", "time"), counts >= 0)},
        coords={
            "unit": [f"u{i:03d}" for i in range(n_units)],
            "time": (np.arange(T) + 0.5) * width,
            "trial": ("time", np.zeros(T, np.int64)),
            "region": ("unit", [f"region-{label}" for label in labels]),
        },
        attrs={"bin_width_s": width},
    )
    truth = xr.Dataset(
        {
            "unit_cluster": ("unit", labels),
            "time_state": ("time", states[BURN_IN:]),
            "log_rate": (("unit", "time"), eta),
            "trajectory": (("cluster", "time", "component"), paths),
            "dynamics_matrix": (("cluster", "state", "component", "component_in"), matrices),
            "dynamics_offset": (("cluster", "state", "component"), offsets),
            "loading": (("unit", "latent"), loading),
            "baseline": ("unit", baseline),
            "dispersion": ("unit", np.full(n_units, r)),
        }
    )
    return data, truth
