"""Data and parameters of modalities that see the latents through a linear decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.gp_vae.kernels.fourier import Circle, basis, spectrum, transfer_of
from neuropipe.analyses.gp_vae.kernels.likelihoods import LIKELIHOODS, Likelihood, Noise
from neuropipe.analyses.gp_vae.kernels.temporal import RESPONSES

__all__ = ["Decoder", "LinearModel", "Modality", "active_functions", "mixed_basis"]

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]


@dataclass(frozen=True)
class Modality:
    """Observations of one modality on its own clock.

    Attributes
    ----------
    values : ndarray (R, T, N)
        Trials, times, units; anything finite where not valid.
    valid : ndarray (R, T, N) of bool
        Which values were observed.
    times : ndarray (T,)
        Seconds relative to the start of the trial's alignment.
    likelihood : str
        Key of `LIKELIHOODS`.
    bin_width : float
        Seconds; only counts use it.
    kernel : str
        Key of `RESPONSES`.
    regressor : ndarray (R, T, D), optional
        Nuisance regressors.
    shift : ndarray (R,), optional
        By how much the samples of a trial lie behind `times`, seconds; none: 0.
    """

    values: Float
    valid: Bool
    times: Float
    likelihood: str
    bin_width: float = 1.0
    kernel: str = "delta"
    regressor: Float | None = None
    shift: Float | None = None

    @property
    def model(self) -> Likelihood:
        """The observation model."""
        return LIKELIHOODS[self.likelihood]

    def take(self, trials: NDArray[np.intp] | slice) -> Modality:
        """Return some trials."""
        regressor = None if self.regressor is None else self.regressor[trials]
        shift = None if self.shift is None else self.shift[trials]
        return replace(
            self,
            values=self.values[trials],
            valid=self.valid[trials],
            regressor=regressor,
            shift=shift,
        )

    def hide(self, units: Bool) -> Modality:
        """Return the modality with some units unobserved: (N,) of bool, or wider."""
        return replace(self, valid=self.valid & ~units)

    def drop(self) -> Modality:
        """Return the modality with nothing observed."""
        return replace(self, valid=np.zeros_like(self.valid))


@dataclass(frozen=True)
class Decoder:
    """Parameters of a linear decoder.

    Attributes
    ----------
    loading : ndarray (N, K)
        0 for latents that the modality does not see.
    offset : ndarray (N,)
        Constant of the linear predictor.
    seen : ndarray (K,) of bool
        Latents that the modality sees.
    scale : ndarray (N,)
        `Noise.scale`.
    weight : ndarray (N, D)
        Weights of the nuisance regressors.
    decay : float
        Time constant of the ``calcium`` kernel, seconds.
    precision : ndarray (K,)
        Precision of the normal prior of the loadings; 0: none.
    """

    loading: Float
    offset: Float
    seen: Bool
    scale: Float
    weight: Float
    decay: float = 0.5
    precision: Float = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True)
class LinearModel:
    """Prior and decoders.

    Attributes
    ----------
    circle : Circle
        Fourier series of the prior.
    lengths : ndarray (K,)
        Length scales, seconds.
    decoders : mapping
        Modality -> decoder.
    spectrum, centre
        Spectral density and, for ``rbf_cos``, its centre, rad/s.
    cond : float
        Coefficients whose prior variance is below ``1 / cond`` of the largest stay at the prior.
    """

    circle: Circle
    lengths: Float
    decoders: Mapping[str, Decoder]
    spectrum: str = "rbf"
    centre: float = 0.0
    cond: float = 1e8

    @property
    def latents(self) -> int:
        """Number of latents, K."""
        return self.lengths.size

    def variances(self) -> Float:
        """Return the prior variance of every coefficient, (K, F)."""
        return spectrum(self.circle.omega, self.lengths, self.spectrum, self.centre)

    def noise(self, name: str, modality: Modality) -> Noise:
        """Return the noise parameters of one modality."""
        return Noise(self.decoders[name].scale, modality.bin_width)


def active_functions(model: LinearModel) -> NDArray[np.intp]:
    """Return the basis functions that matter for at least one latent."""
    variances = model.variances()
    relative = variances / variances.max(axis=1, keepdims=True)
    return np.flatnonzero((relative >= 1 / model.cond).any(axis=0))


def mixed_basis(
    model: LinearModel, times: Float, functions: NDArray[np.intp], kernel: str, decay: float
) -> Float:
    """Return the map from whitened coefficients to each latent as a modality shows it.

    Returns
    -------
    ndarray (K, F, T)
        ``sqrt(c_f(l_k)) (h * b_f)(t)``.
    """
    circle = model.circle
    transfer = transfer_of(circle, lambda omega: RESPONSES[kernel](omega, decay))
    values = basis(times, circle, None if kernel == "delta" else transfer)[functions]
    return np.sqrt(model.variances()[:, functions])[:, :, None] * values[None]


def chunks(count: int, size: int) -> Sequence[slice]:
    """Return slices that cover ``range(count)`` in pieces of at most `size`."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
