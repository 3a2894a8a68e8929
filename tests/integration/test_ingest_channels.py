"""Recordings of channels from their source files to the stores, and every fault on the way."""

from __future__ import annotations

import re
import warnings
from dataclasses import replace

import h5py
import mne
import numpy as np
import pytest
import scipy.io
import xarray as xr
from ingests import codes, ingest_source, refusal_check

from neuropipe.errors import ConfigError, IngestError
from neuropipe.io.registry import match
from neuropipe.simulate.channel_files import (
    simulate_channels,
    write_brainvision,
    write_edf,
    write_eeglab,
    write_fif,
)
from neuropipe.store.scaling import physical

EEG = simulate_channels()
MEG = simulate_channels(kind="meg", n_channels=9)
BRAINVISION = {
    "INT_16": {"binary": "INT_16"},
    "INT_32": {"binary": "INT_32"},
    "IEEE_FLOAT_32": {"binary": "IEEE_FLOAT_32", "resolution": 1.0},
    "vectorised": {"orientation": "VECTORIZED", "points": True},
    "vectorised float": {"orientation": "VECTORIZED", "binary": "IEEE_FLOAT_32", "points": True},
}


def ingest(source, out, modality="eeg", readers=None, strict=False, **override):
    settings = {"readers": readers or {}, "strict": strict}
    return ingest_source(source, out, modality, override=override, **settings)


check_refusal = refusal_check(ingest)


def message(report, code):
    return next(i["message"] for i in report["issues"] if i["code"] == code)


