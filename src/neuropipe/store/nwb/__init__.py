"""NWB files of recordings: written from a store and read back without loss."""

from __future__ import annotations

from neuropipe.store.nwb.read import from_nwb
from neuropipe.store.nwb.write import to_nwb

__all__ = ["from_nwb", "to_nwb"]
