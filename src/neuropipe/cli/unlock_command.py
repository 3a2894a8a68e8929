"""Remove the lock that a killed run left in the study folder."""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path

from neuropipe.errors import ConfigError

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--directory", default=".", help="study folder")


def run(arguments: argparse.Namespace) -> int:
    """Call ``snakemake --unlock`` with the right Snakefile."""
    from neuropipe.cli.slurm import jobs_in_queue
    from neuropipe.cli.snakemake_command import snakemake_command
    from neuropipe.status import RUN_NOTE, active_run

    active = active_run(Path(arguments.directory))
    if active:
        raise ConfigError(f"a run is active here ({active}); end it first, for example with Ctrl-C")
    if jobs := jobs_in_queue(Path(arguments.directory)):
        raise ConfigError(
            f"{len(jobs)} jobs of the killed run are still with Slurm and write here; "
            f"cancel them first: scancel {' '.join(jobs)}"
        )
    command = [*snakemake_command(arguments.directory), "--unlock", "--cores", "1"]
    answer = subprocess.run(command, check=False)
    (Path(arguments.directory) / RUN_NOTE).unlink(missing_ok=True)
    return int(answer.returncode != 0)
