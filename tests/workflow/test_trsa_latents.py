"""A study whose latents and states of spikes are compared between conditions by tRSA."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import neuropipe
from neuropipe.plan import make_plan
from neuropipe.simulate.spike_files import simulate_spikes, write_spike_nwb
from neuropipe.study import load_study

pytestmark = pytest.mark.workflow

LABELS = ("left", "right", "up", "down")
DURATION, EVERY = 96.0, 1.5
CONFIG = """study: layers
ingest:
  overrides:
    sub-d1_spikes: {events: {path: events.tsv, time_unit: s}}
analyses:
  layers:
    use: trsa
    input:
      result: [smooth, states]
      labels: [left, right, up, down]
      window_s: [-0.4, 0.8]
      folds: 4
      keep_time: true
      scope: subject
    descriptor: {grid_step: 0.5}
    inference: {bootstrap: 10, permutations: 10}
  smooth:
    use: gp_vae
    input: {modalities: [spikes], bin_ms: 100, trials: {by: blocks, block_s: 6}}
    latents: 2
    restarts: 1
    max_epochs: 15
  states:
    use: hmm_glm
    input: {bin_ms: 100, trials: {by: recording}}
    states: [3]
    restarts: 1
    max_iter: 5
    cv_folds: 0
    history: {bins: 0}
"""


def responses() -> tuple[list[tuple[float, str]], object]:
    """Return events and spikes; left and right share units that up and down do not drive."""
    rng = np.random.default_rng(0)
    onsets = np.arange(0.45, DURATION - 1.5, EVERY)
    kinds = np.resize(np.arange(4), onsets.size)
    drive = {0: (0, 1), 1: (0, 2), 2: (3, 4), 3: (3, 5)}
    quiet = simulate_spikes((4.0,) * 6, duration_s=DURATION)
    samples = []
    for unit in range(6):
        more = [
            rng.uniform(onset, onset + 0.8, 14)
            for onset, kind in zip(onsets, kinds, strict=True)
            if unit in drive[int(kind)]
        ]
        own = np.concatenate([quiet.samples[unit], *(30_000 * m for m in more)]).astype(np.int64)
        samples.append(np.unique(own))
    events = [(float(o), LABELS[k]) for o, k in zip(onsets, kinds, strict=True)]
    return events, replace(quiet, samples=tuple(samples))


@pytest.fixture(scope="module")
def layers(tmp_path_factory, study_at):
    """Return a finished study."""
    path = tmp_path_factory.mktemp("layers")
    events, spikes = responses()
    write_spike_nwb(spikes, path / "raw/d1.nwb", subject="d1")
    rows = "".join(f"{onset}\t0\t{label}\n" for onset, label in events)
    (path / "raw/events.tsv").write_text("onset\tduration\ttrial_type\n" + rows)
    (path / "config").mkdir()
    (path / "config/recordings.tsv").write_text("subject\tmodality\tpath\nd1\tspikes\traw/d1.nwb\n")
    (path / "config/config.yaml").write_text(CONFIG)
    study = study_at(path)
    answer = study.neuropipe("run")
    assert answer.code == 0, answer.out
    return study


def test_results_are_inputs_of_the_assembly(layers):
    plan = make_plan(load_study(layers.path))
    job = plan["analysis_assemble/sub-d1_layers"]
    for label, collection in (("smooth", "sub-d1"), ("states", "sub-d1_spikes")):
        assert f"results/{collection}/{label}/result.nc" in job.inputs
        assert f"inputs/{collection}/{label}.nc" in job.inputs
    order = list(plan)
    assert order.index("hmm_glm_summary/sub-d1_spikes_states") < order.index(job.name)
    assert "Nothing to be done" in layers.snakemake("--dry-run").out


def test_every_analysis_is_a_region_and_tells_planted_groups_apart(layers):
    result = neuropipe.open_result("sub-d1", "layers", study=layers.path)
    assert sorted(result["region"].values.tolist()) == ["smooth", "states"]
    assert result.attrs["modality"] == "latents"
    assert result.attrs["measure"] == "crossnobis"
    pairs = list(zip(result["condition_i"].values, result["condition_j"].values, strict=True))
    sides = {frozenset(("left", "right")), frozenset(("up", "down"))}
    near = np.array([frozenset(pair) in sides for pair in pairs])
    late = result["rdm"].sel(subject="d1", time=slice(0.2, 0.8)).mean("time")
    smooth = late.sel(region="smooth").values
    assert smooth[~near].min() > smooth[near].max()
    # Three states cannot tell four conditions apart, but they tell some.
    assert late.sel(region="states").values.max() > 5
    methods = (layers.path / "results/sub-d1/layers/methods.md").read_text()
    assert "latents (posterior means) of the analysis gp_vae (`smooth`)" in methods
    assert "probabilities of states of the analysis hmm_glm (`states`)" in methods
    page = (layers.path / "report/index.html").read_text()
    assert "Representational dissimilarity matrices" in page


def test_latents_make_a_movie_with_time_generalisation(layers):
    result = neuropipe.open_result("sub-d1", "layers", study=layers.path)
    assert result["time"].values[0] < 0 < result["time"].values[-1]
    assert result["time_time"].dims == ("subject", "region", "time", "time_2")
    mean = result["rdm"].mean([d for d in result["rdm"].dims if d != "time"])
    before = abs(float(mean.sel(time=slice(None, -0.2)).mean()))
    assert float(mean.sel(time=slice(0.2, 0.6)).mean()) > 3 * before
    cards = layers.read("results/sub-d1/layers/figures.json")["figures"]
    assert "movie" in [card["slug"] for card in cards]


def test_a_changed_analysis_reruns_those_that_take_its_result(layers):
    raw = (layers.path / "config/config.yaml").read_text()
    (layers.path / "config/config.yaml").write_text(raw.replace("max_iter: 5", "max_iter: 6"))
    again = layers.would_run()
    (layers.path / "config/config.yaml").write_text(raw)
    assert {"hmm_glm_fit", "hmm_glm_summary", "analysis_assemble", "trsa_rdm"} <= again
    assert "gp_vae_fit" not in again


def test_labels_that_give_no_courses_are_refused(layers):
    raw = (layers.path / "config/config.yaml").read_text()
    for old, new, message in (
        ("result: [smooth,", "result: [smoth,", "Did you mean 'smooth'"),
        ("result: [smooth,", "result: [layers,", "results of trsa hold no latents or states"),
    ):
        (layers.path / "config/config.yaml").write_text(raw.replace(old, new))
        answer = layers.neuropipe("validate")
        assert answer.code == 2
        assert message in answer.out
    (layers.path / "config/config.yaml").write_text(raw)
    issues = json.loads(
        neuropipe.open_result("sub-d1", "layers", study=layers.path).attrs["issues"]
    )
    assert all(issue["severity"] != "error" for issue in issues)
