"""Gaussian posterior of the coefficients of each trial: exact, Laplace or variational.

The posterior is joint over latents. ``H = I + sum_m A_m' W_m A_m`` with the curvature ``W_m`` of
the likelihood is its precision; for normal observations one step is exact (Duncker & Sahani 2018;
Yu et al. 2009), otherwise Newton's method finds the mode (``laplace``) or the best normal
approximation (``variational``: slope and curvature averaged over it, Opper & Archambeau 2009).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.gp_vae.kernels.fourier import shifted
from neuropipe.analyses.gp_vae.kernels.linear_model import (
    LinearModel,
    Modality,
    active_functions,
    chunks,
    mixed_basis,
)

__all__ = [
    "Moments",
    "Posterior",
    "View",
    "infer",
    "joined",
    "latent_moments",
    "linear_predictor",
    "views_of",
]

Float = NDArray[np.float64]
BYTES_PER_CHUNK = 6e7
HALVINGS = 10
DECAY_S = 0.5  # time constant of a calcium filter in front of a multi-layer decoder


@dataclass(frozen=True)
class Moments:
    """Mean and covariance over latents at each time of a modality, filter included.

    Attributes
    ----------
    mean : ndarray (R, T, K)
    cov : ndarray (R, T, K, K)
    """

    mean: Float
    cov: Float


@dataclass(frozen=True)
class Posterior:
    """Posterior of the whitened coefficients of every trial.

    Attributes
    ----------
    functions : ndarray (F_active,)
        Basis functions that the coefficients belong to; the others are as in the prior.
    mean : ndarray (R, K, F_active)
        Means.
    variance : ndarray (R, K, F_active)
        Variances.
    kl : ndarray (R,)
        Divergence from the prior, nats.
    moments : mapping
        Modality -> moments of the latents on its clock.
    cov : ndarray (R, K F_active, K F_active), optional
        Full covariances, when asked for.
    """

    functions: NDArray[np.intp]
    mean: Float
    variance: Float
    kl: Float
    moments: Mapping[str, Moments]
    cov: Float | None = None


def linear_predictor(
    model: LinearModel, name: str, modality: Modality, moments: Moments
) -> tuple[Float, Float]:
    """Return mean and variance of the linear predictor, each (R, T, N)."""
    decoder = model.decoders[name]
    seen = np.flatnonzero(decoder.seen)
    loading = decoder.loading[:, seen]
    mean = moments.mean[..., seen] @ loading.T + decoder.offset
    if modality.regressor is not None:
        mean = mean + modality.regressor @ decoder.weight.T
    products = (loading[:, :, None] * loading[:, None, :]).reshape(len(loading), -1)
    cov = moments.cov[..., seen[:, None], seen[None]]
    var = cov.reshape(*cov.shape[:2], -1) @ products.T
    return mean, np.maximum(var, 0.0)


def latent_moments(maps: Float, mean: Float, cov: Float) -> Moments:
    """Return moments of the latents at some times.

    Parameters
    ----------
    maps : ndarray (K, F, T)
        `mixed_basis`.
    mean : ndarray (R, K, F)
        Posterior means.
    cov : ndarray (R, K F, K F)
        Posterior covariances.
    """
    n_latents, n_functions, n_times = maps.shape
    z = np.stack([mean[:, k] @ maps[k] for k in range(n_latents)], axis=-1)
    blocks = cov.reshape(-1, n_latents, n_functions, n_latents, n_functions)
    out = np.empty((len(mean), n_times, n_latents, n_latents))
    for k in range(n_latents):
        for other in range(k, n_latents):
            block = np.ascontiguousarray(blocks[:, k, :, other, :])
            half = block.reshape(-1, n_functions) @ maps[other]
            half = half.reshape(len(mean), n_functions, n_times)
            out[:, :, k, other] = np.einsum("rft,ft->rt", half, maps[k])
            out[:, :, other, k] = out[:, :, k, other]
    return Moments(z, out)


class View(NamedTuple):
    """How samples see the latents.

    Attributes
    ----------
    maps : ndarray (K, F, T)
        `mixed_basis`.
    shift : ndarray (R,) or None
        By how much the samples of each trial lie behind their times, seconds.
    """

    maps: Float
    shift: Float | None


def views_of(
    model: LinearModel, clocks: Mapping[str, Float | Modality], functions: NDArray[np.intp]
) -> dict[str, View]:
    """Return how each clock sees the latents.

    Parameters
    ----------
    model : LinearModel
        Prior and decoders.
    clocks : mapping
        Name -> times in seconds, or a modality, whose filter and shifts count.
    functions : ndarray (F,)
        Basis functions.
    """
    found = {}
    for name, one in clocks.items():
        if isinstance(one, Modality):
            decay = model.decoders[name].decay if name in model.decoders else DECAY_S
            maps = mixed_basis(model, one.times, functions, one.kernel, decay)
            found[name] = View(maps, one.shift)
        else:
            found[name] = View(mixed_basis(model, one, functions, "delta", 0.0), None)
    return found


class _Trials:
    """One chunk of trials: evaluates the joint density and its derivatives."""

    def __init__(
        self,
        model: LinearModel,
        data: Mapping[str, Modality],
        maps: Mapping[str, Float],
        functions: NDArray[np.intp],
    ) -> None:
        self.model, self.data, self.maps, self.active = model, data, maps, functions
        first = next(iter(maps.values()))
        self.latents, self.functions = first.shape[:2]
        self.count = len(next(iter(data.values())).values)
        # 0 where not observed: products with it need no masks.
        self.masks = {name: one.valid.astype(float) for name, one in data.items()}

    def evaluate(
        self, mean: Float, var: Mapping[str, Float] | None
    ) -> tuple[Float, Float, dict[str, Float]]:
        """Return the objective (R,), its slope (R, K, F) and the curvature (R, T, K, K)."""
        value = -0.5 * (mean**2).sum(axis=(1, 2))
        slope, curvature = -mean, {}
        for name, one in self.data.items():
            decoder, maps, mask = self.model.decoders[name], self.maps[name], self.masks[name]
            seen = np.flatnonzero(decoder.seen)
            loading = decoder.loading[:, seen]
            moved = self.shifted(name, mean, 2)
            z = np.stack([moved[:, k] @ maps[k] for k in seen], axis=-1)
            eta = z @ loading.T + decoder.offset
            if one.regressor is not None:
                eta = eta + one.regressor @ decoder.weight.T
            spread = np.zeros((1, 1, 1)) if var is None else var[name]
            found = one.model.expect(one.values, eta, spread, self.model.noise(name, one))
            value = value + (found.value * mask).sum(axis=(1, 2))
            pull = (found.slope * mask) @ loading
            back = np.stack([pull[..., place] @ maps[k].T for place, k in enumerate(seen)], axis=1)
            slope[:, seen] += self.shifted(name, back, 2, sign=-1)
            products = (loading[:, :, None] * loading[:, None, :]).reshape(len(loading), -1)
            weight = (found.weight * mask) @ products
            curvature[name] = weight.reshape(*weight.shape[:2], seen.size, seen.size)
        return value, slope, curvature

    def shifted(
        self, name: str, values: Float, axis: int, *, sign: int = 1,
        rows: NDArray[np.intp] | slice = slice(None),
    ) -> Float:  # fmt: skip
        """Return coefficients as a modality's samples see them, or (sign -1) the transpose."""
        seconds = self.data[name].shift
        if seconds is None:
            return values
        return shifted(values, self.model.circle, self.active, sign * seconds[rows], axis)

    def precision(
        self, curvature: Mapping[str, Float], rows: NDArray[np.intp] | slice = slice(None)
    ) -> Float:
        """Return ``H`` of some trials, (R, K F, K F)."""
        n_trials = len(next(iter(curvature.values())))
        n, f = self.latents, self.functions
        blocks = np.zeros((n_trials, n, f, n, f))
        for name, weight in curvature.items():
            maps, seen = self.maps[name], np.flatnonzero(self.model.decoders[name].seen)
            for i, k in enumerate(seen):
                for j, other in enumerate(seen[i:], start=i):
                    left = maps[k][None] * weight[:, None, :, i, j]
                    block = left.reshape(n_trials * f, -1) @ maps[other].T
                    block = block.reshape(n_trials, f, f)
                    for axis in (1, 2):
                        block = self.shifted(name, block, axis, sign=-1, rows=rows)
                    blocks[:, k, :, other, :] += block
                    if other != k:
                        blocks[:, other, :, k, :] += block.transpose(0, 2, 1)
        total = blocks.reshape(n_trials, n * f, n * f)
        total[:, np.arange(n * f), np.arange(n * f)] += 1.0
        return total

    def variances(self, cov: Float) -> dict[str, Float]:
        """Return the variance of the linear predictor of each modality."""
        found = {}
        for name, one in self.data.items():
            empty = np.zeros((len(cov), self.latents, self.functions))
            view = View(self.maps[name], one.shift)
            moments = _moments_of(self, view, empty, cov)
            found[name] = linear_predictor(self.model, name, one, moments)[1]
        return found


