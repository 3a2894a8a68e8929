"""Bad input, failing jobs, kills: one message, nothing half-made, nothing lost."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import psutil
import pytest

pytestmark = pytest.mark.workflow


def leftovers(study):
    return [str(p) for p in study.path.rglob("*.partial-*")]


def test_a_truncated_recording_fails_alone(fresh):
    source = fresh.path / "raw" / "w02.h5"
    source.write_bytes(source.read_bytes()[:4000])
    (fresh.path / "raw" / "w03.h5").unlink()
    answer = fresh.neuropipe("run")
    assert answer.code == 1
    assert "TRUNCATED" in answer.out
    assert "raw/w03.h5" in answer.out
    assert (fresh.path / "preprocessed" / "sub-w01_calcium.json").exists()
    for name in ("w02", "w03"):
        folder = fresh.path / "stores" / f"sub-{name}" / "calcium"
        assert not folder.exists() or not any(folder.iterdir())
    assert leftovers(fresh) == []
    page = (fresh.path / "report" / "index.html").read_text()
    assert "TRUNCATED" in page
    status = fresh.neuropipe("status").out
    assert "failed: sub-w02_calcium ingest: TRUNCATED" in status
    assert "missing: cohort-worm ntf" in status


def test_a_step_by_hand_ends_with_2_and_one_message(fresh):
    (fresh.path / "raw" / "w02.h5").write_text("<!DOCTYPE html><html>not found</html>")
    answer = fresh.neuropipe(
        "step", "ingest", "--source", "raw/w02.h5", "--output", "stores/x.zarr", "--settings",
        '{"recording": {"name": "sub-w02_calcium", "subject": "w02", "modality": "calcium",'
        ' "path": "raw/w02.h5", "reader": "hdf5"}, "ingest": {}}',
    )  # fmt: skip
    assert answer.code == 2
    assert "Traceback" not in answer.out
    assert "NOT_THIS_FORMAT" in answer.out
    assert not (fresh.path / "stores" / "x.zarr").exists()


def test_an_analysis_that_raises_leaves_nothing_and_is_retried(study):
    study.edit(analyses={"toy": {"fail": True, "input": {"scope": "recording", "align": "single"}}})
    answer = study.neuropipe("run")
    assert answer.code == 1
    assert "TOY: asked to fail" in answer.out
    for name in ("w01", "w02", "w03"):
        folder = study.path / "results" / f"sub-{name}_calcium" / "toy"
        assert not (folder / "result.nc").exists()
        assert not (folder / "figures.json").exists()
    assert "failed: sub-w01_calcium toy: TOY: asked to fail" in study.neuropipe("status").out
    assert "TOY: asked to fail" in (study.path / "report" / "index.html").read_text()
    assert study.read("results/cohort-worm/ntf/provenance.json")
    assert "analysis_fit" in study.would_run()
    study.edit(analyses={"toy": {"fail": False}})
    answer = study.neuropipe("run")
    assert answer.code == 0, answer.out
    assert (study.path / "results" / "sub-w01_calcium" / "toy" / "result.nc").exists()
    assert "failed" not in study.neuropipe("status").out


def wait_for(path, process):
    limit = time.monotonic() + 300
    while not path.exists() and process.poll() is None:
        assert time.monotonic() < limit
        time.sleep(0.05)


def kill_all(process):
    """Kill a process and everything that it started, as a loss of power does."""
    family = psutil.Process(process.pid).children(recursive=True)
    for member in [psutil.Process(process.pid), *family]:
        member.kill()
    process.wait()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_stops_its_jobs_and_leaves_no_lock(fresh, stop):
    command = [sys.executable, "-m", "neuropipe", "run"]
    process = subprocess.Popen(
        command, cwd=fresh.path, env=fresh.environment(),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for(fresh.path / "logs" / "ingest_recording", process)
    for words in (["run"], ["unlock"], ["run", "--only", "sub-w01_calcium", "--here"]):
        refused = fresh.neuropipe(*words)
        assert refused.code == 2
        assert "a run is active here (process" in refused.out
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(stop)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "run again to resume" in err
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []
    assert leftovers(fresh) == []
    assert fresh.neuropipe("run", "stores").code == 0


@pytest.mark.parametrize("moment", ["stores/dataset.json", "work/cohort-worm/ntf/affinity"])
def test_a_killed_run_resumes_to_the_same_hashes(fresh, finished, moment):
    command = [sys.executable, "-m", "neuropipe", "run"]
    process = subprocess.Popen(
        command, cwd=fresh.path, env=fresh.environment(),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for(fresh.path / moment, process)
    kill_all(process)
    if any((fresh.path / ".snakemake" / "locks").iterdir()):
        refused = fresh.neuropipe("run")
        assert refused.code == 2
        assert "neuropipe unlock" in refused.out
        assert "running" not in fresh.neuropipe("status").out
    assert fresh.neuropipe("unlock").code == 0
    answer = fresh.neuropipe("run")
    assert answer.code == 0, answer.out
    assert fresh.hashes() == type(fresh)(finished).hashes()


def test_a_locked_study_says_how_to_unlock(study):
    locks = study.path / ".snakemake" / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    study.edit(analyses={"ntf": {"rank": 2}})
    (locks / "0.output.lock").write_text("report/index.html\n")
    answer = study.neuropipe("run")
    assert answer.code == 1
    assert "neuropipe unlock" in answer.out
    assert study.neuropipe("unlock").code == 0


def test_deleted_and_damaged_files_are_seen(study):
    nwb = study.path / "stores" / "sub-w02" / "calcium" / "sub-w02_calcium.nwb"
    nwb.unlink()
    assert "ingest_recording" in study.would_run()
    assert "missing: sub-w02_calcium ingest" in study.neuropipe("status").out
    result = study.path / "results" / "cohort-worm" / "ntf" / "result.nc"
    result.write_bytes(b"")
    assert "result.nc is damaged; remove it and run again" in study.neuropipe("status").out


def test_an_excluded_recording_holds_nothing_up(fresh):
    (fresh.path / "raw" / "w03.h5").unlink()
    table = fresh.path / "config" / "recordings.tsv"
    header, *rows = table.read_text().splitlines()
    flags = ["", "", "true"]
    lines = [f"{header}\texclude", *[f"{r}\t{f}" for r, f in zip(rows, flags, strict=True)]]
    table.write_text("\n".join(lines) + "\n")
    answer = fresh.neuropipe("run")
    assert answer.code == 0, answer.out
    record = fresh.read("results/cohort-worm/ntf/provenance.json")
    assert "preprocessed/sub-w03_calcium.json" not in record["assembled_from"]


def test_a_label_is_a_target(study):
    study.edit(analyses={"twin": {"use": "ntf", "rank": 2, "restarts": 1, "max_iter": 5}})
    answer = study.neuropipe("run", "twin")
    assert answer.code == 0, answer.out
    assert (study.path / "results" / "cohort-worm" / "twin" / "figures.json").exists()


def test_a_wrong_target_is_answered_with_the_closest(study):
    answer = study.neuropipe("run", "reprot")
    assert answer.code == 2
    assert "Did you mean 'report'" in answer.out
    assert study.neuropipe("run", "--cores", "none").code == 2
