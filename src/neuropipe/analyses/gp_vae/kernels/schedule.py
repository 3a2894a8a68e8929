"""The training schedule A-B-C of models with multi-layer decoders.

A: linear modalities alone. B: decoders of frames on the frozen latents (`image_stage`). C: the
rotation found in B is absorbed, encoders are fitted to the decoders, then everything is trained
together. Plain joint training lets the modality with most channels take the shared latents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from neuropipe.analyses.gp_vae.kernels.em import LinearFit
from neuropipe.analyses.gp_vae.kernels.image_stage import learn_rotation
from neuropipe.analyses.gp_vae.kernels.linear_model import LinearModel, Modality
from neuropipe.analyses.gp_vae.kernels.networks import Moment, Network
from neuropipe.analyses.gp_vae.kernels.posterior import infer
from neuropipe.analyses.gp_vae.kernels.relevance import private_shares
from neuropipe.analyses.gp_vae.kernels.start import seen_by
from neuropipe.analyses.gp_vae.kernels.training import Batch, Schedule, tensors, train

__all__ = [
    "Plan",
    "candidates_of",
    "fit_amortized",
    "known_latents",
    "network_of",
    "private_relevance",
]

Float = NDArray[np.float64]
MARGIN = 1.5  # length scales may shrink by this factor before the basis is too small


@dataclass(frozen=True)
class Plan:
    """Epochs and rates of the three phases and what they share.

    Attributes
    ----------
    image_epochs, encoder_epochs, joint_epochs : int
        Of phase B, of the encoders and of everything together.
    batch_trials : int
        Trials per step.
    channel_dropout, modality_dropout : float
        As in `Schedule`.
    omega : float or None
        Weight of frames in the joint phase; None: units of linear modalities per pixel, at most 1.
    patience : int
        Epochs without a better validation ELBO before the joint phase ends.
    warmup : int
        Epochs of encoder training over which the divergence gets its full weight.
    """

    image_epochs: int = 100
    encoder_epochs: int = 15
    joint_epochs: int = 30
    batch_trials: int = 20
    channel_dropout: float = 0.2
    modality_dropout: float = 0.3
    omega: float | None = None
    patience: int = 10
    warmup: int = 0


def network_of(
    linear: LinearModel,
    data: Mapping[str, Modality],
    groups: Mapping[str, NDArray[np.intp]],
    mlp: Sequence[str],
    lengths: Float,
) -> Network:
    """Return a network with the decoders of a fitted linear model and new encoders.

    Parameters
    ----------
    linear : LinearModel
        Of the modalities not in `mlp`, latents in the network's order.
    data : mapping
        Modality -> training observations.
    groups : mapping
        ``shared`` and ``private:<modality>`` -> latents.
    mlp : sequence of str
        Modalities with multi-layer decoders.
    lengths : ndarray (K,)
        Length scale of every latent, seconds.
    """
    count = sum(group.size for group in groups.values())
    masks = {name: seen_by(name, groups, count) for name in data}
    for name, one in linear.decoders.items():
        # Pruning may have left a latent to some of several linear modalities.
        masks[name][: one.seen.size] &= one.seen
    shortest = float(lengths.min()) / MARGIN
    largest = np.sqrt(2 * np.log(linear.cond)) / shortest
    functions = np.flatnonzero(linear.circle.omega <= largest)
    decays = {name: one.decay for name, one in linear.decoders.items()}
    network = Network(data, linear.circle, functions, lengths, masks, mlp, decays=decays)
    set_linear(network, linear)
    return network


def set_linear(network: Network, linear: LinearModel) -> None:
    """Copy loadings, offsets and noise of a linear model into the network's decoders."""
    with torch.no_grad():
        for name, one in linear.decoders.items():
            decoder = network.decoder(name)
            decoder.loading.zero_()
            decoder.loading[:, : one.loading.shape[1]] = torch.as_tensor(one.loading).float()
            decoder.offset.copy_(torch.as_tensor(one.offset))
            decoder.log_scale.copy_(torch.log(torch.as_tensor(one.scale)))
            if decoder.weight is not None:
                decoder.weight.copy_(torch.as_tensor(one.weight))


