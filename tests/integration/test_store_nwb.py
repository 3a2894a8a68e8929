"""NWB files hold the store without loss, and other tools read the same values from them."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tracemalloc

import h5py
import numpy as np
import pytest
import xarray as xr
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from neuropipe.errors import DataError, IngestError, MissingInput
from neuropipe.store.hashing import content_sha256
from neuropipe.store.nwb import from_nwb, to_nwb
from neuropipe.store.nwb.write import RAW_MAPPERS
from neuropipe.store.series import Block, SeriesSpec
from neuropipe.store.validate import validate_store
from neuropipe.store.zarr import open_store, write_recording


def _sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_round_trip_is_identical_and_valid(any_case, tmp_path):
    tree = any_case.store(tmp_path)
    to_nwb(tree, tmp_path / "a.nwb")
    read = from_nwb(tmp_path / "a.nwb")
    assert read.identical(tree)
    for node in tree.subtree:
        dtypes = {
            name: variable.dtype.kind in "OT" or variable.dtype
            for name, variable in node.variables.items()
        }
        again = {
            name: variable.dtype.kind in "OT" or variable.dtype
            for name, variable in read[node.path].variables.items()
        }
        assert again == dtypes
        assert set(read[node.path].coords) == set(node.coords)
    assert content_sha256(read["raw"].to_dataset()) == tree.attrs["content_sha256"]
    found = validate_store(tmp_path / "a.nwb")
    # The inspector suspects a swapped array where there are fewer samples than rows.
    suspected = any_case.n_times < any_case.n_rois
    assert all(suspected and "check_data_orientation" in issue.message for issue in found)
    assert all(issue.severity == "warning" for issue in found)


@settings(max_examples=10, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(
    n_times=st.integers(1, 30),
    n_rois=st.integers(1, 4),
    dtype=st.sampled_from(["int16", "uint16", "float32", "float64"]),
    clock=st.sampled_from(["regular", "irregular"]),
    words=st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8")), max_size=4),
    names=st.sets(
        st.sampled_from(["name", "id", "tags", "start_time", "parent", "fields", "a:b", "a_b"])
    ),
)
def test_any_recording_comes_back_from_nwb(
    tmp_path_factory, n_times, n_rois, dtype, clock, words, names
):
    rng = np.random.default_rng(n_times)
    values = (rng.normal(size=(n_times, n_rois)) * 100).astype(dtype)
    time = np.arange(n_times) / 3 if clock == "regular" else rng.uniform(1, 2, n_times).cumsum()
    edges = np.arange(len(words), dtype=np.float64)
    column = ("trial", np.array(words, dtype=object))
    trials = {"start": ("trial", edges), "stop": ("trial", edges + 1)}
    trials |= dict.fromkeys(sorted(names), column)
    folder = tmp_path_factory.mktemp("generated")
    write_recording(
        folder / "a.zarr",
        modality="calcium",
        attrs={"subject_id": "a"},
        raw=xr.Dataset(coords={"time": time, "roi": np.arange(n_rois, dtype=np.int32)}),
        series=[SeriesSpec("dff", ("time", "roi"), values.shape, values.dtype, {"units": "1"})],
        blocks=iter([Block("dff", 0, values)]),
        groups={"trials": xr.Dataset(trials)},
    )
    tree = open_store(folder / "a.zarr")
    to_nwb(tree, folder / "a.nwb")
    assert from_nwb(folder / "a.nwb").identical(tree)
    assert [i for i in validate_store(folder / "a.nwb") if i.severity == "error"] == []


@pytest.mark.parametrize("compression", ["none", "gzip", "lzf"])
@pytest.mark.parametrize("force_timestamps", [True, False])
def test_round_trip_does_not_depend_on_how_it_is_written(
    calcium_case, tmp_path, compression, force_timestamps
):
    tree = calcium_case(clock="regular").store(tmp_path)
    to_nwb(tree, tmp_path / "a.nwb", compression=compression, force_timestamps=force_timestamps)
    assert from_nwb(tmp_path / "a.nwb").identical(tree)
    with h5py.File(tmp_path / "a.nwb") as file:
        series = file["processing/ophys/Fluorescence/fluorescence"]
        assert ("timestamps" in series) == force_timestamps
        expected = None if compression == "none" else compression
        assert series["data"].compression == expected
        if not force_timestamps:
            assert series["starting_time"].attrs["rate"] == 7.3


@pytest.mark.parametrize(("offset", "is_rate"), [(1e-10, True), (1e-5, False)])
def test_rate_is_written_only_for_steps_within_1e_9(calcium_case, tmp_path, offset, is_rate):
    case = calcium_case(clock="regular")
    case.time[20] += offset / 7.3
    tree = case.store(tmp_path)
    to_nwb(tree, tmp_path / "a.nwb")
    with h5py.File(tmp_path / "a.nwb") as file:
        assert ("starting_time" in file["processing/ophys/Fluorescence/fluorescence"]) == is_rate
    np.testing.assert_array_equal(from_nwb(tmp_path / "a.nwb")["raw/time"].values, case.time)
    assert validate_store(tmp_path / "a.nwb") == []


def test_series_link_to_one_set_of_timestamps(calcium_case, tmp_path):
    tree = calcium_case(series=("fluorescence", "neuropil", "dff"), nan_runs=True).store(tmp_path)
    to_nwb(tree, tmp_path / "a.nwb")
    with h5py.File(tmp_path / "a.nwb") as file:
        ophys = file["processing/ophys"]
        first = ophys["Fluorescence/fluorescence/timestamps"]
        assert ophys["Fluorescence/neuropil/timestamps"] == first
        assert ophys["DfOverF/dff/timestamps"] == first
        assert ophys["fluorescence_valid/data"].dtype == np.uint8
        assert ophys["Fluorescence/fluorescence"].attrs["neurodata_type"] == "RoiResponseSeries"


def test_pynwb_reads_the_same_values(calcium_case, tmp_path):
    from pynwb import NWBHDF5IO

    case = calcium_case(dtype="int16", series=("fluorescence", "dff"))
    to_nwb(case.store(tmp_path), tmp_path / "a.nwb")
    with NWBHDF5IO(tmp_path / "a.nwb", "r") as io:
        file = io.read()
        ophys = file.processing["ophys"]
        series = ophys["Fluorescence"]["fluorescence"]
        np.testing.assert_array_equal(series.data[:], case.values["fluorescence"])
        np.testing.assert_array_equal(series.timestamps[:], case.time)
        assert (series.conversion, series.offset) == (0.25, -3.0)
        table = ophys["ImageSegmentation"]["PlaneSegmentation"]
        assert list(table.id[:]) == list(case.raw["roi"].values)
        assert list(table["label_source"][:]) == list(case.raw["label_source"].values)
        assert not any(table["has_mask"][:])
        assert file.subject.subject_id == "w01"
        assert file.session_start_time.isoformat() == "2022-08-02T10:00:00+02:00"
        assert file.imaging_planes["imaging_plane"].indicator == "GCaMP6s"
        events = file.intervals["events"]
        np.testing.assert_allclose(
            events["stop_time"][:] - events["start_time"][:], events["duration"][:], atol=1e-12
        )
        assert len(file.trials) == 2
        behavior = file.processing["behavior"]["BehavioralTimeSeries"]
        assert set(behavior.time_series) == {"velocity", "moving", "head_angle"}


def test_pynapple_reads_the_same_values(calcium_case, tmp_path):
    nap = pytest.importorskip("pynapple", reason="pynapple is a developer extra")
    case = calcium_case(behavior=False, n_trials=None)
    to_nwb(case.store(tmp_path), tmp_path / "a.nwb")
    file = nap.load_file(str(tmp_path / "a.nwb"))
    try:
        series = file["fluorescence"]
        # pynapple keeps times to the nanosecond and values as they are in the file.
        np.testing.assert_array_equal(np.asarray(series.values), case.values["fluorescence"])
        np.testing.assert_allclose(series.t, case.time, rtol=0, atol=1e-9)
    finally:
        file.close()


def test_files_are_the_same_bytes_in_separate_processes(calcium_case, tmp_path):
    case = calcium_case(series=("fluorescence", "dff"), nan_runs=True)
    case.write(tmp_path / "a.zarr")
    code = (
        "import sys; from neuropipe.store.zarr import open_store;"
        "from neuropipe.store.nwb import to_nwb; to_nwb(open_store(sys.argv[1]), sys.argv[2])"
    )
    for seed in ("1", "2"):
        target = tmp_path / f"{seed}.nwb"
        arguments = [sys.executable, "-c", code, str(tmp_path / "a.zarr"), str(target)]
        subprocess.run(arguments, check=True, env={**os.environ, "PYTHONHASHSEED": seed})
    assert _sha256(tmp_path / "1.nwb") == _sha256(tmp_path / "2.nwb")


def test_preprocessed_series_join_the_file(calcium_case, tmp_path):
    tree = calcium_case(nan_runs=True).store(tmp_path)
    raw = tree["raw"].to_dataset()
    activity = (raw["fluorescence"] * 2).rename("activity")
    processed = raw[["valid", "observed"]].assign(activity=activity).assign_attrs(tree.attrs)
    to_nwb(tree, tmp_path / "a.nwb", processed=xr.DataTree(processed))
    read = from_nwb(tmp_path / "a.nwb")
    assert read["preprocessed"].to_dataset().identical(processed)
    assert read["raw"].to_dataset().identical(raw)
    assert validate_store(tmp_path / "a.nwb") == []
    with h5py.File(tmp_path / "a.nwb") as file:
        table = file["processing/preprocessed/activity_columns"]
        assert len(table["id"]) == raw.sizes["roi"]


def test_large_arrays_stream_and_come_back_lazily(calcium_case, tmp_path):
    case = calcium_case(n_times=150_000, n_rois=70, dtype="int16", clock="regular", block=9_999)
    tree = case.store(tmp_path)
    to_nwb(case.__class__().store(tmp_path / "small"), tmp_path / "small.nwb")  # imports
    tracemalloc.start()
    to_nwb(tree, tmp_path / "a.nwb", compression="lzf")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # 21 MB of samples pass in chunks of 8 MB, which xarray and HDF5 copy.
    assert peak < 60e6
    read = from_nwb(tmp_path / "a.nwb")["raw/fluorescence"]
    assert "values with dtype" in repr(read.variable)
    values = case.values["fluorescence"]
    np.testing.assert_array_equal(read[100:200, 3].values, values[100:200, 3])
    np.testing.assert_array_equal(read[::-50_000, [5, 1]].values, values[::-50_000, [5, 1]])
    np.testing.assert_array_equal(read.values, values)


def test_what_is_no_nwb_of_ours_is_named(calcium_case, tmp_path):
    with pytest.raises(MissingInput, match="no such file"):
        from_nwb(tmp_path / "absent.nwb")
    (tmp_path / "text.nwb").write_text("<html>not found</html>")
    with pytest.raises(IngestError, match=r"NOT_THIS_FORMAT.*text\.nwb.*<html>"):
        from_nwb(tmp_path / "text.nwb")
    with h5py.File(tmp_path / "foreign.nwb", "w") as file:
        file.attrs["nwb_version"] = "2.9.0"
    with pytest.raises(DataError, match="not written by neuropipe"):
        from_nwb(tmp_path / "foreign.nwb")
    to_nwb(calcium_case().store(tmp_path), tmp_path / "a.nwb")
    whole = (tmp_path / "a.nwb").read_bytes()
    for share in (0.02, 0.5, 0.99):
        (tmp_path / "cut.nwb").write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(IngestError, match=r"TRUNCATED: .*cut\.nwb"):
            from_nwb(tmp_path / "cut.nwb")


def test_a_file_that_lost_a_dataset_is_a_data_error(calcium_case, tmp_path):
    to_nwb(calcium_case().store(tmp_path), tmp_path / "a.nwb")
    with h5py.File(tmp_path / "a.nwb", "r+") as file:
        del file["processing/ophys/Fluorescence/fluorescence/data"]
    with pytest.raises(DataError, match="does not hold what its record"):
        from_nwb(tmp_path / "a.nwb")
    with h5py.File(tmp_path / "a.nwb", "r+") as file:
        del file["scratch/neuropipe"]
        file["scratch/neuropipe"] = "{"
    with pytest.raises(DataError, match="scratch/neuropipe is damaged"):
        from_nwb(tmp_path / "a.nwb")


def test_only_ingested_recordings_of_mapped_modalities_are_written(
    calcium_case, tmp_path, monkeypatch
):
    tree = calcium_case().store(tmp_path).load()
    with pytest.raises(DataError, match="compression 'zip'"):
        to_nwb(tree, tmp_path / "a.nwb", compression="zip")
    with pytest.raises(DataError, match="no group /raw"):
        to_nwb(xr.DataTree(xr.Dataset(attrs=tree.attrs)), tmp_path / "a.nwb")
    monkeypatch.delitem(RAW_MAPPERS, "meg")
    tree.attrs["schema"] = "neuropipe.meg"
    with pytest.raises(DataError, match="no NWB mapping of modality 'meg'; there is calcium"):
        to_nwb(tree, tmp_path / "a.nwb")
    assert not (tmp_path / "a.nwb").exists()


def test_unknown_subject_is_written_without_invention(calcium_case, tmp_path):
    unknown = {"sex": "", "age": "L4", "species": "", "session_start": ""}
    tree = calcium_case(attrs=unknown).store(tmp_path)
    to_nwb(tree, tmp_path / "a.nwb")
    with h5py.File(tmp_path / "a.nwb") as file:
        subject = file["general/subject"]
        assert subject["age"].asstr()[()] == "P0D/"
        assert subject["description"].asstr()[()] == "age: L4"
        assert "species" not in subject
    read = from_nwb(tmp_path / "a.nwb")
    assert {key: read.attrs[key] for key in unknown} == unknown
    assert open_store(tmp_path / "recording.zarr").identical(read)
