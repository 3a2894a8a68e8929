"""One loop of gradient ascent on the ELBO of a network, with dropout of channels and modalities."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuropipe.analyses.gp_vae.kernels.linear_model import Modality
from neuropipe.analyses.gp_vae.kernels.networks import PLAIN, Network, View

__all__ = ["Batch", "Schedule", "elbo_terms", "evaluate", "tensors", "train"]

CLIP = 1e4
LENGTH_RATE = 3e-2
LEAST_STEPS = 6  # of a cycle, whose rise takes a fifth: with fewer it would have no step


@dataclass(frozen=True)
class Batch:
    """Values and masks (1 observed, 0 not) of all modalities as tensors, (R, T, N) each.

    `views` holds shifts in time and nuisance regressors of the modalities that have some.
    """

    values: Mapping[str, Tensor]
    masks: Mapping[str, Tensor]
    views: Mapping[str, View] = field(default_factory=dict)

    def take(self, trials: Tensor | NDArray[np.intp]) -> Batch:
        """Return some trials."""
        index = torch.as_tensor(trials, device=next(iter(self.values.values())).device)
        return self.map(lambda one: one[index])

    def map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """Return the batch with every tensor changed."""
        return Batch(
            {name: change(one) for name, one in self.values.items()},
            {name: change(one) for name, one in self.masks.items()},
            {
                name: View(*(None if part is None else change(part) for part in view))
                for name, view in self.views.items()
            },
        )

    def view(self, name: str) -> View:
        """Return shifts and regressors of a modality."""
        return self.views.get(name, PLAIN)

    @property
    def trials(self) -> int:
        """Number of trials."""
        return len(next(iter(self.values.values())))


@dataclass(frozen=True)
class Schedule:
    """How to train.

    Attributes
    ----------
    epochs, rate, batch_trials
        Passes over the data, peak learning rate (one cycle), trials per step.
    omega : mapping
        Modality -> weight of its log-likelihood.
    warmup : int
        Epochs over which the weight of the divergence rises from 0 to 1.
    channel_dropout : float
        Share of channels hidden from the encoders of linear modalities.
    modality_dropout : float
        Share of trials in which one modality is hidden from the encoders.
    likelihoods : sequence of str
        Modalities in the objective; empty: all.
    patience : int
        Epochs without a better validation ELBO before training ends; 0: never.
    """

    epochs: int
    rate: float
    batch_trials: int = 20
    omega: Mapping[str, float] = field(default_factory=dict)
    warmup: int = 0
    channel_dropout: float = 0.0
    modality_dropout: float = 0.0
    likelihoods: Sequence[str] = ()
    patience: int = 0


def tensors(data: Mapping[str, Modality], device: str = "cpu") -> Batch:
    """Return observations as float32 tensors, 0 where missing."""
    values, masks, views = {}, {}, {}
    for name, one in data.items():
        clean = np.where(one.valid, one.values, 0).astype(np.float32)
        values[name] = torch.as_tensor(clean, device=device)
        masks[name] = torch.as_tensor(one.valid.astype(np.float32), device=device)
        known = [
            None if part is None else torch.as_tensor(part.astype(np.float32), device=device)
            for part in (one.shift, one.regressor)
        ]
        if any(part is not None for part in known):
            views[name] = View(*known)
    return Batch(values, masks, views)


def _hidden(
    network: Network, batch: Batch, schedule: Schedule, generator: torch.Generator
) -> dict[str, Tensor]:
    """Return the masks that the encoders get: some channels and some modalities hidden."""
    masks = dict(batch.masks)
    if schedule.channel_dropout > 0:
        for name in network.names:
            if name in network.mlp:
                continue
            mask = masks[name]
            share = (
                schedule.channel_dropout * 2 * torch.rand((len(mask), 1, 1), generator=generator)
            )
            kept = torch.rand((len(mask), 1, mask.shape[2]), generator=generator) >= share
            masks[name] = mask * kept.to(mask)
    names = [
        name for name in network.names if not schedule.likelihoods or name in schedule.likelihoods
    ]
    if schedule.modality_dropout > 0 and len(names) > 1:
        chance = torch.rand(batch.trials, generator=generator) < schedule.modality_dropout
        which = torch.randint(len(names), (batch.trials,), generator=generator)
        for place, name in enumerate(names):
            kept = ~(chance & (which == place))
            masks[name] = masks[name] * kept[:, None, None].to(masks[name])
    return masks


def elbo_terms(
    network: Network,
    batch: Batch,
    masks: Mapping[str, Tensor],
    generator: torch.Generator,
    names: Sequence[str],
    samples: int = 1,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return divergence and log-likelihoods of each trial, (B,) each."""
    values = {name: batch.values[name] for name in names}
    sites = network.posterior(network.encode(values, masks, batch.views))
    terms = {
        name: network.loglik(
            name, batch.values[name], batch.masks[name], sites, generator, samples, batch.view(name)
        )
        for name in names
    }
    if any(term.shape != sites.kl.shape for term in terms.values()):
        raise ValueError("terms of the ELBO must have one value per trial")
    return sites.kl, terms


def evaluate(
    network: Network, batch: Batch, generator: torch.Generator, *, samples: int = 4, size: int = 50
) -> dict[str, float]:
    """Return the true ELBO per trial and its terms, nothing hidden."""
    sums: dict[str, float] = {}
    with torch.no_grad():
        for start in range(0, batch.trials, size):
            part = batch.take(np.arange(start, min(start + size, batch.trials)))
            kl, terms = elbo_terms(network, part, part.masks, generator, network.names, samples)
            found = {"kl": kl.sum(), **{name: one.sum() for name, one in terms.items()}}
            for name, value in found.items():
                sums[name] = sums.get(name, 0.0) + float(value) / batch.trials
    return {"total": sum(sums.values()) - 2 * sums["kl"], **sums}


