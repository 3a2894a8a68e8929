"""Ingest of EEG and MEG recordings that the project did not make, against what mne reads."""

from __future__ import annotations

import warnings

import mne
import numpy as np
import pytest
from real_data import ROOT, needs

from neuropipe.config.models import IngestConfig
from neuropipe.config.recordings import Recording
from neuropipe.errors import IngestError
from neuropipe.io.ingest import ingest_recording
from neuropipe.io.scan import scan
from neuropipe.store.nwb import write as nwb_write
from neuropipe.store.scaling import physical
from neuropipe.store.schema import check_tree
from neuropipe.store.zarr import open_store

FILES = ROOT / "eeg_meg"
TINY = "tiny_bids/sub-01/ses-eeg/eeg/sub-01_ses-eeg_task-rest_eeg.vhdr"
# File -> reader of mne, modality, dtype of the store, numbers of channels and of events.
CASES = {
    "edf/test.edf": (mne.io.read_raw_edf, "eeg", "int16", 139, 18),
    "brainvision/test.vhdr": (mne.io.read_raw_brainvision, "eeg", "int16", 32, 13),
    "fif/test_ctf_comp_raw.fif": (mne.io.read_raw_fif, "meg", "float64", 340, 0),
    "eeglab/eeglab_data.set": (mne.io.read_raw_eeglab, "eeg", "float64", 32, 154),
    TINY: (mne.io.read_raw_brainvision, "eeg", "int16", 69, None),
}

pytestmark = needs(FILES)


@pytest.fixture(autouse=True)
def without_nwb(monkeypatch):
    """Write the Zarr store alone while there is no NWB mapping of channels."""
    if "eeg" not in nwb_write.RAW_MAPPERS:
        monkeypatch.setattr("neuropipe.io.ingest.write_nwb", lambda *_: None)


def ingest(source, out, modality="eeg", **override):
    name = f"sub-01_{modality}"
    row = Recording(name=name, subject="01", modality=modality, path="x")
    config = IngestConfig(overrides={name: override} if override else {})
    report = ingest_recording(row, source, config, out / f"{name}.zarr")
    tree = open_store(out / f"{name}.zarr")
    assert check_tree(tree) == []
    return report, tree


def as_mne_reads(read, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read(path, preload=True, verbose="error")


@pytest.mark.parametrize("name", CASES)
def test_values_are_those_of_mne(tmp_path, name):
    read, modality, dtype, n_channels, n_events = CASES[name]
    report, tree = ingest(FILES / name, tmp_path, modality)
    raw, store = as_mne_reads(read, FILES / name), tree["raw"].to_dataset()
    assert store["signal"].dtype == dtype
    assert store.sizes["channel"] == n_channels == len(raw.ch_names)
    assert list(store["channel_source"].values) == raw.ch_names
    np.testing.assert_array_equal(physical(store), raw.get_data().T)
    np.testing.assert_allclose(store["time"].values, raw.times, rtol=1e-15)
    assert tree.attrs["rate"] == raw.info["sfreq"]
    if n_events is not None:
        assert tree["events"].sizes["event"] == n_events
        notes = tree["events/source"].values != "Status"
        np.testing.assert_allclose(
            tree["events/onset"].values[notes], raw.annotations.onset, atol=1e-9
        )
    warned = [issue for issue in report["issues"] if issue["severity"] == "warning"]
    assert warned == [] or name == TINY


def test_meg_facts_come_along(tmp_path):
    _, tree = ingest(FILES / "fif/test_ctf_comp_raw.fif", tmp_path, "meg")
    raw = as_mne_reads(mne.io.read_raw_fif, FILES / "fif/test_ctf_comp_raw.fif")
    store = tree["raw"].to_dataset()
    assert store.attrs["compensation_grade"] == raw.compensation_grade == 3
    np.testing.assert_array_equal(
        np.reshape(store.attrs["dev_head_t"], (4, 4)), raw.info["dev_head_t"]["trans"]
    )
    assert list(store["ch_type"].values) == raw.get_channel_types()
    assert list(store["channel"].values[store["bad"].values]) == raw.info["bads"]
    # An anonymised date is no date.
    assert tree.attrs["session_start"] == ""


def test_several_rates(tmp_path):
    path = FILES / "edf/test_uneven_samp.edf"
    with pytest.raises(IngestError, match="MIXED_RATES.*Hz"):
        ingest(path, tmp_path / "o")
    # A calibration file of volts, which no EEG has.
    with pytest.raises(IngestError, match="UNITS"):
        ingest(path, tmp_path / "o", resample="highest")
    report, tree = ingest(path, tmp_path / "p", resample="highest", units="V")
    raw = as_mne_reads(mne.io.read_raw_edf, path)
    microvolts = np.array([word == "\u00b5V" for word in raw._orig_units.values()])
    found = physical(tree["raw"].to_dataset())
    np.testing.assert_array_equal(found[:, ~microvolts], raw.get_data().T[:, ~microvolts])
    assert "MIXED_RATES" in [issue["code"] for issue in report["issues"]]


def test_each_file_has_one_reader():
    found = scan([FILES / "edf", FILES / "brainvision", FILES / "fif", FILES / "eeglab"])
    readers = sorted(row["reader"] for row in found.rows)
    assert readers == ["brainvision", "edf", "edf", "eeglab", "fif"]
    assert {issue.code for issue in found.issues} <= {"NO_SUBJECT"}
