"""Readers of calcium sources: values, names, clocks, settings, probing."""

from __future__ import annotations

import json
import subprocess
import sys

import h5py
import numpy as np
import pytest
import xarray as xr

from neuropipe.config.models import IngestConfig, IngestOverride, StrictModel
from neuropipe.errors import ConfigError, DataError, IngestError, MissingInput
from neuropipe.io import registry
from neuropipe.io.calcium.names import NamesColumns, read_names
from neuropipe.io.entities import entities_of
from neuropipe.io.registry import Reader, ReaderMatch, match, reader_settings, readers
from neuropipe.io.scan import scan
from neuropipe.simulate.calcium_files import (
    write_calcium_hdf5,
    write_calcium_nwb,
    write_calcium_table,
    write_suite2p_folder,
)

N_TIMES, N_ROIS = 50, 4
NAMES = ["AVAL", "AVAR", "", "VB02"]


@pytest.fixture(scope="module")
def activity():
    rng = np.random.default_rng(3)
    values = rng.standard_normal((2, N_ROIS, N_TIMES))
    values[1, 2] = np.nan
    coords = {"subject": ["01", "02"], "neuron": ["a", "b", "c", "d"]}
    coords["time"] = np.arange(N_TIMES) / 4.0
    return xr.Dataset({"activity": (("subject", "neuron", "time"), values)}, coords)


@pytest.fixture
def traces():
    return np.random.default_rng(0).standard_normal((N_TIMES, N_ROIS)).astype(np.float32)


def open_with(name, path, settings=None, override=None):
    reader = readers()[name]
    keys = reader.settings.model_validate(settings or {})
    return reader.open_recording(path, keys, IngestOverride.model_validate(override or {}))


def samples(handle, name, max_bytes=1 << 20):
    blocks = [block for block in handle.blocks(max_bytes) if block.name == name]
    starts = np.cumsum([0] + [len(block.values) for block in blocks])[:-1]
    assert [block.start for block in blocks] == list(starts)
    assert all(block.values.nbytes <= max(max_bytes, block.values[:1].nbytes) for block in blocks)
    return np.concatenate([block.values for block in blocks])


def write_h5(path, **fields):
    with h5py.File(path, "w") as file:
        for name, values in fields.items():
            file[name.replace("__", "/")] = values
    return path


def test_registered_readers():
    assert {"nwb", "hdf5", "suite2p", "table"} <= set(readers())
    assert all(reader.name == name for name, reader in readers().items())


