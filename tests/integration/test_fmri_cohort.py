"""fMRI of two subjects from BIDS files to one cohort array over the parcels of an atlas."""

from __future__ import annotations

import numpy as np
import pytest

from neuropipe.assemble.cohort import Input, cohort
from neuropipe.config.models import IngestConfig, PreprocessConfig
from neuropipe.config.recordings import Recording
from neuropipe.errors import ConfigError
from neuropipe.io.ingest import ingest_recording
from neuropipe.preprocess.chain import preprocess
from neuropipe.simulate.fmri_files import simulate_fmri, write_atlas, write_bids_fmri
from neuropipe.store.nwb import from_nwb, to_nwb
from neuropipe.store.schema import check_tree
from neuropipe.store.zarr import open_store, write_tree

RUNS = {subject: simulate_fmri(seed=k) for k, subject in enumerate(("f01", "f02"))}


@pytest.fixture(scope="module")
def ingested(tmp_path_factory):
    """Ingested stores by subject, and the atlas."""
    root = tmp_path_factory.mktemp("study")
    write_atlas(RUNS["f01"], root / "atlas.nii.gz")
    stores = {}
    for subject, run in RUNS.items():
        image = write_bids_fmri(run, root / "bids", subject=subject)
        name = f"sub-{subject}_task-objects_fmri"
        row = Recording(name=name, subject=subject, task="objects", modality="fmri", path="x")
        ingest_recording(row, image, IngestConfig(), root / f"{name}.zarr")
        stores[subject] = open_store(root / f"{name}.zarr")
    return stores, root / "atlas.nii.gz"


def cleaned(ingested, **settings):
    stores, atlas = ingested
    config = PreprocessConfig(fmri={"parcellation": {"atlas": str(atlas)}, **settings})
    return [preprocess(store, config) for store in stores.values()]


def test_parcels_are_the_names_that_subjects_share(ingested):
    array = cohort(cleaned(ingested), Input(epochs=["face", "house", "cat"]))
    assert list(array["subject"].values) == ["f01", "f02"]
    assert list(array["neuron"].values) == sorted(RUNS["f01"].names)
    assert set(array["unit_kind"].values) == {"parcel"}
    assert list(array["region"].values) == list(array["neuron"].values)
    assert array["labelled"].values.all()
    assert array.attrs["dt_s"] == 2.0
    assert array.attrs["time_aligned"] == 1
    # Volumes censored in one subject are missing there alone.
    missing = ~np.isfinite(array["activity"].values).all(axis=1)
    for n, run in enumerate(RUNS.values()):
        expected = np.nan_to_num(run.displacement) > 0.5
        expected[:2] = True
        np.testing.assert_array_equal(missing[n], expected)


def test_subjects_agree_where_the_stimulus_drives_them(ingested):
    """The response of a parcel to a condition is planted alike in both subjects."""
    array = cohort(cleaned(ingested, confounds="6p"), Input())
    first, second = array["activity"].values
    both = np.isfinite(first).all(axis=0) & np.isfinite(second).all(axis=0)
    same = [np.corrcoef(a[both], b[both])[0, 1] for a, b in zip(first, second, strict=True)]
    assert np.median(same) > 0.3


def test_voxels_have_no_shared_names(ingested):
    stores, _ = ingested
    voxels = [preprocess(store, PreprocessConfig()) for store in stores.values()]
    with pytest.raises(ConfigError, match="voxel"):
        cohort(voxels, Input())


def test_preprocessed_stores_are_written_checked_and_go_to_nwb(ingested, tmp_path):
    stores, _ = ingested
    for processed in (*cleaned(ingested), preprocess(stores["f01"], PreprocessConfig())):
        write_tree(processed, tmp_path / "p.zarr")
        again = open_store(tmp_path / "p.zarr")
        assert check_tree(again) == []
        np.testing.assert_array_equal(again["activity"].values, processed["activity"].values)
    to_nwb(stores["f01"], tmp_path / "a.nwb", processed=cleaned(ingested)[0])
    found = from_nwb(tmp_path / "a.nwb")["preprocessed"].to_dataset()
    np.testing.assert_array_equal(found["activity"].values, cleaned(ingested)[0]["activity"].values)
    assert list(found["parcel"].values) == RUNS["f01"].names


def test_the_bytes_of_two_runs_are_equal(ingested):
    from neuropipe.store.hashing import content_sha256

    hashes = [[content_sha256(tree.to_dataset()) for tree in cleaned(ingested)] for _ in range(2)]
    assert hashes[0] == hashes[1]
