"""Checkpoints of a chain: everything that the next sweep depends on, written atomically."""

from __future__ import annotations

import json
import time
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from neuropipe.store.atomic import atomic_path

__all__ = ["Checkpoint"]

FILE = "chain.npz"
_DAMAGED = (OSError, ValueError, KeyError, EOFError, TypeError, AttributeError)


class Checkpoint:
    """The checkpoint of one chain in a folder of its own.

    Parameters
    ----------
    folder : Path or None
        Where it lies; None: no checkpoints.
    signature : str
        Hash of input, settings, seed and chain; a checkpoint with another one is ignored.
    minutes : float
        Time between two checkpoints.
    """

    def __init__(self, folder: Path | None, signature: str, minutes: float) -> None:
        self.folder, self.signature, self.seconds = folder, signature, 60.0 * minutes
        self._last = time.monotonic()

    def load(self) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """Return arrays and numbers of the last checkpoint, or None, also if it is damaged."""
        if self.folder is None or not (self.folder / FILE).exists():
            return None
        try:
            with (
                (self.folder / FILE).open("rb") as file,
                np.load(file, allow_pickle=False) as stored,
            ):
                arrays = {name: stored[name] for name in stored.files}
            numbers = json.loads(str(arrays.pop("numbers")))
        except (*_DAMAGED, zipfile.BadZipFile, zlib.error):
            return None
        return (arrays, numbers) if numbers["signature"] == self.signature else None

    def due(self) -> bool:
        """Return whether it is time for the next checkpoint."""
        return self.folder is not None and time.monotonic() - self._last >= self.seconds

    def save(self, arrays: dict[str, np.ndarray], numbers: dict[str, Any]) -> None:
        """Write the checkpoint in place of the last one."""
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({**numbers, "signature": self.signature})
        with atomic_path(self.folder / FILE) as partial, Path(partial).open("wb") as file:
            np.savez(file, numbers=np.array(text), **arrays)
        self._last = time.monotonic()

    def remove(self) -> None:
        """Remove the checkpoint of a chain that is done."""
        if self.folder is not None:
            (self.folder / FILE).unlink(missing_ok=True)
            if self.folder.exists() and not any(self.folder.iterdir()):
                self.folder.rmdir()
