"""Posterior of models with multi-layer decoders: Newton for linear modalities, encoders for others.

Linear modalities enter by their own curvature, as in `posterior`; the encoders of the others give
pseudo-observations. What such an encoder says of a latent that others see too counts as a
Student-t observation: frames that look alike at latents far apart (angles that wrap) make it wrong
with confidence, and a normal pseudo-observation would then pull the latent away from what the
other modalities know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from neuropipe.analyses.gp_vae.kernels.likelihoods import STUDENT_DOF
from neuropipe.analyses.gp_vae.kernels.linear_model import (
    Decoder,
    LinearModel,
    Modality,
)
from neuropipe.analyses.gp_vae.kernels.maximise import update_decoder
from neuropipe.analyses.gp_vae.kernels.networks import Moment, Network
from neuropipe.analyses.gp_vae.kernels.posterior import (
    Moments,
    Posterior,
    infer,
    joined,
    views_of,
)
from neuropipe.analyses.gp_vae.kernels.training import tensors

__all__ = ["Pseudo", "encoded_posterior", "fuse", "linear_part", "polish", "pseudo_observations"]

Float = NDArray[np.float64]
ROUNDS, BLOCK = 4, 50


@dataclass(frozen=True)
class Pseudo:
    """What an encoder says of each latent.

    Attributes
    ----------
    centre, precision : ndarray (R, T, K)
        Pseudo-observations; precision 0 where there is none.
    times : ndarray (T,)
        Seconds.
    shared : ndarray (K,) of bool
        Latents that another modality sees as well.
    kernel : str
        Filter between latents and what the decoder takes.
    shift : ndarray (R,), optional
        By how much the samples of a trial lie behind `times`, seconds.
    """

    centre: Float
    precision: Float
    times: Float
    shared: NDArray[np.bool_]
    kernel: str = "delta"
    shift: Float | None = None


def linear_part(network: Network, model: LinearModel, names: list[str]) -> LinearModel:
    """Return the network's linear decoders and length scales as a `LinearModel`.

    Parameters
    ----------
    network : Network
        Trained.
    model : LinearModel
        Its circle, spectrum and the time constants of its decoders are kept.
    names : list of str
        Modalities with linear decoders.
    """
    decoders = {}
    for name in names:
        one = network.decoder(name)
        arrays = {
            key: getattr(one, key).detach().cpu().numpy().astype(float)
            for key in ("loading", "offset", "log_scale", "seen")
        }
        old = model.decoders.get(name)
        weight = np.zeros((len(arrays["offset"]), 0))
        if one.weight is not None:
            weight = one.weight.detach().cpu().numpy().astype(float)
        decoders[name] = Decoder(
            arrays["loading"] * arrays["seen"],
            arrays["offset"],
            arrays["seen"] > 0,
            np.exp(arrays["log_scale"]),
            weight,
            0.5 if old is None else old.decay,
        )
    lengths = np.exp(network.log_length.detach().cpu().numpy().astype(float))
    return replace(model, decoders=decoders, lengths=lengths)


def pseudo_observations(
    network: Network, data: Mapping[str, Modality], names: list[str]
) -> dict[str, Pseudo]:
    """Run the encoders of some modalities.

    Parameters
    ----------
    network : Network
        Trained.
    data : mapping
        Modality -> observations of any trials.
    names : list of str
        Modalities whose encoders are wanted.
    """
    seen = np.stack([np.isin(np.arange(network.latents), network.places[n]) for n in network.names])
    found = {}
    for name in names:
        one, parts = data[name], []
        for start in range(0, len(one.values), BLOCK):
            batch = tensors({name: one.take(slice(start, start + BLOCK))})
            with torch.no_grad():
                potential = network.encode_one(
                    name, batch.values[name], batch.masks[name], batch.view(name)
                )
            parts.append(potential)
        centre = np.concatenate([part.centre.numpy().astype(float) for part in parts])
        precision = np.concatenate([part.precision.numpy().astype(float) for part in parts])
        shared = (seen.sum(axis=0) > 1) & seen[network.names.index(name)]
        found[name] = Pseudo(centre, precision, one.times, shared, one.kernel, one.shift)
    return found


def _as_modality(pseudo: Pseudo, weight: Float) -> Modality:
    # `valid` multiplies likelihood, slope and curvature: here it is the precision.
    valid: Any = pseudo.precision * weight
    return Modality(
        pseudo.centre, valid, pseudo.times, "gaussian", kernel=pseudo.kernel, shift=pseudo.shift
    )


def _weights(pseudo: Pseudo, moments: Moments) -> Float:
    """Return weights of a Student-t scale mixture given the posterior, 1 for private latents."""
    var = np.diagonal(moments.cov, axis1=2, axis2=3)
    squared = (pseudo.centre - moments.mean) ** 2 + var
    weight = (STUDENT_DOF + 1) / (STUDENT_DOF + pseudo.precision * squared)
    return np.where(pseudo.shared, weight, 1.0)


def fuse(
    model: LinearModel,
    data: Mapping[str, Modality],
    pseudo: Mapping[str, Pseudo],
    *,
    rounds: int = ROUNDS,
    steps: int = 8,
    clocks: Mapping[str, Float | Modality] | None = None,
    keep_cov: bool = False,
) -> Posterior:
    """Return the posterior of every trial from all modalities.

    Parameters
    ----------
    model : LinearModel
        Prior and linear decoders.
    data : mapping
        Modality -> observations; those in `model` are used.
    pseudo : mapping
        Modality -> pseudo-observations of its encoder.
    rounds : int
        Re-weightings of pseudo-observations; the first leaves shared latents to the others.
    steps : int
        Newton steps per round.
    clocks, keep_cov
        As in `infer`; moments at the samples of the encoders' modalities come with them.
    """
    linear = {name: data[name] for name in model.decoders}
    if not pseudo:
        return infer(model, linear, clocks=clocks, keep_cov=keep_cov, steps=30)
    count = model.latents
    identity = Decoder(
        np.eye(count), np.zeros(count), np.ones(count, bool), np.ones(count), np.zeros((count, 0))
    )
    names = {f"encoder of {name}": name for name in pseudo}
    wide = replace(model, decoders={**model.decoders, **dict.fromkeys(names, identity)})
    trials = len(next(iter(pseudo.values())).centre)
    alone = np.ones(trials, bool)
    for one in linear.values():
        alone &= ~one.valid.any(axis=(1, 2))
    weights = {
        name: np.where(one.shared & ~alone[:, None, None], 0.0, np.ones_like(one.precision))
        for name, one in pseudo.items()
    }
    found: Posterior | None = None
    for left in range(rounds, -1, -1):
        parts = {key: _as_modality(pseudo[name], weights[name]) for key, name in names.items()}
        found = infer(
            wide, {**linear, **parts}, start=found, steps=steps, tol=1e-4,
            clocks=clocks, keep_cov=keep_cov and not left,
        )  # fmt: skip
        weights = {name: _weights(pseudo[name], found.moments[key]) for key, name in names.items()}
    assert found is not None
    kept = {name: one for name, one in found.moments.items() if name not in names}
    kept |= {name: found.moments[key] for key, name in names.items()}
    return replace(found, moments=kept)


def polish(
    model: LinearModel,
    data: Mapping[str, Modality],
    pseudo: Mapping[str, Pseudo],
    *,
    iterations: int = 3,
) -> LinearModel:
    """Return the model with linear decoders re-estimated under the fused posterior.

    Length scales and the scale of latents stay: the multi-layer decoders depend on them.
    """
    for _ in range(iterations):
        posterior = fuse(model, data, pseudo, rounds=2, steps=3)
        decoders = {
            name: update_decoder(model, name, data[name], posterior)[0] for name in model.decoders
        }
        model = replace(model, decoders=decoders)
    return model


def encoded_posterior(
    network: Network,
    model: LinearModel,
    data: Mapping[str, Modality],
    clocks: Mapping[str, Float | Modality],
) -> Posterior:
    """Return the posterior by encoders alone, independent over latents.

    Parameters
    ----------
    network : Network
        Trained.
    model : LinearModel
        Circle and spectrum; the network's length scales count.
    data : mapping
        Modality -> observations.
    clocks : mapping
        Name -> times at which moments are wanted besides those of the network's modalities.
    """
    omega = network.omega.numpy().astype(float)
    functions = np.flatnonzero(model.circle.omega <= omega.max() * (1 + 1e-6))
    lengths = np.exp(network.log_length.detach().numpy().astype(float))
    views = views_of(replace(model, lengths=lengths), clocks, functions)
    pieces, count = [], len(next(iter(data.values())).values)
    for start in range(0, count, BLOCK):
        part = {name: one.take(slice(start, start + BLOCK)) for name, one in data.items()}
        batch = tensors(part)
        with torch.no_grad():
            sites = network.posterior(network.encode(batch.values, batch.masks, batch.views))
            moments = {
                name: _diagonal(network.moment(sites, name, batch.view(name).shift))
                for name in part
            }
        mean, root = sites.mean.numpy().astype(float), sites.root.numpy().astype(float)
        for name, view in views.items():
            if name not in moments:
                spread = ((root @ view.maps) ** 2).sum(axis=2).transpose(0, 2, 1)
                centre = np.einsum("rkf,kft->rtk", mean, view.maps)
                moments[name] = Moments(centre, spread[..., None] * np.eye(spread.shape[-1]))
        kl = sites.kl.numpy().astype(float)
        pieces.append(Posterior(functions, mean, (root**2).sum(axis=2), kl, moments))
    return joined(pieces)


def _diagonal(moment: Moment) -> Moments:
    mean, var = (one.numpy().astype(float) for one in moment)
    return Moments(mean, var[..., None] * np.eye(var.shape[-1]))
