"""A reader and an analysis of another package need no edit of ours; our rules can be reused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.workflow

SNAKEFILE = Path(__file__).resolve().parents[2] / "Snakefile"


def toy_study(fresh):
    values = np.random.default_rng(0).standard_normal((4, 80)).cumsum(axis=1)
    content = {"rate_hz": 4.0, "names": ["AVAL", "AVAR", "", "AIYL"], "traces": values.tolist()}
    (fresh.path / "raw" / "t01.toy").write_text(json.dumps(content))
    table = fresh.path / "config" / "recordings.tsv"
    table.write_text("subject\tmodality\tpath\nt01\tcalcium\traw/t01.toy\n")
    config = fresh.path / "config" / "config.yaml"
    config.write_text(
        "study: toys\ningest: {readers: {toy: {scale: 2.0}}}\n"
        "preprocess: {calcium: {resample: {dt_s: 0.25}}}\n"
        "analyses: {toy: {factor: 3.0, input: {scope: recording, align: single}}}\n"
    )
    return values


def test_the_toy_appears_everywhere(fresh):
    values = toy_study(fresh)
    listed = fresh.neuropipe("list").out
    assert "Mean activity" in listed
    assert "calcium: .toy" in listed
    assert "fresh/schema" in fresh.neuropipe("init", "schema/fresh/schema").out
    schema = json.loads(
        (fresh.path / "schema/fresh/schema/config/schema/config.schema.json").read_text()
    )
    assert schema["$defs"]["analysis_toy"]["properties"]["factor"]["default"] == 1.0
    answer = fresh.neuropipe("run")
    assert answer.code == 0, answer.out
    table = (fresh.path / "results/toy/table.tsv").read_text().splitlines()
    cells = dict(zip(table[0].split("\t"), table[1].split("\t"), strict=True))
    assert cells["collection"] == "sub-t01_calcium"
    # The grid is half open: the last sample of the source is not on it.
    assert float(cells["value"]) == pytest.approx(3.0 * 2.0 * values[:, :-1].mean(), rel=1e-9)
    page = (fresh.path / "report/index.html").read_text()
    assert "Mean activity" in page
    assert "4 rows, grand mean" in page
    assert "4 rows were taken (factor 3.0)" in page
    assert fresh.would_run() == set()


def test_a_dry_run_of_one_collection_with_another_setting_says_what_would_run(fresh):
    words = ["run", "-n", "--only", "sub-w01_calcium", "--set", "report.title=x"]
    answer = fresh.neuropipe(*words)
    assert answer.code == 0, answer.out
    assert "sub-w01_calcium ingest" in answer.out


def test_only_here_runs_the_steps_of_one_collection_and_prints_them(fresh):
    toy_study(fresh)
    answer = fresh.neuropipe("run", "--only", "sub-t01_calcium", "--here")
    assert answer.code == 0, answer.out
    assert "neuropipe step ingest --source raw/t01.toy" in answer.out
    assert "neuropipe step toy fit" in answer.out
    assert (fresh.path / "results/sub-t01_calcium/toy/figures.json").exists()
    again = fresh.neuropipe("run", "--only", "sub-t01_calcium", "--here")
    assert "Nothing to be done" in again.out
    wrong = fresh.neuropipe("run", "--only", "sub-t1_calcium", "--here")
    assert wrong.code == 2
    assert "Did you mean 'sub-t01_calcium'" in wrong.out


def test_the_workflow_is_usable_as_a_module(fresh):
    snakefile = fresh.path / "Snakefile"
    snakefile.write_text(
        'configfile: "config/config.yaml"\n'
        f"module neuropipe:\n    snakefile: {str(SNAKEFILE)!r}\n    config: config\n"
        "use rule * from neuropipe as np_*\n"
        "rule everything:\n    default_target: True\n    input: rules.np_all.input\n"
    )
    answer = fresh.snakemake("--snakefile", str(snakefile), "--dry-run", "--quiet", "reason")
    assert answer.code == 0, answer.out
    assert "rule np_ntf_fit:" in answer.out
