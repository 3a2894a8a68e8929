"""Ingest of calcium recordings: source to Zarr store, NWB file and report."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict

import h5py
import numpy as np
import pytest
import xarray as xr

from neuropipe.config.models import IngestConfig
from neuropipe.config.recordings import Recording
from neuropipe.errors import IngestError
from neuropipe.io.ingest import ingest_recording
from neuropipe.simulate.calcium_files import (
    write_calcium_hdf5,
    write_calcium_nwb,
    write_calcium_table,
    write_suite2p_folder,
)
from neuropipe.store.schema import check_tree
from neuropipe.store.zarr import open_store

N_TIMES = 60
NAMES = ["AVAL", "AVAR", "AIM?", "VB02", "junk", ""]


@pytest.fixture(scope="module")
def activity():
    rng = np.random.default_rng(3)
    values = rng.standard_normal((2, len(NAMES), N_TIMES))
    values[0, 1, 10:15] = np.nan
    coords = {"subject": ["01", "02"], "neuron": [f"n{k}" for k in range(len(NAMES))]}
    coords["time"] = np.arange(N_TIMES) / 4.0
    return xr.Dataset({"activity": (("subject", "neuron", "time"), values)}, coords)


def recording(subject="01", **columns):
    name = f"sub-{subject}_calcium"
    return Recording(name=name, subject=subject, modality="calcium", path="x", **columns)


def ingest(source, output, readers=None, row=None, **block):
    row = row or recording()
    config = IngestConfig(readers=readers or {}, **block)
    report = ingest_recording(row, source, config, output / f"{row.name}.zarr")
    return report, open_store(output / f"{row.name}.zarr")


@pytest.fixture
def hdf5(tmp_path, activity):
    path = tmp_path / "source/a.h5"
    behavior = {"velocity": np.arange(N_TIMES, dtype=np.float32)}
    settings = write_calcium_hdf5(activity, "01", path, labels=NAMES, behavior=behavior)
    return path, {"hdf5": settings}


def test_three_files_and_nothing_else(tmp_path, hdf5):
    out = tmp_path / "stores"
    report, tree = ingest(hdf5[0], out, hdf5[1])
    assert sorted(p.name for p in out.iterdir()) == [
        "sub-01_calcium.nwb",
        "sub-01_calcium.report.json",
        "sub-01_calcium.zarr",
    ]
    assert json.loads((out / "sub-01_calcium.report.json").read_text()) == report
    assert check_tree(tree) == []


def test_store_holds_the_source_bit_for_bit(tmp_path, hdf5):
    _, tree = ingest(hdf5[0], tmp_path / "stores", hdf5[1])
    raw = tree["raw"].to_dataset()
    with h5py.File(hdf5[0]) as file:
        np.testing.assert_array_equal(raw["dff"].values, file["imaging/dff"][:])
        time = file["imaging/time"][:]
    assert raw["dff"].dtype == np.float32
    assert raw["dff"].attrs["units"] == "1"
    assert tree.attrs["t0_source"] == time[0] == 1234.5
    np.testing.assert_array_equal(raw["time"].values, time - time[0])
    np.testing.assert_array_equal(raw["valid"].values, np.isfinite(raw["dff"].values))
    np.testing.assert_array_equal(tree["behavior/time_behavior"].values, raw["time"].values)
    np.testing.assert_array_equal(tree["behavior/velocity"].values, np.arange(N_TIMES))


def test_labels_are_resolved_and_sources_kept(tmp_path, hdf5):
    report, tree = ingest(hdf5[0], tmp_path / "stores", hdf5[1])
    rows = {
        str(source): (str(label), str(group), str(candidates))
        for source, label, group, candidates in zip(
            *(tree[f"raw/{name}"].values for name in
              ("label_source", "label", "neuron_class", "label_candidates")), strict=True,
        )
    }  # fmt: skip
    assert rows == {
        "AVAL": ("AVAL", "AVA", ""),
        "AVAR": ("AVAR", "AVA", ""),
        "AIM?": ("", "", "AIML,AIMR"),
        "VB02": ("VB2", "VB", ""),
        "junk": ("", "", ""),
        "": ("", "", ""),
    }
    codes = [issue["code"] for issue in report["issues"]]
    assert sorted(codes) == [
        "AMBIGUOUS_LABEL", "NAN_IN_DATA", "NO_SESSION_START", "UNKNOWN_LABEL",
    ]  # fmt: skip
    assert json.loads(tree.attrs["issues"]) == report["issues"]


def test_attributes_come_from_source_then_table(tmp_path, activity):
    path = tmp_path / "a.nwb"
    write_calcium_nwb(activity, "02", path, labels=NAMES)
    row = recording(session="a", task="rest", species="Homo sapiens", age="P3D")
    report, tree = ingest(path, tmp_path / "stores", row=row)
    attrs = tree.attrs
    assert (attrs["subject_id"], attrs["session_id"], attrs["task"]) == ("01", "a", "rest")
    assert attrs["species"] == "Caenorhabditis elegans"
    assert attrs["session_start"] == "2024-03-05T14:00:00+01:00"
    disagreeing = [i["path"] for i in report["issues"] if i["code"] == "TABLE_DISAGREES"]
    assert disagreeing == ["a.nwb: species"]
    assert (attrs["sampling"], attrs["rate"]) == ("regular", 4.0)
    assert report["attrs"]["recording"] == row.name


def test_report_tells_what_was_read(tmp_path, hdf5):
    from neuropipe.store.hashing import content_sha256, file_sha256

    report, tree = ingest(hdf5[0], tmp_path / "stores", hdf5[1])
    assert [entry["path"] for entry in report["source"]] == ["a-names.csv", "a.h5"]
    assert report["source"][1]["sha256"] == file_sha256(hdf5[0])
    assert report["source"][1]["bytes"] == hdf5[0].stat().st_size
    assert report["sizes"] == {"time": N_TIMES, "roi": len(NAMES)}
    assert report["content_sha256"] == content_sha256(tree["raw"].to_dataset())
    assert report["reader"]["reader"] == "hdf5"
    assert set(report["versions"]) >= {"numpy", "zarr", "pynwb", "neuropipe"}
    assert report["wall_s"] > 0
    # A study folder may move: nothing that is stored says where it was.
    assert str(tmp_path) not in json.dumps({**report, "settings": {}, "reader": {}})


def test_our_own_nwb_is_read_back_to_the_same_content(tmp_path, hdf5):
    first, tree = ingest(hdf5[0], tmp_path / "stores", hdf5[1])
    second, again = ingest(tmp_path / "stores/sub-01_calcium.nwb", tmp_path / "again")
    assert second["content_sha256"] == first["content_sha256"]
    assert again.attrs["t0_source"] == tree.attrs["t0_source"]
    xr.testing.assert_identical(again["raw"].to_dataset().load(), tree["raw"].to_dataset().load())
    np.testing.assert_array_equal(again["behavior/velocity"].values, np.arange(N_TIMES))


def test_formats_agree_on_the_same_recording(tmp_path, activity):
    table = write_calcium_table(activity, "02", tmp_path / "a.csv", labels=NAMES)
    _, wide = ingest(tmp_path / "a.csv", tmp_path / "1", {"table": table})
    write_calcium_nwb(activity, "02", tmp_path / "a.nwb", labels=NAMES, fluorescence=False)
    _, nwb = ingest(tmp_path / "a.nwb", tmp_path / "2")
    np.testing.assert_array_equal(wide["raw/label"].values, nwb["raw/label"].values)
    np.testing.assert_array_equal(wide["raw/dff"].values.astype("f4"), nwb["raw/dff"].values)
    np.testing.assert_array_equal(wide["raw/time"].values, nwb["raw/time"].values)


def test_unlabelled_recording_has_empty_labels(tmp_path, activity):
    settings = write_suite2p_folder(activity, "02", tmp_path / "plane0")
    _, tree = ingest(tmp_path / "plane0", tmp_path / "stores", {"suite2p": settings})
    assert set(tree["raw/label"].values) == {""}
    assert tree["raw/is_cell"].dtype == bool
    assert set(tree["raw"].data_vars) >= {"fluorescence", "neuropil", "deconvolved"}


def test_unlabelled_recording_comes_back_from_our_nwb(tmp_path, activity):
    settings = write_suite2p_folder(activity, "02", tmp_path / "plane0")
    first, _ = ingest(tmp_path / "plane0", tmp_path / "1", {"suite2p": settings})
    second, _ = ingest(tmp_path / "1/sub-01_calcium.nwb", tmp_path / "2")
    assert second["content_sha256"] == first["content_sha256"]


def test_dataset_is_named_by_its_description_then_by_the_table(tmp_path, hdf5):
    row = recording(extra={"dataset": "from the table", "dataset_version": "3"})
    _, tree = ingest(hdf5[0], tmp_path / "1", hdf5[1], row)
    assert (tree.attrs["dataset"], tree.attrs["dataset_version"]) == ("from the table", "3")
    (tmp_path / "source/dataset_description.json").write_text('{"Name": "Worms"}')
    _, tree = ingest(hdf5[0], tmp_path / "2", hdf5[1], row)
    assert (tree.attrs["dataset"], tree.attrs["dataset_version"]) == ("Worms", "3")


def test_permuting_traces_permutes_labels_only(tmp_path, activity):
    found = []
    for seed in (0, 1):
        path = tmp_path / f"{seed}/a.h5"
        settings = write_calcium_hdf5(activity, "01", path, labels=NAMES, seed=seed)
        _, tree = ingest(path, tmp_path / f"{seed}/out", {"hdf5": settings})
        raw = tree["raw"].to_dataset().load()
        found.append({str(k): raw["dff"].values[:, i] for i, k in enumerate(raw["label"].values)})
    for name in ("AVAL", "AVAR", "VB2"):
        np.testing.assert_array_equal(found[0][name], found[1][name])


SCRIPT = """
import sys, json
from pathlib import Path
from neuropipe.config.models import IngestConfig
from neuropipe.config.recordings import Recording
from neuropipe.io.ingest import ingest_recording
row, readers = Recording(**json.loads(sys.argv[1])), json.loads(sys.argv[2])
config = IngestConfig(readers=readers)
report = ingest_recording(row, Path(sys.argv[3]), config, Path(sys.argv[4]) / f"{row.name}.zarr")
print(report["content_sha256"], report["attrs"]["source_sha256"])
"""


def test_separate_processes_give_equal_hashes(tmp_path, hdf5):
    found = set()
    for seed in ("1", "2"):
        row = json.dumps(asdict(recording()))
        command = [sys.executable, "-c", SCRIPT, row, json.dumps(hdf5[1]), str(hdf5[0])]
        result = subprocess.run(
            [*command, str(tmp_path / seed)],
            capture_output=True,
            text=True,
            env={"PYTHONHASHSEED": seed, "PATH": "/usr/bin:/bin"},
        )
        assert result.returncode == 0, result.stderr
        found.add(result.stdout)
    assert len(found) == 1


def test_same_content_again_is_accepted_and_other_content_is_not(tmp_path, hdf5):
    out, row = tmp_path / "stores", recording()
    first, _ = ingest(hdf5[0], out, hdf5[1])
    again, _ = ingest(hdf5[0], out, hdf5[1])
    assert again["content_sha256"] == first["content_sha256"]
    with h5py.File(hdf5[0], "r+") as file:
        file["imaging/dff"][0, 0] += 1
    before = (out / f"{row.name}.report.json").read_bytes()
    with pytest.raises(IngestError, match="EXISTS"):
        ingest(hdf5[0], out, hdf5[1])
    assert (out / f"{row.name}.report.json").read_bytes() == before
    assert open_store(out / f"{row.name}.zarr").attrs["content_sha256"] == first["content_sha256"]
    config = IngestConfig(readers=hdf5[1])
    changed = ingest_recording(row, hdf5[0], config, out / f"{row.name}.zarr", overwrite=True)
    assert changed["content_sha256"] != first["content_sha256"]
    assert len(list(out.iterdir())) == 3


def test_blocks_of_any_size_give_the_same_store(tmp_path, hdf5, monkeypatch):
    from neuropipe.io import ingest as module

    first, _ = ingest(hdf5[0], tmp_path / "1", hdf5[1])
    monkeypatch.setattr(module, "BLOCK_BYTES", 100)
    second, _ = ingest(hdf5[0], tmp_path / "2", hdf5[1])
    assert first["content_sha256"] == second["content_sha256"]


def test_resolve_policy_reaches_the_store(tmp_path, activity):
    names = ["AIML", "AIM?", "", "", "", ""]
    settings = write_calcium_table(activity, "01", tmp_path / "a.csv", labels=names)
    labels = {"ambiguous": "resolve"}
    _, tree = ingest(tmp_path / "a.csv", tmp_path / "o", {"table": settings}, labels=labels)
    assert list(tree["raw/label"].values)[:2] == ["AIML", "AIMR"]
    assert list(tree["raw/label_inferred"].values)[:2] == [False, True]


def test_behaviour_and_events_move_to_the_session_clock(tmp_path, hdf5):
    with h5py.File(hdf5[0], "r+") as file:
        file["camera"] = 1230.0 + np.arange(200) * 0.1
        file["pupil"] = np.arange(200)
        file["bouts"] = np.array([[0, 4], [2, 8]])
    settings = hdf5[1]["hdf5"]
    settings["datasets"]["behavior"]["pupil"] = {"path": "pupil", "time": "camera"}
    settings["datasets"]["intervals"] = {"bout": {"path": "bouts", "index_base": 0}}
    _, tree = ingest(hdf5[0], tmp_path / "stores", hdf5[1])
    camera = 1230.0 + np.arange(200) * 0.1
    np.testing.assert_array_equal(tree["behavior/time_pupil"].values, camera - 1234.5)
    np.testing.assert_allclose(tree["events/onset"].values, [0.0, 1.0])
    np.testing.assert_allclose(tree["events/duration"].values, [0.5, 1.0])
