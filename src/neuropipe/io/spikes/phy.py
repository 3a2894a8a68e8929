"""Phy and Kilosort folders: arrays of samples and clusters, tables of labels."""

from __future__ import annotations

import ast
import io
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from neuropipe.config.models import Positive, StrictModel
from neuropipe.errors import IngestError, Issue
from neuropipe.io.arrays import object_array
from neuropipe.io.checks import read_text
from neuropipe.io.delimited import check_cells, last_line_open, refuse_same_names, text_rows
from neuropipe.io.entities import entities_of
from neuropipe.io.npy import NpyArray
from neuropipe.io.registry import Reader, ReaderMatch
from neuropipe.io.spikes.handle import Sorting, SpikeHandle, open_sorting
from neuropipe.io.spikes.parts import unit_blocks

if TYPE_CHECKING:
    from neuropipe.config.models import IngestOverride

__all__ = ["READER", "PhySettings", "open_recording", "probe", "read_params"]

PARAMS = "params.py"
OWNERS = ("spike_clusters.npy", "spike_templates.npy")
# File and column, the first that names a unit counts.
QUALITY = (("cluster_group.tsv", "group"), ("cluster_KSLabel.tsv", "KSLabel"))
INFO = "cluster_info.tsv"
MICROMETRE = 1e-6
BLOCK_ROWS = 1 << 20
MISSING = {"", "n/a", "nan", "none"}


class PhySettings(StrictModel):
    """Reading of Phy and Kilosort folders."""

    sample_rate_hz: Positive | None = Field(
        None, description="Samples per second, where params.py does not state it."
    )
    duration_s: Positive | None = Field(
        None, description="Duration of the recording; null: from the raw file, if it is there."
    )


def probe(path: Path) -> ReaderMatch | None:
    """Return a match for a folder that holds spike times and their clusters."""
    if not path.is_dir() or not (path / "spike_times.npy").is_file():
        return None
    if not any((path / name).is_file() for name in OWNERS):
        return None
    issues: tuple[Issue, ...] = ()
    if not (path / PARAMS).is_file():
        text = "there is no params.py, so the folder does not state its sample rate"
        hint = "set `sample_rate_hz` in ingest.readers.phy"
        issues = (Issue("MISSING_SIDECAR", str(path), text, hint),)
    return ReaderMatch("phy", "spikes", path, entities_of(path), issues)


def read_params(path: Path) -> tuple[dict[str, Any], list[Issue]]:
    """Return the constants that a ``params.py`` assigns; the file is parsed, never run.

    Raises
    ------
    IngestError
        ``UNSAFE``: `sample_rate` is given by code. ``NOT_THIS_FORMAT``: not Python text.
    """
    if not path.is_file() and not path.is_symlink():
        return {}, []
    try:
        tree = ast.parse(read_text(path))
    except (SyntaxError, ValueError) as error:
        text = f"cannot be parsed: {error}"
        raise IngestError("NOT_THIS_FORMAT", path, text, "set `sample_rate_hz`") from error
    found: dict[str, Any] = {}
    skipped = []
    for node in tree.body:
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
            skipped.append(node.lineno)
            continue
        name = node.targets[0].id
        try:
            found[name] = ast.literal_eval(node.value)
        except ValueError as error:
            if name == "sample_rate":
                text = f"line {node.lineno}: sample_rate is computed by code, which is not run"
                raise IngestError("UNSAFE", path, text, "write the number itself") from error
            skipped.append(node.lineno)
    if not skipped:
        return found, []
    text = f"line {', '.join(map(str, skipped[:5]))} is code, which is never run; passed over"
    return found, [Issue("UNSAFE", str(path), text, "", "info")]


def _rate(params: Mapping[str, Any], settings: PhySettings, override: IngestOverride,
          path: Path) -> float:  # fmt: skip
    stated = params.get("sample_rate")
    given = override.rate_hz or settings.sample_rate_hz
    if stated is None and given is None:
        text = f"no {PARAMS} with sample_rate, so samples cannot become seconds"
        raise IngestError("MISSING_SIDECAR", path, text, "set `sample_rate_hz` of the reader")
    rate = given if stated is None else stated
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < np.inf:
        text = f"sample_rate is {rate!r}, expected samples per second"
        raise IngestError("UNITS", path / PARAMS, text, "correct params.py")
    return float(rate)


