"""Run snakemake and show, from the steps' own logs, what is pending, running, done and failed."""

from __future__ import annotations

import fcntl
import os
import platform
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from neuropipe.cli.run_pace import Pace
from neuropipe.errors import ConfigError
from neuropipe.plan import Job
from neuropipe.status import RUN_NOTE, active_run, is_locked, job_cells, log_state
from neuropipe.store.atomic import write_json
from neuropipe.study import Study

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["claimed", "run_live", "settle_times"]

_POLL_S, _SILENCE_S = 0.5, 30.0
# With very many logs a look at them takes long: then it takes a twentieth of the time.
_REST = 20
# How far clocks may disagree unseen; the distance of times that only tell an order.
_TOLERATED_S, _STEP_S = 2.0, 1e-4
_INTERRUPTED = 130
_TAIL = 30
_PER_RECORDING = ("ingest_recording", "preprocess_recording", "recording_figures")
RUN_LOCK = ".snakemake/neuropipe-run.lock"
SNAKEMAKE_LOG = "logs/snakemake.log"
STATES = ("pending", "running", "done", "failed")


@dataclass
class _Watch:
    """State of each job of this run, from the logs that its steps write."""

    study: Study
    plan: Mapping[str, Job]
    started: float
    waiting: set[str] = field(default_factory=set)
    states: dict[str, str] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)
    told: float = 0.0

    def __post_init__(self) -> None:
        self.pace = Pace({name: self.plan[name].rule for name in self.waiting})

    def line(self) -> str:
        """Return how far the run is, what runs, and how long it will take."""
        running = [name for name, state in self.states.items() if state == "running"]
        return self.pace.text(running, time.time() - self.started)

    def poll(self) -> list[str]:
        """Read the logs written since the start; return the jobs that ended since the last look."""
        ended = []
        for name, job in self.plan.items():
            if self.states.get(name) in ("done", "failed"):
                continue
            log = self.study.root / job.log
            if not log.exists() or log.stat().st_mtime < self.started:
                continue
            state, message = log_state(self.study.root, job.log)
            now = {"finished": "done", "failed": "failed", "open": "running"}[state]
            self.states[name], self.messages[name] = now, message
            if now in ("done", "failed"):
                ended.append(name)
        self.pace.note(self.states, time.time() - self.started)
        return ended

    def counts(self) -> dict[str, Counter[str]]:
        """Return rule -> number of jobs in each state."""
        table: dict[str, Counter[str]] = {}
        for name, job in self.plan.items():
            state = self.states.get(name, "pending" if name in self.waiting else "")
            if state:
                table.setdefault(job.rule, Counter())[state] += 1
        return table

    def failures(self) -> list[str]:
        """Return one line per failed job: name, message, log."""
        return [
            f"failed: {name}: {self.messages[name]} (log: {self.plan[name].log})"
            for name in self.failed()
        ]

    def failed(self) -> list[str]:
        """Return the names of the failed jobs."""
        return [name for name, state in self.states.items() if state == "failed"]


def _table(watch: _Watch) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, caption_justify="left")
    table.add_column("rule", no_wrap=True)
    for state in STATES:
        table.add_column(state, justify="right")
    for rule, counts in watch.counts().items():
        table.add_row(rule, *[str(counts[state] or "") for state in STATES])
    failures = watch.failures()
    table.caption = "\n".join([watch.line(), *failures[-1:]])
    return table


def run_live(study: Study, plan: Mapping[str, Job], command: Sequence[str]) -> int:
    """Run a snakemake command; on a terminal one refreshed table, elsewhere a line per ended job.

    Parameters
    ----------
    study : Study
        The study.
    plan : mapping
        Job name -> job.
    command : sequence of str
        What to run; its output goes to ``logs/snakemake.log``.

    Returns
    -------
    int
        0, 1 when a job or Snakemake failed, 130 when interrupted.
    """
    log = study.root / SNAKEMAKE_LOG
    log.parent.mkdir(parents=True, exist_ok=True)
    cells = job_cells(study, plan)
    waiting = {n for n, c in zip(plan, cells, strict=True) if c.state != "done"}
    watch = _Watch(study, plan, time.time() - 0.01, waiting)
    with log.open("w", encoding="utf-8") as sink:
        # A process group of its own: an interrupt reaches it once, from us, and its jobs with it.
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
        note_run(study.root, process.pid)
        code = _follow(process, watch)
    return _conclude(watch, code, log)


@contextmanager
def claimed(root: Path) -> Iterator[None]:
    """Hold a study for one run: looking for another run and noting this one are one step.

    Raises
    ------
    ConfigError
        As `refuse_second_run`.
    """
    lock = root / RUN_LOCK
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        refuse_second_run(root)
        note = note_run(root, os.getpid())
    try:
        yield
    finally:
        note.unlink(missing_ok=True)


