"""Ingest of recordings that the project did not make."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from real_data import CALCIUM, DAG, FOUR, FOUR_WORMS, ROOT, WORM_FOLDER, needs

from neuropipe.config.models import IngestConfig
from neuropipe.config.recordings import Recording
from neuropipe.errors import IngestError
from neuropipe.io.ingest import ingest_recording
from neuropipe.io.scan import scan
from neuropipe.store.nwb import from_nwb
from neuropipe.store.schema import check_tree
from neuropipe.store.validate import validate_store
from neuropipe.store.zarr import open_store

pytestmark = needs(CALCIUM)
SPIKES = ROOT / "spikes/nwb_units/A8604-211122.nwb"

WORMS = {
    "2022-08-02-31": (130, 101, 3, 1_833_319.2464575856),
    "2022-08-02-38": (139, 105, 5, 1_835_641.777122736),
}


def ingest(source, out, readers, override=None, subject="01"):
    name = f"sub-{subject}_calcium"
    row = Recording(name=name, subject=subject, modality="calcium", path="x")
    config = IngestConfig(readers=readers, overrides={name: override} if override else {})
    report = ingest_recording(row, source, config, out / f"{name}.zarr")
    return report, open_store(out / f"{name}.zarr")


def worm(name):
    return WORM_FOLDER / f"{name}-data.h5"


@pytest.mark.parametrize("name", WORMS)
def test_whole_brain_worm(tmp_path, name):
    n_rois, labelled, ambiguous, start = WORMS[name]
    override = {"names_table": f"{name}-labels.csv"}
    report, tree = ingest(worm(name), tmp_path, {"hdf5": DAG}, override)
    raw = tree["raw"].to_dataset().load()
    assert report["sizes"] == {"time": 800, "roi": n_rois}
    with h5py.File(worm(name)) as file:
        np.testing.assert_array_equal(
            raw["fluorescence"].values, file["gcamp/trace_array_original"][:]
        )
        source_time = file["timing/timestamp_confocal"][:]
        np.testing.assert_array_equal(
            tree["behavior/velocity"].values, file["behavior/velocity"][:]
        )
        reversing = file["behavior/reversal_vec"][:].astype(bool)
    assert tree.attrs["t0_source"] == start == source_time[0]
    np.testing.assert_array_equal(raw["time"].values, source_time - start)
    assert tree.attrs["sampling"] == "irregular"
    labels = [str(label) for label in raw["label"].values]
    assert sum(label != "" for label in labels) == labelled
    codes = [issue["code"] for issue in report["issues"]]
    assert codes.count("AMBIGUOUS_LABEL") == ambiguous
    with (worm(name).with_name(f"{name}-labels.csv")).open(encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            at = int(row["trace_index_1based"]) - 1
            assert str(raw["label_source"].values[at]) == row["label"]
            assert raw["label_confidence"].values[at] == float(row["confidence"])
    # The events agree with the source's own sample-wise vector: indices count from 0.
    time, events = raw["time"].values, tree["events"].to_dataset().load()
    inside = np.zeros(time.size, bool)
    for onset, duration in zip(events["onset"].values, events["duration"].values, strict=True):
        inside |= (time >= onset - 1e-6) & (time < onset + duration - 1e-6)
    np.testing.assert_array_equal(inside, reversing)
    assert check_tree(tree) == []
    assert validate_store(tmp_path / "sub-01_calcium.zarr") == []
    assert [
        i for i in validate_store(tmp_path / "sub-01_calcium.nwb") if i.severity == "error"
    ] == []


def test_worms_share_84_names_and_122_together(tmp_path):
    names = []
    for worm_name in WORMS:
        override = {"names_table": f"{worm_name}-labels.csv"}
        _, tree = ingest(worm(worm_name), tmp_path / worm_name, {"hdf5": DAG}, override)
        names.append({str(label) for label in tree["raw/label"].values} - {""})
    assert len(names[0] & names[1]) == 84
    # 121 of these are spelled so in the sources; VB02, stored as VB2, is the other one.
    assert len(names[0] | names[1]) == 122


def test_camera_clock_of_the_worm(tmp_path):
    name = "2022-08-02-31"
    clock = {"path": "timing/timestamp_nir", "time": "timing/timestamp_nir", "stream": "nir"}
    settings = {**DAG, "datasets": {**DAG["datasets"], "behavior": {"frame_time": clock}}}
    settings["names_table"] = f"{name}-labels.csv"
    _, tree = ingest(worm(name), tmp_path, {"hdf5": settings})
    with h5py.File(worm(name)) as file:
        camera = file["timing/timestamp_nir"][:]
        start = file["timing/timestamp_confocal"][0]
    np.testing.assert_array_equal(tree["behavior/time_nir"].values, camera - start)


def test_one_file_with_four_animals(tmp_path):
    with h5py.File(FOUR_WORMS) as file:
        groups = sorted(file)
        assert len(groups) == 4
        duplicates = 0
        for k, group in enumerate(groups):
            out = tmp_path / str(k)
            report, tree = ingest(FOUR_WORMS, out, {"hdf5": FOUR}, {"group": group}, f"w{k}")
            raw = tree["raw"].to_dataset().load()
            np.testing.assert_array_equal(raw["dff"].values, file[group]["dff_z"][:])
            assert raw["dff"].dtype == np.float32
            sources = [text.decode() for text in file[group]["neuron"][:]]
            assert [str(text) for text in raw["label_source"].values] == sources
            known = [str(label) for label in raw["label"].values if label]
            assert len(known) == len(set(known))
            codes = [issue["code"] for issue in report["issues"]]
            duplicates += codes.count("DUPLICATE_LABEL")
    assert duplicates == 1


def test_four_animals_without_a_group_say_which_there_are(tmp_path):
    with pytest.raises(IngestError, match="2022-07-26-31/dff_z"):
        ingest(FOUR_WORMS, tmp_path, {"hdf5": FOUR})


def test_suite2p_folder(tmp_path):
    folder = CALCIUM / "suite2p_pynapple/plane0"
    with pytest.raises(IngestError, match="MISSING_SIDECAR"):
        ingest(folder, tmp_path / "none", {})
    _, tree = ingest(folder, tmp_path, {"suite2p": {"rate_hz": 30.0}})
    raw = tree["raw"].to_dataset().load()
    for name, file in (("fluorescence", "F"), ("neuropil", "Fneu"), ("deconvolved", "spks")):
        np.testing.assert_array_equal(raw[name].values, np.load(folder / f"{file}.npy").T)
    np.testing.assert_array_equal(raw["is_cell"].values, np.load(folder / "iscell.npy")[:, 0] == 1)
    assert raw.sizes["roi"] == 219
    assert "x" not in raw
    assert tree.attrs["sampling"] == "regular"


def test_suite2p_positions_come_from_a_trusted_pickle(tmp_path):
    folder = CALCIUM / "suite2p_pynapple"
    _, tree = ingest(folder, tmp_path, {"suite2p": {"rate_hz": 30.0, "trust_pickle": True}})
    assert np.isfinite(tree["raw/x"].values).all()
    assert tree["raw/x"].size == 219


def test_nwb_file_gives_back_the_store(tmp_path):
    name = "2022-08-02-38"
    override = {"names_table": f"{name}-labels.csv"}
    _, tree = ingest(worm(name), tmp_path, {"hdf5": DAG}, override)
    back = from_nwb(tmp_path / "sub-01_calcium.nwb")
    left, right = tree["raw"].to_dataset().load(), back["raw"].to_dataset().load()
    assert left.identical(right)
    back.close()


@needs(SPIKES)
def test_nwb_of_another_laboratory_without_roi_responses(tmp_path):
    with pytest.raises(IngestError, match="NOT_THIS_FORMAT"):
        ingest(SPIKES, tmp_path, {})


SCRIPT = """
import sys, json
from pathlib import Path
from neuropipe.config.models import IngestConfig
from neuropipe.config.recordings import Recording
from neuropipe.io.ingest import ingest_recording
row = Recording(name="sub-01_calcium", subject="01", modality="calcium", path="x")
config = IngestConfig(readers={"hdf5": json.loads(sys.argv[1])})
report = ingest_recording(row, Path(sys.argv[2]), config, Path(sys.argv[3]) / "x.zarr")
print(report["content_sha256"], report["attrs"]["source_sha256"])
"""


def test_separate_processes_and_places_give_equal_hashes(tmp_path):
    name = "2022-08-02-31"
    found = set()
    for seed in ("1", "2"):
        place = tmp_path / f"copy{seed}"
        place.mkdir()
        for file in (worm(name), worm(name).with_name(f"{name}-labels.csv")):
            shutil.copy(file, place)
        settings = json.dumps({**DAG, "names_table": f"{name}-labels.csv"})
        result = subprocess.run(
            [sys.executable, "-c", SCRIPT, settings, str(place / worm(name).name), str(place)],
            capture_output=True,
            text=True,
            env={"PYTHONHASHSEED": seed, "PATH": os.environ["PATH"]},
        )
        assert result.returncode == 0, result.stderr
        found.add(result.stdout)
    assert len(found) == 1


def test_scan_of_the_folder_reads_headers_only():
    rows = {Path(row["path"]).name: row for row in scan([CALCIUM]).rows}
    assert set(rows) == {
        "2022-08-02-31-data.h5",
        "2022-08-02-38-data.h5",
        "celegans_nsm_swf702_4animals.h5",
        "suite2p_pynapple",
        *(path.name for path in CALCIUM.glob("fly_heading/*.mat")),
    }
    assert rows["suite2p_pynapple"]["reader"] == "suite2p"
