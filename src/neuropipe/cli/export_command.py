"""Hand a recording to other tools: temporaldata and torch_brain, NeuralSet, BIDS, CSV.

STORE is a .zarr store, an .nwb file that neuropipe wrote, or the name of a recording of the study.
"""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    from neuropipe.export.targets import TARGETS

    parser.add_argument("stores", nargs="+", metavar="STORE", help="store, or name of a recording")
    parser.add_argument("--to", required=True, choices=sorted(TARGETS), help="format to write")
    parser.add_argument(
        "--output", type=Path, help="folder to write into; default: export/<format> of the study"
    )
    parser.add_argument(
        "--preprocessed", action="store_true", help="of named recordings, the preprocessed store"
    )
    parser.add_argument("--directory", type=Path, default=Path(), help="study folder")


def run(arguments: argparse.Namespace) -> int:
    """Export each store and print what was written."""
    from neuropipe.export.targets import export_store

    output = arguments.output or arguments.directory / "export" / arguments.to
    for name in arguments.stores:
        path = Path(name)
        if not path.exists() and path.suffix not in (".zarr", ".nwb"):
            path = _of_study(name, arguments)
        for written in export_store(path, arguments.to, output):
            print(written)
    return 0


def _of_study(name: str, arguments: argparse.Namespace) -> Path:
    from neuropipe.store import layout
    from neuropipe.study import load_study

    row = load_study(arguments.directory).recording(name)
    made = layout.preprocessed_store(row) if arguments.preprocessed else layout.store_file(row)
    return Path(arguments.directory) / made
