"""Name and version of the data set that a source belongs to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neuropipe.errors import Issue
from neuropipe.io.checks import read_text

__all__ = ["dataset_of"]

DESCRIPTION = "dataset_description.json"
LEVELS = 5
NAMES = ("Name",)
VERSIONS = ("Version", "DatasetVersion", "DatasetDOI")


def _description(source: Path) -> tuple[dict[str, Any], list[Issue]]:
    """Return the nearest BIDS description at or above a source, empty when there is none."""
    for folder in (source, *source.parents)[: LEVELS + 1]:
        path = folder / DESCRIPTION
        if not path.is_file() and not path.is_symlink():
            continue
        try:
            value = json.loads(read_text(path))
        except (ValueError, OSError) as error:
            text = f"cannot be read, so the data set has no name: {error}"
            return {}, [Issue("NOT_THIS_FORMAT", str(path), text, "correct the file")]
        return (value if isinstance(value, dict) else {}), []
    return {}, []


def _first(found: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    return next((str(found[key]) for key in keys if isinstance(found.get(key), str)), "")


def dataset_of(
    source: Path, stated: Mapping[str, Any], columns: Mapping[str, str]
) -> tuple[dict[str, str], list[Issue]]:
    """Return ``dataset`` and ``dataset_version``, "" when nobody states them; and issues.

    Parameters
    ----------
    source : Path
        File or folder; a ``dataset_description.json`` up to five levels above it counts.
    stated : mapping
        Attributes of the source itself, which win.
    columns : mapping of str to str
        Free columns of the recordings table, used last.
    """
    found, issues = _description(source)
    described = {"dataset": _first(found, NAMES), "dataset_version": _first(found, VERSIONS)}
    known = {
        key: str(stated.get(key, "") or described[key] or columns.get(key, "")) for key in described
    }
    return known, issues
