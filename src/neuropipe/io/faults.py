"""What libraries raise on damaged files, told as faults of the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from neuropipe.errors import IngestError, NeuropipeError

__all__ = ["readable", "streamed"]

OWN = Path(__file__).resolve().parents[1]
Item = TypeVar("Item")


def _from_library(traceback: TracebackType | None) -> bool:
    """Tell whether an error came up in a library: our own mistakes are no faults of the file."""
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return False
    place = Path(traceback.tb_frame.f_code.co_filename)
    return OWN not in place.parents


def _hint(error: Exception) -> str:
    if isinstance(error, PermissionError):
        return "give yourself the right to read it"
    if isinstance(error, MemoryError):
        return "its header states more than fits into memory; copy or download it again"
    return "copy or download it again; if it is whole, name the right reader in the table"


@contextmanager
def readable(path: object) -> Iterator[None]:
    """Turn what a library raises while it reads a source into a fault of that source.

    Libraries promise no type of exception for damaged files. What our own code raises passes
    unchanged, so that a mistake of ours never looks like a damaged file.

    Parameters
    ----------
    path : path
        The source, for the message.

    Raises
    ------
    IngestError
        ``TRUNCATED`` or ``NOT_THIS_FORMAT``.
    """
    try:
        yield
    except (NeuropipeError, ImportError):
        raise
    except Exception as error:
        if not _from_library(error.__traceback__):
            raise
        first = next(iter(str(error).splitlines()), "")[:200].strip("'\"")
        code = "TRUNCATED" if "truncated" in first.lower() else "NOT_THIS_FORMAT"
        text = f"cannot be read ({type(error).__name__}: {first})"
        raise IngestError(code, path, text, _hint(error)) from error


def streamed(items: Iterator[Item], path: object) -> Iterator[Item]:
    """Yield items that are read from a source when they are asked for; see `readable`."""
    while True:
        with readable(path):
            item = next(items, None)
        if item is None:
            return
        yield item
