"""The network of all modalities: prior, and the posterior that potentials imply."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neuropipe.analyses.gp_vae.kernels.coders import (
    PLAIN,
    Encoder,
    LinearDecoder,
    MlpDecoder,
    Moment,
    Potential,
    View,
)
from neuropipe.analyses.gp_vae.kernels.fourier import Circle, basis, transfer_of
from neuropipe.analyses.gp_vae.kernels.linear_model import Modality
from neuropipe.analyses.gp_vae.kernels.temporal import RESPONSES
from neuropipe.analyses.gp_vae.kernels.torch_likelihoods import TORCH_LIKELIHOODS

__all__ = [
    "PLAIN",
    "Encoder",
    "Moment",
    "Network",
    "Potential",
    "Sites",
    "View",
    "turned",
]

JITTER = 1e-5
LINEAR_HIDDEN, IMAGE_HIDDEN = (64,), (256, 128)


class Sites(NamedTuple):
    """Posterior of the whitened coefficients: mean (B, K, F), inverse Cholesky factor, KL (B,)."""

    mean: Tensor
    root: Tensor
    kl: Tensor


def _response(kernel: str, decay: float) -> Callable[[Any], Any]:
    return lambda omega: RESPONSES[kernel](omega, decay)


def turned(values: Tensor, omega: Tensor, seconds: Tensor, axis: int, sign: int = 1) -> Tensor:
    """Return coefficients of ``z(t + s)`` from those of ``z(t)``, as `fourier.shifted`.

    Parameters
    ----------
    values : Tensor (B, ..., F, ...)
        Coefficients: the constant, cosines, sines.
    omega : Tensor (F,)
        Their frequencies, rad/s.
    seconds : Tensor (B,)
        Shifts.
    axis : int
        Axis of the coefficients, not 0.
    sign : int
        -1 turns back, which is the transpose.
    """
    view, count = values.movedim(axis, -1), (len(omega) - 1) // 2
    phase = sign * seconds.reshape(-1, *(1,) * (view.ndim - 1)) * omega[1 : count + 1]
    cosine, sine = view[..., 1 : count + 1], view[..., count + 1 :]
    first = cosine * torch.cos(phase) + sine * torch.sin(phase)
    second = sine * torch.cos(phase) - cosine * torch.sin(phase)
    return torch.cat([view[..., :1], first, second], dim=-1).movedim(-1, axis)


class Network(nn.Module):
    """Prior, encoders and decoders of all modalities.

    Parameters
    ----------
    data : mapping
        Modality -> observations; sizes, clocks and means are taken from it.
    circle : Circle
        Fourier series.
    functions : ndarray (F,)
        Basis functions in use.
    lengths : ndarray (K,)
        Length scales to start from, seconds.
    masks : mapping
        Modality -> latents that it sees, (K,) of bool.
    mlp : collection of str
        Modalities with a multi-layer decoder; the others have linear ones.
    channel_masks : bool
        Encoders of linear modalities are told which channels are observed.
    decays : mapping, optional
        Modality -> time constant of its calcium kernel, seconds.
    """

    omega: Tensor

    def __init__(
        self,
        data: Mapping[str, Modality],
        circle: Circle,
        functions: NDArray[np.intp],
        lengths: NDArray[np.float64],
        masks: Mapping[str, NDArray[np.bool_]],
        mlp: Sequence[str],
        *,
        channel_masks: bool = True,
        decays: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.names, self.mlp = list(data), set(mlp)
        self.likelihoods = {name: one.likelihood for name, one in data.items()}
        self.widths = {name: one.bin_width for name, one in data.items()}
        self.log_length = nn.Parameter(torch.as_tensor(np.log(lengths), dtype=torch.float32))
        self.register_buffer("omega", torch.as_tensor(circle.omega[functions], dtype=torch.float32))
        self.encoders, self.decoders = nn.ModuleDict(), nn.ModuleDict()
        self.places = {name: np.flatnonzero(masks[name]) for name in data}
        for name, one in data.items():
            self._add(name, one, masks[name], channel_masks)
            decay = (decays or {}).get(name, 0.5)
            transfer = transfer_of(circle, _response(one.kernel, decay))
            values = basis(one.times, circle, None if one.kernel == "delta" else transfer)
            self.register_buffer(
                f"basis_{name}", torch.as_tensor(values[functions], dtype=torch.float32)
            )

    def _add(self, name: str, one: Modality, seen: NDArray[np.bool_], channel_masks: bool) -> None:
        n_units, is_mlp = one.values.shape[2], name in self.mlp
        n_features = 0 if one.regressor is None else one.regressor.shape[2]
        encoder = Encoder(
            n_units,
            int(seen.sum()),
            IMAGE_HIDDEN if is_mlp else LINEAR_HIDDEN,
            counts=one.model.counts,
            with_mask=channel_masks and not is_mlp,
            n_features=n_features,
        )
        features = np.sqrt(one.values) if one.model.counts else one.values
        count = np.maximum(one.valid.sum(axis=(0, 1)), 1)
        mean = np.where(one.valid, features, 0).sum(axis=(0, 1)) / count
        var = np.where(one.valid, (features - mean) ** 2, 0).sum(axis=(0, 1)) / count
        # Pixels share one gain: those that never change would else be noise blown up.
        sd = np.sqrt(np.full_like(var, var.mean()) if is_mlp else var)
        encoder.centre.copy_(torch.as_tensor(mean))
        encoder.gain.copy_(torch.as_tensor(1 / np.where(sd > 0, sd, 1.0)))
        self.encoders[name] = encoder
        if is_mlp:
            raw = np.where(one.valid, one.values, 0).sum(axis=(0, 1)) / count
            self.decoders[name] = MlpDecoder(n_units, seen, raw, n_features)
        else:
            self.decoders[name] = LinearDecoder(n_units, seen.size, seen, n_features)

    def decoder(self, name: str) -> Any:
        """Return the decoder of a modality."""
        return self.decoders[name]

    @property
    def latents(self) -> int:
        """Number of latents, K."""
        return self.log_length.shape[0]

    def maps(self, name: str) -> Tensor:
        """Return the map from whitened coefficients to latents on a modality's clock, (K, F, T)."""
        length = torch.exp(self.log_length)[:, None]
        log_c = 0.5 * np.log(2 * np.pi) + torch.log(length) - 0.5 * (self.omega * length) ** 2
        return torch.exp(0.5 * log_c)[:, :, None] * getattr(self, f"basis_{name}")

    def encode(
        self,
        values: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        views: Mapping[str, View] | None = None,
    ) -> dict[str, Potential]:
        """Return the potentials of each modality on all latents, 0 for unseen ones."""
        views = views or {}
        return {
            name: self.encode_one(name, values[name], masks[name], views.get(name, PLAIN))
            for name in values
        }

    def encode_one(self, name: str, values: Tensor, mask: Tensor, view: View = PLAIN) -> Potential:
        """Return the potential of one modality on all latents."""
        found: Potential = self.encoders[name](values, mask, view.regressor)
        if len(self.places[name]) == self.latents:
            return found._replace(shift=view.shift)
        shape = (*found.centre.shape[:2], self.latents)
        places = torch.as_tensor(self.places[name], device=found.centre.device)
        centre, precision = (
            part.new_zeros(shape).index_copy(2, places, part)
            for part in (found.centre, found.precision)
        )
        return Potential(centre, precision, view.shift)

    def posterior(self, potentials: Mapping[str, Potential]) -> Sites:
        """Combine potentials with the prior, one Gaussian per latent."""
        precision: Tensor | float = 0.0
        pull: Tensor | float = 0.0
        for name, potential in potentials.items():
            maps = self.maps(name)
            weight = potential.precision.permute(0, 2, 1)  # (B, K, T)
            block = (maps * weight[:, :, None]) @ maps.transpose(1, 2)
            pulled = (maps @ (weight * potential.centre.permute(0, 2, 1))[..., None])[..., 0]
            if potential.shift is not None:
                for axis in (2, 3):
                    block = turned(block, self.omega, potential.shift, axis, sign=-1)
                pulled = turned(pulled, self.omega, potential.shift, 2, sign=-1)
            precision, pull = precision + block, pull + pulled
        assert isinstance(precision, Tensor)
        assert isinstance(pull, Tensor)
        eye = torch.eye(precision.shape[-1], device=precision.device, dtype=precision.dtype)
        precision = 0.5 * (precision + precision.transpose(-1, -2)) + (1 + JITTER) * eye
        factor = torch.linalg.cholesky(precision)
        root = torch.linalg.solve_triangular(factor, eye.expand_as(factor), upper=False)
        mean = (root.transpose(-1, -2) @ (root @ pull[..., None]))[..., 0]
        logdet = 2 * torch.log(torch.diagonal(factor, dim1=-2, dim2=-1)).sum(dim=(1, 2))
        size = mean.shape[1] * mean.shape[2]
        kl = 0.5 * ((root**2).sum(dim=(1, 2, 3)) + (mean**2).sum(dim=(1, 2)) - size + logdet)
        return Sites(mean, root, kl)

    def moment(self, sites: Sites, name: str, shift: Tensor | None = None) -> Moment:
        """Return mean and variance of the latents at the samples of a modality."""
        maps, (centre, root, _) = self.maps(name), sites
        if shift is not None:
            centre = turned(centre, self.omega, shift, 2)
            root = turned(root, self.omega, shift, 3)
        mean = (maps.transpose(1, 2) @ centre[..., None])[..., 0]
        var = ((root @ maps) ** 2).sum(dim=2)
        return Moment(mean.permute(0, 2, 1), var.permute(0, 2, 1))

    def sample(
        self, sites: Sites, name: str, generator: torch.Generator, shift: Tensor | None = None
    ) -> Tensor:
        """Draw latents at the samples of a modality, (B, T, K)."""
        noise = torch.randn(sites.mean.shape, generator=generator).to(sites.mean)
        drawn = sites.mean + (sites.root.transpose(-1, -2) @ noise[..., None])[..., 0]
        if shift is not None:
            drawn = turned(drawn, self.omega, shift, 2)
        return (self.maps(name).transpose(1, 2) @ drawn[..., None])[..., 0].permute(0, 2, 1)

    def loglik(
        self,
        name: str,
        values: Tensor,
        mask: Tensor,
        sites: Sites,
        generator: torch.Generator,
        samples: int = 1,
        view: View = PLAIN,
    ) -> Tensor:
        """Return the expected log-likelihood of each trial, (B,)."""
        decoder, expect = self.decoder(name), TORCH_LIKELIHOODS[self.likelihoods[name]]
        scale = torch.exp(decoder.log_scale)
        if name not in self.mlp:
            mean, var = decoder(self.moment(sites, name, view.shift), view.regressor)
            return (expect(values, mean, var, scale, self.widths[name]) * mask).sum(dim=(1, 2))
        total = values.new_zeros(len(values))
        for _ in range(samples):
            eta = decoder(self.sample(sites, name, generator, view.shift), view.regressor)
            point = expect(values, eta, None, scale, self.widths[name])
            total = total + (point * mask).sum(dim=(1, 2)) / samples
        return total
