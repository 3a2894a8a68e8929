"""Repetition time and slice times: what header and sidecar state, compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neuropipe.errors import IngestError, Issue

__all__ = ["HeaderTime", "Timing", "plain_float", "timing_of"]

SHORTEST_S, LONGEST_S = 0.1, 20.0
MISMATCH_S = 1e-3
# Units of header times, in seconds.
UNITS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}


@dataclass(frozen=True)
class HeaderTime:
    """Step between volumes as a header states it.

    Attributes
    ----------
    step : float
        In `unit`; 0 or NaN: not stated.
    unit : str
        ``sec``, ``msec``, ``usec`` or ``unknown``.
    """

    step: float
    unit: str

    @property
    def seconds(self) -> float | None:
        """Step in seconds, taking an unknown unit for seconds; None when not stated."""
        if not np.isfinite(self.step) or self.step <= 0:
            return None
        return self.step * UNITS.get(self.unit, 1.0)


@dataclass(frozen=True)
class Timing:
    """When the volumes and slices were taken.

    Attributes
    ----------
    time : numpy.ndarray
        Time of each volume from the first, ``(n_times,)``, seconds.
    slice_times : numpy.ndarray or None
        Time of each slice within a volume, ``(n_slices,)``, seconds.
    issues : tuple of Issue
    """

    time: np.ndarray
    slice_times: np.ndarray | None
    issues: tuple[Issue, ...]


def plain_float(value: Any) -> float:
    """Return the shortest decimal of a float32, so that 0.72 in a header is 0.72.

    Examples
    --------
    >>> plain_float(np.float32(0.72))
    0.72
    """
    return float(str(np.float32(value)))


def timing_of(
    count: int,
    header: HeaderTime | None,
    metadata: Mapping[str, Any],
    tr_s: float | None,
    path: Path,
) -> Timing:
    """Return the times of `count` volumes.

    Parameters
    ----------
    count : int
        Number of volumes.
    header : HeaderTime or None
        What the header states; None for a format without.
    metadata : mapping
        Keys of the JSON sidecar: ``RepetitionTime``, ``VolumeTiming``, ``SliceTiming``.
    tr_s : float or None
        Repetition time of the settings, which wins.
    path : Path
        The image, for messages.

    Raises
    ------
    IngestError
        ``MISSING_SIDECAR`` when nobody states it, ``UNITS`` outside 0.1 to 20 s,
        ``TR_MISMATCH`` when header and sidecar differ by more than 1 ms.
    """
    issues: list[Issue] = []
    slices = _numbers(metadata, "SliceTiming", path)
    volumes = _numbers(metadata, "VolumeTiming", path)
    if volumes is not None and tr_s is None:
        if len(volumes) != count:
            text = f"VolumeTiming has {len(volumes)} values, the image {count} volumes"
            raise IngestError("LENGTH_MISMATCH", path, text, "correct the sidecar")
        return Timing(volumes - volumes[0], slices, ())
    step = _step(header, _stated(metadata, path), tr_s, path, issues)
    return Timing(np.arange(count, dtype=np.float64) * step, slices, tuple(issues))


def _stated(metadata: Mapping[str, Any], path: Path) -> float | None:
    value = metadata.get("RepetitionTime")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        text = f"RepetitionTime is {value!r} in the JSON sidecar, expected seconds"
        raise IngestError("NOT_THIS_FORMAT", path, text, "correct the sidecar")
    return float(value)


def _numbers(metadata: Mapping[str, Any], key: str, path: Path) -> np.ndarray | None:
    if key not in metadata:
        return None
    try:
        values = np.asarray(metadata[key], dtype=np.float64)
    except (ValueError, TypeError):
        values = np.empty((0, 0))
    if values.ndim != 1 or not values.size:
        text = f"{key} is {str(metadata[key])[:60]!r} in the JSON sidecar, expected a list of s"
        raise IngestError("NOT_THIS_FORMAT", path, text, "correct the sidecar")
    return values


def _step(
    header: HeaderTime | None,
    stated: float | None,
    tr_s: float | None,
    path: Path,
    issues: list[Issue],
) -> float:
    found = header.seconds if header is not None else None
    if tr_s is not None:
        _check_range(tr_s, "tr_s of the settings", "s", path)
        if any(abs(other - tr_s) > MISMATCH_S for other in (found, stated) if other is not None):
            text = f"repetition time {tr_s:g} s of the settings, {_told(header, stated)}"
            issues.append(Issue("TR_OVERRIDDEN", str(path), text, "set by `tr_s`", "info"))
        return tr_s
    if stated is not None:
        _check_range(stated, "RepetitionTime of the JSON sidecar", "s", path)
    if found is not None and header is not None and (stated is None or header.unit in UNITS):
        _check_range(found, "the header", header.unit, path)
    if found is None and stated is None:
        text = "neither header nor JSON sidecar state a repetition time"
        hint = "set `tr_s` in ingest.overrides, or RepetitionTime in the sidecar"
        raise IngestError("MISSING_SIDECAR", path, text, hint)
    if found is not None and stated is not None and abs(found - stated) > MISMATCH_S:
        raise IngestError(
            "TR_MISMATCH",
            path,
            f"repetition time: {_told(header, stated)}; expected the same within 1 ms",
            "set the right one as `tr_s` in ingest.overrides",
        )
    if stated is None and header is not None and header.unit not in UNITS:
        text = f"the header states {found:g} without a unit of time; taken as seconds"
        issues.append(Issue("UNITS_INFERRED", f"{path}: pixdim[4]", text, "`tr_s` states it"))
    return float(stated if stated is not None else found)  # type: ignore[arg-type]


def _told(header: HeaderTime | None, stated: float | None) -> str:
    told = [] if header is None or header.seconds is None else [f"header {header.seconds:.6g} s"]
    told += [] if stated is None else [f"JSON sidecar {stated:.6g} s"]
    return ", ".join(told)


def _check_range(seconds: float, where: str, unit: str, path: Path) -> None:
    if SHORTEST_S <= seconds <= LONGEST_S:
        return
    hint = "set the right one as `tr_s` in ingest.overrides"
    if SHORTEST_S <= seconds / 1000 <= LONGEST_S:
        hint = f"probably milliseconds: set `tr_s: {seconds / 1000:g}` in ingest.overrides"
    raise IngestError(
        "UNITS",
        path,
        f"repetition time {seconds:g} s (unit {unit}) in {where}; expected 0.1 to 20 s",
        hint,
    )
