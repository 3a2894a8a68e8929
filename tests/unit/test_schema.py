"""Root attributes are validated, and faults of a tree are named where they are."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from neuropipe.errors import DataError
from neuropipe.store.schema import (
    MODALITIES,
    SCHEMA_VERSION,
    check_tree,
    check_version,
    parse_attributes,
)
from neuropipe.store.variables import clean_dataset, decode_attrs, encode_attrs

GOOD = {"schema": "neuropipe.calcium", "subject_id": "w01"}


def test_attributes_come_back_with_defaults_and_without_none():
    attrs = parse_attributes(GOOD, "a").to_attrs()
    assert attrs["schema_version"] == SCHEMA_VERSION
    assert attrs["clock"] == "session"
    assert np.isnan(attrs["rate"])
    assert None not in attrs.values()
    assert parse_attributes(attrs, "a").to_attrs().keys() == attrs.keys()
    assert parse_attributes(attrs, "a").modality == "calcium"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"subject_id": ""}, "subject_id"),
        ({"subject_id": "w-01"}, "subject_id.*found 'w-01'"),
        ({"run": 1}, "run: .*string, found 1"),
        ({"session_start": "2022-08-02T10:00:00"}, "UTC offset"),
        ({"session_start": "yesterday"}, "session_start.*found 'yesterday'"),
        ({"sampling": "sometimes"}, "sampling"),
        ({"schema": "neuropipe.calium"}, "one of calcium, spikes"),
        ({"sampling_rate": 3.0}, "sampling_rate: unknown attribute"),
        ({"specie": "x"}, "Did you mean 'species'"),
        ({"pipeline": "{"}, "pipeline"),
        ({"rate": "fast"}, "rate"),
    ],
)
def test_wrong_attributes_are_named(changed, message):
    with pytest.raises(DataError, match=message):
        parse_attributes({**GOOD, **changed}, "a.zarr")


def test_all_problems_are_told_at_once():
    with pytest.raises(DataError, match=r"(?s)schema: absent.*run:.*subjct: unknown"):
        parse_attributes({"run": 1, "subjct": "a"}, "a.zarr")


def test_versions():
    assert check_version(SCHEMA_VERSION, "a") is None
    assert check_version("1.0.9", "a") is None
    assert check_version("1.1.0", "a").severity == "warning"
    newer = check_version("2.0.0", "a.zarr")
    assert newer.severity == "error"
    assert "schema version 2" in newer.hint
    assert check_version("0.9.0", "a").severity == "error"
    assert check_version("one", "a").severity == "error"


def test_modalities_are_those_of_the_recordings_table():
    from neuropipe.config.recordings import MODALITIES as CONFIGURED

    assert set(MODALITIES) == set(CONFIGURED)


def test_unknown_words_are_a_warning():
    tree = _tree()
    tree.attrs["sex"] = "female"
    (issue,) = check_tree(tree)
    assert (issue.code, issue.severity) == ("VOCABULARY", "warning")


def _tree(**changed):
    coords = {"time": np.arange(3.0), "roi": [1, 2], "roi_ok": ("roi", [True, True])}
    data = {
        "dff": (("time", "roi"), np.zeros((3, 2), np.float32)),
        "observed": (("interval", "edge"), np.array([[0.0, 2.0]])),
    }
    raw = xr.Dataset({**data, **changed}, coords, {"all_valid": True})
    attrs = parse_attributes(GOOD, "a").to_attrs()
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=attrs), "/raw": raw})


def test_a_good_tree_has_no_issues():
    assert check_tree(_tree()) == []


@pytest.mark.parametrize(
    ("changed", "code", "where"),
    [
        ({"valid": (("roi", "time"), np.ones((2, 3), bool))}, "MASK", "/raw/valid"),
        ({"valid": (("time", "roi"), np.ones((3, 2), int))}, "MASK", "/raw/valid"),
        ({"observed": (("interval", "edge"), np.array([[2.0, 0.0]]))}, "OBSERVED", "/observed"),
        ({"observed": (("interval",), np.zeros(2))}, "OBSERVED", "/raw/observed"),
        ({"name": ("roi", np.array(["a", "b"]))}, "TEXT", "/raw/name"),
        ({"dff": (("time", "roi"), np.zeros((3, 2), np.float16))}, "DTYPE", "/raw/dff"),
    ],
)
def test_faults_are_named_where_they_are(changed, code, where):
    (issue,) = check_tree(_tree(**changed))
    assert issue.code == code
    assert issue.path.endswith(where)


def test_tables_and_streams_are_checked():
    tree = _tree()
    tree["events"] = xr.DataTree(xr.Dataset({"onset": ("event", [0.0]), "label": ("row", [1])}))
    tree["trials"] = xr.DataTree(xr.Dataset({"start": ("trial", [0.0])}))
    clock = {"time_pose": np.array([0.0, 0.0])}
    tree["behavior"] = xr.DataTree(xr.Dataset({"pose": ("time_pose", [1.0, 2.0])}, clock))
    found = {(issue.code, issue.path) for issue in check_tree(tree)}
    assert found == {
        ("COLUMNS", "/events/duration"),
        ("DIMS", "/events/label"),
        ("COLUMNS", "/trials/stop"),
        ("BAD_TIME", "/behavior/time_pose[1]"),
    }


def test_a_preprocessed_tree_is_checked_by_its_activity():
    tree = _tree()
    raw = tree["raw"].to_dataset().rename(dff="activity")
    processed = xr.DataTree(raw.assign_attrs(**tree.attrs, all_valid=True))
    assert check_tree(processed) == []
    bad = raw.drop_vars("activity").assign_attrs(**tree.attrs, all_valid=True)
    assert [issue.code for issue in check_tree(xr.DataTree(bad))] == ["NO_SERIES"]


def test_attributes_survive_strict_json():
    attrs = {"a": float("nan"), "b": [1, float("inf")], "c": {"d": -float("inf")}, "e": "text"}
    again = decode_attrs(encode_attrs(attrs, "a"))
    assert np.isnan(again["a"])
    assert again["b"] == [1, float("inf")]
    assert again["c"] == {"d": -float("inf")}
    assert encode_attrs({"n": None, "i": np.int16(3), "v": np.arange(2)}, "a") == {
        "n": "",
        "i": 3,
        "v": [0, 1],
    }


def test_missing_text_becomes_empty():
    values = np.array(["a", None, np.nan, b"b"], dtype=object)
    cleaned = clean_dataset(xr.Dataset({"label": ("roi", values)}), "/raw")
    assert list(cleaned["label"].values) == ["a", "", "", "b"]
    assert cleaned["label"].dtype == object
