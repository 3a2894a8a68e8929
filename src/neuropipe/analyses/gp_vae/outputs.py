"""The result dataset of section 9 of the specification."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuropipe.analyses.gp_vae.blocks import blend, overlap
from neuropipe.analyses.gp_vae.clocks import step_of
from neuropipe.analyses.gp_vae.evaluate import Scores
from neuropipe.analyses.gp_vae.fitted import Fitted
from neuropipe.analyses.gp_vae.frames import turn_moments, variance_explained
from neuropipe.analyses.gp_vae.kernels.likelihoods import ETA_CAP
from neuropipe.analyses.gp_vae.kernels.posterior import Posterior, linear_predictor
from neuropipe.analyses.gp_vae.prepare import SPLITS, Prepared
from neuropipe.analyses.gp_vae.pruning import PRUNE_SHARE
from neuropipe.errors import Issue, issues_to_json

__all__ = ["Chosen", "result_dataset"]

Float = NDArray[np.float64]
COLLAPSED, NEGATIVE_SHARE, AT_BOUND = 0.1, 0.2, 1.02
OVERLAP = 4  # length scales after which blocks know no more of each other


@dataclass(frozen=True)
class Chosen:
    """The fit that was kept and what was computed from it.

    Attributes
    ----------
    fitted, prepared, posterior
        Model, input, posterior of all trials (with a clock ``grid``).
    frame : ndarray (K, K)
        From the model's latents to those of the result.
    scores : Scores
        Held-out scores.
    group : tuple of xarray.Dataset
        Parts of the chosen number of latents, by restart.
    by_size : mapping
        Number of latents -> parts.
    """

    fitted: Fitted
    prepared: Prepared
    posterior: Posterior
    frame: Float
    scores: Scores
    group: tuple[xr.Dataset, ...]
    by_size: Mapping[int, Sequence[xr.Dataset]]


def _labels(chosen: Chosen) -> list[str]:
    found = [""] * chosen.fitted.model.latents
    for name, group in chosen.fitted.groups.items():
        for latent in group:
            found[latent] = name
    return found


def _inside(prepared: Prepared) -> NDArray[np.bool_]:
    """Return which times of the grid lie within each trial's span, (R, T)."""
    grid = prepared.grid
    first, last = np.full(len(prepared.split), np.inf), np.full(len(prepared.split), -np.inf)
    for one in prepared.data.values():
        seen = one.valid.any(axis=2)
        times = np.where(seen, one.times, np.inf)
        first = np.minimum(first, times.min(axis=1))
        last = np.maximum(last, np.where(seen, one.times, -np.inf).max(axis=1))
    slack = 1e-9 + 0.5 * prepared.step
    return (grid >= first[:, None] - slack) & (grid <= last[:, None] + slack)


def _latents(data: xr.Dataset, chosen: Chosen) -> dict[str, Any]:
    moments = turn_moments(chosen.frame, chosen.posterior.moments["grid"])
    inside = _inside(chosen.prepared)[..., None]
    var = np.diagonal(moments.cov, axis1=2, axis2=3)
    frame = chosen.frame
    coefficients = np.einsum("lk,rkf->rlf", frame, chosen.posterior.mean)
    model = chosen.fitted.model
    seen = {
        name: model.decoders[name].seen
        if name in model.decoders
        else np.isin(np.arange(model.latents), chosen.fitted.network.places[name])  # type: ignore[union-attr]
        for name in chosen.prepared.names
    }
    moved = np.abs(frame) > 1e-9
    mask = np.stack([(moved & seen[name][None]).any(axis=1) for name in chosen.prepared.names])
    return {
        "latent_mean": (("trial", "time", "latent"), np.where(inside, moments.mean, np.nan)),
        "latent_var": (("trial", "time", "latent"), np.where(inside, var, np.nan)),
        "coef_mean": (("trial", "latent", "freq"), coefficients),
        "length_scale_s": ("latent", np.exp((frame**2) @ np.log(model.lengths))),
        "latent_group": ("latent", np.array(_labels(chosen), dtype="<U40")),
        "latent_mask": (("modality", "latent"), mask),
        "latent_frame": (("latent", "latent_2"), frame),
        "variance_explained": (
            ("modality", "latent"),
            variance_explained(chosen.fitted, chosen.posterior, frame, chosen.prepared.names),
        ),
        "trial_split": ("trial", chosen.prepared.split),
    }


