"""From the input dataset to trials one after the other, checked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuropipe.analyses.hmm_glm.kernels.families import FAMILIES, GAUSSIAN
from neuropipe.analyses.hmm_glm.kernels.glm import Observations
from neuropipe.analyses.hmm_glm.kernels.history import history_basis, history_features
from neuropipe.analyses.hmm_glm.spec import Settings
from neuropipe.errors import DataError, Issue

__all__ = ["COUNTS", "Prepared", "family_of", "observed_name", "prepare"]

LINKS = {"bernoulli": "logistic", "gaussian": "identity"}
COUNTS = dict.fromkeys(("poisson", "negbin"), "counts 0, 1, 2, ...")


@dataclass(frozen=True)
class Prepared:
    """The input as the kernels take it.

    Attributes
    ----------
    observations : Observations
        Trials without the invalid bins at their ends.
    cells : tuple of ndarray of int, each shape (n_bins,)
        Trial and time index of every bin.
    shape : tuple of int
        Trials and bins of the input.
    basis : ndarray, shape (n_basis, n_lags)
    shared : ndarray of bool, shape (n_features,)
        The history features.
    silent : ndarray of bool, shape (n_units,)
        Units without a single count.
    family, link : str
    units : ndarray, shape (n_units,)
        Names.
    issues : tuple of Issue
    """

    observations: Observations
    cells: tuple[NDArray[np.int64], NDArray[np.int64]]
    shape: tuple[int, int]
    basis: NDArray[np.float64]
    shared: NDArray[np.bool_]
    silent: NDArray[np.bool_]
    family: str
    link: str
    units: NDArray[np.generic]
    issues: tuple[Issue, ...]

    def unfold(self, values: NDArray[np.generic], fill: float) -> NDArray[np.generic]:
        """Return values per bin as (trial, time, ...), ``fill`` where nothing was observed."""
        full = np.full((*self.shape, *values.shape[1:]), fill, dtype=values.dtype)
        valid = self.observations.valid
        full[self.cells[0][valid], self.cells[1][valid]] = values[valid]
        return full


def observed_name(data: xr.Dataset) -> str:
    """Return the variable that is modelled, ``counts`` or ``activity``; `DataError` if none."""
    name = next((name for name in ("counts", "activity") if name in data), None)
    if name is None or set(data[name].dims) != {"trial", "time", "unit"}:
        found = tuple(data[name].dims) if name else tuple(data.data_vars)
        raise DataError(f"input: need counts or activity (trial, time, unit); found {found}")
    if "unit" not in data.coords:
        raise DataError("input: coordinate 'unit' is missing; it names the rows")
    return name


def family_of(data: xr.Dataset, settings: Settings) -> tuple[str, str]:
    """Return family and link for an input dataset."""
    family = settings.family
    if family == "auto":
        family = "poisson" if observed_name(data) == "counts" else "gaussian"
    return family, LINKS.get(family, settings.link)


def _check_values(
    data: xr.Dataset, values: NDArray[np.float64], valid: NDArray[np.bool_], family: str
) -> None:
    wrong = ~np.isfinite(values)
    if family in COUNTS:
        wrong |= (values < 0) | (values != np.round(values))
    if family == "bernoulli":
        wrong |= (values != 0) & (values != 1)
    wrong &= valid[:, :, None]
    if wrong.any():
        trial, time, unit = (int(i[0]) for i in np.nonzero(wrong))
        wanted = {"bernoulli": "0 or 1", **COUNTS}.get(family, "numbers")
        name = data["trial"].values[trial] if "trial" in data.coords else trial
        raise DataError(
            f"input: {values[trial, time, unit]:g} in trial {name}, unit "
            f"{data['unit'].values[unit]}; the {family} family needs {wanted}. Mask gaps with "
            "`valid`, or choose another `family`"
        )


def _rows(
    valid: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return trial and time of every kept bin, and where trials begin.

    Invalid bins at the ends of a trial are padding and leave; those inside stay, as time passes.
    """
    trials, times, offsets = [], [], [0]
    for trial, row in enumerate(valid):
        seen = np.flatnonzero(row)
        kept = np.arange(seen[0], seen[-1] + 1) if seen.size else np.arange(0)
        trials.append(np.full(kept.size, trial))
        times.append(kept)
        offsets.append(offsets[-1] + kept.size)
    return np.concatenate(trials), np.concatenate(times), np.array(offsets)


