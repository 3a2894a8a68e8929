"""Starting values: smoothed features, their shared and their private principal components."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.gp_vae.kernels.fourier import Circle, basis, prior_covariance, spectrum
from neuropipe.analyses.gp_vae.kernels.linear_model import Decoder, LinearModel, Modality

__all__ = ["initial_model", "seen_by"]

Float = NDArray[np.float64]
GRID_POINTS = 80  # times per trial at which modalities are compared
FEATURE_NOISE = 2.0  # variance of a feature that is not of latents, relative to theirs
SPREAD = 0.7  # SD given to starting latents: below 1, as posterior means shrink


def _features(modality: Modality) -> tuple[Float, Float]:
    """Return roughly normal features (R, T, N), 0 where missing, and offsets (N,)."""
    mask = modality.valid
    count = np.maximum(mask.sum(axis=(0, 1)), 1)
    mean = np.where(mask, modality.values, 0.0).sum(axis=(0, 1)) / count
    if modality.model.counts:
        floor = np.maximum(mean, 0.5 / count)
        features = np.where(mask, modality.values - mean, 0.0) / np.sqrt(floor)
        return features, np.log(floor / modality.bin_width)
    if modality.likelihood == "bernoulli":
        chance = np.clip(mean, 1e-3, 1 - 1e-3)
        features = np.where(mask, modality.values - mean, 0.0)
        return features / np.sqrt(chance * (1 - chance)), np.log(chance / (1 - chance))
    features = np.where(mask, modality.values - mean, 0.0)
    sd = np.sqrt((features**2).sum(axis=(0, 1)) / count)
    return features / np.where(sd > 0, sd, 1.0), mean


def _smooth(
    modality: Modality, features: Float, grid: Float, circle: Circle, length: float
) -> Float:
    """Return features smoothed by the prior at the times of a common grid, (R, G, N)."""
    variance = spectrum(circle.omega, np.array([length]))[0]
    here = basis(modality.times, circle)
    there = basis(grid, circle)
    prior = prior_covariance(modality.times, circle, length)
    weights = np.linalg.solve(
        prior + FEATURE_NOISE * np.eye(len(prior)), (here.T * variance) @ there
    )
    return np.einsum("rtn,tg->rgn", features, weights, optimize=True)


def _components(features: Float, count: int) -> Float:
    """Return the scores of the first principal components, unit variance, (points, count)."""
    centred = features - features.mean(axis=0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    scores = centred @ vectors[:, ::-1][:, :count]
    scores = scores / np.maximum(scores.std(axis=0), 1e-12)
    missing = count - scores.shape[1]
    return np.pad(scores, ((0, 0), (0, missing))) if missing > 0 else scores


def _without(features: Float, scores: Float) -> Float:
    if not scores.shape[1]:
        return features
    return features - scores @ np.linalg.lstsq(scores, features, rcond=None)[0]


def _scores(
    smooth: Mapping[str, Float], groups: Mapping[str, NDArray[np.intp]], count: int
) -> Float:
    """Return starting latents: shared directions across modalities, then private ones.

    The shared ones maximise the summed squared correlation with the leading components of every
    modality (generalised canonical correlation).
    """
    points = len(next(iter(smooth.values())))
    scores = np.zeros((points, count))
    shared = groups["shared"]
    if shared.size:
        if len(smooth) == 1:
            scores[:, shared] = _components(next(iter(smooth.values())), shared.size)
        else:
            whitened = [
                _components(one, min(one.shape[1], shared.size + groups[f"private:{name}"].size))
                for name, one in smooth.items()
            ]
            scores[:, shared] = _components(np.concatenate(whitened, axis=1), shared.size)
    for name, one in smooth.items():
        private = groups.get(f"private:{name}", np.zeros(0, int))
        if private.size:
            scores[:, private] = _components(_without(one, scores[:, shared]), private.size)
    return scores


def initial_model(
    data: Mapping[str, Modality],
    circle: Circle,
    groups: Mapping[str, NDArray[np.intp]],
    rng: np.random.Generator,
    *,
    length: float,
    decays: Mapping[str, float] | None = None,
    spectrum_name: str = "rbf",
    centre: float = 0.0,
    cond: float = 1e8,
    perturb: float = 0.0,
) -> LinearModel:
    """Return a model to start from.

    Parameters
    ----------
    data : mapping
        Modality -> observations of the training trials.
    circle : Circle
        Fourier series.
    groups : mapping
        ``shared`` and ``private:<modality>`` -> latents.
    rng : numpy.random.Generator
        For `perturb`.
    length : float
        Length scale of every latent, seconds.
    decays : mapping, optional
        Modality -> time constant of its calcium kernel, seconds; 0.5 if not given.
    spectrum_name, centre, cond
        As in `LinearModel`.
    perturb : float
        SD of noise added to the starting latents, relative to theirs (restarts).
    """
    n_latents = sum(group.size for group in groups.values())
    smooth, offsets = _on_one_grid(data, circle, length)
    scores = _scores(smooth, groups, n_latents)
    scores = SPREAD * (scores + perturb * rng.standard_normal(scores.shape))
    decoders = {
        name: _first_decoder(
            one, scores, smooth[name], offsets[name],
            seen_by(name, groups, n_latents), (decays or {}).get(name, 0.5),
        )
        for name, one in data.items()
    }  # fmt: skip
    lengths = np.full(n_latents, length)
    return LinearModel(circle, lengths, decoders, spectrum_name, centre, cond)


def _on_one_grid(
    data: Mapping[str, Modality], circle: Circle, length: float
) -> tuple[dict[str, Float], dict[str, Float]]:
    """Return smoothed features (points, N) of all modalities at the same times, and offsets."""
    begin = min(float(one.times[0]) for one in data.values())
    end = max(float(one.times[-1]) for one in data.values())
    most = max(one.times.size for one in data.values())
    grid = np.linspace(begin, end, min(GRID_POINTS, most))
    smooth, offsets = {}, {}
    for name, one in data.items():
        features, offsets[name] = _features(one)
        smooth[name] = _smooth(one, features, grid, circle, length)
        smooth[name] = smooth[name].reshape(-1, features.shape[2])
    return smooth, offsets


def seen_by(name: str, groups: Mapping[str, NDArray[np.intp]], count: int) -> NDArray[np.bool_]:
    """Return which latents a modality sees by its groups, (K,) of bool."""
    seen = np.zeros(count, bool)
    seen[groups["shared"]] = True
    seen[groups.get(f"private:{name}", np.zeros(0, int))] = True
    return seen


def _first_decoder(
    one: Modality, scores: Float, smooth: Float, offset: Float, seen: NDArray[np.bool_],
    decay: float,
) -> Decoder:  # fmt: skip
    """Return loadings by least squares on the starting latents."""
    units = one.values.shape[2]
    loading = np.zeros((units, seen.size))
    gain = np.sqrt(np.maximum(_variance(one), 1e-12))
    fitted = np.linalg.lstsq(scores[:, seen], smooth, rcond=None)[0].T
    loading[:, seen] = fitted * gain[:, None]
    features = 0 if one.regressor is None else one.regressor.shape[2]
    weight = np.zeros((units, features))
    return Decoder(loading, offset, seen, _initial_scale(one), weight, decay)


def _variance(modality: Modality) -> Float:
    """Return the factor from features to the linear predictor, squared."""
    count = np.maximum(modality.valid.sum(axis=(0, 1)), 1)
    mean = np.where(modality.valid, modality.values, 0).sum(axis=(0, 1)) / count
    if modality.model.counts:
        return 1 / np.maximum(mean, 0.5 / count)
    if modality.likelihood == "bernoulli":
        chance = np.clip(mean, 1e-3, 1 - 1e-3)
        return 1 / (chance * (1 - chance))
    return np.where(modality.valid, (modality.values - mean) ** 2, 0).sum(axis=(0, 1)) / count


def _initial_scale(modality: Modality) -> Float:
    if modality.likelihood == "negbin":
        return np.full(modality.values.shape[2], 10.0)
    if modality.model.has_scale:
        return np.maximum(0.7 * _variance(modality), 1e-6)
    return np.ones(modality.values.shape[2])
