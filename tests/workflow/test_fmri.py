"""A study of fMRI: BIDS files, stores, parcels of an atlas, patterns, RDMs, the page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import neuropipe
from neuropipe.plan import make_plan
from neuropipe.simulate.fmri_files import simulate_fmri, write_atlas, write_bids_fmri
from neuropipe.study import load_study

pytestmark = pytest.mark.workflow

NAMES = [f"sub-f0{k}_task-objects_fmri" for k in (1, 2)]


LABELS = [f"{name}-{half}" for name in ("face", "house", "cat") for half in "ab"]


def halve_conditions(image: Path) -> None:
    """Give every second event of a condition another label: six conditions instead of three."""
    path = image.with_name(image.name.replace("_bold.nii.gz", "_events.tsv"))
    events = pd.read_csv(path, sep="\t")
    half = events.groupby("trial_type").cumcount() % 2
    events["trial_type"] += half.map({0: "-a", 1: "-b"})
    events.to_csv(path, sep="\t", index=False)


@pytest.fixture(scope="module")
def fmri(tmp_path_factory, study_at):
    """Return a finished study of two subjects."""
    path = tmp_path_factory.mktemp("fmri")
    rows = ["subject\ttask\tmodality\tpath"]
    for seed, subject in enumerate(("f01", "f02")):
        run = simulate_fmri(n_times=90, seed=seed)
        image = write_bids_fmri(run, path / "bids", subject=subject)
        halve_conditions(image)
        rows.append(f"{subject}\tobjects\tfmri\t{image.relative_to(path)}")
    write_atlas(run, path / "atlas/parcels.nii.gz")
    write_atlas(run, path / "atlas/regions.nii.gz")
    (path / "config").mkdir()
    (path / "config/recordings.tsv").write_text("\n".join(rows) + "\n")
    (path / "config/config.yaml").write_text(
        "study: objects\n"
        "preprocess:\n"
        "  fmri: {confounds: 6p, parcellation: {atlas: atlas/parcels.nii.gz}}\n"
        "analyses:\n"
        "  trsa:\n"
        f"    input: {{labels: [{', '.join(LABELS)}], regions: atlas/regions.nii.gz}}\n"
        "    descriptor: {grid_step: 0.25}\n"
        "    inference: {bootstrap: 20, permutations: 20}\n"
    )
    study = study_at(path)
    answer = study.neuropipe("run")
    assert answer.code == 0, answer.out
    return study


def test_the_page_shows_every_recording(fmri):
    page = (fmri.path / "report/index.html").read_text()
    for text in (*NAMES, "Head motion and sudden changes", "All rows over time"):
        assert text in page
    for name in NAMES:
        cards = fmri.read(f"preprocessed/{name}/figures.json")["figures"]
        slugs = [card["slug"] for card in cards]
        assert slugs == ["motion", "carpet", "noise", "events", "confounds"]


def test_every_subject_has_its_rdms_and_the_result_gathers_them(fmri):
    plan = make_plan(load_study(fmri.path))
    jobs = sorted(name for name in plan if name.startswith("trsa_rdm/"))
    assert jobs == [f"trsa_rdm/cohort-all_trsa_subject-f0{k}" for k in (1, 2)]
    result = neuropipe.open_result("cohort-all", "trsa", study=fmri.path)
    assert result["condition"].values.tolist() == sorted(LABELS)
    assert result["subject"].values.tolist() == ["f01", "f02"]
    assert np.isfinite(result["rdm"].values).all()
    assert result.attrs["measure"] == "euclidean"  # one run per subject
    assert "identification_accuracy" in result
    provenance = fmri.read("results/cohort-all/trsa/provenance.json")
    assert set(provenance["parts_wall_s"]) == {
        f"work/cohort-all/trsa/rdm/subject-f0{k}.nc" for k in (1, 2)
    }
    codes = {issue["code"] for issue in json.loads(result.attrs["issues"])}
    assert {"FEW_CONDITIONS", "SHARED_NOISE"} <= codes
    page = (fmri.path / "report/index.html").read_text()
    assert "Representational dissimilarity matrices" in page


def test_a_changed_comparison_estimates_no_rdm_again(fmri):
    raw = (fmri.path / "config/config.yaml").read_text()
    (fmri.path / "config/config.yaml").write_text(raw.replace("bootstrap: 20", "bootstrap: 21"))
    again = fmri.would_run()
    (fmri.path / "config/config.yaml").write_text(raw)
    # The parts were temporary: without them the stage before runs too, the assembler does not.
    assert {"trsa_summary", "report_page"} <= again
    assert "analysis_assemble" not in again


def test_a_changed_atlas_reruns_the_preprocessing_alone(fmri):
    plan = make_plan(load_study(fmri.path))
    job = plan[f"preprocess_recording/{NAMES[0]}"]
    assert "atlas/parcels.nii.gz" in job.inputs
    assert fmri.would_run() == set()
    write_atlas(simulate_fmri(parcels=3), fmri.path / "atlas/parcels.nii.gz")
    assert fmri.would_run() == {"preprocess_recording", "recording_figures", "report_page"}