def as_mne_reads(read, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read(path, preload=True, verbose="error")


def assert_equals_mne(tree, raw):
    """Compare values with those of mne.

    It rounds after the calibration and after the unit, we fold both into one factor: where there
    is an offset, results differ by the rounding of both, two units in the last place.
    """
    store = tree["raw"].to_dataset()
    expected = raw.get_data().T
    found = physical(store)
    if type(raw).__name__ in ("RawEDF", "RawBDF"):
        stored = np.abs(store["signal"].values * store.get("scale_factor", xr.DataArray(1)).values)
        terms = np.maximum(stored, np.abs(store.get("add_offset", xr.DataArray(0)).values))
        assert np.all(np.abs(found - expected) <= 2 * np.spacing(terms))
    else:
        np.testing.assert_array_equal(found, expected)
    assert list(store["channel"].values) == raw.ch_names
    np.testing.assert_allclose(store["time"].values, raw.times, rtol=1e-15)


def events_of(tree):
    return tree["events"].to_dataset()


# BrainVision


@pytest.mark.parametrize("form", BRAINVISION.values(), ids=BRAINVISION.keys())
def test_brainvision_keeps_the_numbers_of_the_file(tmp_path, form):
    stored = write_brainvision(EEG, tmp_path / "a.vhdr", **form)
    report, tree = ingest(tmp_path / "a.vhdr", tmp_path / "o")
    store = tree["raw"].to_dataset()
    if stored.dtype.kind == "i":
        assert store["signal"].dtype == stored.dtype
        np.testing.assert_array_equal(store["signal"].values, stored)
        assert store["scale_factor"].dtype == np.float64
    else:
        assert store["signal"].dtype == np.float64
        assert "scale_factor" not in store
    assert_equals_mne(tree, as_mne_reads(mne.io.read_raw_brainvision, tmp_path / "a.vhdr"))
    assert codes(report, "warning") == []
    assert set(store["units"].values) == {"V"}
    assert set(store["reference"].values) == {"REF"}
    assert tree.attrs["rate"] == EEG.rate_hz
    assert tree.attrs["session_start"] == ""
    assert "2024-01-01T09:00:00" in message(report, "NAIVE_SESSION_START")


def test_brainvision_markers_are_events(tmp_path):
    write_brainvision(EEG, tmp_path / "a.vhdr")
    _, tree = ingest(tmp_path / "a.vhdr", tmp_path / "o")
    events = events_of(tree)
    np.testing.assert_array_equal(
        events["onset"].values, [sample / EEG.rate_hz for sample, _ in EEG.events]
    )
    assert list(events["code"].values) == [code for _, code in EEG.events]
    assert events["label"].values[0] == "Stimulus/S  1"
    assert set(events["source"].values) == {"markers"}


def test_a_pause_between_segments_is_a_gap(tmp_path):
    write_brainvision(EEG, tmp_path / "a.vhdr", pauses={1000: 2.0, 2000: 0.5})
    report, tree = ingest(tmp_path / "a.vhdr", tmp_path / "o")
    time = tree["raw/time"].values
    assert tree.attrs["sampling"] == "gaps"
    assert tree.attrs["grid_rate"] == EEG.rate_hz
    np.testing.assert_allclose(time[[999, 1000, 2000]], [3.996, 6.0, 10.5], rtol=1e-12)
    assert tree["raw/observed"].shape == (3, 2)
    assert "2 gaps, 625 samples missing" in message(report, "GAPS")
    events = events_of(tree)
    stimuli = events["label"].str.startswith("Stimulus").values
    samples = np.array([sample for sample, _ in EEG.events])
    np.testing.assert_array_equal(events["onset"].values[stimuli], time[samples])
    assert list(events["label"].values).count("New Segment/") == 2


def test_a_new_segment_that_follows_at_once_is_no_gap(tmp_path):
    write_brainvision(EEG, tmp_path / "a.vhdr", pauses={1000: 0.0005})
    report, tree = ingest(tmp_path / "a.vhdr", tmp_path / "o")
    assert tree.attrs["sampling"] == "regular"
    assert codes(report, "warning") == []


def test_a_segment_off_the_grid_is_placed_on_it_and_told(tmp_path):
    write_brainvision(EEG, tmp_path / "a.vhdr", pauses={1000: 2.0015})
    report, tree = ingest(tmp_path / "a.vhdr", tmp_path / "o")
    assert tree.attrs["sampling"] == "gaps"
    assert tree["raw/time"].values[1000] == 6.0
    assert "0.0015 s off the grid" in message(report, "OFF_GRID")


def test_a_segment_without_a_date_ends_observed_time(tmp_path):
    write_brainvision(EEG, tmp_path / "a.vhdr", pauses={1000: None})
    report, tree = ingest(tmp_path / "a.vhdr", tmp_path / "o")
    assert tree.attrs["sampling"] == "regular"
    np.testing.assert_array_equal(tree["raw/observed"].values, [[0, 3.996], [4.0, 9.996]])
    assert "1 new segments without a date" in message(report, "UNKNOWN_GAP")


def test_events_that_all_lie_outside_are_a_warning(tmp_path):
    stored = write_brainvision(EEG, tmp_path / "a.vhdr")
    data = tmp_path / "a.eeg"
    data.write_bytes(data.read_bytes()[: 10 * stored.itemsize * stored.shape[1]])
    report, _ = ingest(tmp_path / "a.vhdr", tmp_path / "p", allow_truncated=True)
    assert "EVENTS_OUTSIDE" in codes(report, "warning")


def test_segments_in_the_wrong_order_are_refused(tmp_path):
    write_brainvision(EEG, tmp_path / "a.vhdr", pauses={1000: -3.0})
    check_refusal("BAD_TIME", "segment 1 begins at 1.0", tmp_path / "a.vhdr", tmp_path / "o")


@pytest.mark.parametrize("points", [True, False], ids=["length stated", "length not stated"])
def test_truncated_brainvision_is_refused_or_kept_and_flagged(tmp_path, points):
    stored = write_brainvision(EEG, tmp_path / "a.vhdr", points=points)
    data = tmp_path / "a.eeg"
    data.write_bytes(data.read_bytes()[: 1500 * stored.itemsize * stored.shape[1]])
    check_refusal("TRUNCATED", "1500 samples", tmp_path / "a.vhdr", tmp_path / "o")
    report, tree = ingest(tmp_path / "a.vhdr", tmp_path / "p", allow_truncated=True)
    np.testing.assert_array_equal(tree["raw/signal"].values, stored[:1500])
    assert codes(report, "warning") == ["TRUNCATED"]
    assert "EVENTS_OUTSIDE" in codes(report)
    assert events_of(tree).sizes["event"] == len(EEG.events)


def test_a_part_of_a_sample_at_the_end_is_a_truncation(tmp_path):
    write_brainvision(replace(EEG, events=()), tmp_path / "a.vhdr")
    data = tmp_path / "a.eeg"
    data.write_bytes(data.read_bytes()[:-3])
    check_refusal("TRUNCATED", "and 13 bytes", tmp_path / "a.vhdr", tmp_path / "o")


def test_truncated_vectorised_data_cannot_be_kept(tmp_path):
    write_brainvision(EEG, tmp_path / "a.vhdr", orientation="VECTORIZED", points=True)
    data = tmp_path / "a.eeg"
    data.write_bytes(data.read_bytes()[:-4000])
    check_refusal(
        "TRUNCATED", "last channels are lost", tmp_path / "a.vhdr", tmp_path / "o",
        allow_truncated=True,
    )  # fmt: skip


DAMAGE = {
    "no rate": ("SamplingInterval=4000.0", "SamplingInterval=", "SamplingInterval is ''"),
    "negative rate": ("SamplingInterval=4000.0", "SamplingInterval=-4", "above 0"),
    "odd format": ("INT_16", "UINT_12", "BinaryFormat is 'UINT_12'"),
    "odd order": ("MULTIPLEXED", "SORTED", "DataOrientation is 'SORTED'"),
    "text": ("DataFormat=BINARY", "DataFormat=ASCII", "DataFormat is 'ASCII'"),
    "too many channels": ("NumberOfChannels=8", "NumberOfChannels=9", "lacks Ch9"),
    "resolution": ("Ch2=Fp2,REF,0.1", "Ch2=Fp2,REF,a", "resolution 'a'"),
    "no sections": ("[Common Infos]", "Common Infos", "cannot be parsed"),
}


@pytest.mark.parametrize(("found", "put", "fragment"), DAMAGE.values(), ids=DAMAGE.keys())
def test_damaged_brainvision_headers_are_named(tmp_path, found, put, fragment):
    write_brainvision(EEG, tmp_path / "a.vhdr")
    header = tmp_path / "a.vhdr"
    text = header.read_text()
    assert found in text
    header.write_text(text.replace(found, put))
    check_refusal("NOT_THIS_FORMAT", re.escape(fragment), header, tmp_path / "o")


def test_brainvision_without_its_data_or_markers(tmp_path):
    write_brainvision(EEG, tmp_path / "a.vhdr")
    (tmp_path / "a.vmrk").unlink()
    report, tree = ingest(tmp_path / "a.vhdr", tmp_path / "p")
    assert "MISSING_SIDECAR" in codes(report, "warning")
    assert "events" not in tree.children
    (tmp_path / "a.eeg").rename(tmp_path / "b.eeg")
    check_refusal("MISSING_SIDECAR", r"DataFile=a\.eeg", tmp_path / "a.vhdr", tmp_path / "o")


def test_headers_must_not_lead_out_of_their_folder(tmp_path):
    write_brainvision(EEG, tmp_path / "in/a.vhdr")
    (tmp_path / "in/a.eeg").rename(tmp_path / "a.eeg")
    header = tmp_path / "in/a.vhdr"
    header.write_text(header.read_text().replace("DataFile=a.eeg", "DataFile=../a.eeg"))
    check_refusal("UNSAFE", "leads out", header, tmp_path / "o")
    write_eeglab(EEG, tmp_path / "in/b.set")
    content = scipy.io.loadmat(tmp_path / "in/b.set", simplify_cells=True)
    content["EEG"]["data"] = "../b.fdt"
    scipy.io.savemat(tmp_path / "in/b.set", {"EEG": content["EEG"]}, appendmat=False)
    (tmp_path / "in/b.fdt").rename(tmp_path / "b.fdt")
    check_refusal("UNSAFE", "out of the folder", tmp_path / "in/b.set", tmp_path / "o")


def test_a_damaged_marker_is_named(tmp_path):
    write_brainvision(EEG, tmp_path / "a.vhdr")
    markers = tmp_path / "a.vmrk"
    markers.write_text(markers.read_text().replace("Stimulus,S  1,126", "Stimulus,S  1,x", 1))
    check_refusal(
        "NOT_THIS_FORMAT", "marker 'Stimulus,S  1,x,1,0'", tmp_path / "a.vhdr", tmp_path / "o"
    )


# EDF and BDF


@pytest.mark.parametrize("bdf", [False, True], ids=["edf", "bdf"])
@pytest.mark.parametrize("annotations", [False, True], ids=["plain", "plus"])
def test_edf_keeps_the_numbers_of_the_file(tmp_path, bdf, annotations):
    path = tmp_path / ("a.bdf" if bdf else "a.edf")
    numbers = write_edf(EEG, path, bdf=bdf, annotations=annotations, trigger=bdf)
    report, tree = ingest(path, tmp_path / "o")
    store = tree["raw"].to_dataset()
    assert store["signal"].dtype == (np.int32 if bdf else np.int16)
    for k, name in enumerate(EEG.names):
        np.testing.assert_array_equal(store["signal"].values[:, k], numbers[name])
    assert_equals_mne(tree, as_mne_reads(mne.io.read_raw_bdf if bdf else mne.io.read_raw_edf, path))
    assert codes(report, "warning") == []
    types = list(store["ch_type"].values)
    assert types == ["eeg"] * 8 + ["stim"] * bdf
    np.testing.assert_array_equal(store["low_cutoff"].values[:8], 0.1)
    np.testing.assert_array_equal(store["high_cutoff"].values[:8], 75)
    if annotations:
        assert (tree.attrs["sex"], tree.attrs["age"]) == ("F", "P72Y")


def test_edf_events_come_from_annotations_and_triggers(tmp_path):
    write_edf(EEG, tmp_path / "a.bdf", bdf=True, trigger=True)
    _, tree = ingest(tmp_path / "a.bdf", tmp_path / "o")
    events = events_of(tree)
    onsets = [sample / EEG.rate_hz for sample, _ in EEG.events]
    for source in ("annotations", "Status"):
        here = events["source"].values == source
        np.testing.assert_allclose(events["onset"].values[here], onsets, atol=1e-6)
        assert list(events["code"].values[here]) == [code for _, code in EEG.events]
    assert (np.diff(events["onset"].values) >= 0).all()
    off = {"edf": {"stim_events": False}}
    _, tree = ingest(tmp_path / "a.bdf", tmp_path / "p", readers=off)
    assert set(events_of(tree)["source"].values) == {"annotations"}


def test_edf_with_gaps_keeps_its_times(tmp_path):
    numbers = write_edf(EEG, tmp_path / "a.edf", pauses={4: 2.5, 7: 1.0})
    report, tree = ingest(tmp_path / "a.edf", tmp_path / "o")
    time = tree["raw/time"].values
    assert tree.attrs["sampling"] == "gaps"
    np.testing.assert_allclose(time[[999, 1000, 1750]], [3.996, 6.5, 10.5], rtol=1e-12)
    np.testing.assert_array_equal(tree["raw/signal"].values[:, 0], numbers["Fp1"])
    assert "2 gaps" in message(report, "GAPS")
    samples = np.array([sample for sample, _ in EEG.events])
    np.testing.assert_allclose(events_of(tree)["onset"].values, time[samples], atol=1e-6)


def test_gaps_in_a_file_that_claims_to_have_none_are_found(tmp_path):
    write_edf(EEG, tmp_path / "a.edf", pauses={4: 2.5})
    raw = (tmp_path / "a.edf").read_bytes()
    (tmp_path / "a.edf").write_bytes(raw.replace(b"EDF+D", b"EDF+C"))
    report, tree = ingest(tmp_path / "a.edf", tmp_path / "o")
    assert tree.attrs["sampling"] == "gaps"
    assert "EDF+C, but its records have gaps" in message(report, "HEADER")


def test_records_in_the_wrong_order_are_refused(tmp_path):
    write_edf(EEG, tmp_path / "a.edf", pauses={4: -2.0})
    check_refusal("BAD_TIME", "begins at 2.0", tmp_path / "a.edf", tmp_path / "o")


def test_a_record_of_a_file_with_gaps_must_have_a_time(tmp_path):
    write_edf(EEG, tmp_path / "a.edf", pauses={4: 2.0})
    raw = (tmp_path / "a.edf").read_bytes()
    (tmp_path / "a.edf").write_bytes(raw.replace(b"+3\x14\x14\x00", b"\x00" * 5))
    check_refusal("BAD_TIME", "record 3", tmp_path / "a.edf", tmp_path / "o")


@pytest.mark.parametrize("bdf", [False, True], ids=["edf", "bdf"])
def test_truncated_edf_is_refused_or_kept_and_flagged(tmp_path, bdf):
    path = tmp_path / ("a.bdf" if bdf else "a.edf")
    numbers = write_edf(EEG, path, bdf=bdf)
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    check_refusal("TRUNCATED", "states 10 records .* the file holds", path, tmp_path / "o")
    report, tree = ingest(path, tmp_path / "p", allow_truncated=True)
    kept = tree["raw/signal"].values
    assert len(kept) in (1000, 1250)
    np.testing.assert_array_equal(kept[:, 0], numbers["Fp1"][: len(kept)])
    assert codes(report, "warning") == ["TRUNCATED"]


def test_edf_of_a_recording_that_was_not_closed(tmp_path):
    write_edf(EEG, tmp_path / "a.edf")
    raw = bytearray((tmp_path / "a.edf").read_bytes())
    raw[236:244] = b"-1".ljust(8)
    (tmp_path / "a.edf").write_bytes(raw)
    report, tree = ingest(tmp_path / "a.edf", tmp_path / "o")
    assert tree["raw"].sizes["time"] == 2500
    assert "does not state the number of records" in message(report, "HEADER")


EDF_DAMAGE = {
    "magic": (0, b"1", "begins with"),
    "header bytes": (184, b"99", "bytes in header"),
    "signals": (252, b"x", "number of signals"),
    "no signals": (252, b"0   ", "number of signals"),
    "duration": (244, b"-1", "duration of a data record"),
    "endless": (244, b"inf", "duration of a data record"),
    "physical": (256 + 9 * (16 + 80 + 8), b"abc", "physical min"),
    "samples": (256 + 9 * (16 + 80 + 8 * 5 + 80), b"2.5", "samples in a data record"),
}


@pytest.mark.parametrize(("at", "put", "fragment"), EDF_DAMAGE.values(), ids=EDF_DAMAGE.keys())
def test_damaged_edf_headers_are_named(tmp_path, at, put, fragment):
    write_edf(EEG, tmp_path / "a.edf")
    raw = bytearray((tmp_path / "a.edf").read_bytes())
    raw[at : at + len(put)] = put
    (tmp_path / "a.edf").write_bytes(raw)
    fragment = "no reader" if at == 0 else fragment
    check_refusal("NOT_THIS_FORMAT", fragment, tmp_path / "a.edf", tmp_path / "o")


@pytest.mark.parametrize("size", [0, 100, 300, 2600])
def test_an_edf_file_that_ends_in_its_header(tmp_path, size):
    write_edf(EEG, tmp_path / "a.edf")
    raw = (tmp_path / "a.edf").read_bytes()
    (tmp_path / "a.edf").write_bytes(raw[:size])
    code = {0: "EMPTY"}.get(size, "TRUNCATED")
    check_refusal(code, r"a\.edf", tmp_path / "a.edf", tmp_path / "o")


def test_mixed_rates_are_refused_unless_chosen(tmp_path):
    numbers = write_edf(EEG, tmp_path / "a.edf", slower={"Fp1": 5, "P4": 5})
    error = check_refusal(
        "MIXED_RATES", "50 Hz: Fp1, P4; 250 Hz: Fp2", tmp_path / "a.edf", tmp_path / "o"
    )
    assert 'series: "250 Hz"' in error.hint
    report, tree = ingest(tmp_path / "a.edf", tmp_path / "p", series="50 Hz")
    assert list(tree["raw/channel"].values) == ["Fp1", "P4"]
    assert tree.attrs["rate"] == 50
    np.testing.assert_array_equal(tree["raw/signal"].values[:, 0], numbers["Fp1"])
    assert codes(report).count("MIXED_RATES") == 1
    check_refusal("MIXED_RATES", "names none", tmp_path / "a.edf", tmp_path / "o", series="60 Hz")


def test_mixed_rates_brought_to_the_highest_by_mne(tmp_path):
    write_edf(EEG, tmp_path / "a.edf", slower={"Fp1": 5, "P4": 5}, annotations=False)
    report, tree = ingest(tmp_path / "a.edf", tmp_path / "o", resample="highest")
    assert tree["raw/signal"].dtype == np.float64
    assert_equals_mne(tree, as_mne_reads(mne.io.read_raw_edf, tmp_path / "a.edf"))
    assert "2 of 8 channels resampled to 250 Hz" in message(report, "MIXED_RATES")


def test_duplicate_names_are_numbered_and_kept(tmp_path):
    twice = replace(EEG, names=("Cz", "Fz", "Cz", "Pz", "Fz", "Cz", "Oz", "C3"))
    write_edf(twice, tmp_path / "a.edf")
    report, tree = ingest(tmp_path / "a.edf", tmp_path / "o")
    store = tree["raw"].to_dataset()
    assert list(store["channel"].values[:6]) == ["Cz-0", "Fz-0", "Cz-1", "Pz", "Fz-1", "Cz-2"]
    assert list(store["channel_source"].values) == list(twice.names)
    assert_equals_mne(tree, as_mne_reads(mne.io.read_raw_edf, tmp_path / "a.edf"))
    assert "Cz, Fz" in message(report, "DUPLICATE_CHANNEL")
    write_brainvision(twice, tmp_path / "a.vhdr")
    report, tree = ingest(tmp_path / "a.vhdr", tmp_path / "p")
    assert list(tree["raw/channel"].values[:2]) == ["Cz-0", "Fz-0"]
    assert sorted(codes(report, "warning")) == ["DUPLICATE_CHANNEL", "HEADER"]
    with pytest.raises(IngestError, match="DUPLICATE_CHANNEL"):
        ingest(tmp_path / "a.edf", tmp_path / "q", strict=True)


# Units


def test_another_unit_than_declared_is_refused_and_can_be_stated(tmp_path):
    write_brainvision(EEG, tmp_path / "a.vhdr", unit="V")
    error = check_refusal("UNITS", "median SD", tmp_path / "a.vhdr", tmp_path / "o")
    assert "units: uV" in error.hint
    report, tree = ingest(tmp_path / "a.vhdr", tmp_path / "p", units="uV")
    write_brainvision(EEG, tmp_path / "b.vhdr")
    _, right = ingest(tmp_path / "b.vhdr", tmp_path / "q")
    np.testing.assert_allclose(physical(tree["raw"].to_dataset()),
                               physical(right["raw"].to_dataset()), rtol=1e-14)  # fmt: skip
    assert codes(report, "warning") == []


def test_floats_are_multiplied_by_a_stated_unit(tmp_path):
    options = {"binary": "IEEE_FLOAT_32", "resolution": 1.0}
    write_brainvision(EEG, tmp_path / "a.vhdr", unit="V", **options)
    check_refusal("UNITS", "header declares V", tmp_path / "a.vhdr", tmp_path / "o")
    _, tree = ingest(tmp_path / "a.vhdr", tmp_path / "p", units="uV")
    np.testing.assert_allclose(tree["raw/signal"].values, EEG.values, rtol=1e-6, atol=1e-11)


def test_a_unit_that_is_stated_wrongly_is_kept_and_told(tmp_path):
    write_edf(EEG, tmp_path / "a.edf")
    report, _ = ingest(tmp_path / "a.edf", tmp_path / "o", units="V")
    assert "the unit was stated, so kept" in message(report, "UNITS")
    for word, fragment in (("parsec", "is no unit"), ("fT", "no channel is in T")):
        check_refusal("UNITS", fragment, tmp_path / "a.edf", tmp_path / "p", units=word)


def test_meg_in_femtotesla_is_refused(tmp_path):
    wrong = replace(MEG, values=MEG.values * 1e15)
    write_fif(wrong, tmp_path / "a_meg.fif")
    error = check_refusal("UNITS", "T", tmp_path / "a_meg.fif", tmp_path / "o", modality="meg")
    assert "units: fT" in error.hint


def test_single_channels_of_odd_amplitude_are_told(tmp_path):
    odd = EEG.values.copy()
    odd[:, 1] *= 1e4
    odd[:, 5] = 0.0
    write_brainvision(replace(EEG, values=odd), tmp_path / "a.vhdr", binary="INT_32")
    report, _ = ingest(tmp_path / "a.vhdr", tmp_path / "o")
    assert codes(report, "warning") == ["UNITS"]
    assert "Fp2" in message(report, "UNITS")
    assert "1 channels never change: C4" in message(report, "FLAT_CHANNEL")


def test_channels_without_a_unit_are_told(tmp_path):
    write_edf(EEG, tmp_path / "a.edf", unit="")
    report, tree = ingest(tmp_path / "a.edf", tmp_path / "o")
    assert set(tree["raw/units"].values) == {""}
    assert "8 channels state no physical unit" in message(report, "UNITS")
    _, tree = ingest(tmp_path / "a.edf", tmp_path / "p", units="uV")
    write_edf(EEG, tmp_path / "b.edf")
    _, right = ingest(tmp_path / "b.edf", tmp_path / "q")
    np.testing.assert_allclose(physical(tree["raw"].to_dataset()),
                               physical(right["raw"].to_dataset()), rtol=1e-14)  # fmt: skip


def test_intracranial_recordings_need_channel_types(tmp_path):
    write_edf(EEG, tmp_path / "a.edf")
    write_brainvision(EEG, tmp_path / "a.vhdr")
    write_eeglab(EEG, tmp_path / "a.set")
    for name in ("a.edf", "a.vhdr", "a.set"):
        check_refusal(
            "MISSING_SIDECAR", "channel types", tmp_path / name, tmp_path / "o", modality="ieeg"
        )


# FIF


@pytest.mark.parametrize("single", [True, False], ids=["float32", "float64"])
def test_fif_comes_in_as_mne_reads_it(tmp_path, single):
    path = tmp_path / "a_meg.fif"
    write_fif(MEG, path, single=single)
    report, tree = ingest(path, tmp_path / "o", "meg")
    store = tree["raw"].to_dataset()
    assert store["signal"].dtype == (np.float32 if single else np.float64)
    assert_equals_mne(tree, as_mne_reads(mne.io.read_raw_fif, path))
    assert set(store["units"].values) == {"T", "T/m", ""}
    assert list(store["channel"].values[store["bad"].values]) == list(MEG.bad)
    assert store.attrs["line_freq"] == 50
    assert store.attrs["coord_frame"] == "device"
    np.testing.assert_allclose(store["x"].values[:9], MEG.positions[:, 0], rtol=1e-6)
    assert tree.attrs["session_start"] == "2024-01-01T09:00:00+00:00"
    assert tree.attrs["t0_source"] == 4.0
    assert codes(report) == []


@pytest.mark.parametrize("dated", [True, False])
def test_first_samp_and_date_do_not_shift_onsets(tmp_path, dated):
    notes = [(1.5, 0.2, "blink"), (60.0, 1.0, "late"), (-2.0, 0.0, "early")]
    write_fif(MEG, tmp_path / "a_meg.fif", first_samp=12_345, notes=notes, dated=dated)
    report, tree = ingest(tmp_path / "a_meg.fif", tmp_path / "o", "meg")
    events = events_of(tree)
    notes_found = events["source"].values == "annotations"
    # The file holds onsets as float32, counted from the start of the recorder.
    np.testing.assert_allclose(events["onset"].values[notes_found], [-2.0, 1.5, 60.0], atol=1e-5)
    assert list(events["label"].values[notes_found]) == ["early", "blink", "late"]
    np.testing.assert_array_equal(
        events["onset"].values[~notes_found], [sample / MEG.rate_hz for sample, _ in MEG.events]
    )
    assert set(events["source"].values[~notes_found]) == {"STI 014"}
    assert "2 of 13 events" in message(report, "EVENTS_OUTSIDE")


def test_what_a_fif_recorder_skipped_is_a_gap(tmp_path):
    long = simulate_channels(kind="meg", n_channels=3, duration_s=40, bad=())
    write_fif(long, tmp_path / "a_meg.fif", notes=[(12.0, 8.0, "BAD_ACQ_SKIP")])
    report, tree = ingest(tmp_path / "a_meg.fif", tmp_path / "o", "meg")
    time = tree["raw/time"].values
    assert tree.attrs["sampling"] == "gaps"
    np.testing.assert_allclose(tree["raw/observed"].values[:, 0], [0, 20], rtol=1e-12)
    whole = np.rint(time * long.rate_hz).astype(int)
    np.testing.assert_array_equal(
        tree["raw/signal"].values[:, 0], long.values[whole, 0].astype(np.float32)
    )
    assert "1 gaps" in message(report, "GAPS")
    steps = events_of(tree)
    steps = steps["onset"].values[steps["source"].values == "STI 014"]
    kept = [s / long.rate_hz for s, _ in long.events if not 12 <= s / long.rate_hz < 20]
    np.testing.assert_allclose(steps, kept, atol=1e-9)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.99])
