"""Scores on trials and units that a fit did not see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from neuropipe.analyses.gp_vae.fitted import Fitted
from neuropipe.analyses.gp_vae.kernels.linear_model import Decoder, LinearModel, Modality
from neuropipe.analyses.gp_vae.kernels.maximise import update_decoder
from neuropipe.analyses.gp_vae.kernels.posterior import Moments, Posterior
from neuropipe.analyses.gp_vae.prepare import Prepared

__all__ = ["Scores", "bits_per_event", "evaluate", "r_squared", "total_score", "unit_scores"]

Float = NDArray[np.float64]
SHOTS, SHOT_STEPS = 10, 15
NORMAL_95 = 1.959964


@dataclass(frozen=True)
class Scores:
    """Scores by name.

    Attributes
    ----------
    table : mapping
        (metric, modality, split) -> value.
    units : mapping
        Modality -> co-smoothing of each held-out unit in the test trials, NaN for others.
    """

    table: Mapping[tuple[str, str, str], float]
    units: Mapping[str, Float]


def bits_per_event(values: Float, rate: Float, valid: NDArray[np.bool_]) -> Float:
    """Return the gain over each unit's mean count in bits per spike, one value per unit.

    Parameters
    ----------
    values : ndarray (R, T, N)
        Counts.
    rate : ndarray (R, T, N)
        Expected counts.
    valid : ndarray (R, T, N) of bool
        Bins that count.

    Notes
    -----
    Log-likelihood (base 2) of the Poisson rates minus that of the mean count in the scored
    trials, per spike (Pei et al. 2021).
    """
    gain, spikes = _gain(values, rate, valid)
    return np.where(spikes > 0, gain / np.maximum(spikes, 1), np.nan)


def _gain(values: Float, rate: Float, valid: NDArray[np.bool_]) -> tuple[Float, Float]:
    count = np.maximum(valid.sum(axis=(0, 1)), 1)
    spikes = np.where(valid, values, 0).sum(axis=(0, 1))
    null = np.maximum(spikes / count, 1e-9)
    rate = np.maximum(rate, 1e-9)
    gain = np.where(valid, values * np.log(rate / null) - rate + null, 0).sum(axis=(0, 1))
    return gain / np.log(2), spikes


def r_squared(values: Float, predicted: Float, valid: NDArray[np.bool_]) -> Float:
    """Return 1 minus the ratio of squared errors to the variance, one value per unit."""
    count = np.maximum(valid.sum(axis=(0, 1)), 1)
    mean = np.where(valid, values, 0).sum(axis=(0, 1)) / count
    error = np.where(valid, (values - predicted) ** 2, 0).sum(axis=(0, 1))
    total = np.where(valid, (values - mean) ** 2, 0).sum(axis=(0, 1))
    return np.where(total > 0, 1 - error / np.where(total > 0, total, 1), np.nan)


def _metric(modality: Modality) -> str:
    return "bits_per_spike" if modality.model.counts else "r2"


def unit_scores(modality: Modality, predicted: Float, units: NDArray[np.bool_]) -> Float:
    """Return bits per spike (counts) or R2 of some units."""
    parts = (modality.values[..., units], predicted[..., units], modality.valid[..., units])
    if modality.model.counts:
        return bits_per_event(parts[0], parts[1] * modality.bin_width, parts[2])
    return r_squared(*parts)


def total_score(modality: Modality, predicted: Float, units: NDArray[np.bool_]) -> float:
    """Return the score of some units together: all spikes, or the mean R2."""
    if not units.any():
        return np.nan
    if modality.model.counts:
        rate = predicted[..., units] * modality.bin_width
        gain, spikes = _gain(modality.values[..., units], rate, modality.valid[..., units])
        return float(gain.sum() / max(spikes.sum(), 1))
    scores = unit_scores(modality, predicted, units)
    return float(np.nanmean(scores)) if np.isfinite(scores).any() else np.nan


def _coverage(fitted: Fitted, name: str, one: Modality, predicted: Float, var: Float,
              units: NDArray[np.bool_]) -> float:  # fmt: skip
    """Return the share of signals inside their 95 % predictive intervals."""
    if one.likelihood != "gaussian" or not units.any():
        return np.nan
    sd = np.sqrt(var + fitted.noise(name))[..., units]
    inside = np.abs(one.values - predicted)[..., units] <= NORMAL_95 * sd
    valid = one.valid[..., units]
    return float(inside[valid].mean()) if valid.any() else np.nan


def _few_shot(
    fitted: Fitted, prepared: Prepared, name: str, posteriors: Mapping[str, Posterior]
) -> float:
    """Score a readout of held-out units from latents that was fitted to few training trials."""
    trials = prepared.trials("train")[:SHOTS]
    one, heldout = prepared.take(trials)[name], prepared.channels[name].heldout
    old = fitted.model.decoders[name]
    count = int(heldout.sum())
    start = Decoder(
        np.zeros((count, fitted.model.latents)), old.offset[heldout], old.seen, old.scale[heldout],
        np.zeros((count, old.weight.shape[1])), old.decay, np.ones(fitted.model.latents),
    )  # fmt: skip
    model: LinearModel = replace(fitted.model, decoders={name: start})
    part = replace(one, values=one.values[..., heldout], valid=one.valid[..., heldout])
    moments = posteriors["train"].moments[name]
    rows = np.flatnonzero(np.isin(prepared.trials("train"), trials))
    few = replace(
        posteriors["train"], moments={name: Moments(moments.mean[rows], moments.cov[rows])}
    )
    decoder, _ = update_decoder(model, name, part, few, steps=SHOT_STEPS)
    readout = replace(fitted, model=replace(model, decoders={name: decoder}), mlp=())
    scored = prepared.data[name].take(prepared.trials("test"))
    scored = replace(scored, values=scored.values[..., heldout], valid=scored.valid[..., heldout])
    predicted, _ = readout.predict(name, scored, posteriors["test"].moments[name])
    return total_score(scored, predicted, np.ones(count, bool))


def _shuffled(moments: Moments, rng: np.random.Generator) -> Moments:
    """Return the latents of another trial for every trial."""
    order = rng.permutation(len(moments.mean))
    place = np.empty_like(order)
    place[order] = np.roll(order, 1)
    return Moments(moments.mean[place], moments.cov[place])


def _cross(
    fitted: Fitted,
    prepared: Prepared,
    trials: NDArray[np.intp],
    table: dict[tuple[str, str, str], float],
    rng: np.random.Generator,
) -> None:
    """Add scores of each modality predicted from each other one alone, and their nulls."""
    for source in prepared.names:
        data = {
            name: one if name == source else one.drop()
            for name, one in prepared.take(trials).items()
        }
        posterior = fitted.posterior(data)
        for name in prepared.names:
            if name != source:
                one = prepared.data[name].take(trials)
                every, moments = np.ones(one.values.shape[2], bool), posterior.moments[name]
                for key, latents in (("", moments), ("null_", _shuffled(moments, rng))):
                    predicted, _ = fitted.predict(name, one, latents)
                    table[f"{key}from_{source}_{_metric(one)}", name, "test"] = total_score(
                        one, predicted, every
                    )


def evaluate(fitted: Fitted, prepared: Prepared, rng: np.random.Generator) -> Scores:
    """Score co-smoothing, its null, few-shot readouts, cross-modal prediction and calibration.

    Parameters
    ----------
    fitted : Fitted
        The model.
    prepared : Prepared
        All trials.
    rng : numpy.random.Generator
        Of the null, which predicts each trial from the latents of another.

    Notes
    -----
    Co-smoothing predicts held-out units of a trial from the other units of all modalities. Few-shot
    scores refit their readout on ten training trials, which extraneous latents harm (Dabholkar and
    Barak 2025).
    """
    table: dict[tuple[str, str, str], float] = {}
    units: dict[str, Float] = {}
    splits = [split for split in ("train", "validation", "test") if prepared.trials(split).size]
    posteriors = {
        split: fitted.posterior(prepared.held_in(prepared.trials(split))) for split in splits
    }
    seen = {split: prepared.take(prepared.trials(split)) for split in splits}
    for name, channels in prepared.channels.items():
        heldout, metric = channels.heldout, _metric(prepared.data[name])
        units[name] = np.full(heldout.size, np.nan)
        linear = channels.decoder == "linear"
        # Pixels are no units: of frames the reconstruction is scored, from all that was seen.
        scored = heldout if linear else np.ones_like(heldout)
        metric = metric if linear else f"reconstruction_{metric}"
        if not scored.any():
            continue
        for split in splits:
            one = seen[split][name]
            moments = posteriors[split].moments[name]
            predicted, var = fitted.predict(name, one, moments)
            table[metric, name, split] = total_score(one, predicted, scored)
            table["coverage", name, split] = _coverage(fitted, name, one, predicted, var, scored)
            if split == "test":
                if linear:
                    units[name][scored] = unit_scores(one, predicted, scored)
                null, _ = fitted.predict(name, one, _shuffled(moments, rng))
                table[f"null_{metric}", name, split] = total_score(one, null, scored)
        if "test" in splits and linear:
            table[f"few_shot_{metric}", name, "test"] = _few_shot(
                fitted, prepared, name, posteriors
            )
    if len(prepared.names) > 1 and "test" in splits:
        _cross(fitted, prepared, prepared.trials("test"), table, rng)
    return Scores(table, units)
