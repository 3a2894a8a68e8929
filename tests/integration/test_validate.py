"""Validation names what is wrong with a store, and only that."""

from __future__ import annotations

import shutil

import h5py
import numpy as np
import pytest

from neuropipe.errors import DataError, MissingInput
from neuropipe.store.nwb import to_nwb
from neuropipe.store.validate import validate_store
from neuropipe.store.zarr import write_tree


def test_a_good_store_has_no_issues(any_case, tmp_path):
    any_case.write(tmp_path / "a.zarr")
    assert validate_store(tmp_path / "a.zarr") == []


def _drop(name):
    return lambda ds: ds.drop_vars(name)


FAULTS = {
    "ROWS": _drop("roi"),
    "NO_SERIES": _drop("fluorescence"),
    "OBSERVED": _drop("observed"),
    "MASK": _drop("roi_ok"),
    "BAD_TIME": lambda ds: ds.assign_coords(time=ds["time"].values[::-1].copy()),
    "DUPLICATE": lambda ds: ds.assign_coords(roi=np.zeros(ds.sizes["roi"], dtype=int)),
    "DIMS": lambda ds: ds.transpose(),
    "DTYPE": lambda ds: ds.assign(fluorescence=ds["fluorescence"] > 0),
}


@pytest.mark.parametrize("code", FAULTS)
def test_each_fault_is_found(calcium_case, tmp_path, code):
    tree = calcium_case().store(tmp_path).load()
    tree["raw"].dataset = FAULTS[code](tree["raw"].to_dataset())
    write_tree(tree, tmp_path / "bad.zarr")
    found = validate_store(tmp_path / "bad.zarr")
    assert code in {issue.code for issue in found}
    assert all(issue.severity == "error" for issue in found)
    assert all("/raw" in issue.path for issue in found)


def test_changed_samples_are_found(calcium_case, tmp_path):
    tree = calcium_case().store(tmp_path).load()
    tree["raw/fluorescence"].values[3, 2] += 1
    write_tree(tree, tmp_path / "bad.zarr")
    (issue,) = validate_store(tmp_path / "bad.zarr")
    assert issue.code == "CONTENT_HASH"


def test_attributes_are_checked(calcium_case, tmp_path):
    tree = calcium_case().store(tmp_path).load()
    tree.attrs["subjectid"] = tree.attrs.pop("subject_id")
    tree.attrs["sampling"] = "often"
    write_tree(tree, tmp_path / "bad.zarr")
    (issue,) = validate_store(tmp_path / "bad.zarr")
    assert "subject_id: absent" in issue.message
    assert "Did you mean 'subject_id'" in issue.message
    assert "found 'often'" in issue.message


def test_newer_versions_are_an_error_or_a_warning(calcium_case, tmp_path):
    tree = calcium_case().store(tmp_path).load()
    tree.attrs["schema_version"] = "1.9.0"
    tree.attrs["new_attribute"] = 1
    write_tree(tree, tmp_path / "minor.zarr")
    (issue,) = validate_store(tmp_path / "minor.zarr")
    assert (issue.code, issue.severity) == ("SCHEMA_VERSION", "warning")
    tree.attrs["schema_version"] = "3.0.0"
    write_tree(tree, tmp_path / "major.zarr")
    (issue,) = validate_store(tmp_path / "major.zarr")
    assert issue.severity == "error"
    assert "3.0.0" in issue.message


def test_damaged_stores_are_issues(calcium_case, tmp_path):
    calcium_case().write(tmp_path / "a.zarr")
    shutil.copytree(tmp_path / "a.zarr", tmp_path / "metadata.zarr")
    (tmp_path / "metadata.zarr" / "zarr.json").write_text("{")
    (issue,) = validate_store(tmp_path / "metadata.zarr")
    assert (issue.code, issue.severity) == ("DAMAGED", "error")
    chunk = tmp_path / "a.zarr" / "raw" / "fluorescence" / "c" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:50])
    (issue,) = validate_store(tmp_path / "a.zarr")
    assert issue.code == "DAMAGED"
    assert "samples cannot be read" in issue.message


def test_damaged_nwb_files_are_issues(calcium_case, tmp_path):
    to_nwb(calcium_case().store(tmp_path), tmp_path / "a.nwb")
    whole = (tmp_path / "a.nwb").read_bytes()
    (tmp_path / "cut.nwb").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.nwb").write_text("version https://git-lfs.github.com/spec/v1\n")
    with h5py.File(tmp_path / "plain.nwb", "w") as file:
        file["a"] = 1
    codes = [validate_store(tmp_path / name)[0].code for name in ("cut.nwb", "text.nwb")]
    assert codes == ["TRUNCATED", "NOT_THIS_FORMAT"]
    (issue,) = validate_store(tmp_path / "plain.nwb")
    assert "nwb_version" in issue.message


def test_an_nwb_file_against_the_schema_is_found(calcium_case, tmp_path):
    to_nwb(calcium_case().store(tmp_path), tmp_path / "a.nwb")
    with h5py.File(tmp_path / "a.nwb", "r+") as file:
        del file["processing/ophys/Fluorescence/fluorescence/rois"]
    codes = {issue.code for issue in validate_store(tmp_path / "a.nwb")}
    assert "NWB_SCHEMA" in codes or "DAMAGED" in codes


def test_worm_of_unknown_sex_is_a_warning(calcium_case, tmp_path):
    to_nwb(calcium_case(attrs={"sex": ""}).store(tmp_path), tmp_path / "a.nwb")
    (issue,) = validate_store(tmp_path / "a.nwb")
    assert (issue.code, issue.severity) == ("NWB_INSPECTOR", "warning")


def test_what_is_no_store_is_refused(tmp_path):
    with pytest.raises(MissingInput):
        validate_store(tmp_path / "absent.zarr")
    with pytest.raises(DataError, match=r"\.zarr or \.nwb"):
        validate_store(tmp_path / "a.txt")