def test_truncated_fif_is_refused(tmp_path, share):
    path = tmp_path / "a_meg.fif"
    write_fif(MEG, path)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(share * len(raw))])
    check_refusal("TRUNCATED", "chain of tags breaks off", path, tmp_path / "o", modality="meg")
    # mne reads no piece that is cut off, whatever is allowed.
    check_refusal(
        "TRUNCATED", "mne cannot read it", path, tmp_path / "o",
        modality="meg", allow_truncated=True,
    )  # fmt: skip


def test_a_fif_file_that_lost_only_its_end_mark_is_whole(tmp_path):
    path = tmp_path / "a_meg.fif"
    write_fif(MEG, path)
    path.write_bytes(path.read_bytes()[:-16])
    report, tree = ingest(path, tmp_path / "p", "meg")
    assert_equals_mne(tree, as_mne_reads(mne.io.read_raw_fif, path))
    assert set(codes(report)) == {"HEADER"}
    # Without the end of its last block it is not.
    path.write_bytes(path.read_bytes()[:-20])
    check_refusal("TRUNCATED", "chain of tags", path, tmp_path / "o", modality="meg")
    report, _ = ingest(path, tmp_path / "q", "meg", allow_truncated=True)
    assert "TRUNCATED" in codes(report, "warning")