def _column(path: Path) -> NpyArray:
    """Return a column of whole numbers, stored as ``(n,)`` or ``(n, 1)``; unread."""
    array = NpyArray(path)
    if len(array.shape) not in (1, 2) or (len(array.shape) == 2 and array.shape[1] != 1):
        text = f"shape {array.shape}, expected (n,) or (n, 1)"
        raise IngestError("LENGTH_MISMATCH", path, text, "is this the array that Phy wrote?")
    if array.dtype.kind not in "iu":
        text = f"dtype {array.dtype}, expected whole samples"
        raise IngestError("UNITS", path, text, "seconds are read by the reader `spike_table`")
    return array


def _blocks(array: NpyArray) -> Iterator[np.ndarray]:
    """Yield a column block by block, as ``(n,)``."""
    for start in range(0, len(array), BLOCK_ROWS):
        yield array[start : start + BLOCK_ROWS].reshape(-1)


@dataclass(frozen=True)
class _Clusters:
    """Spikes in the order of time, handed out by blocks of clusters.

    Each block is one pass through the files: only its own spikes are held.

    Attributes
    ----------
    samples, clusters : NpyArray
        Sample and cluster of each spike, on disk.
    units, counts : numpy.ndarray
        Clusters, rising, and their numbers of spikes.
    rate : float
        Samples per second.
    """

    samples: NpyArray
    clusters: NpyArray
    units: np.ndarray
    counts: np.ndarray
    rate: float

    def parts(self) -> Iterator[tuple[int, int, np.ndarray]]:
        """Yield the spikes by blocks of clusters."""
        for first, stop in unit_blocks(self.counts):
            low, high = self.units[first], self.units[stop - 1]
            size = int(self.counts[first:stop].sum())
            times, owner = np.empty(size), np.empty(size, dtype=self.clusters.dtype)
            at = 0
            columns = zip(_blocks(self.samples), _blocks(self.clusters), strict=True)
            for samples, clusters in columns:
                mine = (clusters >= low) & (clusters <= high)
                count = int(mine.sum())
                times[at : at + count] = samples[mine]
                owner[at : at + count] = clusters[mine]
                at += count
            times /= self.rate
            yield first, stop, times[np.argsort(owner, kind="stable")]


def _count(clusters: NpyArray) -> tuple[np.ndarray, np.ndarray]:
    """Return the clusters, rising, and their numbers of spikes."""
    found: Counter[int] = Counter()
    for block in _blocks(clusters):
        units, counts = np.unique(block, return_counts=True)
        found.update(dict(zip(units.tolist(), counts.tolist(), strict=True)))
    units = np.array(sorted(found), dtype=np.int64)
    return units, np.array([found[unit] for unit in units.tolist()], dtype=np.int64)


def _table(path: Path, source: Path, needed: str = "") -> dict[int, dict[str, str]]:
    """Return the rows of a table by cluster; a table there must have the column `needed`."""
    if not path.is_file() and not path.is_symlink():
        return {}
    text = read_text(path)
    lines = list(text_rows(io.StringIO(text, newline=""), "\t", path))
    check_cells(lines, path, cut=bool(last_line_open(text, path)))
    header = lines[0] if lines else []
    refuse_same_names(header, ("cluster_id", "id", needed), path)
    if needed and needed not in header:
        text = f"no column {needed}; it has {', '.join(header) or 'none'}"
        raise IngestError("NOT_THIS_FORMAT", path, text, f"correct the table of {source.name}")
    rows = [dict(zip(header, line, strict=True)) for line in lines[1:]]
    key = next((k for k in ("cluster_id", "id") if rows and k in rows[0]), None)
    if rows and key is None:
        text = f"no column cluster_id; it has {', '.join(str(name) for name in rows[0])}"
        raise IngestError("NOT_THIS_FORMAT", path, text, f"correct the table of {source.name}")
    table = {}
    for number, row in enumerate(rows, start=2):
        try:
            table[int(row[key or ""])] = {str(k): v or "" for k, v in row.items()}
        except (ValueError, TypeError) as error:
            text = f"line {number}: cluster {row[key or '']!r} is no number"
            raise IngestError("NOT_THIS_FORMAT", path, text, "correct the table") from error
    return table


