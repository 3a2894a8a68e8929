"""Random numbers: one study seed governs all, and names, not order, tell streams apart."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

__all__ = ["generator", "job_seed", "stage_generator"]


def _words(*parts: object) -> list[int]:
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()
    return [int.from_bytes(digest[i : i + 4], "little") for i in range(0, 32, 4)]


def job_seed(study_seed: int, collection: str, analysis: str) -> int:
    """Return the integer seed of one job, the ``seed`` argument of an analysis' ``fit``.

    Parameters
    ----------
    study_seed : int
        The key ``seed`` of the study's configuration.
    collection : str
        Recording, session, subject or cohort that the job works on.
    analysis : str
        Name (not label) of the analysis: renaming a label changes no number.

    Returns
    -------
    int
        Below 2**63, a pure function of the arguments.
    """
    high, low = _words("job", int(study_seed), collection, analysis)[:2]
    return ((high << 32) | low) >> 1


def stage_generator(seed: int, stage: str, index: int = 0) -> np.random.Generator:
    """Return the generator of one restart, fold or chain of one stage.

    Every restart, fold and chain has a stream of its own by its index, whatever job it runs in.

    Examples
    --------
    >>> a, b = stage_generator(0, "fit", 1), stage_generator(0, "fit", 1)
    >>> bool(a.random() == b.random())
    True
    """
    import numpy as np

    return np.random.default_rng(np.random.SeedSequence(_words("stage", int(seed), stage, index)))


def generator(
    study_seed: int, collection: str, analysis: str, stage: str, index: int = 0
) -> np.random.Generator:
    """Return `stage_generator` of `job_seed`: what the workflow uses, from the study's seed."""
    return stage_generator(job_seed(study_seed, collection, analysis), stage, index)
