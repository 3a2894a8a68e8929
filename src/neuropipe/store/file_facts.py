"""Size and time of the files of a user, by which a file that was replaced is noticed.

Whether a file is newer than a product tells nothing where clocks disagree: one from the future
would be newer for ever, one from the past never. So the facts are noted and compared as they are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

__all__ = ["FileFacts", "facts_digest", "file_facts"]

# Path -> (bytes, time of the last change in whole seconds since 1970).
FileFacts = Mapping[str, tuple[int, int]]


def file_facts(root: Path, paths: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Return the facts of those files that exist, in the order of their paths.

    Parameters
    ----------
    root : Path
        Folder that paths are relative to.
    paths : iterable of str
        Files.

    Notes
    -----
    Whole seconds, since archives and some disks keep no parts of them.
    """
    found = {}
    for path in sorted(set(paths)):
        file = root / path
        if file.is_file():
            facts = file.stat()
            found[path] = (facts.st_size, int(facts.st_mtime))
    return found


def facts_digest(facts: FileFacts) -> str:
    """Return a short text that changes with the files and their facts; ``""`` for no files.

    Examples
    --------
    >>> facts_digest({"a": (1, 2)}) == facts_digest({"a": (1, 3)}), facts_digest({})
    (False, '')
    """
    if not facts:
        return ""
    return hashlib.sha256(json.dumps(sorted(facts.items())).encode()).hexdigest()[:16]
