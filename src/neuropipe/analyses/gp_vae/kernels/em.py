"""Fit of models with linear decoders: posterior, loadings, noise and length scales in turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.gp_vae.kernels.linear_model import Decoder, LinearModel, Modality
from neuropipe.analyses.gp_vae.kernels.maximise import (
    expected_loglik,
    update_decay,
    update_decoder,
    update_lengths,
)
from neuropipe.analyses.gp_vae.kernels.posterior import Posterior, infer

__all__ = ["LinearFit", "elbo", "fit_linear"]

Float = NDArray[np.float64]
LENGTH_TOL = 5e-3  # relative change of a length scale per iteration at convergence


@dataclass(frozen=True)
class LinearFit:
    """A fitted model with its history.

    Attributes
    ----------
    model : LinearModel
        Parameters.
    history : ndarray (n_iterations, 2 + n_modalities)
        Per trial: ELBO, divergence from the prior, log-likelihood of each modality.
    converged : bool
        The ELBO rose by less than the tolerance at the end.
    posterior : Posterior
        Of the training trials, under the parameters before the last update.
    """

    model: LinearModel
    history: Float
    converged: bool
    posterior: Posterior


def elbo(
    model: LinearModel, data: Mapping[str, Modality], posterior: Posterior
) -> tuple[Float, dict[str, Float]]:
    """Return the evidence lower bound of each trial (R,) and its log-likelihoods."""
    terms = expected_loglik(model, data, posterior)
    total = sum(terms.values(), -posterior.kl)
    return total, terms


def _carry(before: LinearModel, after: LinearModel, posterior: Posterior) -> Posterior:
    """Keep latents, not their whitened coefficients, as the start under new length scales.

    Coefficients that the new prior finds less likely are left, so that none grows.
    """
    old, new = (model.variances()[:, posterior.functions] for model in (before, after))
    return replace(posterior, mean=posterior.mean * np.sqrt(np.minimum(old / new, 1.0)))


def _balance(model: LinearModel, posterior: Posterior) -> tuple[LinearModel, Posterior]:
    """Move the scale of latents that the data determine from posterior to loadings.

    One step of parameter-expanded EM: the second moment of the determined coefficients becomes 1.
    """
    known = np.clip(1 - posterior.variance.mean(axis=0), 0, 1) ** 2
    second = (posterior.mean**2 + posterior.variance).mean(axis=0)
    ratio = (known * second).sum(axis=1) / np.maximum(known.sum(axis=1), 1e-12)
    gain = np.sqrt(np.clip(ratio, 0.25, 4.0))
    gain[known.sum(axis=1) < 1e-3] = 1.0
    decoders = {
        name: replace(one, loading=one.loading * gain) for name, one in model.decoders.items()
    }
    posterior = replace(posterior, mean=posterior.mean / gain[:, None])
    return replace(model, decoders=decoders), posterior


def _relevance(model: LinearModel, data: Mapping[str, Modality]) -> LinearModel:
    """Re-estimate the precision of each modality's loadings on each latent (ARD).

    ``alpha = N / (|c|^2 + tr Cov)``, with the variance that a normal prior of precision ``alpha``
    and loadings determined by all data leave.
    """
    decoders = {}
    for name, one in model.decoders.items():
        count = data[name].values.shape[2]
        mean_square = (one.loading**2).sum(axis=0) / count
        information = max(float(data[name].valid.sum()) / count, 1.0)
        precision = 1 / np.maximum(mean_square + 1 / (information + 1), 1e-8)
        decoders[name] = replace(one, precision=np.where(one.seen, precision, 0.0))
    return replace(model, decoders=decoders)


def fit_linear(
    model: LinearModel,
    data: Mapping[str, Modality],
    *,
    bounds: tuple[float, float],
    iterations: int = 100,
    tol: float = 1e-5,
    averaged: bool = False,
    newton: int = 1,
    relevance: bool = False,
    frozen_lengths: int = 2,
    watch: Callable[[int, LinearModel, Posterior], None] | None = None,
) -> LinearFit:
    """Fit by EM with Newton steps inside.

    Parameters
    ----------
    model : LinearModel
        Start.
    data : mapping
        Modality -> observations of the training trials.
    bounds : (float, float)
        Of length scales, seconds.
    iterations : int
        At most.
    tol : float
        Ends when the ELBO rises by less than this share, twice in a row.
    averaged : bool
        As in `infer`.
    newton : int
        Newton steps per posterior, warm started.
    relevance : bool
        Automatic relevance determination of loadings.
    frozen_lengths : int
        Iterations before length scales move.
    watch : callable, optional
        Called after every iteration with its number, the model and the posterior (checkpoints).
    """
    posterior: Posterior | None = None
    history, calm = list[list[float]](), 0
    for iteration in range(iterations):
        steps = newton + 2 if posterior is None else newton
        posterior = infer(model, data, start=posterior, steps=steps, averaged=averaged)
        decoders, terms = _updated(model, data, posterior)
        kl = float(posterior.kl.mean())
        history.append([sum(terms) - kl, kl, *terms])
        before = model.lengths
        waits = iteration < frozen_lengths
        lengths = before if waits else update_lengths(model, posterior, bounds)
        moved = replace(model, decoders=decoders, lengths=lengths)
        model, posterior = _balance(moved, _carry(model, moved, posterior))
        model = _relevance(model, data) if relevance else model
        if watch is not None:
            watch(iteration, model, posterior)
        still = np.abs(np.log(model.lengths / before)).max() < LENGTH_TOL
        calm = calm + 1 if still and _is_calm(history, tol) else 0
        if calm >= 2:
            break
    assert posterior is not None
    return LinearFit(model, np.array(history), calm >= 2, posterior)


def _updated(
    model: LinearModel, data: Mapping[str, Modality], posterior: Posterior
) -> tuple[dict[str, Decoder], list[float]]:
    """Return new decoders, and the log-likelihood per trial of each modality before."""
    decoders, terms = {}, []
    for name, one in data.items():
        decoders[name], loglik = update_decoder(model, name, one, posterior)
        terms.append(float(loglik.mean()))
        if one.kernel == "calcium":
            decay = update_decay(model, name, one, posterior)
            decoders[name] = replace(decoders[name], decay=decay)
    return decoders, terms


def _is_calm(history: list[list[float]], tol: float) -> bool:
    if len(history) < 4:
        return False
    last, before = history[-1][0], history[-2][0]
    return abs(last - before) < tol * max(abs(last), 1.0)
