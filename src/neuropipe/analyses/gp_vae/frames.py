"""A deterministic order, sign and rotation of latents within their groups."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.gp_vae.fitted import Fitted
from neuropipe.analyses.gp_vae.kernels.posterior import Moments, Posterior

__all__ = ["latent_frame", "turn_moments", "variance_explained"]

Float = NDArray[np.float64]
EQUAL = 0.02  # relative spread of length scales that counts as equal
SHUFFLES = 2000


def latent_frame(fitted: Fitted, posterior: Posterior) -> Float:
    """Return the orthonormal map from the model's latents to those of the result, (K, K).

    Latents stay within their group. A group that only linear decoders see and whose length
    scales are equal is rotated to the principal axes of its loadings; others are sorted by what
    they explain. Signs make the largest loading positive.
    """
    model = fitted.model
    frame = np.eye(model.latents)
    mixed = _mlp_latents(fitted)
    for group in fitted.groups.values():
        if not group.size:
            continue
        loading = np.concatenate([one.loading[:, group] for one in model.decoders.values()])
        lengths = model.lengths[group]
        free = not np.intersect1d(group, mixed).size
        same_seen = all(len(set(one.seen[group])) == 1 for one in model.decoders.values())
        if free and same_seen and np.ptp(lengths) <= EQUAL * lengths.mean() and group.size > 1:
            block = np.linalg.svd(loading, full_matrices=True)[2]
        else:
            power = (loading**2).sum(axis=0) * _power(posterior, group)
            block = np.eye(group.size)[np.argsort(-power, kind="stable")]
        turned = loading @ block.T
        peak = turned[np.abs(turned).argmax(axis=0), np.arange(group.size)]
        sign = np.where(peak < 0, -1.0, 1.0)
        frame[np.ix_(group, group)] = sign[:, None] * block
    return frame


def _mlp_latents(fitted: Fitted) -> NDArray[np.intp]:
    if fitted.network is None:
        return np.zeros(0, int)
    places = [fitted.network.places[name] for name in fitted.mlp]
    return np.unique(np.concatenate(places)) if places else np.zeros(0, int)


def _power(posterior: Posterior, group: NDArray[np.intp]) -> Float:
    moments = next(iter(posterior.moments.values()))
    return (moments.mean[..., group] ** 2).mean(axis=(0, 1)) + 1e-12


def turn_moments(frame: Float, moments: Moments) -> Moments:
    """Return moments of the latents of the result."""
    return Moments(moments.mean @ frame.T, frame @ moments.cov @ frame.T)


def variance_explained(
    fitted: Fitted, posterior: Posterior, frame: Float, names: list[str]
) -> Float:
    """Return the share of each modality's predictor variance that each latent explains.

    Parameters
    ----------
    fitted : Fitted
        The model.
    posterior : Posterior
        Of all trials.
    frame : ndarray (K, K)
        `latent_frame`.
    names : list of str
        Modalities, in the order of the rows.

    Returns
    -------
    ndarray (M, K)
        Linear decoders: shares that sum to 1. Multi-layer decoders: half the mean squared change
        of the prediction, relative to its variance, when the latent is taken from another trial
        (the total Sobol index; the sum may pass 1).
    """
    rows = []
    for name in names:
        moments = turn_moments(frame, posterior.moments[name])
        if name in fitted.mlp:
            rows.append(_sobol(fitted, name, moments.mean, frame))
            continue
        loading = fitted.model.decoders[name].loading @ frame.T
        second = (moments.mean**2).mean(axis=(0, 1)) + np.diagonal(
            moments.cov, axis1=2, axis2=3
        ).mean(axis=(0, 1))
        power = (loading**2).sum(axis=0) * second
        rows.append(power / max(power.sum(), 1e-300))
    return np.array(rows)


def _sobol(fitted: Fitted, name: str, latents: Float, frame: Float) -> Float:
    import torch

    assert fitted.network is not None
    rng = np.random.default_rng(0)
    flat = latents.reshape(-1, latents.shape[-1])
    chosen = flat[rng.permutation(len(flat))[:SHUFFLES]]

    def decode(values: Float) -> Float:
        with torch.no_grad():
            inputs = torch.as_tensor(values @ frame, dtype=torch.float32)[None]
            return fitted.network.decoders[name](inputs)[0].numpy().astype(float)  # type: ignore[union-attr]

    base = decode(chosen)
    total = base.var(axis=0).sum()
    shares = np.zeros(frame.shape[0])
    for k in range(frame.shape[0]):
        other = chosen.copy()
        other[:, k] = np.roll(chosen[:, k], 1)
        shares[k] = 0.5 * ((decode(other) - base) ** 2).mean(axis=0).sum() / max(total, 1e-300)
    return shares