def test_recordings_without_samples_or_channels_are_refused(tmp_path):
    write_edf(replace(EEG, values=EEG.values[:250], events=()), tmp_path / "a.edf")
    raw = bytearray((tmp_path / "a.edf").read_bytes())
    raw[236:244] = b"0".ljust(8)
    (tmp_path / "a.edf").write_bytes(raw[: 256 * 10])
    check_refusal("EMPTY", "no samples", tmp_path / "a.edf", tmp_path / "o")
    raw[256:400] = b"EDF Annotations ".ljust(16) * 9
    (tmp_path / "a.edf").write_bytes(raw)
    check_refusal("EMPTY", "annotations but no signals", tmp_path / "a.edf", tmp_path / "o")
    write_brainvision(EEG, tmp_path / "a.vhdr")
    (tmp_path / "a.eeg").write_bytes(b"")
    check_refusal("EMPTY", "no bytes", tmp_path / "a.vhdr", tmp_path / "o")


def test_split_fif_files_are_one_recording(tmp_path):
    long = simulate_channels(40, 60, rate_hz=500, bad=())
    write_fif(long, tmp_path / "whole_eeg.fif")
    raw = mne.io.read_raw_fif(tmp_path / "whole_eeg.fif", verbose="error")
    raw.save(tmp_path / "a_eeg.fif", split_size="3MB", buffer_size_sec=1.0, verbose="error")
    assert (tmp_path / "a_eeg-1.fif").exists()
    report, tree = ingest(tmp_path / "a_eeg.fif", tmp_path / "o")
    assert_equals_mne(tree, raw)
    assert len(report["source"]) == len(list(tmp_path.glob("a_eeg*.fif")))
    (tmp_path / "a_eeg-1.fif").rename(tmp_path / "b.fif")
    check_refusal("NOT_THIS_FORMAT", "does not exist", tmp_path / "a_eeg.fif", tmp_path / "p")


