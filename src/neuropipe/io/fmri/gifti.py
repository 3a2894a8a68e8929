"""GIFTI functional data: one column per vertex of a surface."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neuropipe.errors import IngestError
from neuropipe.io.arrays import object_array
from neuropipe.io.checks import head, refuse_pointers
from neuropipe.io.entities import entities_of
from neuropipe.io.fmri.handle import FmriHandle, FmriSettings, beside
from neuropipe.io.fmri.sidecars import name_parts
from neuropipe.io.fmri.timing import HeaderTime
from neuropipe.io.registry import Reader, ReaderMatch

if TYPE_CHECKING:
    from neuropipe.config.models import IngestOverride

__all__ = ["READER", "GiftiSettings", "open_recording", "probe"]

TIME_SERIES = "NIFTI_INTENT_TIME_SERIES"
VALUE_INTENTS = (TIME_SERIES, "NIFTI_INTENT_NONE", "NIFTI_INTENT_ESTIMATE")
STRUCTURES = {"L": "CIFTI_STRUCTURE_CORTEX_LEFT", "R": "CIFTI_STRUCTURE_CORTEX_RIGHT"}
NAMES = {"CortexLeft": STRUCTURES["L"], "CortexRight": STRUCTURES["R"]}
STEP_KEYS = ("TimeStep", "RepetitionTime", "TR")


class GiftiSettings(FmriSettings):
    """Reading of GIFTI functional data."""


def probe(path: Path) -> ReaderMatch | None:
    """Return a match for functional data; surfaces and labels have other names."""
    if not path.is_file() or b"<GIFTI" not in head(path, 4096):
        return None
    if path.name.lower().endswith((".surf.gii", ".label.gii", ".shape.gii")):
        return None
    return ReaderMatch("gifti", "fmri", path, entities_of(path))


def _load(path: Path) -> Any:
    from xml.parsers.expat import ExpatError

    import nibabel as nib

    refuse_pointers(path)
    try:
        return nib.load(path)
    except ExpatError as error:
        code = "TRUNCATED" if "no element" in str(error) or "unclosed" in str(error) else ""
        text = f"the XML cannot be read: {error}"
        raise IngestError(code or "NOT_THIS_FORMAT", path, text, "copy the file again") from error
    except (nib.filebasedimages.ImageFileError, ValueError, OSError) as error:
        text = f"no GIFTI file that nibabel reads: {error}"
        raise IngestError("NOT_THIS_FORMAT", path, text, "copy the file again") from error


def _series(image: Any, path: Path) -> list[np.ndarray]:
    """Return the values of each volume, ``(vertex,)``."""
    import nibabel as nib

    arrays = [
        array
        for array in image.darrays
        if nib.nifti1.intent_codes.niistring[array.intent] in VALUE_INTENTS
    ]
    values = [np.asarray(array.data) for array in arrays]
    if len(values) == 1 and values[0].ndim == 2:
        return list(values[0].T)
    lengths = sorted({value.shape for value in values})
    if not values or values[0].ndim != 1:
        text = f"holds no time series (arrays of shape {[v.shape for v in values][:3]})"
        raise IngestError("EMPTY", path, text, "name the .func.gii of the recording")
    if len(lengths) > 1:
        text = f"volumes of {' and '.join(str(n[0]) for n in lengths[:2])} vertices"
        raise IngestError("LENGTH_MISMATCH", path, text, "write the file again")
    return values


def _structure(image: Any, path: Path) -> str:
    metadata = dict(image.meta)
    for array in image.darrays[:1]:
        metadata |= dict(array.meta)
    named = str(metadata.get("AnatomicalStructurePrimary", ""))
    return NAMES.get(named) or STRUCTURES.get(name_parts(path.name).entities.get("hemi", ""), named)


def _header_time(image: Any) -> HeaderTime | None:
    """Return the step that the metadata state: milliseconds where they say so."""
    metadata = dict(image.meta)
    for array in image.darrays[:1]:
        metadata |= dict(array.meta)
    for key in STEP_KEYS:
        try:
            step = float(metadata.get(key, ""))
        except ValueError:
            continue
        unit = str(metadata.get("TimeUnits", metadata.get("TimeStepUnits", "")))
        known = {"NIFTI_UNITS_MSEC": "msec", "ms": "msec", "NIFTI_UNITS_SEC": "sec", "s": "sec"}
        return HeaderTime(step, known.get(unit, "unknown"))
    return None


def open_recording(path: Path, settings: GiftiSettings, override: IngestOverride) -> FmriHandle:
    """Open GIFTI functional data.

    The format is one XML text without places to jump to, so that it is parsed whole.

    Raises
    ------
    IngestError
        ``TRUNCATED``, ``NOT_THIS_FORMAT``, ``EMPTY``, ``LENGTH_MISMATCH``, and the codes of
        `beside`.
    """
    import xarray as xr

    image = _load(path)
    values = _series(image, path)
    found = beside(path, len(values), _header_time(image), settings, override)
    count, dtype = len(values[0]), np.result_type(*values).newbyteorder("=")
    columns: dict[str, Any] = {
        "grayordinate": np.arange(count, dtype=np.int64),
        "structure": object_array([_structure(image, path)] * count),
        "vertex": np.arange(count, dtype=np.int32),
    }
    rows = {name: ("grayordinate", column) for name, column in columns.items()}
    raw = xr.Dataset(found.variables, {**found.coords, **rows})
    raw.attrs = {"space": name_parts(path.name).entities.get("space", "")}

    def stream(max_bytes: int) -> Iterator[np.ndarray]:
        step = max(1, max_bytes // max(1, count * dtype.itemsize))
        for start in range(0, len(values), step):
            yield np.stack(values[start : start + step])

    return FmriHandle(
        raw=raw,
        row="grayordinate",
        dtype=dtype,
        stream=stream,
        source_files=found.files,
        issues=found.issues,
        event_table=found.events,
    )


READER = Reader(
    name="gifti",
    modalities=("fmri",),
    extensions=(".gii",),
    settings=GiftiSettings,
    probe="neuropipe.io.fmri.gifti:probe",
    open="neuropipe.io.fmri.gifti:open_recording",
)
