"""A study of spikes through the HMM-GLM: one job per number of states, and what a change reruns."""

from __future__ import annotations

import shutil

import pytest

import neuropipe
from neuropipe.plan import make_plan
from neuropipe.simulate.spike_files import simulate_spikes, write_spike_nwb
from neuropipe.study import load_study

pytestmark = pytest.mark.workflow

FOLDER = "results/sub-d1_spikes/hmm_glm"
CONFIG = """\
study: states
analyses:
  hmm_glm:
    input: {bin_ms: 100, trials: {by: trials}, units: {where: "region != 'LP'"}}
    states: [1, 2]
    restarts: 1
    max_iter: 5
    cv_folds: 2
    history: {bins: 2}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory, study_at):
    """Return a finished study; read only."""
    path = tmp_path_factory.mktemp("states") / "study"
    data = simulate_spikes((4.0, 8.0, 20.0, 6.0), duration_s=40.0, trials=4)
    write_spike_nwb(data, path / "raw/d1.nwb", subject="d1")
    (path / "config").mkdir()
    (path / "config/recordings.tsv").write_text("subject\tmodality\tpath\nd1\tspikes\traw/d1.nwb\n")
    (path / "config/config.yaml").write_text(CONFIG)
    study = study_at(path)
    answer = study.neuropipe("run")
    assert answer.code == 0, answer.out
    return study


@pytest.fixture
def study(made, tmp_path, study_at):
    """Return a copy of the finished study, file times kept."""
    return study_at(shutil.copytree(made.path, tmp_path / "study", symlinks=True))


def test_every_number_of_states_is_a_job_of_its_own(made):
    plan = make_plan(load_study(made.path))
    fits = {job.outputs[0] for job in plan.values() if job.rule == "hmm_glm_fit"}
    work = "work/sub-d1_spikes/hmm_glm/fit"
    assert fits == {f"{work}/states-1.nc", f"{work}/states-2.nc"}
    (final,) = (job for job in plan.values() if job.rule == "hmm_glm_summary")
    assert set(final.inputs) > fits
    assert final.outputs[0] == f"{FOLDER}/result.nc"


def test_the_result_opens_and_decodes_data(made):
    from neuropipe.analyses import hmm_glm
    from neuropipe.store.provenance import read_dataset

    result = read_dataset(made.path / FOLDER / "result.nc")
    assert result.sizes["trial"] == 4
    assert result.sizes["unit"] == 3
    assert result["n_states"].values.tolist() == [1, 2]
    assert set(result["region"].values) == {"CA1", "VISp"}
    data = read_dataset(made.path / "inputs/sub-d1_spikes/hmm_glm.nc")
    again = hmm_glm.decode(result, data)
    assert (again["state_viterbi"].values == result["state_viterbi"].values).all()
    assert set(neuropipe.results(made.path)["label"]) == {"hmm_glm"}


def test_figures_page_and_table_are_written(made):
    slugs = [card["slug"] for card in made.read(f"{FOLDER}/figures.json")["figures"]]
    assert slugs[0] == "states"
    assert len(slugs) == 9
    for slug in slugs:
        assert (made.path / FOLDER / f"fig-{slug}.svg").stat().st_size > 1000
    table = (made.path / "results/hmm_glm/table.tsv").read_text()
    assert "bits_per_spike" in table
    page = (made.path / "report/index.html").read_text()
    assert "Coupling networks of the states" in page
    assert "hidden Markov model" in (made.path / FOLDER / "methods.md").read_text()


def test_nothing_is_left_to_do(made):
    assert made.would_run() == set()
    status = made.neuropipe("status").out
    assert "stale" not in status
    assert "failed" not in status


AFTER = {"hmm_glm_summary", "analysis_figures_hmm_glm", "analysis_table", "report_page"}


def test_bootstrap_does_not_fit_again(study):
    study.edit(analyses={"hmm_glm": {"bootstrap": 3}})
    assert study.would_run() == AFTER
    assert "bootstrap: 0 -> 3" in study.neuropipe("status").out


def test_another_number_of_states_is_fitted_alone(study):
    study.edit(analyses={"hmm_glm": {"states": [1, 2, 3]}})
    assert study.would_run() == AFTER | {"hmm_glm_fit"}
    dry = study.snakemake("--dry-run").out
    assert "states-3.nc" in dry
    assert "output: work/sub-d1_spikes/hmm_glm/fit/states-2.nc" not in dry


def test_a_setting_of_the_fit_fits_again_but_assembles_nothing(study):
    study.edit(analyses={"hmm_glm": {"tol": 1e-4}})
    assert study.would_run() == AFTER | {"hmm_glm_fit"}
