"""Streams of one session on a common grid: analytic signals, exact counts, planted events."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr

import neuropipe
from neuropipe.assemble.streams import align
from neuropipe.config.models import IngestConfig
from neuropipe.config.recordings import Recording
from neuropipe.errors import DataError, issues_from_json
from neuropipe.io.ingest import ingest_recording
from neuropipe.store.zarr import open_store


def variable(time, values, name="x", **attrs):
    dims = ("time_s", *(f"c{k}" for k in range(np.ndim(values) - 1)))
    return xr.DataArray(values, {"time_s": np.asarray(time)}, dims, name, attrs)


def continuous(time, values, modality="calcium", **attrs):
    """A preprocessed store in memory."""
    row = {"calcium": "roi", "fmri": "parcel"}[modality]
    values = np.asarray(values, float).reshape(len(time), -1)
    ds = xr.Dataset(
        {"activity": (("time", row), values), "valid": (("time", row), np.isfinite(values))},
        {"time": np.asarray(time, float), row: np.arange(values.shape[1])},
        {"schema": f"neuropipe.{modality}", "subject_id": "a", "clock": "session", **attrs},
    )
    return xr.DataTree(ds)


def spiking(times, observed, **attrs):
    """An ingested store of spikes in memory."""
    counts = np.array([len(t) for t in times])
    edges = np.repeat(np.asarray(observed, float)[:, None, :], len(times), axis=1)
    raw = xr.Dataset(
        {
            "spike_time": ("spike", np.concatenate(times)),
            "spike_unit": ("spike", np.repeat(np.arange(len(times), dtype=np.int32), counts)),
            "observed": (("interval", "edge"), np.asarray(observed, float)),
            "obs_start": (("unit_interval", "unit"), edges[..., 0]),
            "obs_stop": (("unit_interval", "unit"), edges[..., 1]),
        },
        {"unit": np.arange(len(times)), "n_spikes": ("unit", counts),
         "unit_start": ("unit", np.cumsum(counts) - counts)},
    )  # fmt: skip
    root = xr.Dataset(attrs={"schema": "neuropipe.spikes", "subject_id": "a", "clock": "session"})
    root.attrs |= attrs
    return xr.DataTree.from_dict({"/": root, "/raw": raw})


@pytest.mark.parametrize("dt", [0.02, 0.05, "1/30", 0.5])
def test_a_ramp_stays_a_ramp(dt):
    time = np.arange(0, 20, 0.1) + 3.0
    found = align(dt, {"c": continuous(time, 2 * time - 1)})
    grid, values = found["c/time"].values, found["c/activity"].values[:, 0]
    valid = found["c/valid"].values[:, 0]
    np.testing.assert_allclose(values[valid][1:-1], (2 * grid - 1)[valid][1:-1], atol=1e-9)
    inside = (grid >= time[0]) & (grid <= time[-1])
    np.testing.assert_array_equal(valid, inside)
    assert np.isnan(values[~inside]).all()


def test_means_over_cells_keep_the_integral():
    rng = np.random.default_rng(0)
    time = np.cumsum(rng.uniform(0.005, 0.015, 3000))
    values = rng.normal(size=3000)
    found = align(0.25, {"c": continuous(time, values)}, span_s=(1.0, 20.0))
    ours = found["c/activity"].values[:, 0].sum() * 0.25
    middle = (time[1:] + time[:-1]) / 2
    start, stop = np.concatenate([[0], middle]), np.concatenate([middle, [99]])
    width = np.clip(np.minimum(stop, 20.0) - np.maximum(start, 1.0), 0, None)
    assert ours == pytest.approx(float((values * width).sum()), rel=1e-9)


@pytest.mark.parametrize("dt", [0.001, 0.02, "1/30"])
def test_spikes_are_counted_exactly_and_only_where_observed(dt):
    rng = np.random.default_rng(1)
    observed = [[2.0, 9.0], [12.0, 20.0]]
    samples = [np.unique(rng.integers(2 * 30_000, 20 * 30_000, 5000)) for _ in range(3)]
    samples = [s[(s < 9 * 30_000) | (s >= 12 * 30_000)] for s in samples]
    tree = spiking([s / 30_000 for s in samples], observed)
    found = align(dt, {"s": tree})["s"].to_dataset()
    valid, counts = found["valid"].values, found["counts"].values
    assert (counts[~valid] == 0).all()
    grid = found["time"].values
    assert not valid[(grid > 9.0) & (grid < 12.0)].any()
    # 2, 9, 12 and 20 s are edges of all three widths: nothing lies in a cell half observed.
    for unit, own in enumerate(samples):
        assert counts[:, unit].sum() == len(own)


def test_categories_hold_and_end_with_their_stream():
    time = np.array([1.0, 2.0, 3.5])
    words = variable(time, np.array(["a", "b", "c"], dtype=object), "word")
    codes = variable(time, np.array([5, 6, 7]), "code")
    flagged = variable(time, np.array([5.0, 6.0, 7.0]), "kind", categorical=True)
    found = align(
        0.5, {"word": words, "code": codes, "kind": flagged, "c": continuous([0, 5.0], [0, 1.0])}
    )
    grid = found["time"].values
    expected = ["" if t < 1 or t > 3.5 else "abc"[int((time <= t).sum()) - 1] for t in grid]
    assert list(found["word/word"].values) == expected
    np.testing.assert_array_equal(found["word/valid"].values, [bool(w) for w in expected])
    index = {"": 0, "a": 5, "b": 6, "c": 7}
    assert list(found["code/code"].values) == [index[word] for word in expected]
    np.testing.assert_array_equal(
        found["kind/kind"].values, [index[word] or np.nan for word in expected]
    )


def test_long_gaps_stay_empty():
    time = np.delete(np.arange(0, 10, 0.1), slice(30, 60))
    found = align(0.05, {"x": variable(time, time)})
    grid, valid = found["time"].values, found["x/valid"].values
    gap = (grid > time[29]) & (grid < time[30])
    np.testing.assert_array_equal(valid, ~gap & (grid <= time[-1]))
    assert np.isnan(found["x/x"].values[gap]).all()


def test_variables_of_several_columns_and_masked_samples():
    time = np.arange(0, 5, 0.01)
    two = variable(time, np.stack([time, -time], axis=1), "pos")
    values = np.tile(time[:, None], (1, 2))
    tree = continuous(time, values)
    tree["valid"].values[100:300, 1] = False
    found = align(0.1, {"pos": two, "c": tree})
    assert found["pos/pos"].shape == (50, 2)
    assert found["c/valid"].values[:, 0].all()
    grid = found["time"].values
    np.testing.assert_array_equal(~found["c/valid"].values[:, 1], (grid > 1.0) & (grid < 3.0))


def test_fmri_is_not_sharpened_unless_forced():
    tree = continuous(np.arange(0, 60, 2.0), np.arange(30.0), "fmri")
    with pytest.raises(DataError, match="force=True"):
        align(0.5, {"f": tree})
    assert align(1.0, {"f": tree})["f/activity"].shape[0] == 59
    forced = align(0.5, {"f": tree}, force=True)["f/activity"].values[:, 0]
    np.testing.assert_allclose(np.diff(forced[:-1]), 0.25, atol=1e-12)


def test_streams_of_two_sessions_or_clocks_are_refused():
    tree = continuous([0, 1.0], [0, 1])
    with pytest.raises(DataError, match="different subjects"):
        align(0.1, {"a": tree, "b": continuous([0, 1.0], [0, 1], subject_id="b")})
    with pytest.raises(DataError, match="different sessions"):
        align(0.1, {"a": tree, "b": continuous([0, 1.0], [0, 1], session_id="b")})
    with pytest.raises(DataError, match="no stream"):
        align(0.1, {})
    with pytest.raises(DataError, match="no cell"):
        align(0.1, {"a": tree}, span_s=(3.0, 2.0))
    starts = [continuous([0, 1.0], [0, 1], session_start=f"2024-01-01T0{k}:00:00Z") for k in (1, 2)]
    with pytest.raises(DataError, match="different starts"):
        align(0.1, {"a": starts[0], "b": starts[1]})


def test_clocks_that_nothing_relates_are_told():
    trees = [continuous([0, 1.0], [0, 1]) for _ in range(2)]
    (issue,) = issues_from_json(align(0.1, {"a": trees[0], "b": trees[1]}).attrs["issues"])
    assert issue.code == "CLOCK_ASSUMED"
    for tree in trees:
        tree.attrs["pipeline"] = json.dumps([{"step": "clock", "by": "pulses"}])
    assert align(0.1, {"a": trees[0], "b": trees[1]}).attrs["issues"] == "[]"


# -- two devices, one event -------------------------------------------------------------------

EVENT = 41.3
DEVICES = {"calcium": (1.0004, -3.7, 0.02), "spikes": (0.9997, 12.25, None)}


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """A flash seen by two devices with clocks of their own, ingested through shared pulses."""
    folder = tmp_path_factory.mktemp("session")
    rng = np.random.default_rng(5)
    pulses = np.cumsum(rng.uniform(0.4, 1.6, 80))

    def write(name, header, rows):
        lines = [header, *(",".join(repr(float(x)) for x in row) for row in rows)]
        (folder / name).write_text("\n".join(lines) + "\n")

    write("session.csv", "time_s", pulses[:, None])
    stores = {}
    for modality, (a, b, step) in DEVICES.items():
        device = (pulses - b) / a
        seen = np.delete(device, rng.choice(80, 6, replace=False))
        write(f"{modality}_ttl.csv", "time_s", np.sort(np.append(seen, 33.333))[:, None])
        if step is not None:
            time = np.arange(5.0, 85.0, step)
            flash = np.exp(-0.5 * ((a * time + b - EVENT) / 0.1) ** 2)
            write("calcium.csv", "time_s,r1", np.stack([time, flash], axis=1))
        else:
            burst = EVENT + np.linspace(-0.05, 0.05, 101)
            rest = np.arange(0.0, 90.0, 0.5)
            times = (np.sort(np.concatenate([burst, rest])) - b) / a
            times = times[times > 0]
            write("spikes.csv", "unit,time_s", np.stack([np.ones(len(times)), times], axis=1))
        name = f"sub-a_{modality}"
        clock = {"pulses": {"path": f"{modality}_ttl.csv"}, "reference": {"path": "session.csv"}}
        readers = {"table": {"kind": "dff"}}
        config = IngestConfig(overrides={name: {"clock": clock}}, readers=readers)
        row = Recording(name=name, subject="a", modality=modality, path="x")
        ingest_recording(row, folder / f"{modality}.csv", config, folder / f"{name}.zarr")
        stores[modality] = open_store(folder / f"{name}.zarr")
    return stores


def test_a_common_event_lies_at_one_place(session):
    for modality, (a, b, _) in DEVICES.items():
        assert session[modality].attrs["clock_scale"] == pytest.approx(a, abs=1e-8)
        assert session[modality].attrs["clock_offset"] == pytest.approx(b, abs=1e-6)
    found = align(0.02, session)
    assert found.attrs["issues"] == "[]"
    grid = found["time"].values
    light = np.nan_to_num(found["calcium/dff"].values[:, 0])
    counts = found["spikes/counts"].values[:, 0].astype(float)
    near = np.abs(grid - EVENT) < 0.4
    for trace in (light, counts):
        centre = float((trace * grid)[near].sum() / trace[near].sum())
        assert abs(centre - EVENT) < 0.02


def test_names_of_a_study_are_opened(session, monkeypatch):
    stores = {f"sub-a_{modality}": tree for modality, tree in session.items()}
    monkeypatch.setattr(neuropipe, "open", lambda name, **_: stores[name])
    found = neuropipe.align(0.1, ["sub-a_calcium", "sub-a_spikes"])
    assert set(found.children) == set(stores)
    other = neuropipe.align(0.1, stores)
    assert found.identical(other)
