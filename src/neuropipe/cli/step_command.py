"""Run one step by hand, exactly as the rules do.

Common steps: ingest, connectome, index, preprocess, quality, assemble, figures, table, report.
Analyses: `neuropipe step ANALYSIS STAGE --input my.nc --settings my.yaml --output result.nc`;
without --parts the first stage `fit` runs the whole chain.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from neuropipe.errors import ConfigError

__all__ = ["add_arguments", "run"]

STEPS = {
    "ingest": "neuropipe.cli.step_stores:ingest",
    "connectome": "neuropipe.cli.step_stores:connectome",
    "index": "neuropipe.cli.step_stores:index",
    "preprocess": "neuropipe.cli.step_stores:preprocess",
    "quality": "neuropipe.cli.step_stores:quality",
    "assemble": "neuropipe.cli.step_results:assemble",
    "figures": "neuropipe.cli.step_results:figures",
    "table": "neuropipe.cli.step_results:table",
    "report": "neuropipe.cli.step_results:report",
}
REQUIRED = {
    "ingest": ("source",),
    "index": ("inputs",),
    "preprocess": ("input",),
    "quality": ("raw",),
    "assemble": ("name", "inputs"),
    "figures": ("name", "input"),
    "table": ("name",),
    "report": (),
}
THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS",
    "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "BLOSC_NTHREADS",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("step", metavar="STEP", help=f"{', '.join(STEPS)}, or an analysis")
    parser.add_argument("name", nargs="?", default="", help="stage, or name of the analysis")
    parser.add_argument("--input", help="input dataset or store")
    parser.add_argument("--inputs", nargs="+", default=[], help="input stores")
    parser.add_argument("--connectome", help="store of a connectome (assemble)")
    parser.add_argument(
        "--results", nargs="*", default=[], help="results of other analyses (assemble)"
    )
    parser.add_argument("--parts", nargs="*", default=[], help="parts of earlier stages")
    parser.add_argument("--key", nargs="*", default=[], help="scatter keys, such as rank=3")
    parser.add_argument("--source", help="raw file or folder (ingest)")
    parser.add_argument("--raw", help="ingested store (quality)")
    parser.add_argument(
        "--processed", help="preprocessed store, if the modality has steps (quality)"
    )
    parser.add_argument("--truth", help="what a simulator planted (figures)")
    parser.add_argument("--output", required=True, help="file, store or folder to write")
    parser.add_argument("--settings", default="{}", help="JSON text, or a YAML or JSON file")
    parser.add_argument("--seed", type=int, help="seed, unless the settings hold one")
    parser.add_argument("--threads", type=int, default=1, help="threads to use")
    parser.add_argument("--overwrite", action="store_true", help="replace another store (ingest)")
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "warning"))


def read_settings(text: str) -> dict[str, Any]:
    """Return settings given as JSON text or as a YAML or JSON file.

    Raises
    ------
    ConfigError
        If the text is neither.
    """
    from neuropipe.config.load import read_yaml

    if not text.lstrip().startswith("{"):
        return read_yaml(Path(text))
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"--settings: neither JSON text nor a file: {error}") from error


def _check_given(arguments: argparse.Namespace) -> None:
    """Refuse a step that lacks an argument, naming it."""
    needed = () if arguments.step in STEPS else ("input",)
    for name in REQUIRED.get(arguments.step, needed):
        if not getattr(arguments, name):
            words = "the name of the analysis" if name == "name" else f"--{name}"
            raise ConfigError(f"step {arguments.step}: {words} is missing")


def limit_threads(count: int) -> None:
    """Let libraries use so many threads, those that are loaded and those to come.

    Numba refuses another value of its variable once its threads run, as where steps follow each
    other in one process (``run --here``); it is told directly then.
    """
    numba = sys.modules.get("numba")
    for variable in THREAD_VARIABLES:
        if numba is None or variable != "NUMBA_NUM_THREADS":
            os.environ[variable] = str(count)
    if numba is not None:
        numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))


def run(arguments: argparse.Namespace) -> int:
    """Run the step; log its beginning and its end."""
    _check_given(arguments)
    limit_threads(arguments.threads)
    from neuropipe.cli.step_log import logged

    target = STEPS.get(arguments.step, "neuropipe.cli.step_results:stage")
    module, _, function = target.partition(":")
    settings = read_settings(arguments.settings)
    with logged(arguments, settings):
        getattr(importlib.import_module(module), function)(arguments, settings)
    return 0
