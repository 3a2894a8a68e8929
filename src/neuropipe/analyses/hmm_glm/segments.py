"""Pieces of the input that can be held out or drawn again: trials, or blocks of long ones."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import xarray as xr

from neuropipe.analyses.hmm_glm.prepare import observed_name
from neuropipe.analyses.hmm_glm.spec import Settings

__all__ = ["Segment", "cut", "deal", "join", "settings_for_blocks", "take"]

BLOCKS = 10  # of all trials together, when there are too few trials


class Segment(NamedTuple):
    """Bins ``start`` to ``stop`` of one trial."""

    trial: int
    start: int
    stop: int


def _spans(data: xr.Dataset) -> list[Segment]:
    """Return the observed span of every trial."""
    valid = np.ones((data.sizes["trial"], data.sizes["time"]), dtype=bool)
    if "valid" in data:
        valid = data["valid"].transpose("trial", "time").values.astype(bool)
    seen = [np.flatnonzero(row) for row in valid]
    return [
        Segment(trial, int(bins[0]), int(bins[-1]) + 1)
        for trial, bins in enumerate(seen)
        if bins.size
    ]


def cut(data: xr.Dataset, settings: Settings, wanted: int) -> tuple[list[Segment], bool]:
    """Return the trials, or blocks of them when there are fewer than wanted.

    Parameters
    ----------
    data : xarray.Dataset
        Input.
    settings : Settings
    wanted : int
        Pieces needed at least.

    Returns
    -------
    segments : list of Segment
        Empty if the recording is too short to be cut.
    are_blocks : bool
    """
    spans = _spans(data)
    if len(spans) >= wanted:
        return spans, False
    count = -(-max(BLOCKS, wanted) // max(len(spans), 1))
    found = []
    for trial, start, stop in spans:
        edges = np.linspace(start, stop, count + 1).astype(int)
        found += [Segment(trial, int(a), int(b)) for a, b in pairwise(edges)]
    least = 2 * (settings.history.bins + 1) + settings.drop_first
    long_enough = all(segment.stop - segment.start >= least for segment in found)
    return (found if long_enough else []), True


def settings_for_blocks(settings: Settings) -> Settings:
    """Return settings under which the first bins of a block are history only.

    Nothing is then fitted or scored within the length of the history from a border.
    """
    gap = max(settings.drop_first, settings.history.bins)
    return settings.model_copy(update={"drop_first": gap})


def deal(count: int, folds: int, rng: np.random.Generator | None) -> np.ndarray:
    """Return the fold of every piece; at random, or in turn without a generator."""
    fold = np.arange(count) % folds
    return fold if rng is None else rng.permutation(fold)


def join(segments: Sequence[Segment]) -> list[Segment]:
    """Return the segments with those that follow each other made one."""
    found: list[Segment] = []
    for one in segments:
        if found and found[-1].trial == one.trial and found[-1].stop == one.start:
            found[-1] = found[-1]._replace(stop=one.stop)
        else:
            found.append(one)
    return found


def take(data: xr.Dataset, segments: Sequence[Segment]) -> xr.Dataset:
    """Return segments as the trials of an input dataset of its own.

    Parameters
    ----------
    data : xarray.Dataset
        Input.
    segments : sequence of Segment
        A segment may occur several times.
    """
    length = np.array([one.stop - one.start for one in segments])
    longest = int(length.max())
    found = {"valid": (("trial", "time"), np.arange(longest) < length[:, None])}
    for name in (observed_name(data), "regressor", "valid"):
        if name not in data:
            continue
        values = data[name].transpose("trial", "time", ...)
        full = np.zeros((len(segments), longest, *values.shape[2:]), dtype=values.dtype)
        for row, one in zip(full, segments, strict=True):
            row[: one.stop - one.start] = values.values[one.trial, one.start : one.stop]
        found[name] = (values.dims, full)
    return xr.Dataset(found, coords={"unit": data["unit"]}, attrs=data.attrs)