def _optimiser(
    network: Network, schedule: Schedule, steps: int, frozen: Sequence[str]
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    special: list[torch.nn.Parameter] = []
    plain: list[torch.nn.Parameter] = []
    for name, parameter in network.named_parameters():
        if any(name.startswith(prefix) for prefix in frozen):
            continue
        slow = name == "log_length" or name.endswith("log_scale")
        (special if slow else plain).append(parameter)
    groups: list[dict[str, Any]] = [{"params": plain, "lr": schedule.rate}]
    if special:
        groups.append({"params": special, "lr": LENGTH_RATE})
    optimiser = torch.optim.Adam(groups)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimiser,
        max_lr=[schedule.rate, LENGTH_RATE][: len(groups)],
        total_steps=max(steps, LEAST_STEPS),
        pct_start=0.2,
    )
    return optimiser, cycle


@dataclass
class _Progress:
    """What a training run remembers between epochs."""

    epoch: int = 0
    best: float = -np.inf
    waited: int = 0
    kept: dict[str, Tensor] | None = None
    history: list[dict[str, float]] = field(default_factory=list)

    def compare(self, value: float, network: Network) -> None:
        """Keep the parameters if the validation ELBO is the best so far."""
        if value > self.best:
            self.best, self.waited = value, 0
            self.kept = {name: one.detach().clone() for name, one in network.state_dict().items()}
        else:
            self.waited += 1


def _state(
    progress: _Progress,
    network: Network,
    optimiser: torch.optim.Optimizer,
    cycle: torch.optim.lr_scheduler.LRScheduler,
    generator: torch.Generator,
) -> dict[str, Any]:
    schedule = {k: v for k, v in cycle.state_dict().items() if isinstance(v, int | float | list)}
    return {
        "progress": dict(vars(progress)),
        "network": network.state_dict(),
        "optimiser": optimiser.state_dict(),
        "cycle": schedule,
        "generator": generator.get_state(),
    }


def _restore(
    state: dict[str, Any],
    network: Network,
    optimiser: torch.optim.Optimizer,
    cycle: torch.optim.lr_scheduler.LRScheduler,
    generator: torch.Generator,
) -> _Progress:
    network.load_state_dict(state["network"])
    optimiser.load_state_dict(state["optimiser"])
    cycle.load_state_dict(state["cycle"])
    generator.set_state(state["generator"])
    return _Progress(**state["progress"])


def train(
    network: Network,
    batch: Batch,
    schedule: Schedule,
    generator: torch.Generator,
    *,
    frozen: Sequence[str] = (),
    validation: Batch | None = None,
    resume: dict[str, Any] | None = None,
    save: Callable[[dict[str, Any]], None] | None = None,
) -> list[dict[str, float]]:
    """Train in place; return the terms of the objective per epoch.

    Parameters
    ----------
    network : Network
        Changed in place; the parameters of the best validation ELBO are kept.
    batch : Batch
        Training trials.
    schedule : Schedule
        Epochs, rates and dropout.
    generator : torch.Generator
        Order of trials, dropout and samples.
    frozen : sequence of str
        Parameters whose names begin so stay as they are.
    validation : Batch, optional
        Trials for early stopping.
    resume : dict, optional
        State from which to go on, as `save` got it.
    save : callable, optional
        Called after every epoch with everything that the next depends on.
    """
    per_epoch = -(-batch.trials // schedule.batch_trials)
    optimiser, cycle = _optimiser(network, schedule, schedule.epochs * per_epoch, frozen)
    progress = _Progress()
    if resume is not None:
        progress = _restore(resume, network, optimiser, cycle, generator)
    for epoch in range(progress.epoch, schedule.epochs):
        row = _epoch(network, batch, schedule, generator, optimiser, cycle, epoch)
        if validation is not None:
            row["validation"] = evaluate(network, validation, generator, samples=1)["total"]
            progress.compare(row["validation"], network)
        progress.history.append(row)
        progress.epoch = epoch + 1
        if save is not None:
            save(_state(progress, network, optimiser, cycle, generator))
        if schedule.patience and progress.waited >= schedule.patience:
            break
    if progress.kept is not None:
        network.load_state_dict(progress.kept)
    return progress.history


def _epoch(
    network: Network, batch: Batch, schedule: Schedule, generator: torch.Generator,
    optimiser: torch.optim.Optimizer, cycle: torch.optim.lr_scheduler.LRScheduler, epoch: int,
) -> dict[str, float]:  # fmt: skip
    """Take every trial once; return the terms of the ELBO per trial."""
    names = list(schedule.likelihoods) or network.names
    trained = [p for group in optimiser.param_groups for p in group["params"]]
    order = torch.randperm(batch.trials, generator=generator)
    beta = min(1.0, (epoch + 1) / schedule.warmup) if schedule.warmup else 1.0
    sums: dict[str, float] = {}
    for start in range(0, batch.trials, schedule.batch_trials):
        part = batch.take(order[start : start + schedule.batch_trials])
        masks = _hidden(network, part, schedule, generator)
        kl, terms = elbo_terms(network, part, masks, generator, names)
        objective = -beta * kl.sum()
        for name, term in terms.items():
            objective = objective + schedule.omega.get(name, 1.0) * term.sum()
            sums[name] = sums.get(name, 0.0) + float(term.detach().sum()) / batch.trials
        sums["kl"] = sums.get("kl", 0.0) + float(kl.detach().sum()) / batch.trials
        optimiser.zero_grad()
        (-objective / part.trials).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trained, CLIP)
        optimiser.step()
        cycle.step()
    return {"total": sum(sums.values()) - 2 * sums["kl"], **sums}
