"""The methods paragraph: what was done, with the numbers of this result, ready to paste."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from neuropipe.analyses.gp_vae.spec import GroupSizes, Settings
from neuropipe.analyses.methods_text import changed_sentence, paragraph, software_sentence

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["text"]

REFERENCES = {
    "Gondur": "Gondur R, Sikandar UB, Schaffer E, Aoi MC, Keeley SL (2024). Multi-modal Gaussian "
    "process variational autoencoders for neural and behavioral data. ICLR 2024, arXiv:2310.03111.",
    "Yu": "Yu BM et al. (2009). Gaussian-process factor analysis for low-dimensional single-trial "
    "analysis of neural population activity. J Neurophysiol 102:614-635.",
    "Pei": "Pei F et al. (2021). Neural Latents Benchmark '21. NeurIPS Datasets and Benchmarks, "
    "arXiv:2109.04463.",
    "Radhakrishnan": "Radhakrishnan A, Beaglehole D, Pandit P, Belkin M (2024). Mechanism for "
    "feature learning in neural networks and backpropagation-free machine learning models. "
    "Science 383:1461-1467.",
    "Dabholkar": "Dabholkar K, Barak O (2025). When predict can also explain: few-shot prediction "
    "to select better neural latents. arXiv:2405.14425.",
}
LIKELIHOODS = {
    "poisson": "Poisson counts with a log link",
    "negbin": "negative binomial counts with a log link and one dispersion per unit",
    "gaussian": "normal signals with one noise variance per unit",
    "bernoulli": "binary values with a logit link",
    "student_t": "Student-t signals (4 degrees of freedom)",
}
KERNELS = {
    "delta": "",
    "calcium": ", filtered by an exponential decay whose time constant was fitted",
    "hrf": ", filtered by the canonical haemodynamic response",
}
DECODERS = {"linear": "a linear decoder", "mlp": "a network decoder (128 and 256 ELU units)"}
INFERENCE = {
    "exact": "Posteriors of the coefficients of each trial were exact (normal, joint over latents)",
    "laplace": "Posteriors of the coefficients of each trial were normal approximations at the "
    "mode found by Newton's method (Laplace), joint over latents",
    "amortized": "Modalities with linear decoders were fitted first; network decoders were then "
    "trained on these latents, with a learned rotation, and at last everything together, each "
    "encoder giving a pseudo-observation and a precision per time and latent",
    "svi": "Posteriors were free normal distributions per trial and latent, fitted by stochastic "
    "gradients (Pyro)",
}
REFINED = (
    " Final posteriors combine Newton steps for linear decoders with the encoders of the others, "
    "which count as Student-t observations (4 degrees of freedom) of latents that other modalities "
    "see."
)


def _model(settings: Settings, result: xr.Dataset) -> str:
    parts = []
    for name in map(str, result["modality"].values):
        attrs, units = result[f"prediction_{name}"].attrs, result.sizes[f"unit_{name}"]
        parts.append(
            f"{name} ({units} units: {LIKELIHOODS[str(attrs['likelihood'])]}, "
            f"{DECODERS[str(attrs['decoder'])]}{KERNELS[str(attrs['kernel'])]})"
        )
    low, high = json.loads(str(result.attrs["length_bounds_s"]))
    return (
        f"Latent trajectories of {result.sizes['trial']} trials were estimated from "
        f"{' and '.join(parts)}, each on its own clock, after Gondur et al. (2024); with one "
        "modality and a linear decoder this is Gaussian-process factor analysis (Yu et al. 2009). "
        f"Latents had a Gaussian-process prior ({settings.prior.spectrum} kernel, unit variance) "
        f"with length scales learned between {low:g} and {high:g} s, written as a Fourier series "
        f"on a circle padded by {settings.prior.pad:g} longest length scales."
    )


def _count(settings: Settings, result: xr.Dataset) -> str:
    chosen = int(result.attrs["latents_selected"])
    if settings.latents == "auto":
        return (
            f"{result.sizes['latent']} latents were left by automatic relevance determination "
            "(pruned below 0.5 % of a modality's predictor variance)."
        ) + _directions(result)
    if isinstance(settings.latents, list):
        tried = ", ".join(map(str, settings.candidates))
        return (
            f"{chosen} latents were chosen among {tried} as the smallest number within one "
            "standard error of the best held-out log-likelihood in validation trials."
        )
    if isinstance(settings.latents, GroupSizes):
        return (
            f"{settings.latents.shared} latents were shared and {settings.latents.private} "
            "private to each modality."
        )
    return f"The number of latents was set to {chosen}."


def _directions(result: xr.Dataset) -> str:
    """Return how shared latents of network decoders were counted."""
    names = map(str, result["modality"].values)
    decoders = [str(result[f"prediction_{name}"].attrs["decoder"]) for name in names]
    if "mlp" not in decoders or decoders.count("linear") != 1:
        return ""
    return (
        " Latents that network decoders share were directions of the gradients of a kernel "
        "regression (Radhakrishnan et al. 2024), as many as predict left-out trials."
    )


def _scores(settings: Settings, result: xr.Dataset) -> str:
    split = result["trial_split"].values
    counts = [int((split == name).sum()) for name in ("train", "validation", "test")]
    return (
        f"Trials were split at random into {counts[0]} for training, {counts[1]} for validation "
        f"and {counts[2]} for the test; the best of {settings.restarts} "
        f"start{'s' * (settings.restarts != 1)} by the bound for validation trials was kept. "
        f"Co-smoothing predicts {100 * settings.heldout_units:g} % of the units of each modality "
        "from the others (bits per spike over the mean rate of the scored trials, Pei et al. 2021, "
        "or R2), also by a readout refitted on ten trials (Dabholkar and Barak 2025)."
    )


def text(settings: Settings, result: xr.Dataset) -> str:
    """Return the methods paragraph with references.

    Parameters
    ----------
    settings : Settings
        Settings of the analysis.
    result : xarray.Dataset
        Result of the analysis.
    """
    inference = str(result.attrs["inference"])
    lengths = result["length_scale_s"].values
    refined = REFINED if inference == "amortized" and settings.refine else ""
    parts = (
        _model(settings, result), _count(settings, result), INFERENCE[inference] + "." + refined,
        f"Fitted length scales were {np.min(lengths):.3g} to {np.max(lengths):.3g} s.",
        _scores(settings, result), changed_sentence(settings), software_sentence(result.attrs),
    )  # fmt: skip
    return paragraph(parts, REFERENCES)
