"""What prediction is compared with: each neuron's mean rate, negative binomial."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.bicluster.kernels.likelihood import log_likelihood_bins

__all__ = ["mean_rate_log_density"]

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
