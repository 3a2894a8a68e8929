"""What jobs ask of the machine, from the sizes of the files that they read."""

from __future__ import annotations

import math
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from neuropipe.analyses.registry import Resources, at_most
from neuropipe.config.recordings import Recording
from neuropipe.store import layout
from neuropipe.study import Run

__all__ = ["by_size", "by_stores", "stage_request"]

BASE_MB, BASE_MINUTES, MOST_MB, MB = 1000, 20, 64_000, 1_000_000


def _megabytes(root: Path, paths: Sequence[str]) -> float:
    total = 0
    for path in paths:
        try:
            facts = (root / path).stat()
        except OSError:
            continue
        total += facts.st_size if stat.S_ISREG(facts.st_mode) else 0
    return total / MB


def by_size(
    root: Path, paths: Sequence[str], *, memory: float, minutes: float
) -> Callable[[], Resources]:
    """Return a function that tells what a job asks for when it is called.

    Parameters
    ----------
    root : Path
        The study folder.
    paths : sequence of str
        Files whose sizes count, as far as they are there.
    memory, minutes : float
        MB of memory and minutes per MB of these files, above a base.
    """

    def asked() -> Resources:
        size = _megabytes(root, paths)
        wanted = BASE_MB + math.ceil(memory * size)
        return Resources(
            mem_mb=min(wanted, MOST_MB), minutes=at_most(BASE_MINUTES + minutes * size)
        )

    return asked


def by_stores(
    root: Path, recordings: Sequence[Recording], *, memory: float, minutes: float
) -> Callable[[], Resources]:
    """Return the same for a job that reads stores, by the files of NWB beside them."""
    paths = [layout.store_file(recording, ".nwb") for recording in recordings]
    return by_size(root, paths, memory=memory, minutes=minutes)


def stage_request(source: Path, run: Run) -> Resources:
    """Return what a stage of an analysis asks for, from its input dataset once that is there."""
    sizes = {"input_mb": source.stat().st_size / MB} if source.is_file() else {}
    return run.analysis.resources(run.settings, sizes)
