"""Ingest of fMRI files that the project did not make."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from real_data import ROOT, needs

from neuropipe.config.models import IngestConfig, PreprocessConfig
from neuropipe.config.recordings import Recording
from neuropipe.errors import IngestError
from neuropipe.io.fmri.tables import read_confounds
from neuropipe.io.ingest import ingest_recording
from neuropipe.io.scan import scan
from neuropipe.preprocess.chain import preprocess
from neuropipe.preprocess.fmri_motion import framewise_displacement
from neuropipe.preprocess.fmri_parcels import load_atlas_image
from neuropipe.report.quality import figures
from neuropipe.store.nwb import from_nwb
from neuropipe.store.schema import check_tree
from neuropipe.store.validate import validate_store
from neuropipe.store.zarr import open_store

FMRI = ROOT / "fmri"
HAXBY = FMRI / "haxby2001_1slice/sub001/BOLD"
NIBABEL = FMRI / "nibabel"
DLABEL = FMRI / "cifti/Schaefer2018_100Parcels_7Networks_order.dlabel.nii"
ATLAS = FMRI / "parcellation/Schaefer2018_100Parcels_7Networks_order_FSLMNI152_2mm.nii.gz"
# The motion of FSL: rotations before translations.
LAYOUT = {
    "events": "bold_events.tsv",
    "confounds": "bold_moest.txt",
    "confound_columns": ["rot_x", "rot_y", "rot_z", "trans_x", "trans_y", "trans_z"],
}
RUNS = sorted(HAXBY.glob("task001_run*/bold_1slice.nii.gz"))

pytestmark = needs(FMRI)


def ingest(source, out, readers=None, reader="", **override):
    name = "sub-01_fmri"
    row = Recording(name=name, subject="01", modality="fmri", path="x", reader=reader)
    config = IngestConfig(readers=readers or {}, overrides={name: override} if override else {})
    report = ingest_recording(row, source, config, out / f"{name}.zarr")
    tree = open_store(out / f"{name}.zarr")
    assert check_tree(tree) == []
    assert from_nwb(out / f"{name}.nwb").identical(tree)
    return report, tree


def volume(tree):
    """Return the kept voxels of the source image, by way of their indices."""
    raw = tree["raw"].to_dataset()
    return tuple(raw[name].values for name in "ijk"), raw["bold"].values


@pytest.mark.parametrize("image", RUNS, ids=lambda path: path.parent.name)
def test_every_run_of_haxby(tmp_path, image):
    report, tree = ingest(image, tmp_path, {"nifti": LAYOUT})
    places, values = volume(tree)
    source = nib.load(image)
    np.testing.assert_array_equal(values, np.asarray(source.dataobj)[places].T)
    assert values.dtype == np.int16
    assert report["sizes"]["time"] == 121
    assert tree["raw/time"].values[-1] == 300.0
    np.testing.assert_array_equal(
        tree["raw/confounds"].values, np.loadtxt(image.parent / "bold_moest.txt")
    )
    table = pd.read_csv(image.parent / "bold_events.tsv", sep="\t")
    assert list(tree["events/label"].values) == list(table["trial_type"])
    np.testing.assert_array_equal(tree["events/onset"].values, table["onset"])
    # The mask covers the back half of one slice of a head.
    assert 0.5 < len(places[0]) / 800 < 0.8


def test_haxby_is_preprocessed_and_drawn(tmp_path):
    _, tree = ingest(RUNS[0], tmp_path, {"nifti": LAYOUT})
    for suffix in (".zarr", ".nwb"):
        found = validate_store(tmp_path / f"sub-01_fmri{suffix}")
        assert [issue for issue in found if issue.severity == "error"] == []
    result = preprocess(tree, PreprocessConfig())
    motion = np.loadtxt(RUNS[0].parent / "bold_moest.txt")[:, [3, 4, 5, 0, 1, 2]]
    np.testing.assert_allclose(
        result["framewise_displacement"].values, framewise_displacement(motion)
    )
    activity = result["activity"].values
    np.testing.assert_allclose(activity.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(activity.std(axis=0, ddof=1), 1, rtol=1e-6)
    # What was regressed out is orthogonal to what is left.
    leftover = (motion - motion.mean(axis=0)).T @ activity
    scale = np.linalg.norm(motion - motion.mean(axis=0), axis=0)[:, None] * np.sqrt(121)
    assert np.abs(leftover / scale).max() < 1e-5
    codes = [issue["code"] for issue in json.loads(result.attrs["issues"])]
    assert codes == ["MASK_COMPUTED", "NO_SESSION_START", "NO_TISSUE_SIGNAL"]
    assert list(figures(tree, result)) == ["motion", "carpet", "noise", "events", "confounds"]


def test_functional_example(tmp_path):
    _, tree = ingest(NIBABEL / "functional.nii", tmp_path, {"nifti": {"mask": "all"}})
    places, values = volume(tree)
    source = nib.load(NIBABEL / "functional.nii")
    assert values.shape == (20, 17 * 21 * 3)
    attrs = tree["raw/bold"].attrs
    assert values.dtype == np.int16
    # Both scale in float64, by other routes.
    np.testing.assert_array_max_ulp(
        values * attrs["scale_factor"] + attrs["add_offset"], np.asarray(source.dataobj)[places].T
    )
    np.testing.assert_array_equal(tree["raw"].attrs["affine"], source.affine)


def test_a_header_that_states_2000_seconds(tmp_path):
    path = NIBABEL / "example4d.nii.gz"
    with pytest.raises(IngestError, match=r"2000 s.*tr_s: 2") as caught:
        ingest(path, tmp_path)
    assert caught.value.code == "UNITS"
    assert not list(tmp_path.glob("*"))
    _, tree = ingest(path, tmp_path, tr_s=2.0)
    places, values = volume(tree)
    np.testing.assert_array_equal(values, np.asarray(nib.load(path).dataobj)[places].T)
    assert list(tree["raw/time"].values) == [0.0, 2.0]


@pytest.mark.parametrize(
    ("path", "code", "words"),
    [
        (DLABEL, "NOT_THIS_FORMAT", "an atlas, not a recording"),
        (ATLAS, "EMPTY", "4-D with a time axis"),
    ],
    ids=["dlabel", "atlas"],
)
def test_atlases_are_no_recordings(tmp_path, path, code, words):
    with pytest.raises(IngestError, match=words) as caught:
        ingest(path, tmp_path)
    assert caught.value.code == code
    assert not list(tmp_path.glob("*"))


@pytest.mark.parametrize("path", sorted(FMRI.glob("confounds/*.tsv")), ids=lambda path: path.stem)
def test_confound_tables_of_fmriprep(path):
    found = read_confounds(path, [])
    table = pd.read_csv(path, sep="\t")
    assert found.names == list(table.columns)
    assert found.values.shape == table.shape
    np.testing.assert_allclose(found.values, table.to_numpy(float), rtol=1e-12)
    marked = [name for name in found.names if name.startswith("non_steady_state")]
    assert (~found.steady).sum() == len(marked)


def test_an_atlas_of_a_hundred_parcels():
    atlas = load_atlas_image(str(ATLAS))
    assert list(atlas.index) == list(range(1, 101))
    assert atlas.columns["parcel"][0] == "parcel-1"


def test_scan_finds_the_runs():
    found = scan([HAXBY])
    images = [row for row in found.rows if row["modality"] == "fmri"]
    assert len(images) == len(RUNS) == 12
    assert {row["reader"] for row in images} == {"nifti"}
