"""Latents that explain next to nothing are taken from modalities, or dropped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.gp_vae.kernels.em import LinearFit
from neuropipe.analyses.gp_vae.kernels.linear_model import LinearModel, Modality
from neuropipe.analyses.gp_vae.kernels.posterior import Posterior

if TYPE_CHECKING:
    from neuropipe.analyses.gp_vae.kernels.schedule import Plan

__all__ = ["PRUNE_SHARE", "Groups", "Relevant", "linear_shares", "prune", "relevant_groups"]

Float = NDArray[np.float64]
Groups = Mapping[str, NDArray[np.intp]]
PRUNE_SHARE = 0.005
BRIEF = 3  # relevance takes this part of the epochs of stage B


@dataclass(frozen=True)
class Relevant:
    """Groups of a model with multi-layer decoders after relevance determination.

    Attributes
    ----------
    groups : mapping
        ``shared`` and ``private:<modality>`` -> latents.
    start : ndarray or None
        Rotation of the linear model's latents whose first rows are the shared ones.
    dropped : int
        Private latents of multi-layer decoders that explained next to nothing.
    """

    groups: Groups
    start: Float | None
    dropped: int


def linear_shares(model: LinearModel, posterior: Posterior) -> dict[str, Float]:
    """Return each latent's share of the variance of each modality's linear predictor, (K,)."""
    found = {}
    for name, one in model.decoders.items():
        moments = posterior.moments[name]
        second = (moments.mean**2).mean(axis=(0, 1)) + np.diagonal(
            moments.cov, axis1=2, axis2=3
        ).mean(axis=(0, 1))
        power = (one.loading**2).sum(axis=0) * second
        found[name] = power / max(power.sum(), 1e-300)
    return found


def prune(fit: LinearFit, groups: Groups) -> tuple[LinearModel, dict[str, NDArray[np.intp]], int]:
    """Drop latents from modalities in which they explain next to nothing.

    Parameters
    ----------
    fit : LinearFit
        With relevance determination.
    groups : mapping
        ``shared`` and ``private:<modality>`` -> latents.

    Returns
    -------
    LinearModel
        Without the latents that no modality needs.
    dict
        Its groups; a latent that one modality alone needs is private to it.
    int
        Latents dropped.
    """
    model = fit.model
    shares = linear_shares(model, fit.posterior)
    seen = {name: one.seen & (shares[name] >= PRUNE_SHARE) for name, one in model.decoders.items()}
    for name, mask in seen.items():
        if not mask.any():
            seen[name] = shares[name] == shares[name].max()
    used = np.flatnonzero(np.any(list(seen.values()), axis=0))
    dropped = model.latents - used.size
    decoders = {
        name: replace(
            one,
            loading=np.where(seen[name], one.loading, 0.0)[:, used],
            seen=seen[name][used],
            precision=one.precision[used] if one.precision.size else one.precision,
        )
        for name, one in model.decoders.items()
    }
    table = np.stack([seen[name][used] for name in model.decoders])
    found = {"shared": np.flatnonzero(table.sum(axis=0) > 1) if len(table) > 1
             else np.arange(used.size)}  # fmt: skip
    if len(table) > 1:
        for row, name in enumerate(model.decoders):
            found[f"private:{name}"] = np.flatnonzero(table[row] & (table.sum(axis=0) == 1))
    return replace(model, lengths=model.lengths[used], decoders=decoders), found, dropped


def relevant_groups(
    model: LinearModel,
    data: Mapping[str, Modality],
    groups: Groups,
    private: Mapping[str, int],
    plan: Plan,
    seed: int,
) -> Relevant:
    """Return which latents multi-layer decoders share and how many of their own they need.

    Parameters
    ----------
    model : LinearModel
        Of the linear modalities, pruned.
    data : mapping
        Modality -> training observations, multi-layer ones included.
    groups : mapping
        Of `model`.
    private : mapping
        Multi-layer modality -> private latents to start from.
    plan : Plan
        Epochs and rates of training.
    seed : int
        Of every random number.
    """
    from neuropipe.analyses.gp_vae.kernels.schedule import private_relevance
    from neuropipe.threads import one_torch_thread

    found, start = _shared_groups(model, data, groups, list(private), seed)
    wide = _behind(found, private, model.latents)
    brief = replace(plan, image_epochs=max(1, plan.image_epochs // BRIEF))
    with one_torch_thread():
        shares = private_relevance(model, data, wide, list(private), brief, seed, start)
    needed = {name: int((one >= PRUNE_SHARE).sum()) for name, one in shares.items()}
    dropped = sum(private.values()) - sum(needed.values())
    return Relevant(_behind(found, needed, model.latents), start, dropped)


def _behind(groups: Groups, private: Mapping[str, int], first: int) -> dict[str, NDArray[np.intp]]:
    """Return groups with private latents of multi-layer decoders behind all others."""
    found = dict(groups)
    for name, size in private.items():
        found[f"private:{name}"] = np.arange(first, first + size)
        first += size
    return found


def _shared_groups(
    model: LinearModel, data: Mapping[str, Modality], groups: Groups, mlp: list[str], seed: int
) -> tuple[dict[str, NDArray[np.intp]], Float | None]:
    """Return the linear model's groups and, if one modality made it, the rotation to them."""
    from neuropipe.analyses.gp_vae.kernels.relevance import shared_directions
    from neuropipe.analyses.gp_vae.kernels.schedule import known_latents

    if len(model.decoders) > 1:
        return dict(groups), None
    (linear,) = model.decoders
    best: tuple[int, Float] | None = None
    for name in mlp:
        latents, _ = known_latents(model, data, name)
        there = data[name].valid.any(axis=2)
        directions = shared_directions(
            latents[there], data[name].values[there], np.nonzero(there)[0], seed
        )
        count = directions.needed(PRUNE_SHARE)
        if best is None or count > best[0]:
            best = count, directions.rotation
    assert best is not None
    every = np.arange(model.latents)
    return {"shared": every[: best[0]], f"private:{linear}": every[best[0] :]}, best[1]
