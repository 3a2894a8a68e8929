"""The plan, the rules and the steps say the same."""

from __future__ import annotations

import shlex

import pytest

from neuropipe.errors import ConfigError
from neuropipe.plan import make_plan
from neuropipe.study import load_study

pytestmark = pytest.mark.workflow

GOLDEN = {
    "ingest_recording/sub-w01/calcium/sub-w01_calcium",
    "ingest_recording/sub-w02/calcium/sub-w02_calcium",
    "ingest_recording/sub-w03/calcium/sub-w03_calcium",
    "ingest_index/all",
    "preprocess_recording/sub-w01_calcium",
    "preprocess_recording/sub-w02_calcium",
    "preprocess_recording/sub-w03_calcium",
    "recording_figures/sub-w01_calcium",
    "recording_figures/sub-w02_calcium",
    "recording_figures/sub-w03_calcium",
    "analysis_assemble/cohort-worm_ntf",
    "ntf_affinity/cohort-worm_ntf",
    "ntf_rank/cohort-worm_ntf_rank-1",
    "ntf_rank/cohort-worm_ntf_rank-2",
    "ntf_fit/cohort-worm_ntf",
    "ntf_communities/cohort-worm_ntf",
    "analysis_figures_ntf/cohort-worm_ntf",
    "analysis_table/ntf",
    "report_page/all",
}


def test_jobs_of_the_demo(fresh):
    fresh.edit(analyses={"ntf": {"rank": [1, 2]}})
    assert set(make_plan(load_study(fresh.path))) == GOLDEN


def test_rules_run_exactly_the_planned_steps(fresh):
    fresh.edit(analyses={"ntf": {"rank": [1, 2]}})
    answer = fresh.snakemake("--dry-run", "--printshellcmds", "--quiet", "reason")
    assert answer.code == 0, answer.out
    found = set()
    for line in answer.out.splitlines():
        if "-m neuropipe step" in line:
            words = shlex.split(line.split("2>")[0])
            words = words[words.index("step") + 1 :]
            if "--threads" in words:
                at = words.index("--threads")
                del words[at : at + 2]
            found.add(tuple(sorted(words)))
    plan = make_plan(load_study(fresh.path))
    assert found == {tuple(sorted(job.arguments)) for job in plan.values()}


def test_producers_come_before_consumers(fresh):
    seen: set[str] = set()
    for job in make_plan(load_study(fresh.path)).values():
        made = {p for p in job.inputs if p.startswith(("stores/", "preprocessed/", "inputs/"))}
        assert made <= seen, job.name
        seen |= set(job.outputs)


def test_every_file_has_one_producer(fresh):
    plan = make_plan(load_study(fresh.path))
    outputs = [path for job in plan.values() for path in job.outputs]
    assert len(outputs) == len(set(outputs))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"analyses": {"ntf": {"rnak": 3}}}, "analyses.ntf.rnak: unknown key. Did you mean 'rank'"),
        ({"analyses": {"nft": {}}}, "Did you mean 'ntf'"),
        ({"analyses": {"ntf": {"input": {"scope": "session"}}}}, "not one of cohort, recording"),
        ({"analyses": {"ntf": {"input": {"recordings": {"modalty": "eeg"}}}}}, "'modality'"),
        ({"analyses": {"ntf": {"input": {"recordings": {"modality": "video"}}}}}, "does not take"),
        ({"ingest": {"readers": {"hfd5": {}}}}, "Did you mean 'hdf5'"),
        ({"ingest": {"overrides": {"sub-w4_calcium": {}}}}, "Did you mean 'sub-w0"),
        ({"analyses": {"Ntf": {"use": "ntf"}}}, "not a label"),
    ],
)
def test_a_fault_in_the_configuration_is_named_before_anything_runs(fresh, changes, message):
    fresh.edit(**changes)
    with pytest.raises(ConfigError) as caught:
        load_study(fresh.path)
    assert message in str(caught.value)
    assert "config/config.yaml" in str(caught.value)
    assert not (fresh.path / "stores").exists()
