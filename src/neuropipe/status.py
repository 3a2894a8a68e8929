"""What is done, stale, failed, running or missing, and why; from files alone."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuropipe.plan import Job, has_steps, make_plan
from neuropipe.store.file_facts import file_facts
from neuropipe.store.provenance import read_provenance
from neuropipe.study import Study

if TYPE_CHECKING:
    import psutil

__all__ = [
    "Cell",
    "active_run",
    "failure_of",
    "is_locked",
    "job_cells",
    "study_cells",
    "summary_cells",
]

_REASONS = 4
_TAIL_BYTES = 20_000
# End markers of a step's log, written by cli.step_log.
_FINISHED, _FAILED = " finished ", " failed: "
RUN_NOTE = ".snakemake/neuropipe-run.json"
_ORDER = ("failed", "running", "missing", "stale", "done")


@dataclass(frozen=True)
class Cell:
    """State of one job, or of one analysis of one collection.

    Attributes
    ----------
    stage : str
        Rule of the job, or ``result`` for an analysis of a collection as a whole.
    collection : str
        Recording or collection; ``""`` for the study.
    label : str
        Label of the analysis; ``""`` for stores.
    state : str
        ``done``, ``stale``, ``failed``, ``running`` or ``missing``.
    reasons : tuple of str
        Why it is not done: changed keys, inputs or modules.
    error : str
        Message of the failed job.
    log : str
        Its log file.
    """

    stage: str
    collection: str
    label: str
    state: str
    reasons: tuple[str, ...] = ()
    error: str = ""
    log: str = ""


def _last_line(path: Path) -> str:
    """Return the last line that the step logged; what it started wrote comes later, if at all."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    marked = [line for line in lines if _FINISHED in line or _FAILED in line]
    if marked:
        return marked[-1]
    return lines[-1] if lines else ""


def log_state(root: Path, log: str) -> tuple[str, str]:
    """Return ``("finished" | "failed" | "open" | "", message)`` of a step's log."""
    line = _last_line(root / log)
    if _FAILED in line:
        return "failed", line.partition(_FAILED)[2].strip()
    if _FINISHED in line:
        return "finished", ""
    return ("open", line) if (root / log).exists() else ("", "")


def is_locked(root: Path) -> bool:
    """Tell whether the study folder has Snakemake's lock, of a run that lives or was killed."""
    locks = root / ".snakemake" / "locks"
    return locks.is_dir() and any(locks.iterdir())


def active_run(root: Path) -> str:
    """Return a description of the run that is active in the study folder, or ``""``.

    `neuropipe run` notes its process; a process that is gone, or another one under the same number,
    is no run. A run on another machine counts as active while its note is there.
    """
    import psutil

    note = read_provenance(root / RUN_NOTE)
    if not note:
        return _snakemake_here(root)
    text = f"process {note['pid']} on {note['host']}, since {note['since']}"
    if note["host"] != platform.node():
        return f"{text}; only {note['host']} can tell whether it lives"
    try:
        process = psutil.Process(note["pid"])
        same = abs(process.create_time() - note["created"]) < 1.0
        # A killed process stays a zombie where nobody collects it, as in many containers.
        alive = same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        alive = False
    return text if alive else _snakemake_here(root)


def _snakemake_here(root: Path) -> str:
    """Return a description of a Snakemake that somebody started by hand in the study folder."""
    import psutil

    if not is_locked(root):
        return ""
    for process in psutil.process_iter(["pid", "cmdline", "cwd", "status"]):
        facts = process.info
        words = " ".join(facts["cmdline"] or [])
        here = facts["cwd"] == str(root.resolve()) and "snakemake" in words
        here = here and not _is_cluster_job(process)
        if here and "neuropipe" not in words.split("snakemake")[0]:
            return f"process {facts['pid']} on {platform.node()}, started by hand"
    return ""


def _is_cluster_job(process: psutil.Process) -> bool:
    """Tell whether a process belongs to a job of Slurm that is not ours: such a job is no run."""
    import psutil

    try:
        job = process.environ().get("SLURM_JOB_ID")
    except psutil.Error:
        return False
    return job is not None and job != os.environ.get("SLURM_JOB_ID")


def is_running(root: Path) -> bool:
    """Tell whether jobs may be running: a lock, and no note that its process is gone."""
    note = (root / RUN_NOTE).exists()
    return bool(active_run(root)) if note else is_locked(root)


def failure_of(root: Path, name: str) -> str:
    """Return the code (first word) of the newest failure in the logs that concern a name."""
    for log in sorted((root / "logs").rglob(f"{name}*.log")):
        state, message = log_state(root, str(log.relative_to(root)))
        if state == "failed":
            return message.split(":")[0]
    return ""


