"""What a change reruns, and what it leaves alone."""

from __future__ import annotations

import os
import re

import pytest
import yaml

pytestmark = pytest.mark.workflow

NTF = {"ntf_affinity", "ntf_fit", "ntf_communities", "analysis_figures_ntf", "analysis_table"}


def edit_source(study, module, old, new):
    path = study.package / "src" / "neuropipe" / module
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_finished_study_has_nothing_to_do_also_when_moved(study, monkeypatch):
    for seed in ("1", "2"):
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        assert study.would_run() == set()
    answer = study.neuropipe("run")
    assert answer.code == 0
    assert "Nothing to be done" in answer.out
    assert "stale" not in study.neuropipe("status").out


def test_a_changed_rank_reruns_ntf_only_and_status_says_why(study):
    study.edit(analyses={"ntf": {"rank": 2}})
    assert study.would_run() == (NTF | {"report_page"})
    out = study.neuropipe("status").out
    assert re.search(r"stale: cohort-worm ntf: .*rank: 3 -> 2", out), out
    assert "rank: 3 -> 2" in study.neuropipe("run", "-n").out


def test_a_changed_preprocessing_key_reruns_preprocessing_and_what_follows(study):
    study.edit(preprocess={"calcium": {"normalise": "robust"}})
    rules = study.would_run()
    assert "preprocess_recording" in rules
    assert rules >= NTF
    assert not any(rule.startswith("ingest") for rule in rules)
    out = study.neuropipe("status").out
    assert 'calcium.normalise: "zscore" -> "robust"' in out


def test_an_execution_key_reruns_nothing(study):
    study.edit(execution={"log_level": "debug"})
    assert study.would_run() == set()


def test_a_comment_in_the_configuration_reruns_nothing(study):
    file = study.path / "config" / "config.yaml"
    file.write_text("# a remark\n" + file.read_text())
    assert study.would_run() == set()


def test_comment_and_docstring_rerun_nothing_but_code_does(editable):
    assert editable.would_run() == set()
    kernel = "analyses/ntf/kernels/factorise.py"
    path = editable.package / "src" / "neuropipe" / kernel
    path.write_text('"""Another docstring."""\n# a comment\n' + path.read_text().split('"""', 2)[2])
    assert editable.would_run() == set()
    path.write_text(path.read_text() + "\nADDED = 1\n")
    assert editable.would_run() == (NTF | {"report_page"})
    out = editable.neuropipe("status").out
    assert "code of neuropipe.analyses.ntf.kernels.factorise changed" in out
    assert "stale: sub-w01_calcium" not in out


def test_a_replaced_source_reruns_its_recording_and_what_follows(study):
    source = study.path / "raw" / "w02.h5"
    content = bytearray(source.read_bytes())
    source.write_bytes(bytes(content) + b"\0" * 8)
    os.utime(source)
    rules = study.would_run()
    assert "ingest_recording" in rules
    assert rules >= NTF
    assert "source raw/w02.h5 changed" in study.neuropipe("status").out


def test_a_renamed_label_changes_no_number(study):
    raw_hash = study.read("results/cohort-worm/ntf/provenance.json")["content_sha256"]
    block = yaml.safe_load((study.path / "config" / "config.yaml").read_text())["analyses"]["ntf"]
    study.edit(analyses={"twin": {"use": "ntf", **block}})
    answer = study.neuropipe("run")
    assert answer.code == 0, answer.out
    twin = study.read("results/cohort-worm/twin/provenance.json")
    assert twin["content_sha256"] == raw_hash
    page = (study.path / "report" / "index.html").read_text()
    assert "twin" in page
    assert page.count("<img") > 10