def test_a_fif_file_without_recording_is_refused(tmp_path):
    info = mne.create_info(["a"], 10.0, "eeg")
    mne.EvokedArray(np.zeros((1, 5)), info, verbose="error").save(tmp_path / "a-ave.fif")
    check_refusal("NOT_THIS_FORMAT", "No raw data", tmp_path / "a-ave.fif", tmp_path / "o")


def test_a_trigger_channel_can_be_named(tmp_path):
    write_fif(MEG, tmp_path / "a_meg.fif")
    with pytest.raises(ConfigError, match="trigger channels are STI 014"):
        ingest(tmp_path / "a_meg.fif", tmp_path / "o", "meg", {"fif": {"stim_channel": "STI 1"}})


def test_missing_samples_are_masked_and_all_missing_refused(tmp_path):
    values = MEG.values.copy()
    values[100:300, 2] = np.nan
    values[:, 4] = np.nan
    write_fif(replace(MEG, values=values), tmp_path / "a_meg.fif")
    report, tree = ingest(tmp_path / "a_meg.fif", tmp_path / "o", "meg")
    store = tree["raw"].to_dataset()
    np.testing.assert_array_equal(store["valid"].values, np.isfinite(store["signal"].values))
    assert list(np.flatnonzero(~store["channel_ok"].values)) == [4]
    assert "NAN_IN_DATA" in codes(report)
    write_edf(EEG, tmp_path / "a.edf")
    write_brainvision(EEG, tmp_path / "n.vhdr", binary="IEEE_FLOAT_32")
    (tmp_path / "n.eeg").write_bytes(np.full(EEG.values.shape, np.nan, "<f4").tobytes())
    check_refusal("NAN_IN_DATA", "every row", tmp_path / "n.vhdr", tmp_path / "p")


