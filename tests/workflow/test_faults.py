"""Kills, full and read-only disks, damaged files, wrong clocks: nothing wrong is ever final."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml
from tests.workflow.faults import (
    Worker,
    assert_whole,
    can_mount,
    leave_free,
    leftovers,
    outputs_of_jobs,
    products,
    read_only,
    size_of,
    small_disk,
)

from neuropipe.plan import make_plan
from neuropipe.study import load_study

pytestmark = pytest.mark.workflow

TOY = {
    "use": "toy",
    "input": {"scope": "recording", "align": "single", "recordings": {"subject": "w01"}},
}
INGEST = "ingest_recording/sub-w02/calcium/sub-w02_calcium"
PREPROCESS = "preprocess_recording/sub-w02_calcium"
ASSEMBLE = "analysis_assemble/cohort-worm_ntf"
RESULT = "ntf_communities/cohort-worm_ntf"
FIGURES = "analysis_figures_toy/sub-w01_calcium_toy"
QUALITY = "recording_figures/sub-w02_calcium"
REPORT = "report_page/all"
FINAL = [RESULT, FIGURES, "analysis_table/toy"]
STORE = "stores/sub-w02/calcium/sub-w02_calcium.zarr"


@pytest.fixture(scope="session")
def small(template, tmp_path_factory):
    """Return a study of three recordings and two analyses of which nothing has run; read only."""
    folder = shutil.copytree(template, tmp_path_factory.mktemp("faults") / "small")
    file = folder / "config" / "config.yaml"
    raw = yaml.safe_load(file.read_text())
    raw["analyses"]["toy"] = TOY
    file.write_text(yaml.safe_dump(raw, sort_keys=False))
    return folder


@pytest.fixture(scope="session")
def worker(small, study_at, tmp_path_factory):
    """Return the process that runs steps."""
    found = Worker(study_at(small).environment(), tmp_path_factory.mktemp("worker") / "log")
    yield found
    found.close()


@pytest.fixture(scope="session")
def made(small, worker, study_at):
    """Return the folder of the same study after an undisturbed run, parts kept; read only."""
    folder = small.with_name("made")
    shutil.copytree(small, folder)
    code, log = worker.run(folder, up_to=FINAL)
    assert code == 0, log
    assert_whole(folder)
    return folder


@pytest.fixture
def study(made, tmp_path, study_at):
    """Return a copy of the finished study."""
    return study_at(Path(shutil.copytree(made, tmp_path / "study", symlinks=True)))


@pytest.fixture(scope="session")
def outputs(made, study_at):
    """Return job -> its products, as paths in the study folder."""
    return outputs_of_jobs(made, study_at(made).environment())


def test_a_worker_killed_at_twenty_moments_leaves_nothing_half_made(
    small, made, worker, study_at, tmp_path
):
    draw, kills = random.Random(20240501), 0
    study = study_at(Path(shutil.copytree(small, tmp_path / "0")))
    while kills < 20:
        ended = worker.run_and_kill(study.path, draw.uniform(0.05, 1.6), up_to=FINAL)
        assert_whole(study.path)
        if not ended:
            kills += 1
            continue
        assert study.hashes() == study_at(made).hashes()
        study = study_at(Path(shutil.copytree(small, tmp_path / str(kills))))
    code, log = worker.run(study.path, up_to=FINAL)
    assert code == 0, log
    assert_whole(study.path)
    assert study.hashes() == study_at(made).hashes()
    assert leftovers(study.path) == []


STEPS = [INGEST, PREPROCESS, ASSEMBLE, RESULT, FIGURES, QUALITY, REPORT]


def check_refusal(code, log, folder, made, before, job):
    """Check that a step that could not write says so and leaves nothing half-made."""
    assert code == 2, log
    assert "Traceback" not in log
    assert "failed: NOT_WRITABLE: " in log
    assert ".partial-" not in log.splitlines()[-1]
    assert_whole(folder)
    assert leftovers(folder) == []
    new = {str(path.relative_to(folder)) for path in products(folder)} - before
    # Of a step with many files those that were whole may stay; its record, written last, may not.
    assert not any(path.endswith(("figures.json", "provenance.json", ".report.json"))
                   for path in new), new  # fmt: skip


def without(folder, outputs):
    """Remove the products of a job, as Snakemake does before it; return what is left."""
    for path in (folder / output for output in outputs):
        if path.is_dir():
            shutil.rmtree(path)
        elif path.suffix != ".html":  # an old page stays until the new one is whole
            path.unlink(missing_ok=True)
    return {str(path.relative_to(folder)) for path in products(folder)}


@pytest.mark.skipif(not can_mount(), reason="mounts a small disk: needs root")
@pytest.mark.parametrize("job", STEPS)
def test_a_full_disk_is_told_and_leaves_nothing_half_made(job, made, worker, outputs, tmp_path):
    paths = [made / path for path in outputs[job] if (made / path).exists()]
    needed = size_of(paths) if paths else 40_000
    with small_disk(tmp_path / "disk", 100) as disk:
        folder = Path(shutil.copytree(made, disk / "study", symlinks=True))
        before = without(folder, outputs[job])
        leave_free(disk, needed // 2)
        code, log = worker.run(folder, jobs=[job])
        check_refusal(code, log, folder, made, before, job)
        assert "No space left on device; free space there" in log


@pytest.mark.parametrize("job", STEPS)
def test_a_file_beyond_its_limit_is_told_and_leaves_nothing_half_made(
    job, study, made, worker, outputs
):
    paths = [made / path for path in outputs[job] if (made / path).exists()]
    files = [f for path in paths for f in ([path] if path.is_file() else path.rglob("*"))]
    largest = max((file.stat().st_size for file in files), default=8_000)
    before = without(study.path, outputs[job])
    code, log = worker.run(study.path, jobs=[job], max_bytes=largest // 2)
    check_refusal(code, log, study.path, made, before, job)
    assert "File too large; free space there" in log


def test_a_read_only_folder_is_told_and_what_it_holds_stays(study, worker):
    before = study.hashes()
    with read_only(study.path / "preprocessed"):
        code, log = worker.run(study.path, jobs=[PREPROCESS])
    assert code == 2
    assert "failed: NOT_WRITABLE: preprocessed/sub-w02_calcium.zarr" in log
    assert "check the rights of the folder" in log
    assert_whole(study.path)
    assert study.hashes() == before
    assert leftovers(study.path) == []


def test_a_read_only_study_refuses_a_run_and_shows_its_state(study):
    with read_only(study.path):
        answer = study.neuropipe("run")
        assert answer.code == 2
        assert "NOT_WRITABLE" in answer.out
        assert "Traceback" not in answer.out
        assert study.neuropipe("status").code == 0


def flip(path, at=0.5):
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[int(at * len(content))] ^= 4
    path.write_bytes(bytes(content))


DAMAGE = {
    "bit": flip,
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "empty": lambda path: path.write_bytes(b""),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize(
    ("chunk", "job", "made_anew"),
    [
        (f"{STORE}/raw/dff/c/0/0", PREPROCESS, "preprocessed/sub-w02_calcium.json"),
        ("preprocessed/sub-w02_calcium.zarr/activity/c/0/0", ASSEMBLE, "inputs/cohort-worm/ntf.nc"),
    ],
)
def test_a_damaged_chunk_is_named_with_its_remedy(how, chunk, job, made_anew, study, worker):
    DAMAGE[how](study.path / chunk)
    (study.path / made_anew).unlink()
    code, log = worker.run(study.path, jobs=[job])
    assert code == 2, log
    last = log.splitlines()[-1]
    assert chunk in last
    assert ("the chunk is missing" if how == "gone" else "the chunk is damaged") in last
    store = chunk.partition(".zarr")[0] + ".zarr"
    assert f"remove the store {store} and run again" in last
    assert not (study.path / made_anew).exists()


@pytest.mark.parametrize("how", ["bit", "cut", "empty"])
def test_a_damaged_result_is_named_with_its_remedy(how, study, worker):
    result = study.path / "results" / "sub-w01_calcium" / "toy" / "result.nc"
    DAMAGE[how](result)
    record = result.with_name("figures.json")
    record.unlink()
    code, log = worker.run(study.path, jobs=[FIGURES])
    assert code == 2, log
    assert "results/sub-w01_calcium/toy/result.nc" in log.splitlines()[-1]
    assert "remove it and run again" in log.splitlines()[-1]
    assert not record.exists()
    if how != "bit":
        shown = study.neuropipe("status", "--jobs").out
        assert (
            "stale: sub-w01_calcium toy: results/sub-w01_calcium/toy/result.nc is damaged" in shown
        )


@pytest.mark.parametrize("at", [k / 10 for k in range(10)])
def test_a_result_with_a_changed_bit_is_refused_or_holds_what_was_written(at, made, tmp_path):
    from neuropipe.errors import DataError
    from neuropipe.store.provenance import read_dataset

    whole = made / "inputs" / "cohort-worm" / "ntf.nc"
    path = tmp_path / "ntf.nc"
    shutil.copy(whole, path)
    flip(path, at)
    try:
        found = read_dataset(path)
    except DataError as error:
        assert str(path) in str(error)
    else:  # a bit of what the file does not need, or of an attribute
        assert found.drop_attrs().identical(read_dataset(whole).drop_attrs())


DAY = 86_400


def shift(paths, seconds):
    """Move the dates of files by so much, their order kept."""
    for path in paths:
        facts = path.stat()
        os.utime(path, (facts.st_atime, facts.st_mtime + seconds))


def nothing_to_do(study, *words):
    answer = study.snakemake("--dry-run", *words)
    return answer.code == 0 and "Nothing to be done" in answer.out


@pytest.fixture
def finished_study(finished, tmp_path, study_at):
    """Return a copy of a study that Snakemake finished, file times kept."""
    return study_at(Path(shutil.copytree(finished, tmp_path / "study", symlinks=True)))


def test_a_source_from_the_future_is_ingested_once(finished_study):
    source = finished_study.path / "raw" / "w02.h5"
    content = bytearray(source.read_bytes())
    source.write_bytes(bytes(content) + b"\0" * 8)
    shift([source], 2 * DAY)
    assert "source raw/w02.h5 changed" in finished_study.neuropipe("status").out
    answer = finished_study.neuropipe("run", "stores")
    assert answer.code == 0, answer.out
    assert "done: ingest_recording/sub-w02/calcium/sub-w02_calcium" in answer.out
    assert nothing_to_do(finished_study, "stores")


def test_a_source_replaced_by_an_older_one_of_the_same_size_is_ingested_again(finished_study):
    source = finished_study.path / "raw" / "w02-names.csv"
    date = source.stat().st_mtime
    source.write_text(source.read_text().replace("AVAL", "AVAR"))
    os.utime(source, (date - 400 * DAY,) * 2)
    assert "ingest_recording" in finished_study.would_run()
    assert "source raw/w02-names.csv changed" in finished_study.neuropipe("status").out


def test_products_from_the_future_run_nothing_again(finished_study):
    made = [path for name in ("stores", "preprocessed", "inputs", "results", "report", "benchmarks")
            for path in (finished_study.path / name).rglob("*")]  # fmt: skip
    shift(made, 3 * DAY)
    answer = finished_study.neuropipe("run")
    assert answer.code == 0, answer.out
    assert "were dated in the future" in answer.out
    assert "Nothing to be done" in answer.out
    now = time.time()
    jobs = make_plan(load_study(finished_study.path)).values()
    outputs = [finished_study.path / path for job in jobs for path in job.outputs]
    assert all(path.stat().st_mtime < now for path in outputs if path.exists())
    finished_study.edit(preprocess={"calcium": {"normalise": "robust"}})
    assert "preprocess_recording" in finished_study.would_run()


def test_a_sidecar_that_is_added_or_taken_away_is_told(finished_study):
    beside = finished_study.path / "raw" / "w02.json"
    beside.write_text("{}")
    assert "ingest_recording" in finished_study.would_run()
    assert "source raw/w02.json is new" in finished_study.neuropipe("status").out
    beside.unlink()
    assert finished_study.would_run() == set()
    (finished_study.path / "raw" / "w02-names.csv").unlink()
    assert "source raw/w02-names.csv is gone" in finished_study.neuropipe("status").out


def test_of_two_runs_that_start_at_once_one_is_refused_and_names_the_other(fresh):
    command = [sys.executable, "-m", "neuropipe", "run", "validate"]
    runs = [
        subprocess.Popen(
            command, cwd=fresh.path, env=fresh.environment(), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for _ in range(2)
    ]  # fmt: skip
    texts = [run.communicate(timeout=300)[0] for run in runs]
    codes = [run.returncode for run in runs]
    assert sorted(codes) == [0, 2], texts
    refused = texts[codes.index(2)]
    assert "a run is active here (process " in refused
    assert "neuropipe status" in refused
    assert not (fresh.path / ".snakemake" / "neuropipe-run.json").exists()


def test_a_killed_step_fails_alone_and_is_made_by_the_next_run(fresh):
    run = subprocess.Popen(
        [sys.executable, "-m", "neuropipe", "run", "stores", "--cores", "1"], cwd=fresh.path,
        env=fresh.environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    name = kill_a_step(psutil.Process(run.pid), "sub-w02_calcium.zarr")
    out, _ = run.communicate(timeout=300)
    assert run.returncode == 1
    assert_whole(fresh.path)
    assert not (fresh.path / STORE).exists()
    shown = fresh.neuropipe("status").out
    assert "failed: sub-w02_calcium ingest: interrupted before its end (log: logs/" in shown
    assert (fresh.path / "stores/sub-w03/calcium/sub-w03_calcium.report.json").exists(), (name, out)
    answer = fresh.neuropipe("run", "stores")
    assert answer.code == 0, answer.out
    assert_whole(fresh.path)
    assert leftovers(fresh.path) == []


def kill_a_step(run, output):
    """Kill the first step that writes a product, once it has begun; return its command."""
    limit = time.monotonic() + 200
    while time.monotonic() < limit and run.is_running():
        for child in run.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                words = child.cmdline()
                writes = any(word.endswith(output) for word in words)
                if "ingest" in words and writes and sum(child.cpu_times()[:2]) > 1:
                    child.kill()
                    return words
        time.sleep(0.02)
    raise AssertionError("no step was seen")


@pytest.mark.many
def test_one_recording_that_fails_among_fifty_leaves_forty_nine(fresh):
    table = fresh.path / "config" / "recordings.tsv"
    header = table.read_text().splitlines()[0].split("\t")
    rows = []
    for k in range(50):
        source = fresh.path / "raw" / f"n{k:02d}.nwb"
        shutil.copy(fresh.path / "raw" / "w01.nwb", source)
        row = {"subject": f"n{k:02d}", "modality": "calcium", "path": f"raw/{source.name}"}
        rows.append("\t".join(row.get(column, "") for column in header))
    broken = fresh.path / "raw" / "n17.nwb"
    broken.write_bytes(broken.read_bytes()[:5000])
    table.write_text("\n".join(["\t".join(header), *rows]) + "\n")
    config = fresh.path / "config" / "config.yaml"
    raw = yaml.safe_load(config.read_text())
    raw["analyses"], raw["ingest"] = {}, {}
    config.write_text(yaml.safe_dump(raw, sort_keys=False))
    command = [sys.executable, "-m", "neuropipe", "run", "stores/dataset.json"]
    run = subprocess.run(
        command, cwd=fresh.path, env=fresh.environment(), text=True, check=False, timeout=3000,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert run.returncode == 1, run.stdout
    assert len(list(fresh.path.glob("stores/*/calcium/*.report.json"))) == 49
    assert "sub-n17_calcium: TRUNCATED" in run.stdout
    page = (fresh.path / "report" / "index.html").read_text()
    assert "sub-n17_calcium, ingest" in page
    assert "TRUNCATED" in page
    assert_whole(fresh.path)
