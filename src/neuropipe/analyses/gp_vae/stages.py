"""The stages of the GP-VAE latents: one fit per size and restart, then the summary."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuropipe.analyses.gp_vae.evaluate import evaluate
from neuropipe.analyses.gp_vae.fitted import Fitted, pack, unpack
from neuropipe.analyses.gp_vae.fitting import Fit, fit_one
from neuropipe.analyses.gp_vae.frames import latent_frame
from neuropipe.analyses.gp_vae.kernels.posterior import linear_predictor
from neuropipe.analyses.gp_vae.outputs import Chosen, result_dataset
from neuropipe.analyses.gp_vae.prepare import Prepared, prepare
from neuropipe.analyses.gp_vae.spec import Settings
from neuropipe.errors import Issue, issues_from_json, issues_to_json
from neuropipe.seeds import stage_generator
from neuropipe.threads import one_blas_thread, one_torch_thread

__all__ = ["fit", "read_fitted", "summary", "weights_of"]

Parts = Mapping[str, Sequence[xr.Dataset]]
PREFIX = "weights_"


def weights_of(fitted: Fitted) -> dict[str, xr.Variable]:
    """Return the parameters of a model as variables ``weights_<name>``."""
    return {
        f"{PREFIX}{name}": xr.Variable(
            [f"{name}_{axis}" for axis in range(array.ndim)] or (), array
        )
        for name, array in pack(fitted).items()
    }


def read_fitted(part: xr.Dataset, data: Mapping[str, Any], settings: Settings) -> Fitted:
    """Return the model that `weights_of` wrote into a part or a result."""
    arrays = {
        str(name).removeprefix(PREFIX): part[name].values
        for name in part.variables
        if str(name).startswith(PREFIX)
    }
    return unpack(
        arrays,
        data,
        inference=str(part.attrs["inference"]),
        refine=settings.refine,
        mlp=tuple(json.loads(str(part.attrs["mlp"]))),
        spectrum=settings.prior.spectrum,
        centre=2 * np.pi * settings.prior.frequency_hz,
        cond=settings.prior.cond,
    )


def _threads(prepared: Prepared) -> contextlib.AbstractContextManager[None]:
    """Return a context with one torch thread if networks run; torch is slow to import."""
    return one_torch_thread() if prepared.mlp else contextlib.nullcontext()


@one_blas_thread
def fit(
    data: xr.Dataset,
    settings: Settings,
    seed: int,
    parts: Parts,
    *,
    latents: int,
    restart: int,
    checkpoint: Path | None = None,
) -> xr.Dataset:
    """Fit one number of latents from one start.

    Parameters
    ----------
    data : xarray.Dataset
        Input of `neuropipe.assemble.multimodal`.
    settings : Settings
        Modalities, prior, inference, training.
    seed : int
        Seed of the job.
    parts : mapping
        Not used.
    latents, restart : int
        Key of the job.
    checkpoint : Path, optional
        Folder from which a killed training of networks goes on.

    Returns
    -------
    xarray.Dataset
        ``weights_<name>``, ``elbo(epoch, term)``, ``validation_elbo``, and
        ``validation_score(validation_trial)``, the log-likelihood of held-out units.
    """
    prepared = prepare(data, settings, seed)
    with _threads(prepared):
        found = fit_one(
            prepared, settings, seed, latents=latents, restart=restart, checkpoint=checkpoint
        )
        score, bound = _validate(found, prepared)
    terms = ["total", "kl", *(prepared.names if found.fitted.mlp else prepared.linear)]
    return xr.Dataset(
        {
            **weights_of(found.fitted),
            "elbo": (("epoch", "term"), found.history),
            "validation_elbo": ((), bound),
            "validation_score": ("validation_trial", score),
        },
        coords={"term": terms},
        attrs={
            "latents": latents,
            "restart": restart,
            "inference": found.fitted.inference,
            "mlp": json.dumps(list(found.fitted.mlp)),
            "converged": int(found.converged),
            "device": found.device,
            "issues": issues_to_json(found.issues),
        },
    )


def _validate(found: Fit, prepared: Prepared) -> tuple[NDArray[np.float64], float]:
    """Return log-likelihoods of held-out units per validation trial, and the ELBO per trial.

    Without validation trials those for training are used.
    """
    trials = prepared.trials("validation")
    trials = trials if trials.size else prepared.trials("train")
    data = prepared.take(trials)
    bound = found.fitted.bound(data, found.fitted.posterior(data))["total"]
    posterior = found.fitted.posterior(prepared.held_in(trials))
    score = np.zeros(trials.size)
    for name in found.fitted.model.decoders:
        one, heldout = data[name], prepared.channels[name].heldout
        mean, var = linear_predictor(found.fitted.model, name, one, posterior.moments[name])
        value = one.model.expect(one.values, mean, var, found.fitted.model.noise(name, one)).value
        score += (value * one.valid)[..., heldout].sum(axis=(1, 2))
    return score, float(bound)


def _choose(fits: Sequence[xr.Dataset]) -> tuple[int, dict[int, list[xr.Dataset]]]:
    """Return the number of latents by the one-standard-error rule, and the fits by number.

    The rule compares each number, at its best restart, with the best one trial by trial.
    """
    by_size: dict[int, list[xr.Dataset]] = {}
    for part in fits:
        by_size.setdefault(int(part.attrs["latents"]), []).append(part)
    for group in by_size.values():
        group.sort(key=lambda part: int(part.attrs["restart"]))
    scores = {size: _best(group)["validation_score"].values for size, group in by_size.items()}
    top = max(scores, key=lambda size: float(scores[size].mean()))
    for size in sorted(scores):
        difference = scores[top] - scores[size]
        error = difference.std(ddof=1) / np.sqrt(difference.size) if difference.size > 1 else 0.0
        if difference.mean() <= error:
            return size, by_size
    return top, by_size


def _best(group: Sequence[xr.Dataset]) -> xr.Dataset:
    return max(group, key=lambda part: float(part["validation_elbo"]))


@one_blas_thread
def summary(data: xr.Dataset, settings: Settings, seed: int, parts: Parts) -> xr.Dataset:
    """Choose number and restart, infer all trials, score and order the latents.

    Parameters
    ----------
    data : xarray.Dataset
        The input of the fits.
    settings : Settings
        As for the fits.
    seed : int
        Seed of the job.
    parts : mapping
        ``fit``.

    Returns
    -------
    xarray.Dataset
        The result of the analysis.
    """
    prepared = prepare(data, settings, seed)
    size, by_size = _choose(parts["fit"])
    group = by_size[size]
    best = _best(group)
    fitted = read_fitted(best, prepared.data, settings)
    with _threads(prepared):
        posterior = fitted.posterior(prepared.data, clocks={"grid": prepared.grid})
        frame = latent_frame(fitted, posterior)
        scores = evaluate(fitted, prepared, stage_generator(seed, "null"))
        chosen = Chosen(fitted, prepared, posterior, frame, scores, tuple(group), by_size)
        result = result_dataset(data, chosen)
    issues: list[Issue] = list(prepared.issues)
    for part in group:
        issues += [one for one in issues_from_json(part.attrs["issues"]) if one not in issues]
    issues += issues_from_json(result.attrs["issues"])
    return result.assign(weights_of(fitted)).assign_attrs(
        inference=fitted.inference,
        mlp=json.dumps(list(fitted.mlp)),
        converged=int(best.attrs["converged"]),
        device=str(best.attrs["device"]),
        issues=issues_to_json(issues),
        latents_selected=size,
        restart_selected=int(best.attrs["restart"]),
        fit_settings=settings.model_dump_json(),
        prepared_seed=str(seed),
    )