def refuse_second_run(root: Path) -> None:
    """Refuse to start beside a run that lives, or on the lock of one that was killed.

    Raises
    ------
    ConfigError
        Saying which process, since when, and what to do.
    """
    active = active_run(root)
    if active:
        raise ConfigError(
            f"a run is active here ({active}); wait for it, or watch it with `neuropipe status`"
        )
    if is_locked(root) and (root / RUN_NOTE).exists():
        # `active_run` looked for any Snakemake that works here: there is none.
        raise ConfigError(
            "the last run was killed and left a lock; no process of it is alive. "
            "Remove the lock with `neuropipe unlock`, then run again"
        )


def settle_times(root: Path, plan: Mapping[str, Job]) -> int:
    """Give products that are dated in the future the present time, in their order.

    They were made while a clock was wrong. Snakemake fails jobs that read them, and would run
    such jobs again and again until that time has come.

    Returns
    -------
    int
        Number of files.
    """
    now = time.time()
    paths = [root / path for job in plan.values() for path in job.outputs]
    paths += [path / ".snakemake_timestamp" for path in paths if path.is_dir()]
    dates = {path: path.stat().st_mtime for path in paths if path.exists()}
    future = {path: date for path, date in dates.items() if date > now + _TOLERATED_S}
    order = {date: k for k, date in enumerate(sorted(set(future.values()), reverse=True))}
    for path, date in future.items():
        os.utime(path, (now - order[date] * _STEP_S,) * 2)
    return len(future)


def note_run(root: Path, pid: int) -> Path:
    """Note which process works here, so that one that lives is told from one that was killed."""
    path = root / RUN_NOTE
    created = psutil.Process(pid).create_time()
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(created))
    write_json(path, {"pid": pid, "host": platform.node(), "created": created, "since": since})
    return path


def _follow(process: subprocess.Popen[bytes], watch: _Watch) -> int:
    from rich.console import Console
    from rich.live import Live

    console, interrupted, spent = Console(highlight=False), False, 0.0
    # A scheduler ends us with SIGTERM, a closed terminal with SIGHUP: stop as on Ctrl-C, so that
    # no job lives on.
    stops = (signal.SIGTERM, signal.SIGHUP)
    previous = {stop: signal.signal(stop, signal.default_int_handler) for stop in stops}
    live = Live(console=console, refresh_per_second=4) if sys.stdout.isatty() else None
    if live:
        live.start()
    try:
        while process.poll() is None:
            try:
                time.sleep(max(_POLL_S, _REST * spent))
                begin = time.process_time()
                _show(watch, live)
                spent = time.process_time() - begin
            except KeyboardInterrupt:
                interrupted = True
                os.killpg(process.pid, signal.SIGINT)
        _show(watch, live)
    finally:
        for stop, handler in previous.items():
            signal.signal(stop, handler)
        if live:
            live.stop()
    return _INTERRUPTED if interrupted else process.returncode


def _show(watch: _Watch, live: object) -> None:
    ended = watch.poll()
    if live is not None:
        live.update(_table(watch))  # type: ignore[attr-defined]
        return
    for name in ended:
        why = f": {watch.messages[name]}" if watch.states[name] == "failed" else ""
        print(f"{watch.states[name]}: {name}{why}", flush=True)
    now = time.time()
    if ended or (watch.states and now - watch.told > _SILENCE_S):
        print(f"  {watch.line()}", flush=True)
        watch.told = now


def _conclude(watch: _Watch, code: int, log: Path) -> int:
    failures = watch.failures()
    for line in failures:
        print(line, file=sys.stderr)
    if code == _INTERRUPTED:
        print("interrupted; run again to resume", file=sys.stderr)
        return _INTERRUPTED
    if code and not failures:
        print("\n".join(log.read_text(errors="replace").splitlines()[-_TAIL:]), file=sys.stderr)
        print(f"snakemake failed (log: {log}); a lock left by a kill goes with `neuropipe unlock`",
              file=sys.stderr)  # fmt: skip
    elif code:
        print(f"{len(failures)} jobs failed; `neuropipe status` shows why", file=sys.stderr)
        if any(watch.plan[name].rule in _PER_RECORDING for name in watch.failed()):
            print("to go on without a recording, set `exclude` to true in its row of the table",
                  file=sys.stderr)  # fmt: skip
    elif not watch.states:
        print("Nothing to be done")
    if not code:
        page = watch.study.root / "report" / "index.html"
        print(f"report: {page}" if page.exists() else "done")
    return int(code != 0)