def _recording(data: xr.Dataset, chosen: Chosen, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return latents and predictions of overlapping blocks on the clock of the recording."""
    prepared = chosen.prepared
    if not overlap(data, prepared.grid, prepared.step) > 0:
        return {}
    begin = min(float(data[f"time_{name}"].values[0]) for name in prepared.names)
    moments = turn_moments(chosen.frame, chosen.posterior.moments["grid"])
    var = np.diagonal(moments.cov, axis1=2, axis2=3)
    latents = blend(
        data, moments.mean, var, _inside(prepared), prepared.grid + begin, prepared.step
    )
    blended: dict[str, Any] = {
        "recording_latent_mean": (("recording_time", "latent"), latents.mean),
        "recording_latent_var": (("recording_time", "latent"), latents.var),
        "recording_time": ("recording_time", latents.time, {"units": "s"}),
        "recording_run": ("recording_time", latents.run),
    }
    for name in prepared.names:
        blended |= _recorded_prediction(data, prepared, name, found[f"prediction_{name}"][1])
    return blended


def _recorded_prediction(
    data: xr.Dataset, prepared: Prepared, name: str, predicted: NDArray[np.float32]
) -> dict[str, Any]:
    """Return the prediction of a modality on the clock of the recording, at its own step."""
    one, times = prepared.data[name], data[f"time_{name}"].values.astype(float)
    step = step_of(data, name, times)
    inside = np.ones((len(prepared.split), times.size), bool)
    values = predicted.astype(float)
    whole = blend(data, values, np.zeros_like(values), inside, times, step, one.shift)
    clock = f"recording_time_{name}"
    return {
        f"recording_prediction_{name}": ((clock, f"unit_{name}"), whole.mean.astype(np.float32)),
        clock: (clock, whole.time, {"units": "s"}),
        f"recording_run_{name}": (clock, whole.run),
    }


def _spread(values: Float, kept: NDArray[np.bool_], fill: float) -> Float:
    """Return rows of the fit at their places among all rows."""
    full = np.full((kept.size, *values.shape[1:]), fill)
    full[kept] = values
    return full


def _example(prepared: Prepared) -> int:
    """Return the trial that figures show: the middle one of the test."""
    test = prepared.trials("test")
    test = test if test.size else np.arange(len(prepared.split))
    return int(test[test.size // 2])


def _modality(name: str, chosen: Chosen) -> dict[str, Any]:
    fitted, channels = chosen.fitted, chosen.prepared.channels[name]
    one, moments = chosen.prepared.data[name], chosen.posterior.moments[name]
    predicted, _ = fitted.predict(name, one, moments)
    predicted = predicted * channels.sd + channels.mean
    full = np.zeros((*predicted.shape[:2], channels.kept.size), np.float32)
    full[..., channels.kept] = predicted
    unit, trial = f"unit_{name}", _example(chosen.prepared)
    seen = np.full((one.times.size, channels.kept.size), np.nan, np.float32)
    seen[:, channels.kept] = np.where(
        one.valid[trial], one.values[trial] * channels.sd + channels.mean, np.nan
    )
    found: dict[str, Any] = {
        f"example_{name}": ((f"time_{name}", unit), seen),
        f"prediction_{name}": (("trial", f"time_{name}", unit), full),
        f"noise_{name}": (unit, _spread(fitted.noise(name), channels.kept, np.nan)),
        f"heldout_{name}": (unit, _spread(channels.heldout * 1.0, channels.kept, 0) > 0),
        f"co_smoothing_{name}": (
            unit,
            _spread(chosen.scores.units[name], channels.kept, np.nan),
        ),
    }
    if name in fitted.model.decoders:
        decoder = fitted.model.decoders[name]
        loading = decoder.loading @ chosen.frame.T
        found |= {
            f"loading_{name}": ((unit, "latent"), _spread(loading, channels.kept, np.nan)),
            f"offset_{name}": (unit, _spread(decoder.offset, channels.kept, np.nan)),
        }
    return found


def _score_array(chosen: Chosen) -> tuple[Any, dict[str, Any]]:
    table, names = chosen.scores.table, chosen.prepared.names
    metrics = list(dict.fromkeys(key[0] for key in table)) or ["r2"]
    values = np.full((len(metrics), len(names), len(SPLITS)), np.nan)
    for (metric, name, split), value in table.items():
        values[metrics.index(metric), names.index(name), SPLITS.index(split)] = value
    return (("metric", "modality", "split"), values), {"metric": metrics, "split": list(SPLITS)}


def _training(chosen: Chosen) -> dict[str, Any]:
    epochs = max(part.sizes["epoch"] for part in chosen.group)
    terms = chosen.group[0].sizes["term"]
    elbo = np.full((len(chosen.group), epochs, terms), np.nan)
    for row, part in zip(elbo, chosen.group, strict=True):
        row[: part.sizes["epoch"]] = part["elbo"].values
    sizes = sorted(chosen.by_size)
    restarts = max(len(group) for group in chosen.by_size.values())
    score = np.full((len(sizes), restarts), np.nan)
    error = np.full((len(sizes), restarts), np.nan)
    for row, size in enumerate(sizes):
        for column, part in enumerate(chosen.by_size[size]):
            values = part["validation_score"].values
            score[row, column] = values.mean()
            error[row, column] = values.std(ddof=1) / np.sqrt(values.size) if values.size > 1 else 0
    return {
        "elbo": (("restart", "epoch", "term"), elbo),
        "restart_elbo": ("restart", [float(p["validation_elbo"]) for p in chosen.group]),
        "restart_converged": ("restart", [bool(p.attrs["converged"]) for p in chosen.group]),
        "selection_score": (("candidate", "candidate_restart"), score),
        "selection_error": (("candidate", "candidate_restart"), error),
    }


def _issues(data: xr.Dataset, chosen: Chosen) -> list[Issue]:
    issues = []
    prepared, posterior = chosen.prepared, chosen.posterior
    if not all(part.attrs["converged"] for part in chosen.group):
        message = "the objective still rose at the end of at least one restart"
        issues.append(Issue("NOT_CONVERGED", "max_epochs", message, "raise max_epochs"))
    lengths, (low, high) = chosen.fitted.model.lengths, prepared.bounds
    bound = [k for k, one in enumerate(lengths) if one < low * AT_BOUND or one > high / AT_BOUND]
    if bound:
        message = f"length scales of {len(bound)} latents lie at a bound ({low:g} or {high:g} s)"
        issues.append(Issue("LENGTH_AT_BOUND", "prior.length_scale_s", message, "widen the bounds"))
    spread = posterior.variance
    kl = 0.5 * (posterior.mean**2 + spread - 1 - np.log(spread)).sum(axis=2).mean(axis=0)
    if (kl < COLLAPSED).any():
        message = f"{int((kl < COLLAPSED).sum())} latents carry less than 0.1 nats per trial"
        issues.append(Issue("COLLAPSED_LATENTS", "latents", message, "use fewer latents"))
    for name, one in prepared.data.items():
        units = chosen.scores.units[name]
        scored = units[np.isfinite(units)]
        negative = (scored < 0).mean() if scored.size else 0.0
        if one.model.counts and negative > NEGATIVE_SHARE:
            message = f"{100 * negative:.0f} % of held-out units are predicted worse than by a mean"
            issues.append(Issue("NEGATIVE_CO_SMOOTHING", name, message, "see the scores"))
    span = float(prepared.grid[-1] - prepared.grid[0])
    if span > prepared.circle.circumference - 4 * float(lengths.max()) + 1e-9:
        message = "trials are longer than the circle less 4 length scales: their ends correlate"
        issues.append(Issue("SHORT_PADDING", "prior.pad", message, "raise prior.pad"))
    return [*issues, *_overlap_issues(data, chosen), *_cap_issues(chosen)]


def _overlap_issues(data: xr.Dataset, chosen: Chosen) -> list[Issue]:
    prepared, longest = chosen.prepared, float(chosen.fitted.model.lengths.max())
    shared = overlap(data, prepared.grid, prepared.step)
    if not shared < OVERLAP * longest:
        return []
    message = (
        f"blocks overlap by {max(shared, 0):.3g} s, less than 4 length scales "
        f"({OVERLAP * longest:.3g} s): latents near their edges miss what the next block knows"
    )
    hint = "raise overlap_s and block_s"
    severity = "warning" if shared > 0 else "info"
    return [Issue("SHORT_OVERLAP", "input.trials.overlap_s", message, hint, severity)]


def _sharing_issues(result: xr.Dataset) -> list[Issue]:
    """Return an issue for each shared latent that matters to fewer than two modalities."""
    issues, names = [], result["modality"].values.astype(str)
    seen, share = result["latent_mask"].values, result["variance_explained"].values
    for latent in np.flatnonzero(seen.sum(axis=0) > 1):
        used = seen[:, latent] & (share[:, latent] >= PRUNE_SHARE)
        if used.sum() > 1:
            continue
        weak = ", ".join(names[seen[:, latent] & ~used])
        message = f"latent {latent} explains less than {100 * PRUNE_SHARE:g} % of {weak}"
        hint = "read it as private to the others, or use fewer shared latents"
        issues.append(Issue("LATENT_NOT_SHARED", "latents", message, hint))
    return issues


def _cap_issues(chosen: Chosen) -> list[Issue]:
    """Return an issue for each modality of counts whose log rate ended at the cap."""
    issues = []
    for name, one in chosen.prepared.data.items():
        if not one.model.counts or name not in chosen.fitted.model.decoders:
            continue
        mean, var = linear_predictor(chosen.fitted.model, name, one, chosen.posterior.moments[name])
        capped = ((mean + 0.5 * var >= ETA_CAP) & one.valid).any(axis=(0, 1))
        if capped.any():
            message = f"log rates of {int(capped.sum())} units end at the cap of {ETA_CAP:g}"
            hint = "check units and bin width; leave out artefacts"
            issues.append(Issue("PREDICTOR_CAPPED", name, message, hint))
    return issues


def result_dataset(data: xr.Dataset, chosen: Chosen) -> xr.Dataset:
    """Return the result: latents, loadings, predictions, scores and histories.

    Parameters
    ----------
    data : xarray.Dataset
        The input; coordinates are copied.
    chosen : Chosen
        The fit that was kept.
    """
    prepared, fitted = chosen.prepared, chosen.fitted
    variables = _latents(data, chosen)
    for name in prepared.names:
        variables |= _modality(name, chosen)
    score, score_coords = _score_array(chosen)
    variables |= {"score": score, **_training(chosen)}
    variables |= _recording(data, chosen, variables)
    begin = min(float(data[f"time_{name}"].values[0]) for name in prepared.names)
    omega = fitted.model.circle.omega[chosen.posterior.functions]
    coords: dict[str, Any] = {
        "trial": data["trial"].values if "trial" in data.coords else np.arange(len(prepared.split)),
        "time": prepared.grid + begin,
        "latent": np.arange(fitted.model.latents),
        "frequency_hz": ("freq", omega / (2 * np.pi)),
        "modality": prepared.names,
        "term": chosen.group[0]["term"].values,
        "candidate": sorted(chosen.by_size),
        **score_coords,
    }
    for name in prepared.names:
        coords[f"time_{name}"] = data[f"time_{name}"].values
        units = prepared.channels[name].kept.size
        labels = data.coords.get(f"unit_{name}")
        coords[f"unit_{name}"] = np.arange(units) if labels is None else labels.values
    offsets = [f"sample_offset_{name}" for name in prepared.names]
    for name in ("trial_label", "trial_onset", "trial_start", "run", *offsets):
        if name in data.coords or name in data:
            coords[name] = ("trial", data[name].values)
    result = xr.Dataset(variables, coords=coords)
    for name in prepared.names:
        coords_of = {"likelihood": prepared.data[name].likelihood,
                     "decoder": prepared.channels[name].decoder,
                     "kernel": prepared.data[name].kernel,
                     "bin_width_s": prepared.data[name].bin_width}  # fmt: skip
        result[f"prediction_{name}"].attrs = {
            **coords_of, "units": "Hz" if prepared.data[name].model.counts else
            str(data[name].attrs.get("units", "1")),
        }  # fmt: skip
    return result.assign_attrs(
        issues=issues_to_json([*_issues(data, chosen), *_sharing_issues(result)]),
        length_bounds_s=json.dumps(list(prepared.bounds)),
        factorised=int(fitted.network is not None and not fitted.refine),
        example_trial=_example(prepared),
    )
