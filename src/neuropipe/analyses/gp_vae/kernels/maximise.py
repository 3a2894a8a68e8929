"""Updates of loadings, noise, temporal kernels and length scales given posteriors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.gp_vae.kernels.fourier import log_spectrum_slope, shifted
from neuropipe.analyses.gp_vae.kernels.likelihoods import Noise
from neuropipe.analyses.gp_vae.kernels.linear_model import (
    Decoder,
    LinearModel,
    Modality,
    chunks,
    mixed_basis,
)
from neuropipe.analyses.gp_vae.kernels.posterior import Moments, Posterior, linear_predictor

__all__ = ["expected_loglik", "update_decay", "update_decoder", "update_lengths"]

Float = NDArray[np.float64]
VALUES_PER_CHUNK = 4e5
SMALLEST_SCALE = 1e-6
LARGEST_MOVE = np.log(1.6)  # of a length scale in one iteration
LEAST_PRECISION = 1.0  # of loadings; a unit with a few spikes has no finite best loading
LARGEST_STEP = 1.0  # of a loading or offset on a log or logit scale in one iteration
DAMPING = 0.5  # loadings move at the same time; whole steps overshoot and alternate


class _Sums(NamedTuple):
    """Sums over trials and times that an update needs."""

    loglik: Float  # (R,)
    slope: Float  # (N, P)
    hessian: Float  # (N, P, P)


def _row_chunks(modality: Modality) -> list[slice]:
    n_trials, n_times, n_units = modality.values.shape
    return list(chunks(n_trials, max(1, int(VALUES_PER_CHUNK // (n_times * n_units)))))


def _design(modality: Modality, moments: Moments, decoder: Decoder) -> tuple[Float, Float]:
    """Return means (R, T, P) and covariances (R, T, K, K) of what multiplies the parameters."""
    seen = np.flatnonzero(decoder.seen)
    mean = moments.mean[..., seen]
    columns = [mean, np.ones((*mean.shape[:2], 1))]
    if modality.regressor is not None:
        columns.append(modality.regressor)
    return np.concatenate(columns, axis=-1), moments.cov[..., seen[:, None], seen[None]]


def _sums(
    modality: Modality, moments: Moments, decoder: Decoder, model: LinearModel, name: str
) -> _Sums:
    """Accumulate expected log-likelihood, its slope and curvature in the parameters."""
    design, cov = _design(modality, moments, decoder)
    mask = modality.valid
    mean, var = linear_predictor(model, name, modality, moments)
    found = modality.model.expect(modality.values, mean, var, model.noise(name, modality))
    constant = modality.model.constant(modality.values)
    loglik = ((found.value + constant) * mask).sum(axis=(1, 2))
    n_latents, size = cov.shape[-1], design.shape[-1]
    flat, spread = design.reshape(-1, size), cov.reshape(-1, n_latents, n_latents)
    pull = (found.slope * mask).reshape(len(flat), -1)
    weight = (found.weight * mask).reshape(len(flat), -1)
    loading = decoder.loading[:, decoder.seen]
    slope = pull.T @ flat
    hessian = np.empty((len(loading), size, size))
    moved = {k: spread[:, k] @ loading.T for k in range(n_latents)}  # (RT, N) each
    columns = [
        flat[:, [p]] + moved[p] if p in moved and modality.model.exponential else flat[:, [p]]
        for p in range(size)
    ]
    for k in range(n_latents):
        slope[:, k] -= np.einsum("tn,tn->n", weight, moved[k])
    for p in range(size):
        left = weight * columns[p]
        for q in range(p, size):
            shared = columns[q].shape[1] == 1
            value = left.T @ flat[:, q] if shared else np.einsum("tn,tn->n", left, columns[q])
            if q < n_latents:
                value = value + weight.T @ spread[:, p, q]
            hessian[:, p, q] = hessian[:, q, p] = value
    return _Sums(loglik, slope, hessian)


def expected_loglik(
    model: LinearModel, data: Mapping[str, Modality], posterior: Posterior
) -> dict[str, Float]:
    """Return the expected log-likelihood of each modality and trial, (R,)."""
    found = {}
    for name, modality in data.items():
        parts = []
        for rows in _row_chunks(modality):
            one, moments = modality.take(rows), _rows(posterior.moments[name], rows)
            mean, var = linear_predictor(model, name, one, moments)
            value = one.model.expect(one.values, mean, var, model.noise(name, one)).value
            parts.append(((value + one.model.constant(one.values)) * one.valid).sum(axis=(1, 2)))
        found[name] = np.concatenate(parts)
    return found


def _rows(moments: Moments, rows: slice) -> Moments:
    return Moments(moments.mean[rows], moments.cov[rows])


def update_decoder(
    model: LinearModel, name: str, modality: Modality, posterior: Posterior, *, steps: int = 1
) -> tuple[Decoder, Float]:
    """Return a decoder after Newton steps on its parameters, and the log-likelihood before.

    Parameters
    ----------
    model : LinearModel
        Current parameters.
    name : str
        Modality.
    modality : Modality
        Its observations.
    posterior : Posterior
        Of the same trials.
    steps : int
        Newton steps; one is exact for normal observations of given noise.

    Returns
    -------
    Decoder
        With new loadings, offsets, regressor weights and noise.
    ndarray (R,)
        Expected log-likelihood of each trial under the old parameters.
    """
    first: Float | None = None
    normal = modality.likelihood == "gaussian"  # one step is exact, however large
    for _ in range(steps):
        decoder = model.decoders[name]
        pieces = [
            _sums(modality.take(rows), _rows(posterior.moments[name], rows), decoder, model, name)
            for rows in _row_chunks(modality)
        ]
        loglik = np.concatenate([piece.loglik for piece in pieces])
        first = loglik if first is None else first
        slope = np.sum([piece.slope for piece in pieces], axis=0)
        hessian = np.sum([piece.hessian for piece in pieces], axis=0)
        decoder = _step(decoder, slope, hessian, np.inf if normal else LARGEST_STEP)
        decoder = replace(decoder, scale=_scale(model, name, modality, posterior, decoder))
        model = replace(model, decoders={**model.decoders, name: decoder})
    assert first is not None
    return model.decoders[name], first


def _step(decoder: Decoder, slope: Float, hessian: Float, cap: float) -> Decoder:
    """Move loadings, offset and regressor weights by one Newton step, none by more than `cap`."""
    seen = np.flatnonzero(decoder.seen)
    size, n_latents = slope.shape[1], seen.size
    ridge = np.zeros(size)
    ridge[:n_latents] = LEAST_PRECISION
    if decoder.precision.size:
        ridge[:n_latents] = np.maximum(decoder.precision[seen], LEAST_PRECISION)
    loading = decoder.loading[:, seen]
    slope = slope.copy()
    slope[:, :n_latents] -= ridge[:n_latents] * loading
    hessian = (
        hessian
        + np.eye(size) * (ridge + 1e-9 * hessian.trace(axis1=1, axis2=2)[:, None])[:, :, None]
    )
    move = np.linalg.solve(hessian, slope[..., None])[..., 0]
    move *= np.minimum(1.0, cap / np.maximum(np.abs(move).max(axis=1, keepdims=True), 1e-300))
    new = decoder.loading.copy()
    new[:, seen] = loading + move[:, :n_latents]
    return replace(
        decoder,
        loading=new,
        offset=decoder.offset + move[:, n_latents],
        weight=decoder.weight + move[:, n_latents + 1 :],
    )


def _per_unit(
    model: LinearModel,
    name: str,
    modality: Modality,
    posterior: Posterior,
    value: Callable[[Modality, Float, Float], Float],
) -> Float:
    """Sum a function of data, mean and variance of the predictor over trials and times, (N,)."""
    total = np.zeros(modality.values.shape[2])
    for rows in _row_chunks(modality):
        one = modality.take(rows)
        mean, var = linear_predictor(model, name, one, _rows(posterior.moments[name], rows))
        total += (value(one, mean, var) * one.valid).sum(axis=(0, 1))
    return total


def _normal_scale(
    model: LinearModel, name: str, modality: Modality, posterior: Posterior, decoder: Decoder
) -> Float:
    def squared(one: Modality, mean: Float, var: Float) -> Float:
        return (one.values - mean) ** 2 + var

    count = np.maximum(modality.valid.sum(axis=(0, 1)), 1)
    total = _per_unit(model, name, modality, posterior, squared)
    return np.maximum(total / count, SMALLEST_SCALE)


def _searched_scale(
    model: LinearModel, name: str, modality: Modality, posterior: Posterior, decoder: Decoder
) -> Float:
    """Move the log of the noise parameter by a Newton step from three evaluations."""
    step, values = 0.1, []
    for shift in (-step, 0.0, step):
        noise = Noise(decoder.scale * np.exp(shift), modality.bin_width)

        def loglik(one: Modality, mean: Float, var: Float, noise: Noise = noise) -> Float:
            return one.model.expect(one.values, mean, var, noise).value

        values.append(_per_unit(model, name, modality, posterior, loglik))
    slope = (values[2] - values[0]) / (2 * step)
    bend = (values[2] - 2 * values[1] + values[0]) / step**2
    move = np.where(bend < 0, -slope / np.minimum(bend, -1e-12), np.sign(slope) * 0.5)
    return np.clip(decoder.scale * np.exp(np.clip(move, -0.7, 0.7)), SMALLEST_SCALE, 1e4)


_SCALES = {"gaussian": _normal_scale, "student_t": _searched_scale, "negbin": _searched_scale}


def _scale(
    model: LinearModel, name: str, modality: Modality, posterior: Posterior, decoder: Decoder
) -> Float:
    if modality.likelihood not in _SCALES:
        return decoder.scale
    model = replace(model, decoders={**model.decoders, name: decoder})
    return _SCALES[modality.likelihood](model, name, modality, posterior, decoder)


def update_lengths(model: LinearModel, posterior: Posterior, bounds: tuple[float, float]) -> Float:
    """Return the length scales after one scoring step of their logarithms.

    At the best posterior the slope of the ELBO in ``log l`` holds the posterior fixed:
    ``0.5 sum_f (d log c_f / d log l) (E[u_f^2] - 1)``. A coefficient of which the data say nothing
    has ``E[u_f^2] = 1`` and drops out; in the expected curvature each counts by the squared share
    ``1 - Var[u_f]`` that the data determine. That is what whitening does for gradient steps: an
    update of ``l`` that lets unobserved coefficients keep their old prior variance does not move.

    Parameters
    ----------
    model : LinearModel
        Current length scales.
    posterior : Posterior
        Under them.
    bounds : (float, float)
        Shortest and longest length scale, seconds.
    """
    omega = model.circle.omega[posterior.functions]
    slope = log_spectrum_slope(omega, model.lengths, model.spectrum, model.centre)
    excess = (posterior.mean**2 + posterior.variance - 1).sum(axis=0)
    known = (np.clip(1 - posterior.variance, 0, 1) ** 2).sum(axis=0)
    gradient = 0.5 * (slope * excess).sum(axis=1)
    curvature = 0.5 * (slope**2 * known).sum(axis=1) + 1e-3
    move = np.clip(DAMPING * gradient / curvature, -LARGEST_MOVE, LARGEST_MOVE)
    return np.clip(model.lengths * np.exp(move), *bounds)


def update_decay(
    model: LinearModel, name: str, modality: Modality, posterior: Posterior, *, step: float = 0.1
) -> float:
    """Return the decay of a calcium kernel after one Newton step of its logarithm.

    The covariance between coefficients is left at its filtered value: the mean carries the slope.
    """
    decoder, values, centre = model.decoders[name], [], posterior.mean
    if modality.shift is not None:
        centre = shifted(centre, model.circle, posterior.functions, modality.shift, 2)
    for shift in (-step, 0.0, step):
        decay = decoder.decay * float(np.exp(shift))
        maps = mixed_basis(model, modality.times, posterior.functions, modality.kernel, decay)
        mean = np.stack([centre[:, k] @ maps[k] for k in range(model.latents)], axis=-1)
        moved = Moments(mean, posterior.moments[name].cov)
        eta, var = linear_predictor(model, name, modality, moved)
        found = modality.model.expect(modality.values, eta, var, model.noise(name, modality))
        values.append(float((found.value * modality.valid).sum()))
    slope = (values[2] - values[0]) / (2 * step)
    bend = (values[2] - 2 * values[1] + values[0]) / step**2
    move = -slope / bend if bend < 0 else np.sign(slope) * step
    steps = np.diff(modality.times)
    shortest = float(np.median(steps)) / 4 if steps.size else 1e-3
    return float(np.clip(decoder.decay * np.exp(np.clip(move, -0.3, 0.3)), shortest, 20.0))
