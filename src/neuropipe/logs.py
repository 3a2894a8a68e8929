"""Logging to stderr in one format, and progress that suits where it is read."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

__all__ = ["configure", "get_logger", "progress"]

Item = TypeVar("Item")
ROOT = "neuropipe"


class _Context(logging.Filter):
    """Adds the recording (or collection) and the analysis to every line."""

    def __init__(self, recording: str, analysis: str) -> None:
        super().__init__()
        self.recording, self.analysis = recording or "-", analysis or "-"

    def filter(self, record: logging.LogRecord) -> bool:
        record.recording, record.analysis = self.recording, self.analysis
        return True


def configure(level: str = "info", recording: str = "", analysis: str = "") -> None:
    """Send the log to stderr: ``time level recording analysis message``.

    Parameters
    ----------
    level : {"debug", "info", "warning", "error"}
        Least severity shown.
    recording, analysis : str
        What the process works on, repeated on every line.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_Context(recording, analysis))
    handler.setFormatter(
        logging.Formatter(
            "%(asctime)s %(levelname)s %(recording)s %(analysis)s %(message)s",
            datefmt="%Y-%m-%dT%H:%M:%S",
        )
    )
    logger = logging.getLogger(ROOT)
    logger.handlers[:] = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False


def get_logger(name: str) -> logging.Logger:
    """Return the logger of a module; call it with ``__name__``."""
    return logging.getLogger(name)


def progress(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """Yield items and log how far it is, every tenth or every 30 s, whichever is later.

    Parameters
    ----------
    items : iterable
        What to go through.
    total : int
        How many there are.
    what : str
        Plural noun for the message.
    """
    logger, last, tenth = get_logger(ROOT), time.monotonic(), 0
    for index, item in enumerate(items, start=1):
        yield item
        reached = 10 * index // max(total, 1)
        if (reached > tenth and time.monotonic() - last > 1.0) or time.monotonic() - last > 30.0:
            logger.info("%d of %d %s", index, total, what)
            tenth, last = reached, time.monotonic()
