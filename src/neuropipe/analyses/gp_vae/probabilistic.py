"""The model in Pyro: priors, plates and masks in the open, and inference with free posteriors.

The closed-form ELBO enters through ``pyro.factor``; `pyro_model` without it is the generative
description, for `pyro.infer.Predictive` and samples of data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.gp_vae.fitted import Fitted
from neuropipe.analyses.gp_vae.kernels.linear_model import (
    LinearModel,
    Modality,
    active_functions,
)
from neuropipe.analyses.gp_vae.kernels.maximise import LEAST_PRECISION
from neuropipe.analyses.gp_vae.kernels.posterior import View, infer, views_of

if TYPE_CHECKING:
    from neuropipe.analyses.gp_vae.kernels.networks import Network

__all__ = ["fit_svi", "pyro_guide", "pyro_model", "pyro_posterior"]

SVI_STEPS, SVI_RATE = 300, 1e-2


def _distribution(likelihood: str, eta: Any, scale: Any, width: float) -> Any:
    import pyro.distributions as dist
    import torch

    from neuropipe.analyses.gp_vae.kernels.likelihoods import STUDENT_DOF

    made = {
        "poisson": lambda: dist.Poisson(width * torch.exp(eta)),
        "negbin": lambda: dist.NegativeBinomial(
            scale.expand_as(eta), logits=eta + float(np.log(width)) - torch.log(scale)
        ),
        "gaussian": lambda: dist.Normal(eta, torch.sqrt(scale)),
        "bernoulli": lambda: dist.Bernoulli(logits=eta),
        "student_t": lambda: dist.StudentT(STUDENT_DOF, eta, torch.sqrt(scale)),
    }
    return made[likelihood]()


def pyro_model(
    fitted: Fitted,
    data: Mapping[str, Modality],
    *,
    observed: bool = True,
    free_loadings: bool = False,
) -> Any:
    """Return a Pyro model: whitened coefficients per trial, observations per modality.

    Parameters
    ----------
    fitted : Fitted
        From `load`; its decoders are used.
    data : mapping
        Modality -> observations; shapes, clocks and masks.
    observed : bool
        Condition on the values; False: sample them.
    free_loadings : bool
        Loadings of linear decoders are sites too, ``loading_<m> ~ N(0, 1/alpha)`` with the
        precision that the fit used; False: as fitted.

    Returns
    -------
    callable
        Sites ``u`` and one per modality, missing entries masked; networks are Pyro modules.
    """
    import pyro
    import pyro.distributions as dist
    import torch

    model = fitted.model
    functions = active_functions(model)
    trials = len(next(iter(data.values())).values)
    size = functions.size

    views = views_of(model, data, functions)

    def sampled() -> None:
        with pyro.plate("trial", trials):
            zero = torch.zeros(model.latents, size, dtype=torch.float64)
            u = pyro.sample("u", dist.Normal(zero, 1.0).to_event(2))
        for name, one in data.items():
            loading = _free_loading(fitted, name) if free_loadings else None
            z = _latents_at(u, views[name], model.circle.omega[functions])
            eta, scale = _predictor(fitted, name, one, z, loading)
            mask = torch.as_tensor(one.valid)
            values = torch.as_tensor(np.asarray(one.values, float)) if observed else None
            found = _distribution(one.likelihood, eta, scale, one.bin_width)
            with pyro.plate(f"trial_{name}", trials):
                pyro.sample(name, found.mask(mask).to_event(2), obs=values)

    return sampled


def _latents_at(u: Any, view: View, omega: NDArray[np.float64]) -> Any:
    """Return latents (R, T, K) at the samples of a modality."""
    import torch

    from neuropipe.analyses.gp_vae.kernels.networks import turned

    if view.shift is not None:
        u = turned(u, torch.as_tensor(omega), torch.as_tensor(view.shift), 2)
    return torch.einsum("rkf,kft->rtk", u, torch.as_tensor(view.maps))


def _free_loading(fitted: Fitted, name: str) -> Any:
    """Sample the loadings of a linear decoder, 0 for latents that it does not see."""
    import pyro
    import pyro.distributions as dist
    import torch

    if name in fitted.mlp:
        return None
    decoder = fitted.model.decoders[name]
    precision = np.full(decoder.seen.size, LEAST_PRECISION)
    if decoder.precision.size:
        precision = np.maximum(decoder.precision, LEAST_PRECISION)
    sd = torch.as_tensor(np.broadcast_to(1 / np.sqrt(precision), decoder.loading.shape).copy())
    drawn = pyro.sample(f"loading_{name}", dist.Normal(torch.zeros_like(sd), sd).to_event(2))
    return drawn * torch.as_tensor(decoder.seen.astype(float))


def _predictor(fitted: Fitted, name: str, one: Modality, z: Any, loading: Any) -> tuple[Any, Any]:
    import pyro
    import torch

    scale = torch.as_tensor(fitted.noise(name))
    known = None if one.regressor is None else torch.as_tensor(one.regressor)
    if name in fitted.mlp:
        assert fitted.network is not None
        network = pyro.module(f"decoder_{name}", fitted.network.decoders[name])
        eta = network(z.float(), None if known is None else known.float())
        return eta.double(), scale
    decoder = fitted.model.decoders[name]
    loading = torch.as_tensor(decoder.loading) if loading is None else loading
    eta = z @ loading.T + torch.as_tensor(decoder.offset)
    return eta if known is None else eta + known @ torch.as_tensor(decoder.weight).T, scale


def pyro_posterior(fitted: Fitted, data: Mapping[str, Modality]) -> Any:
    """Return a guide that samples ``u`` from the fitted posterior, joint over latents.

    Parameters
    ----------
    fitted : Fitted
        From `load`.
    data : mapping
        Modality -> observations of any trials.

    Notes
    -----
    ``Predictive(pyro_model(fitted, data, observed=False), guide=pyro_posterior(fitted, data),
    num_samples=100)()`` draws data from the posterior predictive distribution.
    """
    import pyro
    import pyro.distributions as dist
    import torch
    from torch.distributions.transforms import ReshapeTransform

    found = fitted.posterior(data, keep_cov=True)
    count, latents, size = found.mean.shape
    flat = torch.as_tensor(found.mean.reshape(count, -1))
    if found.cov is None:  # encoders alone keep variances of coefficients only
        factor = torch.diag_embed(torch.as_tensor(np.sqrt(found.variance.reshape(count, -1))))
    else:
        factor = torch.as_tensor(np.linalg.cholesky(found.cov + 1e-12 * np.eye(latents * size)))
    shape = ReshapeTransform((latents * size,), (latents, size))

    def sampled() -> None:
        with pyro.plate("trial", count):
            normal = dist.MultivariateNormal(flat, scale_tril=factor)
            pyro.sample("u", dist.TransformedDistribution(normal, [shape]))

    return sampled


def pyro_guide(mean: NDArray[np.float64], tril: NDArray[np.float64]) -> Any:
    """Return a guide ``u ~ N(mean, tril tril')``, free per trial and latent.

    Parameters
    ----------
    mean : ndarray (R, K, F)
        Starting means.
    tril : ndarray (R, K, F, F)
        Starting Cholesky factors.
    """
    import pyro
    import pyro.distributions as dist
    import torch
    from torch.distributions import constraints

    def sampled() -> None:
        loc = pyro.param("u_loc", torch.as_tensor(mean))
        factor = pyro.param("u_tril", torch.as_tensor(tril), constraint=constraints.lower_cholesky)
        with pyro.plate("trial", len(mean)):
            pyro.sample("u", dist.MultivariateNormal(loc, scale_tril=factor).to_event(1))

    return sampled


def _starting_factors(
    model: LinearModel, data: Mapping[str, Modality], omega: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return Laplace means and Cholesky factors of each latent for the functions of a network.

    Functions that the length scales leave out start at the prior.
    """
    found = infer(model, data, keep_cov=True)
    assert found.cov is not None
    count, latents, size = found.mean.shape
    blocks = found.cov.reshape(count, latents, size, latents, size)
    own = np.stack([blocks[:, k, :, k, :] for k in range(latents)], axis=1)
    held = np.flatnonzero(model.circle.omega <= float(omega.max()) * (1 + 1e-6))
    where = np.flatnonzero(np.isin(held, found.functions))
    loc = np.zeros((count, latents, omega.size))
    loc[..., where] = found.mean
    tril = np.broadcast_to(np.eye(omega.size), (*loc.shape, omega.size)).copy()
    tril[:, :, where[:, None], where[None]] = np.linalg.cholesky(own + 1e-10 * np.eye(size))
    return loc, tril


def fit_svi(
    model: LinearModel,
    data: Mapping[str, Modality],
    groups: Mapping[str, NDArray[np.intp]],
    seed: int,
    *,
    steps: int = SVI_STEPS,
) -> tuple[LinearModel, list[dict[str, float]]]:
    """Fit decoders and length scales with a free Gaussian per trial and latent.

    Parameters
    ----------
    model : LinearModel
        Start; its Laplace posteriors start the guide.
    data : mapping
        Modality -> training observations.
    groups : mapping
        ``shared`` and ``private:<modality>`` -> latents.
    seed : int
        Of torch.
    steps : int
        Gradient steps on all trials.

    Returns
    -------
    LinearModel
        Fitted.
    list of dict
        Terms of the ELBO per trial and step.
    """
    import pyro
    import pyro.optim
    from pyro.infer import SVI, Trace_ELBO

    from neuropipe.analyses.gp_vae.kernels.fusion import linear_part
    from neuropipe.analyses.gp_vae.kernels.schedule import network_of

    pyro.set_rng_seed(seed)
    pyro.clear_param_store()
    network = network_of(model, data, groups, [], model.lengths)
    start = _starting_factors(model, data, network.omega.numpy().astype(float))
    history: list[dict[str, float]] = []
    bound, guide = _bound_and_guide(network, data, start, seed, history)
    optimiser = pyro.optim.ClippedAdam({"lr": SVI_RATE, "clip_norm": 1e4})
    svi = SVI(bound, guide, optimiser, loss=Trace_ELBO())
    with pyro.validation_enabled(False):
        for _ in range(steps):
            svi.step()
    pyro.clear_param_store()
    return linear_part(network, replace(model), list(data)), history


def _bound_and_guide(
    network: Network,
    data: Mapping[str, Modality],
    start: tuple[NDArray[np.float64], NDArray[np.float64]],
    seed: int,
    history: list[dict[str, float]],
) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return the closed-form ELBO as a Pyro factor, and a guide of parameters only."""
    import pyro
    import torch
    from torch.distributions import constraints

    from neuropipe.analyses.gp_vae.kernels.networks import Sites
    from neuropipe.analyses.gp_vae.kernels.training import tensors

    batch, generator = tensors(data), torch.Generator().manual_seed(seed)
    first, factors = (torch.as_tensor(one).float() for one in start)

    def guide() -> None:
        pyro.param("u_loc", first)
        pyro.param("u_tril", factors, constraint=constraints.lower_cholesky)

    def bound() -> None:
        pyro.module("network", network)
        centre, factor = pyro.param("u_loc"), pyro.param("u_tril")
        logdet = -2 * torch.log(torch.diagonal(factor, dim1=-2, dim2=-1)).sum(dim=(1, 2))
        square = (factor**2).sum(dim=(1, 2, 3)) + (centre**2).sum(dim=(1, 2))
        kl = 0.5 * (square - centre[0].numel() + logdet)
        sites = Sites(centre, factor.transpose(-1, -2), kl)
        terms = {
            name: network.loglik(
                name, batch.values[name], batch.masks[name], sites, generator, view=batch.view(name)
            )
            for name in network.names
        }
        pyro.factor("elbo", sum(terms.values()).sum() - kl.sum())
        row = {name: float(one.detach().mean()) for name, one in terms.items()}
        row["kl"] = float(kl.detach().mean())
        row["total"] = sum(row.values()) - 2 * row["kl"]
        history.append(row)

    return bound, guide
