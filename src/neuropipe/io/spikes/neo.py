"""Sorted spikes in formats that Neo reads: Plexon, Blackrock, Neuralynx and others."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from neuropipe.config.models import Positive, StrictModel
from neuropipe.errors import ConfigError, IngestError, Issue, MissingDependency
from neuropipe.io.arrays import object_array
from neuropipe.io.checks import head, refuse_pointers
from neuropipe.io.entities import entities_of
from neuropipe.io.registry import Reader, ReaderMatch
from neuropipe.io.spikes.handle import Sorting, SpikeHandle, open_sorting
from neuropipe.io.spikes.parts import ArrayParts

if TYPE_CHECKING:
    import xarray as xr

    from neuropipe.config.models import IngestOverride

__all__ = ["READER", "NeoSettings", "open_recording", "probe"]

# Extension -> class of Neo, and how such a file begins.
FORMATS = {
    ".plx": ("PlexonIO", (b"PLEX",)),
    ".nev": ("BlackrockIO", (b"NEURALEV", b"BREVENTS")),
    ".nse": ("NeuralynxIO", (b"########",)),
    ".ntt": ("NeuralynxIO", (b"########",)),
    ".nix": ("NixIO", (b"\x89HDF",)),
}
NEURALYNX = ("*.nse", "*.ntt")
UNSAFE = ("PickleIO",)


class NeoSettings(StrictModel):
    """Reading of spikes through Neo."""

    format: str | None = Field(
        None, description="Class of neo.io, such as PlexonIO; null: by the extension."
    )
    duration_s: Positive | None = Field(
        None, description="Duration of the recording, where the file states it wrongly."
    )


def _neuralynx_files(path: Path) -> list[Path]:
    return sorted(file for pattern in NEURALYNX for file in path.glob(pattern))


def probe(path: Path) -> ReaderMatch | None:
    """Return a match for a file that begins as its extension promises, or a Neuralynx folder."""
    if path.is_dir():
        found = bool(_neuralynx_files(path))
    else:
        begins = FORMATS.get(path.suffix.lower(), ("", ()))[1]
        found = any(head(path, 8).startswith(start) for start in begins)
        if not found and path.suffix.lower() not in FORMATS:
            # Named in the table, with `format` in the settings: the class of Neo decides.
            return ReaderMatch("neo", "spikes", path, entities_of(path), sure=False)
    return ReaderMatch("neo", "spikes", path, entities_of(path)) if found else None


def _class(path: Path, settings: NeoSettings) -> Any:
    import neo.io

    name = settings.format
    if name is None:
        suffix = ".nse" if path.is_dir() else path.suffix.lower()
        if suffix not in FORMATS:
            raise ConfigError(
                f"{path}: Neo has several classes for this extension; set `format`, such as "
                "PlexonIO, in ingest.readers.neo"
            )
        name = FORMATS[suffix][0]
    if name in UNSAFE:
        text = f"{name} unpickles the file, which runs code of strangers"
        raise IngestError("UNSAFE", path, text, "save the spikes in another format")
    found = getattr(neo.io, name, None)
    if not isinstance(found, type):
        known = ", ".join(sorted(cls.__name__ for cls in neo.io.iolist))
        raise ConfigError(f"ingest.readers.neo.format: {name!r} is no class of neo.io: {known}")
    return found


def _read(path: Path, settings: NeoSettings) -> list[Any]:
    """Return the blocks of a file, spikes unread where the format allows."""
    refuse_pointers(path)
    cls = _class(path, settings)
    if cls.mode == "dir":
        folder = path if path.is_dir() else path.parent
        only = {} if path.is_dir() else {"include_filenames": [path.name]}
        arguments: dict[str, Any] = {"dirname": str(folder), **only}
    else:
        arguments = {"filename": str(path)}
    try:
        with warnings.catch_warnings():
            # Neo warns of what does not concern spikes: names of signals, missing sidecars.
            warnings.simplefilter("ignore")
            source = cls(**arguments)
            lazy = bool(getattr(cls, "support_lazy", False))
            return list(source.read(lazy=lazy) if lazy else source.read())
    except ImportError as error:
        raise MissingDependency(f"{path}: {cls.__name__} needs a package: {error}") from error
    # Neo has no error of its own for a damaged file: each format raises what it stumbles over.
    except Exception as error:
        text = f"{cls.__name__} cannot read it ({type(error).__name__}: {error})"
        hint = "copy the file again, or correct `format`"
        raise IngestError("TRUNCATED", path, text, hint) from error


def _segment(blocks: Sequence[Any], wanted: str | None, path: Path) -> tuple[Any, Any]:
    """Return the block and the segment to read: the only one, or the one that `series` names."""
    found = [
        (f"{b}/{s}", segment.name or "", block, segment)
        for b, block in enumerate(blocks)
        for s, segment in enumerate(block.segments)
    ]
    listed = ", ".join(f"{key} ({name})" if name else key for key, name, *_ in found) or "none"
    if wanted is not None:
        found = [item for item in found if wanted in (item[0], item[1])]
    if len(found) != 1:
        what = "no segment" if not found else f"{len(found)} segments"
        named = "" if wanted is None else f" named {wanted!r}"
        text = f"{what}{named}; expected one. Segments (block/segment): {listed}"
        hint = "name one with `series` in ingest.overrides; each is a recording of its own"
        raise IngestError("SEVERAL_SERIES" if found else "EMPTY", path, text, hint)
    return found[0][2], found[0][3]


def _loaded(item: Any) -> Any:
    """Return a spike train or a table of events; a proxy is read now."""
    if not hasattr(item, "load"):
        return item
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return item.load()


def _seconds(values: Any) -> np.ndarray:
    """Return a quantity as float64 seconds."""
    return np.atleast_1d(np.asarray(values.rescale("s").magnitude, dtype=np.float64))


def _names(trains: Sequence[Any]) -> list[str]:
    """Return a name per unit: its own, its id where names repeat, its number where ids do."""
    names = [str(train.name or train.annotations.get("id") or "") for train in trains]
    ids = [str(train.annotations.get("id") or "") for train in trains]
    for texts in (names, ids):
        if all(texts) and max(Counter(texts).values()) == 1:
            return texts
    return [str(k) for k in range(len(trains))]


def _sorting(segment: Any, settings: NeoSettings, path: Path) -> tuple[Sorting, dict[str, Any]]:
    trains = list(segment.spiketrains)
    if not trains:
        text = "the segment holds no spike trains"
        raise IngestError("EMPTY", path, text, "was the recording sorted?")
    parts = [_seconds(_loaded(train)) for train in trains]
    starts = [float(_seconds(train.t_start)[0]) for train in trains]
    stops = [float(_seconds(train.t_stop)[0]) for train in trains]
    observed = (min(starts), max(stops))
    if settings.duration_s is not None:
        observed = (observed[0], observed[0] + settings.duration_s)
    rates = {_rate(train) for train in trains} - {None}
    attrs = {"sample_rate": rates.pop()} if len(rates) == 1 else {}
    owner = np.repeat(np.arange(len(trains)), [len(part) for part in parts])
    sorting = Sorting(
        units=object_array(_names(trains)),
        spikes=ArrayParts(np.concatenate(parts), owner, len(trains), path),
        observed=observed,
    )
    return sorting, attrs


def _rate(train: Any) -> float | None:
    rate = getattr(train, "sampling_rate", None)
    if rate is None:
        return None
    value = float(rate.rescale("Hz").magnitude) if hasattr(rate, "rescale") else float(rate)
    return value if np.isfinite(value) and value > 0 else None


def _events(segment: Any) -> xr.Dataset | None:
    """Return events and epochs; a label that is a number is a code of its channel."""
    import xarray as xr

    rows: list[tuple[float, float, str, int, str]] = []
    for item in (*segment.events, *segment.epochs):
        table, name = _loaded(item), str(item.name or "")
        lengths = getattr(table, "durations", None)
        onsets = _seconds(table.times)
        durations = np.zeros(len(onsets)) if lengths is None else _seconds(lengths)
        for onset, duration, text in zip(onsets, durations, map(str, table.labels), strict=True):
            is_code = text.lstrip("-").isdigit()
            label = name if is_code or not text else text
            rows.append((onset, duration, label, int(text) if is_code else -1, name))
    if not rows:
        return None
    rows.sort(key=lambda row: row[0])
    columns = {
        "onset": np.array([row[0] for row in rows]),
        "duration": np.array([row[1] for row in rows]),
        "label": object_array([row[2] for row in rows]),
        "code": np.array([row[3] for row in rows], dtype=np.int64),
        "source": object_array([row[4] for row in rows]),
    }
    return xr.Dataset({key: ("event", values) for key, values in columns.items()})


def _start_issue(block: Any, path: Path) -> list[Issue]:
    moment = block.rec_datetime
    if moment is None:
        return []
    text = f"the header states the start {moment.isoformat()} without UTC offset; not used"
    hint = "write it with its offset into the column `session_start`"
    return [Issue("NAIVE_SESSION_START", str(path), text, hint, "info")]


def open_recording(path: Path, settings: NeoSettings, override: IngestOverride) -> SpikeHandle:
    """Open one segment of a file that Neo reads; units and rates come with their quantities.

    Raises
    ------
    IngestError
        ``TRUNCATED``, ``EMPTY``, ``SEVERAL_SERIES`` (the message lists the segments), ``UNSAFE``,
        ``BAD_TIME`` or ``UNITS``.
    ConfigError
        The class of Neo is unknown, or has to be named.
    MissingDependency
        The class needs a package that is not installed.
    """
    block, segment = _segment(_read(path, settings), override.series, path)
    sorting, attrs = _sorting(segment, settings, path)
    files = _neuralynx_files(path) if path.is_dir() else [path]
    return open_sorting(
        sorting,
        path=path,
        repair=override.repair,
        attrs=attrs,
        source_files=[str(file) for file in files],
        issues=_start_issue(block, path),
        event_table=_events(segment),
    )


READER = Reader(
    name="neo",
    modalities=("spikes",),
    extensions=("", *FORMATS),
    settings=NeoSettings,
    probe="neuropipe.io.spikes.neo:probe",
    open="neuropipe.io.spikes.neo:open_recording",
)
