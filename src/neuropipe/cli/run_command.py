"""Run the workflow: prints, then executes, the plain snakemake command.

Arguments after -- go to snakemake. With --only NAME: what belongs to one recording or collection;
--here runs its steps one after the other in this process, log on the terminal, and prints the
equivalent `neuropipe step` lines.
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from neuropipe.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from neuropipe.plan import Job
    from neuropipe.study import Study

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "target", nargs="?", help="all, stores, analyses, report, an analysis or a label"
    )
    parser.add_argument("--directory", default=".", help="study folder")
    parser.add_argument("--profile", help="default, slurm or a folder")
    parser.add_argument("--cores", help="cores to use (default: all)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                        help="a setting for this run, such as analyses.ntf.rank=5")  # fmt: skip
    parser.add_argument("-n", "--dry-run", action="store_true", help="say what would run, and why")
    parser.add_argument("--only", metavar="NAME", help="one recording or collection")
    parser.add_argument("--here", action="store_true", help="with --only: run in this process")
    parser.add_argument("--pdb", action="store_true", help="with --here: debugger on an error")


def run(arguments: argparse.Namespace) -> int:
    """Check the study, then hand over to Snakemake or run the steps here."""
    from neuropipe.cli.overrides import load_with
    from neuropipe.cli.run_live import claimed
    from neuropipe.plan import make_plan

    root = Path(arguments.directory).resolve()
    if arguments.pdb and not arguments.here:
        raise ConfigError("--pdb needs --here: the debugger runs in this process")
    if arguments.here and not arguments.only:
        raise ConfigError("--here needs --only NAME: one recording or collection")
    study = load_with(Path(arguments.directory), arguments.set)
    plan = make_plan(study)
    wanted = _only(study, plan, arguments.only) if arguments.only else None
    _check_words(study, plan, arguments.target, arguments.cores)
    if arguments.dry_run and not arguments.here:
        return _dry_run(study, plan, wanted, arguments)
    with claimed(root):
        if arguments.here and wanted is not None:
            from neuropipe.cli.run_here import run_here

            return run_here(study, plan, wanted, debugger=arguments.pdb)
        return _run(study, plan, wanted, arguments)


def _run(
    study: Study, plan: Mapping[str, Job], wanted: list[str] | None, arguments: argparse.Namespace
) -> int:
    from neuropipe.cli.run_live import run_live, settle_times

    command, _ = _command(study, plan, wanted, arguments)
    if late := settle_times(study.root, plan):
        print(f"{late} files of the study were dated in the future, they got the present time")
    return run_live(study, plan, command)


TARGETS = ("all", "stores", "analyses", "report", "validate")


def _check_words(
    study: Study, plan: Mapping[str, Job], target: str | None, cores: str | None
) -> None:
    """Refuse a target or a number of cores that Snakemake would refuse with a dump."""
    import difflib

    labels = [word for run in study.runs for word in (run.analysis.name, run.label)]
    names = [*TARGETS, *dict.fromkeys(labels)]
    files = {path for job in plan.values() for path in job.outputs}
    if target and target not in names and target not in files:
        close = difflib.get_close_matches(target, names, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(names)}."
        raise ConfigError(f"{target}: no such target. {hint}")
    if cores and cores != "all" and not (cores.isdigit() and int(cores) > 0):
        raise ConfigError(f"--cores {cores}: expected a whole number of 1 or more, or `all`")


def _only(study: Study, plan: Mapping[str, Job], name: str) -> list[str]:
    """Return the names of the jobs that belong to one recording or collection."""
    wanted = [
        job.name
        for job in plan.values()
        if name in [job.wildcards.get(key) for key in ("recording", "collection", "connectome")]
    ]
    if not wanted:
        import difflib

        known = sorted(
            {w for j in plan.values() for k, w in j.wildcards.items()
             if k in ("recording", "collection", "connectome")}
        )  # fmt: skip
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}."
        raise ConfigError(f"--only {name}: no such recording or collection. {hint}")
    return wanted


def _command(
    study: Study, plan: Mapping[str, Job], wanted: list[str] | None, arguments: argparse.Namespace
) -> tuple[list[str], list[str] | None]:
    """Print and return the snakemake command, and the jobs that it is about; None: all."""
    from neuropipe.cli.overrides import write_override
    from neuropipe.cli.slurm import slurm_arguments, uses_slurm
    from neuropipe.cli.snakemake_command import profile_folder, snakemake_command

    target = arguments.target
    if target in {run.label for run in study.runs} - {run.analysis.name for run in study.runs}:
        wanted = [name for name, job in plan.items() if job.wildcards.get("analysis") == target]
        target = None
    override = write_override(Path(arguments.directory), arguments.set)
    command = snakemake_command(arguments.directory, arguments.profile)
    if arguments.profile and uses_slurm(folder := profile_folder(arguments.profile)):
        command += slurm_arguments(folder)
    if arguments.cores:
        command += ["--cores", str(arguments.cores)]
    if override is not None:
        command += [f"--configfile={override.resolve()}"]
    if arguments.dry_run:
        # With "=", or the targets that follow would be values of the option, too.
        command += ["--dry-run", "--quiet=rules"]
    if target:
        command.append(target)
    if wanted:
        final = [plan[name] for name in wanted]
        command += [path for job in final for path in job.outputs if not path.startswith("work/")]
    command += arguments.rest
    print(shlex.join(command), flush=True)
    return command, wanted


def _dry_run(
    study: Study, plan: Mapping[str, Job], wanted: list[str] | None, arguments: argparse.Namespace
) -> int:
    """Let Snakemake list what would run, then say why."""
    import subprocess

    from neuropipe.cli.status_command import print_reasons
    from neuropipe.status import job_cells, summary_cells

    command, wanted = _command(study, plan, wanted, arguments)
    # Who asks Snakemake for something of its own gets all that it says.
    given = not arguments.rest
    done = subprocess.run(command, check=False, capture_output=given, text=True)
    if given:
        print(_job_counts(done.stdout + done.stderr, done.returncode), flush=True)
    cells = job_cells(study, plan)
    chosen = [c for n, c in zip(plan, cells, strict=True) if wanted is None or n in wanted]
    reasons = [cell for cell in summary_cells(study, chosen) if cell.state != "done"]
    if reasons:
        print("why:", flush=True)
    print_reasons(reasons)
    return int(done.returncode != 0)


def _job_counts(told: str, code: int) -> str:
    r"""Return the table of jobs of a dry run; all that Snakemake said when it failed.

    Examples
    --------
    >>> _job_counts("Host: a\nJob stats:\njob  count\n---  -----\nall      1\n\nrest", 0)
    'job  count\n---  -----\nall      1'
    >>> _job_counts("Nothing to be done (all requested files are present).", 0)
    'Nothing to be done'
    """
    if code:
        return told.rstrip()
    _, found, table = told.rpartition("Job stats:\n")
    return table.split("\n\n")[0] if found else "Nothing to be done"
