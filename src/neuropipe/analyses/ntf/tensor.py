"""The affinity tensor of several animals: where it is kept and how it is read."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from neuropipe.analyses.ntf.checks import Prepared
from neuropipe.analyses.ntf.kernels.affinity import pair_affinity, pair_index
from neuropipe.analyses.ntf.kernels.problem import Problem, TensorLike
from neuropipe.analyses.ntf.spec import AffinitySettings
from neuropipe.errors import DataError, Issue, issues_to_json

__all__ = ["build_tensor", "load_problem", "load_tensor", "memory_limit"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Rows:
    """Blocks of pairs of a tensor that stays in its file."""

    array: xr.DataArray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        return np.ascontiguousarray(self.array[rows].values)


def memory_limit(max_memory_gb: float | str) -> float:
    """Return the largest tensor that is held in memory, bytes."""
    if max_memory_gb != "auto":
        return float(max_memory_gb) * 1e9
    import psutil

    return 0.6 * float(psutil.virtual_memory().available)


def _allocate(shape: tuple[int, int, int], limit: float) -> NDArray[np.float32]:
    size = 4.0 * np.prod(shape, dtype=np.float64)
    if size <= limit:
        return np.zeros(shape, dtype=np.float32)
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if size > free:
        raise DataError(
            f"the tensor of {shape[0]} pairs x {shape[1]} bins x {shape[2]} animals needs "
            f"{size / 1e9:.1f} GB; {limit / 1e9:.1f} GB of memory and {free / 1e9:.1f} GB in "
            f"{tempfile.gettempdir()} may be used. Give a coarser affinity.bin_s, a subset of "
            "neurons or a class filter in input.units.where"
        )
    log.info("tensor of %.1f GB is kept in a temporary file", size / 1e9)
    with tempfile.TemporaryFile() as handle:
        return np.memmap(handle, dtype=np.float32, mode="w+", shape=shape)


def _fill(
    tensor: NDArray[np.float32], prepared: Prepared, settings: AffinitySettings
) -> NDArray[np.bool_]:
    """Write the affinity of every animal; return the silent (neuron, subject)."""
    first, second = pair_index(prepared.neuron.size)
    silent = [
        pair_affinity(
            traces,
            first,
            second,
            mode=settings.mode,
            rate_hz=prepared.rate_hz,
            deriv_window=prepared.deriv_window,
            window=prepared.window,
            bin_frames=prepared.bin_frames,
            scale_quantile=settings.scale_quantile,
            out=tensor[:, :, index],
        )
        for index, traces in enumerate(prepared.traces)
    ]
    return np.stack(silent, axis=1)


def build_tensor(
    prepared: Prepared, settings: AffinitySettings, max_memory_gb: float | str = "auto"
) -> xr.Dataset:
    """Return the affinity of all pairs, bins and animals with its masks.

    Parameters
    ----------
    prepared : Prepared
        Traces in order.
    settings : AffinitySettings
        Mode and windows.
    max_memory_gb : float or "auto"
        Above this size the tensor lies in a temporary file.

    Returns
    -------
    xarray.Dataset
        ``affinity(pair, time_bin, subject)`` float32, 0 where missing; ``pair_observed(pair,
        subject)``; ``time_observed(time_bin, subject)``; ``silent(neuron, subject)``.
    """
    first, second = pair_index(prepared.neuron.size)
    n_bins, frames = prepared.time_bin.size, prepared.bin_frames
    shape = (first.size, n_bins, prepared.subject.size)
    tensor = _allocate(shape, memory_limit(max_memory_gb))
    silent = _fill(tensor, prepared, settings)
    present = np.stack([one.present for one in prepared.traces], axis=1)
    recorded = np.stack([one.recorded[: n_bins * frames] for one in prepared.traces], axis=1)
    issues = list(prepared.issues)
    for neuron, subject in np.argwhere(silent):
        path = f"{prepared.subject[subject]}: {prepared.neuron[neuron]}"
        issues.append(Issue("SILENT_NEURON", path, "constant trace; affinity 0", "", "info"))
    return xr.Dataset(
        {
            "affinity": (("pair", "time_bin", "subject"), tensor),
            "pair_observed": (("pair", "subject"), present[first] & present[second]),
            "time_observed": (
                ("time_bin", "subject"),
                recorded.reshape(n_bins, frames, -1).all(axis=1),
            ),
            "silent": (("neuron", "subject"), silent),
        },
        coords={
            "neuron_i": ("pair", prepared.neuron[first]),
            "neuron_j": ("pair", prepared.neuron[second]),
            "neuron": prepared.neuron,
            "subject": prepared.subject,
            "time_bin": ("time_bin", prepared.time_bin, {"units": "s"}),
        },
        attrs={
            "converged": 1,
            "issues": issues_to_json(issues),
            "dropped_subjects": json.dumps(list(prepared.dropped)),
            "mode": settings.mode,
            "bin_width_s": frames / prepared.rate_hz,
        },
    )


def load_tensor(part: xr.Dataset, max_memory_gb: float | str) -> TensorLike:
    """Return the tensor of an affinity part: an array, or a reader of blocks when it is large."""
    array = part["affinity"].transpose("pair", "time_bin", "subject")
    if array.nbytes > memory_limit(max_memory_gb):
        return _Rows(array)
    return np.ascontiguousarray(array.values)


def load_problem(part: xr.Dataset, max_memory_gb: float | str) -> Problem:
    """Return the tensor of an affinity part with its masks.

    Raises
    ------
    DataError
        If no pair was observed, or the tensor is not what it should be.
    """
    pairs = part["pair_observed"].transpose("pair", "subject").values
    if not pairs.any():
        raise DataError(f"affinity: none of {len(pairs)} pairs was observed in any animal")
    bins = part["time_observed"].transpose("time_bin", "subject").values
    try:
        return Problem.build(load_tensor(part, max_memory_gb), pairs, bins)
    except ValueError as error:
        raise DataError(f"affinity: {error}") from error
