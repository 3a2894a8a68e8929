"""What several figures of a result need: epochs on the common clock, colours, counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neuropipe.analyses.ntf.motifs import Motif, match_groups, text_values
from neuropipe.plotting.palette import CATEGORICAL
from neuropipe.plotting.panels import Epoch

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["community_colors", "count_text", "format_p", "shared_epochs", "subject_epochs"]

# Black and yellow are poor outlines on viridis.
COLORS = CATEGORICAL[:6]
ALL_SUBJECTS = "*"


def community_colors(motifs: list[Motif]) -> dict[str, str]:
    """Return a colour per community; the same neurons keep theirs from motif to motif."""
    return {name: COLORS[group % len(COLORS)] for name, group in match_groups(motifs).items()}


def count_text(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun, such as ``1 subject`` or ``3 subjects``."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def format_p(pvalue: float) -> str:
    """Return ``p = 0.012``, or nothing for a p that was not computed."""
    return f"p = {pvalue:.2g}" if np.isfinite(pvalue) else "not tested"


def _epoch_rows(result: xr.Dataset) -> list[tuple[Epoch, str]]:
    if "epoch_name" not in result or not result.sizes.get("epoch", 0):
        return []
    subjects = [ALL_SUBJECTS] * result.sizes["epoch"]
    if "epoch_subject" in result:
        subjects = text_values(result["epoch_subject"])
    names = text_values(result["epoch_name"])
    starts, stops = result["epoch_start"].values, result["epoch_stop"].values
    return [
        (Epoch(name, float(start), float(stop)), subject)
        for name, start, stop, subject in zip(names, starts, stops, subjects, strict=True)
    ]


def shared_epochs(result: xr.Dataset) -> tuple[list[Epoch], int]:
    """Return the epochs that all subjects have at the same time, and how many others there are.

    Times count as the same when they round to the same second.
    """
    rows = _epoch_rows(result)
    everyone = set(text_values(result["subject"]))
    holders: dict[tuple[str, int, int], set[str]] = {}
    first: dict[tuple[str, int, int], Epoch] = {}
    for epoch, subject in rows:
        key = (epoch.name, round(epoch.start), round(epoch.stop))
        first.setdefault(key, epoch)
        holders.setdefault(key, set()).update(everyone if subject == ALL_SUBJECTS else {subject})
    shared = [first[key] for key, subjects in holders.items() if subjects >= everyone]
    return sorted(shared, key=lambda epoch: epoch.start), len(holders) - len(shared)


def subject_epochs(result: xr.Dataset, subject: str) -> list[Epoch]:
    """Return the epochs of one subject."""
    return [epoch for epoch, holder in _epoch_rows(result) if holder in (subject, ALL_SUBJECTS)]
