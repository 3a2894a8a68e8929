"""From BIDS data sets to stores: simulated trees, and what each fault answers."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from ingests import ingest_source

from neuropipe.errors import IngestError
from neuropipe.simulate.bids_files import write_eeg_dataset, write_seeg_dataset
from neuropipe.store.nwb import from_nwb
from neuropipe.store.scaling import physical
from neuropipe.store.schema import check_tree
from neuropipe.store.validate import validate_store


@pytest.fixture(scope="session")
def seeg_set(tmp_path_factory):
    root = tmp_path_factory.mktemp("seeg") / "set"
    return root, write_seeg_dataset(root)


@pytest.fixture(scope="session")
def eeg_set(tmp_path_factory):
    root = tmp_path_factory.mktemp("eeg") / "set"
    return root, write_eeg_dataset(root)


@pytest.fixture
def copied(seeg_set, tmp_path):
    root, found = seeg_set
    shutil.copytree(root, tmp_path / "set")
    path, recording = next(iter(found.items()))
    return tmp_path / "set" / path, recording


def ingest(path, out, modality="ieeg", **settings):
    return ingest_source(path, out, modality, **settings)


def beside(path, suffix):
    return next(path.parent.glob(f"*_{suffix}"))


def test_depth_electrodes_come_from_the_sidecars(seeg_set, tmp_path):
    root, found = seeg_set
    for name, recording in found.items():
        report, tree = ingest(root / name, tmp_path / name.split("/")[0])
        raw = tree["raw"].to_dataset()
        assert check_tree(tree) == []
        assert tree["raw/signal"].dtype == np.int16
        np.testing.assert_allclose(
            physical(raw), 1e-7 * np.round(10 * recording.microvolts), rtol=1e-12, atol=1e-20
        )
        assert list(raw["channel"].values) == list(recording.names)
        assert list(raw["ch_type"].values) == ["seeg"] * 11 + ["ecg"]
        assert list(raw["channel"].values[raw["bad"].values]) == ["LB2"]
        assert list(np.unique(raw["is_white_matter"])) == [-1, 0, 1]
        assert raw.attrs["space"] == "ACPC"
        assert raw.attrs["line_freq"] == 50.0
        np.testing.assert_array_equal(tree["events/onset"], [t for t, *_ in recording.events])
        assert list(tree["events/label"].values) == [label for *_, label, _ in recording.events]
        assert tree.attrs["rate"] == 512.0
        assert tree.attrs["dataset"] == "Simulated recordings"
        assert tree.attrs["dataset_version"] == "doi:10/x"
        assert {issue["severity"] for issue in report["issues"]} == {"info"}
        assert str(root) not in json.dumps(report)
    assert (tree.attrs["sex"], tree.attrs["age"]) == ("M", "P45.5Y")


def test_the_nwb_file_holds_the_electrodes(seeg_set, tmp_path):
    from pynwb import NWBHDF5IO

    root, found = seeg_set
    path, recording = next(iter(found.items()))
    _, tree = ingest(root / path, tmp_path)
    nwb = tmp_path / "sub-01_ieeg.nwb"
    assert from_nwb(nwb).identical(tree)
    assert [issue for issue in validate_store(nwb) if issue.severity == "error"] == []
    with NWBHDF5IO(nwb, "r") as stream:
        file = stream.read()
        electrodes = file.electrodes.to_dataframe()
        series = file.acquisition["seeg"]
        assert list(electrodes["channel_name"]) == list(recording.names[:-1])
        assert set(electrodes["group_name"]) == {"LA", "LB", "R'"}
        assert electrodes["location"].iloc[1] == "Left-Cerebral-White-Matter"
        np.testing.assert_allclose(electrodes["x"].iloc[0], 1e3 * recording.position_mm["LA1"][0])
        volts = series.data[:] * series.conversion + series.offset
        np.testing.assert_allclose(
            volts, 1e-7 * np.round(10 * recording.microvolts[:, :-1]), rtol=1e-12, atol=1e-20
        )
        assert file.acquisition["ecg"].unit == "V"


def test_the_file_of_a_recording_is_ingested_again_without_loss(seeg_set, tmp_path):
    root, found = seeg_set
    _, tree = ingest(root / next(iter(found)), tmp_path / "first")
    _, again = ingest(tmp_path / "first/sub-01_ieeg.nwb", tmp_path / "second")
    assert again.attrs["content_sha256"] == tree.attrs["content_sha256"]
    assert again["raw"].to_dataset().identical(tree["raw"].to_dataset())
    assert again["events"].to_dataset().identical(tree["events"].to_dataset())


def test_eeg_takes_its_types_and_positions(eeg_set, tmp_path):
    root, found = eeg_set
    path, recording = next(iter(found.items()))
    _, tree = ingest(root / path, tmp_path, "eeg")
    raw = tree["raw"].to_dataset()
    assert list(raw["ch_type"].values) == ["eeg"] * 6 + ["eog"]
    assert raw.attrs["coord_frame"] == "CapTrak"
    np.testing.assert_allclose(
        np.stack([raw[axis].values for axis in "xyz"], 1)[:6],
        1e-3 * np.array(list(recording.position_mm.values())),
        rtol=1e-4,  # the table rounds to six digits
    )
    assert list(raw["reference"].values) == ["mastoid"] * 6 + ["REF"]


def drop(suffix):
    return lambda path: beside(path, suffix).unlink()


def cut_row(path):
    table = beside(path, "channels.tsv")
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]))


def link_out(path):
    table = beside(path, "channels.tsv")
    table.rename(path.parents[4] / "channels.tsv")
    table.symlink_to(path.parents[4] / "channels.tsv")


def latin(path):
    table = beside(path, "channels.tsv")
    table.write_bytes(table.read_text(encoding="utf-8").encode("latin-1"))


def wrong_units(path):
    table = beside(path, "channels.tsv")
    text = table.read_text(encoding="utf-8").replace("µV", "kV").replace("kV", "mV")
    table.write_text(text, encoding="utf-8")
    samples = np.fromfile(path.with_suffix(".eeg"), "<i2")
    (samples * 100).astype("<i2").tofile(path.with_suffix(".eeg"))


FAULTS = {
    "no channels.tsv": (drop("channels.tsv"), "MISSING_SIDECAR"),
    "a row too few": (cut_row, "LENGTH_MISMATCH"),
    "a link out of the data set": (link_out, "UNSAFE"),
    "a table that is no UTF-8": (latin, "ENCODING"),
    "another unit": (wrong_units, "UNITS"),
}


@pytest.mark.parametrize(("spoil", "code"), FAULTS.values(), ids=FAULTS.keys())
def test_faults_are_named_and_leave_no_store(copied, tmp_path, spoil, code):
    path, _ = copied
    spoil(path)
    with pytest.raises(IngestError) as caught:
        ingest(path, tmp_path / "out")
    assert caught.value.code == code
    assert caught.value.hint
    assert not list((tmp_path / "out").glob("*"))


def test_samples_cut_off_are_told_by_the_sidecar(copied, tmp_path):
    """The header states no length, and the file ends with a whole sample."""
    path, recording = copied
    data, frame = path.with_suffix(".eeg"), 2 * len(recording.names)
    kept = len(recording.microvolts) // 2
    data.write_bytes(data.read_bytes()[: kept * frame])
    with pytest.raises(IngestError, match=r"TRUNCATED.*RecordingDuration"):
        ingest(path, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*"))
    allowed = {"sub-01_ieeg": {"allow_truncated": True}}
    report, tree = ingest(path, tmp_path / "out", overrides=allowed)
    assert "TRUNCATED" in {issue["code"] for issue in report["issues"]}
    assert tree["raw/signal"].shape[0] == kept


def test_missing_electrodes_are_a_warning(copied, tmp_path):
    path, _ = copied
    beside(path, "electrodes.tsv").unlink()
    report, tree = ingest(path, tmp_path / "out")
    found = {issue["code"]: issue["severity"] for issue in report["issues"]}
    assert found["MISSING_SIDECAR"] == "warning"
    assert np.isnan(tree["raw/x"].values).all()
    assert tree["raw/electrode_group"].values[0] == "LA"


def test_a_setting_leaves_the_sidecars_alone(copied, tmp_path):
    path, _ = copied
    _, tree = ingest(path, tmp_path / "out", "eeg", bids={"sidecars": False})
    assert "events" not in tree.children or tree["events"].sizes["event"] == 0
    assert not tree["raw/bad"].values.any()
