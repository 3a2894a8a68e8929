"""Stores handed to other tools, which read the same values from what was written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ingests import START, ingest_source
from sources import source_of

from neuropipe.cli.main import main
from neuropipe.errors import ConfigError, DataError, MissingInput
from neuropipe.export.targets import TARGETS, export_store
from neuropipe.export.timeseries import to_pynapple
from neuropipe.store.scaling import physical

ROW = {"task": "rest", "session_start": START}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return path and tree of an ingested store of each modality; made when first asked for."""
    found = {}

    def store(modality):
        if modality not in found:
            folder = tmp_path_factory.mktemp(modality)
            row = {k: v for k, v in ROW.items() if modality not in ("meg", "ieeg") or k == "task"}
            name = f"sub-01_task-rest_{modality}"
            tree = ingest_source(source_of(modality, folder / "source"), folder, modality, row=row)[
                1
            ]
            found[modality] = (folder / f"{name.replace('_task-rest', '')}.zarr", tree)
        return found[modality]

    return store


def written(path, target, output):
    return {p.name: p for p in export_store(path, target, output)}


# --- CSV -------------------------------------------------------------------------------------


def test_csv_of_spikes_is_ingested_to_the_same_spikes(made, tmp_path):
    path, tree = made("spikes")
    files = written(path, "csv", tmp_path / "out")
    frame = pd.read_csv(files["sub-01_spikes_spikes.csv"])
    np.testing.assert_array_equal(frame["time"], tree["raw/spike_time"].values)
    trials = pd.read_csv(files["sub-01_spikes_trials.csv"])
    np.testing.assert_array_equal(trials["start"], tree["trials/start"].values)
    _, again = ingest_source(
        files["sub-01_spikes_spikes.csv"], tmp_path / "again", "spikes",
        readers={"spike_table": {"time_unit": "s", "duration_s": 20.0}},
    )  # fmt: skip
    np.testing.assert_array_equal(again["raw/spike_time"].values, tree["raw/spike_time"].values)


def test_csv_of_channels_is_in_volts(made, tmp_path):
    path, tree = made("eeg")
    files = written(path, "csv", tmp_path / "out")
    frame = pd.read_csv(files["sub-01_eeg_signal.csv"])
    np.testing.assert_array_equal(frame.iloc[:, 1:], physical(tree["raw"].to_dataset()))
    np.testing.assert_array_equal(frame["time"], tree["raw/time"].values)
    assert list(frame.columns[1:]) == list(tree["raw/channel"].values)
    assert json.loads(files["sub-01_eeg.json"].read_text())["rate"] == tree.attrs["rate"]


def test_csv_of_every_edge_case_reads_back(any_case, tmp_path):
    tree = any_case.store(tmp_path)
    files = written(tmp_path / "recording.zarr", "csv", tmp_path / "out")
    for name in any_case.series:
        frame = pd.read_csv(files[f"sub-w01_calcium_{name}.csv"])
        expected = physical(tree["raw"].to_dataset(), series=name)
        expected = np.where(np.isfinite(expected), expected, np.nan)
        if "valid" in tree["raw"].variables:
            expected = np.where(tree["raw/valid"].values, expected, np.nan)
        if tree[f"raw/{name}"].dtype == np.float32:
            expected = expected.astype(np.float32)
        found = frame.iloc[:, 1:].to_numpy().astype(expected.dtype)
        np.testing.assert_array_equal(found, expected)
    rows = pd.read_csv(files["sub-w01_calcium_rois.csv"], keep_default_na=False)
    assert list(rows["label_source"]) == list(tree["raw/label_source"].values)


# --- pynapple --------------------------------------------------------------------------------


def test_pynapple_gets_spikes_trials_and_observed_time(made):
    _, tree = made("spikes")
    found = to_pynapple(tree)
    assert len(found["spikes"]) == 3
    np.testing.assert_allclose(
        found["spikes"].time_support.values, tree["raw/observed"].values, rtol=0, atol=1e-9
    )
    starts, counts = tree["raw/unit_start"].values, tree["raw/n_spikes"].values
    for k in range(3):
        # pynapple keeps times to a nanosecond.
        np.testing.assert_allclose(
            found["spikes"][k].t,
            tree["raw/spike_time"].values[starts[k] : starts[k] + counts[k]],
            rtol=0, atol=1e-9,
        )  # fmt: skip
    np.testing.assert_allclose(found["trials"].start, tree["trials/start"].values, atol=1e-9)


