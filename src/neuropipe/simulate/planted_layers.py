"""Patterns of subjects and layers whose geometry drifts from single items to categories."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray

__all__ = ["layer_latents", "layer_patterns", "planted_layers"]

Floats = NDArray[np.float64]
DRIFT, TOP = 0.35, 0.8


def layer_latents(
    rng: np.random.Generator, *, conditions: int = 60, categories: int = 10, latents: int = 16,
    layers: int = 8,
) -> Floats:  # fmt: skip
    """Draw the latent patterns of all layers, shape ``(layers, conditions, latents)``.

    From layer to layer the items drift and their category means take over.
    """
    item = rng.normal(size=(conditions, latents))
    means = rng.normal(size=(categories, latents))
    category = means[np.arange(conditions) * categories // conditions]
    found = []
    for layer in range(layers):
        item = np.sqrt(1 - DRIFT**2) * item + DRIFT * rng.normal(size=item.shape)
        share = layer / (layers - 1) if layers > 1 else 0.0
        found.append((1 - TOP * share) * item + share * category)
    return np.stack(found)


def layer_patterns(
    rng: np.random.Generator,
    latents: Floats,
    *,
    subjects: int = 10,
    channels: int = 80,
    runs: int = 4,
    noise: float = 1.0,
    individual: float = 0.0,
) -> Floats:
    """Measure the layers in several subjects, with noise and geometries of their own.

    Returns
    -------
    ndarray, shape (subjects, layers, runs, conditions, channels)
    """
    layers, conditions, size = latents.shape
    found = np.empty((subjects, layers, runs, conditions, channels))
    for subject in range(subjects):
        for layer in range(layers):
            stretched = latents[layer] * np.exp(individual * rng.normal(size=size))
            clean = stretched @ (rng.normal(size=(size, channels)) / np.sqrt(size))
            found[subject, layer] = clean + noise * rng.normal(size=(runs, conditions, channels))
    return found


def planted_layers(
    seed: int = 0,
    *,
    n_conditions: int = 60,
    n_categories: int = 10,
    n_layers: int = 8,
    n_subjects: int = 10,
    n_channels: int = 80,
    n_runs: int = 4,
    noise: float = 1.0,
    individual: float = 0.0,
    n_times: int = 0,
    n_models: int = 3,
) -> tuple[xr.Dataset, xr.Dataset]:
    """Simulate the input of a representational analysis with known geometry.

    Parameters
    ----------
    seed : int
        Of everything that is drawn.
    n_conditions, n_categories, n_layers, n_subjects, n_channels, n_runs : int
        Sizes; layers are the regions.
    noise : float
        SD of the noise of one run.
    individual : float
        SD of the log gains of latents, which differ between subjects and layers.
    n_times : int
        0: no time axis; else the signal is there in the second half of the times, 10 ms apart.
    n_models : int
        True RDMs of layers, spread from first to last, that enter as models.

    Returns
    -------
    data : xarray.Dataset
        ``patterns(subject, region, run, condition, channel[, time])`` and ``model_rdms``.
    truth : xarray.Dataset
        ``latent(region, condition, dimension)``, ``true_rdm(region, condition, condition_2)``,
        ``category(condition)``.
    """
    rng = np.random.default_rng(seed)
    latents = layer_latents(rng, conditions=n_conditions, categories=n_categories, layers=n_layers)
    sizes = {"subjects": n_subjects, "channels": n_channels, "runs": n_runs}
    patterns = layer_patterns(rng, latents, noise=noise, individual=individual, **sizes)
    dims = ["subject", "region", "run", "condition", "channel"]
    coords = {
        "subject": [f"s{k:02d}" for k in range(n_subjects)],
        "region": [f"layer-{k}" for k in range(n_layers)],
        "run": [f"{k + 1}" for k in range(n_runs)],
        "condition": [f"c{k:03d}" for k in range(n_conditions)],
        "channel": np.arange(n_channels),
    }
    if n_times:
        fresh = rng.normal(size=(*patterns.shape, n_times)) * noise
        clean = patterns.mean(axis=2, keepdims=True)
        time = 0.01 * (np.arange(n_times) - n_times // 2)
        patterns = fresh + clean[..., None] * (time >= 0)
        dims.append("time")
        coords["time"] = time
    true = ((latents[:, :, None] - latents[:, None]) ** 2).mean(axis=3)
    chosen = np.unique(np.linspace(0, n_layers - 1, n_models).round().astype(int))
    data = xr.Dataset(
        {
            "patterns": (dims, patterns),
            "model_rdms": (("model", "condition", "condition_2"), true[chosen]),
        },
        coords={
            **coords,
            "model": [f"layer-{k}" for k in chosen],
            "condition_2": coords["condition"],
        },
        attrs={"modality": "simulated", "units": "a.u."},
    )
    truth = xr.Dataset(
        {
            "latent": (("region", "condition", "dimension"), latents),
            "true_rdm": (("region", "condition", "condition_2"), true),
            "category": ("condition", np.arange(n_conditions) * n_categories // n_conditions),
        },
        coords={k: coords[k] for k in ("region", "condition")}
        | {"condition_2": coords["condition"]},
    )
    return data, truth
