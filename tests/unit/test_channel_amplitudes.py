"""Amplitudes of channels, summed up block by block."""

from __future__ import annotations

import numpy as np
import pytest

from neuropipe.io.channels.amplitude import Amplitudes


class Table:
    """What `Amplitudes` asks of a table of channels."""

    def __init__(self, n):
        self.name = [f"C{k}" for k in range(n)]
        self.ch_type, self.units, self.declared = ["eeg"] * n, ["V"] * n, ["V"] * n
        self.bad = [False] * n

    def __len__(self):
        return len(self.name)


def spread(values, scale=None, step=1000):
    found = Amplitudes(Table(values.shape[1]), scale, units_given=False)
    for start in range(0, len(values), step):
        found.add(values[start : start + step])
    return found


@pytest.mark.parametrize("dtype", ["i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("step", [1000, 100_000])
def test_sd_is_that_of_all_samples(dtype, step):
    values = (np.random.default_rng(0).normal(3000, 200, (40_000, 4))).astype(dtype)
    scale = np.full(4, 1e-7) if dtype.startswith("i") else None
    sd = spread(values, scale, step)._sd()
    wanted = values.astype(np.float64).std(axis=0) * (1.0 if scale is None else scale)

    assert sd == pytest.approx(wanted, rel=1e-9)


def test_one_sample_that_differs_makes_a_channel_not_flat():
    values = np.full((50_000, 3), 1e-5)
    values[:, 0] += np.random.default_rng(1).normal(0, 1e-5, 50_000)
    values[12_345, 1] = 2e-5
    values[:400, 2] = np.nan
    issues = spread(values, step=30_000).verdict("a.fif")
    assert [issue.code for issue in issues] == ["FLAT_CHANNEL", "UNITS"]
    assert "C2" in issues[0].message
    assert "C1" not in issues[0].message
    assert "C1" in issues[1].message  # of an SD below the usual


def test_a_channel_without_finite_samples_is_neither_flat_nor_judged():
    values = np.random.default_rng(2).normal(0, 1e-5, (3000, 2))
    values[:, 1] = np.nan
    assert spread(values).verdict("a.fif") == []