def _moments_of(trials: _Trials, view: View, mean: Float, cov: Float) -> Moments:
    """Return moments of the latents as a view of the same trials sees them."""
    if view.shift is None:
        return latent_moments(view.maps, mean, cov)
    circle, active = trials.model.circle, trials.active
    blocks = cov.reshape(-1, trials.latents, trials.functions, trials.latents, trials.functions)
    for axis in (2, 4):
        blocks = shifted(blocks, circle, active, view.shift, axis)
    moved = shifted(mean, circle, active, view.shift, 2)
    return latent_moments(view.maps, moved, blocks.reshape(cov.shape))


def _ascend(
    trials: _Trials, mean: Float, value: Float, step: Float, var: Mapping[str, Float] | None
) -> Float:
    """Return the means after a step that is halved, per trial, until the objective rises."""
    size = np.ones(len(mean))
    for _ in range(HALVINGS):
        moved = mean + size[:, None, None] * step
        worse = ~(trials.evaluate(moved, var)[0] >= value - 1e-9 * np.abs(value))
        if not worse.any():
            return moved
        size[worse] *= 0.5
    size[worse] = 0.0
    return mean + size[:, None, None] * step


def _invert(matrix: Float) -> tuple[Float, Float]:
    """Return inverse and log determinant of symmetric positive definite matrices."""
    factor = np.linalg.cholesky(matrix)
    logdet = 2 * np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(axis=1)
    inverse = np.linalg.inv(matrix)
    return 0.5 * (inverse + inverse.transpose(0, 2, 1)), logdet


