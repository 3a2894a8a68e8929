"""Files that we wrote (NWB, temporaldata), read back through their own tree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuropipe.errors import IngestError
from neuropipe.store.series import Block, RecordingSchema, SeriesSpec

if TYPE_CHECKING:
    import xarray as xr

    from neuropipe.errors import Issue

__all__ = ["OwnHandle", "OwnNwbHandle"]

KEPT_ATTRS = (
    "species",
    "sex",
    "age",
    "session_start",
    "dataset",
    "dataset_version",
    "t0_source",
    "clock_scale",
    "clock_offset",
)
# Found again from the times of samples. Masks are kept: samples may be masked that are no NaN.
DERIVED = ("observed", "segment_start")


class OwnHandle:
    """A file that we wrote: its tree holds everything, already on the store's terms.

    Parameters
    ----------
    path : Path
        The file.
    modality : str
        Modality that it is read as.
    tree : xarray.DataTree
        What it holds.

    Raises
    ------
    IngestError
        ``NOT_THIS_FORMAT``: the file holds another modality.
    """

    def __init__(self, path: Path, modality: str, tree: xr.DataTree) -> None:
        from neuropipe.store.schema import MODALITIES, modality_of

        self._path, self._tree, self._modality = path, tree, modality
        self._schema = MODALITIES[modality]
        found = modality_of(self._tree.attrs)
        if found != modality:
            text = f"neuropipe wrote it as {found}, the recordings table says {modality}"
            raise IngestError("NOT_THIS_FORMAT", path, text, "correct the column `modality`")
        self.issues: list[Issue] = []

    def _group(self, name: str) -> xr.Dataset | None:
        if name not in self._tree.children:
            return None
        return self._tree[name].to_dataset(inherit=False)

    def schema(self) -> RecordingSchema:
        """Return everything but the samples."""
        raw = self._group("raw")
        names = [name for name in self._schema.series if name in raw.data_vars]
        specs = [
            SeriesSpec(n, raw[n].dims, raw[n].shape, raw[n].dtype, dict(raw[n].attrs))
            for n in names
        ]
        derived = [n for n in DERIVED if n in raw and self._schema.clocked]
        kept: Mapping[str, Any] = {
            key: value for key, value in self._tree.attrs.items() if key in KEPT_ATTRS
        }
        small = raw.drop_vars([*names, *derived])
        small.attrs = {key: v for key, v in raw.attrs.items() if key != "all_valid"}
        return RecordingSchema(
            modality=self._modality,
            attrs=kept,
            raw=small,
            series=specs,
            trials=self._group("trials"),
            behavior=self._group("behavior"),
            source_files=(str(self._path),),
        )

    def blocks(self, max_bytes: int) -> Iterator[Block]:
        """Yield the samples series by series in time order."""
        from neuropipe.store.hashing import iter_blocks

        raw = self._group("raw")
        for name in (name for name in self._schema.series if name in raw.data_vars):
            for start, values in iter_blocks(raw[name].variable, max_bytes):
                yield Block(name, start, values)

    def events(self) -> xr.Dataset | None:
        """Return the events."""
        return self._group("events")

    def close(self) -> None:
        """Close the file."""
        self._tree.close()


class OwnNwbHandle(OwnHandle):
    """An NWB file that we wrote; arguments and faults are those of `OwnHandle`."""

    def __init__(self, path: Path, modality: str) -> None:
        from neuropipe.store.nwb import from_nwb

        super().__init__(path, modality, from_nwb(path))