def _number(cell: str, path: Path) -> float:
    if cell.strip().lower() in MISSING:
        return np.nan
    try:
        return float(cell)
    except ValueError as error:
        text = f"depth {cell!r} is no number"
        raise IngestError("NOT_THIS_FORMAT", path, text, "correct the table") from error


def _labels(path: Path, units: np.ndarray) -> tuple[dict[str, np.ndarray], list[Issue]]:
    """Return quality, shank and depth of the clusters; and which tables are not there."""
    quality, issues = [""] * len(units), []
    for name, column in QUALITY:
        table = _table(path / name, path, column)
        found = [table.get(int(unit), {}).get(column, "").strip() for unit in units]
        quality = [known or new for known, new in zip(quality, found, strict=True)]
        if not table and (path / name).is_file():
            text = "lists no cluster"
            issues.append(Issue("EMPTY", str(path / name), text, "copy it again", "info"))
    info = _table(path / INFO, path)
    rows = [info.get(int(unit), {}) for unit in units]
    depth = [_number(row.get("depth", ""), path / INFO) for row in rows]
    absent = [name for name, _ in QUALITY if not (path / name).is_file()]
    if absent:
        text = f"no {' and no '.join(absent)}: {quality.count('')} units are unsorted"
        hint = "copy the folder again, if the sorter wrote them"
        issues.append(Issue("MISSING_SIDECAR", str(path), text, hint, "info"))
    columns: dict[str, np.ndarray] = {
        "quality": object_array(quality),
        "group": object_array([row.get("sh", "") for row in rows]),
        "depth": np.array(depth) * MICROMETRE,
    }
    return columns, issues


def _duration(path: Path, params: Mapping[str, Any], rate: float) -> float | None:
    """Return the duration of the raw file that params.py names, when it lies in the folder."""
    names = params.get("dat_path", [])
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list | tuple) or not names:
        return None
    files = [(path / str(name)).resolve() for name in names]
    if not all(f.is_relative_to(path.resolve()) and f.is_file() for f in files):
        return None
    try:
        width = np.dtype(params["dtype"]).itemsize * int(params["n_channels_dat"])
        skipped = int(params.get("offset") or 0)
    except (KeyError, TypeError, ValueError):
        return None
    size = sum(f.stat().st_size - skipped for f in files)
    return size / width / rate if width > 0 and size > 0 else None


def open_recording(path: Path, settings: PhySettings, override: IngestOverride) -> SpikeHandle:
    """Open a Phy folder; ``params.py`` is parsed as text.

    Raises
    ------
    IngestError
        ``MISSING_SIDECAR``, ``UNSAFE``, ``LENGTH_MISMATCH``, ``TRUNCATED``, ``UNITS``,
        ``BAD_TIME`` or ``EMPTY``.
    """
    params, issues = read_params(path / PARAMS)
    rate = _rate(params, settings, override, path)
    samples = _column(path / "spike_times.npy")
    owners = next(path / name for name in OWNERS if (path / name).is_file())
    clusters = _column(owners)
    if len(samples) != len(clusters):
        text = f"lengths differ: spike_times {len(samples)}, {owners.stem} {len(clusters)}"
        raise IngestError("LENGTH_MISMATCH", path, text, "copy the folder again")
    units, counts = _count(clusters)
    duration = settings.duration_s or _duration(path, params, rate)
    tables = (INFO, *(name for name, _ in QUALITY))
    used = [PARAMS, "spike_times.npy", owners.name, *tables]
    columns, absent = _labels(path, units)
    return open_sorting(
        Sorting(
            units=units,
            spikes=_Clusters(samples, clusters, units, counts, rate),
            columns=columns,
            observed=None if duration is None else (0.0, duration),
        ),
        path=path,
        repair=override.repair,
        attrs={"sample_rate": rate},
        source_files=[str(path / name) for name in used if (path / name).is_file()],
        issues=[*issues, *samples.issues, *clusters.issues, *absent],
    )


READER = Reader(
    name="phy",
    modalities=("spikes",),
    extensions=("",),
    settings=PhySettings,
    probe="neuropipe.io.spikes.phy:probe",
    open="neuropipe.io.spikes.phy:open_recording",
)
