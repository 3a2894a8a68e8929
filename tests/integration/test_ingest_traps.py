"""Sources that could be read wrongly without anybody noticing."""

from __future__ import annotations

import os
import time

import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from neuropipe.config.models import IngestConfig
from neuropipe.config.recordings import Recording
from neuropipe.errors import ConfigError, IngestError
from neuropipe.io import publish
from neuropipe.io.ingest import ingest_recording
from neuropipe.store.atomic import atomic_path
from neuropipe.store.nwb import from_nwb, to_nwb
from neuropipe.store.series import Block, SeriesSpec
from neuropipe.store.zarr import open_store, write_recording

TIME = np.arange(50) / 10
TRACES = np.random.default_rng(0).standard_normal((50, 4)).astype(np.float32)


def ingest(source, readers, subject="01", **options):
    name = f"sub-{subject}_calcium"
    row = Recording(name=name, subject=subject, modality="calcium", path="x")
    output = source.parent / "out" / f"{name}.zarr"
    report = ingest_recording(row, source, IngestConfig(readers=readers), output, **options)
    return report, open_store(output)


@pytest.fixture
def hdf5(tmp_path):
    def write(fields, kind="dff", **datasets):
        path = tmp_path / "a.h5"
        with h5py.File(path, "w") as file:
            for name, values in {"traces": TRACES, "time": TIME, **fields}.items():
                file[name] = values
        maps = {"traces": "traces", "time": "time", **datasets}
        return path, {"hdf5": {"kind": kind, "datasets": maps}}

    return write


def write_store(path, raw):
    coords = {"time": ("time", TIME), "roi": ("roi", np.arange(4))}
    write_recording(
        path,
        modality="calcium",
        attrs={"subject_id": "1"},
        raw=raw.assign_coords(coords),
        series=[SeriesSpec("dff", ("time", "roi"), TRACES.shape, TRACES.dtype, {"units": "1"})],
        blocks=iter([Block("dff", 0, TRACES)]),
        groups={},
    )
    return open_store(path)


def test_behaviour_called_behavior_leaves_the_clock_of_the_traces_alone(hdf5):
    camera = {"path": "posture", "time": "camera"}
    fields = {"camera": TIME + 0.05, "posture": TIME, "speed": TIME}
    _, tree = ingest(*hdf5(fields, behavior={"behavior": camera, "speed": "speed"}))
    found = tree["behavior"].to_dataset()
    np.testing.assert_array_equal(found[found["speed"].dims[0]], TIME)
    np.testing.assert_array_equal(found[found["behavior"].dims[0]], TIME + 0.05)


def test_two_clocks_never_share_a_name(hdf5):
    fields = {"one": TIME, "two": TIME + 0.01, "a": TIME, "b": TIME}
    behavior = {
        "a": {"path": "a", "time": "one", "stream": "camera"},
        "b": {"path": "b", "time": "two", "stream": "camera"},
    }
    with pytest.raises(ConfigError, match="two clocks are named 'camera'"):
        ingest(*hdf5(fields, behavior=behavior))


@pytest.mark.parametrize("pairs", [[[2, 5], [10, 14]], [[2, 10], [5, 14]]])
def test_two_intervals_are_read_in_the_one_way_without_overlap(hdf5, pairs):
    intervals = {"reversal": {"path": "pairs", "index_base": 0}}
    _, tree = ingest(*hdf5({"pairs": pairs}, intervals=intervals))
    np.testing.assert_allclose(tree["events/onset"], [0.2, 1.0])
    np.testing.assert_allclose(tree["events/duration"], [0.3, 0.4])


def test_two_intervals_that_fit_no_way_are_an_error(hdf5):
    intervals = {"reversal": {"path": "pairs", "index_base": 0}}
    with pytest.raises(IngestError, match="overlaps or goes back both ways"):
        ingest(*hdf5({"pairs": [[10, 14], [2, 5]]}, intervals=intervals))


def test_traces_may_be_deconvolved(hdf5):
    _, tree = ingest(*hdf5({}, kind="deconvolved"))
    np.testing.assert_array_equal(tree["raw/deconvolved"], TRACES)
    with pytest.raises(ConfigError, match="name one series twice"):
        ingest(*hdf5({"more": TRACES}, kind="deconvolved", deconvolved="more"))


def test_samples_that_are_no_numbers_are_refused(hdf5):
    with pytest.raises(IngestError, match="DTYPE"):
        ingest(*hdf5({"traces": TRACES > 0}))


def test_parquet_keeps_the_dtype_of_the_traces_and_ignores_text(tmp_path):
    columns = {"AVAL": TRACES[:, 0], "note": ["a"] * 50, "AVAR": TRACES[:, 1], "t": TIME}
    path = tmp_path / "a.parquet"
    pd.DataFrame({**columns, "speed": TIME}).to_parquet(path)
    settings = {"kind": "dff", "time_column": "t", "ignore_columns": ["note"]}
    _, tree = ingest(path, {"table": {**settings, "behavior_columns": ["speed"]}})
    assert tree["raw/dff"].dtype == np.float32
    np.testing.assert_array_equal(tree["raw/dff"], TRACES[:, :2])
    np.testing.assert_array_equal(tree["behavior/speed"], TIME)


