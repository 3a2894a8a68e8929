"""Convergence of Markov chains: rank-normalised split R-hat and effective sample sizes.

After Vehtari, Gelman, Simpson, Carpenter & Bürkner (2021), Bayesian Analysis 16, 667-718.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.fft import irfft, next_fast_len, rfft
from scipy.special import ndtri
from scipy.stats import rankdata

__all__ = ["ess_bulk", "ess_tail", "rhat_rank"]

Floats = NDArray[np.float64]


def _split(draws: ArrayLike) -> Floats:
    """Return the halves of all chains as chains, (2 n_chains, n_draws // 2)."""
    values = np.asarray(draws, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] < 4:
        raise ValueError(f"draws: expected (n_chains, n_draws >= 4), found {values.shape}")
    half = values.shape[1] // 2
    return np.concatenate([values[:, :half], values[:, -half:]])


def _rank_normalise(values: Floats) -> Floats:
    ranks = rankdata(values, method="average").reshape(values.shape)
    found: Floats = ndtri((ranks - 0.375) / (values.size + 0.25))
    return found


def _rhat(chains: Floats) -> float:
    length = chains.shape[1]
    between = length * chains.mean(axis=1).var(ddof=1)
    if not np.ptp(chains, axis=1).any():
        return 1.0 if np.ptp(chains) == 0.0 else np.inf
    within = chains.var(axis=1, ddof=1).mean()
    return float(np.sqrt((between / within + length - 1) / length))


def rhat_rank(draws: ArrayLike) -> float:
    """Return the rank-normalised split R-hat, the larger of location and scale.

    Parameters
    ----------
    draws : array_like, shape (n_chains, n_draws)
        At least four draws per chain.

    Returns
    -------
    float
        1 for chains that agree, also for a quantity that never varies; infinite if each chain
        holds a constant of its own; NaN if a draw is not finite.
    """
    chains = _split(draws)
    if not np.isfinite(chains).all():
        return np.nan
    folded = np.abs(chains - np.median(chains))
    return max(_rhat(_rank_normalise(chains)), _rhat(_rank_normalise(folded)))


def _autocovariance(chains: Floats) -> Floats:
    length = chains.shape[1]
    centred = chains - chains.mean(axis=1, keepdims=True)
    spectrum = rfft(centred, n=next_fast_len(2 * length), axis=1)
    found: Floats = irfft(np.abs(spectrum) ** 2, n=next_fast_len(2 * length), axis=1)
    return found[:, :length] / length


def _ess(chains: Floats) -> float:
    """Return the effective sample size by Geyer's initial monotone sequence."""
    count, length = chains.shape
    if not np.isfinite(chains).all():
        return np.nan
    if np.ptp(chains) == 0.0:
        return float(chains.size)
    covariance = _autocovariance(chains)
    within = covariance[:, 0].mean() * length / (length - 1)
    total = within * (length - 1) / length
    if count > 1:
        total += chains.mean(axis=1).var(ddof=1)
    rho = 1.0 - (within - covariance.mean(axis=0) * length / (length - 1)) / total
    rho[0] = 1.0
    pairs = rho[: length // 2 * 2].reshape(-1, 2).sum(axis=1)
    negative = np.flatnonzero(pairs <= 0)
    last = int(negative[0]) if negative.size else pairs.size
    pairs = np.minimum.accumulate(pairs[:last])
    tail = max(rho[2 * last], 0.0) if 2 * last < length else 0.0
    time = max(-1.0 + 2.0 * pairs.sum() + tail, 1.0 / np.log10(chains.size))
    return float(chains.size / time)


def ess_bulk(draws: ArrayLike) -> float:
    """Return the effective sample size of the bulk, (n_chains, n_draws) -> number."""
    chains = _split(draws)
    return _ess(_rank_normalise(chains)) if np.isfinite(chains).all() else np.nan


def ess_tail(draws: ArrayLike) -> float:
    """Return the smaller effective sample size of the 5 % and 95 % quantiles."""
    chains = _split(draws)
    if not np.isfinite(chains).all():
        return np.nan
    edges = np.quantile(chains, [0.05, 0.95])
    return min(_ess((chains <= edge).astype(np.float64)) for edge in edges)
