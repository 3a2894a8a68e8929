"""What prediction is compared with, each neuron's mean rate, and by how much it is better."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.bicluster.kernels.likelihood import log_likelihood_bins

__all__ = ["gain_per_spike", "mean_rate_log_density"]

Floats = NDArray[np.float64]
LARGEST = 1e4


def mean_rate_log_density(train: Floats, counts: Floats) -> Floats:
    """Return the log density of counts under each neuron's negative binomial of constant rate.

    Parameters
    ----------
    train : ndarray, shape (n_units, n_bins)
        Counts that mean and size (by moments) come from, -1 where unobserved.
    counts : ndarray, shape (n_units, n_bins)
        Counts to evaluate, -1 where unobserved.
    """
    seen = train >= 0.0
    number = np.maximum(seen.sum(axis=1), 1)
    mean = (np.where(seen, train, 0.0).sum(axis=1) + 0.5) / number
    variance = (np.where(seen, train - mean[:, None], 0.0) ** 2).sum(axis=1) / number
    size = mean**2 / np.maximum(variance - mean, mean**2 / LARGEST)
    eta = np.broadcast_to(np.log(mean)[:, None], counts.shape).copy()
    found: Floats = log_likelihood_bins(counts, eta, size, False)
    return found


def gain_per_spike(
    gain: Floats, held: NDArray[np.bool_], spikes: float, block: int
) -> tuple[float, float]:
    """Return the summed gain of held-out entries per spike in bits, and its standard error.

    Parameters
    ----------
    gain : ndarray, shape (n_units, n_bins)
        Difference of two log densities, natural.
    held : ndarray of bool, shape (n_units, n_bins)
        Entries that count.
    spikes : float
        Spikes of those.
    block : int
        Bins of a block; blocks of a unit, not their bins, are taken as independent.
    """
    edges = np.arange(0, held.shape[1], block)
    sums = np.add.reduceat(np.where(held, gain, 0.0), edges, axis=1)
    own = sums[np.add.reduceat(held, edges, axis=1).astype(bool)]
    spread = own.std(ddof=1) if own.size > 1 else np.nan
    scale = np.log(2.0) * spikes
    return float(own.sum() / scale), float(spread * np.sqrt(own.size) / scale)