def test_parquet_with_one_name_twice_is_refused(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [pa.array(TIME), pa.array(TRACES[:, 0]), pa.array(TRACES[:, 1])]
    pq.write_table(pa.Table.from_arrays(columns, names=["t", "A", "A"]), tmp_path / "a.parquet")
    with pytest.raises(IngestError, match="two columns are named 'A'"):
        ingest(tmp_path / "a.parquet", {"table": {"kind": "dff"}})


@pytest.mark.parametrize("text", ["NaN", "Infinity"])
def test_text_that_spells_a_number_stays_text(hdf5, text):
    _, tree = ingest(*hdf5({}), subject=text)
    assert tree.attrs["subject_id"] == text
    assert from_nwb(tree.encoding["source"].replace(".zarr", ".nwb")).attrs["subject_id"] == text


@pytest.mark.parametrize("value", [np.nan, -np.inf, np.float32(3.1)])
def test_any_scalar_comes_back_from_nwb(tmp_path, value):
    tree = write_store(tmp_path / "a.zarr", xr.Dataset({"gain": ((), value)}))
    to_nwb(tree, tmp_path / "a.nwb")
    assert from_nwb(tmp_path / "a.nwb")["raw/gain"].identical(tree["raw/gain"].load())


def test_masks_of_our_own_files_survive_another_ingest(tmp_path):
    valid = np.arange(TRACES.size).reshape(TRACES.shape) % 7 != 0
    roi_ok = np.array([True, False, True, True])
    raw = xr.Dataset({"valid": (("time", "roi"), valid), "roi_ok": ("roi", roi_ok)})
    to_nwb(write_store(tmp_path / "a.zarr", raw), tmp_path / "a.nwb")
    _, tree = ingest(tmp_path / "a.nwb", {}, subject="1")
    np.testing.assert_array_equal(tree["raw/valid"], valid)
    np.testing.assert_array_equal(tree["raw/roi_ok"], roi_ok)


def test_trial_columns_on_another_clock_are_told(tmp_path):
    from neuropipe.io.ingest import _unmoved
    from neuropipe.io.session_clock import SessionClock

    columns = {name: ("trial", [1.0, 2.0]) for name in ("start", "stop", "go_time", "contrast")}
    (issue,) = _unmoved(xr.Dataset(columns), SessionClock(offset=-5.0), tmp_path)
    assert "go_time stay" in issue.message
    assert _unmoved(xr.Dataset(columns), SessionClock(), tmp_path) == []


def test_a_failed_rename_brings_the_old_folder_back(tmp_path):
    target = tmp_path / "a.zarr"
    target.mkdir()
    (target / "old").write_text("1")
    with pytest.raises(FileNotFoundError), atomic_path(target):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]
    assert (target / "old").read_text() == "1"


STEPS = range(6)


def _fail_at(monkeypatch, step, seen=lambda: None):
    """Let one rename fail, after `step` of them went well; `seen` is called at that moment."""
    kind = type(publish.Path())
    rename, count = kind.rename, iter(range(1000))

    def counted(self, target):
        if next(count) == step:
            seen()
            raise OSError("disk")
        return rename(self, target)

    monkeypatch.setattr(kind, "rename", counted)


@pytest.mark.parametrize("step", STEPS)
def test_a_failed_exchange_leaves_all_three_old_files(hdf5, monkeypatch, step):
    path, readers = hdf5({})
    old, _ = ingest(path, readers)
    path, readers = hdf5({"traces": TRACES + 1})
    _fail_at(monkeypatch, step)
    with pytest.raises(OSError, match="disk"):
        ingest(path, readers, overwrite=True)
    folder = path.parent / "out"
    assert sorted(p.name for p in folder.iterdir()) == [
        "sub-01_calcium.nwb", "sub-01_calcium.report.json", "sub-01_calcium.zarr"
    ]  # fmt: skip
    for tree in (
        open_store(folder / "sub-01_calcium.zarr"),
        from_nwb(folder / "sub-01_calcium.nwb"),
    ):
        assert tree.attrs["content_sha256"] == old["content_sha256"]


@pytest.mark.parametrize("step", STEPS)
def test_a_process_killed_between_the_renames_leaves_no_marker(tmp_path, monkeypatch, step):
    names = ("a.zarr", "a.nwb", "a.report.json")
    folder, target = tmp_path / "staged", tmp_path / "out"
    for place in (folder, target):
        place.mkdir()
        for name in names:
            (place / name).write_text(place.name)
    state = {}
    look = lambda: state.update({p.name: p.read_text() for p in target.iterdir()})  # noqa: E731
    _fail_at(monkeypatch, step, look)
    with pytest.raises(OSError, match="disk"):
        publish._exchange(folder, target, names)
    whole = dict.fromkeys(names, "out")
    assert state == whole if step == 0 else "a.report.json" not in state
    assert {p.name: p.read_text() for p in target.iterdir()} == whole


def test_leftovers_of_killed_processes_go_after_a_day(hdf5):
    path, readers = hdf5({})
    folder = path.parent / "out"
    for name, age in (("old", 90_000), ("young", 60)):
        left = folder / f"sub-01_calcium.partial-{name}"
        left.mkdir(parents=True)
        (left / "large").write_text("x")
        for written in (left / "large", left):
            os.utime(written, (time.time() - age,) * 2)
    ingest(path, readers)
    assert [p.name for p in folder.glob("*.partial-*")] == ["sub-01_calcium.partial-young"]
