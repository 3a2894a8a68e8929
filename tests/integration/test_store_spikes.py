"""Stores of spikes: round trips, the order by time, and what a damaged store says."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import pytest
import xarray as xr

from neuropipe.errors import IngestError
from neuropipe.store.hashing import content_sha256
from neuropipe.store.nwb import from_nwb, to_nwb
from neuropipe.store.schema import check_tree
from neuropipe.store.series import Block, SeriesSpec
from neuropipe.store.spikes import BY_TIME, spikes_between, spikes_of
from neuropipe.store.validate import validate_store
from neuropipe.store.zarr import open_store, write_recording

TEXTS = ("", "CA1", "Čortex", "海馬", "a b", "NaN")


@dataclass
class Spikes:
    """A hand-made recording: one sorted array of seconds per unit."""

    units: list
    ids: object = None
    events: int = 2
    intervals: object = None

    @property
    def raw(self):
        n = len(self.units)
        counts = np.array([len(times) for times in self.units], dtype=np.int64)
        text = np.array([TEXTS[k % len(TEXTS)] for k in range(n)], dtype=object)
        edges = np.array([[0.0, 200.0]]) if self.intervals is None else self.intervals
        coords = {
            "unit": ("unit", np.arange(n) * 2 + 5 if self.ids is None else self.ids),
            "n_spikes": ("unit", counts),
            "unit_start": ("unit", np.cumsum(counts) - counts),
            "quality": ("unit", np.array(["good", "mua"] * n, dtype=object)[:n]),
            "region": ("unit", text),
            "group": ("unit", text[::-1].copy()),
            "depth": ("unit", np.linspace(0, 1e-3, n), {"units": "m"}),
            "x": ("unit", np.full(n, np.nan)),
        }
        data = {
            "observed": (("interval", "edge"), np.array([[0.0, 200.0]]), {"units": "s"}),
            "obs_start": (("unit_interval", "unit"), np.repeat(edges[:, :1], n, 1)),
            "obs_stop": (("unit_interval", "unit"), np.repeat(edges[:, 1:], n, 1)),
        }
        return xr.Dataset(data, coords)

    def blocks(self, step=17):
        times = np.concatenate(self.units).astype(np.float64)
        owner = np.repeat(np.arange(len(self.units)), [len(t) for t in self.units])
        for name, values in (("spike_time", times), ("spike_unit", owner.astype(np.int32))):
            for start in range(0, len(values), step):
                yield Block(name, start, values[start : start + step])

    def write(self, path, step=17, raw=None):
        n_spikes = sum(len(times) for times in self.units)
        onset = np.arange(self.events, dtype=np.float64)
        word = np.array(["blå"] * self.events, dtype=object)
        events = {"onset": ("event", onset), "duration": ("event", onset * 0)}
        return write_recording(
            path,
            modality="spikes",
            attrs={"subject_id": "a", "species": "Mus musculus", "sex": "F", "age": "P90D"},
            raw=self.raw if raw is None else raw,
            series=[
                SeriesSpec("spike_time", ("spike",), (n_spikes,), np.dtype("f8"), {"units": "s"}),
                SeriesSpec("spike_unit", ("spike",), (n_spikes,), np.dtype("i4")),
            ],
            blocks=self.blocks(step),
            groups={"events": xr.Dataset({**events, "label": ("event", word)})},
        )


def poisson(n_units, n_spikes, stop=200.0, seed=0):
    rng = np.random.default_rng(seed)
    owner = rng.integers(0, n_units, n_spikes)
    times = rng.uniform(0, stop, n_spikes)
    return [np.sort(times[owner == unit]) for unit in range(n_units)]


CASES = {
    "plain": Spikes(poisson(4, 300)),
    "no events": Spikes(poisson(3, 50), events=0),
    "one unit": Spikes(poisson(1, 40)),
    "one spike": Spikes([np.array([3.5])]),
    "units without spikes": Spikes([np.empty(0), np.array([1.0, 1.0, 2.0]), np.empty(0)]),
    "text ids": Spikes(poisson(3, 30), ids=np.array(["ä", "b", "神経"], dtype=object)),
    "no intervals": Spikes(poisson(2, 20), intervals=np.empty((0, 2))),
    "two intervals": Spikes(poisson(2, 20), intervals=np.array([[0.0, 90.0], [100.0, 200.0]])),
    "ragged intervals": Spikes(poisson(1, 20), intervals=np.array([[0.0, 90.0], [np.nan, np.nan]])),
    "many spikes": Spikes([np.empty(0), *poisson(30, 100_000), np.empty(0)]),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_round_trips_are_identical_and_valid(case, tmp_path):
    content = case.write(tmp_path / "a.zarr", step=4001)
    tree = open_store(tmp_path / "a.zarr")
    assert check_tree(tree) == []
    assert validate_store(tmp_path / "a.zarr") == []
    np.testing.assert_array_equal(tree["raw/spike_time"].values, np.concatenate(case.units))
    to_nwb(tree, tmp_path / "a.nwb")
    read = from_nwb(tmp_path / "a.nwb")
    assert BY_TIME not in read.children
    assert read.identical(tree.drop_nodes(BY_TIME))
    assert {n: v.dtype.kind in "OT" or v.dtype for n, v in read["raw"].variables.items()} == {
        n: v.dtype.kind in "OT" or v.dtype for n, v in tree["raw"].variables.items()
    }
    assert content_sha256(read["raw"].to_dataset()) == content == tree.attrs["content_sha256"]
    assert [i for i in validate_store(tmp_path / "a.nwb") if i.severity == "error"] == []


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("window", [(0.0, 1.0), (1.0, 2.0), (3.2, 57.9), (-5.0, 500.0), (7, 7)])
def test_window_holds_the_spikes_between_its_edges(case, window, tmp_path):
    case.write(tmp_path / "a.zarr", step=4001)
    tree = open_store(tmp_path / "a.zarr")
    times, units = spikes_between(tree, *window)
    for k, expected in enumerate(case.units):
        inside = (expected >= window[0]) & (expected < window[1])
        np.testing.assert_array_equal(times[units == k], expected[inside])
        np.testing.assert_array_equal(spikes_of(tree, k), expected)
    assert np.all(np.diff(times) >= 0)
    to_nwb(tree, tmp_path / "a.nwb")
    for ours, again in zip((times, units), spikes_between(from_nwb(tmp_path / "a.nwb"), *window),
                           strict=True):  # fmt: skip
        np.testing.assert_array_equal(ours, again)


def test_other_tools_read_the_same_spikes(tmp_path):
    from pynwb import NWBHDF5IO

    case = CASES["units without spikes"]
    case.write(tmp_path / "a.zarr")
    to_nwb(open_store(tmp_path / "a.zarr"), tmp_path / "a.nwb")
    with NWBHDF5IO(tmp_path / "a.nwb", "r") as stream:
        units = stream.read().units
        for k, expected in enumerate(case.units):
            np.testing.assert_array_equal(units["spike_times"][k], expected)
        assert list(units.id[:]) == [5, 7, 9]


def test_block_length_decides_nothing(tmp_path):
    case = CASES["plain"]
    assert case.write(tmp_path / "a.zarr", step=1) == case.write(tmp_path / "b.zarr", step=999)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (
            lambda raw: raw.assign_coords(n_spikes=("unit", raw["n_spikes"].values[::-1])),
            "LENGTH_MISMATCH",
        ),
        (lambda raw: raw.assign_coords(unit_start=raw["unit_start"] + 1), "LENGTH_MISMATCH"),
        (lambda raw: raw.drop_vars("unit_start"), "NO_SERIES"),
    ],
)
def test_spikes_that_do_not_fit_their_units_are_refused(change, code, tmp_path):
    case = Spikes([np.array([1.0]), np.array([2.0, 3.0])])
    with pytest.raises(IngestError) as caught:
        case.write(tmp_path / "a.zarr", raw=change(case.raw))
    assert caught.value.code == code
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("times", [[2.0, 1.0], [1.0, np.nan]])
def test_unsorted_or_missing_times_are_refused(times, tmp_path):
    with pytest.raises(IngestError, match="BAD_TIME"):
        Spikes([np.array(times)]).write(tmp_path / "a.zarr")
    assert not list(tmp_path.iterdir())


def test_one_second_of_many_spikes_reads_little(tmp_path):
    """Section 14, item 6, on a tenth of its spikes; the benchmark runs the whole."""
    case = Spikes(poisson(500, 1_000_000, stop=400.0))
    case.write(tmp_path / "a.zarr", step=1 << 20)
    tree = open_store(tmp_path / "a.zarr")
    spikes_between(tree, 10.0, 11.0)
    walls = []
    for start in (37.0, 200.0, 398.5):
        before = time.perf_counter()
        times, _ = spikes_between(tree, start, start + 1)
        walls.append(time.perf_counter() - before)
        assert 2000 < len(times) < 3000
    assert min(walls) <= 0.05
