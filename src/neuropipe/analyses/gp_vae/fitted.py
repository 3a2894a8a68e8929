"""A fitted model: its posterior of any trials, its predictions, its bound; to and from arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.gp_vae.kernels.em import elbo
from neuropipe.analyses.gp_vae.kernels.fourier import Circle
from neuropipe.analyses.gp_vae.kernels.linear_model import Decoder, LinearModel, Modality
from neuropipe.analyses.gp_vae.kernels.posterior import (
    Moments,
    Posterior,
    infer,
    linear_predictor,
)

if TYPE_CHECKING:
    from neuropipe.analyses.gp_vae.kernels.networks import Network

__all__ = ["Fitted", "pack", "unpack"]

Float = NDArray[np.float64]
SAMPLES, SAMPLE_SEED, BLOCK = 16, 20240501, 25
FIELDS = ("loading", "offset", "seen", "scale", "weight", "decay", "precision")


@dataclass(frozen=True)
class Fitted:
    """A fitted model.

    Attributes
    ----------
    model : LinearModel
        Prior of all latents and the decoders of linear modalities.
    groups : mapping
        ``shared`` and ``private:<modality>`` -> latents.
    inference : str
        ``exact``, ``laplace``, ``amortized`` or ``svi``.
    refine : bool
        With a network: Newton steps for linear modalities instead of their encoders.
    network : Network, optional
        Encoders and multi-layer decoders.
    mlp : tuple of str
        Modalities with multi-layer decoders.
    """

    model: LinearModel
    groups: Mapping[str, NDArray[np.intp]]
    inference: str
    refine: bool = True
    network: Network | None = None
    mlp: tuple[str, ...] = ()

    def posterior(
        self,
        data: Mapping[str, Modality],
        *,
        clocks: Mapping[str, Float | Modality] | None = None,
        keep_cov: bool = False,
    ) -> Posterior:
        """Return the posterior of trials, with moments on every modality's clock and `clocks`."""
        wanted = dict(clocks or {})
        if self.network is not None and not self.refine:
            return self._encoded(data, wanted)
        if not self.mlp:
            linear = {name: data[name] for name in self.model.decoders}
            return infer(self.model, linear, clocks=wanted, keep_cov=keep_cov)
        from neuropipe.analyses.gp_vae.kernels.fusion import fuse, pseudo_observations

        assert self.network is not None
        pseudo = pseudo_observations(self.network, data, list(self.mlp))
        return fuse(self.model, data, pseudo, clocks=wanted, keep_cov=keep_cov)

    def _encoded(
        self, data: Mapping[str, Modality], clocks: Mapping[str, Float | Modality]
    ) -> Posterior:
        from neuropipe.analyses.gp_vae.kernels.fusion import encoded_posterior

        assert self.network is not None
        return encoded_posterior(self.network, self.model, data, clocks)

    def predict(self, name: str, modality: Modality, moments: Moments) -> tuple[Float, Float]:
        """Return the expected observation and the variance of the predictor, (R, T, N) each.

        Counts are per second; signals as scaled for the fit.
        """
        if name not in self.mlp:
            mean, var = linear_predictor(self.model, name, modality, moments)
            return modality.model.predict(mean, var), var
        return self._decode(name, modality, moments)

    def _decode(self, name: str, modality: Modality, moments: Moments) -> tuple[Float, Float]:
        """Average the multi-layer decoder over samples of the latents at each time."""
        rng = np.random.default_rng(SAMPLE_SEED)
        means, variances = [], []
        for start in range(0, len(moments.mean), BLOCK):
            rows = slice(start, start + BLOCK)
            total, square = 0.0, 0.0
            part = Moments(moments.mean[rows], moments.cov[rows])
            for eta in self._samples(name, modality.take(rows), part, rng):
                found = modality.model.predict(eta, np.zeros_like(eta))
                total, square = total + found / SAMPLES, square + found**2 / SAMPLES
            means.append(total)
            variances.append(np.maximum(square - np.square(total), 0))
        return np.concatenate(means), np.concatenate(variances)

    def _samples(
        self, name: str, modality: Modality, moments: Moments, rng: np.random.Generator
    ) -> Any:
        """Yield predictors (R, T, N) at latents drawn from their moments."""
        import torch

        assert self.network is not None
        known = modality.regressor
        regressor = None if known is None else torch.as_tensor(known, dtype=torch.float32)
        root = np.linalg.cholesky(moments.cov + 1e-9 * np.eye(moments.cov.shape[-1]))
        for _ in range(SAMPLES):
            noise = rng.standard_normal(moments.mean.shape)
            latents = moments.mean + (root @ noise[..., None])[..., 0]
            with torch.no_grad():
                drawn = torch.as_tensor(latents, dtype=torch.float32)
                eta = self.network.decoders[name](drawn, regressor)
            yield eta.numpy().astype(float)

    def noise(self, name: str) -> Float:
        """Return the noise parameter of each unit of a modality."""
        if name not in self.mlp:
            return self.model.decoders[name].scale
        assert self.network is not None
        scale = self.network.decoders[name].log_scale.detach().numpy()
        return np.exp(scale.astype(float))

    def bound(self, data: Mapping[str, Modality], posterior: Posterior) -> dict[str, float]:
        """Return the ELBO per trial and its terms: total, kl, loglik of each modality."""
        linear = {name: data[name] for name in self.model.decoders}
        _, terms = elbo(self.model, linear, posterior)
        found = {name: float(one.mean()) for name, one in terms.items()}
        for name in self.mlp:
            found[name] = self._mlp_loglik(name, data[name], posterior.moments[name])
        kl = float(posterior.kl.mean())
        return {"total": sum(found.values()) - kl, "kl": kl, **found}

    def _mlp_loglik(self, name: str, modality: Modality, moments: Moments) -> float:
        from neuropipe.analyses.gp_vae.kernels.likelihoods import Noise

        rng, total = np.random.default_rng(SAMPLE_SEED), 0.0
        noise = Noise(self.noise(name), modality.bin_width)
        for start in range(0, len(moments.mean), BLOCK):
            rows = slice(start, start + BLOCK)
            one = modality.take(rows)
            part = Moments(moments.mean[rows], moments.cov[rows])
            for eta in self._samples(name, one, part, rng):
                value = modality.model.expect(one.values, eta, np.zeros_like(eta), noise).value
                total += float((value * one.valid).sum()) / SAMPLES
        return total / len(moments.mean)


