"""References against brute force over planted contacts."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr

from neuropipe.errors import DataError
from neuropipe.preprocess import blocks
from neuropipe.preprocess.reference import average_reference, contact_pairs, contact_reference

KINDS = ("bipolar", "car", "white_matter", "white_matter_mean")


def text(*values: str) -> np.ndarray:
    return np.array(values, dtype=object)


def contacts(seed: int = 0, dtype: type = np.float64, shuffle: bool = True) -> xr.Dataset:
    """Shanks A (5 contacts, number 3 missing), B (4, number 2 bad), C (1); one row unknown."""
    rng = np.random.default_rng(seed)
    rows = [("A", n) for n in (1, 2, 4, 5, 6)] + [("B", n) for n in (1, 2, 3, 4)]
    rows += [("C", 1), ("", -1)]
    names = [f"{group or 'X'}{max(n, 0)}" for group, n in rows]
    size = len(rows)
    values = rng.normal(size=(200, size)).astype(dtype)
    white = np.array([int(n in (5, 6) or name == "B4") for name, (_, n) in zip(names, rows)])  # noqa: B905
    ds = xr.Dataset(
        {"activity": (("time", "channel"), values, {"units": "V"})},
        {
            "time": np.arange(200) / 100,
            "channel": text(*names),
            "ch_type": ("channel", text(*["seeg"] * size)),
            "channel_source": ("channel", text(*names)),
            "reference": ("channel", text(*["scalp"] * size)),
            "electrode_group": ("channel", text(*[group for group, _ in rows])),
            "contact": ("channel", np.array([n for _, n in rows], dtype=np.int32)),
            "anat_label": ("channel", text(*["amygdala"] * 5, *["insula"] * 6)),
            "is_white_matter": ("channel", white.astype(np.int8)),
            "x": ("channel", np.array([0.0035 * n for _, n in rows])),
            "y": ("channel", np.array([0.02 * "ABC".find(g or "A") for g, _ in rows])),
            "z": ("channel", np.zeros(size)),
            "low_cutoff": ("channel", np.full(size, 0.1)),
            "high_cutoff": ("channel", rng.uniform(100, 200, size)),
            "impedance": ("channel", rng.uniform(1e3, 1e4, size)),
            "x_hemisphere": ("channel", text(*["L"] * 5, *["R"] * 6)),
            "bad": ("channel", np.zeros(size, dtype=bool)),
        },
        {"recording": "sub-p01_ieeg", "issues": "[]"},
    )
    ds["channel_ok"] = ("channel", ds["channel"].values != "B2")
    ds["valid"] = (("time", "channel"), np.ones(values.shape, dtype=bool))
    ds["valid"].values[17, 1] = False
    ds["activity"].values[17, 1] = np.nan
    order = rng.permutation(size) if shuffle else np.arange(size)
    return ds.isel(channel=order)


def column(ds: xr.Dataset, name: str) -> np.ndarray:
    return ds["activity"].sel(channel=name).values


def test_pairs_are_neighbours_and_a_missing_or_bad_contact_breaks_the_chain():
    ds = contacts()
    names = ds["channel"].values
    pairs = [(names[a], names[b]) for a, b in contact_pairs(ds)]
    assert pairs == [("A1", "A2"), ("A4", "A5"), ("A5", "A6"), ("B3", "B4")]


def test_bipolar_rows_are_differences_at_the_midpoint():
    ds = contacts()
    found = contact_reference(ds, kind="bipolar")
    assert found["channel"].values.tolist() == ["A1-A2", "A4-A5", "A5-A6", "B3-B4"]
    for name in found["channel"].values:
        first, second = name.split("-")
        np.testing.assert_array_equal(column(found, name), column(ds, first) - column(ds, second))
        row = found.sel(channel=name)
        for axis in "xyz":
            middle = (ds[axis].sel(channel=first) + ds[axis].sel(channel=second)) / 2
            assert float(row[axis]) == pytest.approx(float(middle))
        assert str(row["reference"].values) == second
        assert float(row["high_cutoff"]) == float(
            min(ds["high_cutoff"].sel(channel=n) for n in (first, second))
        )
    assert not found["valid"].sel(channel="A1-A2").values[17]
    assert found["valid"].values.sum() == found["valid"].size - 1
    row = {name: found[name].values.tolist() for name in ("electrode_group", "contact")}
    assert row == {"electrode_group": ["A", "A", "A", "B"], "contact": [1, 4, 5, 3]}
    assert found["x_hemisphere"].values.tolist() == ["L", "L", "L", "R"]
    assert np.isnan(found["impedance"].values).all()
    assert found["is_white_matter"].values.tolist() == [0, 0, 1, 0]
    assert found["is_white_matter"].dtype == np.int8
    message = json.loads(found.attrs["issues"])[-1]["message"]
    assert "3 good contacts" in message
    assert all(name in message for name in ("B1", "C1", "X0"))


def test_labels_of_a_pair_name_both_regions_where_they_differ():
    ds = contacts(shuffle=False)
    ds["anat_label"] = ("channel", text("a", "b", "c", "", "", *["d"] * 6))
    found = contact_reference(ds, kind="bipolar")
    assert found["anat_label"].values.tolist() == ["a/b", "c", "", "d"]


def test_a_grid_is_not_paired_from_row_to_row():
    size = 8
    ds = xr.Dataset(
        {"activity": (("time", "channel"), np.zeros((5, size)))},
        {
            "channel": text(*[f"G{n}" for n in range(1, size + 1)]),
            "ch_type": ("channel", text(*["ecog"] * size)),
            "electrode_group": ("channel", text(*["G"] * size)),
            "contact": ("channel", np.arange(1, size + 1)),
            "x": ("channel", np.tile([0.0, 0.01, 0.02, 0.03], 2)),
            "y": ("channel", np.repeat([0.0, 0.01], 4)),
            "z": ("channel", np.zeros(size)),
        },
    )
    ds["channel_ok"] = ("channel", np.ones(size, dtype=bool))
    assert contact_pairs(ds) == [(0, 1), (1, 2), (2, 3), (4, 5), (5, 6), (6, 7)]
    unknown = ds.assign(x=("channel", np.full(size, np.nan)))
    assert len(contact_pairs(unknown)) == 7


def test_the_mean_of_a_shank_is_over_its_good_contacts():
    ds = contacts()
    found = contact_reference(ds, kind="car")
    for group, good in {"A": ["A1", "A2", "A4", "A5", "A6"], "B": ["B1", "B3", "B4"]}.items():
        mean = np.nanmean([column(ds, name) for name in good], axis=0)
        for name in [*good, *(["B2"] if group == "B" else [])]:
            np.testing.assert_allclose(column(found, name), column(ds, name) - mean, atol=1e-14)
    ok = dict(zip(found["channel"].values, found["channel_ok"].values, strict=True))
    assert [name for name in sorted(ok) if not ok[name]] == ["B2", "C1", "X0"]
    assert np.isnan(column(found, "C1")).all()
    assert json.loads(found.attrs["issues"])[-1]["code"] == "SHANK_TOO_SMALL"


def test_white_matter_is_taken_off_and_leaves():
    ds = contacts()
    found = contact_reference(ds, kind="white_matter")
    white = {"A5", "A6", "B4"}
    rest = {str(n) for n in ds["channel"].values} - white
    assert {str(n) for n in found["channel"].values} == rest
    place = {str(n): np.array([float(ds[a].sel(channel=n)) for a in "xyz"])
             for n in ds["channel"].values}  # fmt: skip
    for name in sorted(rest):
        nearest = min(sorted(white), key=lambda w: np.linalg.norm(place[w] - place[name]))
        np.testing.assert_array_equal(column(found, name), column(ds, name) - column(ds, nearest))
        assert str(found["reference"].sel(channel=name).values) == nearest
    mean = contact_reference(ds, kind="white_matter_mean")
    common = np.mean([column(ds, name) for name in sorted(white)], axis=0)
    np.testing.assert_allclose(column(mean, "A1"), column(ds, "A1") - common, atol=1e-14)


def test_the_average_is_over_good_channels_that_are_there():
    ds = contacts(dtype=np.float32)
    found = average_reference(ds)
    good = ds["channel_ok"].values
    mean = np.nanmean(ds["activity"].values[:, good].astype(np.float64), axis=1)[:, None]
    expected = (ds["activity"].values - mean).astype(np.float32)
    np.testing.assert_allclose(found["activity"].values, expected, atol=1e-6)
    assert found["activity"].dtype == np.float32
    np.testing.assert_array_equal(found["valid"], ds["valid"])
    weight = found["reference_weight"].values
    assert weight.sum() == pytest.approx(1.0) and weight[~good].max() == 0.0
    full = np.isfinite(ds["activity"].values).all(axis=1)
    by_weight = ds["activity"].values[full] - (ds["activity"].values[full] @ weight)[:, None]
    np.testing.assert_allclose(found["activity"].values[full], by_weight, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_give_what_the_whole_gives(kind, monkeypatch):
    ds = contacts()
    whole = contact_reference(ds, kind=kind)
    monkeypatch.setattr(blocks.time_blocks, "__defaults__", (11 * 8 * 7,))
    xr.testing.assert_identical(contact_reference(ds, kind=kind), whole)


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_channels_does_not_matter(kind):
    first = contact_reference(contacts(shuffle=False), kind=kind)
    second = contact_reference(contacts(shuffle=True), kind=kind)
    second = second.sel(channel=first["channel"].values)
    np.testing.assert_allclose(first["activity"], second["activity"], atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_the_argument_is_not_changed(kind):
    ds = contacts()
    copy = ds.copy(deep=True)
    contact_reference(ds, kind=kind)
    xr.testing.assert_identical(ds, copy)


def test_what_a_reference_lacks_is_named():
    ds = contacts()
    no_group = ds.assign(electrode_group=("channel", text(*[""] * ds.sizes["channel"])))
    with pytest.raises(DataError, match="no two good neighbours"):
        contact_reference(no_group, kind="bipolar")
    alone = ds.isel(channel=np.flatnonzero(ds["channel"].values == "C1"))
    with pytest.raises(DataError, match="no shank with two good contacts"):
        contact_reference(alone, kind="car")
    gray = ds.assign(is_white_matter=("channel", np.zeros(ds.sizes["channel"], dtype=np.int8)))
    with pytest.raises(DataError, match="none is marked"):
        contact_reference(gray, kind="white_matter")
    unknown = ds.assign(x=("channel", np.where(ds["channel"].values == "A1", np.nan, 0.0)))
    with pytest.raises(DataError, match="needs positions, unknown of A1"):
        contact_reference(unknown, kind="white_matter")
    with pytest.raises(DataError, match="two good channels or more, found 1"):
        average_reference(alone)
