"""One fit: sizes of groups, the way of inference, phases, pruning of latents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.gp_vae.checkpoint import Checkpoint, signature_of
from neuropipe.analyses.gp_vae.fitted import Fitted
from neuropipe.analyses.gp_vae.kernels.em import LinearFit, fit_linear
from neuropipe.analyses.gp_vae.kernels.start import initial_model
from neuropipe.analyses.gp_vae.prepare import Prepared
from neuropipe.analyses.gp_vae.pruning import Groups, prune, relevant_groups
from neuropipe.analyses.gp_vae.spec import AUTO_GROUPS, GroupSizes, Settings
from neuropipe.errors import ConfigError, DataError, Issue
from neuropipe.seeds import stage_generator

if TYPE_CHECKING:
    from neuropipe.analyses.gp_vae.kernels.schedule import Plan

__all__ = ["Fit", "fit_one", "group_sizes", "inference_of"]

Float = NDArray[np.float64]
PERTURB = 0.4  # of the starting latents of restarts after the first
LINEAR_ITERATIONS, RELEVANCE_ITERATIONS = 100, 25
PHASES = (60, 15, 30)


@dataclass(frozen=True)
class Fit:
    """A fitted model and how the fit went.

    Attributes
    ----------
    fitted : Fitted
        The model.
    history : ndarray (n_epochs, n_terms)
        Objective per trial and epoch: total, kl, loglik of each modality.
    converged : bool
        Whether the objective came to rest.
    issues : tuple of Issue
        What a reader should know.
    device : str
        Where networks were trained; linear models are fitted on the CPU.
    """

    fitted: Fitted
    history: Float
    converged: bool
    issues: tuple[Issue, ...]
    device: str = "cpu"


def inference_of(settings: Settings, prepared: Prepared) -> str:
    """Return the posterior family, checked against the modalities.

    Raises
    ------
    ConfigError
        If a family is asked for that the modalities do not allow.
    """
    normal = all(one.likelihood == "gaussian" for one in prepared.data.values())
    if prepared.mlp:
        if settings.inference in ("exact", "laplace", "svi"):
            raise ConfigError(
                f"inference: {settings.inference} needs linear decoders, but {prepared.mlp[0]} has "
                "an mlp; write amortized"
            )
        if not prepared.linear:
            raise ConfigError(
                f"modalities: {prepared.mlp[0]} has a multi-layer decoder and no linear modality "
                "stands beside it; add one, or set its decoder to linear"
            )
        if settings.prior.spectrum != "rbf":
            raise ConfigError("prior.spectrum: multi-layer decoders need rbf")
        return "amortized"
    if settings.inference == "exact" and not normal:
        raise ConfigError("inference: exact needs normal observations; write laplace")
    if settings.inference == "auto":
        return "exact" if normal else "laplace"
    return settings.inference


def group_sizes(settings: Settings, latents: int, prepared: Prepared) -> dict[str, int]:
    """Return the number of latents of each group, in order: shared, linear, multi-layer.

    Raises
    ------
    ConfigError
        If the modalities and ``latents`` do not go together.
    """
    names = [*prepared.linear, *prepared.mlp]
    if isinstance(settings.latents, GroupSizes):
        shared, private = settings.latents.shared, settings.latents.private
    elif len(names) == 1:
        units = prepared.data[names[0]].values.shape[2]
        return {"shared": min(latents, units) if settings.latents == "auto" else latents}
    elif settings.latents == "auto":
        shared, private = AUTO_GROUPS if settings.relevance or not prepared.mlp else (1, 1)
    else:
        raise ConfigError(
            f"latents: {settings.latents} with {len(names)} modalities; write "
            "`latents: {shared: 1, private: 1}` or `auto`"
        )
    if len(names) == 1:
        return {"shared": shared + private}
    return {"shared": shared} | {f"private:{name}": private for name in names}


def _groups(sizes: Mapping[str, int]) -> dict[str, NDArray[np.intp]]:
    found, first = {}, 0
    for name, size in sizes.items():
        found[name] = np.arange(first, first + size)
        first += size
    return found


def _check_memory(prepared: Prepared, latents: int, limit: float) -> None:
    trials = max(len(prepared.split), 1)
    functions = prepared.circle.omega.size
    chunk = 8 * 4 * (latents * functions) ** 2
    moments = 8 * trials * sum(one.times.size for one in prepared.data.values()) * latents**2
    data = 8 * 2 * sum(one.values.size for one in prepared.data.values())
    wanted = (chunk + moments + data) / 1e9
    if wanted > limit:
        raise DataError(
            f"{latents} latents with {functions} coefficients in {trials} trials need about "
            f"{wanted:.1f} GB, more than max_memory_gb = {limit:.1f}; cut shorter trials, raise "
            "the shortest length scale (prior.length_scale_s) or the limit"
        )


def _limit(settings: Settings) -> float:
    if settings.max_memory_gb != "auto":
        return settings.max_memory_gb
    import psutil

    return 0.6 * psutil.virtual_memory().available / 1e9


def _fit_linear(
    prepared: Prepared, settings: Settings, groups: Groups, rng: np.random.Generator, restart: int
) -> tuple[LinearFit, Groups, int]:
    """Return the fit, the groups that pruning left, and how many latents it dropped."""
    every = prepared.take(prepared.trials("train"))
    train = {name: every[name] for name in prepared.linear}
    shortest, longest = prepared.bounds
    start = initial_model(
        train, prepared.circle, groups, rng,
        length=float(np.clip(np.sqrt(shortest * longest), shortest, longest)),
        decays={name: prepared.channels[name].decay for name in train},
        spectrum_name=settings.prior.spectrum,
        centre=2 * np.pi * settings.prior.frequency_hz,
        cond=settings.prior.cond,
        perturb=PERTURB if restart else 0.0,
    )  # fmt: skip
    most = LINEAR_ITERATIONS if settings.max_epochs == "auto" else settings.max_epochs
    if not settings.relevance:
        return fit_linear(start, train, bounds=prepared.bounds, iterations=most), groups, 0
    # Length scales wait: those of latents that nothing needs would run to the shortest.
    brief = min(most, RELEVANCE_ITERATIONS)
    first = fit_linear(
        start, train, bounds=prepared.bounds, iterations=brief, relevance=True, frozen_lengths=brief
    )
    model, kept, dropped = prune(first, groups)
    second = fit_linear(model, train, bounds=prepared.bounds, iterations=most, relevance=True)
    model, kept, further = prune(second, kept)
    third = fit_linear(model, train, bounds=prepared.bounds, iterations=brief, relevance=True)
    history = np.concatenate([one.history for one in (first, second, third)])
    return replace(third, history=history), kept, dropped + further


def fit_one(
    prepared: Prepared,
    settings: Settings,
    seed: int,
    *,
    latents: int,
    restart: int,
    checkpoint: Path | None = None,
) -> Fit:
    """Fit one number of latents from one start.

    Parameters
    ----------
    prepared : Prepared
        The input.
    settings : Settings
        Groups, inference, training.
    seed : int
        Seed of the job.
    latents, restart : int
        Key of the job.
    checkpoint : Path, optional
        Folder from which a killed training of networks goes on.
    """
    inference = inference_of(settings, prepared)
    groups = _groups(group_sizes(settings, latents, prepared))
    count = sum(group.size for group in groups.values())
    _check_memory(prepared, count, _limit(settings))
    rng = stage_generator(seed, f"fit-{latents}", restart)
    linear_groups = {
        name: group for name, group in groups.items()
        if name.removeprefix("private:") not in prepared.mlp
    }  # fmt: skip
    linear, kept, dropped = _fit_linear(prepared, settings, linear_groups, rng, restart)
    issues: list[Issue] = []
    begin: Float | None = None
    if not prepared.mlp:
        groups = kept
    elif settings.relevance:
        found = relevant_groups(
            linear.model, prepared.take(prepared.trials("train")), kept,
            {name: groups[f"private:{name}"].size for name in prepared.mlp},
            _plan(settings), int(rng.integers(2**31)),
        )  # fmt: skip
        groups, begin, dropped = found.groups, found.start, dropped + found.dropped
    if dropped:
        message = f"{dropped} latents explained less than 0.5 % of every modality and were pruned"
        issues.append(Issue("PRUNED_LATENTS", "latents", message, severity="info"))
    fitted = Fitted(linear.model, groups, inference, settings.refine)
    if inference == "svi":
        return _with_svi(prepared, linear, fitted, rng, issues)
    if inference == "amortized":
        state = Checkpoint(checkpoint, signature_of(prepared, settings, seed, latents, restart))
        return _with_network(prepared, settings, linear, fitted, rng, issues, state, begin)
    return Fit(fitted, linear.history, linear.converged, tuple(issues))


def _with_svi(
    prepared: Prepared,
    linear: LinearFit,
    fitted: Fitted,
    rng: np.random.Generator,
    issues: list[Issue],
) -> Fit:
    from neuropipe.analyses.gp_vae.probabilistic import fit_svi
    from neuropipe.threads import one_torch_thread

    train = prepared.take(prepared.trials("train"))
    with one_torch_thread():
        model, rows = fit_svi(linear.model, train, fitted.groups, int(rng.integers(2**31)))
    order = ["total", "kl", *prepared.names]
    history = np.array([[row[name] for name in order] for row in rows])
    return Fit(replace(fitted, model=model), history, _at_rest(history), tuple(issues))


def _with_network(
    prepared: Prepared, settings: Settings, linear: LinearFit, fitted: Fitted,
    rng: np.random.Generator, issues: list[Issue], checkpoint: Checkpoint, begin: Float | None,
) -> Fit:  # fmt: skip
    from neuropipe.analyses.gp_vae.kernels.fusion import linear_part, polish, pseudo_observations
    from neuropipe.analyses.gp_vae.kernels.schedule import fit_amortized
    from neuropipe.threads import one_torch_thread

    train = prepared.take(prepared.trials("train"))
    held = prepared.take(prepared.trials("validation"))
    device, told = _device(settings)
    with one_torch_thread():
        network, rows = fit_amortized(
            linear, train, held, fitted.groups, prepared.mlp, _plan(settings),
            int(rng.integers(2**31)), start=begin, device=device, resume=checkpoint.load(),
            save=checkpoint.save,
        )  # fmt: skip
        model = linear_part(network, linear.model, prepared.linear)
        if settings.refine:
            pseudo = pseudo_observations(network, train, prepared.mlp)
            model = polish(model, train, pseudo)
    order = ["total", "kl", *prepared.names]
    history = np.array([[row.get(name, np.nan) for name in order] for row in rows])
    fitted = replace(fitted, model=model, network=network, mlp=tuple(prepared.mlp))
    return Fit(fitted, history, _at_rest(history), (*issues, *told), device)


def _plan(settings: Settings) -> Plan:
    """Return epochs and rates of network training."""
    from neuropipe.analyses.gp_vae.kernels.schedule import Plan

    epochs = PHASES if settings.max_epochs == "auto" else (settings.max_epochs,) * 3
    return Plan(
        *epochs,
        batch_trials=settings.batch_trials,
        channel_dropout=settings.channel_dropout,
        modality_dropout=settings.modality_dropout,
        warmup=settings.beta_warmup_epochs,
    )


def _at_rest(history: Float) -> bool:
    """Whether the smoothed objective rose by less than 1 % in its last fifth."""
    total = history[:, 0]
    size = max(len(total) // 5, 1)
    last, before = total[-size:].mean(), total[-2 * size : -size].mean() if len(total) > size else 0
    return bool(abs(last - before) < 0.01 * max(abs(last), 1.0))


def _device(settings: Settings) -> tuple[str, list[Issue]]:
    import torch

    if settings.device == "cpu" or not torch.cuda.is_available():
        told = []
        if settings.device == "cuda":
            message = "no GPU was found; networks were trained on the CPU"
            told = [Issue("NO_GPU", "device", message, severity="info")]
        return "cpu", told
    return "cuda", []
