"""Variables of behaviour on the bins of trials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from neuropipe.assemble.behavior import column_names, find_variable
from neuropipe.assemble.cuts import Cut
from neuropipe.assemble.runs import Run
from neuropipe.assemble.streams import held
from neuropipe.assemble.windows import Windows
from neuropipe.errors import DataError
from neuropipe.preprocess.resample import interpolate, overlap_mean
from neuropipe.preprocess.sampling import median_step

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["on_bins", "regressors_of"]

MAX_GAP_STEPS = 3


def on_bins(variable: xr.DataArray, grids: np.ndarray, step: float) -> np.ndarray:
    """Bring a variable of behaviour to the bins of trials.

    Parameters
    ----------
    variable : xarray.DataArray
        ``(time_<stream>[, column])``.
    grids : numpy.ndarray
        Bin centres on the session's clock, ``(n_trials, n_times)``, seconds.
    step : float
        Width of a bin, seconds.

    Returns
    -------
    numpy.ndarray
        ``(n_trials, n_times, n_columns)``, NaN outside the stream and in its gaps. Numbers with
        a point: interpolated, or averaged where bins are wider than their step. Whole numbers,
        truth values and categories: the value at or before the centre.
    """
    time = np.asarray(variable[str(variable.dims[0])].values, dtype=np.float64)
    values = np.asarray(variable.values).reshape(len(time), -1)
    found = np.full((*grids.shape, values.shape[1]), np.nan)
    if len(time) < 2:
        return found
    categorical = values.dtype.kind != "f" or bool(variable.attrs.get("categorical", False))
    own = median_step(time)
    for trial, grid in enumerate(grids):
        if categorical:
            last, inside = held(values, time, grid)
            found[trial] = np.where(inside[:, None], last, np.nan)
            continue
        reach = MAX_GAP_STEPS * own + step
        low, high = np.searchsorted(time, [grid[0] - reach, grid[-1] + reach])
        near = slice(max(0, low - 1), high + 1)
        part, at = values[near].astype(np.float64), time[near]
        if len(at) < 2:
            continue
        if step < own:
            found[trial] = interpolate(part, at, grid, MAX_GAP_STEPS * own)
        else:
            found[trial] = overlap_mean(part, at, grid, step, MAX_GAP_STEPS * own)
    return found


def regressors_of(
    run: Run, names: Sequence[str], windows: Windows, cut: Cut, key: str = "input.regressors"
) -> tuple[list[str], np.ndarray]:
    """Return the features of a run and their values on the bins of its trials.

    Parameters
    ----------
    run : Run
        Its own recordings are looked through first, then the others of the run.
    names : sequence of str
        Variables of behaviour; one with columns gives a feature per column.
    windows : Windows
        Trials.
    cut : Cut
        Their bins.
    key : str
        Key of the configuration, for the messages.

    Returns
    -------
    features : list of str
    values : numpy.ndarray
        ``(n_trials, n_times, n_features)``, NaN where a variable is missing.

    Raises
    ------
    ConfigError
        Of `find_variable`.
    DataError
        If a variable has no value in any trial.
    """
    own = [source.tree for source in run.sources]
    stores = [*own, *(tree for tree in run.stores if all(tree is not t for t in own))]
    grids = windows.onset[:, None] + cut.offset[:, None] + cut.time
    features: list[str] = []
    blocks = []
    for name in names:
        variable = find_variable(stores, name, key)
        values = on_bins(variable, grids, cut.step)
        if not np.isfinite(values).any():
            raise DataError(
                f"{key}: {name!r} has no value in any trial of {run.sources[0].recording}; its "
                "clock may be another one (`clock` in ingest.overrides), or leave it out"
            )
        blocks.append(values)
        features += column_names(variable, values.shape[2])
    return features, np.concatenate(blocks, axis=2)
