"""Stage B: a multi-layer decoder learns what known latents and private ones of its own explain.

The latents of the linear modalities stay as they were fitted; an orthonormal rotation of them,
learned through the Cayley transform, decides which direction the decoder shares.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neuropipe.analyses.gp_vae.kernels.networks import Moment, Network, Potential
from neuropipe.analyses.gp_vae.kernels.torch_likelihoods import TORCH_LIKELIHOODS
from neuropipe.analyses.gp_vae.kernels.training import (
    LEAST_STEPS,
    LENGTH_RATE,
    Batch,
    Schedule,
)

__all__ = ["Rotation", "first_rotation", "learn_rotation"]

Float = NDArray[np.float64]
FEATURES, RIDGE, BANDWIDTH = 200, 10.0, 0.7
FRAME_COMPONENTS, CANDIDATES, WARM_EPOCHS, FRAMES_PER_STEP = 20, 24, 6, 256


def _random_features(latents: Float, rng: np.random.Generator) -> Float:
    """Return cosine features whose products approximate a Gaussian kernel, (n, FEATURES)."""
    frequency = rng.standard_normal((latents.shape[1], FEATURES)) / BANDWIDTH
    phase = rng.uniform(0, 2 * np.pi, FEATURES)
    return np.sqrt(2 / FEATURES) * np.cos(latents @ frequency + phase)


def _ridge(latents: Float, frames: Float, rng: np.random.Generator) -> Float:
    """Return the kernel-ridge prediction of frames from latents."""
    features = _random_features(latents, rng)
    features = features - features.mean(axis=0)
    # Features of 200 share the variance of one kernel, so the penalty is on their scale.
    gram = features.T @ features + RIDGE * np.eye(FEATURES) * FEATURES / len(latents)
    return features @ np.linalg.solve(gram, features.T @ frames)


def _orthonormal(count: int, rng: np.random.Generator) -> Float:
    matrix, triangle = np.linalg.qr(rng.standard_normal((count, count)))
    return matrix * np.sign(np.diag(triangle))


def _principal(frames: Float, count: int) -> Float:
    centred = frames - frames.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    return centred @ vectors[:, np.argsort(-values)[:count]]


def first_rotation(
    latents: Float, frames: Float, n_shared: int, n_private: int, rng: np.random.Generator,
    *, given: Float | None = None,
) -> tuple[Float, Float]:  # fmt: skip
    """Return a rotation whose first rows explain the frames best, and starting private latents.

    Parameters
    ----------
    latents : ndarray (n, K)
        Latents of the linear modalities at the times of the frames.
    frames : ndarray (n, N)
        Frames.
    n_shared, n_private : int
        Latents that the decoder shares, and its own.
    rng : numpy.random.Generator
        Candidates and random features.
    given : ndarray (K, K), optional
        Rotation; none: searched.

    Returns
    -------
    ndarray (K, K)
        Orthonormal; rows are the new latents, shared ones first.
    ndarray (n, n_private)
        Leading components of what the shared ones leave, unit variance.
    """
    reduced = _principal(frames, FRAME_COMPONENTS)
    state = int(rng.integers(2**31))
    count = latents.shape[1]

    def unexplained(rotation: Float) -> float:
        # The same features for every candidate, so that they are compared on equal terms.
        fitted = _ridge(latents @ rotation[:n_shared].T, reduced, np.random.default_rng(state))
        return float(((reduced - fitted) ** 2).sum())

    if given is not None:
        candidates = [given]
    elif count == 2 and n_shared == 1:
        angles = np.pi * np.arange(CANDIDATES) / CANDIDATES
        candidates = [np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]]) for a in angles]
    elif n_shared >= count:
        candidates = [np.eye(count)]
    else:
        candidates = [_orthonormal(count, rng) for _ in range(2 * CANDIDATES)]
    best = min(candidates, key=unexplained) if len(candidates) > 1 else candidates[0]
    if not n_private:
        return best, np.zeros((len(latents), 0))
    fitted = _ridge(latents @ best[:n_shared].T, frames, np.random.default_rng(state))
    private = _principal(frames - fitted, n_private)
    return best, private / np.maximum(private.std(axis=0), 1e-12)


class Rotation(nn.Module):
    """Orthonormal matrix ``(I - S)^-1 (I + S) R_0`` with skew ``S``."""

    def __init__(self, start: Float) -> None:
        super().__init__()
        self.register_buffer("start", torch.as_tensor(start, dtype=torch.float32))
        self.skew = nn.Parameter(torch.zeros(len(start), len(start)))

    def forward(self) -> Tensor:
        """Return the matrix, (K, K)."""
        skew = self.skew - self.skew.T
        eye = torch.eye(len(skew), device=skew.device)
        return torch.linalg.solve(eye - skew, eye + skew) @ self.start


def _warm_up(
    network: Network, name: str, latents: Tensor, private: Tensor, frames: Tensor, mask: Tensor,
    seen: tuple[Sequence[int], Sequence[int]], generator: torch.Generator,
    regressor: Tensor | None,
) -> None:  # fmt: skip
    """Regress encoder on, and decoder from, the starting latents."""
    encoder, decoder = network.encoders[name], network.decoder(name)
    places = {int(place): row for row, place in enumerate(network.places[name])}
    shared, own = ([places[k] for k in group] for group in seen)
    full = torch.zeros(len(latents), len(places))
    full[:, shared], full[:, own] = latents, private
    inputs = torch.zeros(len(latents), network.latents)
    inputs[:, torch.as_tensor(network.places[name])] = full
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=3e-3)
    for _ in range(WARM_EPOCHS):
        order = torch.randperm(len(frames), generator=generator)
        for rows in order.split(FRAMES_PER_STEP):  # type: ignore[no-untyped-call]
            noise = 0.1 * torch.randn((len(rows), inputs.shape[1]), generator=generator)
            known = None if regressor is None else regressor[rows]
            predicted = decoder(inputs[rows] + noise.to(inputs), known)
            centre = encoder(frames[rows], mask[rows], known).centre
            error = ((predicted - frames[rows]) ** 2 * mask[rows]).mean() * frames.shape[1]
            loss = error + ((centre - full[rows]) ** 2).mean() * frames.shape[1]
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    with torch.no_grad():
        residual = (decoder(inputs, regressor) - frames) ** 2
        level = residual.mean().clamp_min(1e-8)
        decoder.log_scale.copy_(torch.log(residual.mean(dim=0) * 0.5 + level * 0.5))


def learn_rotation(
    network: Network,
    name: str,
    batch: Batch,
    known: Moment,
    groups: tuple[Sequence[int], Sequence[int]],
    schedule: Schedule,
    rng: np.random.Generator,
    generator: torch.Generator,
    *,
    start: Float | None = None,
) -> tuple[Float, list[dict[str, float]]]:
    """Train encoder, decoder and rotation of one modality on known latents.

    Parameters
    ----------
    network : Network
        Its encoder and decoder of `name` and the length scales of private latents change.
    name : str
        Modality with a multi-layer decoder.
    batch : Batch
        Training trials.
    known : Moment
        Latents of the linear modalities on this modality's clock, (R, T, K_known).
    groups : (sequence, sequence)
        Places among the network's latents of the shared and of the private ones.
    schedule : Schedule
        Epochs, rate and trials per step.
    rng, generator
        Random numbers.
    start : ndarray (K_known, K_known), optional
        Rotation to begin from; none: the best of some candidates.

    Returns
    -------
    ndarray (K_known, K_known)
        The rotation; its first rows are the shared latents.
    list of dict
        Log-likelihood and divergence per epoch.
    """
    shared, own = list(groups[0]), list(groups[1])
    values, mask = batch.values[name], batch.masks[name]
    there = mask.reshape(-1, mask.shape[2]).amax(dim=1) > 0
    flat = known.mean.reshape(-1, known.mean.shape[2])[there]
    frames = values.reshape(-1, values.shape[2])[there]
    start, private = first_rotation(
        flat.numpy().astype(float), frames.numpy().astype(float), len(shared), len(own), rng,
        given=start,
    )  # fmt: skip
    rotation = Rotation(start)
    first = torch.as_tensor(start[: len(shared)], dtype=torch.float32)
    regressor = batch.view(name).regressor
    _warm_up(
        network, name, flat @ first.T, torch.as_tensor(private, dtype=torch.float32), frames,
        mask.reshape(-1, mask.shape[2])[there], (shared, own), generator,
        None if regressor is None else regressor.reshape(-1, regressor.shape[2])[there],
    )  # fmt: skip
    history = _ascend(network, name, batch, known, rotation, (shared, own), schedule, generator)
    return rotation().detach().numpy().astype(float), history


def _ascend(
    network: Network, name: str, batch: Batch, known: Moment, rotation: Rotation,
    groups: tuple[list[int], list[int]], schedule: Schedule, generator: torch.Generator,
) -> list[dict[str, float]]:  # fmt: skip
    """Train the decoder, its encoder and the rotation together."""
    decoder, encoder = network.decoder(name), network.encoders[name]
    per_epoch = -(-batch.trials // schedule.batch_trials)
    slow = [decoder.log_scale, rotation.skew, network.log_length]
    plain = [
        p for p in [*encoder.parameters(), *decoder.parameters()] if p is not decoder.log_scale
    ]
    optimiser = torch.optim.Adam(
        [{"params": plain, "lr": schedule.rate}, {"params": slow, "lr": LENGTH_RATE}]
    )
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, [schedule.rate, LENGTH_RATE],
        total_steps=max(schedule.epochs * per_epoch + 1, LEAST_STEPS), pct_start=0.2,
    )  # fmt: skip
    history = []
    for _ in range(schedule.epochs):
        order, sums = torch.randperm(batch.trials, generator=generator), [0.0, 0.0]
        for part in order.split(schedule.batch_trials):  # type: ignore[no-untyped-call]
            moment = Moment(known.mean[part], known.var[part])
            loglik, kl, gap = _terms(
                network, name, batch.take(part), moment, rotation()[: len(groups[0])], groups,
                generator,
            )  # fmt: skip
            optimiser.zero_grad()
            ((kl - loglik + gap) / len(part)).backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_([*plain, *slow], 1e4)
            optimiser.step()
            cycle.step()
            sums[0] += float(loglik.detach()) / batch.trials
            sums[1] += float(kl.detach()) / batch.trials
        history.append({"total": sums[0] - sums[1], name: sums[0], "kl": sums[1]})
    return history


def _terms(
    network: Network, name: str, batch: Batch, known: Moment, rotation: Tensor,
    groups: tuple[list[int], list[int]], generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Return log-likelihood, divergence and misfit of the encoder on shared latents, summed."""
    (shared, own), view = groups, batch.view(name)
    values, mask, decoder = batch.values[name], batch.masks[name], network.decoder(name)
    rows = {int(place): row for row, place in enumerate(network.places[name])}
    turned = known.mean @ rotation.T
    spread = known.var @ (rotation**2).T
    noise = torch.randn(turned.shape, generator=generator)
    potential = network.encoders[name](values, mask, view.regressor)
    latents = values.new_zeros((*values.shape[:2], network.latents))
    latents[..., shared] = turned + noise * torch.sqrt(spread.clamp_min(1e-10))
    kl = values.new_zeros(len(values))
    if own:
        centre, precision = values.new_zeros(latents.shape), values.new_zeros(latents.shape)
        own_rows = [rows[k] for k in own]
        centre[..., own] = potential.centre[..., own_rows]
        precision[..., own] = potential.precision[..., own_rows]
        sites = network.posterior({name: Potential(centre, precision, view.shift)})
        latents[..., own] = network.sample(sites, name, generator, view.shift)[..., own]
        kl = sites.kl
    eta, scale = decoder(latents, view.regressor), torch.exp(decoder.log_scale)
    expect = TORCH_LIKELIHOODS[network.likelihoods[name]]
    point = expect(values, eta, None, scale, network.widths[name]) * mask
    found = potential.centre[..., [rows[k] for k in shared]]
    gap = ((found - turned.detach()) ** 2).sum() * values.shape[2]
    return point.sum(), kl.sum(), gap