def pack(fitted: Fitted) -> dict[str, NDArray[np.generic]]:
    """Return everything that `unpack` needs as plain arrays by name."""
    model = fitted.model
    arrays: dict[str, Any] = {
        "omega": model.circle.omega,
        "circumference": np.array([model.circle.circumference]),
        "lengths": model.lengths,
    }
    for name, one in model.decoders.items():
        for field in FIELDS:
            value = np.atleast_1d(np.asarray(getattr(one, field)))
            if value.size:  # files do not hold dims of size 0
                arrays[f"decoder.{name}.{field}"] = value.astype(
                    np.int8 if field == "seen" else float
                )
    for name, group in fitted.groups.items():
        arrays[f"group.{name}"] = np.isin(np.arange(model.latents), group).astype(np.int8)
    if fitted.network is not None:
        for name, tensor in fitted.network.state_dict().items():
            arrays[f"network.{name}"] = tensor.detach().cpu().numpy()
    return arrays


def unpack(
    arrays: Mapping[str, NDArray[Any]],
    data: Mapping[str, Modality],
    *,
    inference: str,
    refine: bool,
    mlp: tuple[str, ...],
    spectrum: str = "rbf",
    centre: float = 0.0,
    cond: float = 1e8,
) -> Fitted:
    """Return the fitted model of `pack`.

    Parameters
    ----------
    arrays : mapping
        As `pack` returned them.
    data : mapping
        Modality -> observations of any trials; clocks and numbers of units are taken from it.
    inference, refine, mlp
        As in `Fitted`.
    spectrum, centre, cond
        As in `LinearModel`.
    """
    decoders = {}
    for name in data:
        if f"decoder.{name}.loading" not in arrays:
            continue
        units = arrays[f"decoder.{name}.loading"].shape[0]
        empty = {"weight": np.zeros((units, 0)), "precision": np.zeros(0)}
        values = {
            field: np.array(arrays.get(f"decoder.{name}.{field}", empty.get(field)))
            for field in FIELDS
        }
        decoders[name] = Decoder(
            values["loading"], values["offset"], values["seen"] > 0, values["scale"],
            values["weight"], float(values["decay"][0]), values["precision"],
        )  # fmt: skip
    circle = Circle(float(arrays["circumference"][0]), np.array(arrays["omega"]))
    model = LinearModel(circle, np.array(arrays["lengths"]), decoders, spectrum, centre, cond)
    groups = {
        key.removeprefix("group."): np.flatnonzero(value)
        for key, value in arrays.items()
        if key.startswith("group.")
    }
    fitted = Fitted(model, groups, inference, refine, None, mlp)
    state = {k.removeprefix("network."): v for k, v in arrays.items() if k.startswith("network.")}
    return replace(fitted, network=_network(state, fitted, data)) if state else fitted


def _network(
    state: Mapping[str, NDArray[Any]], fitted: Fitted, data: Mapping[str, Modality]
) -> Network:
    import torch

    from neuropipe.analyses.gp_vae.kernels.networks import Network

    circle = fitted.model.circle
    omega = state["omega"]
    functions = np.flatnonzero(circle.omega <= float(omega.max()) * (1 + 1e-6))
    masks, sizes = {}, {}
    for name, one in data.items():
        weight = state.get(f"decoders.{name}.weight")
        known = None if weight is None else np.zeros((1, one.times.size, weight.shape[1]))
        sizes[name] = replace(one, regressor=known)
        if name in fitted.mlp:
            places = state[f"decoders.{name}.places"]
            masks[name] = np.isin(np.arange(fitted.model.latents), places)
        else:
            masks[name] = fitted.model.decoders[name].seen
    decays = {name: one.decay for name, one in fitted.model.decoders.items()}
    network = Network(
        sizes, circle, functions, fitted.model.lengths, masks, list(fitted.mlp), decays=decays
    )
    network.load_state_dict({name: torch.as_tensor(np.array(v)) for name, v in state.items()})
    return network
