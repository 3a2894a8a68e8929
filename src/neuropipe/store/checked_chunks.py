"""Chunks of a Zarr store on disk, each compared with its checksum when it is read.

Zarr takes a chunk that is not there for fill values, and says of one that is damaged neither where
it lies nor what to do. Arrays of ours hold every chunk, each with a CRC-32C at its end.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import google_crc32c
from zarr.storage import LocalStore

from neuropipe.errors import DataError

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

__all__ = ["CheckedStore", "has_checksums"]

CHECKSUM_BYTES = 4
RESIDUE = 0x48674BC7  # the CRC-32C of any bytes that end with their own CRC-32C
# Key of a chunk in Zarr format 3: `<array>/c/<number>/...`, `<array>/c` of an array without dims.
_CHUNK = re.compile(r"(?P<array>.*/|)c(/\d+)*")


def has_checksums(metadata: dict[str, Any]) -> bool:
    """Tell from the metadata of an array whether each of its chunks ends with a checksum."""
    codecs = metadata.get("codecs") or [{}]
    return bool(codecs[-1].get("name") == "crc32c")


class CheckedStore(LocalStore):
    """A Zarr store on disk that refuses chunks that are damaged or gone.

    Arrays without checksums, such as those of other programs, are read as they are.
    """

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Return the bytes under a key; see `zarr.abc.store.Store.get`.

        Raises
        ------
        DataError
            If it is a chunk that is not there, or not the one that was written.
        """
        value = await super().get(key, prototype, byte_range)
        found = _CHUNK.fullmatch(key)
        if found is None or byte_range is not None or not self._checked(found["array"]):
            return value
        if value is None:
            raise self._damage(key, "the chunk is missing")
        content = value.as_numpy_array()
        if content.size <= CHECKSUM_BYTES or google_crc32c.value(content) != RESIDUE:
            raise self._damage(key, "the chunk is damaged, its checksum does not fit")
        return value

    def _checked(self, array: str) -> bool:
        known: dict[str, bool] = self.__dict__.setdefault("_known_arrays", {})
        if array not in known:
            try:
                text = (self.root / array / "zarr.json").read_text(encoding="utf-8")
                known[array] = has_checksums(json.loads(text))
            except (OSError, ValueError, AttributeError):
                known[array] = False
        return known[array]

    def _damage(self, key: str, what: str) -> DataError:
        return DataError(
            f"{self.root / key}: {what}; remove the store {self.root} and run again, "
            "or copy it once more from where it is whole"
        )
