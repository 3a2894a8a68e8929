"""What Slurm must be asked before a run: accounting, and whether the largest job can ever start."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuropipe.errors import ConfigError, Issue, MissingDependency

if TYPE_CHECKING:
    from neuropipe.plan import Job

__all__ = [
    "Partition",
    "jobs_in_queue",
    "partitions",
    "request_issues",
    "slurm_arguments",
    "uses_slurm",
]

PLUGIN = "snakemake_executor_plugin_slurm"
TIMEOUT_S = 30


@dataclass(frozen=True)
class Partition:
    """What the largest node of a partition offers.

    Attributes
    ----------
    name : str
    cpus, mem_mb : int
        Of one node.
    minutes : float
        Time limit; infinity without one.
    default : bool
        Whether jobs go there that name no partition.
    """

    name: str
    cpus: int
    mem_mb: int
    minutes: float
    default: bool


def _profile(folder: Path) -> Mapping[str, Any]:
    import yaml

    path = folder / "config.yaml"
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError:
        raise ConfigError(f"--profile {folder}: no config.yaml there") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: no valid YAML: {error}") from None
    return found if isinstance(found, dict) else {}


def uses_slurm(folder: Path) -> bool:
    """Say whether a profile hands its jobs to Slurm."""
    return _profile(folder).get("executor") == "slurm"


def _answer(command: Sequence[str]) -> subprocess.CompletedProcess[str] | None:
    """Return what a program of Slurm says, None if it is absent or silent."""
    if shutil.which(command[0]) is None:
        return None
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return None


def slurm_arguments(folder: Path) -> list[str]:
    """Return what the snakemake command needs beside the profile.

    Without accounting `sacct` exists and never tells that a job ended: Snakemake would wait for
    ever. Then `squeue` is asked instead.

    Parameters
    ----------
    folder : Path
        Folder of the profile.

    Raises
    ------
    MissingDependency
        If the executor is not installed.
    ConfigError
        If no Slurm answers here.
    """
    if importlib.util.find_spec(PLUGIN) is None:
        raise MissingDependency(
            "the profile hands jobs to Slurm, but its executor is not installed; "
            'pip install "neuropipe[slurm]"'
        )
    if shutil.which("sbatch") is None:
        raise ConfigError(
            f"--profile {folder.name}: no program sbatch here; run on a login node of the cluster"
        )
    if "slurm-status-command" in _profile(folder):
        return []
    accounting = _answer(["sacct", "-X", "-n", "-S", "now"])
    works = accounting is not None and accounting.returncode == 0
    return [] if works else ["--slurm-status-command", "squeue"]


def jobs_in_queue(root: Path) -> list[str]:
    """Return the numbers of Slurm's jobs that may write in a study folder; [] without Slurm."""
    states = "PENDING,CONFIGURING,RUNNING,SUSPENDED,COMPLETING"
    answer = _answer(["squeue", "-h", "-t", states, "-o", "%i|%Z"])
    if answer is None or answer.returncode:
        return []
    jobs = [line.partition("|") for line in answer.stdout.splitlines()]
    return [number for number, _, folder in jobs if Path(folder) == root.resolve()]


def _minutes(text: str) -> float:
    """Return Slurm's ``[days-]hours:minutes:seconds`` as minutes."""
    if text in ("infinite", "UNLIMITED", "n/a"):
        return float("inf")
    days, _, rest = text.rpartition("-")
    parts = [float(part) for part in rest.split(":")]
    seconds = 0.0
    for part in parts:
        seconds = seconds * 60 + part
    return float(days or 0) * 1440 + seconds / 60


def partitions() -> list[Partition]:
    """Ask Slurm for its partitions.

    Raises
    ------
    ConfigError
        If `sinfo` is absent or does not answer.
    """
    answer = _answer(["sinfo", "-h", "-o", "%c|%m|%l|%P"])
    if answer is None or answer.returncode:
        told = answer.stderr.strip() if answer is not None else "sinfo is absent or does not answer"
        raise ConfigError(f"Slurm does not answer: {told}; run on a login node of the cluster")
    found = []
    for line in answer.stdout.split():
        cpus, memory, limit, name = line.split("|")
        found.append(
            Partition(
                name.rstrip("*"), int(cpus.rstrip("+")), int(memory.rstrip("+")), _minutes(limit),
                name.endswith("*"),
            )
        )  # fmt: skip
    return found


def _requests(plan: Mapping[str, Job], profile: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return what each rule asks for at most, overrides of the profile included."""
    overrides = profile.get("set-resources") or {}
    found: dict[str, dict[str, float]] = {}
    for job in plan.values():
        asked = {
            "cpus": job.resources.cpus,
            "mem_mb": job.resources.mem_mb,
            "minutes": job.resources.minutes,
        }
        own = overrides.get(job.rule) or {}
        for key, name in (("mem_mb", "mem_mb"), ("runtime", "minutes")):
            if isinstance(own.get(key), int | float):
                asked[name] = own[key]
        largest = found.setdefault(job.rule, asked)
        found[job.rule] = {key: max(value, largest[key]) for key, value in asked.items()}
    return found


UNITS = {"cpus": "CPUs", "mem_mb": "MB of memory", "minutes": "minutes"}
KEYS = {"cpus": "threads", "mem_mb": "mem_mb", "minutes": "runtime"}


def request_issues(
    plan: Mapping[str, Job], folder: Path, known: Sequence[Partition]
) -> list[Issue]:
    """Return the requests that no node can ever serve, one issue per rule.

    Slurm refuses too much memory at once, but lets a job with too many CPUs wait for ever.

    Parameters
    ----------
    plan : mapping
        Job name -> job.
    folder : Path
        Folder of the profile.
    known : sequence of Partition
        What Slurm offers.
    """
    profile = _profile(folder)
    wanted = (profile.get("default-resources") or {}).get("slurm_partition")
    where = f"{folder.name}: default-resources.slurm_partition"
    if wanted is not None and wanted not in {part.name for part in known}:
        names = ", ".join(dict.fromkeys(part.name for part in known))
        text = f"Slurm has no partition {wanted!r}"
        return [Issue("PARTITION", where, text, f"known: {names}", "error")]
    chosen = [part for part in known if (part.name == wanted if wanted else part.default)]
    if not chosen:
        text = "Slurm names no default partition"
        return [Issue("PARTITION", where, text, "set slurm_partition in the profile", "error")]
    issues = []
    for rule, asked in _requests(plan, profile).items():
        if any(all(asked[k] <= getattr(part, k) for k in UNITS) for part in chosen):
            continue
        most = {key: max(getattr(part, key) for part in chosen) for key in UNITS}
        over = [key for key in UNITS if asked[key] > most[key]] or ["mem_mb"]
        text = "; ".join(
            f"asks for {asked[key]:g} {UNITS[key]}, the partition {chosen[0].name} offers "
            f"{most[key]:g}" for key in over
        )  # fmt: skip
        hint = f"set-resources: {{{rule}: {{{KEYS[over[0]]}: ...}}}} or another slurm_partition"
        issues.append(Issue("REQUEST_TOO_LARGE", rule, text, hint, "error"))
    return issues
