"""CaImAn results: the HDF5 file that ``CNMF.save`` writes, group ``/estimates``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from neuropipe.config.models import Positive, StrictModel
from neuropipe.errors import IngestError, Issue
from neuropipe.io.calcium.handle import ArraySource, CalciumHandle, is_all_zero
from neuropipe.io.checks import HDF5_MAGIC, common_length, has_magic
from neuropipe.io.entities import entities_of
from neuropipe.io.hdf5_fields import Fields
from neuropipe.io.registry import Reader, ReaderMatch

if TYPE_CHECKING:
    from neuropipe.config.models import IngestOverride

__all__ = ["READER", "CaimanSettings", "open_recording", "probe"]

SERIES = {"fluorescence": "C", "dff": "F_dff", "deconvolved": "S"}
RATE = "/params/data/fr"
RATE_TOLERANCE = 1e-3
FOOTPRINT = ("data", "indices", "indptr", "shape")


class CaimanSettings(StrictModel):
    """Reading of CaImAn results."""

    rate_hz: Positive | None = Field(
        None, description="Frame rate, when /params/data/fr does not state it."
    )


def probe(path: Path) -> ReaderMatch | None:
    """Return a match for an HDF5 file with ``/estimates/C``."""
    if not has_magic(path, HDF5_MAGIC):
        return None
    import h5py

    try:
        with h5py.File(path, "r") as file:
            if "estimates/C" not in file:
                return None
    except OSError:
        return None  # the generic reader tells what is wrong with the file
    return ReaderMatch("caiman", "calcium", path, entities_of(path))


def _has(fields: Fields, name: str) -> bool:
    """Tell whether a field is there; CaImAn writes a text in place of what it did not compute."""
    try:
        return fields.array(name).dtype.kind in "biuf"
    except IngestError as error:
        if error.code != "MISSING_SIDECAR":
            raise
        return False


def _series(fields: Fields, issues: list[Issue]) -> list[ArraySource]:
    found = []
    for series, name in SERIES.items():
        if name != "C" and not _has(fields, name):
            text = f"{name} is not there, so the recording has no series {series!r}"
            issues.append(Issue("MISSING_SIDECAR", fields.where(name), text, "", "info"))
            continue
        array = fields.traces(name)
        if series == "deconvolved" and array.size and is_all_zero(array):
            message = "all deconvolved values are zero; left out"
            hint = "deconvolve with p > 0 in CaImAn"
            issues.append(Issue("ALL_ZERO", fields.where(name), message, hint))
            continue
        found.append(ArraySource(series, array, True))
    return found


def _rate(fields: Fields, given: float | None, issues: list[Issue]) -> float:
    stated = None
    if _has(fields, RATE):
        stated = float(np.asarray(fields.numbers(RATE)[...]).ravel()[0]) or None
    if given is None and stated is None:
        raise IngestError(
            "MISSING_SIDECAR",
            fields.where(RATE),
            "the rate is not known",
            "set `rate_hz` in ingest.readers.caiman or ingest.overrides",
        )
    if given is not None and stated is not None and abs(given / stated - 1) > RATE_TOLERANCE:
        message = f"the file states fr = {stated} Hz, the settings {given} Hz; the settings win"
        issues.append(Issue("RATE_MISMATCH", fields.where(RATE), message, "correct the wrong one"))
    return float(given or stated or np.nan)


def _is_cell(fields: Fields, n_rois: int, issues: list[Issue]) -> dict[str, Any]:
    """Return ``is_cell``: the components that CaImAn's evaluation accepted."""
    name = "idx_components"
    if not _has(fields, name):
        message = "the components were not evaluated, so every roi counts alike"
        issues.append(Issue("MISSING_SIDECAR", fields.where(name), message))
        return {}
    index = _whole(fields, name)
    if index.size and (index.min() < 0 or index.max() >= n_rois):
        raise IngestError(
            "LENGTH_MISMATCH",
            fields.where(name),
            f"names component {int(index.max())}, there are {n_rois} (counted from 0)",
            "save the CaImAn object again",
        )
    accepted = np.zeros(n_rois, dtype=bool)
    accepted[index] = True
    return {"is_cell": ("roi", accepted)}


