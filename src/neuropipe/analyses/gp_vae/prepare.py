"""From the input dataset to arrays per modality: checks, splits, scaling, held-out units."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuropipe.analyses.gp_vae.blocks import scored_later
from neuropipe.analyses.gp_vae.clocks import bin_width, rounded_shifts, shift_of, step_of
from neuropipe.analyses.gp_vae.kernels.fourier import Circle, make_circle
from neuropipe.analyses.gp_vae.kernels.linear_model import Modality
from neuropipe.analyses.gp_vae.spec import ModalitySettings, Settings
from neuropipe.errors import ConfigError, DataError, Issue
from neuropipe.seeds import stage_generator

__all__ = ["KINDS", "Channels", "Prepared", "prepare"]

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
SPLITS = ("train", "validation", "test")
LEAST_UNITS = 4  # a modality with fewer holds no unit out

# Default likelihood, decoder and kernel of each modality (specification, section 2).
KINDS: dict[str, tuple[str, str, str]] = {
    "spikes": ("poisson", "linear", "delta"),
    "calcium": ("gaussian", "linear", "calcium"),
    "eeg": ("gaussian", "linear", "delta"),
    "meg": ("gaussian", "linear", "delta"),
    "ieeg": ("gaussian", "linear", "delta"),
    "fmri": ("gaussian", "linear", "hrf"),
    "behavior": ("gaussian", "linear", "delta"),
    "video": ("gaussian", "mlp", "delta"),
    "events": ("bernoulli", "linear", "delta"),
}


@dataclass(frozen=True)
class Channels:
    """What the outputs need to know of the rows of one modality.

    Attributes
    ----------
    kept : ndarray (N,) of bool
        Rows that enter the fit; silent and constant ones do not.
    heldout : ndarray (N_kept,) of bool
        Rows that co-smoothing predicts.
    mean, sd : ndarray (N_kept,)
        Scaling of signals, from training trials; 0 and 1 otherwise.
    decoder : str
        ``linear`` or ``mlp``.
    decay : float
        Where the time constant of a calcium kernel starts, seconds.
    """

    kept: Bool
    heldout: Bool
    mean: Float
    sd: Float
    decoder: str
    decay: float


@dataclass(frozen=True)
class Prepared:
    """The input as the kernels take it.

    Attributes
    ----------
    data : mapping
        Modality -> scaled observations of all trials.
    channels : mapping
        Modality -> its rows.
    split : ndarray (R,) of str
        ``train``, ``validation`` or ``test``.
    circle : Circle
        Fourier series of the prior.
    bounds : (float, float)
        Of length scales, seconds.
    grid : ndarray (T,)
        The finest clock, seconds after the first time of all modalities.
    step : float
        Step of the grid, seconds.
    issues : tuple of Issue
        What a reader should know.
    later : mapping
        Modality -> times (R, T) of each trial that a trial of a later split holds too.
    """

    data: Mapping[str, Modality]
    channels: Mapping[str, Channels]
    split: NDArray[np.str_]
    circle: Circle
    bounds: tuple[float, float]
    grid: Float
    step: float
    issues: tuple[Issue, ...]
    later: Mapping[str, Bool] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Modalities in order."""
        return list(self.data)

    @property
    def mlp(self) -> list[str]:
        """Modalities with a multi-layer decoder."""
        return [name for name, one in self.channels.items() if one.decoder == "mlp"]

    @property
    def linear(self) -> list[str]:
        """Modalities with a linear decoder."""
        return [name for name, one in self.channels.items() if one.decoder == "linear"]

    def trials(self, *splits: str) -> NDArray[np.intp]:
        """Return the trials of some splits."""
        return np.flatnonzero(np.isin(self.split, splits))

    def take(self, trials: NDArray[np.intp]) -> dict[str, Modality]:
        """Return the observations of some trials, without those that a later split holds."""
        return {
            name: one.take(trials).hide(self.later[name][trials][..., None])
            if name in self.later
            else one.take(trials)
            for name, one in self.data.items()
        }

    def held_in(self, trials: NDArray[np.intp]) -> dict[str, Modality]:
        """Return the observations of some trials without held-out units."""
        return {
            name: one.hide(self.channels[name].heldout) for name, one in self.take(trials).items()
        }


def modality_names(data: xr.Dataset) -> list[str]:
    """Return the modalities of an input dataset, in order."""
    listed = json.loads(str(data.attrs.get("modalities", "[]")))
    names = listed or [name for name in KINDS if name in data.data_vars]
    if not names:
        raise DataError(f"the input has no modality; known are {', '.join(KINDS)}")
    absent = [name for name in names if name not in data.data_vars]
    if absent:
        raise DataError(
            f"attribute `modalities` names {', '.join(absent)}, but there is no such variable"
        )
    return names


