"""Recordings that the project did not make, handed to other tools and read again."""

from __future__ import annotations

import shutil
import warnings

import numpy as np
import pytest
from real_data import DAG, ROOT, WORM_FOLDER, needs

from neuropipe.cli.main import main
from neuropipe.config.models import IngestConfig
from neuropipe.config.recordings import Recording
from neuropipe.export.targets import export_store
from neuropipe.export.timeseries import to_pynapple
from neuropipe.io.ingest import ingest_recording
from neuropipe.recipes.recipe import find_recipe, recipe_folders
from neuropipe.store.scaling import physical
from neuropipe.store.zarr import open_store

EEG = ROOT / "eeg_meg/brainvision/test.vhdr"
MEG = ROOT / "eeg_meg/fif/test_ctf_comp_raw.fif"
SPIKES = ROOT / "spikes/nwb_units/A8604-211122.nwb"
WORM = WORM_FOLDER / "2022-08-02-31-data.h5"
SOURCES = {"eeg": EEG, "meg": MEG, "spikes": SPIKES, "calcium": WORM}
SETTINGS = {"calcium": {"readers": {"hdf5": DAG}}}
RECIPES = ROOT / "recipes"


def ingest(source, out, modality, **settings):
    """Return path and tree of the store."""
    name = f"sub-01_{modality}"
    row = Recording(name=name, subject="01", modality=modality, path="x")
    ingest_recording(row, source, IngestConfig(**settings), out / f"{name}.zarr")
    return out / f"{name}.zarr", open_store(out / f"{name}.zarr")


@pytest.mark.parametrize("modality", SOURCES)
def test_temporaldata_gives_the_same_content_back(tmp_path, modality):
    if not SOURCES[modality].exists():
        pytest.skip(f"real data absent: {SOURCES[modality]} (set NEUROPIPE_REAL_DATA)")
    path, tree = ingest(SOURCES[modality], tmp_path, modality, **SETTINGS.get(modality, {}))
    (file,) = export_store(path, "temporaldata", tmp_path / "out")
    _, again = ingest(file, tmp_path / "again", modality)
    assert again.attrs["content_sha256"] == tree.attrs["content_sha256"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        package = pytest.importorskip("temporaldata", reason="temporaldata is not installed")
        data = package.Data.load(file, lazy=False)
    if modality == "spikes":
        np.testing.assert_array_equal(
            np.sort(tree["raw/spike_time"].values), data.spikes.timestamps
        )
    else:
        series = getattr(data, "calcium_traces" if modality == "calcium" else modality)
        values = tree["raw/fluorescence" if modality == "calcium" else "raw/signal"].values
        name = "fluorescence" if modality == "calcium" else "signal"
        np.testing.assert_array_equal(getattr(series, name), values)


@needs(EEG)
def test_bids_of_a_real_eeg_is_read_by_mne_bids(tmp_path):
    pytest.importorskip("pybv", reason="pybv is not installed")
    import mne_bids

    path, tree = ingest(EEG, tmp_path, "eeg")
    files = export_store(path, "bids", tmp_path / "set")
    main_file = next(file for file in files if file.suffix == ".vhdr")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        place = mne_bids.get_bids_path_from_fname(main_file)
        raw = mne_bids.read_raw_bids(place, verbose="error")
    # Written as float32.
    expected = physical(tree["raw"].to_dataset()).T
    np.testing.assert_allclose(raw.get_data(), expected, rtol=2e-7, atol=1e-12)
    assert raw.ch_names == list(tree["raw/channel"].values)


@needs(SPIKES)
def test_pynapple_gets_what_it_reads_itself(tmp_path):
    nap = pytest.importorskip("pynapple", reason="pynapple is not installed")
    _, tree = ingest(SPIKES, tmp_path, "spikes")
    found = to_pynapple(tree)["spikes"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        own = nap.load_file(str(SPIKES))["units"]
    for k, unit in enumerate(own):
        np.testing.assert_array_equal(found[k].t, own[unit].t)


@pytest.mark.parametrize("name", sorted(recipe_folders()))
def test_a_recipe_runs_where_its_files_are(tmp_path, name):
    files = RECIPES / name / "raw"
    if not files.is_dir():
        pytest.skip(f"files of the recipe absent: {files} (neuropipe fetch {name})")
    folder, recipe = find_recipe(name)
    shutil.copytree(folder, tmp_path / "config")
    (tmp_path / "raw").symlink_to(files)
    assert recipe.expected.recordings
    assert main(["validate", "--directory", str(tmp_path)]) == 0
    assert main(["run", "--directory", str(tmp_path)]) == 0
    assert main(["fetch", "--check", "--directory", str(tmp_path)]) == 0
