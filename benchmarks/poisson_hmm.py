"""A Poisson hidden Markov model that leaves out single entries: what the bi-clustering has to beat.

hmmlearn's model takes whole matrices only. On such a matrix `log_likelihood` is its ``score``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2
from scipy.special import gammaln, logsumexp

__all__ = ["PoissonHmm", "fit_poisson_hmm"]

Floats = NDArray[np.float64]
FLOOR = 0.05  # spikes added to the sums of every state, so that no rate is zero


@dataclass
class PoissonHmm:
    """Rates (n_states, n_units), first-state and transition probabilities."""

    rate: Floats
    first: Floats
    transition: Floats

    def _emission(self, counts: Floats) -> Floats:
        """Return the log density of the seen counts (n_units, n_bins) per bin and state."""
        seen = counts >= 0.0
        y = np.where(seen, counts, 0.0)
        return y.T @ np.log(self.rate).T - seen.T @ self.rate.T - gammaln(y + 1).sum(0)[:, None]

    def smooth(self, counts: Floats) -> tuple[Floats, Floats, float]:
        """Return state probabilities, summed pair probabilities and the log likelihood."""
        emission = self._emission(counts)
        top = emission.max(axis=1)
        weight = np.exp(emission - top[:, None])
        n_bins, n_states = weight.shape
        forward, scale = np.empty_like(weight), np.empty(n_bins)
        ahead = self.first
        for t in range(n_bins):
            forward[t] = ahead * weight[t]
            scale[t] = forward[t].sum()
            forward[t] /= scale[t]
            ahead = forward[t] @ self.transition
        backward, pairs = np.ones_like(weight), np.zeros((n_states, n_states))
        for t in range(n_bins - 2, -1, -1):
            right = weight[t + 1] * backward[t + 1] / scale[t + 1]
            backward[t] = self.transition @ right
            pairs += forward[t][:, None] * self.transition * right
        return forward * backward, pairs, float((np.log(scale) + top).sum())

    def log_likelihood(self, counts: Floats) -> float:
        """Return the log likelihood of the seen counts."""
        return self.smooth(counts)[2]

    def log_density(self, train: Floats, counts: Floats) -> Floats:
        """Return the log density of every count given the counts of `train`."""
        probability = self.smooth(train)[0]
        y = np.maximum(counts, 0.0)[:, :, None]
        single = y * np.log(self.rate.T)[:, None] - self.rate.T[:, None] - gammaln(y + 1)
        return logsumexp(single, b=probability[None], axis=2)


def _fit_once(counts: Floats, n_states: int, rng: np.random.Generator, steps: int) -> PoissonHmm:
    seen = counts >= 0.0
    y = np.where(seen, counts, 0.0)
    mean = y.sum(1) / np.maximum(seen.sum(1), 1)
    filled = np.sqrt(np.where(seen, counts, mean[:, None]))
    labels = kmeans2(filled.T, n_states, minit="++", rng=rng)[1]
    share = 0.8 * np.eye(n_states)[labels] + 0.2 / n_states
    model = PoissonHmm(
        np.ones((n_states, len(y))), np.full(n_states, 1 / n_states),
        0.9 * np.eye(n_states) + 0.1 / n_states,
    )  # fmt: skip
    before = -np.inf
    for _ in range(steps):
        # One pseudo-count at the mean rate of the unit, worth FLOOR bins.
        model.rate = (share.T @ y.T + FLOOR * mean) / (share.T @ seen.T + FLOOR)
        model.rate = np.maximum(model.rate, 1e-6)
        share, pairs, value = model.smooth(counts)
        model.first = share[0]
        model.transition = (pairs + 1e-3) / (pairs + 1e-3).sum(axis=1, keepdims=True)
        if value - before < 1e-3:
            break
        before = value
    return model


def fit_poisson_hmm(
    counts: Floats, most: int, *, seed: int = 0, restarts: int = 3, steps: int = 100
) -> tuple[PoissonHmm, int]:
    """Return the model of the number of states with the least BIC, and that number.

    Parameters
    ----------
    counts : ndarray, shape (n_units, n_bins)
        Counts, -1 where unobserved.
    most : int
        Largest number of states.
    seed, restarts, steps : int
        Random starts per number of states; most EM steps of each.
    """
    rng = np.random.default_rng(seed)
    fits = []
    for k in range(1, most + 1):
        models = [_fit_once(counts, k, rng, steps) for _ in range(restarts if k > 1 else 1)]
        values = [model.log_likelihood(counts) for model in models]
        free = k * len(counts) + k * (k - 1) + k - 1
        best = int(np.argmax(values))
        fits.append((-2 * values[best] + free * np.log(counts.shape[1]), k, models[best]))
    _, k, model = min(fits, key=lambda one: one[:2])
    return model, k
