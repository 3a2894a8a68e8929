"""A shell in which the commands of a page run one after the other, where the page says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from .blocks import ROOT, Block
from .instead import INSTEAD

# Slurm as far as planning asks it; nothing is handed to it.
SLURM = {
    "sinfo": "echo '64|256000|infinite|main*'",
    "sacct": "exit 0",
    "squeue": "exit 0",
    "sbatch": "echo 'a plan submits nothing' >&2; exit 1",
}
MARK = "@@"


def write_slurm(folder: Path) -> Path:
    """Write programs that answer as Slurm does to who asks for its partitions."""
    folder.mkdir()
    for name, line in SLURM.items():
        (folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / name).chmod(0o755)
    return folder


def run_commands(
    shown: Iterable[Block], folder: Path, programs: Path, more: Mapping[str, str]
) -> str:
    """Run the commands of blocks in a folder, in one shell that ends at the first failing one.

    Parameters
    ----------
    shown : iterable of Block
    folder : Path
        Where the reader is at the top of the page.
    programs : Path
        Folder of programs that come first.
    more : mapping of str to str
        Variables of the environment.

    Returns
    -------
    str
        What the commands wrote.
    """
    lines = ["set -eo pipefail"]
    for block in shown:
        for command in block.commands:
            run = INSTEAD[command].run if command in INSTEAD else command
            # A change of folder stays, unless it belongs to what is run instead.
            run = f"( {run} )" if command in INSTEAD else run
            lines += [f"echo '{MARK} {block.name}: {command}'", run]
    path = [str(programs), str(Path(sys.prefix) / "bin"), os.environ["PATH"]]
    threads = {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    given = {**os.environ, **threads, **more, "CHECKOUT": str(ROOT), "PATH": os.pathsep.join(path)}
    given.pop("MAKEFLAGS", None)
    done = subprocess.run(
        ["bash", "-c", "\n".join(lines)], cwd=folder, env=given, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[done.stdout.rindex(MARK) :]
    return done.stdout