# EEGLAB


@pytest.mark.parametrize("separate", [True, False], ids=["fdt", "inside"])
def test_eeglab_comes_in_as_mne_reads_it(tmp_path, separate):
    write_eeglab(EEG, tmp_path / "a.set", separate=separate)
    report, tree = ingest(tmp_path / "a.set", tmp_path / "o")
    assert_equals_mne(tree, as_mne_reads(mne.io.read_raw_eeglab, tmp_path / "a.set"))
    events = events_of(tree)
    np.testing.assert_array_equal(
        events["onset"].values, [sample / EEG.rate_hz for sample, _ in EEG.events]
    )
    assert list(events["code"].values) == [code for _, code in EEG.events]
    store = tree["raw"].to_dataset()
    np.testing.assert_allclose(store["x"].values, EEG.positions[:, 0], atol=1e-9)
    assert store.attrs["coord_frame"] == "head"
    assert codes(report, "warning") == []


def test_eeglab_boundaries_are_gaps(tmp_path):
    write_eeglab(EEG, tmp_path / "a.set", cuts={999.5: 500.0, 1999.5: np.nan})
    report, tree = ingest(tmp_path / "a.set", tmp_path / "o")
    time = tree["raw/time"].values
    assert tree.attrs["sampling"] == "gaps"
    np.testing.assert_allclose(time[[999, 1000, 2000]], [3.996, 6.0, 10.0], rtol=1e-12)
    np.testing.assert_allclose(tree["raw/observed"].values[:, 0], [0, 6, 10])
    assert {"GAPS", "UNKNOWN_GAP"} <= set(codes(report, "warning"))
    events = events_of(tree)
    here = events["label"].values != "boundary"
    samples = np.array([sample for sample, _ in EEG.events])
    np.testing.assert_allclose(events["onset"].values[here], time[samples], atol=1e-9)


