"""The Gaussian-process prior of a latent as a finite Fourier series on a circle.

Gondur et al. (2024), section 3.1, with a circle long enough that its ends do not correlate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "SPECTRA",
    "Circle",
    "basis",
    "log_spectrum_slope",
    "make_circle",
    "prior_covariance",
    "shifted",
    "spectrum",
    "transfer_of",
]

Float = NDArray[np.float64]
Complex = NDArray[np.complex128]
FLOOR = 1e-14  # spectral densities below this share of the largest are numerically nothing


@dataclass(frozen=True)
class Circle:
    """Circumference and frequencies of the Fourier series.

    Attributes
    ----------
    circumference : float
        Seconds after which the prior repeats itself.
    omega : ndarray (F,)
        Angular frequency of each basis function, rad/s: 0, then the J cosines, then the J sines.
    """

    circumference: float
    omega: Float

    @property
    def harmonics(self) -> int:
        """Number of frequencies above zero, J."""
        return (self.omega.size - 1) // 2


def make_circle(
    span: float,
    length_bounds: tuple[float, float],
    *,
    pad: float = 4.0,
    cond: float = 1e8,
    nyquist: float = np.inf,
) -> Circle:
    """Return the circle on which latents of given length scales live.

    Parameters
    ----------
    span : float
        Longest span of a trial, seconds.
    length_bounds : (float, float)
        Shortest and longest length scale, seconds.
    pad : float
        Padding in units of the longest length scale.
    cond : float
        Ratio of the largest to the smallest spectral density that is kept.
    nyquist : float
        Largest angular frequency that the finest grid can show, rad/s.

    Notes
    -----
    ``P = span + pad l_max`` and ``J = floor(P / (pi l_min) sqrt(0.5 log cond))``: at the last
    frequency the density of the shortest length scale has fallen to ``1 / cond`` of its largest.

    Examples
    --------
    >>> make_circle(60.0, (5.0, 10.0)).omega.size
    39
    """
    shortest, longest = length_bounds
    if not 0 < shortest < longest:
        raise ValueError(f"length scale bounds {length_bounds}: expected 0 < shortest < longest")
    circumference = span + pad * longest
    count = int(circumference / (np.pi * shortest) * np.sqrt(0.5 * np.log(cond)))
    count = max(1, int(min(count, nyquist * circumference / (2 * np.pi))))
    harmonics = 2 * np.pi * np.arange(1, count + 1) / circumference
    return Circle(circumference, np.concatenate([[0.0], harmonics, harmonics]))


def basis(times: Float, circle: Circle, transfer: Complex | None = None) -> Float:
    """Evaluate the basis functions, optionally after a linear filter in time.

    Parameters
    ----------
    times : ndarray (T,)
        Seconds.
    circle : Circle
        Frequencies.
    transfer : ndarray (J + 1,) of complex, optional
        Frequency response of the filter at 0 and at the harmonics; none: identity.

    Returns
    -------
    ndarray (F, T)
        ``sqrt(1/P)``, ``sqrt(2/P) cos``, ``sqrt(2/P) sin``, each filtered.
    """
    count = circle.harmonics
    phase = circle.omega[1 : count + 1, None] * np.asarray(times, float)[None]
    wave = np.exp(1j * phase)
    constant = np.ones((1, phase.shape[1]))
    if transfer is not None:
        wave = wave * transfer[1:, None]
        constant = constant * transfer[0].real
    root = np.sqrt(2 / circle.circumference)
    return np.concatenate(
        [constant / np.sqrt(circle.circumference), root * wave.real, root * wave.imag]
    )


def shifted(
    values: Float, circle: Circle, functions: NDArray[np.intp], seconds: Float, axis: int
) -> Float:
    """Return the coefficients of ``z(t + s)`` from those of ``z(t)``, with its own ``s`` per trial.

    A shift in time turns each pair of cosine and sine by the phase ``omega s``; variances of the
    prior, which pairs share, stay.

    Parameters
    ----------
    values : ndarray (R, ..., F_active, ...)
        Coefficients, or rows or columns of their covariance.
    circle : Circle
        Frequencies.
    functions : ndarray (F_active,)
        Basis functions of `axis`, rising; cosine and sine of a frequency are both in it or not.
    seconds : ndarray (R,)
        Shifts.
    axis : int
        Axis of the coefficients, not 0.
    """
    cosine = np.flatnonzero((functions > 0) & (functions <= circle.harmonics))
    sine = np.flatnonzero(functions > circle.harmonics)
    out = values.copy()
    view = np.moveaxis(out, axis, -1)
    phase = seconds[:, None] * circle.omega[functions[cosine]]
    phase = phase.reshape(len(seconds), *(1,) * (view.ndim - 2), cosine.size)
    first, second = view[..., cosine], view[..., sine]
    view[..., cosine] = first * np.cos(phase) + second * np.sin(phase)
    view[..., sine] = second * np.cos(phase) - first * np.sin(phase)
    return out


def transfer_of(circle: Circle, response: Callable[[Float], Complex]) -> Complex:
    """Return a filter's frequency response at 0 and at the harmonics, (J + 1,)."""
    omega = np.concatenate([[0.0], circle.omega[1 : circle.harmonics + 1]])
    return response(omega)


def _rbf(omega: Float, length: float, centre: float) -> Float:
    return np.sqrt(2 * np.pi) * length * np.exp(-0.5 * (omega * length) ** 2)


def _matern32(omega: Float, length: float, centre: float) -> Float:
    rate = np.sqrt(3) / length
    return 4 * rate**3 / (rate**2 + omega**2) ** 2


def _matern52(omega: Float, length: float, centre: float) -> Float:
    rate = np.sqrt(5) / length
    return 16 / 3 * rate**5 / (rate**2 + omega**2) ** 3


def _rbf_cos(omega: Float, length: float, centre: float) -> Float:
    return 0.5 * (_rbf(omega - centre, length, 0.0) + _rbf(omega + centre, length, 0.0))


# Spectral densities of unit variance; ``centre`` (rad/s) is that of oscillatory latents.
SPECTRA: dict[str, Callable[[Float, float, float], Float]] = {
    "rbf": _rbf,
    "matern32": _matern32,
    "matern52": _matern52,
    "rbf_cos": _rbf_cos,
}


def spectrum(omega: Float, lengths: Float, name: str = "rbf", centre: float = 0.0) -> Float:
    """Return the prior variance of each coefficient.

    Parameters
    ----------
    omega : ndarray (F,)
        Angular frequencies, rad/s.
    lengths : ndarray (K,)
        Length scale of each latent, seconds.
    name : str
        Key of `SPECTRA`.
    centre : float
        Centre frequency of ``rbf_cos``, rad/s.

    Returns
    -------
    ndarray (K, F)
    """
    density = SPECTRA[name]
    values = np.stack([density(omega, float(length), centre) for length in lengths])
    return np.maximum(values, FLOOR * values.max(axis=1, keepdims=True))


def log_spectrum_slope(
    omega: Float, lengths: Float, name: str = "rbf", centre: float = 0.0
) -> Float:
    """Return d log c / d log l by central differences, (K, F)."""
    step = 1e-4
    above = np.log(spectrum(omega, lengths * np.exp(step), name, centre))
    below = np.log(spectrum(omega, lengths * np.exp(-step), name, centre))
    return (above - below) / (2 * step)


def prior_covariance(times: Float, circle: Circle, length: float, name: str = "rbf") -> Float:
    """Return the covariance that the truncated series implies, (T, T)."""
    functions = basis(times, circle)
    variance = spectrum(circle.omega, np.array([length]), name)[0]
    return (functions.T * variance) @ functions
