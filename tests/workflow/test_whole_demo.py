"""The demo study: five modalities, five analyses, and a truth for each result.

What it finds is checked where ``NEUROPIPE_DEMO`` names a finished demo: `.ci/run` makes one.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd
import pytest

from neuropipe.analyses.registry import analyses
from neuropipe.plan import make_plan
from neuropipe.store.layout import truth_file
from neuropipe.study import load_study

pytestmark = pytest.mark.workflow

MODALITIES = {"calcium", "spikes", "eeg", "ieeg", "fmri"}
MOST_JOBS, MOST_CPU_S, MOST_PAGE_BYTES = 50, 540.0, 10_000_000


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Return the demo study before anything has run."""
    from neuropipe.simulate.demo import write_demo

    folder = tmp_path_factory.mktemp("demo") / "demo"
    write_demo(folder)
    return load_study(folder)


@pytest.fixture(scope="module")
def made() -> Path:
    """Return the folder of a finished demo."""
    folder = os.environ.get("NEUROPIPE_DEMO", "")
    if not folder:
        pytest.skip("NEUROPIPE_DEMO names no finished demo; .ci/run makes one")
    return Path(folder)


def test_every_modality_and_every_analysis_is_there(demo):
    assert {recording.modality for recording in demo.recordings} == MODALITIES
    assert {run.analysis.name for run in demo.runs} == {
        name for name, one in analyses().items() if one.package.startswith("neuropipe.")
    }


def test_the_demo_has_few_jobs(demo):
    assert len(make_plan(demo)) <= MOST_JOBS


def test_every_result_has_a_truth(demo):
    for run in demo.runs:
        assert run.collections, run.label
        for collection in run.collections:
            assert (demo.root / truth_file(collection.name, run.label)).exists()


def test_every_modality_enters_an_analysis(demo):
    used = {
        recording.modality
        for run in demo.runs
        for collection in run.collections
        for recording in collection.recordings
    }
    assert used == MODALITIES


def test_the_same_demo_is_written_again(demo, tmp_path):
    from neuropipe.simulate.demo import write_demo
    from neuropipe.store.hashing import content_sha256
    from neuropipe.store.provenance import read_dataset

    write_demo(tmp_path / "again")
    for path in sorted(demo.root.glob("truth/*/*.nc")):
        other = tmp_path / "again" / path.relative_to(demo.root)
        assert content_sha256(read_dataset(path)) == content_sha256(read_dataset(other)), path.name
    for path in sorted(p for p in demo.root.rglob("*") if p.suffix in (".eeg", ".edf", ".csv")):
        other = tmp_path / "again" / path.relative_to(demo.root)
        assert path.read_bytes() == other.read_bytes(), path.name


def test_every_measure_of_the_finished_demo_is_good(made):
    tables = sorted(made.glob("results/*/*/truth.tsv"))
    assert len(tables) == len(load_study(made).runs)
    for path in tables:
        table = pd.read_csv(path, sep="\t")
        assert len(table) >= 2, path
        assert (table["verdict"] == "good").all(), f"{path}\n{table.to_string()}"


def test_every_fit_of_the_finished_demo_converged(made):
    for path in sorted(made.glob("results/*/*/provenance.json")):
        record = json.loads(path.read_text())
        assert record["converged"] == 1, path
        serious = [one for one in record["issues"] if one["severity"] != "info"]
        assert serious == [], path


def test_the_finished_demo_shows_results_of_one_session_on_one_axis(made):
    folder = made / "report/across/sub-d01_ses-a"
    numbers = pd.read_csv(folder / "fig-courses.tsv", sep="\t")
    labels = {column.split()[0] for column in numbers.columns} - {"time_s"}
    assert labels == {"hmm_glm", "gp_vae", "bicluster"}
    page = (made / "report/index.html").read_text()
    assert "Across analyses" in page
    assert len(page.encode()) < MOST_PAGE_BYTES
