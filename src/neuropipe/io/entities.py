"""BIDS entities in file and folder names."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["entities_of"]

COLUMNS = {"sub": "subject", "ses": "session", "task": "task", "acq": "acq", "run": "run"}
ENTITY = re.compile(r"(?:^|_)(sub|ses|task|acq|run)-([A-Za-z0-9]+)(?=_|\.|$)")


def entities_of(path: Path) -> dict[str, str]:
    """Return the entities that a path states, by column of the recordings table.

    The name itself wins over the folders above it.

    Examples
    --------
    >>> entities_of(Path("sub-01/ses-a/sub-01_ses-a_run-2_calcium.h5"))
    {'subject': '01', 'session': 'a', 'run': '2'}
    """
    found: dict[str, str] = {}
    for part in (path.name, *reversed(path.parent.parts)):
        for key, value in ENTITY.findall(part):
            found.setdefault(COLUMNS[key], value)
    return {column: found[column] for column in COLUMNS.values() if column in found}
