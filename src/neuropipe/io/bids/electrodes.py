"""electrodes.tsv and coordsystem.json: where contacts lie, in metres, joined by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from neuropipe.errors import IngestError, Issue
from neuropipe.io.bids.tables import Table, read_json, read_table
from neuropipe.io.bids.tree import bids_name, sidecars

__all__ = ["Electrodes", "read_electrodes"]

METRES = {"m": 1.0, "cm": 1e-2, "mm": 1e-3, "um": 1e-6}
SPACE = ("space",)
# Columns that laboratories use for the region of a contact, the usual one first.
LABELS = (
    "anat_label", "anatomical_label", "anatomy", "anat", "region", "brain_region", "brain_area",
    "roi", "label", "location", "structure", "atlas_label", "desikan", "destrieux_label_text",
)  # fmt: skip
MM2, KILO = 1e-6, 1e3


@dataclass
class Electrodes:
    """Contacts of one space, in the order of the channels that asked for them.

    Attributes
    ----------
    position : numpy.ndarray
        ``(n_channels, 3)`` metres, NaN where nothing is known.
    space : str
        Coordinate system, such as ``CapTrak`` or ``MNI152NLin2009aSym``; "" unknown.
    size, impedance : numpy.ndarray
        m^2 and ohm per channel, NaN unknown.
    group, anat_label : list of str
        Per channel, "" unknown.
    is_listed : numpy.ndarray
        bool: the table has a row of that name.
    files : list of Path
        Files that were read.
    issues : list of Issue
        What was found.
    """

    position: np.ndarray
    space: str
    size: np.ndarray
    impedance: np.ndarray
    group: list[str]
    anat_label: list[str]
    is_listed: np.ndarray
    files: list[Path] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)


def read_electrodes(path: Path, names: Sequence[str], space: str | None) -> Electrodes | None:
    """Return the contacts of a recording; None without a table.

    Contacts without a channel and channels without a contact are no error.

    Parameters
    ----------
    path : Path
        The data file.
    names : sequence of str
        Channels.
    space : str or None
        Space to take where there are several; None takes the first by name, with an issue.

    Raises
    ------
    IngestError
        ``NO_SUCH_SPACE`` naming those found; ``ENCODING``, ``NOT_THIS_FORMAT``, ``UNSAFE``.
    """
    files = sidecars(path, "electrodes", ".tsv", free=SPACE)
    if not files:
        return None
    systems = {file: _system(path, file) for file in files}
    chosen, issues = _choose(path, {file: found[0] for file, found in systems.items()}, space)
    table = read_table(chosen, ("name", "x", "y", "z"))
    name, scale, system_file = systems[chosen]
    found = _joined(table, names, scale)
    found.space, found.issues = name, [*issues, *_scale_issues(chosen, name, scale)]
    found.files = [chosen, *([system_file] if system_file is not None else [])]
    missing = int((~found.is_listed).sum())
    if missing or len(table) > len(names):
        text = f"{len(table)} contacts, {len(names)} channels; {missing} channels have no contact"
        found.issues.append(Issue("CONTACTS_DIFFER", str(chosen), text, "joined by name", "info"))
    return found


def _system(path: Path, electrodes: Path) -> tuple[str, float, Path | None]:
    """Return name, metres per unit (NaN unknown) and file of the system of a table."""
    own = _space(electrodes)
    fitting = [
        file for file in sidecars(path, "coordsystem", ".json", free=SPACE) if _space(file) == own
    ]
    if not fitting:
        return own, float("nan"), None
    stated = read_json(fitting[-1])
    keys = {key.lower(): value for key, value in stated.items()}
    ending = {
        word: next((str(v) for k, v in keys.items() if k.endswith(word)), "")
        for word in ("coordinatesystem", "coordinateunits")
    }
    return (
        own or ending["coordinatesystem"],
        METRES.get(ending["coordinateunits"], float("nan")),
        fitting[-1],
    )


def _space(path: Path) -> str:
    name = bids_name(path)
    return name.entities.get("space", "") if name is not None else ""


def _choose(path: Path, spaces: dict[Path, str], space: str | None) -> tuple[Path, list[Issue]]:
    known = sorted(set(spaces.values()))
    if space is not None:
        fitting = [file for file, name in spaces.items() if name == space]
        if not fitting:
            text = (
                f"no electrodes in space {space!r}; there are {', '.join(n or '?' for n in known)}"
            )
            raise IngestError("NO_SUCH_SPACE", path, text, "correct `space`")
        return fitting[-1], []
    fitting = [file for file, name in spaces.items() if name == known[0]]
    if len(known) == 1:
        return fitting[-1], []
    listed = ", ".join(name or "unnamed" for name in known)
    text = f"electrodes are given in the spaces {listed}; {known[0] or 'unnamed'} is taken"
    return fitting[-1], [Issue("SEVERAL_SPACES", str(path), text, "set `space`")]


def _scale_issues(electrodes: Path, space: str, scale: float) -> list[Issue]:
    if np.isfinite(scale):
        return []
    text = f"no coordsystem.json states the unit of positions in {space or 'this'} space"
    hint = "positions are left out; state m, cm or mm as CoordinateUnits"
    return [Issue("MISSING_SIDECAR", str(electrodes), text, hint)]


def _joined(table: Table, names: Sequence[str], scale: float) -> Electrodes:
    place = {name: row for row, name in enumerate(table.texts("name"))}
    rows = np.array([place.get(name, -1) for name in names], dtype=np.int64)

    def numbers(column: str, factor: float) -> np.ndarray:
        values = np.append(table.numbers(column), np.nan) * factor
        return np.asarray(values[rows])

    def texts(column: str) -> list[str]:
        values = [*table.texts(column), ""]
        return [values[row] for row in rows]

    lower = {name.lower(): name for name in table.columns}
    label = next((lower[name] for name in LABELS if name in lower), "")
    return Electrodes(
        position=np.stack([numbers(axis, scale) for axis in "xyz"], axis=1),
        space="",
        size=numbers("size", MM2),
        impedance=numbers("impedance", KILO),
        group=texts("group"),
        anat_label=texts(label),
        is_listed=rows >= 0,
    )
