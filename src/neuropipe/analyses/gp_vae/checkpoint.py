"""Checkpoint of network training: a killed fit goes on where it was, with the same result."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

import numpy as np

from neuropipe.analyses.gp_vae.prepare import Prepared
from neuropipe.analyses.gp_vae.spec import Settings
from neuropipe.store.atomic import atomic_path

__all__ = ["Checkpoint", "signature_of"]

FILE, SECONDS = "training.pt", 60.0


def signature_of(
    prepared: Prepared, settings: Settings, seed: int, latents: int, restart: int
) -> str:
    """Return a hash of everything that a fit depends on."""
    digest = hashlib.sha256(settings.model_dump_json().encode())
    digest.update(f"{seed} {latents} {restart}".encode())
    digest.update("".join(prepared.split).encode())
    for name, one in prepared.data.items():
        digest.update(name.encode())
        for array in (one.values, one.valid, one.times):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


class Checkpoint:
    """State of a training run in a folder of its own.

    Parameters
    ----------
    folder : Path or None
        Where it lies; None: no checkpoints.
    signature : str
        `signature_of` the fit; a checkpoint of another is ignored.
    seconds : float
        Least time between two checkpoints within a phase.
    """

    def __init__(self, folder: Path | None, signature: str, seconds: float = SECONDS) -> None:
        self.folder, self.signature, self.seconds = folder, signature, seconds
        self._last = -np.inf

    def load(self) -> dict[str, Any] | None:
        """Return the last state, or None, also when it cannot be read."""
        import torch

        if self.folder is None or not (self.folder / FILE).exists():
            return None
        try:
            state = torch.load(self.folder / FILE, weights_only=True, map_location="cpu")
        # A damaged file raises whatever torch stumbles over; the fit then begins anew.
        except Exception:
            return None
        return state if state["signature"] == self.signature else None

    def save(self, state: dict[str, Any], *, force: bool = False) -> None:
        """Write the state in place of the last one, unless that is recent."""
        import torch

        if self.folder is None or (not force and time.monotonic() - self._last < self.seconds):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(self.folder / FILE) as partial, Path(partial).open("wb") as file:
            torch.save({**state, "signature": self.signature}, file)
        self._last = time.monotonic()
