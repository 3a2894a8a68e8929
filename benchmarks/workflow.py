"""What the workflow itself costs: start-up, and large studies before a job starts.

    python benchmarks/workflow.py start
    python benchmarks/workflow.py scale 100 [435 1000 ...]

`scale` makes a study of so many recordings of spikes, each for all five analyses (23 jobs per
recording), and tells CPU seconds and peak memory of a dry run of everything, and of one when all is
done. Snakemake's own share is what it needs for rules without any of our code between the same
files. Every source is an empty file, and so is every product: no job runs.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
ALL = {
    "ntf": {"input": {"scope": "recording", "align": "single"}, "rank": 3},
    "hmm_glm": {"states": 2},
    "gp_vae": {"input": {"scope": "recording", "modalities": ["spikes"]}},
    "bicluster": {"mcmc": {"chains": 1}},
    "trsa": {"input": {"scope": "subject", "labels": list("abcd")}},
}
COMMANDS = ("step --help", "--help", "status --help", "run --help", "list")


@dataclass(frozen=True)
class Cost:
    """What a command used.

    Attributes
    ----------
    cpu_s : float
        User and system time of the process, and of those it waited for.
    peak_mb : float
        Largest resident size.
    text : str
        What it wrote.
    """

    cpu_s: float
    peak_mb: float
    text: str


def measure(command: list[str], folder: Path) -> Cost:
    """Run a command to its end, which must be a good one."""
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(
            command, cwd=folder, stdout=out, stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        _, status, used = os.wait4(process.pid, 0)
        out.seek(0)
        text = out.read()
    if status != 0:
        raise SystemExit(f"{' '.join(command)}: status {status}\n{text[-3000:]}")
    return Cost(used.ru_utime + used.ru_stime, used.ru_maxrss / 1000, text)


def make_study(folder: Path, count: int) -> None:
    """Write a study of so many recordings, one of each subject, all sources in one folder."""
    (folder / "config").mkdir(parents=True)
    (folder / "raw").mkdir()
    rows = ["subject\tmodality\tpath"]
    for index in range(count):
        source = f"raw/unit-{index:05d}.nwb"
        (folder / source).touch()
        rows.append(f"{index:05d}\tspikes\t{source}")
    (folder / "config" / "recordings.tsv").write_text("\n".join(rows) + "\n")
    config = {"study": "scale", "analyses": ALL}
    (folder / "config" / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def pattern(path: str, wildcards: dict[str, str]) -> str:
    """Return an output with wildcards for values; the analysis stays, so that rules differ."""
    for name, value in wildcards.items():
        if name != "analysis":
            path = re.sub(
                rf"(?<![A-Za-z0-9]){re.escape(value)}(?![A-Za-z0-9])", f"{{{name}}}", path
            )
    return path


def write_empty(folder: Path) -> Path:
    """Write a Snakefile of the same jobs and files, without params, logs and resources."""
    from neuropipe.plan import make_plan
    from neuropipe.study import load_study

    inputs: dict[str, dict[str, list[str]]] = {}
    rules: dict[str, str] = {}
    for job in make_plan(load_study(folder)).values():
        named = dict(job.wildcards)
        rule = f"{job.rule}_{named['analysis']}" if "analysis" in named else job.rule
        free = [name for name in named if name != "analysis"]
        key = " ".join(str(named[name]) for name in free)
        inputs.setdefault(rule, {})[key] = list(job.inputs)
        if rule not in rules:
            outputs = [pattern(path, named) for path in job.outputs]
            values = "+ ' ' + ".join(f"w.{name}" for name in free) or "''"
            rules[rule] = (
                f"rule {rule}:\n    input: lambda w: INPUTS[{rule!r}][{values}]\n"
                f"    output: {', '.join(map(repr, outputs))}\n    shell: 'true'\n"
            )
    (folder / "inputs.json").write_text(json.dumps(inputs))
    constraints = (ROOT / "workflow" / "rules" / "common.smk").read_text()
    block = constraints[constraints.index("wildcard_constraints:") :].partition("\n\n")[0]
    head = f"import json\nINPUTS = json.load(open('inputs.json'))\n{block}\n    number='x'\n"
    final = "rule all:\n    default_target: True\n    input: 'report/index.html'\n"
    path = folder / "Snakefile.empty"
    path.write_text(head + final + "\n".join(rules.values()))
    return path


def touch_outputs(folder: Path) -> Iterator[str]:
    """Make every product of the study, empty; yield what was made."""
    from neuropipe.plan import make_plan
    from neuropipe.study import load_study

    for job in make_plan(load_study(folder)).values():
        for path in job.outputs:
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.suffix == ".zarr" or job.rule == "recording_figures":
                target.mkdir(exist_ok=True)
            else:
                target.touch()
            yield path


def snakemake(snakefile: Path, *words: str) -> list[str]:
    """Return the command that `neuropipe run` gives."""
    return [
        sys.executable, "-m", "snakemake", "--snakefile", str(snakefile), "--cores", "1", *words,
    ]  # fmt: skip


def plan_cost(folder: Path) -> Cost:
    """Return what loading the study and making its plan needs, fingerprints included."""
    code = (
        "import time; begin = time.process_time()\n"
        "from neuropipe.workflow import Workflow\n"
        "from neuropipe.config.load import read_yaml\n"
        "from pathlib import Path\n"
        "flow = Workflow(read_yaml(Path('config/config.yaml')))\n"
        "for job in flow.plan.values(): job.fingerprint, job.settings_json\n"
        "print(len(flow.plan), time.process_time() - begin)"
    )
    return measure([sys.executable, "-c", code], folder)


def scale(count: int, only_dry: bool) -> None:
    """Print the costs of one size."""
    folder = Path(tempfile.mkdtemp(prefix="neuropipe-scale-"))
    try:
        make_study(folder / "study", count)
        _scale(folder / "study", count, only_dry)
    finally:
        shutil.rmtree(folder)


def _scale(folder: Path, count: int, only_dry: bool) -> None:
    dry = ("--dry-run", "--quiet=rules")
    ours = ROOT / "Snakefile"
    plan = plan_cost(folder)
    jobs = int(plan.text.split()[0])
    print(f"{count} recordings, {jobs} jobs; load {os.getloadavg()[0]:.1f}", flush=True)
    line("plan alone", plan)
    bound = measure(snakemake(write_empty(folder), *dry), folder)
    line("empty rules, dry run", bound)
    line("ours, dry run", measure(snakemake(ours, *dry), folder), bound)
    if only_dry:
        return
    files = sum(1 for _ in touch_outputs(folder))
    print(f"  {files} products", flush=True)
    line("empty rules, --touch", measure(snakemake(folder / "Snakefile.empty", "--touch"), folder))
    bound = measure(snakemake(folder / "Snakefile.empty", *dry), folder)
    line("empty rules, nothing to do", bound)
    shutil.rmtree(folder / ".snakemake")
    line("ours, --touch", measure(snakemake(ours, "--touch", "--quiet=rules"), folder))
    line("ours, nothing to do", done := measure(snakemake(ours, *dry), folder), bound)
    if "Nothing to be done" not in done.text:
        print(done.text[-2000:])


def line(name: str, cost: Cost, bound: Cost | None = None) -> None:
    """Print one line."""
    ratio = f"  {cost.cpu_s / bound.cpu_s:.2f} x empty" if bound else ""
    print(f"  {name:28s} {cost.cpu_s:7.2f} s CPU {cost.peak_mb:7.0f} MB{ratio}", flush=True)


def start() -> None:
    """Print what commands need before they do anything, least of five."""
    folder = Path(tempfile.gettempdir())
    bare = min(measure([sys.executable, "-c", ""], folder).cpu_s for _ in range(5))
    print(f"{'python':24s} {bare:.3f} s CPU")
    for words in COMMANDS:
        command = [sys.executable, "-m", "neuropipe", *words.split()]
        used = min(measure(command, folder).cpu_s for _ in range(5))
        print(f"neuropipe {words:14s} {used:.3f} s CPU")


def main() -> None:
    """Run what the arguments name."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("case", choices=["start", "scale"])
    parser.add_argument("counts", nargs="*", type=int, default=[100], help="recordings")
    parser.add_argument("--only-dry", action="store_true", help="leave out that all is done")
    given = parser.parse_args()
    begin = time.monotonic()
    if given.case == "start":
        start()
    else:
        for count in given.counts:
            scale(count, given.only_dry)
    print(f"{time.monotonic() - begin:.0f} s in all")


if __name__ == "__main__":
    main()
