"""The expected log-likelihoods of `likelihoods` for torch, with automatic derivatives."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from neuropipe.analyses.gp_vae.kernels.likelihoods import STUDENT_DOF, normal_nodes

__all__ = ["ETA_CAP", "TORCH_LIKELIHOODS"]

ETA_CAP = 15.0
Expected = Callable[[Tensor, Tensor, Tensor | None, Tensor, float], Tensor]


def _poisson(y: Tensor, mean: Tensor, var: Tensor | None, scale: Tensor, width: float) -> Tensor:
    eta = mean if var is None else mean + 0.5 * var
    rate = width * torch.exp(torch.clamp(eta, max=ETA_CAP))
    return y * (mean + math.log(width)) - rate - torch.lgamma(y + 1)


def _gaussian(y: Tensor, mean: Tensor, var: Tensor | None, scale: Tensor, width: float) -> Tensor:
    squared = (y - mean) ** 2
    squared = squared if var is None else squared + var
    return -0.5 * (squared / scale + torch.log(2 * math.pi * scale))


Point = Callable[[Tensor, Tensor, Tensor, float], Tensor]


def _quadrature(point: Point) -> Expected:
    nodes, weights = normal_nodes()

    def expected(
        y: Tensor, mean: Tensor, var: Tensor | None, scale: Tensor, width: float
    ) -> Tensor:
        if var is None:
            return point(y, mean, scale, width)
        sd = torch.sqrt(var + 1e-12)
        total = torch.zeros_like(mean)
        for node, weight in zip(nodes.tolist(), weights.tolist(), strict=True):
            total = total + weight * point(y, mean + node * sd, scale, width)
        return total

    return expected


def _negbin(y: Tensor, eta: Tensor, scale: Tensor, width: float) -> Tensor:
    log_mean = torch.clamp(eta, max=ETA_CAP) + math.log(width)
    constant = torch.lgamma(y + scale) - torch.lgamma(scale) - torch.lgamma(y + 1)
    log_sum = torch.logaddexp(torch.log(scale), log_mean)
    return constant + scale * (torch.log(scale) - log_sum) + y * (log_mean - log_sum)


def _bernoulli(y: Tensor, eta: Tensor, scale: Tensor, width: float) -> Tensor:
    return y * eta - torch.nn.functional.softplus(eta)


def _student(y: Tensor, eta: Tensor, scale: Tensor, width: float) -> Tensor:
    half = (STUDENT_DOF + 1) / 2
    spread = STUDENT_DOF * scale
    constant = math.lgamma(half) - math.lgamma(STUDENT_DOF / 2) - 0.5 * torch.log(math.pi * spread)
    return constant - half * torch.log1p((y - eta) ** 2 / spread)


# (data, mean and variance (or None) of the predictor, scale, bin width) -> expected log p.
TORCH_LIKELIHOODS: dict[str, Expected] = {
    "poisson": _poisson,
    "negbin": _quadrature(_negbin),
    "gaussian": _gaussian,
    "bernoulli": _quadrature(_bernoulli),
    "student_t": _quadrature(_student),
}