def _flat(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(values, Mapping) and values:
        for key, value in values.items():
            yield from _flat(value, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, values


def changed_settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return ``key: old -> new`` for every changed key, outer names that say nothing left out."""
    before, after = dict(_flat(old)), dict(_flat(json.loads(json.dumps(new))))
    texts = []
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key):
            name = key.removeprefix("settings.").removeprefix("preprocess.")
            shown = [json.dumps(values.get(key)) for values in (before, after)]
            texts.append(f"{name}: {shown[0]} -> {shown[1]}")
    return texts


def changed_code(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Return ``code of <module> changed`` for every module that differs."""
    names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    return [f"code of {name} changed" for name in names]


class _Inspector:
    """Compares the plan with the study folder, each producer before its consumers."""

    def __init__(self, study: Study, plan: Mapping[str, Job]) -> None:
        self.root, self.plan = study.root, plan
        self.running = is_running(study.root)
        self.producer = {path: job for job in plan.values() for path in job.outputs}
        self.final = {
            _place(job): job for path, job in self.producer.items() if path.endswith("/result.nc")
        }
        self.records: dict[str, dict[str, Any]] = {}
        self.states: dict[str, tuple[str, tuple[str, ...]]] = {}

    def record(self, path: str) -> dict[str, Any]:
        if path not in self.records:
            self.records[path] = read_provenance(self.root / path) if path else {}
        return self.records[path]

    def _file_changes(self, job: Job) -> list[str]:
        """Name the user's own files that are new, gone, or not as they were when they were read."""
        record, now = self.record(job.record), file_facts(self.root, job.files)
        path = job.settings.get("recording", {}).get("path")
        if path and not (self.root / path).exists():
            return []  # a study without its raw data keeps its stores
        known = {name: tuple(facts) for name, facts in record.get("files", {}).items()}
        texts = [f"{path} is new" for path in now if path not in known]
        texts += [f"{path} is gone" for path in known if path not in now]
        for path in now:
            if path in known and known[path] != now[path]:
                same = self._same_content(path, job, record)
                texts.append(f"{path} " + ("has another date" if same else "changed"))
        return [f"source {text}" for text in texts]

    def _same_content(self, path: str, job: Job, record: Mapping[str, Any]) -> bool:
        """Tell whether a source holds what it held, as far as the record knows."""
        from neuropipe.store.hashing import file_sha256

        folder = Path(job.settings.get("recording", {}).get("path", "")).parent
        for entry in record.get("source", []):
            if os.path.normpath(folder / entry["path"]) == os.path.normpath(path):
                return bool(file_sha256(self.root / path) == entry["sha256"])
        return False

    def _input_changes(self, job: Job) -> list[str]:
        texts = []
        for path, digest in self.record(job.record).get("inputs", {}).items():
            producer = self.producer.get(path)
            if producer is None or not producer.record:
                continue
            now = self.record(producer.record).get("content_sha256")
            if now and digest and now != digest:
                texts.append(f"input {path} changed")
        return texts

    def _unreadable(self, job: Job) -> list[str]:
        """Name a dataset that is empty, cut or not the one of its provenance."""
        texts = []
        for path in job.outputs:
            if not path.endswith(".nc"):
                continue
            own = read_provenance(self.root / path).get("content_sha256")
            known = self.record(job.record).get("content_sha256")
            if own is None or own != known:
                texts.append(f"{path} is damaged; remove it and run again")
        return texts

    def _upstream(self, job: Job) -> list[str]:
        """Return the producers of this job's inputs that are not done."""
        texts = []
        for path in job.inputs:
            producer = self.producer.get(path)
            if producer is None or producer.name == job.name:
                continue
            state = self.states[producer.name][0]
            if state in ("stale", "missing", "failed", "running") and not _is_temporary(path):
                texts.append(f"follows from {producer.name}")
        return list(dict.fromkeys(texts))

    def _newer_inputs(self, job: Job) -> list[str]:
        """Name the inputs that are newer than a product without provenance."""
        made = min((self.root / path).stat().st_mtime for path in job.outputs)
        paths = [path for path in job.inputs if (self.root / path).is_file()]
        newer = [path for path in paths if (self.root / path).stat().st_mtime > made]
        return [f"{path} is newer" for path in newer]

    def _differences(self, job: Job) -> list[str]:
        record = self.record(job.record)
        if not job.record:
            return self._newer_inputs(job)
        texts = changed_settings(record.get("settings", {}), job.settings)
        texts += changed_code(record.get("code", {}), job.modules)
        return texts + self._file_changes(job) + self._input_changes(job)

    def state(self, job: Job) -> tuple[str, tuple[str, ...]]:
        """Return state and reasons; the producers' states must be known."""
        logged, message = log_state(self.root, job.log)
        missing = [path for path in job.outputs if not (self.root / path).exists()]
        upstream = self._upstream(job)
        if logged == "open" and self.running:
            return "running", ()
        if missing and logged == "failed":
            return "failed", (message,)
        if missing and logged == "open":
            return "failed", ("interrupted before its end",)
        if missing and logged == "finished" and not upstream:
            gone = [path for path in missing if not _is_temporary(path)]
            return "missing", (f"{gone[0]} is gone" if gone else "follows from its result",)
        if missing:
            return "missing", tuple(upstream[:_REASONS] or ("not run",))
        reasons = [*self._unreadable(job), *self._differences(job), *upstream]
        return ("stale", tuple(reasons[:_REASONS])) if reasons else ("done", ())

    def inspect(self) -> dict[str, tuple[str, tuple[str, ...]]]:
        """Return job name -> (state, reasons)."""
        for name, job in self.plan.items():
            self.states[name] = self.state(job)
        self._settle_parts()
        return self.states

    def _settle_parts(self) -> None:
        """Give removed parts of finished stages the state of the result that they fed."""
        for name, job in self.plan.items():
            final = self._final(job)
            if final is None or self.states[name][0] != "missing":
                continue
            state = self.states[final.name][0]
            if state in ("done", "stale"):
                self.states[name] = (state, ())

    def _final(self, job: Job) -> Job | None:
        if not all(_is_temporary(path) for path in job.outputs):
            return None
        return self.final.get(_place(job))


def _place(job: Job) -> tuple[str | None, str | None]:
    return job.wildcards.get("collection"), job.wildcards.get("analysis")


def _is_temporary(path: str) -> bool:
    return path.startswith("work/")


def _subject(job: Job) -> str:
    """Return the recording, collection or connectome that a job is about; "" for the study."""
    named = (job.wildcards.get(key) for key in ("recording", "collection", "connectome"))
    return next(filter(None, named), "")


def job_cells(study: Study, plan: Mapping[str, Job] | None = None) -> list[Cell]:
    """Return one cell per job of the study, producers before consumers."""
    plan = make_plan(study) if plan is None else plan
    states = _Inspector(study, plan).inspect()
    cells = []
    for name, job in plan.items():
        state, reasons = states[name]
        cells.append(
            Cell(
                stage=job.rule,
                collection=_subject(job),
                label=job.wildcards.get("analysis", ""),
                state=state,
                reasons=() if state == "failed" else reasons,
                error=reasons[0] if state == "failed" and reasons else "",
                log=job.log if (study.root / job.log).exists() else "",
            )
        )
    return cells


def _combine(cells: Sequence[Cell], stage: str, collection: str, label: str) -> Cell:
    """Return the worst of several cells as one, with the reasons of the first of that state."""
    worst = min(cells, key=lambda cell: _ORDER.index(cell.state))
    begun = any(cell.state == "done" for cell in cells)
    own = [
        f"{c.stage} {r}" if begun and r == "not run" else r
        for c in cells
        if c.state == worst.state
        for r in c.reasons
    ]
    plain = [reason for reason in own if not reason.startswith("follows from")]
    # That one of these jobs follows from another of them tells nothing.
    inner = tuple(f"follows from {cell.stage}/" for cell in cells)
    outer = [reason for reason in own if not reason.startswith(inner)]
    reasons = tuple(dict.fromkeys(plain or outer or own))[:_REASONS]
    return Cell(stage, collection, label, worst.state, reasons, worst.error, worst.log)


def summary_cells(study: Study, cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells of the matrix *what ran*.

    Parameters
    ----------
    study : Study
        The study.
    cells : sequence of Cell
        One per job, all or some of them.

    Returns
    -------
    list of Cell
        ``ingest`` and, where its modality has steps, ``preprocess`` of each recording, ``ingest``
        of each connectome, ``result`` of each analysis and collection, as far as `cells` has jobs
        of them.
    """
    found = []
    for recording in study.recordings:
        steps = {
            "ingest": ("ingest_recording",),
            "preprocess": ("preprocess_recording", "recording_figures"),
        }
        if not has_steps(recording.modality):
            steps = {"ingest": ("ingest_recording", "recording_figures")}
        for stage, rules in steps.items():
            own = [c for c in cells if c.stage in rules and c.collection == recording.name]
            found += [_combine(own, stage, recording.name, "")] if own else []
    for name in study.config.ingest.connectomes:
        own = [c for c in cells if c.stage == "ingest_connectome" and c.collection == name]
        found += [_combine(own, "ingest", name, "")] if own else []
    for run in study.runs:
        for collection in run.collections:
            own = [c for c in cells if c.label == run.label and c.collection == collection.name]
            found += [_combine(own, "result", collection.name, run.label)] if own else []
    return found


def study_cells(study: Study, cells: Sequence[Cell] | None = None) -> list[Cell]:
    """Return the cells of the matrix *what ran*, followed by those of every single job."""
    cells = job_cells(study) if cells is None else cells
    return [*summary_cells(study, cells), *cells]
