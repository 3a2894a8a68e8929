"""Scans of BIDS data sets and of folders of mixed files: rows that can be used as they are."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from neuropipe.cli.main import main
from neuropipe.config.recordings import read_recordings, write_recordings
from neuropipe.io.scan import scan
from neuropipe.simulate.bids_files import (
    simulate_eeg,
    write_bids_recording,
    write_bids_root,
    write_scan_dataset,
    write_seeg_dataset,
)
from neuropipe.simulate.channel_files import simulate_channels, write_brainvision
from neuropipe.simulate.spike_files import simulate_spikes, write_spike_nwb, write_spike_table


def as_table(rows, folder):
    """What a study reads of the rows; faults of a row raise."""
    write_recordings(folder / "recordings.tsv", rows)
    return read_recordings(folder / "recordings.tsv")


def test_a_hundred_recordings_are_scanned_without_their_samples(tmp_path, monkeypatch):
    paths = write_scan_dataset(tmp_path / "set")
    assert {p.stat().st_size for p in (tmp_path / "set").rglob("*.eeg")} == {1}
    monkeypatch.setattr(np, "fromfile", None)
    monkeypatch.setattr(np, "memmap", None)
    started = time.perf_counter()
    found = scan([tmp_path / "set"])
    assert time.perf_counter() - started < 5.0
    assert found.issues == []
    assert [row["path"] for row in found.rows] == [str(tmp_path / "set" / p) for p in paths]
    table = as_table(found.rows, tmp_path)
    assert [row.name for row in table[:3]] == [
        "sub-001_task-scan_run-1_eeg",
        "sub-001_task-scan_run-3_eeg",
        "sub-001_task-scan_run-5_eeg",
    ]
    assert {row.modality for row in table} == {"eeg", "ieeg"}
    assert {row.reader for row in table} == {"brainvision"}


@pytest.fixture
def mixed(tmp_path):
    """A tree with what real ones hold beside recordings."""
    root = tmp_path / "set"
    write_seeg_dataset(root)
    folder = root / "sub-01/ses-implant"
    for place in ("anat/sub-01_T1w.nii.gz", "func/sub-01_ses-implant_task-x_bold.nii.gz"):
        (folder / place).parent.mkdir(exist_ok=True)
        (folder / place).write_bytes(b"\x1f\x8b")
    (folder / "func/sub-01_ses-implant_task-x_events.tsv").write_text("onset\tduration\n")
    for aside in ("derivatives/x", "sourcedata", "code"):
        copy = root / aside / "sub-01/ieeg"
        write_bids_root(root / aside, {})
        write_bids_recording(root / aside, simulate_eeg(0.1), {"sub": "01"})
        assert not copy.exists()
    (root / "README").write_text("text")
    (root / "CHANGES").write_text("text")
    return root


def test_only_recordings_are_named(mixed, tmp_path):
    found = scan([mixed])
    table = as_table(found.rows, tmp_path)
    assert [row.name for row in table] == [
        f"sub-{k}_ses-implant_task-gonogo_run-1_ieeg" for k in ("01", "02")
    ]
    told = [(issue.code, Path(issue.path).name) for issue in found.issues]
    assert all(name.endswith("_bold.nii.gz") for _, name in told)


def test_a_data_set_of_derivatives_is_scanned_when_it_is_named(mixed):
    assert len(scan([mixed / "derivatives/x"]).rows) == 1


def test_a_file_of_a_data_set_is_named_by_itself(mixed):
    path = next(mixed.rglob("sub-02*.vhdr"))
    row = scan([path]).rows[0]
    assert (row["subject"], row["modality"]) == ("02", "ieeg")


def test_later_parts_of_a_split_recording_are_passed_over(tmp_path):
    write_bids_root(tmp_path / "set", {})
    for part in ("01", "02"):
        write_bids_recording(tmp_path / "set", simulate_eeg(0.1), {"sub": "1", "split": part})
    rows = scan([tmp_path / "set"]).rows
    assert [Path(row["path"]).name for row in rows] == ["sub-1_split-01_eeg.vhdr"]


def beside(root, pattern):
    return next(root.glob(f"sub-*/**/{pattern}"))


def test_what_stands_in_the_way_of_ingest_is_told(mixed):
    beside(mixed, "sub-01*channels.tsv").unlink()
    beside(mixed, "sub-01*electrodes.tsv").unlink()
    pointer = beside(mixed, "sub-02*.eeg")
    pointer.unlink()
    pointer.symlink_to("../../.git/annex/objects/xx/absent")
    found = [i for i in scan([mixed]).issues if not i.path.endswith("_bold.nii.gz")]
    told = sorted((issue.code, issue.severity, Path(issue.path).name[:6]) for issue in found)
    assert told == [
        ("MISSING_SIDECAR", "error", "sub-01"),
        ("MISSING_SIDECAR", "warning", "sub-01"),
        ("NOT_THIS_FORMAT", "error", "sub-02"),
    ]


def test_a_link_out_of_the_data_set_is_told(mixed, tmp_path):
    table = beside(mixed, "sub-01*channels.tsv")
    table.rename(tmp_path / "channels.tsv")
    table.symlink_to(tmp_path / "channels.tsv")
    assert "UNSAFE" in {issue.code for issue in scan([mixed]).issues}


def test_loose_files_of_all_kinds(tmp_path):
    """No data set: each reader takes its own, and the names tell the rest."""
    folder = tmp_path / "loose"
    spikes = simulate_spikes(duration_s=2.0)
    write_spike_nwb(spikes, folder / "sub-a_spikes.nwb", subject="a")
    write_spike_table(spikes, folder / "sub-b_spikes.csv")
    write_bids_root(tmp_path / "set", {})
    source = write_bids_recording(tmp_path / "set", simulate_eeg(0.1), {"sub": "c"}, spaces=())
    for extension in (".vhdr", ".vmrk", ".eeg"):
        part = source.with_suffix(extension)
        part.rename(folder / part.name)
    (folder / "notes.txt").write_text("text")
    (folder / "page.edf").write_text("<!doctype html>")
    found = scan([folder])
    table = as_table(found.rows, tmp_path)
    assert {(row.name, row.reader) for row in table} == {
        ("sub-a_spikes", "nwb_units"),
        ("sub-b_spikes", "spike_table"),
        ("sub-c_eeg", "brainvision"),
    }
    assert [(i.code, Path(i.path).name) for i in found.issues] == [("NOT_THIS_FORMAT", "page.edf")]


def test_the_command_prints_rows_and_issues(mixed, tmp_path, capsys):
    beside(mixed, "sub-01*channels.tsv").unlink()
    assert main(["scan", str(mixed), "--output", str(tmp_path / "rows.tsv")]) == 0
    told = capsys.readouterr()
    assert "2 rows written" in told.out
    assert "error: " in told.err
    assert "channels.tsv" in told.err
    assert len(read_recordings(tmp_path / "rows.tsv")) == 2


def test_a_damaged_description_does_not_stop_a_scan(mixed):
    (mixed / "dataset_description.json").write_text("{")
    assert len(scan([mixed]).rows) == 2
    assert json.loads(beside(mixed, "sub-01*_ieeg.json").read_text())["TaskName"] == "gonogo"


def test_texts_without_extension_and_tables_beside_are_no_recordings(tmp_path):
    write_bids_recording(tmp_path / "x", simulate_eeg(0.1), {"sub": "1"})
    (tmp_path / "README").write_text("text")
    (tmp_path / "bold_events.tsv").write_text("onset\tduration\n1.0\t2.0\n3.0\t2.0\n")
    for name in ("run_desc-confounds_timeseries.tsv", "run_regressors.tsv"):
        (tmp_path / name).write_text("csf\ttrans_x\n1.0\t2.0\n3.0\t2.0\n")
    (tmp_path / "traces.csv").write_text("time,a,b\n0.0,1.0,2.0\n0.1,1.0,2.0\n0.2,1.0,2.0\n")
    found = scan([tmp_path])
    assert sorted(Path(row["path"]).suffix for row in found.rows) == [".csv", ".vhdr"]
    # One that is named is looked at.
    assert len(scan([tmp_path / "run_regressors.tsv"]).rows) == 1


def test_the_command_counts_rows_without_subject_and_tells_errors_first(tmp_path, capsys):
    for name in ("a", "b"):
        write_spike_table(simulate_spikes(duration_s=5.0), tmp_path / f"{name}.csv")
    write_bids_recording(tmp_path / "set", simulate_eeg(0.1), {"sub": "1"})
    write_bids_root(tmp_path / "set", {})
    beside(tmp_path / "set", "*.eeg").unlink()
    (tmp_path / "0.edf").write_bytes(b"")
    assert main(["scan", str(tmp_path)]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert sum("subject" in line for line in lines) == 1
    assert lines[-1].startswith("2 of 3 rows have no subject")
    ranks = [["error", "warning", "info"].index(line.split(":")[0]) for line in lines[:-1]]
    assert ranks == sorted(ranks)


def test_a_folder_of_a_data_set_is_scanned_by_itself(mixed):
    for folder in ("sub-01", "sub-01/ses-implant", "sub-01/ses-implant/ieeg"):
        found = scan([mixed / folder])
        assert [Path(row["path"]).suffix for row in found.rows] == [".vhdr"]
        assert all(issue.path.endswith("_bold.nii.gz") for issue in found.issues)


def test_paths_are_written_as_the_study_sees_them(tmp_path, monkeypatch):
    write_bids_recording(tmp_path / "raw", simulate_eeg(0.1), {"sub": "1"})
    monkeypatch.chdir(tmp_path)
    assert main(["init", "study"]) == 0
    table = tmp_path / "study/config/recordings.tsv"
    assert main(["scan", "raw", "--output", "study/config/recordings.tsv"]) == 0
    path = read_recordings(table)[0].path
    assert path == "../raw/sub-1/eeg/sub-1_eeg.vhdr"
    assert (tmp_path / "study" / path).is_file()
    table.unlink()
    assert main(["scan", str(tmp_path / "raw"), "--output", str(table)]) == 0
    assert Path(read_recordings(table)[0].path).is_absolute()


def test_a_table_of_connections_is_told_where_it_belongs(tmp_path):
    (tmp_path / "white.csv").write_text("pre\tpost\ttype\tsynapses\nAVAL\tAVAR\tchemical\t2\n")
    (tmp_path / "notes.csv").write_text("pre,when\na,b\n")
    told = {Path(issue.path).name: issue.hint for issue in scan([tmp_path]).issues}
    assert "ingest.connectomes" in told["white.csv"]
    assert "ingest.connectomes" not in told["notes.csv"]


def test_rows_are_written_below_the_columns_that_init_wrote(tmp_path, capsys):
    assert main(["init", str(tmp_path / "s")]) == 0
    table = tmp_path / "s" / "config" / "recordings.tsv"
    before = table.read_text().splitlines()[0]
    write_brainvision(simulate_channels(4, 2.0), tmp_path / "a.vhdr")
    assert main(["scan", str(tmp_path / "a.vhdr"), "--output", str(table)]) == 0
    header, row = table.read_text().splitlines()
    assert header == before
    assert len(row.split("\t")) == len(header.split("\t"))
