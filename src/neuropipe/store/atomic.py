"""Write beside the final name, then rename: a file under its final name is always whole."""

from __future__ import annotations

import atexit
import functools
import hashlib
import json
import os
import platform
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

__all__ = [
    "atomic_path",
    "discard",
    "name_target",
    "partial_sibling",
    "remove_abandoned",
    "write_json",
    "write_text",
]

_ABANDONED_S = 86_400.0


@functools.cache
def _host() -> str:
    """Return a short word for the set of processes among which a process id means one process."""
    name = platform.node()
    with suppress(OSError):  # containers may share a host name, but not the numbers of processes
        name += os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - the link leads to no file
    return hashlib.sha256(name.encode()).hexdigest()[:8]


def partial_sibling(path: Path) -> Path:
    """Return a new name beside `path` for what is not whole yet: ``<name>.partial-<...>``."""
    return path.with_name(f"{path.name}.partial-{_host()}-{os.getpid()}-{uuid.uuid4().hex[:12]}")


def _newest(path: Path) -> float:
    """Return the last time at which a file or anything in a folder was written."""
    inside = path.rglob("*") if path.is_dir() and not path.is_symlink() else ()
    return max(one.lstat().st_mtime for one in (path, *inside))


def _is_abandoned(partial: Path, words: list[str]) -> bool:
    import psutil

    if len(words) == 3 and words[0] == _host() and words[1].isdigit():
        return not psutil.pid_exists(int(words[1]))
    # Of another host, on a shared disk: whether its process lives cannot be told from here.
    return time.time() - _newest(partial) > _ABANDONED_S


def remove_abandoned(path: Path) -> None:
    """Remove what killed processes left of `path`; never what a living one still writes."""
    prefix = f"{path.name}.partial-"
    with suppress(OSError):
        for entry in list(path.parent.iterdir()):
            if not entry.name.startswith(prefix):
                continue
            with suppress(OSError):  # another process may remove the same one
                if _is_abandoned(entry, entry.name.removeprefix(prefix).split("-")):
                    _remove(entry)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def discard(partial: Path) -> None:
    """Remove what is not whole; once more when the process ends.

    An interrupt reaches the main thread alone: those that write the chunks of a Zarr store may
    still make files, and the folders above them. They are joined before the exit handlers run.
    """
    with suppress(OSError):
        _remove(partial)
    atexit.register(_discard_at_exit, partial)


def _discard_at_exit(partial: Path) -> None:
    with suppress(OSError):
        _remove(partial)


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary sibling of `path`; on success it replaces `path`, on failure it goes.

    Works for files and folders. An existing target is replaced. The name is
    ``<name>.partial-<host>-<pid>-<hash>``, so that a leftover of a killed process is recognisable:
    on success those of processes that are gone go too, those of other hosts after a day.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_sibling(path)
    try:
        yield partial
        if path.is_dir() and not path.is_symlink():
            old = partial_sibling(path)
            path.rename(old)
            try:
                partial.rename(path)
            except BaseException:
                old.rename(path)
                raise
            # The new content is in place: what cannot be removed of the old must not undo that.
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(partial, path)  # noqa: PTH105 - replaces in one step, also on other systems
    except BaseException as error:
        discard(partial)
        if isinstance(error, OSError):
            name_target(error, partial, path)
        raise
    remove_abandoned(path)


def name_target(error: OSError, partial: Path, path: Path) -> None:
    """Let a refusal of the disk name the final file, not the partial one or none at all."""
    named = error.filename
    inside = isinstance(named, str) and Path(named).is_relative_to(partial)
    if error.errno is not None and (named is None or inside):
        error.filename = str(path)


def write_text(path: Path | str, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Write JSON atomically: sorted keys, two spaces, NaN refused."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")
