"""Stores are written whole, streaming, and read back identical."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from neuropipe.errors import DataError, IngestError, MissingInput, issues_from_json
from neuropipe.store.hashing import content_sha256
from neuropipe.store.schema import check_tree
from neuropipe.store.series import Block, SeriesSpec
from neuropipe.store.zarr import open_store, write_recording, write_tree


def _no_leftovers(folder: Path) -> bool:
    return not list(folder.iterdir())


def test_values_come_back_bit_for_bit(any_case, tmp_path):
    tree = any_case.store(tmp_path)
    raw = tree["raw"].to_dataset()
    for name, values in any_case.values.items():
        assert raw[name].dtype == values.dtype
        np.testing.assert_array_equal(raw[name].values, values)
    np.testing.assert_array_equal(raw["time"].values, any_case.time)
    assert list(raw["label_source"].values) == list(any_case.raw["label_source"].values)
    assert raw["x"].attrs == any_case.raw["x"].attrs
    assert check_tree(tree) == []


def test_groups_come_back_and_absent_ones_stay_absent(any_case, tmp_path):
    tree = any_case.store(tmp_path)
    for name, ds in any_case.groups.items():
        if ds is None:
            assert name not in tree.children
            continue
        read = tree[name].to_dataset()
        assert set(read.variables) == set(ds.variables)
        assert dict(read.sizes) == dict(ds.sizes)
    if any_case.behavior:
        assert tree["behavior"].attrs["camera"] == "ä"
        assert np.isnan(tree["behavior"].attrs["gain"])


def test_copy_of_a_lazily_opened_store_is_identical(any_case, tmp_path):
    tree = any_case.store(tmp_path)
    write_tree(tree, tmp_path / "copy.zarr")
    assert open_store(tmp_path / "copy.zarr").identical(tree)


def test_content_hash_is_the_hash_of_raw_however_the_blocks_fall(any_case, tmp_path):
    digest = any_case.write(tmp_path / "a.zarr")
    tree = open_store(tmp_path / "a.zarr")
    assert tree.attrs["content_sha256"] == digest
    assert content_sha256(tree["raw"].to_dataset()) == digest
    assert content_sha256(tree["raw"].to_dataset().load()) == digest
    any_case.block = 1000
    any_case.rng = np.random.default_rng(any_case.seed)
    any_case.__post_init__()
    assert any_case.write(tmp_path / "b.zarr") == digest


@settings(max_examples=15, deadline=None)
@given(
    n_times=st.integers(1, 60),
    n_rois=st.integers(1, 6),
    dtype=st.sampled_from(["int16", "uint16", "float32", "float64"]),
    clock=st.sampled_from(["regular", "irregular"]),
    block=st.integers(1, 70),
    n_events=st.integers(0, 3),
)
def test_any_shape_dtype_and_block_size_comes_back(
    tmp_path_factory, n_times, n_rois, dtype, clock, block, n_events
):
    rng = np.random.default_rng(n_times)
    values = (rng.normal(size=(n_times, n_rois)) * 100).astype(dtype)
    time = np.arange(n_times) / 3 if clock == "regular" else rng.uniform(1, 2, n_times).cumsum()
    path = tmp_path_factory.mktemp("generated") / "a.zarr"
    onset = np.arange(n_events, dtype=np.float64)
    events = xr.Dataset({"onset": ("event", onset), "duration": ("event", onset)})
    events["label"] = ("event", np.array(["é"] * n_events, dtype=object))
    digest = write_recording(
        path,
        modality="calcium",
        attrs={"subject_id": "a"},
        raw=xr.Dataset(coords={"time": time, "roi": np.arange(n_rois)}),
        series=[SeriesSpec("dff", ("time", "roi"), values.shape, values.dtype, {"units": "1"})],
        blocks=(Block("dff", k, values[k : k + block]) for k in range(0, n_times, block)),
        groups={"events": events},
    )
    tree = open_store(path)
    np.testing.assert_array_equal(tree["raw/dff"].values, values)
    assert tree["raw/dff"].dtype == values.dtype
    assert content_sha256(tree["raw"].to_dataset()) == digest
    assert check_tree(tree) == []


def test_missing_samples_are_masked_and_whole_masks_are_one_attribute(calcium_case, tmp_path):
    tree = calcium_case(nan_runs=True).store(tmp_path)
    raw = tree["raw"].to_dataset()
    np.testing.assert_array_equal(raw["valid"], np.isfinite(raw["fluorescence"]))
    assert not raw.attrs["all_valid"]
    assert [issue.code for issue in issues_from_json(tree.attrs["issues"])] == ["NAN_IN_DATA"]
    whole = calcium_case().store(tmp_path)["raw"].to_dataset()
    assert whole.attrs["all_valid"] is True
    assert "valid" not in whole
    assert whole["roi_ok"].values.all()


def test_a_mask_of_the_reader_is_combined_with_what_the_samples_show(calcium_case, tmp_path):
    case = calcium_case(nan_runs=True)
    known = np.ones((case.n_times, case.n_rois), dtype=bool)
    known[30:, 2] = False
    raw = case.raw.assign(valid=(("time", "roi"), known))
    raw = raw.assign_coords(roi_ok=("roi", np.arange(case.n_rois) != 4))
    _write(case, tmp_path / "a.zarr", raw=raw)
    read = open_store(tmp_path / "a.zarr")["raw"].to_dataset()
    np.testing.assert_array_equal(read["valid"], known & np.isfinite(case.values["fluorescence"]))
    assert list(read["roi_ok"].values) == [True, True, True, True, False]


def test_a_row_that_is_mostly_missing_is_not_ok_and_an_empty_recording_is_an_error(
    calcium_case, tmp_path
):
    case = calcium_case()
    case.values["fluorescence"][:30, 1] = np.nan
    assert list(case.store(tmp_path)["raw/roi_ok"].values) == [True, False, True, True, True]
    case.values["fluorescence"][:] = np.nan
    with pytest.raises(IngestError, match="NAN_IN_DATA"):
        case.write(tmp_path / "bad.zarr")


@pytest.mark.parametrize(("clock", "n_segments"), [("regular", 1), ("gaps", 3), ("irregular", 1)])
def test_sampling_and_observed_time_follow_the_clock(calcium_case, tmp_path, clock, n_segments):
    case = calcium_case(clock=clock)
    tree = case.store(tmp_path)
    assert tree.attrs["sampling"] == clock
    observed = tree["raw/observed"].values
    assert observed.shape == (n_segments, 2)
    assert observed[0, 0] == case.time[0]
    assert observed[-1, 1] == case.time[-1]
    assert (tree.attrs["rate"] == 7.3) == (clock == "regular")
    if clock == "gaps":
        assert tree.attrs["grid_rate"] == 7.3
        np.testing.assert_array_equal(tree["raw/segment_start"], observed[:, 0])


def _write(case, path, **changed):
    parts = {
        "modality": "calcium",
        "attrs": {"subject_id": "a"},
        "raw": case.raw,
        "series": case.specs,
        "blocks": case.blocks(),
        "groups": case.groups,
    }
    return write_recording(path, **{**parts, **changed})


def test_times_that_do_not_increase_are_refused(calcium_case, tmp_path):
    for fault in (np.nan, 0.0, -5.0):
        case = calcium_case()
        case.time[20] = fault
        with pytest.raises(IngestError, match=r"BAD_TIME: .*raw/time: sample 20"):
            case.write(tmp_path / "a.zarr")
    assert _no_leftovers(tmp_path)


def test_samples_that_differ_from_what_was_announced_are_refused(calcium_case, tmp_path):
    case = calcium_case()
    values = case.values["fluorescence"]
    faults = {
        "announced": [Block("fluorescence", 0, values[:30])],
        "starts at sample 20": [
            Block("fluorescence", 0, values[:10]),
            Block("fluorescence", 20, values[20:]),
        ],
        "block of shape": [Block("fluorescence", 0, values[:, :3])],
        "samples are float64": [Block("fluorescence", 0, values.astype("float64"))],
        "reader lacks": [Block("dff", 0, values)],
    }
    for message, blocks in faults.items():
        with pytest.raises(DataError, match=message):
            _write(case, tmp_path / "a.zarr", blocks=iter(blocks))
        assert _no_leftovers(tmp_path)


def test_lengths_names_and_attributes_are_checked_before_anything_is_written(
    calcium_case, tmp_path
):
    case = calcium_case()
    spec = case.specs[0]
    short = SeriesSpec(spec.name, spec.dims, (39, 5), spec.dtype, {})
    empty = SeriesSpec(spec.name, spec.dims, (40, 0), spec.dtype, {})
    unknown = SeriesSpec("florescence", spec.dims, spec.shape, spec.dtype, {})
    naive = {"subject_id": "a", "session_start": "2022-08-02T10:00:00"}
    faults = [
        ({"series": [short]}, "LENGTH_MISMATCH"),
        ({"series": [empty]}, "EMPTY"),
        ({"series": []}, "EMPTY"),
        ({"series": [unknown]}, "'florescence' is unknown"),
        ({"attrs": {"subject_id": "a", "indicater": "x"}}, "Did you mean 'indicator'"),
        ({"attrs": {}}, "subject_id: absent"),
        ({"attrs": naive}, "UTC offset"),
        ({"modality": "calium"}, "'calium' is unknown"),
        ({"groups": {"event": None}}, "unknown groups event"),
        ({"groups": {"events": xr.Dataset({"a/b": ("event", [1.0])})}}, "slashes cannot be stored"),
        ({"raw": case.raw.drop_vars("roi")}, "no coordinate 'roi'"),
    ]
    for changed, message in faults:
        with pytest.raises(DataError, match=message):
            _write(case, tmp_path / "a.zarr", **changed)
        assert _no_leftovers(tmp_path)


def test_an_interrupted_write_leaves_the_old_store(calcium_case, tmp_path):
    case = calcium_case()
    case.write(tmp_path / "a.zarr")

    def interrupted():
        yield Block("fluorescence", 0, case.values["fluorescence"][:10])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _write(case, tmp_path / "a.zarr", blocks=interrupted())
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]
    assert check_tree(open_store(tmp_path / "a.zarr")) == []


def test_chunks_and_codec_are_as_specified(calcium_case, tmp_path):
    n_times, n_rois = 40_000, 130
    case = calcium_case(n_times=n_times, n_rois=n_rois, dtype="int16", block=3333)
    case.write(tmp_path / "a.zarr")
    array = zarr.open_group(tmp_path / "a.zarr", mode="r")["raw/fluorescence"]
    assert array.chunks == (40_000, 64)
    assert array.metadata.zarr_format == 3
    codec, checksum = array.compressors
    assert checksum.to_dict() == {"name": "crc32c"}
    assert (codec.cname.value, codec.clevel, codec.shuffle.value) == ("zstd", 3, "shuffle")
    np.testing.assert_array_equal(array[:], case.values["fluorescence"])
    label = zarr.open_group(tmp_path / "a.zarr", mode="r")["raw/label"]
    assert label.metadata.data_type.to_json(zarr_format=3) == "string"


def test_metadata_are_strict_json(calcium_case, tmp_path):
    calcium_case().write(tmp_path / "a.zarr")

    def refuse(token):
        raise AssertionError(token)

    found = list(tmp_path.rglob("zarr.json"))
    for path in found:
        json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    assert len(found) > 5


def test_a_store_opens_without_consolidated_metadata(calcium_case, tmp_path):
    tree = calcium_case().store(tmp_path).load()
    path = tmp_path / "recording.zarr" / "zarr.json"
    root = json.loads(path.read_text(encoding="utf-8"))
    del root["consolidated_metadata"]
    path.write_text(json.dumps(root), encoding="utf-8")
    assert open_store(tmp_path / "recording.zarr").identical(tree)


@pytest.mark.parametrize("consolidated", [True, False])
def test_zarr_format_2_opens(tmp_path, consolidated):
    values = np.array([[1.0, np.nan], [3.0, 4.0]])
    ds = xr.Dataset(
        {"dff": (("time", "roi"), values, {"units": "1"})},
        {"time": [0.0, 1.0], "roi_ok": ("roi", [True, False])},
    )
    tree = xr.DataTree.from_dict({"/": xr.Dataset(attrs={"name": "ä"}), "/raw": ds})
    tree.to_zarr(tmp_path / "a.zarr", zarr_format=2, consolidated=consolidated)
    read = open_store(tmp_path / "a.zarr")
    assert read["raw"].to_dataset().identical(ds)
    assert read.attrs == {"name": "ä"}


def test_plain_xarray_reads_the_store(calcium_case, tmp_path):
    case = calcium_case(dtype="int16")
    case.write(tmp_path / "a.zarr")
    with xr.open_zarr(tmp_path / "a.zarr", group="raw") as ds:
        expected = case.values["fluorescence"] * 0.25 - 3.0
        np.testing.assert_array_equal(ds["fluorescence"].values, expected)


def test_opening_reads_no_samples(calcium_case, tmp_path):
    calcium_case().write(tmp_path / "a.zarr")
    for chunk in (tmp_path / "a.zarr" / "raw" / "fluorescence" / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"")
    tree = open_store(tmp_path / "a.zarr")
    assert tree["raw/fluorescence"].shape == (40, 5)


@pytest.mark.parametrize("chunks", ["auto", {"time": 10}])
def test_chunks_give_dask_arrays_of_the_same_values(calcium_case, tmp_path, chunks):
    tree = calcium_case().store(tmp_path)
    chunked = open_store(tmp_path / "recording.zarr", chunks=chunks)
    assert chunked["raw/fluorescence"].chunks is not None
    assert chunked.load().identical(tree.load())


def test_memory_is_bounded_by_the_buffer_of_chunks(tmp_path):
    n_times, n_rois, block = 400_000, 64, 2_000
    spec = SeriesSpec("dff", ("time", "roi"), (n_times, n_rois), np.dtype("int16"), {})
    values = np.random.default_rng(0).integers(0, 99, (block, n_rois), dtype=np.int16)
    coords = {"time": np.arange(n_times) / 1000.0, "roi": np.arange(n_rois)}
    raw = xr.Dataset(coords=coords)
    tracemalloc.start()
    write_recording(
        tmp_path / "a.zarr",
        modality="calcium",
        attrs={"subject_id": "a"},
        raw=raw,
        series=[spec],
        blocks=(Block("dff", start, values) for start in range(0, n_times, block)),
        groups={},
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # 51 MB of samples and as many bool of the mask pass; 8 MB chunks of each are held a few times.
    assert peak < 60e6


def test_what_is_no_store_is_named(tmp_path):
    with pytest.raises(MissingInput, match="no such store"):
        open_store(tmp_path / "absent.zarr")
    (tmp_path / "file.zarr").write_text("text")
    with pytest.raises(DataError, match="is a file"):
        open_store(tmp_path / "file.zarr")
    (tmp_path / "folder.zarr").mkdir()
    with pytest.raises(DataError, match="not a Zarr store"):
        open_store(tmp_path / "folder.zarr")


@pytest.mark.parametrize(
    "damage", [lambda text: "", lambda text: text[: len(text) // 2], lambda text: "[1]"]
)
def test_damaged_metadata_are_a_data_error(calcium_case, tmp_path, damage):
    calcium_case().write(tmp_path / "a.zarr")
    path = tmp_path / "a.zarr" / "zarr.json"
    path.write_text(damage(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.zarr.*damaged"):
        open_store(tmp_path / "a.zarr")


def test_damaged_metadata_of_one_array_are_a_data_error(calcium_case, tmp_path):
    calcium_case().write(tmp_path / "a.zarr")
    root = tmp_path / "a.zarr" / "zarr.json"
    content = json.loads(root.read_text(encoding="utf-8"))
    del content["consolidated_metadata"]["metadata"]["raw/fluorescence"]["shape"]
    root.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match="damaged"):
        open_store(tmp_path / "a.zarr")


def test_versions_are_compared_when_a_store_is_opened(calcium_case, tmp_path, caplog):
    tree = calcium_case().store(tmp_path).load()
    tree.attrs["schema_version"] = "2.0.0"
    write_tree(tree, tmp_path / "newer.zarr")
    with pytest.raises(DataError, match=r"schema version 2\.0\.0.*reads schema version 2"):
        open_store(tmp_path / "newer.zarr")
    tree.attrs["schema_version"] = "1.7.0"
    write_tree(tree, tmp_path / "minor.zarr")
    open_store(tmp_path / "minor.zarr")
    assert "1.7.0" in caplog.text


def test_values_without_a_form_in_a_store_are_refused(tmp_path):
    objects = xr.Dataset({"a": ("x", np.array([1, "b"], dtype=object))})
    dates = xr.Dataset({"a": ("x", np.array(["2020-01-01"], dtype="datetime64[ns]"))})
    blank = xr.Dataset(coords={"a b": ("x", [1.0])})
    for ds in (objects, dates, xr.Dataset(attrs={"a": {1, 2}}), blank):
        with pytest.raises(DataError, match=r"expected|cannot be an attribute|cannot be stored"):
            write_tree(xr.DataTree(ds), tmp_path / "a.zarr")
    assert _no_leftovers(tmp_path)
