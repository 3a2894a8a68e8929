"""Pulse trains seen by two clocks: planted drift and offset, missing and spurious pulses."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from neuropipe.io.pulses import match_pulses


def train(rng, n, mean=1.0):
    """Pulses at irregular intervals, as a random inter-trial time gives them."""
    return np.cumsum(rng.uniform(0.3, 1.7, n) * mean)


def brute_force(device, reference, tolerance, drift):
    """Largest number of pulses on one line: every pair of pairs gives a line to count along."""
    best = 0
    for (i, i2), (j, j2) in itertools.product(
        itertools.combinations(range(len(device)), 2),
        itertools.combinations(range(len(reference)), 2),
    ):
        slope = (reference[j2] - reference[j]) / (device[i2] - device[i])
        if abs(slope - 1) <= drift + 2 * tolerance / (device[i2] - device[i]):
            slope = np.clip(slope, 1 - drift, 1 + drift)
            expected = reference[j] + slope * (device - device[i])
            near = np.abs(expected[:, None] - reference[None]) <= tolerance
            # No pulse counts twice: trains this short have no denser ties than pairs.
            best = max(best, int(min(near.any(axis=0).sum(), near.any(axis=1).sum())))
    return best


@pytest.mark.parametrize("seed", range(8))
def test_drift_and_offset_come_back(seed):
    rng = np.random.default_rng(seed)
    true = train(rng, 300, 2.0)
    a, b = 1 + rng.uniform(-4e-4, 4e-4), rng.uniform(-500, 500)
    device = (true - b) / a + 1_800_000.0
    seen = device[rng.random(300) > 0.2]
    spurious = rng.uniform(device[0], device[-1], 25)
    seen = np.sort(np.concatenate([seen, spurious]))
    reference = true[rng.random(300) > 0.2] + 0.0
    found = match_pulses(seen, reference)
    truth = {
        (int(np.argmin(np.abs(seen - d))), int(np.argmin(np.abs(reference - r))))
        for d, r in zip(device, true, strict=True)
        if np.abs(seen - d).min() < 1e-9 and np.abs(reference - r).min() < 1e-9
    }
    pairs = set(map(tuple, found.pairs.tolist()))
    assert truth <= pairs
    # A spurious pulse within 10 ms of a pulse that the device missed cannot be told apart.
    assert len(pairs - truth) <= 2
    at = device[[0, -1]]
    np.testing.assert_allclose(found.scale * at + found.offset, true[[0, -1]], atol=2e-3)


@pytest.mark.parametrize("seed", range(30))
def test_as_many_pulses_match_as_brute_force_finds(seed):
    rng = np.random.default_rng(seed)
    true = train(rng, 9)
    a = 1 + rng.uniform(-1e-3, 1e-3)
    device = np.sort(np.append(np.delete(true, rng.integers(9)), rng.uniform(0, true[-1])))
    device = (device - 3.0) / a
    reference = np.delete(true, rng.choice(9, 2, replace=False))
    reference = reference + rng.normal(0, 5e-4, len(reference))
    found = match_pulses(device, reference, tolerance_s=4e-3)
    # Least squares may lose a pulse at the very edge of the tolerance, never more.
    assert found.count >= brute_force(device, reference, 3e-3, 1e-3)
    assert found.count <= brute_force(device, reference, 8e-3, 1e-3)


def test_exact_pulses_leave_no_residual():
    rng = np.random.default_rng(1)
    true = train(rng, 40)
    found = match_pulses(true / 1.0002 - 7.0, true)
    assert found.count == 40
    assert found.scale == pytest.approx(1.0002, abs=1e-12)
    assert found.offset == pytest.approx(7.0 * 1.0002, abs=1e-10)
    assert found.rms < 1e-12


def test_jitter_is_reported_as_it_is():
    rng = np.random.default_rng(2)
    true = train(rng, 2000)
    found = match_pulses(true, true + rng.normal(0, 1e-3, 2000))
    assert found.count == 2000
    assert found.rms == pytest.approx(1e-3, rel=0.05)


def test_even_pulses_match_in_order_only_when_none_is_missing():
    even = np.arange(50) * 2.0
    found = match_pulses(even + 100, even)
    assert found.in_order
    assert found.offset == pytest.approx(-100)
    with pytest.raises(ValueError, match="equal intervals"):
        match_pulses(even[1:] + 100, even)


def test_other_pulses_are_refused():
    rng = np.random.default_rng(3)
    with pytest.raises(ValueError, match=r"not the same pulses|no sequence|two alignments"):
        match_pulses(train(rng, 200), train(rng, 200))
    with pytest.raises(ValueError, match="2 pulses of the device"):
        match_pulses(np.array([0.0, 1.0]), np.arange(5.0))
    with pytest.raises(ValueError, match="increasing"):
        match_pulses(np.array([0.0, 2.0, 1.0]), np.arange(5.0))


def test_three_sparse_pulses_are_enough():
    device = np.array([10.0, 130.0, 3010.0])
    found = match_pulses(device, device * 1.0005 + 4)
    assert found.count == 3
    assert found.scale == pytest.approx(1.0005, abs=1e-9)


def test_long_trains_are_fast():
    import time

    rng = np.random.default_rng(4)
    true = train(rng, 20_000)
    started = time.perf_counter()
    found = match_pulses(np.delete(true, slice(500, 900)) * 1.00003, true)
    assert found.count == 19_600
    assert time.perf_counter() - started < 10