def test_truncated_eeglab_is_refused_or_kept_and_flagged(tmp_path):
    write_eeglab(EEG, tmp_path / "a.set")
    data = tmp_path / "a.fdt"
    data.write_bytes(data.read_bytes()[:30_000])
    check_refusal("TRUNCATED", "30000 bytes", tmp_path / "a.set", tmp_path / "o")
    report, tree = ingest(tmp_path / "a.set", tmp_path / "p", allow_truncated=True)
    assert tree["raw"].sizes["time"] == 30_000 // 32
    assert "TRUNCATED" in codes(report, "warning")
    data.unlink()
    check_refusal("MISSING_SIDECAR", "fdt", tmp_path / "a.set", tmp_path / "o")


def test_eeglab_files_that_end_early_or_are_damaged(tmp_path):
    write_eeglab(EEG, tmp_path / "a.set", separate=False)
    raw = (tmp_path / "a.set").read_bytes()
    for size in (60, 128, 1000, len(raw) // 2, len(raw) - 1):
        (tmp_path / "a.set").write_bytes(raw[:size])
        early = "at least one variable" if size <= 128 else "said to follow"
        check_refusal("TRUNCATED", early, tmp_path / "a.set", tmp_path / "o")
    (tmp_path / "a.set").write_bytes(raw[:128] + b"\x63" + raw[129:])
    check_refusal("NOT_THIS_FORMAT", "type 99", tmp_path / "a.set", tmp_path / "o")
    # The type of the samples: SciPy ends the process when it is none.
    at = raw.index(np.array([7, 4 * EEG.values.size], dtype="<u4").tobytes())
    (tmp_path / "a.set").write_bytes(raw[:at] + b"\x08" + raw[at + 1 :])
    check_refusal("NOT_THIS_FORMAT", "type 8, which may not", tmp_path / "a.set", tmp_path / "o")


def write_eeglab_73(path, values, rate):
    """Write a data set as MATLAB 7.3 does: HDF5 behind a header of MATLAB, arrays turned round."""
    with h5py.File(path, "w", userblock_size=512) as file:
        group = file.create_group("EEG")
        group.attrs["MATLAB_class"] = np.bytes_("struct")
        numbers = {"nbchan": values.shape[1], "trials": 1, "pnts": len(values), "srate": rate}
        fields = {name: [[float(number)]] for name, number in numbers.items()} | {"data": values}
        for name, field in fields.items():
            group[name] = np.asarray(field)
            group[name].attrs["MATLAB_class"] = np.bytes_("double")
        for name in ("chanlocs", "event", "epoch", "icawinv", "icaweights", "icasphere", "icaact"):
            group[name] = np.zeros(2, "u8")
            group[name].attrs.update(MATLAB_class=np.bytes_("double"), MATLAB_empty=np.uint8(1))
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, HDF5 schema 1.00 .".ljust(124)
    with path.open("r+b") as stream:
        stream.write(header + b"\x00\x02IM")


def test_eeglab_in_matlab_73(tmp_path):
    values = np.random.default_rng(0).standard_normal((400, 3)) * 20
    write_eeglab_73(tmp_path / "a.set", values, 100.0)
    _, tree = ingest(tmp_path / "a.set", tmp_path / "o")
    np.testing.assert_allclose(tree["raw/signal"].values, values * 1e-6, rtol=1e-12)
    whole = (tmp_path / "a.set").read_bytes()
    (tmp_path / "a.set").write_bytes(whole[:-100])
    check_refusal("TRUNCATED", "truncated", tmp_path / "a.set", tmp_path / "p")


def test_a_matlab_file_that_is_no_data_set_keeps_the_words_of_mne(tmp_path):
    savemat = scipy.io.savemat
    savemat(tmp_path / "a.set", {"x": np.zeros(3)}, appendmat=False)
    check_refusal("NOT_THIS_FORMAT", "mne cannot read it", tmp_path / "a.set", tmp_path / "o")
    write_eeglab(EEG, tmp_path / "b.set")
    content = scipy.io.loadmat(tmp_path / "b.set", simplify_cells=True)
    content["EEG"]["trials"] = 2
    savemat(tmp_path / "b.set", {"EEG": content["EEG"]}, appendmat=False)
    check_refusal("NOT_THIS_FORMAT", "number of trials is 2", tmp_path / "b.set", tmp_path / "o")


# All formats


def test_each_format_has_one_reader(tmp_path):
    write_edf(EEG, tmp_path / "a.edf")
    write_edf(EEG, tmp_path / "b.bdf", bdf=True)
    write_brainvision(EEG, tmp_path / "sub-02_task-rest_ieeg.vhdr")
    write_eeglab(EEG, tmp_path / "d.set")
    write_fif(MEG, tmp_path / "e_meg.fif")
    expected = {
        "a.edf": ("edf", "eeg"),
        "b.bdf": ("edf", "eeg"),
        "sub-02_task-rest_ieeg.vhdr": ("brainvision", "ieeg"),
        "d.set": ("eeglab", "eeg"),
        "e_meg.fif": ("fif", "meg"),
    }
    for name, (reader, modality) in expected.items():
        found, hit = match(tmp_path / name)
        assert (found.name, hit.modality) == (reader, modality)
    assert match(tmp_path / "sub-02_task-rest_ieeg.vhdr")[1].entities["task"] == "rest"


@pytest.mark.parametrize("name", ["a.edf", "a.vhdr", "a.set", "a.fif", "a.sqd"])
def test_web_pages_and_noise_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"<!DOCTYPE html><html>not found</html>" + b" " * 400)
    check_refusal("NOT_THIS_FORMAT", "HTML page", tmp_path / name, tmp_path / "o")
    noise = np.random.default_rng(0).integers(1, 255, 5000, dtype=np.uint8).tobytes()
    (tmp_path / name).write_bytes(noise)
    check_refusal("NOT_THIS_FORMAT", name, tmp_path / name, tmp_path / "o")


