"""Behaviour of a real reach beside its spikes, and both on one grid."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from real_data import CALCIUM, ROOT, needs

from neuropipe.assemble.streams import align
from neuropipe.config.models import IngestConfig
from neuropipe.config.recordings import Recording
from neuropipe.errors import IngestError
from neuropipe.io.ingest import ingest_recording
from neuropipe.store.nwb import from_nwb
from neuropipe.store.schema import check_tree
from neuropipe.store.spikes import BY_TIME
from neuropipe.store.zarr import open_store

REACH = ROOT / "behavior/mc_maze_trial_748.csv"
NAME = "sub-j_spikes"
MOVED = ["cursor_pos_x", "cursor_pos_y", "eye_pos_x", "hand_pos_x", "hand_vel_x"]

pytestmark = needs(REACH)


@pytest.fixture(scope="module")
def reach(tmp_path_factory):
    """The table, and the store of its spikes with the movement beside them.

    The file holds counts per millisecond, none above one. A count is no spike time: the bin that
    holds it says it to 1 ms. So the table of spikes is made here, as a laboratory would, with the
    beginning of the bin as the time; `neuropipe` reads no counts as spikes.
    """
    folder = tmp_path_factory.mktemp("reach")
    table = pd.read_csv(REACH)
    units = [name for name in table if name.startswith("unit_")]
    rows, owner = np.nonzero(table[units].to_numpy())
    names = [units[k] for k in owner]
    spikes = pd.DataFrame({"unit": names, "time_s": table["timestamp"].to_numpy()[rows]})
    spikes.to_csv(folder / "spikes.csv", index=False)
    (folder / "reach.csv").write_bytes(REACH.read_bytes())
    stream = {"path": "reach.csv", "time": "timestamp", "time_unit": "s", "columns": MOVED}
    config = IngestConfig(overrides={NAME: {"behavior": {"reach": stream}}})
    row = Recording(name=NAME, subject="j", modality="spikes", path="x")
    ingest_recording(row, folder / "spikes.csv", config, folder / f"{NAME}.zarr")
    return table, folder, open_store(folder / f"{NAME}.zarr")


def test_movement_is_kept_on_its_own_clock(reach):
    table, folder, tree = reach
    assert check_tree(tree) == []
    found = tree["behavior"].to_dataset()
    np.testing.assert_array_equal(found["time_reach"].values, table["timestamp"].to_numpy())
    for name in MOVED:
        np.testing.assert_array_equal(found[name].values, table[name].to_numpy())
    assert from_nwb(folder / f"{NAME}.nwb").identical(tree.drop_nodes(BY_TIME))


def test_spikes_and_movement_on_one_grid(reach):
    table, _, tree = reach
    found = align(0.02, {"spikes": tree, "hand": tree["behavior/hand_pos_x"]})
    counts, valid = found["spikes/counts"].values, found["spikes/valid"].values
    time, spikes = tree["raw/spike_time"].values, tree["raw"].sizes["spike"]
    assert spikes == int(table.filter(like="unit_").to_numpy().sum()) == 1654
    grid = found["time"].values[valid.all(axis=1)]
    inside = (time >= grid[0] - 0.01) & (time < grid[-1] + 0.01)
    assert counts.sum() == inside.sum() > 0.98 * spikes
    hand = found["hand/hand_pos_x"].values
    known = found["hand/valid"].values
    exact = np.interp(found["time"].values, table["timestamp"], table["hand_pos_x"])
    # The mean over 20 ms of a reach of 160 mm in about 0.4 s leaves its middle by less than 1 mm.
    assert np.abs(hand - exact)[known].max() < 1.0


def test_counts_are_not_taken_for_spikes(tmp_path):
    row = Recording(name=NAME, subject="j", modality="spikes", path="x")
    with pytest.raises(IngestError, match="NOT_THIS_FORMAT"):
        ingest_recording(row, REACH, IngestConfig(), tmp_path / f"{NAME}.zarr")


@needs(CALCIUM)
def test_a_regular_grid_for_an_irregular_worm(tmp_path):
    from real_data import DAG, WORM_FOLDER

    source = sorted(WORM_FOLDER.glob("*.h5"))[0]
    name = "sub-1_calcium"
    config = IngestConfig(readers={"hdf5": DAG})
    row = Recording(name=name, subject="1", modality="calcium", path="x", reader="hdf5")
    ingest_recording(row, source, config, tmp_path / f"{name}.zarr")
    tree = open_store(tmp_path / f"{name}.zarr")
    a, b = tree.attrs["clock_scale"], tree.attrs["clock_offset"]
    device = (tree["raw/time"].values - b) / a
    import h5py

    with h5py.File(source) as file:
        stated = file["timing/timestamp_confocal"][:].ravel()
    assert np.abs(device - stated).max() <= np.spacing(stated[-1])
    found = align(0.3, {"worm": tree, "velocity": tree["behavior/velocity"]})
    grid, known = found["time"].values, found["worm/valid"].values[:, 0]
    exact = np.interp(grid, tree["raw/time"].values, tree["raw/fluorescence"].values[:, 0])
    np.testing.assert_allclose(found["worm/fluorescence"].values[known, 0], exact[known], rtol=1e-9)
    assert known.mean() > 0.9
