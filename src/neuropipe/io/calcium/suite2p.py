"""Suite2p output folders, read without unpickling unless the settings trust the folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from neuropipe.config.models import Positive, StrictModel
from neuropipe.errors import IngestError, Issue
from neuropipe.io.calcium.handle import ArraySource, CalciumHandle, is_all_zero
from neuropipe.io.checks import common_length
from neuropipe.io.entities import entities_of
from neuropipe.io.npy import NpyArray, load_pickled
from neuropipe.io.registry import Reader, ReaderMatch

if TYPE_CHECKING:
    from neuropipe.config.models import IngestOverride

__all__ = ["READER", "Suite2pSettings", "open_recording", "probe"]

PLANE = re.compile(r"plane(\d+)")
SERIES = {"fluorescence": "F.npy", "neuropil": "Fneu.npy", "deconvolved": "spks.npy"}
RATE_TOLERANCE = 1e-3


class Suite2pSettings(StrictModel):
    """Reading of suite2p folders."""

    rate_hz: Positive | None = Field(
        None, description="Volume rate; needed unless ops.npy is there and trusted."
    )
    trust_pickle: bool = Field(
        False,
        description="Unpickle ops.npy and stat.npy, which runs code that the files hold.",
    )
    plane: int | None = Field(None, ge=0, description="Plane to read when there are several.")


def _planes(path: Path) -> list[Path]:
    """Return the folders with traces that a path stands for."""
    if (path / "F.npy").is_file():
        return [path]
    folders = [path, path / "suite2p"]
    found = [f for folder in folders for f in folder.glob("plane*") if (f / "F.npy").is_file()]
    return sorted(f for f in found if PLANE.fullmatch(f.name))


def probe(path: Path) -> ReaderMatch | None:
    """Return a match for a folder that holds ``F.npy``, itself or in ``plane<n>``."""
    if not path.is_dir() or not _planes(path):
        return None
    issues: tuple[Issue, ...] = ()
    if not any((plane / "ops.npy").is_file() for plane in _planes(path)):
        message = "there is no ops.npy, so the folder does not state its rate"
        hint = "set `rate_hz` in ingest.readers.suite2p or ingest.overrides"
        issues = (Issue("MISSING_SIDECAR", str(path), message, hint),)
    return ReaderMatch("suite2p", "calcium", path, entities_of(path), issues)


def _choose_plane(path: Path, wanted: int | None) -> Path:
    planes = _planes(path)
    if not planes:
        raise IngestError(
            "NOT_THIS_FORMAT",
            path,
            "no F.npy here nor in plane<n>",
            "give the folder that suite2p wrote",
        )
    if wanted is not None and planes != [path]:
        named = [plane for plane in planes if plane.name == f"plane{wanted}"]
        if named:
            return named[0]
    if wanted is None and len(planes) == 1:
        return planes[0]
    if wanted is not None and planes == [path]:
        return path
    names = ", ".join(plane.name for plane in planes)
    raise IngestError(
        "SEVERAL_SERIES" if wanted is None else "MISSING_SIDECAR",
        path,
        f"holds the planes {names}" + ("" if wanted is None else f", not plane{wanted}"),
        "name one with `plane`, one recording per plane (entity acq)",
    )


def _rate(
    folder: Path, settings: Suite2pSettings, given: float | None, issues: list[Issue]
) -> tuple[float, list[Path]]:
    """Return the rate and the files that were read for it."""
    rate, ops = given or settings.rate_hz, folder / "ops.npy"
    stated, files = None, []
    if settings.trust_pickle and ops.is_file():
        stated = float(load_pickled(ops).item().get("fs", 0)) or None
        files = [ops]
    if rate is None and stated is None:
        have = "not unpickled without `trust_pickle: true`" if ops.is_file() else "absent"
        raise IngestError(
            "MISSING_SIDECAR",
            ops,
            f"the rate is not known: ops.npy is {have}",
            "set `rate_hz`, or `trust_pickle: true` if you trust the folder",
        )
    if rate is not None and stated is not None and abs(rate / stated - 1) > RATE_TOLERANCE:
        message = f"ops.npy states fs = {stated} Hz, the settings {rate} Hz; the settings win"
        issues.append(Issue("RATE_MISMATCH", str(ops), message, "correct the wrong one"))
    return float(rate or stated or np.nan), files


def _open_series(
    folder: Path, truncated_ok: bool, issues: list[Issue]
) -> dict[str, tuple[Path, NpyArray]]:
    found = {}
    for name, file in SERIES.items():
        path = folder / file
        if not path.is_file():
            text = f"there is no {file}, so the recording has no series {name!r}"
            hint = "copy the folder again, if suite2p wrote it"
            issues.append(Issue("MISSING_SIDECAR", str(path), text, hint, "info"))
            continue
        array = NpyArray(path, allow_truncated=truncated_ok)
        if len(array.shape) != 2:
            raise IngestError(
                "LENGTH_MISMATCH",
                path,
                f"shape {array.shape}, (roi, time) expected",
                "is this the array that suite2p wrote?",
            )
        issues += array.issues
        if name == "deconvolved" and array.shape[0] and is_all_zero(array):
            message = "all deconvolved values are zero; left out"
            issues.append(Issue("ALL_ZERO", str(path), message, "run suite2p's deconvolution"))
            continue
        found[name] = (path, array)
    return found


def _cells(folder: Path, n_rois: int, issues: list[Issue]) -> tuple[dict[str, Any], list[Path]]:
    path = folder / "iscell.npy"
    if not path.is_file():
        message = "there is no iscell.npy, so every roi counts alike"
        issues.append(Issue("MISSING_SIDECAR", str(path), message, "", "warning"))
        return {}, []
    values = np.asarray(NpyArray(path)[:])
    values = values[:, None] if values.ndim == 1 else values
    common_length({"F.npy": n_rois, "iscell.npy": len(values)}, 0, f"{folder}: roi")
    coords = {"is_cell": ("roi", values[:, 0].astype(bool))}
    if values.shape[1] > 1:
        coords["iscell_prob"] = ("roi", values[:, 1].astype(np.float64))
    else:
        message = "one column, so there is no probability that a roi is a cell"
        issues.append(Issue("MISSING_SIDECAR", str(path), message, "", "info"))
    return coords, [path]


def _positions(
    folder: Path, n_rois: int, settings: Suite2pSettings
) -> tuple[dict[str, Any], list[Path]]:
    """Return centres of the rois in pixels, from stat.npy when it is trusted."""
    path = folder / "stat.npy"
    if not settings.trust_pickle or not path.is_file():
        return {}, []
    stat = load_pickled(path)
    common_length({"F.npy": n_rois, "stat.npy": len(stat)}, 0, f"{folder}: roi")
    coords: dict[str, Any] = {}
    if all("med" in roi for roi in stat):
        centre = np.array([roi["med"] for roi in stat], np.float64)
        coords = {"y": ("roi", centre[:, 0]), "x": ("roi", centre[:, 1])}
    if all("iplane" in roi for roi in stat):
        coords["plane"] = ("roi", np.array([int(roi["iplane"]) for roi in stat], np.int64))
    return coords, [path]


def open_recording(
    path: Path, settings: Suite2pSettings, override: IngestOverride
) -> CalciumHandle:
    """Open a suite2p folder; the samples stay on disk.

    Raises
    ------
    IngestError
        ``MISSING_SIDECAR`` without a rate, ``UNSAFE`` for arrays that need unpickling,
        ``TRUNCATED``, ``LENGTH_MISMATCH``.
    """
    import xarray as xr

    folder = _choose_plane(path, settings.plane)
    issues: list[Issue] = []
    rate, rate_files = _rate(folder, settings, override.rate_hz, issues)
    series = _open_series(folder, override.allow_truncated, issues)
    truncated = any(issue.code == "TRUNCATED" for issue in issues)
    rois = {file.name: array.shape[0] for file, array in series.values()}
    n_rois = min(rois.values()) if truncated else common_length(rois, 0, f"{folder}: roi")[0]
    times = {file.name: array.shape[1] for file, array in series.values()}
    n_times, found = common_length(times, override.trim, f"{folder}: time")
    issues += found
    all_rois = NpyArray(folder / "F.npy", allow_truncated=True).stated_shape[0]
    cells, cell_files = _cells(folder, all_rois, issues)
    positions, stat_files = _positions(folder, all_rois, settings)
    rows = {name: (dim, values[:n_rois]) for name, (dim, values) in (cells | positions).items()}
    raw = xr.Dataset(
        coords={
            "time": ("time", np.arange(n_times, dtype=np.float64) / rate),
            "roi": ("roi", np.arange(n_rois, dtype=np.int64)),
            **rows,
        }
    )
    files = [file for file, _ in series.values()] + cell_files + stat_files + rate_files
    return CalciumHandle(
        raw=raw,
        sources=[ArraySource(name, array, True) for name, (_, array) in series.items()],
        attrs={"imaging_rate": rate},
        source_files=[str(file) for file in files],
        issues=issues,
    )


READER = Reader(
    name="suite2p",
    modalities=("calcium",),
    extensions=("",),
    settings=Suite2pSettings,
    probe="neuropipe.io.calcium.suite2p:probe",
    open="neuropipe.io.calcium.suite2p:open_recording",
)