def _array(data: xr.Dataset, name: str) -> tuple[NDArray[np.generic], Float]:
    """Return values (R, T, N) and times of one modality."""
    dims = ("trial", f"time_{name}", f"unit_{name}")
    one = data[name]
    if {"y", "x"} <= set(one.dims):
        one = one.transpose(*dims[:2], "y", "x")
        values = one.values.reshape(*one.shape[:2], -1)
    else:
        missing = [dim for dim in dims if dim not in one.dims]
        if missing:
            raise DataError(f"{name}: dims are {one.dims}, expected {dims}")
        values = one.transpose(*dims).values
    times = data[dims[1]].values.astype(float)
    if np.any(np.diff(times) <= 0):
        raise DataError(f"{dims[1]}: times must rise without repeats")
    return values, times


def _valid(data: xr.Dataset, name: str, values: NDArray[np.generic]) -> Bool:
    if np.isinf(values.astype(float)).any():
        trial = int(np.argwhere(np.isinf(values.astype(float)))[0][0])
        raise DataError(f"{name}: infinite value in trial {trial}; mark missing values with NaN")
    valid = ~np.isnan(values) if values.dtype.kind == "f" else np.ones(values.shape, bool)
    key = f"valid_{name}"
    if key in data:
        order = [dim for dim in ("trial", f"time_{name}", f"unit_{name}") if dim in data[key].dims]
        mask = data[key].transpose(*order).values.astype(bool)
        valid = valid & (mask[..., None] if mask.ndim == 2 else mask)
    return valid


def _check_counts(name: str, values: NDArray[np.generic], valid: Bool) -> None:
    seen = values[valid].astype(float)
    if (seen < 0).any() or (seen != np.round(seen)).any():
        trial = int(np.argwhere(valid & ((values < 0) | (values != np.round(values))))[0][0])
        raise DataError(
            f"{name}: a count in trial {trial} is negative or not an integer; set "
            f"`modalities.{name}.likelihood: gaussian` for signals and rates"
        )


def _check_binary(name: str, values: NDArray[np.generic], valid: Bool) -> None:
    if not np.isin(values[valid].astype(float), (0.0, 1.0)).all():
        raise DataError(f"{name}: bernoulli needs values of 0 and 1")


CHECKS = {"poisson": _check_counts, "negbin": _check_counts, "bernoulli": _check_binary}


def _choices(data: xr.Dataset, name: str, given: ModalitySettings) -> tuple[str, str, str]:
    """Return likelihood, decoder and kernel of one modality."""
    default = KINDS.get(name, ("gaussian", "linear", "delta"))
    told = str(data[name].attrs.get("likelihood", default[0]))
    likelihood = told if given.likelihood == "auto" else given.likelihood
    decoder = default[1] if given.decoder == "auto" else given.decoder
    kernel = default[2] if given.kernel == "auto" else given.kernel
    if given.kernel == "auto" and likelihood in ("poisson", "negbin", "bernoulli"):
        kernel = "delta"
    return likelihood, decoder, kernel


def _regressor(data: xr.Dataset, name: str, shape: tuple[int, ...], train: Bool) -> Float | None:
    """Return nuisance regressors (R, T, D) as z-scores of the training trials, NaN if missing."""
    key = f"regressor_{name}"
    if key not in data:
        return None
    feature = [dim for dim in data[key].dims if dim not in ("trial", f"time_{name}")]
    array = data[key].transpose("trial", f"time_{name}", *feature).values.astype(float)
    if array.shape[:2] != shape[:2]:
        raise DataError(f"{key}: {array.shape[:2]} trials and times, {name} has {shape[:2]}")
    seen = np.where(np.isfinite(array[train]), array[train], np.nan)
    if not np.isfinite(seen).any(axis=(0, 1)).all():
        raise DataError(f"{key}: a regressor has no finite value in the training trials")
    centre, sd = np.nanmean(seen, axis=(0, 1)), np.nanstd(seen, axis=(0, 1))
    return (np.where(np.isfinite(array), array, np.nan) - centre) / np.where(sd > 0, sd, 1.0)


def split_trials(count: int, shares: list[float], seed: int) -> NDArray[np.str_]:
    """Return the split of every trial; at least two train, the others as shares allow."""
    if count < 3:
        raise DataError(f"{count} trials; a fit needs two for training and one for a test")
    order = stage_generator(seed, "split").permutation(count)
    train = min(max(2, round(shares[0] * count)), count - 1 if shares[2] > 0 else count)
    validation = min(round(shares[1] * count), count - train - (1 if shares[2] > 0 else 0))
    split = np.full(count, "test", dtype="<U10")
    split[order[:train]] = "train"
    split[order[train : train + max(validation, 0)]] = "validation"
    return split


