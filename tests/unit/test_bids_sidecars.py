"""Sidecars of BIDS trees: which belong to a file, and what tables and JSON may look like."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from neuropipe.errors import IngestError
from neuropipe.io.bids.events import read_events
from neuropipe.io.bids.people import people_of
from neuropipe.io.bids.tables import inherited_json, read_json, read_table
from neuropipe.io.bids.tree import bids_name, bids_root, sidecar, sidecars

DATA = "sub-01/ses-a/eeg/sub-01_ses-a_task-rest_run-1_eeg.vhdr"


@pytest.fixture
def tree(tmp_path):
    """A function that writes files of a data set and returns the path of the data file."""

    def write(**files):
        root = tmp_path / "set"
        texts = {"dataset_description.json": '{"Name": "x"}', DATA: "", **files}
        for name, text in texts.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return root / DATA

    return write


@pytest.mark.parametrize(
    ("name", "entities", "suffix", "extension"),
    [
        ("sub-01_task-rest_run-2_bold.nii.gz", "sub task run", "bold", ".nii.gz"),
        ("sub-01_ses-b_electrodes.tsv", "sub ses", "electrodes", ".tsv"),
        ("participants.tsv", "", "participants", ".tsv"),
        ("sub-01_meg.ds", "sub", "meg", ".ds"),
    ],
)
def test_names_are_taken_apart(name, entities, suffix, extension):
    found = bids_name(Path(name))
    assert (" ".join(found.entities), found.suffix, found.extension) == (
        entities, suffix, extension,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["notes.final.txt", "sub-_eeg.edf", "a b.edf", "sub-01_x-_eeg"])
def test_other_names_are_no_bids(name):
    assert bids_name(Path(name)) is None


def test_the_root_is_the_folder_with_the_description(tree, tmp_path):
    data = tree()
    assert bids_root(data) == tmp_path / "set"
    assert bids_root(tmp_path / "sub-01_eeg.vhdr") is None
    (tmp_path / "set/other.edf").write_text("")
    assert bids_root(tmp_path / "set/other.edf") is None


def test_json_is_inherited_from_the_root_to_the_file(tree):
    data = tree(
        **{
            "eeg.json": '{"A": 1, "B": 1, "C": 1}',
            "task-rest_eeg.json": '{"B": 2, "C": 2}',
            "task-nap_eeg.json": '{"A": 9}',
            "task-rest_meg.json": '{"A": 9}',
            "sub-01/sub-01_eeg.json": '{"C": 3, "D": null, "E": "n/a"}',
            "sub-01/ses-a/eeg/sub-01_ses-a_task-rest_run-1_eeg.json": '{"F": 4}',
            "sub-01/ses-a/eeg/sub-01_ses-a_task-rest_run-2_eeg.json": '{"F": 9}',
            "sub-02/eeg/sub-02_eeg.json": '{"A": 9}',
        }
    )
    merged, files = inherited_json(data, "eeg")
    assert merged == {"A": 1, "B": 2, "C": 3, "F": 4}
    assert [f.name for f in files][:3] == ["eeg.json", "task-rest_eeg.json", "sub-01_eeg.json"]


def test_the_nearest_table_replaces_those_above_it(tree):
    data = tree(
        **{
            "task-rest_channels.tsv": "name\nroot\n",
            "sub-01/ses-a/eeg/sub-01_ses-a_channels.tsv": "name\nsession\n",
        }
    )
    assert sidecar(data, "channels", ".tsv").name == "sub-01_ses-a_channels.tsv"
    assert sidecar(data, "events", ".tsv") is None


def test_a_space_may_be_stated_by_the_sidecar_alone(tree):
    folder = "sub-01/ses-a/eeg/sub-01_ses-a"
    data = tree(
        **{
            f"{folder}_space-MNI_electrodes.tsv": "name\n",
            f"{folder}_space-ACPC_electrodes.tsv": "name\n",
            f"{folder}_acq-hd_electrodes.tsv": "name\n",
        }
    )
    found = sidecars(data, "electrodes", ".tsv", free=("space",))
    assert [bids_name(path).entities.get("space") for path in found] == ["ACPC", "MNI"]
    assert sidecars(data, "electrodes", ".tsv") == []


def test_two_that_fit_equally_well_are_an_error(tree):
    folder = "sub-01/ses-a/eeg/sub-01_ses-a"
    data = tree(
        **{f"{folder}_task-rest_channels.tsv": "name\n", f"{folder}_run-1_channels.tsv": "name\n"}
    )
    with pytest.raises(IngestError, match="AMBIGUOUS_SIDECAR"):
        sidecar(data, "channels", ".tsv")


def test_a_link_out_of_the_data_set_is_unsafe(tree, tmp_path):
    data = tree()
    (tmp_path / "elsewhere.tsv").write_text("name\n")
    link = data.with_name("sub-01_ses-a_channels.tsv")
    link.symlink_to(tmp_path / "elsewhere.tsv")
    with pytest.raises(IngestError) as caught:
        sidecar(data, "channels", ".tsv")
    assert caught.value.code == "UNSAFE"
    assert "sidecars: false" in caught.value.hint


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_tables_with_and_without_mark(tmp_path, mark, end):
    path = tmp_path / "channels.tsv"
    lines = ["name\ttype\tlow_cutoff", "Čz\tEEG\t0.1", "A'3\tn/a\tn/a"]
    path.write_bytes(mark + end.join(lines).encode())
    table = read_table(path, ("name", "type"))
    assert table.texts("name") == ["Čz", "A'3"]
    assert table.texts("type") == ["EEG", ""]
    assert table.texts("absent") == ["", ""]
    np.testing.assert_array_equal(table.numbers("low_cutoff"), [0.1, np.nan])
    assert np.isnan(table.numbers("absent")).all()


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (b"", "EMPTY", "no bytes"),
        (b"\n\n", "EMPTY", "no header"),
        (b"name\ttype\nCz\n", "NOT_THIS_FORMAT", "line 2 has 1 cells, the header 2"),
        (b"label\ttype\nCz\tEEG\n", "NOT_THIS_FORMAT", "no column name; it has label, type"),
        ("name\tµV\n".encode("latin-1"), "ENCODING", "not UTF-8"),
        (b"<!doctype html><p>", "NOT_THIS_FORMAT", "HTML"),
    ],
)
def test_faulty_tables_are_named(tmp_path, content, code, words):
    path = tmp_path / "channels.tsv"
    path.write_bytes(content)
    with pytest.raises(IngestError, match=words) as caught:
        read_table(path, ("name",))
    assert caught.value.code == code
    assert str(path) in str(caught.value)


def test_a_cell_that_is_no_number_is_named(tmp_path):
    path = tmp_path / "events.tsv"
    path.write_text("onset\tduration\n0\t0\n1,5\t0\n")
    with pytest.raises(IngestError, match=r"NOT_A_NUMBER.*column onset, line 3.*'1,5'"):
        read_events(path)


@pytest.mark.parametrize("text", ["[1]", "{", '"x"'])
def test_json_that_is_no_object_is_named(tmp_path, text):
    (tmp_path / "eeg.json").write_text(text)
    with pytest.raises(IngestError, match=r"NOT_THIS_FORMAT.*eeg\.json"):
        read_json(tmp_path / "eeg.json")


def test_events_keep_every_column(tmp_path):
    path = tmp_path / "events.tsv"
    path.write_text(
        "\ufeffonset\tduration\ttrial_type\tvalue\tresponse time\tside\n"
        "1.5\tn/a\tgo\t7\t0.25\tleft\n0\t0.5\tstår\tn/a\tn/a\tn/a\nn/a\t0\tlost\t1\t1\tx\n",
        encoding="utf-8",
    )
    events, issues = read_events(path)
    np.testing.assert_array_equal(events["onset"], [0.0, 1.5])
    np.testing.assert_array_equal(events["duration"], [0.5, np.nan])
    assert list(events["label"].values) == ["står", "go"]
    assert list(events["code"].values) == [-1, 7]
    np.testing.assert_array_equal(events["x_response_time"], [np.nan, 0.25])
    assert list(events["x_side"].values) == ["", "left"]
    assert [issue.code for issue in issues] == ["BAD_TIME"]
    assert "1 of 3 events have no onset (lines 4); left out" in issues[0].message


def test_a_negative_duration_is_refused(tmp_path):
    (tmp_path / "events.tsv").write_text("onset\tduration\n0\t-1\n")
    with pytest.raises(IngestError, match="BAD_TIME"):
        read_events(tmp_path / "events.tsv")


@pytest.mark.parametrize("row", ["inf\t0", "1e400\t0", "1\tinf"])
def test_an_infinite_time_is_refused(tmp_path, row):
    (tmp_path / "events.tsv").write_text(f"onset\tduration\n{row}\n")
    with pytest.raises(IngestError, match=r"BAD_TIME.*line 2.* inf s, expected a number or n/a"):
        read_events(tmp_path / "events.tsv")


def test_an_empty_table_of_events_has_no_events(tmp_path):
    (tmp_path / "events.tsv").write_text("onset\tduration\ttrial_type\n")
    events, issues = read_events(tmp_path / "events.tsv")
    assert events.sizes["event"] == 0
    assert [(issue.code, issue.severity) for issue in issues] == [("EMPTY", "info")]


PEOPLE = "participant_id\tage\tsex\tspecies\n"


@pytest.mark.parametrize(
    ("row", "units", "expected"),
    [
        ("sub-01\t25\tF\tn/a\n", None, {"age": "P25Y", "sex": "F", "species": "Homo sapiens"}),
        ("sub-01\t2.5\tmale\trat\n", "weeks", {"age": "P2.5W", "sex": "M"}),
        ("sub-01\tP3D\tn/a\tMus musculus\n", None, {"age": "P3D", "species": "Mus musculus"}),
        ("sub-01\told\tq\thuman\n", None, {"species": "Homo sapiens"}),
    ],
)
def test_people_are_read_from_the_table(tree, row, units, expected):
    files = {"participants.tsv": PEOPLE + row}
    if units:
        files["participants.json"] = json.dumps({"age": {"Units": units}})
    found = people_of(tree(**files))
    assert expected.items() <= found.attrs.items()
    codes = [issue.code for issue in found.issues]
    assert ("AGE" in codes, "VOCABULARY" in codes) == ("old" in row, "q" in row)
    assert ("SPECIES_ASSUMED" in codes) == ("n/a\n" in row)


@pytest.mark.parametrize(
    ("time", "start", "code"),
    [
        ("2013-12-07T08:29:20.000000Z", "2013-12-07T08:29:20+00:00", ""),
        ("2013-12-07T08:29:20", None, "NAIVE_SESSION_START"),
        ("yesterday", None, "BAD_SESSION_START"),
        ("n/a", None, ""),
    ],
)
def test_the_start_is_that_of_the_table_of_scans(tree, time, start, code):
    name = DATA.removeprefix("sub-01/ses-a/")
    table = f"filename\tacq_time\neeg/other.vhdr\t1999-01-01T00:00:00Z\n{name}\t{time}\n"
    found = people_of(tree(**{"sub-01/ses-a/sub-01_ses-a_scans.tsv": table}))
    assert found.attrs.get("session_start") == start
    codes = {issue.code for issue in found.issues}
    assert codes - {"SPECIES_ASSUMED"} == ({code} if code else set())


def test_a_subject_that_the_table_lacks_is_told(tree):
    found = people_of(tree(**{"participants.tsv": PEOPLE + "sub-02\t3\tF\thuman\n"}))
    assert "NOT_LISTED" in {issue.code for issue in found.issues}
    assert "sex" not in found.attrs
