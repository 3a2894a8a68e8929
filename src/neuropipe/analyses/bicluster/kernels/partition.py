"""Prior of the partition of neurons: mixture of finite mixtures, or Dirichlet process."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp

__all__ = ["log_partition_prior", "log_v_dp", "log_v_mfm", "sample_partition"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
LOG_TAIL = np.log(1e-12)


def log_v_mfm(n_units: int, rho: float, gamma: float) -> Floats:
    """Return log V_N(t) of Miller & Harrison (2018) for t = 0..N + 1, geometric K.

    Parameters
    ----------
    n_units : int
        Number of neurons N.
    rho : float
        ``P(K) = rho (1 - rho)^(K - 1)``.
    gamma : float
        Concentration of the mixture weights.

    Returns
    -------
    ndarray, shape (N + 2,)
        Entry t is ``log sum_{K >= t} K_(t) / (gamma K)^(N) P(K)``; the sum ends when a term and
        all after it add less than 1e-12.

    Examples
    --------
    >>> log_v_mfm(5, 0.2, 1.0)[1:3].round(6).tolist()
    [-6.040877, -6.712485]
    """
    found = np.empty(n_units + 2)
    block = np.arange(256.0)
    for t in range(n_units + 2):
        total, first = -np.inf, float(max(t, 1))
        while True:
            k = first + block
            terms = (
                gammaln(k + 1.0) - gammaln(k - t + 1.0)
                + gammaln(gamma * k) - gammaln(gamma * k + n_units)
                + np.log(rho) + (k - 1.0) * np.log1p(-rho)
            )  # fmt: skip
            total = float(np.logaddexp(total, logsumexp(terms)))
            falling = terms[-1] < terms[-2]
            # Terms fall at least as fast as the geometric law once they fall.
            if falling and terms[-1] - np.log(rho) < total + LOG_TAIL:
                break
            first += block.size
        found[t] = total
    return found


def log_v_dp(n_units: int, alpha: float) -> Floats:
    """Return ``t log alpha - log alpha^(N)`` for t = 0..N + 1."""
    rising = gammaln(alpha + n_units) - gammaln(alpha)
    found: Floats = np.arange(n_units + 2) * np.log(alpha) - rising
    return found


def log_partition_prior(labels: Ints, log_v: Floats, gamma: float) -> float:
    """Return the log prior of the partition: ``log V_N(t) + sum_c log gamma^(|c|)``.

    With ``gamma = 0`` the factors of a Dirichlet process, ``(|c| - 1)!``.
    """
    sizes = np.unique(labels, return_counts=True)[1]
    if gamma == 0.0:
        return float(log_v[sizes.size] + gammaln(sizes).sum())
    return float(log_v[sizes.size] + (gammaln(gamma + sizes) - gammaln(gamma)).sum())


def sample_partition(rng: np.random.Generator, n_units: int, rho: float, gamma: float) -> Ints:
    """Draw labels of N neurons from the mixture of finite mixtures, numbered by appearance."""
    count = int(rng.geometric(rho))
    weights = rng.dirichlet(np.full(count, gamma))
    drawn = rng.choice(count, size=n_units, p=weights)
    _, first, labels = np.unique(drawn, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[labels].astype(np.int64)
