"""Encoders to conjugate potentials, linear and multi-layer decoders of one modality."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

__all__ = [
    "PLAIN",
    "Encoder",
    "LinearDecoder",
    "MlpDecoder",
    "Moment",
    "Potential",
    "View",
    "build_layers",
]

DECODER_HIDDEN = (128, 256)


class Potential(NamedTuple):
    """Pseudo-observations of latents: centre and precision, each (B, T, K).

    `shift` (B,) says by how many seconds the samples of each trial lie behind their times.
    """

    centre: Tensor
    precision: Tensor
    shift: Tensor | None = None


class View(NamedTuple):
    """What is known of the samples of a modality besides their values.

    `shift` (B,) is in seconds, `regressor` (B, T, D) holds nuisance regressors.
    """

    shift: Tensor | None = None
    regressor: Tensor | None = None


PLAIN = View()


class Moment(NamedTuple):
    """Mean and variance of latents at some times, each (B, T, K)."""

    mean: Tensor
    var: Tensor


def build_layers(sizes: Sequence[int]) -> nn.Sequential:
    """Return linear layers of the given sizes with ELU between them."""
    layers: list[nn.Module] = []
    for place, (inside, outside) in enumerate(pairwise(sizes)):
        layers.append(nn.Linear(inside, outside))
        if place < len(sizes) - 2:
            layers.append(nn.ELU())
    return nn.Sequential(*layers)


class Encoder(nn.Module):
    """Maps the observations of one time to a potential of each latent that the modality sees.

    Parameters
    ----------
    n_units : int
        Channels.
    n_latents : int
        Latents seen.
    hidden : sequence of int
        Sizes of hidden layers.
    counts : bool
        Take square roots.
    with_mask : bool
        Append which channels are observed.
    n_features : int
        Nuisance regressors, which are appended too.
    """

    centre: Tensor
    gain: Tensor

    def __init__(
        self, n_units: int, n_latents: int, hidden: Sequence[int], *, counts: bool,
        with_mask: bool, n_features: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.counts, self.with_mask, self.n_latents = counts, with_mask, n_latents
        inputs = n_units * (2 if with_mask else 1) + n_features
        self.layers = build_layers([inputs, *hidden, 2 * n_latents])
        self.skip = nn.Linear(n_units + n_features, n_latents) if with_mask else None
        self.register_buffer("centre", torch.zeros(n_units))
        self.register_buffer("gain", torch.ones(n_units))

    def forward(self, values: Tensor, mask: Tensor, regressor: Tensor | None = None) -> Potential:
        """Return the potential of every time; precision 0 where nothing is observed."""
        features = torch.sqrt(values) if self.counts else values
        features = (features - self.centre) * self.gain * mask
        if regressor is not None:
            features = torch.cat([features, regressor], dim=-1)
        inputs = torch.cat([features, mask], dim=-1) if self.with_mask else features
        out = self.layers(inputs)
        centre = out[..., : self.n_latents]
        if self.skip is not None:
            centre = centre + self.skip(features)
        observed = (mask.amax(dim=-1, keepdim=True) > 0).to(out.dtype)
        precision = nn.functional.softplus(out[..., self.n_latents :]) * observed
        return Potential(centre, precision)


class _Nuisance(nn.Module):
    """Weights of nuisance regressors, which add to the linear predictor."""

    def __init__(self, n_units: int, n_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n_units, n_features)) if n_features else None

    def add(self, eta: Tensor, regressor: Tensor | None) -> Tensor:
        """Return the predictor with what the regressors explain."""
        if self.weight is None or regressor is None:
            return eta
        return eta + regressor @ self.weight.T


class LinearDecoder(_Nuisance):
    """``eta = C z + d + B x`` with loadings of unseen latents fixed at 0."""

    seen: Tensor

    def __init__(
        self, n_units: int, n_latents: int, seen: NDArray[np.bool_], n_features: int = 0
    ) -> None:
        super().__init__(n_units, n_features)
        self.loading = nn.Parameter(torch.zeros(n_units, n_latents))
        self.offset = nn.Parameter(torch.zeros(n_units))
        self.log_scale = nn.Parameter(torch.zeros(n_units))
        self.register_buffer("seen", torch.as_tensor(seen, dtype=torch.float32))

    def forward(self, moment: Moment, regressor: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return mean and variance of the linear predictor, each (B, T, N)."""
        loading = self.loading * self.seen
        mean = self.add(moment.mean @ loading.T + self.offset, regressor)
        return mean, moment.var @ (loading**2).T


class MlpDecoder(_Nuisance):
    """``eta = g(z) + B x`` for the latents that the modality sees."""

    places: Tensor

    def __init__(
        self, n_units: int, seen: NDArray[np.bool_], mean: NDArray[np.float64], n_features: int = 0
    ) -> None:
        super().__init__(n_units, n_features)
        self.register_buffer("places", torch.as_tensor(np.flatnonzero(seen)))
        self.layers = build_layers([int(seen.sum()), *DECODER_HIDDEN, n_units])
        self.log_scale = nn.Parameter(torch.zeros(n_units))
        with torch.no_grad():
            last = self.layers[-1]
            assert isinstance(last, nn.Linear)
            last.bias.copy_(torch.as_tensor(mean, dtype=torch.float32))

    def forward(self, latents: Tensor, regressor: Tensor | None = None) -> Tensor:
        """Return the predictor (B, T, N) for latents (B, T, K)."""
        return self.add(self.layers(latents[..., self.places]), regressor)
