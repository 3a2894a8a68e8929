"""Show what is done, stale, failed, running or missing for each recording and analysis, and why."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neuropipe.status import Cell
    from neuropipe.study import Study

__all__ = ["add_arguments", "print_matrix", "print_reasons", "run"]

STYLES = {
    "done": "green", "stale": "yellow", "failed": "bold red",
    "running": "cyan", "missing": "dim",
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--directory", default=".", help="study folder")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                        help="compare with this setting instead")  # fmt: skip
    parser.add_argument("--jobs", action="store_true", help="list every job")


def run(arguments: argparse.Namespace) -> int:
    """Print the matrix, then the reasons of everything that is not done."""
    from neuropipe.cli.overrides import load_with
    from neuropipe.status import study_cells

    study = load_with(Path(arguments.directory), arguments.set)
    cells = study_cells(study)
    summary = [cell for cell in cells if cell.stage in ("ingest", "preprocess", "result")]
    print_matrix(study, summary)
    print_reasons(cells[len(summary) :] if arguments.jobs else summary)
    return 0


def print_matrix(study: Study, cells: Sequence[Cell]) -> None:
    """Print a table: recordings and collections x stores and analyses."""
    from rich.console import Console
    from rich.table import Table

    labels = [run.label for run in study.runs]
    columns = ["ingest", "preprocess", *labels]
    rows: dict[str, dict[str, str]] = {}
    for cell in cells:
        rows.setdefault(cell.collection, {})[cell.label or cell.stage] = cell.state
    table = Table(box=None, pad_edge=False)
    table.add_column("collection", no_wrap=True)
    for column in columns:
        table.add_column(column, no_wrap=True)
    for name, states in rows.items():
        shown = [states.get(column, "") for column in columns]
        table.add_row(name, *[f"[{STYLES[s]}]{s}[/]" if s else "-" for s in shown])
    console = Console(highlight=False, soft_wrap=True)
    # Beyond 80 columns a file or a narrow terminal would get "do..." for every state.
    state = max(map(len, STYLES))
    widths = [max(map(len, rows), default=0), *(max(len(column), state) for column in columns)]
    console.width = max(console.width, sum(widths) + 2 * len(widths))
    console.print(table)


def print_reasons(cells: Iterable[Cell]) -> None:
    """Print one line per cell that is not done: state, where, why, log."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    for cell in cells:
        if cell.state == "done":
            continue
        where = " ".join(filter(None, [cell.collection, cell.label or cell.stage]))
        why = cell.error or "; ".join(cell.reasons)
        log = f" (log: {cell.log})" if cell.log and cell.state == "failed" else ""
        console.print(Text(f"{cell.state}: {where}{': ' if why else ''}{why}{log}"))
