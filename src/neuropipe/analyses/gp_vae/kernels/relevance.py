"""How many latents a multi-layer decoder needs: shared ones by directions that matter, then own.

The decoder is no matrix whose columns could be pruned. Directions of known latents in which frames
change are the eigenvectors of the average outer product of gradients of a kernel regression, whose
metric they become in the next round (Radhakrishnan et al. 2024, Science 383:1461); their number is
chosen by prediction of left-out trials.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from neuropipe.analyses.gp_vae.kernels.networks import Moment, Network, Potential
from neuropipe.analyses.gp_vae.kernels.training import Batch

__all__ = ["Directions", "private_shares", "shared_directions"]

Float = NDArray[np.float64]
FEATURES, RIDGE, BANDWIDTH = 300, 1e-2, 0.7
ROUNDS, FOLDS, COMPONENTS, MOST_POINTS = 3, 3, 20, 6000


class Directions(NamedTuple):
    """Directions of known latents, the most telling first.

    Attributes
    ----------
    rotation : ndarray (K, K)
        Orthonormal, one direction per row.
    explained : ndarray (K + 1,)
        Share of the frames' variance in left-out trials explained by the first 0, 1, .. K.
    """

    rotation: Float
    explained: Float

    def needed(self, share: float) -> int:
        """Return the fewest directions that explain all but a share of what can be explained."""
        best = float(self.explained.max())
        return int(np.flatnonzero(self.explained >= best - share * max(best, 1.0))[0])


class _Kernel:
    """Kernel regression by random features ``sqrt(2/n) cos(z M^{1/2} w + b)``."""

    def __init__(self, metric: Float, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.frequency = metric @ rng.standard_normal((len(metric), FEATURES)) / BANDWIDTH
        self.phase = rng.uniform(0, 2 * np.pi, FEATURES)

    def features(self, latents: Float) -> Float:
        """Return features, (n, FEATURES)."""
        return np.sqrt(2 / FEATURES) * np.cos(latents @ self.frequency + self.phase)

    def fit(self, latents: Float, frames: Float) -> tuple[Float, Float]:
        """Return centres of the features and ridge weights (FEATURES, N)."""
        features = self.features(latents)
        centre = features.mean(axis=0)
        features = features - centre
        gram = features.T @ features / len(latents)
        ridge = RIDGE * np.trace(gram) / FEATURES * np.eye(FEATURES)
        return centre, np.linalg.solve(gram + ridge, features.T @ frames / len(latents))

    def gradient_outer(self, latents: Float, weights: Float) -> Float:
        """Return the average outer product of the gradients of the regression, (K, K)."""
        slope = -np.sqrt(2 / FEATURES) * np.sin(latents @ self.frequency + self.phase)
        # Gradient of output n at z: sum_f slope_f w_fn frequency_:f.
        weighted = (slope.T @ slope / len(latents)) * (weights @ weights.T)
        return self.frequency @ weighted @ self.frequency.T


def _reduced(frames: Float) -> Float:
    centred = frames - frames.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    return centred @ vectors[:, np.argsort(-values)[:COMPONENTS]]


def _left_out(latents: Float, frames: Float, trial: NDArray[np.intp], seed: int) -> float:
    """Return the share of variance explained in trials left out."""
    error = 0.0
    for fold in range(FOLDS):
        test = trial % FOLDS == fold
        kernel = _Kernel(np.eye(latents.shape[1]), seed)
        mean = frames[~test].mean(axis=0)
        centre, weights = kernel.fit(latents[~test], frames[~test] - mean)
        predicted = (kernel.features(latents[test]) - centre) @ weights + mean
        error += float(((frames[test] - predicted) ** 2).sum())
    return 1 - error / float(((frames - frames.mean(axis=0)) ** 2).sum())


def shared_directions(
    latents: Float, frames: Float, trial: NDArray[np.intp], seed: int
) -> Directions:
    """Return the directions of latents in which frames change.

    Parameters
    ----------
    latents : ndarray (n, K)
        Known latents at the times of the frames.
    frames : ndarray (n, N)
        Frames.
    trial : ndarray (n,)
        Trial of each, for left-out prediction.
    seed : int
        Of random features and of the points that are used.
    """
    chosen = np.random.default_rng(seed).permutation(len(latents))[:MOST_POINTS]
    latents, frames, trial = latents[chosen], _reduced(frames)[chosen], trial[chosen]
    trial = np.unique(trial, return_inverse=True)[1]
    count = latents.shape[1]
    metric, rotation = np.eye(count) / np.sqrt(count), np.eye(count)
    for _ in range(ROUNDS):
        kernel = _Kernel(metric, seed)
        _, weights = kernel.fit(latents, frames - frames.mean(axis=0))
        outer = kernel.gradient_outer(latents, weights)
        values, vectors = np.linalg.eigh(outer)
        values = np.maximum(values[::-1], 0) / max(float(values[-1]), 1e-300)
        rotation = vectors[:, ::-1].T.copy()
        metric = (rotation.T * np.sqrt(values)) @ rotation
    explained = [0.0]
    for size in range(1, count + 1):
        explained.append(_left_out(latents @ rotation[:size].T, frames, trial, seed))
    return Directions(rotation, np.array(explained))


def private_shares(
    network: Network, name: str, batch: Batch, known: Moment,
    groups: tuple[Sequence[int], Sequence[int]],
) -> Float:  # fmt: skip
    """Return how much of a decoder's variance each of its private latents explains.

    Parameters
    ----------
    network : Network
        After stage B.
    name : str
        Modality with a multi-layer decoder.
    batch : Batch
        Training trials.
    known : Moment
        Shared latents at its samples.
    groups : (sequence, sequence)
        Places of the shared and of the private latents.

    Returns
    -------
    ndarray (n_private,)
        Half the mean squared change of the prediction when a latent is taken from another trial,
        relative to the prediction's variance (total Sobol index).
    """
    (shared, own), view = (list(one) for one in groups), batch.view(name)
    values, mask, decoder = batch.values[name], batch.masks[name], network.decoder(name)
    rows = {int(place): row for row, place in enumerate(network.places[name])}
    with torch.no_grad():
        potential = network.encoders[name](values, mask, view.regressor)
        latents = values.new_zeros((*values.shape[:2], network.latents))
        centre, precision = torch.zeros_like(latents), torch.zeros_like(latents)
        centre[..., own] = potential.centre[..., [rows[k] for k in own]]
        precision[..., own] = potential.precision[..., [rows[k] for k in own]]
        sites = network.posterior({name: Potential(centre, precision, view.shift)})
        latents[..., shared] = known.mean[..., : len(shared)]
        latents[..., own] = network.moment(sites, name, view.shift).mean[..., own]
        seen = mask.amax(dim=2) > 0
        flat = latents[seen]
        base = decoder(flat)
        total = base.var(dim=0, unbiased=False).sum().clamp_min(1e-12)
        shares = []
        for place in own:
            other = flat.clone()
            other[:, place] = flat[:, place].roll(len(flat) // 2)
            shares.append(float(0.5 * ((decoder(other) - base) ** 2).mean(dim=0).sum() / total))
    return np.array(shares)
