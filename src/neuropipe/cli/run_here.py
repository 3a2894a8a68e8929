"""Run the jobs of one recording or collection in this process, for debugging."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from neuropipe.plan import Job
from neuropipe.status import job_cells
from neuropipe.study import Study

__all__ = ["closure", "run_here"]

# Steps that refuse to replace another store unless they are told to.
KEEPS_STORES = ("ingest", "connectome")


def closure(plan: Mapping[str, Job], wanted: Sequence[str]) -> list[str]:
    """Return the wanted jobs and all that they need, producers first."""
    producer = {path: name for name, job in plan.items() for path in job.outputs}
    needed: set[str] = set()
    queue = list(wanted)
    while queue:
        name = queue.pop()
        if name not in needed:
            needed.add(name)
            queue += [producer[path] for path in plan[name].inputs if path in producer]
    return [name for name in plan if name in needed]


def run_here(
    study: Study, plan: Mapping[str, Job], wanted: Sequence[str], *, debugger: bool = False
) -> int:
    """Run what is not done of the wanted jobs, one after the other, log on the terminal.

    Parameters
    ----------
    study : Study
        The study; the process moves into its folder.
    plan : mapping
        Job name -> job.
    wanted : sequence of str
        Names of the jobs to bring up to date.
    debugger : bool
        Start the post-mortem debugger at an error.

    Returns
    -------
    int
        0; an error of a step is raised as it is, with its traceback.
    """
    names = list(plan)
    states = dict(zip(names, (cell.state for cell in job_cells(study, plan)), strict=True))
    pending = [name for name in closure(plan, wanted) if states[name] != "done"]
    pending = _with_parts(plan, pending)
    os.chdir(study.root)
    if code := _run_steps(plan, pending, debugger):
        return code
    _remove_parts(plan, pending)
    print("Nothing to be done" if not pending else f"{len(pending)} steps done")
    if pending:
        print("the page is as it was: `neuropipe report` rebuilds it")
    return 0


def _run_steps(plan: Mapping[str, Job], pending: Sequence[str], debugger: bool) -> int:
    from neuropipe.cli.main import main

    for name in pending:
        words = _words(plan[name])
        print(f"neuropipe {shlex.join(words)}", flush=True)
        try:
            code = main(["--debug", *words])
        except Exception:
            if not debugger:
                raise
            import pdb
            import traceback

            traceback.print_exc()
            pdb.post_mortem(sys.exc_info()[2])
            return 1
        if code:
            return code
    return 0


def _words(job: Job) -> list[str]:
    """Return the words of a step; a store that is out of date is replaced, as Snakemake does."""
    words = ["step", *job.arguments]
    if job.arguments[0] in KEEPS_STORES and any(Path(path).exists() for path in job.outputs):
        words.append("--overwrite")
    return words


def _with_parts(plan: Mapping[str, Job], pending: Sequence[str]) -> list[str]:
    """Add the producers of removed parts that the jobs to run read."""
    return [
        name
        for name in closure(plan, pending)
        if name in pending or _makes_parts(plan[name], pending, plan)
    ]


def _makes_parts(job: Job, pending: Sequence[str], plan: Mapping[str, Job]) -> bool:
    read = {path for name in pending for path in plan[name].inputs}
    parts = [path for path in job.outputs if path.startswith("work/") and path in read]
    return any(not Path(path).exists() for path in parts)


def _remove_parts(plan: Mapping[str, Job], done: Sequence[str]) -> None:
    for name in done:
        for path in plan[name].outputs:
            if path.startswith("work/"):
                target = Path(path)
                shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