def _turned(linear: LinearModel, rotation: Float, free: NDArray[np.intp]) -> LinearModel:
    """Absorb a rotation of some latents in the loadings; these then have one length scale."""
    decoders = {
        name: replace(one, loading=one.loading @ rotation.T)
        for name, one in linear.decoders.items()
    }
    lengths = linear.lengths.copy()
    if free.size:
        lengths[free] = np.exp(np.log(lengths[free]).mean())
    return replace(linear, decoders=decoders, lengths=lengths)


def known_latents(
    linear: LinearModel, data: Mapping[str, Modality], name: str
) -> tuple[Float, Float]:
    """Return mean and variance (R, T, K) of a linear model's latents at a modality's samples."""
    parts = {key: data[key] for key in linear.decoders}
    moments = infer(linear, parts, clocks={"frames": data[name]}).moments["frames"]
    return moments.mean, np.diagonal(moments.cov, axis1=2, axis2=3).copy()


def candidates_of(linear: LinearModel, groups: Mapping[str, NDArray[np.intp]]) -> NDArray[np.intp]:
    """Return the linear model's latents that other modalities may share, in any rotation.

    One linear modality does not tell its private latents from shared ones; several do.
    """
    alone = len(linear.decoders) == 1
    return np.arange(linear.latents) if alone else groups["shared"]


def _phase_b(
    network: Network, model: LinearModel, data: Mapping[str, Modality], batch: Batch,
    groups: Mapping[str, NDArray[np.intp]], mlp: Sequence[str], plan: Plan,
    rng: np.random.Generator, generator: torch.Generator, start: Float | None,
) -> LinearModel:  # fmt: skip
    """Fit multi-layer decoders to known latents; return the model turned as they found best."""
    images = Schedule(plan.image_epochs, 3e-3, plan.batch_trials)
    free = candidates_of(model, groups)
    for name in mlp:
        mean, var = known_latents(model, data, name)
        known = Moment(*(torch.as_tensor(one[..., free]).float() for one in (mean, var)))
        own = groups.get(f"private:{name}", np.zeros(0, int))
        places = (groups["shared"].tolist(), own.tolist())
        found, _ = learn_rotation(
            network, name, batch, known, places, images, rng, generator, start=start
        )
        rotation = np.eye(model.latents)
        rotation[np.ix_(free, free)] = found
        model = _turned(model, rotation, free)
        set_linear(network, model)
        with torch.no_grad():
            network.log_length[: model.latents] = torch.log(torch.as_tensor(model.lengths)).float()
        start = None  # the next modality finds the latents turned
    return model


def private_relevance(
    linear: LinearModel, data: Mapping[str, Modality], groups: Mapping[str, NDArray[np.intp]],
    mlp: Sequence[str], plan: Plan, seed: int, start: Float | None,
) -> dict[str, Float]:  # fmt: skip
    """Return what each private latent of multi-layer decoders explains after stage B alone.

    Parameters
    ----------
    linear, data, groups, mlp, plan, seed, start
        As in `fit_amortized`.
    """
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    network, batch = _first_network(linear, data, groups, mlp), tensors(data)
    model = _phase_b(
        network, linear, data, batch, groups, mlp, plan, np.random.default_rng(seed), generator,
        start,
    )  # fmt: skip
    found = {}
    for name in mlp:
        mean, var = known_latents(model, data, name)
        parts = (torch.as_tensor(one[..., groups["shared"]]).float() for one in (mean, var))
        places = (groups["shared"].tolist(), groups[f"private:{name}"].tolist())
        found[name] = private_shares(network, name, batch, Moment(*parts), places)
    return found


