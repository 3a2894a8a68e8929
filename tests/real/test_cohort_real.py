"""Real worms, from the laboratory's file to the array of a cohort."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr
from real_data import FOUR_WORMS, needs

from neuropipe.assemble.cohort import Input, cohort
from neuropipe.config.models import IngestConfig, PreprocessConfig
from neuropipe.config.recordings import Recording
from neuropipe.errors import DataError
from neuropipe.preprocess.chain import preprocess

pytestmark = needs(FOUR_WORMS)
ANIMALS = {"a": "2022-07-26-31", "b": "2022-07-26-38", "c": "2022-07-27-31"}


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> dict[str, xr.DataTree]:
    from neuropipe.io.ingest import ingest_recording
    from neuropipe.store.zarr import open_store

    datasets = {"traces": "dff_z", "time": "time_s", "names": "neuron"}
    folder = tmp_path_factory.mktemp("stores")
    trees = {}
    for subject, group in ANIMALS.items():
        name = f"sub-{subject}_calcium"
        settings = IngestConfig.model_validate(
            {
                "readers": {"hdf5": {"datasets": datasets, "kind": "dff"}},
                "overrides": {name: {"group": group}},
            }
        )
        row = Recording(name=name, subject=subject, modality="calcium", path=str(FOUR_WORMS),
                        species="Caenorhabditis elegans", reader="hdf5")  # fmt: skip
        path = folder / f"{name}.zarr"
        ingest_recording(row, FOUR_WORMS, settings, path)
        trees[subject] = open_store(path)
    return trees


def prepared(stores: dict[str, xr.DataTree], **calcium) -> list[xr.DataTree]:
    settings = PreprocessConfig.model_validate({"calcium": calcium})
    return [preprocess(tree, settings) for tree in stores.values()]


def test_the_clock_of_a_real_microscope_needs_resampling(stores):
    with pytest.raises(DataError, match=r"preprocess\.calcium\.resample"):
        cohort(prepared(stores), Input())


def test_three_worms_become_one_array(stores):
    trees = prepared(stores, resample={"dt_s": 0.3333}, normalise="zscore")
    ds = cohort(trees, Input())
    names = {
        subject: {label for label in tree["raw"]["label"].values.tolist() if label}
        for subject, tree in stores.items()
    }
    union = set().union(*names.values())
    assert ds["neuron"].values.tolist() == sorted(union)
    for subject, labels in names.items():
        row = ds.sel(subject=subject)
        measured = np.isfinite(row["activity"].values).any(axis=1)
        np.testing.assert_array_equal(measured, row["labelled"])
        assert set(row["neuron"].values[measured].tolist()) == labels
    assert set(ds["neuron_class"].values.tolist()) <= {"sensory", "inter", "motor"}
    np.testing.assert_allclose(np.diff(ds["time"]), 0.3333, rtol=1e-9)


def test_spontaneous_recordings_are_not_aligned(stores):
    ds = cohort(prepared(stores, resample={"dt_s": 0.6}), Input())
    assert ds.attrs["time_aligned"] == 0
    assert [i["code"] for i in json.loads(ds.attrs["issues"])] == ["TIME_NOT_ALIGNED"]


def test_resampled_traces_follow_the_samples(stores):
    tree = stores["a"]
    raw = tree["raw"].to_dataset()
    done = preprocess(
        tree, PreprocessConfig.model_validate({"calcium": {"resample": {"dt_s": 0.3333}}})
    )
    time = done["time"].values
    for j in (0, 50, 140):
        trace = raw["dff"].values[:, j].astype(float)
        known = np.isfinite(trace)
        expected = np.interp(time, raw["time"].values[known], trace[known])
        found = done["activity"].values[:, j]
        usable = np.isfinite(found)
        np.testing.assert_allclose(found[usable], expected[usable], rtol=1e-6, atol=1e-6)
        assert usable.mean() > 0.99
