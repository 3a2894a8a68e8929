"""Variables of behaviour, found in the stores of a run."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from neuropipe.assemble.cuts import Series, Span, on_grid
from neuropipe.assemble.sources import Source
from neuropipe.errors import ConfigError, DataError, Issue
from neuropipe.preprocess.resample import interpolate, target_grid
from neuropipe.preprocess.sampling import median_step

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["column_names", "find_variable", "read_behavior"]

GROUP = "behavior"
MODALITY = "behavior"
KEY = "input.behavior"
MAX_GAP_STEPS = 3


def _behavior(tree: xr.DataTree) -> xr.Dataset | None:
    if GROUP not in tree.children:
        return None
    return tree.children[GROUP].to_dataset(inherit=False)


def find_variable(stores: Sequence[xr.DataTree], name: str, key: str) -> xr.DataArray:
    """Return a variable of ``/behavior`` along its own time.

    Parameters
    ----------
    stores : sequence of xarray.DataTree
        Recordings of one run; the first that has it gives it.
    name : str
        The variable.
    key : str
        Key of the configuration, for the messages.

    Raises
    ------
    ConfigError
        If no store has it, or it holds text or has no times.
    """
    known: set[str] = set()
    for tree in stores:
        group = _behavior(tree)
        if group is None:
            continue
        known |= set(map(str, group.data_vars))
        if name in group.data_vars:
            return _checked(group[name], key)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    raise ConfigError(
        f"{key}: no variable {name!r} in the behaviour of "
        f"{', '.join(str(tree.attrs.get('recording', '')) for tree in stores)}. {hint}"
        f"Known: {', '.join(sorted(known)) or 'none'}"
    )


def _checked(variable: xr.DataArray, key: str) -> xr.DataArray:
    dim = str(variable.dims[0]) if variable.dims else ""
    if not dim.startswith("time") or dim not in variable.coords or variable.ndim > 2:
        raise ConfigError(
            f"{key}: {variable.name!r} has dims {variable.dims}, a series along its own "
            "`time_<stream>` is expected; choose another"
        )
    if variable.dtype.kind not in "biuf":
        raise ConfigError(
            f"{key}: {variable.name!r} holds text, numbers are expected; choose another variable"
        )
    return variable


def column_names(variable: xr.DataArray, count: int) -> list[str]:
    """Return the name of each column of a variable; of a single one the variable's."""
    if variable.ndim == 1:
        return [str(variable.name)]
    dim = str(variable.dims[1])
    labels = variable[dim].values.tolist() if dim in variable.coords else range(count)
    return [f"{variable.name}.{label}" for label in labels]


def read_behavior(
    stores: Sequence[xr.DataTree], names: Sequence[str], like: Source, span_s: Span | None
) -> tuple[Source, list[Issue]]:
    """Return variables of behaviour of one stream as a recording of their own.

    Parameters
    ----------
    stores : sequence of xarray.DataTree
        Recordings of one run.
    names : sequence of str
        Variables along the same ``time_<stream>``; each column of one is a row.
    like : Source
        A recording of the run, whose subject, session and run are taken.
    span_s : tuple of float or None
        What lies outside is missing, seconds.

    Returns
    -------
    source : Source
        Modality and row dim ``behavior`` and ``variable``.
    issues : list of Issue
        ``BEHAVIOR_RESAMPLED`` if its samples lie on no grid, and were interpolated to their
        median step.

    Raises
    ------
    ConfigError
        If a variable is unknown, or they are of several streams.
    DataError
        If there are fewer than two samples.
    """
    found = [find_variable(stores, name, KEY) for name in names]
    streams = {str(variable.dims[0]) for variable in found}
    if len(streams) > 1:
        raise ConfigError(
            f"{KEY}: {', '.join(names)} are of the streams {', '.join(sorted(streams))}, each with "
            "a clock of its own; choose variables of one"
        )
    time = np.asarray(found[0][str(found[0].dims[0])].values, dtype=np.float64)
    blocks = [np.asarray(v.values, dtype=np.float64).reshape(len(time), -1) for v in found]
    rows = [
        name
        for variable, block in zip(found, blocks, strict=True)
        for name in column_names(variable, block.shape[1])
    ]
    values, time, issues = _on_own_grid(np.concatenate(blocks, axis=1), time, names, span_s)
    ids = np.array(rows, dtype=object)
    units = {str(variable.attrs.get("units", "")) for variable in found}
    source = replace(
        like,
        modality=MODALITY,
        row="variable",
        ids=ids,
        region=np.array([""] * len(rows), dtype=object),
        enters=np.ones(len(rows), dtype=bool),
        dropped=(),
        samples=Series(_series(time, values, ids, like.recording), span_s),
        units=units.pop() if len(units) == 1 else "",
        spike_count=None,
        observed_s=None,
    )
    return source, issues


def _on_own_grid(
    values: np.ndarray, time: np.ndarray, names: Sequence[str], span_s: Span | None
) -> tuple[np.ndarray, np.ndarray, list[Issue]]:
    """Return samples and times on a grid; irregular ones are interpolated, which is told."""
    inside = slice(*np.searchsorted(time, span_s)) if span_s is not None else slice(None)
    if len(time[inside]) < 2:
        raise DataError(f"{KEY}: {', '.join(names)} have fewer than two samples in input.span_s")
    if on_grid(time[inside]):
        return values, time, []
    step = median_step(time)
    grid = target_grid(float(time[0]), float(time[-1]), step)
    text = f"{', '.join(names)}: irregular samples, interpolated to their median step {step:g} s"
    issue = Issue("BEHAVIOR_RESAMPLED", KEY, text)
    return interpolate(values, time, grid, MAX_GAP_STEPS * step), grid, [issue]


def _series(time: np.ndarray, values: np.ndarray, ids: np.ndarray, recording: str) -> xr.Dataset:
    import xarray as xr

    return xr.Dataset(
        {"activity": (("time", "variable"), values)},
        {"time": time, "variable": ids},
        {"recording": recording},
    )
