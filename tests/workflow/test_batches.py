"""Many short recordings on a cluster: jobs of one kind go together, long ones alone."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

from neuropipe.analyses.registry import analyses

ROOT = Path(__file__).resolve().parents[2]
PROFILES = ROOT / "profiles"
RECORDINGS, BATCH = 25, 20
GROUP = re.compile(r"Group job (\w+) \(")


@pytest.fixture
def many(tmp_path, study_at):
    """Return a study of 25 recordings of spikes for one analysis."""
    (tmp_path / "config").mkdir()
    (tmp_path / "raw").mkdir()
    rows = ["subject\tmodality\tpath"]
    for index in range(RECORDINGS):
        (tmp_path / "raw" / f"{index}.nwb").touch()
        rows.append(f"{index:02d}\tspikes\traw/{index}.nwb")
    (tmp_path / "config" / "recordings.tsv").write_text("\n".join(rows) + "\n")
    config = {"study": "many", "analyses": {"bicluster": {"mcmc": {"chains": 2}}}}
    (tmp_path / "config" / "config.yaml").write_text(yaml.safe_dump(config))
    return study_at(tmp_path)


def keys(name):
    return yaml.safe_load((PROFILES / name / "config.yaml").read_text())


@pytest.mark.workflow
def test_short_jobs_go_together_and_long_ones_alone(many):
    pytest.importorskip("snakemake_executor_plugin_slurm")
    profile = ["--workflow-profile", str(PROFILES / "slurm-batched")]
    answer = many.snakemake(*profile, "--slurm-status-command", "squeue", "--dry-run")
    assert answer.code == 0, answer.out
    batches = -(-RECORDINGS // BATCH)
    kinds = ("ingest", "quality", "assemble", "figures")
    assert Counter(GROUP.findall(answer.out)) == dict.fromkeys(kinds, batches)
    # Outside of a batch a rule is not indented.
    alone = Counter(re.findall(r"^rule (\w+):", answer.out, re.MULTILINE))
    assert alone["bicluster_chain"] == 2 * RECORDINGS
    assert alone["bicluster_summary"] == RECORDINGS
    assert "ingest_recording" not in alone


def test_only_short_rules_are_batched_and_all_of_every_analysis():
    rules = {entry.partition("=")[0] for entry in keys("slurm-batched")["groups"]}
    assert {rule for rule in rules if "figures" in rule} == {
        "recording_figures", *(f"analysis_figures_{name}" for name in analyses() if name != "toy"),
    }  # fmt: skip
    stages = {f"{a.name}_{stage}" for a in analyses().values() for stage in a.stages}
    assert rules.isdisjoint(stages)


def test_a_batch_is_capped_and_otherwise_the_profile_is_that_of_slurm():
    plain, batched = keys("slurm"), keys("slurm-batched")
    assert batched.pop("cores") > 0
    sizes = {entry.partition("=")[2] for entry in batched.pop("group-components")}
    assert sizes == {str(BATCH)}
    batched.pop("groups")
    assert batched == plain
