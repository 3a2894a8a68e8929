"""Real recordings go through Zarr and NWB without loss."""

from __future__ import annotations

import csv
import time as wall

import h5py
import numpy as np
import pytest
import xarray as xr
from real_data import WORM_FOLDER, needs

from neuropipe.store.nwb import from_nwb, to_nwb
from neuropipe.store.series import Block, SeriesSpec
from neuropipe.store.validate import validate_store
from neuropipe.store.zarr import open_store, write_recording

NAMES = ("2022-08-02-31", "2022-08-02-38")

pytestmark = needs(WORM_FOLDER)


def _recording(name):
    with h5py.File(WORM_FOLDER / f"{name}-data.h5") as file:
        time = file["timing/timestamp_confocal"][:]
        traces = file["gcamp/trace_array_original"][:]
        dff = file["gcamp/traces_array_F_F20"][:]
        behavior = {
            key: (("time_behavior", *[f"{key}_point"] * (item.ndim - 1)), item[:])
            for key, item in file["behavior"].items()
            if item.shape[0] == len(time)
        }
    label = np.full(traces.shape[1], "", dtype=object)
    confidence = np.full(traces.shape[1], np.nan)
    with (WORM_FOLDER / f"{name}-labels.csv").open(encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            index = int(row["trace_index_1based"]) - 1
            label[index], confidence[index] = row["label"], float(row["confidence"])
    session_time = time - time[0]
    coords = {
        "time": session_time,
        "roi": np.arange(1, traces.shape[1] + 1),
        "label_source": ("roi", label),
        "label_confidence": ("roi", confidence),
    }
    clock = {"time_behavior": session_time}
    groups = {"behavior": xr.Dataset(behavior, clock)}
    return time, traces, dff, xr.Dataset(coords=coords), groups


def _write(path, name):
    time, traces, dff, raw, groups = _recording(name)
    values = {"fluorescence": traces, "dff": dff}
    started = wall.perf_counter()
    digest = write_recording(
        path,
        modality="calcium",
        attrs={
            "subject_id": name.replace("-", ""),
            "species": "Caenorhabditis elegans",
            "sex": "XX",
            "t0_source": float(time[0]),
        },
        raw=raw,
        series=[
            SeriesSpec(key, ("time", "roi"), array.shape, array.dtype, {"units": "a.u."})
            for key, array in values.items()
        ],
        blocks=(
            Block(key, start, array[start : start + 100])
            for key, array in values.items()
            for start in range(0, len(array), 100)
        ),
        groups=groups,
    )
    return digest, wall.perf_counter() - started


@pytest.mark.parametrize("name", NAMES)
def test_worm_recordings_come_back_identical(name, tmp_path):
    digest, _ = _write(tmp_path / "a.zarr", name)
    time, traces, dff, raw, groups = _recording(name)
    tree = open_store(tmp_path / "a.zarr")
    np.testing.assert_array_equal(tree["raw/fluorescence"].values, traces)
    np.testing.assert_array_equal(tree["raw/dff"].values, dff)
    np.testing.assert_array_equal(tree["raw/time"].values, time - time[0])
    assert list(tree["raw/label_source"].values) == list(raw["label_source"].values)
    assert tree["behavior"].to_dataset().identical(groups["behavior"])
    assert tree.attrs["content_sha256"] == digest
    assert validate_store(tmp_path / "a.zarr") == []

    to_nwb(tree, tmp_path / "a.nwb")
    assert from_nwb(tmp_path / "a.nwb").identical(tree)
    assert validate_store(tmp_path / "a.nwb") == []


def test_a_worm_recording_is_written_well_below_a_second(tmp_path):
    _write(tmp_path / "first.zarr", NAMES[0])
    seconds = min(_write(tmp_path / f"{k}.zarr", NAMES[0])[1] for k in range(3))
    assert seconds < 1.0


def test_pynapple_reads_the_traces_of_a_worm(tmp_path):
    nap = pytest.importorskip("pynapple", reason="pynapple is a developer extra")
    _write(tmp_path / "a.zarr", NAMES[0])
    time, traces, *_ = _recording(NAMES[0])
    to_nwb(open_store(tmp_path / "a.zarr"), tmp_path / "a.nwb")
    file = nap.load_file(str(tmp_path / "a.nwb"))
    try:
        read = file["fluorescence"]
        np.testing.assert_array_equal(np.asarray(read.values), traces)
        np.testing.assert_allclose(read.t, time - time[0], rtol=0, atol=1e-9)
    finally:
        file.close()
