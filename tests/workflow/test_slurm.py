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
import xarray as xr
import yaml

import neuropipe
from neuropipe.cli.slurm import Partition, request_issues
from neuropipe.plan import make_plan
from neuropipe.study import load_study

SHIPPED = Path(__file__).resolve().parents[2] / "profiles" / "slurm"
WAITS = {
    "latency-wait": 10,
    "slurm-init-seconds-before-status-checks": 1,
    "seconds-between-status-checks": 1,
}


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


def start(study, profile):
    return subprocess.Popen(
        [sys.executable, "-m", "neuropipe", "run", "--profile", str(profile)],
        cwd=study.path, env=study.environment(),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def queued(study):
    """Return Slurm's job number -> state and rule of the jobs of a study that wait or run."""
    lines = subprocess.run(
        ["squeue", "-h", "-t", "PENDING,RUNNING,COMPLETING", "-o", "%i|%t|%Z|%k"],
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    jobs = [line.split("|", 3) for line in lines]
    return {job: (state, rule) for job, state, at, rule in jobs if at == str(study.path)}


def wait_until(found, process, limit_s=240):
    limit = time.monotonic() + limit_s
    while not (value := found()):
        assert process is None or process.poll() is None, process.stdout.read()
        assert time.monotonic() < limit
        time.sleep(0.2)
    return value


def running(study, rule):
    jobs = queued(study).items()
    return next((job for job, (state, text) in jobs if state == "R" and rule in text), None)


@pytest.mark.slurm
@on_cluster
def test_cancelled_killed_and_resumed_it_ends_in_the_hashes_of_the_local_run(
    fresh, finished, profile
):
    # Ctrl-C: the jobs in the queue go with the run.
    process = start(fresh, profile)
    wait_until(lambda: running(fresh, "ingest_recording"), process)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 130, out
    wait_until(lambda: not queued(fresh), None)
    # SIGKILL: the jobs live on, the lock stays, and the next run says what to do.
    process = start(fresh, profile)
    wait_until(lambda: running(fresh, "_recording"), process)
    for member in [*psutil.Process(process.pid).children(recursive=True), process]:
        member.kill()
    process.communicate()
    refused = fresh.neuropipe("run", "--profile", str(profile))
    assert refused.code == 2
    assert "neuropipe unlock" in refused.out
    refused = fresh.neuropipe("unlock")
    assert refused.code == 2
    subprocess.run(refused.out.strip().rpartition(": ")[2].split(), check=True)
    wait_until(lambda: not queued(fresh), None)
    assert fresh.neuropipe("unlock").code == 0
    # scancel of one job: it is tried again.
    process = start(fresh, profile)
    number = wait_until(lambda: running(fresh, "ntf_affinity"), process)
    subprocess.run(["scancel", number], check=True)
    out, _ = process.communicate(timeout=400)
    assert process.returncode == 0, out
    log = (fresh.path / "logs" / "snakemake.log").read_text()
    assert "Trying to restart" in log
    assert fresh.hashes() == type(fresh)(finished).hashes()
    assert list(fresh.path.rglob("*.partial-*")) == []


@pytest.mark.slurm
@on_cluster
def test_more_memory_and_more_time_are_given_to_the_next_attempt(study, profile):
    """One job refuses less than 600 MB where 500 are asked for; one outlasts its minute."""
    toys = {
        "toy_memory": {"use": "toy", "need_mb": 600, "input": toy_input("w01")},
        "toy_time": {"use": "toy", "first_s": 100, "input": toy_input("w02")},
        "toy": {"input": toy_input("w01")},
    }
    study.edit(analyses=toys)
    process = start(study, profile)
    out, _ = process.communicate(timeout=580)
    assert process.returncode == 0, out
    log = (study.path / "logs" / "snakemake.log").read_text()
    assert log.count("Trying to restart") >= 2
    values = [
        neuropipe.open_result("sub-w01_calcium", label, study=study.path)["mean_activity"]
        for label in ("toy", "toy_memory")
    ]
    xr.testing.assert_equal(*values)
    assert (study.path / "results/sub-w02_calcium/toy_time/result.nc").exists()
    assert study.would_run() == set()


def toy_input(subject):
    return {"scope": "recording", "align": "single", "recordings": {"subject": subject}}


def test_a_request_that_no_node_can_serve_is_told_before_the_run(template):
    plan = make_plan(load_study(template))
    roomy = Partition("long", cpus=64, mem_mb=256_000, minutes=float("inf"), default=True)
    assert request_issues(plan, SHIPPED, [roomy]) == []
    small = Partition("debug", cpus=2, mem_mb=1200, minutes=20.0, default=True)
    issues = request_issues(plan, SHIPPED, [small])
    assert {issue.code for issue in issues} == {"REQUEST_TOO_LARGE"}
    by_rule = {issue.path: issue.message for issue in issues}
    assert "MB of memory, the partition debug offers 1200" in by_rule["ntf_fit"]
    assert "60 minutes, the partition debug offers 20" in by_rule["ntf_fit"]
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
