"""What a format needs to be damaged and judged: a writer, settings, an independent reader.

To add a format is to add one entry to a module of `MODULES`, which holds a list `FORMATS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from damage import ANY_FILE, BINARY, REMOVED, Damage, swapped
from damage_arrays import HDF5, NPY
from damage_tables import TABLE, TEXT

__all__ = ["Case", "Format", "Source", "cases", "formats", "generator", "sample"]

MODULES = (
    "formats_calcium", "formats_spikes", "formats_connectome", "formats_channels", "formats_fmri",
    "formats_units", "formats_beside", "formats_temporaldata",
)  # fmt: skip
# Kind of a file -> damages beside those of any file.
KINDS: dict[str, tuple[Damage, ...]] = {
    "hdf5": (*BINARY, *HDF5),
    "npy": (*BINARY, *NPY),
    "binary": BINARY,
    "text": TEXT,
    "table": TABLE,
}
SWAPPED = "of another recording"


@dataclass(frozen=True)
class Source:
    """A recording on disk.

    Attributes
    ----------
    path : str
        What ingest gets, relative to the folder of the case.
    settings : mapping
        Keys of the reader.
    override : mapping
        Keys of the recording.
    """

    path: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    override: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Format:
    """A format, or a way of writing it.

    Attributes
    ----------
    name : str
        For the table of results.
    modality, reader : str
        As in the recordings table; the modality ``connectome`` has no reader.
    write : callable
        ``write(folder, variant) -> Source``. Variant 1 is another recording under the same file
        names: other rows, other samples, other names.
    read : callable
        ``read(folder, source) -> {path in the store: values}`` by another library than the
        reader's own code. It may raise on damaged files.
    files : mapping of str to str
        File, relative to the folder -> kind.
    optional : frozenset of str
        Files without which the recording can still be read.
    bare : frozenset of str
        Files of samples without header or sum: that they are others cannot be known.
    alone : frozenset of str
        Files that nothing else in the recording can be held against: that they are those of
        another recording cannot be known.
    holds : mapping of str to set of str
        File -> variables of the store that come of it; without the file they may be others, if an
        issue says that it is absent.
    own : sequence of (file, Damage)
        Damages of this format only, such as wrong units.
    share : float
        Share of the repeats of a damage, for formats of many files.
    """

    name: str
    modality: str
    reader: str
    write: Callable[[Path, int], Source]
    read: Callable[[Path, Source], dict[str, np.ndarray]]
    files: Mapping[str, str]
    optional: frozenset[str] = frozenset()
    bare: frozenset[str] = frozenset()
    alone: frozenset[str] = frozenset()
    holds: Mapping[str, frozenset[str]] = field(default_factory=dict)
    own: tuple[tuple[str, Damage], ...] = ()
    share: float = 1.0


@dataclass(frozen=True)
class Case:
    """One damaged file; everything of it follows from these words."""

    format: str
    file: str
    damage: str
    number: int

    def __str__(self) -> str:
        return f"{self.format}: {self.file}: {self.damage} #{self.number}"


def formats() -> dict[str, Format]:
    """Return the formats by name."""
    found = [entry for module in MODULES for entry in import_module(module).FORMATS]
    return {entry.name: entry for entry in found}


def damages(entry: Format) -> dict[tuple[str, str], Damage]:
    """Return every damage of a format by file and name."""
    found = {}
    for file, kind in entry.files.items():
        others = [] if len(entry.files) == 1 else [Damage(SWAPPED, swapped(file), "swap")]
        for damage in (*ANY_FILE, REMOVED, *others, *KINDS[kind]):
            found[file, damage.name] = damage
    return found | {(file, damage.name): damage for file, damage in entry.own}


def cases(entry: Format) -> list[Case]:
    """Return all cases of a format."""
    found = []
    for (file, name), damage in damages(entry).items():
        repeats = max(1, round(damage.repeats * entry.share))
        found += [Case(entry.name, file, name, k) for k in range(repeats)]
    return found


def sample(entry: Format, every: int) -> list[Case]:
    """Return about one of so many cases, at least one, the same ones each time."""
    order = sorted(cases(entry), key=lambda case: crc32(str(case).encode()))
    return order[: max(1, round(len(order) / every))]


def generator(case: Case) -> np.random.Generator:
    """Return the generator of a case."""
    return np.random.default_rng(crc32(str(case).encode()))
