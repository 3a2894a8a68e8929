"""Maps are files beside the result: written by the step of figures, listed for the page."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

from neuropipe.analyses import trsa
from neuropipe.cli.main import main
from neuropipe.report.sources import read_maps
from neuropipe.store.provenance import write_dataset

SETTINGS = {
    "rdm": {"permutations": 0},
    "descriptor": {"grid_step": 0.5},
    "inference": {"bootstrap": 0, "permutations": 5},
    "searchlight": {"radius_mm": 4.5, "min_voxels": 5, "permutations": 9},
}


@pytest.fixture(scope="module")
def result():
    data = trsa.simulate(
        0, n_conditions=6, n_categories=3, n_layers=1, n_subjects=2, n_channels=60, n_runs=3,
        n_models=1,
    )[0]  # fmt: skip
    place = np.argwhere(np.ones((5, 4, 3), dtype=bool))
    axes = {name: ("channel", 3.0 * place[:, k]) for k, name in enumerate("xyz")}
    return trsa.fit(data.assign_coords(axes), trsa.Settings.model_validate(SETTINGS), 0)


def draw(result, folder, settings) -> list[str]:
    """Run the step and return the maps that lie in the folder."""
    write_dataset(result, folder / "result.nc", {})
    words = ["step", "figures", "trsa", "--input", str(folder / "result.nc")]
    words += ["--output", str(folder), "--settings", json.dumps({"settings": settings})]
    assert main(words) == 0
    return sorted(path.name for path in folder.glob("searchlight_*"))


def test_maps_lie_beside_the_result_and_go_with_it(result, tmp_path):
    folder = tmp_path / "results/cohort-all/trsa"
    folder.mkdir(parents=True)
    names = ["searchlight_layer-0_p.nii.gz", "searchlight_layer-0_score.nii.gz"]
    assert draw(result, folder, SETTINGS) == names
    assert read_maps(tmp_path, "results/cohort-all/trsa") == tuple(names)
    image = nib.load(folder / names[1])
    assert image.shape == (5, 4, 3)
    assert np.isfinite(np.asarray(image.dataobj)).sum() == result.sizes["centre"]
    renamed = result.assign_coords(model=["Face / House"])
    assert draw(renamed, folder, SETTINGS) == [
        "searchlight_Face-House_p.nii.gz", "searchlight_Face-House_score.nii.gz"
    ]  # fmt: skip
    bare = result.drop_vars(["searchlight_score", "searchlight_pvalue"]).drop_dims("centre")
    assert draw(bare, folder, SETTINGS | {"searchlight": None}) == []
    assert read_maps(tmp_path, "results/cohort-all/trsa") == ()


def test_names_of_maps_that_lead_elsewhere_are_not_links(tmp_path):
    (tmp_path / "r").mkdir()
    (tmp_path / "r/figures.json").write_text('{"maps": ["../x.nii.gz", "a.nii.gz", 3]}')
    assert read_maps(tmp_path, "r") == ("a.nii.gz", "3")
    (tmp_path / "r/figures.json").write_text('{"maps": "all"}')
    assert read_maps(tmp_path, "r") == ()