def _first_network(
    model: LinearModel, data: Mapping[str, Modality], groups: Mapping[str, NDArray[np.intp]],
    mlp: Sequence[str],
) -> Network:  # fmt: skip
    """Return an untrained network; latents of multi-layer decoders get the common length scale."""
    count = sum(group.size for group in groups.values())
    common = float(np.exp(np.log(model.lengths).mean()))
    lengths = np.concatenate([model.lengths, np.full(count - model.latents, common)])
    return network_of(model, data, groups, mlp, lengths)


def fit_amortized(
    linear: LinearFit,
    data: Mapping[str, Modality],
    validation: Mapping[str, Modality],
    groups: Mapping[str, NDArray[np.intp]],
    mlp: Sequence[str],
    plan: Plan,
    seed: int,
    *,
    start: Float | None = None,
    device: str = "cpu",
    resume: dict[str, Any] | None = None,
    save: Callable[[dict[str, Any]], None] | None = None,
) -> tuple[Network, list[dict[str, float]]]:
    """Run phases B and C on a fit of the linear modalities.

    Parameters
    ----------
    linear : LinearFit
        Phase A; its latents are the shared and the private ones of linear modalities, in the
        order of `groups`, with those of `mlp` modalities behind them.
    data, validation : mapping
        Modality -> observations of the training and of the validation trials.
    groups, mlp, plan
        Latents by group, modalities with multi-layer decoders, epochs and rates.
    seed : int
        Of every random number.
    start : ndarray, optional
        Rotation of the latents that may be shared to begin phase B from; none: searched.
    device : str
        Torch device.
    resume : dict, optional
        State of a joint phase that was cut off, as `save` got it.
    save : callable, optional
        Called after every epoch of the joint phase.

    Returns
    -------
    Network
        Trained.
    list of dict
        Terms of the objective per epoch of the joint phase.
    """
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    batch, held = tensors(data), tensors(validation)
    network = _first_network(linear.model, data, groups, mlp)
    if resume is None:
        rng = np.random.default_rng(seed)
        _phase_b(network, linear.model, data, batch, groups, mlp, plan, rng, generator, start)
        frozen = ("decoders", "log_length", *(f"encoders.{name}." for name in mlp))
        train(network, batch, _encoder_schedule(plan, data, mlp), generator, frozen=frozen)
    if device != "cpu":
        network = network.to(device)
        batch, held = (one.map(lambda tensor: tensor.to(device)) for one in (batch, held))
    history = train(
        network, batch, _joint_schedule(plan, data, mlp), generator,
        validation=held if held.trials else None, resume=resume, save=save,
    )  # fmt: skip
    return network.to("cpu"), history


def _encoder_schedule(plan: Plan, data: Mapping[str, Modality], mlp: Sequence[str]) -> Schedule:
    """Return how encoders of linear modalities learn what their decoders imply."""
    return Schedule(
        plan.encoder_epochs, 5e-3, plan.batch_trials, warmup=min(plan.warmup, plan.encoder_epochs),
        channel_dropout=plan.channel_dropout,
        likelihoods=[name for name in data if name not in mlp],
    )  # fmt: skip


def _joint_schedule(plan: Plan, data: Mapping[str, Modality], mlp: Sequence[str]) -> Schedule:
    """Return how everything is trained together."""
    return Schedule(
        plan.joint_epochs, 1e-3, plan.batch_trials,
        omega={name: _omega(plan, data, mlp, name) for name in mlp},
        channel_dropout=plan.channel_dropout,
        modality_dropout=plan.modality_dropout,
        patience=plan.patience,
    )  # fmt: skip


def _omega(plan: Plan, data: Mapping[str, Modality], mlp: Sequence[str], name: str) -> float:
    if plan.omega is not None:
        return plan.omega
    units = sum(one.values.shape[2] for key, one in data.items() if key not in mlp)
    return min(1.0, units / data[name].values.shape[2]) if units else 1.0
