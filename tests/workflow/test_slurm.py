"""The same study through Slurm: equal to the local run, whatever strikes its jobs.

`tools/slurm-test-cluster up` makes a cluster of one machine; without one these tests are skipped.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from neuropipe.cli.slurm import Partition, request_issues
from neuropipe.plan import make_plan
from neuropipe.study import load_study

SHIPPED = Path(__file__).resolve().parents[2] / "profiles" / "slurm"
WAITS = {
    "latency-wait": 10,
    "slurm-init-seconds-before-status-checks": 1,
    "seconds-between-status-checks": 1,
}
PATIENCE_S = 900  # a minute on an idle machine


on_cluster = pytest.mark.skipif(
    shutil.which("sbatch") is None, reason="no Slurm here: tools/slurm-test-cluster up"
)


@pytest.fixture
def profile(tmp_path):
    """Return the shipped profile with waits that suit jobs of seconds."""
    ping = subprocess.run(["scontrol", "ping"], capture_output=True, text=True, check=False)
    assert "is UP" in ping.stdout, "sbatch is here, no controller: tools/slurm-test-cluster up"
    folder = tmp_path / "profile"
    folder.mkdir()
    keys = yaml.safe_load((SHIPPED / "config.yaml").read_text()) | WAITS
    (folder / "config.yaml").write_text(yaml.safe_dump(keys))
    return folder


@pytest.fixture
def small(fresh):
    """Return a study of one recording: a staged analysis, and two that ask for another attempt.

    One job of theirs refuses less than 600 MB where 500 are asked for, one never ends in less than
    two minutes where one is.
    """
    table = fresh.path / "config" / "recordings.tsv"
    head, first, *_ = table.read_text().splitlines(keepends=True)
    table.write_text(head + first)
    alone = {"scope": "recording", "align": "single"}
    raw = yaml.safe_load((fresh.path / "config" / "config.yaml").read_text())
    others = [name for name in raw["ingest"]["overrides"] if not name.startswith("sub-w01")]
    for name in others:
        del raw["ingest"]["overrides"][name]
    raw["analyses"]["ntf"]["input"] = alone
    raw["analyses"]["needs_memory"] = {"use": "toy", "need_mb": 600, "input": alone}
    raw["analyses"]["needs_time"] = {"use": "toy", "need_minutes": 2, "input": alone}
    (fresh.path / "config" / "config.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    return fresh


@pytest.fixture
def start(small, profile):
    """Return a function that starts a run through Slurm; nothing of it outlives the test."""
    processes = []

    def run():
        process = subprocess.Popen(
            [sys.executable, "-m", "neuropipe", "run", "--profile", str(profile)],
            cwd=small.path, env=small.environment(),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        processes.append(process)
        return process

    yield run
    for process in processes:
        kill(process)
    if jobs := queued(small):
        subprocess.run(["scancel", *jobs], check=False)


def kill(process):
    """End a process and those that it started, with SIGKILL."""
    if process.poll() is None:
        for member in [*psutil.Process(process.pid).children(recursive=True), process]:
            member.kill()
        process.communicate()


def queued(study):
    """Return Slurm's job number -> state and rule of the jobs of a study that have not ended."""
    lines = subprocess.run(
        ["squeue", "-h", "-t", "PENDING,RUNNING,SUSPENDED,COMPLETING", "-o", "%i|%t|%Z|%k"],
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    jobs = [line.split("|", 3) for line in lines]
    return {job: (state, rule) for job, state, at, rule in jobs if at == str(study.path)}


def wait_until(found, process=None):
    limit = time.monotonic() + PATIENCE_S
    while not (value := found()):
        assert process is None or process.poll() is None, process.stdout.read()
        assert time.monotonic() < limit
        time.sleep(0.3)
    return value


def running(study, rule):
    jobs = queued(study).items()
    return next((job for job, (state, text) in jobs if state == "R" and rule in text), None)


def interrupt(study, process):
    """Press Ctrl-C while a job runs: the jobs in the queue go with the run."""
    wait_until(lambda: running(study, "ingest_recording"), process)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, out
    wait_until(lambda: not queued(study))


def kill_and_unlock(study, process, profile):
    """Kill the run: its job lives on, the lock stays, and the commands say what to do."""
    number = wait_until(lambda: running(study, "_recording"), process)
    # However slow this machine is, the job is there when it is looked for.
    subprocess.run(["scontrol", "suspend", number], check=True)
    kill(process)
    refused = study.neuropipe("run", "--profile", str(profile))
    assert refused.code == 2
    assert "neuropipe unlock" in refused.out
    refused = study.neuropipe("unlock")
    assert refused.code == 2
    cancel = refused.out.strip().rpartition(": ")[2].split()
    assert number in cancel
    subprocess.run(cancel, check=True)
    wait_until(lambda: not queued(study))
    assert study.neuropipe("unlock").code == 0


@pytest.mark.slurm
@on_cluster
def test_whatever_strikes_a_run_it_ends_in_the_hashes_of_the_local_run(
    small, start, profile, tmp_path
):
    local = type(small)(Path(shutil.copytree(small.path, tmp_path / "local")))
    assert local.neuropipe("run").code == 0
    interrupt(small, start())
    kill_and_unlock(small, start(), profile)
    process = start()
    number = wait_until(lambda: running(small, "ntf_affinity"), process)
    subprocess.run(["scancel", number], check=True)
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, out
    # One attempt was cancelled, one lacked memory, one ran out of time.
    log = (small.path / "logs" / "snakemake.log").read_text()
    assert log.count("Trying to restart") >= 3
    assert small.hashes() == local.hashes()
    assert list(small.path.rglob("*.partial-*")) == []
    assert small.would_run() == set()


def test_a_request_that_no_node_can_serve_is_told_before_the_run(template):
    plan = make_plan(load_study(template))
    roomy = Partition("long", cpus=64, mem_mb=256_000, minutes=float("inf"), default=True)
    assert request_issues(plan, SHIPPED, [roomy]) == []
    small = Partition("debug", cpus=2, mem_mb=1200, minutes=20.0, default=True)
    issues = request_issues(plan, SHIPPED, [small])
    assert {issue.code for issue in issues} == {"REQUEST_TOO_LARGE"}
    by_rule = {issue.path: issue.message for issue in issues}
    assert "MB of memory, the partition debug offers 1200" in by_rule["ntf_fit"]
    wanted = next(job.resources.minutes for job in plan.values() if job.rule == "ntf_fit")
    assert wanted > 20
    assert f"{wanted} minutes, the partition debug offers 20" in by_rule["ntf_fit"]
    (issue,) = request_issues(plan, SHIPPED, [Partition("a", 2, 9000, 60.0, default=False)])
    assert issue.code == "PARTITION"


def test_overrides_of_the_profile_count(template, tmp_path):
    plan = make_plan(load_study(template))
    keys = yaml.safe_load((SHIPPED / "config.yaml").read_text())
    keys["set-resources"] = {"ntf_fit": {"mem_mb": 900_000}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(keys))
    roomy = Partition("long", cpus=64, mem_mb=256_000, minutes=float("inf"), default=True)
    (issue,) = request_issues(plan, tmp_path, [roomy])
    assert (issue.path, issue.code) == ("ntf_fit", "REQUEST_TOO_LARGE")
    assert "900000 MB" in issue.message


def test_a_profile_that_is_not_there_is_named(fresh):
    answer = fresh.neuropipe("run", "-n", "--profile", "slrum")
    assert answer.code == 2
    assert "--profile slrum: no such folder or profile. Shipped: default, slurm" in answer.out
