"""Spike recordings to counts of units: bins, masks, several probes and runs, what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr
from memory_stores import series_store, spike_store

from neuropipe.assemble.binned import Input, binned
from neuropipe.config.load import check_model
from neuropipe.config.models import IngestConfig
from neuropipe.config.recordings import Recording
from neuropipe.errors import ConfigError, DataError
from neuropipe.io.ingest import ingest_recording
from neuropipe.preprocess.binning import bin_spikes
from neuropipe.simulate.spike_files import simulate_spikes, write_phy_folder, write_spike_nwb
from neuropipe.store.provenance import read_dataset, write_dataset
from neuropipe.store.zarr import open_store

SPIKES = simulate_spikes()


def given(**block) -> Input:
    model, problems = check_model(Input, block, "input")
    assert not problems, problems
    return model


@pytest.fixture(scope="module", params=["nwb", "phy"])
def store(request, tmp_path_factory) -> xr.DataTree:
    folder = tmp_path_factory.mktemp(request.param)
    source = folder / {"nwb": "a.nwb", "phy": "phy"}[request.param]
    {"nwb": write_spike_nwb, "phy": write_phy_folder}[request.param](SPIKES, source)
    row = Recording(name="sub-01_spikes", subject="01", modality="spikes", path="x")
    config = IngestConfig(readers={"phy": {"duration_s": 60.0}})
    ingest_recording(row, source, config, folder / "sub-01_spikes.zarr")
    return open_store(folder / "sub-01_spikes.zarr")


def test_counts_are_those_of_exact_bins(store):
    ds = binned([store], Input())
    expected = bin_spikes(store["raw"].to_dataset(), 500)
    assert ds["counts"].dims == ("unit", "time")
    np.testing.assert_array_equal(ds["counts"].values.T, expected["counts"].values)
    np.testing.assert_array_equal(ds["time"].values, expected["time"].values)
    assert ds.attrs["bin_width_s"] == 0.5
    assert ds.attrs["all_valid"] == 1
    assert set(ds["trial"].values) == {0}
    assert ds["trial"].dims == ("time",)


def test_units_are_chosen_by_rate_and_by_where(store):
    ds = binned([store], given(units={"where": "quality != 'noise'", "min_rate_hz": 10.0}))
    rates = ds["counts"].values.sum(axis=1) / 60
    assert (rates >= 10).all()
    assert ds.sizes["unit"] == 1
    reasons = [entry["reason"] for entry in json.loads(ds.attrs["excluded"])]
    assert "units.min_rate_hz: 10" in reasons
    with pytest.raises(ConfigError, match="none of the [34] rows"):
        binned([store], given(units={"min_rate_hz": 1e4}))


def test_the_span_is_in_whole_bins(store):
    ds = binned([store], given(span_s=[1.3, 10.2], bin_ms=250))
    np.testing.assert_allclose(ds["time"].values, np.arange(1.625, 10.0, 0.25))
    with pytest.raises(DataError, match="no observed time within"):
        binned([store], given(span_s=[100.0, 200.0]))


def test_what_a_unit_was_not_observed_in_is_masked_for_it_alone():
    own = np.array([[[0.0, 0.0], [4.0, 10.0]], [[6.2, np.nan], [10.0, np.nan]]])
    ds = binned([spike_store([np.arange(0.5, 10)] * 2, own=own)], given(bin_ms=1000))
    expected = np.ones((2, 10), dtype=bool)
    expected[0, 4:7] = False
    np.testing.assert_array_equal(ds["valid"].values, expected)
    np.testing.assert_array_equal(ds["counts"].values, expected)


def test_probes_lie_along_unit_and_runs_along_time():
    stores = [
        spike_store([[r + 0.1 * p], [r + 1.1]], ((float(r), r + 4.0),), acq=f"p{p}", run=str(r))
        for r in (1, 2) for p in (0, 1)
    ]  # fmt: skip
    ds = binned(stores[::-1], given(scope="session", bin_ms=1000))
    assert ds["unit"].values.tolist() == ["p0.0", "p0.3", "p1.0", "p1.3"]
    assert ds["region"].values.tolist() == ["R0", "R1"] * 2
    np.testing.assert_array_equal(ds["trial"].values, [0] * 4 + [1] * 4)
    np.testing.assert_allclose(ds["time"].values, np.arange(1.5, 9))
    expected = np.tile(np.array([[1, 0, 0, 0], [0, 1, 0, 0]] * 2), (1, 2))
    np.testing.assert_array_equal(ds["counts"].values, expected)
    runs = json.loads(ds.attrs["runs"])
    assert [(run["first_bin"], run["bins"], run["start_s"]) for run in runs] == [
        (0, 4, 1.0), (4, 4, 2.0),
    ]  # fmt: skip


def test_what_is_no_spikes_is_refused():
    tree = series_store(np.arange(0, 4, 0.1), np.arange(40.0))
    with pytest.raises(ConfigError, match="the recordings are eeg"):
        binned([tree], Input())
    with pytest.raises(ConfigError, match="no recording matches"):
        binned([], Input())
    with pytest.raises(ConfigError, match="scope: session"):
        binned([spike_store([[1.0]], acq=a) for a in "ab"], Input())


def test_fields_are_described_and_a_file_keeps_the_dataset(store, tmp_path):
    properties = Input.model_json_schema()["properties"]
    assert all(field.get("description") for field in properties.values())
    ds = binned([store], Input())
    write_dataset(ds, tmp_path / "a.nc", {})
    again = read_dataset(tmp_path / "a.nc")
    for name in ds.variables:
        np.testing.assert_array_equal(again[name].values, ds[name].values)
