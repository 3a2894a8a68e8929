"""A study of fMRI: BIDS files, stores, parcels of an atlas, figures and the page."""

from __future__ import annotations

import pytest

from neuropipe.plan import make_plan
from neuropipe.simulate.fmri_files import simulate_fmri, write_atlas, write_bids_fmri
from neuropipe.study import load_study

pytestmark = pytest.mark.workflow

NAMES = [f"sub-f0{k}_task-objects_fmri" for k in (1, 2)]


@pytest.fixture(scope="module")
def fmri(tmp_path_factory, study_at):
    """Return a finished study of two subjects."""
    path = tmp_path_factory.mktemp("fmri")
    rows = ["subject\ttask\tmodality\tpath"]
    for seed, subject in enumerate(("f01", "f02")):
        run = simulate_fmri(n_times=90, seed=seed)
        image = write_bids_fmri(run, path / "bids", subject=subject)
        rows.append(f"{subject}\tobjects\tfmri\t{image.relative_to(path)}")
    write_atlas(run, path / "atlas/parcels.nii.gz")
    (path / "config").mkdir()
    (path / "config/recordings.tsv").write_text("\n".join(rows) + "\n")
    (path / "config/config.yaml").write_text(
        "study: objects\n"
        "preprocess:\n"
        "  fmri: {confounds: 6p, parcellation: {atlas: atlas/parcels.nii.gz}}\n"
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


def test_a_changed_atlas_reruns_the_preprocessing_alone(fmri):
    plan = make_plan(load_study(fmri.path))
    job = plan[f"preprocess_recording/{NAMES[0]}"]
    assert "atlas/parcels.nii.gz" in job.inputs
    assert fmri.would_run() == set()
    write_atlas(simulate_fmri(parcels=3), fmri.path / "atlas/parcels.nii.gz")
    assert fmri.would_run() == {"preprocess_recording", "recording_figures", "report_page"}
