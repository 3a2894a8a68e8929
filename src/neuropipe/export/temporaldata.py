"""Recordings as files of temporaldata and torch_brain."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from neuropipe.export.recording import name_of, new_file

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["write"]


def write(tree: xr.DataTree, output: Path) -> list[Path]:
    """Write ``<recording>.h5``; neither package is needed."""
    from neuropipe.store.temporaldata import to_temporaldata

    path = new_file(output / f"{name_of(tree)}.h5")
    to_temporaldata(tree, path)
    return [path]
