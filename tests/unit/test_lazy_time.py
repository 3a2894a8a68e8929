"""Times of long recordings are computed or read when asked for, and are the same as if held."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from xarray.core.indexes import PandasIndex

from neuropipe.config.models import CalciumPreprocess, PreprocessConfig
from neuropipe.store import lazy_time
from neuropipe.store.clock import RegularClock, describe_clock
from neuropipe.store.hashing import content_sha256
from neuropipe.store.lazy_time import DeferredIndex, regular_time, with_indexes
from neuropipe.store.nwb.clock import expand_clock, rate_form
from neuropipe.store.nwb.read import from_nwb
from neuropipe.store.nwb.write import to_nwb
from neuropipe.store.series import Block, SeriesSpec
from neuropipe.store.zarr import open_store, write_recording


def lazy_dataset(n: int = 50) -> tuple[xr.Dataset, np.ndarray]:
    clock = RegularClock(2.0, 7.0, n)
    time = 2.0 + np.arange(n) / 7.0
    coords = xr.Coordinates({"time": regular_time(clock)}, indexes={})
    return xr.Dataset({"a": ("time", np.arange(n))}, coords), time


def write(path, n: int, clock: RegularClock | None):
    values = np.random.default_rng(3).normal(size=(n, 3)).astype(np.float32)
    raw = xr.Dataset(coords={"roi": ("roi", np.arange(3))})
    if clock is None:
        raw = raw.assign_coords(time=("time", np.arange(n) / 30.0, {"units": "s"}))
    write_recording(
        path, modality="calcium", attrs={"subject_id": "01"}, raw=raw, clock=clock,
        series=[SeriesSpec("dff", ("time", "roi"), (n, 3), np.dtype("f4"), {"units": "1"})],
        blocks=iter([Block("dff", 0, values)]), groups={},
    )  # fmt: skip
    return open_store(path)


def test_a_stated_clock_gives_the_same_store_as_an_array_of_times(tmp_path):
    stated = write(tmp_path / "a.zarr", 500, RegularClock(0.0, 30.0, 500))
    held = write(tmp_path / "b.zarr", 500, None)
    assert stated.attrs == held.attrs
    assert stated["raw"].to_dataset().identical(held["raw"].to_dataset())
    assert stated.attrs["sampling"] == "regular"
    assert stated.attrs["rate"] == 30.0


@pytest.mark.parametrize("n", [1, 2, 1000])
def test_a_stated_clock_is_described_as_its_times_are(n):
    clock = RegularClock(1.5, 512.0, n)
    stated, found = clock.describe(), describe_clock(clock.at(np.arange(n)))
    assert (stated.sampling, stated.observed.tolist()) == (found.sampling, found.observed.tolist())
    np.testing.assert_equal(stated.rate, found.rate)


@pytest.mark.parametrize("choice", [3.5, slice(3.0, 5.0), [2.0, 3.0], slice(None, 2.5)], ids=str)
def test_a_deferred_index_selects_as_an_index_in_memory(choice):
    ds, time = lazy_dataset()
    deferred = ds.set_xindex("time", DeferredIndex)
    held = xr.Dataset({"a": ds["a"].variable}, {"time": ("time", time, {"units": "s"})})
    method = None if isinstance(choice, slice) else "nearest"
    here, there = (d.sel(time=choice, method=method) for d in (deferred, held))
    np.testing.assert_array_equal(here["a"], there["a"])
    np.testing.assert_array_equal(here["time"], there["time"])


def test_no_time_is_read_before_one_is_asked_for(monkeypatch):
    read = []
    monkeypatch.setattr(
        RegularClock, "at", lambda self, k: read.append(np.size(k)) or k / self.rate
    )
    ds, _ = lazy_dataset()
    ds = ds.set_xindex("time", DeferredIndex)
    part = ds.isel(time=slice(10, 15))
    assert part.sizes["time"] == 5
    assert read == [5]
    ds["a"].isel(time=3).load()
    assert max(read) == 5


def test_short_recordings_have_an_index_in_memory(monkeypatch):
    ds, _ = lazy_dataset()
    assert isinstance(with_indexes(ds).xindexes["time"], PandasIndex)
    monkeypatch.setattr(lazy_time, "INDEXED_SAMPLES", 10)
    assert isinstance(with_indexes(ds).xindexes["time"], DeferredIndex)


def test_a_long_recording_goes_through_store_nwb_and_preprocessing(tmp_path, monkeypatch):
    from neuropipe.preprocess.chain import preprocess

    settings = PreprocessConfig(keep_steps=True, calcium=CalciumPreprocess(normalise="zscore"))
    short = write(tmp_path / "a.zarr", 500, RegularClock(0.0, 30.0, 500))
    wanted = preprocess(short, settings)
    monkeypatch.setattr(lazy_time, "INDEXED_SAMPLES", 10)
    tree = open_store(tmp_path / "a.zarr")
    assert isinstance(tree["raw"].to_dataset().xindexes["time"], DeferredIndex)
    to_nwb(tree, tmp_path / "a.nwb")
    back = from_nwb(tmp_path / "a.nwb")
    assert content_sha256(back["raw"].to_dataset()) == tree.attrs["content_sha256"]
    found = preprocess(tree, settings)
    np.testing.assert_array_equal(found["activity"], wanted["activity"])
    np.testing.assert_array_equal(found["time"], wanted["time"])
    assert found["activity"].sel(time=3.0, method="nearest").sizes == {"roi": 3}


@pytest.mark.parametrize(
    "time",
    [
        np.arange(500) / 30.0,
        3.25 + np.arange(500) * (1.0 / 7.0),
        np.linspace(0.1, 17.3, 500),
        (np.arange(500) + 77) / 512.0,
    ],
    ids=["divide", "multiply", "linspace", "shifted"],
)
def test_a_regular_clock_is_restored_bit_by_bit_in_any_part(time):
    form = rate_form(xr.Variable("time", time))
    assert form is not None
    assert form["formula"]
    expanded = xr.Variable("time", expand_clock(form, len(time)))
    np.testing.assert_array_equal(expanded[490:500].values, time[490:500])
    np.testing.assert_array_equal(expanded.values, time)
