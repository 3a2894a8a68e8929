"""Spikes and video frames that share one smooth latent: the acceptance simulator of ``gp_vae``.

After the simulation of Gondur et al. (2024), with a scale of the digit that does not fold at zero
and one digit in all frames; ``hard`` restores both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["spikes_and_frames"]

Float = NDArray[np.float64]
VARIANCES = {"shared": 0.3, "spikes": 0.5, "video": 0.8}
LENGTH_BINS, BIN_S, SIDE, GLYPH = 10.0, 0.02, 20, 28
PIXEL_NOISE, TRAIN_SHARE = 0.05, 0.8


def _glyphs(hard: bool) -> Float:
    """Return digits 3 on a grid of 28 x 28, one or (hard) all of them."""
    from scipy.ndimage import zoom
    from sklearn.datasets import load_digits

    digits = load_digits()
    threes = digits.images[digits.target == 3] / 16.0
    chosen = threes if hard else threes[:1]
    return np.stack([zoom(image, GLYPH / 8, order=1) for image in chosen])


def _bilinear(glyphs: Float, kind: NDArray[np.intp], rows: Float, columns: Float) -> Float:
    """Sample glyphs at points (n_frames, n_pixels), 0 outside."""
    padded = np.pad(glyphs, ((0, 0), (2, 2), (2, 2)))
    limit = GLYPH + 2 - 1e-9
    rows, columns = np.clip(rows + 2, 0, limit), np.clip(columns + 2, 0, limit)
    top, left = rows.astype(int), columns.astype(int)
    down, right = rows - top, columns - left
    kind = kind[:, None]
    upper = padded[kind, top, left] * (1 - right) + padded[kind, top, left + 1] * right
    lower = padded[kind, top + 1, left] * (1 - right) + padded[kind, top + 1, left + 1] * right
    return upper * (1 - down) + lower * down


def _frames(angle: Float, scale: Float, glyphs: Float, kind: NDArray[np.intp]) -> Float:
    """Return frames (n, 20, 20): the glyph rotated by `angle` (rad), scaled about the centre."""
    axis = np.arange(SIDE) - (SIDE - 1) / 2
    y, x = (grid.ravel() for grid in np.meshgrid(axis, axis, indexing="ij"))
    pixel = 1.25 * GLYPH / (SIDE * scale)
    cos, sin = (np.cos(angle) * pixel)[:, None], (np.sin(angle) * pixel)[:, None]
    middle = (GLYPH - 1) / 2
    sampled = _bilinear(glyphs, kind, middle + cos * y - sin * x, middle + sin * y + cos * x)
    return sampled.reshape(-1, SIDE, SIDE)


def _scales(latent: Float, hard: bool) -> Float:
    if hard:
        return np.maximum(np.abs(1 + latent), 1e-3)
    return np.exp(0.35 * latent / np.sqrt(VARIANCES["video"]))


def _latents(n_trials: int, n_bins: int, variances: Float, rng: np.random.Generator) -> Float:
    """Draw RBF Gaussian processes, (latents, trials, bins)."""
    distance = np.subtract.outer(np.arange(n_bins), np.arange(n_bins))
    kernel = np.exp(-0.5 * (distance / LENGTH_BINS) ** 2) + 1e-6 * np.eye(n_bins)
    root = np.linalg.cholesky(kernel)
    drawn = [rng.standard_normal((n_trials, n_bins)) @ root.T for _ in variances]
    return np.sqrt(variances)[:, None, None] * np.stack(drawn)


def spikes_and_frames(
    *,
    seed: int = 32,
    n_trials: int = 300,
    n_bins: int = 60,
    n_units: int = 100,
    low: bool = False,
    hard: bool = False,
    video: bool = True,
    shared_variance: float = 0.3,
) -> tuple[xr.Dataset, xr.Dataset]:
    """Simulate counts and frames driven by a shared and two private latents.

    Parameters
    ----------
    seed : int
        Seed of every random number.
    n_trials, n_bins, n_units : int
        Sizes; bins are 20 ms.
    low : bool
        Offsets lower by 2.5: 0.11 instead of 1.45 spikes per bin.
    hard : bool
        The published zoom ``|1 + z|``, which folds at zero, and another digit in every frame.
    video : bool
        Also return frames; the latents are the same without.
    shared_variance : float
        Variance of the shared latent; 0 makes the modalities independent.

    Returns
    -------
    data : xarray.Dataset
        ``spikes(trial, time_spikes, unit_spikes)`` and ``video(trial, time_video, y, x)``.
    truth : xarray.Dataset
        ``latent(latent, trial, time)``, ``rate(trial, time, unit)`` in spikes/s, ``loading``,
        ``offset`` and ``trial_split``.

    Examples
    --------
    >>> data, truth = spikes_and_frames(n_trials=5, video=False)
    >>> data["spikes"].shape
    (5, 60, 100)
    """
    import xarray as xr

    rng = np.random.default_rng(seed)
    variances = np.array([shared_variance, VARIANCES["spikes"], VARIANCES["video"]])
    latent = _latents(n_trials, n_bins, variances, rng)
    loading = 1.5 * rng.uniform(-1, 1, (n_units, 2))
    offset = 0.5 * rng.uniform(-1, 1, n_units) - (2.5 if low else 0.0)
    rate = np.exp(np.moveaxis(latent[:2], 0, -1) @ loading.T + offset)
    counts = rng.poisson(rate)
    time = (np.arange(n_bins) + 0.5) * BIN_S
    variables: dict[str, object] = {
        "spikes": (("trial", "time_spikes", "unit_spikes"), counts.astype(np.int32))
    }
    coords: dict[str, object] = {
        "trial": np.arange(n_trials),
        "time_spikes": time,
        "unit_spikes": [f"u{i:03d}" for i in range(n_units)],
    }
    if video:
        variables["video"] = (
            ("trial", "time_video", "y", "x"),
            _video(latent[0], latent[2], hard, rng),
            {"units": "1", "likelihood": "gaussian"},
        )
        coords |= {"time_video": time, "y": np.arange(SIDE), "x": np.arange(SIDE)}
    else:
        # The pixel noise is drawn all the same, so that the split does not depend on `video`.
        for _ in range(n_trials):
            rng.standard_normal((n_bins, SIDE, SIDE))
    order = rng.permutation(n_trials)
    split = np.full(n_trials, "test", dtype="<U10")
    split[order[: round(TRAIN_SHARE * n_trials)]] = "train"
    data = xr.Dataset(variables, coords=coords, attrs={"all_valid": 1})
    data["spikes"].attrs = {"units": "1", "likelihood": "poisson", "bin_width_s": BIN_S}
    truth = xr.Dataset(
        {
            "latent_value": (("latent", "trial", "time"), latent),
            "rate": (("trial", "time", "unit"), rate / BIN_S),
            "loading": (("unit", "latent_spikes"), loading),
            "offset": ("unit", offset),
            "trial_split": ("trial", split),
        },
        coords={"latent": list(VARIANCES), "time": time},
    )
    return data, truth


def _video(
    shared: Float, private: Float, hard: bool, rng: np.random.Generator
) -> NDArray[np.float32]:
    n_trials, n_bins = shared.shape
    glyphs = _glyphs(hard)
    noise = rng.normal(0, PIXEL_NOISE, (n_trials, n_bins, SIDE, SIDE))
    kind = rng.integers(len(glyphs), size=n_bins * n_trials) if hard else np.zeros(0, int)
    frames = np.empty((n_trials, n_bins, SIDE, SIDE), np.float32)
    for trial in range(n_trials):
        which = kind[trial * n_bins : (trial + 1) * n_bins] if hard else np.zeros(n_bins, int)
        clean = _frames(
            np.deg2rad(120 * shared[trial]), _scales(private[trial], hard), glyphs, which
        )
        frames[trial] = clean + noise[trial]
    return frames
