"""Recordings and behaviour of one session on a common grid, made on demand.

Stores keep every stream on its own samples. `align` brings chosen ones to one grid by the rules of
resampling: means or interpolation of continuous samples, exact counts of spikes, the last value of
categories; events keep their times.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.errors import DataError, Issue, issues_to_json
from neuropipe.preprocess.binning import bin_edges, bin_on, bin_width
from neuropipe.preprocess.resample import resample_values
from neuropipe.preprocess.sampling import median_step
from neuropipe.store.scaling import physical
from neuropipe.store.schema import MODALITIES, modality_of

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["align", "check_session", "held"]

MILLI = 1000
ROW_BLOCK = 64
MIN_TR_SHARE = 0.5


def align(
    dt: float | str | Fraction,
    streams: Mapping[str, xr.DataTree | xr.DataArray],
    *,
    span_s: tuple[float, float] | None = None,
    max_gap_steps: float = 3,
    force: bool = False,
) -> xr.DataTree:
    """Bring recordings and behaviour variables of one session to a common grid.

    The grid consists of the cells ``[k dt, (k + 1) dt)`` of the session clock; ``time`` are their
    centres. Nothing is extrapolated: outside the observed time of a stream its samples are NaN (0
    for counts, "" for text) and not valid.

    Parameters
    ----------
    dt : float, str or Fraction
        Width of a cell, seconds; a text may be a ratio such as ``"1/30"``.
    streams : mapping of str to xarray.DataTree or xarray.DataArray
        Name -> store of a recording (ingested or preprocessed), or a variable of ``/behavior``
        along its own ``time_<stream>``.
    span_s : tuple of float, optional
        First and last moment of the grid, seconds; default: from the first to the last sample of
        any stream.
    max_gap_steps : float
        A continuous sample whose neighbours lie further apart than so many median steps is NaN.
    force : bool
        Allow fMRI to be interpolated to less than half its repetition time.

    Returns
    -------
    xarray.DataTree
        Root coordinate ``time``; one group per stream, with ``counts (time, unit)`` for spikes,
        the samples under their name in the store otherwise, ``valid`` of the same shape, the
        coordinates of the rows, and ``events`` as a group of its own. Attributes ``dt_s`` and
        ``issues`` (JSON).

    Raises
    ------
    DataError
        The streams are of different sessions or clocks, the grid has no cell, fMRI would be
        upsampled without `force`, or a stream has no samples.

    Notes
    -----
    Continuous streams: the mean over each cell, weighted by overlap, where `dt` is at least the
    median step, else linear interpolation at the centres. Categories (text, bool, whole numbers,
    variables flagged ``categorical``): the value at or before the centre.
    """
    import xarray as xr

    if not streams:
        raise DataError("align: no stream is given")
    width = bin_width((Fraction(repr(dt)) if isinstance(dt, float) else Fraction(dt)) * MILLI)
    issues = check_session(streams, "align")
    edges = _edges(width, [_span(name, s) for name, s in streams.items()], span_s)
    root = xr.Dataset(coords={"time": ("time", (edges[:-1] + edges[1:]) / 2, {"units": "s"})})
    root.attrs = {"dt_s": float(width), "issues": issues_to_json(issues)}
    groups = {"/": root}
    for name, stream in sorted(streams.items()):
        groups[name] = _Stream(name, stream, max_gap_steps, force).on(edges, width)
        if not isinstance(stream, xr.DataArray) and "events" in stream.children:
            events = stream.children["events"].to_dataset(inherit=False)
            groups[f"{name}/events"] = events.load()
    return xr.DataTree.from_dict(groups)


def check_session(streams: Mapping[str, Any], where: str) -> list[Issue]:
    """Raise for recordings of several sessions; tell of clocks that nothing relates.

    Parameters
    ----------
    streams : mapping of str to xarray.DataTree or xarray.DataArray
        Name -> store; arrays have no clock of their own and are passed over.
    where : str
        Who asks, for the messages.

    Returns
    -------
    list of Issue
        ``CLOCK_ASSUMED`` where a recording's clock is taken to begin with the session.

    Raises
    ------
    DataError
        If subjects, sessions or clocks differ, or starts do and nothing relates the clocks.
    """
    import xarray as xr

    stores = {n: s for n, s in streams.items() if not isinstance(s, xr.DataArray)}
    for key, what in (("subject_id", "subjects"), ("session_id", "sessions"), ("clock", "clocks")):
        found = {name: str(store.attrs.get(key, "")) for name, store in stores.items()}
        if len(set(found.values())) > 1:
            listed = ", ".join(f"{name}: {value!r}" for name, value in found.items())
            raise DataError(f"{where}: the recordings are of different {what} ({listed})")
    loose = sorted(name for name, store in stores.items() if not _has_clock(store))
    starts = {n: str(s.attrs.get("session_start", "")) for n, s in stores.items()}
    known = {name: start for name, start in starts.items() if start}
    if loose and len(set(known.values())) > 1:
        listed = ", ".join(f"{name}: {value}" for name, value in known.items())
        raise DataError(
            f"{where}: the recordings state different starts ({listed}), and nothing relates the "
            f"clock of {loose[0]} to the session; set `clock: {{session_start: ...}}` in "
            "ingest.overrides"
        )
    if len(stores) < 2 or not loose:
        return []
    text = (
        f"nothing states how the clock of {', '.join(loose)} runs against the session; both are "
        "taken to begin with it"
    )
    hint = "set `clock` in ingest.overrides: a pair, shared pulses or moments"
    return [Issue("CLOCK_ASSUMED", where, text, hint)]


def _has_clock(store: xr.DataTree) -> bool:
    """Tell whether the settings of ingest gave the recording its clock."""
    steps = json.loads(str(store.attrs.get("pipeline", "[]")))
    return any(step.get("step") == "clock" and "of" not in step for step in steps)


def _main(store: xr.DataTree) -> xr.Dataset:
    return store.children.get("raw", store).to_dataset(inherit=False)


def _span(name: str, stream: Any) -> tuple[float, float]:
    import xarray as xr

    if isinstance(stream, xr.DataArray):
        times = stream[str(stream.dims[0])].values
    else:
        ds = _main(stream)
        times = ds["time"].values if "time" in ds else ds["observed"].values
    if not np.size(times):
        raise DataError(f"align: {name} has no samples")
    return float(np.min(times)), float(np.max(times))


def _edges(
    width: Fraction, spans: list[tuple[float, float]], span_s: tuple[float, float] | None
) -> np.ndarray:
    low = min(span[0] for span in spans) if span_s is None else span_s[0]
    high = max(span[1] for span in spans) if span_s is None else span_s[1]
    first, last = Fraction(low) // width, -(-Fraction(high) // width)
    # A sample on the last edge belongs to the cell behind it.
    last += 1 if span_s is None and last * width == Fraction(high) else 0
    if last <= first:
        raise DataError(f"align: no cell of {float(width):g} s lies between {low:g} and {high:g} s")
    return bin_edges(int(first), int(last), width)


class _Stream:
    """One stream on its way to the grid."""

    def __init__(self, name: str, stream: Any, max_gap_steps: float, force: bool) -> None:
        self.name, self.stream = name, stream
        self.max_gap_steps, self.force = max_gap_steps, force

    def on(self, edges: np.ndarray, width: Fraction) -> xr.Dataset:
        """Return the stream on the cells between `edges`."""
        import xarray as xr

        if isinstance(self.stream, xr.DataArray):
            return self._variable(self.stream, edges, float(width))
        ds, modality = _main(self.stream), modality_of(self.stream.attrs)
        if "spike_time" in ds:
            binned = bin_on(ds, edges, width)
            if "valid" not in binned:
                binned["valid"] = xr.ones_like(binned["counts"], dtype=bool)
            return binned.drop_vars("time").assign_attrs(self.stream.attrs)
        series = ("activity", *MODALITIES[modality].series) if modality in MODALITIES else ()
        name = next((n for n in series if n in ds.data_vars), None)
        if name is None:
            raise DataError(f"align: {self.name} holds no series; found {list(ds.data_vars)}")
        return self._series(ds, name, modality, edges, float(width))

    def _series(
        self, ds: xr.Dataset, name: str, modality: str, edges: np.ndarray, dt: float
    ) -> xr.Dataset:
        import xarray as xr

        time = np.asarray(ds["time"].values, dtype=np.float64)
        step = median_step(time) if len(time) > 1 else dt
        if modality == "fmri" and dt < MIN_TR_SHARE * step and not self.force:
            raise DataError(
                f"align: {self.name} has a volume every {step:g} s; a grid of {dt:g} s says more "
                "than was measured; take at least half of it, or set force=True"
            )
        row = str(ds[name].dims[1])
        values = np.empty((len(edges) - 1, ds.sizes[row]))
        for first in range(0, ds.sizes[row], ROW_BLOCK):
            rows = slice(first, first + ROW_BLOCK)
            block = _physical(ds, name, row, rows)
            values[:, rows] = self._continuous(block, time, step, edges, dt)
        coords = {n: c.variable for n, c in ds.coords.items() if c.dims == (row,)}
        data: dict[str, Any] = {name: (("time", row), values, _unscaled(ds[name].attrs))}
        data["valid"] = (("time", row), np.isfinite(values))
        return xr.Dataset(data, coords, self.stream.attrs)

    def _continuous(
        self, values: np.ndarray, time: np.ndarray, step: float, edges: np.ndarray, dt: float
    ) -> np.ndarray:
        grid = (edges[:-1] + edges[1:]) / 2
        if len(time) < 2:
            return np.full((len(grid), values.shape[1]), np.nan)
        return resample_values(values, time, grid, dt, self.max_gap_steps * step)

    def _variable(self, stream: xr.DataArray, edges: np.ndarray, dt: float) -> xr.Dataset:
        import xarray as xr

        dim = str(stream.dims[0])
        if dim not in stream.coords:
            raise DataError(f"align: {self.name} has no times: no coordinate {dim!r}")
        time = np.asarray(stream[dim].values, dtype=np.float64)
        name = str(stream.name or self.name)
        dims = ("time", *map(str, stream.dims[1:]))
        coords = {str(n): c.variable for n, c in stream.coords.items() if dim not in c.dims}
        if stream.dtype.kind != "f" or stream.attrs.get("categorical", False):
            values, valid = held(stream.values, time, (edges[:-1] + edges[1:]) / 2)
        else:
            flat = np.asarray(stream.values, dtype=np.float64).reshape(len(time), -1)
            step = median_step(time) if len(time) > 1 else dt
            values = self._continuous(flat, time, step, edges, dt)
            values = values.reshape(len(edges) - 1, *stream.shape[1:])
            valid = np.isfinite(values)
        data = {name: (dims, values, stream.attrs), "valid": (dims[: valid.ndim], valid)}
        return xr.Dataset(data, coords)


def held(values: np.ndarray, time: np.ndarray, grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the value at or before each grid point, and which points lie inside the stream."""
    index = np.searchsorted(time, grid, side="right") - 1
    inside = (index >= 0) & (grid <= time[-1])
    last = np.asarray(values)[np.maximum(index, 0)]
    if last.dtype.kind in "OUT":
        last = last.astype(object)
    last = last.copy()
    last[~inside] = {"f": np.nan, "O": ""}.get(last.dtype.kind, 0)
    return last, inside


def _physical(ds: xr.Dataset, name: str, row: str, rows: slice) -> np.ndarray:
    """Return samples ``(time, row)`` in their unit as float64, NaN where not valid."""
    part = ds.isel({row: rows}).transpose("time", row, ...)
    values = physical(part, series=name)
    if "valid" in part:
        values = np.where(part["valid"].values, values, np.nan)
    return values


def _unscaled(attrs: Mapping[Any, Any]) -> dict[Any, Any]:
    return {k: v for k, v in attrs.items() if k not in ("scale_factor", "add_offset")}
