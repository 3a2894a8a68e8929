"""Write beside the final name, then rename: a file under its final name is always whole."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["atomic_path", "write_json", "write_text"]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary sibling of `path`; on success it replaces `path`, on failure it goes.

    Works for files and folders. An existing target is replaced. The name is
    ``<name>.partial-<hash>``, so that a leftover of a killed process is recognisable.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial-{uuid.uuid4().hex[:12]}")
    try:
        yield partial
        if path.is_dir() and not path.is_symlink():
            old = path.with_name(f"{path.name}.partial-{uuid.uuid4().hex[:12]}")
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
    except BaseException:
        _remove(partial)
        raise


def write_text(path: Path | str, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Write JSON atomically: sorted keys, two spaces, NaN refused."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")
