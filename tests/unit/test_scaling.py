"""Stored integers to values in their units: one rule for scales per row and of a whole series."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from neuropipe.store.scaling import physical, physical_blocks

STORED = np.random.default_rng(0).integers(-900, 900, (50, 4)).astype(np.int16)
SCALE, OFFSET = np.array([1.0, 0.5, 0.1, 2.0]), np.array([0.0, 1.0, -3.0, 4.0])


def per_row() -> tuple[xr.Dataset, np.ndarray]:
    coords = {"scale_factor": ("channel", SCALE), "add_offset": ("channel", OFFSET)}
    ds = xr.Dataset({"signal": (("time", "channel"), STORED)}, coords)
    return ds, STORED * SCALE + OFFSET


def of_the_series() -> tuple[xr.Dataset, np.ndarray]:
    attrs = {"scale_factor": 0.25, "add_offset": 7.0}
    ds = xr.Dataset({"signal": (("time", "voxel"), STORED, attrs)})
    return ds, STORED * 0.25 + 7.0


@pytest.mark.parametrize("make", [per_row, of_the_series])
def test_samples_are_scaled(make):
    ds, wanted = make()
    np.testing.assert_array_equal(physical(ds), wanted)
    np.testing.assert_array_equal(physical(ds, times=slice(3, 9)), wanted[3:9])


def test_rows_keep_their_own_scale():
    ds, wanted = per_row()
    np.testing.assert_array_equal(physical(ds, rows=np.array([3, 1])), wanted[:, [3, 1]])


@pytest.mark.parametrize("make", [per_row, of_the_series])
def test_blocks_join_to_the_whole_and_show_what_is_missing(make):
    ds, wanted = make()
    valid = np.random.default_rng(1).random(STORED.shape) < 0.9
    ds["valid"] = (ds["signal"].dims, valid)
    blocks = list(physical_blocks(ds, "signal", 7 * STORED[0].nbytes))
    assert [here.start for here, _ in blocks] == list(range(0, 50, 7))
    whole = np.concatenate([values for _, values in blocks])
    np.testing.assert_array_equal(whole, np.where(valid, wanted, np.nan))


def test_floats_without_a_scale_stay():
    values = np.array([[1.5], [np.inf]], dtype=np.float32)
    ds = xr.Dataset({"signal": (("time", "channel"), values)})
    np.testing.assert_array_equal(physical(ds), values.astype(np.float64))
    ((_, block),) = physical_blocks(ds, "signal", 1000)
    np.testing.assert_array_equal(block, [[1.5], [np.nan]])