def test_ingest_twice_gives_the_same_content(tmp_path):
    write_edf(EEG, tmp_path / "a.edf", pauses={4: 2.5})
    first, _ = ingest(tmp_path / "a.edf", tmp_path / "o")
    second, _ = ingest(tmp_path / "a.edf", tmp_path / "p")
    assert first["content_sha256"] == second["content_sha256"]


@pytest.mark.parametrize("max_bytes", [64, 5_000, 1 << 20])
def test_blocks_of_any_size_hold_the_same_samples(tmp_path, max_bytes):
    from neuropipe.config.models import IngestOverride

    written = {
        "a.vhdr": write_brainvision(EEG, tmp_path / "a.vhdr", orientation="VECTORIZED"),
        "a.edf": np.stack(list(write_edf(EEG, tmp_path / "a.edf").values()), axis=1),
        "a.bdf": np.stack(list(write_edf(EEG, tmp_path / "a.bdf", bdf=True).values()), axis=1),
    }
    for name, expected in written.items():
        reader, _ = match(tmp_path / name)
        handle = reader.open_recording(tmp_path / name, reader.settings(), IngestOverride(), "eeg")
        blocks = [block.values for block in handle.blocks(max_bytes)]
        np.testing.assert_array_equal(np.concatenate(blocks), expected)
        assert max(block.nbytes for block in blocks) <= max(max_bytes, 32)


@pytest.mark.parametrize("name", ["a.edf", "a.bdf", "a.vhdr", "a.vmrk", "a_meg.fif"])
def test_damaged_bytes_never_end_in_a_traceback(tmp_path, name):
    """Bytes of headers are replaced, put in or cut off: a result or a named fault follows."""
    from neuropipe.config.models import IngestOverride
    from neuropipe.errors import NeuropipeError

    short = simulate_channels(4, 4)
    write_edf(short, tmp_path / "a.edf")
    write_edf(short, tmp_path / "a.bdf", bdf=True, trigger=True)
    write_brainvision(short, tmp_path / "a.vhdr")
    write_fif(simulate_channels(3, 4, kind="meg", bad=()), tmp_path / "a_meg.fif")
    opened = tmp_path / name.replace("vmrk", "vhdr")
    whole, faults = (tmp_path / name).read_bytes(), 0
    rng = np.random.default_rng(len(name))
    for turn in range(12):
        raw, top = bytearray(whole), min(2000, len(whole))
        if turn % 3 == 0:
            for at in rng.integers(0, top, 3):
                raw[at] = int(rng.integers(256))
        elif turn % 3 == 1:
            at = int(rng.integers(top))
            raw[at : at + 5] = bytes(rng.integers(32, 127, 20, dtype=np.uint8))
        else:
            del raw[int(rng.integers(top)) :]
        (tmp_path / name).write_bytes(raw)
        try:
            reader, _ = match(opened)
            handle = reader.open_recording(opened, reader.settings(), IngestOverride(), "meg")
            handle.events()
            assert all(block.values.size for block in handle.blocks(1 << 20))
        except NeuropipeError as fault:
            faults += 1
            assert str(opened.parent) in str(fault)
    assert faults > 0