def test_importing_readers_loads_nothing_heavy():
    code = (
        "import sys; from neuropipe.io.registry import readers; readers(); "
        "heavy = {'h5py', 'xarray', 'pandas', 'pynwb', 'zarr', 'scipy'} & set(sys.modules); "
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


# Generic HDF5 ---------------------------------------------------------------------------------


def test_hdf5_reads_the_values_of_the_file(tmp_path, traces):
    time = 1e6 + np.arange(N_TIMES) * 0.25
    path = write_h5(tmp_path / "a.h5", dff=traces, t=time, n=[s.encode() for s in NAMES])
    settings = {"datasets": {"traces": "dff", "time": "t", "names": "n"}, "kind": "dff"}
    handle = open_with("hdf5", path, settings)
    schema = handle.schema()
    assert [(s.name, s.shape, s.dtype) for s in schema.series] == [
        ("dff", (N_TIMES, N_ROIS), np.dtype(np.float32))
    ]
    np.testing.assert_array_equal(schema.raw["time"].values, time)
    assert list(schema.raw["label_source"].values) == NAMES
    # Blocks of 64 bytes hold four samples each.
    np.testing.assert_array_equal(samples(handle, "dff", 64), traces)
    handle.close()


@pytest.mark.parametrize("orientation", ["auto", "roi_time"])
def test_hdf5_turns_rows_first_arrays(tmp_path, traces, orientation):
    path = write_h5(tmp_path / "a.h5", f=traces.T, t=np.arange(N_TIMES) / 4)
    settings = {
        "datasets": {"traces": "f", "time": "t"},
        "kind": "fluorescence",
        "orientation": orientation,
    }
    handle = open_with("hdf5", path, settings)
    np.testing.assert_array_equal(samples(handle, "fluorescence", 100), traces)
    handle.close()


@pytest.mark.parametrize("dtype", ["int16", "uint16", "float32", "float64", ">f4"])
def test_hdf5_keeps_the_dtype_of_the_source(tmp_path, dtype):
    values = np.arange(12).reshape(6, 2).astype(dtype)
    path = write_h5(tmp_path / "a.h5", f=values, t=np.arange(6.0))
    handle = open_with("hdf5", path, {"datasets": {"traces": "f", "time": "t"}, "kind": "dff"})
    (spec,) = handle.schema().series
    assert spec.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(samples(handle, "dff"), values)
    handle.close()


def test_hdf5_group_behaviour_second_clock_and_intervals(tmp_path, traces):
    time, camera = 100 + np.arange(N_TIMES) * 0.5, 99 + np.arange(600) * 0.05
    path = write_h5(
        tmp_path / "a.h5",
        w1__f=traces,
        w1__t=time * 1000,
        w1__v=np.arange(N_TIMES),
        w1__pupil=np.ones((600, 2)),
        w1__cam=camera * 1000,
        w1__rev=np.array([[3, 10], [5, 10]]),
    )
    settings = {
        "group": "w1",
        "kind": "dff",
        "time_unit": "ms",
        "datasets": {
            "traces": "f",
            "time": "t",
            "behavior": {
                "velocity": "v",
                "pupil": {"path": "pupil", "time": "cam", "stream": "nir"},
            },
            "intervals": {"reversal": {"path": "rev", "index_base": 1}},
        },
    }
    handle = open_with("hdf5", path, settings)
    behavior, events = handle.schema().behavior, handle.events()
    assert behavior["velocity"].dims == ("time_behavior",)
    assert behavior["pupil"].dims == ("time_nir", "pupil_column")
    np.testing.assert_allclose(behavior["time_nir"].values, camera, rtol=1e-15)
    # 1-based indices 3..5 and 10..10 are samples 2..4 and 9..9 of the clock.
    np.testing.assert_allclose(events["onset"].values, time[[2, 9]], rtol=1e-15)
    np.testing.assert_allclose(events["duration"].values, [1.0, 0.0], atol=1e-12)
    assert list(events["label"].values) == ["reversal", "reversal"]
    handle.close()


def test_hdf5_position_and_confidence(tmp_path, traces):
    path = write_h5(
        tmp_path / "a.h5",
        f=traces,
        t=np.arange(N_TIMES) / 4,
        n=NAMES,
        c=np.arange(4.0),
        p=np.arange(12).reshape(3, 4),
    )
    datasets = {"traces": "f", "time": "t", "names": "n", "confidence": "c", "position": "p"}
    handle = open_with("hdf5", path, {"datasets": datasets, "kind": "dff"})
    raw = handle.schema().raw
    np.testing.assert_array_equal(raw["label_confidence"].values, np.arange(4.0))
    np.testing.assert_array_equal(raw["z"].values, [8, 9, 10, 11])
    handle.close()


def test_hdf5_rate_takes_the_place_of_times(tmp_path, traces):
    path = write_h5(tmp_path / "a.h5", f=traces)
    settings = {"datasets": {"traces": "f"}, "kind": "dff", "orientation": "time_roi"}
    handle = open_with("hdf5", path, {**settings, "rate_hz": 2.0})
    np.testing.assert_array_equal(handle.schema().raw["time"].values, np.arange(N_TIMES) / 2)
    handle.close()
    with pytest.raises(IngestError, match=r"MISSING_SIDECAR.*sampling rate"):
        open_with("hdf5", path, settings)


def test_hdf5_without_a_kind_is_an_issue(tmp_path, traces):
    path = write_h5(tmp_path / "a.h5", f=traces, t=np.arange(N_TIMES) / 4)
    handle = open_with("hdf5", path, {"datasets": {"traces": "f", "time": "t"}})
    assert [issue.code for issue in handle.issues] == ["KIND_ASSUMED"]
    handle.close()


@pytest.mark.parametrize(
    ("settings", "error", "fragment"),
    [
        ({}, ConfigError, r"Two-dimensional data sets: f \(50, 4\)"),
        ({"group": "w1"}, ConfigError, "no group 'w1'"),
        ({"datasets": {"traces": "ff", "time": "t"}}, IngestError, "did you mean 'f'"),
        ({"datasets": {"traces": "t", "time": "t"}}, IngestError, "two dims expected"),
        ({"datasets": {"traces": "n", "time": "t"}}, IngestError, "numbers expected"),
        ({"datasets": {"traces": "f"}}, ConfigError, "set `orientation`"),
        ({"datasets": {"traces": "sq", "time": "t4"}}, ConfigError, "fits 4 times both ways"),
        ({"datasets": {"traces": "f", "time": "t4"}, "orientation": "time_roi"}, IngestError,
         "LENGTH_MISMATCH"),
        ({"datasets": {"traces": "f", "time": "t", "names": "n"}}, IngestError, "LENGTH_MISMATCH"),
        ({"datasets": {"traces": "f", "time": "t", "names": "n"}, "names_table": "n.csv"},
         ConfigError, "not both"),
        ({"datasets": {"traces": "f", "time": "t", "position": "sq"}}, IngestError, "expected"),
        ({"datasets": {"traces": "f", "time": "t"}, "session_start": "begin"}, IngestError,
         "no such attribute"),
        ({"datasets": {"traces": "f", "time": "t",
                       "intervals": {"x": {"path": "iv", "index_base": 1}}}}, IngestError,
         "row 1 names sample 0; the clock has 50 samples counted from 1"),
    ],
)  # fmt: skip
def test_hdf5_faults_name_field_and_remedy(tmp_path, traces, settings, error, fragment):
    path = write_h5(
        tmp_path / "a.h5",
        f=traces,
        t=np.arange(N_TIMES) / 4,
        sq=np.zeros((4, 4)),
        t4=np.arange(4.0),
        n=[b"one", b"two"],
        iv=np.array([[1, 0, 1], [2, 2, 2]]),
    )
    with pytest.raises(error, match=fragment):
        open_with("hdf5", path, {"kind": "dff", **settings})


def test_hdf5_refuses_samples_that_lie_elsewhere(tmp_path, traces):
    outside = tmp_path / "outside.h5"
    write_h5(outside, f=traces)
    folder = tmp_path / "data"
    folder.mkdir()
    write_h5(folder / "near.h5", f=traces)
    with h5py.File(folder / "a.h5", "w") as file:
        file["t"] = np.arange(N_TIMES) / 4
        file["far"] = h5py.ExternalLink("../outside.h5", "/f")
        file["near"] = h5py.ExternalLink("near.h5", "/f")
        file.create_dataset("raw", (2, 2), "f4", external=[("../outside.h5", 0, 16)])
    settings = {"datasets": {"traces": "far", "time": "t"}, "kind": "dff"}
    for name in ("far", "raw"):
        settings["datasets"]["traces"] = name
        with pytest.raises(IngestError, match="UNSAFE"):
            open_with("hdf5", folder / "a.h5", settings)
    settings["datasets"]["traces"] = "near"
    handle = open_with("hdf5", folder / "a.h5", settings)
    np.testing.assert_array_equal(samples(handle, "dff"), traces)
    handle.close()


# Names tables ---------------------------------------------------------------------------------


def read(path, base=None, n=4, **columns):
    return read_names(path, n, index_base=base, columns=NamesColumns(**columns))


@pytest.mark.parametrize("base", [0, 1])
def test_names_table_counts_from_its_base(tmp_path, base):
    path = tmp_path / "names.csv"
    path.write_text(f"index,label,confidence\n{base + 2},AVAL,3\n{base},AVAR,n/a\n")
    names = read(path, base)
    assert names.labels == ("AVAR", "", "AVAL", "")
    np.testing.assert_array_equal(names.confidence, [np.nan, np.nan, 3.0, np.nan])


def test_names_table_with_byte_order_mark_and_other_columns(tmp_path):
    path = tmp_path / "names.tsv"
    path.write_text("nummer\tzelle\n0\tAVAL\n3\tn/a\n", encoding="utf-8-sig")
    assert read(path, 0, index="nummer", label="zelle").labels == ("AVAL", "", "", "")


@pytest.mark.parametrize(
    "value",
    [
        ["AVAL", None, "", "x"],
        {"0": "AVAL", "3": "x"},
        [{"index": 0, "label": "AVAL"}, {"index": 3, "label": "x"}],
    ],
)
def test_names_as_json(tmp_path, value):
    path = tmp_path / "names.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    assert read(path, 0).labels == ("AVAL", "", "", "x")


@pytest.mark.parametrize(
    ("name", "text", "base", "code"),
    [
        ("a.csv", "index,label\n4,AVAL\n", 0, "LENGTH_MISMATCH"),
        ("a.csv", "index,label\n0,AVAL\n", 1, "LENGTH_MISMATCH"),
        ("a.csv", "label\nAVAL\n", 0, "LENGTH_MISMATCH"),
        ("a.csv", "index,label\n1,AVAL\n", None, "MISSING_SIDECAR"),
        ("a.csv", "index,label\n1,AVAL\n1,AVAR\n", 1, "DUPLICATE_INDEX"),
        ("a.csv", "index,label\nx,AVAL\n", 1, "NOT_THIS_FORMAT"),
        ("a.csv", "index,who\n1,AVAL\n", 1, "NOT_THIS_FORMAT"),
        ("a.csv", "index,label,confidence\n1,AVAL,high\n", 1, "NOT_THIS_FORMAT"),
        ("a.csv", "<!DOCTYPE html><html></html>", 1, "NOT_THIS_FORMAT"),
        ("a.json", "{", 1, "NOT_THIS_FORMAT"),
        ("a.json", "3", 1, "NOT_THIS_FORMAT"),
    ],
)
def test_faulty_names_tables(tmp_path, name, text, base, code):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(IngestError) as caught:
        read(path, base)
    assert caught.value.code == code


def test_names_table_that_is_absent_or_not_utf8(tmp_path):
    with pytest.raises(IngestError, match="MISSING_SIDECAR"):
        read(tmp_path / "absent.csv", 0)
    path = tmp_path / "latin.csv"
    path.write_bytes("index,label\n0,Zelle ä\n".encode("latin-1"))
    with pytest.raises(IngestError, match="ENCODING"):
        read(path, 0)


def test_names_table_outside_the_folder_is_refused_unless_absolute(tmp_path, traces):
    folder = tmp_path / "data"
    folder.mkdir()
    path = write_h5(folder / "a.h5", f=traces, t=np.arange(N_TIMES) / 4)
    (tmp_path / "n.csv").write_text("index,label\n0,AVAL\n")
    settings = {"datasets": {"traces": "f", "time": "t"}, "kind": "dff", "index_base": 0}
    with pytest.raises(IngestError, match="UNSAFE"):
        open_with("hdf5", path, {**settings, "names_table": "../n.csv"})
    handle = open_with("hdf5", path, {**settings, "names_table": str(tmp_path / "n.csv")})
    assert handle.schema().raw["label_source"].values[0] == "AVAL"
    handle.close()


# suite2p --------------------------------------------------------------------------------------


def test_suite2p_reads_the_arrays(tmp_path, activity):
    settings = write_suite2p_folder(activity, "01", tmp_path / "s2p/plane0")
    handle = open_with("suite2p", tmp_path / "s2p", settings)
    schema = handle.schema()
    assert [s.name for s in schema.series] == ["fluorescence", "neuropil", "deconvolved"]
    for name, file in (("fluorescence", "F"), ("neuropil", "Fneu"), ("deconvolved", "spks")):
        expected = np.load(tmp_path / f"s2p/plane0/{file}.npy").T
        np.testing.assert_array_equal(samples(handle, name, 64), expected)
    iscell = np.load(tmp_path / "s2p/plane0/iscell.npy")
    np.testing.assert_array_equal(schema.raw["is_cell"].values, iscell[:, 0] == 1)
    np.testing.assert_array_equal(schema.raw["iscell_prob"].values, iscell[:, 1])
    np.testing.assert_allclose(np.diff(schema.raw["time"].values), 0.25, rtol=1e-12)


def test_suite2p_drops_empty_deconvolution(tmp_path, activity):
    settings = write_suite2p_folder(activity, "01", tmp_path, spikes=False)
    handle = open_with("suite2p", tmp_path, settings)
    assert [s.name for s in handle.schema().series] == ["fluorescence", "neuropil"]
    assert [issue.code for issue in handle.issues] == ["ALL_ZERO"]


def test_suite2p_unpickles_only_what_is_trusted(tmp_path, activity):
    write_suite2p_folder(activity, "01", tmp_path)
    np.save(tmp_path / "ops.npy", np.array({"fs": 4.0}, dtype=object))
    stat = np.array([{"med": (k, 10 + k), "iplane": 1} for k in range(N_ROIS)], dtype=object)
    np.save(tmp_path / "stat.npy", stat)
    with pytest.raises(IngestError, match=r"MISSING_SIDECAR.*trust_pickle"):
        open_with("suite2p", tmp_path)
    raw = open_with("suite2p", tmp_path, {"trust_pickle": True}).schema().raw
    np.testing.assert_array_equal(raw["x"].values, 10.0 + np.arange(N_ROIS))
    assert set(raw["plane"].values) == {1}
    handle = open_with("suite2p", tmp_path, {"trust_pickle": True, "rate_hz": 5.0})
    assert [issue.code for issue in handle.issues] == ["RATE_MISMATCH"]
    assert "x" not in open_with("suite2p", tmp_path, {"rate_hz": 4.0}).schema().raw


def test_suite2p_never_runs_code_of_a_pickle(tmp_path, activity):
    settings = write_suite2p_folder(activity, "01", tmp_path)
    np.save(tmp_path / "F.npy", np.array([{"a": 1}], dtype=object))
    with pytest.raises(IngestError, match="UNSAFE"):
        open_with("suite2p", tmp_path, {**settings, "trust_pickle": True})


def test_suite2p_without_iscell_is_an_issue(tmp_path, activity):
    settings = write_suite2p_folder(activity, "01", tmp_path)
    (tmp_path / "iscell.npy").unlink()
    handle = open_with("suite2p", tmp_path, settings)
    assert [issue.code for issue in handle.issues] == ["MISSING_SIDECAR"]
    assert "is_cell" not in handle.schema().raw


def test_suite2p_several_planes_need_one_named(tmp_path, activity):
    for k in range(2):
        settings = write_suite2p_folder(activity, "01", tmp_path / f"plane{k}")
    with pytest.raises(IngestError, match=r"SEVERAL_SERIES.*plane0, plane1"):
        open_with("suite2p", tmp_path, settings)
    handle = open_with("suite2p", tmp_path, {**settings, "plane": 1})
    assert "plane1" in handle.schema().source_files[0]
    with pytest.raises(IngestError, match="not plane7"):
        open_with("suite2p", tmp_path, {**settings, "plane": 7})


def test_suite2p_truncated_file_keeps_whole_rois_on_request(tmp_path, activity):
    settings = write_suite2p_folder(activity, "01", tmp_path)
    full = np.load(tmp_path / "F.npy")
    data = (tmp_path / "F.npy").read_bytes()
    (tmp_path / "F.npy").write_bytes(data[: -4 * (N_TIMES + 10)])
    with pytest.raises(IngestError, match="TRUNCATED"):
        open_with("suite2p", tmp_path, settings)
    handle = open_with("suite2p", tmp_path, settings, {"allow_truncated": True})
    assert "TRUNCATED" in [issue.code for issue in handle.issues]
    np.testing.assert_array_equal(samples(handle, "fluorescence"), full[:2].T)
    assert handle.schema().raw.sizes["roi"] == 2


# Tables ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_table_reads_back_every_digit(tmp_path, activity, suffix):
    path = tmp_path / f"a{suffix}"
    settings = write_calcium_table(activity, "01", path, labels=NAMES)
    handle = open_with("table", path, settings)
    expected = activity["activity"].sel(subject="01").transpose("time", "neuron").values
    np.testing.assert_array_equal(samples(handle, "dff", 100), expected)
    assert list(handle.schema().raw["label_source"].values) == NAMES


def test_table_columns_missing_values_and_marks(tmp_path):
    path = tmp_path / "a.csv"
    text = "frame,t_ms,AVAL,AVAR,speed\n0,0,1,n/a,5\n1,250,,4,6\n"
    path.write_text(text, encoding="utf-8-sig")
    settings = {
        "kind": "dff",
        "time_column": "t_ms",
        "time_unit": "ms",
        "ignore_columns": ["frame"],
        "behavior_columns": ["speed"],
    }
    handle = open_with("table", path, settings)
    np.testing.assert_array_equal(samples(handle, "dff"), [[1, np.nan], [np.nan, 4]])
    np.testing.assert_array_equal(handle.schema().raw["time"].values, [0.0, 0.25])
    np.testing.assert_array_equal(handle.schema().behavior["speed"].values, [5.0, 6.0])


def test_parquet_reads_as_the_table_it_was(tmp_path):
    import pandas as pd

    frame = pd.DataFrame({"time": [0.0, 0.5, 1.0], "AVAL": [1, 2, 3], "AVAR": [4, 5, 6]})
    frame = frame.astype({"AVAL": "float32", "AVAR": "float32"})
    path = tmp_path / "a.parquet"
    frame.to_parquet(path)
    handle = open_with("table", path, {"kind": "dff"})
    values = samples(handle, "dff", 8)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, frame[["AVAL", "AVAR"]].to_numpy())


