"""CIFTI-2 time series: one column per grayordinate (dtseries) or per parcel (ptseries)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.errors import IngestError
from neuropipe.io.arrays import object_array
from neuropipe.io.entities import entities_of
from neuropipe.io.fmri.handle import FmriHandle, FmriSettings, beside, scale_attrs, unique_names
from neuropipe.io.fmri.sidecars import name_parts
from neuropipe.io.fmri.timing import HeaderTime
from neuropipe.io.fmri.volumes import load_image
from neuropipe.io.registry import Reader, ReaderMatch

if TYPE_CHECKING:
    from neuropipe.config.models import IngestOverride

__all__ = ["READER", "CiftiSettings", "explain", "open_recording", "probe"]

SECOND = "SECOND"
MAPPED_BYTES = 8 << 20


class CiftiSettings(FmriSettings):
    """Reading of CIFTI time series."""


def _load(path: Path) -> Any | None:
    """Return a CIFTI image, or None for anything else."""
    if not path.is_file() or path.suffix.lower() != ".nii":
        return None
    image = load_image(path)
    return image if type(image).__name__ == "Cifti2Image" else None


def probe(path: Path) -> ReaderMatch | None:
    """Return a match for a CIFTI file whose first axis is time."""
    import nibabel as nib

    try:
        image = _load(path)
    except IngestError:
        return None
    if image is None or not isinstance(image.header.get_axis(0), nib.cifti2.SeriesAxis):
        return None
    return ReaderMatch("cifti", "fmri", path, entities_of(path))


def explain(path: Path) -> None:
    """Raise for a CIFTI file that is no time series.

    Raises
    ------
    IngestError
        ``NOT_THIS_FORMAT``.
    """
    import nibabel as nib

    image = _load(path)
    if image is None:
        return
    axis = image.header.get_axis(0)
    kind = type(axis).__name__
    text = f"a CIFTI file whose first axis is a {kind}, a time series expected"
    hint = "name the .dtseries.nii or .ptseries.nii of the recording"
    if isinstance(axis, nib.cifti2.LabelAxis):
        text = "a CIFTI label file (dlabel): an atlas, not a recording"
        hint = "atlases are for preprocess.fmri.parcellation; " + hint
    raise IngestError("NOT_THIS_FORMAT", path, text, hint)


class _Matrix:
    """Samples of a CIFTI file, ``(time, row)`` with time running fastest on disk."""

    def __init__(self, path: Path, image: Any) -> None:
        proxy = image.dataobj
        self.path, self.shape = path, tuple(int(n) for n in image.shape)
        self._stored, self._offset = np.dtype(proxy.dtype), int(proxy.offset)
        self.dtype = self._stored.newbyteorder("=")
        self.slope, self.inter = float(proxy.slope), float(proxy.inter)
        needed = int(np.prod(self.shape)) * self._stored.itemsize
        found = path.stat().st_size - self._offset
        if found < needed:
            # Time runs fastest: a short file lacks whole rows, so that no volume is whole.
            text = f"{max(0, found)} bytes of samples, the header implies {needed}"
            raise IngestError("TRUNCATED", path, text, "copy the file again")

    def chunks(self, max_bytes: int) -> Iterator[np.ndarray]:
        """Yield ``(n, row)`` in time order."""
        step = max(1, max_bytes // max(1, self.shape[1] * self.dtype.itemsize))
        for start in range(0, self.shape[0], step):
            yield self._read(start, min(start + step, self.shape[0]))

    def _read(self, start: int, stop: int) -> np.ndarray:
        """Return samples ``start : stop`` of all rows.

        A few rows are mapped at a time, since every page that is touched counts as memory.
        """
        values = np.empty((stop - start, self.shape[1]), self.dtype)
        row_bytes = self.shape[0] * self._stored.itemsize
        step = max(1, MAPPED_BYTES // row_bytes)
        for first in range(0, self.shape[1], step):
            last = min(first + step, self.shape[1])
            shape = (self.shape[0], last - first)
            offset = self._offset + first * row_bytes
            mapped = np.memmap(self.path, self._stored, "r", offset, shape, "F")
            values[:, first:last] = mapped[start:stop]
            del mapped
        return values


def _grayordinates(axis: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    count = len(axis)
    columns: dict[str, Any] = {
        "grayordinate": np.arange(count, dtype=np.int64),
        "structure": object_array([str(name) for name in axis.name]),
        "vertex": np.asarray(axis.vertex, dtype=np.int32),
    }
    for name, index in zip("ijk", np.asarray(axis.voxel, dtype=np.int32).T, strict=True):
        columns[name] = index
    attrs: dict[str, Any] = {"affine": [], "volume_shape": []}
    if axis.affine is not None:
        attrs["affine"] = np.asarray(axis.affine, dtype=np.float64).tolist()
        attrs["volume_shape"] = [int(n) for n in axis.volume_shape]
    return {name: ("grayordinate", values) for name, values in columns.items()}, attrs


def _parcels(axis: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    names = unique_names([str(name) for name in axis.name])
    vertices = [sum(len(part) for part in found.values()) for found in axis.vertices]
    columns = {
        "parcel": object_array(names),
        "parcel_index": np.arange(len(names), dtype=np.int32),
        "n_voxels": np.array([len(v) for v in axis.voxels], dtype=np.int32),
        "n_vertices": np.array(vertices, dtype=np.int32),
    }
    return {name: ("parcel", values) for name, values in columns.items()}, {}


def open_recording(path: Path, settings: CiftiSettings, override: IngestOverride) -> FmriHandle:
    """Open a CIFTI time series.

    Raises
    ------
    IngestError
        ``TRUNCATED``, ``NOT_THIS_FORMAT`` for a series over something else than time, and the
        codes of `beside`.
    """
    import nibabel as nib
    import xarray as xr

    explained = _load(path)
    if explained is None or not isinstance(explained.header.get_axis(0), nib.cifti2.SeriesAxis):
        explain(path)
    series, rows = (explained.header.get_axis(k) for k in (0, 1))  # type: ignore[union-attr]
    if series.unit != SECOND:
        text = f"its series runs over {series.unit}, seconds expected"
        raise IngestError("NOT_THIS_FORMAT", path, text, "name a time series")
    matrix = _Matrix(path, explained)
    header = HeaderTime(float(series.step), "sec")
    found = beside(path, matrix.shape[0], header, settings, override)
    dense = isinstance(rows, nib.cifti2.BrainModelAxis)
    columns, attrs = _grayordinates(rows) if dense else _parcels(rows)
    raw = xr.Dataset(found.variables, {**found.coords, **columns})
    raw.attrs = {**attrs, "space": name_parts(path.name).entities.get("space", "")}
    return FmriHandle(
        raw=raw,
        row="grayordinate" if dense else "parcel",
        dtype=matrix.dtype,
        stream=matrix.chunks,
        source_files=found.files,
        issues=found.issues,
        event_table=found.events,
        attrs={"t0_source": float(series.start)} if series.start else {},
        series_attrs=scale_attrs(matrix.slope, matrix.inter),
    )


READER = Reader(
    name="cifti",
    modalities=("fmri",),
    extensions=(".nii",),
    settings=CiftiSettings,
    probe="neuropipe.io.fmri.cifti:probe",
    open="neuropipe.io.fmri.cifti:open_recording",
    explain="neuropipe.io.fmri.cifti:explain",
)
