"""HDF5 files of temporaldata and torch_brain: written from a store and read back without loss."""

from __future__ import annotations

from neuropipe.store.temporaldata.read import OWN_MARK, from_temporaldata
from neuropipe.store.temporaldata.write import to_temporaldata

__all__ = ["OWN_MARK", "from_temporaldata", "to_temporaldata"]