def _newton(
    trials: _Trials, mean: Float, steps: int, tol: float, averaged: bool
) -> tuple[Float, Float, Float]:
    """Return means (R, K, F), covariances and log determinants of the precision."""
    var: dict[str, Float] | None = None
    for left in range(steps, -1, -1):
        value, slope, curvature = trials.evaluate(mean, var)
        cov, logdet = _invert(trials.precision(curvature))
        step = (cov @ slope.reshape(len(mean), -1, 1)).reshape(mean.shape)
        small = bool(np.abs(step).max(initial=0.0) < tol)
        if small or not left:
            break
        mean = _ascend(trials, mean, value, step, var)
        if averaged:
            var = trials.variances(cov)
    return mean, cov, logdet


def _exact(trials: _Trials) -> tuple[Float, Float, Float]:
    """Return the closed form when every observation is normal, one inverse per missingness."""
    start = np.zeros((trials.count, trials.latents, trials.functions))
    _, slope, curvature = trials.evaluate(start, None)
    patterns = [b"".join(_pattern(one, r) for one in trials.data.values())
                for r in range(trials.count)]  # fmt: skip
    kinds = {pattern: i for i, pattern in enumerate(dict.fromkeys(patterns))}
    label = np.array([kinds[pattern] for pattern in patterns])
    first = np.array([int(np.flatnonzero(label == i)[0]) for i in range(len(kinds))])
    cov, logdet = _invert(
        trials.precision({name: weight[first] for name, weight in curvature.items()}, first)
    )
    flat = slope.reshape(trials.count, -1)
    mean = np.empty_like(flat)
    for i in range(len(kinds)):
        mean[label == i] = flat[label == i] @ cov[i]
    return mean.reshape(start.shape), cov[label], logdet[label]


