"""Three worms recover what their simulator planted, through real files and every rule."""

from __future__ import annotations

import json
import shutil

import pandas as pd
import pytest

import neuropipe
import neuropipe.errors
import neuropipe.store.hashing
import neuropipe.store.provenance
from neuropipe.analyses import ntf
from neuropipe.simulate.demo import simulate_worms

pytestmark = pytest.mark.workflow


def test_the_study_recovers_its_truth(finished):
    result = neuropipe.open_result("cohort-worm", "ntf", study=finished)
    _, truth = simulate_worms()
    score = ntf.score(result, truth)
    # The demands of the simulator with six animals (AUC 0.98, cosine 0.95, ARI 0.85 at worst)
    # hold for these three too; intervals are blurred by the 15 s window.
    assert score["pair_auc"] >= 0.98
    assert score["subject_cosine"] >= 0.95
    assert score["community_ari"] >= 0.85
    assert score["interval_iou"] >= 0.60


def test_the_figures_show_the_truth_beside_the_estimate(finished):
    folder = finished / "results/cohort-worm/ntf"
    table = pd.read_csv(folder / "truth.tsv", sep="\t")
    assert list(table.columns) == ["measure", "value", "perfect", "good", "verdict", "meaning"]
    assert (table["verdict"] == "good").all(), table
    cards = json.loads((folder / "figures.json").read_text())["figures"]
    assert cards[0]["slug"] == "truth"
    numbers = pd.read_csv(folder / "fig-truth.tsv", sep="\t")
    assert set(numbers["motif"]) == {"odour", "light", "touch"}
    page = (finished / "report/index.html").read_text()
    assert "Estimate and truth" in page
    assert "Planted motifs and the components found" in page


def test_without_a_truth_its_figure_goes(study):
    shutil.rmtree(study.path / "truth")
    assert study.would_run() == {"analysis_figures_ntf", "report_page"}
    assert study.neuropipe("run").code == 0
    assert not list(study.path.glob("results/cohort-worm/ntf/*truth*"))
    assert "Estimate and truth" not in (study.path / "report/index.html").read_text()


def test_stores_and_results_open_from_python(finished):
    tree = neuropipe.open("sub-w01_calcium", study=finished)
    assert tree["raw"]["dff"].dims == ("time", "roi")
    assert set(tree["events"]["label"].values) == {"odour", "light", "touch"}
    processed = neuropipe.open("sub-w01_calcium", preprocessed=True, study=finished)
    assert processed["activity"].std("time").mean() == pytest.approx(1.0, abs=1e-3)
    table = neuropipe.results(study=finished)
    assert {"label", "collection", "metric", "value", "unit"} <= set(table.columns)
    assert (table["metric"] == "components").sum() == 1
    with pytest.raises(neuropipe.errors.ConfigError, match="Did you mean 'sub-w01_calcium'"):
        neuropipe.open("sub-w1_calcium", study=finished)


def test_provenance_says_how_to_repeat_a_job(finished):
    record = json.loads((finished / "results/cohort-worm/ntf/provenance.json").read_text())
    assert record["seed"] > 0
    assert record["settings"]["settings"]["rank"] == 3
    assert record["versions"]["numpy"]
    assert set(record["inputs"]) >= {"inputs/cohort-worm/ntf.nc"}
    assert all(record["inputs"].values())
    assert record["assembled_from"].keys() == {
        f"preprocessed/sub-w0{n}_calcium.json" for n in (1, 2, 3)
    }
    data = neuropipe.store.provenance.read_dataset(finished / "inputs/cohort-worm/ntf.nc")
    settings = ntf.Settings.model_validate(record["settings"]["settings"])
    again = ntf.fit(data, settings, seed=record["seed"])
    assert neuropipe.store.hashing.content_sha256(again) == record["content_sha256"]
