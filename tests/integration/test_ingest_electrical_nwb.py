"""Electrical series of NWB files: other converters' and our own."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from ingests import ingest_source

from neuropipe.errors import IngestError
from neuropipe.io.scan import scan
from neuropipe.simulate.bids_files import simulate_seeg, write_bids_recording, write_bids_root
from neuropipe.simulate.electrical_files import write_electrical_nwb
from neuropipe.store.nwb import from_nwb
from neuropipe.store.scaling import physical

SEEG = {"readers": {"nwb_electrical": {"ch_type": "seeg"}}}


@pytest.fixture(scope="module")
def recording():
    return simulate_seeg(1.0)


def ingest(path, out, modality="ieeg", **settings):
    return ingest_source(path, out, modality, **settings)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_values_are_those_that_pynwb_reads(recording, tmp_path, per_channel, dtype):
    from pynwb import NWBHDF5IO

    write_electrical_nwb(
        tmp_path / "a.nwb", recording.microvolts, 512.0, recording.names,
        per_channel=per_channel, dtype=dtype, start_s=100.0, events=(100.0, 100.5),
    )  # fmt: skip
    _, tree = ingest(tmp_path / "a.nwb", tmp_path / "out", **SEEG)
    raw = tree["raw"].to_dataset()
    with NWBHDF5IO(tmp_path / "a.nwb", "r") as stream:
        series = stream.read().acquisition["ElectricalSeries"]
        expected = np.asarray(series.get_data_in_units(), dtype=np.float64)
    assert raw["signal"].dtype == dtype
    tolerance = 1e-12 if dtype == "int16" else 1e-6
    np.testing.assert_allclose(physical(raw), expected, rtol=tolerance, atol=1e-20)
    assert list(raw["channel"].values) == list(recording.names)
    np.testing.assert_allclose(raw["x"].values, 1e-3 * np.arange(12), rtol=1e-12)
    assert list(raw["anat_label"].values) == ["", *["hippocampus"] * 11]
    assert set(raw["electrode_group"].values) == {"shank"}
    assert set(raw["impedance"].values) == {1e4}
    np.testing.assert_allclose(tree["events/onset"], [0.0, 0.5], atol=1e-12)
    assert (tree.attrs["t0_source"], tree.attrs["rate"]) == (100.0, 512.0)
    assert tree.attrs["sex"] == "F"
    assert from_nwb(tmp_path / "out/sub-01_ieeg.nwb").identical(tree)


def test_types_that_nobody_states_are_an_error(recording, tmp_path):
    write_electrical_nwb(tmp_path / "a.nwb", recording.microvolts, 512.0, recording.names)
    with pytest.raises(IngestError, match="MISSING_SIDECAR"):
        ingest(tmp_path / "a.nwb", tmp_path / "out")
    _, tree = ingest(tmp_path / "a.nwb", tmp_path / "eeg", "eeg")
    assert set(tree["raw/ch_type"].values) == {"eeg"}


def test_a_data_set_states_the_types_of_its_nwb_files(recording, tmp_path):
    write_bids_root(tmp_path / "set", {"01": ("30", "M", "human")})
    path = write_bids_recording(tmp_path / "set", recording, {"sub": "01", "task": "go"})
    write_electrical_nwb(
        path.with_suffix(".nwb"), recording.microvolts, 512.0, recording.names, start_s=7.0
    )
    for extension in (".vhdr", ".vmrk", ".eeg"):
        path.with_suffix(extension).unlink()
    assert [row["reader"] for row in scan([tmp_path / "set"]).rows] == ["nwb_electrical"]
    _, tree = ingest(path.with_suffix(".nwb"), tmp_path / "out")
    assert list(tree["raw/ch_type"].values) == ["seeg"] * 11 + ["ecg"]
    # The table counts from the first sample, wherever the clock of the file stands.
    np.testing.assert_allclose(tree["events/onset"], [t for t, *_ in recording.events], atol=1e-12)
    assert tree.attrs["sex"] == "M"


def test_several_series_are_listed_and_chosen(recording, tmp_path):
    write_electrical_nwb(
        tmp_path / "a.nwb", recording.microvolts, 512.0, recording.names, series=("lfp", "raw")
    )
    with pytest.raises(IngestError, match=r"SEVERAL_SERIES.*lfp.*raw"):
        ingest(tmp_path / "a.nwb", tmp_path / "out", **SEEG)
    with pytest.raises(IngestError, match=r"'hum' is not one of"):
        ingest(tmp_path / "a.nwb", tmp_path / "out", override={"series": "hum"}, **SEEG)
    _, tree = ingest(tmp_path / "a.nwb", tmp_path / "out", override={"series": "raw"}, **SEEG)
    assert tree["raw"].sizes["channel"] == 12


def test_a_file_without_series_is_empty(recording, tmp_path):
    path = tmp_path / "sub-01_ieeg.nwb"
    write_electrical_nwb(path, recording.microvolts, 512.0, recording.names, series=())
    with pytest.raises(IngestError, match=r"EMPTY.*no electrical series"):
        ingest(path, tmp_path / "out")
    found = scan([path])
    assert found.rows == []
    assert [(issue.code, issue.severity) for issue in found.issues] == [("EMPTY", "error")]


def test_another_number_of_electrodes_is_named(recording, tmp_path):
    path = tmp_path / "a.nwb"
    write_electrical_nwb(path, recording.microvolts, 512.0, recording.names)
    with h5py.File(path, "r+") as file:
        region = file["acquisition/ElectricalSeries/electrodes"]
        attrs = dict(region.attrs)
        del file["acquisition/ElectricalSeries/electrodes"]
        new = file.create_dataset("acquisition/ElectricalSeries/electrodes", data=[0, 1])
        for key, value in attrs.items():
            new.attrs[key] = value
    with pytest.warns(UserWarning, match="electrodes"), pytest.raises(IngestError) as caught:
        ingest(path, tmp_path / "out", **SEEG)
    assert caught.value.code in ("LENGTH_MISMATCH", "NOT_THIS_FORMAT")


def test_positions_of_another_unit_are_told(recording, tmp_path):
    path = tmp_path / "a.nwb"
    write_electrical_nwb(path, recording.microvolts, 512.0, recording.names)
    with h5py.File(path, "r+") as file:
        for axis in "xyz":
            data = file[f"general/extracellular_ephys/electrodes/{axis}"]
            data[...] = 1e-3 * data[...]
    report, _ = ingest(path, tmp_path / "out", **SEEG)
    assert "POSITION_UNIT" in {issue["code"] for issue in report["issues"]}


def test_our_own_files_are_told_by_their_record(recording, tmp_path):
    path = tmp_path / "a.nwb"
    write_electrical_nwb(path, recording.microvolts, 512.0, recording.names)
    _, tree = ingest(path, tmp_path / "out", "eeg")
    own = tmp_path / "out/sub-01_eeg.nwb"
    row = scan([own]).rows[0]
    assert (row["reader"], row["modality"]) == ("nwb_electrical", "eeg")
    _, again = ingest(own, tmp_path / "again", "eeg")
    assert again.attrs["content_sha256"] == tree.attrs["content_sha256"]
    with pytest.raises(IngestError, match="wrote it as eeg"):
        ingest(own, tmp_path / "other", "meg")
