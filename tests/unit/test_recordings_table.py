"""The recordings table: names, free columns, and every faulty row named at once."""

from __future__ import annotations

import pytest

from neuropipe.config.recordings import read_recordings, write_recordings
from neuropipe.errors import ConfigError, MissingInput


def write(tmp_path, text):
    path = tmp_path / "recordings.tsv"
    path.write_text(text, encoding="utf-8")
    return path


def test_name_is_composed_from_entities(tmp_path):
    rows = read_recordings(
        write(
            tmp_path,
            "subject\tsession\ttask\tacq\trun\tmodality\tpath\tlab\n"
            "w01\ta\trest\tgcamp\t2\tcalcium\traw/a.h5\tnorth\n",
        )
    )
    assert rows[0].name == "sub-w01_ses-a_task-rest_acq-gcamp_run-2_calcium"
    assert rows[0].extra == {"lab": "north"}
    assert rows[0].column("lab") == "north"
    assert rows[0].column("recording") == rows[0].name
    assert rows[0].column("absent") is None


def test_byte_order_mark_na_and_comments_are_accepted(tmp_path):
    rows = read_recordings(
        write(tmp_path, "\ufeffsubject\tmodality\tpath\tsex\n# note\nw1\tcalcium\tx\tn/a\n")
    )
    assert rows[0].subject == "w1"
    assert rows[0].sex == ""


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("w_1\tcalcium\tx\t\t\t", "subject: 'w_1' is not a label"),
        ("w1\tcalcum\tx\t\t\t", "Did you mean 'calcium'"),
        ("w1\tcalcium\t\t\t\t", "path: is empty"),
        ("w1\tcalcium\tx\tmaybe\t\t", "neither true nor false"),
        ("w1\tcalcium\tx\t\t2024-05-01T09:30\t", "has no UTC offset"),
        ("w1\tcalcium\tx\t\tyesterday\t", "is not ISO 8601"),
        ("w1\tcalcium\tx\t\t\tsub-w2_calcium", "does not agree with 'sub-w1_calcium'"),
        ("w1\tcalcium\tx\t\t\t\tmore", "more cells than columns"),
        ("w1\tcalcium\ta <b>.h5\t\t\t", "rename the file"),
    ],
)
def test_faulty_row_is_named(tmp_path, row, message):
    header = "subject\tmodality\tpath\texclude\tsession_start\trecording\n"
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")) as caught:
        read_recordings(write(tmp_path, header + row + "\n"))
    assert "row 1" in str(caught.value)


def test_all_faults_come_at_once(tmp_path):
    text = "subject\tmodality\tpath\n-\tcalcium\tx\nw\tfmrj\ty\nw2\teeg\tz\nw2\teeg\tz\n"
    with pytest.raises(ConfigError) as caught:
        read_recordings(write(tmp_path, text))
    assert all(words in str(caught.value) for words in ("row 1", "row 2", "stands in 2 rows"))


def test_missing_table_and_missing_column(tmp_path):
    with pytest.raises(MissingInput, match="neuropipe scan"):
        read_recordings(tmp_path / "none.tsv")
    with pytest.raises(ConfigError, match="the column path stands twice"):
        read_recordings(write(tmp_path, "subject\tmodality\tpath\tpath\n"))
    with pytest.raises(ConfigError, match="found 'subjects'"):
        read_recordings(write(tmp_path, "subjects\tmodality\tpath\n"))


def test_written_table_reads_back(tmp_path):
    rows = [{"subject": "a", "modality": "calcium", "path": "x.h5", "cohort": "worm", "lab": "n"}]
    write_recordings(tmp_path / "t.tsv", rows)
    back = read_recordings(tmp_path / "t.tsv")[0]
    assert (back.subject, back.cohort, back.extra) == ("a", "worm", {"lab": "n"})


def test_a_fault_of_many_rows_is_told_once_with_their_numbers(tmp_path):
    rows = ["subject\tmodality\tpath\texclude", "\teeg\ta\t", "\teeg\tb\t", "\teeg\tc\t"]
    rows += ["w1\teeg\td\t", "\teeg\te\t", "w2\teeg\tf\tno motion"]
    with pytest.raises(ConfigError) as caught:
        read_recordings(write(tmp_path, "\n".join(rows) + "\n"))
    first, second = str(caught.value).splitlines()
    assert first.endswith("rows 1-3, 5: subject: is empty; every recording needs it")
    assert "row 6: exclude: 'no motion' is neither true nor false; a reason goes into" in second


def test_columns_that_are_asked_for_are_written_though_empty(tmp_path):
    rows = [{"subject": "a", "modality": "calcium", "path": "x.h5"}]
    write_recordings(tmp_path / "t.tsv", rows, ("subject", "exclude", "lab"))
    header = (tmp_path / "t.tsv").read_text().splitlines()[0]
    assert header.split("\t") == ["subject", "modality", "path", "exclude", "lab"]
