"""The trials of one modality over the runs of a session, and its variables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuropipe.assemble.behavior import MODALITY as BEHAVIOR
from neuropipe.assemble.cuts import Cut
from neuropipe.assemble.regressors import regressors_of
from neuropipe.assemble.runs import Run, row_coords
from neuropipe.assemble.windows import Windows
from neuropipe.errors import Issue

__all__ = ["Part", "variables_of"]

EVENT_RATES = "deconvolved"


@dataclass(frozen=True)
class Part:
    """One modality over all runs: its rows, and its trials in the runs that have it."""

    modality: str
    runs: tuple[Run | None, ...]
    names: list[str]
    cuts: tuple[Cut | None, ...]

    @property
    def found(self) -> tuple[list[Run], list[Cut]]:
        """Runs that have the modality, and their trials."""
        runs = [run for run in self.runs if run is not None]
        return runs, [cut for cut in self.cuts if cut is not None]


def _filled(part: Part, windows: Sequence[Windows], name: str, fill: Any) -> np.ndarray:
    """Return values or mask of all trials; padded, and empty in runs without the modality."""
    _, cuts = part.found
    blocks = [getattr(cut, name) for cut in cuts]
    size = max(block.shape[1] for block in blocks)
    dtype = np.result_type(*blocks)
    result = np.full((sum(map(len, windows)), size, len(part.names)), fill, dtype=dtype)
    first = 0
    for cut, at in zip(part.cuts, windows, strict=True):
        if cut is not None:
            block = getattr(cut, name)
            result[first : first + len(at), : block.shape[1]] = block
        first += len(at)
    return result


def _offset(part: Part, windows: Sequence[Windows]) -> np.ndarray:
    return np.concatenate(
        [
            np.full(len(at), np.nan) if cut is None else cut.offset
            for cut, at in zip(part.cuts, windows, strict=True)
        ]
    )


def _likelihood(part: Part) -> str:
    """Return the distribution that suits the values; of event rates that of counts."""
    source = part.found[0][0].sources[0]
    if source.modality == "spikes":
        return "poisson"
    if source.modality == "calcium":
        attrs = source.tree.to_dataset()["activity"].attrs
        return "negbin" if attrs.get("source_series") == EVENT_RATES else "gaussian"
    return "gaussian"


def variables_of(
    part: Part, windows: Sequence[Windows], regressors: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Any], list[Issue]]:
    """Return variables and coordinates of one modality.

    Parameters
    ----------
    part : Part
    windows : sequence of Windows
        Trials of each run.
    regressors : sequence of str
        Variables of behaviour; where one is missing, no row of the modality is valid.

    Returns
    -------
    data, coords : dict
        As `xarray.Dataset` takes them, names with the modality behind.
    issues : list of Issue
        ``REGRESSOR_MISSING``.
    """
    m, (runs, cuts) = part.modality, part.found
    counted = cuts[0].values.dtype.kind in "iu"
    values = _filled(part, windows, "values", 0 if counted else np.nan)
    valid = _filled(part, windows, "valid", False)
    dims = ("trial", f"time_{m}", f"unit_{m}")
    data: dict[str, Any] = {}
    issues: list[Issue] = []
    longest = max(cuts, key=lambda cut: len(cut.time))
    rows = row_coords(runs[0], part.names)
    coords: dict[str, Any] = {f"{name}_{m}": (dims[2], value[1]) for name, value in rows.items()}
    coords[dims[1]] = (dims[1], longest.time, {"units": "s"})
    coords[f"sample_offset_{m}"] = ("trial", _offset(part, windows), {"units": "s"})
    if regressors and m != BEHAVIOR:
        features, found = _regressors(part, windows, regressors)
        data[f"regressor_{m}"] = ((*dims[:2], "feature"), found)
        coords["feature"] = ("feature", np.array(features, dtype=object))
        issues = _mask_missing(m, values, valid, ~np.isfinite(found).all(axis=2))
    attrs: dict[str, Any] = {"units": runs[0].sources[0].units, "likelihood": _likelihood(part)}
    attrs["bin_width_s" if counted else "step_s"] = float(f"{cuts[0].step:.12g}")
    if valid.all():
        attrs["all_valid"] = 1
    else:
        data[f"valid_{m}"] = (dims, valid)
    return data | {m: (dims, values, attrs)}, coords, issues


def _mask_missing(
    modality: str, values: np.ndarray, valid: np.ndarray, missing: np.ndarray
) -> list[Issue]:
    """Mark places without a regressor, in place; return an issue if there were samples."""
    lost = missing & valid.any(axis=2)
    valid[missing] = False
    values[missing] = np.nan if values.dtype.kind == "f" else 0
    if not lost.any():
        return []
    text = f"a regressor is missing in {int(lost.sum())} bins of {modality}; they do not count"
    return [Issue("REGRESSOR_MISSING", "input.regressors", text)]


def _regressors(
    part: Part, windows: Sequence[Windows], names: Sequence[str]
) -> tuple[list[str], np.ndarray]:
    """Return features on the samples of one modality, NaN where the modality has none."""
    found = [
        None if run is None or cut is None or not len(at) else regressors_of(run, names, at, cut)
        for run, cut, at in zip(part.runs, part.cuts, windows, strict=True)
    ]
    features = next(pair[0] for pair in found if pair is not None)
    size = max(cut.values.shape[1] for cut in part.found[1])
    result = np.full((sum(map(len, windows)), size, len(features)), np.nan)
    first = 0
    for pair, at in zip(found, windows, strict=True):
        if pair is not None:
            result[first : first + len(at), : pair[1].shape[1]] = pair[1]
        first += len(at)
    return features, result