@pytest.mark.parametrize(
    ("text", "settings", "error", "fragment"),
    [
        ("time,a,b\n0,1,2\n1,3\n", {}, IngestError, "TRUNCATED"),
        ("time,a,b\n0,1\n1,3,4\n", {}, IngestError, "LENGTH_MISMATCH"),
        ("time,a,b\n0,1,2,3\n", {}, IngestError, "LENGTH_MISMATCH"),
        ("time,a,b\n0,1,x\n", {}, IngestError, r"line 2.*'x' is not a number"),
        ("time,a,b\n0,1,2\n", {"time_column": "t"}, ConfigError, "no column 't'"),
    ],
)
def test_faulty_tables(tmp_path, text, settings, error, fragment):
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(error, match=fragment):
        samples(open_with("table", path, {"kind": "dff", **settings}), "dff")


def test_truncated_table_keeps_whole_lines_on_request(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("time,a,b\n0,1,2\n1,3")
    handle = open_with("table", path, {"kind": "dff"}, {"allow_truncated": True})
    np.testing.assert_array_equal(samples(handle, "dff"), [[1, 2]])
    assert [issue.code for issue in handle.issues] == ["TRUNCATED"]


# NWB ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("irregular", [False, True])
def test_nwb_reads_the_values_of_the_file(tmp_path, activity, irregular):
    path = tmp_path / "a.nwb"
    behavior = {"speed": np.arange(25.0)}
    write_calcium_nwb(activity, "01", path, labels=NAMES, irregular=irregular, behavior=behavior)
    handle = open_with("nwb", path)
    schema = handle.schema()
    with h5py.File(path) as file:
        ophys = file["processing/ophys"]
        for name, group in (("dff", "DfOverF"), ("fluorescence", "Fluorescence")):
            stored = ophys[f"{group}/RoiResponseSeries/data"][:]
            np.testing.assert_array_equal(samples(handle, name, 64), stored)
        if irregular:
            stamps = ophys["DfOverF/RoiResponseSeries/timestamps"][:]
            np.testing.assert_array_equal(schema.raw["time"].values, stamps)
    assert list(schema.raw["roi"].values) == [100, 101, 102, 103]
    assert list(schema.raw["label_source"].values) == NAMES
    assert schema.attrs["session_start"] == "2024-03-05T14:00:00+01:00"
    assert schema.attrs["species"] == "Caenorhabditis elegans"
    assert schema.attrs["indicator"] == "GCaMP"
    assert ("imaging_rate" in schema.attrs) is not irregular
    np.testing.assert_array_equal(schema.behavior["speed"].values, np.arange(25.0))
    handle.close()


def test_nwb_series_can_be_named(tmp_path, activity):
    path = tmp_path / "a.nwb"
    write_calcium_nwb(activity, "01", path)
    handle = open_with("nwb", path, override={"series": "Fluorescence/RoiResponseSeries"})
    assert [s.name for s in handle.schema().series] == ["fluorescence"]
    handle.close()
    with pytest.raises(ConfigError, match="DfOverF/RoiResponseSeries"):
        open_with("nwb", path, override={"series": "nothing"})


def test_nwb_with_two_series_of_a_kind_lists_them(tmp_path, activity):
    from pynwb import NWBHDF5IO
    from pynwb.ophys import RoiResponseSeries

    path = tmp_path / "a.nwb"
    write_calcium_nwb(activity, "01", path, fluorescence=False)
    with NWBHDF5IO(path, "a") as stream:
        nwb = stream.read()
        module = nwb.processing["ophys"]
        table = module["ImageSegmentation"]["PlaneSegmentation"]
        region = table.create_roi_table_region(description="two", region=[0, 1])
        second = RoiResponseSeries(
            name="second", data=np.zeros((N_TIMES, 2)), rois=region, unit="n.a.", rate=4.0
        )
        module["DfOverF"].add_roi_response_series(second)
        stream.write(nwb)
    with pytest.raises(IngestError, match=r"SEVERAL_SERIES.*RoiResponseSeries, DfOverF/second"):
        open_with("nwb", path)
    handle = open_with("nwb", path, override={"series": "second"})
    assert list(handle.schema().raw["roi"].values) == [100, 101]
    handle.close()


def test_nwb_intervals_become_trials_and_events(tmp_path, activity):
    from pynwb import NWBHDF5IO

    path = tmp_path / "a.nwb"
    write_calcium_nwb(activity, "01", path)
    with NWBHDF5IO(path, "a") as stream:
        nwb = stream.read()
        nwb.add_trial_column("odour", "what was given")
        nwb.add_trial(start_time=1.0, stop_time=2.0, odour="salt")
        nwb.add_epoch(5.0, 7.0, ["light"])
        nwb.add_epoch(3.0, 4.0, ["dark", "cold"])
        stream.write(nwb)
    handle = open_with("nwb", path)
    trials, events = handle.schema().trials, handle.events()
    assert (trials["start"].item(), trials["odour"].item()) == (1.0, "salt")
    assert list(events["label"].values) == ["dark,cold", "light"]
    np.testing.assert_array_equal(events["duration"].values, [1.0, 2.0])
    handle.close()


def test_nwb_needs_the_mark_of_nwb(tmp_path, traces):
    path = write_h5(tmp_path / "a.nwb", f=traces)
    with pytest.raises(IngestError, match=r"NOT_THIS_FORMAT.*reader `hdf5`"):
        open_with("nwb", path)


# Settings -------------------------------------------------------------------------------------


def test_overrides_are_laid_on_the_settings_of_the_reader():
    config = IngestConfig(
        readers={"hdf5": {"datasets": {"traces": "f", "time": "t"}, "kind": "dff"}},
        overrides={"sub-01_calcium": {"group": "w1", "trim": 1, "datasets": {"names": "n"}}},
    )
    settings, override = reader_settings(readers()["hdf5"], config, "sub-01_calcium")
    assert (settings.group, settings.datasets.traces, settings.datasets.names) == ("w1", "f", "n")
    assert override.trim == 1
    settings, override = reader_settings(readers()["hdf5"], config, "sub-02_calcium")
    assert (settings.group, settings.datasets.names, override.trim) == ("", None, 0)


@pytest.mark.parametrize(
    ("block", "fragment"),
    [
        ({"readers": {"hdf": {}}}, "reader: 'hdf' is unknown. Did you mean 'hdf5'"),
        ({"readers": {"hdf5": {"grup": "x"}}}, "ingest.readers.hdf5.grup.*Did you mean 'group'"),
        ({"readers": {"hdf5": {"trim": 1}}}, "ingest.readers.hdf5.trim: unknown key"),
        ({"overrides": {"r": {"trimm": 1}}}, "ingest.overrides.r.trimm.*Did you mean 'trim'"),
        ({"overrides": {"r": {"trim": 2}}}, "ingest.overrides.r.trim"),
        ({"readers": {"hdf5": {"datasets": {"trace": "x"}}}}, "Did you mean 'traces'"),
        ({"readers": {"hdf5": {"index_base": "1"}}}, "index_base"),
    ],
)
def test_unknown_keys_are_answered_with_the_closest(block, fragment):
    with pytest.raises(ConfigError, match=fragment):
        reader_settings(readers()["hdf5"], IngestConfig(**block), "r")


# Matching and scanning ------------------------------------------------------------------------


def test_match_by_header(tmp_path, activity):
    write_calcium_hdf5(activity, "01", tmp_path / "a.h5", labels=NAMES)
    write_calcium_nwb(activity, "01", tmp_path / "a.nwb")
    write_calcium_table(activity, "01", tmp_path / "a.csv")
    write_suite2p_folder(activity, "01", tmp_path / "plane0")
    for name, reader in (("a.h5", "hdf5"), ("a.nwb", "nwb"), ("a.csv", "table")):
        assert match(tmp_path / name)[0].name == reader
    assert match(tmp_path / "plane0", "calcium")[0].name == "suite2p"
    # The names table beside the data is no recording.
    with pytest.raises(IngestError, match="NOT_THIS_FORMAT"):
        match(tmp_path / "a-names.csv")


def test_named_reader_that_does_not_fit(tmp_path, activity):
    path = tmp_path / "a.csv"
    write_calcium_table(activity, "01", path)
    with pytest.raises(IngestError, match="'hdf5' does not recognise"):
        match(path, "calcium", "hdf5")
    with pytest.raises(ConfigError, match="Did you mean 'suite2p'"):
        match(path, "calcium", "suite2")
    with pytest.raises(ConfigError, match="not fmri"):
        match(path, "fmri", "table")
    with pytest.raises(IngestError, match="no reader of meg"):
        match(path, "meg")
    with pytest.raises(MissingInput):
        match(tmp_path / "absent.csv")


class NoSettings(StrictModel):
    pass


def probe_any(path):
    return ReaderMatch("other", "calcium", path)


def test_two_matching_readers_are_named(tmp_path, activity, monkeypatch):
    path = tmp_path / "a.csv"
    write_calcium_table(activity, "01", path)
    other = Reader("other", ("calcium",), (".csv",), NoSettings, "here:probe", "here:open")
    both = (*registry._installed(), other)
    monkeypatch.setattr(registry, "_installed", lambda: both)
    load = registry._load
    monkeypatch.setattr(
        registry, "_load", lambda target: probe_any if target == "here:probe" else load(target)
    )
    with pytest.raises(DataError, match="'table' and 'other' both match"):
        match(path)
    assert match(path, name="table")[0].name == "table"
    found = scan([path])
    assert found.rows[0]["reader"] == ""
    assert "SEVERAL_READERS" in [issue.code for issue in found.issues]


def test_entities_of_names_and_folders(tmp_path):
    path = tmp_path / "sub-01/ses-b/calcium/sub-01_ses-a_task-rest_run-2_calcium.h5"
    assert entities_of(path) == {"subject": "01", "session": "a", "task": "rest", "run": "2"}
    assert entities_of(tmp_path / "sub-02/x.h5") == {"subject": "02"}


def test_scan_lists_rows_and_issues(tmp_path, activity):
    write_calcium_hdf5(activity, "01", tmp_path / "sub-01/sub-01_calcium.h5", labels=NAMES)
    write_calcium_nwb(activity, "02", tmp_path / "worm.nwb")
    write_suite2p_folder(activity, "01", tmp_path / "mouse/plane0")
    (tmp_path / "bad.h5").write_text("<!DOCTYPE html><html>")
    (tmp_path / "notes.txt").write_text("nothing")
    (tmp_path / "old.zarr").mkdir()
    found = scan([tmp_path])
    rows = {row["path"].removeprefix(f"{tmp_path}/"): row for row in found.rows}
    assert list(rows) == ["mouse", "sub-01/sub-01_calcium.h5", "worm.nwb"]
    assert rows["sub-01/sub-01_calcium.h5"]["subject"] == "01"
    assert rows["worm.nwb"]["subject"] == "02"
    assert rows["mouse"] == {
        "path": str(tmp_path / "mouse"), "modality": "calcium", "reader": "suite2p", "subject": "",
    }  # fmt: skip
    codes = {(issue.code, issue.path.removeprefix(f"{tmp_path}/")) for issue in found.issues}
    assert ("NO_SUBJECT", "mouse") in codes
    assert ("NOT_THIS_FORMAT", "bad.h5") in codes


def test_scan_tells_which_rows_cannot_be_told_apart(tmp_path, activity):
    for name in ("a_sub-01.csv", "b_sub-01.csv"):
        write_calcium_table(activity, "01", tmp_path / name)
    issues = scan([tmp_path]).issues
    assert [issue.code for issue in issues] == ["MODALITY_ASSUMED"] * 2 + ["SAME_ENTITIES"]
    assert "proposed as calcium" in issues[0].message
    (tmp_path / "a_sub-01.csv").unlink()
    (tmp_path / "b_sub-01.csv").rename(tmp_path / "sub-01_calcium.csv")  # the name says it
    assert scan([tmp_path]).issues == []


def test_nwb_that_breaks_its_schema_is_named(tmp_path, activity):
    path = tmp_path / "a.nwb"
    write_calcium_nwb(activity, "01", path)
    with h5py.File(path, "r+") as file:
        del file["identifier"]
    with pytest.raises(IngestError, match=r"NOT_THIS_FORMAT.*a\.nwb"):
        open_with("nwb", path)


def test_parquet_faults(tmp_path):
    import pandas as pd

    frame = pd.DataFrame({"time": [0.0, 0.5], "AVAL": pd.array([1, None], dtype="Int64")})
    path = tmp_path / "a.parquet"
    frame.to_parquet(path)
    np.testing.assert_array_equal(
        samples(open_with("table", path, {"kind": "dff"}), "dff"), [[1.0], [np.nan]]
    )
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(IngestError, match="TRUNCATED"):
        open_with("table", path, {"kind": "dff"})
    pd.DataFrame({"time": [0.0], "who": ["x"]}).to_parquet(path)
    with pytest.raises(IngestError, match="column who"):
        open_with("table", path, {"kind": "dff"})


def test_behaviour_of_another_length_gets_a_clock_of_its_own_when_trimmed(tmp_path, traces):
    path = write_h5(tmp_path / "a.h5", f=traces, t=np.arange(N_TIMES) / 4, v=np.arange(N_TIMES - 1))
    datasets = {"traces": "f", "time": "t", "behavior": {"v": "v"}}
    handle = open_with("hdf5", path, {"datasets": datasets, "kind": "dff"}, {"trim": 1})
    assert handle.schema().behavior.sizes == {"time_behavior_v": N_TIMES - 1}
    handle.close()


def test_nwb_roi_columns_of_other_converters(tmp_path, activity):
    from pynwb import NWBHDF5IO

    path = tmp_path / "a.nwb"
    write_calcium_nwb(activity, "01", path, labels=NAMES)
    with NWBHDF5IO(path, "a") as stream:
        nwb = stream.read()
        table = nwb.processing["ophys"]["ImageSegmentation"]["PlaneSegmentation"]
        table.add_column(name="x", description="x", data=[1.0, 2.0, 3.0, 4.0])
        table.add_column(name="confidence", description="c", data=[1.0, 2.0, 3.0, 4.0])
        table.add_column(name="iscell", description="i", data=np.array([[1, 0.9]] * 4))
        table.add_column(name="alias", description="a", data=["one", "two", "", "four"])
        stream.write(nwb)
    handle = open_with("nwb", path, {"label_column": "alias"})
    raw = handle.schema().raw
    assert list(raw["label_source"].values) == ["one", "two", "", "four"]
    np.testing.assert_array_equal(raw["label_confidence"].values, [1, 2, 3, 4])
    np.testing.assert_array_equal(raw["x"].values, [1, 2, 3, 4])
    assert raw["is_cell"].values.all()
    np.testing.assert_array_equal(raw["iscell_prob"].values, [0.9] * 4)
    handle.close()
    with pytest.raises(ConfigError, match="no column 'nobody'"):
        open_with("nwb", path, {"label_column": "nobody"})