def _one(
    data: xr.Dataset, name: str, settings: Settings, split: NDArray[np.str_], seed: int
) -> tuple[Modality, Channels, list[Issue]]:
    given = settings.modalities.get(name, ModalitySettings())
    likelihood, decoder, kernel = _choices(data, name, given)
    values, times = _array(data, name)
    valid = _valid(data, name, values)
    train = split == "train"
    regressor = _regressor(data, name, values.shape, train)
    if regressor is not None:
        valid = valid & np.isfinite(regressor).all(axis=2)[..., None]
        regressor = np.nan_to_num(regressor)
    if likelihood in CHECKS:
        CHECKS[likelihood](name, values, valid)
    if not valid[train].any():
        raise DataError(f"{name}: no valid value in any training trial; leave the modality out")
    raw = np.where(valid, values, 0).astype(float)
    count = np.maximum(valid[train].sum(axis=(0, 1)), 1)
    mean = raw[train].sum(axis=(0, 1)) / count
    var = (np.where(valid[train], raw[train] - mean, 0) ** 2).sum(axis=(0, 1)) / count
    kept = var > 0
    kept = np.ones_like(kept) if decoder == "mlp" else kept
    issues = _silent(data, name, kept)
    if not kept.any():
        raise DataError(f"{name}: every unit is silent or constant in the training trials")
    scaled = likelihood in ("gaussian", "student_t") and decoder == "linear"
    centre = mean[kept] if scaled else np.zeros(kept.sum())
    sd = np.sqrt(var[kept]) if scaled else np.ones(kept.sum())
    valid = valid[..., kept]
    values = np.where(valid, (raw[..., kept] - centre) / sd, 0.0)
    heldout = _heldout(kept, settings.heldout_units if decoder == "linear" else 0.0, name, seed)
    width = bin_width(data, name, times, likelihood)
    modality = Modality(
        values, valid, times, likelihood, width, kernel, regressor, shift_of(data, name)
    )
    return modality, Channels(kept, heldout, centre, sd, decoder, given.decay_s), issues


def _silent(data: xr.Dataset, name: str, kept: Bool) -> list[Issue]:
    if kept.all():
        return []
    labels = data[f"unit_{name}"].values[~kept] if f"unit_{name}" in data.coords else []
    listed = ", ".join(map(str, labels[:5])) + (" ..." if len(labels) > 5 else "")
    message = f"{int((~kept).sum())} units never change in training trials: {listed}"
    return [Issue("SILENT_UNITS", name, message, "they are not fitted; their rate is 0")]


def _heldout(kept: Bool, share: float, name: str, seed: int) -> Bool:
    count = int(kept.sum())
    heldout = np.zeros(count, bool)
    number = round(share * count)
    if count >= LEAST_UNITS and number:
        chosen = stage_generator(seed, f"heldout-{name}").permutation(count)[:number]
        heldout[chosen] = True
    return heldout


def _bounds(
    data: Mapping[str, Modality], settings: Settings, finest: float
) -> tuple[float, float, float]:
    """Return the bounds of length scales and the longest span of a trial, seconds."""
    begin, end = [], []
    for one in data.values():
        seen = one.valid.any(axis=(0, 2))
        begin.append(one.times[seen][0] if seen.any() else one.times[0])
        end.append(one.times[seen][-1] if seen.any() else one.times[-1])
    span = float(max(end) - min(begin)) + finest
    given = settings.prior.length_scale_s
    shortest, longest = given if given is not None else (2 * finest, span / 2)
    if shortest >= longest:
        raise ConfigError(
            f"prior.length_scale_s: [{shortest:g}, {longest:g}]: the shortest must be below the "
            "longest; trials of this length need other bounds"
        )
    return shortest, longest, span


def prepare(data: xr.Dataset, settings: Settings, seed: int) -> Prepared:
    """Check the input and return its arrays.

    Parameters
    ----------
    data : xarray.Dataset
        Input dataset of `neuropipe.assemble.multimodal`, dims in any order.
    settings : Settings
        Likelihoods, split, held-out units, prior.
    seed : int
        Of split and held-out units.

    Raises
    ------
    DataError
        If values, times or trials cannot be used; names variable and trial.
    ConfigError
        If settings name an unknown modality or contradict each other.
    """
    names = modality_names(data)
    unknown = [name for name in settings.modalities if name not in names]
    if unknown:
        raise ConfigError(f"modalities.{unknown[0]}: the input has {', '.join(names)} only")
    split = split_trials(data.sizes["trial"], settings.split, seed)
    modalities, channels, issues = {}, {}, []
    for name in names:
        modalities[name], channels[name], told = _one(data, name, settings, split, seed)
        issues += told
    steps = {name: step_of(data, name, one.times) for name, one in modalities.items()}
    finest = min(steps, key=lambda name: steps[name])
    shortest, longest, span = _bounds(modalities, settings, steps[finest])
    modalities = rounded_shifts(modalities, shortest)
    nyquist = np.pi / steps[finest]
    circle = make_circle(
        span, (shortest, longest), pad=settings.prior.pad, cond=settings.prior.cond, nyquist=nyquist
    )
    begin = min(float(one.times[0]) for one in modalities.values())
    # Times count from the first, so that the circle's seam lies in the padding.
    modalities = {name: replace(one, times=one.times - begin) for name, one in modalities.items()}
    return Prepared(
        modalities,
        channels,
        split,
        circle,
        (shortest, longest),
        modalities[finest].times,
        steps[finest],
        tuple(issues),
        scored_later(data, modalities, split, steps),
    )
