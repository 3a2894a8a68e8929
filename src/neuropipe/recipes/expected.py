"""What a fetched study holds, held against what its recipe expects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuropipe.config.recordings import read_recordings
from neuropipe.store import layout

if TYPE_CHECKING:
    from neuropipe.recipes.recipe import Recipe

__all__ = ["compare_expected"]

ROWS = ("roi", "unit", "channel", "voxel", "parcel", "grayordinate")


def compare_expected(recipe: Recipe, study: Path) -> tuple[list[str], list[str]]:
    """Compare ingested recordings with what is expected.

    Parameters
    ----------
    recipe : Recipe
        With ``expected``.
    study : Path
        Study folder; recordings that were not ingested are left out.

    Returns
    -------
    tuple of list of str
        What agrees, and what does not.
    """
    recordings = read_recordings(study / "config" / "recordings.tsv")
    expected = recipe.expected
    same: list[str] = []
    other: list[str] = []

    def compare(what: str, found: Any, wanted: Any) -> None:
        if wanted is not None:
            is_same = found == wanted
            text = f"{what}, as expected" if is_same else f"{what}, expected {wanted}"
            (same if is_same else other).append(text)

    compare(f"{len(recordings)} recordings", len(recordings), expected.recordings)
    for row in recordings:
        marker = study / layout.report_marker(row)
        if not marker.is_file():
            continue
        report = json.loads(marker.read_text(encoding="utf-8"))
        rows = next((n for dim, n in report["sizes"].items() if dim in ROWS), 0)
        compare(f"{row.name}: {rows} rows", rows, expected.rows.get(row.name))
        rate, events = _store_facts(study / layout.store_file(row))
        compare(f"{row.name}: {rate:g} Hz", rate, expected.rates_hz.get(row.name))
        compare(f"{row.name}: {events} events", events, expected.events.get(row.name))
    return same, other


def _store_facts(path: Path) -> tuple[float, int]:
    from neuropipe.store.zarr import open_store

    tree = open_store(path)
    events = tree["events"].sizes.get("event", 0) if "events" in tree.children else 0
    # Rates are stated with few digits.
    return round(float(tree.attrs["rate"]), 6), events
