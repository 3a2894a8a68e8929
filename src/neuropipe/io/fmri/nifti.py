"""NIfTI volumes with the sidecars of BIDS: one column per voxel of the brain mask."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from neuropipe.errors import IngestError
from neuropipe.io.entities import entities_of
from neuropipe.io.fmri.handle import FmriHandle, FmriSettings, beside, scale_attrs
from neuropipe.io.fmri.mask import WHOLE, choose_mask
from neuropipe.io.fmri.sidecars import name_parts
from neuropipe.io.fmri.timing import HeaderTime, plain_float
from neuropipe.io.fmri.volumes import Volumes, load_image
from neuropipe.io.registry import Reader, ReaderMatch

if TYPE_CHECKING:
    from neuropipe.config.models import IngestOverride

__all__ = ["READER", "NiftiSettings", "explain", "open_recording", "probe"]

SUFFIXES = ("bold", "cbv", "fmri")
EXTENSIONS = (".nii", ".nii.gz")
CIFTI_CLASS = "Cifti2Image"


class NiftiSettings(FmriSettings):
    """Reading of NIfTI volumes."""

    mask: str | None = Field(
        None,
        description="Brain mask, relative to the recording; `all`: every voxel; null: "
        "`*_brain_mask.nii.gz` beside it, else computed.",
    )


def _is_image_name(path: Path) -> bool:
    return path.name.lower().endswith(EXTENSIONS)


def probe(path: Path) -> ReaderMatch | None:
    """Return a match for a 4-D image, unless BIDS names it something else than bold."""
    if not path.is_file() or not _is_image_name(path):
        return None
    try:
        image = load_image(path)
    except IngestError:
        return None
    parts = name_parts(path.name)
    other = bool(parts.entities.get("sub")) and parts.suffix not in SUFFIXES
    if type(image).__name__ == CIFTI_CLASS or len(image.shape) != 4 or other:
        return None
    return ReaderMatch("nifti", "fmri", path, entities_of(path))


def explain(path: Path) -> None:
    """Raise what stands in the way of reading an image as a recording.

    Raises
    ------
    IngestError
        ``EMPTY`` for a single volume, ``NOT_THIS_FORMAT`` or ``TRUNCATED`` for damaged files.
    """
    if not _is_image_name(path):
        return
    image = load_image(path)
    if type(image).__name__ == CIFTI_CLASS:
        return
    _check_dims(image, path)
    suffix = name_parts(path.name).suffix
    text = f"its name ends in _{suffix}, a recording's in _{SUFFIXES[0]}"
    raise IngestError("NOT_THIS_FORMAT", path, text, "name the 4-D image of the recording")


def _check_dims(image: Any, path: Path) -> None:
    if len(image.shape) < 4 or 0 in image.shape:
        text = f"an image of shape {tuple(image.shape)}, 4-D with a time axis expected"
        raise IngestError("EMPTY", path, text, "name the 4-D image of the recording")
    if len(image.shape) > 4:
        text = f"an image of shape {tuple(image.shape)}, 4-D expected"
        raise IngestError("NOT_THIS_FORMAT", path, text, "split it")


def _header_time(image: Any) -> HeaderTime:
    unit = image.header.get_xyzt_units()[1]
    return HeaderTime(plain_float(image.header.get_zooms()[3]), str(unit))


def open_recording(path: Path, settings: NiftiSettings, override: IngestOverride) -> FmriHandle:
    """Open NIfTI volumes; without a mask file the volumes are read once to compute one.

    Raises
    ------
    IngestError
        ``TRUNCATED``, ``EMPTY``, ``DTYPE``, ``MASK_MISMATCH``, and the codes of `beside`.
    """
    import xarray as xr

    image = load_image(path)
    _check_dims(image, path)
    volumes = Volumes(path, image, override.allow_truncated)
    affine = np.asarray(image.affine, dtype=np.float64)
    named = settings.mask if settings.mask != WHOLE else None
    found = beside(path, volumes.shape[3], _header_time(image), settings, override, mask=named)
    mask, issues = choose_mask(volumes, affine, found.sidecars.mask, settings.mask)
    places = np.nonzero(mask)
    columns: dict[str, Any] = {
        name: ("voxel", index.astype(np.int32)) for name, index in zip("ijk", places, strict=True)
    }
    columns["voxel"] = ("voxel", np.flatnonzero(mask).astype(np.int64))
    raw = xr.Dataset(found.variables, {**found.coords, **columns})
    raw.attrs = {
        "affine": affine.tolist(),
        "volume_shape": [int(n) for n in mask.shape],
        "space": name_parts(path.name).entities.get("space", ""),
        "resolution": [plain_float(size) for size in image.header.get_zooms()[:3]],
    }
    used_mask = settings.mask != WHOLE and found.sidecars.mask is not None
    files = [*found.files, *([str(found.sidecars.mask)] if used_mask else [])]

    def stream(max_bytes: int) -> Iterator[np.ndarray]:
        for values in volumes.chunks(max_bytes):
            yield values[mask].T

    return FmriHandle(
        raw=raw,
        row="voxel",
        dtype=volumes.dtype,
        stream=stream,
        source_files=files,
        issues=[*volumes.issues, *found.issues, *issues],
        event_table=found.events,
        series_attrs=scale_attrs(volumes.slope, volumes.inter),
    )


READER = Reader(
    name="nifti",
    modalities=("fmri",),
    extensions=(".nii", ".gz"),
    settings=NiftiSettings,
    probe="neuropipe.io.fmri.nifti:probe",
    open="neuropipe.io.fmri.nifti:open_recording",
    explain="neuropipe.io.fmri.nifti:explain",
)
