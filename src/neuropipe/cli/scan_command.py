"""Find recordings in files and folders and write rows of the recordings table.

Reads headers only, never signals. Rows go to standard output, or into --output when it is new.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from neuropipe.errors import ConfigError, MissingInput

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="files or folders")
    parser.add_argument(
        "--output", type=Path, help="table to write, such as config/recordings.tsv; refuses rows"
    )


def run(arguments: argparse.Namespace) -> int:
    """Scan, print matches and issues, write the rows."""
    from neuropipe.config.recordings import COLUMNS, REQUIRED, write_recordings
    from neuropipe.io.scan import scan

    missing = [str(path) for path in arguments.paths if not path.exists()]
    if missing:
        raise MissingInput(f"{', '.join(missing)}: no such file or folder")
    found = scan(arguments.paths)
    rank = {"error": 0, "warning": 1, "info": 2}
    # Rows without a subject are counted below and seen in the table.
    told = [issue for issue in found.issues if issue.code != "NO_SUBJECT"]
    for issue in sorted(told, key=lambda issue: rank[issue.severity]):
        hint = f" ({issue.hint})" if issue.hint else ""
        print(f"{issue.severity}: {issue.path}: {issue.message}{hint}", file=sys.stderr)
    unnamed = sum(not row.get("subject") for row in found.rows)
    if unnamed:
        text = f"{unnamed} of {len(found.rows)} rows have no subject, since neither name nor header"
        print(f"{text} states one: fill in the column before you run", file=sys.stderr)
    if arguments.output is not None:
        there = arguments.output.read_text().splitlines() if arguments.output.exists() else []
        if len(there) > 1:
            raise ConfigError(f"{arguments.output}: holds rows already; choose another --output")
        columns = (*REQUIRED, *(there[0].split("\t") if there else ()))
        write_recordings(arguments.output, _seen_from(arguments.output, found.rows), columns)
        print(f"{len(found.rows)} rows written to {arguments.output}")
        return 0
    used = [c for c in COLUMNS if any(row.get(c) for row in found.rows)] or list(COLUMNS)
    print("\t".join(used))
    for row in found.rows:
        print("\t".join(str(row.get(column, "")) for column in used))
    return 0


def _seen_from(output: Path, rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return rows whose relative paths start at the study that the table lies in, if it does."""
    study = output.absolute().parent.parent
    is_study = (study / "config" / "config.yaml").is_file()
    if not is_study or study.resolve() == Path.cwd().resolve():
        return rows
    return [
        row if Path(row["path"]).is_absolute() else row | {"path": _relative(row["path"], study)}
        for row in rows
    ]


def _relative(path: str, study: Path) -> str:
    # Real folders: a `..` behind a link would lead elsewhere.
    parent = Path(path).absolute().parent.resolve()
    return str(Path(os.path.relpath(parent, study.resolve())) / Path(path).name)