def _issues(data: xr.Dataset, silent: NDArray[np.bool_]) -> list[Issue]:
    issues = []
    if silent.any():
        names = ", ".join(data["unit"].values[silent].astype(str)[:10])
        issues.append(
            Issue("SILENT_UNITS", "counts", f"{int(silent.sum())} units never fire: {names}")
        )
    return issues


def _regressors(
    data: xr.Dataset, trials: NDArray[np.int64], times: NDArray[np.int64], keep: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the regressors of every bin, 0 where nothing is observed."""
    if "regressor" not in data:
        return np.zeros((len(trials), 0))
    values = data["regressor"].transpose("trial", "time", "feature").values[trials, times]
    wrong = ~np.isfinite(values) & keep[:, None]
    if wrong.any():
        row, feature = (int(i[0]) for i in np.nonzero(wrong))
        raise DataError(
            f"input: regressor {feature} is {values[row, feature]:g} in bin {times[row]} of trial "
            f"{trials[row]}; it needs a number in every valid bin. Fill it, or mask with `valid`"
        )
    return np.where(keep[:, None], values.astype(np.float64), 0.0)


def _check_lengths(offsets: NDArray[np.int64], n_lags: int) -> None:
    length = np.diff(offsets)
    short = np.flatnonzero((length > 0) & (length < n_lags + 1))
    if short.size or not length.any():
        bins = int(length[short].min(initial=length.max()))
        raise DataError(
            f"input: a trial has {bins} bins; the history of {n_lags} needs "
            f"{n_lags + 1} or more. Shorten `history.bins` or leave the trial out"
        )


def _silent_units(data: xr.Dataset, observed: NDArray[np.float64], code: int) -> NDArray[np.bool_]:
    constant = np.ptp(observed, axis=0) == 0
    if code == GAUSSIAN and constant.any():
        names = ", ".join(data["unit"].values[constant].astype(str)[:10])
        raise DataError(f"input: constant channels: {names}. Leave them out (`units.where`)")
    return (observed == 0).all(axis=0) & (code != GAUSSIAN)


def _after_start(offsets: NDArray[np.int64], drop_first: int) -> NDArray[np.bool_]:
    """Return which bins are not among the first of their trial, that are history only."""
    place = np.arange(offsets[-1]) - np.repeat(offsets[:-1], np.diff(offsets))
    if drop_first and not (place >= drop_first).any():
        raise DataError(
            f"input: the longest trial has {int(np.diff(offsets).max())} bins, but `drop_first` "
            f"is {drop_first}. Lower it"
        )
    return np.asarray(place >= drop_first)


def prepare(
    data: xr.Dataset, settings: Settings, silent: NDArray[np.bool_] | None = None
) -> Prepared:
    """Check the input and put its trials one after the other.

    Parameters
    ----------
    data : xarray.Dataset
        ``counts`` or ``activity(trial, time, unit)``; optional ``valid(trial, time)`` and
        ``regressor(trial, time, feature)``.
    settings : Settings
    silent : ndarray of bool, optional
        Units that were silent in the data of the fit, when other data are prepared for it.

    Raises
    ------
    DataError
        If a value does not suit the family, a trial is too short or a channel constant.
    """
    family, link = family_of(data, settings)
    name, code = observed_name(data), FAMILIES[family, link]
    values = data[name].transpose("trial", "time", "unit").values.astype(np.float64)
    valid = np.ones(values.shape[:2], dtype=bool)
    if "valid" in data:
        valid = data["valid"].transpose("trial", "time").values.astype(bool)
    _check_values(data, values, valid, family)
    trials, times, offsets = _rows(valid)
    basis = history_basis(
        settings.history.basis, settings.history.bins,
        count=settings.history.count, decay=settings.history.decay,
    )  # fmt: skip
    _check_lengths(offsets, basis.shape[1])
    keep = valid[trials, times]
    observed = np.where(keep[:, None], values[trials, times], 0.0)
    history = history_features(observed, basis, offsets)
    regressors = _regressors(data, trials, times, keep)
    design = np.hstack([np.ones((len(trials), 1)), history, regressors])
    shared = np.zeros(design.shape[1], dtype=bool)
    shared[1 : 1 + history.shape[1]] = True
    if silent is None:
        silent = _silent_units(data, observed[keep], code)
    keep = keep & _after_start(offsets, settings.drop_first)
    issues = _issues(data, silent)
    return Prepared(
        Observations(observed, design, keep, offsets, code), (trials, times), valid.shape,
        basis, shared, silent, family, link, data["unit"].values, tuple(issues),
    )  # fmt: skip
