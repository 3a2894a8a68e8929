"""What the name of a channel file says about it."""

from __future__ import annotations

from pathlib import Path

from neuropipe.io.entities import entities_of
from neuropipe.io.registry import ReaderMatch

__all__ = ["leads_out", "modality_of_path", "path_match"]

MODALITIES = ("eeg", "meg", "ieeg")


def modality_of_path(path: Path, default: str = "eeg") -> str:
    """Return the modality that BIDS puts at the end of the name, or into the folder.

    Examples
    --------
    >>> modality_of_path(Path("sub-01/ieeg/sub-01_task-rest_ieeg.edf"))
    'ieeg'
    """
    suffix = path.stem.rpartition("_")[2].lower()
    return next(
        (word for word in (suffix, path.parent.name.lower()) if word in MODALITIES), default
    )


def path_match(reader: str, path: Path, default: str = "eeg") -> ReaderMatch:
    """Return the match of a path with the entities and the modality of its name."""
    return ReaderMatch(reader, modality_of_path(path, default), path, entities_of(path))


def leads_out(named: str) -> bool:
    """Tell whether a file name in a header points out of the folder of the header.

    Links are not followed: annexed data lie elsewhere, and were put there by the user.

    Examples
    --------
    >>> leads_out("../secret.eeg"), leads_out("sub-01.eeg")
    (True, False)
    """
    path = Path(named.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts
