"""Ingest of spike recordings that the project did not make."""

from __future__ import annotations

import h5py
import numpy as np
from real_data import ROOT, needs

from neuropipe.config.models import IngestConfig
from neuropipe.config.recordings import Recording
from neuropipe.io.ingest import ingest_recording
from neuropipe.io.scan import scan
from neuropipe.store.nwb import from_nwb
from neuropipe.store.schema import check_tree
from neuropipe.store.spikes import BY_TIME, spikes_of
from neuropipe.store.validate import validate_store
from neuropipe.store.zarr import open_store

SPIKES = ROOT / "spikes"
NWB = SPIKES / "nwb_units/A8604-211122.nwb"
PHY = SPIKES / "phy_template"

pytestmark = needs(SPIKES)


def ingest(source, out):
    row = Recording(name="sub-01_spikes", subject="01", modality="spikes", path="x")
    report = ingest_recording(row, source, IngestConfig(), out / "sub-01_spikes.zarr")
    tree = open_store(out / "sub-01_spikes.zarr")
    assert check_tree(tree) == []
    assert from_nwb(out / "sub-01_spikes.nwb").identical(tree.drop_nodes(BY_TIME))
    for suffix in (".zarr", ".nwb"):
        found = validate_store(out / f"sub-01_spikes{suffix}")
        assert [issue for issue in found if issue.severity == "error"] == []
    return report, tree


def test_nwb_units(tmp_path):
    report, tree = ingest(NWB, tmp_path)
    assert report["sizes"] == {"unit": 3, "spike": 21_354}
    with h5py.File(NWB) as file:
        units = file["units"]
        assert list(tree["raw/unit"].values) == list(units["id"][:])
        for k, times in enumerate(
            np.split(units["spike_times"][:], units["spike_times_index"])[:3]
        ):
            np.testing.assert_array_equal(spikes_of(tree, k), times)
        epochs = file["intervals/epochs"]
        np.testing.assert_array_equal(tree["events/onset"].values, epochs["start_time"][:])
    assert [issue["code"] for issue in report["issues"]] == ["OBSERVED_INFERRED"]


def test_phy_folder(tmp_path):
    report, tree = ingest(PHY, tmp_path)
    samples = np.load(PHY / "spike_times.npy").ravel()
    clusters = np.load(PHY / "spike_clusters.npy").ravel()
    raw = tree["raw"].to_dataset()
    assert report["sizes"] == {"unit": len(set(clusters)), "spike": 314}
    for k, unit in enumerate(raw["unit"].values):
        np.testing.assert_array_equal(spikes_of(tree, k), samples[clusters == unit] / 25_000)
    labelled = {4: "good"}
    assert list(raw["quality"].values) == [
        labelled.get(int(unit), "unsorted") for unit in raw["unit"].values
    ]


def test_scan_names_one_reader_each():
    found = scan([NWB, PHY])
    assert [row["reader"] for row in found.rows] == ["nwb_units", "phy"]
    assert {issue.code for issue in found.issues} <= {"NO_SUBJECT"}
