"""Names and places in a BIDS tree: entities, the root, and which sidecars belong to a file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from neuropipe.errors import IngestError

__all__ = ["BidsName", "bids_name", "bids_root", "sidecar", "sidecars"]

DESCRIPTION = "dataset_description.json"
# sub, ses, datatype, and one more for formats that are folders.
LEVELS = 4
PAIR = re.compile(r"([A-Za-z0-9]+)-([A-Za-z0-9+]+)")
LONG_EXTENSIONS = (".nii.gz", ".tsv.gz", ".surf.gii", ".func.gii", ".dtseries.nii", ".ptseries.nii")


@dataclass(frozen=True)
class BidsName:
    """A file name taken apart.

    Attributes
    ----------
    path : Path
        The file or folder.
    entities : mapping of str to str
        Such as ``{"sub": "01", "task": "rest"}``, in the order of the name.
    suffix : str
        Last word, such as ``eeg``, ``bold`` or ``channels``.
    extension : str
        With its dot, such as ``.vhdr`` or ``.nii.gz``.
    """

    path: Path
    entities: Mapping[str, str]
    suffix: str
    extension: str


def bids_name(path: Path) -> BidsName | None:
    """Take a file name apart; None for a name that BIDS does not know.

    Examples
    --------
    >>> name = bids_name(Path("sub-01/eeg/sub-01_task-rest_eeg.vhdr"))
    >>> dict(name.entities), name.suffix, name.extension
    ({'sub': '01', 'task': 'rest'}, 'eeg', '.vhdr')
    """
    lower = path.name.lower()
    extension = next((e for e in LONG_EXTENSIONS if lower.endswith(e)), path.suffix)
    stem = path.name[: len(path.name) - len(extension)] if extension else path.name
    *pairs, suffix = stem.split("_")
    found = [PAIR.fullmatch(pair) for pair in pairs]
    if not suffix.isalnum() or not all(found):
        return None
    entities = {pair[1]: pair[2] for pair in found if pair is not None}
    return BidsName(path, MappingProxyType(entities), suffix, extension)


def bids_root(path: Path) -> Path | None:
    """Return the root of the tree that a data file lies in, or None.

    The root is the nearest folder above with a ``dataset_description.json``, and the file is
    called ``sub-<label>_...``.
    """
    name = bids_name(path)
    if name is None or "sub" not in name.entities:
        return None
    return next((f for f in path.absolute().parents[:LEVELS] if (f / DESCRIPTION).is_file()), None)


def sidecars(path: Path, suffix: str, extension: str, *, free: Sequence[str] = ()) -> list[Path]:
    """Return the sidecars of a data file, the most general first.

    A sidecar belongs to a file when it lies in the file's folder or above, and states no entity
    that the file does not state alike.

    Parameters
    ----------
    path : Path
        The data file.
    suffix : str
        Suffix of the sidecar, such as ``channels``.
    extension : str
        Its extension, with the dot.
    free : sequence of str
        Entities that the sidecar may state alone, such as ``space`` of electrodes.

    Raises
    ------
    IngestError
        ``UNSAFE``: a sidecar is a link that leads out of the tree.
    """
    name, root = bids_name(path), bids_root(path)
    if name is None or root is None:
        return []
    found = []
    folders = [folder for folder in path.absolute().parents if folder.is_relative_to(root)]
    for folder in reversed(folders):
        # Tables of all subjects lie side by side in the root: only those names are looked at.
        here = [
            other
            for candidate in folder.glob(f"*{suffix}{extension}")
            if (other := bids_name(candidate)) is not None
            and other.suffix == suffix
            and other.extension == extension
            and all(
                name.entities.get(key) == value or (key in free and key not in name.entities)
                for key, value in other.entities.items()
            )
        ]
        here.sort(key=lambda other: (len(other.entities), other.path.name))
        found += [_inside(other.path, root) for other in here]
    return found


def _inside(path: Path, root: Path) -> Path:
    if not path.resolve().is_relative_to(root.resolve()):
        raise IngestError(
            "UNSAFE",
            path,
            f"is a link that leads out of the data set {root.name}, to {path.resolve().name}",
            "copy the file into the data set, or set `sidecars: false`",
        )
    return path


def sidecar(path: Path, suffix: str, extension: str) -> Path | None:
    """Return the one sidecar that applies: the most specific; None when there is none.

    Tables are not merged: the nearest replaces those above it.

    Raises
    ------
    IngestError
        ``UNSAFE`` as `sidecars`; ``AMBIGUOUS_SIDECAR`` when two in one folder fit equally well.
    """
    found = sidecars(path, suffix, extension)
    if not found:
        return None
    last = bids_name(found[-1])
    rivals = [
        other
        for other in found[:-1]
        if other.parent == found[-1].parent
        and last is not None
        and (name := bids_name(other)) is not None
        and len(name.entities) == len(last.entities)
    ]
    if rivals:
        text = f"{rivals[0].name} and {found[-1].name} both fit {path.name}"
        raise IngestError("AMBIGUOUS_SIDECAR", path, text, "rename one of the two")
    return found[-1]