def _whole(fields: Fields, name: str) -> np.ndarray:
    """Return whole numbers, shape ``(n,)`` int64, however they are stored."""
    values = np.asarray(fields.numbers(name)[...]).ravel()
    if values.dtype.kind not in "biu":
        bad = ~(np.isfinite(values) & (values == np.round(values)))
        if values.dtype.kind != "f" or bad.any():
            found = values[bad][0] if values.dtype.kind == "f" else values.dtype
            text = f"holds {found}, expected whole numbers"
            raise IngestError("NOT_THIS_FORMAT", fields.where(name), text, "save the object again")
    return values.astype(np.int64)


def _positions(fields: Fields, n_rois: int, issues: list[Issue]) -> dict[str, Any]:
    """Return centres of mass of the footprints in pixels, from the CSC parts of ``A``."""
    if not all(_has(fields, f"A/{part}") for part in FOOTPRINT):
        return {}
    weight = np.asarray(fields.numbers(f"A/{FOOTPRINT[0]}")[...]).ravel()
    pixel, start, shape = (_whole(fields, f"A/{part}") for part in FOOTPRINT[1:])
    common_length({"C": n_rois, "A": len(start) - 1}, 0, f"{fields.path}: roi")
    parts = {"data": len(weight), "indices": len(pixel), "indptr": int(start[-1])}
    common_length(parts, 0, f"{fields.path}: A")
    if not shape.size or (np.diff(start) < 0).any() or start[0] != 0:
        text = "indptr does not rise from 0, or there is no shape"
        raise IngestError("NOT_THIS_FORMAT", fields.where("A"), text, "save the object again")
    size = "dims" if _has(fields, "dims") else "/dims"
    if not _has(fields, size):
        message = "no image size, so the rois have no positions"
        issues.append(Issue("MISSING_SIDECAR", fields.where("dims"), message, "", "info"))
        return {}
    dims = tuple(_whole(fields, size).tolist())
    common_length({"A": int(shape[0]), "dims": int(np.prod(dims))}, 0, f"{fields.path}: pixels")
    if pixel.size and not 0 <= pixel.min() <= pixel.max() < np.prod(dims):
        text = f"pixels {pixel.min()} to {pixel.max()} of an image of {np.prod(dims)}"
        raise IngestError("LENGTH_MISMATCH", fields.where("A/indices"), text, "save it again")
    # Pixels are counted down the columns of the image, as in MATLAB: (y, x[, z]).
    axes = np.unravel_index(pixel.astype(np.int64), dims, order="F")
    owner = np.repeat(np.arange(n_rois), np.subtract(start[1:], start[:-1], dtype=np.int64))
    total = np.bincount(owner, weight, n_rois)
    total[total == 0] = np.nan
    return {
        name: ("roi", np.bincount(owner, weight * at, n_rois) / total)
        for name, at in zip(("y", "x", "z"), axes, strict=False)
    }


def open_recording(path: Path, settings: CaimanSettings, override: IngestOverride) -> CalciumHandle:
    """Open CaImAn results; the samples stay on disk.

    ``C`` becomes ``fluorescence`` (denoised, a.u.), ``F_dff`` ``dff``, ``S`` ``deconvolved``.

    Raises
    ------
    IngestError
        ``MISSING_SIDECAR`` without a rate, ``LENGTH_MISMATCH``, or a damaged file.
    """
    import xarray as xr

    fields = Fields(path, "estimates")
    try:
        issues: list[Issue] = []
        rate = _rate(fields, override.rate_hz or settings.rate_hz, issues)
        sources = _series(fields, issues)
        rows = {source.name: source.array.shape[0] for source in sources}
        n_rois, _ = common_length(rows, 0, f"{path}: roi")
        lengths = {source.name: source.array.shape[1] for source in sources}
        n_times, found = common_length(lengths, override.trim, f"{path}: time")
        issues += found
        raw = xr.Dataset(
            coords={
                "time": ("time", np.arange(n_times, dtype=np.float64) / rate),
                "roi": ("roi", np.arange(n_rois, dtype=np.int64)),
                **_is_cell(fields, n_rois, issues),
                **_positions(fields, n_rois, issues),
            }
        )
    except BaseException:
        fields.close()
        raise
    return CalciumHandle(
        raw=raw,
        sources=sources,
        attrs={"imaging_rate": rate},
        source_files=[str(path)],
        issues=issues,
        close=fields.close,
    )


READER = Reader(
    name="caiman",
    modalities=("calcium",),
    extensions=(".h5", ".hdf5"),
    settings=CaimanSettings,
    probe="neuropipe.io.calcium.caiman:probe",
    open="neuropipe.io.calcium.caiman:open_recording",
)