def test_pynapple_gets_every_edge_case(any_case, tmp_path):
    tree = any_case.store(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pynapple tells of intervals that touch
        found = to_pynapple(tree)
    for name in any_case.series:
        expected = physical(tree["raw"].to_dataset(), series=name)
        valid = np.isfinite(expected)
        np.testing.assert_array_equal(found[name].values[valid], expected[valid])
        np.testing.assert_allclose(found[name].t, tree["raw/time"].values, rtol=0, atol=1e-9)
    if any_case.n_events:
        assert sum(len(found["events"][k]) for k in found["events"]) == any_case.n_events
    if any_case.behavior:
        np.testing.assert_array_equal(found["velocity"].values, tree["behavior/velocity"].values)


def test_pynapple_takes_stores_only():
    with pytest.raises(DataError, match="takes a store"):
        to_pynapple({"spikes": []})


# --- BIDS ------------------------------------------------------------------------------------


@pytest.mark.parametrize("modality", ["eeg", "meg", "ieeg"])
def test_bids_of_channels_is_read_by_mne_bids_and_by_us(made, tmp_path, modality):
    if modality != "meg":
        pytest.importorskip("pybv", reason="pybv is not installed")
    import mne_bids

    path, tree = made(modality)
    root = tmp_path / "set"
    files = written(path, "bids", root)
    main_file = next(p for p in files.values() if p.suffix in (".vhdr", ".fif"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        place = mne_bids.get_bids_path_from_fname(main_file)
        raw = mne_bids.read_raw_bids(place, verbose="error")
    expected = physical(tree["raw"].to_dataset())
    # Written as float32: relative error 6e-8 of each value.
    np.testing.assert_allclose(raw.get_data().T, expected, rtol=2e-7, atol=1e-12)
    assert raw.ch_names == list(tree["raw/channel"].values)
    assert raw.info["bads"] == list(tree["raw/channel"].values[tree["raw/bad"].values])
    assert len(raw.annotations) == tree["events"].sizes["event"]
    _, again = ingest_source(main_file, tmp_path / "again", modality)
    found = physical(again["raw"].to_dataset())
    np.testing.assert_allclose(found, expected, rtol=2e-7, atol=1e-12)
    assert list(again["raw/ch_type"].values) == list(tree["raw/ch_type"].values)
    # BrainVision states markers by sample.
    half = 0.5 / tree.attrs["rate"]
    np.testing.assert_allclose(
        again["events/onset"].values, tree["events/onset"].values, rtol=0, atol=half + 1e-9
    )
    np.testing.assert_array_equal(again["raw/low_cutoff"].values, tree["raw/low_cutoff"].values)


def test_positions_of_contacts_come_back(made, tmp_path):
    pytest.importorskip("pybv", reason="pybv is not installed")
    path, tree = made("ieeg")
    files = written(path, "bids", tmp_path / "set")
    main_file = next(p for p in files.values() if p.suffix == ".vhdr")
    _, again = ingest_source(main_file, tmp_path / "again", "ieeg")
    for axis in "xyz":
        np.testing.assert_allclose(again[f"raw/{axis}"].values, tree[f"raw/{axis}"].values)


def test_bids_of_fmri_is_ingested_to_the_same_voxels(made, tmp_path):
    path, tree = made("fmri")
    files = written(path, "bids", tmp_path / "set")
    image = next(p for p in files.values() if p.name.endswith("_bold.nii.gz"))
    mask = next(p for p in files.values() if p.name.endswith("_mask.nii.gz"))
    _, again = ingest_source(
        image, tmp_path / "again", "fmri", readers={"nifti": {"mask": str(mask)}}
    )
    np.testing.assert_array_equal(again["raw/bold"].values, tree["raw/bold"].values)
    for axis in "ijk":
        np.testing.assert_array_equal(again[f"raw/{axis}"].values, tree[f"raw/{axis}"].values)
    np.testing.assert_array_equal(again["events/onset"].values, tree["events/onset"].values)
    np.testing.assert_array_equal(again["raw/time"].values, tree["raw/time"].values)


def test_bids_takes_trials_and_behavior_of_calcium_but_no_samples(calcium_case, tmp_path, caplog):
    tree = calcium_case().store(tmp_path)
    files = written(tmp_path / "recording.zarr", "bids", tmp_path / "set")
    assert "no data type for calcium" in caplog.text
    assert "velocity is sampled irregularly" in caplog.text
    trials = pd.read_csv(files["sub-w01_task-unknown_beh.tsv"], sep="\t")
    assert list(trials["stop"]) == list(tree["trials/stop"].values)
    head = files["sub-w01_task-unknown_recording-head_physio.tsv.gz"]
    about = json.loads(files["sub-w01_task-unknown_recording-head_physio.json"].read_text())
    assert (about["SamplingFrequency"], about["Columns"]) == (2.0, ["head_angle", "state"])
    frame = pd.read_csv(head, sep="\t", header=None, names=about["Columns"])
    np.testing.assert_array_equal(frame["head_angle"], tree["behavior/head_angle"].values)


def test_the_validator_of_bids_finds_no_error(made, tmp_path):
    pytest.importorskip("pybv", reason="pybv is not installed")
    beside = Path(sys.executable).with_name("bids-validator-deno")
    validator = str(beside) if beside.exists() else shutil.which("bids-validator-deno")
    if validator is None:
        pytest.skip("bids-validator-deno is not installed")
    for modality in ("eeg", "meg", "ieeg", "fmri", "spikes"):
        written(made(modality)[0], "bids", tmp_path / "set")
    command = [validator, str(tmp_path / "set"), "--format", "json"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    issues = json.loads(answer.stdout)["issues"]["issues"]
    errors = [(i["code"], i["location"]) for i in issues if i["severity"] == "error"]
    assert issues
    assert errors == []


def test_two_recordings_share_one_data_set(made, tmp_path):
    written(made("fmri")[0], "bids", tmp_path / "set")
    written(made("meg")[0], "bids", tmp_path / "set")
    people = pd.read_csv(tmp_path / "set" / "participants.tsv", sep="\t")
    assert list(people["participant_id"]) == ["sub-01"]
    with pytest.raises(ConfigError, match="exists already"):
        written(made("fmri")[0], "bids", tmp_path / "set")


# --- NeuralSet -------------------------------------------------------------------------------


@pytest.mark.parametrize("modality", ["eeg", "meg", "ieeg", "fmri"])
def test_neuralset_reads_the_table_and_the_data(made, tmp_path, modality):
    path, tree = made(modality)
    files = written(path, "neuralset", tmp_path / "out")
    table = pd.read_csv(next(p for p in files.values() if p.suffix == ".csv"))
    assert list(table["type"][:2]) == [modality.capitalize(), "Stimulus"]
    assert len(table) == 1 + tree["events"].sizes["event"]
    np.testing.assert_allclose(table["start"][1:], tree["events/onset"].values, rtol=1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        events = pytest.importorskip("neuralset.events", reason="neuralset is not installed")
        first = events.Event.from_dict(table.iloc[0])
        data = first.read()
        assert all(events.Event.from_dict(row) for _, row in table.iterrows())
    if modality == "fmri":
        place = tuple(tree[f"raw/{axis}"].values for axis in "ijk")
        np.testing.assert_array_equal(np.asarray(data.dataobj)[place].T, tree["raw/bold"].values)
    else:
        expected = physical(tree["raw"].to_dataset())
        np.testing.assert_allclose(data.get_data().T, expected, rtol=2e-7, atol=1e-12)


def test_neuralset_gets_spikes_as_nwb_and_no_calcium(made, calcium_case, tmp_path):
    files = written(made("spikes")[0], "neuralset", tmp_path / "out")
    table = pd.read_csv(files["sub-01_spikes_events.csv"])
    assert table["type"][0] == "Spikes"
    assert table["filepath"][0] == str(files["sub-01_spikes.nwb"].resolve())
    calcium_case().store(tmp_path)
    with pytest.raises(DataError, match="no event type for calcium; export to temporaldata"):
        export_store(tmp_path / "recording.zarr", "neuralset", tmp_path / "out")


# --- the command -----------------------------------------------------------------------------


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_the_command_prints_what_it_wrote_and_replaces_nothing(made, tmp_path, target, capsys):
    words = ["export", str(made("meg")[0]), "--to", target, "--output", str(tmp_path / "out")]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines and all((tmp_path / "out") in Path(x).parents for x in lines)
    assert main(words) == 2
    assert "exists already" in capsys.readouterr().err


def test_wrong_stores_and_targets_are_named(made, tmp_path, capsys):
    assert main(["export", str(tmp_path / "no.zarr"), "--to", "csv"]) == 2
    assert "no such store" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="unknown target"):
        export_store(made("meg")[0], "excel", tmp_path)
    with pytest.raises(MissingInput, match="no such store"):
        export_store(tmp_path / "no.zarr", "csv", tmp_path)
