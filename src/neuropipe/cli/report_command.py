"""Rebuild the HTML page from the results that exist."""

from __future__ import annotations

import argparse
import webbrowser
from pathlib import Path

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--directory", default=".", help="study folder")
    parser.add_argument("--open", action="store_true", help="show the page in the browser")
    parser.add_argument("--after-failure", action="store_true", help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    """Build the page; after a failure also count the failed jobs."""
    from neuropipe.report.page import build_pages
    from neuropipe.status import study_cells
    from neuropipe.store import layout
    from neuropipe.store.atomic import write_text
    from neuropipe.study import load_study

    root = Path(arguments.directory)
    study = load_study(root)
    cells = study_cells(study)
    page = root / layout.REPORT
    for name, html in build_pages(study, cells).items():
        write_text(page.parent / name, html)
    if arguments.after_failure:
        rules = {"ingest", "preprocess", "result"}
        failed = [c for c in cells if c.state == "failed" and c.stage not in rules]
        print(f"{len(failed)} jobs failed; `neuropipe status` shows why. Page: {page}")
        return 0
    print(page)
    if arguments.open:
        webbrowser.open(page.resolve().as_uri())
    return 0