def _pattern(one: Modality, trial: int) -> bytes:
    """Return what the precision of a trial depends on: missing values and the shift in time."""
    shift = b"" if one.shift is None else one.shift[trial].tobytes()
    return one.valid[trial].tobytes() + shift


def _chunk_size(model: LinearModel, data: Mapping[str, Modality], functions: int) -> int:
    matrix = (model.latents * functions) ** 2 * 4
    values = sum(6 * one.values[0].size for one in data.values())
    return int(max(1, BYTES_PER_CHUNK // (8 * (matrix + values))))


def infer(
    model: LinearModel,
    data: Mapping[str, Modality],
    *,
    start: Posterior | None = None,
    steps: int = 30,
    tol: float = 1e-6,
    averaged: bool = False,
    keep_cov: bool = False,
    clocks: Mapping[str, Float | Modality] | None = None,
) -> Posterior:
    """Return the posterior of every trial.

    Parameters
    ----------
    model : LinearModel
        Prior and decoders.
    data : mapping
        Modality -> observations, the same trials in each.
    start : Posterior, optional
        Where Newton's method starts; the prior mean if not given.
    steps : int
        Newton steps at most; normal observations need one and get the closed form.
    tol : float
        Newton's method ends when no coefficient moves by more.
    averaged : bool
        Slope and curvature averaged over the posterior (variational) instead of at its mode.
    keep_cov : bool
        Also return the covariances.
    clocks : mapping, optional
        Name -> times at which moments of the latents are wanted besides those of the data, or
        a modality that gives its times, filter and shifts.
    """
    functions = active_functions(model)
    views = views_of(model, {**data, **(clocks or {})}, functions)
    maps = {name: views[name].maps for name in data}
    n_trials = len(next(iter(data.values())).values)
    begin = _start(start, functions, (n_trials, model.latents, functions.size))
    normal = all(one.likelihood == "gaussian" for one in data.values())
    pieces = []
    for rows in chunks(n_trials, _chunk_size(model, data, functions.size)):
        part = {name: one.take(rows) for name, one in data.items()}
        trials = _Trials(model, part, maps, functions)
        found = _exact(trials) if normal else _newton(trials, begin[rows], steps, tol, averaged)
        pieces.append(_piece(trials, views, rows, found, keep_cov))
    return joined(pieces)


def _piece(
    trials: _Trials, views: Mapping[str, View], rows: slice, found: tuple[Float, Float, Float],
    keep_cov: bool,
) -> Posterior:  # fmt: skip
    """Return the posterior of one chunk of trials."""
    mean, cov, logdet = found
    diagonal = np.diagonal(cov, axis1=1, axis2=2)
    kl = 0.5 * (diagonal.sum(1) + (mean**2).sum((1, 2)) - diagonal.shape[1] + logdet)
    moments = {}
    for name, view in views.items():
        own = View(view.maps, None if view.shift is None else view.shift[rows])
        moments[name] = _moments_of(trials, own, mean, cov)
    variance = diagonal.reshape(mean.shape)
    return Posterior(trials.active, mean, variance, kl, moments, cov if keep_cov else None)


def joined(pieces: Sequence[Posterior]) -> Posterior:
    """Return the posterior of trials that were treated in pieces."""
    covs = [one.cov for one in pieces if one.cov is not None]
    return Posterior(
        pieces[0].functions,
        np.concatenate([one.mean for one in pieces]),
        np.concatenate([one.variance for one in pieces]),
        np.concatenate([one.kl for one in pieces]),
        {
            name: Moments(
                np.concatenate([one.moments[name].mean for one in pieces]),
                np.concatenate([one.moments[name].cov for one in pieces]),
            )
            for name in pieces[0].moments
        },
        np.concatenate(covs) if covs else None,
    )


def _start(
    start: Posterior | None, functions: NDArray[np.intp], shape: tuple[int, int, int]
) -> Float:
    mean = np.zeros(shape)
    if start is not None:
        shared, here, there = np.intersect1d(functions, start.functions, return_indices=True)
        if shared.size:
            mean[:, :, here] = start.mean[:, :, there]
    return mean
