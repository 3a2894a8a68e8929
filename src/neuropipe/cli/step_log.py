"""First and last lines of a step's log; `status` and the live table read the last one."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from neuropipe import logs
from neuropipe.errors import NeuropipeError, place_fault
from neuropipe.store.provenance import Stopwatch, versions

__all__ = ["FAILED", "FINISHED", "STARTED", "logged"]

STARTED, FINISHED, FAILED = "started", "finished", "failed:"
_SHOWN = 600


@contextmanager
def logged(arguments: argparse.Namespace, settings: Mapping[str, Any]) -> Iterator[None]:
    """Log version, settings, seed and threads before a step; duration and memory after it."""
    logs.configure(arguments.log_level, Path(arguments.output).name, arguments.step)
    logger = logs.get_logger("neuropipe.step")
    watch = Stopwatch()
    words = " ".join(filter(None, ["step", arguments.step, arguments.name]))
    logger.info("%s %s, neuropipe %s", STARTED, words, versions().get("neuropipe", ""))
    logger.info("threads %d, settings %s", arguments.threads, json.dumps(settings)[:_SHOWN])
    try:
        yield
    except NeuropipeError as error:
        logger.error("%s %s", FAILED, " | ".join(str(error).splitlines()))
        raise
    except KeyboardInterrupt:
        logger.error("%s interrupted", FAILED)
        raise
    except BaseException as error:
        fault = place_fault(error) if isinstance(error, OSError) else None
        if fault is not None:
            logger.error("%s %s", FAILED, fault)
            raise fault from error
        logger.exception("a fault of the program, not of the input")
        logger.error("%s %s: %s", FAILED, type(error).__name__, " | ".join(str(error).split("\n")))
        raise
    logger.info(
        "%s %s in %.1f s, %.1f s CPU, peak %.0f MB",
        FINISHED, words, watch.wall_s, watch.cpu_s, watch.peak_mb,
    )  # fmt: skip
