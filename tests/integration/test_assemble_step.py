"""The assemblers in a study: which stores they get, with which settings, by the step itself."""

from __future__ import annotations

import json

import numpy as np
import pytest

from neuropipe import study as study_module
from neuropipe.analyses import registry
from neuropipe.analyses.registry import Analysis
from neuropipe.cli.main import main
from neuropipe.config.models import StrictModel
from neuropipe.plan import make_plan
from neuropipe.simulate.fmri_files import simulate_fmri, write_atlas, write_bids_fmri
from neuropipe.simulate.spike_files import simulate_spikes, write_spike_nwb
from neuropipe.store.provenance import read_dataset, read_provenance
from neuropipe.study import load_study

ASSEMBLERS = {
    "states": ("trials:trials", ("recording", "session")),
    "bins": ("binned:binned", ("recording", "session")),
    "latents": ("multimodal:multimodal", ("session", "recording")),
    "shapes": ("conditions:conditions", ("cohort", "subject")),
}
MODALITIES = ("spikes", "calcium", "eeg", "meg", "ieeg", "fmri")
CONFIG = """
study: assembled
seed: 7
preprocess:
  fmri: {confounds: 6p, csf_wm: false, fd_threshold_mm: null, parcellation: {atlas: atlas.nii.gz}}
analyses:
  states: {input: {recordings: {modality: spikes}, trials: {by: trials}, bin_ms: 50}}
  bins: {input: {recordings: {modality: spikes}}}
  latents: {input: {modalities: [spikes, fmri], trials: {by: blocks, block_s: 10.0}}}
  shapes: {input: {recordings: {modality: fmri}, labels: [face, house, cat], regions: atlas.nii.gz}}
"""


class Settings(StrictModel):
    """No setting at all."""


def analysis(name: str) -> Analysis:
    assemble, scopes = ASSEMBLERS[name]
    return Analysis(
        name=name, title=name, scopes=scopes, assemble=f"neuropipe.assemble.{assemble}",
        accepts=dict.fromkeys(MODALITIES, "x"), settings=Settings, fit="a.b:fit",
        figures="a.b:figures", figure_slugs=(), methods="a.b:text", summary="a.b:summary",
        headline="a.b:headline", metrics="a.b:metrics",
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A study of one session with spikes and fMRI; its sources are there, its stores not."""
    root = tmp_path_factory.mktemp("study")
    write_spike_nwb(simulate_spikes(), root / "raw/a.nwb", subject="f1")
    run = simulate_fmri(3, 60, shape=(7, 8, 5))
    image = write_bids_fmri(run, root / "bids", subject="f1", number="1")
    write_atlas(run, root / "atlas.nii.gz")
    (root / "config").mkdir()
    rows = ["subject\tmodality\tpath\trun\ttask", "f1\tspikes\traw/a.nwb\t1\tobjects"]
    rows += [f"f1\tfmri\t{image.relative_to(root)}\t1\tobjects", ""]
    (root / "config/recordings.tsv").write_text("\n".join(rows))
    (root / "config/config.yaml").write_text(CONFIG)
    return root


@pytest.fixture
def plan(folder, monkeypatch):
    known = {name: analysis(name) for name in ASSEMBLERS}
    for module in (registry, study_module):
        monkeypatch.setattr(module, "analyses", lambda: known)
    monkeypatch.chdir(folder)
    return make_plan(load_study(folder))


def job(plan, name):
    (found,) = [
        j for j in plan.values()
        if j.rule == "analysis_assemble" and j.wildcards["analysis"] == name
    ]  # fmt: skip
    return found


def test_patterns_of_fmri_read_the_ingested_store_and_its_settings(plan):
    found = job(plan, "shapes")
    assert found.wildcards["collection"] == "cohort-all"
    assert "atlas.nii.gz" in found.inputs
    assert any(path.startswith("stores/") and path.endswith("fmri.zarr") for path in found.inputs)
    assert not any(path.startswith("preprocessed/") for path in found.inputs)
    assert set(found.settings) == {"input", "preprocess", "seed"}
    assert list(found.settings["preprocess"]) == ["fmri"]


def test_other_assemblers_read_the_preprocessed_store_and_nothing_else(plan):
    found = job(plan, "latents")
    assert found.wildcards["collection"] == "sub-f1"
    stores = [path for path in found.inputs if path.endswith(".zarr")]
    assert sorted(path.split("/")[0] for path in stores) == ["preprocessed", "stores"]
    for name in ("latents", "states", "bins"):
        assert set(job(plan, name).settings) == {"input"}


def test_a_cohort_of_patterns_needs_no_shared_names(folder, monkeypatch, plan):
    text = CONFIG.replace("{modality: fmri}", "{modality: spikes}")
    (folder / "other.yaml").write_text(text)
    found = make_plan(load_study(folder, where="other.yaml"))
    assert job(found, "shapes").wildcards["collection"] == "cohort-all"
    (folder / "wrong.yaml").write_text(text.replace("bin_ms: 50", "bins_ms: 50"))
    with pytest.raises(ValueError, match="Did you mean 'bin_ms'"):
        load_study(folder, where="wrong.yaml")


def test_the_steps_write_the_datasets(plan, folder):
    wanted = {"ingest_recording", "preprocess_recording", "analysis_assemble"}
    for one in plan.values():
        if one.rule in wanted:
            for output in one.outputs:
                (folder / output).parent.mkdir(parents=True, exist_ok=True)
            assert main(["step", *one.arguments, "--log-level", "warning"]) == 0
    states = read_dataset(job(plan, "states").outputs[0])
    assert states["counts"].dims == ("trial", "time", "unit")
    bins = read_dataset(job(plan, "bins").outputs[0])
    assert bins["counts"].dims == ("unit", "time")
    latents = read_dataset(job(plan, "latents").outputs[0])
    assert json.loads(latents.attrs["modalities"]) == ["spikes", "fmri"]
    assert set(latents["unit_kind_fmri"].values) == {"parcel"}
    assert latents["region_fmri"].values.tolist() == ["region1", "region2", "region3"]
    shapes = read_dataset(job(plan, "shapes").outputs[0])
    assert shapes["region"].values.tolist() == ["region1", "region2", "region3"]
    assert np.isfinite(shapes["patterns"].values).any()
    assert shapes["unit_kind"].values.tolist() == ["voxel"]
    record = read_provenance(job(plan, "shapes").outputs[0])
    assert record["settings"]["preprocess"]["fmri"]["confounds"] == "6p"
